"""Dynamic functional connectome: motifs of pairwise affinity and their communities, with a null."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.connectome.affinity import Affinities, Kind, affinities, square
from driftwave.connectome.behaviour import behaviour_at, correlations
from driftwave.connectome.communities import communities, renamed
from driftwave.connectome.motifs import Motifs, motifs_of, stability, surrogate_motifs
from driftwave.connectome.traces import Traces, traces_of
from driftwave.errors import InputError
from driftwave.readouts.null import p_value

PAPER = "Dyballa, Lang, Haslund-Gourley, Yemini and Zucker 2024, arXiv 2402.14102"
FEWEST_WINDOWS = 12


class Params(BaseModel):
    """Parameters of the analysis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signal: Literal["auto", "imaging", "spikes"] = Field(
        "auto", description="Imaging traces or spikes; auto takes imaging where there is any."
    )
    bin_width: float = Field(0.25, gt=0, description="Bins of spikes, s.")
    window: float | None = Field(
        None,
        gt=0,
        description="Standard deviation of the windows, s; default ten frames.",
    )
    smoothing: float | None = Field(
        None,
        ge=0,
        description="Standard deviation (s) of the Gaussian that smooths traces; default a frame.",
    )
    affinity: Kind = Field(
        "comoving", description="Affinity of derivatives (comoving) or of traces (correlation)."
    )
    most_units: int = Field(
        400, ge=4, description="Most units; of more, the most variable ones are taken."
    )
    rank: int | Literal["auto"] = Field(
        "auto", description="Motifs; auto takes the most stable number."
    )
    most_motifs: int = Field(8, ge=1, description="Largest number of motifs tried by auto.")
    tolerance: float = Field(
        0.05,
        ge=0,
        description="Auto takes the largest number whose correlation of halves is this near the "
        "best one's.",
    )
    splits: int = Field(4, ge=1, description="Halvings of the units.")
    restarts: int = Field(20, ge=1, description="Random starts of the factorisation.")
    surrogates: int = Field(39, ge=19, description="Recordings of shifted traces.")
    resolution: float = Field(1.0, gt=0, description="Resolution of the communities.")
    starts: int = Field(5, ge=1, description="Louvain runs per network, the best of which stays.")
    shifts: int = Field(1000, ge=19, description="Circular shifts of courses against behaviour.")


def analyse(recording: xr.DataTree, params: Params, *, seed: int) -> xr.Dataset:
    """Motifs of affinity between units, when they are active, and which communities they form.

    Affinities of all pairs in Gaussian windows (:func:`driftwave.connectome.affinity.affinities`)
    are factorised into non-negative motifs: a course in time and a network. Their number is the
    one whose courses agree best between two halves of the units. Edges of a network below the
    95 % point of the motifs of shifted traces are dropped, and the communities of the rest are
    Louvain's; those of a window are of the sum of all motifs as active then. Modularity is large
    in any sparse network, so it stands beside that of shifted traces with as many edges.

    Parameters
    ----------
    recording : DataTree
        With ``imaging`` or spikes with ``spike_times``.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``course (motif, time)``, ``affinity (motif, unit, other)``, ``community (motif, unit)``
        (-1: no edge), ``community_in_time (time, unit)``, ``modularity``, ``p_modularity``
        (motif), ``explained`` and ``null_explained (surrogate)`` with ``p_explained``,
        ``stability (rank, split)``, and ``behaviour_correlation``, ``p_behaviour``
        (motif, feature) where behaviour was recorded.

    Raises
    ------
    InputError
        No signal, fewer than 4 units that vary, a recording shorter than 12 windows, or a rank
        above what the windows can tell.
    """
    traces = traces_of(
        recording, params.signal, bin_width=params.bin_width, most_units=params.most_units
    )
    window = params.window or 10 * traces.step
    smoothing = traces.step if params.smoothing is None else params.smoothing

    def affinity_of(values: np.ndarray) -> Affinities:
        return affinities(
            traces.time, values, window=window, smoothing=smoothing, kind=params.affinity
        )

    found = affinity_of(traces.values)
    _check(recording, found, window, params)
    ranks = list(range(1, min(params.most_motifs, len(found.time) // 4) + 1))
    stable = stability(found, ranks, splits=params.splits, restarts=3, seed=seed)
    rank = _chosen(ranks, stable, params)
    motifs = motifs_of(found, rank, restarts=params.restarts, seed=seed)
    null = surrogate_motifs(
        traces.values, affinity_of, rank, surrogates=params.surrogates, seed=seed
    )
    variables = _networks(found, motifs, null, params, seed)
    variables |= {
        "course": (("motif", "time"), motifs.time, {"units": "1", "long_name": "mean 1"}),
        "stability": (("rank", "split"), stable, {"units": "1", "long_name": "correlation"}),
        "explained": ((), motifs.explained, {"units": "1"}),
        "null_explained": ("surrogate", [m.explained for m in null], {"units": "1"}),
        "error": ("restart", motifs.error, {"units": "1", "long_name": "relative residual"}),
    }
    variables["p_explained"] = (
        (),
        p_value(np.array(motifs.explained), np.array([m.explained for m in null])),
        {"units": "1"},
    )
    variables |= _behaviour(recording, found, motifs, window, params, seed)
    return _labelled(recording, traces, found, variables, ranks, rank, window, params, seed)


def _check(recording: xr.DataTree, found: Affinities, window: float, params: Params) -> None:
    windows = len(found.time)
    if windows < FEWEST_WINDOWS:
        raise InputError(
            file=recording.attrs["session"],
            field="connectome.params.window",
            found=f"{windows} windows of {window:g} s",
            expected=f"at least {FEWEST_WINDOWS}",
            fix="Lower `window`, or leave the connectome out for this session",
        )
    if params.rank != "auto" and params.rank > windows // 2:
        raise InputError(
            file=recording.attrs["session"],
            field="connectome.params.rank",
            found=params.rank,
            expected=f"at most {windows // 2}, half of the {windows} windows",
            fix="Lower `rank` or `window`",
        )


def _chosen(ranks: list[int], stable: np.ndarray, params: Params) -> int:
    if params.rank != "auto":
        return params.rank
    median = np.median(stable, axis=1)
    return ranks[np.flatnonzero(median >= median.max() - params.tolerance)[-1]]


def _networks(
    found: Affinities, motifs: Motifs, null: list[Motifs], params: Params, seed: int
) -> dict[str, Any]:
    """Networks of motifs and windows, their communities, and modularity beside its null."""
    edge = float(np.quantile(np.concatenate([m.pair.ravel() for m in null]), 0.95))

    def split(pairs: np.ndarray, least: float, starts: int) -> tuple[np.ndarray, float]:
        network = square(np.where(pairs > least, pairs, 0), found.units)
        return communities(network, resolution=params.resolution, starts=starts, seed=seed)

    labels, modularity = zip(
        *(split(pairs, edge, params.starts) for pairs in motifs.pair), strict=True
    )
    null_modularity = np.array(
        [
            [split(m.pair[0], _with_edges(m.pair[0], edges), 1)[1] for m in null]
            for edges in (motifs.pair > edge).sum(axis=1)
        ]
    )
    in_time = np.array([split(now @ motifs.pair, edge, 1)[0] for now in motifs.time.T])
    observed = np.array(modularity)
    one = {"units": "1"}
    return {
        "affinity": (
            ("motif", "unit", "other"),
            square(motifs.pair, found.units).astype(np.float32),
            {"units": "1", "long_name": "affinity while the motif's course is 1"},
        ),
        "community": (("motif", "unit"), np.array(labels), one),
        "community_in_time": (("time", "unit"), renamed(in_time), one),
        "modularity": ("motif", observed, one),
        "null_modularity": (
            ("motif", "surrogate"),
            null_modularity,
            {"units": "1", "long_name": "heaviest motif of shifted traces, as many edges"},
        ),
        "p_modularity": ("motif", p_value(observed, null_modularity), one),
        "edge": ((), edge, {"units": "1", "long_name": "least affinity of an edge"}),
    }


def _with_edges(pairs: np.ndarray, edges: int) -> float:
    """Affinity above which there are as many pairs as asked for."""
    if edges >= len(pairs):
        return -np.inf
    return float(np.partition(pairs, len(pairs) - edges - 1)[len(pairs) - edges - 1])


def _behaviour(
    recording: xr.DataTree,
    found: Affinities,
    motifs: Motifs,
    window: float,
    params: Params,
    seed: int,
) -> dict[str, Any]:
    behaviour = behaviour_at(recording, found.time, window)
    if not behaviour:
        return {}
    observed, p = correlations(motifs.time, behaviour, shifts=params.shifts, seed=seed)
    return {
        "behaviour_correlation": (("motif", "feature"), observed, {"units": "1"}),
        "p_behaviour": (("motif", "feature"), p, {"units": "1"}),
        "behaviour": (
            ("feature", "time"),
            np.stack(list(behaviour.values())),
            {"units": "as recorded"},
        ),
        "feature": ("feature", list(behaviour)),
    }


def _labelled(
    recording: xr.DataTree,
    traces: Traces,
    found: Affinities,
    variables: dict[str, Any],
    ranks: list[int],
    rank: int,
    window: float,
    params: Params,
    seed: int,
) -> xr.Dataset:
    feature = variables.pop("feature", None)
    coords: dict[str, Any] = {
        "motif": np.arange(1, rank + 1),
        "time": ("time", found.time, {"units": "s"}),
        "unit": traces.labels,
        "other": traces.labels,
        "rank": ranks,
    }
    if feature is not None:
        coords["feature"] = feature
    attrs = {
        "session": recording.attrs["session"],
        "rank": rank,
        "rank_rule": f"as given ({rank})"
        if params.rank != "auto"
        else f"largest with a median correlation within {params.tolerance:g} of the best",
        "window": window,
        "null": "each trace shifted circularly by itself",
        "left_out": "; ".join(f"{why}: {ids}" for why, ids in traces.left_out.items()),
        "params": params.model_dump_json(),
        "seed": seed,
    }
    return xr.Dataset(variables, coords, attrs)
