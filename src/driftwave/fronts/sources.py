"""Triggers of a recording, stretch by stretch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from driftwave.fronts.triggers import (
    Triggers,
    after_silence,
    crossings,
    ordered,
    phase_crossings,
    spikes,
    troughs,
)
from driftwave.phase.electrodes import Electrodes
from driftwave.phase.frames import FieldReader

Kind = Literal["minima", "threshold", "phase", "spikes"]
SAMPLED = 12
SAMPLE = 10.0
REACH = 4.0


@dataclass(frozen=True)
class Traces:
    """Signals of the electrodes in use, any stretch at a time.

    Attributes
    ----------
    block : callable (start, stop) -> ndarray (electrode, frame)
        Real, or complex where the signal is band-passed; NaN within gaps.
    electrodes : Electrodes
    rate : float
        Frames per second.
    time : ndarray (frame,)
        s.
    """

    block: Callable[[int, int], np.ndarray]
    electrodes: Electrodes
    rate: float
    time: np.ndarray

    @property
    def frames(self) -> int:
        return len(self.time)


def filtered_traces(reader: FieldReader) -> Traces:
    """Band-passed analytic signal, NaN within the recording's gaps."""
    gaps = getattr(reader, "gaps", None)

    def block(start: int, stop: int) -> np.ndarray:
        signal = reader.signal(start, stop)
        if gaps is not None and gaps[start:stop].any():
            signal = np.where(gaps[start:stop], np.nan, signal)
        return signal

    time = reader.lfp["time"].values[:: reader.every].astype(float)
    return Traces(block, reader.electrodes, reader.rate, time)


def plain_traces(dataset: xr.Dataset, electrodes: Electrodes, smoothing: float) -> Traces:
    """Signal as recorded, or smoothed by a Gaussian of SD ``smoothing`` (s)."""
    rate = float(dataset.attrs["sampling_rate"])
    lfp, width = dataset["lfp"], smoothing * rate
    margin, total = int(np.ceil(REACH * width)), dataset.sizes["time"]

    def block(start: int, stop: int) -> np.ndarray:
        low, high = max(0, start - margin), min(total, stop + margin)
        values = lfp[low:high].values[:, electrodes.index].T.astype(float)
        if width > 0:
            values = gaussian_filter1d(values, width, axis=1, mode="nearest", truncate=REACH)
        return values[:, start - low : stop - low]

    return Traces(block, electrodes, rate, dataset["time"].values.astype(float))


@dataclass(frozen=True)
class Baseline:
    """Centre and scale (electrode,) of each electrode's signal."""

    centre: np.ndarray
    scale: np.ndarray


def baseline(traces: Traces, *, robust: bool) -> Baseline:
    """Mean and SD, or median and 1.4826 median absolute deviations, of up to 120 s.

    They are read from up to 12 stretches of 10 s, spread evenly over the recording.
    """
    length = min(traces.frames, round(SAMPLE * traces.rate))
    number = min(SAMPLED, max(1, traces.frames // max(length, 1)))
    starts = np.linspace(0, traces.frames - length, number).round().astype(int)
    values = np.concatenate([traces.block(s, s + length).real for s in starts], axis=1)
    return baseline_of(values, robust=robust)


def baseline_of(values: np.ndarray, *, robust: bool) -> Baseline:
    """Baseline of values (electrode, frame); an electrode without any variation never triggers."""
    if robust:
        centre = np.nanmedian(values, axis=1)
        scale = 1.4826 * np.nanmedian(np.abs(values - centre[:, None]), axis=1)
    else:
        centre, scale = np.nanmean(values, axis=1), np.nanstd(values, axis=1)
    return Baseline(centre, np.where(scale > 0, scale, np.inf))


@dataclass(frozen=True)
class Detection:
    """What makes a trigger.

    Attributes
    ----------
    kind : str
    threshold : float
        In units of the baseline's scale.
    target : float
        Phase of ``phase``, rad.
    silence : float
        Shortest time between triggers of one electrode, s.
    robust : bool
        Whether the baseline is the median.
    """

    kind: Kind
    threshold: float
    target: float
    silence: float
    robust: bool

    def of(self, values: np.ndarray, base: Baseline) -> Triggers:
        """Triggers of a block (electrode, frame), times in frames."""
        if self.kind == "spikes":
            return spikes(values)
        level = self.threshold * base.scale
        if self.kind == "phase":
            return phase_crossings(values, self.target, level)
        centred = values.real - base.centre[:, None]
        return troughs(centred, level) if self.kind == "minima" else crossings(centred, level)


def triggers_of(
    traces: Traces, detection: Detection, *, chunk: float
) -> Iterator[tuple[Triggers, float]]:
    """Triggers (s) of one stretch of ``chunk`` seconds after another, and each stretch's end (s).

    The last stretch's end is infinite: nothing can follow.
    """
    base = baseline(traces, robust=detection.robust)
    last = np.full(len(traces.electrodes), -np.inf)
    step = max(4, round(chunk * traces.rate))
    for start in range(0, traces.frames, step):
        stop = min(start + step, traces.frames)
        low, high = max(0, start - 2), min(traces.frames, stop + 2)
        found = detection.of(traces.block(low, high), base)
        frame = found.time + low
        inside = (frame >= start) & (frame < stop)
        seconds = np.interp(frame[inside], np.arange(low, high), traces.time[low:high])
        kept = after_silence(ordered(seconds, found.electrode[inside]), detection.silence, last)
        yield kept, float("inf") if stop == traces.frames else float(traces.time[stop])
