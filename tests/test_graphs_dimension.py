"""Local dimension and Gromov-Wasserstein distances of manifolds that are known."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.errors import InputError
from driftwave.graphs.gromov import coupled_distance, geodesics, gromov_wasserstein
from driftwave.graphs.local_dimension import local_dimension


def circle(points: int, rng: np.random.Generator) -> np.ndarray:
    angle = 2 * np.pi * rng.uniform(size=points)
    return np.column_stack([np.cos(angle), np.sin(angle)])


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_the_dimension_of_a_torus_is_the_number_of_its_circles(dimension):
    rng = np.random.default_rng(dimension)
    points = np.concatenate([circle(1500, rng) for _ in range(dimension)], axis=1)
    assert np.median(local_dimension(points)) == pytest.approx(dimension, rel=0.12)


def test_the_dimension_is_local_and_does_not_depend_on_scale():
    rng = np.random.default_rng(0)
    curve = np.column_stack([np.linspace(0, 20, 400), np.zeros((400, 2))])
    ball = rng.uniform([39, -1, -1], [41, 1, 1], size=(1500, 3))
    points = np.concatenate([curve, ball])
    found = local_dimension(points)
    assert np.median(found[:400]) == pytest.approx(1, abs=0.1)
    assert np.median(found[400:]) == pytest.approx(3, abs=0.4)
    np.testing.assert_allclose(local_dimension(1e-4 * points), found, rtol=1e-6)


def test_noise_finer_than_the_neighbourhood_is_not_counted():
    rng = np.random.default_rng(0)
    line = np.column_stack([rng.uniform(size=1000), 1e-4 * rng.standard_normal(1000)])
    thick = np.column_stack([rng.uniform(size=1000), 0.1 * rng.standard_normal(1000)])
    assert np.median(local_dimension(line)) < 1.15
    assert np.median(local_dimension(thick)) > 1.7


def test_points_lost_in_duplicates_have_no_dimension():
    rng = np.random.default_rng(0)
    points = np.concatenate([np.zeros((15, 2)), rng.uniform(1, 2, size=(100, 2))])
    found = local_dimension(points)
    assert np.isnan(found[:15]).all()
    assert np.isfinite(found[15:]).all()


def test_two_pairs_of_points_are_as_far_as_their_distances_say():
    first, second = (np.array([[0.0, gap], [gap, 0.0]]) for gap in (1.0, 3.0))
    # Half of the coupling's pairs are the pairs of different points: (3 - 1)^2 / 2.
    assert coupled_distance(first, second) == pytest.approx(np.sqrt(2))


def test_geodesics_run_round_a_circle():
    angle = 2 * np.pi * np.arange(200) / 200
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    gap = np.linalg.norm(points[:, None] - points, axis=-1)
    wanted = np.abs(np.angle(np.exp(1j * (angle[:, None] - angle))))
    np.testing.assert_allclose(geodesics(points, gap, 2), wanted, rtol=1e-3)


@pytest.mark.parametrize("metric", ["euclidean", "geodesic"])
def test_equal_manifolds_are_at_the_floor_and_others_above(metric):
    rng = np.random.default_rng(0)
    ring, sheet = circle(200, rng), rng.uniform(size=(200, 2))
    turn = np.linalg.qr(rng.standard_normal((5, 2)))[0]
    options = {"metric": metric, "points": 60, "repeats": 3}
    same = gromov_wasserstein(ring, 7 * circle(180, rng) @ turn.T, seed=0, **options)
    other = gromov_wasserstein(ring, sheet, seed=0, **options)
    assert same.excess < 1.3
    assert other.excess > 1.3 * same.excess
    assert other.distance.min() > other.floor.max()


def test_points_without_coordinates_are_left_out_and_too_few_refused():
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(60, 2))
    holes = np.concatenate([points, np.full((9, 2), np.nan)])
    first, second = (
        gromov_wasserstein(one, points, seed=1, repeats=1, points=20) for one in (points, holes)
    )
    assert first.distance.values == second.distance.values
    with pytest.raises(InputError, match="at least 40"):
        gromov_wasserstein(points[:30], points, seed=0)
