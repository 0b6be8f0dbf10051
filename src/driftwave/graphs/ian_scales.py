"""Scales of iterated adaptive neighbourhoods by linear programme."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def linear_scales(
    ends: np.ndarray, length: np.ndarray, farthest: np.ndarray, factor: float
) -> np.ndarray:
    r"""Least sum of scales such that each edge is covered.

    :math:`\sigma_i \sigma_j \ge w^2`, :math:`w = C d_{ij}`, is a convex region above a hyperbola;
    within the bounds :math:`\sigma_i \le u_i` its two secants from :math:`(w, w)` to the ends
    :math:`(u_i, w^2/u_i)` and :math:`(w^2/u_j, u_j)` lie inside it and make the programme linear.

    Parameters
    ----------
    ends : ndarray of int (edge, 2)
    length : ndarray (edge,)
    farthest : ndarray (point,)
        Upper bounds u.
    factor : float
        C.

    Raises
    ------
    RuntimeError
        If the programme has no solution, which C <= 1 excludes.
    """
    from scipy.optimize import linprog

    one, other = ends.T
    width = factor * length
    edge = np.arange(len(length))
    rows = np.concatenate([edge, edge, edge + len(edge), edge + len(edge)])
    columns = np.concatenate([one, other, one, other])
    unit = np.ones(len(edge))
    values = np.concatenate([-width / farthest[one], -unit, -farthest[other] / width, -unit])
    matrix = sp.csr_array((values, (rows, columns)), shape=(2 * len(edge), len(farthest)))
    bound = np.concatenate([-(width**2) / farthest[one] - width, -farthest[other] - width])
    found = linprog(
        np.ones(len(farthest)),
        A_ub=matrix,
        b_ub=bound,
        bounds=np.column_stack([np.zeros(len(farthest)), farthest]),
        method="highs",
    )
    if found.x is None:
        raise RuntimeError(f"the linear programme of the scales failed: {found.message}")
    return found.x
