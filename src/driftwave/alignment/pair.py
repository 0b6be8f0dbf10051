"""Every measure of one pair of sessions, or of the two halves of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from driftwave.alignment import cka, dynamics, heldout, rsa, shape
from driftwave.alignment.halves import Halved
from driftwave.alignment.params import Params
from driftwave.alignment.transfer import Source, transferred
from driftwave.compute import generator
from driftwave.geometry.dimension import principal_components

FEWEST_CONDITIONS = 3
# Two to decode, two to fit an alignment to.
FEWEST_TO_DECODE = 4
# Within .1 % of the converged distance, at a fifth of the cost (Gaussians of noisy single trials).
STOCHASTIC_TOLERANCE = 1e-4


@dataclass
class Compared:
    """What is found for one pair; first entry of a permutation axis is the observed value.

    Attributes
    ----------
    dims : int
    distance : dict of ndarray (permutation,)
        By measure.
    correlation, correlation_floor : ndarray (component,)
    score, floor : dict of ndarray (permutation,), dict of float
        By score, ``..._back`` for the other direction.
    within : dict of float
        Accuracy of the tested session's own decoder in the halves used here.
    chance : float
        Accuracy by chance.
    reasons : dict of str
        Why a measure could not be taken.
    """

    dims: int
    distance: dict[str, np.ndarray] = field(default_factory=dict)
    correlation: np.ndarray = field(default_factory=lambda: np.zeros(0))
    correlation_floor: np.ndarray = field(default_factory=lambda: np.zeros(0))
    score: dict[str, np.ndarray] = field(default_factory=dict)
    floor: dict[str, float] = field(default_factory=dict)
    within: dict[str, float] = field(default_factory=dict)
    chance: float = np.nan
    reasons: dict[str, str] = field(default_factory=dict)


def shared_labels(a: Halved, b: Halved) -> list[str]:
    """Conditions of both, in the order of the first; none where rules differ."""
    if a.session.rule != b.session.rule:
        return []
    return [label for label in a.labels if label in b.labels]


def why_not(a: Halved, b: Halved) -> str:
    """Why a pair cannot be compared; empty where it can."""
    if a.session.rule != b.session.rule:
        return f"conditions found by different rules: {a.session.rule}; {b.session.rule}"
    shared = shared_labels(a, b)
    if len(shared) < FEWEST_CONDITIONS:
        return (
            f"{len(shared)} shared conditions with at least 2 trials in each half, "
            f"{FEWEST_CONDITIONS} are needed"
        )
    return ""


def common_dims(a: Halved, b: Halved, fold: np.ndarray, params: Params) -> int:
    """Components a pair is reduced to.

    Two subspaces of d dims in the space of n training rows meet by chance alone where
    2 d > n - 1: canonical correlations are then 1 whatever the data.
    """
    bins = a.session.values.shape[1]
    train = min(int((fold != k).sum()) for k in range(fold.max() + 1)) * bins
    units = min(a.session.values.shape[-1], b.session.values.shape[-1])
    return max(1, min(params.dims, units, (train - 1) // 3))


def compare_pair(
    a: Halved,
    b: Halved,
    labels: Sequence[str],
    measures: Sequence[str],
    params: Params,
    *,
    seed: int,
    shuffles: int,
    dims: int | None = None,
) -> Compared:
    """Measures of one half of a's trials against the other half of b's, averaged over splits.

    Parameters
    ----------
    a, b : Halved
        The same session twice for what its noise allows.
    labels : sequence of str
        Conditions of both.
    measures : sequence of str
    params : Params
    seed : int
    shuffles : int
        Permutations of the conditions.
    dims : int or None
        Components; None for as many as the pair allows.
    """
    rng = generator(seed, "alignment folds")
    count = len(labels)
    fold = heldout.equal_folds(count, 3, min(count, params.folds), rng)
    decoded = _decoded_together(count, params.folds, rng)
    plans = tuple(
        Plan(f, heldout.condition_permutations(f, shuffles, rng)) for f in (fold, decoded)
    )
    sources = [
        Source(h, h.windows(params.windows), np.array([h.labels.index(label) for label in labels]))
        for h in (a, b)
    ]
    wanted = dims or common_dims(a, b, fold, params)
    parts = [
        _Split(sources, split, plans, wanted, measures, params, seed).run()
        for split in range(params.splits)
    ]
    return _mean(parts)


@dataclass(frozen=True)
class Plan:
    """Folds (condition,) over conditions and the permutations that keep them whole."""

    fold: np.ndarray
    permutations: np.ndarray


def _decoded_together(conditions: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Folds of at least two conditions; one for all where there are too few to decode."""
    if conditions < FEWEST_TO_DECODE:
        return np.zeros(conditions, int)
    return heldout.equal_folds(conditions, 2, min(conditions // 2, most), rng)


class _Split:
    """One division into halves of one pair."""

    def __init__(
        self,
        sources: list[Source],
        split: int,
        plans: tuple[Plan, ...],
        dims: int,
        measures: Sequence[str],
        params: Params,
        seed: int,
    ) -> None:
        self.sources, self.split = sources, split
        self.measures, self.params, self.seed = measures, params, seed
        plan, self.decoded = plans
        fold, self.fold, self.permutations = plan.fold, plan.fold, plan.permutations
        self.averages = [
            source.halved.averages(split, half, source.conditions)
            for half, source in enumerate(sources)
        ]
        remove = params.condition_independent == "remove"
        self.scores = [
            heldout.fold_scores(average, fold, dims, remove=remove) for average in self.averages
        ]
        self.found = Compared(max(1, min(dims, *(score.rank for score in self.scores))))

    def run(self) -> Compared:
        self._held_out()
        self._transfer()
        for measure in self.measures:
            if measure in _MEASURES:
                reason = _MEASURES[measure](self)
                if reason:
                    self.found.reasons[measure] = reason
        return self.found

    def _held_out(self) -> None:
        a, b = (score.first(self.found.dims) for score in self.scores)
        found = heldout.held_out(a, b, self.fold, self.permutations)
        leading = found.correlation[:, : self.params.leading].mean(axis=1)
        self.found.correlation = found.correlation[0]
        self.found.correlation_floor = found.correlation_floor
        self.found.score |= {
            "cca_correlation": leading,
            "procrustes_r2": found.r2,
            "procrustes_r2_back": found.r2_back,
        }
        self.found.floor |= {
            "cca_correlation": float(found.correlation_floor[: self.params.leading].mean()),
            "procrustes_r2": found.r2_floor,
            "procrustes_r2_back": found.r2_back_floor,
        }
        if "cca" in self.measures:
            self.found.distance["cca"] = 1 - leading
        if "procrustes" in self.measures:
            self.found.distance["procrustes"] = 1 - (found.r2 + found.r2_back) / 2

    def _transfer(self) -> None:
        """Each session's decoder in the other; the second half of b is tested, the first of a."""
        a, b = self.sources
        fold, permutations = self.decoded.fold, self.decoded.permutations
        if fold.max() < 1:
            self.found.reasons["decoding_accuracy"] = (
                f"{len(fold)} shared conditions, {FEWEST_TO_DECODE} are needed"
            )
            return
        rows = self.averages[0].shape[1] * int((fold != 0).sum())
        dims = max(1, min(self.found.dims, (rows - 1) // 3))
        self.found.chance = 1 / int((fold == 0).sum())
        for key, first, second, half in (("", a, b, 1), ("_back", b, a, 0)):
            name = f"decoding_accuracy{key}"
            found = transferred(first, second, self.split, half, fold, permutations, dims)
            self.found.score[name] = found.aligned
            self.found.floor[name] = found.floor
            self.found.within[name] = found.within

    def _reduced(self, half: int) -> np.ndarray:
        """Averages (condition, time, component) of one half in all its shared conditions."""
        average = self.averages[half]
        rows = shape.reduced(average.reshape(-1, average.shape[-1]), self.found.dims)
        return rows.reshape(*average.shape[:2], -1)

    def _angle(self) -> str:
        angle, _ = shape.shape_distances(self._reduced(0), self._reduced(1), self.permutations)
        self.found.distance["shape"] = angle
        return ""

    def _size(self) -> str:
        per_unit = [self._reduced(h) / np.sqrt(self.averages[h].shape[-1]) for h in (0, 1)]
        _, size = shape.shape_distances(per_unit[0], per_unit[1], self.permutations)
        self.found.distance["shape_size"] = size
        return ""

    def _stochastic(self) -> str:
        dims = min(self.params.dims, *(s.windows.shape[-1] for s in self.sources))
        gaussians = [_gaussians(s, self.split, h, dims) for h, s in enumerate(self.sources)]
        windows = self.sources[0].windows.shape[1]
        few = self.permutations[: 1 + self.params.costly_shuffles]
        orders = (few[:, :, None] * windows + np.arange(windows)).reshape(len(few), -1)
        self.found.distance["shape_stochastic"] = shape.stochastic_distances(
            *gaussians[0],
            *gaussians[1],
            orders,
            restarts=self.params.stochastic_restarts,
            tolerance=STOCHASTIC_TOLERANCE,
            rng=generator(self.seed, "stochastic shape", str(self.split)),
        )
        return ""

    def _patterns(self, half: int) -> np.ndarray:
        """Averages (condition, window, dim) of one half."""
        average = self.averages[half]
        parts = np.array_split(
            np.arange(average.shape[1]), min(self.params.windows, average.shape[1])
        )
        return np.stack([average[:, part].mean(axis=1) for part in parts], axis=1)

    def _rsa(self) -> str:
        rdms = [
            rsa.session_rdm(s.halved, s.windows, self.split, half, s.conditions)
            for half, s in enumerate(self.sources)
        ]
        windows = self.sources[0].windows.shape[1]
        method = self.params.rdm_comparison
        similarity = rsa.rdm_similarity(rdms[0], rdms[1], windows, self.permutations, method)
        self.found.distance["rsa"] = 1 - similarity
        return ""

    def _cka(self) -> str:
        a, b = self._patterns(0), self._patterns(1)
        if a.shape[0] * a.shape[1] < 4:
            return "fewer than 4 conditions and windows"
        self.found.distance["cka"] = 1 - cka.permuted_cka(a, b, self.permutations)
        return ""

    def _dsa(self) -> str:
        bins, delays = self.averages[0].shape[1], self.params.dsa_delays
        if bins < delays + 2:
            return f"{bins} bins of time for {delays} delays"
        rank = min(self.params.dsa_rank, self.found.dims * delays)
        first, second = self._reduced(0), self._reduced(1)
        # Of every split the same draws: surrogates are as alike between splits as the data are.
        rng = generator(self.seed, "dynamics")
        surrogates = min(self.params.costly_shuffles, len(self.permutations) - 1)
        compared = [second, *(dynamics.without_dynamics(second, rng) for _ in range(surrogates))]
        operator = dynamics.linear_operator(first, delays, rank)
        self.found.distance["dsa"] = np.array(
            [
                dynamics.eigenvalue_distance(
                    operator, dynamics.linear_operator(other, delays, rank)
                )
                for other in compared
            ]
        )
        return ""


_MEASURES = {
    "shape": _Split._angle,
    "shape_size": _Split._size,
    "shape_stochastic": _Split._stochastic,
    "rsa": _Split._rsa,
    "cka": _Split._cka,
    "dsa": _Split._dsa,
}


def _gaussians(source: Source, split: int, half: int, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Means (condition and window, component) and shrunk covariances of single trials.

    In the principal components of single trials, divided by the root mean square length of the
    means about their centre.
    """
    from sklearn.covariance import ledoit_wolf

    samples, labels = source.samples(split, half)
    rows = samples.reshape(-1, samples.shape[-1])
    scores = principal_components(rows, dims).project(samples)
    means, covariances = [], []
    for condition in range(len(source.conditions)):
        for window in range(samples.shape[1]):
            own = scores[labels == condition, window]
            means.append(own.mean(axis=0))
            covariances.append(ledoit_wolf(own)[0])
    centred = np.array(means) - np.mean(means, axis=0)
    scale = np.sqrt((centred**2).sum(axis=1).mean())
    return centred / scale, np.array(covariances) / scale**2


def _mean(parts: list[Compared]) -> Compared:
    """Average over splits."""
    dims = min(part.dims for part in parts)
    reasons: dict[str, str] = {}
    for part in parts:
        reasons |= part.reasons

    def arrays(name: str) -> dict[str, np.ndarray]:
        keys = [k for k in getattr(parts[0], name) if all(k in getattr(p, name) for p in parts)]
        return {k: np.mean([getattr(p, name)[k] for p in parts], axis=0) for k in keys}

    return Compared(
        dims,
        arrays("distance"),
        np.mean([p.correlation[:dims] for p in parts], axis=0),
        np.mean([p.correlation_floor[:dims] for p in parts], axis=0),
        arrays("score"),
        {k: float(v) for k, v in arrays("floor").items()},
        {k: float(v) for k, v in arrays("within").items()},
        parts[0].chance,
        reasons,
    )
