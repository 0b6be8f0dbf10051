"""Measures in use elsewhere that mislead, beside ours on the same fields."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from driftwave.nulls.cross_spectrum import CrossSpectrum
from driftwave.nulls.surrogates import surrogate, zero_lag_factors
from driftwave.phase.directionality import directionality_of
from driftwave.phase.electrodes import place
from driftwave.phase.filters import analytic, settling
from driftwave.phase.gradient import directionality, gradient_operator
from driftwave.wave_events.patterns import circular_linear
from waves_cases import grid, in_band, noise, phase_of

RATE, BAND, FREQUENCY, SPEED = 250.0, (8.0, 16.0), 12.0, 200.0
POSITION = grid(corners=False)
ELECTRODES = place(POSITION)


def background(seed: int, seconds: float, *, length: float = 0.6, shared: float = 0.9):
    """Noise of unit variance within the band, with a margin for the filter at either end."""
    rng = np.random.default_rng(seed)
    count = round(seconds * RATE) + 2 * settling(BAND, RATE)
    field = noise(rng, POSITION, count, RATE, length=length, shared=shared)
    return field / in_band(field, RATE, BAND)


def wave(count: int, envelope=1.0, *, snr: float = 2.0, direction: float = 40.0) -> np.ndarray:
    time = np.arange(count) / RATE
    phase = phase_of("planar", POSITION, frequency=FREQUENCY, speed=SPEED, direction=direction)
    course = 2 * np.pi * FREQUENCY * time + phase[:, None]
    return np.sqrt(2) * snr * envelope * np.cos(course)


def filtered(field: np.ndarray) -> np.ndarray:
    margin = settling(BAND, RATE)
    return analytic(field, rate=RATE, band=BAND, before=margin, after=margin)


def epochs(values: np.ndarray, seconds: float = 1.0) -> np.ndarray:
    """Means over consecutive epochs."""
    length = round(seconds * RATE)
    count = len(values) // length
    return values[: count * length].reshape(count, length).mean(axis=1)


def share_above(waves: np.ndarray, noises: np.ndarray) -> float:
    """Area under the ROC curve."""
    return float((waves[:, None] > noises[None]).mean())


def test_directionality_tells_waves_from_noise_and_that_of_unwrapped_phase_does_not() -> None:
    field = background(0, 60, length=0.0, shared=0.0)
    later = np.arange(field.shape[1]) >= field.shape[1] // 2
    phase = np.angle(filtered(field + wave(field.shape[1], later)))
    ours = epochs(directionality(gradient_operator(ELECTRODES)(phase)))
    # Each slip of an electrode's phase sets it a turn apart from its neighbours for ever.
    image = np.full((10, 10, phase.shape[1]), np.nan)
    column, row = np.round(POSITION / 0.4).astype(int).T
    image[row, column] = np.unwrap(phase, axis=1)
    slope = np.stack(np.gradient(image, axis=(1, 0))).reshape(2, 100, -1)
    known = np.isfinite(slope).all(axis=(0, 2))
    unwrapped = epochs(directionality(slope[:, known]))
    assert share_above(ours[32:58], ours[2:28]) == 1.0
    assert share_above(unwrapped[32:58], unwrapped[2:28]) < 0.75


def test_a_fixed_threshold_misses_frames_that_one_from_the_null_finds() -> None:
    field = background(2, 20, length=0.6)
    phase = np.angle(filtered(field + wave(field.shape[1], snr=1.0)))
    pgd = directionality(gradient_operator(ELECTRODES)(phase))
    assert (pgd > 0.5).mean() < 0.2
    measure = directionality_of(ELECTRODES)
    smooth = measure(filtered(field + wave(field.shape[1], snr=1.0))).smooth(round(RATE))
    still = measure(filtered(field)).smooth(round(RATE))
    threshold = np.quantile(still.statistic()[0], 0.95)
    assert (smooth.statistic()[0] > threshold).mean() > 0.9


def test_speed_from_single_gradients_is_a_lower_bound() -> None:
    field = background(3, 20, length=0.6)
    phase = np.angle(filtered(field + wave(field.shape[1])))
    gradient = gradient_operator(ELECTRODES)(phase)
    omega = 2 * np.pi * FREQUENCY
    each = np.median(omega / np.hypot(*gradient).mean(axis=0))
    mean = omega / np.hypot(*gradient.mean(axis=(1, 2)))
    assert each < 0.75 * SPEED
    assert mean == pytest.approx(SPEED, rel=0.05)


def test_the_chi_square_of_a_circular_linear_correlation_rejects_smooth_noise() -> None:
    phase = np.angle(filtered(background(4, 20, length=2.0)))[:, ::25]
    distance = np.hypot(*(POSITION - POSITION.mean(axis=0)).T)
    rho = np.array([circular_linear(frame, distance) for frame in phase.T])
    p = chi2.sf(len(POSITION) * rho**2, 2)
    assert (p < 0.05).mean() > 0.5


@pytest.mark.slow
def test_the_plain_mean_of_directionality_loses_bursts() -> None:
    field = background(5, 20, length=2.0)
    time = np.arange(field.shape[1]) / RATE
    signal = filtered(field + wave(field.shape[1], (time % 4) < 0.4))
    measure = directionality_of(ELECTRODES)
    operator = gradient_operator(ELECTRODES)
    spectrum = CrossSpectrum.of(signal, round(RATE))
    factors = zero_lag_factors(spectrum.mean)
    rng = np.random.default_rng(6)

    def statistics(one: np.ndarray) -> tuple[float, float]:
        plain = directionality(operator(np.angle(one))).mean()
        return float(plain), float(measure(one).mean_statistic()[0])

    observed = statistics(signal)
    null = np.array([statistics(surrogate(factors, signal.shape[1], rng)) for _ in range(19)])
    plain, weighted = (null >= observed).sum(axis=0)
    assert weighted == 0
    assert plain > 0
