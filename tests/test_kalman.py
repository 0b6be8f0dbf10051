"""The steady-state filter and smoother against textbook recursions and the joint Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import block_diag, solve_discrete_are

from driftwave.inference import kalman
from driftwave.inference.kalman_steady import StateSpace, steady_covariance


def rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def make_system(samples: int, seed: int = 0, channels: int = 6):
    """Two oscillators and a slow factor; returns A, Q, C, R (diagonal) and data drawn from them."""
    rng = np.random.default_rng(seed)
    damping = np.array([0.97, 0.97, 0.9, 0.9, 0.995])
    transition = block_diag(0.97 * rotation(0.2), 0.9 * rotation(0.9), 0.995)
    noise = np.diag(1 - damping**2)
    loading = rng.normal(size=(channels, 5))
    variance = rng.uniform(0.5, 3.0, channels)
    state = rng.normal(size=5)
    data = np.empty((samples, channels))
    for t in range(samples):
        data[t] = loading @ state + rng.normal(size=channels) * np.sqrt(variance)
        state = transition @ state + rng.normal(size=5) * np.sqrt(np.diag(noise))
    return transition, noise, loading, variance, data


def reduce(transition, noise, loading, variance, data):
    weighted = loading / variance[:, None]
    model = StateSpace(transition, noise, np.eye(len(noise)), loading.T @ weighted)
    return data @ weighted, model


def dense_smoother(transition, noise, loading, variance, data):
    """Textbook filter and RTS smoother, one sample at a time, in the space of the channels."""
    states, samples = len(noise), len(data)
    observation_noise = np.diag(variance)
    ahead, ahead_cov = np.zeros(states), np.eye(states)
    means, covs, aheads, ahead_covs, likelihood = [], [], [], [], 0.0
    for y in data:
        innovation_cov = loading @ ahead_cov @ loading.T + observation_noise
        innovation = y - loading @ ahead
        gain = ahead_cov @ loading.T @ np.linalg.inv(innovation_cov)
        likelihood -= 0.5 * (
            len(y) * np.log(2 * np.pi)
            + np.linalg.slogdet(innovation_cov)[1]
            + innovation @ np.linalg.solve(innovation_cov, innovation)
        )
        means.append(ahead + gain @ innovation)
        covs.append(ahead_cov - gain @ loading @ ahead_cov)
        aheads.append(ahead)
        ahead_covs.append(ahead_cov)
        ahead = transition @ means[-1]
        ahead_cov = transition @ covs[-1] @ transition.T + noise
    smooth, smooth_cov, lagged = [means[-1]], [covs[-1]], np.zeros((states, states))
    for t in range(samples - 2, -1, -1):
        gain = covs[t] @ transition.T @ np.linalg.inv(ahead_covs[t + 1])
        lagged += smooth_cov[0] @ gain.T
        smooth.insert(0, means[t] + gain @ (smooth[0] - aheads[t + 1]))
        smooth_cov.insert(0, covs[t] + gain @ (smooth_cov[0] - ahead_covs[t + 1]) @ gain.T)
    return np.array(means), np.array(smooth), np.array(smooth_cov), lagged, likelihood


def joint_gaussian(transition, noise, loading, variance, data):
    """Posterior mean and covariance of all states, and the likelihood, by one big inversion."""
    samples, states = len(data), len(noise)
    powers = [np.linalg.matrix_power(transition, k) for k in range(samples)]
    prior = np.block(
        [
            [powers[s - t] if s >= t else powers[t - s].T for t in range(samples)]
            for s in range(samples)
        ]
    )
    observe = np.kron(np.eye(samples), loading)
    total = observe @ prior @ observe.T + np.kron(np.eye(samples), np.diag(variance))
    y = data.ravel()
    mean = prior @ observe.T @ np.linalg.solve(total, y)
    covariance = prior - prior @ observe.T @ np.linalg.solve(total, observe @ prior)
    likelihood = -0.5 * (
        len(y) * np.log(2 * np.pi) + np.linalg.slogdet(total)[1] + y @ np.linalg.solve(total, y)
    )
    return mean.reshape(samples, states), covariance, likelihood


def log_likelihood(filtered, variance, data):
    constant = data.size * np.log(2 * np.pi) + len(data) * np.log(variance).sum()
    return -0.5 * (constant + (data**2 / variance).sum() + filtered.energy.sum())


@pytest.mark.parametrize("samples", [1, 2, 7, 40])
def test_short_series_equals_joint_gaussian(samples):
    system = make_system(samples)
    mean, covariance, likelihood = joint_gaussian(*system)
    reduced, model = reduce(*system)
    gains = kalman.filter_gains(model, samples)
    filtered = kalman.run_filter(reduced, model, gains)
    smoothed = kalman.run_smoother(filtered.mean, model, gains)
    blocks = covariance.reshape(samples, 5, samples, 5)
    diagonal = np.einsum("tstr->tsr", blocks)
    assert log_likelihood(filtered, system[3], system[4]) == pytest.approx(likelihood, abs=1e-8)
    np.testing.assert_allclose(smoothed.mean, mean, atol=1e-9)
    np.testing.assert_allclose(smoothed.covariance_sum, diagonal.sum(0), atol=1e-9)
    lagged = sum((blocks[t, :, t - 1] for t in range(1, samples)), np.zeros((5, 5)))
    np.testing.assert_allclose(smoothed.lagged_sum, lagged, atol=1e-9)
    np.testing.assert_allclose(smoothed.first, diagonal[0], atol=1e-9)
    np.testing.assert_allclose(smoothed.last, diagonal[-1], atol=1e-9)
    deviation = kalman.posterior_sd(gains, samples)
    np.testing.assert_allclose(deviation**2, np.einsum("tss->ts", diagonal), atol=1e-9)


def test_long_series_equals_textbook_everywhere():
    system = make_system(1500, seed=1)
    mean, smooth, smooth_cov, lagged, likelihood = dense_smoother(*system)
    reduced, model = reduce(*system)
    gains = kalman.filter_gains(model, 1500)
    assert gains.settling < 400
    filtered = kalman.run_filter(reduced, model, gains)
    smoothed = kalman.run_smoother(filtered.mean, model, gains)
    np.testing.assert_allclose(filtered.mean, mean, atol=1e-8)
    np.testing.assert_allclose(smoothed.mean, smooth, atol=1e-8)
    np.testing.assert_allclose(smoothed.covariance_sum, smooth_cov.sum(0), atol=1e-6)
    np.testing.assert_allclose(smoothed.lagged_sum, lagged, atol=1e-6)
    assert log_likelihood(filtered, system[3], system[4]) == pytest.approx(likelihood, abs=1e-6)
    deviation = kalman.posterior_sd(gains, 1500)
    np.testing.assert_allclose(deviation**2, np.einsum("tss->ts", smooth_cov), atol=1e-9)


def test_settling_cut_short_is_exact_in_the_interior():
    system = make_system(1500, seed=2)
    _, smooth, *_ = dense_smoother(*system)
    reduced, model = reduce(*system)
    gains = kalman.filter_gains(model, 1500, longest=10)
    filtered = kalman.run_filter(reduced, model, gains)
    smoothed = kalman.run_smoother(filtered.mean, model, gains)
    np.testing.assert_allclose(smoothed.mean[300:-300], smooth[300:-300], atol=1e-6)


def test_steady_covariance_is_the_riccati_solution():
    transition, noise, loading, variance, data = make_system(1, seed=3)
    _, model = reduce(transition, noise, loading, variance, data)
    expected = solve_discrete_are(transition.T, loading.T, noise, np.diag(variance))
    np.testing.assert_allclose(steady_covariance(model), expected, rtol=1e-9, atol=1e-12)


def test_steady_covariance_without_information_is_stationary():
    transition, noise, *_ = make_system(1)
    model = StateSpace(transition, noise, np.eye(5), np.zeros((5, 5)))
    np.testing.assert_allclose(steady_covariance(model), np.eye(5), atol=1e-10)


@pytest.mark.parametrize("samples", [0, 1, 2, 99, 100, 101])
def test_linear_recursion_equals_a_loop(samples):
    rng = np.random.default_rng(4)
    matrix = 0.95 * rotation(0.4)
    drive, state = rng.normal(size=(samples, 2)), rng.normal(size=2)
    expected = np.empty_like(drive)
    current = state
    for t in range(samples):
        current = matrix @ current + drive[t]
        expected[t] = current
    np.testing.assert_allclose(kalman.linear_recursion(matrix, drive, state), expected, atol=1e-12)
