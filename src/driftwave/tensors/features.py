"""Features of units from a factorisation: non-negative coefficients on its components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from driftwave.tensors.hals import gram_of
from driftwave.tensors.permuted import PermutedFactors
from driftwave.tensors.steps import Shift, shifted_products

# Rounds of coefficients and shifts; they do not change after a few.
ROUNDS = 4


@dataclass(frozen=True)
class NeuronFeatures:
    """Coefficients of every unit, and their principal components.

    Attributes
    ----------
    coefficient : ndarray (neuron, component)
    feature : ndarray (neuron, principal component)
        Scores of the centred square roots of the coefficients.
    variance_ratio : ndarray (principal component,)
        Of all, so that those kept can be compared.
    shift : ndarray of int (neuron, stimulus)
    residual : ndarray (neuron,)
        Norm of what the components leave of the responses, over theirs.
    """

    coefficient: np.ndarray
    feature: np.ndarray
    variance_ratio: np.ndarray
    shift: np.ndarray
    residual: np.ndarray


def neuron_features(
    maps: np.ndarray,
    relative_peak: np.ndarray,
    factorised: np.ndarray,
    factors: PermutedFactors,
    *,
    shift: Shift = "per_stimulus",
    variance: float = 0.8,
    fewest: int = 2,
) -> NeuronFeatures:
    r"""Non-negative least squares on the Khatri-Rao basis, square root, principal components.

    .. math:: \min_{c_n \ge 0} \sum_{s d t} \Big( \rho_{ns} \, m_{n, s, d - k_{ns}, t}
              - \sum_r c_{nr} v_{sr} b_{dtr} \Big)^2, \qquad x_{nr} = \sqrt{c_{nr}}

    with maps m of unit norm, also those kept out of the factorisation, and relative peak rates
    :math:`\rho`. The shifts of maps that were factorised are the factors'; others, under "common"
    the neuron's own, are fitted in turn with the coefficients.

    Parameters
    ----------
    maps : ndarray (neuron, stimulus, direction, time)
        Of unit norm or zero.
    relative_peak : ndarray (neuron, stimulus)
    factorised : ndarray of bool (neuron, stimulus)
        Maps the factors were fitted to.
    factors : PermutedFactors
    shift : {"per_stimulus", "common", "none"}
        As the factors were fitted.
    variance : float
        Least share of the variance that the principal components kept have.
    fewest : int
        Least number of principal components, as far as there are.
    """
    neurons, stimuli, directions, _ = maps.shape
    rank = factors.neuron.shape[1]
    basis = factors.response.reshape(-1, rank)
    products = shifted_products(
        maps.reshape(neurons * stimuli, -1), basis, directions, shift != "none"
    ).reshape(neurons, stimuli, -1, rank)
    products = products * relative_peak[:, :, None, None]
    gram = gram_of([factors.stimulus, basis])
    shifts, coefficient = factors.shift.copy(), np.zeros((neurons, rank))
    free = ~factorised if shift == "per_stimulus" else np.zeros_like(factorised)
    for last in [False] * ROUNDS + [True]:
        chosen = np.take_along_axis(products, shifts[..., None, None], axis=2)[:, :, 0]
        target = np.einsum("nsr,sr->nr", chosen, factors.stimulus)
        coefficient = batch_nnls(gram, target)
        if last or not free.any():
            break
        agreement = np.einsum(
            "nskr,nr,sr->nsk", products, coefficient, factors.stimulus, optimize=True
        )
        shifts = np.where(free, agreement.argmax(axis=2), shifts)
    norm = (relative_peak**2 * (maps**2).sum(axis=(2, 3))).sum(axis=1)
    left = norm - 2 * (coefficient * target).sum(1) + ((coefficient @ gram) * coefficient).sum(1)
    residual = np.sqrt(np.maximum(left, 0) / np.where(norm > 0, norm, 1))
    feature, ratio = principal_scores(np.sqrt(coefficient), variance, fewest)
    return NeuronFeatures(coefficient, feature, ratio, shifts, residual)


def batch_nnls(gram: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Non-negative c (row, component) that minimise c G c' / 2 - c t' for each row of targets.

    By the method of Lawson and Hanson on the Cholesky factor of G, so that the size of the data
    does not matter; directions of G without weight are held by a ridge of 1e-10 of its trace.
    """
    ridge = 1e-10 * np.trace(gram) / len(gram)
    root = cholesky(gram + ridge * np.eye(len(gram)))
    right = solve_triangular(root, targets.T, trans="T")
    return np.array([nnls(root, column)[0] for column in right.T])


def principal_scores(
    values: np.ndarray, variance: float, fewest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (row, component) of more than a share of the variance, and the share of each."""
    centred = values - values.mean(axis=0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    power = spread**2
    total = power.sum()
    ratio = power / total if total > 0 else np.zeros_like(power)
    enough = int(np.searchsorted(np.cumsum(ratio), variance, side="right")) + 1
    kept = min(max(enough, fewest), len(ratio))
    return left[:, :kept] * spread[:kept], ratio
