"""The trial-wise null of spike-phase locking: spikes of one trial with the phase of another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.spike_waves.circular import Moments

# Fewer trials allow too few rearrangements for a p value of a few per cent to mean anything.
FEWEST = 8


@dataclass(frozen=True)
class PairedMoments:
    """Moments of the spikes of each trial taken with the phase of each trial.

    Attributes
    ----------
    vector : ndarray of complex (trial of spikes, trial of phase)
    weight, square : ndarray (trial of spikes, trial of phase)
    """

    vector: np.ndarray
    weight: np.ndarray
    square: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray, phasor: np.ndarray, weight: np.ndarray) -> PairedMoments:
        """Pair every trial of spikes with every trial of phase.

        Parameters
        ----------
        counts : ndarray (trial, frame)
            Spikes per frame; 0 where a frame must not be used.
        phasor : ndarray of complex (trial, frame)
            e^{i phase}; 0 where a frame must not be used.
        weight : ndarray (trial, frame)
            Of a spike there; 0 where a frame must not be used.
        """
        held = counts.any(axis=0)
        spikes, weight = counts[:, held], weight[:, held]
        return cls(spikes @ (weight * phasor[:, held]).T, spikes @ weight.T, spikes @ (weight**2).T)

    def along(self, order: np.ndarray) -> Moments:
        """Moments with the phases' trials in the given orders, (draw,) for orders (draw, trial)."""
        trial = np.arange(len(self.vector))
        parts = (self.vector, self.weight, self.square)
        return Moments(*(part[trial, order].sum(axis=-1) for part in parts))

    @property
    def observed(self) -> Moments:
        """Moments of spikes with the phase of their own trial."""
        return self.along(np.arange(len(self.vector)))


def derangements(trials: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Orders of trials in which none keeps its place, int (draw, trial), each equally likely."""
    found = np.empty((0, trials), dtype=int)
    while len(found) < draws:
        # One order in e has no fixed point.
        orders = rng.permuted(np.tile(np.arange(trials), (4 * draws, 1)), axis=1)
        found = np.concatenate([found, orders[(orders != np.arange(trials)).all(axis=1)]])
    return found[:draws]


def shuffle_p(paired: PairedMoments, orders: np.ndarray) -> tuple[float, np.ndarray]:
    """P value of the pairwise phase consistency, and that of the shuffled pairs (draw,).

    ``p = (1 + #{null >= observed}) / (draws + 1)``; NaN where it is not defined.
    """
    observed, null = float(paired.observed.ppc), paired.along(orders).ppc
    known = null[np.isfinite(null)]
    if not np.isfinite(observed) or len(known) < len(orders) / 2:
        return float("nan"), null
    return (1 + int((known >= observed).sum())) / (len(known) + 1), null
