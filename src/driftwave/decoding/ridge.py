"""Ridge decoding of behaviour and stimulus, with grouped folds and a label-shuffle null."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, field_validator

from driftwave.errors import InputError
from driftwave.readouts.crossval import Decoded, cross_validate
from driftwave.readouts.features import features_of, trial_means
from driftwave.readouts.jobs import (
    Job,
    Scheme,
    chosen_lags,
    plan_and_labels,
    regression_jobs,
)
from driftwave.readouts.results import Results
from driftwave.readouts.stimulus import classify
from driftwave.readouts.targets import (
    angle_pairs,
    behaviour_targets,
    stimulus_classes,
    stimulus_targets,
    varies,
)
from driftwave.recording import trial_mask


class Params(BaseModel):
    """Parameters of the decoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folds: int = Field(5, ge=3, description="Folds of whole trials, or of contiguous blocks.")
    gap: int = Field(
        1,
        ge=0,
        description="Windows left out of training either side of a held block, if abutting.",
    )
    lags: int | None = Field(
        None,
        ge=1,
        description="Bins of history, the current one included; default 10, in separate trials at "
        "most a quarter of the trial.",
    )
    penalties: tuple[float, ...] = Field(
        (1.0, 10.0, 100.0, 1e3, 1e4, 1e5),
        min_length=1,
        description="Ridge penalties tried, on standardised features and summed squared errors.",
    )
    shuffles: int = Field(200, ge=1, description="Label shuffles of the null.")
    smoothing: float = Field(
        0.05, ge=0, description="Standard deviation (s) of the Gaussian of the smoothed counts."
    )
    units: Literal["held_in", "all"] = Field(
        "held_in", description="Units whose counts are decoded; held-in units are what models see."
    )
    rate_transform: Literal["log", "sqrt"] = Field(
        "log", description="Transform of a model's rates (log of at least 0.1 Hz)."
    )
    validate_on: Literal["fitting", "all"] = Field(
        "fitting",
        description="Trials that are cross-validated: train and valid, or the test split as well.",
    )
    inverse_penalty: float = Field(
        0.5, gt=0, description="C of the logistic regression of discrete stimuli."
    )
    classifier_shuffles: int = Field(
        100, ge=1, description="Label shuffles of the null of the logistic regression."
    )

    @field_validator("penalties")
    @classmethod
    def _positive(cls, penalties: tuple[float, ...]) -> tuple[float, ...]:
        if min(penalties) <= 0:
            raise ValueError("penalties must be positive")
        return tuple(sorted(set(penalties)))


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Decode behaviour and stimuli from counts (``latents`` None) or from a model's output.

    Only seen bins are used, for all sources alike, and only bins with their whole history. Folds
    are whole trials, stratified by condition; abutting windows are divided into contiguous blocks
    with a gap. Standardisation and penalty are chosen inside the training trials. Every score of
    the test split comes from a decoder fitted on the train and valid splits.

    Parameters
    ----------
    recording : DataTree
        With spikes, trials, and behaviour or stimulus.
    latents : Dataset or None
        ``rate (trial, time, unit)`` in Hz and/or ``latent (trial, time, latent)``.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``r2_fold (features_from, target, fold)``, ``r2_cv`` (its mean), ``r2_test``, ``null_r2``
        and ``null_r2_test (features_from, target, shuffle)``, ``p_value``, ``p_value_test``,
        ``prediction`` and ``target_value`` of the test split; ``angular_error_*``
        (features_from, angle) in degrees where something is circular; ``accuracy_*``
        (features_from, stimulus) where a stimulus is discrete.

    Raises
    ------
    InputError
        No spikes; neither behaviour nor stimulus; nothing that varies; too few trials; latents
        without trials.
    """
    sources = features_of(
        recording,
        latents,
        smoothing=params.smoothing,
        units=params.units,
        rate_transform=params.rate_transform,
        needed_by="decoding",
    )
    targets = behaviour_targets(recording) + stimulus_targets(recording)
    classes = stimulus_classes(recording)
    used = trial_mask(recording, "train", "valid", "test")
    varying = [i for i, target in enumerate(targets) if varies(target, used)]
    if not varying and not classes:
        names = [target.name for target in targets]
        raise InputError(
            file=recording.attrs["session"],
            field="behavior, stimulus",
            found=f"only constant or missing values in {names}" if names else "neither",
            expected="behaviour or a stimulus column that varies",
            fix="Name others in the layout, or leave decoding out for this session",
        )
    lags = chosen_lags(recording, params.lags)
    scheme = Scheme(params.folds, params.gap, params.shuffles, params.validate_on, seed)
    jobs = list(regression_jobs(recording, targets, varying, lags, scheme))
    results = Results(recording, list(sources), targets, list(classes), params.folds)
    for name, features in sources.items():
        for job in jobs:
            results.add_regression(name, job, _regress(name, features, job, params))
    scheme = Scheme(params.folds, params.gap, params.classifier_shuffles, params.validate_on, seed)
    for stimulus, label in classes.items():
        plan, labels = plan_and_labels(recording, label >= 0, scheme, what=stimulus)
        for name, features in sources.items():
            means = trial_means(name, features)[:, 0]
            found = classify(means, label, plan, labels, inverse_penalty=params.inverse_penalty)
            results.add_classification(name, stimulus, found)
    return results.dataset(
        lags=lags, validate_on=params.validate_on, params=params.model_dump_json(), seed=seed
    )


def _regress(name: str, features: np.ndarray, job: Job, params: Params) -> Decoded:
    if job.targets[0].per == "trial":
        features = trial_means(name, features)
    pairs = list(angle_pairs(job.targets).values())
    return cross_validate(job.problem(features), job.plan, params.penalties, pairs)
