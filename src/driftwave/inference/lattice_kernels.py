"""Steps of complex oscillators on a graph and their adjoint, compiled by numba.

Trials run side by side (:mod:`driftwave.inference.lattice_lanes`): a state is an array
(band x site x 2, lane) that stays in the first cache levels over all bins. Gradients of the
parameters are summed over trials and over stretches of bins in float64. The equations are those of
:mod:`driftwave.inference.lattice_scan`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from driftwave.inference.lattice_lanes import (
    compiled,
    flush,
    get,
    inverse_root,
    load,
    save,
    set_row,
)

# Added to a squared modulus before its root: a state without a phase stays finite.
TINY = 1e-30
# Bins whose gradients are summed in the state's own type.
STRETCH = 32


class Law(NamedTuple):
    """Coefficients of one substep, of the state's type.

    Attributes
    ----------
    source : int64 (direction, site)
        The site read from each direction; any site where ``pull`` is zero.
    pull, own : (2, band, direction, site), (2, band, site)
        Factors of the neighbours' states and of the site's own, real and imaginary.
    turned : (2, band, site)
        Cosine and sine of the angle of rotation.
    decay, bend : (band,)
        The amplitude law: z / sqrt(decay + bend |z|^2).
    share, tiny : scalars
        1 / substeps and :data:`TINY`.
    substeps : int
    phases : bool
        Unit modulus, or else the amplitude law.
    """

    source: np.ndarray
    pull: np.ndarray
    own: np.ndarray
    turned: np.ndarray
    decay: np.ndarray
    bend: np.ndarray
    share: Any
    tiny: Any
    substeps: int
    phases: bool


class Sums(NamedTuple):
    """Gradients of the parameters: float64 (block, entry) outside, (entry, lane) in a block."""

    pull: np.ndarray
    own: np.ndarray
    turn: np.ndarray
    decay: np.ndarray
    bend: np.ndarray


@compiled()
def _push(law, b, j, state, drive):
    """What drive, the site itself and its neighbours add to a site in one substep."""
    sites = law.own.shape[2]
    k = 2 * (b * sites + j)
    re, im = get(state, k), get(state, k + 1)
    p, q = law.own[0, b, j], law.own[1, b, j]
    f_re = law.share * get(drive, k) + p * re - q * im
    f_im = law.share * get(drive, k + 1) + p * im + q * re
    for m in range(law.source.shape[0]):
        n = 2 * (b * sites + law.source[m, j])
        p, q = law.pull[0, b, m, j], law.pull[1, b, m, j]
        x, y = get(state, n), get(state, n + 1)
        f_re = f_re + p * x - q * y
        f_im = f_im + p * y + q * x
    return f_re, f_im


@compiled()
def _moved(law, b, re, im, f_re, f_im):
    """A site before its rotation, unscaled, and the scale."""
    if law.phases:
        turn = re * f_im - im * f_re
        x, y = re - turn * im, im + turn * re
        return x, y, inverse_root(law.tiny + x * x + y * y)
    x, y = re + f_re, im + f_im
    return x, y, inverse_root(law.decay[b] + law.bend[b] * (x * x + y * y))


@compiled()
def _step(law, state, drive, out):
    _, bands, sites = law.own.shape
    for b in range(bands):
        for j in range(sites):
            k = 2 * (b * sites + j)
            f_re, f_im = _push(law, b, j, state, drive)
            x, y, s = _moved(law, b, get(state, k), get(state, k + 1), f_re, f_im)
            x, y = s * x, s * y
            cos, sin = law.turned[0, b, j], law.turned[1, b, j]
            set_row(out, k, cos * x - sin * y)
            set_row(out, k + 1, cos * y + sin * x)


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
def _step_back(law, state, drive, out, given, back, to_drive, asked, sums):
    """Take ``given`` from after the substep to ``back``, before it."""
    _, bands, sites = law.own.shape
    directions = law.source.shape[0]
    entries = bands * sites
    back[:] = 0
    for b in range(bands):
        for j in range(sites):
            i = b * sites + j
            k = 2 * i
            re, im, g_re, g_im = get(state, k), get(state, k + 1), get(given, k), get(given, k + 1)
            _add(sums.turn, i, g_im * get(out, k) - g_re * get(out, k + 1))
            cos, sin = law.turned[0, b, j], law.turned[1, b, j]
            g_re, g_im = cos * g_re + sin * g_im, cos * g_im - sin * g_re
            f_re, f_im = _push(law, b, j, state, drive)
            x, y, s = _moved(law, b, re, im, f_re, f_im)
            along = g_re * x + g_im * y
            if law.phases:
                along = s * s * along
                g_re, g_im = s * (g_re - along * x), s * (g_im - along * y)
                turn, to_turn = re * f_im - im * f_re, g_im * re - g_re * im
                _add(back, k, g_re + turn * g_im + to_turn * f_im)
                _add(back, k + 1, g_im - turn * g_re - to_turn * f_re)
                g_re, g_im = (g_re * im - g_im * re) * im, to_turn * re
            else:
                bent = s * s * s * along
                _add(sums.decay, i, bent)
                _add(sums.bend, i, bent * (x * x + y * y))
                bent = law.bend[b] * bent
                g_re, g_im = s * g_re - bent * x, s * g_im - bent * y
                _add(back, k, g_re)
                _add(back, k + 1, g_im)
            p, q = law.own[0, b, j], law.own[1, b, j]
            _add(sums.own, i, re * g_re + im * g_im)
            _add(sums.own, entries + i, re * g_im - im * g_re)
            _add(back, k, p * g_re + q * g_im)
            _add(back, k + 1, p * g_im - q * g_re)
            for m in range(directions):
                n = 2 * (b * sites + law.source[m, j])
                e = (b * directions + m) * sites + j
                p, q = law.pull[0, b, m, j], law.pull[1, b, m, j]
                x, y = get(state, n), get(state, n + 1)
                _add(sums.pull, e, x * g_re + y * g_im)
                _add(sums.pull, entries * directions + e, x * g_im - y * g_re)
                _add(back, n, p * g_re + q * g_im)
                _add(back, n + 1, p * g_im - q * g_re)
            if asked:
                _add(to_drive, k, law.share * g_re)
                _add(to_drive, k + 1, law.share * g_im)


@compiled()
def _flush(out, block, sums):
    flush(out.pull[block], sums.pull)
    flush(out.own[block], sums.own)
    flush(out.turn[block], sums.turn)
    flush(out.decay[block], sums.decay)
    flush(out.bend[block], sums.bend)


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
    sums = Sums(
        np.zeros((law.pull.size, lanes), kind),
        np.zeros((law.own.size, lanes), kind),
        np.zeros((width // 2, lanes), kind),
        np.zeros((width // 2, lanes), kind),
        np.zeros((width // 2, lanes), kind),
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
                _step_back(law, path[s], enters, path[s + 1], after, before, pushed, asked, sums)
                here = 1 - here
            if asked:
                save(to_drive, t, trial, count, pushed)
            path[law.substeps] = path[0]
            if t % STRETCH == 0:
                _flush(out, block, sums)
        save(to_start, 0, trial, count, gradient[here])
