"""Wiener filter: linear decoding from a stretch of activity whose length is chosen by nested folds.

Unlike ``ridge``, which reads a fixed number of bins, the length of the filter's past (and of its
future, where it need not be causal) is a hyper-parameter like the penalty.
"""

from __future__ import annotations

from typing import Literal

import xarray as xr
from pydantic import Field, field_validator

from driftwave.readouts.course import begin
from driftwave.readouts.features import abutting_runs, seen_bins
from driftwave.readouts.jobs import chosen_lags
from driftwave.readouts.linear import LinearParams, null_name, regress
from driftwave.readouts.targets import Target

PAPER = "Carmena et al. 2003 PLoS Biol 1:e42; Warland et al. 1997 J Neurophysiol 78:2336"
DECODES = "continuous"
QUICK = {"shuffles": 1, "past": (0, 2), "halves": 1}


class Params(LinearParams):
    """Parameters of the decoder."""

    past: tuple[int, ...] = Field(
        (2, 5, 10),
        min_length=1,
        description="Past bins tried besides the current one; in separate trials at most a "
        "quarter of the trial.",
    )
    future: tuple[int, ...] = Field(
        (0,), min_length=1, description="Future bins tried; 0 alone is a causal filter."
    )
    null: Literal["refit", "held_out"] = Field(
        "held_out",
        description="Fit every shuffle anew, or score the same held-out predictions against other "
        "labels.",
    )

    @field_validator("past", "future")
    @classmethod
    def _ordered(cls, bins: tuple[int, ...]) -> tuple[int, ...]:
        if min(bins) < 0:
            raise ValueError("numbers of bins must not be negative")
        return tuple(sorted(set(bins)))


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Decode with a linear filter over past (and future) bins.

    All spans are scored on the same bins: those that have the longest one. The prediction of a
    target at bin t is b + sum_k w_k' x_{t-k} with k from -future to past, the weights by ridge
    regression. Span, smoothing (where several are given) and penalty are chosen inside each
    training fold for every target (and for every label of the null, if that is fitted anew).

    Parameters
    ----------
    recording : DataTree
        With spikes, trials, and behaviour or a numeric stimulus.
    latents : Dataset or None
        None for counts; a model's output; or activations.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        As of ``ridge``, with ``setting (features_from, target)``: the filter of the test split.

    Raises
    ------
    InputError
        Nothing to decode, too few trials, latents of other trials.
    """
    spans = _spans(recording, params)
    longest = max(past for past, _ in spans), max(future for _, future in spans)

    def span(targets: list[Target]) -> tuple[int, int]:
        del targets
        return longest

    course = begin(recording, latents, params, span, seed=seed)
    for job in course.jobs:
        for name in course.sources:
            views = course.views(name, job)
            halved = latents is None
            found = regress(job, views, spans, params, halved=halved, seed=seed)
            course.results.add_regression(name, job, found)
    return course.results.dataset(
        lags=longest[0],
        validate_on=params.validate_on,
        params=params.model_dump_json(),
        seed=seed,
        null=null_name(recording, params),
    )


def _spans(recording: xr.DataTree, params: Params) -> list[tuple[int, int]]:
    """Bins of history (the current one included) and of the future, each as far as trials allow."""
    runs = abutting_runs(recording)
    most = seen_bins(recording)
    if len(set(runs.tolist())) == len(runs):
        most = max(1, most // 4)
    past = {min(chosen_lags(recording, past + 1), most) for past in params.past}
    future = {min(ahead, most) for ahead in params.future}
    return [(p, f) for p in sorted(past) for f in sorted(future)]
