"""Zeros of a flow and what it does about them: source, sink, rotation, spiral or saddle.

On a triangle the flow is interpolated linearly, v = sum_i b_i v_i with barycentric b; it vanishes
inside if no b_i that solves v = 0 is negative, which the signs of three cross products say. The
Jacobian there is a least squares fit to all nodes within two pitches. With divergence d, curl c and
strain s, its determinant is (d^2 + c^2 - s^2) / 4: negative at saddles. Elsewhere the angle
atan2(|c|, |d|) tells sources and sinks (below 30 degrees) from spirals and rotations (above 60).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.flow.horn_schunck import compiled
from driftwave.flow.mesh import Mesh

PATTERNS = (
    "radial_out",
    "radial_in",
    "rotating_ccw",
    "rotating_cw",
    "spiral_out",
    "spiral_in",
    "saddle",
)
SADDLE = PATTERNS.index("saddle")
RADIAL = np.pi / 6
ROTATING = np.pi / 3
PARALLEL = np.float32(1e-5)


@dataclass(frozen=True)
class CriticalPoints:
    """Zeros of a flow, in the order of their frames.

    Attributes
    ----------
    frame : ndarray of int (point,)
    position : ndarray (point, 2)
        mm.
    jacobian : ndarray (point, component, axis)
        dv_component / d axis, in the flow's unit per mm.
    """

    frame: np.ndarray
    position: np.ndarray
    jacobian: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    def shifted(self, frames: int, first: int, last: int) -> CriticalPoints:
        """Those of frames ``first`` to ``last``, ``frames`` later."""
        kept = (self.frame >= first) & (self.frame < last)
        return CriticalPoints(self.frame[kept] + frames, self.position[kept], self.jacobian[kept])


def join(parts: list[CriticalPoints]) -> CriticalPoints:
    """Critical points of consecutive stretches as one."""
    return CriticalPoints(
        np.concatenate([part.frame for part in parts]),
        np.concatenate([part.position for part in parts]),
        np.concatenate([part.jacobian for part in parts]),
    )


@compiled
def _vanishes(flow, a, b, c, t):
    """Whether the flow vanishes in a triangle, and the cross products of its corners' flows."""
    ab = flow[0, a, t] * flow[1, b, t] - flow[1, a, t] * flow[0, b, t]
    bc = flow[0, b, t] * flow[1, c, t] - flow[1, b, t] * flow[0, c, t]
    ca = flow[0, c, t] * flow[1, a, t] - flow[1, c, t] * flow[0, a, t]
    around = (ab >= 0 and bc >= 0 and ca >= 0) or (ab <= 0 and bc <= 0 and ca <= 0)
    if not around:
        return False, ab, bc, ca
    size = np.float32(0)
    for n in (a, b, c):
        size += flow[0, n, t] ** 2 + flow[1, n, t] ** 2
    # Between parallel flows, the signs are those of rounding.
    return abs(ab + bc + ca) > PARALLEL * size, ab, bc, ca


@compiled
def _count(flow, triangle):
    """Number of triangles times frames in which the flow vanishes."""
    found = 0
    for i in range(len(triangle)):
        a, b, c = triangle[i]
        for t in range(flow.shape[2]):
            found += _vanishes(flow, a, b, c, t)[0]
    return found


@compiled
def _collect(flow, triangle, position, near, slope, frame, place, jacobian):
    """Fill in what :func:`_count` counted."""
    found = 0
    for i in range(len(triangle)):
        a, b, c = triangle[i]
        for t in range(flow.shape[2]):
            inside, ab, bc, ca = _vanishes(flow, a, b, c, t)
            if not inside:
                continue
            frame[found] = t
            total = ab + bc + ca
            for axis in range(2):
                weighted = bc * position[a, axis] + ca * position[b, axis] + ab * position[c, axis]
                place[found, axis] = weighted / total
            for k in range(near.shape[1]):
                m = near[i, k]
                if m < 0:
                    break
                for component in range(2):
                    for axis in range(2):
                        jacobian[found, component, axis] += (
                            slope[i, axis, k] * flow[component, m, t]
                        )
            found += 1


def critical_points(flow: np.ndarray, mesh: Mesh) -> CriticalPoints:
    """Zeros of a flow (axis, node, frame) on a mesh; none where it is NaN."""
    flow = np.ascontiguousarray(flow, dtype=np.float32)
    count = int(_count(flow, mesh.triangle))
    frame = np.zeros(count, np.int64)
    position, jacobian = np.zeros((count, 2)), np.zeros((count, 2, 2))
    _collect(flow, mesh.triangle, mesh.position, mesh.near, mesh.slope, frame, position, jacobian)
    order = np.argsort(frame, kind="stable")
    return CriticalPoints(frame[order], position[order], jacobian[order])


def pattern_of(jacobian: np.ndarray) -> np.ndarray:
    """Pattern (...,) of Jacobians (..., component, axis), as indices into :data:`PATTERNS`."""
    jacobian = np.asarray(jacobian, dtype=float)
    divergence = jacobian[..., 0, 0] + jacobian[..., 1, 1]
    curl = jacobian[..., 1, 0] - jacobian[..., 0, 1]
    angle = np.arctan2(np.abs(curl), np.abs(divergence))
    inward, clockwise = divergence < 0, curl < 0
    radial, rotating, spiral = inward * 1, 2 + clockwise, 4 + inward
    kind = np.where(angle < RADIAL, radial, np.where(angle > ROTATING, rotating, spiral))
    return np.where(np.linalg.det(jacobian) < 0, SADDLE, kind)


def charge_of(jacobian: np.ndarray) -> np.ndarray:
    """+1 where a rotation or spiral turns counter-clockwise, -1 clockwise, 0 for other patterns."""
    curl = jacobian[..., 1, 0] - jacobian[..., 0, 1]
    kind = pattern_of(jacobian)
    return np.where((kind >= 2) & (kind <= 5), np.sign(curl), 0.0)
