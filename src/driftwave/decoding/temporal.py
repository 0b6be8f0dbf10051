"""Decoding in windows of time, and by decoders of other windows (temporal generalisation)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.readouts.blocks import exchange_groups, label_shuffles, trial_blocks
from driftwave.readouts.classes import usable_classes
from driftwave.readouts.classifiers import (
    Classifier,
    Estimator,
    ShrinkageLDA,
    linear_svm,
    logistic_regression,
)
from driftwave.readouts.clusters import Onset, Tested, onset, weigh_clusters
from driftwave.readouts.discrete_results import SAME_PREDICTIONS
from driftwave.readouts.features import features_of
from driftwave.readouts.generalisation import (
    Generalised,
    fold_sides,
    generalise,
    resampled_scores,
)
from driftwave.readouts.jobs import Scheme, plan_and_labels
from driftwave.readouts.null import p_value
from driftwave.readouts.time_windows import Windows, chosen_classes, trial_windows

DECODES = "discrete"
PAPER = "King & Dehaene 2014 Trends Cogn Sci 18:203; Maris & Oostenveld 2007 J Neurosci Methods"
QUICK = {"shuffles": 19, "window": 0.1, "samples": 20}


class Params(BaseModel):
    """Parameters of the decoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str | None = Field(
        None,
        description="Stimulus column, `condition` or behavioural feature (cut into quantiles); by "
        "default the first of these.",
    )
    quantiles: int = Field(4, ge=2, description="Classes that a behavioural feature is cut into.")
    classifier: Literal["lda", "logistic", "svm"] = Field(
        "lda", description="Decoder: shrinkage LDA, multinomial logistic regression or linear SVM."
    )
    inverse_penalty: float = Field(0.1, gt=0, description="C of the logistic regression and SVM.")
    features: tuple[str, ...] | None = Field(
        None, min_length=1, description="Features decoded; by default the first that a source has."
    )
    window: float | None = Field(
        None, gt=0, description="Width (s) of a window; default a sixteenth of the trial."
    )
    step: float | None = Field(
        None, gt=0, description="Time (s) from one window to the next; default the width."
    )
    folds: int = Field(5, ge=3, description="Folds of whole trials, or of contiguous blocks.")
    gap: int = Field(
        1,
        ge=0,
        description="Windows left out of training either side of a held block, if abutting.",
    )
    shuffles: int = Field(
        1000, ge=1, description="Label shuffles of the null; refitted by LDA, else of predictions."
    )
    block_column: str | None = Field(
        None, description="Column of the trials table within whose values labels are exchanged."
    )
    block_length: int | None = Field(
        None, ge=2, description="Trials in a row among which labels are exchanged."
    )
    level: float = Field(
        0.05, gt=0, lt=1, description="Level of the threshold of clusters, and of clusters."
    )
    samples: int = Field(
        1000, ge=1, description="Bootstrap samples of trials for the interval of the onset."
    )
    smoothing: float = Field(
        0.05, ge=0, description="Standard deviation (s) of the Gaussian of the smoothed counts."
    )
    units: Literal["held_in", "all"] = Field("held_in", description="Units decoded.")
    rate_transform: Literal["log", "sqrt"] = Field(
        "log", description="Transform of a model's rates (log of at least 0.1 Hz)."
    )


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Decode classes in each window of the trials, by the decoders of all windows.

    A decoder is fitted to the training trials at each window and tells the held-out trials at
    every window. Scores are balanced accuracies of held-out trials, all folds together; chance is
    one over the number of classes. Along the diagonal (trained and tested at the same window) and
    over the matrix scores are given p-values of the shuffles, false discovery rates, and clusters
    weighed against the heaviest cluster of each shuffle. Only seen bins are used.

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
        ``score_time (features_from, window)`` and ``generalisation (features_from, train_window,
        test_window)``, each with ``p_value_``, ``q_value_``, ``cluster_`` (number, 0 for none),
        ``cluster_p_`` and ``threshold_``; ``null_score_time (features_from, class_shuffle,
        window)``, mean and standard deviation of the matrix's null; ``onset``, ``onset_low``,
        ``onset_high`` (features_from), s; ``score_time_test`` and ``generalisation_test`` of the
        test split, with ``p_value_time_test``.

    Raises
    ------
    InputError
        No spikes; nothing to tell apart; too few trials; windows as long as the trial.
    """
    windows = trial_windows(recording, params.window, params.step)
    sources = _sources(recording, latents, params, windows)
    name, classes = chosen_classes(recording, params.target, params.quantiles)
    finite = np.all([np.isfinite(x).all(axis=(1, 2)) for x in sources.values()], axis=0)
    column = usable_classes(recording, {name: classes}, finite)[name]
    contiguous = bool(recording["spikes"].attrs.get("contiguous", False))
    there = column.label >= 0
    scheme = Scheme(params.folds, params.gap, 1, "fitting", seed)
    plan, _ = plan_and_labels(recording, there, scheme, what=name)
    number = len(column.names)
    block = trial_blocks(
        recording, there, number, column=params.block_column, length=params.block_length
    )
    classifier = _classifier(params)

    def shuffled(*, refitted: bool) -> np.ndarray:
        labels = label_shuffles(
            exchange_groups(block, plan, refitted=refitted),
            params.shuffles,
            contiguous=contiguous,
            gap=params.gap if contiguous else 0,
            rng=generator(seed, "class shuffles", name),
        )
        return column.label[labels]

    given, given_test = shuffled(refitted=classifier.closed), shuffled(refitted=False)
    tests = [(plan.trials(plan.fitting), plan.trials(plan.test))]
    parts = []
    for x in sources.values():
        x = np.where(there[:, None, None], x, 0)
        found = generalise(x, given, fold_sides(plan), classifier, number, refit=classifier.closed)
        test = None
        if len(tests[0][1]):
            test = generalise(x, given_test, tests, classifier, number, refit=False)
        rng = generator(seed, "onset")
        parts.append(_part(found, test, column.label, number, windows, params, rng))
    return _labelled(
        xr.concat(parts, xr.Variable("features_from", list(sources))),
        recording,
        windows,
        {
            "target": name,
            "classes": column.names,
            "note": column.note,
            "chance": 1 / number,
            "folds": "contiguous blocks" if contiguous else "whole trials, stratified by condition",
            "null": (
                "circular shifts by whole windows"
                if contiguous
                else "labels permuted within blocks" + " and folds" * classifier.closed
            )
            + (", refitted" if classifier.closed else f", {SAME_PREDICTIONS}"),
            "shuffles_used": len(given) - 1,
            "params": params.model_dump_json(),
            "seed": seed,
        },
    )


def _sources(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, windows: Windows
) -> dict[str, np.ndarray]:
    found = features_of(
        recording,
        latents,
        smoothing=params.smoothing,
        units=params.units,
        rate_transform=params.rate_transform,
        needed_by="decoding",
        features=params.features,
    )
    chosen = list(found) if params.features else list(found)[:1]
    return {name: windows.of(name, found[name]) for name in chosen}


def _classifier(params: Params) -> Classifier:
    if params.classifier == "lda":
        return ShrinkageLDA()
    make = logistic_regression if params.classifier == "logistic" else linear_svm
    return Estimator(make, (params.inverse_penalty,))


def _part(
    found: Generalised,
    test: Generalised | None,
    label: np.ndarray,
    classes: int,
    windows: Windows,
    params: Params,
    rng: np.random.Generator,
) -> xr.Dataset:
    """Scores of one set of features and what their shuffles say of them."""
    line = weigh_clusters(
        np.diagonal(found.score), np.einsum("stt->st", found.null), level=params.level
    )
    matrix = weigh_clusters(found.score, found.null, level=params.level)
    samples = resampled_scores(found.right, label[found.trials], classes, params.samples, rng)
    begins = onset(line, samples, windows.start, level=params.level)
    empty = np.full(found.score.shape, np.nan)
    test_null = np.full((len(found.null), len(empty)), np.nan)
    score_test = empty if test is None else test.score
    if test is not None:
        test_null = np.einsum("stt->st", test.null)
    diagonal = np.diagonal(score_test)
    both = ("train_window", "test_window")
    return xr.Dataset(
        {
            "score_time": ("window", np.diagonal(found.score)),
            "null_score_time": (("class_shuffle", "window"), np.einsum("stt->st", found.null)),
            "generalisation": (both, found.score),
            "null_generalisation_mean": (both, found.null.mean(axis=0)),
            "null_generalisation_sd": (both, found.null.std(axis=0)),
            "score_low": ("window", np.quantile(samples, 0.025, axis=0)),
            "score_high": ("window", np.quantile(samples, 0.975, axis=0)),
            "generalisation_test": (both, score_test),
            "score_time_test": ("window", diagonal),
            "null_score_time_test": (("class_shuffle", "window"), test_null),
            "p_value_time_test": ("window", p_value(diagonal, test_null.T)),
        }
        | _tested("time", ("window",), line)
        | _tested("generalisation", both, matrix)
        | _onset(begins)
    )


def _tested(name: str, dims: tuple[str, ...], tested: Tested) -> dict[str, Any]:
    return {
        f"p_value_{name}": (dims, tested.p),
        f"q_value_{name}": (dims, tested.q),
        f"threshold_{name}": (dims, tested.threshold),
        f"cluster_{name}": (dims, tested.cluster.astype(np.int32)),
        f"cluster_p_{name}": (dims, tested.cluster_p),
    }


def _onset(begins: Onset) -> dict[str, Any]:
    return {
        "onset": ((), begins.at),
        "onset_low": ((), begins.low),
        "onset_high": ((), begins.high),
        "onset_found": ((), begins.found),
    }


_LONG = {
    "score_time": "balanced accuracy of held-out trials",
    "score_low": "2.5 % of bootstrap samples of trials",
    "score_high": "97.5 % of bootstrap samples of trials",
    "generalisation": "balanced accuracy, trained at one window and tested at another",
    "q_value_time": "false discovery rate",
    "q_value_generalisation": "false discovery rate",
    "cluster_p_time": "p of the cluster against the heaviest of each shuffle",
    "cluster_p_generalisation": "p of the cluster against the heaviest of each shuffle",
    "onset": "start of the first significant cluster",
    "onset_found": "share of bootstrap samples with an onset",
}


def _labelled(
    found: xr.Dataset, recording: xr.DataTree, windows: Windows, attrs: dict[str, Any]
) -> xr.Dataset:
    seconds = {"units": "s"}
    for name, variable in found.data_vars.items():
        onset_time = str(name) in ("onset", "onset_low", "onset_high")
        variable.attrs["units"] = "s" if onset_time else "1"
        if name in _LONG:
            variable.attrs["long_name"] = _LONG[str(name)]
    found = found.assign_coords(
        window=("window", windows.centre, seconds),
        train_window=("train_window", windows.centre, seconds),
        test_window=("test_window", windows.centre, seconds),
        window_start=("window", windows.start, seconds),
        window_stop=("window", windows.stop, seconds),
    )
    found.attrs = {"session": recording.attrs["session"]} | attrs
    return found
