"""A symmetric filter and decimation in one, as products of matrices."""

from __future__ import annotations

import numpy as np
from scipy import signal

# Frames per product: enough that few of a product's numbers are 0, few enough that its matrices
# stay in the cache.
_FRAMES = 32


def decimated(block: np.ndarray, taps: np.ndarray, factor: int, frames: int) -> np.ndarray:
    """Every ``factor``-th sample of a filtered block, y_k = sum_j h_j x_(factor k + j).

    A frame needs but the filter's length of samples, and all electrodes need the same: a few frames
    are a banded matrix times the samples that they need, many times faster than a filter along
    each column.

    Parameters
    ----------
    block : ndarray (sample, electrode)
        At least ``factor * (frames - 1) + len(taps)`` samples.
    taps : ndarray (tap,)
        Symmetric; one less than their number is a multiple of ``factor``, so that frames fall on
        samples.
    factor : int
    frames : int

    Returns
    -------
    ndarray, float32 (frame, electrode)
    """
    block = np.ascontiguousarray(block, dtype=np.float32)
    out = np.empty((frames, block.shape[1]), np.float32)
    band = _band(taps, factor, min(_FRAMES, max(frames, 1)))
    for start in range(0, frames, len(band)):
        rows = band[: frames - start]
        used = factor * (len(rows) - 1) + len(taps)
        first = factor * start
        piece, found = block[first : first + used], out[start : start + len(rows)]
        np.matmul(rows[:, :used], piece, out=found)
        if not np.isfinite(found).all():
            # 0 times NaN is NaN: a product spreads over all frames what belongs to a few.
            skip = (len(taps) - 1) // factor
            plain = signal.upfirdn(taps.astype(np.float32), piece, 1, factor, axis=0)
            found[:] = plain[skip : skip + len(rows)]
    return out


def _band(taps: np.ndarray, factor: int, frames: int) -> np.ndarray:
    """Matrix (frame, sample) whose row k holds the taps from sample ``factor * k`` on."""
    band = np.zeros((frames, factor * (frames - 1) + len(taps)), np.float32)
    for k, row in enumerate(band):
        row[factor * k : factor * k + len(taps)] = taps
    return band
