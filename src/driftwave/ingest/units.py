"""Where spikes come from: the Units table, or a series of counts; and the units' own facts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from hdmf.common import VectorIndex
from pynwb.misc import Units

from driftwave.compute import generator
from driftwave.ingest import intervals, observed
from driftwave.ingest.binning import bin_spikes, rebin_counts, spikes_per_bin
from driftwave.ingest.file import NwbFile
from driftwave.ingest.observed import Observed
from driftwave.ingest.series import sample_range
from driftwave.ingest.tables import column, flags, matching, table_frame
from driftwave.ingest.unit_electrodes import (
    UnitElectrodes,
    electrode_facts,
    group_facts,
    unit_electrodes,
)
from driftwave.joblog import note
from driftwave.layout import Layout, SpikesLayout

_NO_FACTS = ("spike_times", "obs_intervals", "waveforms", "electrodes", "electrode_group")


class SpikeSource(Protocol):
    """Spikes of the units a layout selects.

    ``frame`` has one row per unit and ``rows`` (unit,) its place among the file's
    ``units_in_file``; ``observed`` says when each was recorded, s, and ``slack`` how far (s) a
    trial may reach beyond; ``electrodes`` are those of all the file's units, if it tells.
    """

    frame: pd.DataFrame
    rows: np.ndarray
    units_in_file: int
    observed: Observed
    slack: float
    electrodes: UnitElectrodes | None

    def select(self, units: np.ndarray) -> SpikeSource:
        """The same with the units of a boolean mask only."""
        ...

    def counts(self, starts: np.ndarray, bin_width: float, bins: int) -> np.ndarray:
        """Spikes/bin, uint16 (trial, time, unit)."""
        ...


@dataclass
class SpikeTimes:
    """Spike times, unit after unit: ``times`` (spike,) s, ``ends`` (unit,) one past the last."""

    frame: pd.DataFrame
    rows: np.ndarray
    units_in_file: int
    observed: Observed
    slack: float
    electrodes: UnitElectrodes | None
    times: np.ndarray
    ends: np.ndarray

    def select(self, units: np.ndarray) -> SpikeTimes:
        """The units of a boolean mask."""
        if units.all():
            return self
        per_unit = np.diff(self.ends, prepend=0)
        return replace(
            self,
            frame=self.frame[units].reset_index(drop=True),
            rows=self.rows[units],
            observed=self.observed.select(units),
            times=self.times[np.repeat(units, per_unit)],
            ends=np.cumsum(per_unit[units]),
        )

    def counts(self, starts: np.ndarray, bin_width: float, bins: int) -> np.ndarray:
        """Spikes/bin, uint16 (trial, time, unit)."""
        return bin_spikes(self.times, self.ends, starts, bin_width, bins)


@dataclass
class BinnedCounts:
    """Counts binned in the file: ``values`` (source bin, unit) in bins of ``width`` s."""

    frame: pd.DataFrame
    rows: np.ndarray
    units_in_file: int
    observed: Observed
    slack: float
    electrodes: UnitElectrodes | None
    values: np.ndarray
    start: float
    width: float
    file: NwbFile

    def select(self, units: np.ndarray) -> BinnedCounts:
        """The units of a boolean mask."""
        if units.all():
            return self
        return replace(
            self,
            frame=self.frame[units].reset_index(drop=True),
            rows=self.rows[units],
            observed=self.observed.select(units),
            values=self.values[:, units],
        )

    def first_bins(self, starts: np.ndarray) -> np.ndarray:
        """Source bin nearest to each start, (trial,)."""
        return np.rint((starts - self.start) / self.width).astype(np.intp)

    def counts(self, starts: np.ndarray, bin_width: float, bins: int) -> np.ndarray:
        """Spikes/bin, uint16 (trial, time, unit); a start moves to the nearest source bin."""
        factor = spikes_per_bin(self.width, bin_width, self.file.path, "bin_width")
        return rebin_counts(self.values, self.first_bins(starts), bins, factor)


def read_spikes(file: NwbFile, layout: SpikesLayout, bin_width: float) -> SpikeSource:
    """The spikes of the units that ``layout.where`` selects.

    Raises
    ------
    InputError
        No Units table, no spike times in it, no such series, counts that are negative, broken or
        in irregular bins, a query that fails or matches no unit.
    """
    table = _units_table(file, layout.source)
    if table is not None:
        source: SpikeSource = _from_units(file, table, layout, bin_width)
    else:
        source = _from_counts(file, layout)
    chosen = matching(file, source.frame, layout.where, "spikes.where", "units")
    return source.select(chosen)


def _units_table(file: NwbFile, source: str) -> Units | None:
    """The Units table that ``source`` names; None if it names a series instead.

    Raises
    ------
    InputError
        If it asks for units with spike times that the file does not have.
    """
    found = file.nwbfile.units
    if source != "units":
        item = file.h5.get(source)
        identity = item.attrs.get("object_id") if item is not None else None
        identity = identity.decode() if isinstance(identity, bytes) else identity
        found = file.nwbfile.objects.get(identity)
        if not isinstance(found, Units):
            return None
    if found is None or "spike_times" not in found.colnames:
        lacks = "no Units table" if found is None else "a Units table without spike_times"
        raise file.fault(
            "spikes.source",
            lacks,
            "units with spike times",
            f"Set `spikes.source` to a series of counts (one of {sorted(file.series_paths)}), "
            "or remove `spikes` from the layout",
        )
    return found


def _from_units(file: NwbFile, table: Units, layout: SpikesLayout, bin_width: float) -> SpikeTimes:
    frame, electrodes = _facts(file, table, layout)
    index = table["spike_times"]
    if not isinstance(index, VectorIndex):
        raise file.fault(
            "units/spike_times",
            "no spike_times_index, which says where each unit's times end",
            "ragged spike times",
            "Write the Units table again with pynwb's `add_unit`",
        )
    times = file.read(index.target.data, slice(None), field="units/spike_times")
    times = times.astype(float, copy=False)
    ends = file.read(index.data, slice(None), field="units/spike_times_index").astype(np.intp)
    if (np.diff(ends, prepend=0) < 0).any() or (len(ends) and ends[-1] != len(times)):
        raise file.fault(
            "units/spike_times_index",
            f"ends up to {ends.max(initial=0)} for {len(times)} spike times",
            "ascending ends, the last one that of the spike times",
            "Mend the file",
        )
    times, ends = _without_padding(file, times, ends)
    if len(times) == 0:
        raise file.fault(
            "units/spike_times",
            f"{len(ends)} units without a single spike",
            "spike times",
            "Check the file's spike sorting",
        )
    _sort_within_units(times, ends)
    return SpikeTimes(
        frame=frame,
        rows=np.arange(len(ends)),
        units_in_file=len(ends),
        observed=observed.stated(file, table) or _span(times, len(ends), bin_width),
        slack=bin_width,
        electrodes=electrodes,
        times=times,
        ends=ends,
    )


def _facts(
    file: NwbFile, table: Units, layout: SpikesLayout
) -> tuple[pd.DataFrame, UnitElectrodes | None]:
    """The units' own columns beside those of their electrodes and electrode group."""
    frame, _ = table_frame(file, table, leave_out=_NO_FACTS)
    electrodes = unit_electrodes(file, table, layout.electrode_column)
    more = [group_facts(table)]
    if electrodes is not None:
        more.append(electrode_facts(electrodes))
    for extra in more:
        fresh = [name for name in extra.columns if name not in frame]
        frame = pd.concat([frame, extra[fresh]], axis=1)
    return frame, electrodes


def _without_padding(
    file: NwbFile, times: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Spike times without the NaN that pad the end of a unit's; any other is refused."""
    finite = np.isfinite(times)
    if finite.all():
        return times, ends
    within = np.ones(len(times), dtype=bool)
    within[ends[(ends > 0) & (ends < len(times))] - 1] = False  # the last of a unit
    broken = np.isinf(times)
    broken[:-1] |= ~finite[:-1] & finite[1:] & within[:-1]
    if broken.any():
        raise file.fault(
            "units/spike_times",
            f"{int((~finite).sum())} times that are not finite, some of them before others of "
            "their unit",
            "times in seconds; only NaN after a unit's last spike is taken as padding",
            "Mend the file",
        )
    note(f"{int((~finite).sum())} NaN after the last spikes of units are taken as padding")
    return times[finite], np.concatenate([[0], np.cumsum(finite)])[ends]


def _sort_within_units(times: np.ndarray, ends: np.ndarray) -> None:
    """Put each unit's spike times in order, in place."""
    back = np.flatnonzero(times[1:] < times[:-1]) + 1
    units = np.unique(np.searchsorted(ends, back[~np.isin(back, ends)], side="right"))
    for unit in units:
        times[ends[unit - 1] if unit else 0 : ends[unit]].sort()
    if len(units):
        note(f"spike times of {len(units)} of {len(ends)} units are not in order: sorted")


def _span(times: np.ndarray, units: int, bin_width: float) -> Observed:
    """The span of all spikes, for files that do not state when units were observed.

    It ends with a spike, the recording a little later: it is widened by ten mean intervals between
    spikes of the whole population (a silence that a population of Poisson units keeps with
    probability exp(-10)), at least one bin.
    """
    first, last = float(times.min()), float(times.max())
    margin = max(bin_width, 10 * (last - first) / len(times))
    # Session time starts at 0; only clocks of another kind have earlier times.
    begin = first - margin if first < 0 else max(0.0, first - margin)
    return observed.of_span(begin, last + margin, units)


def _from_counts(file: NwbFile, layout: SpikesLayout) -> BinnedCounts:
    field, path = "spikes.source", layout.source
    series = file.series(path, field)
    clock = sample_range(file, series, field, fix="Use the Units table, or mend the time stamps")
    values = file.read(series.data, slice(None), field=path)
    if values.ndim != 2:
        raise file.fault(
            path, f"data of shape {values.shape}", "counts as time x unit", "Use another series"
        )
    values = _in_spikes(series, values)
    missing = ~np.isfinite(values)
    blank = missing.all(axis=1)
    if blank.all():
        raise file.fault(path, f"NaN in all {len(values)} bins", "counts", "Use another series")
    if blank.any():
        note(f"{int(blank.sum())} of {len(blank)} bins of {path} are NaN: taken as not recorded")
        values, missing = np.where(blank[:, None], 0, values), missing & ~blank[:, None]
    if missing.any():
        bin_, unit = np.argwhere(missing)[0]
        raise file.fault(
            path,
            f"{int(missing.sum())} values that are NaN or infinite, the first in bin {bin_}, "
            f"unit {unit}",
            "spikes per bin",
            "Leave these units out of the series, or cut trials or windows from a copy of it "
            "without these bins",
        )
    whole = np.rint(values)
    if (values < 0).any() or (whole != values).any():
        raise file.fault(
            path,
            "values that are negative or not whole",
            "spikes per bin",
            "Use the series of raw counts, not of rates",
        )
    width = 1 / clock.rate
    units = file.nwbfile.units
    electrodes = None
    if units is not None and len(units) == values.shape[1]:
        frame, electrodes = _facts(file, units, layout)
    else:
        frame = pd.DataFrame({"id": np.arange(values.shape[1])})
    edges = np.flatnonzero(np.diff(np.concatenate([[True], blank, [True]]).astype(int)))
    recorded = clock.time + edges.reshape(-1, 2) * width
    # The narrowest type keeps the gather that cuts trials small.
    narrow = whole.astype(np.min_scalar_type(int(whole.max(initial=0))))
    return BinnedCounts(
        frame=frame,
        rows=np.arange(values.shape[1]),
        units_in_file=values.shape[1],
        observed=Observed(intervals.merge(recorded), (), np.full(values.shape[1], -1)),
        slack=0.49 * width,
        electrodes=electrodes,
        values=narrow,
        start=clock.time,
        width=width,
        file=file,
    )


def _in_spikes(series: Any, values: np.ndarray) -> np.ndarray:
    """Stored numbers in the series' unit."""
    gain, offset = float(series.conversion or 1.0), float(series.offset or 0.0)
    return values if (gain, offset) == (1.0, 0.0) else values * gain + offset


def held_out(file: NwbFile, layout: Layout, frame: pd.DataFrame, silent: np.ndarray) -> np.ndarray:
    """Units a model may not see at evaluation, bool (unit,).

    A share is drawn with the split's seed from the units that spike (bits per spike of a silent
    unit are not defined), at least one unit if the share is above 0.

    Raises
    ------
    InputError
        If no unit would stay visible, or the named column is not boolean.
    """
    assert layout.spikes is not None
    wanted = layout.spikes.held_out
    hidden = np.zeros(len(frame), dtype=bool)
    if isinstance(wanted, str):
        hidden = flags(
            file, column(file, frame, wanted, "spikes.held_out", "units"), "spikes.held_out"
        )
    elif not 0 <= wanted < 1:
        raise file.fault(
            "spikes.held_out",
            f"{wanted:g}",
            "a share of the units, from 0 (none) to below 1, so that some stay visible",
            "Mend `spikes.held_out` in the layout",
        )
    elif wanted > 0:
        spiking = np.flatnonzero(~silent)
        number = min(max(1, round(wanted * len(frame))), len(spiking))
        drawn = generator(layout.split.seed, "held-out").choice(spiking, number, replace=False)
        hidden[drawn] = True
    if hidden.any() and hidden[~silent].all():
        raise file.fault(
            "spikes.held_out",
            f"{int(hidden.sum())} of {len(frame)} units held out",
            "at least one unit with spikes that stays visible",
            "Lower `spikes.held_out` in the layout, or use more units",
        )
    return hidden
