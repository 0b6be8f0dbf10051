"""Gaussian-process factor analysis against the dense joint Gaussian and planted truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.linalg import block_diag, subspace_angles
from scipy.stats import multivariate_normal

from conftest import make_recording
from driftwave.errors import DriftwaveError
from driftwave.inference import gp_training
from driftwave.inference.gaussian_process import (
    NUGGET,
    GpFactors,
    em_step,
    first_guess,
    kernel,
    log_likelihood,
    orthonormal,
    smoother,
)
from driftwave.inference.gp_training import fit_readouts, run_em, segments
from driftwave.inference.selection import View
from driftwave.models import gpfa
from driftwave.progress import Progress
from driftwave.scores.bits_per_spike import bits_per_spike, expected_bits_per_spike

OPTIONS = {"seed": 0, "device": "cpu", "progress": None, "checkpoint": None}


def planted(units: int = 12, seed: int = 0) -> GpFactors:
    rng = np.random.default_rng(seed)
    return GpFactors(
        rng.normal(0, 1, (units, 2)),
        rng.normal(1, 0.5, units),
        rng.uniform(0.3, 1.0, units),
        np.array([2.0, 7.0]),
    )


def sample(
    model: GpFactors, trials: int, bins: int, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Latents (trial, bin, latent) and values (trial, bin, unit)."""
    rng = np.random.default_rng(seed)
    x = np.stack(
        [
            rng.multivariate_normal(np.zeros(bins), kernel(bins, tau), trials)
            for tau in model.timescale
        ],
        -1,
    )
    y = x @ model.weights.T + model.offset
    return x, y + rng.normal(0, 1, y.shape) * np.sqrt(model.noise)


def dense(model: GpFactors, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Prior covariance of (latent, bin), design, mean and covariance of (bin, unit)."""
    prior = block_diag(*[kernel(bins, tau) for tau in model.timescale])
    design = np.concatenate(
        [np.kron(np.eye(bins), column[:, None]) for column in model.weights.T], axis=1
    )
    mean = np.tile(model.offset, bins)
    covariance = design @ prior @ design.T + np.diag(np.tile(model.noise, bins))
    return prior, design, mean, covariance


def test_the_kernel_is_the_papers() -> None:
    expected = (1 - NUGGET) * np.exp(-((3 - 1) ** 2) / (2 * 2.5**2))
    assert kernel(5, 2.5)[3, 1] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(np.diag(kernel(5, 2.5)), 1.0)


@pytest.mark.parametrize("forward", [0, 4])
def test_posterior_and_likelihood_are_those_of_the_joint_gaussian(forward: int) -> None:
    model, seen = planted(5), 8
    bins = seen + forward
    _, values = sample(model, 3, seen)
    found = smoother(model, seen, bins)
    prior, design, mean, covariance = dense(model, bins)
    shown = np.arange(seen * 5)
    inside = covariance[np.ix_(shown, shown)]
    across = (prior @ design.T)[:, shown]
    posterior = prior - across @ np.linalg.solve(inside, across.T)
    np.testing.assert_allclose(found.covariance.reshape(2 * bins, -1), posterior, atol=1e-9)
    means = found.mean(model.reduced(values))
    likelihood = log_likelihood(model, values, found)
    for r in range(3):
        y = values[r].ravel()
        expected = across @ np.linalg.solve(inside, y - mean[shown])
        np.testing.assert_allclose(means[r].T.ravel(), expected, atol=1e-9)
        exact = multivariate_normal(mean[shown], inside).logpdf(y)
        assert likelihood[r] == pytest.approx(exact, rel=1e-9)
    marginal = found.marginal()
    cube = posterior.reshape(2, bins, 2, bins)
    for t in range(bins):
        np.testing.assert_allclose(marginal[t], cube[:, t, :, t], atol=1e-9)


def test_em_never_lowers_the_likelihood() -> None:
    _, values = sample(planted(), 40, 25)
    model, likelihoods = first_guess(values, 2), []
    for _ in range(25):
        model, likelihood = em_step(model, values)
        likelihoods.append(likelihood)
    assert (np.diff(likelihoods) > -1e-10).all()
    assert likelihoods[-1] > likelihoods[0] + 0.01


@pytest.mark.slow
def test_planted_timescales_subspace_and_noise_are_recovered() -> None:
    true = planted()
    _, values = sample(true, 150, 30)
    found = first_guess(values, 2)
    for _ in range(160):
        found, likelihood = em_step(found, values)
    np.testing.assert_allclose(np.sort(found.timescale), [2.0, 7.0], rtol=0.1)
    assert np.rad2deg(subspace_angles(found.weights, true.weights)[0]) < 3
    np.testing.assert_allclose(found.noise, true.noise, rtol=0.1)
    ideal = log_likelihood(true, values, smoother(true, 30)).sum() / values.size
    assert likelihood > ideal - 1e-6  # the fit maximises it on these trials


def test_orthonormal_latents_explain_the_same() -> None:
    model = planted()
    turn = orthonormal(model)
    weights = model.weights @ np.linalg.inv(turn)
    np.testing.assert_allclose(weights.T @ weights, np.eye(2), atol=1e-10)
    strength = np.linalg.svd(model.weights, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(turn, axis=1), strength, atol=1e-10)


@pytest.mark.parametrize(
    ("bins", "longest", "pieces", "length"), [(50, 100, 1, 50), (50, 20, 3, 17), (50, 25, 2, 25)]
)
def test_long_trials_are_cut_into_pieces_that_cover_them(
    bins: int, longest: int, pieces: int, length: int
) -> None:
    values = np.arange(2 * bins).reshape(2, bins, 1)
    cut = segments(values, longest)
    assert cut.shape == (2 * pieces, length, 1)
    np.testing.assert_array_equal(np.unique(cut), np.arange(2 * bins))
    assert (np.diff(cut[..., 0], axis=1) == 1).all()


def test_a_diverging_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gp_training, "log_likelihood", lambda *_: np.array([np.nan]))
    _, values = sample(planted(), 5, 10)
    options = {"iterations": 4, "check_every": 2, "tolerance": 0.0}
    with pytest.raises(DriftwaveError, match="diverged at look 1"):
        run_em(planted(), values, values, Progress(2, None), **options)


def fitted(recording: xr.DataTree, **params: object) -> gpfa.Fit:
    return gpfa.fit(recording, gpfa.Params(**params), **OPTIONS)


@pytest.mark.slow
def test_hidden_units_and_bins_are_predicted_better_than_their_mean() -> None:
    synthetic = make_recording(trials=150)
    out = fitted(synthetic, latents=[4]).infer(synthetic)
    test = synthetic["trials/split"].values == "test"
    counts, rate = synthetic["spikes/counts"].values[test], out["rate"].values[test] * 0.02
    hidden = synthetic["units/held_out"].values
    truth = synthetic["truth/rate"].values[test] * 0.02
    ceiling = bits_per_spike(truth[:, :25, hidden], counts[:, :25, hidden])
    assert bits_per_spike(rate[:, :25, hidden], counts[:, :25, hidden]) > 0.6 * ceiling
    assert bits_per_spike(rate[:, 25:], counts[:, 25:]) > 0
    sd = out["latent_sd"]
    assert sd.shape == out["latent"].shape
    assert (sd[0, -1] > sd[0, 10]).all()  # what is not seen is known less well
    assert out["timescale"].attrs["units"] == "s"
    assert out["valid_loss"].sizes == out["train_loss"].sizes


@pytest.mark.slow
def test_rates_use_every_unit_without_copying_its_noise() -> None:
    """Readouts trained on latents that have seen their targets' counts do copy it."""
    synthetic = make_recording(trials=150, held_out=0, forward=0)
    fit = fitted(synthetic, latents=[4])
    for view in fit.views:
        assert not set(view.targets) & set(view.sources)
    split, counts = synthetic["trials/split"].values, synthetic["spikes/counts"].values
    truth = synthetic["truth/rate"].values[split == "test"]

    def score(other: gpfa.Fit) -> float:
        return expected_bits_per_spike(
            other.infer(synthetic)["rate"].values[split == "test"], truth
        )

    every = [View(np.arange(12), np.arange(12))]
    pairs = [(np.sqrt(counts[split == name]), counts[split == name]) for name in ("train", "valid")]
    copying, _ = fit_readouts(fit.model, every, pairs[0], pairs[1], (100.0,))
    assert score(fit) > score(replace(fit, views=every, readouts=copying)) + 0.003
    assert score(fit) > 0.75 * expected_bits_per_spike(truth, truth)
    other = synthetic.copy(deep=True)
    other["spikes/counts"][..., 4] = 9
    moved = fit.infer(other)["rate"].values - fit.infer(synthetic)["rate"].values
    assert np.abs(moved[..., 4]).max() > 0.1


@pytest.mark.slow
def test_the_number_of_latents_that_predicts_best_is_kept() -> None:
    recording = make_recording(trials=120, units=30, held_out=5, forward=0)
    fit = fitted(recording, latents=[4, 1])
    np.testing.assert_array_equal(fit.candidates, [1, 4])
    assert fit.costs[1] < fit.costs[0]
    assert fit.model.latents == 4


@pytest.mark.parametrize("transform", ["sqrt", "none"])
def test_a_silent_unit_survives(synthetic: xr.DataTree, transform: str) -> None:
    synthetic["spikes/counts"][..., 0] = 0
    params = {"latents": [3], "iterations": 10, "transform": transform, "segment_bins": 16}
    rate = fitted(synthetic, **params).infer(synthetic)["rate"].values
    assert np.isfinite(rate).all()
    assert (rate > 0).all()
    assert rate[..., 0].max() < 0.1


@pytest.mark.slow
@pytest.mark.recording
def test_lorenz_is_denoised_as_well_as_by_the_peer(recordings: Path) -> None:
    """GPFA of elephant with a GLM readout reaches 1.205 expected bits per spike."""
    from lorenz_file import lorenz29

    recording = lorenz29(recordings)
    recording["units/held_out"][:] = False
    out = fitted(recording, latents=[3]).infer(recording)
    test = recording["trials/split"].values == "test"
    truth = recording["truth/rate"].values[test]
    assert expected_bits_per_spike(out["rate"].values[test], truth) > 1.205
