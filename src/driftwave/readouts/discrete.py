"""The course all discrete decoders share: from a recording to a labelled result."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, field_validator

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.readouts.blocks import exchange_groups, label_shuffles, trial_blocks
from driftwave.readouts.classes import Classes, condition_classes, usable_classes
from driftwave.readouts.classification import cross_classify, split_half
from driftwave.readouts.classifiers import Classifier
from driftwave.readouts.discrete_results import Cell, discrete_dataset
from driftwave.readouts.features import features_of, trial_means
from driftwave.readouts.folds import Plan
from driftwave.readouts.jobs import Scheme, plan_and_labels

# Trials (or features, whichever are fewer) up to which 1,000 refits in closed form take seconds.
MOST_DIMS_REFITTED = 300


class DiscreteParams(BaseModel):
    """Parameters that all discrete decoders share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folds: int = Field(5, ge=3, description="Folds of whole trials, or of contiguous blocks.")
    gap: int = Field(
        1,
        ge=0,
        description="Windows left out of training either side of a held block, if abutting.",
    )
    shuffles: int = Field(1000, ge=1, description="Label shuffles of the null.")
    null: Literal["auto", "refit", "predictions"] = Field(
        "auto",
        description="Refit the decoder to each shuffle, or permute the labels against the same "
        "held-out predictions; auto refits those with a closed form.",
    )
    columns: tuple[str, ...] | None = Field(
        None, description="Stimulus columns decoded; by default all that qualify."
    )
    block_column: str | None = Field(
        None, description="Column of the trials table within whose values labels are exchanged."
    )
    block_length: int | None = Field(
        None,
        ge=2,
        description="Trials in a row among which labels are exchanged; default twice the classes, "
        "at least 40.",
    )
    features: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Sets of features decoded, such as counts, smoothed_counts, rates, latents or "
        "an activation's name; default all there are.",
    )
    halves: int = Field(
        5, ge=0, description="Random divisions of the units of the split half; 0 leaves it out."
    )
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


class PenalisedParams(DiscreteParams):
    """Parameters of classifiers with a penalty; each states the values it tries."""

    inverse_penalties: tuple[float, ...]

    @field_validator("inverse_penalties", check_fields=False)
    @classmethod
    def _positive(cls, inverse_penalties: tuple[float, ...]) -> tuple[float, ...]:
        if min(inverse_penalties) <= 0:
            raise ValueError("inverse_penalties must be positive")
        return tuple(sorted(set(inverse_penalties)))


def classify_recording(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    params: DiscreteParams,
    classifier: Classifier,
    *,
    seed: int,
) -> xr.Dataset:
    """Tell the class of each trial from counts (``latents`` None) or from a model's output.

    Folds are whole trials, stratified by condition (contiguous blocks with a gap where trials are
    abutting windows). Centring, scaling and hyper-parameters come from the training trials. Every
    score of the test split comes from a decoder fitted on the train and valid splits. Labels are
    exchanged within blocks of trials and folds for the null (:mod:`driftwave.readouts.blocks`).

    Classes with fewer than two trials outside the test split are left out; trials with a feature
    that is not finite as well. Constant units do no harm.

    Parameters
    ----------
    recording : DataTree
        With spikes, trials, and a stimulus or conditions.
    latents : Dataset or None
        ``rate (trial, time, unit)`` in Hz and/or ``latent (trial, time, latent)``.
    params : DiscreteParams
    classifier : Classifier
    seed : int

    Returns
    -------
    Dataset
        ``accuracy_fold (features_from, stimulus, fold)``, ``accuracy_cv`` (its mean),
        ``accuracy_test``, their nulls ``(features_from, stimulus, class_shuffle)`` and p-values;
        the same for ``balanced_accuracy`` and, of circular columns, ``mean_angular_error``
        (features_from, angle), degrees; ``confusion (features_from, stimulus, true_class,
        decoded_class)`` of held-out trials; ``decoded_class`` and ``decoded_class_test``
        (features_from, stimulus, trial), -1 where none; ``split_half_agreement`` of decoders of
        two halves of the units on held-out trials, and ``ceiling_accuracy``: what the whole
        population would reach if the halves erred independently and evenly
        (:func:`driftwave.readouts.classification.implied_accuracy` of a half, then
        :func:`driftwave.readouts.classification.doubled_accuracy`).

    Raises
    ------
    InputError
        No spikes; nothing with two classes of two trials; too few trials; latents without trials.
    """
    sources = trial_features(recording, latents, params, counts=classifier.counts)
    finite = np.all([np.isfinite(means).all(axis=1) for means in sources.values()], axis=0)
    columns = usable_classes(recording, condition_classes(recording, params.columns), finite)
    scheme = Scheme(params.folds, params.gap, 1, params.validate_on, seed)
    cells: dict[tuple[str, str], Cell] = {}
    groups: dict[str, np.ndarray] = {}
    small = all(min(means.shape) <= MOST_DIMS_REFITTED for means in sources.values())
    refitted = params.null == "refit" or (params.null == "auto" and classifier.closed and small)
    for name, column in columns.items():
        there = column.label >= 0
        plan, _ = plan_and_labels(recording, there, scheme, what=name)
        used = np.zeros(len(there), bool)
        used[plan.trials(plan.held.any(axis=0) | plan.test)] = True
        block = trial_blocks(
            recording,
            used,
            len(column.names),
            column=params.block_column,
            length=params.block_length,
        )
        groups[name] = exchange_groups(block, plan, refitted=refitted)
        contiguous = bool(recording["spikes"].attrs.get("contiguous", False))
        labels = label_shuffles(
            groups[name],
            params.shuffles,
            contiguous=contiguous,
            gap=params.gap if contiguous else 0,
            rng=generator(seed, "class shuffles", name),
        )
        for source, means in sources.items():
            cells[source, name] = _one_cell(
                np.where(there[:, None], means, 0),
                column,
                plan,
                labels,
                params,
                classifier,
                seed,
                refitted=refitted,
            )
    return discrete_dataset(
        recording,
        list(sources),
        columns,
        cells,
        groups,
        folds=params.folds,
        validate_on=params.validate_on,
        params=params.model_dump_json(),
        seed=seed,
    )


def trial_features(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    params: DiscreteParams,
    *,
    counts: bool,
) -> dict[str, np.ndarray]:
    """One row of features (trial, dim) per trial from each source.

    With ``counts`` they are spike counts of the trial, or those a model expects (rate in Hz times
    the duration of the seen bins).

    Raises
    ------
    InputError
        With ``counts``, a model without rates.
    """
    found = features_of(
        recording,
        latents,
        smoothing=params.smoothing,
        units=params.units,
        rate_transform="sqrt" if counts else params.rate_transform,
        needed_by="decoding",
        features=None if counts else params.features,
    )
    if not counts:
        return {name: trial_means(name, values)[:, 0] for name, values in found.items()}
    width = float(recording["spikes"].attrs["bin_width"])
    if "counts" in found:
        return {"counts": (found["counts"] ** 2).sum(axis=1)}
    if "rates" in found:
        return {"rates": (found["rates"] ** 2).sum(axis=1) * width}
    raise InputError(
        file=recording.attrs["session"],
        field="rate",
        found=f"only {sorted(found)}",
        expected="a model's rates: the decoder is of Poisson counts",
        fix="Leave this decoder out for this model",
    )


def _one_cell(
    features: np.ndarray,
    column: Classes,
    plan: Plan,
    labels: np.ndarray,
    params: DiscreteParams,
    classifier: Classifier,
    seed: int,
    *,
    refitted: bool,
) -> Cell:
    given = column.label[labels]
    classes = len(column.names)
    decoded = cross_classify(features, given if refitted else given[:1], plan, classifier, classes)
    halves = split_half(
        features,
        column.label,
        plan,
        classifier,
        decoded,
        classes,
        draws=params.halves,
        rng=generator(seed, "split half"),
    )
    return Cell(decoded, given, plan, refitted, halves)
