"""What tells a good unit or electrode from a bad one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from driftwave.ingest.binning import ascending

if TYPE_CHECKING:
    from driftwave.ingest.field import FieldSource

# Two spikes of one neuron are hardly ever closer than this (s); such intervals betray a mixture.
REFRACTORY = 0.002
_PARTS = 20


def unit_quality(times: np.ndarray, ends: np.ndarray) -> dict[str, np.ndarray]:
    """Quality of sorted units from their spike times.

    Parameters
    ----------
    times : ndarray (spike,)
        s, unit after unit.
    ends : ndarray of int (unit,)
        One past the last spike of each unit.

    Returns
    -------
    dict
        ``isi_violations (unit,)``, share of interspike intervals below 2 ms, and
        ``presence_ratio (unit,)``, share of twenty equal parts of the recording in which the
        unit spikes at all. Both NaN for units with too few spikes to tell.
    """
    units = len(ends)
    violations, presence = np.full(units, np.nan), np.full(units, np.nan)
    if not len(times):
        return {"isi_violations": violations, "presence_ratio": presence}
    edges = np.linspace(times.min(), times.max(), _PARTS + 1)
    for unit in range(units):
        own = ascending(times[ends[unit - 1] if unit else 0 : ends[unit]])
        if len(own) > 1:
            violations[unit] = np.mean(np.diff(own) < REFRACTORY)
            per_part = np.diff(np.searchsorted(own, edges[1:-1]), prepend=0, append=len(own))
            presence[unit] = np.mean(per_part > 0)
    return {"isi_violations": violations, "presence_ratio": presence}


def signal_faults(source: FieldSource, most: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Electrodes with too many samples that are not finite, and those that never change.

    The stored signal is read once, in pieces.

    Parameters
    ----------
    source : FieldSource
    most : float
        Largest share of an electrode's samples that may be missing.

    Returns
    -------
    broken, flat : ndarray of bool (electrode,)
    """
    electrodes = source.shape[1]
    low, high = np.full(electrodes, np.inf), np.full(electrodes, -np.inf)
    missing = np.zeros(electrodes, dtype=int)
    inputs = source.samples.stop - source.samples.first
    for begin in range(0, inputs, source.rows_at_once):
        block = source.stored(begin, min(inputs, begin + source.rows_at_once))
        missing += (~np.isfinite(block)).sum(axis=0)
        # NaN passes through fmin and fmax as missing; broken electrodes are told apart anyway.
        low = np.fmin(low, np.fmin.reduce(block, axis=0))
        high = np.fmax(high, np.fmax.reduce(block, axis=0))
    broken = missing > most * inputs
    return broken, (low == high) & ~broken
