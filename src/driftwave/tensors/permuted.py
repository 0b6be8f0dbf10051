"""Permuted non-negative decomposition: circular shifts of the direction axis are fitted as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.tensors.hals import gram_of, unit_columns, update
from driftwave.tensors.matching import matched_cosine
from driftwave.tensors.ntf import checked, in_parallel, residual

Shift = Literal["per_stimulus", "common", "none"]

DIMS = ("unit", "stimulus", "direction", "time")
# Updates of shifts, neuron and stimulus factors while the products with the responses stand.
INNER = 3
# First and last temperature of the annealing, in mean standard deviations over shifts of the
# inner products of map and model; below the last, weights are as good as 0 and 1.
WARMEST, COLDEST = 30.0, 0.15


@dataclass(frozen=True)
class PermutedFactors:
    """The best of several permuted factorisations.

    Attributes
    ----------
    neuron : ndarray (neuron, component)
    stimulus : ndarray (stimulus, component)
    response : ndarray (direction, time, component)
        These three of unit norm per component.
    weight : ndarray (component,)
        Norms of the components, descending, in the tensor's unit.
    shift : ndarray of int (neuron, stimulus)
        Steps by which each map is rolled along direction to meet the model:
        ``np.roll(map, shift, axis=direction)``.
    error : ndarray (restart,)
        Norm of the residual over that of the tensor.
    iterations : ndarray of int (restart,)
    converged : ndarray of bool (restart,)
    similarity : ndarray (restart,)
        Matched cosine of the neuron factors with the best restart's.
    best : int
    """

    neuron: np.ndarray
    stimulus: np.ndarray
    response: np.ndarray
    weight: np.ndarray
    shift: np.ndarray
    error: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    similarity: np.ndarray
    best: int

    def full(self) -> np.ndarray:
        """The modelled maps (neuron, stimulus, direction, time), rolled back to the data's."""
        model = np.einsum(
            "nr,sr,dtr,r->nsdt",
            self.neuron, self.stimulus, self.response, self.weight, optimize=True,
        )  # fmt: skip
        return rolled(model, -self.shift)


def rolled(maps: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Roll each map (neuron, stimulus, direction, time) along direction by its own shift."""
    steps = maps.shape[2]
    source = (np.arange(steps) - shift[..., None]) % steps
    return np.take_along_axis(maps, source[..., None], axis=2)


def permuted_ntf(
    tensor: np.ndarray | xr.DataArray,
    rank: int,
    *,
    shift: Shift = "per_stimulus",
    restarts: int = 20,
    seed: int,
    annealing: int = 100,
    max_iterations: int = 300,
    tolerance: float = 1e-5,
) -> PermutedFactors:
    r"""Factorise responses whose preferred directions differ from map to map.

    .. math:: \min \sum_{nsdt} \Big( x_{n, s, d - k_{ns}, t}
              - \sum_r u_{nr} v_{sr} b_{dtr} \Big)^2, \quad u, v, b \ge 0,

    over factors and shifts :math:`k_{ns}` (Dyballa et al. 2024, 10.1073/pnas.2316008121). Given
    the factors, the best shift is that of the largest inner product of rolled map and model. The
    inner products of every map with every rolled response factor are one matrix product, from
    which shifts, neuron and stimulus factors are all updated; no map is ever rolled.

    A random start that takes best shifts at once mostly ends in a poor minimum. Each restart
    therefore begins with all shifts of a map weighted by
    :math:`\exp(\text{inner product} / \tau)`, and :math:`\tau` falls geometrically
    (deterministic annealing). Thereafter no step raises the error.

    Parameters
    ----------
    tensor : ndarray (neuron, stimulus, direction, time) or DataArray with dims of those names
        Not negative, finite; a DataArray's neurons are ``unit`` or ``neuron``, in any order of
        dims.
    rank : int
        Components.
    shift : {"per_stimulus", "common", "none"}
        A shift for each neuron and stimulus, one for all stimuli of a neuron, or none.
    restarts : int
        Random starts, in parallel with dask; the one of least error is kept.
    seed : int
    annealing : int
        Iterations of the annealing; 0 for none, and none without shifts.
    max_iterations : int
        Iterations after the annealing.
    tolerance : float
        A restart ends when the relative error falls by less than this share of itself.

    Raises
    ------
    InputError
        Values that are negative, missing or all zero; other dims; an unknown kind of shift.
    """
    if shift not in get_args(Shift):
        raise _fault("shift", repr(shift), f"one of {get_args(Shift)}", "Mend `shift`")
    values = checked(_ordered(tensor), "response tensor")

    def run(number: int) -> _Run:
        rng = generator(seed, "permuted ntf", str(number))
        return _restart(values, rank, shift, rng, annealing, max_iterations, tolerance)

    runs = in_parallel(run, restarts)
    best = int(np.argmin([run.error for run in runs]))
    chosen = runs[best]
    neuron, of_neuron = unit_columns(chosen.neuron)
    stimulus, of_stimulus = unit_columns(chosen.stimulus)
    response, of_response = unit_columns(chosen.response)
    weight = of_neuron * of_stimulus * of_response
    order = np.argsort(-weight, kind="stable")
    return PermutedFactors(
        neuron[:, order],
        stimulus[:, order],
        response[:, order].reshape(*values.shape[2:], rank),
        weight[order],
        chosen.shift,
        np.array([run.error for run in runs]),
        np.array([run.iterations for run in runs]),
        np.array([run.converged for run in runs]),
        np.array([matched_cosine(run.neuron, chosen.neuron) for run in runs]),
        best,
    )


@dataclass
class _Run:
    neuron: np.ndarray
    stimulus: np.ndarray
    response: np.ndarray
    shift: np.ndarray
    error: float
    iterations: int
    converged: bool


@dataclass
class _State:
    """Factors of one restart; columns of neuron and stimulus have unit norm after a step."""

    neuron: np.ndarray
    stimulus: np.ndarray
    response: np.ndarray


def _restart(
    tensor: np.ndarray,
    rank: int,
    mode: Shift,
    rng: np.random.Generator,
    annealing: int,
    max_iterations: int,
    tolerance: float,
) -> _Run:
    neurons, stimuli, directions, times = tensor.shape
    maps = tensor.reshape(neurons * stimuli, directions * times)
    total = float(np.einsum("ij,ij->", maps, maps))
    state = _State(
        rng.random((neurons, rank)),
        rng.random((stimuli, rank)),
        rng.random((directions * times, rank)),
    )
    gram = gram_of([state.neuron, state.stimulus, state.response])
    state.response *= np.sqrt(total / gram.sum())
    if mode != "none" and directions > 1:
        cooling = WARMEST * (COLDEST / WARMEST) ** (np.arange(annealing) / max(annealing, 1))
        for temperature in cooling:
            _step(maps, state, tensor.shape, mode, total, float(temperature))
    else:
        annealing = 0
    before, error, iteration = np.inf, np.inf, 0
    shifts = np.zeros((neurons, stimuli), int)
    for iteration in range(1, max_iterations + 1):
        error, shifts = _step(maps, state, tensor.shape, mode, total, 0.0)
        if before - error <= tolerance * error:
            break
        before = error
    return _Run(
        state.neuron,
        state.stimulus,
        state.response,
        shifts,
        error,
        annealing + iteration,
        iteration < max_iterations,
    )


def _step(
    maps: np.ndarray,
    state: _State,
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


def _agreement(products: np.ndarray, state: _State, mode: Shift) -> np.ndarray:
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


def project_back_weighted(
    maps: np.ndarray, loading: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """As :func:`project_back`, each map rolled by every shift with its weight (map, shift)."""
    directions, rank = weights.shape[1], loading.shape[1]
    spread = (weights[:, :, None] * loading[:, None]).reshape(len(maps), -1)
    part = maps.T @ spread.astype(maps.dtype, copy=False)
    part = part.reshape(directions, -1, directions, rank)
    total = np.zeros((directions, part.shape[1], rank))
    for one in range(directions):
        total += np.roll(part[:, :, one], one, axis=0)
    return total.reshape(-1, rank)


def _ordered(tensor: Any) -> np.ndarray:
    if isinstance(tensor, xr.DataArray):
        named = tensor.rename(neuron="unit") if "neuron" in tensor.dims else tensor
        if set(named.dims) != set(DIMS):
            raise _fault("dims", str(tensor.dims), str(DIMS), "Rename the dims")
        return named.transpose(*DIMS).values
    values = np.asarray(tensor)
    if values.ndim != 4:
        raise _fault("dims", f"{values.ndim} dims", str(DIMS), "Add dims of size 1")
    return values


def _fault(field: str, found: str, expected: str, fix: str) -> InputError:
    return InputError(file="response tensor", field=field, found=found, expected=expected, fix=fix)
