"""The labelled result of the discrete decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from driftwave.readouts.blocks import exchangeable
from driftwave.readouts.classes import Classes
from driftwave.readouts.classification import (
    Decoded,
    SplitHalf,
    accuracy,
    balanced_accuracy,
    confusion,
    doubled_accuracy,
    implied_accuracy,
    mean_angular_error,
)
from driftwave.readouts.folds import Plan
from driftwave.readouts.heldout import widened
from driftwave.readouts.results import Cells, mean_folds, score_variables, shuffles_used

SAME_PREDICTIONS = "against the same predictions; of folds widened by sqrt 2"


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
    adjust = (lambda each: each) if cell.refitted else widened
    return {
        name: (np.array([adjust(one) for one in each[:-1]]), each[-1])
        for name, each in found.items()
    }


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


def discrete_dataset(
    recording: xr.DataTree,
    sources: list[str],
    columns: dict[str, Classes],
    cells: dict[tuple[str, str], Cell],
    groups: dict[str, np.ndarray],
    *,
    folds: int,
    validate_on: str,
    params: str,
    seed: int,
) -> xr.Dataset:
    """All scores, confusions and ceilings as one labelled dataset.

    Parameters
    ----------
    recording : DataTree
    sources : list of str
        Names of the sets of features.
    columns : dict of Classes
    cells : dict of Cell
        By source and column.
    groups : dict of ndarray of int (trial,)
        Trials among which the labels of a column were exchanged.
    folds : int
    validate_on : str
    params : str
        As JSON.
    seed : int
    """
    variables = _score_variables(cells, sources, columns, folds)
    variables |= _trial_variables(cells, sources, columns)
    variables |= _ceiling_variables(cells, sources, columns, folds)
    pair = ("features_from", "stimulus")
    null = mean_folds(np.moveaxis(variables["null_accuracy"][1], -1, 0))
    largest = [
        np.bincount(c.label[c.label >= 0]).max() / (c.label >= 0).sum() for c in columns.values()
    ]
    mixed = [exchangeable(column.label, groups[name]) for name, column in columns.items()]
    one = {"units": "1"}
    variables |= {
        "chance": (pair, null, one | {"long_name": "mean accuracy with shuffled labels"}),
        "largest_class": ("stimulus", largest, one | {"long_name": "its share of the trials"}),
        "trials_used": ("stimulus", [int((c.label >= 0).sum()) for c in columns.values()], one),
        "exchangeable": (
            "stimulus",
            mixed,
            one | {"long_name": "share of trials exchanged with another class"},
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
    moved = (
        "circular shifts by whole windows"
        if contiguous
        else "labels permuted within blocks" + " and folds" * refitted
    )
    attrs = {
        "session": recording.attrs["session"],
        "folds": "contiguous blocks" if contiguous else "whole trials, stratified by condition",
        "null": f"{moved}, " + ("refitted" if refitted else SAME_PREDICTIONS),
        "shuffles_used": shuffles_used(variables),
        "validated_on": "train and valid" if validate_on == "fitting" else "all splits",
        "bin_width": float(recording["spikes"].attrs["bin_width"]),
        "note": "; ".join(column.note for column in columns.values() if column.note),
        "params": params,
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
    folds: int,
) -> dict[str, Any]:
    shape = len(sources), len(columns)
    found = np.full((4, *shape), np.nan)
    value = np.full((*shape, folds + 1), np.nan)
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
