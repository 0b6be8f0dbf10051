"""Repeats of conditions: single trials, or block averages of bins of the same behaviour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.geometry.conditions import Conditions

BLOCKS = 10
# A block's average of fewer bins is too noisy to be a repeat.
FEWEST_BINS = 5


@dataclass(frozen=True)
class Repeats:
    """Repeats of conditions that have at least two.

    Attributes
    ----------
    values : ndarray (repeat, time, dim)
        One time where conditions are of bins.
    of : ndarray of int (repeat,)
        Condition of each repeat, 0 to conditions - 1, each with at least two.
    kept : ndarray of int (condition,)
        Position of each among all conditions.
    """

    values: np.ndarray
    of: np.ndarray
    kept: np.ndarray

    @property
    def conditions(self) -> int:
        return len(self.kept)

    def averages(self, of: np.ndarray | None = None) -> np.ndarray:
        """Averages (condition, time, dim); ``of`` gives other labels."""
        labels = self.of if of is None else of
        chosen = (labels == np.arange(self.conditions)[:, None]).astype(float)
        total = chosen @ self.values.reshape(len(self.values), -1)
        return (total / chosen.sum(axis=1, keepdims=True)).reshape(
            self.conditions, *self.values.shape[1:]
        )

    def chosen(self, repeats: np.ndarray) -> Repeats:
        """Some repeats (mask or positions) only, of the conditions that still have two."""
        return make_repeats(self.values[repeats], self.kept[self.of[repeats]])

    def with_values(self, values: np.ndarray) -> Repeats:
        """Other values of the same repeats."""
        return Repeats(values, self.of, self.kept)


def make_repeats(values: np.ndarray, of: np.ndarray, *, fewest: int = 2) -> Repeats:
    """Repeats of values (repeat, time, dim) in conditions (repeat,), -1 for none.

    Conditions with fewer than ``fewest`` repeats are left out.
    """
    ids, counts = np.unique(of[of >= 0], return_counts=True)
    kept = ids[counts >= fewest]
    there = np.isin(of, kept)
    return Repeats(values[there], np.searchsorted(kept, of[there]), kept)


def repeats_of(values: np.ndarray, conditions: Conditions, *, fewest: int = 2) -> Repeats:
    """Repeats of the conditions of trials, or of bins.

    Conditions of bins are averaged in ``BLOCKS`` blocks of successive trials; an average of
    fewer than ``FEWEST_BINS`` bins is none.

    Parameters
    ----------
    values : ndarray (trial, time, dim)
    conditions : Conditions
        Of the same trials.
    fewest : int
        Repeats a condition must have to be kept.
    """
    if not conditions.labels:
        return make_repeats(values[:0], np.zeros(0, int))
    if conditions.by_trial:
        return make_repeats(values, conditions.of, fewest=fewest)
    found, labels = [], []
    for block in np.array_split(np.arange(len(values)), min(BLOCKS, len(values))):
        rows, of = values[block].reshape(-1, values.shape[-1]), conditions.of[block].ravel()
        for label in range(len(conditions.labels)):
            if (of == label).sum() >= FEWEST_BINS:
                found.append(rows[of == label].mean(axis=0))
                labels.append(label)
    stacked = np.array(found).reshape(len(found), 1, values.shape[-1])
    return make_repeats(stacked, np.array(labels, int), fewest=fewest)
