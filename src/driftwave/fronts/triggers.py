"""When each electrode is triggered: troughs, threshold or phase crossings, spikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Triggers:
    """Triggers in order of time.

    Attributes
    ----------
    time : ndarray (trigger,)
        s, or frames where a function says so.
    electrode : ndarray of int (trigger,)
        Among the electrodes in use.
    """

    time: np.ndarray
    electrode: np.ndarray

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, which: np.ndarray | slice) -> Triggers:
        return Triggers(self.time[which], self.electrode[which])

    def between(self, start: float, stop: float, margin: float) -> Triggers:
        """Those from ``margin`` before ``start`` to ``margin`` after ``stop`` (s)."""
        low, high = np.searchsorted(self.time, (start - margin, stop + margin))
        return self[low:high]

    def __add__(self, other: Triggers) -> Triggers:
        return joined([self, other])


def ordered(time: np.ndarray, electrode: np.ndarray) -> Triggers:
    """Triggers sorted by time, then by electrode."""
    order = np.lexsort((electrode, time))
    return Triggers(time[order], electrode[order].astype(int))


def joined(parts: list[Triggers]) -> Triggers:
    """Triggers of all parts in order."""
    return ordered(
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.electrode for part in parts]),
    )


def none() -> Triggers:
    """No triggers."""
    return Triggers(np.zeros(0), np.zeros(0, int))


def troughs(values: np.ndarray, depth: np.ndarray) -> Triggers:
    """Local minima below ``-depth``, each placed at the vertex of a parabola through three samples.

    Parameters
    ----------
    values : ndarray (electrode, frame)
        Deviations from each electrode's baseline; NaN for no value.
    depth : ndarray (electrode,)

    Returns
    -------
    Triggers
        Times in frames.
    """
    before, here, after = values[:, :-2], values[:, 1:-1], values[:, 2:]
    low = (here < before) & (here <= after) & (here < -depth[:, None])
    electrode, frame = np.nonzero(low)
    a, b, c = (part[electrode, frame].astype(float) for part in (before, here, after))
    return ordered(frame + 1 + 0.5 * (a - c) / (a - 2 * b + c), electrode)


def crossings(values: np.ndarray, level: np.ndarray) -> Triggers:
    """Upward crossings of ``level`` (electrode,) by ``values`` (electrode, frame).

    Linear between samples; times in frames.
    """
    above = values - level[:, None]
    electrode, frame = np.nonzero((above[:, :-1] < 0) & (above[:, 1:] >= 0))
    a, b = above[electrode, frame].astype(float), above[electrode, frame + 1].astype(float)
    return ordered(frame - a / (b - a), electrode)


def phase_crossings(analytic: np.ndarray, target: float, amplitude: np.ndarray) -> Triggers:
    """Passages of the phase through ``target`` (rad) at an amplitude of at least ``amplitude``.

    Parameters
    ----------
    analytic : ndarray, complex (electrode, frame)
    target : float
    amplitude : ndarray (electrode,)

    Returns
    -------
    Triggers
        Times in frames, linear in phase between samples.
    """
    turned = analytic * np.exp(-1j * target)
    step = np.angle(turned)
    passed = (step[:, :-1] < 0) & (step[:, 1:] >= 0) & (step[:, 1:] - step[:, :-1] < np.pi)
    passed &= np.abs(turned[:, :-1]) >= amplitude[:, None]
    electrode, frame = np.nonzero(passed)
    a, b = step[electrode, frame].astype(float), step[electrode, frame + 1].astype(float)
    return ordered(frame - a / (b - a), electrode)


def spikes(counts: np.ndarray) -> Triggers:
    """Every bin that holds a spike; counts (electrode, bin), times in bins."""
    electrode, frame = np.nonzero(counts > 0)
    return ordered(frame.astype(float), electrode)


def after_silence(found: Triggers, silence: float, last: np.ndarray) -> Triggers:
    """Triggers not within ``silence`` after the last one kept on the same electrode.

    Parameters
    ----------
    found : Triggers
    silence : float
        In the unit of their times.
    last : ndarray (electrode,)
        Time of the last trigger kept on each electrode before these; updated in place.
    """
    order = np.lexsort((found.time, found.electrode))
    time, electrode = found.time[order], found.electrode[order]
    kept = np.ones(len(time), bool)
    start = 0
    for number, size in zip(*np.unique(electrode, return_counts=True), strict=True):
        own = time[start : start + size]
        # Only triggers close to their predecessor can be dropped: elsewhere a run begins afresh.
        close = np.flatnonzero(np.diff(own, prepend=last[number]) < silence)
        latest = last[number]
        for place in close.tolist():
            if place and kept[start + place - 1]:
                latest = own[place - 1]
            kept[start + place] = own[place] - latest >= silence
        final = np.flatnonzero(kept[start : start + size])
        if len(final):
            last[number] = own[final[-1]]
        start += size
    return ordered(time[kept], electrode[kept])
