"""Posterior predictive statistics against closed forms, and their calibration."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.inference.predictive import (
    DIMS,
    count_correlations,
    draw_counts,
    fano_factor,
    population_autocorrelation,
    predictive_check,
)


def simulated(seed: int, gain_sd: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poisson counts (trial, time, unit) of 5 conditions, their rates and the conditions.

    A gain shared by all units of a trial has mean one and standard deviation ``gain_sd``.
    """
    rng = np.random.default_rng(seed)
    condition = np.arange(100) % 5
    phase = 2 * np.pi * np.arange(20) / 10
    level = rng.uniform(0.3, 1.5, 12)
    shift = rng.uniform(0, 2 * np.pi, (5, 12))
    expected = level * (1 + 0.8 * np.sin(phase[None, :, None] + shift[condition][:, None]))
    gain = rng.gamma(1 / gain_sd**2, gain_sd**2, 100) if gain_sd else np.ones(100)
    return rng.poisson(expected * gain[:, None, None]), expected, condition


def test_fano_factor_is_about_each_condition_s_mean():
    totals = np.array([[2.0, 0.0], [4.0, 0.0], [10.0, 0.0], [12.0, 0.0], [99.0, 0.0]])
    found = fano_factor(totals, np.array([0, 0, 1, 1, 2]))
    assert found[0] == pytest.approx((2 + 2) / (3 + 11))
    assert np.isnan(found[1])


def test_fano_factor_of_unrepeated_conditions_is_over_all_trials():
    totals = np.array([[1.0], [3.0], [5.0]])
    assert fano_factor(totals, np.arange(3))[0] == pytest.approx(4 / 3)


def test_signal_and_noise_correlations_part():
    """Means that go together, deviations that go opposite ways."""
    mean = np.array([[0.0, 0.0], [5.0, 5.0], [10.0, 10.0]])
    totals = np.repeat(mean, 2, axis=0) + np.tile([[1.0, -1.0], [-1.0, 1.0]], (3, 1))
    signal, noise = count_correlations(totals, np.repeat([0, 1, 2], 2))
    assert signal == pytest.approx([1.0])
    assert noise == pytest.approx([-1.0])


def test_correlations_that_cannot_be_told_are_nan():
    totals = np.random.default_rng(0).poisson(5, (6, 3)).astype(float)
    signal, noise = count_correlations(totals, np.zeros(6))
    assert np.isnan(signal).all()
    assert np.isfinite(noise).all()
    signal, noise = count_correlations(totals, np.arange(6))
    assert np.isfinite(signal).all()
    assert np.isnan(noise).all()


def test_autocorrelation_of_a_cosine():
    population = 3 + np.cos(2 * np.pi * np.arange(400) / 8)[None]
    found = population_autocorrelation(population, 8)
    np.testing.assert_allclose(found, np.cos(2 * np.pi * np.arange(1, 9) / 8), atol=0.02)


def test_posterior_spread_widens_drawn_counts():
    rng = np.random.default_rng(0)
    mean, sd = np.full(200_000, 2.0), np.full(200_000, 1.5)
    plain, wide = draw_counts(mean, rng), draw_counts(mean, rng, sd=sd)
    assert plain.mean() == pytest.approx(2.0, rel=0.02)
    assert wide.mean() == pytest.approx(2.0, rel=0.02)
    assert plain.var() == pytest.approx(2.0, rel=0.03)
    assert wide.var() == pytest.approx(2.0 + 1.5**2, rel=0.03)
    assert draw_counts(np.zeros(3), rng, sd=np.zeros(3)).sum() == 0


def test_true_rates_lie_in_their_bands_and_mean_rates_do_not():
    counts, expected, condition = simulated(0)
    true = predictive_check(counts, expected, condition, 0.02, draws=150)
    for name in DIMS:
        assert true.attrs[f"{name}_share"] > 0.8, name
    flat = np.broadcast_to(counts.mean((0, 1)), counts.shape)
    mean = predictive_check(counts, flat, condition, 0.02, draws=150)
    assert mean.attrs["rate_share"] == 1.0
    assert mean.attrs["signal_correlation_share"] < 0.99
    assert mean.attrs["autocorrelation_share"] < 0.5
    twice = predictive_check(counts, 2 * expected, condition, 0.02, draws=50)
    assert twice.attrs["rate_share"] == 0.0


def test_a_shared_gain_shows_in_fano_factors_and_noise_correlations():
    counts, expected, condition = simulated(1, gain_sd=0.5)
    check = predictive_check(counts, expected, condition, 0.02, draws=100)
    assert (check["fano"] > check["fano_high"]).mean() > 0.9
    assert (check["noise_correlation"] > check["noise_correlation_high"]).mean() > 0.9
    assert float(check["fano_predicted"].mean()) == pytest.approx(1.0, abs=0.05)


def test_checks_are_reproducible_labelled_and_bear_silent_units():
    counts, expected, condition = simulated(2)
    counts[..., 3] = 0
    labels = np.array(["a", "b", "c", "d", "e"])[condition]
    first = predictive_check(counts, expected, labels, 0.02, draws=20, seed=5)
    again = predictive_check(counts, expected, labels, 0.02, draws=20, seed=5)
    assert first.identical(again)
    assert np.isnan(first["fano"][3])
    assert float(first["rate"][0]) == pytest.approx(counts[..., 0].mean() / 0.02)
    assert first["population"].sum() == pytest.approx(1.0)
    assert first["lag"].values[0] == pytest.approx(0.02)
    for name in first.data_vars:
        assert first[name].attrs["units"]
