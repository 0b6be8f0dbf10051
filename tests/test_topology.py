"""Topology against known homology, planted rings and tori, and activity without a ring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from conftest import ROOT, make_recording
from driftwave.errors import InputError
from driftwave.figures import topology as topology_figure
from driftwave.figures.style import save_figure
from driftwave.geometry.circular_coordinates import (
    circular_coordinate,
    harmonic,
    is_cocycle,
    lifted,
)
from driftwave.geometry.dimension import principal_components
from driftwave.geometry.topology import PRIME, Homology, Null, homology, judge
from driftwave.geometry.topology_angles import (
    circular_correlation,
    circular_features,
    match_angle,
)
from driftwave.geometry.topology_points import (
    Landmarks,
    Recipe,
    choose_landmarks,
    farthest_points,
)
from driftwave.manifolds import topology

BIN = 0.1
FAST = topology.Params(shuffles=20, points=120, rows=1500, angle_shuffles=100)


def heading(bins: int, rng: np.random.Generator, step: float = 0.18) -> np.ndarray:
    """A head direction (bin,), rad: smooth turns and stops, some directions visited more often."""
    speed = gaussian_filter1d(rng.normal(size=bins), 8)
    speed *= (gaussian_filter1d(rng.normal(size=bins), 15) > 0) * step / speed.std()
    angle = np.zeros(bins)
    for t in range(1, bins):
        angle[t] = angle[t - 1] + speed[t] - 0.03 * np.sin(angle[t - 1])
    return angle % (2 * np.pi)


def tuned(angle: np.ndarray, units: int, rng: np.random.Generator) -> np.ndarray:
    """Counts (bin, unit) of von Mises tuned units; angle (bin,), or (bin, unit) for one each."""
    preferred = 2 * np.pi * (np.arange(units) + rng.uniform(-0.3, 0.3, units)) / units
    angle = angle[:, None] if angle.ndim == 1 else angle
    rate = 1 + rng.uniform(20, 60, units) * np.exp(4 * (np.cos(angle - preferred) - 1))
    return rng.poisson(rate * BIN)


def recorded(counts: np.ndarray, angle: np.ndarray, bins: int = 50) -> xr.DataTree:
    """A continuous recording of counts (bin, unit), with the angle (bin,) as behaviour."""
    trials, units = len(counts) // bins, counts.shape[1]
    tree = make_recording(
        trials=trials, bins=bins, units=units, held_out=0, forward=0, contiguous=True
    )
    tree["spikes/counts"][:] = counts.reshape(trials, bins, units)
    tree["spikes"].attrs["bin_width"] = BIN
    tree["trials/condition"].values[:] = 0
    tree["behavior"] = xr.DataTree(
        xr.Dataset(
            {"value": (("trial", "time", "feature"), angle.reshape(trials, bins, 1))},
            coords={
                "feature": ["direction"],
                "kind": ("feature", ["circular"]),
                "unit_of_measure": ("feature", ["rad"]),
            },
        )
    )
    return tree


def circle(points: int, turns: np.ndarray | None = None) -> np.ndarray:
    turn = 2 * np.pi * (np.arange(points) / points if turns is None else turns)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def as_landmarks(position: np.ndarray) -> Landmarks:
    return Landmarks(principal_components(position, position.shape[1]), 1.0, position)


def bars_of(position: np.ndarray, degree: int) -> Homology:
    return homology(as_landmarks(position), degree, void_points=200, cocycles=True)


def test_the_loop_of_a_regular_polygon_lives_as_long_as_it_should() -> None:
    """Born at the side, dead at the side of the inscribed triangle (Adamaszek and Adams 2017)."""
    found = bars_of(circle(30), 1)
    np.testing.assert_allclose(found.bars[1], [[2 * np.sin(np.pi / 30), np.sqrt(3)]], rtol=1e-5)
    assert found.bars[0].shape == (29, 2)


def test_the_octahedron_has_a_void() -> None:
    corners = np.concatenate([np.eye(3), -np.eye(3)])
    found = bars_of(corners, 2)
    np.testing.assert_allclose(found.bars[2], [[np.sqrt(2), 2]], rtol=1e-5)


def test_two_clusters_are_a_bar_of_degree_0() -> None:
    cloud = np.concatenate([circle(10) * 0.01, circle(10) * 0.01 + [5, 0]])
    found = bars_of(cloud, 0)
    assert found.lifetimes(0)[0] == pytest.approx(5 - 0.02, rel=1e-3)
    assert found.lifetimes(0)[1] < 0.01


def test_farthest_points_spread_over_uneven_visits() -> None:
    rng = np.random.default_rng(0)
    turns = np.concatenate([rng.uniform(size=200), rng.normal(0.2, 0.01, size=5000)])
    chosen = circle(0, turns)[farthest_points(circle(0, turns), 40)]
    gaps = np.diff(np.sort(np.arctan2(chosen[:, 1], chosen[:, 0])))
    assert gaps.max() < 4 * np.median(gaps)


def test_farthest_points_stop_at_repeats() -> None:
    assert len(farthest_points(np.repeat(np.eye(3), 5, axis=0), 10)) == 3


def test_landmarks_have_unit_radius_and_little_noise() -> None:
    rng = np.random.default_rng(1)
    rows = np.concatenate([circle(0, rng.uniform(size=3000)), np.zeros((3000, 3))], axis=1)
    rows += rng.normal(0, 0.1, rows.shape)
    found = choose_landmarks(rows, Recipe(5, 2000, 20, 0.02, 100))
    radius = np.linalg.norm(found.position[:, :2], axis=1)
    assert np.abs(radius - 1).max() < 0.25
    assert np.abs(found.position[:, 2:]).max() < 0.2
    assert (found.place(rows) ** 2).sum(axis=1).mean() == pytest.approx(1, rel=0.05)


def test_circular_coordinate_is_the_angle_of_an_unevenly_sampled_circle() -> None:
    rng = np.random.default_rng(2)
    turns = np.sort(np.concatenate([rng.uniform(size=60), rng.uniform(0, 0.2, size=60)]))
    found = bars_of(circle(0, turns), 1)
    coordinate = circular_coordinate(
        found.landmarks.position, found.cocycles[0], *found.bars[1][0], PRIME
    )
    assert coordinate is not None
    dense = np.linspace(0, 1, 500, endpoint=False)
    angle = coordinate.angle(1.2 * circle(0, dense))  # off the circle
    errors = []
    for direction in (1, -1):
        left = np.exp(1j * (angle - direction * 2 * np.pi * dense))
        errors.append(np.degrees(np.abs(np.angle(left / left.mean()))).max())
    assert min(errors) < 18
    steps = np.abs(np.angle(np.exp(1j * np.diff(angle))))
    assert steps.max() < np.radians(10)  # no jumps


def test_harmonic_part_of_a_polygon_is_even() -> None:
    """A cocycle on one edge of a polygon spreads to the same step on every edge."""
    n = 12
    weight = np.zeros((n, n))
    weight[np.arange(n), (np.arange(n) + 1) % n] = 1
    weight += weight.T
    coefficient = lifted(np.array([[3, 4, 1]]), n, PRIME)
    turns = harmonic(coefficient, weight)
    step = coefficient + turns[None] - turns[:, None]
    np.testing.assert_allclose(np.abs(step[weight > 0]), 1 / n)


def test_coefficients_are_lifted_to_the_nearest_integer() -> None:
    matrix = lifted(np.array([[0, 1, 1], [1, 2, PRIME - 2]]), 3, PRIME)
    np.testing.assert_array_equal(matrix, [[0, 1, 0], [-1, 0, -2], [0, 2, 0]])
    triangle = ~np.eye(3, dtype=bool)
    assert not is_cocycle(matrix, triangle)
    matrix[0, 2], matrix[2, 0] = -1, 1
    assert is_cocycle(matrix, triangle)


def test_circular_correlation_is_fisher_and_lees_pair_by_pair() -> None:
    rng = np.random.default_rng(3)
    a = rng.uniform(0, 2 * np.pi, 40)
    b = a + rng.normal(0, 0.7, 40)
    one, other = np.sin(a[:, None] - a), np.sin(b[:, None] - b)
    wanted = (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
    assert circular_correlation(a, b) == pytest.approx(wanted)
    assert circular_correlation(a, 1 - b) == pytest.approx(-wanted)
    assert circular_correlation(a, a + 2) == pytest.approx(1)


def test_match_chooses_rotation_and_direction_on_other_bins() -> None:
    rng = np.random.default_rng(4)
    true = heading(2000, rng)
    scored = np.arange(2000) % 100 >= 50
    decoded = (1.3 - true + rng.normal(0, 0.2, 2000)) % (2 * np.pi)
    found = match_angle(decoded, true, scored, shuffles=200, rng=rng)
    assert found.direction == -1
    assert np.angle(np.exp(1j * (found.rotation - 1.3))) == pytest.approx(0, abs=0.03)
    assert found.error == pytest.approx(np.degrees(0.2 * 0.674), rel=0.1)
    assert found.p_error == found.p_correlation == 1 / 201
    # Scored bins turned by a quarter: the error shows it, so they chose nothing.
    turned = np.where(scored, decoded + np.pi / 2, decoded)
    assert match_angle(turned, true, scored, shuffles=20, rng=rng).error > 80


@pytest.mark.slow
def test_angles_that_drift_by_themselves_do_not_match() -> None:
    p = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        angles = [heading(1500, rng) for _ in range(2)]
        scored = np.arange(1500) >= 1000
        found = match_angle(angles[0], angles[1], scored, shuffles=39, rng=rng)
        p.append([found.p_correlation, found.p_error])
    assert (np.mean(np.array(p) <= 0.1, axis=0) < 0.25).all()
    assert (np.mean(p, axis=0) > 0.35).all()


def test_missing_angles_are_left_out() -> None:
    rng = np.random.default_rng(5)
    true = heading(1000, rng)
    decoded = true.copy()
    true[:300] = np.nan
    scored = np.arange(1000) >= 600
    assert match_angle(decoded, true, scored, shuffles=20, rng=rng).error < 1e-6
    true[:] = np.nan
    assert np.isnan(match_angle(decoded, true, scored, shuffles=20, rng=rng).error)


def test_betti_numbers_count_bars_beyond_the_nulls_longest() -> None:
    position = np.concatenate([circle(30), circle(30) + np.array([5, 0])])
    found = bars_of(position, 1)
    null = Null(np.tile(np.linspace(0.1, 1, 39), (2, 1)), np.tile(np.linspace(1, 2, 39), (2, 1)))
    verdict = judge(found, null, 0.05)
    assert verdict.betti.tolist() == [2, 2]
    assert verdict.p.tolist() == [1 / 40, 1 / 40]
    assert verdict.ratio[1] == pytest.approx(1, rel=1e-3)
    assert verdict.p_ratio[1] > 0.9
    assert verdict.threshold[1] == pytest.approx(np.linspace(0.1, 1, 39)[-2])
    long = Null(np.full((2, 39), 9.0), null.ratio)
    assert judge(found, long, 0.05).betti.tolist() == [1, 0]


@pytest.fixture(scope="module")
def ring() -> tuple[xr.DataTree, xr.Dataset]:
    rng = np.random.default_rng(6)
    angle = heading(3000, rng)
    tree = recorded(tuned(angle, 8, rng), angle)
    return tree, topology.analyse(tree, None, FAST, seed=0)


def test_a_planted_ring_is_found_with_its_angle(ring: tuple[xr.DataTree, xr.Dataset]) -> None:
    found = ring[1].sel(features_from="smoothed_counts")
    assert found["betti"].values.tolist() == [1, 1]
    assert float(found["p_value"].sel(degree=1)) == 1 / 21
    assert float(found["p_value_ratio"].sel(degree=1)) == 1 / 21
    of_loop = found.sel(loop=1, circular_feature="direction")
    assert float(of_loop["circular_correlation"]) > 0.9
    assert float(of_loop["angular_error"]) < 10
    assert float(of_loop["p_value_angular_error"]) == 1 / 101
    assert np.isfinite(of_loop["angle"]).all()
    assert found["angle"].sel(loop=2).isnull().all()


def test_the_angle_stored_is_the_one_scored(ring: tuple[xr.DataTree, xr.Dataset]) -> None:
    found = ring[1].sel(features_from="smoothed_counts", loop=1, circular_feature="direction")
    test = found["split"].values == "test"
    turned = float(found["angle_direction"]) * found["angle"].values + float(
        found["angle_rotation"]
    )
    left = np.angle(np.exp(1j * (turned - found["behaviour_angle"].values)))[test]
    assert np.degrees(np.median(np.abs(left))) == pytest.approx(
        float(found["angular_error"]), abs=0.01
    )
    features = circular_features(ring[0], np.ones(60, bool))
    np.testing.assert_allclose(found["behaviour_angle"], features["direction"], rtol=1e-6)


def test_units_without_a_common_angle_have_no_ring() -> None:
    """Each unit tuned to an angle of its own: same tuning and autocorrelation, no ring."""
    p = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        angle = np.stack([heading(1500, rng) for _ in range(6)], axis=1)
        tree = recorded(tuned(angle, 6, rng), angle[:, 0])
        params = topology.Params(shuffles=20, points=60, rows=700, angle_shuffles=20)
        found = topology.analyse(tree, None, params, seed=seed)
        p.append(found["p_value"].sel(degree=1).item())
    assert np.mean(np.array(p) <= 0.05) <= 1 / 5
    assert np.mean(p) > 0.25


def test_latents_of_a_ring_are_a_ring(ring: tuple[xr.DataTree, xr.Dataset]) -> None:
    tree = ring[0]
    angle = tree["behavior/value"].values[..., 0]
    rng = np.random.default_rng(7)
    axes = np.linalg.qr(rng.normal(size=(4, 2)))[0]
    latent = np.stack([np.cos(angle), np.sin(angle)], axis=-1) @ axes.T
    latent = latent + rng.normal(0, 0.1, latent.shape)
    coords = tree["spikes"].to_dataset().coords
    latents = xr.Dataset(
        {"latent": (("trial", "time", "latent"), latent)},
        coords={k: coords[k] for k in ("trial", "time")},
    )
    found = topology.analyse(tree, latents, FAST, seed=0).squeeze("features_from")
    assert found["features_from"].item() == "latents"
    assert found["betti"].values.tolist() == [1, 1]
    assert float(found["angular_error"].sel(loop=1).item()) < 10


@pytest.mark.slow
def test_a_planted_torus_has_two_loops_and_a_void() -> None:
    rng = np.random.default_rng(8)
    angles = np.cumsum(rng.normal(0, 0.5, (4000, 2)), axis=0) + np.arange(4000)[:, None] * [
        0.17,
        0.061,
    ]
    preferred = 2 * np.pi * np.stack(np.meshgrid(range(5), range(5)), -1).reshape(-1, 2) / 5
    away = angles[:, None] - preferred
    rate = np.exp(1.2 * (np.cos(away) - 1).sum(axis=-1))
    rate = rate + rng.normal(0, 0.02, rate.shape)
    tree = recorded(np.zeros((4000, 25)), angles[:, 0] % (2 * np.pi))
    coords = tree["spikes"].to_dataset().coords
    latents = xr.Dataset(
        {"latent": (("trial", "time", "latent"), rate.reshape(80, 50, 25))},
        coords={k: coords[k] for k in ("trial", "time")},
    )
    params = topology.Params(
        degree=2,
        components=4,
        shuffles=20,
        points=200,
        void_points=140,
        rows=3000,
        angle_shuffles=20,
    )
    found = topology.analyse(tree, latents, params, seed=0).squeeze("features_from")
    assert found["betti"].values.tolist() == [1, 2, 1]


def test_a_region_is_chosen_by_name() -> None:
    rng = np.random.default_rng(9)
    angle = heading(1000, rng)
    tree = recorded(tuned(angle, 8, rng), angle)
    tree["units/region"] = xr.DataArray(np.array(["adn"] * 5 + ["ca1"] * 3), dims="unit")
    params = FAST.model_copy(update={"region": "adn", "points": 40})
    first = topology.analyse(tree, None, params, seed=0)
    tree["spikes/counts"].values[..., 5:] = 0
    xr.testing.assert_identical(first, topology.analyse(tree, None, params, seed=0))
    with pytest.raises(InputError, match=r"regions \['adn', 'ca1'\], expected 'v1'"):
        topology.analyse(tree, None, params.model_copy(update={"region": "v1"}), seed=0)


def test_activity_that_stands_still_is_refused() -> None:
    tree = recorded(np.ones((500, 4)), np.zeros(500))
    with pytest.raises(InputError, match="0 dims that vary"):
        topology.analyse(tree, None, FAST, seed=0)


def test_a_constant_unit_changes_nothing(ring: tuple[xr.DataTree, xr.Dataset]) -> None:
    counts = ring[0]["spikes/counts"].values.reshape(3000, -1)[:1000]
    angle = ring[0]["behavior/value"].values.ravel()[:1000]
    still = np.concatenate([counts, np.zeros((1000, 1))], axis=1)
    params = FAST.model_copy(update={"points": 40, "standardise": True})
    first, second = (
        topology.analyse(recorded(c, angle), None, params, seed=0) for c in (counts, still)
    )
    xr.testing.assert_allclose(first["death"], second["death"])
    xr.testing.assert_allclose(first["p_value"], second["p_value"])


def test_figure_shows_a_row_for_each_set_of_features(
    ring: tuple[xr.DataTree, xr.Dataset], tmp_path: Path
) -> None:
    figure = topology_figure.draw(ring[0], {"geometry": ring[1]})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "smoothed counts\nBetti numbers 1, 1" in titles
    save_figure(figure, tmp_path / "topology")
    assert (tmp_path / "topology.png").stat().st_size > 20_000
    bare = ring[1].drop_dims("circular_feature")
    assert topology_figure.draw(None, {"geometry": bare}).axes


@pytest.mark.slow
@pytest.mark.recording
def test_head_direction_cells_are_a_ring(recordings: Path) -> None:
    from driftwave.config import load_layout
    from driftwave.ingest.file import open_nwb
    from driftwave.ingest.nwb import read_recording

    layout = load_layout("head_direction", ROOT / "config" / "layouts")
    with open_nwb(recordings / "head_direction.nwb") as file:
        tree = read_recording(file, layout, session="head_direction").load()
    params = topology.Params(region="adn", units="all")
    found = topology.analyse(tree, None, params, seed=1).squeeze("features_from")
    assert found["betti"].values.tolist() == [1, 1]
    assert float(found["p_value"].sel(degree=1)) <= 0.02
    assert float(found["p_value_ratio"].sel(degree=1)) <= 0.02
    of_loop = found.sel(loop=1, circular_feature="head_direction")
    assert float(of_loop["circular_correlation"]) > 0.8
    assert float(of_loop["angular_error"]) < 15
    assert float(of_loop["p_value_angular_error"]) <= 0.01
