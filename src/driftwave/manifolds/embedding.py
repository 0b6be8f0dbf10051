"""Trials, conditions or time points in few dimensions, with what the embedding keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import dask
import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.geometry.activity import Activity, Session, activities, session_of
from driftwave.geometry.dimension import circular_shifts, isometric
from driftwave.geometry.embedding_quality import (
    Voters,
    distance_correlation,
    kept_neighbourhoods,
    separability,
    told_behaviour,
    voters,
)
from driftwave.geometry.embeddings import Embedding, Method, embed
from driftwave.geometry.points import (
    Grid,
    allowed_neighbours,
    chosen_kind,
    condition_grid,
    make_grid,
    shuffled_places,
    take,
)
from driftwave.geometry.two_nn import squared_distances
from driftwave.nulls.multiplicity import benjamini_hochberg
from driftwave.readouts.null import p_value
from driftwave.readouts.targets import Target, angle_pairs, behaviour_targets

PAPER = "Tenenbaum et al. 2000, 10.1126/science.290.5500.2319; Coifman & Lafon 2006; McInnes 2018"
QUICK = {"methods": ["pca", "isomap", "diffusion"], "surrogates": 2, "most_points": 80}
KEPT = ("trustworthiness", "continuity", "distance_correlation")


class Params(BaseModel):
    """Parameters of the analysis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: tuple[Method, ...] = Field(
        ("pca", "isomap", "umap", "diffusion"), min_length=1, description="Embeddings made."
    )
    points: Literal["auto", "trials", "conditions", "time_points", "trajectories"] = Field(
        "auto",
        description="What is embedded; auto is trials where they have conditions, else bins; "
        "trajectories are condition averages, bin by bin.",
    )
    components: int = Field(3, ge=2, description="Dimensions of the embeddings.")
    neighbours: int = Field(15, ge=2, description="Neighbours of graphs, votes and quality.")
    most_points: int = Field(1000, ge=20, description="Points drawn at random if there are more.")
    surrogates: int = Field(19, ge=1, description="Activity shifted and embedded again.")
    permutations: int = Field(1000, ge=1000, description="Labels permuted or shifted.")
    gap: float = Field(
        1.0, ge=0, description="Time (s) around a point of abutting windows without neighbours."
    )
    smoothing: float = Field(
        0.05, ge=0, description="Standard deviation (s) of the Gaussian that smooths the counts."
    )
    standardise: bool = Field(
        False, description="Give every unit or latent the same variance first."
    )


@dataclass(frozen=True)
class Embedded:
    """One embedding of one set of features; nulls along the last axis."""

    embedding: Embedding
    kept: dict[str, float]
    null_kept: dict[str, np.ndarray]
    separability: float
    null_separability: np.ndarray
    told: np.ndarray
    null_told: np.ndarray


@dataclass(frozen=True)
class Labels:
    """What is told from an embedding.

    Attributes
    ----------
    condition : ndarray of int (row, column)
    behaviour : ndarray (row, column, target)
    features : list of (str, list of int)
        Behaviour features with their targets: an angle has two.
    allowed : ndarray of bool (point, point)
    shuffled : list of ndarray (point,)
    """

    condition: np.ndarray
    behaviour: np.ndarray
    features: list[tuple[str, list[int]]]
    allowed: np.ndarray
    shuffled: list[np.ndarray]


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Embeddings of smoothed counts (``latents`` None) or of a model's output or activations.

    What an embedding keeps is measured against the same embedding of activity with every dim
    shifted circularly by itself. Conditions and behaviour are told from the nearest neighbours in
    the embedding, never of the same trial (nor, in abutting windows, closer than ``gap``), against
    labels of permuted trials (or labels shifted in time). No interval is given: p values come
    from these shuffles, and points are not taken for independent samples.

    Parameters
    ----------
    recording : DataTree
        With spikes and trials.
    latents : Dataset or None
        ``rate (trial, time, unit)`` in Hz, ``latent (trial, time, latent)``, or activations.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``coordinate (features_from, embedding, point, component)``, NaN in pieces of the graph too
        small to embed; ``graph_component (features_from, embedding, point)``; ``trustworthiness``,
        ``continuity``, ``distance_correlation``, ``separability`` (features_from, embedding) and
        ``behaviour_r2 (features_from, embedding, feature)``, each with ``null_``, ``p_`` and ``q_``
        (false discovery rate over all sets and methods); ``separability_activity`` and
        ``behaviour_r2_activity``, the same from neighbours in the activity itself.

    Raises
    ------
    InputError
        No spikes; latents that cannot be used; fewer than two dims that vary; fewer points than
        three more than components; points that the session does not have.
    """
    session = session_of(recording)
    kind = chosen_kind(params.points, session)
    sources = activities(
        recording,
        latents,
        session,
        smoothing=params.smoothing,
        standardise=params.standardise,
    )
    rng = generator(seed, "embedding", "points")
    grid = make_grid(sources[0].values, kind, session, params.most_points, rng)
    if len(grid.at) < params.components + 3:
        raise InputError(
            file=session.name,
            field="points",
            found=f"{len(grid.at)} {kind.replace('_', ' ')}",
            expected=f"at least {params.components + 3}",
            fix="Embed trials or time_points, or lower `components`",
        )
    labels = _labels(recording, session, grid, params, seed)
    found: dict[tuple[str, str], Embedded] = {}
    direct: dict[str, tuple[float, np.ndarray]] = {}
    for activity in sources:
        points = isometric(take(grid, activity.values, session))
        share, _, told, _ = _told(points, np.zeros(len(points), int), grid, labels, params)
        direct[activity.name] = share, told
        found |= {
            (activity.name, method): embedded
            for method, embedded in _embed_all(
                activity, points, session, grid, labels, params, seed
            ).items()
        }
    return _dataset(sources, found, direct, session, grid, labels, params, seed)


def _labels(
    recording: xr.DataTree, session: Session, grid: Grid, params: Params, seed: int
) -> Labels:
    targets = behaviour_targets(recording) if grid.kind == "time_points" else []
    pairs = angle_pairs(targets)
    features: list[tuple[str, list[int]]] = []
    for i, target in enumerate(targets):
        if target.component != "sin":
            features.append((target.feature, list(pairs.get(target.feature, (i,)))))
    rng = generator(seed, "embedding", "labels")
    by_row = grid.kind in ("trials", "time_points")
    count = params.permutations if by_row else 0
    return Labels(
        condition=condition_grid(grid, session),
        behaviour=_behaviour(targets, session, grid),
        features=features,
        allowed=allowed_neighbours(grid, session, params.gap),
        shuffled=list(shuffled_places(grid, session, params.gap, count, rng)) if by_row else [],
    )


def _behaviour(targets: list[Target], session: Session, grid: Grid) -> np.ndarray:
    if not targets:
        return np.zeros((*grid.shape, 0))
    return np.stack([target.values[session.used] for target in targets], axis=-1)


def _embed_all(
    activity: Activity,
    points: np.ndarray,
    session: Session,
    grid: Grid,
    labels: Labels,
    params: Params,
    seed: int,
) -> dict[str, Embedded]:
    squared = squared_distances(points)
    embeddings = {m: _embed(points, m, params, seed) for m in params.methods}
    null: dict[str, dict[str, list[float]]] = {m: {k: [] for k in KEPT} for m in params.methods}
    rng = generator(seed, "embedding", "shifts", activity.name)
    for shifted in circular_shifts(activity.rows, params.surrogates, rng):
        values = shifted.T.reshape(activity.values.shape)
        other = isometric(take(grid, values, session))
        for method, kept in _kept_by_method(other, params, seed).items():
            for name, value in kept.items():
                null[method][name].append(value)
    found: dict[str, Embedded] = {}
    for method, embedding in embeddings.items():
        told = _told(embedding.coordinates, embedding.of, grid, labels, params)
        found[method] = Embedded(
            embedding,
            _kept(points, squared, embedding, params),
            {name: np.array(values) for name, values in null[method].items()},
            *told,
        )
    return found


def _kept_by_method(points: np.ndarray, params: Params, seed: int) -> dict[str, dict[str, float]]:
    """What each embedding of surrogate points keeps; UMAP alone does not run in threads."""
    squared = squared_distances(points)

    def one(method: Method) -> dict[str, float]:
        return _kept(points, squared, _embed(points, method, params, seed), params)

    others = [m for m in params.methods if m != "umap"]
    kept = dict(zip(others, dask.compute(*[dask.delayed(one)(m) for m in others]), strict=True))
    if "umap" in params.methods:
        kept["umap"] = one("umap")
    return kept


def _embed(points: np.ndarray, method: Method, params: Params, seed: int) -> Embedding:
    return embed(
        points,
        method,
        components=params.components,
        neighbours=params.neighbours,
        seed=seed,
    )


def _kept(
    points: np.ndarray, squared: np.ndarray, embedding: Embedding, params: Params
) -> dict[str, float]:
    trust, continuity = kept_neighbourhoods(points, embedding, params.neighbours)
    return dict(
        zip(KEPT, (trust, continuity, distance_correlation(squared, embedding)), strict=True)
    )


def _told(
    coordinates: np.ndarray, of: np.ndarray, grid: Grid, labels: Labels, params: Params
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Separability, its null, R2 (feature,) and its null (feature, shuffle)."""
    empty = np.full(len(labels.features), np.nan)
    if grid.kind in ("conditions", "trajectories"):
        return np.nan, np.zeros(0), empty, np.zeros((len(empty), 0))
    near: Voters = voters(coordinates, of, labels.allowed, params.neighbours)
    share, null = separability(near, labels.condition, grid.at, labels.shuffled)
    r2, null_r2 = told_behaviour(near, labels.behaviour, grid.at, labels.shuffled)
    columns = [columns for _, columns in labels.features]
    told = np.array([r2[c].mean() for c in columns])
    null_told = np.array([null_r2[:, c].mean(axis=1) for c in columns])
    return share, null, told, null_told.reshape(len(columns), len(labels.shuffled))


def _dataset(
    sources: list[Activity],
    found: Mapping[tuple[str, str], Embedded],
    direct: Mapping[str, tuple[float, np.ndarray]],
    session: Session,
    grid: Grid,
    labels: Labels,
    params: Params,
    seed: int,
) -> xr.Dataset:
    names, methods = [a.name for a in sources], list(params.methods)

    def table(values: Any) -> np.ndarray:
        return np.array([[values(found[name, method]) for method in methods] for name in names])

    dims = ("features_from", "embedding")
    variables: dict[str, Any] = {
        "coordinate": (
            (*dims, "point", "component"),
            table(lambda e: e.embedding.coordinates),
            {"units": "arbitrary"},
        ),
        "graph_component": (
            (*dims, "point"),
            table(lambda e: e.embedding.of),
            {"units": "1", "long_name": "connected component of the graph, 0 the largest"},
        ),
        "embedded_share": (
            dims,
            table(lambda e: e.embedding.there.mean()),
            {"units": "1", "long_name": "share of the points embedded"},
        ),
    }
    for name in KEPT:
        variables |= _tested(
            name,
            dims,
            table(lambda e, name=name: e.kept[name]),
            table(lambda e, name=name: e.null_kept[name]),
            "surrogate",
        )
    if labels.shuffled:
        share, null = table(lambda e: e.separability), table(lambda e: e.null_separability)
        variables |= _tested("separability", dims, share, null, "permutation")
        of_activity = np.array([direct[name][0] for name in names])
        variables["separability_activity"] = dims[:1], of_activity, {"units": "1"}
    if labels.features:
        told, null = table(lambda e: e.told), table(lambda e: e.null_told)
        variables |= _tested("behaviour_r2", (*dims, "feature"), told, null, "permutation")
        of_activity = np.array([direct[name][1] for name in names])
        variables["behaviour_r2_activity"] = (dims[0], "feature"), of_activity, {"units": "1"}
        variables["behaviour_of_point"] = (
            ("point", "target"),
            labels.behaviour.reshape(grid.shape[0] * grid.shape[1], -1)[grid.at],
            {"units": "as recorded; angles as cosine and sine"},
        )
    coords: dict[str, Any] = {
        "features_from": names,
        "embedding": methods,
        "component": np.arange(1, params.components + 1),
        "feature": [name for name, _ in labels.features],
        "condition_of_point": ("point", labels.condition.ravel()[grid.at]),
        **_places(session, grid),
    }
    if labels.features:
        coords["target_feature"] = (
            "target",
            [name for name, columns in labels.features for _ in columns],
        )
    if session.conditions.labels:
        coords["condition"] = session.conditions.labels
    attrs = {
        "session": session.name,
        "points": grid.kind,
        "points_available": grid.available,
        "condition_rule": session.conditions.rule,
        "conditions_circular": session.conditions.circular,
        "null": "circular shift of each dim by itself; labels: "
        + ("circular shift in time" if session.contiguous else "permutation of trials"),
        "constant_dims": ", ".join(f"{a.name}: {a.constant}" for a in sources),
        "params": params.model_dump_json(),
        "seed": seed,
    }
    return xr.Dataset(variables, coords, attrs)


def _tested(
    name: str, dims: tuple[str, ...], values: np.ndarray, null: np.ndarray, along: str
) -> dict[str, Any]:
    """A measure with its null, p and q."""
    p = p_value(values, null)
    q = np.full(p.shape, np.nan)
    there = np.isfinite(p)
    q[there] = benjamini_hochberg(p[there])
    own = {"units": "1"}
    return {
        name: (dims, values, own),
        f"null_{name}": ((*dims, along), null, own),
        f"p_{name}": (dims, p, own),
        f"q_{name}": (dims, q, own | {"long_name": "false discovery rate over sets and methods"}),
    }


def _places(session: Session, grid: Grid) -> dict[str, Any]:
    """Which trial and time each point is of."""
    places: dict[str, Any] = {}
    if grid.kind in ("trials", "time_points"):
        places["trial_of_point"] = "point", session.trial[grid.row]
    if grid.kind in ("time_points", "trajectories") and grid.shape[1] > 1:
        places["time_of_point"] = "point", session.time[grid.column], {"units": "s"}
    return places
