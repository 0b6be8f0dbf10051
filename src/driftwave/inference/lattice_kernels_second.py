"""Steps of second-order oscillators on a graph and their adjoint, compiled by numba.

Arranged as :mod:`driftwave.inference.lattice_kernels`; the two rows of a site are position
and quadrature. The equations are those of :mod:`driftwave.inference.lattice_scan`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from driftwave.inference.lattice_kernels import STRETCH
from driftwave.inference.lattice_lanes import (
    bend,
    compiled,
    flush,
    get,
    load,
    save,
    set_row,
)


class Law(NamedTuple):
    """Coefficients of one substep, of the state's type.

    Attributes
    ----------
    source : int64 (direction, site)
        The site read from each direction; any site where ``pull`` is zero.
    pull, own, bias : (band, direction, site), (band, site), (band, site)
        Inside the tanh: factors of the neighbours' positions and of the site's own, and offset.
    keep, spring : (band, site)
        What a substep leaves of the quadrature, and the factor between it and the position.
    force : (band,)
        The largest change by the neighbours in a substep.
    share : scalar
        1 / substeps.
    substeps : int
    """

    source: np.ndarray
    pull: np.ndarray
    own: np.ndarray
    bias: np.ndarray
    keep: np.ndarray
    spring: np.ndarray
    force: np.ndarray
    share: Any
    substeps: int


class Sums(NamedTuple):
    """Gradients of the parameters: float64 (block, entry) outside, (entry, lane) in a block."""

    pull: np.ndarray
    own: np.ndarray
    bias: np.ndarray
    keep: np.ndarray
    spring: np.ndarray


@compiled()
def _bent(law, b, j, state):
    """tanh of what a site reads."""
    sites = law.own.shape[1]
    x = law.bias[b, j] + law.own[b, j] * get(state, 2 * (b * sites + j))
    for m in range(law.source.shape[0]):
        x = x + law.pull[b, m, j] * get(state, 2 * (b * sites + law.source[m, j]))
    return bend(x)


@compiled()
def _step(law, state, drive, out):
    bands, sites = law.own.shape
    for b in range(bands):
        for j in range(sites):
            k = 2 * (b * sites + j)
            y, spring = get(state, k), law.spring[b, j]
            v = law.keep[b, j] * get(state, k + 1) + spring * y
            v = v - law.force[b] * _bent(law, b, j, state) + law.share * get(drive, k + 1)
            set_row(out, k, y - spring * v + law.share * get(drive, k))
            set_row(out, k + 1, v)


@compiled(cached=True)
def forward(law, start, drive, states, lanes, first, last):
    """States after each bin of the blocks ``first .. last`` of ``lanes`` trials.

    ``start`` (trial, 1, width), ``drive`` and ``states`` (trial, bin, width).
    """
    trials, bins, width = drive.shape
    path = np.zeros((2, width, lanes), start.dtype)
    enters = np.zeros((width, lanes), start.dtype)
    for block in range(first, last):
        trial = block * lanes
        count = min(lanes, trials - trial)
        here = 0
        load(path[here], start, 0, trial, count)
        for t in range(bins):
            load(enters, drive, t, trial, count)
            for _ in range(law.substeps):
                _step(law, path[here], enters, path[1 - here])
                here = 1 - here
            save(states, t, trial, count, path[here])


@compiled()
def _add(rows, i, value):
    set_row(rows, i, get(rows, i) + value)


@compiled()
def _step_back(law, state, out, given, back, to_drive, asked, sums):
    """Take ``given`` from after the substep to ``back``, before it."""
    bands, sites = law.own.shape
    directions = law.source.shape[0]
    back[:] = 0
    for b in range(bands):
        force = law.force[b]
        for j in range(sites):
            i = b * sites + j
            k = 2 * i
            y, spring, to_y = get(state, k), law.spring[b, j], get(given, k)
            to_v = get(given, k + 1) - spring * to_y
            if asked:
                _add(to_drive, k, law.share * to_y)
                _add(to_drive, k + 1, law.share * to_v)
            _add(sums.spring, i, y * to_v - get(out, k + 1) * to_y)
            _add(sums.keep, i, get(state, k + 1) * to_v)
            bent = _bent(law, b, j, state)
            x = force * to_v
            x = x * bent * bent - x
            _add(sums.own, i, y * x)
            _add(sums.bias, i, x)
            _add(back, k, to_y + spring * to_v + law.own[b, j] * x)
            set_row(back, k + 1, law.keep[b, j] * to_v)
            for m in range(directions):
                n = 2 * (b * sites + law.source[m, j])
                _add(sums.pull, (b * directions + m) * sites + j, get(state, n) * x)
                _add(back, n, law.pull[b, m, j] * x)


@compiled()
def _flush(out, block, sums):
    flush(out.pull[block], sums.pull)
    flush(out.own[block], sums.own)
    flush(out.bias[block], sums.bias)
    flush(out.keep[block], sums.keep)
    flush(out.spring[block], sums.spring)


@compiled(cached=True)
def backward(law, start, drive, states, given, to_start, to_drive, lanes, out, first, last):
    """Gradients of the blocks ``first .. last`` of ``lanes`` trials.

    ``given`` is that of the states; ``to_drive`` has no trials where nobody asks for it.
    """
    trials, bins, width = drive.shape
    kind, asked = start.dtype, to_drive.shape[0] == trials
    path = np.zeros((law.substeps + 1, width, lanes), kind)
    enters, pushed = np.zeros((width, lanes), kind), np.zeros((width, lanes), kind)
    gradient, entering = np.zeros((2, width, lanes), kind), np.zeros((width, lanes), kind)
    places = width // 2
    sums = Sums(
        np.zeros((law.pull.size, lanes), kind),
        np.zeros((places, lanes), kind),
        np.zeros((places, lanes), kind),
        np.zeros((places, lanes), kind),
        np.zeros((places, lanes), kind),
    )
    for block in range(first, last):
        trial = block * lanes
        count = min(lanes, trials - trial)
        gradient[:] = 0
        here = 0
        load(path[law.substeps], states, bins - 1, trial, count)
        for t in range(bins - 1, -1, -1):
            if t:
                load(path[0], states, t - 1, trial, count)
            else:
                load(path[0], start, 0, trial, count)
            load(enters, drive, t, trial, count)
            for s in range(law.substeps - 1):
                _step(law, path[s], enters, path[s + 1])
            load(entering, given, t, trial, count)
            for i in range(width):
                _add(gradient[here], i, get(entering, i))
            pushed[:] = 0
            for s in range(law.substeps - 1, -1, -1):
                before, after = gradient[1 - here], gradient[here]
                _step_back(law, path[s], path[s + 1], after, before, pushed, asked, sums)
                here = 1 - here
            if asked:
                save(to_drive, t, trial, count, pushed)
            path[law.substeps] = path[0]
            if t % STRETCH == 0:
                _flush(out, block, sums)
        save(to_start, 0, trial, count, gradient[here])
