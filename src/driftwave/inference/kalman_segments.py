"""Kalman filter and smoother where the channels that are seen change from stretch to stretch.

Time is cut into segments in which the same channels are seen, so that the information
``C_o' R_oo^-1 C_o`` of a sample is constant. Within a segment covariances are exact until they
settle (:mod:`driftwave.inference.kalman`); the next one starts from where they stand. A segment may
also start afresh from the stationary law: separate trials are independent pieces of the process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from driftwave.inference.kalman import (
    Following,
    Gains,
    filter_gains,
    run_filter,
    run_smoother,
)
from driftwave.inference.kalman_steady import StateSpace, Steady, steady_gains, symmetric


@dataclass(frozen=True)
class Segments:
    """Stretches of time with the same channels seen.

    Attributes
    ----------
    start, stop : ndarray of int (segment,)
        Samples; abutting, ascending.
    pattern : ndarray of int (segment,)
    fresh : ndarray of bool (segment,)
        Whether the state starts from its stationary law.
    patterns : ndarray of bool (pattern, channel)
        Channels seen.
    """

    start: np.ndarray
    stop: np.ndarray
    pattern: np.ndarray
    fresh: np.ndarray
    patterns: np.ndarray

    @classmethod
    def of(
        cls,
        seen: np.ndarray | None,
        samples: int,
        channels: int,
        *,
        cuts: tuple[int, ...] = (),
        fresh: tuple[int, ...] = (0,),
    ) -> Segments:
        """Segments of a mask.

        Parameters
        ----------
        seen : ndarray of bool (time, channel), optional
            None where nothing is missing.
        samples, channels : int
        cuts : tuple of int
            Samples at which a segment must begin.
        fresh : tuple of int
            Samples at which the state starts afresh.
        """
        edges = {0, *cuts, *fresh}
        if seen is not None:
            changes = np.flatnonzero((seen[1:] != seen[:-1]).any(1)) + 1
            edges |= set(changes.tolist())
        start = np.array(sorted(edge for edge in edges if 0 <= edge < samples), dtype=int)
        stop = np.append(start[1:], samples)
        rows = np.ones((len(start), channels), bool) if seen is None else seen[start]
        patterns, pattern = np.unique(rows, axis=0, return_inverse=True)
        begins = np.isin(start, fresh)
        begins[0] = True
        return cls(start, stop, pattern.reshape(-1), begins, patterns)

    def __len__(self) -> int:
        return len(self.start)

    def slices(self) -> list[slice]:
        """Samples of each segment."""
        return [slice(a, b) for a, b in zip(self.start, self.stop, strict=True)]

    def until(self, sample: int) -> Segments:
        """The segments before a sample at which one begins."""
        kept = self.start < sample
        return Segments(
            self.start[kept], self.stop[kept], self.pattern[kept], self.fresh[kept], self.patterns
        )

    def samples_of(self) -> np.ndarray:
        """Number of samples of each pattern (pattern,)."""
        lengths = (self.stop - self.start).astype(float)
        return np.bincount(self.pattern, lengths, minlength=len(self.patterns))


@dataclass(frozen=True)
class FilteredSegments:
    """Filtered means and likelihood of several segments.

    Attributes
    ----------
    mean : ndarray (time, state)
    energy : ndarray (time,)
        As in :class:`driftwave.inference.kalman.Filtered`.
    gains : list of Gains
        One per segment.
    spaces : list of StateSpace
        One per pattern.
    """

    mean: np.ndarray
    energy: np.ndarray
    gains: list[Gains]
    spaces: list[StateSpace]


@dataclass(frozen=True)
class SmoothedSegments:
    """Posterior means, and covariances summed over time.

    Attributes
    ----------
    mean : ndarray (time, state)
    covariance_sum : ndarray (pattern, state, state)
        Sum of Cov(x_t | y) over the samples of each pattern.
    lagged_sum : ndarray (state, state)
        Sum of Cov(x_t, x_{t-1} | y) within pieces.
    first, last : ndarray (state, state)
        Sums of Cov(x_t | y) over the first and the last samples of pieces.
    begins, ends : ndarray of int (piece,)
        Those samples. A piece is what lies between two fresh starts.
    """

    mean: np.ndarray
    covariance_sum: np.ndarray
    lagged_sum: np.ndarray
    first: np.ndarray
    last: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


class _Settler:
    """Gains of one segment after another; those of fresh starts are made once per pattern."""

    def __init__(self, spaces: list[StateSpace], tolerance: float, longest: int) -> None:
        self.spaces, self.options = spaces, {"tolerance": tolerance, "longest": longest}
        self.steady: dict[int, Steady] = {}
        self.fresh: dict[int, tuple[int, Gains]] = {}

    def _gains(self, pattern: int, space: StateSpace, samples: int) -> Gains:
        if pattern not in self.steady:
            self.steady[pattern] = steady_gains(space)
        steady = self.steady[pattern]
        return filter_gains(space, samples, steady=steady, **self.options)  # type: ignore[arg-type]

    def gains(self, pattern: int, predicted: np.ndarray | None, samples: int) -> Gains:
        space = self.spaces[pattern]
        if predicted is not None:
            return self._gains(pattern, replace(space, initial=predicted), samples)
        known = self.fresh.get(pattern)
        if known is None or known[0] < samples:
            self.fresh[pattern] = known = samples, self._gains(pattern, space, samples)
        return known[1]


def filter_segments(
    reduced: np.ndarray,
    spaces: list[StateSpace],
    segments: Segments,
    *,
    tolerance: float = 1e-11,
    longest: int = 5000,
) -> FilteredSegments:
    """Filter reduced observations.

    Parameters
    ----------
    reduced : ndarray (time, state)
        b_t = C_o' R_oo^-1 y_o of the channels seen; zero where none is.
    spaces : list of StateSpace
        One per pattern, different in their information alone.
    segments : Segments
    tolerance, longest : float, int
        As in :func:`driftwave.inference.kalman.filter_gains`.
    """
    settler = _Settler(spaces, tolerance, longest)
    mean, energy = np.empty(reduced.shape), np.empty(len(reduced))
    gains: list[Gains] = []
    predicted: np.ndarray | None = None
    state: np.ndarray | None = None
    for i, part in enumerate(segments.slices()):
        if segments.fresh[i]:
            predicted = state = None
        pattern, samples = int(segments.pattern[i]), part.stop - part.start
        space = spaces[pattern]
        gain = settler.gains(pattern, predicted, samples)
        found = run_filter(reduced[part], space, gain, state)
        mean[part], energy[part], state = found.mean, found.energy, found.mean[-1]
        after = gain.last_filtered(samples)
        predicted = symmetric(space.transition @ after @ space.transition.T + space.noise)
        gains.append(gain)
    return FilteredSegments(mean, energy, gains, spaces)


def smooth_segments(
    filtered: FilteredSegments, segments: Segments, variance: np.ndarray | None = None
) -> SmoothedSegments:
    """Smooth what :func:`filter_segments` returned.

    Parameters
    ----------
    filtered : FilteredSegments
    segments : Segments
        Those filtered, or the first of them: the last sample is then the end of the data.
    variance : ndarray (time, state), optional
        Receives the posterior variances.
    """
    samples, states = int(segments.stop[-1]), filtered.mean.shape[1]
    mean = np.empty((samples, states))
    covariance = np.zeros((len(segments.patterns), states, states))
    lagged, first, last = (np.zeros((states, states)) for _ in range(3))
    following: Following | None = None
    ends, parts = [], segments.slices()
    for i in range(len(segments) - 1, -1, -1):
        part, pattern = parts[i], int(segments.pattern[i])
        ended = following is None
        found = run_smoother(
            filtered.mean[part],
            filtered.spaces[pattern],
            filtered.gains[i],
            following,
            None if variance is None else variance[part],
        )
        mean[part] = found.mean
        covariance[pattern] += found.covariance_sum
        lagged += found.lagged_sum
        if ended:
            last += found.last
            ends.append(part.stop - 1)
        if segments.fresh[i]:
            first += found.first
            following = None
        else:
            following = Following(mean[part.start], found.first)
    begins = segments.start[segments.fresh]
    return SmoothedSegments(mean, covariance, lagged, first, last, begins, np.array(ends[::-1]))
