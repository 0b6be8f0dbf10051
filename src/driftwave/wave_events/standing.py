"""Standing waves: electrodes in phase or in antiphase, a real map that changes its sign."""

from __future__ import annotations

import numpy as np

from driftwave.wave_events.fitting import Weights

DEGREE = 3
# Share of a map's energy that the rarer sign needs for it to have a node.
MINORITY = 0.05


def smooth_basis(position: np.ndarray) -> np.ndarray:
    """Polynomials up to the third degree, (term, electrode); along a line only its powers."""
    half = np.maximum(np.ptp(position, axis=0) / 2, 1e-9)
    middle = (position.max(axis=0) + position.min(axis=0)) / 2
    x, y = ((position - middle) / half).T
    wide = np.ptp(position, axis=0) > 1e-6 * half.max()
    powers = [
        (i, j)
        for i in range(DEGREE + 1)
        for j in range(DEGREE + 1 - i)
        if (wide[0] or i == 0) and (wide[1] or j == 0)
    ]
    return np.stack([x**i * y**j for i, j in powers])


def real_map(basis: np.ndarray, weights: Weights, weighted: np.ndarray) -> np.ndarray:
    """The smooth real map m (fit, electrode) that leaves the least of z = m c + noise.

    The largest generalised eigenvector of Re sum_s b_s b_s^H, b_s = B C^-1 z_s, and B C^-1 B'.
    """
    fits = len(weighted)
    rows = np.broadcast_to(basis, (fits, *basis.shape)).astype(complex)
    gram = np.real(basis @ weights(rows).swapaxes(1, 2))
    match = basis @ weighted
    matched = np.real(match @ match.conj().swapaxes(1, 2))
    ridge = 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(len(basis))
    root = np.linalg.inv(np.linalg.cholesky(gram + ridge))
    _, vector = np.linalg.eigh(root @ matched @ root.swapaxes(1, 2))
    return np.einsum("fba,fb,bn->fn", root, vector[..., -1], basis)


def changes_sign(pattern: np.ndarray) -> bool:
    """Whether a real map (electrode,) has a node, not just a slope."""
    energy = np.real(pattern) ** 2
    positive = energy[np.real(pattern) > 0].sum() / max(energy.sum(), 1e-300)
    return bool(MINORITY < positive < 1 - MINORITY)


def travelling_share(
    k: np.ndarray, position: np.ndarray, weights: Weights, values: np.ndarray
) -> float:
    """Travelling share of two opposite planes: (|a| - |b|) / (|a| + |b|), 0 standing, 1 travelling.

    z_s = a_s e^{-ik.r} + b_s e^{ik.r} is solved for each snapshot by generalised least squares.

    Parameters
    ----------
    k : ndarray (2,)
        rad/mm.
    position : ndarray (electrode, 2)
        mm.
    weights : Weights
        The first of its fits is used.
    values : ndarray, complex (electrode, snapshot)
    """
    wave = np.exp(-1j * (position @ k))
    rows = np.stack([wave, wave.conj()])
    weighted = Weights(weights.inverse[:1])(rows[None])[0].conj()
    gram = weighted @ rows.T
    # Two opposite planes that hardly differ over the layout cannot be told apart.
    if np.linalg.cond(gram) > 1e4:
        return float("nan")
    a, b = np.sqrt((np.abs(np.linalg.solve(gram, weighted @ values)) ** 2).sum(axis=1))
    return float(abs(a - b) / max(a + b, 1e-300))
