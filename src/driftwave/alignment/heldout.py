"""Canonical correlation and Procrustes, fitted on some conditions and scored on others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.geometry.dimension import principal_components


@dataclass(frozen=True)
class Scores:
    """Principal component scores of one session, one set for each fold held out.

    Attributes
    ----------
    values : ndarray (fold, condition, time, component)
        About the mean of, and along axes fitted to, the conditions that are not in the fold.
    length : ndarray (fold, component)
        Euclidean length of each component over the training conditions.
    """

    values: np.ndarray
    length: np.ndarray

    def first(self, count: int) -> Scores:
        return Scores(self.values[..., :count], self.length[..., :count])

    @property
    def rank(self) -> int:
        """Components that vary in every fold."""
        return int((self.length > 1e-8 * self.length[:, :1]).all(axis=0).sum())

    @property
    def white(self) -> np.ndarray:
        """Scores of unit length over the training conditions."""
        return self.values / self.length[:, None, None, :]


@dataclass(frozen=True)
class HeldOut:
    """Agreement of held-out conditions; first row of a permutation axis is the observed one.

    Attributes
    ----------
    correlation : ndarray (permutation, component)
        Of canonical variates.
    r2, r2_back : ndarray (permutation,)
        Of the second session from the first, and the other way round.
    correlation_floor : ndarray (component,)
    r2_floor, r2_back_floor : float
        Components matched by their order, only their signs fitted.
    """

    correlation: np.ndarray
    r2: np.ndarray
    r2_back: np.ndarray
    correlation_floor: np.ndarray
    r2_floor: float
    r2_back_floor: float


def equal_folds(conditions: int, fewest: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Fold (condition,) in folds of equal size; -1 for the few left over, which always train.

    Equal folds can be exchanged as wholes, so that a permutation of the conditions never needs
    components of a set of conditions other than those of the folds.
    """
    folds = max(range(fewest, most + 1), key=lambda k: (conditions - conditions % k, k))
    fold = np.full(conditions, -1)
    used = rng.permutation(conditions)[: conditions - conditions % folds]
    fold[used] = np.arange(len(used)) % folds
    return fold


def condition_permutations(fold: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Which condition stands for each: row 0 itself, then folds exchanged and shuffled inside.

    Parameters
    ----------
    fold : ndarray of int (condition,)
    count : int
    rng : Generator

    Returns
    -------
    ndarray of int (1 + count, condition)
    """
    rows = np.tile(np.arange(len(fold)), (count + 1, 1))
    members = [np.flatnonzero(fold == k) for k in range(fold.max() + 1)]
    rest = np.flatnonzero(fold < 0)
    for row in rows[1:]:
        for here, there in enumerate(rng.permutation(len(members))):
            row[members[here]] = rng.permutation(members[there])
        row[rest] = rng.permutation(rest)
    return rows


def fold_scores(averages: np.ndarray, fold: np.ndarray, dims: int, *, remove: bool) -> Scores:
    """Principal component scores with axes of the training conditions of each fold.

    Parameters
    ----------
    averages : ndarray (condition, time, dim)
    fold : ndarray of int (condition,)
    dims : int
    remove : bool
        Take away the mean time course of the training conditions, not only its mean.
    """
    values, length = [], []
    for k in range(fold.max() + 1):
        train = averages[fold != k]
        centre = train.mean(axis=0) if remove else train.mean(axis=(0, 1))
        rows = (train - centre).reshape(-1, averages.shape[-1])
        axes = principal_components(rows, dims).axes
        values.append((averages - centre) @ axes)
        length.append(np.linalg.norm(rows @ axes, axis=0))
    return Scores(np.array(values), np.array(length))


def held_out(a: Scores, b: Scores, fold: np.ndarray, permutations: np.ndarray) -> HeldOut:
    """Alignment fitted on training conditions, scored on the held-out ones, over all folds.

    Canonical correlation (Gallego et al. 2020, 10.1038/s41593-019-0555-4): for scores of
    orthonormal columns Q_a, Q_b the singular vectors of Q_a' Q_b give the canonical variates.
    Procrustes: rotation and one scale. Sums of products are pooled over folds, about the means of
    the training conditions.

    Parameters
    ----------
    a, b : Scores
        Of the same conditions in the same order, with equally many components.
    fold : ndarray of int (condition,)
    permutations : ndarray of int (permutation, condition)
        Row 0 the identity; as from :func:`condition_permutations`.
    """
    size = len(permutations), a.values.shape[-1]
    pooled = np.zeros((3, *size))
    products = np.zeros((4, size[0]))
    floor, floor_products = np.zeros((3, size[1])), np.zeros(4)
    for k in range(fold.max() + 1):
        test = np.flatnonzero(fold == k)
        partner = fold[permutations[:, test[0]]]
        for other in np.unique(partner):
            rows = np.flatnonzero(partner == other)
            part = _Fold(a, b, k, int(other), fold, permutations[rows])
            pooled[:, rows] += part.canonical()
            products[:, rows] += part.procrustes()
            if rows[0] == 0:
                floor += part.canonical_floor()
                floor_products += part.procrustes_floor()
    r2, back = _r2(products)
    r2_floor, back_floor = _r2(floor_products[:, None])
    return HeldOut(
        _correlation(pooled),
        r2,
        back,
        _correlation(floor),
        float(r2_floor[0]),
        float(back_floor[0]),
    )


def _correlation(sums: np.ndarray) -> np.ndarray:
    across, first, second = sums
    return across / np.sqrt(np.maximum(first * second, np.finfo(float).tiny))


def _r2(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R2 from squared error and total of b from a, then of a from b."""
    return 1 - sums[0] / sums[1], 1 - sums[2] / sums[3]


class _Fold:
    """Products between the scores of two sessions with one fold held out."""

    def __init__(
        self, a: Scores, b: Scores, k: int, other: int, fold: np.ndarray, rows: np.ndarray
    ) -> None:
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        self.length_a, self.length_b = a.length[k], b.length[other]
        blocks = condition_products(a.values[k], b.values[other])
        self.train = summed(blocks, train, rows)
        self.test = summed(blocks, test, rows)
        inside = np.flatnonzero(fold == other)
        self.square_a = np.einsum("cti,ctj->ij", a.values[k][test], a.values[k][test])
        self.square_b = np.einsum("cti,ctj->ij", b.values[other][inside], b.values[other][inside])

    def canonical(self) -> np.ndarray:
        """Sums of products and squares (3, permutation, component) of canonical variates."""
        scale = np.outer(self.length_a, self.length_b)
        left, _, right = np.linalg.svd(self.train / scale)
        across = np.einsum("rij,rik,rjk->rj", left, self.test / scale, right)
        white_a = self.square_a / np.outer(self.length_a, self.length_a)
        white_b = self.square_b / np.outer(self.length_b, self.length_b)
        first = np.einsum("rij,ik,rkj->rj", left, white_a, left)
        second = np.einsum("rji,ik,rjk->rj", right, white_b, right)
        return np.stack([across, first, second])

    def canonical_floor(self) -> np.ndarray:
        sign = np.sign(np.diagonal(self.train[0]))
        across = sign * np.diagonal(self.test[0])
        return np.stack([across, np.diagonal(self.square_a), np.diagonal(self.square_b)]) / (
            np.stack([self.length_a * self.length_b, self.length_a**2, self.length_b**2])
        )

    def procrustes(self) -> np.ndarray:
        """Squared error and total of b from a, then of a from b (4, permutation)."""
        left, singular, right = np.linalg.svd(self.train)
        along = np.einsum("rij,rij->r", left @ right, self.test)
        return self._errors(singular.sum(axis=-1), along)

    def procrustes_floor(self) -> np.ndarray:
        train, test = np.diagonal(self.train[0]), np.diagonal(self.test[0])
        return self._errors(np.abs(train).sum(), (np.sign(train) * test).sum())

    def _errors(self, fitted: np.ndarray, along: np.ndarray) -> np.ndarray:
        total_a, total_b = np.trace(self.square_a), np.trace(self.square_b)
        to_b = fitted / (self.length_a**2).sum()
        to_a = fitted / (self.length_b**2).sum()
        error_b = total_b - 2 * to_b * along + to_b**2 * total_a
        error_a = total_a - 2 * to_a * along + to_a**2 * total_b
        ones = np.ones_like(along)
        return np.stack([error_b, total_b * ones, error_a, total_a * ones])


def condition_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products over time of each condition with each.

    Parameters
    ----------
    a, b : ndarray (condition, time, component)

    Returns
    -------
    ndarray (condition, condition, component, component)
    """
    conditions, time, dims = a.shape
    left = a.transpose(0, 2, 1).reshape(-1, time)
    right = b.transpose(1, 0, 2).reshape(time, -1)
    return (left @ right).reshape(conditions, dims, conditions, dims).transpose(0, 2, 1, 3)


def summed(blocks: np.ndarray, chosen: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Sum (permutation, component, component) over chosen conditions of a with their partners."""
    total = np.zeros((len(permutations), *blocks.shape[2:]))
    for condition in chosen:
        total += blocks[condition, permutations[:, condition]]
    return total
