"""Which component of one factorisation is which of another."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine (component of a, component of b) between columns; 0 for a column of zeros."""
    norms = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)[None]
    return np.divide(a.T @ b, norms, out=np.zeros_like(norms), where=norms > 0)


def match(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of largest total similarity (Hungarian method).

    Parameters
    ----------
    similarity : ndarray (component of a, component of b)

    Returns
    -------
    of_a, of_b : ndarray of int (pair,)
    """
    return linear_sum_assignment(similarity, maximize=True)


def matched_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Mean cosine of the columns of two factors (row, component), matched to one another.

    Where one has fewer components, those of the other without a partner count 0.
    """
    similarity = cosines(a, b)
    return float(similarity[match(similarity)].sum() / max(similarity.shape))
