"""Ridge decoding of behaviour and stimulus, with grouped folds and a label-shuffle null."""

from __future__ import annotations

import xarray as xr
from pydantic import Field

from driftwave.errors import InputError
from driftwave.readouts.classifiers import Estimator, logistic_regression
from driftwave.readouts.course import begin
from driftwave.readouts.discrete import DiscreteParams, classify_recording
from driftwave.readouts.jobs import chosen_lags
from driftwave.readouts.linear import LinearParams, null_name, regress

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
        ``accuracy_*`` and ``balanced_accuracy_*`` (features_from, stimulus), their nulls, ceiling
        and ``confusion`` where a stimulus is discrete: logistic regression, in the course of
        :func:`driftwave.readouts.discrete.classify_recording`, its null against the same held-out
        predictions. If the classes alone cannot be decoded, ``attrs["note"]`` says why.

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
    result = course.results.dataset(
        lags=lags,
        validate_on=params.validate_on,
        params=params.model_dump_json(),
        seed=seed,
        null=null_name(recording, params),
    )
    if not course.classes:
        return result
    try:
        told = _tell_classes(recording, latents, params, course.classes, seed=seed)
    except InputError as error:
        if not course.jobs:
            raise
        note = f"classes of {', '.join(course.classes)} not decoded: {error}"
        return result.assign_attrs(note="; ".join(filter(None, (result.attrs["note"], note))))
    return _with_classes(result, told)


def _tell_classes(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    params: Params,
    columns: list[str],
    *,
    seed: int,
) -> xr.Dataset:
    """Discrete stimuli by logistic regression, in the course of the discrete decoders."""
    shared = DiscreteParams(
        folds=params.folds,
        gap=params.gap,
        shuffles=params.classifier_shuffles,
        null="predictions",
        columns=tuple(columns),
        features=params.features,
        halves=params.halves if latents is None else 0,
        smoothing=params.widths[0],
        units=params.units,
        rate_transform=params.rate_transform,
        validate_on=params.validate_on,
    )
    classifier = Estimator(logistic_regression, (params.inverse_penalty,))
    return classify_recording(recording, latents, shared, classifier, seed=seed)


def _with_classes(found: xr.Dataset, told: xr.Dataset) -> xr.Dataset:
    """Both results in one; of the classes those scores that stand for a whole column."""
    scores = told.drop_dims(["angle", "trial"], errors="ignore")
    note = "; ".join(filter(None, (found.attrs["note"], told.attrs["note"])))
    attrs = {
        **found.attrs,
        "note": note,
        "class_null": told.attrs["null"],
        "class_shuffles_used": told.attrs["shuffles_used"],
    }
    return xr.merge([found, scores], join="exact", compat="equals").assign_attrs(attrs)
