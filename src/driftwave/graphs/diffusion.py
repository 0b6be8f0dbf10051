"""Diffusion maps of graphs, each connected component by itself (Coifman and Lafon 2006)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh

from driftwave.errors import InputError
from driftwave.graphs.components import components_of

DENSE_BELOW = 5000
RESIDUAL = 1e-7
AGREEMENT = 1e-6


@dataclass(frozen=True)
class DiffusionMap:
    """Diffusion coordinates of the points of a graph.

    Attributes
    ----------
    coordinates : ndarray (point, component)
        Eigenvalue to the power of the time, times the right eigenvector; NaN in components of the
        graph too small to have so many. Columns are scaled to unit variance under the stationary
        distribution before the eigenvalue's power.
    eigenvalues : ndarray (graph component, component)
        Of the random walk, without the trivial 1, descending; NaN as above.
    of : ndarray (point,)
        Label of each point's connected component, 0 the largest.
    """

    coordinates: np.ndarray
    eigenvalues: np.ndarray
    of: np.ndarray


def diffusion_map(
    affinity: sp.sparray | sp.spmatrix | np.ndarray,
    *,
    components: int = 10,
    alpha: float = 1.0,
    time: float = 1.0,
    self_weight: float = 1.0,
    dense_below: int = DENSE_BELOW,
    seed: int = 0,
) -> DiffusionMap:
    r"""Diffusion map of every connected component of a graph by itself.

    With kernel K (affinity plus ``self_weight`` on the diagonal, as a Gaussian kernel has) and
    :math:`q = K 1`: :math:`K^{(\alpha)}_{ij} = K_{ij} / (q_i q_j)^\alpha`, row-normalised to a
    random walk P; coordinates :math:`\lambda_l^t \psi_l` of its right eigenvectors
    (Coifman and Lafon 2006, section 3). :math:`\alpha = 1` removes the density of sampling.

    Several components would share the eigenvalue 1, and sparse solvers miss repeated eigenvalues;
    each is therefore embedded alone, where 1 is simple and its eigenvector known, so it is
    projected out exactly. Above ``dense_below`` points Lanczos runs from two starts must agree and
    leave small residuals; else the dense solver decides.

    Parameters
    ----------
    affinity : (point, point)
        Symmetric, non-negative.
    components : int
        Coordinates wanted.
    alpha, time : float
    self_weight : float
        Weight of each point's edge to itself.
    dense_below : int
        Components of the graph with fewer points are solved densely.
    seed : int
        Of the Lanczos starts; the result does not depend on it beyond rounding.

    Returns
    -------
    DiffusionMap
        Signs are such that the entry of largest magnitude in each column is positive.

    Raises
    ------
    InputError
        If the affinity is not square, symmetric, finite and non-negative.
    """
    if components < 1 or time < 0:
        raise ValueError("components must be at least 1 and time not negative")
    graph = _checked(affinity)
    of = components_of(graph)
    count = int(of.max()) + 1
    coordinates = np.full((len(of), components), np.nan)
    eigenvalues = np.full((count, components), np.nan)
    order = np.argsort(of, kind="stable")
    for label, members in enumerate(np.split(order, np.cumsum(np.bincount(of))[:-1])):
        if len(members) < components + 1:
            continue
        kernel = graph[members][:, members] + self_weight * sp.eye_array(len(members))
        values, vectors = _embedded(kernel, components, alpha, dense_below, seed)
        eigenvalues[label] = values
        # A truncated Gaussian need not be positive definite: negative modes alternate at every
        # step of the walk and are no slow coordinate.
        coordinates[members] = vectors * np.maximum(values, 0) ** time
    return DiffusionMap(coordinates, eigenvalues, of)


def _checked(affinity: sp.sparray | sp.spmatrix | np.ndarray) -> sp.csr_array:
    graph = sp.csr_array(affinity)
    found = None
    if graph.shape[0] != graph.shape[1] or not graph.shape[0]:
        found = f"shape {graph.shape}"
    elif not np.isfinite(graph.data).all() or (graph.data < 0).any():
        found = "negative or not finite weights"
    elif abs(graph - graph.T).max() > 1e-10 * max(1.0, graph.data.max(initial=0)):
        found = "an asymmetric matrix"
    if found:
        raise InputError(
            file="graph", field="affinity", found=found,
            expected="a symmetric matrix of finite weights >= 0",
            fix="make it with knn_graph or ian_graph",
        )  # fmt: skip
    graph.eliminate_zeros()
    return graph


def _embedded(
    kernel: sp.csr_array, components: int, alpha: float, dense_below: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, and right eigenvectors of variance 1 under the stationary distribution."""
    density = kernel.sum(axis=1)
    weight = sp.diags_array(density**-alpha)
    kernel = weight @ kernel @ weight
    root = np.sqrt(kernel.sum(axis=1))
    inverse = sp.diags_array(1 / root)
    symmetric = sp.csr_array(inverse @ kernel @ inverse)
    symmetric = (symmetric + symmetric.T) / 2
    trivial = root / np.linalg.norm(root)
    found = None
    # Lanczos needs a basis much smaller than the matrix.
    if kernel.shape[0] >= max(dense_below, 4 * components + 20):
        found = _sparse(symmetric, trivial, components, seed)
    values, vectors = found if found is not None else _dense(symmetric, trivial, components)
    return values, _signed(vectors / trivial[:, None])


def _dense(
    symmetric: sp.csr_array, trivial: np.ndarray, components: int
) -> tuple[np.ndarray, np.ndarray]:
    size = len(trivial)
    # The known eigenvector moves from 1 to -2, below every other.
    full = symmetric.toarray() - 3 * np.outer(trivial, trivial)
    values, vectors = eigh(
        full, subset_by_index=[size - components, size - 1], overwrite_a=True, check_finite=False
    )
    return values[::-1], vectors[:, ::-1]


def _sparse(
    symmetric: sp.csr_array, trivial: np.ndarray, components: int, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Largest eigenpairs by Lanczos from two starts; None where they disagree or are inexact."""
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    size = len(trivial)

    def deflated(vector: np.ndarray) -> np.ndarray:
        vector = vector.ravel()
        return symmetric @ vector - 3 * trivial * (trivial @ vector)

    operator = LinearOperator((size, size), matvec=deflated, dtype=float)
    runs = []
    for start in range(2):
        first = np.random.default_rng([seed, start]).standard_normal(size)
        try:
            values, vectors = eigsh(
                operator, components, which="LA", v0=first, ncv=4 * components + 20, tol=1e-10
            )
        except ArpackError:
            return None
        order = np.argsort(values)[::-1]
        runs.append((values[order], vectors[:, order]))
    values, vectors = runs[0]
    agree = np.abs(runs[0][0] - runs[1][0]).max() < AGREEMENT
    inexact = symmetric @ vectors - vectors * values
    clean = np.linalg.norm(inexact, axis=0).max() < RESIDUAL
    return (values, vectors) if agree and clean else None


def _signed(vectors: np.ndarray) -> np.ndarray:
    size = np.abs(vectors)
    # The first of equals: rounding must not choose between mirror images.
    pivot = (size >= (1 - 1e-6) * size.max(axis=0)).argmax(axis=0)
    return vectors * np.where(vectors[pivot, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
