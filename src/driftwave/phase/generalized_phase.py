"""Generalized phase: the phase of a wideband signal, freed of its reversals."""

from __future__ import annotations

import numpy as np

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
    phase = np.angle(signal)
    count = phase.shape[1]
    dropped = _reversals(phase)
    if count < 4:
        return phase, np.zeros_like(dropped)
    broken = ~np.isfinite(phase).all(axis=1) | ((~dropped).sum(axis=1) < 4)
    dropped[broken] = False
    unwrapped = _fill(np.where(broken[:, None], 0.0, phase), dropped, forward, advance)
    result = unwrapped - 2 * np.pi * np.round(unwrapped / (2 * np.pi))
    result[broken] = np.nan
    return result, dropped


def _wrap(angle: np.ndarray) -> np.ndarray:
    return angle - 2 * np.pi * np.round(angle / (2 * np.pi))


def _reversals(phase: np.ndarray) -> np.ndarray:
    """Samples of reversed phase and what follows them, (channel, time) bool."""
    channels, count = phase.shape
    backwards = np.zeros((channels, count + 2), np.int8)
    backwards[:, 1:count] = _wrap(np.diff(phase, axis=1)) < 0
    steps = np.diff(backwards, axis=1)
    row, first = np.nonzero(steps == 1)
    _, stop = np.nonzero(steps == -1)
    end = np.minimum(first + EXTENSION * (stop - 1 - first) + 1, count)
    cover = np.zeros((channels, count + 1), np.int32)
    np.add.at(cover, (row, first), 1)
    np.add.at(cover, (row, end), -1)
    return np.cumsum(cover, axis=1)[:, :count] > 0


def _fill(
    phase: np.ndarray, dropped: np.ndarray, forward: bool, advance: float | None
) -> np.ndarray:
    """Unwrap the kept samples of each row and fill the dropped ones; may drop more in place."""
    channels, count = phase.shape
    kept = np.flatnonzero(~dropped)
    row = kept // count
    time = (kept % count).astype(float)
    value = phase.reshape(-1)[kept]
    step = _wrap(np.diff(value))
    gap = np.diff(kept) > 1
    new_row = np.diff(row) > 0
    if forward:
        plain = ~gap & ~new_row
        summed = np.bincount(row[1:][plain], step[plain], channels)
        usual = summed / np.maximum(np.bincount(row[1:][plain], minlength=channels), 1)
        rhythm = usual[row[1:]] if advance is None else np.asarray(advance)
        expected = rhythm * np.diff(kept)
        step[gap] += 2 * np.pi * np.round((expected - step)[gap] / (2 * np.pi))
    step[new_row] = 0
    unwrapped = np.concatenate([[0.0], np.cumsum(step)])
    starts = np.concatenate([[0], np.flatnonzero(new_row) + 1])
    offset = (value - unwrapped)[starts]
    unwrapped += np.repeat(offset, np.diff(np.append(starts, len(kept))))
    if forward:
        ahead = _ahead(unwrapped, row)
        dropped.reshape(-1)[kept[~ahead]] = True
        kept, row, time, unwrapped = (each[ahead] for each in (kept, row, time, unwrapped))
    inside = np.flatnonzero((np.diff(kept) > 1) & (np.diff(row) == 0))
    result = np.zeros(channels * count)
    result[kept] = unwrapped
    _fill_inside(result, kept, row, time, unwrapped, inside)
    result = result.reshape(channels, count)
    _fill_ends(result, dropped, advance)
    return result


def _ahead(unwrapped: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Samples that no earlier sample of their row exceeds."""
    apart = row * (np.ptp(unwrapped) + 1.0)
    return unwrapped + apart >= np.maximum.accumulate(unwrapped + apart)


def _fill_inside(
    result: np.ndarray,
    kept: np.ndarray,
    row: np.ndarray,
    time: np.ndarray,
    value: np.ndarray,
    before: np.ndarray,
) -> None:
    """Cubic Hermite fill between kept samples ``before`` and ``before + 1`` (pchip slopes)."""
    if not len(before):
        return
    left = _pchip_slope(time, value, row, before)
    right = _pchip_slope(time, value, row, before + 1)
    width = time[before + 1] - time[before]
    missing = width.astype(int) - 1
    which = np.repeat(np.arange(len(before)), missing)
    within = np.arange(missing.sum()) - np.repeat(np.cumsum(missing) - missing, missing) + 1
    s = within / width[which]
    a, b = value[before][which], value[before + 1][which]
    da, db = (left * width)[which], (right * width)[which]
    cubic = (
        a * (1 + 2 * s) * (1 - s) ** 2
        + da * s * (1 - s) ** 2
        + b * s**2 * (3 - 2 * s)
        + db * s**2 * (s - 1)
    )
    result[kept[before][which] + within] = cubic


def _pchip_slope(
    time: np.ndarray, value: np.ndarray, row: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Derivative at knots ``at`` (Fritsch and Butland 1984), within their own rows."""
    last = len(time) - 1

    def secant(i: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inside = (i >= 0) & (i < last)
        i = np.clip(i, 0, last - 1)
        inside &= row[i] == row[i + 1]
        h = np.where(inside, time[i + 1] - time[i], 1.0)
        return inside, h, np.where(inside, value[i + 1] - value[i], 0.0) / h

    has_left, h0, d0 = secant(at - 1)
    has_right, h1, d1 = secant(at)
    inner = _harmonic(h0, h1, d0, d1)
    _, h2, d2 = secant(at + 1)
    _, hb, db = secant(at - 2)
    first = _end_slope(h1, h2, d1, d2)
    final = _end_slope(h0, hb, d0, db)
    return np.where(has_left & has_right, inner, np.where(has_right, first, final))


def _harmonic(h0: np.ndarray, h1: np.ndarray, d0: np.ndarray, d1: np.ndarray) -> np.ndarray:
    same = d0 * d1 > 0
    w0, w1 = 2 * h1 + h0, h1 + 2 * h0
    safe0, safe1 = np.where(same, d0, 1.0), np.where(same, d1, 1.0)
    return np.where(same, (w0 + w1) / (w0 / safe0 + w1 / safe1), 0.0)


def _end_slope(h0: np.ndarray, h1: np.ndarray, d0: np.ndarray, d1: np.ndarray) -> np.ndarray:
    """One-sided three-point slope that keeps the shape."""
    slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
    slope = np.where(np.sign(slope) != np.sign(d0), 0.0, slope)
    steep = (np.sign(d0) != np.sign(d1)) & (np.abs(slope) > 3 * np.abs(d0))
    return np.where(steep, 3 * d0, slope)


def _fill_ends(unwrapped: np.ndarray, dropped: np.ndarray, advance: float | None) -> None:
    """Continue each row where its first or last samples were dropped."""
    count = dropped.shape[1]
    for row in np.flatnonzero(dropped[:, 0] | dropped[:, -1]):
        kept = np.flatnonzero(~dropped[row])
        first, last = kept[0], kept[-1]
        mean = (unwrapped[row, last] - unwrapped[row, first]) / (last - first)
        slope = mean if advance is None else advance
        unwrapped[row, :first] = unwrapped[row, first] + slope * np.arange(-first, 0)
        unwrapped[row, last + 1 :] = unwrapped[row, last] + slope * np.arange(1, count - last)
