"""Where spikes come from: the Units table, or a series of counts; and the units' own facts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd

from driftwave.compute import generator
from driftwave.ingest import intervals
from driftwave.ingest.binning import bin_spikes, rebin_counts, spikes_per_bin
from driftwave.ingest.electrodes import positions_mm
from driftwave.ingest.file import NwbFile
from driftwave.ingest.series import sample_range
from driftwave.ingest.tables import column, flags, matching, table_frame
from driftwave.layout import Layout, PositionsLayout, SpikesLayout

_NO_FACTS = ("spike_times", "obs_intervals", "waveforms", "electrodes", "electrode_group")


class SpikeSource(Protocol):
    """Spikes of the units a layout selects.

    ``frame`` has one row per unit and ``rows`` (unit,) its place among the file's
    ``units_in_file``; ``coverage`` (interval, 2) says when was recorded, s, and ``slack`` how far
    (s) a trial may reach beyond.
    """

    frame: pd.DataFrame
    rows: np.ndarray
    units_in_file: int
    coverage: np.ndarray
    slack: float

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
    coverage: np.ndarray
    slack: float
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
    coverage: np.ndarray
    slack: float
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
    if layout.source == "units":
        source: SpikeSource = _from_units(file, bin_width)
    else:
        source = _from_counts(file, layout.source)
    chosen = matching(file, source.frame, layout.where, "spikes.where", "units")
    return source.select(chosen)


def _from_units(file: NwbFile, bin_width: float) -> SpikeTimes:
    units = file.nwbfile.units
    if units is None or "spike_times" not in units.colnames:
        lacks = "no Units table" if units is None else "a Units table without spike_times"
        raise file.fault(
            "spikes.source",
            lacks,
            "units with spike times",
            f"Set `spikes.source` to a series of counts (one of {sorted(file.series_paths)}), "
            "or remove `spikes` from the layout",
        )
    frame, _ = table_frame(file, units, leave_out=_NO_FACTS)
    index = units["spike_times"]
    times = file.read(index.target.data, slice(None), field="units/spike_times")
    times = times.astype(float, copy=False)
    ends = file.read(index.data, slice(None), field="units/spike_times_index").astype(np.intp)
    if len(times) == 0:
        raise file.fault(
            "units/spike_times",
            f"{len(ends)} units without a single spike",
            "spike times",
            "Check the file's spike sorting",
        )
    if not np.isfinite(times).all():
        raise file.fault(
            "units/spike_times",
            f"{int((~np.isfinite(times)).sum())} times that are not finite",
            "times in seconds",
            "Mend the file",
        )
    return SpikeTimes(
        frame=frame,
        rows=np.arange(len(ends)),
        units_in_file=len(ends),
        coverage=_observed(file, times, bin_width),
        slack=bin_width,
        times=times,
        ends=ends,
    )


def _observed(file: NwbFile, times: np.ndarray, bin_width: float) -> np.ndarray:
    """When units were observed: the union of obs_intervals, else the span of all spikes.

    The span of the spikes ends with a spike, the recording a little later: it is widened by ten
    mean intervals between spikes of the whole population (a silence that a population of Poisson
    units keeps with probability exp(-10)), at least one bin.
    """
    units = file.nwbfile.units
    if "obs_intervals" in units.colnames:
        table = file.read(units["obs_intervals"].target.data, slice(None), field="obs_intervals")
        if len(table):
            return intervals.merge(table.astype(float), tolerance=1e-6)
    first, last = float(times.min()), float(times.max())
    margin = max(bin_width, 10 * (last - first) / len(times))
    # Session time starts at 0; only clocks of another kind have earlier times.
    begin = first - margin if first < 0 else max(0.0, first - margin)
    return np.array([[begin, last + margin]])


def _from_counts(file: NwbFile, path: str) -> BinnedCounts:
    field = "spikes.source"
    series = file.series(path, field)
    clock = sample_range(file, series, field, fix="Use the Units table, or mend the time stamps")
    values = file.read(series.data, slice(None), field=path)
    if values.ndim != 2:
        raise file.fault(
            path, f"data of shape {values.shape}", "counts as time x unit", "Use another series"
        )
    missing = ~np.isfinite(values)
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
    if units is not None and len(units) == values.shape[1]:
        frame, _ = table_frame(file, units, leave_out=_NO_FACTS)
    else:
        frame = pd.DataFrame({"id": np.arange(values.shape[1])})
    coverage = np.array([[clock.time, clock.time + len(values) * width]])
    # The narrowest type keeps the gather that cuts trials small.
    narrow = whole.astype(np.min_scalar_type(int(whole.max(initial=0))))
    return BinnedCounts(
        frame=frame,
        rows=np.arange(values.shape[1]),
        units_in_file=values.shape[1],
        coverage=coverage,
        slack=0.49 * width,
        values=narrow,
        start=clock.time,
        width=width,
        file=file,
    )


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


def unit_positions(file: NwbFile, layout: Layout, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """x, y, z (unit,) in mm: the mean over each unit's electrodes; empty if the file has none.

    Parameters
    ----------
    chosen : ndarray of int (unit,)
        Rows of the selected units in the Units table.
    """
    assert layout.spikes is not None
    units = file.nwbfile.units
    wanted: PositionsLayout | None = layout.spikes.positions
    if wanted is None and layout.field is not None:
        wanted = layout.field.positions
    if wanted is None or units is None or "electrodes" not in units.colnames:
        return {}
    region = units["electrodes"]
    if hasattr(region, "target"):
        rows = file.read(region.target.data, slice(None), field="units/electrodes")
        ends = file.read(region.data, slice(None), field="units/electrodes_index").astype(int)
        table = region.target.table
    else:
        rows = file.read(region.data, slice(None), field="units/electrodes")
        ends, table = np.arange(1, len(rows) + 1), region.table
    frame, _ = table_frame(file, table)
    per_electrode = positions_mm(file, frame, wanted, "spikes.positions")
    per_unit = np.diff(ends, prepend=0)
    owner = np.repeat(np.arange(len(ends)), per_unit)
    means = {}
    for axis, values in per_electrode.items():
        total = np.bincount(owner, weights=values[rows], minlength=len(ends))
        mean = np.full(len(ends), np.nan)
        mean[per_unit > 0] = total[per_unit > 0] / per_unit[per_unit > 0]
        means[axis] = mean[chosen]
    return means
