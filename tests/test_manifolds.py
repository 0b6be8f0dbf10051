"""Manifolds against scikit-learn, closed forms and planted conditions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sklearn.decomposition import PCA

from conftest import make_recording
from driftwave.decoding import ridge
from driftwave.errors import InputError
from driftwave.figures import decoding as decoding_figure
from driftwave.figures import manifold as manifold_figure
from driftwave.figures.style import save_figure
from driftwave.geometry.conditions import Conditions, find_conditions
from driftwave.geometry.dimension import (
    participation_ratio,
    principal_components,
    shifted_participation_ratios,
)
from driftwave.manifolds import pca
from driftwave.store import open_dataset, write_tree

FAST = pca.Params(shuffles=100)


def as_latents(tree: xr.DataTree, latent: np.ndarray, rate: np.ndarray | None = None) -> xr.Dataset:
    coords = tree["spikes"].to_dataset().coords
    data = {"latent": (("trial", "time", "latent"), latent)}
    if rate is not None:
        data["rate"] = (("trial", "time", "unit"), rate)
    return xr.Dataset(data, coords={k: coords[k] for k in ("trial", "time")})


def one_condition(features: np.ndarray, names: list[str], kinds: list[str]) -> xr.DataTree:
    """A continuous recording with one condition and some behaviour (trial, time, feature)."""
    trials, bins, _ = features.shape
    tree = make_recording(trials=trials, bins=bins, forward=0, contiguous=True)
    tree["trials/condition"].values[:] = 0
    tree["behavior"] = xr.DataTree(
        xr.Dataset(
            {"value": (("trial", "time", "feature"), features)},
            coords={
                "feature": names,
                "kind": ("feature", kinds),
                "unit_of_measure": ("feature", ["m"] * len(names)),
            },
        )
    )
    return tree


def test_components_are_scikit_learns() -> None:
    rows = np.random.default_rng(0).normal(size=(80, 6)) @ np.diag([5, 3, 2, 1, 0.5, 0.1]) + 4
    other = np.random.default_rng(1).normal(size=(50, 6)) @ np.diag([1, 3, 2, 4, 0.5, 0.1])
    ours = principal_components(rows, 4)
    oracle = PCA(4).fit(rows)
    np.testing.assert_allclose(ours.ratio, oracle.explained_variance_ratio_, atol=1e-12)
    np.testing.assert_allclose(np.abs(ours.project(other)), np.abs(oracle.transform(other)))
    along = oracle.transform(other).var(axis=0) / other.var(axis=0).sum()
    np.testing.assert_allclose(ours.ratio_of(other), along)
    assert (ours.axes[np.abs(ours.axes).argmax(0), range(4)] > 0).all()


def test_constant_rows_have_no_components() -> None:
    with pytest.raises(ValueError, match="do not vary"):
        principal_components(np.ones((5, 3)), 2)


@pytest.mark.parametrize("spectrum", [[1, 1, 1, 1], [1, 0, 0, 0], [4, 2, 1, 1]])
def test_participation_ratio_has_its_closed_form(spectrum: list[float]) -> None:
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(50, 4))
    scores, _ = np.linalg.qr(draws - draws.mean(axis=0))
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    rows = scores @ np.diag(np.sqrt(spectrum)) @ rotation + 3  # an offset must not count
    wanted = sum(spectrum) ** 2 / sum(value**2 for value in spectrum)
    assert participation_ratio(rows) == pytest.approx(wanted)


def test_null_shifts_every_dim_by_itself() -> None:
    rows = np.random.default_rng(3).normal(size=(40, 3)).cumsum(axis=0)
    ours = shifted_participation_ratios(rows, 5, np.random.default_rng(4))
    shifts = np.random.default_rng(4).integers(40, size=(5, 3))
    for found, shift in zip(ours, shifts, strict=True):
        rolled = np.stack([np.roll(rows[:, d], -s) for d, s in enumerate(shift)], axis=1)
        assert found == pytest.approx(participation_ratio(rolled))


def test_null_of_one_frequency_stays_in_its_plane() -> None:
    """Why the docstring warns: shifts cannot take a sinusoid out of its cosine and sine."""
    phase = np.arange(5)
    rows = np.cos(2 * np.pi * np.arange(400)[:, None] / 40 + phase)
    null = shifted_participation_ratios(rows, 20, np.random.default_rng(0))
    assert null.max() < 2 + 1e-9


def test_null_is_uniform_for_independent_dims() -> None:
    p = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(400, 5))
        rows = noise + np.roll(noise, 1, axis=0) + np.roll(noise, 2, axis=0)
        null = shifted_participation_ratios(rows, 39, rng)
        p.append((1 + (null <= participation_ratio(rows)).sum()) / 40)
    for level in (0.1, 0.25, 0.5, 0.75, 0.9):
        tolerance = 3 * np.sqrt(level * (1 - level) / 150)
        assert (np.array(p) <= level).mean() == pytest.approx(level, abs=tolerance)


def test_planted_plane_has_fewer_dims_than_its_null() -> None:
    tree = make_recording()
    rng = np.random.default_rng(5)
    plane = rng.normal(size=(60, 30, 2)).cumsum(axis=1) @ rng.normal(size=(2, 10))
    latents = as_latents(tree, plane + rng.normal(0, 0.05, plane.shape))
    found = pca.analyse(tree, latents, FAST, seed=0).squeeze("features_from")
    assert (found["participation_ratio"] < 2.1).all()
    assert (found["participation_ratio"] < found["null_participation_ratio"].min("shuffle")).all()
    assert (found["p_value"] == 1 / 101).all()
    share = found["explained_variance_ratio_test"].sel(level="trials")
    assert share.sel(component=[1, 2]).sum() > 0.97


def test_trajectories_are_projected_condition_averages() -> None:
    tree = make_recording(forward=5)
    rate = tree["truth/rate"].values
    latents = as_latents(tree, tree["truth/state"].values, rate)
    found = pca.analyse(tree, latents, FAST, seed=0)
    assert found["features_from"].values.tolist() == ["rates", "latents"]
    condition = tree["trials/condition"].values
    features = np.sqrt(rate[:, :25])
    means = np.stack([features[condition == k].mean(0) for k in range(6)])
    oracle = PCA(10).fit(means.reshape(-1, 12))
    wanted = oracle.transform(means.reshape(-1, 12)).reshape(6, 25, 10)
    ours = found["trajectory"].sel(features_from="rates").values
    np.testing.assert_allclose(np.abs(ours[..., :3]), np.abs(wanted[..., :3]), atol=1e-6)
    ratio = found["explained_variance_ratio"].sel(features_from="rates", level="conditions")
    np.testing.assert_allclose(ratio, oracle.explained_variance_ratio_, atol=1e-9)
    single = found["trial_projection"].sel(features_from="rates").values
    by_condition = np.stack([single[condition == k].mean(0) for k in range(6)])
    np.testing.assert_allclose(by_condition[..., :3], ours[..., :3], atol=1e-4)
    np.testing.assert_array_equal(found["condition_of_trial"], condition)
    assert found["loading_rates"].shape == (12, 10)
    assert found["loading_latents"].shape == (4, 4)
    assert found["trajectory"].sel(features_from="latents", component=5).isnull().all()


def test_test_share_is_of_components_of_the_other_trials() -> None:
    tree = make_recording()
    state = tree["truth/state"].values
    latent = state + np.random.default_rng(6).normal(0, 0.5, state.shape)
    found = pca.analyse(tree, as_latents(tree, latent), FAST, seed=0).squeeze("features_from")
    test = tree["trials/split"].values == "test"
    seen = latent[:, :25]
    oracle = PCA(4).fit(seen[~test].reshape(-1, 4))
    rows = seen[test].reshape(-1, 4)
    wanted = oracle.transform(rows).var(axis=0) / rows.var(axis=0).sum()
    ours = found["explained_variance_ratio_test"].sel(level="trials").values[:4]
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)
    condition = tree["trials/condition"].values
    fit, held = (
        np.concatenate([seen[mask & (condition == k)].mean(0) for k in np.unique(condition[mask])])
        for mask in (~test, test)
    )
    wanted = PCA(4).fit(fit).transform(held).var(axis=0) / held.var(axis=0).sum()
    ours = found["explained_variance_ratio_test"].sel(level="conditions").values[:4]
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)


def test_hidden_bins_units_and_unused_trials_change_nothing() -> None:
    tree = make_recording()
    tree["trials/split"].values[:4] = "unused"
    before = pca.analyse(tree, None, FAST, seed=0)
    counts = tree["spikes/counts"].values
    counts[:, -5:] += 30
    counts[:4] += 30
    counts[:, :, tree["units/held_out"].values] += 30
    xr.testing.assert_identical(before, pca.analyse(tree, None, FAST, seed=0))
    assert before["loading_smoothed_counts"].shape[0] == 9
    assert before.sizes["trial"] == 56


def test_heading_is_divided_into_sectors() -> None:
    degrees = np.array([0.0, 22.0, 23.0, -22.0, -23.0, 180.0, -180.0, 90.0, np.nan, 337.0])
    tree = one_condition(np.radians(degrees).reshape(5, 2, 1), ["yaw"], ["circular"])
    tree["trials/split"].values[:] = "train"
    found = find_conditions(tree)
    assert found.rule == "sector of yaw"
    assert found.circular
    assert found.of.ravel().tolist() == [0, 0, 1, 0, 7, 4, 4, 2, -1, 7]


def test_movement_is_divided_by_its_direction_above_median_speed() -> None:
    angle = np.radians([0, 45, 90, 135, 180, 225])
    speed = np.array([1, 9, 8, 7, 2, 3.0])
    xy = np.stack([speed * np.cos(angle), speed * np.sin(angle)], -1).reshape(3, 2, 2)
    tree = one_condition(xy, ["hand_velocity_x", "hand_velocity_y"], ["continuous"] * 2)
    tree["trials/split"].values[:] = "train"
    found = find_conditions(tree)
    assert found.of.ravel().tolist() == [-1, 1, 2, 3, -1, -1]
    assert "hand_velocity" in found.rule


def test_other_behaviour_is_divided_into_quantiles() -> None:
    tree = one_condition(np.arange(80.0).reshape(8, 10, 1), ["pupil"], ["continuous"])
    tree["trials/split"].values[:] = "train"
    found = find_conditions(tree)
    np.testing.assert_array_equal(found.of.ravel(), np.arange(80) // 10)
    assert found.labels[0] == "1 of 8"
    del tree["behavior"]
    assert find_conditions(tree).labels == []


def test_conditions_carry_the_stimulus_that_tells_them_apart() -> None:
    tree = make_recording()
    direction = tree["trials/condition"].values * 60.0
    column = ("trial", direction, {"period": 360.0})
    tree["stimulus"] = xr.DataTree(xr.Dataset({"direction": column}))
    found = find_conditions(tree)
    assert found.labels == ["0", "60", "120", "180", "240", "300"]
    assert found.circular
    tree["stimulus"] = xr.DataTree(xr.Dataset({"one": column, "two": column}))
    assert find_conditions(tree).labels == list("012345")


def test_ring_of_preferred_directions_is_two_dimensional() -> None:
    rng = np.random.default_rng(7)
    angle = rng.uniform(-np.pi, np.pi, (40, 30))
    tree = one_condition(angle[..., None], ["yaw"], ["circular"])
    preferred = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    activity = np.cos(angle[..., None] - preferred) + rng.normal(0, 0.3, (40, 30, 9))
    latents = as_latents(tree, activity)
    found = pca.analyse(tree, latents, FAST, seed=0).squeeze("features_from")
    assert found["condition_state"].dims == ("condition", "component")
    ratio = found["explained_variance_ratio"].sel(level="conditions")
    assert ratio.sel(component=[1, 2]).sum() > 0.98
    state = found["condition_state"].values[:, :2]
    turned = np.unwrap(np.arctan2(state[:, 1], state[:, 0]))
    assert np.abs(np.abs(np.diff(turned)) - np.pi / 4).max() < 0.1
    assert found["participation_ratio"].sel(level="conditions") == pytest.approx(2, abs=0.1)


def test_sparse_bins_make_no_average() -> None:
    of = np.repeat([0, 1], [9, 31]).reshape(4, 10)
    averages = Conditions("test", ["few", "many"], of).averages(np.ones((4, 10, 2)))
    assert np.isnan(averages[0]).all()
    assert (averages[1] == 1).all()


def test_no_conditions_leave_single_trials() -> None:
    tree = make_recording()
    tree["trials/condition"].values[:] = 0
    del tree["behavior"]
    found = pca.analyse(tree, None, FAST, seed=0)
    assert found["level"].values.tolist() == ["trials"]
    assert "trajectory" not in found
    assert found["participation_ratio"].notnull().all()


def test_standardised_dims_count_alike() -> None:
    tree = make_recording()
    rng = np.random.default_rng(8)
    latent = rng.normal(size=(60, 30, 4)) * [1, 1, 1, 100]
    plain = pca.analyse(tree, as_latents(tree, latent), FAST, seed=0)
    even = pca.Params(shuffles=100, standardise=True)
    scaled = pca.analyse(tree, as_latents(tree, latent), even, seed=0)
    assert plain["participation_ratio"].sel(level="trials").item() < 1.01
    assert scaled["participation_ratio"].sel(level="trials").item() > 3.9


def test_latents_of_the_field_are_refused() -> None:
    latents = xr.Dataset({"latent": (("time", "latent"), np.zeros((100, 4)))})
    with pytest.raises(InputError, match="Leave the manifold out for this model"):
        pca.analyse(make_recording(), latents, FAST, seed=0)


def test_silent_recording_is_one_sentence() -> None:
    tree = make_recording()
    tree["spikes/counts"].values[:] = 0
    with pytest.raises(InputError, match="smoothed_counts: found no variation at all"):
        pca.analyse(tree, None, FAST, seed=0)


def test_result_survives_its_store(tmp_path: Path) -> None:
    found = pca.analyse(make_recording(), None, FAST, seed=0)
    write_tree(found, tmp_path / "manifold.zarr")
    again = open_dataset(tmp_path / "manifold.zarr").load()
    xr.testing.assert_equal(again, found)
    assert all(found[name].attrs["units"] for name in found.data_vars)


def figures_of(kind: str) -> xr.DataTree:
    if kind == "conditions":
        return make_recording(bins=16)
    angle = np.random.default_rng(9).uniform(-np.pi, np.pi, (60, 16, 1))
    tree = one_condition(angle, ["yaw"], ["circular"])
    if kind == "nothing":
        del tree["behavior"]
    return tree


@pytest.mark.parametrize(
    "kind",
    ["conditions", *(pytest.param(k, marks=pytest.mark.slow) for k in ("sectors", "nothing"))],
)
def test_manifold_figure_shows_every_source(kind: str, tmp_path: Path) -> None:
    tree = figures_of(kind)
    latents = as_latents(tree, tree["truth/state"].values, tree["truth/rate"].values)
    figure = manifold_figure.draw(None, {"manifold": pca.analyse(tree, latents, FAST, seed=0)})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title for title in titles if title] == ["rates", "latents"]
    save_figure(figure, tmp_path / "manifold")
    assert (tmp_path / "manifold.png").stat().st_size > 10_000
    with pytest.raises(InputError, match="found 0 results, expected one"):
        manifold_figure.draw(None, {})


@pytest.mark.parametrize("kind", [pytest.param("conditions", marks=pytest.mark.slow), "sectors"])
def test_decoding_figure_shows_every_source(kind: str, tmp_path: Path) -> None:
    tree = figures_of(kind)
    latents = as_latents(tree, tree["truth/state"].values)
    params = ridge.Params(shuffles=20, classifier_shuffles=5)
    results = {
        "recording": ridge.analyse(tree, None, params, seed=0),
        "toy": ridge.analyse(tree, latents, params, seed=0),
    }
    figure = decoding_figure.draw(None, results)
    first = figure.axes[0]
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert labels == ["counts", "smoothed counts", "toy, latents"]
    titles = {axes.get_title() for axes in figure.axes}
    assert {"hand x", "hand y"} <= titles if kind == "conditions" else {"yaw"} <= titles
    save_figure(figure, tmp_path / "decoding")
    assert (tmp_path / "decoding.svg").stat().st_size > 10_000


def test_decoding_figure_of_nothing_is_one_sentence() -> None:
    with pytest.raises(InputError, match="Decode the recording first"):
        decoding_figure.draw(None, {})
