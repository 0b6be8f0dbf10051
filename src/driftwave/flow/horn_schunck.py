"""Horn-Schunck optical flow of phase, all frames at once.

With the phase's wrapped derivatives f_x, f_y (rad/mm) and f_t (rad/s) the flow v (mm/s) of a frame
minimises (Horn and Schunck 1981, eq. 8)

    sum_n w_n (f_x v_x + f_y v_y + f_t)_n^2 / g^2
        + alpha^2 sum_{nm} (pitch / d_nm)^2 |v_n - v_m|^2 + ridge sum_n |v_n|^2,

the second sum over pairs of neighbours, with g^2 the frame's mean of f_x^2 + f_y^2, so that alpha
has no unit: smoothing reaches about alpha pitches. Constant motion of the phase, f_t = -k.v, points
where the wave goes. A plane wave fixes v along its gradient alone; the ridge sets the other
component to zero and shrinks the speed by its own size. The normal equations are solved by
conjugate gradients with the data term's 2 x 2 blocks as a preconditioner; each frame stops by
itself, so that its flow does not depend on the frames beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from driftwave.flow.mesh import Mesh, mesh_of
from driftwave.phase.electrodes import Electrodes
from driftwave.phase.gradient import GridGradient, LocalPlanes, gradient_operator, wrap

RIDGE = 1e-4
TOLERANCE = 1e-3
ITERATIONS = 200
LANES = 16
# Gradients below this (rad/mm) are rounding: nothing says where such a field moves.
FLATTEST = 1e-5
ROUNDS = 4
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}


def compiled(function: Any) -> Any:
    """``numba.njit`` as the loops over frames are compiled."""
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder where numba could keep the compiled code
        return njit(**OPTIONS)(function)


@compiled
def _solve(fx, fy, ft, neighbour, weight, alpha, ridge, tolerance, most, flow, steps):
    """Minimise the functional from ``flow`` on, (axis, node, frame), in place."""
    nodes, frames = fx.shape
    degree = neighbour.shape[1]
    square = np.float32(alpha * alpha)
    zero, one = np.float32(0), np.float32(1)
    diagonal = np.empty(nodes, np.float32)
    for n in range(nodes):
        total = zero
        for k in range(degree):
            total += weight[n, k]
        diagonal[n] = square * total + ridge
    shape = (nodes, LANES)
    ax, ay, scale = (
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
    )
    vx, vy = np.empty(shape, np.float32), np.empty(shape, np.float32)
    rx, ry = np.empty(shape, np.float32), np.empty(shape, np.float32)
    px, py = np.empty(shape, np.float32), np.empty(shape, np.float32)
    qx, qy = np.empty(shape, np.float32), np.empty(shape, np.float32)
    kept, product, step = (
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
        np.empty(LANES, np.float32),
    )
    goal, after = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for start in range(0, frames, LANES):
        width = min(LANES, frames - start)
        kept[:] = zero
        goal[:] = zero
        for n in range(nodes):
            for l in range(LANES):
                t = start + min(l, width - 1)
                ax[n, l] = fx[n, t]
                ay[n, l] = fy[n, t]
                vx[n, l] = flow[0, n, t]
                vy[n, l] = flow[1, n, t]
                bx, by = -ax[n, l] * ft[n, t], -ay[n, l] * ft[n, t]
                c = diagonal[n]
                inside = one / (c + ax[n, l] * ax[n, l] + ay[n, l] * ay[n, l])
                scale[n, l] = inside
                along = (ax[n, l] * bx + ay[n, l] * by) * inside
                goal[l] += (bx * (bx - along * ax[n, l]) + by * (by - along * ay[n, l])) / c
                rx[n, l] = bx
                ry[n, l] = by
        for n in range(nodes):
            c = diagonal[n]
            for l in range(LANES):
                along = ax[n, l] * vx[n, l] + ay[n, l] * vy[n, l]
                qx[n, l] = c * vx[n, l] + along * ax[n, l]
                qy[n, l] = c * vy[n, l] + along * ay[n, l]
            for k in range(degree):
                m, w = neighbour[n, k], square * weight[n, k]
                for l in range(LANES):
                    qx[n, l] -= w * vx[m, l]
                    qy[n, l] -= w * vy[m, l]
            for l in range(LANES):
                rx[n, l] -= qx[n, l]
                ry[n, l] -= qy[n, l]
                along = (ax[n, l] * rx[n, l] + ay[n, l] * ry[n, l]) * scale[n, l]
                px[n, l] = (rx[n, l] - along * ax[n, l]) / c
                py[n, l] = (ry[n, l] - along * ay[n, l]) / c
                kept[l] += rx[n, l] * px[n, l] + ry[n, l] * py[n, l]
        going = 0
        for l in range(LANES):
            goal[l] *= np.float32(tolerance * tolerance)
            if kept[l] > goal[l]:
                going += 1
        count = 0
        while going > 0 and count < most:
            count += 1
            product[:] = zero
            for n in range(nodes):
                c = diagonal[n]
                for l in range(LANES):
                    along = ax[n, l] * px[n, l] + ay[n, l] * py[n, l]
                    qx[n, l] = c * px[n, l] + along * ax[n, l]
                    qy[n, l] = c * py[n, l] + along * ay[n, l]
                for k in range(degree):
                    m, w = neighbour[n, k], square * weight[n, k]
                    for l in range(LANES):
                        qx[n, l] -= w * px[m, l]
                        qy[n, l] -= w * py[m, l]
                for l in range(LANES):
                    product[l] += px[n, l] * qx[n, l] + py[n, l] * qy[n, l]
            for l in range(LANES):
                moving = kept[l] > goal[l] and product[l] > zero
                step[l] = kept[l] / product[l] if moving else zero
                after[l] = zero
            for n in range(nodes):
                c = one / diagonal[n]
                for l in range(LANES):
                    vx[n, l] += step[l] * px[n, l]
                    vy[n, l] += step[l] * py[n, l]
                    rx[n, l] -= step[l] * qx[n, l]
                    ry[n, l] -= step[l] * qy[n, l]
                    along = (ax[n, l] * rx[n, l] + ay[n, l] * ry[n, l]) * scale[n, l]
                    qx[n, l] = (rx[n, l] - along * ax[n, l]) * c
                    qy[n, l] = (ry[n, l] - along * ay[n, l]) * c
                    after[l] += rx[n, l] * qx[n, l] + ry[n, l] * qy[n, l]
            going = 0
            for l in range(LANES):
                moving = step[l] > zero
                step[l] = after[l] / kept[l] if moving else zero
                kept[l] = after[l] if moving else zero
                if kept[l] > goal[l]:
                    going += 1
            for n in range(nodes):
                for l in range(LANES):
                    px[n, l] = qx[n, l] + step[l] * px[n, l]
                    py[n, l] = qy[n, l] + step[l] * py[n, l]
        for l in range(width):
            steps[start + l] = count
        for n in range(nodes):
            for l in range(width):
                flow[0, n, start + l] = vx[n, l]
                flow[1, n, start + l] = vy[n, l]


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of phase between one frame and the next, on a mesh.

    Attributes
    ----------
    space : ndarray, float32 (axis, node, frame)
        rad/mm; 0 where no electrode gives one.
    time : ndarray, float32 (node, frame)
        rad/s; 0 where ``space`` is.
    known : ndarray of bool (node,)
        Nodes with an electrode that has a gradient.
    """

    space: np.ndarray
    time: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class HornSchunck:
    """Optical flow of phase for one layout.

    Attributes
    ----------
    mesh : Mesh
    operator : GridGradient or LocalPlanes
    alpha : float
        Weight of smoothness, in pitches.
    robust : bool
        Charbonnier's penalty of the data term in place of the quadratic one.
    """

    mesh: Mesh
    operator: GridGradient | LocalPlanes
    alpha: float
    robust: bool = False

    def derivatives(self, phase: np.ndarray, rate: float) -> Derivatives:
        """Derivatives (…, frame - 1) of phase (electrode, frame), rad, at ``rate`` frames/s.

        f_t = arg(u_{t+1} conj u_t) rate; the spatial gradient is the mean of both frames'.
        Values that are not finite count as missing.
        """
        phase = phase.astype(np.float32, copy=False)
        usable = self.operator.usable
        at = self.mesh.node[usable]
        gradient = self.operator(phase)
        gradient = 0.5 * (gradient[..., 1:] + gradient[..., :-1])
        advance = wrap(np.diff(phase[usable], axis=1)) * np.float32(rate)
        broken = ~(np.isfinite(gradient).all(axis=0) & np.isfinite(advance))
        if broken.any():
            gradient[:, broken] = 0
            advance[broken] = 0
        space = np.zeros((2, len(self.mesh), gradient.shape[-1]), np.float32)
        time = np.zeros(space.shape[1:], np.float32)
        space[:, at], time[at] = gradient, advance
        known = np.zeros(len(self.mesh), bool)
        known[at] = True
        return Derivatives(space, time, known)

    def __call__(self, derivatives: Derivatives) -> np.ndarray:
        """Flow (axis, node, frame), mm/s; NaN in frames without a gradient."""
        space, time = derivatives.space, derivatives.time
        known = derivatives.known
        steepness = np.sqrt((space[:, known] ** 2).sum(axis=0).mean(axis=0))
        usable = steepness > FLATTEST
        factor = np.where(usable, 1 / np.maximum(steepness, FLATTEST), 0).astype(np.float32)
        fx, fy, ft = space[0] * factor, space[1] * factor, time * factor
        flow = np.zeros(space.shape, np.float32)
        self._minimise(fx, fy, ft, flow)
        if self.robust:
            self._reweight(fx, fy, ft, known, flow)
        flow[..., ~usable] = np.nan
        return flow

    def _minimise(
        self, fx: np.ndarray, fy: np.ndarray, ft: np.ndarray, flow: np.ndarray
    ) -> np.ndarray:
        steps = np.zeros(fx.shape[1], np.int32)
        _solve(
            np.ascontiguousarray(fx),
            np.ascontiguousarray(fy),
            np.ascontiguousarray(ft),
            self.mesh.neighbour,
            self.mesh.weight,
            np.float32(self.alpha),
            np.float32(RIDGE),
            np.float32(TOLERANCE),
            ITERATIONS,
            flow,
            steps,
        )
        return steps

    def _reweight(
        self, fx: np.ndarray, fy: np.ndarray, ft: np.ndarray, known: np.ndarray, flow: np.ndarray
    ) -> None:
        """Charbonnier's penalty sqrt(1 + (e / s)^2), s the median |e|, by reweighting."""
        for _ in range(ROUNDS):
            error = fx * flow[0] + fy * flow[1] + ft
            scale = np.median(np.abs(error[known]), axis=0)
            ratio = error / np.maximum(scale, np.finfo(np.float32).tiny)
            weight = (1 + ratio**2) ** np.float32(-0.25)
            self._minimise(fx * weight, fy * weight, ft * weight, flow)


def horn_schunck(electrodes: Electrodes, *, alpha: float, robust: bool = False) -> HornSchunck:
    """Optical flow for a layout."""
    return HornSchunck(mesh_of(electrodes), gradient_operator(electrodes), alpha, robust)
