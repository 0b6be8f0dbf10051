"""Decoding from ever more units, and from ever more training trials."""

from __future__ import annotations

from typing import Any, Literal

import dask
import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.readouts.blocks import exchange_groups, label_shuffles, trial_blocks
from driftwave.readouts.classes import Classes, condition_classes, usable_classes
from driftwave.readouts.classifiers import ShrinkageLDA
from driftwave.readouts.features import features_of, trial_means
from driftwave.readouts.jobs import Scheme, plan_and_labels, regression_jobs
from driftwave.readouts.null import p_value
from driftwave.readouts.subsampling import (
    ClassScorer,
    RidgeScorer,
    Scorer,
    asymptote,
    learning_curve,
    size_reaching,
    subset_sizes,
)
from driftwave.readouts.targets import Target, behaviour_targets, varies
from driftwave.recording import trial_mask

DECODES = "both"
PAPER = "Stringer et al. 2021 Cell 184:2767 (subsampled decoding); Cortes et al. 1993 NeurIPS 6"
QUICK = {"shuffles": 20, "draws": 2, "points": 3, "penalties": (1.0, 100.0)}
KINDS = ("units", "trials")


class Params(BaseModel):
    """Parameters of the learning curves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str | None = Field(
        None,
        description="Stimulus column, `condition` or behavioural feature; by default the first "
        "column with classes, else the first feature, else the condition.",
    )
    features: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Features decoded; by default a source's first, of behaviour smoothed counts.",
    )
    points: int = Field(8, ge=3, description="Sizes of the subsets, evenly spaced in logarithm.")
    draws: int = Field(10, ge=2, description="Random orders of units (or trials); subsets nest.")
    shuffles: int = Field(
        1000, ge=1, description="Label shuffles of the null at each size, shared by the draws."
    )
    share: float = Field(
        0.95, gt=0, lt=1, description="Share of the full score (above chance) that half_size means."
    )
    penalties: tuple[float, ...] = Field(
        (1.0, 10.0, 100.0, 1e3, 1e4, 1e5),
        min_length=1,
        description="Ridge penalties tried for a behavioural feature.",
    )
    folds: int = Field(5, ge=3, description="Folds of whole trials, or of contiguous blocks.")
    gap: int = Field(
        1,
        ge=0,
        description="Windows left out of training either side of a held block, if abutting.",
    )
    block_column: str | None = Field(
        None, description="Column of the trials table within whose values labels are exchanged."
    )
    block_length: int | None = Field(
        None, ge=2, description="Trials in a row among which labels are exchanged."
    )
    smoothing: float = Field(
        0.1, ge=0, description="Standard deviation (s) of the Gaussian of the smoothed counts."
    )
    units: Literal["held_in", "all"] = Field("held_in", description="Units there are to draw from.")
    rate_transform: Literal["log", "sqrt"] = Field(
        "log", description="Transform of a model's rates (log of at least 0.1 Hz)."
    )


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Score decoders of random subsets of units, and of training trials.

    Classes by shrinkage LDA (balanced accuracy of held-out trials), a behavioural feature by
    ridge regression of the bin's smoothed activity (R2, mean over folds). Each draw is a random
    order whose first units (or training trials, as many of each class) are used. All draws and
    sizes share folds; the null refits shuffled labels at every size.

    Parameters
    ----------
    recording : DataTree
        With spikes, trials, and a stimulus, conditions or behaviour.
    latents : Dataset or None
        ``rate (trial, time, unit)`` in Hz and/or ``latent (trial, time, latent)``.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``score (features_from, kind, size, draw)``, NaN at sizes of the other kind;
        ``null_score (features_from, kind, size, shuffle)``, ``p_value (features_from, kind,
        size)`` of the median draw; ``full_score``, ``chance`` (mean shuffle at the largest
        size), ``asymptote`` of a power law (NaN
        where the curve has not bent), ``half_size`` (size at which the median curve reaches
        ``share`` of the full score above chance), ``half_size_draw (..., draw)``, and
        ``half_share`` (that size over all there are), each (features_from, kind).

    Raises
    ------
    InputError
        No spikes; nothing to decode; too few trials; fewer than two units.
    """
    name, classes, targets = _chosen(recording, params)
    found = features_of(
        recording,
        latents,
        smoothing=params.smoothing,
        units=params.units,
        rate_transform=params.rate_transform,
        needed_by="learning_curve",
        features=params.features,
    )
    preferred = "smoothed_counts" if targets else "counts"
    default = [preferred] if preferred in found else list(found)[:1]
    chosen = list(found) if params.features else default
    parts = []
    attrs: dict[str, Any] = {}
    for one in chosen:
        if found[one].shape[-1] < 2:
            raise InputError(
                file=recording.attrs["session"],
                field=one,
                found=f"{found[one].shape[-1]} units",
                expected="at least two to draw from",
                fix="Leave the learning curve out for this session",
            )
        if classes is not None:
            scorer, attrs = _class_scorer(recording, one, found[one], name, classes, params, seed)
        else:
            scorer, attrs = _ridge_scorer(recording, found[one], targets, params, seed)
        parts.append(_curves(scorer, params, seed))
    result = xr.concat(parts, xr.Variable("features_from", chosen))
    for variable in result.data_vars.values():
        variable.attrs.setdefault("units", "1")
    result.attrs = {
        "shuffles_used": result.sizes["shuffle"],
        "session": recording.attrs["session"],
        "target": name,
        "share": params.share,
        "params": params.model_dump_json(),
        "seed": seed,
        **attrs,
    }
    return result


def _chosen(recording: xr.DataTree, params: Params) -> tuple[str, Classes | None, list[Target]]:
    """What is decoded: classes, or the target(s) of a behavioural feature."""
    used = trial_mask(recording, "train", "valid")
    by_feature: dict[str, list[Target]] = {}
    for target in behaviour_targets(recording):
        if varies(target, used):
            by_feature.setdefault(target.feature, []).append(target)
    if params.target in by_feature:
        return params.target, None, by_feature[params.target]
    wanted = None if params.target is None else (params.target,)
    from_stimulus = "stimulus" in recording.children
    columns = condition_classes(recording, wanted)
    name = next(iter(columns))
    if wanted is None and by_feature and not (from_stimulus and name != "condition"):
        name = next(iter(by_feature))
        return name, None, by_feature[name]
    return name, columns[name], []


def _class_scorer(
    recording: xr.DataTree,
    source: str,
    features: np.ndarray,
    name: str,
    classes: Classes,
    params: Params,
    seed: int,
) -> tuple[Scorer, dict[str, Any]]:
    means = trial_means(source, features)[:, 0]
    finite = np.isfinite(means).all(axis=1)
    column = usable_classes(recording, {name: classes}, finite)[name]
    there = column.label >= 0
    contiguous = bool(recording["spikes"].attrs.get("contiguous", False))
    plan, _ = plan_and_labels(
        recording, there, Scheme(params.folds, params.gap, 1, "fitting", seed), what=name
    )
    number = len(column.names)
    block = trial_blocks(
        recording, there, number, column=params.block_column, length=params.block_length
    )
    labels = label_shuffles(
        exchange_groups(block, plan, refitted=True),
        params.shuffles,
        contiguous=contiguous,
        gap=params.gap if contiguous else 0,
        rng=generator(seed, "class shuffles", name),
    )
    scorer = ClassScorer(
        np.where(there[:, None], means, 0), column.label[labels], plan, ShrinkageLDA(), number
    )
    return scorer, {
        "score": "balanced accuracy of held-out trials, shrinkage LDA",
        "null": (
            "circular shifts by whole windows"
            if contiguous
            else "labels permuted within blocks and folds"
        )
        + ", refitted",
        "note": column.note,
        "classes": number,
    }


def _ridge_scorer(
    recording: xr.DataTree,
    features: np.ndarray,
    targets: list[Target],
    params: Params,
    seed: int,
) -> tuple[Scorer, dict[str, Any]]:
    scheme = Scheme(params.folds, params.gap, params.shuffles, "fitting", seed)
    job = next(regression_jobs(recording, targets, list(range(len(targets))), 1, scheme))
    contiguous = bool(recording["spikes"].attrs.get("contiguous", False))
    return RidgeScorer(features, job, params.penalties), {
        "score": "R2, mean over folds, ridge regression",
        "null": ("circular shifts by bins" if contiguous else "permuted whole trials")
        + ", refitted",
        "note": "",
        "classes": 0,
    }


def _curves(scorer: Scorer, params: Params, seed: int) -> xr.Dataset:
    """Both kinds of curve of one set of features, on one axis of sizes."""
    plan = scorer.plan
    trained = min(len(plan.trials(plan.train[f])) for f in range(plan.folds) if plan.held[f].any())
    fewest = max(3, len(np.unique(scorer.strata[scorer.strata >= 0])))
    sizes = {
        "units": subset_sizes(scorer.units, params.points),
        "trials": subset_sizes(trained, params.points, fewest),
    }

    tasks = [
        dask.delayed(learning_curve)(
            scorer,
            kind,
            sizes[kind],
            params.draws,
            [generator(seed, kind, str(draw)) for draw in range(params.draws)],
        )
        for kind in KINDS
    ]
    found = dask.compute(*tasks)
    curves = [
        _curve(sizes[kind], score, null, params)
        for kind, (score, null) in zip(KINDS, found, strict=True)
    ]
    return xr.concat(curves, dim=xr.Variable("kind", list(KINDS)), join="outer")


def _curve(sizes: np.ndarray, score: np.ndarray, null: np.ndarray, params: Params) -> xr.Dataset:
    """One curve, with what its shuffles and its shape say."""
    middle, chance = np.median(score, axis=1), float(null[-1].mean())
    reached = size_reaching(sizes, middle, chance, params.share)
    by_draw = [size_reaching(sizes, one, chance, params.share) for one in score.T]
    tends = [asymptote(sizes, one) for one in score.T]
    known = np.array([value for value in tends if np.isfinite(value)])
    low, high = np.quantile(known, [0.1, 0.9]) if len(known) else (np.nan, np.nan)
    return xr.Dataset(
        {
            "score": (("size", "draw"), score, {"long_name": "held-out score"}),
            "null_score": (("size", "shuffle"), null, {"long_name": "with shuffled labels"}),
            "p_value": ("size", p_value(middle, null), {"long_name": "of the median draw"}),
            "full_score": ((), middle[-1], {"long_name": "from all units and trials"}),
            "chance": ((), chance, {"long_name": "mean shuffle, all units and trials"}),
            "asymptote": ((), asymptote(sizes, middle), {"long_name": "of a power law"}),
            "asymptote_low": ((), low, {"long_name": "10 % quantile over draws"}),
            "asymptote_high": ((), high, {"long_name": "90 % quantile over draws"}),
            "half_size": ((), reached, {"long_name": "size that reaches the share of the score"}),
            "half_size_draw": ("draw", by_draw, {"long_name": "half_size of each draw"}),
            "half_share": ((), reached / sizes[-1], {"long_name": "half_size over all there are"}),
        },
        coords={"size": ("size", sizes, {"long_name": "units, or training trials of a fold"})},
    )
