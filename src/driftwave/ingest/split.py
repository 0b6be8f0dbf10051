"""Which trials a model trains on, validates on and is tested on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from driftwave.compute import generator
from driftwave.ingest.exclusion import touched
from driftwave.ingest.file import NwbFile
from driftwave.ingest.intervals import ABUT, merge
from driftwave.ingest.tables import column
from driftwave.joblog import note
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
    starts: np.ndarray | None = None,
    stops: np.ndarray | None = None,
) -> np.ndarray:
    """Split of each trial: train, valid, test or unused.

    Trials that overlap in time share spikes: a split that is drawn puts them on one side, or,
    where they form one chain, cuts the recording into blocks in time. What still overlaps across
    the split becomes unused, training trials first. A split that a column names stays as it is,
    unless ``layout.overlap`` says otherwise; overlaps across it are said.

    Parameters
    ----------
    usable : ndarray of bool (trial,)
        False for trials that must become unused.
    condition : ndarray of int (trial,)
    table : DataFrame
        The trials table, for ``layout.column``.
    contiguous : bool
        Trials are abutting windows.
    starts, stops : ndarray (trial,), optional
        s; without them no trial overlaps another.

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
    spans = (np.arange(len(usable)), np.arange(len(usable)))
    if starts is not None and stops is not None and not contiguous:
        spans = starts, stops
    bundle = bundles(*(edge[chosen] for edge in spans))
    separate = layout.overlap == "separate" or (layout.overlap is None and not layout.column)
    if separate and by == "trial" and not layout.column and _one_chain(bundle):
        note("most trials overlap in one chain: split into blocks in time, not by trial")
        by = "block"
    if layout.column is not None:
        split[chosen] = _from_column(file, layout, table)[chosen]
        if layout.valid:
            train = np.flatnonzero(split == "train")
            number = max(1, round(layout.valid * len(train))) if len(train) > 1 else 0
            split[rng.choice(train, number, replace=False)] = "valid"
        needed: tuple[str, ...] = ("train",)
    elif by == "block":
        in_time = np.argsort(spans[0], kind="stable")
        # Blocks are laid over what can be used, from its first trial to its last.
        kept = np.flatnonzero(usable[in_time])
        in_time = in_time[kept[0] : kept[-1] + 1] if len(kept) else in_time[:0]
        split[in_time] = _blocks(len(in_time), layout.fractions, rng)
        split[~usable] = "unused"
        needed = _NAMES
    elif by == "condition":
        split[chosen] = _whole_conditions(condition[chosen], layout.fractions, rng)
        needed = _NAMES
    else:
        own = bundle if separate else np.arange(len(chosen))
        first = np.unique(own, return_index=True)[1]
        drawn = _within_conditions(condition[chosen][first], layout.fractions, rng)
        split[chosen] = drawn[own]
        needed = _NAMES
    if not contiguous:
        _part(split, *spans, separate=separate)
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


def overlapping(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Which trials overlap another in time, bool (trial,)."""
    own = bundles(starts, stops)
    return np.bincount(own)[own] > 1 if len(own) else np.zeros(0, dtype=bool)


def bundles(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Number, int (trial,), of the bundle of trials linked by overlaps; in order of appearance."""
    order = np.argsort(starts, kind="stable")
    reach = np.maximum.accumulate(stops[order])
    number = np.cumsum(np.concatenate([[0], starts[order][1:] > reach[:-1] - ABUT]))[: len(order)]
    own = np.empty(len(order), dtype=np.intp)
    own[order] = number
    # Numbered as they appear, so that without overlaps a trial's number is its index.
    _, first, inverse = np.unique(own, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _one_chain(bundle: np.ndarray) -> bool:
    """Whether bundles are too few or too large to be dealt out."""
    sizes = np.bincount(bundle)
    return bool(sizes.max(initial=1) > 1 and (len(sizes) < 3 or sizes.max() > len(bundle) / 2))


def _part(split: np.ndarray, starts: np.ndarray, stops: np.ndarray, *, separate: bool) -> None:
    """Make trials unused, in place, that overlap one of a split further on; or only say so."""
    lost = 0
    for later, earlier in (("test", ("train", "valid")), ("valid", ("train",))):
        own = split == later
        if not own.any():
            continue
        spans = merge(np.stack([starts[own], stops[own]], axis=1))
        shared = np.isin(split, earlier) & touched(spans, starts, stops)
        lost += int(shared.sum())
        if separate:
            split[shared] = "unused"
    if lost:
        done = "unused" if separate else "kept, as `split.overlap` is keep or a column names them"
        note(f"{lost} trials overlap, in time, trials of a split they are not in: {done}")


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
