"""Surrogates of a recording reduced to what its own statistics are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import dask
import numpy as np

from driftwave.compute import generator
from driftwave.nulls.filter_shape import FilterShape
from driftwave.nulls.multiplicity import p_maximum, p_value
from driftwave.nulls.statistics import Scale, summary
from driftwave.nulls.surrogates import stretches
from driftwave.phase.directionality import Directionality, Fluxes
from driftwave.wave_events.spans import SpanFinder

SCALING = 12


class Source(Protocol):
    """Where the surrogates of one recording come from."""

    @property
    def kind(self) -> str:
        """One of :data:`driftwave.nulls.kinds.NULLS`."""

    def pieces(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """One surrogate (electrode, frame), piece by piece."""


@dataclass(frozen=True)
class ZeroLag:
    """Zero-lag surrogates.

    Attributes
    ----------
    factors : ndarray (frequency, electrode, column)
        Of the real part of the cross-spectrum.
    gain : ndarray (frame,)
        Course of the amplitude.
    stretch : int
        Frames of a piece.
    shape : FilterShape or None
        Of the band's edges.
    """

    factors: np.ndarray
    gain: np.ndarray
    stretch: int
    shape: FilterShape | None = None
    kind: str = "zero_lag"

    def pieces(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """One surrogate (electrode, frame), piece by piece."""
        return stretches(self.factors, self.gain, self.stretch, rng, self.shape)


def total_powers(source: Source, seed: int, count: int) -> list[np.ndarray]:
    """Total power (frame,) of a few surrogates."""

    def power(number: int) -> np.ndarray:
        rng = generator(seed, "pilot surrogate", str(number))
        parts = [(one.real**2 + one.imag**2).sum(axis=0) for one in source.pieces(rng)]
        return np.concatenate(parts)

    return list(dask.compute(*[dask.delayed(power)(number) for number in range(count)]))


@dataclass(frozen=True)
class Draw:
    """How surrogates are drawn and measured.

    Attributes
    ----------
    source : Source
    measure : Directionality
    smoothing : tuple of int
        Windows of the statistic over time, frames.
    windows : tuple of int
        Windows of the statistic of the whole recording, frames.
    """

    source: Source
    measure: Directionality
    smoothing: tuple[int, ...]
    windows: tuple[int, ...]

    def fluxes(self, rng: np.random.Generator) -> Iterator[Fluxes]:
        """Fluxes of one surrogate as long as the recording, piece by piece."""
        return (self.measure(piece) for piece in self.source.pieces(rng))

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Smoothed statistic once per shortest smoothing window, (scale x family, sample)."""
        every = min(self.smoothing)
        found = summary(self.fluxes(rng), self.smoothing, ())
        outside = np.flatnonzero(found.power > 0)  # of the recording's gaps
        return found.smooth[:, outside[every // 2 :: every]]

    def reduced(self, rng: np.random.Generator, scale: Scale, finder: SpanFinder) -> Reduced:
        """One surrogate's contribution to the null."""
        found = summary(self.fluxes(rng), self.smoothing, self.windows)
        peaks = [span.peak for span in scale.spans(found.smooth, finder)]
        return Reduced(found.means, float(scale.score(found.smooth).max()), np.array(peaks))

    def null(
        self,
        finder: SpanFinder,
        *,
        surrogates: int,
        quantile: float,
        seed: int,
        scale: Scale | None = None,
    ) -> Null:
        """Draw surrogates: a few to scale the statistic, then the rest against that scale.

        ``scale`` of the default null is given to further ones, whose events then have the same
        threshold as the recording's.
        """

        def stream(number: int) -> np.random.Generator:
            return generator(seed, f"{self.source.kind} surrogate", str(number))

        if scale is None:
            few = [dask.delayed(self.sample)(stream(number)) for number in range(SCALING)]
            scale = Scale.of(np.concatenate(dask.compute(*few), axis=1), quantile)
        numbers = range(SCALING, SCALING + surrogates)
        drawn = [dask.delayed(self.reduced)(stream(number), scale, finder) for number in numbers]
        return Null.of(self.source.kind, scale, list(dask.compute(*drawn)))


@dataclass(frozen=True)
class Reduced:
    """What is kept of one surrogate.

    Attributes
    ----------
    means : ndarray (window, family)
        See :func:`driftwave.nulls.statistics.recording_means`.
    largest : float
        Largest score over time, families and smoothing windows.
    peaks : ndarray (event,)
        Largest score of each event found in the surrogate.
    """

    means: np.ndarray
    largest: float
    peaks: np.ndarray


@dataclass(frozen=True)
class Null:
    """The null of a recording.

    Attributes
    ----------
    kind : str
    scale : Scale
    means : ndarray (surrogate, window, family)
    largest : ndarray (surrogate,)
    peaks : ndarray (event,)
        Of the events of all surrogates, found as those of the recording are.
    """

    kind: str
    scale: Scale
    means: np.ndarray
    largest: np.ndarray
    peaks: np.ndarray

    @classmethod
    def of(cls, kind: str, scale: Scale, drawn: list[Reduced]) -> Null:
        """Gather reduced surrogates."""
        return cls(
            kind,
            scale,
            np.stack([one.means for one in drawn]),
            np.array([one.largest for one in drawn]),
            np.concatenate([one.peaks for one in drawn]),
        )

    def score(self, means: np.ndarray) -> np.ndarray:
        """Time averages (..., window, family) in units of the null, the largest over windows."""
        spread = self.means.std(axis=0)
        return ((means - self.means.mean(axis=0)) / np.where(spread > 0, spread, 1)).max(axis=-2)

    def p_recording(self, means: np.ndarray) -> np.ndarray:
        """p per family of the time averages (window, family), the largest over windows."""
        return p_maximum(self.means, means)

    def p_any(self, means: np.ndarray) -> float:
        """p of a recording: the largest over windows and families, so that alpha holds for all."""
        return float(p_maximum(self.means.reshape(len(self.means), -1), means.ravel()))

    def p_event(self, peak: np.ndarray) -> np.ndarray:
        """p of each event's largest score (event,) among the events of surrogates.

        Both are selected by the same threshold, so that the selection does not bias p.
        """
        return p_value(self.peaks[:, None], peak[None])

    def p_familywise(self, peak: np.ndarray) -> np.ndarray:
        """p of each event's largest score (event,) among the largest scores of surrogates."""
        return p_value(self.largest[:, None], peak[None])
