"""Flow of zero-lag surrogates: how coherent it is and how long its patterns last by chance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import dask
import numpy as np

from driftwave.compute import generator
from driftwave.flow.critical_points import SADDLE
from driftwave.flow.frames import (
    FlowFrames,
    FlowMeasure,
    band_bins,
    gaps_of,
    phase_of,
    segment_frames,
)
from driftwave.flow.tracks import Track, tracks_of
from driftwave.nulls.cross_spectrum import zero_lag_factors
from driftwave.nulls.multiplicity import p_value
from driftwave.nulls.null import ZeroLag
from driftwave.nulls.of_field import zero_lag_source
from driftwave.phase.frames import FieldReader
from driftwave.wave_events.spans import Span, SpanFinder


@dataclass(frozen=True)
class Rules:
    """What makes an event, in frames and mm.

    Attributes
    ----------
    window : int
        Over which coherence is smoothed.
    finder : SpanFinder
    reach : float
        mm.
    gap : int
    least : int
        Patterns that last this long are tested, those of ``finder.shortest`` are events.
    """

    window: int
    finder: SpanFinder
    reach: float
    gap: int
    least: int

    def tracks(self, frames: FlowFrames, section: np.ndarray) -> list[Track]:
        """Patterns that last long enough to be tested."""
        return tracks_of(
            frames.points,
            section,
            reach=self.reach,
            gap=self.gap,
            shortest=self.least,
        )

    def spans(self, smooth: np.ndarray, threshold: float, section: np.ndarray) -> list[Span]:
        """Coherent stretches; none goes from one section to another."""
        found = []
        edges = np.flatnonzero(np.diff(section)) + 1
        for start, stop in zip([0, *edges], [*edges, len(smooth)], strict=True):
            part = smooth[start:stop]
            for span in self.finder(part[None], np.array([threshold]), part):
                found.append(Span(span.start + start, span.stop + start, span.peak))
        return found


@dataclass(frozen=True)
class FlowNull:
    """Events of zero-lag surrogates.

    Attributes
    ----------
    threshold : float
        Quantile of the surrogates' smoothed coherence.
    coherence : ndarray (span,)
        Largest smoothed coherence of each coherent stretch.
    lasting : dict of bool to ndarray (track,)
        Frames that tested patterns last, saddles (True) and others (False).
    rate : float
        Frames per second.
    """

    threshold: float
    coherence: np.ndarray
    lasting: dict[bool, np.ndarray]
    rate: float

    def p_coherence(self, peak: float) -> float:
        """p of a coherent stretch among those of surrogates, found by the same threshold."""
        return float(p_value(self.coherence, peak))

    def p_lasting(self, frames: int, *, saddle: bool) -> float:
        """p of a pattern's life among those of surrogates."""
        return float(p_value(self.lasting[saddle], frames))


def draw_null(
    reader: FieldReader,
    measure: FlowMeasure,
    frames: FlowFrames,
    rules: Rules,
    *,
    surrogates: int,
    seconds: float,
    quantile: float,
    generalized: bool,
    seed: int,
) -> FlowNull:
    """Flow of surrogates with the recording's zero-lag cross-spectrum and course of power.

    Each lasts ``seconds``, with the course of power of a stretch of the recording drawn at random.
    """
    assert frames.spectrum is not None
    factors = np.zeros((segment_frames(reader), *frames.spectrum.total.shape[1:]), np.float32)
    factors[band_bins(reader)] = zero_lag_factors(frames.spectrum.mean)
    count = min(round(seconds * reader.rate), reader.frames)
    source = zero_lag_source(
        reader,
        factors,
        np.nan_to_num(frames.course["power"]),
        gaps_of(reader),
        rate=reader.rate,
        stretch=count,
        seed=seed,
    )
    tasks = [
        dask.delayed(_one)(
            source,
            count,
            reader,
            measure,
            rules,
            generalized,
            generator(seed, "flow surrogate", str(number)),
        )
        for number in range(surrogates)
    ]
    drawn = dask.compute(*tasks)
    threshold = float(np.quantile(np.concatenate([smooth for smooth, _ in drawn]), quantile))
    whole = np.zeros(count, int)
    peaks = [span.peak for smooth, _ in drawn for span in rules.spans(smooth, threshold, whole)]
    tracks = [track for _, found in drawn for track in found]
    return FlowNull(
        threshold,
        np.array(peaks),
        {kind: np.array([n for n, saddle in tracks if saddle == kind]) for kind in (False, True)},
        reader.rate,
    )


def _one(
    source: ZeroLag,
    count: int,
    reader: FieldReader,
    measure: FlowMeasure,
    rules: Rules,
    generalized: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[tuple[int, bool]]]:
    """Smoothed coherence, (length, is a saddle) of each track of one surrogate."""
    start = int(rng.integers(len(source.gain) - count + 1))
    (signal,) = replace(source, gain=source.gain[start : start + count]).pieces(rng)
    phase = phase_of(signal, reader, generalized=generalized)
    frames = measure(signal, phase, np.zeros(count, bool))
    tracks = rules.tracks(frames, np.zeros(count, int))
    lasting = [(track.frames, track.pattern == SADDLE) for track in tracks]
    return frames.smooth_coherence(rules.window), lasting
