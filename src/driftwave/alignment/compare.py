"""Sessions or animals beside one another: aligned scores, distances with their nulls, a picture.

The populations of two sessions share no unit. What can be compared is how their activity differs
between the conditions both have seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import dask
import numpy as np
import xarray as xr

from driftwave.alignment import dynamics, gromov
from driftwave.alignment.halves import Halved, halve
from driftwave.alignment.pair import Compared, compare_pair, shared_labels, why_not
from driftwave.alignment.params import QUICK, Params
from driftwave.alignment.results import Pairs, dataset
from driftwave.alignment.sessions import read_sessions
from driftwave.compute import generator
from driftwave.errors import InputError

__all__ = ["PAPER", "QUICK", "Params", "compare"]

PAPER = (
    "Gallego et al. 2020, 10.1038/s41593-019-0555-4; Williams et al. 2021, 2110.14739; "
    "Duong et al. 2023, 2211.11665; Walther et al. 2016, 10.1016/j.neuroimage.2015.12.012; "
    "Song et al. 2012, JMLR 13:1393; Ostrow et al. 2023, 2306.10168"
)

OF_CONDITIONS = (
    "cca",
    "procrustes",
    "shape",
    "shape_size",
    "shape_stochastic",
    "rsa",
    "cka",
    "dsa",
)


def compare(
    recordings: Mapping[str, xr.DataTree],
    latents: Mapping[str, xr.Dataset],
    encodings: Mapping[str, xr.Dataset],
    params: Params,
    *,
    seed: int,
) -> xr.Dataset:
    """Compare every pair of sessions by the conditions both have.

    Every number is of one half of a session's trials against the other half of the other's,
    averaged over random halves; the same of the two halves of one session is what its noise
    allows (ceiling). Alignment is fitted on training conditions and scored on held-out ones, and
    stands beside components matched by their order alone (floor). The null permutes the
    conditions of one session of the pair.

    Parameters
    ----------
    recordings : mapping of str to DataTree
        By name of the session, in the order of the result.
    latents : mapping of str to Dataset
        A model's output or activations of every session; empty for smoothed counts.
    encodings : mapping of str to Dataset
        Encoding manifolds, of all sessions, some or none.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``aligned_score (score, session, other)``: held-out correlation of canonical variates,
        held-out R2 of ``other`` from ``session`` by Procrustes, accuracy in ``other`` of a decoder
        fitted to ``session`` (``chance`` beside it); with ``aligned_score_ceiling``,
        ``aligned_score_floor``, ``null_aligned_score (..., shuffle)``, ``aligned_score_p_value``
        and ``aligned_score_q_value``. ``distance (measure, session, other)`` with
        ``distance_ceiling`` (between halves of one session), ``null_distance``,
        ``distance_floor`` (its mean), ``p_value`` and ``q_value``; ``mds (measure, session,
        mds_component)`` and ``stress (measure)``. ``shared (session, other, condition)``,
        ``dims_used`` and ``reason`` (why a pair was not compared) of each pair.

    Raises
    ------
    InputError
        Fewer than two sessions; no pair with three shared conditions; a measure asked for that
        cannot be had; see also :func:`driftwave.alignment.sessions.read_sessions`.
    """
    measures, missing = _measures(recordings, encodings, params)
    sessions = [
        halve(session, params.splits, seed)
        for session in read_sessions(recordings, latents, params)
    ]
    pairs = _pairs(sessions, measures, params, seed)
    if "gromov_wasserstein" in measures:
        _add_gromov(pairs, encodings, params, seed)
    return dataset(pairs, measures, missing, params, seed)


def _measures(
    recordings: Mapping[str, xr.DataTree], encodings: Mapping[str, xr.Dataset], params: Params
) -> tuple[list[str], dict[str, str]]:
    """Measures to take, and why others cannot be taken."""
    known = sum(name in encodings for name in recordings)
    missing = {}
    if not dynamics.installed():
        missing["dsa"] = "the package dsa-metric is not installed"
    if known < 2:
        missing["gromov_wasserstein"] = f"encoding manifolds of {known} sessions"
    possible = [m for m in (*OF_CONDITIONS, "gromov_wasserstein") if m not in missing]
    if params.measures is None:
        return possible, missing
    for measure in params.measures:
        if measure in missing:
            fix = {
                "dsa": "Install the extra `dsa` (pip install driftwave[dsa]) or leave it out",
                "gromov_wasserstein": "Give an encoding manifold for each session or leave it out",
            }
            raise InputError(
                file="alignment",
                field="measures",
                found=missing[measure],
                expected=f"what {measure!r} needs",
                fix=fix[measure],
            )
    return [m for m in possible if m in params.measures], {}


def _pairs(sessions: list[Halved], measures: list[str], params: Params, seed: int) -> Pairs:
    """Every pair compared, and each session with itself in the conditions of each pair."""
    reasons = {
        (i, j): why_not(a, b)
        for i, a in enumerate(sessions)
        for j, b in enumerate(sessions)
        if i < j
    }
    chosen = [pair for pair, reason in reasons.items() if not reason]
    if not chosen:
        raise InputError(
            file="alignment",
            field="conditions",
            found="; ".join(
                f"{sessions[i].session.name} and {sessions[j].session.name}: {reason}"
                for (i, j), reason in reasons.items()
            ),
            expected="at least one pair of sessions with 3 conditions in common",
            fix="Group sessions of the same task, with at least 4 trials of each condition",
        )

    @dask.delayed
    def run(i: int, j: int, labels: list[str], shuffles: int, dims: int | None) -> Compared:
        return compare_pair(
            sessions[i],
            sessions[j],
            labels,
            measures,
            params,
            seed=seed,
            shuffles=shuffles,
            dims=dims,
        )

    labels = {(i, j): shared_labels(sessions[i], sessions[j]) for i, j in chosen}
    found = dask.compute(*[run(i, j, labels[i, j], params.shuffles, None) for i, j in chosen])
    across = dict(zip(chosen, found, strict=True))
    # What noise allows in a pair: each session with itself, same conditions, same components.
    own = sorted({(k, tuple(labels[pair]), across[pair].dims) for pair in chosen for k in pair})
    found = dask.compute(*[run(k, k, list(shared), 0, dims) for k, shared, dims in own])
    within_of = dict(zip(own, found, strict=True))
    within = {
        pair: tuple(within_of[k, tuple(labels[pair]), across[pair].dims] for k in pair)
        for pair in chosen
    }
    return Pairs(sessions, reasons, labels, across, within)


def _add_gromov(
    pairs: Pairs, encodings: Mapping[str, xr.Dataset], params: Params, seed: int
) -> None:
    """Distances between encoding manifolds of halves of the units, with halves of one session."""
    names = [h.session.name for h in pairs.sessions]
    points = {
        i: gromov.manifold_points(encodings[name], name)
        for i, name in enumerate(names)
        if name in encodings
    }
    halves = {
        (i, split): gromov.random_halves(
            points[i], params.gromov_units, generator(seed, "gromov", names[i], str(split))
        )
        for i in points
        for split in range(params.splits)
    }

    @dask.delayed
    def run(i: int, j: int, shuffles: int) -> np.ndarray:
        observed = [
            gromov.gromov_wasserstein(halves[i, s][0], halves[j, s][1])
            for s in range(params.splits)
        ]
        rng = generator(seed, "gromov null", names[i], names[j])
        null = [
            gromov.gromov_wasserstein(halves[i, 0][0], gromov.shuffled(halves[j, 0][1], rng))
            for _ in range(shuffles)
        ]
        return np.array([np.mean(observed), *null])

    wanted = [(i, j) for i in points for j in points if i < j]
    own = dict(zip(points, dask.compute(*[run(i, i, 0) for i in points]), strict=True))
    found = dask.compute(*[run(i, j, params.gromov_shuffles) for i, j in wanted])
    for (i, j), values in zip(wanted, found, strict=True):
        pairs.gromov[i, j] = values
        pairs.gromov_within[i, j] = float(own[i][0] + own[j][0]) / 2
