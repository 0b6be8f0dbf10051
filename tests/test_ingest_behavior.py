"""Resampling of behaviour: no aliasing, no shift, circles, gaps."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.ingest.behavior import has_behavior, resample

WIDTH, BINS = 0.02, 200
STARTS = np.array([0.5, 6.0])
CENTRES = STARTS[:, None] + (np.arange(BINS) + 0.5) * WIDTH


def tone(frequency: float, rate: float = 1000.0, seconds: float = 12.0) -> tuple:
    t = np.arange(0, seconds, 1 / rate)
    return t, np.sin(2 * np.pi * frequency * t)[:, None]


@pytest.mark.parametrize("frequency", [60.0, 90.0, 130.0, 210.0])
def test_tone_above_the_bins_band_is_removed(frequency: float) -> None:
    # Sampled plainly, each of these would appear at full size below 25 Hz. -31 dB is 0.028.
    found = resample(*tone(frequency), STARTS, WIDTH, BINS)
    assert np.abs(found).max() < 0.03


def test_slow_signal_keeps_size_and_phase() -> None:
    found = resample(*tone(2.0), STARTS, WIDTH, BINS)[..., 0]
    x = 2.0 * 2 * WIDTH  # frequency times the length of the window
    gain = np.sinc(x) / (1 - x**2)
    np.testing.assert_allclose(found, gain * np.sin(2 * np.pi * 2.0 * CENTRES), atol=2e-3)


def test_weights_are_the_raised_cosine() -> None:
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 12, 6000))
    y = rng.normal(5e3, 1, (6000, 2))
    found = resample(t, y, STARTS, WIDTH, BINS)
    for trial, k in ((0, 0), (0, 77), (1, 199)):
        c = CENTRES[trial, k]
        weight = np.where(np.abs(t - c) < WIDTH, (1 + np.cos(np.pi * (t - c) / WIDTH)) / 2, 0)
        expected = weight @ y / weight.sum()
        np.testing.assert_allclose(found[trial, k], expected, rtol=1e-9)


def test_slow_series_is_interpolated_at_centres() -> None:
    t = np.arange(0, 12, 0.1)
    found = resample(t, 3 * t[:, None] - 1, STARTS, WIDTH, BINS)[..., 0]
    np.testing.assert_allclose(found, 3 * CENTRES - 1, atol=1e-9)


def test_series_stamped_at_the_bins_is_taken_as_it_is() -> None:
    t = 0.5 + np.arange(600) * WIDTH
    y = np.random.default_rng(1).normal(size=(600, 1))
    found = resample(t, y, np.array([0.5, 2.5]), WIDTH, BINS)[..., 0]
    np.testing.assert_array_equal(found, [y[:200, 0], y[100:300, 0]])


def test_short_gap_is_bridged_and_long_gap_is_missing() -> None:
    t, y = tone(1.0, rate=200.0)
    y[(t > 1.0) & (t < 1.1)] = np.nan
    y[(t > 2.0) & (t < 3.0)] = np.nan
    found = resample(t, y, STARTS[:1], WIDTH, BINS)[0, :, 0]
    c = CENTRES[0]
    assert np.isnan(found[(c > 2.05) & (c < 2.95)]).all()
    assert np.isfinite(found[(c < 1.98) | (c > 3.02)]).all()
    bridge = (c > 1.0) & (c < 1.1)
    np.testing.assert_allclose(found[bridge], np.sin(2 * np.pi * c[bridge]), atol=0.05)


def test_nothing_outside_the_series() -> None:
    t, y = tone(1.0, seconds=2.0)
    found = resample(t, y, np.array([0.0, 1.9, 5.0]), WIDTH, 10)[..., 0]
    assert np.isfinite(found[0]).all()
    assert np.isfinite(found[1, :5]).all()
    assert np.isnan(found[1, 6:]).all()
    assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(has_behavior(found[..., None]), [True, True, False])


def test_all_missing_stays_missing() -> None:
    t, y = tone(1.0)
    assert np.isnan(resample(t, y * np.nan, STARTS, WIDTH, BINS)).all()
