"""Steps of complex oscillators on a graph and their adjoint, compiled by numba.

Trials run one after another: a trial's state (2, band, site), real part and imaginary part apart,
stays in the first cache level over all bins, and every inner loop runs over sites. Gradients of
the parameters are summed in float64. The equations are those of
:mod:`driftwave.inference.lattice_scan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

# No `nnan` and `ninf`: a diverging trial must show up as such. No `reassoc`: no sum runs over
# sites, and the others keep their order.
FAST = ("contract", "nsz", "arcp")
# Added to a squared modulus before its root: a state without a phase stays finite.
TINY = 1e-30


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
    share, one, tiny : scalars
        1 / substeps, 1 and :data:`TINY`.
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
    one: Any
    tiny: Any
    substeps: int
    phases: bool


class Sums(NamedTuple):
    """Gradients of the parameters, float64 (block, ...) outside, of one block while it runs."""

    pull: np.ndarray
    own: np.ndarray
    turn: np.ndarray
    decay: np.ndarray
    bend: np.ndarray


def compiled(*, cached: bool = False) -> Callable[..., Any]:
    """``numba.njit`` as all kernels of oscillators are compiled."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(FAST)}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=cached, **options)(function)
        except RuntimeError:  # no folder where numba could keep the compiled code
            return njit(**options)(function)

    return decorate


@compiled()
def load(planes, row):
    """A row (band x site x 2) into planes (2, band, site)."""
    bands, sites = planes.shape[1:]
    for b in range(bands):
        re, im, part = planes[0, b], planes[1, b], row[2 * b * sites : 2 * (b + 1) * sites]
        for j in range(sites):
            re[j] = part[2 * j]
            im[j] = part[2 * j + 1]


@compiled()
def add(planes, row):
    """Add a row (band x site x 2) to planes (2, band, site)."""
    bands, sites = planes.shape[1:]
    for b in range(bands):
        re, im, part = planes[0, b], planes[1, b], row[2 * b * sites : 2 * (b + 1) * sites]
        for j in range(sites):
            re[j] += part[2 * j]
            im[j] += part[2 * j + 1]


@compiled()
def save(planes, row):
    """Planes (2, band, site) into a row (band x site x 2)."""
    bands, sites = planes.shape[1:]
    for b in range(bands):
        re, im, part = planes[0, b], planes[1, b], row[2 * b * sites : 2 * (b + 1) * sites]
        for j in range(sites):
            part[2 * j] = re[j]
            part[2 * j + 1] = im[j]


@compiled()
def _read(f_re, f_im, re, im, pull_re, pull_im, index):
    for j in range(f_re.size):
        n = index[j]
        a, b = re[n], im[n]
        f_re[j] += pull_re[j] * a - pull_im[j] * b
        f_im[j] += pull_re[j] * b + pull_im[j] * a


@compiled()
def _own(f_re, f_im, re, im, own_re, own_im, drive_re, drive_im, share):
    for j in range(f_re.size):
        f_re[j] = share * drive_re[j] + own_re[j] * re[j] - own_im[j] * im[j]
        f_im[j] = share * drive_im[j] + own_re[j] * im[j] + own_im[j] * re[j]


@compiled()
def _push(law, band, state, drive, push):
    """What drive and neighbours add to a band's state in one substep."""
    re, im = state[0, band], state[1, band]
    f_re, f_im = push[0], push[1]
    own_re, own_im = law.own[0, band], law.own[1, band]
    _own(f_re, f_im, re, im, own_re, own_im, drive[0, band], drive[1, band], law.share)
    for m in range(law.source.shape[0]):
        pull_re, pull_im = law.pull[0, band, m], law.pull[1, band, m]
        _read(f_re, f_im, re, im, pull_re, pull_im, law.source[m])


@compiled()
def _bounded(out_re, out_im, re, im, f_re, f_im, cos, sin, decay, bend, one):
    for j in range(re.size):
        a, b = re[j] + f_re[j], im[j] + f_im[j]
        s = one / np.sqrt(decay + bend * (a * a + b * b))
        a, b = s * a, s * b
        out_re[j] = cos[j] * a - sin[j] * b
        out_im[j] = cos[j] * b + sin[j] * a


@compiled()
def _normalised(out_re, out_im, re, im, f_re, f_im, cos, sin, one, tiny):
    for j in range(re.size):
        turn = re[j] * f_im[j] - im[j] * f_re[j]
        a, b = re[j] - turn * im[j], im[j] + turn * re[j]
        s = one / np.sqrt(a * a + b * b + tiny)
        a, b = s * a, s * b
        out_re[j] = cos[j] * a - sin[j] * b
        out_im[j] = cos[j] * b + sin[j] * a


@compiled()
def _step(law, state, drive, out, push):
    for band in range(state.shape[1]):
        _push(law, band, state, drive, push)
        re, im = state[0, band], state[1, band]
        cos, sin = law.turned[0, band], law.turned[1, band]
        if law.phases:
            _normalised(
                out[0, band], out[1, band], re, im, push[0], push[1], cos, sin, law.one, law.tiny
            )
        else:
            decay, bend = law.decay[band], law.bend[band]
            _bounded(
                out[0, band], out[1, band], re, im, push[0], push[1], cos, sin, decay, bend, law.one
            )


@compiled(cached=True)
def forward(law, start, drive, states, lanes, first, last):
    """States after each bin of the blocks ``first .. last`` of ``lanes`` trials.

    ``start`` (trial, width), ``drive`` and ``states`` (trial, bin, width).
    """
    bands, sites = law.own.shape[1:]
    path = np.empty((2, 2, bands, sites), start.dtype)
    enters = np.empty((2, bands, sites), start.dtype)
    push = np.empty((2, sites), start.dtype)
    for trial in range(first * lanes, min(last * lanes, start.shape[0])):
        here = 0
        load(path[here], start[trial])
        for t in range(drive.shape[1]):
            load(enters, drive[trial, t])
            for _ in range(law.substeps):
                _step(law, path[here], enters, path[1 - here], push)
                here = 1 - here
            save(path[here], states[trial, t])


@compiled()
def _bounded_back(g_re, g_im, h_re, h_im, re, im, f_re, f_im, cos, sin, law, band, decay, bend):
    c = law.bend[band]
    for j in range(re.size):
        a, b = re[j] + f_re[j], im[j] + f_im[j]
        size = a * a + b * b
        s = law.one / np.sqrt(law.decay[band] + c * size)
        p, q = cos[j] * g_re[j] + sin[j] * g_im[j], cos[j] * g_im[j] - sin[j] * g_re[j]
        e = s * s * s * (p * a + q * b)
        decay[j] += e
        bend[j] += size * e
        h_re[j] = s * p - c * e * a
        h_im[j] = s * q - c * e * b
        g_re[j] = h_re[j]
        g_im[j] = h_im[j]


@compiled()
def _normalised_back(g_re, g_im, h_re, h_im, re, im, f_re, f_im, cos, sin, law):
    for j in range(re.size):
        turn = re[j] * f_im[j] - im[j] * f_re[j]
        a, b = re[j] - turn * im[j], im[j] + turn * re[j]
        s = law.one / np.sqrt(a * a + b * b + law.tiny)
        a, b = s * a, s * b
        p, q = cos[j] * g_re[j] + sin[j] * g_im[j], cos[j] * g_im[j] - sin[j] * g_re[j]
        e = p * a + q * b
        p, q = s * (p - e * a), s * (q - e * b)
        e = q * re[j] - p * im[j]
        h_re[j] = -e * im[j]
        h_im[j] = e * re[j]
        g_re[j] = p + turn * q + e * f_im[j]
        g_im[j] = q - turn * p - e * f_re[j]


@compiled()
def _turn_back(turn, g_re, g_im, out_re, out_im):
    for j in range(turn.size):
        turn[j] += g_im[j] * out_re[j] - g_re[j] * out_im[j]


@compiled()
def _own_back(g_re, g_im, h_re, h_im, re, im, own_re, own_im, sum_re, sum_im):
    for j in range(g_re.size):
        p, q = h_re[j], h_im[j]
        sum_re[j] += re[j] * p + im[j] * q
        sum_im[j] += re[j] * q - im[j] * p
        g_re[j] += own_re[j] * p + own_im[j] * q
        g_im[j] += own_re[j] * q - own_im[j] * p


@compiled()
def _read_back(sum_re, sum_im, h_re, h_im, re, im, index):
    for j in range(h_re.size):
        n = index[j]
        p, q = h_re[j], h_im[j]
        sum_re[j] += re[n] * p + im[n] * q
        sum_im[j] += re[n] * q - im[n] * p


@compiled()
def _scatter(g_re, g_im, h_re, h_im, pull_re, pull_im, index):
    for j in range(h_re.size):
        n = index[j]
        p, q = h_re[j], h_im[j]
        g_re[n] += pull_re[j] * p + pull_im[j] * q
        g_im[n] += pull_re[j] * q - pull_im[j] * p


@compiled()
def _give(to_drive, h_re, h_im, share):
    for j in range(h_re.size):
        to_drive[2 * j] += share * h_re[j]
        to_drive[2 * j + 1] += share * h_im[j]


@compiled()
def _step_back(law, state, drive, out, given, push, pulled, to_drive, sums):
    """Take ``given`` from after the substep to before it."""
    sites = state.shape[2]
    for band in range(state.shape[1]):
        _push(law, band, state, drive, push)
        re, im, g_re, g_im = state[0, band], state[1, band], given[0, band], given[1, band]
        h_re, h_im, f_re, f_im = pulled[0], pulled[1], push[0], push[1]
        cos, sin = law.turned[0, band], law.turned[1, band]
        _turn_back(sums.turn[band], g_re, g_im, out[0, band], out[1, band])
        if law.phases:
            _normalised_back(g_re, g_im, h_re, h_im, re, im, f_re, f_im, cos, sin, law)
        else:
            decay, bend = sums.decay[band], sums.bend[band]
            _bounded_back(
                g_re, g_im, h_re, h_im, re, im, f_re, f_im, cos, sin, law, band, decay, bend
            )
        own_re, own_im = law.own[0, band], law.own[1, band]
        sum_re, sum_im = sums.own[0, band], sums.own[1, band]
        _own_back(g_re, g_im, h_re, h_im, re, im, own_re, own_im, sum_re, sum_im)
        for m in range(law.source.shape[0]):
            sum_re, sum_im = sums.pull[0, band, m], sums.pull[1, band, m]
            _read_back(sum_re, sum_im, h_re, h_im, re, im, law.source[m])
            pull_re, pull_im = law.pull[0, band, m], law.pull[1, band, m]
            _scatter(g_re, g_im, h_re, h_im, pull_re, pull_im, law.source[m])
        if to_drive.size:
            _give(to_drive[2 * band * sites : 2 * (band + 1) * sites], h_re, h_im, law.share)


@compiled(cached=True)
def backward(law, start, drive, states, given, to_start, to_drive, lanes, sums, first, last):
    """Gradients of the blocks ``first .. last`` of ``lanes`` trials.

    ``given`` is that of the states; ``to_drive`` arrives as zeros, empty where nobody asks for it.
    """
    bands, sites = law.own.shape[1:]
    path = np.empty((law.substeps + 1, 2, bands, sites), start.dtype)
    enters = np.empty((2, bands, sites), start.dtype)
    gradient = np.empty((2, bands, sites), start.dtype)
    push, pulled = np.empty((2, sites), start.dtype), np.empty((2, sites), start.dtype)
    for block in range(first, last):
        here = Sums(
            sums.pull[block], sums.own[block], sums.turn[block], sums.decay[block], sums.bend[block]
        )
        for trial in range(block * lanes, min((block + 1) * lanes, start.shape[0])):
            gradient[:] = 0
            for t in range(drive.shape[1] - 1, -1, -1):
                load(path[0], states[trial, t - 1] if t else start[trial])
                load(path[law.substeps], states[trial, t])
                load(enters, drive[trial, t])
                for s in range(law.substeps - 1):
                    _step(law, path[s], enters, path[s + 1], push)
                add(gradient, given[trial, t])
                asked = to_drive[trial, t] if to_drive.size else to_drive[0, 0]
                for s in range(law.substeps - 1, -1, -1):
                    _step_back(
                        law, path[s], enters, path[s + 1], gradient, push, pulled, asked, here
                    )
            save(gradient, to_start[trial])
