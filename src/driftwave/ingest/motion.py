"""From tracked positions to place along a track, velocity and speed."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d


def along_track(values: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distance along a track of the nearest point on it.

    Parameters
    ----------
    values : ndarray (sample, 2)
        Tracked positions; NaN stays NaN.
    corners : ndarray (corner, 2)
        Corners of the track from its start to its end, at least two, in the same unit.

    Returns
    -------
    ndarray (sample, 1)
        From 0 at the first corner to the track's length at the last.
    """
    legs = np.diff(corners, axis=0)
    lengths = np.linalg.norm(legs, axis=1)
    starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    offset = values[:, None] - corners[:-1]
    share = np.clip((offset * legs).sum(-1) / lengths**2, 0, 1)
    missed = np.linalg.norm(offset - share[..., None] * legs, axis=-1)
    leg = missed.argmin(axis=1)[:, None]
    place = np.take_along_axis(starts + share * lengths, leg, axis=1)
    return np.where(np.isfinite(values).all(axis=1, keepdims=True), place, np.nan)


def velocity(
    times: np.ndarray, values: np.ndarray, smoothing: float, longest_gap: float
) -> np.ndarray:
    """Derivative of a sampled signal smoothed with a Gaussian.

    The signal is interpolated to regular samples within each stretch without a gap, so that
    jitter of the camera's clock does not look like motion; nothing is differentiated across a gap.

    Parameters
    ----------
    times : ndarray (sample,)
        s, ascending; they need not be regular.
    values : ndarray (sample, column)
        A sample counts as missing if any of its columns is NaN.
    smoothing : float
        Standard deviation of the Gaussian, s.
    longest_gap : float
        Samples further apart (s) belong to different stretches.

    Returns
    -------
    ndarray (sample, column)
        Unit of the values per s; NaN where a sample is missing or stands alone.
    """
    found = np.full(values.shape, np.nan)
    valid = np.flatnonzero(np.isfinite(values).all(axis=1))
    # A repeated stamp has no derivative; the first sample of it stands for all.
    valid = valid[np.diff(times[valid], prepend=-np.inf) > 0]
    if len(valid) < 2:
        return found
    step = float(np.median(np.diff(times[valid])))
    ends = np.flatnonzero(np.diff(times[valid]) > longest_gap) + 1
    for stretch in np.split(valid, ends):
        if len(stretch) > 1:
            found[stretch] = _of_stretch(times[stretch], values[stretch], step, smoothing)
    return found


def _of_stretch(t: np.ndarray, y: np.ndarray, step: float, smoothing: float) -> np.ndarray:
    # Stamps in bursts would ask for a grid without bound; a hundred points per sample suffice.
    points = min(round((t[-1] - t[0]) / step) + 1, 100 * len(t))
    grid = np.linspace(t[0], t[-1], max(2, points))
    spacing = grid[1] - grid[0]
    columns = []
    for column in y.T:
        even = gaussian_filter1d(
            np.interp(grid, t, column),
            min(smoothing / spacing, len(grid)),
            mode="nearest",
            truncate=5.0,
        )
        columns.append(np.interp(t, grid, np.gradient(even, spacing)))
    return np.stack(columns, axis=1)
