"""Distances between populations: closed forms, invariances, metric axioms, planted differences."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import xarray as xr
from scipy.linalg import sqrtm

from alignment_cases import planted_session, trajectory
from driftwave.alignment import cka, dynamics, gromov, rsa, shape
from driftwave.alignment.compare import compare
from driftwave.alignment.params import Params
from driftwave.errors import InputError


def rotation(dims: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dims, dims)))[0]


def gaussians(seed: int, count: int = 5, dims: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(count, dims, dims))
    return rng.normal(size=(count, dims)), factors @ np.swapaxes(factors, 1, 2) / dims


def turned(case: tuple[np.ndarray, np.ndarray], by: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return case[0] @ by.T, by @ case[1] @ by.T


def stochastic(x: tuple, y: tuple, restarts: int = 12) -> float:
    order, rng = np.arange(len(x[0]))[None], np.random.default_rng(0)
    return float(shape.stochastic_distances(*x, *y, order, restarts=restarts, rng=rng)[0])


@pytest.mark.parametrize("distance", [shape.angular_distance, shape.size_distance])
def test_procrustes_distances_are_metrics_of_shapes(distance) -> None:
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(3, 30, 4))
    assert distance(x, x @ rotation(4, 1) + 5) == pytest.approx(0, abs=1e-6)
    assert distance(x, y) == pytest.approx(distance(y @ rotation(4, 2), x))
    assert distance(x, z) <= distance(x, y) + distance(y, z)
    assert distance(x, y) > 0.1


def test_procrustes_distance_is_that_of_scipy() -> None:
    from scipy.spatial import procrustes

    x, y = np.random.default_rng(1).normal(size=(2, 20, 3))
    # SciPy's disparity is 1 - cos^2 of the angle: it also fits a scale.
    *_, disparity = procrustes(x, y)
    assert np.sin(shape.angular_distance(x, y)) ** 2 == pytest.approx(disparity)
    x, y = x - x.mean(0), y - y.mean(0)
    scaled = shape.size_distance(x / np.linalg.norm(x), y / np.linalg.norm(y))
    assert scaled == pytest.approx(2 * np.sin(shape.angular_distance(x, y) / 2))


def test_permuted_shapes_start_with_the_observed_one() -> None:
    x, y = np.random.default_rng(2).normal(size=(2, 5, 6, 3))
    x, y = (v - v.mean((0, 1)) for v in (x, y))
    rows = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 4, 3]])
    angle, size = shape.shape_distances(x, y, rows)
    for k, order in enumerate(rows):
        flat = x.reshape(30, 3), y[order].reshape(30, 3)
        assert angle[k] == pytest.approx(shape.angular_distance(*flat))
        assert size[k] == pytest.approx(shape.size_distance(*flat) / np.sqrt(30))


def test_wasserstein_between_gaussians_in_closed_form() -> None:
    # One dimension: the means and the standard deviations differ.
    one = shape.gaussian_wasserstein(
        np.array([1.0]), np.array([[4.0]]), np.array([4.0]), np.array([[36.0]])
    )
    assert one == pytest.approx(5.0)
    (mean_x, cov_x), (mean_y, cov_y) = gaussians(1), gaussians(2)
    found = shape.gaussian_wasserstein(mean_x, cov_x, mean_y, cov_y)
    for k in range(len(found)):
        root = np.real(sqrtm(cov_x[k]))
        middle = np.real(sqrtm(root @ cov_y[k] @ root))
        square = ((mean_x[k] - mean_y[k]) ** 2).sum() + np.trace(cov_x[k] + cov_y[k] - 2 * middle)
        assert found[k] == pytest.approx(np.sqrt(square), abs=1e-6)


def test_stochastic_distance_is_invariant_and_a_metric() -> None:
    x, y, z = gaussians(1), gaussians(2), gaussians(3)
    assert stochastic(x, turned(x, rotation(3, 4))) == pytest.approx(0, abs=1e-3)
    assert stochastic(x, turned(y, rotation(3, 5))) == pytest.approx(stochastic(x, y), rel=1e-3)
    assert stochastic(x, y) == pytest.approx(stochastic(y, x), rel=1e-3)
    assert stochastic(x, z) <= stochastic(x, y) + stochastic(y, z)


def test_permuted_stochastic_distances_are_those_of_permuted_conditions() -> None:
    x, y = gaussians(1), gaussians(2)
    orders = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 4, 3]])
    found = shape.stochastic_distances(*x, *y, orders, restarts=12, rng=np.random.default_rng(0))
    for value, order in zip(found, orders, strict=True):
        assert value == pytest.approx(stochastic(x, (y[0][order], y[1][order])), rel=1e-6)


def test_stochastic_distance_is_the_least_over_rotations() -> None:
    """In the plane every orthogonal transform can be tried."""
    x, y = gaussians(1, dims=2), gaussians(2, dims=2)
    tried = []
    for angle in np.linspace(0, 2 * np.pi, 721):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for q in (turn, turn @ np.diag([1, -1])):
            each = shape.gaussian_wasserstein(*x, *turned(y, q))
            tried.append(np.sqrt((each**2).mean()))
    assert stochastic(x, y) == pytest.approx(min(tried), rel=1e-4)


def test_without_noise_the_stochastic_distance_is_procrustes() -> None:
    (mean_x, _), (mean_y, _) = gaussians(1), gaussians(2)
    mean_x, mean_y = mean_x - mean_x.mean(0), mean_y - mean_y.mean(0)
    none = np.zeros((5, 3, 3))
    expected = shape.size_distance(mean_x, mean_y) / np.sqrt(5)
    assert stochastic((mean_x, none), (mean_y, none)) == pytest.approx(expected, rel=1e-4)


def test_noise_is_seen_by_the_stochastic_distance_only() -> None:
    """Two populations with the same means, the noise of one along another axis."""
    means, _ = gaussians(1, count=8)
    along = np.tile(np.diag([1.0, 0.01, 0.01]), (8, 1, 1))
    across = np.tile(np.diag([0.01, 0.01, 1.0]), (8, 1, 1))
    assert shape.angular_distance(means, means) == pytest.approx(0, abs=1e-6)
    same = stochastic((means, along), turned((means, along), rotation(3, 1)))
    other = stochastic((means, along), turned((means, across), rotation(3, 1)))
    assert other > 0.3
    assert same < 0.01


def test_biased_cka_of_independent_noise_is_high_and_ours_is_not() -> None:
    rng = np.random.default_rng(0)
    biased, debiased = [], []
    for _ in range(100):
        x, y = rng.normal(size=(20, 100)), rng.normal(size=(20, 80))
        biased.append(cka.linear_cka(x, y))
        debiased.append(cka.debiased_cka(x, y))
    assert np.mean(biased) > 0.7
    assert abs(np.mean(debiased)) < 3 * np.std(debiased) / 10


def test_unbiased_hsic_is_song_s() -> None:
    """Equation 5 of Song et al. 2012, written out."""
    x, y = np.random.default_rng(1).normal(size=(2, 9, 4))

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        n, ones = len(k), np.ones(len(k))
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        first = np.trace(k @ m) + ones @ k @ ones * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (first - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert cka.debiased_cka(x, y) == pytest.approx(expected)


def test_cka_is_invariant_to_rotation_scale_and_offset() -> None:
    x, y = np.random.default_rng(2).normal(size=(2, 12, 5))
    expected = cka.debiased_cka(x, y)
    assert cka.debiased_cka(3 * x @ rotation(5, 1) + 2, y) == pytest.approx(expected)
    assert cka.debiased_cka(x, x @ rotation(5, 2)) == pytest.approx(1)
    stretched = x * np.array([10, 1, 1, 1, 1])
    assert cka.debiased_cka(stretched, y) != pytest.approx(expected, abs=0.01)
    blocks = x.reshape(4, 3, 5), y.reshape(4, 3, 5)
    rows = np.array([[0, 1, 2, 3], [2, 0, 1, 3]])
    found = cka.permuted_cka(*blocks, rows)
    shuffled = blocks[1][rows[1]].reshape(12, 5)
    np.testing.assert_allclose(found, [expected, cka.debiased_cka(x, shuffled)])


def test_crossnobis_is_zero_on_average_without_differences() -> None:
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(6, 6))
    found = []
    for _ in range(60):
        noise = rng.normal(size=(4, 5, 6)) @ mixing
        found.append(rsa.crossnobis(noise, rng.normal(size=(60, 6)) @ mixing, 60).mean())
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(60)


def test_crossnobis_is_the_mahalanobis_distance_of_true_patterns() -> None:
    """Without noise in the averages: squared distances over the noise, per unit."""
    rng = np.random.default_rng(4)
    patterns = rng.normal(size=(4, 3))
    residuals = rng.normal(size=(4000, 3)) * np.array([1, 2, 3])
    found = rsa.crossnobis(np.stack([patterns, patterns]), residuals, 3999)
    gap = (patterns[:, None] - patterns[None]) / np.array([1, 2, 3])
    expected = (gap**2).mean(axis=-1)[np.triu_indices(4, 1)]
    np.testing.assert_allclose(found, expected, rtol=0.15)
    silent = np.concatenate([residuals, np.zeros((4000, 1))], axis=1)
    wider = np.concatenate([patterns, rng.normal(size=(4, 1))], axis=1)
    again = rsa.crossnobis(np.stack([wider, wider]), silent, 3999)
    np.testing.assert_allclose(again, found)


def test_rdm_similarity_permutes_conditions_with_their_windows() -> None:
    rng = np.random.default_rng(5)
    first = rng.random(15)
    rows = np.array([[0, 1, 2], [1, 0, 2]])
    found = rsa.rdm_similarity(first, first, 2, rows, "corr")
    assert found[0] == pytest.approx(1)
    from scipy.spatial.distance import squareform

    order = [2, 3, 0, 1, 4, 5]
    moved = squareform(first)[np.ix_(order, order)][np.triu_indices(6, 1)]
    assert found[1] == pytest.approx(np.corrcoef(first, moved)[0, 1])


def manifold(kind: str, units: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "ring":
        angle = rng.uniform(0, 2 * np.pi, units)
        return np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1) @ rotation(3, seed)
    centres = np.array([[0, 0, 0], [6, 0, 0], [0, 5, 0.0]])
    return centres[rng.integers(3, size=units)] + rng.normal(0, 0.2, (units, 3))


def test_gromov_wasserstein_of_isometric_points_is_zero() -> None:
    ring = manifold("ring", 25, 0)
    order = np.random.default_rng(1).permutation(25)
    assert gromov.gromov_wasserstein(ring, ring[order] @ rotation(3, 2) * 4 + 1) < 0.02
    assert gromov.gromov_wasserstein(ring, manifold("clusters", 30, 0)) > 0.1


def encoding(points: np.ndarray) -> xr.Dataset:
    return xr.Dataset({"coordinate": (("unit", "diffusion_component"), points)})


def test_encoding_manifolds_of_a_group() -> None:
    latent = trajectory(4, 12, seed=1)
    kinds = {"a": "ring", "b": "ring", "c": "clusters"}
    sessions = {
        n: planted_session(latent, name=n, units=12, seed=k, trials=4) for k, n in enumerate(kinds)
    }
    manifolds = {
        name: encoding(manifold(kind, 60 + k, k)) for k, (name, kind) in enumerate(kinds.items())
    }
    manifolds["a"]["coordinate"][:3] = np.nan
    manifolds["b"]["coordinate"][:] *= 5  # scales of two graphs mean nothing
    params = Params(measures=["gromov_wasserstein"], shuffles=19, splits=1, dims=3)
    found = compare(sessions, {}, manifolds, params, seed=0).sel(measure="gromov_wasserstein")
    far = found["distance"].sel(session=["a", "b"], other="c")
    near = float(found["distance"].sel(session="a", other="b"))
    assert near < 0.75 * float(far.min())
    assert float(found["p_value"].sel(session="a", other="b")) == pytest.approx(0.05)
    assert np.isfinite(found["distance_ceiling"].sel(session="a", other="b"))
    with pytest.raises(InputError, match="coordinate"):
        compare(sessions, {}, {"a": manifolds["a"], "b": xr.Dataset()}, params, seed=0)
    with pytest.raises(InputError, match="encoding manifold"):
        compare(sessions, {}, {}, params, seed=0)


def test_dsa_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamics, "installed", lambda: False)
    latent = trajectory(4, 12, seed=1)
    sessions = {
        n: planted_session(latent, name=n, units=12, seed=k, trials=4) for k, n in enumerate("ab")
    }
    with pytest.raises(InputError, match="dsa-metric is not installed"):
        compare(sessions, {}, {}, Params(measures=["dsa"]), seed=0)
    found = compare(sessions, {}, {}, Params(shuffles=19, splits=1, dims=3), seed=0)
    assert "dsa" not in found["measure"].values
    assert "dsa-metric" in found.attrs["measures_left_out"]


def rotating(frequency: float, seed: int, decay: float = 0.5) -> np.ndarray:
    """Trajectories (condition, time, dim) of one damped rotation seen through random axes."""
    rng = np.random.default_rng(seed)
    time = np.arange(60) * 0.02
    phase = rng.uniform(0, 2 * np.pi, 6)[:, None]
    envelope = np.exp(-decay * time)
    angle = 2 * np.pi * frequency * time + phase
    state = np.stack([envelope * np.cos(angle), envelope * np.sin(angle)], -1)
    return state @ rng.normal(size=(2, 5)) + rng.normal(0, 0.01, (6, 60, 5))


def test_surrogates_without_dynamics_are_as_smooth_and_as_wide() -> None:
    case = rotating(1.0, 1) * np.array([1, 2, 3, 4, 5]) + 7

    def after(values: np.ndarray) -> np.ndarray:
        centred = values - values.mean((0, 1))
        return (centred[:, 1:] * centred[:, :-1]).mean((0, 1)) / values.var((0, 1))

    rng = np.random.default_rng(0)
    drawn = np.array([dynamics.without_dynamics(case, rng) for _ in range(40)])
    np.testing.assert_allclose(drawn.mean((1, 2)), np.tile(case.mean((0, 1)), (40, 1)))
    np.testing.assert_allclose(drawn.std((1, 2)), np.tile(case.std((0, 1)), (40, 1)))
    smooth = np.mean([after(one) for one in drawn], axis=0)
    np.testing.assert_allclose(smooth, after(case), atol=0.04)

    # A rotation of 1 Hz is upside down after half a second, a surrogate knows nothing of it.
    def later(values: np.ndarray) -> float:
        centred = values - values.mean((0, 1))
        return float((centred[:, 25:] * centred[:, :-25]).mean() / centred.var())

    assert later(case) < -0.3
    assert abs(np.mean([later(one) for one in drawn])) < 0.1


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("DSA") is None, reason="dsa-metric not installed")
def test_dsa_of_smooth_noise_is_no_nearer_than_its_surrogates() -> None:
    from scipy.ndimage import gaussian_filter1d

    p = []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        operator = dynamics.linear_operator(rotating(2.0, seed), 5, 6)
        noise = gaussian_filter1d(rng.normal(size=(6, 60, 5)), 2.0, axis=1, mode="wrap")
        distance = [
            dynamics.eigenvalue_distance(operator, dynamics.linear_operator(other, 5, 6))
            for other in [noise, *(dynamics.without_dynamics(noise, rng) for _ in range(19))]
        ]
        p.append((1 + np.sum(np.array(distance[1:]) <= distance[0])) / 20)
    assert np.mean(np.array(p) <= 0.1) <= 0.3
    assert 0.3 < np.mean(p) < 0.75


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("DSA") is None, reason="dsa-metric not installed")
def test_dsa_tells_dynamics_apart() -> None:
    cases = [rotating(2.0, 1), rotating(2.0, 2), rotating(5.0, 3)]
    operators = [dynamics.linear_operator(case, 5, 2) for case in cases]
    # Eigenvalues are those of the rotation.
    expected = np.exp((-0.5 + 2j * np.pi * 2.0) * 0.02)
    eigenvalues = np.linalg.eigvals(operators[0])
    assert np.abs(eigenvalues - expected).min() < 0.01
    from DSA.simdist import SimilarityTransformDist

    package = SimilarityTransformDist(score_method="wasserstein").fit_score(
        operators[0], operators[2]
    )
    near = dynamics.eigenvalue_distance(operators[0], operators[1])
    far = dynamics.eigenvalue_distance(operators[0], operators[2])
    assert far == pytest.approx(
        abs(np.exp(4j * np.pi * 0.02) - np.exp(10j * np.pi * 0.02)), rel=0.1
    )
    assert near < 0.05 * far
    assert far == pytest.approx(np.sqrt(float(package)), rel=1e-4)  # of single precision


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("DSA") is None, reason="dsa-metric not installed")
def test_dsa_of_sessions() -> None:
    """Same frequencies through other loadings are close, another frequency is far."""
    rng = np.random.default_rng(0)
    sessions = {}
    for k, (name, frequency) in enumerate({"a": 1.5, "b": 1.5, "c": 4.0}.items()):
        time = np.arange(50) * 0.02
        phase = rng.uniform(0, 2 * np.pi, 6)[:, None]
        angle = 2 * np.pi * frequency * time + phase
        latent = np.stack([np.cos(angle), np.sin(angle)], -1)
        sessions[name] = planted_session(latent, name=name, units=40, seed=k, rate=40.0)
    params = Params(measures=["dsa"], shuffles=19, splits=1, dims=2, dsa_rank=2, smoothing=0.03)
    result = compare(sessions, {}, {}, params, seed=0).sel(measure="dsa")
    found = result["distance"]
    near = float(found.sel(session="a", other="b"))
    assert float(found.sel(session=["a", "b"], other="c").min()) > 5 * near
    assert float(result["p_value"].sel(session="a", other="b")) == pytest.approx(0.05)
    assert float(result["distance_floor"].sel(session="a", other="b")) > 3 * near
