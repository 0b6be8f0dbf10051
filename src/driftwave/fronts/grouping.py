"""Waves as groups of triggers that are close in space and time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from sklearn.cluster import DBSCAN

from driftwave.fronts.triggers import Triggers, none

SOURCE = "Ester et al. 1996, KDD 226"


@dataclass(frozen=True)
class Grouping:
    """Density-based grouping of triggers on (x, y, t).

    Attributes
    ----------
    position : ndarray (electrode, 2)
        mm.
    reach : float
        mm, and
    lag : float
        s: triggers are neighbours where (distance / reach)^2 + (delay / lag)^2 <= 1.
    neighbours : int
        Triggers in a neighbourhood, itself included, that make a trigger part of a wave's core.
    fewest : int
        Electrodes that make a wave.
    longest : float
        A group that is still going on after this long is cut, s.
    """

    position: np.ndarray
    reach: float
    lag: float
    neighbours: int
    fewest: int
    longest: float

    def scaled(self, triggers: Triggers) -> np.ndarray:
        """Points (trigger, 3) in which neighbours lie within 1 of each other."""
        time = (triggers.time - (triggers.time[0] if len(triggers) else 0)) / self.lag
        return np.column_stack([self.position[triggers.electrode] / self.reach, time])

    def labels(self, triggers: Triggers) -> np.ndarray:
        """Integer group of each trigger (trigger,), -1 for none."""
        if not len(triggers):
            return np.zeros(0, int)
        clustering = DBSCAN(eps=1.0, min_samples=self.neighbours, algorithm="kd_tree")
        return clustering.fit_predict(self.scaled(triggers))

    def stream(self, stretches: Iterable[tuple[Triggers, float]]) -> Iterator[Triggers]:
        """Waves, each with every electrode at most once, from consecutive stretches of triggers.

        A group that reaches to within two lags of a stretch's end may grow: its triggers are
        grouped again with the next stretch's. Everything else is final, so that the waves are those
        of the whole recording at once.

        Parameters
        ----------
        stretches : iterable of (Triggers, float)
            Triggers and the time (s) up to which they are complete.
        """
        open_triggers = none()
        for found, until in stretches:
            triggers = open_triggers + found
            labels = self.labels(triggers)
            count = int(labels.max(initial=-1)) + 1
            late = triggers.time > until - 2 * self.lag
            growing = np.zeros(count + 1, bool)
            growing[labels[late]] = True
            if count:
                first = np.full(count + 1, np.inf)
                np.minimum.at(first, labels, triggers.time)
                growing[:-1] &= until - first[:-1] < self.longest
            # Noise near the end may become part of a group, noise before it cannot.
            carried = np.where(labels >= 0, growing[labels], late)
            done = np.unique(labels[(labels >= 0) & ~carried])
            order = np.argsort(labels, kind="stable")
            edges = np.searchsorted(labels[order], [done, done + 1])
            for begin, end in edges.T.tolist():
                yield from self.waves(triggers[np.sort(order[begin:end])])
            open_triggers = triggers[carried]

    def waves(self, group: Triggers) -> Iterator[Triggers]:
        """Split a group in which electrodes repeat; groups of too few electrodes are dropped."""
        unique = len(np.unique(group.electrode))
        if unique < self.fewest:
            return
        if unique == len(group):
            yield group
            return
        label = once_each(self.scaled(group), group.electrode)
        number, size = np.unique(label, return_counts=True)
        for one in number[size >= self.fewest]:
            yield group[label == one]


def once_each(points: np.ndarray, electrode: np.ndarray) -> np.ndarray:
    """Join the closest triggers first, never two of one electrode: a label each (trigger,).

    Single linkage under the constraint that a wave passes an electrode once, which takes apart
    waves that follow each other or cross.

    Parameters
    ----------
    points : ndarray (trigger, 3)
        Scaled so that neighbours lie within 1.
    electrode : ndarray of int (trigger,)
    """
    pairs = cKDTree(points).query_pairs(1.0, output_type="ndarray")
    distance = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], distance))
    parent = list(range(len(points)))
    held = [1 << int(number) for number in electrode]

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    for a, b in pairs[order].tolist():
        first, second = root(a), root(b)
        if first != second and not held[first] & held[second]:
            parent[second] = first
            held[first] |= held[second]
    return np.array([root(one) for one in range(len(points))])
