"""Measures of shape against closed forms, planted dimension and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.geometry.dimension import (
    isometric,
    leading,
    participation_ratio,
    principal_components,
    shifted_participation_ratios,
)
from driftwave.geometry.embedding_quality import distance_correlation, kept_neighbourhoods, voters
from driftwave.geometry.embeddings import Embedding, embed
from driftwave.geometry.jackknife import jackknife, jackknife_groups
from driftwave.geometry.repeats import Repeats, make_repeats
from driftwave.geometry.signal_dimension import random_halves, signal_spectrum
from driftwave.geometry.tangling import flow_of, shifted_flow, soft_normalised, tangling
from driftwave.geometry.trajectories import (
    mean_distance,
    pairwise_distances,
    shuffled_distances,
    squared_speed,
    unlocked_speeds,
)
from driftwave.geometry.tubularity import (
    distance_to_line,
    in_blocks,
    radii,
    raw_tubularity,
    shuffled_radii,
)
from driftwave.geometry.two_nn import (
    by_scale,
    mean_two_nn,
    point_sets,
    squared_distances,
    two_nn,
)


def test_few_rows_of_many_dims_have_the_same_components() -> None:
    from sklearn.decomposition import PCA

    rows = np.random.default_rng(0).normal(size=(20, 300)) * np.geomspace(5, 0.1, 300)
    ours = principal_components(rows, 6)
    oracle = PCA(6, svd_solver="full").fit(rows)
    np.testing.assert_allclose(ours.ratio, oracle.explained_variance_ratio_, rtol=1e-9)
    np.testing.assert_allclose(
        np.abs(ours.project(rows)), np.abs(oracle.transform(rows)), atol=1e-8
    )
    assert principal_components(rows, 50).axes.shape == (300, 19)
    covariance = np.cov(rows.T)
    wanted = np.trace(covariance) ** 2 / (covariance**2).sum()
    assert participation_ratio(rows) == pytest.approx(wanted)
    np.testing.assert_allclose(
        squared_distances(isometric(rows)), squared_distances(rows), atol=1e-8
    )
    assert isometric(rows).shape == (20, 20)


def test_null_of_few_rows_is_that_of_the_covariance() -> None:
    rows = np.random.default_rng(1).normal(size=(9, 14)).cumsum(axis=0)
    found = shifted_participation_ratios(rows, 3, np.random.default_rng(2))
    for value, shifts in zip(
        found, np.random.default_rng(2).integers(9, size=(3, 14)), strict=True
    ):
        rolled = np.stack([np.roll(rows[:, d], -s) for d, s in enumerate(shifts)], axis=1)
        covariance = np.cov(rolled.T)
        assert value == pytest.approx(np.trace(covariance) ** 2 / (covariance**2).sum())


def test_large_spectra_are_found_by_lanczos(monkeypatch: pytest.MonkeyPatch) -> None:
    from driftwave.geometry import dimension

    rows = np.random.default_rng(3).normal(size=(400, 120)) * np.geomspace(4, 0.2, 120)
    gram = rows.T @ rows
    whole = leading(gram, 5)
    monkeypatch.setattr(dimension, "DENSE_BELOW", 100)
    values, vectors = leading(gram, 5)
    np.testing.assert_allclose(values, whole[0], rtol=1e-9)
    np.testing.assert_allclose(np.abs(vectors.T @ whole[1]), np.eye(5), atol=1e-6)


def planted(rank: int, seed: int, *, noise: float = 1.0, repeats: int = 8) -> tuple[Repeats, float]:
    """Averages of so many dimensions, and their variance."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(36, rank)) * np.linspace(3, 1, rank)
    axes, _ = np.linalg.qr(rng.normal(size=(30, rank)))
    signal = (rows @ axes.T).reshape(12, 3, 30)
    values = np.repeat(signal, repeats, axis=0)
    values = values + rng.normal(0, noise, values.shape)
    variance = (rows - rows.mean(axis=0)) ** 2
    return make_repeats(values, np.repeat(np.arange(12), repeats)), variance.sum() / 36


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_signal_dimension_is_the_planted_rank(rank: int) -> None:
    repeats, variance = planted(rank, rank)
    found = signal_spectrum(
        repeats, count=10, splits=2, shuffles=40, rng=np.random.default_rng(rank)
    )
    assert found.dimension == rank
    assert found.total == pytest.approx(variance, rel=0.1)
    assert 1 <= found.participation <= rank + 1e-9
    assert np.abs(found.variance[rank:]).max() < 0.05 * variance


def test_noise_has_no_signal_dimension() -> None:
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(48, 4, 8)).cumsum(axis=1) @ rng.normal(size=(8, 8))
        repeats = make_repeats(values, np.arange(48) % 8)
        found.append(signal_spectrum(repeats, count=5, splits=2, shuffles=40, rng=rng).dimension)
    assert np.count_nonzero(found) <= 3  # .05 of 12 expected; P(> 3) < .002


def test_signal_variance_does_not_grow_with_noise() -> None:
    """Variance of plain averages does: it counts noise as signal."""
    found, plain = [], []
    for noise in (0.5, 2.0):
        repeats, variance = planted(2, 0, noise=noise, repeats=6)
        rng = np.random.default_rng(0)
        spectrum = signal_spectrum(repeats, count=5, splits=4, shuffles=2, rng=rng)
        found.append(spectrum.total / variance)
        rows = repeats.averages().reshape(36, -1)
        plain.append(((rows - rows.mean(axis=0)) ** 2).sum() / 36 / variance)
    assert found == pytest.approx([1, 1], abs=0.25)
    assert plain[1] > 2


def test_halves_have_every_condition() -> None:
    of = np.repeat([0, 1, 2], [2, 3, 7])
    for first in random_halves(of, 20, np.random.default_rng(0)):
        for half in (first, ~first):
            assert set(of[half]) == {0, 1, 2}


@pytest.mark.parametrize(("dims", "tolerance"), [(1, 0.1), (2, 0.2), (4, 0.5)])
def test_two_nn_of_a_cube_is_its_dimension(dims: int, tolerance: float) -> None:
    points = np.random.default_rng(dims).random((1000, dims))
    turned = points @ np.linalg.qr(np.random.default_rng(0).normal(size=(7, 7)))[0][:dims]
    assert two_nn(squared_distances(turned)) == pytest.approx(dims, abs=tolerance)


def test_two_nn_of_a_swiss_roll_is_two() -> None:
    from sklearn.datasets import make_swiss_roll

    rows = make_swiss_roll(1200, random_state=0)[0]
    whole = two_nn(squared_distances(rows))
    assert whole == pytest.approx(2, abs=0.15)
    scales = by_scale(rows, [np.arange(1200)], (1.0, 0.5), np.random.default_rng(0))
    assert scales[0] == pytest.approx(whole)
    assert scales[1] == pytest.approx(2, abs=0.3)


def test_two_nn_of_smooth_trials_needs_independent_points() -> None:
    """Bins of one trial lie on a line, evenly spaced: no plane is seen in them."""
    dense, apart = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        turn = rng.uniform(0, 2 * np.pi, (200, 1))
        way = np.stack([np.cos(turn), np.sin(turn)], axis=-1) * np.linspace(0, 1, 50)[:, None]
        rows = (way + rng.random((200, 1, 2)) * 5).reshape(-1, 2)
        chosen = rng.choice(len(rows), 800, replace=False)
        dense.append(two_nn(squared_distances(rows[chosen])))
        sets = point_sets((200, 50), spacing=None, most=1000, rng=rng)
        assert all((at // 50 == np.arange(200)).all() for at in sets)
        apart.append(mean_two_nn(rows, sets))
    assert np.mean(dense) < 1.6
    assert np.mean(apart) == pytest.approx(2, abs=0.2)


def test_points_of_abutting_windows_are_spaced() -> None:
    sets = point_sets((20, 30), spacing=7, most=60, rng=np.random.default_rng(0))
    assert all((np.diff(at) >= 7).all() and len(at) == 60 and at[-1] < 600 for at in sets)


def test_too_few_points_have_no_dimension() -> None:
    assert np.isnan(two_nn(squared_distances(np.random.default_rng(0).random((8, 2)))))
    assert np.isnan(two_nn(np.zeros((20, 20))))


def closed_curve(kind: str, step: float = 0.01) -> np.ndarray:
    t = np.arange(0, 2 * np.pi, step)
    parts = {
        "circle": [np.cos(t), np.sin(t)],
        "eight": [np.sin(t), np.sin(2 * t)],
        "lifted": [np.sin(t), np.sin(2 * t), np.cos(t)],
    }[kind]
    return np.stack(parts, axis=-1)[None]


def test_tangling_of_a_circle_has_its_closed_form() -> None:
    for speed in (1.0, 3.0):
        flow = flow_of(5 * closed_curve("circle"), components=8, bin_width=0.01 / speed)
        assert tangling(flow).mean() == pytest.approx(speed**2 * 4 / 4.1, rel=0.01)


def test_an_eight_is_tangled_and_the_lifted_eight_is_not() -> None:
    crossing = [
        tangling(flow_of(closed_curve(kind), components=8, bin_width=0.01))[0, 0]
        for kind in ("eight", "lifted")
    ]
    # Velocities (1, 2) and (-1, 2) at one place; 4 / (.1 x 1); lifted, two apart.
    assert crossing[0] == pytest.approx(40, rel=0.03)
    assert crossing[1] < crossing[0] / 4


def test_a_common_flow_is_less_tangled_than_its_null() -> None:
    """States of one rotation, begun at many phases and radii, against shifted components."""
    rng = np.random.default_rng(0)
    time = np.arange(40) * 0.02
    phase, radius = rng.uniform(0, 2 * np.pi, 12), rng.uniform(0.5, 1.5, 12)
    angle = 8 * time + phase[:, None]
    averages = radius[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    flow = flow_of(averages, components=8, bin_width=0.02)
    null = [np.quantile(tangling(shifted_flow(flow, rng)), 0.9) for _ in range(19)]
    assert np.quantile(tangling(flow), 0.9) < min(null) / 3
    shifted = shifted_flow(flow, rng)
    for dim in range(2):
        np.testing.assert_allclose(
            np.sort(shifted.state[..., dim], axis=None), np.sort(flow.state[..., dim], axis=None)
        )


def test_chunks_and_silent_dims_change_no_tangling(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flow_of(closed_curve("eight", 0.05), components=8, bin_width=0.05)
    whole = tangling(flow)
    monkeypatch.setattr("driftwave.geometry.tangling.ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(tangling(flow), whole)
    silent = np.concatenate([closed_curve("circle"), np.zeros((1, 629, 1))], axis=-1)
    normal = soft_normalised(silent, 0.0)
    assert np.isfinite(normal).all()
    assert np.ptp(normal[..., 0]) == pytest.approx(1)


def test_distance_to_a_line_is_to_its_nearest_place() -> None:
    line = np.array([[0.0, 0], [2, 0], [2, 2]])
    points = np.array([[1.0, 0.5], [-3, 4], [2.5, 1], [2, 3], [1, 0]])
    np.testing.assert_allclose(distance_to_line(points, line), [0.5, 5, 0.5, 1, 0], atol=1e-12)


def bundles(times: int, noise: float) -> Repeats:
    """Arcs of eight conditions from one place, their trials shifted aside, in 20 dims."""
    rng = np.random.default_rng(1)
    t, of = np.linspace(0, 1, times), np.repeat(np.arange(8), 20)
    axes, _ = np.linalg.qr(rng.normal(size=(20, 4)))
    angle = 2 * np.pi * of / 8
    arch = 0.5 * np.sin(np.pi * t)
    arcs = np.stack(
        [
            np.outer(np.cos(angle), t),
            np.outer(np.sin(angle), t),
            np.outer(np.cos(2 * angle), arch),
            np.outer(np.sin(2 * angle), arch),
        ],
        axis=-1,
    )
    values = (arcs + rng.normal(0, 0.25, (160, 1, 4))) @ axes.T
    return make_repeats(values + rng.normal(0, noise, values.shape), of)


def ratio_of(repeats: Repeats) -> float:
    """As the plug-in has it: along components that know no labels, in blocks of time."""
    values = in_blocks(repeats.values)
    rows = values.reshape(-1, values.shape[-1])
    scores = principal_components(rows, 8).project(rows).reshape(*values.shape[:2], -1)
    curves = repeats.with_values(scores)
    null = shuffled_radii(curves, 8, np.random.default_rng(0))
    return float(np.median(radii(curves)) / np.median(null, axis=1).mean())


def naive_ratio(repeats: Repeats) -> float:
    """S_tight over S_tight of shuffled labels, each with the length of its own centre lines."""
    rng = np.random.default_rng(0)
    null = [
        np.median(
            raw_tubularity(Repeats(repeats.values, rng.permutation(repeats.of), repeats.kept))
        )
        for _ in range(3)
    ]
    return float(np.median(raw_tubularity(repeats)) / np.mean(null))


def test_length_and_noise_move_s_tight_but_not_our_ratio() -> None:
    short, long = bundles(15, 0.0), bundles(135, 0.03)
    raw = [float(np.median(raw_tubularity(b))) for b in (short, long)]
    assert raw[0] > 0.35
    assert raw[1] < 0.12
    assert ratio_of(long) == pytest.approx(ratio_of(short), rel=0.05)
    assert naive_ratio(long) > 3 * naive_ratio(short)  # why both are given the same length


def test_bundles_without_condition_have_ratio_one() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(80, 12, 3)).cumsum(axis=1)
    assert ratio_of(make_repeats(values, np.arange(80) % 4)) == pytest.approx(1, abs=0.1)


def test_distances_are_unbiased_and_those_of_all_pairs_of_repeats() -> None:
    rng = np.random.default_rng(3)
    values, of = rng.normal(size=(9, 2, 5)), np.repeat([0, 1, 2], [2, 3, 4])
    repeats = make_repeats(values, of)
    found = pairwise_distances(repeats)
    a, b = values[of == 0], values[of == 2]
    pairs = [
        ((a[i] - b[k]) * (a[j] - b[m])).sum(axis=1)
        for i in range(2)
        for j in range(2)
        for k in range(4)
        for m in range(4)
        if i != j and k != m
    ]
    np.testing.assert_allclose(found[0, 2], np.mean(pairs, axis=0))
    upper = found[np.triu_indices(3, 1)].mean(axis=0)
    np.testing.assert_allclose(mean_distance(repeats.values, repeats.of, 3), upper)


def test_conditions_alike_are_at_distance_zero() -> None:
    rng = np.random.default_rng(4)
    distance = []
    for _ in range(40):
        repeats = make_repeats(rng.normal(size=(24, 3, 10)), np.arange(24) % 4)
        distance.append(mean_distance(repeats.values, repeats.of, 4).mean())
    assert abs(np.mean(distance)) < 3 * np.std(distance) / np.sqrt(40)
    null = shuffled_distances(repeats, 50, rng)
    assert abs(null.mean()) < 3 * null.std() / np.sqrt(50)


def test_speed_is_that_of_the_signal_not_of_noise() -> None:
    rng = np.random.default_rng(5)
    time = np.arange(60) * 0.02
    circle = np.stack([np.cos(5 * time), np.sin(5 * time)], axis=-1)
    of = np.repeat(np.arange(4), 15)
    values = circle + rng.normal(0, 0.3, (60, 60, 2))
    inner = slice(2, -2)
    squared = squared_speed(values, of, 4, 0.02)[:, inner].mean()
    assert squared == pytest.approx(25, rel=0.15)
    biased = np.gradient(values.reshape(4, 15, 60, 2).mean(axis=1), 0.02, axis=1)
    assert (biased[:, inner] ** 2).sum(axis=2).mean() > 30
    repeats = make_repeats(values, of)
    null = unlocked_speeds(repeats, 0.02, 30, rng).mean(axis=1)
    assert squared > null.max()


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(6).normal(size=10)
    found = jackknife(np.arange(10), lambda kept: {"mean": float(values[kept].mean())})
    assert found["mean"] == pytest.approx(values.std(ddof=1) / np.sqrt(10))
    groups = jackknife_groups(np.repeat([0, 1], [20, 40]), np.random.default_rng(0))
    assert np.bincount(groups).tolist() == [6] * 10
    assert np.bincount(groups[:20]).tolist() == [2] * 10


def test_quality_is_scikit_learns_and_a_rotation_keeps_all() -> None:
    from scipy.stats import spearmanr
    from sklearn.manifold import trustworthiness

    rng = np.random.default_rng(7)
    points = rng.normal(size=(60, 5))
    flat = Embedding(points[:, :2], np.zeros(60, int))
    found = kept_neighbourhoods(points, flat, 6)
    assert found[0] == trustworthiness(points, points[:, :2], n_neighbors=6)
    assert found[1] == trustworthiness(points[:, :2], points, n_neighbors=6)
    turned = Embedding(points @ np.linalg.qr(rng.normal(size=(5, 5)))[0], np.zeros(60, int))
    assert kept_neighbourhoods(points, turned, 6) == (1, 1)
    squared = squared_distances(points)
    assert distance_correlation(squared, turned) == pytest.approx(1)
    upper = np.triu_indices(60, 1)
    wanted = spearmanr(squared[upper], squared_distances(points[:, :2])[upper]).statistic
    assert distance_correlation(squared, flat) == pytest.approx(wanted)


@pytest.mark.parametrize("method", ["isomap", "diffusion"])
def test_pieces_of_a_graph_are_embedded_each_by_itself(method: str) -> None:
    rng = np.random.default_rng(8)
    angle = rng.uniform(0, 2 * np.pi, 90)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    far = np.repeat([[0.0, 0], [50, 0], [0, 90]], [45, 40, 5], axis=0)
    points = ring[:90] + far
    found = embed(points, method, components=2, neighbours=4, seed=0)  # type: ignore[arg-type]
    assert np.bincount(found.of).tolist() == [45, 40, 5]
    alone = embed(points[:45], method, components=2, neighbours=4, seed=0)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.abs(found.coordinates[:45]), np.abs(alone.coordinates), atol=1e-6)
    assert found.there[:85].all()
    near = voters(found.coordinates, found.of, np.ones((90, 90), bool), 6)
    assert (found.of[near.index] == found.of[:, None])[near.weight > 0].all()


def test_a_diffusion_map_and_isomap_keep_a_ring() -> None:
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    lifted = np.stack([np.cos(angle + p) for p in np.linspace(0, 3, 9)], axis=1)
    for method in ("isomap", "diffusion"):
        found = embed(lifted, method, components=2, neighbours=8, seed=0)  # type: ignore[arg-type]
        turned = np.unwrap(np.arctan2(*found.coordinates.T))
        assert abs(turned[-1] - turned[0]) == pytest.approx(2 * np.pi * 119 / 120, rel=0.02)
