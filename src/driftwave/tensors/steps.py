"""Steps of the permuted decomposition: shifts, factors, and the products they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from driftwave.tensors.hals import gram_of, unit_columns, update
from driftwave.tensors.ntf import residual

Shift = Literal["per_stimulus", "common", "none"]

# Updates of shifts, neuron and stimulus factors while the products with the responses stand.
INNER = 3


@dataclass
class State:
    """Factors of one restart; columns of neuron and stimulus have unit norm after a step."""

    neuron: np.ndarray
    stimulus: np.ndarray
    response: np.ndarray

    def copy(self) -> State:
        """A copy that can be changed."""
        return State(self.neuron.copy(), self.stimulus.copy(), self.response.copy())


@dataclass(frozen=True)
class Run:
    """Where one start ended.

    Attributes
    ----------
    state : State
    shift : ndarray of int (neuron, stimulus)
    error : float
        Norm of the residual over that of the tensor.
    iterations : int
    converged : bool
    """

    state: State
    shift: np.ndarray
    error: float
    iterations: int
    converged: bool


def settled(
    maps: np.ndarray,
    state: State,
    shape: tuple[int, ...],
    mode: Shift,
    max_iterations: int,
    tolerance: float,
) -> Run:
    """Step at temperature 0 until the error falls by less than a share of itself.

    Parameters
    ----------
    maps : ndarray (neuron * stimulus, direction * time)
    state : State
        Where to start; changed in place.
    shape : (int, int, int, int)
        Neurons, stimuli, directions, times.
    """
    total = float(np.einsum("ij,ij->", maps, maps))
    before = error = np.inf
    shifts = np.zeros(shape[:2], int)
    iterations = 0
    while iterations < max_iterations:
        iterations += 1
        error, shifts = step(maps, state, shape, mode, total, 0.0)
        if before - error <= tolerance * error:
            break
        before = error
    return Run(state, shifts, error, iterations, iterations < max_iterations)


def rolled(maps: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Roll each map (neuron, stimulus, direction, time) along direction by its own shift."""
    steps = maps.shape[2]
    source = (np.arange(steps) - shift[..., None]) % steps
    return np.take_along_axis(maps, source[..., None], axis=2)


def step(
    maps: np.ndarray,
    state: State,
    shape: tuple[int, ...],
    mode: Shift,
    total: float,
    temperature: float,
) -> tuple[float, np.ndarray]:
    """Update everything once; returns the relative error and the likeliest shifts.

    At temperature 0 each map has one shift. Above, it has them all, weighted: the E step of a
    mixture over shifts, in which maps that are not yet told apart do not settle.
    """
    neurons, stimuli, directions, _ = shape
    rank = state.response.shape[1]
    products = shifted_products(maps, state.response, directions, mode != "none")
    products = products.reshape(neurons, stimuli, -1, rank)
    square = state.response.T @ state.response
    for _ in range(INNER):
        agreement = _agreement(products, state, mode)
        shifts = agreement.argmax(axis=2)
        if temperature:
            weights = _weights(agreement, temperature)
            chosen = np.matmul(weights[:, :, None], products)[:, :, 0]
        else:
            chosen = np.take_along_axis(products, shifts[..., None, None], axis=2)[:, :, 0]
        update(state.neuron, np.einsum("nsr,sr->nr", chosen, state.stimulus),
               square * gram_of([state.stimulus]))  # fmt: skip
        update(state.stimulus, np.einsum("nsr,nr->sr", chosen, state.neuron),
               square * gram_of([state.neuron]))  # fmt: skip
    state.neuron, of_neuron = unit_columns(state.neuron)
    state.stimulus, of_stimulus = unit_columns(state.stimulus)
    state.response = state.response * (of_neuron * of_stimulus)
    loading = (state.neuron[:, None] * state.stimulus[None]).reshape(-1, rank)
    if temperature:
        projected = project_back_weighted(maps, loading, weights.reshape(len(maps), -1))
    else:
        projected = project_back(maps, loading, shifts.ravel(), directions)
    gram = gram_of([state.neuron, state.stimulus])
    update(state.response, projected, gram, INNER)
    against = float((projected * state.response).sum())
    return residual(total, against, gram * gram_of([state.response])), shifts


def shifted_products(
    maps: np.ndarray, response: np.ndarray, directions: int, all_shifts: bool
) -> np.ndarray:
    """Inner product (map, shift, component) of every rolled map with every response factor.

    Parameters
    ----------
    maps : ndarray (map, direction * time)
    response : ndarray (direction * time, component)
    directions : int
    all_shifts : bool
        False: shift 0 only.
    """
    rank = response.shape[1]
    if not all_shifts:
        return (maps @ response.astype(maps.dtype, copy=False)).astype(float)[:, None]
    cube = response.reshape(directions, -1, rank)
    # Rolling the map forward is rolling the response backward.
    source = (np.arange(directions)[:, None] + np.arange(directions)) % directions
    basis = cube[source].transpose(0, 2, 1, 3).reshape(len(response), directions * rank)
    products = maps @ np.ascontiguousarray(basis, maps.dtype)
    return products.reshape(len(maps), directions, rank).astype(float, copy=False)


def _agreement(products: np.ndarray, state: State, mode: Shift) -> np.ndarray:
    """Inner product (neuron, stimulus, shift) of rolled map and model.

    With a common shift it is that of all the neuron's maps together.
    """
    loading = state.neuron[:, None] * state.stimulus[None]
    agreement = np.matmul(products, loading[..., None])[..., 0]
    if mode == "common":
        together = agreement.sum(axis=1, keepdims=True)
        agreement = np.broadcast_to(together, agreement.shape)
    return agreement


def _weights(agreement: np.ndarray, temperature: float) -> np.ndarray:
    """Weight (neuron, stimulus, shift) of each shift, the temperature in mean SDs over shifts."""
    scale = temperature * agreement.std(axis=2).mean()
    height = agreement - agreement.max(axis=2, keepdims=True)
    weights = np.exp(height / scale) if scale > 0 else np.ones_like(agreement)
    return weights / weights.sum(axis=2, keepdims=True)


def project_back(
    maps: np.ndarray, loading: np.ndarray, shifts: np.ndarray, directions: int
) -> np.ndarray:
    """Sum of rolled maps weighted by the loadings (direction * time, component).

    Parameters
    ----------
    maps : ndarray (map, direction * time)
    loading : ndarray (map, component)
    shifts : ndarray of int (map,)
    directions : int
    """
    rank = loading.shape[1]
    total = np.zeros((directions, maps.shape[1] // directions, rank))
    loading = loading.astype(maps.dtype, copy=False)
    present = np.unique(shifts)
    for one in present:
        rows = slice(None) if len(present) == 1 else np.flatnonzero(shifts == one)
        part = (maps[rows].T @ loading[rows]).reshape(total.shape)
        total += np.roll(part, one, axis=0)
    return total.reshape(-1, rank)


def project_back_weighted(maps: np.ndarray, loading: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """As :func:`project_back`, each map rolled by every shift with its weight (map, shift)."""
    directions, rank = weights.shape[1], loading.shape[1]
    spread = (weights[:, :, None] * loading[:, None]).reshape(len(maps), -1)
    part = maps.T @ spread.astype(maps.dtype, copy=False)
    part = part.reshape(directions, -1, directions, rank)
    total = np.zeros((directions, part.shape[1], rank))
    for one in range(directions):
        total += np.roll(part[:, :, one], one, axis=0)
    return total.reshape(-1, rank)
