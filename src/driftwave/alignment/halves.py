"""Halves of each session's trials, and what is averaged in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.alignment.sessions import Session
from driftwave.compute import generator

# Samples of a condition in each half: one for each side of a cross-validated distance.
FEWEST = 2
MOST_FOLDS = 5


@dataclass(frozen=True)
class Halved:
    """A session whose samples are divided into halves, several times over.

    Attributes
    ----------
    session : Session
    labels : list of str
        Conditions with at least ``FEWEST`` samples in every half.
    position : ndarray of int (sample,)
        Place of each sample's condition in ``labels``, -1 for those left out.
    half : ndarray of int (split, sample)
        0 or 1.
    """

    session: Session
    labels: list[str]
    position: np.ndarray
    half: np.ndarray

    def chosen(self, split: int, half: int) -> np.ndarray:
        """Mask (sample,) of one half in the conditions that are kept."""
        return (self.half[split] == half) & (self.position >= 0)

    def averages(self, split: int, half: int, conditions: np.ndarray) -> np.ndarray:
        """Condition averages (condition, time, dim) of one half."""
        chosen = self.chosen(split, half)
        return grouped_means(self.session.values, self.position, chosen, conditions)

    def windows(self, count: int) -> np.ndarray:
        """Samples (sample, window, dim) averaged in windows of nearly equal length."""
        values = self.session.values
        parts = np.array_split(np.arange(values.shape[1]), min(count, values.shape[1]))
        return np.stack([values[:, part].mean(axis=1) for part in parts], axis=1)

    def folds(self, split: int, half: int) -> np.ndarray:
        """Fold (sample,) of the samples of one half, -1 for others: every condition in each."""
        chosen = self.chosen(split, half)
        fold = np.full(len(chosen), -1)
        counts = np.bincount(self.position[chosen], minlength=len(self.labels))
        folds = int(np.clip(counts.min(), FEWEST, MOST_FOLDS))
        for k in range(len(self.labels)):
            rows = np.flatnonzero(chosen & (self.position == k))
            fold[rows] = np.arange(len(rows)) * folds // len(rows)
        return fold


def grouped_means(
    values: np.ndarray, position: np.ndarray, chosen: np.ndarray, conditions: np.ndarray
) -> np.ndarray:
    """Means (condition, time, dim) of the chosen samples of each condition."""
    member = (position[None] == conditions[:, None]) & chosen[None]
    flat = member.astype(float) @ values.reshape(len(values), -1)
    means = flat / member.sum(axis=1, keepdims=True)
    return means.reshape(len(conditions), *values.shape[1:])


def halve(session: Session, splits: int, seed: int) -> Halved:
    """Divide a session's samples into halves, each condition evenly where groups allow.

    The random stream is the same for every session, so that two populations recorded in the same
    trials are divided alike: one half of the one against the other half of the other then share
    no trial, and their common noise is not taken for alignment.
    """
    half = np.empty((splits, len(session.condition)), int)
    for split in range(splits):
        rng = generator(seed, "halves", str(split))
        half[split] = _half(session, rng)
    usable = [k for k in range(len(session.labels)) if _enough(half, session.condition == k)]
    position = np.full(len(session.condition), -1)
    for new, old in enumerate(usable):
        position[session.condition == old] = new
    return Halved(session, [session.labels[k] for k in usable], position, half)


def _half(session: Session, rng: np.random.Generator) -> np.ndarray:
    own_trial = len(np.unique(session.group)) == len(session.group)
    strata = session.condition if own_trial else np.zeros(len(session.condition), int)
    half = np.zeros(len(strata), int)
    for stratum in np.unique(strata):
        inside = strata == stratum
        groups = np.unique(session.group[inside])
        first = rng.integers(2)
        side = dict(zip(rng.permutation(groups), (np.arange(len(groups)) + first) % 2, strict=True))
        half[inside] = [side[g] for g in session.group[inside]]
    return half


def _enough(half: np.ndarray, inside: np.ndarray) -> bool:
    ones = half[:, inside].sum(axis=1)
    return bool((np.minimum(ones, inside.sum() - ones) >= FEWEST).all())
