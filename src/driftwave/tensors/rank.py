"""How many components: nuclear norm of the neuron factors, split-half stability, held-out error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftwave.errors import InputError
from driftwave.tensors.matching import cosines, match, matched_cosine
from driftwave.tensors.permuted import PermutedFactors, permuted_ntf
from driftwave.tensors.steps import Shift

# The curve of nuclear norms has flattened where it has come this close to its largest value.
FLAT = 0.95


@dataclass(frozen=True)
class RankCurve:
    """Measures of each rank, and the rank chosen.

    Attributes
    ----------
    ranks : ndarray of int (rank,)
    error : ndarray (rank,)
        Relative error of the fit to all trials.
    nuclear_norm : ndarray (rank,)
    stability : ndarray (rank, split)
        Matched cosine of neuron factors from two halves of the trials.
    held_out_error : ndarray (rank, split, side)
        Relative error of one half's model on the other half's responses.
    flat : int
        Where the curve of nuclear norms flattens.
    chosen : int
    rule : str
        How it was chosen, in words.
    """

    ranks: np.ndarray
    error: np.ndarray
    nuclear_norm: np.ndarray
    stability: np.ndarray
    held_out_error: np.ndarray
    flat: int
    chosen: int
    rule: str


def nuclear_norm(neuron: np.ndarray, weight: np.ndarray) -> float:
    r"""Nuclear over Frobenius norm of the neuron factors (neuron, component) times their weights.

    :math:`\|U\|_* / \|U\|_F` lies between 1 and the square root of the rank; it stops growing
    once a further component weighs little or repeats the loadings of others.
    """
    singular = np.linalg.svd(neuron * weight, compute_uv=False)
    return float(singular.sum() / np.sqrt((singular**2).sum()))


def choose_rank(
    tensor: np.ndarray,
    halves: Sequence[tuple[np.ndarray, np.ndarray]],
    ranks: Sequence[int],
    *,
    shift: Shift = "per_stimulus",
    restarts: int = 5,
    annealing: int = 100,
    seed: int,
    max_iterations: int = 300,
) -> RankCurve:
    """Fit every rank to all trials and to halves of them.

    The rank chosen is the smallest whose held-out error exceeds the least by no more than the
    standard error of the difference over splits: the model, shifts included, of one half of the
    trials has to predict the other half. Without halves it is the smallest where the nuclear norm
    has come within 5 % of its largest value.

    Parameters
    ----------
    tensor : ndarray (neuron, stimulus, direction, time)
    halves : sequence of pairs of ndarray
        Such tensors of two disjoint halves of the trials; may be empty.
    ranks : sequence of int
        Ascending, at most the number of neurons.
    shift, restarts, annealing, seed, max_iterations
        As in :func:`permuted_ntf`; restarts of every single fit.

    Raises
    ------
    InputError
        More components asked for than there are neurons.
    """
    wanted = np.unique(np.asarray(ranks, int))
    if wanted[-1] > len(tensor):
        raise InputError(
            file="rank", field="ranks", found=f"rank {wanted[-1]} for {len(tensor)} units",
            expected="at most one component per unit", fix="Lower the ranks, or use more units",
        )  # fmt: skip

    def fitted(values: np.ndarray, rank: int, purpose: int) -> PermutedFactors:
        return permuted_ntf(
            values, rank, shift=shift, restarts=restarts, annealing=annealing,
            seed=seed + purpose, max_iterations=max_iterations,
        )  # fmt: skip

    error, nuclear = np.empty(len(wanted)), np.empty(len(wanted))
    stability = np.full((len(wanted), len(halves)), np.nan)
    held = np.full((len(wanted), len(halves), 2), np.nan)
    for i, rank in enumerate(int(r) for r in wanted):
        whole = fitted(tensor, rank, 0)
        error[i], nuclear[i] = whole.final_error, nuclear_norm(whole.neuron, whole.weight)
        for j, (first, second) in enumerate(halves):
            one, other = fitted(first, rank, 2 * j + 1), fitted(second, rank, 2 * j + 2)
            stability[i, j] = matched_cosine(one.neuron, other.neuron)
            held[i, j] = _error_of(one, second), _error_of(other, first)
    flat = int(wanted[np.argmax(nuclear >= FLAT * nuclear.max())])
    chosen, rule = _chosen(wanted, held, flat)
    return RankCurve(wanted, error, nuclear, stability, held, flat, chosen, rule)


def _error_of(factors: PermutedFactors, tensor: np.ndarray) -> float:
    return float(np.linalg.norm(factors.full() - tensor) / np.linalg.norm(tensor))


def _chosen(ranks: np.ndarray, held: np.ndarray, flat: int) -> tuple[int, str]:
    if not held.size or not np.isfinite(held).all():
        return flat, "smallest rank whose nuclear norm is within 5 % of the largest (no halves)"
    error = held.reshape(len(ranks), -1)
    excess = error - error[error.mean(axis=1).argmin()]
    spread = excess.std(axis=1, ddof=1) / np.sqrt(error.shape[1])
    rule = (
        "smallest rank whose held-out error, halves of the trials, exceeds the least by at most "
        "the standard error of the difference"
    )
    return int(ranks[np.argmax(excess.mean(axis=1) <= spread)]), rule


def factor_stability(one: PermutedFactors, other: PermutedFactors) -> np.ndarray:
    """Cosine (component of one,) of each component's neuron factor with its match in another."""
    similarity = cosines(one.neuron, other.neuron)
    rows, columns = match(similarity)
    out = np.zeros(len(similarity))
    out[rows] = similarity[rows, columns]
    return out
