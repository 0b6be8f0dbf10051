"""What fitted oscillators say of data: latents, filled channels, forecasts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.fft import dct, idct
from scipy.signal import oaconvolve
from scipy.sparse.linalg import LinearOperator, cg

from driftwave.inference.field import FieldSource
from driftwave.inference.kalman_segments import (
    FilteredSegments,
    Segments,
    filter_segments,
    smooth_segments,
)
from driftwave.inference.oscillator_likelihood import reduce_observations, reduce_segments
from driftwave.inference.oscillator_model import Oscillators
from driftwave.inference.whitening import Whitening, widened

SOLVER_STEPS = 300


def _filtered(
    data: np.ndarray, seen: np.ndarray | None, model: Oscillators
) -> tuple[FilteredSegments, Segments]:
    segments = Segments.of(seen, *data.shape)
    reduced, spaces = reduce_segments(data, model, segments)
    return filter_segments(reduced, spaces, segments), segments


def latents_of_field(
    source: FieldSource, model: Oscillators, whitening: Whitening, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and standard deviations (time, state) over a whole field.

    A field without missing values is streamed; one with them is held in memory.
    """
    weights = model.weights()
    reduced = np.empty((source.samples, weights.shape[1]))
    start = 0
    for block in source.blocks():
        if np.isnan(block).any():
            return _latents_in_memory(source, model, whitening, offset)
        part = reduce_observations(block - offset.astype(np.float32), weights)
        reduced[start : start + len(part)] = part
        start += len(part)
    # The filter is the same on every electrode, so it may as well act on their sums.
    reduced = whitening.apply(reduced)
    segments = Segments.of(None, len(reduced), len(offset))
    space = model.state_space(model.loading.T @ weights)
    return _smoothed(filter_segments(reduced, [space], segments), segments)


def _latents_in_memory(
    source: FieldSource, model: Oscillators, whitening: Whitening, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    data = np.concatenate(list(source.blocks())) - offset.astype(np.float32)
    data, seen = _without_gaps(data, whitening)
    return _smoothed(*_filtered(data, seen, model))


def _without_gaps(data: np.ndarray, whitening: Whitening) -> tuple[np.ndarray, np.ndarray | None]:
    if not whitening.identity:
        return whitening.apply_to_gaps(data)
    seen = ~np.isnan(data)
    return np.where(seen, data, data.dtype.type(0)), None if seen.all() else seen


def _smoothed(filtered: FilteredSegments, segments: Segments) -> tuple[np.ndarray, np.ndarray]:
    variance = np.empty(filtered.mean.shape)
    mean = smooth_segments(filtered, segments, variance).mean
    return mean, np.sqrt(variance)


def fill(
    data: np.ndarray, model: Oscillators, whitening: Whitening, offset: np.ndarray
) -> np.ndarray:
    """Posterior mean of every channel given all that is there; observed values stay as they are.

    Exact without a whitening filter, and with one for channels that are hidden throughout. A gap in
    time within a channel is filled, under a whitening filter, by the values whose whitened course
    is nearest (least squares) to what the model expects of it from the other channels and from
    samples that the filter does not mix with the gap.

    Parameters
    ----------
    data : ndarray (time, channel)
        Microvolt; NaN where hidden or missing.
    model : Oscillators
        Of the whitened channels, microvolt.
    whitening : Whitening
    offset : ndarray (channel,)
        Microvolt.

    Returns
    -------
    ndarray (time, channel)
        Microvolt.
    """
    missing = np.isnan(data)
    centred = np.asarray(data, dtype=np.float64) - offset
    shown, seen = _without_gaps(centred.copy(), whitening)
    if seen is None:
        return np.array(data, dtype=np.float64)
    filtered, segments = _filtered(shown, seen, model)
    mean = smooth_segments(filtered, segments).mean
    expected = _expected(shown, mean, model, segments)
    if whitening.identity:
        return np.where(missing, expected + offset, data)
    filled = centred.copy()
    entire = missing.all(0)
    filled[:, entire] = whitening.undo(expected[:, entire])
    for column in np.flatnonzero(missing.any(0) & ~entire):
        gap = missing[:, column]
        filled[gap, column] = _gap_filled(centred[:, column], gap, expected[:, column], whitening)
    return np.where(missing, filled + offset, data)


def _expected(
    shown: np.ndarray, mean: np.ndarray, model: Oscillators, segments: Segments
) -> np.ndarray:
    """Data where seen; elsewhere their mean given the state and the noise of the channels seen."""
    expected = mean @ model.loading.T
    for part, index in zip(segments.slices(), segments.pattern, strict=True):
        seen = segments.patterns[index]
        if not seen.any():
            continue
        if model.noise.ndim == 2 and not seen.all():
            cross = model.noise[np.ix_(seen, ~seen)]
            regression = np.linalg.solve(model.noise_of(seen), cross)
            left = shown[part][:, seen] - expected[part][:, seen]
            expected[part, ~seen] += left @ regression
        expected[part, seen] = shown[part][:, seen]
    return expected


def _gap_filled(
    signal: np.ndarray, gap: np.ndarray, expected: np.ndarray, whitening: Whitening
) -> np.ndarray:
    """Values in the gap (gap,) whose filtered signal is nearest to the one expected."""
    samples = len(signal)
    gain = whitening.gain(np.linspace(0, whitening.rate / 2, samples))
    known = np.where(gap, 0.0, signal)

    def filtered(values: np.ndarray) -> np.ndarray:
        return idct(dct(values, type=1) * gain, type=1)

    def normal(values: np.ndarray) -> np.ndarray:
        placed = np.zeros(samples)
        placed[gap] = values.ravel()
        return filtered(filtered(placed))[gap]

    count = int(gap.sum())
    target = filtered(expected - filtered(known))[gap]
    operator = LinearOperator((count, count), matvec=normal, dtype=np.float64)
    return cg(operator, target, rtol=1e-6, maxiter=SOLVER_STEPS)[0]


def forecast(
    data: np.ndarray,
    steps: Sequence[int],
    model: Oscillators,
    whitening: Whitening,
    offset: np.ndarray,
) -> np.ndarray:
    """E[y_{t+h} | y_1..t], stored at t + h.

    The whitening filter looks ahead; its minimum-phase twin gives a process with the same law from
    the past alone, so that forecasts are exact but for what lies before the first sample (each
    channel is taken as constant there) and around gaps (the last value is held, and samples after
    it within the filter's reach count as missing).

    Parameters
    ----------
    data : ndarray (time, channel)
        Microvolt; NaN where missing.
    steps : sequence of int
        h >= 0.
    model, whitening, offset
        As in :func:`fill`.

    Returns
    -------
    ndarray (step, time, channel)
        Microvolt; NaN for the first h samples.
    """
    taps, inverse = whitening.causal()
    missing = np.isnan(data)
    held = _held(np.asarray(data, dtype=np.float64) - offset)
    start = held[0].copy()
    white = _causal(held - start, taps) + taps.sum() * start
    seen = None
    if missing.any():
        seen = ~widened(missing, 0, whitening.reach)
        white[~seen] = 0
    filtered, _ = _filtered(white, seen, model)
    mean = filtered.mean
    if seen is not None:
        white = np.where(seen, white, mean @ model.loading.T)
    space = model.state_space(np.zeros((mean.shape[1],) * 2))
    # The infinite past before the first sample is constant.
    before = taps.sum() * np.where(missing.all(0), 0.0, start)
    ahead = [
        _ahead(h, white - before, mean, model.loading, space.transition, inverse)
        + before * inverse[h:].sum()
        for h in steps
    ]
    return np.stack(ahead) + offset


def _ahead(
    step: int,
    white: np.ndarray,
    mean: np.ndarray,
    loading: np.ndarray,
    transition: np.ndarray,
    inverse: np.ndarray,
) -> np.ndarray:
    """Forecast from whitened data: what they still give by then, and what the states will."""
    samples = len(white)
    out = np.full(white.shape, np.nan)
    if step >= samples:
        return out
    state = np.zeros_like(transition)
    power = np.eye(len(transition))
    # Sum over j < h of psi_j A^(h - j), by Horner's rule from A^1 on.
    for j in range(step - 1, -1, -1):
        power = power @ transition
        if j < len(inverse):
            state += inverse[j] * power
    out[step:] = (mean @ (loading @ state).T)[: samples - step]
    if step < len(inverse):
        out[step:] += _causal(white, inverse[step:])[: samples - step]
    return out


def _causal(data: np.ndarray, taps: np.ndarray) -> np.ndarray:
    if len(taps) == 1:
        return data * taps[0]
    return oaconvolve(data, taps[:, None], mode="full", axes=0)[: len(data)]


def _held(data: np.ndarray) -> np.ndarray:
    """Data with the last value held through gaps, the first one before it; zero if all missing."""
    held = data.copy()
    for column in np.flatnonzero(np.isnan(data).any(0)):
        signal = held[:, column]
        known = np.flatnonzero(~np.isnan(signal))
        if not len(known):
            signal[:] = 0
            continue
        place = np.searchsorted(known, np.arange(len(signal)), side="right") - 1
        held[:, column] = signal[known[np.maximum(place, 0)]]
    return held
