"""Tuning curves of a feature and the posterior over it, by pynapple.

Zhang et al. 1998 (10.1152/jn.1998.79.2.1017), equations 35 and 36: independent Poisson counts,
P(x | n) proportional to P(x) prod_u f_u(x)^n_u exp(-tau f_u(x)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

# Rows whose likelihood pynapple holds at once: (row, position, unit) doubles below 80 MB.
MOST_ELEMENTS = 10_000_000


@dataclass(frozen=True)
class Track:
    """A feature cut into bins.

    Attributes
    ----------
    edges : ndarray (bin + 1,)
        In the feature's unit (rad of an angle).
    circular : bool
    """

    edges: np.ndarray
    circular: bool

    @property
    def centres(self) -> np.ndarray:
        """Middle of each bin."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    @classmethod
    def over(cls, values: np.ndarray, bins: int, *, circular: bool) -> Track:
        """Equal bins over the whole circle, or over the range of some values."""
        if circular:
            return cls(np.linspace(-np.pi, np.pi, bins + 1), circular)
        low, high = np.nanmin(values), np.nanmax(values)
        return cls(np.linspace(low, high, bins + 1), circular)

    def clipped(self, values: np.ndarray) -> np.ndarray:
        """Values within the bins: an angle wrapped, others moved to the nearest end."""
        if self.circular:
            return np.angle(np.exp(1j * values))
        return np.clip(values, self.edges[0], self.edges[-1])

    def distance(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Absolute difference, around the circle where there is one."""
        off = first - second
        return np.abs(np.angle(np.exp(1j * off))) if self.circular else np.abs(off)


def tuning_curves(
    counts: np.ndarray, values: np.ndarray, track: Track, bin_width: float
) -> xr.DataArray:
    """Rates (unit, position), Hz, of some bins of activity; NaN where the feature never was.

    Parameters
    ----------
    counts : ndarray (row, unit)
    values : ndarray (row,)
    track : Track
    bin_width : float
        s.
    """
    import pynapple as nap

    # Bins of training trials follow one another on a clock of their own: nothing reads across.
    clock = np.arange(len(counts)) * bin_width
    found = nap.compute_tuning_curves(
        nap.TsdFrame(t=clock, d=counts),
        nap.Tsd(t=clock, d=track.clipped(values)),
        bins=[track.edges],
        feature_names=["position"],
    )
    rates = found / bin_width
    rates.attrs = {**found.attrs, "occupancy": np.asarray(found.attrs["occupancy"], float)}
    return rates


def smoothed(curves: xr.DataArray, width: float, track: Track, lowest: float) -> xr.DataArray:
    """Curves of Gaussian-smoothed counts over smoothed occupancy, where there is any.

    Parameters
    ----------
    curves : DataArray (unit, position)
        Hz, with the occupancy in its attrs.
    width : float
        Standard deviation, in bins of the feature.
    track : Track
    lowest : float
        Hz; a rate of 0 would rule a position out by one stray spike.

    Returns
    -------
    DataArray (unit, position)
        Positions never visited, nor near one that was, are left out: pynapple would take their
        missing rates for a likelihood of 1.
    """
    occupancy = curves.attrs["occupancy"]
    spikes = np.nan_to_num(curves.values) * occupancy
    time = occupancy
    if width > 0:
        mode = "wrap" if track.circular else "constant"
        spikes = gaussian_filter1d(spikes, width, axis=1, mode=mode)
        time = gaussian_filter1d(occupancy, width, mode=mode)
    visited = time > 1e-3 * time.max()
    rates = np.maximum(spikes[:, visited] / time[visited], lowest)
    coords = {"unit": curves["unit"], "position": curves["position"].values[visited]}
    return xr.DataArray(
        rates, dims=("unit", "position"), coords=coords, attrs={"occupancy": time[visited]}
    )


def posterior(
    curves: xr.DataArray, counts: np.ndarray, window: float, track: Track, *, uniform: bool
) -> np.ndarray:
    """Posterior (row, position of the whole track); 0 where the curves have no position.

    Parameters
    ----------
    curves : DataArray (unit, position)
        Hz, as from :func:`smoothed`.
    counts : ndarray (row, unit)
        Within the window.
    window : float
        s.
    track : Track
    uniform : bool
        A flat prior; else the (smoothed) occupancy.
    """
    import pynapple as nap

    at = np.searchsorted(track.edges, curves["position"].values) - 1
    found = np.zeros((len(counts), len(track.centres)))
    size = max(2, MOST_ELEMENTS // max(1, curves.size))
    pieces = np.array_split(np.arange(len(counts)), max(1, -(-len(counts) // size)))
    for rows in pieces:
        if not len(rows):
            continue
        # pynapple tells the bin size from the clock, which takes two rows.
        some = counts[rows] if len(rows) > 1 else np.repeat(counts[rows], 2, axis=0)
        frame = nap.TsdFrame(t=np.arange(len(some)) * window, d=some)
        _, probability = nap.decode_bayes(
            curves, frame, frame.time_support, float(window), uniform_prior=uniform
        )
        found[rows[:, None], at] = probability.values[: len(rows)]
    return found


def windowed_counts(counts: np.ndarray, runs: np.ndarray, bins: int) -> np.ndarray:
    """Counts (trial, time, unit) summed over a centred window that stays within its run.

    At the ends of a run the sum of the bins there are is scaled up to the whole window.
    """
    if bins == 1:
        return counts
    before, after = (bins - 1) // 2, bins // 2
    out = np.empty(counts.shape)
    starts = np.flatnonzero(np.diff(runs, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(runs)], strict=True):
        flat = counts[start:stop].reshape(-1, counts.shape[-1])
        total = np.concatenate([np.zeros((1, flat.shape[1])), np.cumsum(flat, axis=0)])
        row = np.arange(len(flat))
        low, high = np.maximum(row - before, 0), np.minimum(row + after + 1, len(flat))
        found = (total[high] - total[low]) * (bins / (high - low))[:, None]
        out[start:stop] = found.reshape(counts[start:stop].shape)
    return out


def estimates(probability: np.ndarray, track: Track, kind: str) -> np.ndarray:
    """The most probable position, or the (circular) mean of the posterior (row,)."""
    if kind == "map":
        return track.centres[probability.argmax(axis=1)]
    if track.circular:
        return np.angle(probability @ np.exp(1j * track.centres))
    return probability @ track.centres
