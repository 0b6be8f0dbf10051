"""The course all discrete decoders share: from a recording to a labelled result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.readouts.blocks import exchangeable, label_shuffles, trial_blocks
from driftwave.readouts.classes import Classes, condition_classes, usable_classes
from driftwave.readouts.classification import (
    Decoded,
    SplitHalf,
    accuracy,
    balanced_accuracy,
    confusion,
    cross_classify,
    doubled_accuracy,
    implied_accuracy,
    mean_angular_error,
    split_half,
)
from driftwave.readouts.classifiers import Classifier
from driftwave.readouts.features import features_of, trial_means
from driftwave.readouts.folds import Plan
from driftwave.readouts.jobs import Scheme, plan_and_labels
from driftwave.readouts.results import Cells, mean_folds, score_variables

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
        "at least 20.",
    )
    halves: int = Field(5, ge=1, description="Random divisions of the units of the split half.")
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


@dataclass(frozen=True)
class Cell:
    """What one set of features says of one column.

    Attributes
    ----------
    decoded : Decoded
    given : ndarray of int (label, trial)
        Classes of the trials in each labelling.
    plan : Plan
    refitted : bool
        Whether the null refits the decoder.
    halves : SplitHalf
    """

    decoded: Decoded
    given: np.ndarray
    plan: Plan
    refitted: bool
    halves: SplitHalf


def classify_recording(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    params: DiscreteParams,
    classifier: Classifier,
    *,
    seed: int,
    settings: str = "",
) -> xr.Dataset:
    """Tell the class of each trial from counts (``latents`` None) or from a model's output.

    Folds are whole trials, stratified by condition (contiguous blocks with a gap where trials are
    abutting windows). Centring, scaling and hyper-parameters come from the training trials. Every
    score of the test split comes from a decoder fitted on the train and valid splits. Labels are
    exchanged within blocks of trials for the null (:mod:`driftwave.readouts.blocks`).

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
    settings : str
        The plug-in's parameters as JSON, for the attrs; by default those of ``params``.

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
    blocks = {}
    for name, column in columns.items():
        there = column.label >= 0
        plan, _ = plan_and_labels(recording, there, scheme, what=name)
        used = np.zeros(len(there), bool)
        used[plan.trials(plan.held.any(axis=0) | plan.test)] = True
        blocks[name] = trial_blocks(
            recording,
            used,
            len(column.names),
            column=params.block_column,
            length=params.block_length,
        )
        contiguous = bool(recording["spikes"].attrs.get("contiguous", False))
        labels = label_shuffles(
            blocks[name],
            params.shuffles,
            contiguous=contiguous,
            gap=params.gap if contiguous else 0,
            rng=generator(seed, "class shuffles", name),
        )
        for source, means in sources.items():
            cells[source, name] = _one_cell(
                np.where(there[:, None], means, 0), column, plan, labels, params, classifier, seed
            )
    return _dataset(recording, list(sources), columns, cells, blocks, params, seed, settings)


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
) -> Cell:
    given = column.label[labels]
    small = min(features.shape) <= MOST_DIMS_REFITTED
    refitted = params.null == "refit" or (params.null == "auto" and classifier.closed and small)
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


def _scores(cell: Cell, column: Classes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores of the folds (fold, label) and of the test split (label,) by name."""
    classes = len(column.names)
    parts = [cell.plan.trials(held) for held in cell.plan.held]
    sides = [(cell.decoded.held[:, some], cell.given[:, some]) for some in parts]
    some = np.flatnonzero(cell.decoded.test[0] >= 0)
    sides.append((cell.decoded.test[:, some], cell.given[:, some]))
    found = {
        "accuracy": [accuracy(*side) for side in sides],
        "balanced_accuracy": [balanced_accuracy(*side, classes) for side in sides],
    }
    if column.angle is not None:
        found["mean_angular_error"] = [mean_angular_error(*side, column.angle) for side in sides]
    return {name: (np.array(each[:-1]), each[-1]) for name, each in found.items()}


_LONG = {
    "accuracy": ("1", "share of trials told right"),
    "balanced_accuracy": ("1", "mean over classes of the share told right"),
    "mean_angular_error": ("degree", "mean absolute angle between decoded and true class"),
}


def _score_variables(
    cells: dict[tuple[str, str], Cell], sources: list[str], columns: dict[str, Classes], folds: int
) -> dict[str, Any]:
    angles = [name for name, column in columns.items() if column.angle is not None]
    collected: dict[str, Cells] = {name: {} for name in _LONG}
    for (source, name), cell in cells.items():
        for score, values in _scores(cell, columns[name]).items():
            names = angles if score == "mean_angular_error" else list(columns)
            collected[score][sources.index(source), names.index(name)] = values
    found: dict[str, Any] = {}
    for score, (unit, long_name) in _LONG.items():
        circular = score == "mean_angular_error"
        if circular and not angles:
            continue
        found |= score_variables(
            score,
            collected[score],
            (len(sources), len(angles) if circular else len(columns)),
            folds,
            dims=("features_from", "angle" if circular else "stimulus", "class_shuffle"),
            attrs={"units": unit, "long_name": long_name},
            smaller=circular,
        )
    return found


def _dataset(
    recording: xr.DataTree,
    sources: list[str],
    columns: dict[str, Classes],
    cells: dict[tuple[str, str], Cell],
    blocks: dict[str, np.ndarray],
    params: DiscreteParams,
    seed: int,
    settings: str,
) -> xr.Dataset:
    variables = _score_variables(cells, sources, columns, params.folds)
    variables |= _trial_variables(cells, sources, columns)
    variables |= _ceiling_variables(cells, sources, columns, params)
    pair = ("features_from", "stimulus")
    null = mean_folds(np.moveaxis(variables["null_accuracy"][1], -1, 0))
    largest = [
        np.bincount(c.label[c.label >= 0]).max() / (c.label >= 0).sum() for c in columns.values()
    ]
    mixed = [exchangeable(column.label, blocks[name]) for name, column in columns.items()]
    one = {"units": "1"}
    variables |= {
        "chance": (pair, null, one | {"long_name": "mean accuracy with shuffled labels"}),
        "largest_class": ("stimulus", largest, one | {"long_name": "its share of the trials"}),
        "trials_used": ("stimulus", [int((c.label >= 0).sum()) for c in columns.values()], one),
        "exchangeable": (
            "stimulus",
            mixed,
            one | {"long_name": "share of trials in a block with another class"},
        ),
    }
    contiguous = bool(recording["spikes"].attrs.get("contiguous", False))
    refitted = next(iter(cells.values())).refitted
    coords: dict[str, Any] = {
        "features_from": sources,
        "stimulus": list(columns),
        "trial": recording["spikes"].to_dataset()["trial"].values,
        "class_name": (("stimulus", "true_class"), _class_names(columns)),
    }
    if any(column.angle is not None for column in columns.values()):
        coords["angle"] = [name for name, c in columns.items() if c.angle is not None]
    moved = "circular shifts by whole windows" if contiguous else "labels permuted within blocks"
    attrs = {
        "session": recording.attrs["session"],
        "folds": "contiguous blocks" if contiguous else "whole trials, stratified by condition",
        "null": f"{moved}, " + ("refitted" if refitted else "against the same predictions"),
        "validated_on": "train and valid" if params.validate_on == "fitting" else "all splits",
        "bin_width": float(recording["spikes"].attrs["bin_width"]),
        "note": "; ".join(column.note for column in columns.values() if column.note),
        "params": settings or params.model_dump_json(),
        "seed": seed,
    }
    return xr.Dataset(variables, coords, attrs)


def _class_names(columns: dict[str, Classes]) -> np.ndarray:
    """Names (stimulus, class) of the classes, empty where a column has fewer."""
    most = max(len(column.names) for column in columns.values())
    return np.array([[*c.names, *[""] * (most - len(c.names))] for c in columns.values()])


def _trial_variables(
    cells: dict[tuple[str, str], Cell], sources: list[str], columns: dict[str, Classes]
) -> dict[str, Any]:
    """Confusions of held-out trials, and the class told of each trial."""
    most = max(len(column.names) for column in columns.values())
    shape = len(sources), len(columns)
    trials = len(next(iter(columns.values())).label)
    counts = np.full((*shape, most, most), np.nan)
    counts_test = counts.copy()
    held = np.full((*shape, trials), -1, np.int16)
    test = held.copy()
    for (source, name), cell in cells.items():
        at = sources.index(source), list(columns).index(name)
        classes, true = len(columns[name].names), columns[name].label
        counts[at][:classes, :classes] = confusion(cell.decoded.held[0], true, classes)
        counts_test[at][:classes, :classes] = confusion(cell.decoded.test[0], true, classes)
        held[at], test[at] = cell.decoded.held[0], cell.decoded.test[0]
    true = np.array([column.label for column in columns.values()], np.int16)
    dims = ("features_from", "stimulus", "true_class", "decoded_class")
    number = {"units": "1", "long_name": "trials"}
    label = {"units": "1", "long_name": "class, -1 for none"}
    return {
        "confusion": (dims, counts, number),
        "confusion_test": (dims, counts_test, number),
        "decoded_class": ((*dims[:2], "trial"), held, label),
        "decoded_class_test": ((*dims[:2], "trial"), test, label),
        "given_class": (("stimulus", "trial"), true, label),
    }


def _ceiling_variables(
    cells: dict[tuple[str, str], Cell],
    sources: list[str],
    columns: dict[str, Classes],
    params: DiscreteParams,
) -> dict[str, Any]:
    shape = len(sources), len(columns)
    found = np.full((4, *shape), np.nan)
    value = np.full((*shape, params.folds + 1), np.nan)
    for (source, name), cell in cells.items():
        at = sources.index(source), list(columns).index(name)
        chosen = cell.decoded.value
        value[at][: len(chosen) - 1], value[at][-1] = chosen[:-1], chosen[-1]
        if not len(cell.halves.agreement):
            continue
        agreement = float(cell.halves.agreement.mean())
        by_chance = float(cell.halves.chance_agreement.mean())
        implied = float(implied_accuracy(np.array(agreement), len(columns[name].names)))
        found[(slice(None), *at)] = (
            agreement,
            (agreement - by_chance) / (1 - by_chance) if by_chance < 1 else np.nan,
            cell.halves.half_accuracy.mean(),
            doubled_accuracy(implied, len(columns[name].names)),
        )
    pair = ("features_from", "stimulus")
    long = (
        ("split_half_agreement", "held-out trials that both halves of the units tell alike"),
        ("split_half_kappa", "agreement beyond that of independent decoders, Cohen's kappa"),
        ("split_half_accuracy", "mean accuracy of the halves"),
        ("ceiling_accuracy", "accuracy of all units that the agreement of halves implies"),
    )
    ceiling = {
        name: (pair, values, {"units": "1", "long_name": words})
        for (name, words), values in zip(long, found, strict=True)
    }
    note = {"units": "1", "long_name": "hyper-parameter of each fold, the test split's last"}
    return ceiling | {"hyper_parameter": ((*pair, "decoder"), value, note)}
