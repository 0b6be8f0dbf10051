"""Circular statistics of spike phases, corrected for how long the wave stays at each phase.

A wave that is not sinusoidal, or a filter that makes it so, stays longer at some phases than at
others; spikes that know nothing of it then pile up there. Each spike therefore counts as
1 / (share of time spent in its phase bin), so that a histogram of weights is a histogram of rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def phase_bin(phase: np.ndarray, bins: int) -> np.ndarray:
    """Bin of each phase (rad); ``bins`` equal ones cover -pi to pi."""
    return np.floor((phase / (2 * np.pi) + 0.5) * bins).astype(int) % bins


def bin_centres(bins: int) -> np.ndarray:
    """Centres of the phase bins, rad (bin,)."""
    return (np.arange(bins) + 0.5) / bins * 2 * np.pi - np.pi


def weights_of(occupancy: np.ndarray) -> np.ndarray:
    """Weight of a spike in each phase bin (bin,), 1 where all phases take the same time.

    Parameters
    ----------
    occupancy : ndarray (bin,)
        Time, or frames, spent in each bin; a bin never visited weighs nothing.
    """
    occupancy = np.asarray(occupancy, dtype=float)
    mean = occupancy.mean()
    return np.divide(mean, occupancy, out=np.zeros_like(occupancy), where=occupancy > 0)


@dataclass(frozen=True)
class Moments:
    """Sums over spikes: of weights times e^{i phase}, of weights, and of their squares.

    Attributes
    ----------
    vector : ndarray of complex (...)
    weight, square : ndarray (...)
    """

    vector: np.ndarray
    weight: np.ndarray
    square: np.ndarray

    @property
    def resultant(self) -> np.ndarray:
        """Mean resultant length |sum w e^{i phi}| / sum w; NaN without spikes."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.weight > 0, np.abs(self.vector) / self.weight, np.nan)

    @property
    def direction(self) -> np.ndarray:
        """Preferred phase, rad."""
        return np.where(self.weight > 0, np.angle(self.vector), np.nan)

    @property
    def ppc(self) -> np.ndarray:
        r"""Pairwise phase consistency (Vinck et al. 2010, NeuroImage 51:112, eq. 14).

        The mean of :math:`w_i w_j \cos(\phi_i - \phi_j)` over pairs of spikes, over that of
        :math:`w_i w_j`: with equal weights :math:`(N^2 R^2 - N) / (N (N - 1))`, whose expectation
        does not depend on the number N of spikes.
        """
        pairs = self.weight**2 - self.square
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (np.abs(self.vector) ** 2 - self.square) / pairs
        return np.where(pairs > 1e-9 * self.weight**2, found, np.nan)


def moments(phase: np.ndarray, weight: np.ndarray) -> Moments:
    """Moments of spikes with phases (spike,) in rad and weights (spike,)."""
    return Moments(
        np.asarray((weight * np.exp(1j * phase)).sum()),
        np.asarray(weight.sum()),
        np.asarray((weight**2).sum()),
    )


def rayleigh_p(phase: np.ndarray) -> float:
    """P value of Rayleigh's test against uniform phases (Zar 1999, eq. 27.4).

    It takes spikes for independent and occupancy for uniform; neither holds, so that it serves as
    a reference beside the permutation p value only.
    """
    count = len(phase)
    if not count:
        return float("nan")
    length = float(np.abs(np.exp(1j * phase).sum()))
    root = np.sqrt(1 + 4 * count + 4 * (count**2 - length**2))
    return float(min(1.0, np.exp(root - (1 + 2 * count))))


def direction_interval(
    vectors: np.ndarray, draws: int, rng: np.random.Generator, level: float = 0.95
) -> tuple[float, float]:
    """Confidence interval (rad) of the angle of a sum of vectors, by bootstrap.

    Parameters
    ----------
    vectors : ndarray of complex (stretch,)
        Sums over stretches of the recording, which are drawn with replacement: spikes within one
        depend on each other.
    draws : int
    rng : Generator
    level : float

    Returns
    -------
    low, high : float
        About the angle of the whole sum, so that low may lie below -pi; NaN for fewer than 3
        stretches with spikes, and the whole circle where that is what the draws span.
    """
    held = vectors[vectors != 0]
    if len(held) < 3:
        return float("nan"), float("nan")
    times = rng.multinomial(len(held), np.full(len(held), 1 / len(held)), size=draws)
    centre = float(np.angle(held.sum()))
    away = np.angle((times @ held) * np.exp(-1j * centre))
    low, high = np.quantile(away, [(1 - level) / 2, (1 + level) / 2])
    if high - low > level * 2 * np.pi * 0.95:
        return centre - np.pi, centre + np.pi
    return centre + float(low), centre + float(high)
