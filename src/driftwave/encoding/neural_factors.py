"""Encoding manifold: units placed by the non-negative factors of their responses."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.readouts.features import seen_bins
from driftwave.tensors.features import neuron_features
from driftwave.tensors.permuted import PermutedFactors, permuted_ntf
from driftwave.tensors.rank import RankCurve, choose_rank
from driftwave.tensors.results import curve_variables, factor_variables, filled, of_units
from driftwave.tensors.steps import Shift
from driftwave.tuning.design import Design, design_of
from driftwave.tuning.maps import normalised_maps
from driftwave.tuning.psth import model_activity, response_tensor
from driftwave.tuning.selectivity import halves_of, selectivity_with_null
from driftwave.tuning.significance import significance

PAPER = "Dyballa et al. 2024, 10.1073/pnas.2316008121 (encoding manifolds)"
QUICK = {
    "rank": "auto",
    "ranks": (2, 3),
    "restarts": 2,
    "rank_restarts": 1,
    "splits": 1,
    "annealing": 5,
    "max_iterations": 20,
    "bandwidth": 0.05,
    "shuffles": 10,
    "surrogates": 19,
    "neighbours": 4,
}
LEAST_UNITS = 5
LEAST_FOR_CONTINUITY = 40
MEASURES = ("silhouette", "hdbscan_noise", "between_weight", "mst_tail")


class Params(BaseModel):
    """Parameters of the encoding manifold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bandwidth: float | Literal["auto"] = Field(
        "auto",
        description="Standard deviation (s) of the kernel that smooths spikes; auto takes each "
        "unit's own, of 10 to 50 ms, by the likelihood of held-out trials.",
    )
    activation: str | None = Field(
        None, description="The one of several activations; default all, one behind the other."
    )
    window: float = Field(0.1, gt=0, description="Window (s) whose counts are tested.")
    settle: float = Field(0.25, ge=0, description="Time (s) after a trial that is no baseline.")
    alpha: float = Field(
        1e-3, gt=0, le=1, description="Largest p of a response against spontaneous activity."
    )
    false_discovery_rate: float = Field(
        0.05, gt=0, le=1, description="Largest rate, over units and stimuli, of significant ones."
    )
    shift: Shift = Field(
        "per_stimulus",
        description="A shift of direction for each unit and stimulus, one common to a unit's "
        "stimuli (which keeps how preferred directions differ between stimuli), or none.",
    )
    rank: int | Literal["auto"] = Field(
        "auto", description="Components; auto chooses among ranks by halves of the trials."
    )
    ranks: tuple[int, ...] = Field(
        (2, 3, 4, 5, 6, 8, 10, 12), description="Ranks of the curve; empty for none."
    )
    restarts: int = Field(20, ge=1, description="Random starts of the factorisation.")
    rank_restarts: int = Field(3, ge=1, description="Random starts for each rank of the curve.")
    splits: int = Field(2, ge=1, description="Splits of the trials into halves.")
    annealing: int = Field(100, ge=0, description="Iterations in which the shifts settle.")
    max_iterations: int = Field(300, ge=1, description="Iterations thereafter, at most.")
    variance: float = Field(
        0.8, gt=0, lt=1, description="Share of variance that the features' components keep."
    )
    neighbours: int = Field(10, ge=2, description="Neighbours in the graph of units.")
    components: int = Field(3, ge=1, description="Diffusion coordinates.")
    shuffles: int = Field(200, ge=1, description="Shuffles behind the p of selectivity.")
    surrogates: int = Field(
        100, ge=19, description="Continuous surrogates, and as many shuffles of the loadings."
    )


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Response tensor, significance, permuted factors, features, graph and diffusion map.

    Units that do not vary, or have no significant response, are not placed: they are NaN, and
    named in the attributes. Models and activations have no trial noise to test, so that all
    their responses count.

    Parameters
    ----------
    recording : DataTree
        With spikes cut into trials.
    latents : Dataset or None
        ``rate (trial, time, unit)`` in Hz, or activations.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``feature (unit, component)``, ``coordinate (unit, diffusion_component)``, ``component_of
        (unit)`` of the graph (-1 for none), ``neuron_factor (unit, rank_component)``,
        ``stimulus_factor``, ``response_factor (direction, time, rank_component)``, ``shift (unit,
        stimulus)`` in steps of direction, ``coefficient (unit, rank_component)``,
        ``significant`` and its p and q, tuning indices, ``local_dimension (unit)``, the curve of
        ranks, errors of the restarts, and the measures of continuity with their surrogates.

    Raises
    ------
    InputError
        Fewer than 5 units to place, or fewer than components asked for.
    """
    design = design_of(recording)
    tested = _tested(recording, latents, design, params)
    responses = _responses(recording, latents, design, params, None, seed)
    if latents is not None:
        tested = _all_significant(responses)
    maps = normalised_maps(responses["response"], tested["significant"])
    included = maps["included"].values
    rank, ranks = _ranks(recording, int(included.sum()), params)
    shift: Shift = params.shift if design.even else "none"
    tensor = maps["factorised"].values[included]
    curve = None
    if ranks:
        halves = _halves(recording, latents, design, params, tested, included, seed)
        curve = choose_rank(
            tensor, halves, ranks, shift=shift, restarts=params.rank_restarts,
            annealing=params.annealing, seed=seed, max_iterations=params.max_iterations,
        )  # fmt: skip
        rank = curve.chosen if rank == "auto" else rank
    assert rank != "auto"
    factors = permuted_ntf(
        tensor, rank, shift=shift, restarts=params.restarts, annealing=params.annealing,
        seed=seed, max_iterations=params.max_iterations,
    )  # fmt: skip
    features = neuron_features(
        maps["map"].values[included],
        maps["relative_peak"].values[included],
        (tested["significant"] & (maps["norm"] > 0)).values[included],
        factors,
        shift=shift,
        variance=params.variance,
    )
    found = of_units(responses, included, factors, features)
    found |= factor_variables(factors, features)
    found |= curve_variables(curve)
    result = xr.Dataset(found, coords=_coords(responses, curve))
    placed = _manifold(features.feature, features.coefficient, included, params, seed)
    result = result.merge(placed)
    result = result.merge(_tuning(recording, latents, design, params, responses, seed))
    kept = tested[["p", "q", "significant"]].rename(p="response_p", q="response_q")
    result = result.merge(kept.reset_coords(drop=True)).merge(responses[["trials", "bandwidth"]])
    result = result.assign(
        included=maps["included"].reset_coords(drop=True),
        relative_peak=maps["relative_peak"].reset_coords(drop=True),
    )
    result.attrs = _attrs(recording, latents, responses, tested, maps, factors, curve, shift)
    result.attrs |= placed.attrs | {"params": params.model_dump_json(), "seed": seed}
    return result


def _tested(
    recording: xr.DataTree, latents: xr.Dataset | None, design: Design, params: Params
) -> xr.Dataset:
    if latents is not None:
        return xr.Dataset()
    return significance(
        recording, design, window=params.window, settle=params.settle, alpha=params.alpha,
        false_discovery_rate=params.false_discovery_rate,
    )  # fmt: skip


def _all_significant(responses: xr.Dataset) -> xr.Dataset:
    shape = responses.sizes["unit"], responses.sizes["stimulus"]
    dims = ("unit", "stimulus")
    nothing = np.full(shape, np.nan)
    return xr.Dataset(
        {
            "p": (dims, nothing, {"units": "1"}),
            "q": (dims, nothing, {"units": "1"}),
            "significant": (dims, np.ones(shape, bool)),
        },
        coords={"unit": responses["unit"].values, "stimulus": responses["stimulus"].values},
        attrs={"spontaneous": "none: a model has no trial noise to test against"},
    )


def _responses(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    design: Design,
    params: Params,
    trials: np.ndarray | None,
    seed: int,
) -> xr.Dataset:
    return response_tensor(
        recording, latents, bandwidth=params.bandwidth, activation=params.activation,
        trials=trials, design=design, seed=seed,
    )  # fmt: skip


def _ranks(
    recording: xr.DataTree, units: int, params: Params
) -> tuple[int | Literal["auto"], list[int]]:
    """The rank asked for, and those of the curve that the number of units allows."""
    most = units if params.rank == "auto" else max(params.rank, LEAST_UNITS)
    if units < LEAST_UNITS or units < most:
        raise InputError(
            file=recording.attrs["session"],
            field="units",
            found=f"{units} units with a significant, varying response",
            expected=f"at least {most if units >= LEAST_UNITS else LEAST_UNITS}",
            fix="Lower `rank` or raise `alpha`, or leave the encoding manifold out",
        )
    ranks = [rank for rank in params.ranks if rank <= units]
    if params.rank == "auto" and not ranks:
        raise InputError(
            file="encoding", field="ranks", found=f"{params.ranks} for {units} units",
            expected="a rank of at most the number of units", fix="Lower `ranks`",
        )  # fmt: skip
    return params.rank, ranks


def _halves(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    design: Design,
    params: Params,
    tested: xr.Dataset,
    included: np.ndarray,
    seed: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Maps of both halves of the trials, for every split; none with one trial in some cell.

    Smoothing is 50 ms unless told otherwise: halves are too few to choose from.
    """
    if design.counts().min() < 2:
        return []
    fixed = params.model_copy(
        update={"bandwidth": 0.05 if params.bandwidth == "auto" else params.bandwidth}
    )
    pairs = []
    for number in range(params.splits):
        rng = generator(seed, "encoding halves", str(number))
        first, second = (
            normalised_maps(
                _responses(recording, latents, design, fixed, half, seed)["response"],
                tested["significant"],
            )["factorised"].values[included]
            for half in halves_of(design, rng)
        )
        if first.any() and second.any():
            pairs.append((first, second))
    return pairs


def _coords(responses: xr.Dataset, curve: RankCurve | None) -> dict[str, Any]:
    names = ("unit", "population", "stimulus", "direction", "time")
    coords = {name: responses[name] for name in names}
    if curve is not None:
        coords["rank"] = xr.DataArray(curve.ranks, dims="rank", attrs={"units": "components"})
    return coords


def _manifold(
    points: np.ndarray, loadings: np.ndarray, included: np.ndarray, params: Params, seed: int
) -> xr.Dataset:
    """Graph, diffusion map, local dimension and measures of continuity of the units placed."""
    from driftwave.graphs.continuity import continuity
    from driftwave.graphs.diffusion import diffusion_map
    from driftwave.graphs.knn import knn_graph
    from driftwave.graphs.local_dimension import local_dimension

    one = {"units": "1"}
    empty = np.full(len(included), np.nan)
    spread = len(points) > 2 and np.ptp(points, axis=0).any()
    neighbours = min(params.neighbours, len(points) - 2)
    count = min(params.components, len(points) - 1)
    coordinate = np.full((len(included), params.components), np.nan)
    label, dimension = np.full(len(included), -1), empty
    eigenvalues = np.full((0, params.components), np.nan)
    if spread:
        found = diffusion_map(knn_graph(points, neighbours), components=count)
        coordinate[included, :count] = found.coordinates
        label[included] = found.of
        eigenvalues = np.full((len(found.eigenvalues), params.components), np.nan)
        eigenvalues[:, :count] = found.eigenvalues
        dimension = filled(local_dimension(points, neighbours=neighbours), included)
    manifold = xr.Dataset(
        {
            "coordinate": (("unit", "diffusion_component"), coordinate, one),
            "eigenvalue": (("graph_component", "diffusion_component"), eigenvalues, one),
            "component_of": ("unit", label, {"units": "component of the graph"}),
            "local_dimension": ("unit", dimension, {"units": "dimensions"}),
        }
    )
    if not spread or len(points) < max(LEAST_FOR_CONTINUITY, neighbours + 1):
        for name in MEASURES:
            manifold = manifold.assign({name: ((), np.nan, one), f"{name}_z": ((), np.nan, one)})
        return manifold
    measured = continuity(
        points, surrogates=params.surrogates, seed=seed, neighbours=neighbours, loadings=loadings
    )
    verdict = measured.attrs.get("verdict", "")
    measured.attrs = {}
    return manifold.merge(measured).assign_attrs(continuity_verdict=verdict)


def _tuning(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    design: Design,
    params: Params,
    responses: xr.Dataset,
    seed: int,
) -> xr.Dataset:
    """Selectivity of trial means, with the name of the preferred stimulus."""
    if latents is None:
        spikes = recording["spikes"]
        counts = spikes.dataset["counts"][:, : seen_bins(recording)].mean("time")
        values = counts.values / float(spikes.attrs["bin_width"])
    else:
        activity = model_activity(recording, latents, params.activation)[0]
        values = activity[:, : seen_bins(recording)].mean(axis=1, dtype=float)
    activity_by_trial = xr.DataArray(
        values, dims=("trial", "unit"), coords={"unit": responses["unit"].values}
    )
    found = selectivity_with_null(activity_by_trial, design, shuffles=params.shuffles, seed=seed)
    names = np.array(design.stimulus)[found["preferred_stimulus"].values]
    return found.assign(preferred_stimulus=("unit", names))


def _attrs(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    responses: xr.Dataset,
    tested: xr.Dataset,
    maps: xr.Dataset,
    factors: PermutedFactors,
    curve: RankCurve | None,
    shift: str,
) -> dict[str, Any]:
    """What was done and left out, in words and numbers."""
    constant = maps["constant"].values
    silent = ~maps["included"].values & ~constant
    names = responses["unit"].values
    placed = int(maps["included"].sum())
    attrs: dict[str, Any] = dict(responses.attrs)
    attrs |= {
        "session": recording.attrs["session"],
        "source": "recording" if latents is None else str(latents.attrs.get("model", "latents")),
        "units_placed": placed,
        "units_constant": [str(n) for n in names[constant]],
        "units_without_significant_response": [str(n) for n in names[silent]],
        "responses_tested_against": tested.attrs["spontaneous"],
        "shift": shift,
        "rank": int(factors.neuron.shape[1]),
        "rank_rule": curve.rule if curve else "given",
        "rank_of_nuclear_norm": curve.flat if curve else -1,
        "best_restart": factors.best,
        "resampled": "trials within stimulus and direction (halves); whole population otherwise",
    }
    if curve is not None and curve.held_out_error.size == 0:
        attrs["halves"] = "none: some stimulus and direction has only one trial"
    if placed < LEAST_FOR_CONTINUITY:
        attrs["continuity_note"] = (
            f"not measured: {placed} units, fewer than {LEAST_FOR_CONTINUITY}"
        )
    return attrs
