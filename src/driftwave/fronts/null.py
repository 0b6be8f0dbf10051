"""Waves that are found, in the same way, where nothing travels.

Grouping selects triggers that follow each other in space and time, so that times permuted within a
wave are no null: in noise they reject 74 to 96 % of the waves. Here whole recordings are drawn anew
and pass through triggers and grouping like the one recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import dask
import numpy as np
from scipy import fft, signal

from driftwave.compute import generator
from driftwave.fronts.grouping import Grouping
from driftwave.fronts.pooling import pooled_evidence
from driftwave.fronts.shapes import Cones
from driftwave.fronts.sources import Detection, Traces, baseline_of
from driftwave.fronts.triggers import Triggers, after_silence, ordered
from driftwave.nulls.multiplicity import p_value
from driftwave.nulls.surrogates import matched_course, stretches

SEGMENT = 1.0
SEGMENTS = 64
NEGLIGIBLE = 1e-7
PIECE = 20.0
ENOUGH = 999
SUFFICIENT = 199
TOGETHER = 4

Stretches = Iterable[tuple[Triggers, float]]


class Source(Protocol):
    """Draws the triggers of one surrogate recording."""

    @property
    def name(self) -> str: ...

    def draw(self, rng: np.random.Generator) -> Iterator[tuple[Triggers, float]]: ...


def zero_lag_columns(traces: Traces) -> np.ndarray:
    """Factors (frequency, electrode, column) of the real part of the cross-spectrum.

    With the spectra X (electrode, segment) of up to 64 Hann segments of 1 s, spread evenly,
    Re S = Re X Re X' + Im X Im X': [Re X, Im X] is a factor without a matrix of all electrodes.
    """
    length = min(traces.frames, round(SEGMENT * traces.rate))
    number = min(SEGMENTS, max(1, 2 * traces.frames // length - 1))
    window = signal.windows.hann(length, sym=False)
    spectra = []
    for start in np.linspace(0, traces.frames - length, number).round().astype(int):
        block = traces.block(start, start + length)
        if np.isfinite(block).all():
            spectra.append(fft.fft(block * window, axis=-1).T)
    if not spectra:
        return np.zeros((length, len(traces.electrodes), 1), np.float32)
    stacked = np.stack(spectra, axis=-1)
    parts = np.concatenate([stacked.real, stacked.imag], axis=-1)
    power = (parts**2).sum(axis=(1, 2))
    parts[power <= NEGLIGIBLE * power.max()] = 0
    return (parts / np.sqrt(len(spectra))).astype(np.float32)


@dataclass(frozen=True)
class ZeroLag:
    """Zero-lag surrogates of the signal itself, see :mod:`driftwave.nulls.surrogates`.

    Attributes
    ----------
    factors : ndarray (frequency, electrode, column)
    gain : ndarray (frame,)
    rate : float
        Frames per second.
    detection : Detection
    """

    factors: np.ndarray
    gain: np.ndarray
    rate: float
    detection: Detection
    name: str = "zero-lag surrogates"

    @classmethod
    def of(
        cls, traces: Traces, detection: Detection, period: float, rng: np.random.Generator
    ) -> ZeroLag:
        """From one pass over the recording; its power counts smoothed over two ``period``s (s)."""
        step = round(PIECE * traces.rate)
        course = []
        for start in range(0, traces.frames, step):
            block = np.nan_to_num(traces.block(start, min(start + step, traces.frames)))
            course.append((np.abs(block) ** 2).mean(axis=0))
        factors, power = zero_lag_columns(traces), np.concatenate(course)
        pieces = stretches(factors, np.ones(len(power)), step, rng)
        plain = [np.concatenate([(np.abs(piece) ** 2).mean(axis=0) for piece in pieces])]
        window = max(1, round(2 * period * traces.rate))
        return cls(factors, matched_course(power, plain, window), traces.rate, detection)

    def draw(self, rng: np.random.Generator) -> Iterator[tuple[Triggers, float]]:
        """Triggers of a surrogate, piece by piece."""
        start, base, last = 0, None, None
        for piece in stretches(self.factors, self.gain, round(PIECE * self.rate), rng):
            if base is None or last is None:
                base = baseline_of(piece.real, robust=self.detection.robust)
                last = np.full(len(piece), -np.inf)
            found = self.detection.of(piece, base)
            seconds = (start + found.time) / self.rate
            start += piece.shape[1]
            yield (
                after_silence(ordered(seconds, found.electrode), self.detection.silence, last),
                start / self.rate if start < len(self.gain) else np.inf,
            )


@dataclass(frozen=True)
class Shuffled:
    """The recorded triggers, with the electrodes' places permuted.

    Keeps each electrode's triggers and how many electrodes are active together, and destroys the
    order in space; smoothness in space goes with it, so that synchronous patches pass for waves.
    """

    triggers: Triggers
    electrodes: int
    name: str = "electrodes shuffled in space"

    def draw(self, rng: np.random.Generator) -> Iterator[tuple[Triggers, float]]:
        """Triggers of a surrogate."""
        place = rng.permutation(self.electrodes)
        yield ordered(self.triggers.time, place[self.triggers.electrode]), np.inf


@dataclass(frozen=True)
class NullWaves:
    """Evidence of the waves of surrogate recordings.

    Attributes
    ----------
    evidence : ndarray (wave,)
        Of all of them.
    largest : ndarray (surrogate,)
        -inf for a surrogate without waves.
    """

    evidence: np.ndarray
    largest: np.ndarray

    def p(self, observed: np.ndarray) -> np.ndarray:
        """p of waves with ``observed`` evidence (event,).

        Among the waves of the surrogates, which are selected as those recorded are; where they are
        fewer than 199, among the largest of each surrogate recording.
        """
        null = self.evidence if len(self.evidence) >= SUFFICIENT else self.largest
        return p_value(null[:, None], observed[None])


def null_waves(
    source: Source,
    grouping: Grouping,
    cones: Cones,
    *,
    pool: float,
    surrogates: int,
    seed: int,
) -> NullWaves:
    """Draw surrogate recordings until they hold 999 waves, or all ``surrogates`` are drawn."""
    evidence: list[np.ndarray] = []
    for first in range(0, surrogates, TOGETHER):
        numbers = range(first, min(first + TOGETHER, surrogates))
        tasks: list[Any] = [
            dask.delayed(_evidence)(
                source, grouping, cones, pool, generator(seed, "wave fronts null", str(number))
            )
            for number in numbers
        ]
        evidence += dask.compute(*tasks)
        if sum(map(len, evidence)) >= ENOUGH:
            break
    return NullWaves(
        np.concatenate(evidence), np.array([one.max(initial=-np.inf) for one in evidence])
    )


def _evidence(
    source: Source, grouping: Grouping, cones: Cones, pool: float, rng: np.random.Generator
) -> np.ndarray:
    waves = list(grouping.stream(source.draw(rng)))
    return pooled_evidence(waves, grouping.position, cones, pool)
