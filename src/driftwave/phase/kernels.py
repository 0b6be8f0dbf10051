"""Compiled loops over electrodes and frames for spatial derivatives of phase.

Differences of phase are wrapped to [-pi, pi] by rounding with the customary large constant, which
compilers turn into vector instructions; NaN passes through. All arrays share one floating type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """``numba.njit`` with the compiled code kept on disk where there is a folder for it."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder where numba could keep the compiled code
        return njit(**options)(function)


def wrapping(dtype: np.dtype) -> np.ndarray:
    """1 / 2 pi, 2 pi and the constant whose addition and subtraction round to whole numbers."""
    digits = 23 if np.dtype(dtype) == np.float32 else 52
    return np.array([1 / (2 * np.pi), 2 * np.pi, 1.5 * 2.0**digits], dtype)


@compiled
def _wrapped(difference, turn):
    return difference - ((difference * turn[0] + turn[2]) - turn[2]) * turn[1]


@compiled
def _axis_slope(one, other, weight_one, weight_other, alone_one, alone_other):
    if one == one and other == other:
        return weight_one * one + weight_other * other
    if one == one:
        return alone_one * one
    return alone_other * other


@compiled
def grid_gradient(phase, pair, weight, alone, basis, linear, turn, gradient):
    """Fill gradient (2, usable, frame) from phase (electrode, frame).

    pair (axis, usable, side, 2) holds the electrodes of the pair before and the pair after;
    weight and alone (axis, usable, side) what their differences are multiplied by where both are
    finite and where one is; basis (2, 2) the lattice's unit vectors as rows.
    """
    frames = phase.shape[1]
    for u in range(pair.shape[1]):
        first, second = gradient[0, u], gradient[1, u]
        b0, b1 = phase[pair[0, u, 0, 0]], phase[pair[0, u, 0, 1]]
        a0, a1 = phase[pair[0, u, 1, 0]], phase[pair[0, u, 1, 1]]
        wb, wa, sb, sa = weight[0, u, 0], weight[0, u, 1], alone[0, u, 0], alone[0, u, 1]
        for t in range(frames):
            before, after = _wrapped(b1[t] - b0[t], turn), _wrapped(a1[t] - a0[t], turn)
            first[t] = _axis_slope(before, after, wb, wa, sb, sa)
        if linear:
            for t in range(frames):
                along = first[t]
                first[t] = basis[0, 0] * along
                second[t] = basis[0, 1] * along
            continue
        b0, b1 = phase[pair[1, u, 0, 0]], phase[pair[1, u, 0, 1]]
        a0, a1 = phase[pair[1, u, 1, 0]], phase[pair[1, u, 1, 1]]
        wb, wa, sb, sa = weight[1, u, 0], weight[1, u, 1], alone[1, u, 0], alone[1, u, 1]
        for t in range(frames):
            before, after = _wrapped(b1[t] - b0[t], turn), _wrapped(a1[t] - a0[t], turn)
            along, across = first[t], _axis_slope(before, after, wb, wa, sb, sa)
            first[t] = basis[0, 0] * along + basis[1, 0] * across
            second[t] = basis[0, 1] * along + basis[1, 1] * across


@compiled
def local_planes(phase, usable, neighbour, offset, inverse, turn, steps, gradient):
    """Fill gradient (2, usable, frame): least squares, then ``steps`` Gauss-Newton steps.

    Neighbours whose phase is NaN are left out of the frame; NaN where fewer than two directions
    are left.
    """
    count = neighbour.shape[1]
    step = np.empty(count, phase.dtype)
    own = np.empty((2, count), phase.dtype)
    for u in range(len(usable)):
        here = phase[usable[u]]
        for t in range(phase.shape[1]):
            valid = 0
            for m in range(count):
                step[m] = _wrapped(phase[neighbour[u, m], t] - here[t], turn)
                if step[m] == step[m]:
                    valid += 1
            if valid == count:
                own[:] = inverse[u]
            elif not _partial_inverse(step, offset[u], own):
                gradient[0, u, t] = gradient[1, u, t] = np.nan
                continue
            gx = gy = phase.dtype.type(0)
            for round_ in range(steps + 1):
                dx = dy = phase.dtype.type(0)
                for m in range(count):
                    if step[m] == step[m]:
                        left = step[m]
                        if round_ > 0:
                            ahead = offset[u, m, 0] * gx + offset[u, m, 1] * gy
                            left = _wrapped(left - ahead, turn)
                        dx += own[0, m] * left
                        dy += own[1, m] * left
                gx += dx
                gy += dy
            gradient[0, u, t], gradient[1, u, t] = gx, gy


@compiled
def _partial_inverse(step, offset, inverse):
    """Pseudo-inverse of the offsets whose step is finite; False where they span no plane."""
    xx = xy = yy = 0.0
    for m in range(len(step)):
        if step[m] == step[m]:
            xx += offset[m, 0] * offset[m, 0]
            xy += offset[m, 0] * offset[m, 1]
            yy += offset[m, 1] * offset[m, 1]
    determinant = xx * yy - xy * xy
    if not determinant > 0.01 * (xx + yy) * (xx + yy):
        return False
    for m in range(len(step)):
        if step[m] == step[m]:
            inverse[0, m] = (yy * offset[m, 0] - xy * offset[m, 1]) / determinant
            inverse[1, m] = (xx * offset[m, 1] - xy * offset[m, 0]) / determinant
    return True


@compiled
def steep_share(phase, pair, limit, turn, share):
    """Fill share (frame,) with the part of finite pairs (2, pair) whose step exceeds ``limit``."""
    frames = phase.shape[1]
    finite = np.zeros(frames, phase.dtype)
    for p in range(pair.shape[1]):
        low, high = phase[pair[0, p]], phase[pair[1, p]]
        for t in range(frames):
            step = abs(_wrapped(high[t] - low[t], turn))
            finite[t] += step == step
            share[t] += step > limit
    for t in range(frames):
        share[t] = share[t] / finite[t] if finite[t] > 0 else np.nan


@compiled
def winding(phase, corners, turn, charge):
    """Fill charge (cell, frame) with minus the turns of phase around corners (cell, 4)."""
    for c in range(len(corners)):
        one, two = phase[corners[c, 0]], phase[corners[c, 1]]
        three, four = phase[corners[c, 2]], phase[corners[c, 3]]
        found = charge[c]
        for t in range(phase.shape[1]):
            total = _wrapped(two[t] - one[t], turn) + _wrapped(three[t] - two[t], turn)
            total += _wrapped(four[t] - three[t], turn) + _wrapped(one[t] - four[t], turn)
            turns = (total * turn[0] + turn[2]) - turn[2]
            found[t] = -np.int8(turns) if turns == turns else 0


@compiled
def loop_winding(phase, loop, asked, turn, smooth, charge):
    """Fill charge (cell, frame) with minus the turns around loop (cell, n) where asked is not 0.

    0 where there is no loop, a phase is NaN or the mean cosine of the steps' deviations from an
    even turn is below ``smooth``.
    """
    count = loop.shape[1]
    step = np.empty(count)
    for c in range(len(loop)):
        if loop[c, 0] < 0:
            continue
        distinct = 1
        while distinct < count and loop[c, distinct] != loop[c, distinct - 1]:
            distinct += 1
        for t in range(phase.shape[1]):
            if asked[c, t] == 0:
                continue
            total = alike = 0.0
            last = phase[loop[c, distinct - 1], t]
            for n in range(distinct):
                here = phase[loop[c, n], t]
                step[n] = _wrapped(here - last, turn)
                total += step[n]
                last = here
            turns = np.rint(total * turn[0])
            if turns != turns or turns == 0:
                continue
            for n in range(distinct):
                alike += np.cos(step[n] - total / distinct)
            if alike >= smooth * distinct:
                charge[c, t] = -np.int8(turns)


@compiled
def weighted_neighbours(gradient, neighbour, weight, total):
    """Fill total (usable, frame) with sums of gradient (axis, usable, frame) over neighbours.

    neighbour is (usable, n), weight (usable, axis, n).
    """
    for u in range(len(neighbour)):
        row = total[u]
        row[:] = 0
        for m in range(neighbour.shape[1]):
            for axis in range(gradient.shape[0]):
                values, factor = gradient[axis, neighbour[u, m]], weight[u, axis, m]
                for t in range(gradient.shape[2]):
                    row[t] += factor * values[t]
