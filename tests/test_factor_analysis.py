"""Factor analysis against exact Gaussian conditioning, scikit-learn and known truth."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from sklearn.decomposition import FactorAnalysis

from conftest import make_recording
from driftwave.inference.factors import Factors, fit_factors
from driftwave.models import factor_analysis
from driftwave.models.factor_analysis import leave_units_out
from driftwave.scores.table import score_model

OPTIONS = {"seed": 0, "device": "cpu", "progress": None, "checkpoint": None}


def fitted(recording: xr.DataTree, **params: object) -> factor_analysis.Fit:
    return factor_analysis.fit(recording, factor_analysis.Params(**params), **OPTIONS)


@pytest.fixture
def planted() -> tuple[Factors, np.ndarray]:
    """A known factor analysis of 6 units with 2 factors, and samples of it."""
    rng = np.random.default_rng(0)
    model = Factors(rng.normal(0, 1, 6), rng.normal(0, 1, (2, 6)), rng.uniform(0.2, 1.0, 6))
    latent = rng.normal(0, 1, (20_000, 2))
    noise = rng.normal(0, 1, (20_000, 6)) * np.sqrt(model.noise)
    return model, latent @ model.components + model.mean + noise


@pytest.mark.parametrize("shown", [[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
def test_factors_are_those_of_the_joint_gaussian(
    planted: tuple[Factors, np.ndarray], shown: list[int]
) -> None:
    """E[z | x] = cov(z, x) cov(x)^-1 (x - mean), by inverting the covariance of what is shown."""
    model, samples = planted
    use = np.array(shown, dtype=bool)
    loading = model.components[:, use]
    covariance = loading.T @ loading + np.diag(model.noise[use])
    centred = samples[:50, use] - model.mean[use]
    expected = centred @ np.linalg.inv(covariance) @ loading.T
    np.testing.assert_allclose(model.infer(samples[:50], use), expected, atol=1e-10)


@pytest.mark.slow
def test_the_fit_from_a_covariance_is_that_from_all_samples(
    planted: tuple[Factors, np.ndarray],
) -> None:
    model, samples = planted
    mean = samples.mean(0)
    covariance = np.cov(samples.T, bias=True)
    found = fit_factors(mean, covariance, 2, samples=len(samples), iterations=1000)
    other = FactorAnalysis(2, svd_method="lapack").fit(samples)

    def whole(components: np.ndarray, noise: np.ndarray) -> np.ndarray:
        return components.T @ components + np.diag(noise)

    ours = whole(found.components, found.noise)
    np.testing.assert_allclose(ours, whole(other.components_, other.noise_variance_), atol=5e-3)
    np.testing.assert_allclose(ours, whole(model.components, model.noise), atol=0.1)
    np.testing.assert_allclose(
        np.abs(found.infer(samples[:20])), np.abs(other.transform(samples[:20])), atol=2e-2
    )


def test_the_sign_of_a_factor_does_not_hang_on_the_solver(
    planted: tuple[Factors, np.ndarray],
) -> None:
    _, samples = planted
    covariance = np.cov(samples.T, bias=True)
    found = fit_factors(samples.mean(0), covariance, 2, samples=len(samples), iterations=100)
    peak = np.abs(found.components).argmax(1)
    assert (found.components[np.arange(2), peak] > 0).all()


def test_every_unit_is_predicted_from_others_only() -> None:
    held_in = np.array([True] * 9 + [False] * 3)
    views = leave_units_out(held_in, 4, seed=0)
    targets = np.concatenate([view.targets for view in views])
    np.testing.assert_array_equal(np.sort(targets), np.arange(12))
    for view in views:
        assert not set(view.targets) & set(np.flatnonzero(held_in)[view.shown])
    assert views[-1].shown.all()
    np.testing.assert_array_equal(views[-1].targets, [9, 10, 11])


def test_a_units_own_counts_do_not_enter_its_rate(synthetic: xr.DataTree) -> None:
    fit = fitted(synthetic, **factor_analysis.QUICK)
    before = fit.infer(synthetic)["rate"].values
    other = synthetic.copy(deep=True)
    other["spikes/counts"][..., 4] = 9
    after = fit.infer(other)["rate"].values
    seen = slice(0, fit.seen_bins)
    np.testing.assert_array_equal(before[:, seen, 4], after[:, seen, 4])
    assert (before[:, seen, 11] != after[:, seen, 11]).any()


@pytest.mark.slow
def test_hidden_units_and_bins_are_predicted_better_than_their_mean() -> None:
    synthetic = make_recording(trials=200)
    latents = fitted(synthetic).infer(synthetic)
    latents.attrs["session"] = "synthetic"
    table = score_model(synthetic, latents, seed=0).set_index("metric")
    assert table.loc["co_bps", "ci_low"] > 0
    assert table.loc["fp_bps", "ci_low"] > 0
    assert table.loc["co_bps", "value"] > 0.5 * table.loc["co_bps", "ceiling"]
    assert table.loc["latent_r2", "value"] > 0.5


def test_as_many_factors_are_chosen_as_are_needed() -> None:
    """Four latent dimensions; one factor cannot carry them."""
    recording = make_recording(trials=120, units=30, held_out=5, forward=0)
    fit = fitted(recording, factors=[1, 4], widths=[0.06])
    np.testing.assert_array_equal(fit.candidates, [[0.06, 4], [0.06, 1]])
    assert fit.costs[0] < fit.costs[1]
    assert len(fit.model.components) == 4


def test_the_best_width_and_number_are_kept(synthetic: xr.DataTree) -> None:
    fit = fitted(synthetic)
    width, count = fit.candidates[np.argmin(fit.costs)]
    assert fit.width == pytest.approx(width / 0.02)
    assert len(fit.model.components) == count
    result = fit.infer(synthetic)
    assert result["latent"].sizes["latent"] == count
    assert (result["candidate_factors"] < 9).all()  # fewer than held-in units


def test_forward_factors_are_forecast() -> None:
    recording = make_recording(trials=150, units=30, held_out=0, forward=5)
    fit = fitted(recording, factors=[4], widths=[0.06], penalties=[10.0])
    forecast = fit.infer(recording)["latent"].values[:, -5:]
    whole = recording.copy(deep=True)
    whole["spikes"].attrs["forward_bins"] = 0
    seen = fitted(whole, factors=[4], widths=[0.06], penalties=[10.0])
    # The factors of another fit differ by a rotation: compare through a linear map.
    truth = seen.infer(whole)["latent"].values[:, -5:].reshape(-1, 4)
    design = np.column_stack([forecast.reshape(-1, 4), np.ones(len(truth))])
    train = np.repeat(recording["trials/split"].values == "train", 5)
    weights = np.linalg.lstsq(design[train], truth[train], rcond=None)[0]
    error = ((truth[~train] - design[~train] @ weights) ** 2).sum()
    assert 1 - error / ((truth[~train] - truth[~train].mean(0)) ** 2).sum() > 0.4


@pytest.mark.parametrize(
    "shape",
    [
        {"held_out": 0, "forward": 0},
        {"units": 1, "held_out": 0},
        {"units": 2, "held_out": 1},
        {"units": 3, "held_out": 1, "forward": 0},
    ],
)
def test_few_units_are_no_obstacle(shape: dict[str, int]) -> None:
    recording = make_recording(**shape)
    rate = fitted(recording, **factor_analysis.QUICK).infer(recording)["rate"]
    assert rate.shape == recording["spikes/counts"].shape
    assert np.isfinite(rate).all()
    assert (rate > 0).all()


def test_silent_units_are_no_obstacle(synthetic: xr.DataTree) -> None:
    synthetic["spikes/counts"][..., [0, 11]] = 0
    rate = fitted(synthetic, **factor_analysis.QUICK).infer(synthetic)["rate"].values
    assert np.isfinite(rate).all()
    assert rate[..., [0, 11]].max() < 0.2


def test_selection_on_fewer_trials_still_trains_on_all(synthetic: xr.DataTree) -> None:
    few = fitted(synthetic, selection_bins=100, factors=[3], widths=[0.03], penalties=[10.0])
    many = fitted(synthetic, factors=[3], widths=[0.03], penalties=[10.0])
    assert few.costs[0] != many.costs[0]
    np.testing.assert_array_equal(few.model.components, many.model.components)
    np.testing.assert_array_equal(
        few.infer(synthetic)["rate"].values, many.infer(synthetic)["rate"].values
    )
