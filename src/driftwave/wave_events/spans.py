"""Stretches of time in which the field travels more than its null."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import maximum_filter1d


@dataclass(frozen=True)
class Span:
    """A stretch in which the smoothed statistic exceeds its threshold, in detection frames."""

    start: int
    stop: int
    peak: float


@dataclass(frozen=True)
class SpanFinder:
    """Finds runs above threshold, and above half the largest value nearby.

    The smoothed statistic of a wave falls to half its height at the wave's true ends.

    Attributes
    ----------
    window : int
        First smoothing window of the statistic, frames; "nearby" is this far to either side.
    shortest, longest_gap : int
        Runs shorter than the one are dropped, after gaps up to the other are closed, frames.
    longest : int
        A longer run is cut into equal parts, so that slow changes show and memory stays bounded.
    gaps : ndarray of bool (frame,) or None
        Frames that no run may hold.
    """

    window: int
    shortest: int
    longest_gap: int
    longest: int
    gaps: np.ndarray | None = None

    def __call__(
        self, statistic: np.ndarray, threshold: np.ndarray, score: np.ndarray
    ) -> list[Span]:
        """Spans of a smoothed statistic.

        Parameters
        ----------
        statistic : ndarray (family, frame)
        threshold : ndarray (family,)
            A frame belongs to a wave if any family exceeds its threshold.
        score : ndarray (frame,)
            Its maximum within a run is the run's peak.
        """
        nearby = maximum_filter1d(statistic, 2 * self.window + 1, axis=1)
        above = (statistic > np.maximum(threshold[:, None], 0.5 * nearby)).any(axis=0)
        gaps = np.zeros(len(above), bool) if self.gaps is None else self.gaps
        above &= ~gaps
        ends = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]]).astype(np.int8)))
        runs: list[list[int]] = []
        for start, stop in ends.reshape(-1, 2).tolist():
            near = runs and start - runs[-1][1] <= self.longest_gap
            if near and not gaps[runs[-1][1] : start].any():
                runs[-1][1] = stop
            else:
                runs.append([start, stop])
        cut: list[tuple[int, int]] = []
        for start, stop in runs:
            edges = np.linspace(start, stop, -(-(stop - start) // self.longest) + 1)
            parts = pairwise(edges.round().astype(int).tolist())
            cut += [part for part in parts if stop - start >= self.shortest]
        return [Span(a, b, float(score[a:b].max())) for a, b in cut]
