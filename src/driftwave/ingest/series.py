"""Times and values of a TimeSeries: rate or time stamps, conversion, gaps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pynwb

from driftwave.ingest.file import NwbFile

_STAMPS_AT_ONCE = 4_000_000


def length(series: pynwb.TimeSeries) -> int:
    """Number of samples."""
    return int(series.data.shape[0])


def times_of(file: NwbFile, series: pynwb.TimeSeries, field: str) -> np.ndarray:
    """Time of every sample, s, shape (sample,).

    Raises
    ------
    InputError
        If the number of time stamps is not that of the samples.
    """
    samples = length(series)
    if series.timestamps is None:
        return float(series.starting_time or 0.0) + np.arange(samples) / float(series.rate)
    stamps = file.read(series.timestamps, slice(None), field=f"{field} timestamps").astype(float)
    if len(stamps) != samples:
        turned = samples != len(stamps) and len(stamps) in series.data.shape[1:]
        raise file.fault(
            field,
            f"data of shape {series.data.shape} with {len(stamps)} time stamps",
            "time as the first dimension",
            "Write the series again as time x column" if turned else "Mend the file",
        )
    return stamps


def values_of(file: NwbFile, series: pynwb.TimeSeries, field: str) -> np.ndarray:
    """Values in the series' unit, ``data * conversion + offset``, shape (sample, column)."""
    data = file.read(series.data, slice(None), field=field).astype(float)
    data = data.reshape(len(data), -1)
    return data * float(series.conversion or 1.0) + float(series.offset or 0.0)


@dataclass(frozen=True)
class SampleRange:
    """A stretch of regularly sampled data: samples ``first`` to ``stop`` (exclusive).

    ``time`` is that of sample ``first`` (s), ``rate`` the sampling rate (Hz).
    """

    first: int
    stop: int
    time: float
    rate: float


def sample_range(
    file: NwbFile,
    series: pynwb.TimeSeries,
    field: str,
    *,
    start: float | None = None,
    stop: float | None = None,
    fix: str,
) -> SampleRange:
    """The samples of a series between two times, which must be regularly spaced.

    Time stamps are read in pieces. They count as regular if no interval differs from the median
    one by more than half of it; gaps outside ``start`` to ``stop`` do not matter.

    Parameters
    ----------
    start, stop : float, optional
        First time and end (exclusive), s; default the whole series.
    fix : str
        What to do about irregular stamps.

    Raises
    ------
    InputError
        If the stamps are irregular (naming the first gap) or fewer than two samples remain.
    """
    samples = length(series)
    if series.timestamps is None:
        begin, rate = float(series.starting_time or 0.0), float(series.rate)
        # The tolerance keeps the sample that lies on `start` up to rounding.
        low = 0 if start is None else max(0, math.ceil((start - begin) * rate - 1e-6))
        high = samples if stop is None else min(samples, math.ceil((stop - begin) * rate - 1e-6))
        found = SampleRange(low, high, begin + low / rate, rate)
    else:
        found = _stamped_range(file, series.timestamps, field, start, stop, fix)
    if found.stop - found.first < 2:
        raise file.fault(
            field,
            f"{max(0, found.stop - found.first)} samples between start {start} and stop {stop}",
            "at least 2 samples",
            "Mend `start` and `stop` in the layout",
        )
    return found


def _stamped_range(
    file: NwbFile, stamps: Any, field: str, start: float | None, stop: float | None, fix: str
) -> SampleRange:
    first, last, step = -1, -1, 0.0
    first_time = last_time = 0.0
    for begin in range(0, len(stamps), _STAMPS_AT_ONCE):
        # One stamp more than the piece, so that the interval between pieces is checked too.
        part = file.read(stamps, slice(begin, begin + _STAMPS_AT_ONCE + 1), field=field)
        part = part.astype(float)
        inside = np.flatnonzero(
            (part >= (-np.inf if start is None else start))
            & (part < (np.inf if stop is None else stop))
        )
        if not len(inside):
            continue
        chosen = part[inside[0] : inside[-1] + 1]
        step = step or (float(np.median(np.diff(chosen))) if len(chosen) > 1 else 0.0)
        gaps = np.flatnonzero(~(np.abs(np.diff(chosen) - step) <= step / 2))
        if len(gaps):
            at, after = chosen[gaps[0]], chosen[gaps[0] + 1]
            raise file.fault(
                field,
                f"a step of {after - at:.6g} s at {at:.6g} s among time stamps {step:.6g} s apart",
                "regular time stamps",
                fix,
            )
        if first < 0:
            first, first_time = begin + int(inside[0]), float(chosen[0])
        last, last_time = begin + int(inside[-1]), float(chosen[-1])
    if last <= first:
        return SampleRange(0, 0, 0.0, 1.0)
    return SampleRange(first, last + 1, first_time, (last - first) / (last_time - first_time))
