"""Travelling against standing: closed forms, Bayes factors, wavevectors, missing electrodes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from driftwave.latent_waves import loading_prior
from driftwave.latent_waves.loading_errors import cycle_covariance, independent_samples
from driftwave.latent_waves.loading_prior import (
    LoadingPrior,
    matern,
    predict_loading,
    travelling_evidence,
)
from waves_cases import PITCH, grid, phase_of

POSITION = grid(8, 8)
COUNT = len(POSITION)
NYQUIST = np.pi / PITCH


def _complex(rng, *shape: int) -> np.ndarray:
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2)


def _distance(position: np.ndarray) -> np.ndarray:
    apart = position[:, None] - position[None]
    return np.hypot(apart[..., 0], apart[..., 1])


def _process(rng, position: np.ndarray, length: float, *, real: bool = False) -> np.ndarray:
    root = np.linalg.cholesky(matern(_distance(position), length) + 1e-9 * np.eye(len(position)))
    return root @ (rng.normal(size=len(position)) if real else _complex(rng, len(position)))


def _judge(loading: np.ndarray, error: float, position: np.ndarray = POSITION):
    covariance = error**2 * np.eye(len(position))
    return travelling_evidence(position, loading, covariance, pitch=PITCH, nyquist=NYQUIST)


def _real_form(matrix: np.ndarray) -> np.ndarray:
    """Covariance of (Re, Im) of a circular complex variable with E[e e*] = ``matrix``."""
    return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]]) / 2


@pytest.fixture
def few(monkeypatch):
    """Five electrodes with correlated complex errors, every eigenvector kept."""
    monkeypatch.setattr(loading_prior, "TRUNCATED", 1e-12)
    rng = np.random.default_rng(0)
    position = rng.uniform(0, 2, (5, 2))
    root = _complex(rng, 5, 5)
    covariance = root @ root.conj().T + 0.3 * np.eye(5)
    loading = 2 * _complex(rng, 5)
    observed = loading_prior._Observed.of(position, loading, covariance)
    prior = matern(_distance(position), 1.3)
    factor = loading_prior._factor(observed.position, 1.3)
    seen = np.concatenate([loading.real, loading.imag])
    nothing = multivariate_normal(cov=_real_form(covariance)).logpdf(seen)
    return observed, factor, prior, covariance, seen, nothing


def test_travelling_likelihood_is_the_complex_normal_density(few):
    observed, factor, prior, covariance, seen, nothing = few
    k = np.array([[1.1, -0.4], [0.0, 2.0]])
    found = observed.travelling(factor, k)
    for row, vector in zip(found, k, strict=True):
        wave = np.exp(-1j * observed.position @ vector)
        for value, variance in zip(row, observed.variances, strict=True):
            total = covariance + variance * wave[:, None] * prior * wave.conj()
            dense = multivariate_normal(cov=_real_form(total)).logpdf(seen)
            assert value == pytest.approx(dense - nothing, abs=1e-8)


def test_standing_likelihood_averages_the_real_normal_density_over_phase(few):
    observed, factor, prior, covariance, seen, nothing = few
    found = observed.standing(factor)
    for value, variance in zip(found, observed.variances, strict=True):

        def density(phi: float, variance: float = variance) -> float:
            turn = np.array([np.cos(phi), np.sin(phi)])
            total = _real_form(covariance) + variance * np.kron(np.outer(turn, turn), prior)
            return float(np.exp(multivariate_normal(cov=total).logpdf(seen) - nothing) / np.pi)

        assert value == pytest.approx(np.log(quad(density, 0, np.pi)[0]), abs=1e-6)


def test_cells_fill_the_ring_of_wavevectors_once():
    edge = loading_prior._polar_cells(0.1, 7.0, 0.4)
    area = np.prod(edge[:, 1::2] - edge[:, ::2], axis=1)
    assert area.sum() == pytest.approx(2 * np.pi * np.log(70))
    assert loading_prior._Cells(edge, np.empty(0)).width.max() < 0.8
    quarters = loading_prior._quarters(edge)
    assert np.prod(quarters[:, 1::2] - quarters[:, ::2], axis=1).sum() == pytest.approx(area.sum())


def test_evidence_agrees_with_a_fine_grid_of_wavevectors():
    """The adaptive integral against brute force over ln |k| and direction."""
    rng = np.random.default_rng(3)
    position = grid(4, 4)
    loading = np.exp(1j * phase_of("planar", position, frequency=12, speed=60, direction=30))
    covariance = 0.2 * np.eye(16)
    observed = loading_prior._Observed.of(position, loading + 0.4 * _complex(rng, 16), covariance)
    factor, extent = loading_prior._factor(observed.position, 2.4), 3 * PITCH
    cells = loading_prior._integrate(observed, factor, 2.4, extent, NYQUIST)
    found = np.log(np.exp(cells.score).sum(axis=0))
    size = np.linspace(np.log(0.3 / extent), np.log(NYQUIST), 401)
    angle = np.linspace(-np.pi, np.pi, 241)[:-1]
    middle = np.exp((size[1:] + size[:-1]) / 2)
    k = middle[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    dense = np.log(np.exp(observed.travelling(factor, k.reshape(-1, 2))).mean(axis=0))
    np.testing.assert_allclose(found, dense, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_waves_travel_and_real_maps_stand(seed):
    rng = np.random.default_rng(seed)
    direction = rng.uniform(-180, 180)
    wave = np.exp(1j * phase_of("planar", POSITION, frequency=12, speed=150, direction=direction))
    travelling = _judge(wave + 0.5 * _complex(rng, COUNT), 0.5)
    assert travelling.log_bayes_factor > np.log(20)
    assert travelling.probability > 0.95
    k = 2 * np.pi * 12 / 150 * np.exp(1j * np.radians(direction))
    apart = travelling.wavevector - [k.real, k.imag]
    assert (np.abs(apart) < 3 * travelling.wavevector_sd).all()
    assert np.hypot(*apart) < 0.35 * abs(k)
    still = np.exp(0.7j) * _process(rng, POSITION, 1.5, real=True)
    standing = _judge(still + 0.3 * _complex(rng, COUNT), 0.3)
    assert standing.log_bayes_factor < -np.log(20)
    assert standing.probability < 0.05


@pytest.mark.slow
def test_a_turning_wave_travels_and_a_loading_lost_in_errors_says_nothing():
    rng = np.random.default_rng(4)
    turning = np.exp(1j * phase_of("rotating", POSITION, frequency=12, centre=(1.5, 1.3)))
    assert _judge(turning + 0.4 * _complex(rng, COUNT), 0.4).log_bayes_factor > np.log(20)
    nothing = [_judge(_complex(rng, COUNT), 1.0).log_bayes_factor for _ in range(2)]
    assert np.abs(nothing).max() < np.log(20)


@pytest.mark.slow
def test_phase_amplitude_and_origin_do_not_matter():
    rng = np.random.default_rng(5)
    loading = _process(rng, POSITION, 2.0) + 0.3 * _complex(rng, COUNT)
    first = _judge(loading, 0.3)
    scaled = 40 * np.exp(2j) * loading
    moved = _judge(scaled, 12.0, POSITION + np.array([5.0, -3.0]))
    assert moved.log_bayes_factor == pytest.approx(first.log_bayes_factor, abs=1e-6)
    np.testing.assert_allclose(moved.wavevector, first.wavevector, atol=1e-6)


def test_four_electrodes_are_enough_and_say_little():
    rng = np.random.default_rng(0)
    position = grid(2, 2)
    found = _judge(_complex(rng, 4), 1.0, position)
    assert abs(found.log_bayes_factor) < np.log(20)
    assert np.hypot(*found.wavevector) < NYQUIST


def test_missing_electrodes_are_predicted_better_with_the_wave_and_its_errors_are_right():
    truth = LoadingPrior(np.array([2.0, 1.5]), 4.0, 3.0)
    still = LoadingPrior(np.zeros(2), 4.0, 3.0)
    error, scores, better = 0.4, [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        wave = np.exp(-1j * POSITION @ truth.wavevector)
        whole = 2 * wave * _process(rng, POSITION, truth.length)
        out = rng.permutation(COUNT) < 16
        seen = whole[~out] + error * _complex(rng, (~out).sum())
        covariance = error**2 * np.eye((~out).sum())
        mean, variance = predict_loading(POSITION[~out], seen, covariance, POSITION[out], truth)
        scores.append(np.abs(mean - whole[out]) ** 2 / variance)
        flat, _ = predict_loading(POSITION[~out], seen, covariance, POSITION[out], still)
        miss = [np.mean(np.abs(m - whole[out]) ** 2) for m in (mean, flat)]
        better.append(miss[0] < miss[1])
    assert np.mean(better) >= 0.9
    # |z|^2 of a complex normal has mean 1 and exceeds 3 with probability e^-3.
    assert np.mean(scores) == pytest.approx(1, abs=0.2)
    assert np.mean(np.concatenate(scores) > 3) == pytest.approx(np.exp(-3), abs=0.03)


def test_the_fitted_prior_predicts_missing_electrodes():
    rng = np.random.default_rng(6)
    wave = np.exp(1j * phase_of("planar", POSITION, frequency=12, speed=30, direction=-60))
    whole = wave * (1 + 0.2 * _process(rng, POSITION, 2.0))
    out = np.arange(COUNT) % 5 == 0
    seen = whole[~out] + 0.2 * _complex(rng, (~out).sum())
    best = _judge(seen, 0.2, POSITION[~out]).best
    covariance = 0.04 * np.eye((~out).sum())
    mean, variance = predict_loading(POSITION[~out], seen, covariance, POSITION[out], best)
    still = LoadingPrior(np.zeros(2), best.variance, best.length)
    flat, _ = predict_loading(POSITION[~out], seen, covariance, POSITION[out], still)
    miss = [np.mean(np.abs(m - whole[out]) ** 2) for m in (mean, flat)]
    assert miss[0] < 0.7 * miss[1]
    assert 0.2 < np.mean(np.abs(mean - whole[out]) ** 2 / variance) < 2.5


WAVY = np.stack([np.cos(1.3 * POSITION[:, 0]), np.sin(1.3 * POSITION[:, 0])])


def _mixed(
    rng, samples: int, power: tuple[float, float], noise: float, maps: np.ndarray = WAVY
) -> np.ndarray:
    """Cross-spectrum of two standing patterns without a common signal."""
    field = (np.sqrt(power) * _complex(rng, samples, 2)) @ maps
    field = field + noise * _complex(rng, samples, COUNT)
    return field.T @ field.conj() / samples


@pytest.mark.slow
def test_cycle_covariance_is_the_spread_of_the_leading_pattern():
    samples, patterns, expected = 60, [], []
    rng = np.random.default_rng(7)
    real = np.cos(1.3 * POSITION[:, 0])
    real /= np.linalg.norm(real)
    for _ in range(150):
        cross = _mixed(rng, samples, (4.0, 1.0), 0.7)
        pattern = np.linalg.eigh(cross)[1][:, -1]
        pattern = pattern * np.exp(-1j * np.angle(real @ pattern))
        patterns.append(pattern)
        expected.append(cycle_covariance(cross, pattern, samples))
    spread = np.cov(np.array(patterns).T, bias=True)
    mean = np.mean(expected, axis=0)
    # What is orthogonal to the pattern; along it the gauge leaves nothing to vary.
    rest = np.eye(COUNT) - np.outer(real, real)
    measured, claimed = (np.trace(rest @ m @ rest).real for m in (spread, mean))
    assert claimed == pytest.approx(measured, rel=0.3)
    other = np.sin(1.3 * POSITION[:, 0])
    other = rest @ other / np.linalg.norm(rest @ other)
    ratio = (other @ mean @ other).real / (other @ spread @ other).real
    assert 0.6 < ratio < 1.8


@pytest.mark.slow
def test_two_standing_patterns_of_like_power_are_no_wave():
    """Their leading eigenvector may look like a wave; the errors say that it may not be one."""
    rng = np.random.default_rng(8)
    spurious, claimed = [], []
    for _ in range(10):
        pair = np.stack([_process(rng, POSITION, 1.5, real=True) for _ in range(2)])
        maps = np.sqrt(COUNT / 2) * np.linalg.qr(pair.T)[0].T
        cross = _mixed(rng, 40, (1.0, 1.0), 0.3, maps)
        value, vector = np.linalg.eigh(cross)
        loading = vector[:, -1] * np.sqrt(value[-1])
        noise = 0.01 * np.eye(COUNT)
        aware = cycle_covariance(cross, loading, 40)
        for found, covariance in ((spurious, noise), (claimed, aware)):
            evidence = travelling_evidence(
                POSITION, loading, covariance, pitch=PITCH, nyquist=NYQUIST
            )
            found.append(evidence.log_bayes_factor > np.log(20))
    assert np.sum(spurious) >= 4
    assert np.sum(claimed) <= 1


def test_a_mixture_of_eigenvectors_is_certain_in_its_largest_part_only():
    cross = np.diag(np.arange(COUNT, 0, -1.0)).astype(complex)
    loading = np.zeros(COUNT, complex)
    loading[:2] = [2.0, 1j]
    covariance = cycle_covariance(cross, loading, 1e9)
    assert covariance[1, 1].real == pytest.approx(1, rel=1e-3)
    assert covariance[2, 2].real < 1e-3


def test_independent_samples_of_a_narrow_and_a_broad_peak():
    assert independent_samples(0.5, 60, 2.0) == pytest.approx(np.pi * 30)
    assert independent_samples(5.0, 60, 2.0) == 240
    assert independent_samples(0.0, 60, 2.0) == 2
