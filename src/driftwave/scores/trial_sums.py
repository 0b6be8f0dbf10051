"""Scores as formulas of per-trial sums, so that resampling trials costs one matrix product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TrialSums:
    """A score of a set of trials.

    Attributes
    ----------
    sums : ndarray (trial, term, unit)
        What each trial adds; the first term is the only one that depends on the prediction.
    formula : callable
        Score (...) from added-up terms (..., term, unit).
    other_trials : ndarray (unit,)
        First term added over all ordered pairs (i, j), j not i, of trial i's truth against trial
        j's prediction.
    """

    sums: np.ndarray
    formula: Callable[[np.ndarray], np.ndarray]
    other_trials: np.ndarray

    def value(self) -> float:
        """The score of all trials."""
        return float(self.formula(self.sums.sum(0)))

    def shuffled(self) -> float:
        """The score when each trial is given another trial's prediction.

        Exactly the score of the expected sums over all such shuffles: in a uniform derangement
        each other trial is equally likely. NaN with fewer than two trials.
        """
        trials = self.sums.shape[0]
        if trials < 2:
            return float("nan")
        total = self.sums.sum(0)
        total[0] = self.other_trials / (trials - 1)
        return float(self.formula(total))

    def interval(
        self, rng: np.random.Generator, *, resamples: int = 1000, level: float = 0.95
    ) -> tuple[float, float]:
        """Percentile bootstrap over trials; NaN with fewer than two trials."""
        trials = self.sums.shape[0]
        if trials < 2:
            return float("nan"), float("nan")
        weights = rng.multinomial(trials, np.full(trials, 1 / trials), size=resamples)
        values = self.formula(np.tensordot(weights.astype(float), self.sums, axes=1))
        if np.isnan(values).all():
            return float("nan"), float("nan")
        low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)
