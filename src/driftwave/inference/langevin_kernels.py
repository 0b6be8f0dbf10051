"""Langevin scan and its adjoint for one core's registers, compiled by numba (float32).

Trials are taken ``LANES`` at a time: a state is an array (latent, LANES) that stays in the first
cache level over all bins. A term of the potential costs as many products as it has neighbours.
The equations are those of :mod:`driftwave.inference.langevin_scan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from driftwave.inference.lanes import (
    FAST,
    LANES,
    clip,
    fill,
    load_square,
    put,
    row,
    save_square,
    total,
)

_ONE, _THREE, _ZERO, _FAR = (np.float32(x) for x in (1, 3, 0, 8))
# tanh(x) / x as a ratio of polynomials in x^2 on [-8, 8], fitted by reweighted least squares
# towards the least largest relative error (6.5e-9); beyond, tanh is one to float32 rounding.
_P0, _P1, _P2, _P3, _P4 = (
    np.float32(x)
    for x in (9.99999994e-01, 1.34445337e-01, 3.57164004e-03, 2.18953387e-05, 1.52313259e-08)
)
_Q1, _Q2, _Q3, _Q4 = (
    np.float32(x) for x in (4.67778610e-01, 2.61646037e-02, 3.41136010e-04, 8.52282475e-07)
)


class Law(NamedTuple):
    """Force of the kernels: bias - k z - quartic part + sum_m back_m bend(weight_m y + offset_m).

    Attributes
    ----------
    weight, reads : float32 and int32 (term, column)
        Which rows of y = [position, velocity] a term reads.
    offset : float32 (term,)
    back, writes : float32 and int32 (term, column)
        Which latents a term acts on.
    bent : bool
        tanh, or else the identity.
    stiffness, quartic, reach, bias : float32 (latent,)
    """

    weight: np.ndarray
    reads: np.ndarray
    offset: np.ndarray
    back: np.ndarray
    writes: np.ndarray
    bent: bool
    stiffness: np.ndarray
    quartic: np.ndarray
    reach: np.ndarray
    bias: np.ndarray


class Steps(NamedTuple):
    """Factors of the step and of its noise: five float32, then float32 (latent,) twice."""

    old: np.float32
    kicked: np.float32
    thermal: np.float32
    before: np.float32
    after: np.float32
    keep: np.ndarray
    spread: np.ndarray


class Sums(NamedTuple):
    """Gradients of the parameters: (block, entry) outside, (entry, LANES) while a block runs."""

    weight: np.ndarray
    offset: np.ndarray
    back: np.ndarray
    stiffness: np.ndarray
    quartic: np.ndarray
    bias: np.ndarray
    keep: np.ndarray
    spread: np.ndarray


def _compiled(*, cached: bool = False) -> Callable[..., Any]:
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(FAST)}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=cached, **options)(function)
        except RuntimeError:  # no folder where numba could keep the compiled code
            return njit(**options)(function)

    return decorate


@_compiled()
def _bend(x):
    x = clip(x, -_FAR, _FAR)
    u = x * x
    above = _P0 + u * (_P1 + u * (_P2 + u * (_P3 + u * _P4)))
    return x * above / (_ONE + u * (_Q1 + u * (_Q2 + u * (_Q3 + u * _Q4))))


@_compiled()
def _gather(start, weight, rows, term, y):
    out = fill(start)
    for c in range(weight.shape[1]):
        out = out + weight[term, c] * row(y, rows[term, c])
    return out


@_compiled()
def _scatter(out, weight, rows, term, x):
    for c in range(weight.shape[1]):
        place = rows[term, c]
        put(out, place, row(out, place) + weight[term, c] * x)


@_compiled()
def _correlate(out, rows, term, x, y):
    columns = rows.shape[1]
    for c in range(columns):
        place = term * columns + c
        put(out, place, row(out, place) + x * row(y, rows[term, c]))


@_compiled()
def _rows(entries):
    return np.zeros((entries, LANES), np.float32)


@_compiled()
def _clear(rows):
    for i in range(rows.shape[0]):
        put(rows, i, fill(_ZERO))


@_compiled()
def _load(rows, source, t, first, count):
    """Trials ``first ..`` of ``source`` (time, trial, latent) in bin t, as (latent, LANES)."""
    _, trials, latents = source.shape
    start = (t * trials + first) * latents
    if latents >= LANES:
        for i in range(0, latents - LANES + 1, LANES):
            load_square(rows, i, source, start + i, latents, count)
        if latents % LANES:
            i = latents - LANES
            load_square(rows, i, source, start + i, latents, count)
    else:
        for i in range(latents):
            for lane in range(count):
                rows[i, lane] = source[t, first + lane, i]


@_compiled()
def _save(target, t, first, count, rows):
    _, trials, latents = target.shape
    start = (t * trials + first) * latents
    if latents >= LANES:
        for i in range(0, latents - LANES + 1, LANES):
            save_square(target, start + i, latents, count, rows, i)
        if latents % LANES:
            i = latents - LANES
            save_square(target, start + i, latents, count, rows, i)
    else:
        for i in range(latents):
            for lane in range(count):
                target[t, first + lane, i] = rows[i, lane]


@_compiled()
def _force(law, y, pull):
    for i in range(law.stiffness.shape[0]):
        z = row(y, i)
        c = clip(z, -law.reach[i], law.reach[i])
        steep = law.quartic[i] * c * c * (_THREE * z - (c + c))
        put(pull, i, law.bias[i] - law.stiffness[i] * z - steep)
    for m in range(law.weight.shape[0]):
        x = _gather(law.offset[m], law.weight, law.reads, m, y)
        if law.bent:
            x = _bend(x)
        _scatter(pull, law.back, law.writes, m, x)


@_compiled(cached=True)
def forward(law, steps, noise, positions, velocities, pulls, first_block, last_block):
    """Fill bins 1.. of positions and velocities (time, trial, latent) from bin 0, in place.

    ``pulls``, the force in every bin, is filled if it is as long as the positions.
    """
    bins, trials, latents = positions.shape
    y, pull, drawn = _rows(2 * latents), _rows(latents), _rows(latents)
    z, v = y[:latents], y[latents:]
    kept = pulls.shape[0] == bins
    for block in range(first_block, last_block):
        first = block * LANES
        count = min(LANES, trials - first)
        _clear(y)
        _clear(drawn)
        _load(z, positions, 0, first, count)
        _load(v, velocities, 0, first, count)
        for t in range(bins):
            if t:
                _load(drawn, noise, t - 1, first, count)
                for i in range(latents):
                    old = row(v, i)
                    kicked = old + steps.before * row(pull, i)
                    thermal = steps.keep[i] * kicked + steps.spread[i] * row(drawn, i)
                    moved = steps.old * old + steps.kicked * kicked + steps.thermal * thermal
                    put(z, i, row(z, i) + moved)
                    put(v, i, thermal)
            _force(law, y, pull)
            if t:
                for i in range(latents):
                    put(v, i, row(v, i) + steps.after * row(pull, i))
                _save(positions, t, first, count, z)
                _save(velocities, t, first, count, v)
            if kept:
                _save(pulls, t, first, count, pull)


@_compiled()
def _adjoint(law, y, toward, back, sums):
    """Add J^T ``toward`` to ``back`` for the force at y, and to the parameters' gradients."""
    for i in range(law.stiffness.shape[0]):
        z, g = row(y, i), row(toward, i)
        c = clip(z, -law.reach[i], law.reach[i])
        square = c * c
        put(sums.bias, i, row(sums.bias, i) + g)
        put(sums.stiffness, i, row(sums.stiffness, i) - z * g)
        put(sums.quartic, i, row(sums.quartic, i) - square * (_THREE * z - (c + c)) * g)
        curve = law.stiffness[i] + _THREE * law.quartic[i] * square
        put(back, i, row(back, i) - curve * g)
    for m in range(law.weight.shape[0]):
        x = _gather(law.offset[m], law.weight, law.reads, m, y)
        slope = _gather(_ZERO, law.back, law.writes, m, toward)
        if law.bent:
            x = _bend(x)
            slope = slope - slope * x * x
        _correlate(sums.back, law.writes, m, x, toward)
        put(sums.offset, m, row(sums.offset, m) + slope)
        _correlate(sums.weight, law.reads, m, slope, y)
        _scatter(back, law.weight, law.reads, m, slope)


@_compiled()
def _flush(target, block, rows):
    for k in range(rows.shape[0]):
        target[block, k] = total(row(rows, k))
    _clear(rows)


@_compiled(cached=True)
def backward(
    law,
    steps,
    noise,
    positions,
    velocities,
    pulls,
    to_positions,
    to_velocities,
    to_start,
    to_noise,
    out,
    first_block,
    last_block,
):
    """Reverse scan: gradients by the first state (2, trial, latent), the noise and ``out``.

    ``to_noise`` is filled if it has as many trials as the positions.
    """
    bins, trials, latents = positions.shape
    y, back, given = _rows(2 * latents), _rows(2 * latents), _rows(2 * latents)
    toward, pull, drawn = _rows(latents), _rows(latents), _rows(latents)
    sums = Sums(
        _rows(law.weight.size),
        _rows(law.offset.size),
        _rows(law.back.size),
        _rows(latents),
        _rows(latents),
        _rows(latents),
        _rows(latents),
        _rows(latents),
    )
    z, v = y[:latents], y[latents:]
    back_z, back_v = back[:latents], back[latents:]
    given_z, given_v = given[:latents], given[latents:]
    noisy = to_noise.shape[1] == trials
    for block in range(first_block, last_block):
        first = block * LANES
        count = min(LANES, trials - first)
        _clear(y)
        _clear(back)
        _clear(given)
        _clear(toward)
        _clear(pull)
        _clear(drawn)
        _load(z, positions, bins - 1, first, count)
        _load(v, velocities, bins - 1, first, count)
        _load(pull, pulls, bins - 1, first, count)
        for t in range(bins - 1, -1, -1):
            _load(given_z, to_positions, t, first, count)
            _load(given_v, to_velocities, t, first, count)
            for i in range(2 * latents):
                put(back, i, row(back, i) + row(given, i))
            if t:
                for i in range(latents):
                    put(v, i, row(v, i) - steps.after * row(pull, i))
                    put(toward, i, row(toward, i) + steps.after * row(back_v, i))
            _adjoint(law, y, toward, back, sums)
            if t == 0:
                break
            _load(drawn, noise, t - 1, first, count)
            _load(z, positions, t - 1, first, count)
            _load(v, velocities, t - 1, first, count)
            _load(pull, pulls, t - 1, first, count)
            for i in range(latents):
                by_z = row(back_z, i)
                thermal = row(back_v, i) + steps.thermal * by_z
                before = row(v, i) + steps.before * row(pull, i)
                put(sums.keep, i, row(sums.keep, i) + thermal * before)
                put(sums.spread, i, row(sums.spread, i) + thermal * row(drawn, i))
                put(drawn, i, steps.spread[i] * thermal)
                kicked = steps.keep[i] * thermal + steps.kicked * by_z
                put(back_v, i, kicked + steps.old * by_z)
                put(toward, i, steps.before * kicked)
            if noisy:
                _save(to_noise, t - 1, first, count, drawn)
        _save(to_start, 0, first, count, back_z)
        _save(to_start, 1, first, count, back_v)
        _flush(out.weight, block, sums.weight)
        _flush(out.offset, block, sums.offset)
        _flush(out.back, block, sums.back)
        _flush(out.stiffness, block, sums.stiffness)
        _flush(out.quartic, block, sums.quartic)
        _flush(out.bias, block, sums.bias)
        _flush(out.keep, block, sums.keep)
        _flush(out.spread, block, sums.spread)
