"""Ridge regression on a stretch of activity, with every shuffle fitted anew from moments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import xarray as xr
from pydantic import Field, field_validator

from driftwave.compute import generator
from driftwave.readouts.ceiling import random_halves
from driftwave.readouts.crossval import Decoded, cross_validate
from driftwave.readouts.features import history_index
from driftwave.readouts.heldout import OtherLabels, held_out_name
from driftwave.readouts.jobs import Job
from driftwave.readouts.params import Params
from driftwave.readouts.regression import Problem
from driftwave.readouts.results import REFITTED
from driftwave.readouts.targets import angle_pairs


class LinearParams(Params):
    """Parameters of linear decoders."""

    penalties: tuple[float, ...] = Field(
        (1.0, 10.0, 100.0, 1e3, 1e4, 1e5),
        min_length=1,
        description="Ridge penalties tried, on standardised features and summed squared errors.",
    )
    null: Literal["refit", "held_out"] = Field(
        "refit",
        description="Fit every shuffle anew, or score the same held-out predictions against other "
        "labels.",
    )

    @field_validator("penalties")
    @classmethod
    def _positive(cls, penalties: tuple[float, ...]) -> tuple[float, ...]:
        return sorted_penalties(penalties)


def null_name(recording: xr.DataTree, params: LinearParams) -> str:
    """What the null does, in words."""
    contiguous = bool(recording["spikes"].attrs.get("contiguous", False))
    if params.null == "held_out":
        return held_out_name(contiguous)
    return REFITTED[0] if contiguous else REFITTED[1]


def sorted_penalties(penalties: tuple[float, ...]) -> tuple[float, ...]:
    """Distinct penalties in order.

    Raises
    ------
    ValueError
        One is not positive.
    """
    if min(penalties) <= 0:
        raise ValueError("penalties must be positive")
    return tuple(sorted(set(penalties)))


def regress(
    job: Job,
    views: Sequence[np.ndarray],
    spans: Sequence[tuple[int, int]],
    params: LinearParams,
    *,
    halved: bool,
    seed: int,
) -> Decoded:
    """Decode the targets of a job, smoothing, span and penalty chosen inside the folds.

    Parameters
    ----------
    job : Job
        Its bins have the longest of the spans.
    views : sequence of ndarray (trial, time, dim)
        Features, one for each smoothing that is tried.
    spans : sequence of (int, int)
        Bins of history (the current one included) and of the future that are tried.
    params : LinearParams
    halved : bool
        Whether to compute the noise ceiling.
    seed : int
    """
    by_trial = job.targets[0].per == "trial"
    bins = job.mask.shape[1]
    tried = [(1, 0)] if by_trial else list(spans)
    refit = params.null == "refit"
    labels = job.labels if refit else np.arange(len(job.mask))[None]
    problems, names = [], []
    for number, features in enumerate(views):
        for past, future in tried:
            history, _ = history_index(job.runs, bins, past, future)
            problems.append(Problem(features, history, job.values, job.mask, labels))
            names.append(_named(number, past, future, views, tried, params))
    rng = generator(seed, "halves of the units")
    count = params.halves if halved else 0
    halves = random_halves(views[0].shape[-1], count, rng)
    pairs = list(angle_pairs(job.targets).values())
    others = None if refit else OtherLabels(job, params, pairs, seed)
    found = cross_validate(problems, job.plan, params.penalties, pairs, halves, others)
    if len(problems) == 1:
        return found
    settings = [
        json.dumps({**names[view], "penalty": penalty})
        for view, penalty in zip(found.chosen, found.penalty, strict=True)
    ]
    return replace(found, settings=settings)


def _named(
    number: int,
    past: int,
    future: int,
    views: Sequence[np.ndarray],
    spans: Sequence[tuple[int, int]],
    params: Params,
) -> dict[str, float]:
    span = {"past": past - 1, "future": future} if len(spans) > 1 else {}
    return span | ({"smoothing": params.widths[number]} if len(views) > 1 else {})
