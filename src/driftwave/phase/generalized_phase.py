"""Generalized phase: the phase of a wideband signal, freed of its reversals."""

from __future__ import annotations

import numpy as np

from driftwave.phase.kernels import compiled

PAPER = "Davis et al. 2020, Nature 587:432"
EXTENSION = 3


def generalized_phase(
    signal: np.ndarray, *, forward: bool = True, advance: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Generalized phase of an analytic signal.

    Where the instantaneous frequency arg(z_{t+1} conj z_t) is negative the phase runs backwards,
    which low-frequency intrusions and fast bursts cause. Each such run, from its first sample s to
    its last e, is extended to s + 3 (e - s); these samples are dropped, the phase is unwrapped
    over the others, filled by shape-preserving cubic interpolation (pchip) and wrapped again.
    Gaps at the ends of a channel are filled at the expected frequency.

    Parameters
    ----------
    signal : ndarray, complex (channel, time)
        Analytic signal; a channel that holds NaN gives NaN throughout.
    forward : bool
        Unwrap across a gap to the turn nearest to ``advance`` times the gap's length, and also
        drop samples that fall behind an earlier one, so that the phase never runs backwards. Plain
        unwrapping, the paper's, takes the shorter arc, which turns the phase back in gaps longer
        than half a cycle.
    advance : float, optional
        Phase expected per sample, rad; default the channel's mean.

    Returns
    -------
    phase : ndarray (channel, time)
        rad, in (-pi, pi].
    interpolated : ndarray of bool (channel, time)
        Samples that were dropped and filled.
    """
    signal = np.ascontiguousarray(signal)
    kind = np.float32 if signal.dtype == np.complex64 else np.float64
    phase = np.empty(signal.shape, kind)
    dropped = np.zeros(signal.shape, bool)
    expected = np.nan if advance is None else float(advance)
    for row in range(len(signal)):
        _one_channel(signal[row], forward, expected, phase[row], dropped[row])
    return phase, dropped


@compiled
def _one_channel(signal, forward, advance, phase, dropped):
    """Fill phase and dropped (time,) of one channel; ``advance`` is NaN for the channel's mean."""
    count = len(signal)
    raw = np.empty(count)
    finite = True
    for t in range(count):
        raw[t] = np.arctan2(float(signal[t].imag), float(signal[t].real))
        finite &= np.isfinite(raw[t])
    if not finite:
        phase[:] = np.nan
        return
    if count < 4:
        phase[:] = raw
        return
    left = count - _drop_reversals(signal, dropped)
    if left < 4:
        dropped[:] = False
        phase[:] = np.nan
        return
    at = np.empty(left, np.int64)
    unwrapped = np.empty(left)
    left = _unwrap(raw, forward, advance, dropped, at, unwrapped)
    _interpolate(at[:left], unwrapped[:left], advance, raw)
    for t in range(count):
        phase[t] = _wrap(raw[t])


@compiled
def _wrap(angle):
    return angle - 2 * np.pi * np.rint(angle / (2 * np.pi))


@compiled
def _drop_reversals(signal, dropped):
    """Mark samples of reversed phase and what follows them; their number."""
    count = len(signal)
    first, end, total = -1, 0, 0
    for t in range(count):
        # The sign of the phase step, without computing it.
        back = False
        if t + 1 < count:
            here, there = signal[t], signal[t + 1]
            back = float(there.imag) * here.real - float(there.real) * here.imag < 0
        if back:
            first = t if first < 0 else first
            end = max(end, t + 1)
        elif first >= 0:
            end = max(end, first + EXTENSION * (t - 1 - first) + 1)
            first = -1
        if t < end:
            dropped[t] = True
            total += 1
    return total


@compiled
def _unwrap(raw, forward, advance, dropped, at, unwrapped):
    """Unwrap the kept samples; may drop more. Fills their times and values, gives their number."""
    count = len(raw)
    rhythm, plain, last = 0.0, 0, -1
    if forward and np.isnan(advance):
        for t in range(1, count):
            if not dropped[t] and not dropped[t - 1]:
                rhythm += _wrap(raw[t] - raw[t - 1])
                plain += 1
        advance = rhythm / max(plain, 1)
    kept, value, highest = 0, 0.0, -np.inf
    for t in range(count):
        if dropped[t]:
            continue
        if last < 0:
            value = raw[t]
        else:
            step = _wrap(raw[t] - raw[last])
            if forward and t - last > 1:
                step += 2 * np.pi * np.rint((advance * (t - last) - step) / (2 * np.pi))
            value += step
        last = t
        if forward and value < highest:
            dropped[t] = True
            continue
        highest = value
        at[kept], unwrapped[kept] = t, value
        kept += 1
    return kept


@compiled
def _interpolate(at, value, advance, result):
    """Fill result (time,) from kept samples: pchip between them, the expected rhythm beyond."""
    left = len(at)
    first, last = at[0], at[left - 1]
    for i in range(left):
        result[at[i]] = value[i]
        if i + 1 == left or at[i + 1] - at[i] == 1:
            continue
        width = float(at[i + 1] - at[i])
        here, there = _slope(at, value, i) * width, _slope(at, value, i + 1) * width
        for t in range(at[i] + 1, at[i + 1]):
            s = (t - at[i]) / width
            result[t] = (
                value[i] * (1 + 2 * s) * (1 - s) ** 2
                + here * s * (1 - s) ** 2
                + value[i + 1] * s**2 * (3 - 2 * s)
                + there * s**2 * (s - 1)
            )
    slope = advance
    if np.isnan(advance):
        slope = (value[left - 1] - value[0]) / max(last - first, 1)
    for t in range(first):
        result[t] = value[0] + slope * (t - first)
    for t in range(last + 1, len(result)):
        result[t] = value[left - 1] + slope * (t - last)


@compiled
def _secant(at, value, i):
    """Width and slope between knots i and i + 1; 1 and 0 beyond the ends."""
    if i < 0 or i + 1 >= len(at):
        return 1.0, 0.0
    width = float(at[i + 1] - at[i])
    return width, (value[i + 1] - value[i]) / width


@compiled
def _slope(at, value, i):
    """Derivative at knot i (Fritsch and Butland 1984)."""
    h0, d0 = _secant(at, value, i - 1)
    h1, d1 = _secant(at, value, i)
    if i == 0:
        h2, d2 = _secant(at, value, i + 1)
        return _end_slope(h1, h2, d1, d2)
    if i == len(at) - 1:
        h2, d2 = _secant(at, value, i - 2)
        return _end_slope(h0, h2, d0, d2)
    if not d0 * d1 > 0:
        return 0.0
    w0, w1 = 2 * h1 + h0, h1 + 2 * h0
    return (w0 + w1) / (w0 / d0 + w1 / d1)


@compiled
def _end_slope(h0, h1, d0, d1):
    """One-sided three-point slope that keeps the shape."""
    slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
    if np.sign(slope) != np.sign(d0):
        return 0.0
    if np.sign(d0) != np.sign(d1) and abs(slope) > 3 * abs(d0):
        return 3 * d0
    return slope
