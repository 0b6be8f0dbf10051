"""Encoding manifold: the store, its rules for bad input, the simulator and the figure."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.compute import dask_threads
from driftwave.encoding.neural_factors import QUICK, Params, analyse
from driftwave.errors import InputError
from driftwave.experiments import planted_factors as experiment
from driftwave.figures import encoding as figure
from driftwave.graphs.knn import nearest
from driftwave.graphs.surrogates import deepest_by_chance, prominence
from driftwave.ingest.simulate import visual_population as simulator
from driftwave.store import open_dataset, verify_store, write_tree
from tuning_cases import tuned_rates, tuned_recording

BRIEF = Params(**{**QUICK, "rank": 3, "ranks": (2, 3)})


def quick(recording: xr.DataTree, latents: xr.Dataset | None = None, **changes: object):
    params = BRIEF.model_copy(update=changes)
    with dask_threads(1):
        return analyse(recording, latents, params, seed=0)


@cache
def recording() -> xr.DataTree:
    """Fourteen tuned units, one constant one, one that does not respond."""
    rate = tuned_rates(16, 2, bins=15)
    rate[14], rate[15] = 0, 5
    return tuned_recording(rate, repeats=6)


@cache
def result() -> xr.Dataset:
    return quick(recording())


def test_the_store_names_its_dims_units_and_what_was_left_out(tmp_path: Path):
    found = result()
    expected = {
        "feature": ("unit", "component"),
        "coordinate": ("unit", "diffusion_component"),
        "component_of": ("unit",),
        "neuron_factor": ("unit", "rank_component"),
        "stimulus_factor": ("stimulus", "rank_component"),
        "response_factor": ("direction", "time", "rank_component"),
        "shift": ("unit", "stimulus"),
        "local_dimension": ("unit",),
        "preferred_stimulus": ("unit",),
        "osi": ("unit",),
        "dsi": ("unit",),
    }
    assert {name: found[name].dims for name in expected} == expected
    numeric = [name for name, v in found.data_vars.items() if v.dtype.kind in "iuf"]
    assert all("units" in found[name].attrs for name in numeric)
    assert found.attrs["units_constant"] == ["14"]
    assert found.attrs["units_without_significant_response"] == ["15"]
    assert np.isnan(found["feature"].values[14:]).all()
    assert np.isfinite(found["feature"].values[:14]).all()
    assert found["component_of"].values[14:].tolist() == [-1, -1]
    assert "fewer than 40" in found.attrs["continuity_note"]
    write_tree(found, tmp_path / "encoding.zarr")
    assert verify_store(tmp_path / "encoding.zarr") == []
    xr.testing.assert_equal(open_dataset(tmp_path / "encoding.zarr").load(), found)


def test_the_analysis_is_reproducible():
    xr.testing.assert_identical(result(), quick(recording()))


def test_the_figure_draws_it():
    drawn = figure.draw(None, {"recording": result()})
    assert len(drawn.axes) >= 3 + 2 * result().sizes["rank_component"] + 3
    with pytest.raises(InputError, match="0 results"):
        figure.draw(None, {})


def test_rates_and_activations_are_analysed_alike():
    source = recording()
    counts = source["spikes/counts"].values.astype(float)
    trial = source["spikes/trial"].values
    rates = xr.Dataset(
        {"rate": (("trial", "time", "unit"), counts / 0.02)}, coords={"trial": trial},
        attrs={"model": "smooth"},
    )  # fmt: skip
    found = quick(source, rates)
    assert found.attrs["source"] == "smooth"
    assert "no trial noise" in found.attrs["responses_tested_against"]
    inside = xr.Dataset(
        {"h": (("trial", "time", "h_unit"), np.tanh(counts[..., :9] - 1))},
        coords={"trial": trial},
        attrs={"activations": "h"},
    )
    found = quick(source, inside)
    assert found.sizes["unit"] == 9
    assert set(found["population"].values) == {"h"}


def test_conditions_without_directions_or_spike_times_are_analysed():
    found = quick(make_recording())
    assert found.attrs["shift"] == "none"
    assert not found["shift"].values.any()
    assert np.isnan(found["osi"]).all()
    figure.draw(None, {"recording": found})


def test_one_trial_per_condition_leaves_no_halves():
    once = tuned_recording(tuned_rates(12, 2, bins=15), repeats=1)
    found = quick(once, alpha=1.0, false_discovery_rate=1.0, rank="auto")
    assert found.attrs["halves"].startswith("none")
    assert found["rank_curve_stability"].size == 0
    assert np.isnan(found["osi_cv"]).all()
    assert "nuclear norm" in found.attrs["rank_rule"]
    figure.draw(None, {"recording": found})


def test_fewer_units_than_components_are_refused():
    with pytest.raises(InputError, match="14 units"):
        quick(recording(), rank=15)
    few = tuned_recording(tuned_rates(3, bins=15), repeats=4)
    with pytest.raises(InputError, match="at least 5"):
        quick(few, rank="auto")


def test_missing_responses_of_a_model_exclude_the_unit():
    source = recording()
    values = source["spikes/counts"].values.astype(float)
    inside = xr.Dataset(
        {"h": (("trial", "time", "h_unit"), values)},
        coords={"trial": source["spikes/trial"].values},
        attrs={"activations": "h"},
    )
    inside["h"][0, 0, 2] = np.nan
    found = quick(source, inside)
    assert np.isnan(found["feature"].values[2]).all()
    assert np.isfinite(found["feature"].values[3]).all()


SMALL = {"units": 12, "stimuli": 2, "directions": 4, "repeats": 3, "components": 2}


def test_simulated_rates_peak_as_told_and_turn_with_the_shift():
    params = simulator.Params(**SMALL)
    found = simulator.population(params, 0)
    evoked = found.rate - params.baseline
    peak = evoked.max(axis=(1, 2, 3))
    assert (peak >= params.peak[0] - 1e-9).all()
    assert (peak <= params.peak[1] + 1e-9).all()
    mixture = np.einsum("r,r,dtr->dt", found.loading[3], found.stimulus[1], found.response)
    turned = np.roll(evoked[3, 1], found.shift[3, 1], axis=0)
    assert np.corrcoef(turned.ravel(), mixture.ravel())[0, 1] == pytest.approx(1)


def test_simulated_groups_are_groups():
    options = {**SMALL, "units": 60, "components": 4}
    grouped = simulator.population(
        simulator.Params(**options, population="clustered", clusters=3), 0
    )
    unit = grouped.loading / np.linalg.norm(grouped.loading, axis=1, keepdims=True)
    same = grouped.cluster[:, None] == grouped.cluster
    cosine = unit @ unit.T
    assert cosine[same].min() > cosine[~same].max()
    smooth = simulator.population(simulator.Params(**options), 0)
    assert (smooth.cluster == -1).all()


def test_mixtures_of_the_continuous_population_are_evenly_spread():
    """Distances to neighbours vary as in an even sheet; those of mixtures at even places do not."""

    def spacing(points: np.ndarray) -> np.ndarray:
        return np.log(nearest(points, 5)[0][:, -1])

    params = simulator.Params(components=3)
    spread = {"sheet": [], "drawn": [], "crowded": []}
    for seed in range(8):
        mixture = simulator._direction(simulator.population(params, seed).sheet, 3)
        assert prominence(mixture) < deepest_by_chance(len(mixture))
        places = np.random.default_rng(seed).random((params.units, 2))
        spread["sheet"].append(spacing(places))
        spread["drawn"].append(spacing(mixture))
        spread["crowded"].append(spacing(simulator._direction(places, 3)))
    sheet, drawn, crowded = (np.std(np.concatenate(one)) for one in spread.values())
    assert drawn < 1.1 * sheet
    assert crowded > 1.1 * drawn


def test_mixtures_of_the_clustered_population_have_gaps():
    found = simulator.population(simulator.Params(population="clustered"), 0)
    root = np.sqrt(found.loading / found.loading.sum(axis=1, keepdims=True))
    assert prominence(root) > deepest_by_chance(len(root))


def test_a_simulated_file_is_ingested_with_its_truth(tmp_path: Path):
    from driftwave.config import load_layout
    from driftwave.ingest.nwb import open_nwb, read_recording

    params = simulator.Params(**SMALL)
    simulator.simulate(tmp_path / "v.nwb", params, seed=2)
    simulator.simulate(tmp_path / "w.nwb", params, seed=2)
    layouts = Path(__file__).resolve().parents[1] / "config" / "layouts"
    layout = load_layout("visual_population", layouts)
    trees = []
    for name in ("v", "w"):
        with open_nwb(tmp_path / f"{name}.nwb") as file:
            trees.append(read_recording(file, layout, session="v").compute())
    tree, again = trees
    np.testing.assert_array_equal(tree["spikes/counts"].values, again["spikes/counts"].values)
    rate = tree["truth/rate"].values
    counts = tree["spikes/counts"].values
    assert counts.sum() == pytest.approx(rate.sum() * 0.02, rel=0.05)
    assert tree["truth"].attrs["population"] == "continuous"
    assert {"loading_1", "loading_2", "cluster"} <= set(tree["units"].data_vars)


def test_the_experiment_runs_and_is_drawn():
    found = experiment.run(experiment.Params(**experiment.QUICK), seed=0)
    assert found["cosine"].dims == ("set", "shift")
    assert ((found["cosine"] >= 0) & (found["cosine"] <= 1)).all()
    assert (found["cpu"] > 0).all()
    assert len(experiment.draw(found).axes) == 3
