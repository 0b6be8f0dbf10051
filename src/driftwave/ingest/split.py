"""Which trials a model trains on, validates on and is tested on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from driftwave.compute import generator
from driftwave.ingest.file import NwbFile
from driftwave.ingest.tables import column
from driftwave.layout import SplitLayout

_NAMES = ("train", "valid", "test")
SPELLINGS = {
    "train": "train",
    "training": "train",
    "fit": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
    "unused": "unused",
    "none": "unused",
    "nan": "unused",
    "": "unused",
}
# Blocks of the same split that the recording is covered with, at most; more would spread the
# splits better over slow drifts but waste more windows in gaps.
_MOST_CYCLES = 5
_LARGEST_GAP_SHARE = 0.12


def split_trials(
    file: NwbFile,
    layout: SplitLayout,
    *,
    usable: np.ndarray,
    condition: np.ndarray,
    table: pd.DataFrame,
    contiguous: bool,
) -> np.ndarray:
    """Split of each trial: train, valid, test or unused.

    Parameters
    ----------
    usable : ndarray of bool (trial,)
        False for trials that must become unused.
    condition : ndarray of int (trial,)
    table : DataFrame
        The trials table, for ``layout.column``.
    contiguous : bool
        Trials are abutting windows.

    Returns
    -------
    ndarray of str (trial,)

    Raises
    ------
    InputError
        If a split would be empty, or the column is missing or holds other words.
    """
    by = layout.by or ("block" if contiguous else "trial")
    rng = generator(layout.seed, "split")
    split = np.full(len(usable), "unused", dtype="<U6")
    chosen = np.flatnonzero(usable)
    if layout.column is not None:
        split[chosen] = _from_column(file, layout, table)[chosen]
        if layout.valid:
            train = np.flatnonzero(split == "train")
            number = max(1, round(layout.valid * len(train))) if len(train) > 1 else 0
            split[rng.choice(train, number, replace=False)] = "valid"
        needed: tuple[str, ...] = ("train",)
    elif by == "block":
        split = _blocks(len(usable), layout.fractions, rng)
        split[~usable] = "unused"
        needed = _NAMES
    elif by == "condition":
        split[chosen] = _whole_conditions(condition[chosen], layout.fractions, rng)
        needed = _NAMES
    else:
        split[chosen] = _within_conditions(condition[chosen], layout.fractions, rng)
        needed = _NAMES
    missing = [name for name in needed if not (split == name).any()]
    if missing:
        what = {
            "block": "blocks of windows with a gap between them: use at least 5 usable windows",
            "condition": "whole conditions: use at least 3 conditions (`trials.condition`)",
            "trial": "trials: use at least 3 trials",
        }[by]
        raise file.fault(
            "split",
            f"no {' and no '.join(missing)} trial among {int(usable.sum())} usable of "
            f"{len(usable)}, {len(np.unique(condition))} condition(s)",
            "trials to train, validate and test on",
            f"Mend `split.column` {layout.column!r}"
            if layout.column
            else f"The split is by {what}, or mend `split`",
        )
    return split


def _from_column(file: NwbFile, layout: SplitLayout, table: pd.DataFrame) -> np.ndarray:
    name = str(layout.column)
    words = column(file, table, name, "split.column", "the trials table").astype(str)
    meaning = SPELLINGS | {word.strip().lower(): split for word, split in layout.words.items()}
    found = words.str.strip().str.lower().map(meaning)
    if found.isna().any():
        raise file.fault(
            "split.column",
            f"{sorted(set(words[found.isna()]))[:5]} in column {name!r}",
            "train, val (valid, validation), test or unused",
            "Name another column, or remove `split.column` to draw the split",
        )
    return found.to_numpy().astype("<U6")


def _quotas(number: int, fractions: tuple[float, float, float]) -> np.ndarray:
    """Sizes of the three splits, each at least one where there are three or more."""
    edges = np.rint(np.cumsum((0.0, *fractions)) * number).astype(int)
    sizes = np.diff(edges)
    while number >= 3 and sizes.min() == 0:
        sizes[sizes.argmax()] -= 1
        sizes[sizes.argmin()] += 1
    return sizes


def _within_conditions(
    condition: np.ndarray, fractions: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Random trials, every condition divided as the whole is, up to rounding.

    Trials are dealt like cards: ordered by condition (in random order, shuffled within), trial i
    gets the split whose share of the first i + 1 trials lags most behind its fraction.
    """
    number = len(condition)
    names = np.unique(condition)
    order_of = dict(zip(names, rng.permutation(len(names)), strict=True))
    rank = np.array([order_of[c] for c in condition])
    order = np.lexsort((rng.permutation(number), rank))
    sizes = _quotas(number, fractions)
    given = np.zeros(3)
    split = np.empty(number, dtype="<U6")
    for dealt, trial in enumerate(order, start=1):
        lag = np.where(given < sizes, sizes * dealt / number - given, -np.inf)
        k = int(lag.argmax())
        given[k] += 1
        split[trial] = _NAMES[k]
    return split


def _whole_conditions(
    condition: np.ndarray, fractions: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    names = rng.permutation(np.unique(condition))
    label = np.repeat(_NAMES, _quotas(len(names), fractions))
    split = np.empty(len(condition), dtype="<U6")
    for name, word in zip(names, label, strict=True):
        split[condition == name] = word
    return split


def _blocks(
    number: int, fractions: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Contiguous blocks, repeated over the recording, one window unused between two splits.

    The recording is divided into equal cycles, each holding one block of every split, in an order
    drawn once, so that the test blocks (and the others) are equally far apart.
    """
    if number < 5:
        return np.full(number, "unused", dtype="<U6")
    cycles = int(np.clip(_LARGEST_GAP_SHARE * number / 3, 1, _MOST_CYCLES))
    order = rng.permutation(3)
    labels: list[str] = []
    for size in np.diff(np.rint(np.linspace(0, number + 1, cycles + 1)).astype(int)):
        sizes = _quotas(int(size) - 3, fractions)
        for k in order:
            labels += [_NAMES[k]] * int(sizes[k]) + ["unused"]
    # The last cycle needs no gap after it.
    return np.array(labels[:number], dtype="<U6")
