"""How many dimensions of condition averages repeat: cross-validated principal components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.geometry.repeats import Repeats

LEVEL = 0.05
# Draws that a component beyond the first is compared with.
DRAWS = 60


@dataclass(frozen=True)
class SignalSpectrum:
    """Signal variance along cross-validated components.

    Attributes
    ----------
    variance : ndarray (component,)
        Covariance of two halves of the repeats along the components of one: unbiased by noise.
    null : ndarray (shuffle, component)
        The same of noise alone.
    dimension : int
        Leading components whose variance exceeds what noise reaches along its first.
    null_dimension : ndarray (shuffle,)
    total : float
        Covariance of the halves over all dims: the signal's variance.
    """

    variance: np.ndarray
    null: np.ndarray
    dimension: int
    null_dimension: np.ndarray
    total: float

    @property
    def participation(self) -> float:
        """Participation ratio of the signal: of the components counted; NaN for none."""
        return participation_of(self.variance[: self.dimension])


def participation_of(variance: np.ndarray) -> float:
    """(sum v)^2 / sum v^2; NaN of none."""
    kept = np.maximum(variance, 0)
    return float(kept.sum() ** 2 / (kept**2).sum()) if (kept > 0).any() else np.nan


def halved_spectrum(
    values: np.ndarray,
    of: np.ndarray,
    conditions: int,
    count: int,
    splits: list[np.ndarray],
    *,
    signs: np.ndarray | None = None,
    signal: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Signal variance along components (component,) and in all, averaged over splits.

    Stringer et al. 2019 (10.1038/s41586-019-1346-5), cvPCA: with the averages A and B of two
    halves of the repeats (rows condition x time, columns centred) and the principal axes
    :math:`u_k` of A, :math:`\\lambda_k = \\langle A u_k, B u_k \\rangle / rows`; each half serves
    as A once.

    Parameters
    ----------
    values : ndarray (repeat, time, dim)
    of : ndarray (repeat,)
        Condition of each repeat.
    conditions : int
    count : int
        Components wanted.
    splits : list of ndarray of bool (repeat,)
        Repeats of the first half; both halves have each condition.
    signs : ndarray (repeat,), optional
        Factors of the repeats.
    signal : ndarray (condition, time, dim), optional
        Added to both halves' averages.
    """
    repeat, time, dims = values.shape
    flat = values.reshape(repeat, -1)
    found, total = [], []
    for first in splits:
        halves = []
        for half in (first, ~first):
            chosen = ((of == np.arange(conditions)[:, None]) & half).astype(float)
            chosen /= chosen.sum(axis=1, keepdims=True)
            if signs is not None:
                chosen *= signs
            rows = (chosen @ flat).reshape(conditions * time, dims)
            if signal is not None:
                rows += signal.reshape(rows.shape)
            halves.append(rows - rows.mean(axis=0))
        for a, b in (halves, halves[::-1]):
            found.append(_along(a, b, count) / len(a))
        total.append((halves[0] * halves[1]).sum() / len(halves[0]))
    return np.mean(found, axis=0), float(np.mean(total))


def _along(a: np.ndarray, b: np.ndarray, count: int) -> np.ndarray:
    """Inner products (component,) of a and b along the principal axes of a."""
    kept = min(count, min(a.shape))
    if a.shape[0] < a.shape[1]:
        # u = A'w / s, so (A u)'(B u) = w' (B A') w.
        _, vectors = np.linalg.eigh(a @ a.T)
        along = np.einsum("ik,ij,jk->k", vectors, b @ a.T, vectors, optimize=True)
    else:
        _, vectors = np.linalg.eigh(a.T @ a)
        along = ((a @ vectors) * (b @ vectors)).sum(axis=0)
    out = np.zeros(count)
    out[:kept] = along[::-1][:kept]
    return out


def random_halves(of: np.ndarray, splits: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Masks (repeat,) of a random half of each condition's repeats; the odd one goes either way."""
    found = []
    for _ in range(splits):
        first = np.zeros(len(of), bool)
        for label in np.unique(of):
            repeats = rng.permutation(np.flatnonzero(of == label))
            size = len(repeats) // 2 + (rng.integers(2) if len(repeats) % 2 else 0)
            first[repeats[:size]] = True
        found.append(first)
    return found


def signal_spectrum(
    repeats: Repeats, *, count: int, splits: int, shuffles: int, rng: np.random.Generator
) -> SignalSpectrum:
    """Cross-validated spectrum of condition averages, and how many components are signal.

    Noise is what remains of each repeat about its condition's average, times
    :math:`\\sqrt{n / (n - 1)}`, with a random sign for each repeat: its covariance over dims and
    time stays, what repeats does not. The first component counts while its variance exceeds the
    ``1 - LEVEL`` quantile of noise's first; the k-th, while it exceeds that quantile of the k-th
    of noise with a signal of k - 1 components: signal that noisy axes miss leaks into the next.

    Raises
    ------
    ValueError
        If there is no condition with two repeats, or only one row.
    """
    values, of = repeats.values, repeats.of
    if repeats.conditions * values.shape[1] < 2:
        raise ValueError("fewer than two averages that repeat")
    halves = random_halves(of, splits, rng)
    conditions = repeats.conditions
    variance, total = halved_spectrum(values, of, conditions, count, halves)
    number = np.bincount(of)[of]
    averages = repeats.averages()
    noise = (values - averages[of]) * np.sqrt(number / (number - 1))[:, None, None]

    def draws(signal: np.ndarray | None, number: int) -> np.ndarray:
        signs = rng.choice([-1.0, 1.0], (number, len(of)))
        return np.array(
            [
                halved_spectrum(noise, of, conditions, count, halves, signs=s, signal=signal)[0]
                for s in signs
            ]
        )

    null = draws(None, shuffles)
    limit = np.quantile(null[:, 0], 1 - LEVEL)
    most = int(_leading_above(variance[None], limit)[0])
    parts = _ranked(averages, variance)

    def is_signal(component: int) -> bool:
        """Whether a component (from 1) exceeds noise beside a signal of those before it."""
        surrogate = draws(parts[: component - 1].sum(axis=0), DRAWS)[:, component - 1]
        return bool(variance[component - 1] > np.quantile(surrogate, 1 - LEVEL))

    # Variances fall: the last component that is signal is found by halving.
    sure, bound = min(most, 1), most
    while sure < bound:
        middle = (sure + bound + 1) // 2
        if is_signal(middle):
            sure = middle
        else:
            bound = middle - 1
    return SignalSpectrum(variance, null, sure, _leading_above(null, limit), total)


def _ranked(averages: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Rank-one parts (component, condition, time, dim) of averages, scaled to signal variance."""
    rows = averages.reshape(-1, averages.shape[-1])
    rows = rows - rows.mean(axis=0)
    left, singular, right = np.linalg.svd(rows, full_matrices=False)
    kept = min(len(variance), len(singular))
    scale = np.sqrt(np.maximum(variance[:kept], 0) * len(rows))
    scale = np.minimum(scale, singular[:kept])
    parts = np.einsum("rk,k,kd->krd", left[:, :kept], scale, right[:kept])
    return parts.reshape(kept, *averages.shape)


def _leading_above(spectra: np.ndarray, limit: float) -> np.ndarray:
    """How many leading components (spectrum,) of spectra (spectrum, component) exceed a limit."""
    return np.cumprod(spectra > limit, axis=1).sum(axis=1)
