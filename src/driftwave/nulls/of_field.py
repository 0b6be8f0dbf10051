"""The nulls of a recording's field."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from driftwave.nulls.counts import ranked_source
from driftwave.nulls.cross_spectrum import zero_lag_factors
from driftwave.nulls.filter_shape import FilterShape
from driftwave.nulls.kinds import COUNTS, Kind, Randomised
from driftwave.nulls.null import Draw, Null, Source, ZeroLag, total_powers
from driftwave.nulls.surrogates import matched_course
from driftwave.phase.directionality import Directionality
from driftwave.phase.frames import FieldReader
from driftwave.phase.passes import Frames
from driftwave.phase.timescale import stretch_of
from driftwave.wave_events.spans import SpanFinder

# s, at 5 Hz and above; the first finds waves that come and go, the second weak steady ones.
RECORDING_WINDOWS = (1.0, 8.0)
PILOTS = 5


def course_frames(band: tuple[float, float], rate: float) -> int:
    """Frames over which power is smoothed to give surrogates the field's course.

    One cycle, or the band's correlation time. Over longer ones fast modulation is lost, and
    surrogates average over more independent moments than the field does.
    """
    low, high = band
    seconds = max(1 / np.sqrt(low * high), 1 / (high - low))
    return max(1, round(seconds * rate))


def recording_windows(reader: FieldReader) -> tuple[int, ...]:
    """Windows (detection frames) of the statistic of the whole recording."""
    rate = reader.detection_rate * stretch_of(reader.band)
    return tuple(max(1, round(s * rate)) for s in RECORDING_WINDOWS)


def field_nulls(
    frames: Frames,
    measure: Directionality,
    finder: SpanFinder,
    *,
    kinds: tuple[Kind, ...],
    surrogates: int,
    smoothing: tuple[int, ...],
    quantile: float,
    chunk: float,
    seed: int,
) -> list[Null]:
    """Draw the surrogates of each null; the first one scales the statistic for all.

    Parameters
    ----------
    frames : Frames
        Of the field.
    measure : Directionality
        Of the same sites.
    finder : SpanFinder
    kinds : tuple of str
        Of :data:`driftwave.nulls.kinds.NULLS`, the default one first.
    surrogates : int
        Of each null.
    smoothing : tuple of int
        Windows of the statistic over time, detection frames.
    quantile : float
        Of the smoothed statistic, above which events lie.
    chunk : float
        s of a surrogate drawn at once.
    seed : int
    """
    windows = recording_windows(frames.reader)
    found: list[Null] = []
    for kind in kinds:
        source = source_of(frames, kind, chunk, seed)
        draw = Draw(source, measure, smoothing, windows)
        found.append(
            draw.null(
                finder,
                surrogates=surrogates,
                quantile=quantile,
                seed=seed,
                scale=found[0].scale if found else None,
            )
        )
    return found


def source_of(frames: Frames, kind: Kind, chunk: float, seed: int) -> Source:
    """Where surrogates of one kind come from."""
    reader = frames.reader
    stretch = max(1, round(chunk * reader.detection_rate))
    power = frames.fluxes.power
    gaps = reader.detection_gaps
    if kind == COUNTS:
        flat = ranked_source(frames, np.where(gaps, np.float32(0), np.float32(1)), stretch, seed)
        smooth = course_frames(reader.band, reader.detection_rate)
        course = matched_course(power, total_powers(flat, seed, PILOTS), smooth)
        return replace(flat, gain=(course * flat.gain).astype(np.float32))
    if kind != "zero_lag":

        def read(start: int, stop: int) -> np.ndarray:
            signal = reader.signal(start * reader.stride, stop * reader.stride)
            signal = signal[:, :: reader.stride].astype(np.complex64, copy=False)
            return np.where(gaps[start:stop], np.complex64(0), signal)

        return Randomised(kind, read, len(power), stretch, reader.electrodes)
    factors = zero_lag_factors(frames.spectrum.mean)
    return zero_lag_source(
        reader, factors, power, gaps, rate=reader.detection_rate, stretch=stretch, seed=seed
    )


def zero_lag_source(
    reader: FieldReader,
    factors: np.ndarray,
    power: np.ndarray,
    gaps: np.ndarray,
    *,
    rate: float,
    stretch: int,
    seed: int,
) -> ZeroLag:
    """Zero-lag surrogates with the edges of the reader's band and the field's course of power.

    Parameters
    ----------
    reader : FieldReader
    factors : ndarray (frequency, electrode, column)
        Of the real part of the cross-spectrum at ``rate`` frames per second.
    power : ndarray (frame,)
        Of the field, 0 within gaps.
    gaps : ndarray of bool (frame,)
        Where surrogates are 0.
    rate : float
        Frames per second.
    stretch : int
        Frames drawn at once.
    seed : int
    """
    shape = FilterShape(reader.band, reader.sampling_rate, rate, len(factors))
    flat = ZeroLag(factors, np.where(gaps, np.float32(0), np.float32(1)), stretch, shape)
    pilots = total_powers(flat, seed, PILOTS)
    gain = matched_course(power, pilots, course_frames(reader.band, rate))
    return replace(flat, gain=(gain * flat.gain).astype(np.float32))
