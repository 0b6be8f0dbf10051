"""Ridge decoding of behaviour and stimulus, with grouped folds and a label-shuffle null."""

from __future__ import annotations

import numpy as np
import xarray as xr
from pydantic import Field

from driftwave.compute import generator
from driftwave.readouts.course import begin
from driftwave.readouts.features import trial_means
from driftwave.readouts.jobs import Scheme, chosen_lags, plan_and_labels
from driftwave.readouts.linear import LinearParams, null_name, regress
from driftwave.readouts.stimulus import classify

PAPER = "Hoerl & Kennard 1970 (10.1080/00401706.1970.10488634); Glaser et al. 2020 eNeuro 7:4"
DECODES = "both"


class Params(LinearParams):
    """Parameters of the decoder."""

    lags: int | None = Field(
        None,
        ge=1,
        description="Bins of history, the current one included; default 10, in separate trials at "
        "most a quarter of the trial.",
    )
    inverse_penalty: float = Field(
        0.5, gt=0, description="C of the logistic regression of discrete stimuli."
    )
    classifier_shuffles: int = Field(
        1000,
        ge=1,
        description="Label shuffles of the null of the logistic regression, against the same "
        "held-out predictions.",
    )


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Decode behaviour and stimuli from counts (``latents`` None) or from a model's output.

    Only seen bins are used, for all sources alike, and only bins with their whole history. Folds
    are whole trials, stratified by condition; abutting windows are divided into contiguous blocks
    with a gap. Standardisation and penalty are chosen inside the training trials. Every score of
    the test split comes from a decoder fitted on the train and valid splits. By default
    each label of the null has its own fits, with their own choice of penalty.

    Parameters
    ----------
    recording : DataTree
        With spikes, trials, and behaviour or stimulus.
    latents : Dataset or None
        ``rate (trial, time, unit)`` in Hz and/or ``latent (trial, time, latent)``; or activations.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``r2_fold (features_from, target, fold)``, ``r2_cv`` (its mean), ``r2_test``, ``null_r2``
        and ``null_r2_test (features_from, target, shuffle)``, ``p_value``, ``p_value_test``,
        ``prediction`` and ``target_value`` of the test split; ``ceiling_r2`` of counts;
        ``angular_error_*`` (features_from, angle) in degrees where something is circular;
        ``accuracy_*`` (features_from, stimulus) where a stimulus is discrete.

    Raises
    ------
    InputError
        No spikes; neither behaviour nor stimulus; nothing that varies; too few trials; latents
        without trials.
    """
    lags = chosen_lags(recording, params.lags)
    course = begin(recording, latents, params, lags, seed=seed, discrete=True)
    for job in course.jobs:
        for name in course.sources:
            views = course.views(name, job)
            halved = latents is None
            found = regress(job, views, [(lags, 0)], params, halved=halved, seed=seed)
            course.results.add_regression(name, job, found)
    contiguous = bool(recording["spikes"].attrs.get("contiguous", False))
    scheme = Scheme(params.folds, params.gap, params.classifier_shuffles, params.validate_on, seed)
    for stimulus, label in course.classes.items():
        plan, labels = plan_and_labels(recording, label >= 0, scheme, what=stimulus)
        shifts = labels if contiguous and isinstance(labels, np.ndarray) else None
        for name, features in course.sources.items():
            told = classify(
                trial_means(name, features[0])[:, 0],
                label,
                plan,
                shuffles=params.classifier_shuffles,
                labels=shifts,
                inverse_penalty=params.inverse_penalty,
                rng=generator(seed, "classes of stimuli"),
            )
            course.results.add_classification(name, stimulus, told)
    return course.results.dataset(
        lags=lags,
        validate_on=params.validate_on,
        params=params.model_dump_json(),
        seed=seed,
        null=null_name(recording, params),
    )
