"""When each unit was observed: a unit that was not must not read as a silent one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hdmf.common import DynamicTable

from driftwave.ingest import intervals
from driftwave.ingest.file import NwbFile
from driftwave.joblog import note


@dataclass(frozen=True)
class Observed:
    """Times of observation: ``union`` (interval, 2) of all units, s, and each unit's own.

    ``sets`` are distinct lists of intervals, ``which`` (unit,) the one of each unit; -1 for a unit
    that states none and counts as observed whenever any unit was.
    """

    union: np.ndarray
    sets: tuple[np.ndarray, ...]
    which: np.ndarray

    def select(self, units: np.ndarray) -> Observed:
        """The same for the units of a boolean mask; the union remains that of all."""
        return Observed(self.union, self.sets, self.which[units])

    def during(self, starts: np.ndarray, stops: np.ndarray, slack: float) -> np.ndarray:
        """Whether a unit was observed throughout a trial, bool (trial, unit)."""
        seen = np.ones((len(starts), len(self.which)), dtype=bool)
        for number in np.unique(self.which[self.which >= 0]):
            whole = intervals.covered(self.sets[number], starts, stops, slack)
            seen[:, self.which == number] = whole[:, None]
        return seen


def of_span(begin: float, end: float, units: int) -> Observed:
    """All units observed from ``begin`` to ``end``, s."""
    return Observed(np.array([[begin, end]]), (), np.full(units, -1))


def stated(file: NwbFile, table: DynamicTable) -> Observed | None:
    """What ``obs_intervals`` of a Units table say; None if they say nothing.

    Raises
    ------
    InputError
        If an interval is not finite or ends before it starts.
    """
    if "obs_intervals" not in table.colnames:
        return None
    index = table["obs_intervals"]
    rows = file.read(index.target.data, slice(None), field="units/obs_intervals").astype(float)
    ends = file.read(index.data, slice(None), field="units/obs_intervals_index").astype(int)
    if not len(rows):
        return None
    if rows.ndim != 2 or not (rows[:, 1] >= rows[:, 0]).all():
        raise file.fault(
            "units/obs_intervals",
            f"shape {rows.shape}"
            if rows.ndim != 2
            else f"{int((~(rows[:, 1] >= rows[:, 0])).sum())} intervals without a stop after start",
            "start and stop, s, in ascending order",
            "Mend the file",
        )
    own = np.split(rows, ends[:-1])
    numbers: dict[bytes, int] = {}
    which = np.full(len(ends), -1)
    sets: list[np.ndarray] = []
    for unit, found in enumerate(own):
        if not len(found):
            continue
        key = found.tobytes()
        if key not in numbers:
            numbers[key] = len(sets)
            sets.append(intervals.merge(found, tolerance=1e-6))
        which[unit] = numbers[key]
    silent = int((which < 0).sum())
    if silent:
        note(f"{silent} of {len(which)} units state no obs_intervals: taken as observed throughout")
    return Observed(intervals.merge(np.concatenate(sets), tolerance=1e-6), tuple(sets), which)


def units_and_trials(
    file: NwbFile, seen: np.ndarray, usable: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which units to keep, and in which trials one of these was not observed.

    Units observed in too few trials go first; of the trials, those in which a unit that stays was
    not observed go then, so that no zero stands for "not observed".

    Parameters
    ----------
    seen : ndarray of bool (trial, unit)
    usable : ndarray of bool (trial,)
    least : float
        Smallest share of the usable trials in which a unit that stays was observed.

    Returns
    -------
    kept : ndarray of bool (unit,)
    unseen : ndarray of bool (trial,)

    Raises
    ------
    InputError
        If no unit is observed that often.
    """
    if seen[usable].all():
        return np.ones(seen.shape[1], dtype=bool), np.logical_not(seen.all(axis=1))
    share = seen[usable].mean(axis=0)
    kept = share >= least
    if not kept.any():
        raise file.fault(
            "units/obs_intervals",
            f"units observed in at most {share.max():.0%} of the trials",
            f"at least one observed in {least:.0%} of them",
            "Lower `spikes.min_observed` in the layout, or choose units or trials by `where`",
        )
    unseen = np.logical_not(seen[:, kept].all(axis=1))
    if not kept.all():
        note(
            f"{int((~kept).sum())} of {len(kept)} units are left out: obs_intervals cover less "
            f"than {least:.0%} of the trials (spikes.min_observed)"
        )
    return kept, unseen
