"""What recordings and their surrogates are compared by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from driftwave.phase.directionality import FAMILIES, Fluxes, join
from driftwave.phase.kept_fluxes import KeptFluxes
from driftwave.wave_events.spans import Span, SpanFinder

ABSENT = 1e-6
BLOCK = 20_000  # frames of a recording reduced at once


def multiscale(fluxes: Fluxes | KeptFluxes, smoothing: tuple[int, ...]) -> np.ndarray:
    """Statistic smoothed over several windows (frames), (scale x family, frame)."""
    return summary(fluxes.pieces(BLOCK), smoothing, ()).smooth


def recording_means(fluxes: Fluxes | KeptFluxes, windows: tuple[int, ...]) -> np.ndarray:
    """Power-weighted time averages of the statistic smoothed over windows, (window, family).

    Without smoothing the average has little power: two standing maps a quarter of a cycle apart
    travel as much as a wave does, but one way as often as the other. Within a window opposite
    directions cancel. A short one finds waves that come and go, a long one weak steady ones.
    """
    return summary(fluxes.pieces(BLOCK), (), windows).means


@dataclass(frozen=True)
class Summary:
    """What is kept of fluxes that are as long as a recording.

    Attributes
    ----------
    smooth : ndarray (scale x family, frame)
        See :func:`multiscale`.
    means : ndarray (window, family)
        See :func:`recording_means`.
    power : ndarray (frame,)
    """

    smooth: np.ndarray
    means: np.ndarray
    power: np.ndarray


def summary(
    pieces: Iterable[Fluxes], smoothing: tuple[int, ...], windows: tuple[int, ...]
) -> Summary:
    """Reduce consecutive pieces of fluxes as they come.

    A flux has fifty templates, its statistic three families: of hours of a recording only the
    latter are held. A piece is finished once all that the longest window reaches has come.
    """
    reach = max((*smoothing, *windows)) // 2 + 1
    smooth, power = [], []
    weighted, weight = np.zeros((len(windows), len(FAMILIES))), np.zeros(len(windows))
    held: list[Fluxes] = []
    skip = 0  # frames held that are finished
    for piece, last in _marked(pieces):
        held = [join([*held, piece])]
        stop = len(held[0].power) - (0 if last else reach)
        if stop <= skip and not last:
            continue
        done = slice(skip, stop)
        power.append(held[0].power[done])
        scales = [held[0].smooth(one).statistic()[:, done] for one in smoothing]
        smooth.append(np.concatenate(scales) if scales else np.zeros((0, done.stop - done.start)))
        for number, frames in enumerate(windows):
            level = held[0].smooth(frames).cut(done)
            weighted[number] += (level.statistic() * level.power).sum(axis=1, dtype=float)
            weight[number] += level.power.sum(dtype=float)
        kept = max(0, stop - reach)
        held, skip = [held[0].cut(slice(kept, None))], stop - kept
    means = weighted / weight[:, None]
    return Summary(np.concatenate(smooth, axis=1), means, np.concatenate(power))


def _marked(pieces: Iterable[Fluxes]) -> Iterator[tuple[Fluxes, bool]]:
    """Each piece, and whether it is the last one."""
    ahead = iter(pieces)
    held = next(ahead)
    for piece in ahead:
        yield held, False
        held = piece
    yield held, True


@dataclass(frozen=True)
class Scale:
    """What the smoothed statistic is like over time in surrogates.

    Attributes
    ----------
    centre, spread : ndarray (scale x family,)
        Mean and standard deviation, which standardise it.
    threshold : ndarray (scale x family,)
        The quantile above which events lie.
    """

    centre: np.ndarray
    spread: np.ndarray
    threshold: np.ndarray

    @classmethod
    def of(cls, sample: np.ndarray, quantile: float) -> Scale:
        """From samples (scale x family, sample) of surrogates.

        A family that is 0 throughout, as rotations on a line of electrodes are, has no score and
        the threshold 1, which the statistic cannot exceed.
        """
        spread, threshold = sample.std(axis=1), np.quantile(sample, quantile, axis=1)
        absent = spread < ABSENT
        return cls(
            sample.mean(axis=1), np.where(absent, np.inf, spread), np.where(absent, 1.0, threshold)
        )

    def score(self, smooth: np.ndarray) -> np.ndarray:
        """Largest standardised statistic (frame,) of smoothed ones (scale x family, frame)."""
        largest = np.full(smooth.shape[1], -np.inf)
        for row, centre, spread in zip(smooth, self.centre, self.spread, strict=True):
            np.maximum(largest, (row - centre) / spread, out=largest)
        return largest

    def spans(self, smooth: np.ndarray, finder: SpanFinder) -> list[Span]:
        """Events of a smoothed statistic."""
        families = slice(len(FAMILIES))
        return finder(smooth[families], self.threshold[families], self.score(smooth))
