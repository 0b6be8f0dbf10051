"""Likelihood, gradient, EM and standard errors with missing data, against dense references."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from driftwave.inference.oscillator_em import maximise
from driftwave.inference.oscillator_errors import information_matrix, standard_errors
from driftwave.inference.oscillator_gradient import Coordinates, finish
from driftwave.inference.oscillator_likelihood import Observations, gradient
from driftwave.inference.oscillator_model import Bounds, Oscillators, fix_gauge
from test_kalman_segments import textbook

RATE = 100.0
BOUNDS = Bounds((2 * np.pi * 3 / RATE, 2 * np.pi * 45 / RATE), 0.5)
CHANNELS = 6


def make_model(*, full: bool, slow: int = 1, seed: int = 0, channels: int = CHANNELS):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(channels, channels)) / np.sqrt(channels)
    covariance = 0.5 * mixing @ mixing.T + 0.5 * np.eye(channels)
    return Oscillators(
        angle=2 * np.pi * np.array([8.0, 20.0]) / RATE,
        damping=np.array([0.96, 0.93]),
        slow_damping=np.full(slow, 0.98),
        loading=rng.normal(0, 0.7, (channels, 4 + slow)),
        noise=covariance if full else rng.uniform(0.4, 1.2, channels),
    )


def draw(model: Oscillators, samples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 1])
    states = model.loading.shape[1]
    space = model.state_space(np.zeros((states, states)))
    state = rng.normal(size=states)
    path = np.empty((samples, states))
    kicks = rng.normal(size=(samples, states)) * np.sqrt(np.diag(space.noise))
    for t in range(samples):
        path[t] = state
        state = space.transition @ state + kicks[t]
    root = np.linalg.cholesky(model.noise_of(np.ones(len(model.loading), bool)))
    return path @ model.loading.T + rng.normal(size=(samples, len(root))) @ root.T


def mask(samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, 2])
    seen = np.ones((samples, CHANNELS), bool)
    for _ in range(5):
        start = rng.integers(samples)
        seen[start : start + samples // 6, rng.integers(CHANNELS, size=2)] = False
    seen[samples // 3 : samples // 3 + samples // 20] = False
    return seen


def observe(model, samples, *, full, missing, fresh=(0,), seed=0):
    data = draw(model, samples, seed)
    seen = mask(samples) if missing else None
    shown = data if seen is None else np.where(seen, data, 0)
    fitted = int(0.8 * samples)
    observations = Observations(shown, fitted, full=full, seen=seen, fresh=fresh)
    return observations, data if seen is None else np.where(seen, data, np.nan)


def moved(model: Oscillators, seed: int = 5) -> Oscillators:
    """A model near another one."""
    rng = np.random.default_rng(seed)
    return dataclasses.replace(
        model,
        angle=model.angle * 1.02,
        damping=model.damping - 0.01,
        loading=model.loading + rng.normal(0, 0.05, model.loading.shape),
        noise=model.noise * 1.1,
    )


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("fresh", [(0,), (0, 150, 500)])
def test_likelihood_with_missing_data_equals_the_textbook(full, fresh):
    model = make_model(full=full)
    observations, data = observe(model, 700, full=full, missing=True, fresh=fresh)
    space = model.state_space(np.zeros((5, 5)))
    noise = model.noise_of(np.ones(CHANNELS, bool))
    parts = textbook(space.transition, space.noise, model.loading, noise, data, fresh)[-1]
    moments = observations.moments(model)
    assert moments.fitted == pytest.approx(parts[:560].sum(), abs=1e-6)
    assert moments.validation == pytest.approx(parts[560:].sum(), abs=1e-6)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_gradient_equals_finite_differences(full, missing):
    truth = make_model(full=full)
    observations, _ = observe(truth, 600, full=full, missing=missing, fresh=(0, 200))
    model = moved(truth)
    moments = observations.moments(model)
    slope = gradient(model, moments)

    def likelihood(name: str, change: np.ndarray) -> float:
        other = dataclasses.replace(model, **{name: getattr(model, name) + change})
        return observations.filter(other)[1]

    rng = np.random.default_rng(0)
    for name in ("angle", "damping", "slow_damping", "loading", "noise"):
        value = getattr(model, name)
        direction = rng.normal(size=value.shape)
        if name == "noise" and full:
            direction = direction + direction.T
        step = 1e-4 if name in ("angle", "damping", "slow_damping") else 1e-3
        # Fourth-order differences.
        far, near = (
            likelihood(name, h * step * direction) - likelihood(name, -h * step * direction)
            for h in (2, 1)
        )
        expected = (8 * near - far) / (12 * step)
        found = float(np.sum(getattr(slope, name) * direction))
        size = float(np.linalg.norm(getattr(slope, name)) * np.linalg.norm(direction))
        assert found == pytest.approx(expected, abs=1e-5 * size), name


@pytest.mark.parametrize("full", [False, True])
def test_gradient_in_coordinates_equals_finite_differences(full):
    truth = make_model(full=full)
    observations, _ = observe(truth, 500, full=full, missing=False)
    model = moved(truth)
    coordinates = Coordinates(model, observations.moments(model), BOUNDS)
    rng = np.random.default_rng(1)
    count = len(coordinates.boxes())
    place, direction = rng.normal(size=(2, count))
    at = coordinates.model_at(place)
    slope = coordinates.pulled_back(place, at, gradient(at, observations.moments(at)))
    ends = [
        observations.filter(coordinates.model_at(place + h * 1e-3 * direction))[1] for h in (1, -1)
    ]
    assert slope @ direction == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-4)


@pytest.mark.parametrize("full", [False, True])
def test_noise_far_from_the_start_is_out_of_reach(full):
    """There a likelihood is a difference of numbers so large that its sign is chance."""
    model = make_model(full=full)
    observations, _ = observe(model, 300, full=full, missing=False)
    coordinates = Coordinates(model, observations.moments(model), BOUNDS)
    channels = len(model.noise)
    for factor, out in ((1, False), (900, False), (1 / 900, False), (1100, True), (1e-4, True)):
        wanted = np.ones(channels)
        wanted[0] = factor
        place = np.zeros(len(coordinates.boxes()))
        scale = np.broadcast_to(coordinates.noise_scale, channels)
        if full:
            noise = np.zeros((channels, channels))
            np.fill_diagonal(noise, np.log(wanted) / scale)
            place[-channels * (channels + 1) // 2 :] = noise[np.tril_indices(channels)]
        else:
            place[-channels:] = np.log(wanted) / scale
        variance = coordinates.model_at(place).noise
        change = np.linalg.det(variance) / np.linalg.det(model.noise) if full else None
        ratio = change if full else variance[0] / model.noise[0]
        assert ratio == pytest.approx(factor**2, rel=1e-6)
        assert coordinates.beyond(place) == out


@pytest.mark.parametrize("full", [False, True])
def test_em_with_missing_data_never_lowers_the_likelihood(full):
    truth = make_model(full=full)
    observations, _ = observe(truth, 3000, full=full, missing=True, fresh=(0, 1000))
    model, likelihoods = moved(truth), []
    for _ in range(40):
        moments = observations.moments(model)
        likelihoods.append(moments.fitted)
        model = maximise(model, moments, BOUNDS)
    assert np.diff(likelihoods).min() > -1e-6
    assert likelihoods[-1] - likelihoods[0] > 50


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_finish_climbs_to_where_the_gradient_vanishes(full):
    truth = make_model(full=full)
    observations, _ = observe(truth, 2000, full=full, missing=True)
    model = moved(truth)
    for _ in range(5):
        model = maximise(model, observations.moments(model), BOUNDS)
    before = observations.moments(model).fitted
    done = finish(observations, model, BOUNDS, 100)
    assert done.moments.fitted > before
    assert done.steps < 100
    for _ in range(200):
        model = maximise(model, observations.moments(model), BOUNDS)
    assert done.moments.fitted >= observations.moments(model).fitted - 0.01


def flat_gradient(model: Oscillators, observations: Observations) -> np.ndarray:
    slope = gradient(model, observations.moments(model))
    return np.concatenate(
        [slope.angle, slope.damping, slope.slow_damping, slope.loading.ravel(), slope.noise]
    )


def nudged(model: Oscillators, index: int, step: float) -> Oscillators:
    parts = [model.angle, model.damping, model.slow_damping, model.loading.ravel(), model.noise]
    flat = np.concatenate(parts)
    flat[index] += step
    split = np.split(flat, np.cumsum([len(p) for p in parts])[:-1])
    return Oscillators(*split[:3], split[3].reshape(model.loading.shape), split[4])


@pytest.mark.slow
def test_information_is_the_mean_curvature_of_the_likelihood():
    """Minus the mean Hessian (central differences of the gradient) over data of the model."""
    model, samples, repeats = make_model(full=False), 6000, 6
    count = 5 + model.loading.size + CHANNELS
    observed = np.zeros((count, count))
    for seed in range(repeats):
        data = draw(model, samples + 10, seed)
        observations = Observations(data, samples)
        for index in range(count):
            ends = [flat_gradient(nudged(model, index, h * 1e-5), observations) for h in (1, -1)]
            observed[index] -= (ends[0] - ends[1]) / 2e-5 / repeats
    expected = samples * information_matrix(model)
    scale = 1 / np.sqrt(np.diag(expected))
    apart = (observed - expected) * np.outer(scale, scale)
    # Hessians scatter by a few per cent of the information over so few samples.
    assert np.abs(apart).max() < 0.12
    assert np.sqrt(np.mean(apart**2)) < 0.02


def test_information_of_full_noise_contains_that_of_known_noise():
    diagonal = make_model(full=False)
    full = dataclasses.replace(diagonal, noise=np.diag(diagonal.noise))
    few, many = information_matrix(diagonal), information_matrix(full)
    extra = 15
    kept = np.r_[0:5, 5 + extra : len(many)]
    np.testing.assert_allclose(many[np.ix_(kept, kept)], few, rtol=1e-8, atol=1e-8)


def test_missing_samples_widen_the_intervals_and_the_gauge_holds():
    model = fix_gauge(make_model(full=False))
    everywhere = np.ones((1, CHANNELS), bool)
    half = np.array([[True] * CHANNELS, [True] * 3 + [False] * 3])
    whole = standard_errors(model, np.array([1000]), everywhere)
    part = standard_errors(model, np.array([500, 500]), half)
    assert (part.loading[3:] > 1.04 * whole.loading[3:]).all()
    assert (part.angle > whole.angle).all()
    np.testing.assert_allclose(
        standard_errors(model, np.array([4000]), everywhere).loading, whole.loading / 2, rtol=1e-9
    )
    for k, covariance in enumerate(whole.covariance):
        channels = len(model.loading)
        flat = covariance.reshape(2 * channels, 2 * channels)
        np.testing.assert_allclose(flat, flat.T, atol=1e-12 * flat.max())
        variance = whole.loading[:, 2 * k : 2 * k + 2].T ** 2
        np.testing.assert_allclose(np.diag(flat), variance.ravel(), rtol=1e-9)
        # The gauge leaves no freedom; all else is uncertain.
        value = np.linalg.eigvalsh(flat)
        assert abs(value[0]) < 1e-6 * value[1]
