"""Permuted non-negative decomposition: circular shifts of the direction axis are fitted as well."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.tensors.crossing import crossed
from driftwave.tensors.hals import gram_of, unit_columns
from driftwave.tensors.matching import matched_cosine
from driftwave.tensors.ntf import checked, in_parallel
from driftwave.tensors.steps import Run, Shift, State, rolled, settled, step

DIMS = ("unit", "stimulus", "direction", "time")
# First and last temperature of the annealing, in mean standard deviations over shifts of the
# inner products of map and model; below the last, weights are as good as 0 and 1. Restarts take
# turns: from the warmest all of them may end in one and the same minimum, and crossing lives of
# their differences.
WARMEST, COLDEST = (30.0, 8.0, 3.0, 1.0), 0.15


@dataclass(frozen=True)
class PermutedFactors:
    """The best of several permuted factorisations, with components of the others.

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
    final_error : float
        Norm of the residual over that of the tensor, after the crossing of the restarts.
    error : ndarray (restart,)
        The same of each restart, before.
    iterations : ndarray of int (restart,)
    converged : ndarray of bool (restart,)
    similarity : ndarray (restart,)
        Matched cosine of the neuron factors with those kept.
    best : int
        Restart of least error.
    """

    neuron: np.ndarray
    stimulus: np.ndarray
    response: np.ndarray
    weight: np.ndarray
    shift: np.ndarray
    final_error: float
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
    (deterministic annealing) from one of four values that the restarts take in turn. Thereafter no
    step raises the error. At last the restarts are
    crossed (:func:`driftwave.tensors.crossing.crossed`).

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
        Random starts, in parallel with dask; the best, crossed with the others, is kept.
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

    def run(number: int) -> Run:
        rng = generator(seed, "permuted ntf", str(number))
        warmest = WARMEST[number % len(WARMEST)]
        return _restart(values, rank, shift, rng, annealing, warmest, max_iterations, tolerance)

    runs = in_parallel(run, restarts)
    best = int(np.argmin([run.error for run in runs]))
    maps = values.reshape(len(values) * values.shape[1], -1)
    found = crossed(maps, runs, values.shape, shift, max_iterations, tolerance)
    chosen = found.state
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
        found.shift,
        found.error,
        np.array([run.error for run in runs]),
        np.array([run.iterations for run in runs]),
        np.array([run.converged for run in runs]),
        np.array([matched_cosine(run.state.neuron, chosen.neuron) for run in runs]),
        best,
    )


def _restart(
    tensor: np.ndarray,
    rank: int,
    mode: Shift,
    rng: np.random.Generator,
    annealing: int,
    warmest: float,
    max_iterations: int,
    tolerance: float,
) -> Run:
    neurons, stimuli, directions, times = tensor.shape
    maps = tensor.reshape(neurons * stimuli, directions * times)
    total = float(np.einsum("ij,ij->", maps, maps))
    state = State(
        rng.random((neurons, rank)),
        rng.random((stimuli, rank)),
        rng.random((directions * times, rank)),
    )
    gram = gram_of([state.neuron, state.stimulus, state.response])
    state.response *= np.sqrt(total / gram.sum())
    if mode != "none" and directions > 1:
        cooling = warmest * (COLDEST / warmest) ** (np.arange(annealing) / max(annealing, 1))
        for temperature in cooling:
            step(maps, state, tensor.shape, mode, total, float(temperature))
    else:
        annealing = 0
    run = settled(maps, state, tensor.shape, mode, max_iterations, tolerance)
    return replace(run, iterations=run.iterations + annealing)


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
