"""Times and values of a TimeSeries: rate or time stamps, conversion, gaps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pynwb

from driftwave.ingest.file import NwbFile
from driftwave.memory import check_size

_STAMPS_AT_ONCE = 4_000_000
# Stretches of stamps whose distance from an even clock is looked at together.
_LOOKED_AT = 1024


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
        rate = rate_of(file, series, field)
        check_times(file, samples, field)
        return float(series.starting_time or 0.0) + np.arange(samples) / rate
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


def check_times(file: NwbFile, samples: int, field: str) -> None:
    """Refuse to write out the times of more samples than memory holds.

    Raises
    ------
    InputError
    """
    check_size(
        (samples,),
        3 * 8,
        file=file.path,
        field=field,
        what=f"times of {samples} samples",
        fix="Name another series in the layout, or check the file",
    )


def rate_of(file: NwbFile, series: pynwb.TimeSeries, field: str) -> float:
    """Sampling rate of a series without time stamps, Hz.

    Raises
    ------
    InputError
        If it states none, or one that is not above 0.
    """
    rate = float("nan") if series.rate is None else float(series.rate)
    if not 0 < rate < math.inf:
        raise file.fault(
            field,
            "neither time stamps nor a rate" if series.rate is None else f"a rate of {rate:g} Hz",
            "when the samples were taken",
            "Name another series in the layout, or write the rate into the file",
        )
    return rate


def values_of(
    file: NwbFile, series: pynwb.TimeSeries, field: str, rows: slice = slice(None)
) -> np.ndarray:
    """Values in the series' unit, ``data * conversion + offset``, shape (sample, column).

    Raises
    ------
    InputError
        If the series does not hold numbers.
    """
    data = file.read(series.data, rows, field=field)
    if data.dtype.kind not in "biuf":
        raise file.fault(field, f"data of type {data.dtype}", "numbers", "Name another series")
    data = data.astype(float).reshape(len(data), -1)
    return data * float(series.conversion or 1.0) + float(series.offset or 0.0)


@dataclass(frozen=True)
class Clock:
    """When the samples of a series were taken: ``start`` (s) and ``step`` (s), or ``stamps``.

    With ``stamps`` (sample,), s, ``step`` is the median distance between them.
    """

    start: float
    step: float
    stamps: np.ndarray | None = None

    def at(self, samples: np.ndarray) -> np.ndarray:
        """Time of samples, s."""
        if self.stamps is None:
            return self.start + np.asarray(samples) * self.step
        return self.stamps[samples]


def clock_of(file: NwbFile, series: pynwb.TimeSeries, field: str) -> Clock:
    """The clock of a series; evenly sampled ones need no memory.

    Raises
    ------
    InputError
        As :func:`times_of`.
    """
    if series.timestamps is None:
        return Clock(float(series.starting_time or 0.0), 1 / rate_of(file, series, field))
    stamps = times_of(file, series, field)
    step = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0
    return Clock(float(stamps[0]) if len(stamps) else 0.0, step, stamps)


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
    one by more than half of it, and no stamp from an even clock between the first and the last by
    more than one interval; gaps outside ``start`` to ``stop`` do not matter.

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
        begin, rate = float(series.starting_time or 0.0), rate_of(file, series, field)
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
    strayed: list[tuple[float, float]] = []
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
        number = begin + inside[0] - first + np.arange(len(chosen))
        for low in range(0, len(chosen), _LOOKED_AT):
            piece = slice(low, low + _LOOKED_AT)
            away = chosen[piece] - first_time - number[piece] * step
            # Of the stretch, those furthest to either side, by where they should be.
            strayed += [
                (float(number[low + k]), float(away[k])) for k in (away.argmin(), away.argmax())
            ]
    if last <= first:
        return SampleRange(0, 0, 0.0, 1.0)
    rate = (last - first) / (last_time - first_time)
    number, away = np.array(strayed).T
    furthest = float(np.abs(away - number * (1 / rate - step)).max())
    if furthest > step:
        raise file.fault(
            field,
            f"time stamps up to {furthest:.4g} s away from an even clock of {rate:.6g} Hz",
            "regular time stamps",
            fix,
        )
    return SampleRange(first, last + 1, first_time, rate)
