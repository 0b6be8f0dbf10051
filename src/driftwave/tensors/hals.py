"""Updates of non-negative factors by hierarchical alternating least squares (HALS)."""

from __future__ import annotations

import numpy as np

# Factors stay this far above 0: a column of zeros could never come back.
FLOOR = 1e-12


def update(factor: np.ndarray, projected: np.ndarray, gram: np.ndarray, sweeps: int = 1) -> None:
    r"""Least-squares update in place of each column of a non-negative factor, others held.

    .. math:: u_r \leftarrow \left[ u_r + \frac{m_r - U g_r}{g_{rr}} \right]_+

    (Cichocki & Phan 2009, 10.1587/transfun.E92.A.708, eq. 22.)

    Parameters
    ----------
    factor : ndarray (row, component)
    projected : ndarray (row, component)
        Unfolded tensor times the Khatri-Rao product of the other factors.
    gram : ndarray (component, component)
        Gram matrix of that product.
    sweeps : int
        Passes over the components.
    """
    for _ in range(sweeps):
        for r in range(gram.shape[0]):
            if gram[r, r] > 0:
                step = (projected[:, r] - factor @ gram[:, r]) / gram[r, r]
                factor[:, r] = np.maximum(factor[:, r] + step, FLOOR)


def khatri_rao(factors: list[np.ndarray]) -> np.ndarray:
    """Column-wise Kronecker product (product of rows, component), last factor fastest."""
    product = factors[0]
    for factor in factors[1:]:
        product = (product[:, None] * factor[None]).reshape(-1, product.shape[1])
    return product


def gram_of(factors: list[np.ndarray]) -> np.ndarray:
    """Gram matrix (component, component) of the Khatri-Rao product of ``factors``."""
    rank = factors[0].shape[1]
    product = np.ones((rank, rank))
    for factor in factors:
        product = product * (factor.T @ factor)
    return product


def unit_columns(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of unit L2 norm, and their former norms (component,)."""
    norm = np.linalg.norm(factor, axis=0)
    return factor / np.where(norm > 0, norm, 1), norm
