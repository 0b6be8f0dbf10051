"""Smoothing, its readouts and the widths it chooses, against known truth and other libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import PoissonRegressor

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.inference.kernel import last_bins, smooth, smoothing_matrix
from driftwave.inference.readout import (
    PoissonReadout,
    choose_features,
    choose_readout,
    fit_readout,
    poisson_cost,
)
from driftwave.models import smoothing
from driftwave.scores.table import score_model

OPTIONS = {"seed": 0, "device": "cpu", "progress": None, "checkpoint": None}


def fitted(recording: xr.DataTree, **params: object) -> smoothing.Fit:
    return smoothing.fit(recording, smoothing.Params(**params), **OPTIONS)


def with_counts(recording: xr.DataTree, counts: np.ndarray) -> xr.DataTree:
    """The same recording with other counts."""
    other = recording.copy(deep=True)
    other["spikes/counts"][:] = counts
    return other


@pytest.mark.parametrize("width", [0.3, 1.0, 4.0, 100.0])
def test_a_constant_stays_constant_up_to_the_edges(width: float) -> None:
    np.testing.assert_allclose(smooth(np.full((2, 9, 3), 5.0), width), 5.0, rtol=1e-12)
    np.testing.assert_allclose(smoothing_matrix(9, width).sum(1), 1.0, rtol=1e-12)


def test_smoothing_is_scipys_away_from_the_edges() -> None:
    values = np.random.default_rng(0).normal(0, 1, (3, 60, 2))
    expected = gaussian_filter1d(values, 2.0, axis=1, truncate=10.0)
    np.testing.assert_allclose(smooth(values, 2.0)[:, 15:-15], expected[:, 15:-15], atol=1e-9)


def test_last_bins_looks_back_by_the_lag() -> None:
    values = np.arange(10.0).reshape(1, 10, 1)
    np.testing.assert_array_equal(last_bins(values, 3), [[9.0, 6.0]])
    np.testing.assert_array_equal(last_bins(values[:, :2], 3), [[1.0, 0.0]])


def poisson_case(samples: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mixing = rng.normal(0, 1, (4, 4))
    features = rng.normal(0, 1, (samples, 4)) @ mixing + [3.0, 0.0, -50.0, 1.0]
    weights = rng.normal(0, 0.15, (4, 3))
    offset = np.log([0.05, 0.5, 3.0]) - features.mean(0) @ weights
    return features, rng.poisson(np.exp(features @ weights + offset)), weights, offset


def test_the_readout_finds_planted_weights() -> None:
    features, counts, weights, offset = poisson_case(60_000)
    found = fit_readout(features, counts, 1e-6)
    rate = np.exp(features @ weights + offset)
    design = np.column_stack([features, np.ones(len(features))])
    for target in range(3):
        fisher = design.T @ (design * rate[:, target, None])
        error = np.sqrt(np.diag(np.linalg.inv(fisher)))[:-1]
        score = (found.weights[:, target] / found.scale - weights[:, target]) / error
        assert np.abs(score).max() < 4
        assert error.max() < 0.05


def test_a_known_mean_stands_in_for_few_samples() -> None:
    """With a base, a strong penalty gives the base; without one, the mean of the samples."""
    features, counts, *_ = poisson_case(20)
    base = np.array([0.01, 1.0, 2.0])
    strong = fit_readout(features, counts, 1e9, base)
    np.testing.assert_allclose(strong.rate(features), np.tile(base, (20, 1)), rtol=1e-3)
    weak = fit_readout(features, counts, 1e9)
    np.testing.assert_allclose(weak.rate(features)[0, 1:], counts.mean(0)[1:], rtol=1e-3)
    silent = fit_readout(features, np.zeros((20, 3)), 10.0, base)
    assert (silent.rate(features)[:, 1:] < base[1:]).all()
    assert (silent.rate(features) > 0).all()


@pytest.mark.parametrize("penalty", [0.01, 10.0, 1000.0])
def test_the_readout_is_scikit_learns(penalty: float) -> None:
    features, counts, *_ = poisson_case()
    found = fit_readout(features, counts, penalty)
    scaled = (features - features.mean(0)) / features.std(0)
    for target in range(counts.shape[1]):
        # scikit-learn divides the likelihood, but not the penalty, by the number of samples.
        other = PoissonRegressor(
            alpha=penalty / len(features), tol=1e-10, max_iter=1000, solver="newton-cholesky"
        ).fit(scaled, counts[:, target])
        np.testing.assert_allclose(found.weights[:, target], other.coef_, atol=2e-3)
        assert found.intercept[target] == pytest.approx(other.intercept_, abs=2e-3)


def test_a_silent_target_gets_a_tiny_finite_rate() -> None:
    features, counts, *_ = poisson_case()
    counts[:, 1] = 0
    found = fit_readout(features, counts, 1.0)
    np.testing.assert_allclose(found.rate(features)[:, 1], 0.5 / len(counts))


def test_wild_features_give_rates_near_the_largest_count_at_most() -> None:
    features, counts, *_ = poisson_case()
    rates = fit_readout(features, counts, 1.0).rate(features * 1e4)
    assert np.isfinite(rates).all()
    assert (rates <= (counts.max(0) + 1) * (1 + 1e-12)).all()
    assert (rates > 0).all()


def test_constant_features_do_no_harm() -> None:
    features, counts, *_ = poisson_case()
    features[:, 2] = 7.0
    found = fit_readout(features, counts, 1.0)
    assert np.isfinite(found.rate(features)).all()
    np.testing.assert_allclose(found.weights[2], 0.0, atol=1e-12)


def test_the_penalty_is_the_one_best_on_validation() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (60, 30))  # far more features than 60 noisy counts can support
    counts = rng.poisson(np.exp(0.8 * features[:, :1]))
    more = rng.normal(0, 1, (3000, 30))
    valid = more, rng.poisson(np.exp(0.8 * more[:, :1]))
    found, costs = choose_readout((features, counts), valid, [0.01, 20.0, 1e6])
    assert int(np.argmin(costs)) == 1
    assert poisson_cost(found.log_rate(valid[0]), valid[1]) == pytest.approx(min(costs))


def test_the_features_are_those_best_on_validation() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(0, 1, (40, 20, 2))
    counts = rng.poisson(np.exp(signal - 1))
    train, valid = np.arange(40) < 30, np.arange(40) >= 30
    options = [rng.normal(0, 1, signal.shape), signal, signal + rng.normal(0, 1, signal.shape)]
    choice = choose_features(options.__getitem__, 3, counts, train, valid, [1.0, 100.0])
    assert choice.index == 1
    assert choice.costs.argmin() == 1


def test_readouts_survive_their_arrays() -> None:
    features, counts, *_ = poisson_case()
    found = fit_readout(features, counts, 1.0)
    again = PoissonReadout.from_arrays(found.arrays("x"), "x")
    np.testing.assert_array_equal(found.rate(features), again.rate(features))
    assert PoissonReadout.from_arrays_or_none(found.arrays("x"), "y") is None


def planted(frequency: float, seed: int = 0) -> xr.DataTree:
    """Independent units whose rates oscillate at a given frequency (Hz) with random phases."""
    recording = make_recording(trials=80, bins=60, units=10, held_out=0, forward=0, seed=seed)
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (80, 1, 10))
    time = np.arange(60)[None, :, None] * 0.02
    rate = 25 * np.exp(1.0 * np.sin(2 * np.pi * frequency * time + phase))
    recording["truth/rate"][:] = rate
    return with_counts(recording, rng.poisson(rate * 0.02))


def test_slow_rates_get_a_wide_kernel_and_fast_ones_a_narrow_one() -> None:
    slow, fast = fitted(planted(0.5)), fitted(planted(4.0))
    assert slow.widths[0] >= 2 * fast.widths[0]


@pytest.mark.parametrize("frequency", [0.5, 2.0])
def test_the_chosen_width_is_near_the_best_for_the_true_rates(frequency: float) -> None:
    recording = planted(frequency)
    widths = smoothing.Params().widths
    errors = []
    for width in widths:
        rate = fitted(recording, widths=[width]).infer(recording)["rate"]
        errors.append(float(((rate - recording["truth/rate"]) ** 2).mean()))
    chosen = widths.index(pytest.approx(fitted(recording).widths[0] * 0.02))
    assert abs(chosen - int(np.argmin(errors))) <= 1


def test_held_in_rates_are_their_smoothed_counts(synthetic: xr.DataTree) -> None:
    fit = fitted(synthetic, widths=[0.05], floor=1e-9)
    rate = fit.infer(synthetic)["rate"].values
    visible = synthetic["spikes/counts"].values[:, :25, :9].astype(float)
    np.testing.assert_allclose(rate[:, :25, :9], smooth(visible, 2.5) / 0.02, rtol=1e-4, atol=1e-4)


def test_no_rate_is_zero_even_for_a_unit_silent_in_training(synthetic: xr.DataTree) -> None:
    counts = synthetic["spikes/counts"].values.copy()
    counts[..., [0, 11]] = 0
    silent = with_counts(synthetic, counts)
    rate = fitted(silent).infer(silent)["rate"].values
    assert (rate > 0).all()
    assert rate[..., [0, 11]].max() < 0.2


def test_hidden_units_and_bins_are_predicted_better_than_their_mean() -> None:
    synthetic = make_recording(trials=200)
    latents = fitted(synthetic).infer(synthetic)
    latents.attrs["session"] = "synthetic"
    table = score_model(synthetic, latents, seed=0).set_index("metric")
    assert table.loc["co_bps", "ci_low"] > 0
    assert table.loc["fp_bps", "ci_low"] > 0
    assert table.loc["co_bps", "value"] > 0.5 * table.loc["co_bps", "ceiling"]


@pytest.mark.parametrize("hidden", [{"held_out": 0}, {"forward": 0}, {"held_out": 0, "forward": 0}])
def test_a_session_need_not_hide_anything(hidden: dict[str, int]) -> None:
    recording = make_recording(**hidden)
    fit = fitted(recording, **smoothing.QUICK)
    assert (fit.readout is None) == (hidden.get("held_out") == 0)
    assert (fit.forward is None) == (hidden.get("forward") == 0)
    assert np.isnan(fit.widths[1]) == (hidden.get("held_out") == 0)
    rate = fit.infer(recording)["rate"]
    assert rate.shape == recording["spikes/counts"].shape
    assert np.isfinite(rate).all()


def test_curves_hold_every_candidate(synthetic: xr.DataTree) -> None:
    result = fitted(synthetic).infer(synthetic)
    np.testing.assert_allclose(result["candidate_width"], smoothing.Params().widths)
    for name in ("valid_cost_rate", "valid_cost_readout", "valid_cost_forward"):
        assert np.isfinite(result[name]).all()
        assert result[name].attrs["units"] == "nats/entry"


def test_another_view_of_the_recording_is_refused(synthetic: xr.DataTree) -> None:
    fit = fitted(synthetic, **smoothing.QUICK)
    with pytest.raises(InputError, match="25 of 30 bins, as in the fit"):
        fit.infer(make_recording(forward=4))


@pytest.mark.slow
@pytest.mark.recording
@pytest.mark.parametrize("name", ["smoothing", "factor_analysis"])
def test_reference_levels_of_the_lorenz_file(recordings: Path, name: str) -> None:
    """Other tools' smoothing and FA with a GLM reach .817-.849 co-bps and R2 .52-.56 there."""
    import importlib

    from lorenz_file import lorenz29

    recording = lorenz29(recordings)
    module = importlib.import_module(f"driftwave.models.{name}")
    latents = module.fit(recording, module.Params(), **OPTIONS).infer(recording)
    table = score_model(recording, latents, seed=0).set_index("metric")
    assert table.loc["co_bps", "ceiling"] == pytest.approx(1.261, abs=1e-3)
    assert table.loc["co_bps", "value"] > 1.14
    assert table.loc["rate_r2_held_out", "value"] > 0.83
