"""Poisson linear dynamical systems against dense algebra, the Kalman smoother and planted truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.linalg import block_diag
from scipy.optimize import minimize
from scipy.special import gammaln

from conftest import make_recording
from driftwave.errors import DriftwaveError, InputError
from driftwave.inference import kalman, poisson_training
from driftwave.inference.block_tridiagonal import factorise
from driftwave.inference.laplace import Loadings, Posterior, expected_cost, fit_loadings, infer
from driftwave.inference.linear_dynamics import (
    Dynamics,
    dynamics_moments,
    expected_log_likelihood,
    fit_dynamics,
    stable,
)
from driftwave.inference.poisson_em import PoissonLds, em_iterations, in_standard_coordinates
from driftwave.inference.poisson_training import LdsRun
from driftwave.inference.selection import leave_units_out
from driftwave.inference.subspace import identify, log_rate_covariances
from driftwave.models import poisson_lds
from driftwave.scores.bits_per_spike import bits_per_spike
from driftwave.scores.r_squared import mean_r2

OPTIONS = {"seed": 0, "device": "cpu", "progress": None, "checkpoint": None}


def rotation(radius: float, angle: float) -> np.ndarray:
    return radius * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def planted(units: int = 20, seed: int = 0, level: float = -1.0) -> PoissonLds:
    """A slow rotation and a decaying third latent, stationary with unit variance."""
    rng = np.random.default_rng(seed)
    transition = block_diag(rotation(0.97, 0.3), 0.8)
    noise = np.eye(3) - transition @ transition.T
    weights = rng.normal(0, 0.5, (units, 3))
    offset = rng.normal(level, 0.3, units)
    dynamics = Dynamics(transition, noise, np.zeros(3), np.eye(3))
    return PoissonLds(Loadings(weights, offset), dynamics)


def sample(
    model: PoissonLds, trials: int, bins: int, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Latents and counts."""
    rng = np.random.default_rng(seed)
    d = model.dynamics
    x = np.empty((trials, bins, model.states))
    x[:, 0] = rng.multivariate_normal(d.start, d.start_covariance, trials)
    for t in range(1, bins):
        w = rng.multivariate_normal(np.zeros(model.states), d.noise, trials)
        x[:, t] = x[:, t - 1] @ d.transition.T + w
    return x, rng.poisson(np.exp(model.loadings.log_rate(x))).astype(np.float32)


def dense_prior(dynamics: Dynamics, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of a whole trial, from the recursion x = F x + noise written out."""
    states = len(dynamics.start)
    shift = np.eye(bins * states)
    for t in range(1, bins):
        rows, before = slice(t * states, (t + 1) * states), slice((t - 1) * states, t * states)
        shift[rows, before] = -dynamics.transition
    inverse = np.linalg.inv(shift)
    noise = block_diag(dynamics.start_covariance, *[dynamics.noise] * (bins - 1))
    mean = inverse @ np.concatenate([dynamics.start, np.zeros((bins - 1) * states)])
    return mean, inverse @ noise @ inverse.T


def general_dynamics(states: int, seed: int) -> Dynamics:
    rng = np.random.default_rng(seed)

    def covariance() -> np.ndarray:
        root = rng.normal(0, 0.4, (states, states))
        return root @ root.T + 0.1 * np.eye(states)

    transition = stable(rng.normal(0, 0.6, (states, states)), 0.9)
    return Dynamics(transition, covariance(), rng.normal(0, 0.5, states), covariance())


@pytest.mark.parametrize("states", [1, 2, 5])
def test_band_algebra_is_that_of_dense_matrices(states: int) -> None:
    rng = np.random.default_rng(0)
    trials, bins = 3, 6
    below = rng.normal(0, 0.5, (states, states))
    root = rng.normal(0, 1, (trials, bins, states, states))
    diagonal = root @ root.swapaxes(-1, -2) + 4 * np.eye(states)
    right = rng.normal(0, 1, (trials, bins, states))
    factor = factorise(diagonal, below)
    solution, determinant = factor.solve(right), factor.log_determinant()
    covariance, lagged = factor.inverse_blocks()
    for r in range(trials):
        dense = block_diag(*diagonal[r])
        for t in range(1, bins):
            rows, before = slice(t * states, (t + 1) * states), slice((t - 1) * states, t * states)
            dense[rows, before], dense[before, rows] = below, below.T
        inverse = np.linalg.inv(dense).reshape(bins, states, bins, states)
        np.testing.assert_allclose(solution[r].ravel(), np.linalg.solve(dense, right[r].ravel()))
        np.testing.assert_allclose(determinant[r], np.linalg.slogdet(dense)[1])
        for t in range(bins):
            np.testing.assert_allclose(covariance[r, t], inverse[t, :, t], atol=1e-12)
        for t in range(bins - 1):
            np.testing.assert_allclose(lagged[r, t], inverse[t + 1, :, t], atol=1e-12)


def test_a_matrix_that_is_not_positive_definite_is_refused() -> None:
    diagonal = np.tile(np.eye(2), (1, 3, 1, 1))
    with pytest.raises(np.linalg.LinAlgError):
        factorise(diagonal, 2 * np.eye(2))


@pytest.mark.parametrize("forward", [0, 3])
def test_the_posterior_is_that_of_a_dense_newton_search(forward: int) -> None:
    """Mode, covariances and evidence, from the trial's joint density without any recursion."""
    rng = np.random.default_rng(3)
    seen, states, units = 7, 2, 5
    bins = seen + forward
    dynamics = general_dynamics(states, 1)
    loadings = Loadings(rng.normal(0, 0.8, (units, states)), rng.normal(0.3, 0.3, units))
    counts = rng.poisson(2.0, (4, seen, units))
    found = infer(counts, loadings, dynamics, bins=bins, tolerance=1e-10)
    mean, covariance = dense_prior(dynamics, bins)
    precision = np.linalg.inv(covariance)
    design = np.kron(np.eye(bins)[:seen], loadings.weights)
    for r in range(4):
        y, offset, x = counts[r].ravel(), np.tile(loadings.offset, seen), mean.copy()
        for _ in range(100):
            rate = np.exp(design @ x + offset)
            gradient = precision @ (x - mean) + design.T @ (rate - y)
            hessian = precision + (design.T * rate) @ design
            x = x - 0.5 * np.linalg.solve(hessian, gradient)
        rate = np.exp(design @ x + offset)
        hessian = precision + (design.T * rate) @ design
        log_joint = (y * np.log(rate) - rate).sum() - 0.5 * (x - mean) @ precision @ (x - mean)
        log_joint += 0.5 * np.linalg.slogdet(precision)[1] - 0.5 * np.linalg.slogdet(hessian)[1]
        inverse = np.linalg.inv(hessian).reshape(bins, states, bins, states)
        np.testing.assert_allclose(found.mean[r].ravel(), x, atol=1e-7)
        np.testing.assert_allclose(found.log_evidence[r], log_joint, rtol=1e-9)
        for t in range(bins):
            np.testing.assert_allclose(found.covariance[r, t], inverse[t, :, t], atol=1e-7)
            if t:
                expected = inverse[t, :, t - 1]
                np.testing.assert_allclose(found.lagged[r, t - 1], expected, atol=1e-7)


def test_many_spikes_make_it_the_kalman_smoother() -> None:
    """At a rate of 1e8 with loadings of 1e-4 counts are Gaussian observations of the latents."""
    rng = np.random.default_rng(5)
    model = planted(6)
    weights = model.loadings.weights
    rate = 1e8
    loadings = Loadings(1e-4 * weights, np.full(6, np.log(rate)))
    x, _ = sample(model, 1, 40)
    counts = rng.poisson(np.exp(loadings.log_rate(x)))
    found = infer(counts, loadings, model.dynamics)
    space = kalman.StateSpace(
        model.dynamics.transition,
        model.dynamics.noise,
        model.dynamics.start_covariance,
        weights.T @ weights,
    )
    gains = kalman.filter_gains(space, 40)
    observed = (counts[0] - rate) / (1e-4 * rate)
    filtered = kalman.run_filter(observed @ weights, space, gains)
    smoothed = kalman.run_smoother(filtered.mean, space, gains)
    np.testing.assert_allclose(found.mean[0], smoothed.mean, atol=2e-3)
    sd = np.sqrt(np.diagonal(found.covariance[0], axis1=1, axis2=2))
    np.testing.assert_allclose(sd, kalman.posterior_sd(gains, 40), rtol=2e-3)


def test_a_far_start_ends_at_the_same_mode() -> None:
    model = planted()
    _, counts = sample(model, 5, 20)
    near = infer(counts, model.loadings, model.dynamics)
    far = infer(counts, model.loadings, model.dynamics, start=np.full((5, 20, 3), 30.0))
    np.testing.assert_allclose(far.mean, near.mean, atol=1e-5)


def test_the_dynamics_of_known_states_are_least_squares() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (30, 10, 3))
    zero = np.zeros((30, 10, 3, 3))
    moments = dynamics_moments(x, zero, zero[:, 1:])
    found = fit_dynamics(moments)
    old, new = x[:, :-1].reshape(-1, 3), x[:, 1:].reshape(-1, 3)
    expected = np.linalg.lstsq(old, new, rcond=None)[0].T
    np.testing.assert_allclose(found.transition, expected, atol=1e-10)
    residual = new - old @ expected.T
    np.testing.assert_allclose(found.noise, residual.T @ residual / len(old), atol=1e-10)
    np.testing.assert_allclose(found.start, x[:, 0].mean(0), atol=1e-12)
    np.testing.assert_allclose(found.start_covariance, np.cov(x[:, 0].T, bias=True), atol=1e-12)


def test_growing_dynamics_are_brought_to_the_unit_circle() -> None:
    grown = block_diag(rotation(1.2, 0.4), 0.5)
    mix = np.random.default_rng(0).normal(0, 1, (3, 3))
    found = stable(mix @ grown @ np.linalg.inv(mix), 0.99)
    expected = np.sort_complex(np.linalg.eigvals(block_diag(rotation(0.99, 0.4), 0.5)))
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(found)), expected, atol=1e-8)


def posterior_of(model: PoissonLds, counts: np.ndarray) -> Posterior:
    return model.infer(counts, np.ones(counts.shape[-1], bool), tolerance=1e-9)


def test_the_loadings_are_those_of_a_general_optimiser() -> None:
    model = planted(4)
    _, counts = sample(model, 20, 20)
    posterior = posterior_of(model, counts)
    start = Loadings(np.zeros((4, 3)), np.zeros(4))
    found = fit_loadings(counts, posterior, start, penalty=2.0, steps=30)
    flat = posterior.mean.reshape(-1, 3), posterior.covariance.reshape(-1, 3, 3)
    for unit in range(4):
        y = counts[..., unit].ravel().astype(float)

        def cost(p: np.ndarray, y: np.ndarray = y) -> float:
            drive = flat[0] @ p[:3] + p[3]
            spread = 0.5 * np.einsum("k,skl,l->s", p[:3], flat[1], p[:3])
            return float((np.exp(drive + spread) - y * drive).sum() + p[:3] @ p[:3])

        best = minimize(cost, np.zeros(4), method="BFGS", options={"gtol": 1e-5})
        np.testing.assert_allclose(found.weights[unit], best.x[:3], atol=1e-4)
        np.testing.assert_allclose(found.offset[unit], best.x[3], atol=1e-4)
        expected = expected_cost(counts, posterior, found, penalty=2.0)[unit]
        assert expected == pytest.approx(best.fun, rel=1e-7)


def test_no_m_step_lowers_what_it_maximises_and_em_raises_the_evidence() -> None:
    true = planted()
    _, counts = sample(true, 60, 30)
    loadings, dynamics = identify(counts, 3)
    model, evidence = PoissonLds(loadings, dynamics), []
    for _ in range(8):
        posterior = posterior_of(model, counts)
        evidence.append(posterior.log_evidence.sum())
        moments = dynamics_moments(posterior.mean, posterior.covariance, posterior.lagged)
        new_dynamics = fit_dynamics(moments)
        new_loadings = fit_loadings(counts, posterior, model.loadings, penalty=1.0, steps=1)
        before = expected_log_likelihood(model.dynamics, moments)
        assert expected_log_likelihood(new_dynamics, moments) >= before - 1e-8 * abs(before)
        costs = [
            expected_cost(counts, posterior, part, penalty=1.0)
            for part in (model.loadings, new_loadings)
        ]
        assert (costs[1] <= costs[0] + 1e-9 * np.abs(costs[0])).all()
        model = PoissonLds(new_loadings, new_dynamics)
    assert (np.diff(evidence) > 0).all()
    again, last = em_iterations(counts, PoissonLds(loadings, dynamics), 8, penalty=1.0)
    assert last * counts.size == pytest.approx(evidence[-1], rel=1e-6)
    np.testing.assert_allclose(again.dynamics.transition, model.dynamics.transition, atol=1e-3)


def test_moments_of_counts_give_those_of_the_log_rates() -> None:
    model = planted(6, level=0.5)
    _, counts = sample(model, 4000, 12)
    mean, covariance = log_rate_covariances(counts, 2)
    c, a = model.loadings.weights, model.dynamics.transition
    np.testing.assert_allclose(mean, model.loadings.offset, atol=0.05)
    for lag in range(3):
        expected = c @ np.linalg.matrix_power(a, lag) @ c.T
        np.testing.assert_allclose(covariance[lag], expected, atol=0.08)


def modes(model: PoissonLds) -> np.ndarray:
    return np.sort_complex(np.linalg.eigvals(model.dynamics.transition))


def largest_angle(a: np.ndarray, b: np.ndarray) -> float:
    """Largest principal angle between two column spaces, degrees."""
    from scipy.linalg import subspace_angles

    return float(np.rad2deg(subspace_angles(a, b)[0]))


@pytest.mark.slow
def test_planted_dynamics_and_loadings_are_recovered() -> None:
    true = planted(25)
    x, counts = sample(true, 200, 40)
    start = PoissonLds(*identify(counts, 3))
    found, _ = em_iterations(counts, start, 15, penalty=1.0)
    np.testing.assert_allclose(modes(found), modes(true), atol=0.06)
    assert largest_angle(found.loadings.weights, true.loadings.weights) < 6
    assert largest_angle(start.loadings.weights, true.loadings.weights) < 25
    posterior = posterior_of(found, counts)
    rate = np.exp(found.loadings.log_rate(posterior.mean, posterior.covariance))
    best = posterior_of(true, counts)
    ideal = np.exp(true.loadings.log_rate(best.mean, best.covariance))
    truth = np.exp(true.loadings.log_rate(x))
    assert mean_r2(rate, truth) > mean_r2(ideal, truth) - 0.01


def test_standard_coordinates_change_no_rate() -> None:
    model = planted()
    _, counts = sample(model, 40, 20)
    mix = np.random.default_rng(1).normal(0, 1, (3, 3))
    mixed = model.transformed(mix)
    found = in_standard_coordinates(mixed, counts)
    rates = []
    for each in (model, mixed, found):
        posterior = posterior_of(each, counts)
        rates.append(each.loadings.log_rate(posterior.mean, posterior.covariance))
    np.testing.assert_allclose(rates[1], rates[0], atol=1e-6)
    np.testing.assert_allclose(rates[2], rates[0], atol=1e-6)
    posterior = posterior_of(found, counts)
    second = np.cov(posterior.mean.reshape(-1, 3).T, bias=True) + posterior.covariance.mean((0, 1))
    np.testing.assert_allclose(second, np.eye(3), atol=1e-5)
    gram = found.loadings.weights.T @ found.loadings.weights
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-8)
    assert (np.diff(np.diag(gram)) <= 0).all()


def fitted(recording: xr.DataTree, **params: object) -> poisson_lds.Fit:
    return poisson_lds.fit(recording, poisson_lds.Params(**params), **OPTIONS)


def test_hidden_units_and_bins_are_predicted_better_than_their_mean() -> None:
    synthetic = make_recording(trials=150)
    fit = fitted(synthetic, latents=[4], iterations=40)
    out = fit.infer(synthetic)
    test = synthetic["trials/split"].values == "test"
    counts, rate = synthetic["spikes/counts"].values[test], out["rate"].values[test] * 0.02
    hidden = synthetic["units/held_out"].values
    truth = synthetic["truth/rate"].values[test] * 0.02
    ceiling = bits_per_spike(truth[:, :25, hidden], counts[:, :25, hidden])
    assert bits_per_spike(rate[:, :25, hidden], counts[:, :25, hidden]) > 0.7 * ceiling
    ceiling = bits_per_spike(truth[:, 25:], counts[:, 25:])
    assert bits_per_spike(rate[:, 25:], counts[:, 25:]) > 0.4 * ceiling
    assert out["latent_sd"].shape == out["latent"].shape
    # What is not seen is known less well.
    assert (out["latent_sd"][:, -1] > out["latent_sd"][:, 10]).mean() > 0.99
    assert out["valid_loss"].sizes == out["train_loss"].sizes
    assert out.attrs["spectral_radius"] < 1


def test_enough_latents_are_chosen_and_their_modes_reported() -> None:
    """Two oscillators of 2.5 and 1.25 Hz are four latents."""
    recording = make_recording(trials=120, units=30, held_out=5, forward=0)
    fit = fitted(recording, latents=[1, 4])
    np.testing.assert_array_equal(fit.candidates, [1, 4])
    assert fit.costs[1] < fit.costs[0]
    assert fit.model.states == 4
    frequency = np.sort(fit.infer(recording)["frequency"].values)
    np.testing.assert_allclose(frequency[-2:], [1.25, 2.5], atol=0.25)


def test_a_silent_and_a_sparse_unit_survive(synthetic: xr.DataTree) -> None:
    synthetic["spikes/counts"][..., 0] = 0
    synthetic["spikes/counts"][..., 1] = 0
    train = np.flatnonzero(synthetic["trials/split"].values == "train")
    synthetic["spikes/counts"][train[3], 4, 1] = 1
    rate = fitted(synthetic, latents=[3], iterations=10).infer(synthetic)["rate"].values
    assert np.isfinite(rate).all()
    assert (rate > 0).all()
    assert rate[..., 0].max() < 0.1
    assert rate[..., 1].mean() < 0.5


def test_an_interrupted_fit_ends_as_if_undisturbed(
    synthetic: xr.DataTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = poisson_lds.Params(
        latents=[2, 3], iterations=15, selection_bins=300, tolerance=0, check_every=3
    )
    options = OPTIONS | {"checkpoint": tmp_path}
    right, looks, fatal = poisson_training.valid_cost, 0, 0

    def counted(*arguments: object) -> float:
        nonlocal looks
        looks += 1
        if looks == fatal:
            raise KeyboardInterrupt
        return right(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(poisson_training, "valid_cost", counted)
    undisturbed = poisson_lds.fit(synthetic, params, **OPTIONS)
    needed, looks, fatal = looks, 0, 4
    with pytest.raises(KeyboardInterrupt):
        poisson_lds.fit(synthetic, params, **options)
    resumed = poisson_lds.fit(synthetic, params, **options)
    assert looks == needed + 1  # only the one that was interrupted was done again
    for name, value in undisturbed.model.arrays().items():
        np.testing.assert_array_equal(resumed.model.arrays()[name], value)
    np.testing.assert_array_equal(resumed.costs, undisturbed.costs)


def test_a_damaged_or_foreign_checkpoint(tmp_path: Path) -> None:
    model = planted()
    path = tmp_path / "run.npz"
    LdsRun(model, model, [1.0], [2.0]).save(path, "mine")
    again = LdsRun.resume(path, "mine")
    assert again is not None
    np.testing.assert_array_equal(again.best.loadings.weights, model.loadings.weights)
    assert again.valid_loss == [2.0]
    assert LdsRun.resume(path, "other") is None
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="unreadable"):
        LdsRun.resume(path, "mine")


def test_divergence_is_said_and_patience_counts_two_looks() -> None:
    model = planted()
    run = LdsRun(model, model, [], [])
    with pytest.raises(DriftwaveError, match="diverged at look 1"):
        run.judge(model, 0.5, np.nan)
    other = planted(seed=4)
    for cost in (3.0, 2.0, 2.5):
        run.judge(other if cost == 2.0 else model, 0.5, cost)
    assert run.best is other
    assert not run.settled(0.01)
    run.judge(model, 0.5, 1.999)
    assert run.settled(0.01)


def test_every_unit_is_predicted_from_others_only() -> None:
    held_in = np.array([True, False] * 2 + [True] * 7 + [False])
    views = leave_units_out(held_in, 4, 0, "poisson_lds")
    targets = np.concatenate([view.targets for view in views])
    np.testing.assert_array_equal(np.sort(targets), np.arange(12))
    for view in views:
        assert not set(view.targets) & set(np.flatnonzero(held_in)[view.sources])
    assert views[-1].sources.size == held_in.sum()
    np.testing.assert_array_equal(views[-1].targets, np.flatnonzero(~held_in))


def test_evidence_of_one_count_is_near_its_integral() -> None:
    """One bin, one latent: the Laplace approximation beside numerical integration."""
    loadings = Loadings(np.array([[0.4]]), np.array([1.5]))
    one = np.ones((1, 1))
    dynamics = Dynamics(0.5 * one, one, np.array([0.2]), 0.7 * one)
    found = infer(np.array([[[6.0]]]), loadings, dynamics)
    x = np.linspace(-8, 8, 20_001)
    eta = 0.4 * x + 1.5
    log = 6 * eta - np.exp(eta) - gammaln(7) - 0.5 * (x - 0.2) ** 2 / 0.7
    exact = np.log(np.exp(log).sum() * (x[1] - x[0]) / np.sqrt(2 * np.pi * 0.7))
    assert found.log_evidence[0] - gammaln(7) == pytest.approx(exact, abs=0.01)


@pytest.mark.slow
@pytest.mark.recording
def test_lorenz_is_denoised_better_than_by_the_best_peer_of_its_kind(recordings: Path) -> None:
    """A published 3-d Poisson LDS with GLM readouts reaches R2 .857."""
    from lorenz_file import lorenz29

    recording = lorenz29(recordings)
    recording["units/held_out"][:] = False
    out = fitted(recording, latents=[3]).infer(recording)
    test = recording["trials/split"].values == "test"
    truth = recording["truth/rate"].values[test]
    assert mean_r2(out["rate"].values[test], truth) > 0.88
