"""Non-negative canonical polyadic decomposition of a tensor of any order by HALS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.tensors.hals import gram_of, khatri_rao, unit_columns, update
from driftwave.tensors.matching import matched_cosine

# Updates of the factors on one side while the tensor's product with the other side stands.
INNER = 3


@dataclass(frozen=True)
class Factors:
    """The best of several factorisations.

    Attributes
    ----------
    factors : list of ndarray (size of the dim, component)
        Columns of unit norm.
    weight : ndarray (component,)
        Norms of the components, descending, in the tensor's unit.
    error : ndarray (restart,)
        Norm of the residual over that of the tensor.
    iterations : ndarray of int (restart,)
    converged : ndarray of bool (restart,)
    similarity : ndarray (restart,)
        Matched cosine of the first factor with the best restart's.
    best : int
    """

    factors: list[np.ndarray]
    weight: np.ndarray
    error: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    similarity: np.ndarray
    best: int

    def full(self) -> np.ndarray:
        """The tensor that the factors stand for."""
        shape = [len(factor) for factor in self.factors]
        first, *rest = self.factors
        return ((first * self.weight) @ khatri_rao(rest).T).reshape(shape)


def ntf(
    tensor: np.ndarray,
    rank: int,
    *,
    restarts: int = 20,
    seed: int,
    max_iterations: int = 300,
    tolerance: float = 1e-5,
) -> Factors:
    r"""Factorise a non-negative tensor, :math:`x_{i j k \dots} \approx \sum_r u_{ir} v_{jr} \dots`.

    The dims are divided into two sides. The product of the tensor with the Khatri-Rao product of
    one side serves all factors of the other: two matrix products per iteration for any order,
    and every update still lowers the error.

    Parameters
    ----------
    tensor : ndarray, of two dims or more
        Not negative, finite.
    rank : int
        Components.
    restarts : int
        Random starts, in parallel with dask; the one of least error is kept.
    seed : int
    max_iterations : int
    tolerance : float
        A restart ends when the relative error falls by less than this share of itself.

    Raises
    ------
    InputError
        Values that are negative, missing or all zero.
    """
    tensor = checked(tensor, "tensor")
    half = _split(tensor.shape)
    matrix = tensor.reshape(int(np.prod(tensor.shape[:half])), -1)
    shapes = tensor.shape[:half], tensor.shape[half:]

    def run(number: int) -> _Run:
        rng = generator(seed, "ntf", str(number))
        return _restart(matrix, shapes, rank, rng, max_iterations, tolerance)

    runs = in_parallel(run, restarts)
    best = int(np.argmin([run.error for run in runs]))
    chosen = runs[best].factors
    normed = [unit_columns(factor) for factor in chosen]
    weight = np.prod([norm for _, norm in normed], axis=0)
    order = np.argsort(-weight, kind="stable")
    return Factors(
        [factor[:, order] for factor, _ in normed],
        weight[order],
        np.array([run.error for run in runs]),
        np.array([run.iterations for run in runs]),
        np.array([run.converged for run in runs]),
        np.array([matched_cosine(run.factors[0], chosen[0]) for run in runs]),
        best,
    )


@dataclass
class _Run:
    factors: list[np.ndarray]
    error: float
    iterations: int
    converged: bool


def _split(shape: tuple[int, ...]) -> int:
    """Number of leading dims that makes the two sides' sizes most alike."""
    sizes = [np.prod(shape[:k]) + np.prod(shape[k:]) for k in range(1, len(shape))]
    return 1 + int(np.argmin(sizes))


def _restart(
    matrix: np.ndarray,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    rank: int,
    rng: np.random.Generator,
    max_iterations: int,
    tolerance: float,
) -> _Run:
    total = float(np.einsum("ij,ij->", matrix, matrix))
    left, right = ([rng.random((size, rank)) for size in side] for side in shapes)
    fit = np.sqrt(total / (gram_of(left) * gram_of(right)).sum())
    left[0] *= fit
    before = error = np.inf
    iterations = 0
    while iterations < max_iterations:
        iterations += 1
        _update_side(matrix @ khatri_rao(right), left, gram_of(right))
        against = _update_side(matrix.T @ khatri_rao(left), right, gram_of(left))
        _balance(left + right)
        error = residual(total, against, gram_of(left) * gram_of(right))
        if before - error <= tolerance * error:
            break
        before = error
    return _Run(left + right, error, iterations, iterations < max_iterations)


def _update_side(product: np.ndarray, side: list[np.ndarray], other: np.ndarray) -> float:
    """Update one side's factors; returns the inner product of tensor and model after it."""
    rank = product.shape[1]
    product = product.reshape(*(len(factor) for factor in side), rank)
    for _ in range(INNER):
        for mode, factor in enumerate(side):
            others = [f for k, f in enumerate(side) if k != mode]
            gram = other * gram_of(others) if others else other
            update(factor, _contracted(product, side, mode), gram)
    return float((_contracted(product, side, 0) * side[0]).sum())


def _contracted(product: np.ndarray, side: list[np.ndarray], mode: int) -> np.ndarray:
    """Sum a (dims of the side, component) array against all factors but one: (row, component)."""
    moved = np.moveaxis(product, mode, 0)
    others = [f for k, f in enumerate(side) if k != mode]
    if not others:
        return moved
    flat = moved.reshape(moved.shape[0], -1, moved.shape[-1])
    return np.einsum("ikr,kr->ir", flat, khatri_rao(others))


def _balance(factors: list[np.ndarray]) -> None:
    """Give each component's columns equal norms, in place; their product stays."""
    norms = np.array([np.linalg.norm(factor, axis=0) for factor in factors])
    mean = np.exp(np.log(np.maximum(norms, 1e-300)).mean(axis=0))
    for factor, norm in zip(factors, norms, strict=True):
        factor *= np.where(norm > 0, mean / np.maximum(norm, 1e-300), 1)


def residual(total: float, against: float, gram: np.ndarray) -> float:
    """Relative residual norm from squared norm of the tensor, inner product and Gram matrix."""
    return float(np.sqrt(max(total - 2 * against + gram.sum(), 0) / total))


def checked(tensor: Any, name: str) -> np.ndarray:
    """The tensor as contiguous floats, or an error that says what is wrong with it."""
    values = np.asarray(tensor)
    values = np.ascontiguousarray(values, np.float32 if values.dtype == np.float32 else float)
    missing = int((~np.isfinite(values)).sum())
    found = (
        f"{values.ndim} dims" if values.ndim < 2
        else f"{missing} values that are not finite" if missing
        else f"negative values down to {values.min():g}" if values.size and values.min() < 0
        else "zeros only" if not values.any()
        else None
    )  # fmt: skip
    if found:
        raise InputError(
            file=name,
            field="values",
            found=found,
            expected="a tensor of two dims or more, non-negative and finite, with something in it",
            fix="Leave out the conditions or units concerned, or shift the values above 0",
        )
    return values


def in_parallel(run: Callable[[int], Any], count: int) -> list[Any]:
    """``run(0) ... run(count - 1)`` as dask tasks."""
    return list(dask.compute(*[dask.delayed(run)(number) for number in range(count)]))
