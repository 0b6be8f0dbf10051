"""Activity on an even clock, as affinities between units are computed from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.recording import require

# A trace that misses a larger share of its frames is left out; shorter gaps are bridged linearly.
MOST_MISSING = 0.1


@dataclass(frozen=True)
class Traces:
    """Traces of units that vary.

    Attributes
    ----------
    time : ndarray (frame,)
        Even, s on the session's clock.
    values : ndarray (frame, unit)
    labels : ndarray (unit,)
        Ids of the ROIs or units.
    left_out : dict of str to list
        Why units were left out, and which.
    """

    time: np.ndarray
    values: np.ndarray
    labels: np.ndarray
    left_out: dict[str, list[int]] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """Time between frames, s."""
        return float(self.time[1] - self.time[0])


def traces_of(
    recording: xr.DataTree,
    signal: Literal["auto", "imaging", "spikes"] = "auto",
    *,
    bin_width: float = 0.25,
    most_units: int = 400,
) -> Traces:
    """Imaging traces, or square roots of spike counts, on an even clock.

    Traces on uneven time stamps are interpolated linearly at the median interval. Units that are
    marked bad, miss more than a tenth of their frames or do not vary are left out; of more than
    ``most_units`` the most variable (coefficient of variation of imaging, counts of spikes) stay,
    since affinities grow with the square of their number.

    Parameters
    ----------
    recording : DataTree
        With ``imaging`` or ``spike_times``.
    signal : {"auto", "imaging", "spikes"}
        ``auto`` takes imaging where there is any.
    bin_width : float
        Bins of spikes, s.
    most_units : int

    Raises
    ------
    InputError
        Neither signal, or fewer than 4 units that vary.
    """
    if signal == "auto":
        signal = "imaging" if "imaging" in recording.children else "spikes"
    time, values, labels, bad = (
        _imaging(recording) if signal == "imaging" else _spikes(recording, bin_width)
    )
    missing = (~np.isfinite(values)).mean(axis=0) > MOST_MISSING
    with np.errstate(invalid="ignore"):
        flat = ~missing & ~(
            np.nanmax(values, 0, initial=-np.inf) > np.nanmin(values, 0, initial=np.inf)
        )
    left = {"marked bad": bad, "missing": missing & ~bad, "constant": flat & ~bad}
    kept = ~(bad | missing | flat)
    spread = np.where(kept, np.nanstd(np.where(np.isfinite(values), values, 0), axis=0), -1)
    few = np.zeros(len(kept), bool)
    few[np.argsort(-spread, kind="stable")[most_units:]] = True
    left[f"beyond the {most_units} most variable"] = few & kept
    kept &= ~few
    if kept.sum() < 4:
        raise InputError(
            file=recording.attrs["session"],
            field=signal,
            found=f"{int(kept.sum())} units that vary",
            expected="at least 4",
            fix="Use more of the recording, or leave the connectome out for this session",
        )
    reasons = {why: labels[which].tolist() for why, which in left.items() if which.any()}
    return Traces(time, _bridged(values[:, kept]), labels[kept], reasons)


Found = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _imaging(recording: xr.DataTree) -> Found:
    imaging = require(recording, "imaging", "the connectome")
    stamps = imaging["time"].values.astype(float)
    values = imaging["dff"].transpose("time", "roi").values.astype(float)
    step = float(np.median(np.diff(stamps)))
    time = np.arange(stamps[0], stamps[-1] + 1e-9, step)
    if not np.allclose(np.diff(stamps), step, rtol=1e-6):
        values = np.stack([np.interp(time, stamps, column) for column in values.T], axis=1)
    else:
        time = stamps
    bad = ~imaging["good"].values if "good" in imaging.coords else np.zeros(values.shape[1], bool)
    return time, values, imaging["roi"].values, bad


def _spikes(recording: xr.DataTree, bin_width: float) -> Found:
    units = require(recording, "units", "the connectome")["unit"].values
    spikes = require(recording, "spike_times", "the connectome")
    times, unit = spikes["time"].values, spikes["unit"].values
    if not len(times):
        return np.zeros(2), np.zeros((2, len(units))), units, np.zeros(len(units), bool)
    bins = max(2, int((times.max() - times.min()) / bin_width))
    edges = times.min() + np.arange(bins + 1) * bin_width
    counts = np.stack([np.histogram(times[unit == u], edges)[0] for u in units], axis=1)
    return edges[:-1], np.sqrt(counts), units, np.zeros(len(units), bool)


def _bridged(values: np.ndarray) -> np.ndarray:
    """Gaps of each column bridged by straight lines."""
    values = values.copy()
    frames = np.arange(len(values))
    for column in values.T:
        there = np.isfinite(column)
        if not there.all():
            column[:] = np.interp(frames, frames[there], column[there])
    return values
