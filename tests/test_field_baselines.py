"""Baseline models of the field: exact where a closed form exists, and blind to what is hidden."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import xarray as xr

from conftest import FIELD_WAVE, make_field_recording
from driftwave import registry
from driftwave.errors import InputError
from driftwave.inference.analytic import (
    analytic,
    analytic_taps,
    band_edges,
    covariance_of,
    hidden_error,
    least_squares,
    principal_components,
    rotation,
    weighted,
)
from driftwave.inference.factors import Factors
from driftwave.inference.vector_autoregression import (
    Autoregression,
    fit_autoregressions,
    forecast,
    interpolate,
    lagged_covariances,
    surprise,
    toeplitz,
)
from driftwave.models.field_factor_analysis import (
    choose_autoregressions,
    forecast_factors,
    infer_factors,
    peak_of,
)
from driftwave.models.field_var import _eigenmodes

BASELINES = ("field_var", "field_factor_analysis", "hilbert_pca")
FIRST, SECOND = np.array([[0.5, 0.3, 0], [-0.3, 0.5, 0.1], [0, 0.2, 0.4]]), -0.2 * np.eye(3)
NOISE = np.array([[1.0, 0.4, 0], [0.4, 1.0, 0.2], [0, 0.2, 0.5]])


@cache
def series(samples: int = 60_000) -> np.ndarray:
    """An autoregression of order 2 of three channels."""
    noise = np.random.default_rng(0).normal(size=(samples, 3)) @ np.linalg.cholesky(NOISE).T
    data = np.zeros((samples, 3))
    for t in range(2, samples):
        data[t] = FIRST @ data[t - 1] + SECOND @ data[t - 2] + noise[t]
    return data


@cache
def fitted_series(ridge: float = 0.0) -> Autoregression:
    return next(iter(fit_autoregressions(lagged_covariances(series(), 2), 2, [ridge])))


def dense(model: Autoregression, count: int) -> np.ndarray:
    """Covariance of successive samples, earliest first."""
    return toeplitz(model.extended(count - 1).swapaxes(1, 2), count)


def conditional(covariance: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Data (time, channel) with NaN replaced by the conditional mean."""
    flat = data.ravel()
    there = np.isfinite(flat)
    among = np.linalg.solve(covariance[np.ix_(there, there)], flat[there])
    return np.where(there, flat, covariance[:, there] @ among).reshape(data.shape)


def test_an_autoregression_is_recovered() -> None:
    model = fitted_series()
    np.testing.assert_allclose(model.coefficients, np.hstack([FIRST, SECOND]), atol=0.02)
    np.testing.assert_allclose(model.innovation, NOISE, atol=0.02)


def test_missing_samples_do_not_bias_an_autoregression() -> None:
    data = series().copy()
    data[20_000:24_000] = np.nan
    data[40_000:41_000, 1] = np.nan
    model = next(iter(fit_autoregressions(lagged_covariances(data, 2), 2, [0.0])))
    np.testing.assert_allclose(model.coefficients, np.hstack([FIRST, SECOND]), atol=0.03)


def test_ridge_is_white_noise_on_the_process() -> None:
    smooth = fitted_series(0.5)
    past = dense(fitted_series(), 3) + 0.5 * np.eye(9)
    # Regression of the last sample on the two before it, latest first.
    expected = np.linalg.solve(past[:6, :6], past[:6, 6:]).T
    np.testing.assert_allclose(smooth.coefficients[:, 3:], expected[:, :3], atol=1e-8)
    np.testing.assert_allclose(smooth.coefficients[:, :3], expected[:, 3:], atol=1e-8)


def test_lagged_covariances_are_positive_definite_and_in_blocks() -> None:
    data = series()[:20_000].astype(np.float32)
    found = lagged_covariances(data, 12)
    wide = data.astype(float)
    expected = wide[5:].T @ wide[:-5] / len(data)
    np.testing.assert_allclose(found[5], expected, rtol=1e-3, atol=1e-4)
    assert np.linalg.eigvalsh(toeplitz(found, 13)).min() > 0


def test_likelihood_is_that_of_the_gaussian_process() -> None:
    model, few = fitted_series(), series()[:200]
    whole, past = (dense(model, n) for n in (200, 2))

    def cost(covariance: np.ndarray, data: np.ndarray) -> float:
        energy = data.ravel() @ np.linalg.solve(covariance, data.ravel())
        return (energy + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2

    expected = (cost(whole, few) - cost(past, few[:2])) / (198 * 3)
    assert surprise(model, few) == pytest.approx(expected, rel=1e-4)


def test_forecasts_are_the_conditional_means() -> None:
    model, data = fitted_series(), series()[100:120]
    covariance = dense(model, 20)
    found = forecast(model, data, [1, 4, 30])
    for place, step in enumerate((1, 4)):
        assert np.isnan(found[place, :step]).all()
        for t in (12, 19):
            known = data.copy()
            known[t - step + 1 :] = np.nan
            np.testing.assert_allclose(
                found[place, t], conditional(covariance, known)[t], atol=1e-5
            )
    assert np.isnan(found[2]).all()


def test_a_hidden_channel_is_the_conditional_mean_of_its_window() -> None:
    model, data = fitted_series(), series()[100:117].copy()
    data[:, 1] = np.nan
    exact = conditional(dense(model, 17), data)
    np.testing.assert_allclose(interpolate(model, data, 8), exact, atol=1e-5)
    # A window of half the length changes little, and its middle is exact for that window.
    short = interpolate(model, data, 4)
    window = conditional(dense(model, 9), data[3:12])
    np.testing.assert_allclose(short[7], window[4], atol=1e-5)
    assert np.abs(short - exact).max() < 0.05


def test_gaps_are_filled_from_what_is_around_them() -> None:
    model, data = fitted_series(), series()[100:140].copy()
    data[:, 1] = np.nan
    data[20:22, 0] = np.nan
    found = interpolate(model, data, 8)
    assert np.isfinite(found).all()
    for t in (20, 21):
        part = conditional(dense(model, 9), data[t - 4 : t + 5])
        np.testing.assert_allclose(found[t], part[4], atol=1e-5)
    seen = np.isfinite(data)
    np.testing.assert_allclose(found[seen], data[seen].astype(np.float32))


def test_both_ways_to_eigenmodes_agree() -> None:
    rng = np.random.default_rng(0)
    size, order = 45, 10
    coefficients = rng.normal(size=(size, size * order)) * 0.03
    model = Autoregression(coefficients, np.zeros((order + 1, size, size)), np.eye(size))
    values, right, left = _eigenmodes(model, 8)
    companion = np.eye(size * order, k=-size)
    companion[:size] = coefficients
    np.testing.assert_allclose(companion @ right, right * values, atol=1e-8)
    np.testing.assert_allclose(left @ companion, values[:, None] * left, atol=1e-8)
    np.testing.assert_allclose(np.diag(left @ right), 1, atol=1e-8)
    largest = np.sort(np.abs(np.linalg.eigvals(companion)))[::-1][:8]
    np.testing.assert_allclose(np.sort(np.abs(values))[::-1], largest, atol=1e-8)


def test_factors_need_only_what_is_recorded_in_a_sample() -> None:
    rng = np.random.default_rng(0)
    model = Factors(np.zeros(5), rng.normal(size=(2, 5)), np.full(5, 0.3))
    data = rng.normal(size=(7, 5))
    data[2, 1] = data[3, 1] = data[4, :3] = np.nan
    data[5] = np.nan
    own = model.components.T @ model.components + np.diag(model.noise)
    found = infer_factors(model, data)
    for row, sample in zip(found, data, strict=True):
        seen = np.isfinite(sample)
        expected = model.components[:, seen] @ np.linalg.solve(
            own[np.ix_(seen, seen)], sample[seen]
        )
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_a_factor_that_turns_is_foretold() -> None:
    turn = 0.95 * np.exp(2j * np.pi * 10 / 250)
    rng = np.random.default_rng(0)
    course = np.zeros(40_000)
    for t in range(2, len(course)):
        course[t] = 2 * turn.real * course[t - 1] - abs(turn) ** 2 * course[t - 2] + rng.normal()
    found = choose_autoregressions(course[:30_000, None], course[30_000:, None], (1, 2))
    np.testing.assert_allclose(found[0, :2], [2 * turn.real, -(abs(turn) ** 2)], atol=0.02)
    frequency, modulus = peak_of(found, 250.0)
    assert frequency[0] == pytest.approx(10, abs=0.5)
    assert modulus[0] == pytest.approx(0.95, abs=0.01)
    two = forecast_factors(found, course[:, None], 2)
    one = forecast_factors(found, course[:, None], 1)
    by_hand = found[0, 0] * one[99, 0] + found[0, 1:] @ course[99 : 99 - found.shape[1] + 1 : -1]
    assert two[99, 0] == pytest.approx(by_hand, abs=1e-6)


def test_bands_add_up_to_the_whole_and_drop_negative_frequencies() -> None:
    edges = band_edges(np.array([21.0, 6.0, 11.0]), (3.0, 45.0))
    np.testing.assert_allclose(edges, [3, 8.5, 16, 45])
    parts = [analytic_taps(low, high, 250.0) for low, high in pairwise(edges)]
    whole = analytic_taps(3, 45, 250.0)
    np.testing.assert_allclose(sum(p.real for p in parts), whole.real, atol=1e-12)
    time = np.arange(2000) / 250
    wave = np.cos(2 * np.pi * 11 * time)[:, None]
    found = analytic(wave, parts[1])[500:-500, 0]
    np.testing.assert_allclose(found, np.exp(2j * np.pi * 11 * time[500:-500]), atol=0.01)


def test_causal_signals_end_where_the_data_do() -> None:
    data, taps = series()[:600], analytic_taps(8, 16, 250.0)
    causal = analytic(data, taps, causal=True)
    for end in (200, 599):
        np.testing.assert_allclose(causal[end], analytic(data[: end + 1], taps)[end], atol=1e-5)


def test_hidden_error_is_what_least_squares_leaves() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(5000, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(5000, 6))
    signal = signal + 1j * np.roll(signal, 1, 1)
    power, pattern = principal_components(covariance_of(signal))
    np.testing.assert_allclose(np.var(signal @ pattern[:, 0].conj()), power[0], rtol=1e-2)
    fold = np.arange(6) % 3
    error = 0.0
    for group in range(3):
        seen = fold != group
        reader = least_squares(pattern[:, :2], power[:2], 0.1, seen)
        found = signal[:, seen] @ reader.T @ pattern[~seen, :2].T
        error += np.mean(np.sum(np.abs(signal[:, ~seen] - found) ** 2, 1))
    found_error = hidden_error(pattern[:, :2], power[:2], 0.1, covariance_of(signal), fold)
    assert found_error == pytest.approx(error, rel=1e-9)


def test_rotation_finds_frequency_decay_and_gain() -> None:
    pole = 0.97 * np.exp(0.25j)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(50_000, 2)) @ [1, 1j]
    course = np.zeros(50_000, dtype=complex)
    for t in range(1, len(course)):
        course[t] = pole * course[t - 1] + noise[t]
    gain, found = rotation(course, course / 2 + 0.1 * course.conj(), 25)
    assert found == pytest.approx(pole, abs=0.005)
    # x = z / 2 + conj(z) / 10 gives z = (50 x - 10 conj(x)) / 24.
    np.testing.assert_allclose(gain, [50 / 24, -10 / 24], atol=0.03)


def test_weights_of_bands_leave_an_error_without_their_forecasts() -> None:
    data = make_field_recording(seconds=8.0)["field/lfp"].values / 50
    bands = fitted("hilbert_pca").bands
    found = weighted(bands, data, [1, 5])
    assert len(found) == len(bands) > 1

    def forecasts(step: int) -> list[np.ndarray]:
        return [band.ahead(band.course(data)[:-step], step) for band in found]

    error = {step: data[step:] - sum(forecasts(step)) for step in (1, 5)}
    for k in range(len(found)):
        along = sum(float(np.sum(forecasts(s)[k] * error[s])) for s in (1, 5))
        size = sum(float(np.sum(forecasts(s)[k] ** 2)) for s in (1, 5))
        assert abs(along) < 1e-3 * size
    before = sum(
        float(np.sum((data[s:] - sum(b.ahead(b.course(data)[:-s], s) for b in bands)) ** 2))
        for s in (1, 5)
    )
    assert sum(float(np.sum(e**2)) for e in error.values()) < before


@cache
def recording() -> xr.DataTree:
    return make_field_recording()


def fit(name: str, tree: xr.DataTree) -> Any:
    module = registry.load("models", name)
    options = {"seed": 0, "device": "cpu", "progress": None, "checkpoint": None}
    return module.fit(tree, module.Params(**module.QUICK), **options)


@cache
def fitted(name: str) -> Any:
    return fit(name, recording())


@pytest.mark.parametrize("name", BASELINES)
def test_the_wave_is_filled_and_foretold(name: str) -> None:
    found = fitted(name).infer(recording())
    recorded = found["field_recorded"]
    variance = recorded.var("test_time").mean()
    filled = 1 - ((found["field_filled"] - recorded) ** 2).mean() / variance
    later = 1 - ((found["field_forecast"] - recorded) ** 2).mean(("test_time", "electrode"))
    assert float(filled) > 0.45
    assert float((later / variance).max()) < 1
    nearest = int(np.abs(found["frequency"].values - FIELD_WAVE["frequency"]).argmin())
    assert float(found["frequency"][nearest]) == pytest.approx(FIELD_WAVE["frequency"], abs=1.0)


def test_hilbert_pca_maps_the_wave() -> None:
    found = fitted("hilbert_pca").infer(recording())
    best = int(found["loading_amplitude"].values.mean(1).argmax())
    angle = np.deg2rad(FIELD_WAVE["direction"])
    along = np.cos(angle) * found["x"] + np.sin(angle) * found["y"]
    delay = 2 * np.pi * FIELD_WAVE["frequency"] * along / FIELD_WAVE["speed"]
    apart = np.exp(1j * (found["loading_phase"][best].values + delay.values))
    assert np.abs(np.mean(apart)) > 0.99


@pytest.mark.parametrize("name", BASELINES)
def test_latents_and_loadings_are_the_field(name: str) -> None:
    """Hilbert + PCA: in the band; the others' latents at least follow the wave."""
    found = fitted(name).infer(recording())
    assert found.sizes["time"] == recording()["field"].sizes["time"]
    latent = found["latent"].values
    assert np.std(latent[:3500], axis=0) == pytest.approx(1, abs=0.35)
    if name == "hilbert_pca":
        z = latent[:, 0::2] + 1j * latent[:, 1::2]
        c = found["loading_amplitude"].values * np.exp(1j * found["loading_phase"].values)
        band = analytic(recording()["field/lfp"].values.astype(float), analytic_taps(3, 45, 250.0))
        error = np.mean((band.real - (z @ c).real)[500:-500] ** 2)
        assert error < 0.25 * np.mean(band.real[500:-500] ** 2)


@pytest.mark.parametrize("name", BASELINES)
def test_a_fit_is_blind_to_the_test_stretch(name: str) -> None:
    other = recording().copy(deep=True)
    lfp = other["field/lfp"].values
    lfp[4250:] = np.random.default_rng(1).normal(0, 300, lfp[4250:].shape)
    data = recording()["field/lfp"].values[:400]
    first, second = fitted(name), fit(name, other)
    np.testing.assert_array_equal(first.forecast(data, [5]), second.forecast(data, [5]))
    lfp[:2000] *= 2
    assert np.nanmax(np.abs(fit(name, other).forecast(data, [5]) - first.forecast(data, [5]))) > 1


@pytest.mark.parametrize("name", BASELINES)
def test_forecasts_do_not_see_what_is_later(name: str) -> None:
    data = recording()["field/lfp"].values[:600]
    later = data.copy()
    later[300:] = 500.0
    first, second = (fitted(name).forecast(d, [1, 10]) for d in (data, later))
    assert np.isnan(first[1, :10]).all()
    # Spectral products bring rounding errors from everywhere.
    np.testing.assert_allclose(first[0, 1:301], second[0, 1:301], atol=0.01)
    np.testing.assert_allclose(first[1, 10:310], second[1, 10:310], atol=0.01)
    assert np.abs(first[0, 305:] - second[0, 305:]).max() > 10


@pytest.mark.parametrize("name", BASELINES)
def test_missing_stretches_are_borne(name: str) -> None:
    gappy = recording().copy(deep=True)
    lfp = gappy["field/lfp"].values
    lfp[500:700] = np.nan
    lfp[1000:1100, 3] = np.nan
    lfp[4400:4420] = np.nan
    lfp[4500:4560, 7] = np.nan
    found = fit(name, gappy).infer(gappy)
    for variable in ("latent", "field_filled"):
        assert np.isfinite(found[variable]).all()
    late = found["field_forecast"].values[:, 30:]
    assert np.isfinite(late).all()
    gap = slice(4500 - 4250, 4560 - 4250)
    assert np.isnan(found["field_recorded"].values[gap, 7]).all()
    truth = recording()["field/lfp"].values[4500:4560, 7]
    error = np.mean((found["field_filled"].values[gap, 7] - truth) ** 2)
    assert error < 0.8 * truth.var()


@pytest.mark.parametrize("name", BASELINES)
def test_what_cannot_be_fitted_is_refused(name: str) -> None:
    flat = recording().copy(deep=True)
    flat["field/lfp"].values[:, 5] = 3.0
    with pytest.raises(InputError, match="constant signal on electrode 5"):
        fit(name, flat)
    empty = recording().copy(deep=True)
    empty["field/lfp"].values[:, 6] = np.nan
    with pytest.raises(InputError, match="electrode 6 misses most"):
        fit(name, empty)
    with pytest.raises(InputError, match="at least 2"):
        fit(name, make_field_recording(seconds=1.0))
    with pytest.raises(InputError, match="the 16 good electrodes at 250 Hz"):
        fitted(name).infer(make_field_recording(seconds=4.0, side=3))
