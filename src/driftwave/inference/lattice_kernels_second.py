"""Steps of second-order oscillators on a graph and their adjoint, compiled by numba.

Arranged as :mod:`driftwave.inference.lattice_kernels`; the planes of a state (2, band, site) are
position and quadrature. The equations are those of :mod:`driftwave.inference.lattice_scan`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from driftwave.inference.lattice_kernels import add, compiled, load, save


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
    share, one : scalars
        1 / substeps and 1.
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
    one: Any
    substeps: int


class Sums(NamedTuple):
    """Gradients of the parameters, float64 (block, ...) outside, of one block while it runs."""

    pull: np.ndarray
    own: np.ndarray
    bias: np.ndarray
    keep: np.ndarray
    spring: np.ndarray


@compiled()
def _read(total, y, pull, index):
    for j in range(total.size):
        total[j] += pull[j] * y[index[j]]


@compiled()
def _bent(law, band, y, bent):
    """tanh of what a band's sites read."""
    own, bias = law.own[band], law.bias[band]
    for j in range(y.size):
        bent[j] = bias[j] + own[j] * y[j]
    for m in range(law.source.shape[0]):
        _read(bent, y, law.pull[band, m], law.source[m])
    for j in range(y.size):
        bent[j] = math.tanh(bent[j])


@compiled()
def _move(out_y, out_v, y, v, bent, u_y, u_v, keep, spring, force, share):
    for j in range(y.size):
        new = keep[j] * v[j] + spring[j] * y[j] - force * bent[j] + share * u_v[j]
        out_v[j] = new
        out_y[j] = y[j] - spring[j] * new + share * u_y[j]


@compiled()
def _step(law, state, drive, out, bent):
    for band in range(state.shape[1]):
        y, v = state[0, band], state[1, band]
        _bent(law, band, y, bent)
        keep, spring, force = law.keep[band], law.spring[band], law.force[band]
        u_y, u_v = drive[0, band], drive[1, band]
        _move(out[0, band], out[1, band], y, v, bent, u_y, u_v, keep, spring, force, law.share)


@compiled(cached=True)
def forward(law, start, drive, states, lanes, first, last):
    """States after each bin of the blocks ``first .. last`` of ``lanes`` trials.

    ``start`` (trial, width), ``drive`` and ``states`` (trial, bin, width).
    """
    bands, sites = law.own.shape
    path = np.empty((2, 2, bands, sites), start.dtype)
    enters = np.empty((2, bands, sites), start.dtype)
    bent = np.empty(sites, start.dtype)
    for trial in range(first * lanes, min(last * lanes, start.shape[0])):
        here = 0
        load(path[here], start[trial])
        for t in range(drive.shape[1]):
            load(enters, drive[trial, t])
            for _ in range(law.substeps):
                _step(law, path[here], enters, path[1 - here], bent)
                here = 1 - here
            save(path[here], states[trial, t])


@compiled()
def _move_back(g_y, g_v, x, y, v, new, bent, keep, spring, force, one, to_keep, to_spring):
    for j in range(y.size):
        g = g_v[j] - spring[j] * g_y[j]
        to_spring[j] += y[j] * g - new[j] * g_y[j]
        to_keep[j] += v[j] * g
        x[j] = -force * (one - bent[j] * bent[j]) * g
        g_y[j] += spring[j] * g
        g_v[j] = keep[j] * g


@compiled()
def _own_back(g_y, x, y, own, to_own, to_bias):
    for j in range(y.size):
        to_own[j] += y[j] * x[j]
        to_bias[j] += x[j]
        g_y[j] += own[j] * x[j]


@compiled()
def _read_back(g_y, x, y, pull, index, to_pull):
    for j in range(y.size):
        to_pull[j] += y[index[j]] * x[j]
    for j in range(y.size):
        g_y[index[j]] += pull[j] * x[j]


@compiled()
def _give(to_drive, g_y, g_v, spring, share):
    for j in range(g_y.size):
        to_drive[2 * j] += share * g_y[j]
        to_drive[2 * j + 1] += share * (g_v[j] - spring[j] * g_y[j])


@compiled()
def _step_back(law, state, out, given, bent, x, to_drive, sums):
    """Take ``given`` from after the substep to before it."""
    sites = state.shape[2]
    for band in range(state.shape[1]):
        y, v, g_y, g_v = state[0, band], state[1, band], given[0, band], given[1, band]
        spring = law.spring[band]
        _bent(law, band, y, bent)
        if to_drive.size:
            _give(to_drive[2 * band * sites : 2 * (band + 1) * sites], g_y, g_v, spring, law.share)
        _move_back(
            g_y,
            g_v,
            x,
            y,
            v,
            out[1, band],
            bent,
            law.keep[band],
            spring,
            law.force[band],
            law.one,
            sums.keep[band],
            sums.spring[band],
        )
        _own_back(g_y, x, y, law.own[band], sums.own[band], sums.bias[band])
        for m in range(law.source.shape[0]):
            _read_back(g_y, x, y, law.pull[band, m], law.source[m], sums.pull[band, m])


@compiled(cached=True)
def backward(law, start, drive, states, given, to_start, to_drive, lanes, sums, first, last):
    """Gradients of the blocks ``first .. last`` of ``lanes`` trials.

    ``given`` is that of the states; ``to_drive`` arrives as zeros, empty where nobody asks for it.
    """
    bands, sites = law.own.shape
    path = np.empty((law.substeps + 1, 2, bands, sites), start.dtype)
    enters = np.empty((2, bands, sites), start.dtype)
    gradient = np.empty((2, bands, sites), start.dtype)
    bent, x = np.empty(sites, start.dtype), np.empty(sites, start.dtype)
    for block in range(first, last):
        here = Sums(
            sums.pull[block],
            sums.own[block],
            sums.bias[block],
            sums.keep[block],
            sums.spring[block],
        )
        for trial in range(block * lanes, min((block + 1) * lanes, start.shape[0])):
            gradient[:] = 0
            for t in range(drive.shape[1] - 1, -1, -1):
                load(path[0], states[trial, t - 1] if t else start[trial])
                load(path[law.substeps], states[trial, t])
                load(enters, drive[trial, t])
                for s in range(law.substeps - 1):
                    _step(law, path[s], enters, path[s + 1], bent)
                add(gradient, given[trial, t])
                asked = to_drive[trial, t] if to_drive.size else to_drive[0, 0]
                for s in range(law.substeps - 1, -1, -1):
                    _step_back(law, path[s], path[s + 1], gradient, bent, x, asked, here)
            save(gradient, to_start[trial])
