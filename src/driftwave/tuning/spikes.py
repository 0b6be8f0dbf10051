"""Counts on a fine grid: of spike times where there are any, else of the recording's bins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.recording import forward_bins

# Units counted at once, which bounds the memory of a fine grid.
BLOCK = 256


@dataclass(frozen=True)
class FineCounts:
    """Counts of intervals of equal length.

    Attributes
    ----------
    counts : ndarray (interval, bin, unit)
    width : float
        Of a bin, s.
    """

    counts: np.ndarray
    width: float


class SpikeTrains:
    """Spikes of a recording that can be counted in any interval.

    Parameters
    ----------
    recording : DataTree
        With ``spike_times``.
    """

    def __init__(self, recording: xr.DataTree) -> None:
        times = recording["spike_times"].to_dataset()
        order = np.argsort(times["time"].values, kind="stable")
        self.time = times["time"].values[order]
        self.unit = times["unit"].values[order].astype(np.intp)
        self.units = int(recording["spikes"].sizes["unit"])

    def count(
        self, starts: np.ndarray, length: float, width: float, units: slice = slice(None)
    ) -> np.ndarray:
        """Counts (interval, bin, unit), uint16, of bins of ``width`` s from each start on."""
        bins = round(length / width)
        first = int(units.start or 0)
        wanted = range(*units.indices(self.units))
        low = np.searchsorted(self.time, starts - 1e-9)
        high = np.searchsorted(self.time, starts + bins * width - 1e-9)
        owner = np.repeat(np.arange(len(starts)), high - low)
        rows = np.arange(len(owner)) + np.repeat(
            low - np.cumsum(high - low) + high - low, high - low
        )
        unit = self.unit[rows]
        kept = (unit >= first) & (unit < first + len(wanted))
        owner, unit, rows = owner[kept], unit[kept] - first, rows[kept]
        # The tolerance puts a spike on an edge, up to rounding, into the bin that it begins.
        bin_ = np.floor((self.time[rows] - starts[owner]) / width + 1e-6).astype(np.intp)
        place = (owner * bins + np.clip(bin_, 0, bins - 1)) * len(wanted) + unit
        size = len(starts) * bins * len(wanted)
        counts = np.bincount(place, minlength=size).astype(np.uint16)
        return counts.reshape(len(starts), bins, len(wanted))


def trial_window(recording: xr.DataTree) -> tuple[np.ndarray, float]:
    """Starts (trial,) and length of the bins that models may see, s."""
    spikes = recording["spikes"]
    width = float(spikes.attrs["bin_width"])
    bins = int(spikes.sizes["time"]) - forward_bins(recording)
    return spikes.dataset["trial_start"].values.astype(float), bins * width


def unit_blocks(units: int, block: int = BLOCK) -> Iterator[slice]:
    """Slices that go through all units."""
    for start in range(0, units, block):
        yield slice(start, min(start + block, units))


def fine_width(bin_width: float, most: float) -> float:
    """Largest whole fraction of a bin that is at most ``most``, s."""
    return bin_width / max(1, int(np.ceil(bin_width / most - 1e-9)))


def trial_counts(
    recording: xr.DataTree, trains: SpikeTrains | None, most: float, units: slice
) -> FineCounts:
    """Fine counts of the seen part of every trial, of a slice of units.

    Without spike times the recording's own bins are the grid.
    """
    spikes = recording["spikes"]
    bin_width = float(spikes.attrs["bin_width"])
    starts, length = trial_window(recording)
    if trains is None:
        bins = round(length / bin_width)
        return FineCounts(spikes.dataset["counts"][:, :bins, units].values, bin_width)
    width = fine_width(bin_width, most)
    return FineCounts(trains.count(starts, length, width, units), width)


def trains_of(recording: xr.DataTree) -> SpikeTrains | None:
    """The recording's spike times, or None where it has only counts."""
    return SpikeTrains(recording) if "spike_times" in recording.children else None
