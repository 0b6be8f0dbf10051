"""Singularities linked over frames: where each is born, drifts and dies."""

from __future__ import annotations

import numpy as np

from driftwave.frame_fits.stream import Measures


def link(points: Measures, *, distance: float, missed: int) -> np.ndarray:
    """Track of each singularity: the nearest of the same charge in the frames before.

    Pairs are made in order of distance, so that each singularity continues one track at most.

    Parameters
    ----------
    points : dict
        frame, x, y, charge (point,), in order of frames.
    distance : float
        Longest way from one frame to the next, mm; as much again per frame missed.
    missed : int
        Frames for which a track may be lost.

    Returns
    -------
    ndarray of int (point,)
        Track number, in order of birth.
    """
    frame, x, y, charge = (points[name].tolist() for name in ("frame", "x", "y", "charge"))
    track = np.full(len(frame), -1)
    alive: dict[int, int] = {}  # track -> its last point
    born, first = 0, 0
    while first < len(frame):
        now, last = frame[first], first
        while last < len(frame) and frame[last] == now:
            last += 1
        alive = {t: p for t, p in alive.items() if now - frame[p] <= missed + 1}
        pairs = []
        for t, p in alive.items():
            for q in range(first, last):
                if charge[q] == charge[p]:
                    way = ((x[q] - x[p]) ** 2 + (y[q] - y[p]) ** 2) ** 0.5
                    if way <= distance * (now - frame[p]):
                        pairs.append((way, t, q))
        taken: set[int] = set()
        for _, t, q in sorted(pairs):
            if t not in taken and track[q] < 0:
                taken.add(t)
                track[q] = t
                alive[t] = q
        for q in range(first, last):
            if track[q] < 0:
                track[q] = born
                alive[born] = q
                born += 1
        first = last
    return track


def summarise(points: Measures, track: np.ndarray) -> Measures:
    """Birth and death (frames, inclusive), charge, mean place and radius, path, per track.

    ``path`` is the way from frame to frame added up, mm; ``lifetime`` counts frames from birth to
    death.
    """
    count = int(track.max(initial=-1)) + 1
    order = np.argsort(track, kind="stable")
    edges = np.searchsorted(track[order], np.arange(count + 1))
    frame, size = points["frame"][order], np.maximum(np.diff(edges), 1)
    x, y = points["x"][order], points["y"][order]
    way = np.hypot(np.diff(x, append=0), np.diff(y, append=0))
    way[edges[1:] - 1] = 0
    first, last = edges[:-1], edges[1:] - 1

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(track[order], values, count) / size

    return {
        "birth": frame[first],
        "death": frame[last],
        "lifetime": frame[last] - frame[first] + 1,
        "charge": points["charge"][order][first],
        "x": mean(x),
        "y": mean(y),
        "radius": mean(points["radius"][order]),
        "path": np.bincount(track[order], way, count),
    }
