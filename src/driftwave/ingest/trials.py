"""Trials: rows of an interval table aligned to an event, or abutting windows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from driftwave.errors import InputError
from driftwave.ingest.exclusion import check_names, invalid_times, overlaps, touched
from driftwave.ingest.file import NwbFile
from driftwave.ingest.interval_tables import NO_FACTS, interval_table, nested
from driftwave.ingest.intervals import covered
from driftwave.ingest.limits import check_windows
from driftwave.ingest.tables import column, matching, table_frame
from driftwave.joblog import note
from driftwave.layout import Layout, StimulusLayout, TrialsLayout

_OWN_NAMES = ("split", "condition", "start", "stop", "trial")
_REASONS = {
    "rows_outside_epochs": "lie in no interval of `trials.within`",
    "rows_without_alignment_event": "have no alignment event",
    "rows_outside_recording": "reach beyond the recording or into a gap of it",
    "windows_over_gaps": "reach into a gap of the recording",
    "in_invalid_times": "overlap invalid_times",
    "with_unobserved_units": "overlap times in which a unit was not observed (obs_intervals)",
}

_MOST_BINS = 10**9
_MOST_CONDITIONS = 10_000


@dataclass
class Trials:
    """Trials of equal length.

    Attributes
    ----------
    starts : ndarray (trial,)
        Start of the first bin, s, session clock.
    offset : float
        Start of the first bin relative to the alignment event, s.
    bins : int
    bin_width : float
        s.
    contiguous : bool
        Abutting windows of one continuous recording.
    table : DataFrame
        Columns of the interval table, a row per trial (empty for windows).
    usable : ndarray of bool (trial,)
        False where something the layout asks for is missing; such trials become ``unused``.
    notes : dict
        Numbers of trials left out and why, for the attributes.
    """

    starts: np.ndarray
    offset: float
    bins: int
    bin_width: float
    contiguous: bool
    table: pd.DataFrame
    usable: np.ndarray
    notes: dict[str, int | str] = field(default_factory=dict)

    @property
    def stops(self) -> np.ndarray:
        """End of the last bin, s, session clock."""
        return self.starts + self.bins * self.bin_width

    def select(self, trials: np.ndarray) -> None:
        """Keep the trials of a boolean mask."""
        self.starts, self.usable = self.starts[trials], self.usable[trials]
        self.table = self.table[trials].reset_index(drop=True)

    def trim(self) -> None:
        """Leave out unused windows before the first and after the last that is used."""
        used = np.flatnonzero(self.usable)
        if self.contiguous and len(used):
            number = np.arange(len(self.usable))
            self.select((number >= used[0]) & (number <= used[-1]))

    def leave_out(self, bad: np.ndarray, reason: str) -> None:
        """Leave trials out; windows stay, unused, so that the others keep abutting.

        Parameters
        ----------
        bad : ndarray of bool (trial,)
        reason : str
            Key of the notes, with how it is said in ``_REASONS``, or the name of an overlap.
        """
        number = int((bad & self.usable).sum())
        self.notes[reason] = int(self.notes.get(reason, 0)) + number
        what = "windows" if self.contiguous else "rows"
        if number:
            done = "unused" if self.contiguous else "left out"
            note(f"{number} {what} {_REASONS.get(reason, f'overlap {reason!r}')}: {done}")
        if self.contiguous:
            self.usable &= ~bad
        else:
            self.select(~bad)


def whole_bins(length: float, bin_width: float, file: str | Path, key: str) -> int:
    """Number of bins in a length of time, which must be whole.

    Raises
    ------
    InputError
        If it is not.
    """
    if not length / bin_width < _MOST_BINS:
        raise InputError(
            file=file,
            field=key,
            found=f"{length:.6g} s, that is {length / bin_width:.6g} bins of {bin_width:.6g} s",
            expected=f"at most {_MOST_BINS:.0e} bins",
            fix=f"Widen `bin_width`, or shorten `{key}`",
        )
    bins = round(length / bin_width)
    if 0 < length < bin_width * (1 - 1e-6):
        raise InputError(
            file=file,
            field=key,
            found=f"{length:.6g} s, shorter than one bin of {bin_width:.6g} s",
            expected="a whole number of bins",
            fix=f"Narrow `bin_width`, or set `{key}` to a multiple of it",
        )
    if abs(length / bin_width - bins) > 1e-6:
        raise InputError(
            file=file,
            field=key,
            found=f"{length:.6g} s, that is {length / bin_width:.6g} bins of {bin_width:.6g} s",
            expected="a whole number of bins",
            fix=f"Set it to a multiple of `bin_width`, such as {max(1, bins) * bin_width:.6g} s",
        )
    return bins


def cut(file: NwbFile, layout: Layout, coverage: np.ndarray, slack: float) -> Trials | None:
    """The layout's trials or windows; None if it asks for neither.

    Parameters
    ----------
    coverage : ndarray (interval, 2)
        When was recorded, s: sorted, disjoint intervals.
    slack : float
        How far (s) a trial may reach beyond.

    Raises
    ------
    InputError
        Missing table or column, no trial left, one trial only.
    """
    if layout.trials is not None:
        found = _from_table(file, layout, layout.trials)
        reason = "rows_outside_recording"
    elif layout.windows is not None:
        found = _windows(file, layout, coverage, slack)
        reason = "windows_over_gaps"
    else:
        return None
    found.leave_out(~covered(coverage, found.starts, found.stops, slack), reason)
    found.leave_out(
        touched(invalid_times(file, layout), found.starts, found.stops), "in_invalid_times"
    )
    found.trim()
    check_enough(file, found, coverage)
    return found


def check_enough(file: NwbFile, trials: Trials, coverage: np.ndarray) -> None:
    """Refuse a recording of fewer than two usable trials.

    Raises
    ------
    InputError
        Saying how many were left out, and why.
    """
    usable = int(trials.usable.sum())
    if usable >= 2:
        return
    left_out = {k: v for k, v in trials.notes.items() if v}
    span = f"spans {coverage[0, 0]:.6g} to {coverage[-1, 1]:.6g} s"
    raise file.fault(
        "windows" if trials.contiguous else "trials",
        f"{usable} usable trial{'' if usable == 1 else 's'}"
        + (f" ({json.dumps(left_out)})" if left_out else ""),
        "at least 3, one each to train, validate and test on",
        f"Shorten `windows.length`, or widen `windows.start` and `stop`; the recording {span}"
        if trials.contiguous
        else "Loosen `trials.where`, or check alignment and window against the recording, which "
        + span,
    )


def _from_table(file: NwbFile, layout: Layout, how: TrialsLayout) -> Trials:
    """Rows of the layout's table, wherever they lie."""
    table = interval_table(file, how.table, "trials.table")
    frame, dropped = table_frame(file, table, leave_out=NO_FACTS)
    events = pd.to_numeric(
        column(file, frame, how.align, "trials.align", how.table), errors="coerce"
    ).to_numpy(dtype=float)
    width = layout.bin_width
    bins = whole_bins(how.window[1] - how.window[0], width, file.path, "trials.window")
    starts = events + how.window[0]
    if how.on_grid:
        # A start on the grid but for rounding must stay where it is.
        starts = np.ceil(np.round(starts / width, 6)) * width
    frame, inside = nested(file, frame, events, how.within)
    marked, left_out = overlaps(file, layout.overlaps, starts, starts + bins * width)
    check_names(file, marked, frame)
    frame = frame.assign(**marked)
    chosen = matching(file, frame, how.where, "trials.where", how.table)
    found = Trials(
        starts=starts,
        offset=how.window[0],
        bins=bins,
        bin_width=width,
        contiguous=False,
        table=frame,
        usable=np.ones(len(frame), dtype=bool),
        notes={"columns_left_out": ", ".join(dropped)},
    )
    found.select(chosen)
    reasons = {"rows_without_alignment_event": ~np.isfinite(events)}
    if how.within:
        reasons["rows_outside_epochs"] = ~inside
    row = np.flatnonzero(chosen)
    for reason, bad in (reasons | left_out).items():
        found.leave_out(bad[row], reason)
        row = row[~bad[row]]
    # Rows outside an outer table had made its whole numbers and booleans objects.
    found.table = found.table.infer_objects()
    return found


def _windows(file: NwbFile, layout: Layout, coverage: np.ndarray, slack: float) -> Trials:
    """Abutting windows from the first to the last that was recorded."""
    how = layout.windows
    assert how is not None  # the caller's branch
    bins = whole_bins(how.length, layout.bin_width, file.path, "windows.length")
    begin = coverage[0, 0] if how.start is None else how.start
    end = coverage[-1, 1] if how.stop is None else how.stop
    check_windows(file, (end - begin) / how.length, how.length)
    number = max(0, int(np.floor((end - begin) / how.length + 1e-6)))
    starts = begin + np.arange(number) * how.length
    kept = np.flatnonzero(covered(coverage, starts, starts + how.length, slack))
    # Windows before or after the recording go; one over a gap inside it stays, so that the
    # others keep abutting, but is not used.
    starts = starts[kept[0] : kept[-1] + 1] if len(kept) else starts[:0]
    outside = number - len(starts)
    if outside:
        note(f"{outside} windows lie beyond the recording: left out")
    marked, left_out = overlaps(file, layout.overlaps, starts, starts + how.length)
    found = Trials(
        starts=starts,
        offset=0.0,
        bins=bins,
        bin_width=layout.bin_width,
        contiguous=True,
        table=pd.DataFrame(marked, index=range(len(starts))),
        usable=np.ones(len(starts), dtype=bool),
        notes={"windows_outside_recording": outside},
    )
    for name, bad in left_out.items():
        found.leave_out(bad, name)
    return found


def conditions(file: NwbFile, layout: TrialsLayout, table: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Condition of each trial, int (trial,), and what the codes mean (JSON list of names).

    Codes number the combinations of the layout's columns in sorted order; without columns all
    trials are of condition 0.
    """
    if not layout.condition:
        return np.zeros(len(table), dtype=np.int64), json.dumps(["all"])
    for name in layout.condition:
        column(file, table, name, "trials.condition", layout.table)
    groups = table.groupby(layout.condition, dropna=False, sort=True)
    if groups.ngroups > _MOST_CONDITIONS:
        raise file.fault(
            "trials.condition",
            f"{groups.ngroups} combinations of {layout.condition} in {len(table)} trials",
            f"at most {_MOST_CONDITIONS} conditions",
            "Name columns of few values in the layout",
        )
    codes = groups.ngroup().to_numpy(dtype=np.int64)
    firsts = table.iloc[np.unique(codes, return_index=True)[1]]
    names = [
        ", ".join(f"{name}={row[name]}" for name in layout.condition)
        for _, row in firsts.iterrows()
    ]
    return codes, json.dumps(names)


def trials_group(
    trials: Trials,
    bin_width: float,
    split: np.ndarray,
    condition: np.ndarray,
    condition_names: str,
) -> xr.Dataset:
    """The recording's ``trials`` group; a column named as one of ours gets ``_in_file``."""
    stops = trials.starts + trials.bins * bin_width
    category = {"units": "category"}
    variables: dict[str, tuple] = {
        "split": ("trial", split.astype("<U6"), category),
        "condition": ("trial", condition, category | {"names": condition_names}),
        "start": ("trial", trials.starts, {"units": "s"}),
        "stop": ("trial", stops, {"units": "s"}),
    }
    for name in trials.table.columns:
        values = trials.table[name].to_numpy()
        text = values.dtype.kind not in "biufc"
        values = values.astype(str) if text else values
        units = "s" if name.endswith("_time") else "text" if text else "as in the file"
        renamed = f"{name}_in_file" if name in _OWN_NAMES else name
        variables[renamed] = ("trial", values, {"units": units})
    attrs = {**trials.notes, "unused": int((split == "unused").sum())}
    return xr.Dataset(variables, coords={"trial": np.arange(len(trials.starts))}, attrs=attrs)


def stimulus_group(file: NwbFile, layout: StimulusLayout, table: pd.DataFrame) -> xr.Dataset:
    """The recording's ``stimulus`` group: a variable per column, with ``period`` if circular.

    Raises
    ------
    InputError
        If a column is missing or a circular one is not numeric.
    """
    unknown = sorted(set(layout.circular) - set(layout.columns))
    if unknown:
        raise file.fault(
            "stimulus.circular", f"{unknown}", f"names among {layout.columns}", "Mend the names"
        )
    variables = {}
    for name in layout.columns:
        values = column(file, table, name, "stimulus.columns", "the trials table").to_numpy()
        numeric = values.dtype.kind in "biuf"
        attrs: dict[str, str | float] = {"units": "as in the file" if numeric else "text"}
        if name in layout.circular:
            if not numeric:
                raise file.fault(
                    "stimulus.circular",
                    f"text in column {name!r}",
                    "numbers",
                    "Remove it from `stimulus.circular`",
                )
            attrs["period"] = layout.circular[name]
        variables[name] = ("trial", values if numeric else values.astype(str), attrs)
    return xr.Dataset(variables, coords={"trial": np.arange(len(table))})
