"""Critical points of consecutive frames joined into patterns that last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.flow.critical_points import CriticalPoints, charge_of, pattern_of
from driftwave.flow.horn_schunck import compiled

# How fast a track's place follows its points.
FOLLOW = 0.2
# A track has a point in at least this share of its frames.
OCCUPIED = 0.5


@compiled
def _link(frame, section, x, y, saddle, reach, gap, track):
    """Number the track of every point; points are in the order of their frames."""
    count = len(frame)
    place = np.empty((count, 2))
    last = np.empty(count, np.int64)
    first_of = np.empty(count, np.int64)
    active = np.empty(count, np.int64)
    alive, tracks = 0, 0
    for i in range(count):
        kept = 0
        for j in range(alive):
            if frame[i] - last[active[j]] <= gap:
                active[kept] = active[j]
                kept += 1
        alive = kept
        best = -1
        for j in range(alive):
            other = active[j]
            start = first_of[other]
            if (
                last[other] == frame[i]
                or saddle[start] != saddle[i]
                or section[start] != section[i]
            ):
                continue
            distance = (place[other, 0] - x[i]) ** 2 + (place[other, 1] - y[i]) ** 2
            # The oldest track: two zeros on the sides of one triangle do not cut it in two.
            if distance <= reach * reach and (best < 0 or other < best):
                best = other
        if best < 0:
            best = tracks
            first_of[best] = i
            place[best, 0], place[best, 1] = x[i], y[i]
            active[alive] = best
            alive += 1
            tracks += 1
        else:
            place[best, 0] += FOLLOW * (x[i] - place[best, 0])
            place[best, 1] += FOLLOW * (y[i] - place[best, 1])
        last[best] = frame[i]
        track[i] = best
    return tracks


@dataclass(frozen=True)
class Track:
    """A pattern that stays near one place for a while.

    Attributes
    ----------
    start, stop : int
        Frames.
    centre : ndarray (2,)
        Median place, mm.
    jacobian : ndarray (2, 2)
        Mean over frames of the Jacobians, each divided by its norm.
    points : slice or ndarray of int
        Its critical points.
    """

    start: int
    stop: int
    centre: np.ndarray
    jacobian: np.ndarray
    points: np.ndarray

    @property
    def frames(self) -> int:
        return self.stop - self.start

    @property
    def pattern(self) -> int:
        """Index into ``PATTERNS``."""
        return int(pattern_of(self.jacobian))

    @property
    def charge(self) -> float:
        """+1 counter-clockwise, -1 clockwise, 0 if it does not turn."""
        return float(charge_of(self.jacobian))


def tracks_of(
    points: CriticalPoints, section: np.ndarray, *, reach: float, gap: int, shortest: int
) -> list[Track]:
    """Tracks that last at least ``shortest`` frames, in the order of their starts.

    Parameters
    ----------
    points : CriticalPoints
    section : ndarray of int (frame,)
        No track goes from one section of the recording to another.
    reach : float
        Furthest (mm) that a point may lie from its track's recent place.
    gap : int
        Most frames between consecutive points of a track.
    shortest : int
    """
    if not len(points):
        return []
    number = np.empty(len(points), np.int64)
    saddle = np.linalg.det(points.jacobian) < 0
    _link(
        points.frame,
        section[points.frame],
        np.ascontiguousarray(points.position[:, 0]),
        np.ascontiguousarray(points.position[:, 1]),
        saddle,
        float(reach),
        int(gap),
        number,
    )
    order = np.argsort(number, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    found = [_track(points, which) for which in groups if len(which) >= OCCUPIED * shortest]
    long = [t for t in found if t.frames >= shortest and len(t.points) >= OCCUPIED * t.frames]
    return sorted(long, key=lambda track: track.start)


def _track(points: CriticalPoints, which: np.ndarray) -> Track:
    jacobian = points.jacobian[which]
    size = np.linalg.norm(jacobian, axis=(1, 2), keepdims=True)
    return Track(
        start=int(points.frame[which[0]]),
        stop=int(points.frame[which[-1]]) + 1,
        centre=np.median(points.position[which], axis=0),
        jacobian=(jacobian / np.maximum(size, np.finfo(float).tiny)).mean(axis=0),
        points=which,
    )
