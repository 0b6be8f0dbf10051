"""What recordings and their surrogates are compared by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.phase.directionality import FAMILIES, Fluxes
from driftwave.wave_events.spans import Span, SpanFinder

ABSENT = 1e-6


def multiscale(fluxes: Fluxes, smoothing: tuple[int, ...]) -> np.ndarray:
    """Statistic smoothed over several windows (frames), (scale x family, frame)."""
    return np.concatenate([fluxes.smooth(frames).statistic() for frames in smoothing])


def recording_means(fluxes: Fluxes, windows: tuple[int, ...]) -> np.ndarray:
    """Power-weighted time averages of the statistic smoothed over windows, (window, family).

    Without smoothing the average has little power: two standing maps a quarter of a cycle apart
    travel as much as a wave does, but one way as often as the other. Within a window opposite
    directions cancel. A short one finds waves that come and go, a long one weak steady ones.
    """
    return np.stack([fluxes.smooth(frames).mean_statistic() for frames in windows])


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
        return ((smooth - self.centre[:, None]) / self.spread[:, None]).max(axis=0)

    def spans(self, smooth: np.ndarray, finder: SpanFinder) -> list[Span]:
        """Events of a smoothed statistic."""
        families = slice(len(FAMILIES))
        return finder(smooth[families], self.threshold[families], self.score(smooth))
