"""The comparison as one labelled data set."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from driftwave.alignment.halves import Halved
from driftwave.alignment.mds import COMPONENTS, embed
from driftwave.alignment.pair import Compared
from driftwave.alignment.params import Params
from driftwave.nulls.multiplicity import benjamini_hochberg
from driftwave.readouts.null import p_value

SCORES = ("cca_correlation", "procrustes_r2", "decoding_accuracy")

# What a distance is, its unit, and what is done about its bias.
MEASURES = {
    "cca": ("1 - held-out correlation of canonical variates", "1", "held-out conditions"),
    "procrustes": ("1 - held-out R2 of Procrustes, mean of both ways", "1", "held-out conditions"),
    "shape": (
        "angular Procrustes distance",
        "rad",
        "none: fitted to what it is taken of; see its ceiling",
    ),
    "shape_size": (
        "Procrustes size-and-shape distance, root mean square per unit",
        "{unit}",
        "none: fitted to what it is taken of; see its ceiling",
    ),
    "shape_stochastic": (
        "Gaussian-Wasserstein shape distance of single trials",
        "1",
        "covariances shrunk (Ledoit-Wolf); see its ceiling",
    ),
    "rsa": (
        "1 - whitened correlation of RDMs",
        "1",
        "crossnobis distances are unbiased; their correlation is attenuated, see its ceiling",
    ),
    "cka": ("1 - linear CKA", "1", "unbiased HSIC"),
    "dsa": ("Wasserstein distance of eigenvalues of delay-embedded dynamics", "1", "none"),
    "gromov_wasserstein": (
        "Gromov-Wasserstein distance of encoding manifolds",
        "1",
        "none: halves of the units, equal numbers; see its ceiling",
    ),
}

CEILING = "between the halves of one session, mean of the pair: the least that noise allows"


@dataclass
class Pairs:
    """Everything found, by pair of positions (i < j) among the sessions."""

    sessions: list[Halved]
    reasons: dict[tuple[int, int], str]
    labels: dict[tuple[int, int], list[str]]
    across: dict[tuple[int, int], Compared]
    within: dict[tuple[int, int], tuple[Compared, ...]]
    gromov: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    gromov_within: dict[tuple[int, int], float] = field(default_factory=dict)


def dataset(
    pairs: Pairs, measures: list[str], missing: dict[str, str], params: Params, seed: int
) -> xr.Dataset:
    """The stored result; see :func:`driftwave.alignment.compare.compare`."""
    names = [h.session.name for h in pairs.sessions]
    conditions = list(dict.fromkeys(label for h in pairs.sessions for label in h.session.labels))
    unit = pairs.sessions[0].session.unit
    variables = _score_variables(pairs, params.shuffles, params.dims)
    variables |= _distance_variables(pairs, measures, params, seed)
    variables |= _pair_variables(pairs, conditions)
    sizes = [h.session for h in pairs.sessions]
    variables |= {
        "trials": ("session", [len(np.unique(s.group)) for s in sizes], {"units": "trials"}),
        "dims": ("session", [s.values.shape[-1] for s in sizes], {"units": "dims"}),
        "dims_left_out": (
            "session",
            [s.left_out for s in sizes],
            {"units": "dims", "long_name": "dims without variation"},
        ),
    }
    coords: dict[str, Any] = {
        "session": names,
        "other": names,
        "measure": measures,
        "score": list(SCORES),
        "condition": conditions,
        "canonical": np.arange(1, params.dims + 1),
        "mds_component": np.arange(1, COMPONENTS + 1),
        "unit_of_measure": ("measure", [MEASURES[m][1].format(unit=unit) for m in measures]),
        "meaning": ("measure", [MEASURES[m][0] for m in measures]),
        "bias_correction": ("measure", [MEASURES[m][2] for m in measures]),
    }
    timed = next((s for s in sizes if s.by_trial), None)
    not_taken = {f"{names[i]}, {names[j]}": c.reasons for (i, j), c in pairs.across.items()}
    attrs = {
        "features": sizes[0].feature,
        "condition_rules": json.dumps({s.name: s.rule for s in sizes}),
        "null": "conditions of one session permuted; gromov_wasserstein: components of the "
        "coordinates permuted over units; dsa: trajectories of the same covariance and "
        "smoothness in random order",
        "measures_left_out": json.dumps(missing),
        "measures_not_taken": json.dumps({k: v for k, v in not_taken.items() if v}),
        "bin_width": timed.bin_width if timed else np.nan,
        "time_start": float(timed.time[0]) if timed else np.nan,
        "time_stop": float(timed.time[-1] + timed.bin_width) if timed else np.nan,
        "params": params.model_dump_json(),
        "seed": seed,
    }
    return xr.Dataset(variables, coords, attrs)


def _score_variables(pairs: Pairs, shuffles: int, dims_kept: int) -> dict[str, Any]:
    count = len(pairs.sessions)
    shape = len(SCORES), count, count
    score, ceiling, floor = np.full((3, *shape), np.nan)
    null = np.full((*shape, shuffles), np.nan)
    chance = np.full((count, count), np.nan)
    for (i, j), found in pairs.across.items():
        chance[i, j] = chance[j, i] = found.chance
        for k, name in enumerate(SCORES):
            back = name if name == "cca_correlation" else f"{name}_back"
            for (row, column), key in (((i, j), name), ((j, i), back)):
                if key not in found.score:
                    continue
                values = found.score[key]
                score[k, row, column], null[k, row, column] = values[0], values[1:]
                floor[k, row, column] = found.floor[key]
            ceiling[k, i, j], ceiling[k, j, i] = _score_ceilings(name, found, pairs.within[i, j])
    p = p_value(score, null)
    dims = ("score", "session", "other")
    one = {"units": "1"}
    return {
        "aligned_score": (dims, score, one),
        "aligned_score_ceiling": (dims, ceiling, one | {"long_name": "what noise allows"}),
        "aligned_score_floor": (dims, floor, one | {"long_name": "matched by order alone"}),
        "null_aligned_score": ((*dims, "shuffle"), null.astype(np.float32), one),
        "aligned_score_p_value": (dims, p, one),
        "aligned_score_q_value": (dims, _q_values(p), one),
        "chance": (
            dims[1:],
            chance,
            {**one, "long_name": "accuracy by chance, conditions decoded together"},
        ),
        "correlation": _correlations(pairs, "correlation", dims_kept),
        "correlation_floor": _correlations(pairs, "correlation_floor", dims_kept),
        "correlation_ceiling": _correlation_ceilings(pairs, dims_kept),
    }


def _score_ceilings(
    name: str, found: Compared, within: tuple[Compared, ...]
) -> tuple[float, float]:
    """Of the pair (i, j) and of (j, i).

    Two noisy views of one signal correlate by the root of the product of their reliabilities
    (Spearman 1904); a decoder cannot do better than the tested session's own.
    """
    if name == "decoding_accuracy":
        return found.within.get(name, np.nan), found.within.get(f"{name}_back", np.nan)
    own = [max(0.0, float(w.score[name][0])) for w in within]
    both = float(np.sqrt(own[0] * own[1]))
    return both, both


def _correlations(
    pairs: Pairs, name: str, dims_kept: int
) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
    values = np.full((len(pairs.sessions), len(pairs.sessions), dims_kept), np.nan)
    for (i, j), found in pairs.across.items():
        own = getattr(found, name)
        values[i, j, : len(own)] = values[j, i, : len(own)] = own
    return ("session", "other", "canonical"), values, {"units": "1"}


def _correlation_ceilings(
    pairs: Pairs, dims_kept: int
) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
    values = np.full((len(pairs.sessions), len(pairs.sessions), dims_kept), np.nan)
    for (i, j), (first, second) in pairs.within.items():
        size = min(len(first.correlation), len(second.correlation))
        product = np.maximum(first.correlation[:size], 0) * np.maximum(second.correlation[:size], 0)
        values[i, j, :size] = values[j, i, :size] = np.sqrt(product)
    return ("session", "other", "canonical"), values, {"units": "1"}


def _distance_variables(
    pairs: Pairs, measures: list[str], params: Params, seed: int
) -> dict[str, Any]:
    count = len(pairs.sessions)
    shape = len(measures), count, count
    distance, ceiling = np.full((2, *shape), np.nan)
    null = np.full((*shape, params.shuffles), np.nan)
    diagonal = np.arange(count)
    distance[:, diagonal, diagonal] = 0.0
    for k, measure in enumerate(measures):
        for pair in pairs.across:
            values, own = _distance_of(pairs, pair, measure)
            for i, j in (pair, pair[::-1]):
                distance[k, i, j], ceiling[k, i, j] = values[0], own
                null[k, i, j, : len(values) - 1] = values[1:][: params.shuffles]
        if measure == "gromov_wasserstein":
            for pair, values in pairs.gromov.items():
                for i, j in (pair, pair[::-1]):
                    distance[k, i, j], ceiling[k, i, j] = values[0], pairs.gromov_within[pair]
                    null[k, i, j, : len(values) - 1] = values[1:][: params.shuffles]
    return _with_picture(distance, ceiling, null, seed)


def _distance_of(pairs: Pairs, pair: tuple[int, int], measure: str) -> tuple[np.ndarray, float]:
    found = pairs.across[pair].distance.get(measure, np.array([np.nan]))
    own = [w.distance.get(measure, np.array([np.nan]))[0] for w in pairs.within[pair]]
    return found, float(np.mean(own))


def _with_picture(
    distance: np.ndarray, ceiling: np.ndarray, null: np.ndarray, seed: int
) -> dict[str, Any]:
    drawn = np.isfinite(null).sum(axis=-1)
    at_least = (null <= distance[..., None]).sum(axis=-1)
    apart = ~np.eye(distance.shape[1], dtype=bool)
    p = np.where((drawn > 0) & apart, (1 + at_least) / (1 + drawn), np.nan)
    floor = np.full(distance.shape, np.nan)
    some = drawn > 0
    floor[some] = np.nanmean(null[some], axis=-1)
    pictures = [embed(matrix, seed) for matrix in distance]
    dims = ("measure", "session", "other")
    mixed = {"units": "see unit_of_measure"}
    return {
        "distance": (dims, distance, mixed),
        "distance_ceiling": (dims, ceiling, {**mixed, "long_name": CEILING}),
        "distance_floor": (dims, floor, {**mixed, "long_name": "mean of the null"}),
        "null_distance": ((*dims, "shuffle"), null.astype(np.float32), mixed),
        "p_value": (dims, p, {"units": "1", "long_name": "of so small a distance"}),
        "q_value": (dims, _q_values(p), {"units": "1"}),
        "mds": (
            ("measure", "session", "mds_component"),
            np.array([places for places, _ in pictures]).reshape(
                len(pictures), distance.shape[1], COMPONENTS
            ),
            mixed,
        ),
        "stress": (
            "measure",
            np.array([stress for _, stress in pictures], dtype=float),
            {"units": "1", "long_name": "Kruskal's stress-1"},
        ),
    }


def _q_values(p: np.ndarray) -> np.ndarray:
    """False discovery rates over the pairs of sessions, for each measure by itself."""
    q = np.full(p.shape, np.nan)
    for row, values in zip(q, p, strict=True):
        # Both orders of a pair with the same p are one test.
        symmetric = np.array_equal(values, values.T, equal_nan=True)
        tested = np.isfinite(values) & (np.triu(np.ones(values.shape, bool)) if symmetric else True)
        row[tested] = benjamini_hochberg(values[tested])
        if symmetric:
            row.T[tested] = row[tested]
    return q


def _pair_variables(pairs: Pairs, conditions: list[str]) -> dict[str, Any]:
    count = len(pairs.sessions)
    shared = np.zeros((count, count, len(conditions)), bool)
    used = np.zeros((count, count), int)
    reason = np.full((count, count), "", dtype=object)
    place = {label: k for k, label in enumerate(conditions)}
    for (i, j), why in pairs.reasons.items():
        reason[i, j] = reason[j, i] = why
    for (i, j), found in pairs.across.items():
        used[i, j] = used[j, i] = found.dims
        for label in pairs.labels[i, j]:
            shared[i, j, place[label]] = shared[j, i, place[label]] = True
    kept = np.zeros((count, len(conditions)), bool)
    for i, h in enumerate(pairs.sessions):
        kept[i, [place[label] for label in h.labels]] = True
    dims = ("session", "other")
    return {
        "shared": ((*dims, "condition"), shared),
        "shared_conditions": (dims, shared.sum(axis=-1), {"units": "conditions"}),
        "kept": (("session", "condition"), kept, {"long_name": "enough trials in every half"}),
        "dims_used": (dims, used, {"units": "components"}),
        "reason": (dims, reason.astype(str), {"long_name": "why a pair was not compared"}),
    }
