"""Groups of trials within which class labels are exchanged for the null.

Exchanging labels only within a stretch of the session keeps slow drift where it is: a decoder that
tells early from late trials gains nothing from it under the null that it does not gain from the
true labels. Where decoders are refitted, labels stay within their fold as well, which keeps the
folds' shares of every class: folds are stratified for the true labels, and a shuffle whose folds
are not is at a disadvantage (a class rare among the training trials is frequent among the held
ones), which would make p too small.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.readouts.folds import Plan
from driftwave.readouts.null import possible_shuffles, shuffled_trials

# Fewest trials of a block where none are named: divided by the folds, fewer leave little to
# exchange.
SHORTEST_BLOCK = 40


def trial_blocks(
    recording: xr.DataTree,
    there: np.ndarray,
    classes: int,
    *,
    column: str | None = None,
    length: int | None = None,
) -> np.ndarray:
    """Block (trial,) of each trial.

    Parameters
    ----------
    recording : DataTree
    there : ndarray of bool (trial,)
        Trials that take part; the others are of block -1.
    classes : int
    column : str or None
        Column of the trials table that names the blocks.
    length : int or None
        Trials of a block, in the order of their starts; by default twice the number of classes,
        at least ``SHORTEST_BLOCK``.

    Raises
    ------
    InputError
        No such column.
    """
    trials = recording["trials"].to_dataset()
    block = np.full(len(there), -1)
    used = np.flatnonzero(there)
    if column is not None:
        if column not in trials:
            raise InputError(
                file=recording.attrs["session"],
                field="params.block_column",
                found=f"{column!r}, and columns {sorted(map(str, trials.data_vars))}",
                expected="a column of the trials table",
                fix="Name one of these, or leave block_column out for blocks in time",
            )
        block[used] = np.unique(trials[column].values[used].astype(str), return_inverse=True)[1]
        return block
    start = recording["spikes"].to_dataset()["trial_start"].values[used]
    wanted = length or max(SHORTEST_BLOCK, 2 * classes)
    number = max(1, round(len(used) / wanted))
    order = used[np.argsort(start, kind="stable")]
    for k, some in enumerate(np.array_split(order, number)):
        block[some] = k
    return block


def exchange_groups(block: np.ndarray, plan: Plan, *, refitted: bool) -> np.ndarray:
    """Trials (trial,) whose labels are exchanged with one another, numbered.

    Those of one block and split, and where the decoder is refitted of one fold; -1 for those of
    no block. Against fixed predictions the folds' shares do not matter, and larger groups mix
    labels better.
    """
    fold = np.full(len(block), plan.folds)
    for k, held in enumerate(plan.held if refitted else ()):
        fold[plan.trials(held)] = k
    test = np.zeros(len(block), int)
    test[plan.trials(plan.test)] = 1
    together = np.stack([block, fold, test])
    group = np.full(len(block), -1)
    used = block >= 0
    group[used] = np.unique(together[:, used], axis=1, return_inverse=True)[1].ravel()
    return group


def exchangeable(classes: np.ndarray, group: np.ndarray) -> float:
    """Share of trials that share their group with a trial of another class.

    0 where every group holds one class: labels and drift can then not be told apart, and p is 1.
    """
    used = np.flatnonzero(group >= 0)
    mixed = [len(np.unique(classes[group == group[trial]])) > 1 for trial in used]
    return float(np.mean(mixed)) if mixed else 0.0


def label_shuffles(
    group: np.ndarray, count: int, *, contiguous: bool, gap: int, rng: np.random.Generator
) -> np.ndarray:
    """Whose class each trial is given: row 0 its own, then the shuffles (1 + count, trial).

    Labels are permuted within groups; where trials are abutting windows of one recording they are
    shifted circularly instead, and there may be fewer shifts than wanted.

    Parameters
    ----------
    group : ndarray of int (trial,)
        -1 for trials that take no part and keep their own.
    count : int
    contiguous : bool
    gap : int
        Windows left out of training either side of a held one.
    rng : Generator
    """
    used = group >= 0
    if contiguous:
        possible = possible_shuffles(int(used.sum()), contiguous=True, gap=gap)
        return shuffled_trials(used, int(min(count, possible)), contiguous=True, gap=gap, rng=rng)
    rows = np.tile(np.arange(len(group)), (count + 1, 1))
    for k in np.unique(group[used]):
        some = np.flatnonzero(group == k)
        rows[1:, some] = rng.permuted(np.tile(some, (count, 1)), axis=1)
    return rows
