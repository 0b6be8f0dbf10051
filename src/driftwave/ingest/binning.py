"""From spike times, or counts in finer bins, to counts per trial, bin and unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from driftwave.errors import InputError

# A spike this close (s) before an edge belongs to the later bin. Times of spikes and of events
# are rounded apart in the file (a spike on a 30 kHz sample and a trial at the same instant differ
# by some 1e-12 s); 10 ns swallows that and is far below any sampling interval.
EDGE_TOLERANCE = 1e-8
_BLOCK_UNITS = 32


def edge_tolerance(*times: np.ndarray) -> float:
    """Tolerance (s) at bin edges: 10 ns, or four times the rounding step of the largest time.

    The second matters only for clocks that count from far away, such as seconds since 1970.
    """
    largest = max(
        (max(abs(float(t.min())), abs(float(t.max()))) for t in times if t.size), default=0.0
    )
    return max(EDGE_TOLERANCE, 4 * float(np.spacing(largest)))


def bin_spikes(
    times: np.ndarray, ends: np.ndarray, starts: np.ndarray, bin_width: float, bins: int
) -> np.ndarray:
    """Count spikes per trial, bin and unit in one pass over all spike times.

    Bin ``k`` of a trial is left-closed, ``[start + k * bin_width, start + (k + 1) * bin_width)``;
    a spike within :func:`edge_tolerance` before an edge goes to the later bin. Trials may overlap:
    a spike is then counted in each trial that holds it.

    Parameters
    ----------
    times : ndarray (spike,)
        Spike times, s, unit after unit (the layout of NWB's ragged ``spike_times``). Within a
        unit they need not be sorted.
    ends : ndarray of int (unit,)
        Index one past the last spike of each unit in ``times`` (NWB's ``spike_times_index``).
    starts : ndarray (trial,)
        Start of the first bin of each trial, s.
    bin_width : float
        s.
    bins : int
        Bins per trial.

    Returns
    -------
    ndarray, uint16 (trial, time, unit)
        Spikes/bin.

    Raises
    ------
    OverflowError
        If a bin holds more than 65,535 spikes.
    """
    starts = np.asarray(starts, dtype=float)
    tolerance = edge_tolerance(times, starts)
    first = starts - tolerance
    last = starts + bins * bin_width - tolerance
    units, rows = len(ends), len(starts) * bins
    counts = np.zeros((rows, units), dtype=np.uint16)
    row_of_trial = np.arange(len(starts)) * bins
    # Units are gathered in blocks so that the transposed copy writes whole cache lines.
    for begin in range(0, units, _BLOCK_UNITS):
        block = np.zeros((min(_BLOCK_UNITS, units - begin), rows), dtype=np.uint16)
        for k in range(len(block)):
            unit = begin + k
            own = ascending(times[ends[unit - 1] if unit else 0 : ends[unit]])
            row = _rows_of_spikes(own, first, last, row_of_trial, bin_width, bins)
            filled = np.bincount(row, minlength=rows)
            if filled.max(initial=0) > np.iinfo(np.uint16).max:
                raise OverflowError(f"{filled.max()} spikes of unit {unit} in one bin")
            block[k] = filled
        counts[:, begin : begin + len(block)] = block.T
    return counts.reshape(len(starts), bins, units)


def ascending(times: np.ndarray) -> np.ndarray:
    """``times`` in order, themselves if they are so already."""
    return times if np.all(times[1:] >= times[:-1]) else np.sort(times)


def _rows_of_spikes(
    times: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    row_of_trial: np.ndarray,
    bin_width: float,
    bins: int,
) -> np.ndarray:
    """Flat (trial, bin) index of every spike of one unit that falls into a trial."""
    low = np.searchsorted(times, first, side="left")
    per_trial = np.searchsorted(times, last, side="left") - low
    offset = np.cumsum(per_trial) - per_trial
    # Spikes low[j] ... high[j] of every trial j, one after the other.
    spike = np.arange(per_trial.sum()) + np.repeat(low - offset, per_trial)
    inside = times[spike]
    inside -= np.repeat(first, per_trial)
    inside /= bin_width
    row = inside.astype(np.intp)
    # The division may round a spike just before the end of a trial up to one bin too many.
    np.minimum(row, bins - 1, out=row)
    row += np.repeat(row_of_trial, per_trial)
    return row


def spikes_per_bin(width: float, bin_width: float, file: str | Path, field: str) -> int:
    """Number of source bins in one bin.

    Raises
    ------
    InputError
        If the bin width is no integer multiple of the source's.
    """
    factor = round(bin_width / width)
    if factor < 1 or abs(bin_width / width - factor) > 1e-3:
        raise InputError(
            file=file,
            field=field,
            found=f"counts in bins of {width:.6g} s and `bin_width: {bin_width:.6g}`",
            expected=f"a multiple of {width:.6g} s",
            fix=f"Set `bin_width` to {max(1, factor) * width:.6g} in the layout",
        )
    return factor


def rebin_counts(counts: np.ndarray, first: np.ndarray, bins: int, factor: int) -> np.ndarray:
    """Cut counts in fine bins into trials and sum ``factor`` of them into one bin.

    Parameters
    ----------
    counts : ndarray of int (source bin, unit)
    first : ndarray of int (trial,)
        First source bin of each trial.
    bins, factor : int
        Bins per trial and source bins per bin.

    Returns
    -------
    ndarray, uint16 (trial, time, unit)
        Spikes/bin.

    Raises
    ------
    OverflowError
        If a bin holds more than 65,535 spikes.
    """
    index = np.asarray(first)[:, None] + np.arange(bins * factor)
    cut = counts[index].reshape(len(index), bins, factor, -1)
    summed = cut.sum(axis=2, dtype=np.int64) if factor > 1 else cut[:, :, 0]
    if summed.size and summed.max() > np.iinfo(np.uint16).max:
        raise OverflowError(f"{summed.max()} spikes in one bin")
    return summed.astype(np.uint16)
