"""Few-shot co-smoothing: how little it takes to read held-out units out of a model's latents.

Dabholkar & Barak 2025 (arXiv 2405.14425): among models of equal co-smoothing, those whose latents
hold dynamics that no unit needs are worse when the readout is fitted to few trials.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.inference.readout import fit_readout, flat
from driftwave.scores.bits_per_spike import bps_sums
from driftwave.scores.trial_sums import TrialSums

# Shares of the training trials that the readout is fitted to, and random subsets of each size.
SHARES = (0.01, 0.05)
SUBSETS = 5
# A latent that varies less than this, relative to its mean, holds rounding errors.
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class MeanOfSubsets:
    """Mean over random subsets of training trials of a score on the test trials.

    Attributes
    ----------
    each : list of TrialSums
        One per subset.
    """

    each: list[TrialSums]

    def value(self) -> float:
        """The mean score."""
        return float(np.mean([sums.value() for sums in self.each]))

    def spread(self) -> float:
        """Standard deviation of the score over the subsets; NaN of one."""
        if len(self.each) < 2:
            return float("nan")
        return float(np.std([sums.value() for sums in self.each], ddof=1))

    def shuffled(self) -> float:
        """The mean of the scores with each trial given another's prediction."""
        return float(np.mean([sums.shuffled() for sums in self.each]))

    def interval(
        self, rng: np.random.Generator, *, resamples: int = 1000, level: float = 0.95
    ) -> tuple[float, float]:
        """Percentile bootstrap of the mean over test trials, the subsets held fixed."""
        trials = self.each[0].sums.shape[0]
        if trials < 2:
            return float("nan"), float("nan")
        weights = rng.multinomial(trials, np.full(trials, 1 / trials), size=resamples).astype(float)
        values = [s.formula(np.tensordot(weights, s.sums, axes=1)) for s in self.each]
        low, high = np.nanquantile(np.mean(values, 0), [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def shots(trials: int) -> list[int]:
    """Numbers of trials k to fit to: :data:`SHARES` of the training trials, at least 2."""
    return sorted({min(trials, max(2, round(share * trials))) for share in SHARES})


def few_shot_co_bps(
    features: np.ndarray,
    counts: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    k: int,
    rng: np.random.Generator,
    *,
    subsets: int = SUBSETS,
) -> MeanOfSubsets:
    """Bits per spike of units whose Poisson readout from latents is fitted to ``k`` trials.

    The readout is log-linear with a Gaussian prior on the weights of the standardised latents
    under which the log rate has unit variance whatever their number. A silent unit keeps half a
    spike in the ``k`` trials.

    Parameters
    ----------
    features : ndarray (trial, time, latent)
        Latents inferred from the held-in units.
    counts : ndarray (trial, time, unit)
        Held-out units, spikes/bin; NaN where nothing is to be scored.
    train, test : ndarray of bool (trial,)
    k : int
        Number of training trials, drawn without replacement for each subset.
    rng : Generator
    subsets : int
        Random subsets; one is enough where ``k`` takes all trials.
    """
    pool = np.flatnonzero(train & np.isfinite(counts).all(2).any(1))
    if not 1 <= k <= len(pool):
        raise ValueError(f"k is {k}, there are {len(pool)} training trials")
    each = []
    for _ in range(1 if k == len(pool) else subsets):
        chosen = np.sort(rng.choice(pool, k, replace=False))
        goal, design = flat(counts[chosen]), flat(features[chosen])
        there = np.isfinite(goal).all(axis=1)
        rates = _read_out(design[there], goal[there], features[test])
        each.append(bps_sums(rates, counts[test]))
    return MeanOfSubsets(each)


def _read_out(design: np.ndarray, goal: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Rates (trial, time, unit) in spikes/bin from a readout fitted to (sample, latent)."""
    varied = design.std(0) > _LEAST_SPREAD * np.abs(design.mean(0))
    readout = fit_readout(design[:, varied], goal, penalty=float(max(1, varied.sum())))
    return readout.rate(features[..., varied])
