"""Filter and smoother with missing channels, gaps and pieces, against textbook recursions."""

from __future__ import annotations

import time

import numpy as np
import pytest

from driftwave.inference.kalman_segments import Segments, filter_segments, smooth_segments
from driftwave.inference.kalman_steady import StateSpace
from test_kalman import make_system


def full_noise(channels: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(channels, channels))
    return mixing @ mixing.T / channels + np.eye(channels)


def textbook(transition, noise, loading, covariance, data, fresh):
    """Filter and smoother sample by sample on the channels seen; pieces start afresh."""
    states, samples = len(noise), len(data)
    means, covs, aheads, ahead_covs, likelihood = [], [], [], [], np.zeros(samples)
    for t, y in enumerate(data):
        if t in fresh:
            ahead, ahead_cov = np.zeros(states), np.eye(states)
        else:
            ahead = transition @ means[-1]
            ahead_cov = transition @ covs[-1] @ transition.T + noise
        seen = np.isfinite(y)
        part = loading[seen]
        innovation_cov = part @ ahead_cov @ part.T + covariance[np.ix_(seen, seen)]
        innovation = y[seen] - part @ ahead
        gain = ahead_cov @ part.T @ np.linalg.inv(innovation_cov)
        likelihood[t] = -0.5 * (
            seen.sum() * np.log(2 * np.pi)
            + np.linalg.slogdet(innovation_cov)[1]
            + innovation @ np.linalg.solve(innovation_cov, innovation)
        )
        means.append(ahead + gain @ innovation)
        covs.append(ahead_cov - gain @ part @ ahead_cov)
        aheads.append(ahead)
        ahead_covs.append(ahead_cov)
    smooth, smooth_covs, lagged = means.copy(), covs.copy(), np.zeros((states, states))
    for t in range(samples - 2, -1, -1):
        if t + 1 in fresh:
            continue
        gain = covs[t] @ transition.T @ np.linalg.inv(ahead_covs[t + 1])
        lagged += smooth_covs[t + 1] @ gain.T
        smooth[t] = means[t] + gain @ (smooth[t + 1] - aheads[t + 1])
        smooth_covs[t] = covs[t] + gain @ (smooth_covs[t + 1] - ahead_covs[t + 1]) @ gain.T
    return np.array(means), np.array(smooth), np.array(smooth_covs), lagged, likelihood


def ours(transition, noise, loading, covariance, data, fresh=(0,), **options):
    seen = np.isfinite(data)
    segments = Segments.of(seen, *data.shape, fresh=fresh)
    reduced, spaces = np.empty((len(data), len(noise))), []
    weights = []
    for pattern in segments.patterns:
        weight = np.zeros(loading.shape)
        weight[pattern] = np.linalg.solve(covariance[np.ix_(pattern, pattern)], loading[pattern])
        weights.append(weight)
        spaces.append(StateSpace(transition, noise, np.eye(len(noise)), loading.T @ weight))
    for part, pattern in zip(segments.slices(), segments.pattern, strict=True):
        reduced[part] = np.where(seen[part], data[part], 0) @ weights[pattern]
    filtered = filter_segments(reduced, spaces, segments, **options)
    variance = np.empty(reduced.shape)
    smoothed = smooth_segments(filtered, segments, variance)
    sums = smooth_segments(filtered, segments)
    constant = 0.0
    for count, pattern in zip(segments.samples_of(), segments.patterns, strict=True):
        constant += count * pattern.sum() * np.log(2 * np.pi)
        constant += count * np.linalg.slogdet(covariance[np.ix_(pattern, pattern)])[1]
    energy = sum(
        y[s] @ np.linalg.solve(covariance[np.ix_(s, s)], y[s])
        for y, s in zip(data, seen, strict=True)
    )
    return filtered, smoothed, sums, variance, -0.5 * (constant + energy + filtered.energy.sum())


def with_gaps(samples: int, seed: int) -> tuple:
    transition, noise, loading, _, data = make_system(samples, seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(6):
        start, length = rng.integers(samples), rng.integers(1, samples // 4)
        data[start : start + length, rng.integers(6)] = np.nan
    middle = samples // 2
    data[middle : middle + samples // 8] = np.nan
    data[-2:, :3] = np.nan
    return transition, noise, loading, full_noise(6, seed), data


def check(system, fresh, options):
    mean, smooth, smooth_covs, lagged, likelihood = textbook(*system, fresh)
    filtered, smoothed, sums, variance, total = ours(*system, fresh, **options)
    np.testing.assert_allclose(filtered.mean, mean, atol=1e-6)
    np.testing.assert_allclose(smoothed.mean, smooth, atol=1e-6)
    np.testing.assert_allclose(variance, np.einsum("tss->ts", smooth_covs), atol=1e-6)
    for found in (smoothed, sums):
        np.testing.assert_allclose(found.covariance_sum.sum(0), smooth_covs.sum(0), atol=1e-6)
        np.testing.assert_allclose(found.lagged_sum, lagged, atol=1e-6)
    np.testing.assert_allclose(smoothed.first, smooth_covs[list(fresh)].sum(0), atol=1e-6)
    ends = [start - 1 for start in fresh[1:]] + [len(mean) - 1]
    np.testing.assert_allclose(smoothed.last, smooth_covs[ends].sum(0), atol=1e-6)
    np.testing.assert_array_equal(smoothed.ends, ends)
    assert total == pytest.approx(likelihood.sum(), abs=1e-6)


@pytest.mark.parametrize("fresh", [(0,), (0, 300, 301, 900)])
def test_missing_channels_and_gaps_equal_the_textbook(fresh):
    check(with_gaps(1200, 0), fresh, {})


def test_long_stretches_settle_and_equal_the_textbook():
    transition, noise, loading, covariance, data = with_gaps(9000, 1)
    # A whole recording without one channel, and one without any missing value for 4,000 samples.
    data[:4000] = make_system(9000, seed=1)[-1][:4000]
    check((transition, noise, loading, covariance, data), (0,), {})


def test_gaps_equal_the_joint_gaussian():
    transition, noise, loading, covariance, data = with_gaps(40, 2)
    powers = [np.linalg.matrix_power(transition, k) for k in range(40)]
    prior = np.block(
        [[powers[s - t] if s >= t else powers[t - s].T for t in range(40)] for s in range(40)]
    )
    seen = np.isfinite(data).ravel()
    observe = np.kron(np.eye(40), loading)[seen]
    total = observe @ prior @ observe.T + np.kron(np.eye(40), covariance)[np.ix_(seen, seen)]
    y = data.ravel()[seen]
    mean = (prior @ observe.T @ np.linalg.solve(total, y)).reshape(40, 5)
    spread = prior - prior @ observe.T @ np.linalg.solve(total, observe @ prior)
    density = -0.5 * (
        len(y) * np.log(2 * np.pi) + np.linalg.slogdet(total)[1] + y @ np.linalg.solve(total, y)
    )
    _, smoothed, _, variance, likelihood = ours(transition, noise, loading, covariance, data)
    np.testing.assert_allclose(smoothed.mean, mean, atol=1e-9)
    np.testing.assert_allclose(variance, np.diag(spread).reshape(40, 5), atol=1e-9)
    assert likelihood == pytest.approx(density, abs=1e-8)


def test_a_long_gap_returns_to_the_stationary_law():
    *model, data = make_system(4000, seed=3)
    data[500:] = np.nan
    _, smoothed, _, variance, _ = ours(*model[:3], np.diag(model[3]), data)
    assert np.abs(smoothed.mean[-1]).max() < 1e-6
    np.testing.assert_allclose(variance[-1], 1, atol=1e-6)


def test_a_thousand_short_patterns_take_seconds_at_most():
    *model, data = make_system(40_000, seed=4)
    rng = np.random.default_rng(4)
    for start in range(0, 40_000, 40):
        data[start : start + 40, rng.integers(6, size=2)] = np.nan
    ours(*model[:3], np.diag(model[3]), data[:100])
    began = time.process_time()
    ours(*model[:3], np.diag(model[3]), data)
    assert time.process_time() - began < 6
