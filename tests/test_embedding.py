"""Embeddings of planted rings, piles and pieces; their nulls, bad input and figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.figures import embedding as embedding_figure
from driftwave.figures.style import save_figure
from driftwave.manifolds import embedding
from driftwave.store import open_dataset, write_tree

FAST = {"methods": ["pca", "isomap", "diffusion"], "surrogates": 2, "neighbours": 8}


def fast(**changes: object) -> embedding.Params:
    return embedding.Params(**(FAST | changes))


def with_latents(tree: xr.DataTree, latent: np.ndarray) -> xr.Dataset:
    coords = {name: tree["spikes"][name].values for name in ("trial", "time")}
    return xr.Dataset({"latent": (("trial", "time", "latent"), latent)}, coords)


def ring(noise: float, *, seed: int = 0) -> tuple[xr.DataTree, xr.Dataset]:
    """Twelve conditions on a ring in nine dims, in random order: shifts would keep a cycle."""
    tree = make_recording(trials=96)
    rng = np.random.default_rng(seed)
    condition = rng.permutation(np.arange(96) % 12)
    tree["trials/condition"].values[:] = condition
    angle = 2 * np.pi * condition / 12
    tuned = np.cos(angle[:, None] - np.linspace(0, 2 * np.pi, 9, endpoint=False))
    latent = tuned[:, None] + rng.normal(0, noise, (96, 30, 9))
    return tree, with_latents(tree, latent)


def heading(*, known: bool = True) -> tuple[xr.DataTree, xr.Dataset]:
    """A continuous session with a heading, and latents tuned to it or to another one."""
    tree = make_recording(trials=40, bins=20, forward=0, contiguous=True)
    tree["trials/condition"].values[:] = 0
    rng = np.random.default_rng(3)
    own, other = rng.normal(0, 0.35, (2, 800)).cumsum(axis=1)
    shown = own if known else other
    angle = np.angle(np.exp(1j * shown)).reshape(40, 20, 1)
    tree["behavior"] = xr.DataTree(
        xr.Dataset(
            {"value": (("trial", "time", "feature"), angle)},
            coords={
                "feature": ["yaw"],
                "kind": ("feature", ["circular"]),
                "unit_of_measure": ("feature", ["rad"]),
            },
        )
    )
    tuned = np.cos(own[:, None] - np.linspace(0, 2 * np.pi, 8, endpoint=False))
    latent = (tuned + rng.normal(0, 0.2, tuned.shape)).reshape(40, 20, 8)
    return tree, with_latents(tree, latent)


def test_a_ring_of_conditions_is_kept_and_told() -> None:
    tree, latents = ring(0.3)
    condition = tree["trials/condition"].values
    found = embedding.analyse(tree, latents, fast(components=2), seed=0).squeeze("features_from")
    assert found.attrs["points"] == "trials"
    assert (found["separability"] > 0.9).all()
    assert (found["p_separability"] == 1 / 1001).all()
    assert found["null_separability"].mean() == pytest.approx(1 / 12, abs=0.03)
    assert (found["trustworthiness"] > found["null_trustworthiness"].max("surrogate")).all()
    assert (found["continuity"] > found["null_continuity"].max("surrogate")).all()
    assert found["separability_activity"] > 0.9
    x, y = found["coordinate"].sel(embedding="pca").values[:, :2].T
    centre = [np.exp(1j * np.arctan2(y, x))[condition == k].mean() for k in range(12)]
    turned = np.abs(np.angle(np.array(centre) / np.roll(centre, 1)))
    np.testing.assert_allclose(turned, np.pi / 6, atol=0.15)


@pytest.mark.slow
def test_no_condition_is_told_where_there_is_none() -> None:
    p = []
    for seed in range(8):
        tree, latents = ring(0.3, seed=seed)
        order = np.random.default_rng(seed).permutation(96)
        latents = latents.assign(
            latent=latents["latent"].copy(data=latents["latent"].values[order])
        )
        found = embedding.analyse(tree, latents, fast(methods=["pca"], surrogates=1), seed=seed)
        p.append(found["p_separability"].item())
    assert min(p) > 0.01
    assert 0.1 < np.mean(p) < 0.95


def test_heading_is_told_from_bins_and_another_heading_is_not() -> None:
    params = fast(methods=["pca"], components=2, surrogates=1, gap=0.2, most_points=400)
    found = embedding.analyse(*heading(), params, seed=0).squeeze()
    assert found.attrs["points"] == "time_points"
    assert found.attrs["points_available"] == 800
    assert found.sizes["point"] == 400
    assert found["behaviour_r2"] > 0.8
    # Shifts of at least a tenth of 800 bins: no more than 641 of them.
    assert found.sizes["permutation"] == 641
    assert found["p_behaviour_r2"] < 0.01
    other = embedding.analyse(*heading(known=False), params, seed=0).squeeze()
    assert other["p_behaviour_r2"] > 0.02
    assert other["behaviour_r2"] < 0.4


def test_no_neighbour_is_of_the_same_trial_or_near_in_time() -> None:
    from driftwave.geometry.activity import session_of
    from driftwave.geometry.points import allowed_neighbours, make_grid

    tree, latents = heading()
    session = session_of(tree)
    rng = np.random.default_rng(0)
    grid = make_grid(latents["latent"].values, "time_points", session, 300, rng)
    allowed = allowed_neighbours(grid, session, 0.3)
    when = session.clock.ravel()[grid.at]
    assert not allowed[grid.row[:, None] == grid.row].any()
    assert not allowed[np.abs(when[:, None] - when) < 0.29].any()
    assert allowed[(grid.row[:, None] != grid.row) & (np.abs(when[:, None] - when) > 0.31)].all()


@pytest.mark.parametrize(
    ("kind", "count"),
    [("trials", 60), ("conditions", 6), ("time_points", 100), ("trajectories", 100)],
)
def test_points_are_what_was_asked(kind: str, count: int) -> None:
    tree = make_recording()
    params = fast(points=kind, methods=["pca"], most_points=100)
    found = embedding.analyse(tree, None, params, seed=0)
    assert found.sizes["point"] == count
    assert found.attrs["points"] == kind
    assert ("separability" in found) == (kind in ("trials", "time_points"))
    condition = tree["trials/condition"].values
    if kind == "trials":
        np.testing.assert_array_equal(found["condition_of_point"], condition)
    if kind == "time_points":
        trial = found["trial_of_point"].values
        np.testing.assert_array_equal(found["condition_of_point"], condition[trial])


def test_results_do_not_depend_on_the_order_of_dims() -> None:
    """Ideal direction-tuned units: flattened the wrong way round, they would lose their tuning."""
    tree = make_recording(trials=48, units=12, held_out=0, forward=0)
    direction = np.arange(48) % 6 * 60.0
    preferred = np.radians(np.arange(12) * 30)
    tuned = 4 + 4 * np.cos(np.radians(direction)[:, None, None] - preferred)
    counts = np.round(tuned + np.zeros((48, 30, 12))).astype(np.uint16)
    tree["spikes/counts"].values[:] = counts
    turned = tree.copy(deep=True)
    for order in (("unit", "time", "trial"), ("time", "trial", "unit")):
        spikes = tree["spikes"].to_dataset().transpose(*order)
        turned["spikes"] = xr.DataTree(spikes)
        params = fast(methods=["pca"], surrogates=1)
        first, second = (embedding.analyse(t, None, params, seed=0) for t in (tree, turned))
        xr.testing.assert_identical(first, second)
    assert first["separability"].item() == 1


def test_methods_of_one_seed_repeat_and_constant_units_change_nothing() -> None:
    tree = make_recording()
    tree["spikes/counts"].values[:, :, 2] = 3
    params = fast(surrogates=1)
    first, again = (embedding.analyse(tree, None, params, seed=4) for _ in range(2))
    xr.testing.assert_identical(first, again)
    assert first.attrs["constant_dims"] == "smoothed_counts: 1"


def test_bad_input_is_one_sentence() -> None:
    tree = make_recording()
    latent = np.random.default_rng(0).normal(size=(60, 30, 4))
    latent[3, 4, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        embedding.analyse(tree, with_latents(tree, latent), fast(), seed=0)
    flat = np.zeros((60, 30, 4))
    flat[..., 0] = latent[..., 0]
    with pytest.raises(InputError, match="1 dims that vary"):
        embedding.analyse(tree, with_latents(tree, np.nan_to_num(flat)), fast(), seed=0)
    with pytest.raises(InputError, match="6 conditions, expected at least 8"):
        embedding.analyse(tree, None, fast(points="conditions", components=5), seed=0)
    bins, latents = heading()
    with pytest.raises(InputError, match="expected conditions of the trials"):
        embedding.analyse(bins, latents, fast(points="trajectories"), seed=0)


def test_more_components_than_dims_are_zero() -> None:
    tree = make_recording()
    latent = np.random.default_rng(0).normal(size=(60, 30, 2))
    found = embedding.analyse(
        tree, with_latents(tree, latent), fast(components=4, methods=["pca"]), seed=0
    )
    assert (found["coordinate"].sel(component=[3, 4]) == 0).all()


@pytest.mark.slow
def test_pieces_are_named_in_result_and_figure(tmp_path: Path) -> None:
    tree, latents = ring(0.2)
    side = tree["trials/condition"].values < 5
    apart = np.where(side, 100.0, 0.0)[:, None, None]
    latents = latents.assign(latent=latents["latent"] + apart)
    found = embedding.analyse(tree, latents, fast(surrogates=1), seed=0)
    piece = found["graph_component"].squeeze("features_from")
    assert set(piece.sel(embedding="diffusion").values) >= {0, 1}
    assert (piece.sel(embedding="pca") == 0).all()
    for label in np.unique(piece.sel(embedding="diffusion")):
        assert len(set(side[piece.sel(embedding="diffusion").values == label])) == 1
    write_tree(found, tmp_path / "e.zarr")
    xr.testing.assert_equal(open_dataset(tmp_path / "e.zarr").load(), found)
    figure = embedding_figure.draw(None, {"geometry": found})
    words = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"piece 0", "piece 1"} <= words
    save_figure(figure, tmp_path / "embedding")
    assert (tmp_path / "embedding.png").stat().st_size > 10_000


@pytest.mark.slow
def test_figure_of_bins_has_behaviour_and_refuses_others(tmp_path: Path) -> None:
    found = embedding.analyse(*heading(), fast(surrogates=1, most_points=150), seed=0)
    figure = embedding_figure.draw(None, {"geometry": found})
    ticks = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    assert "yaw\nR2" in ticks
    save_figure(figure, tmp_path / "embedding")
    with pytest.raises(InputError, match="found 0 results"):
        embedding_figure.draw(None, {})
    with pytest.raises(InputError, match="Give the result of the plug-in embedding"):
        embedding_figure.draw(None, {"geometry": xr.Dataset({"other": 1})})


@pytest.mark.slow
def test_umap_keeps_a_ring_and_repeats() -> None:
    tree, latents = ring(0.2)
    params = fast(methods=["umap"], surrogates=1)
    first, again = (embedding.analyse(tree, latents, params, seed=0) for _ in range(2))
    assert first["separability"].item() > 0.9
    assert first["trustworthiness"].item() > 0.9
    xr.testing.assert_identical(first, again)
