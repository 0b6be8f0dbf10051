"""A file with known content becomes a recording with exactly that content."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from driftwave.config import load_layout, parse_layout
from driftwave.errors import InputError
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.recording import check_recording, open_recording
from driftwave.store import verify_store, write_tree
from nwb_builder import TASK_LAYOUT, Builder, grid, poisson_units, task_file


def task(**changes: Any) -> Any:
    return parse_layout(copy.deepcopy(TASK_LAYOUT) | changes)


def read(path: Path, layout: Any) -> Any:
    with open_nwb(path) as file:
        return read_recording(file, layout, session="s").compute()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return task_file().write(tmp_path_factory.mktemp("nwb") / "task.nwb")


def test_keeps_the_contract_through_a_store(path: Path, tmp_path: Path) -> None:
    with open_nwb(path) as file:
        write_tree(read_recording(file, task(), session="s"), tmp_path / "r.zarr")
    tree = open_recording(tmp_path / "r.zarr")
    assert verify_store(tmp_path / "r.zarr") == []
    assert set(tree.children) == {
        "spikes", "units", "spike_times", "trials", "behavior", "behavior_series", "stimulus"
    }  # fmt: skip
    assert tree.attrs["species"] == "Mus musculus"
    assert len(tree.attrs["source_sha256"]) == 64
    for group in tree.children.values():
        for name, variable in group.data_vars.items():
            assert variable.attrs.get("units"), f"{group.path}/{name} has no units"


def test_counts_are_the_spikes_of_the_trials(path: Path) -> None:
    tree = read(path, task())
    counts = tree["spikes/counts"]
    assert counts.dims == ("trial", "time", "unit")
    assert counts.shape == (24, 20, 6)
    spikes = poisson_units(6, 52.0, 12.0)
    for unit in range(6):
        for trial in range(24):
            start = 1.0 + 2.0 * trial
            inside = ((spikes[unit] >= start) & (spikes[unit] < start + 1)).sum()
            assert counts.values[trial, :, unit].sum() == inside
    np.testing.assert_allclose(tree["units/rate"], counts.values.mean((0, 1)) / 0.05)
    np.testing.assert_allclose(tree["spikes"]["time"], np.arange(20) * 0.05)
    assert tree["spikes"].attrs["forward_bins"] == 2
    assert tree["spikes"].attrs["contiguous"] is False
    np.testing.assert_array_equal(tree["spike_times/time"], np.concatenate(spikes))
    assert tree["units/region"].values.tolist() == ["M1"] * 3 + ["PMd"] * 3


def test_alignment_window_and_query(path: Path) -> None:
    trials = {"align": "go_time", "window": [-0.25, 0.75], "where": "direction < 180"}
    tree = read(path, task(trials=trials | {"condition": ["direction"]}))
    whole = read(path, task())
    # go is 0.25 s after start, so these are the same bins of half the trials.
    chosen = np.arange(24) % 4 < 2
    np.testing.assert_array_equal(tree["spikes/counts"], whole["spikes/counts"].values[chosen])
    np.testing.assert_allclose(tree["spikes"]["time"][0], -0.25)
    np.testing.assert_allclose(tree["trials/start"], tree["trials/start_time"])
    assert sorted(set(tree["trials/condition"].values)) == [0, 1]
    names = json.loads(tree["trials/condition"].attrs["names"])
    assert names == ["direction=0.0", "direction=90.0"]


def test_units_query_min_rate_and_held_out_column(path: Path) -> None:
    spikes = {"where": "area == 'PMd'", "held_out": "hidden"}
    tree = read(path, task(spikes=spikes))
    assert tree["units/id"].values.tolist() == [3, 4, 5]
    assert tree["units/held_out"].values.tolist() == [False, True, False]
    whole = read(path, task())
    np.testing.assert_array_equal(tree["spikes/counts"], whole["spikes/counts"].values[:, :, 3:])
    rate = whole["units/rate"].values
    middle = float(np.median(rate))
    fast = read(path, task(spikes={"min_rate": middle}))
    np.testing.assert_array_equal(fast["units/id"], np.flatnonzero(rate >= middle))
    assert fast["spikes/counts"].shape[2] == (rate >= middle).sum()
    assert len(fast["spike_times/time"]) == sum(
        len(s) for s, r in zip(poisson_units(6, 52.0, 12.0), rate, strict=True) if r >= middle
    )


@pytest.mark.parametrize(("share", "number"), [(0.0, 0), (0.01, 1), (0.2, 1), (0.5, 3)])
def test_held_out_share(path: Path, share: float, number: int) -> None:
    hidden = read(path, task(spikes={"held_out": share}))["units/held_out"].values
    assert hidden.sum() == number
    again = read(path, task(spikes={"held_out": share}))["units/held_out"].values
    np.testing.assert_array_equal(hidden, again)


def test_behavior_follows_the_hand_and_lag_reads_ahead(path: Path) -> None:
    tree = read(path, task())
    value = tree["behavior/value"]
    assert value["feature"].values.tolist() == ["hand_x", "hand_y"]
    assert value["kind"].values.tolist() == ["continuous"] * 2
    assert value["unit_of_measure"].values.tolist() == ["m", "m"]
    centres = tree["spikes/trial_start"].values[:, None] + 0.05 * (np.arange(20) + 0.5)
    np.testing.assert_allclose(value[..., 0], np.sin(2 * np.pi * 0.5 * centres), atol=3e-3)
    hand = TASK_LAYOUT["behavior"][0] | {"lag": 0.2}
    ahead = read(path, task(behavior=[hand]))["behavior/value"]
    np.testing.assert_allclose(ahead[..., 0], np.sin(np.pi * (centres + 0.2)), atol=3e-3)
    assert tree["behavior_series/hand"].shape == (10_400, 2)


def test_stimulus_and_all_columns(path: Path) -> None:
    tree = read(path, task())
    assert tree["stimulus/direction"].attrs["period"] == 360
    np.testing.assert_array_equal(tree["stimulus/direction"], (np.arange(24) % 4) * 90.0)
    assert {"id", "start_time", "stop_time", "go_time", "direction"} <= set(tree["trials"])


def test_windows_abut(path: Path) -> None:
    layout = task(trials=None, stimulus=None, windows={"length": 2.0, "start": 3.0, "stop": 51.0})
    tree = read(path, layout)
    start = tree["trials/start"].values
    np.testing.assert_allclose(start, 3.0 + 2.0 * np.arange(24))
    np.testing.assert_allclose(tree["trials/stop"].values[:-1], start[1:])
    assert tree["spikes"].attrs["contiguous"] is True
    inside = sum(((s >= 3) & (s < 51)).sum() for s in poisson_units(6, 52.0, 12.0))
    assert int(tree["spikes/counts"].sum()) == inside
    whole = read(path, task(trials=None, stimulus=None, windows={"length": 2.0}))
    assert len(whole["trials/start"]) == 26


def test_trials_without_event_or_outside_the_recording_are_left_out(tmp_path: Path) -> None:
    starts = np.arange(20.0)
    go = starts + 0.1
    go[[2, 5]] = np.nan
    path = (
        Builder()
        .units(poisson_units(3, 18.5, 20.0), obs_intervals=[np.array([[0.0, 18.5]])] * 3)
        .trials(starts, starts + 1, go_time=go)
        .write(tmp_path / "f.nwb")
    )
    tree = read(path, parse_layout({
        "name": "n", "description": "d", "bin_width": 0.05, "spikes": {},
        "trials": {"align": "go_time", "window": [0.0, 0.5]},
    }))  # fmt: skip
    assert tree["trials"].attrs["rows_without_alignment_event"] == 2
    assert tree["trials"].attrs["rows_outside_recording"] == 2  # 18.1 to 18.6 s and later
    assert len(tree["trials/start"]) == 16


def test_windows_over_a_gap_stay_but_are_unused(tmp_path: Path) -> None:
    observed = [np.array([[0.0, 20.0], [25.0, 60.0]])] * 3
    spikes = [s[(s < 20) | (s > 25)] for s in poisson_units(3, 60.0, 20.0)]
    path = Builder().units(spikes, obs_intervals=observed).write(tmp_path / "f.nwb")
    tree = read(path, parse_layout({
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {}, "windows": {"length": 2.0}
    }))  # fmt: skip
    assert tree["trials"].attrs["windows_over_gaps"] == 3
    assert (tree["trials/split"].values[[10, 11, 12]] == "unused").all()
    np.testing.assert_allclose(np.diff(tree["trials/start"]), 2.0)


def test_windows_without_behavior_are_unused(tmp_path: Path) -> None:
    t = np.arange(0, 60, 0.01)
    hand = np.sin(t)
    hand[(t > 9.9) & (t < 16.1)] = np.nan
    path = (
        Builder()
        .units(poisson_units(3, 60.0, 20.0))
        .series("behavior", "hand", hand, rate=100.0)
        .write(tmp_path / "f.nwb")
    )
    tree = read(path, parse_layout({
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {},
        "windows": {"length": 2.0, "start": 0.0},
        "behavior": [{"name": "hand", "series": "processing/behavior/hand"}],
    }))  # fmt: skip
    assert tree["behavior"].attrs["windows_without_behavior"] == 3
    assert (tree["trials/split"].values[5:8] == "unused").all()
    used = tree["trials/split"].values != "unused"
    assert np.isfinite(tree["behavior/value"].values[used]).any(axis=1).all()


def test_circular_behavior_in_degrees(tmp_path: Path) -> None:
    t = np.arange(0, 40, 0.01)
    angle = (350 + 20 * np.sin(t)) % 360  # crosses 0 again and again
    path = (
        Builder()
        .units(poisson_units(3, 40.0, 20.0))
        .series("behavior", "heading", angle, unit="degrees", rate=100.0)
        .write(tmp_path / "f.nwb")
    )
    content = {
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {},
        "windows": {"length": 2.0, "start": 0.0, "stop": 38.0},
        "behavior": [
            {"name": "heading", "series": "processing/behavior/heading", "kind": "circular"}
        ],
    }  # fmt: skip
    tree = read(path, parse_layout(content))
    found = tree["behavior/value"].values[..., 0]
    centres = tree["trials/start"].values[:, None] + 0.1 * (np.arange(20) + 0.5)
    wanted = np.deg2rad(350 + 20 * np.sin(centres))
    assert np.abs(np.angle(np.exp(1j * (found - wanted)))).max() < 2e-3
    assert found.min() >= 0
    assert found.max() < 2 * np.pi + 1e-6
    assert tree["behavior"]["unit_of_measure"].item() == "rad"
    content["behavior"][0]["unit"] = "furlong"
    with pytest.raises(InputError, match="unit 'furlong' of the circular series"):
        read(path, parse_layout(content))


def test_conversion_of_behavior(tmp_path: Path) -> None:
    path = (
        Builder()
        .units(poisson_units(3, 40.0, 20.0))
        .series("behavior", "v", np.full(400, 12.0), rate=10.0, conversion=0.001, offset=1.0)
        .write(tmp_path / "f.nwb")
    )
    tree = read(path, parse_layout({
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {},
        "windows": {"length": 2.0, "start": 0.0, "stop": 38.0},
        "behavior": [{"name": "v", "series": "processing/behavior/v"}],
    }))  # fmt: skip
    np.testing.assert_allclose(tree["behavior/value"], 1.012, rtol=1e-6)


def counts_file(path: Path) -> np.ndarray:
    counts = np.random.default_rng(0).poisson(2, (2000, 5)).astype(np.uint8)
    Builder().series(
        "ecephys", "counts", counts, unit="spikes", rate=50.0, starting_time=7.3
    ).write(path)
    return counts


def test_counts_are_rebinned(tmp_path: Path) -> None:
    counts = counts_file(tmp_path / "f.nwb")
    content = {
        "name": "n", "description": "d", "bin_width": 0.1,
        "spikes": {"source": "processing/ecephys/counts"}, "windows": {"length": 1.0},
    }  # fmt: skip
    tree = read(tmp_path / "f.nwb", parse_layout(content))
    assert "spike_times" not in tree.children
    found = tree["spikes/counts"].values
    assert found.shape == (40, 10, 5)
    np.testing.assert_array_equal(found.reshape(400, 5), counts.reshape(400, 5, 5).sum(axis=1))
    np.testing.assert_allclose(tree["trials/start"][0], 7.3)
    with pytest.raises(InputError, match=r"counts in bins of 0\.02 s and `bin_width: 0\.05`"):
        read(tmp_path / "f.nwb", parse_layout(content | {"bin_width": 0.05}))


def test_truth_at_the_bins(tmp_path: Path) -> None:
    t = np.arange(0, 52, 0.01)
    rate = np.stack([5 + k + np.sin(2 * np.pi * t) for k in range(3)], axis=1)
    starts = 1.0 + 2.0 * np.arange(24)
    path = (
        Builder()
        .units(poisson_units(3, 52.0, 20.0), keep=[1, 0, 1])
        .trials(starts, starts + 1)
        .series("truth", "rates", rate, unit="Hz", rate=100.0)
        .series("truth", "state", np.stack([t, -t], 1)[::5], unit="a.u.", rate=20.0)
        .intervals(
            "waves", [1.0, 5.0], [2.0, 6.5], kind=["planar", "radial"], direction=[30.0, np.nan],
            speed=[200.0, 100.0], frequency=[12.0, 8.0], sign=[1, -1], centre_x=[np.nan, 1.5],
            centre_y=[np.nan, 0.8],
        )
        .write(tmp_path / "f.nwb")
    )  # fmt: skip
    tree = read(path, parse_layout({
        "name": "n", "description": "d", "bin_width": 0.05, "spikes": {"where": "keep == 1"},
        "trials": {"window": [0.0, 1.0]},
        "truth": {"rate": "processing/truth/rates", "state": "processing/truth/state",
                  "waves": "intervals/waves"},
    }))  # fmt: skip
    truth = tree["truth"]
    # Five samples of 10 ms per bin, the first at its left edge.
    at = tree["trials/start"].values[:, None] + 0.05 * np.arange(20)
    mean = np.mean([np.sin(2 * np.pi * (at + 0.01 * k)) for k in range(5)], axis=0)
    np.testing.assert_allclose(truth["rate"][..., 0], 5 + mean, atol=1e-5)
    np.testing.assert_allclose(truth["rate"][..., 1], 7 + mean, atol=1e-5)
    np.testing.assert_allclose(truth["state"][..., 1], -at, atol=1e-5)
    assert truth["wave_kind"].values.tolist() == ["planar", "radial"]
    np.testing.assert_allclose(truth["wave_stop"], [2.0, 6.5])
    np.testing.assert_allclose(truth["wave_direction"], [30.0, np.nan])
    np.testing.assert_allclose(truth["wave_centre_x"], [np.nan, 1.5])


def test_units_take_the_place_of_their_electrodes(tmp_path: Path) -> None:
    builder = Builder().electrodes(grid(2, 2))
    builder.nwb.add_unit_column("quality", "of a test")
    for k in range(4):
        builder.nwb.add_unit(
            spike_times=poisson_units(1, 30.0, 20.0, seed=k)[0],
            electrodes=[k] if k else [0, 1],
            quality="good" if k != 2 else "noise",
        )
    path = builder.write(tmp_path / "f.nwb")
    tree = read(path, parse_layout({
        "name": "n", "description": "d", "bin_width": 0.1,
        "spikes": {"where": "quality == 'good'", "positions": {}}, "windows": {"length": 1.0},
    }))  # fmt: skip
    np.testing.assert_allclose(tree["units/x"], [0.2, 0.4, 0.4])
    np.testing.assert_allclose(tree["units/y"], [0.0, 0.0, 0.4])


def test_unit_quality(tmp_path: Path) -> None:
    clean = np.arange(0, 30, 0.1)
    paired = np.sort(np.concatenate([clean, clean + 0.001]))
    late = np.arange(15, 30, 0.1)
    path = Builder().units([clean, paired, late, np.empty(0)]).write(tmp_path / "f.nwb")
    tree = read(path, parse_layout({
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {"held_out": 0.9},
        "windows": {"length": 1.0},
    } | {"spikes": {"held_out": 0.3}}))  # fmt: skip
    violations = tree["units/isi_violations"].values
    np.testing.assert_allclose(violations[:3], [0, 300 / 599, 0])
    np.testing.assert_allclose(tree["units/presence_ratio"].values[:3], [1, 1, 0.5])
    assert np.isnan(violations[3])
    assert tree["units"].attrs["silent_units"] == [3]
    assert not tree["units/held_out"].values[3]


def test_own_names_in_the_trials_table(tmp_path: Path) -> None:
    starts = np.arange(12.0)
    path = (
        Builder()
        .units(poisson_units(3, 13.0, 20.0))
        .trials(
            starts, starts + 1, condition=[7, 9] * 6, split=["train", "val", "test"] * 4
        )
        .write(tmp_path / "f.nwb")
    )  # fmt: skip
    tree = read(path, parse_layout({
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {},
        "trials": {"window": [0.0, 1.0], "condition": ["condition"]}, "split": {"column": "split"},
    }))  # fmt: skip
    assert tree["trials/condition"].values.tolist() == [0, 1] * 6
    assert tree["trials/condition_in_file"].values.tolist() == [7, 9] * 6
    assert tree["trials/split"].values.tolist() == ["train", "valid", "test"] * 4
    check_recording(tree)


@pytest.mark.parametrize("name", ["head_direction", "m1_reach", "v1_gratings", "utah_seizure"])
def test_shipped_layouts_load(name: str) -> None:
    folder = Path(__file__).resolve().parents[1] / "config" / "layouts"
    assert load_layout(name, folder).name == name
    assert yaml.safe_load((folder / f"{name}.yaml").read_text())["name"] == name
