"""What an event's size is worth: p values against the events of surrogates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from driftwave.nulls.multiplicity import benjamini_hochberg


def event_p(size: np.ndarray, null: Sequence[np.ndarray]) -> xr.Dataset:
    """p values of events' sizes.

    Parameters
    ----------
    size : ndarray (event,)
        Whatever grows with the evidence: a peak, a sum over cycles, a lifetime.
    null : sequence of ndarray
        Sizes of the events of each surrogate, selected as those of the recording were.

    Returns
    -------
    Dataset
        ``p``, among all surrogates' events (a surrogate without events counts as one of size 0);
        ``q``, Benjamini and Hochberg's false discovery rate; ``p_familywise``, among the
        surrogates' largest events.
    """
    size = np.asarray(size, dtype=float)
    filled = [one if len(one) else np.zeros(1) for one in null]
    pooled = np.concatenate(filled)
    largest = np.array([one.max() for one in filled])
    p = _share(pooled, size)
    unit = {"units": "1"}
    return xr.Dataset(
        {
            "p": ("event", p, unit),
            "q": ("event", benjamini_hochberg(p), unit),
            "p_familywise": ("event", _share(largest, size), unit),
        }
    )


def _share(null: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(1 + number of null sizes >= size) / (1 + number), (event,)."""
    above = len(null) - np.searchsorted(np.sort(null), size, side="left")
    return (1 + above) / (len(null) + 1)
