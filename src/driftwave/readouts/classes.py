"""Classes to tell apart: discrete columns of the stimulus, or the trials' conditions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.readouts.targets import stimulus_classes
from driftwave.recording import trial_mask

CONDITION = "condition"
FEWEST_TRIALS = 2


@dataclass(frozen=True)
class Classes:
    """Class of each trial.

    Attributes
    ----------
    label : ndarray of int (trial,)
        In [0, classes); -1 for trials without one.
    names : list of str
        Value of the column that each class stands for.
    angle : ndarray (class,) or None
        Of a circular column, radians.
    note : str
        What was left out, and why.
    """

    label: np.ndarray
    names: list[str]
    angle: np.ndarray | None = None
    note: str = ""


def condition_classes(
    recording: xr.DataTree, wanted: tuple[str, ...] | None = None
) -> dict[str, Classes]:
    """Classes by column of the stimulus; without any that qualify, the trials' ``condition``.

    A column of the stimulus qualifies as in
    :func:`driftwave.readouts.targets.stimulus_classes`; conditions with any number of classes.

    Parameters
    ----------
    recording : DataTree
    wanted : tuple of str or None
        Names of columns (or ``condition``); None for all.

    Raises
    ------
    InputError
        A wanted column does not qualify.
    """
    found = {
        name: _named(recording["stimulus"].to_dataset()[name], label)
        for name, label in stimulus_classes(recording).items()
    }
    if not found or (wanted and CONDITION in wanted):
        condition = recording["trials"].to_dataset()[CONDITION]
        values = condition.values
        there = np.isfinite(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
        label = np.full(len(values), -1)
        label[there] = np.unique(values[there], return_inverse=True)[1]
        found[CONDITION] = _named(condition, label)
    missing = sorted(set(wanted or ()) - set(found))
    if missing:
        raise InputError(
            file=recording.attrs["session"],
            field="params.columns",
            found=missing,
            expected=f"some of {sorted(found)}, which have at least two classes of two trials",
            fix="Name one of these, or leave `columns` out",
        )
    return {name: found[name] for name in (wanted or found)}


def _named(column: xr.DataArray, label: np.ndarray) -> Classes:
    """Classes numbered in the order of their values, with these as names."""
    number = int(label.max(initial=-1)) + 1
    values = np.array([column.values[np.flatnonzero(label == k)[0]] for k in range(number)])
    order = np.argsort(values, kind="stable")
    rank = np.append(np.argsort(order), -1)
    period = float(column.attrs.get("period", np.nan))
    angle = None
    if np.isfinite(period) and values.dtype.kind in "iuf":
        angle = 2 * np.pi * values[order].astype(float) / period
    names = [f"{v:g}" if isinstance(v, np.floating) else str(v) for v in values[order]]
    return Classes(rank[label], names, angle)


def usable_classes(
    recording: xr.DataTree, columns: dict[str, Classes], finite: np.ndarray
) -> dict[str, Classes]:
    """Columns without the trials and classes that cannot be decoded, which the note names.

    Trials whose features are not finite are left out; then classes with fewer than two trials in
    the train and valid splits, for one trial cannot be both learnt from and told.

    Parameters
    ----------
    recording : DataTree
    columns : dict of Classes
    finite : ndarray of bool (trial,)

    Raises
    ------
    InputError
        No column keeps two classes.
    """
    fitting = trial_mask(recording, "train", "valid")
    split = trial_mask(recording, "train", "valid", "test")
    kept = {}
    for name, column in columns.items():
        label = np.where(finite & split, column.label, -1)
        unfit = int((split & ~finite & (column.label >= 0)).sum())
        notes = [f"{name}: {unfit} trials with features that are not finite left out"][
            : bool(unfit)
        ]
        trials = np.bincount(label[fitting & (label >= 0)], minlength=len(column.names))
        rare = np.flatnonzero(trials < FEWEST_TRIALS)
        if len(rare):
            words = ", ".join(column.names[k] for k in rare[:8]) + ", ..." * (len(rare) > 8)
            notes.append(
                f"{name}: {len(rare)} classes with fewer than {FEWEST_TRIALS} trials in train and "
                f"valid left out ({words})"
            )
        if len(column.names) - len(rare) >= 2:
            kept[name] = _without(column, label, rare, "; ".join(notes))
    if not kept:
        raise InputError(
            file=recording.attrs["session"],
            field="stimulus, condition",
            found=f"in {sorted(columns)} fewer than two classes of {FEWEST_TRIALS} trials in the "
            "train and valid splits",
            expected="at least two classes, each shown more than once",
            fix="Name a stimulus column with repeats in the layout, or leave this decoder out",
        )
    return kept


def _without(column: Classes, label: np.ndarray, rare: np.ndarray, note: str) -> Classes:
    stays = np.setdiff1d(np.arange(len(column.names)), rare)
    number = np.full(len(column.names) + 1, -1)
    number[stays] = np.arange(len(stays))
    angle = None if column.angle is None else column.angle[stays]
    return Classes(number[label], [column.names[k] for k in stays], angle, note)
