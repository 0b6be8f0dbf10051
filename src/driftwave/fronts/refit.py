"""Each electrode's trigger chosen by the front it belongs to, not by the triggers near it.

Grouping joins triggers that are close in space and time: where an electrode has several, it takes
those that are early or late towards its neighbours, and of a wave whose times scatter it takes a
subset that scatters less. Both pull the times of a group together, so that its slowness is too
small (by 10 to 25 % in noise half as strong as the wave). Here every electrode of a group, and
within reach of it, is given the trigger nearest to the front fitted so far, until none changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from driftwave.fronts.shapes import Cones
from driftwave.fronts.slowness import huber, spanned
from driftwave.fronts.triggers import Triggers

ROUNDS = 5
# A front is looked for within this many lags of where it is expected.
LAGS = 2.0
SHARED = 0.5
BETTER = 0.9


@dataclass(frozen=True)
class Refit:
    """Chooses triggers anew.

    Attributes
    ----------
    position : ndarray (electrode, 2)
        mm.
    cones : Cones
    reach : float
        How far from a group's electrodes further ones may join it, mm.
    width : float
        Furthest a trigger may be from the front, s.
    fewest : int
        Electrodes that make a wave; a group that would lose more stays as it is.
    """

    position: np.ndarray
    cones: Cones
    reach: float
    width: float
    fewest: int

    @classmethod
    def of(
        cls,
        triggers: Triggers,
        position: np.ndarray,
        cones: Cones,
        *,
        reach: float,
        lag: float,
        fewest: int,
    ) -> Refit:
        """With a width of two lags, or half an electrode's median interval if that is less."""
        return cls(position, cones, reach, min(LAGS * lag, 0.5 * median_interval(triggers)), fewest)

    def __call__(self, group: Triggers, near: Triggers) -> Triggers:
        """The wave whose front passes ``group``, chosen among all triggers ``near`` it in time.

        Parameters
        ----------
        group : Triggers
            Each electrode at most once.
        near : Triggers
            In order of time; of all electrodes.
        """
        tree = cKDTree(self.position)
        around = tree.query_ball_point(self.position[group.electrode], self.reach + 1e-9)
        joins = np.zeros(len(self.position), bool)
        joins[np.concatenate(around).astype(int)] = True
        near = near[joins[near.electrode]]
        wave = group
        for _ in range(ROUNDS):
            expected = self.expected(wave)
            chosen = nearest(near, expected, self.width)
            if len(chosen) < self.fewest:
                return wave
            same = len(chosen) == len(wave) and bool((chosen.time == wave.time).all())
            wave = chosen
            if same:
                break
        return wave

    def margin(self, group: Triggers) -> float:
        """How long before and after a group its front may pass other electrodes, s."""
        return float(np.ptp(group.time)) + self.width

    def about(self, groups: list[Triggers], triggers: Triggers) -> Triggers:
        """The triggers that groups may take."""
        start = min(group.time.min() - self.margin(group) for group in groups)
        stop = max(group.time.max() + self.margin(group) for group in groups)
        return triggers.between(start, stop, 0.0)

    def expected(self, wave: Triggers) -> np.ndarray:
        """When the plane or cone through ``wave`` passes each electrode (electrode,), s.

        A cone where times deviate from it by a tenth less than from a plane, which is looked into
        where one of the candidates explains more than the plane.
        """
        place = self.position[wave.electrode]
        late, counts = wave.time - wave.time.mean(), np.ones((2, len(wave)))
        origin = float(wave.time.mean())
        directions, centre = spanned(place), place.mean(axis=0)
        plane = huber(_design((place - centre) @ directions), late, counts[:1])[0]
        passed = _design((self.position - centre) @ directions) @ plane
        left = ((late - passed[wave.electrode]) ** 2).sum()
        best = np.abs(self.cones.explained(late[None], counts[:1], wave.electrode)).max()
        if best * (late @ late) <= late @ late - left:
            return origin + passed
        cones = self.cones.fit(place, late, counts, wave.electrode, np.array([1.0, -1.0]))
        times = np.concatenate([passed[None], self.cones.at(self.position, cones)])
        off = np.abs(late - times[:, wave.electrode]).mean(axis=1)
        return origin + times[np.argmin(off * (BETTER, 1, 1))]


def _design(along: np.ndarray) -> np.ndarray:
    return np.column_stack([along, np.ones(len(along))])


def nearest(near: Triggers, expected: np.ndarray, width: float) -> Triggers:
    """Of each electrode the trigger nearest to its ``expected`` time (electrode,), if within width.

    Triggers in order of time.
    """
    away = np.abs(near.time - expected[near.electrode])
    within = np.flatnonzero(away < width)
    order = within[np.lexsort((away[within], near.electrode[within]))]
    _, first = np.unique(near.electrode[order], return_index=True)
    return near[np.sort(order[first])]


def median_interval(triggers: Triggers) -> float:
    """Median time between triggers of one electrode, s; infinite where none has two."""
    order = np.lexsort((triggers.time, triggers.electrode))
    step = np.diff(triggers.time[order])
    same = np.diff(triggers.electrode[order]) == 0
    return float(np.median(step[same])) if same.any() else float("inf")


def distinct(waves: list[Triggers], size: np.ndarray) -> np.ndarray:
    """Which waves (wave,) are not one that was found in two parts.

    Of waves that share more than half of their triggers the one whose group was the largest
    (``size``, electrodes) is kept.
    """
    kept = np.ones(len(waves), bool)
    if len(waves) < 2:
        return kept
    key = np.concatenate([wave.time + 1j * wave.electrode for wave in waves])
    _, number = np.unique(key, return_inverse=True)
    taken = np.zeros(number.max() + 1, bool)
    edges = np.cumsum([0, *(len(wave) for wave in waves)])
    for at in np.argsort(-size, kind="stable").tolist():
        own = number[edges[at] : edges[at + 1]]
        kept[at] = taken[own].mean() <= SHARED
        if kept[at]:
            taken[own] = True
    return kept
