"""The shape plug-in on planted activity; its rules for what a session lacks; its figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.figures import shape as shape_figure
from driftwave.figures.style import save_figure
from driftwave.manifolds import shape
from driftwave.store import open_dataset, write_tree

FAST = {"surrogates": 19, "shuffles": 19, "most_points": 200, "splits": 2, "signal_components": 8}


def fast(**changes: object) -> shape.Params:
    return shape.Params(**(FAST | changes))


def with_latents(tree: xr.DataTree, latent: np.ndarray, name: str = "latent") -> xr.Dataset:
    coords = {key: tree["spikes"][key].values for key in ("trial", "time")}
    return xr.Dataset({name: (("trial", "time", "latent"), latent)}, coords)


def planted(noise: float = 0.3) -> tuple[xr.DataTree, xr.Dataset]:
    """Rotations of six phases in a plane of ten dims, with noise of every trial."""
    tree = make_recording()
    rng = np.random.default_rng(1)
    axes, _ = np.linalg.qr(rng.normal(size=(10, 2)))
    state = tree["truth/state"].values[..., :2]
    return tree, with_latents(tree, state @ axes.T + rng.normal(0, noise, (60, 30, 10)))


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    return shape.analyse(*planted(), fast(), seed=0).squeeze("features_from")


def measure(result: xr.Dataset, name: str, variable: str = "value") -> float:
    return float(result[variable].sel(measure=name).squeeze())


def test_planted_plane_is_measured(found: xr.Dataset) -> None:
    assert measure(found, "signal_dimension") == 2
    assert measure(found, "signal_participation_ratio") == pytest.approx(2, abs=0.1)
    # Not the participation ratio: shifts keep activity of one frequency in its plane.
    for name in ("signal_dimension", "speed"):
        assert measure(found, name, "p_value") == 1 / 20
    assert measure(found, "condition_distance", "p_value") == 1 / 20
    assert (found["q_distance"] == 1 / 20).all()
    # Points a sixth of a turn or more apart on a unit circle: mean squared distance 12 / 5.
    np.testing.assert_allclose(found["distance"], 2.4, rtol=0.3)
    assert found["pairwise_distance"].mean("average_time")[0, 3] == pytest.approx(4, rel=0.15)
    # 2.5 turns a second.
    assert measure(found, "speed") == pytest.approx(2 * np.pi * 2.5, rel=0.15)
    errors = found["standard_error"].drop_sel(measure="signal_dimension")
    assert (errors > 0).all()
    assert found.attrs["resampled"] == "units"
    assert found["explained_variance_ratio"].sel(component=[1, 2]).sum() > 0.9


def test_bundles_apart_are_tubes() -> None:
    tree, latents = planted()
    place = 3 * np.random.default_rng(7).normal(size=(6, 1, 10))
    apart = latents.assign(latent=latents["latent"] + place[tree["trials/condition"].values])
    found = shape.analyse(tree, apart, fast(), seed=0).squeeze("features_from")
    assert measure(found, "tubularity_ratio") < 0.3
    assert measure(found, "tubularity_ratio", "p_value") == 1 / 20
    assert (found["tubularity_ratio_of_condition"] < 0.4).all()


def test_errors_can_be_of_trials(found: xr.Dataset) -> None:
    other = shape.analyse(*planted(), fast(resample="trials"), seed=0).squeeze("features_from")
    for name in ("participation_ratio", "condition_distance", "tangling", "tubularity_ratio"):
        assert measure(other, name) == pytest.approx(measure(found, name))
        assert measure(other, name, "standard_error") > 0
    assert measure(other, "condition_distance", "standard_error") < 0.2


def test_tangling_of_behaviour_is_beside(found: xr.Dataset) -> None:
    # The hand follows the rotation: little tangled, as a circle at 5 pi rad/s is.
    circle = (5 * np.pi) ** 2 * 4 / 4.1
    assert float(found["tangling_behaviour"]) == pytest.approx(circle, rel=1)
    assert found["tangling_of_state"].dims == ("condition", "time")
    assert found["tangling_of_state"].notnull().all()


def test_rates_are_hertz_again_for_tangling() -> None:
    """Soft normalisation is by 5 Hz, so that rates, not their roots, must come to it."""
    from driftwave.geometry.repeats import make_repeats
    from driftwave.geometry.tangling import flow_of, soft_normalised, tangling

    tree = make_recording()
    rate = tree["truth/rate"].values
    coords = {key: tree["spikes"][key].values for key in ("trial", "time", "unit")}
    latents = xr.Dataset({"rate": (("trial", "time", "unit"), rate)}, coords)
    found = shape.analyse(tree, latents, fast(), seed=0)
    averages = make_repeats(rate[:, :25], tree["trials/condition"].values).averages()
    flow = flow_of(soft_normalised(averages, 5.0), components=8, bin_width=0.02)
    assert measure(found, "tangling") == pytest.approx(np.quantile(tangling(flow), 0.9))


def test_signal_that_repeats_nothing_is_none() -> None:
    tree = make_recording()
    noise = np.random.default_rng(2).normal(size=(60, 30, 6)).cumsum(axis=1)
    found = shape.analyse(tree, with_latents(tree, noise), fast(shuffles=39), seed=0)
    assert measure(found, "signal_dimension") == 0
    assert np.isnan(measure(found, "signal_participation_ratio"))
    assert measure(found, "tubularity_ratio", "p_value") > 0.02
    assert measure(found, "condition_distance", "p_value") > 0.02


def test_one_trial_per_condition_leaves_what_needs_no_repeat() -> None:
    tree, latents = planted()
    tree["trials/condition"].values[:] = np.arange(60)
    found = shape.analyse(tree, latents, fast(), seed=0)
    for name in ("participation_ratio", "two_nn", "tangling"):
        assert np.isfinite(measure(found, name))
    for name in ("signal_dimension", "tubularity_ratio", "condition_distance", "speed"):
        assert np.isnan(measure(found, name))
        assert np.isnan(measure(found, name, "p_value"))
    assert len(found.attrs["conditions_left_out"].split(", ")) == 60


def test_a_condition_of_one_trial_is_left_out_and_named() -> None:
    tree, latents = planted()
    condition = tree["trials/condition"].values
    condition[condition == 5] = 4
    condition[7] = 5
    found = shape.analyse(tree, latents, fast(), seed=0).squeeze("features_from")
    assert found.attrs["conditions_left_out"] == "5"
    assert found["pairwise_distance"].sel(condition="5").isnull().all()
    assert found["tubularity_ratio_of_condition"].isnull().values.tolist() == [False] * 5 + [True]
    assert found["tangling_of_state"].sel(condition="5").notnull().all()


def test_conditions_of_bins_repeat_in_blocks() -> None:
    rng = np.random.default_rng(3)
    tree = make_recording(trials=60, bins=30, forward=0, contiguous=True)
    tree["trials/condition"].values[:] = 0
    angle = rng.uniform(-np.pi, np.pi, (60, 30, 1))
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
    tuned = np.cos(angle - np.linspace(0, 2 * np.pi, 8, endpoint=False))
    latents = with_latents(tree, tuned + rng.normal(0, 0.5, tuned.shape))
    found = shape.analyse(tree, latents, fast(), seed=0)
    assert measure(found, "signal_dimension") == 2
    assert measure(found, "condition_distance", "p_value") == 1 / 20
    assert np.isnan(measure(found, "tangling"))
    assert np.isnan(measure(found, "tubularity_ratio"))


def test_results_do_not_depend_on_the_order_of_dims() -> None:
    tree = make_recording()
    turned = tree.copy(deep=True)
    turned["spikes"] = xr.DataTree(tree["spikes"].to_dataset().transpose("unit", "time", "trial"))
    first, second = (shape.analyse(t, None, fast(), seed=0) for t in (tree, turned))
    xr.testing.assert_identical(first, second)


def test_fewer_dims_than_components_and_constant_ones() -> None:
    tree = make_recording()
    latent = np.random.default_rng(4).normal(size=(60, 30, 4))
    latent[..., 3] = 7
    found = shape.analyse(tree, with_latents(tree, latent), fast(), seed=0)
    assert found.attrs["constant_dims"] == "latents: 1"
    assert measure(found, "participation_ratio") == pytest.approx(3, abs=0.1)
    latent[..., 1:3] = 7
    with pytest.raises(InputError, match="1 dims that vary in 60 trials, expected at least 2"):
        shape.analyse(tree, with_latents(tree, latent), fast(), seed=0)
    latent[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        shape.analyse(tree, with_latents(tree, latent), fast(), seed=0)


def test_result_survives_its_store_and_has_units(found: xr.Dataset, tmp_path: Path) -> None:
    write_tree(found, tmp_path / "shape.zarr")
    xr.testing.assert_equal(open_dataset(tmp_path / "shape.zarr").load(), found)
    assert all(found[name].attrs["units"] for name in found.data_vars)


@pytest.mark.parametrize("conditions", [pytest.param(True, marks=pytest.mark.slow), False])
def test_figure_shows_what_there_is(conditions: bool, tmp_path: Path) -> None:
    tree, latents = planted()
    if not conditions:
        tree["trials/condition"].values[:] = 0
        del tree["behavior"]
    result = shape.analyse(tree, latents, fast(surrogates=5, shuffles=5), seed=0)
    figure = shape_figure.draw(None, {"geometry": result})
    titles = {axes.get_title() for axes in figure.axes}
    words = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert ("signal dimension 2" in titles) == conditions
    assert ("no condition repeats" in words) == (not conditions)
    save_figure(figure, tmp_path / "shape")
    assert (tmp_path / "shape.png").stat().st_size > 10_000
    with pytest.raises(InputError, match="Give the result of the plug-in shape"):
        shape_figure.draw(None, {"geometry": xr.Dataset({"other": 1})})
