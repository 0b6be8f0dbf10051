"""The five real recordings by their shipped layouts, checked against the files themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from driftwave.config import load_layout, parse_layout
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.recording import open_recording
from driftwave.store import verify_store, write_tree

pytestmark = pytest.mark.recording
LAYOUTS = Path(__file__).resolve().parents[1] / "config" / "layouts"
NAMES = ["head_direction", "m1_reach", "v1_gratings", "hippocampus_track", "utah_seizure"]


@pytest.fixture(scope="module")
def stores(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Each recording through its store, as the workflow makes it."""
    folder = tmp_path_factory.mktemp("recordings")
    found = {}
    for name in NAMES:
        with open_nwb(recordings / f"{name}.nwb") as file:
            tree = read_recording(file, load_layout(name, LAYOUTS), session=name)
            write_tree(tree, folder / f"{name}.zarr")
        assert verify_store(folder / f"{name}.zarr") == []
        found[name] = open_recording(folder / f"{name}.zarr").compute()
    return found


@pytest.mark.parametrize("name", NAMES[:4])
def test_models_have_what_they_need(stores: dict[str, Any], name: str) -> None:
    tree = stores[name]
    split = tree["trials/split"].values
    share = {word: (split == word).mean() for word in ("train", "valid", "test", "unused")}
    assert share["train"] > 0.55
    assert share["valid"] > 0.05
    assert share["test"] > 0.12
    assert share["unused"] < 0.15
    assert 0.15 < tree["units/held_out"].values.mean() < 0.3
    assert tree["spikes"].attrs["forward_bins"] == 5
    assert tree["spikes/counts"].sizes["time"] == 50


def test_head_direction(stores: dict[str, Any], recordings: Path) -> None:
    tree = stores["head_direction"]
    counts = tree["spikes/counts"].values
    assert counts.shape == (105, 50, 15)
    with h5py.File(recordings / "head_direction.nwb") as h5:
        times = h5["units/spike_times"][:]
        ends = h5["units/spike_times_index"][:].astype(int)
        stamps = h5["acquisition/CompassDirection/ry/timestamps"][:]
        yaw = h5["acquisition/CompassDirection/ry/data"][:]
    stop = 670.6 + 105 * 5.0
    for unit, own in enumerate(np.split(times, ends[:-1])):
        assert counts[:, :, unit].sum() == ((own >= 670.6) & (own < stop)).sum()
    assert len(tree["spike_times/time"]) == 98_794
    assert (tree["units/region"].values == "adn").sum() == 7
    heading = tree["behavior/value"].sel(feature="head_direction").values
    assert heading.min() >= 0
    assert heading.max() < 2 * np.pi + 1e-6
    # In the middle of each bin the heading is that of the camera, turned by no more than noise.
    centres = tree["trials/start"].values[:, None] + 0.1 * (np.arange(50) + 0.5)
    nearest = yaw[np.clip(np.searchsorted(stamps, centres), 0, len(yaw) - 1)]
    error = np.abs(np.angle(np.exp(1j * (heading - nearest))))
    assert np.median(error) < np.deg2rad(1)


def test_head_direction_is_in_adn_and_not_in_ca1(stores: dict[str, Any]) -> None:
    """The recordings' sanity figures: R2 0.84 and 0.81 of cos and sin from ADN, below 0 from CA1.

    Those were made with the penalty chosen inside each training block; here it is fixed.
    """
    tree = stores["head_direction"]
    counts = np.sqrt(tree["spikes/counts"].values.reshape(-1, 15).astype(float))
    heading = tree["behavior/value"].sel(feature="head_direction").values.ravel()
    target = np.stack([np.cos(heading), np.sin(heading)], axis=1)
    region = tree["units/region"].values
    adn, ca1 = (contiguous_r2(counts[:, region == r], target, 5, 100.0) for r in ("adn", "ca1"))
    np.testing.assert_allclose(adn, [0.84, 0.81], atol=0.04)
    assert ca1.max() < 0.05


def contiguous_r2(counts: np.ndarray, target: np.ndarray, lags: int, penalty: float) -> np.ndarray:
    """Ridge from the current and past bins, five contiguous blocks, mean R2 per column."""
    past = np.concatenate([np.roll(counts, k, axis=0) for k in range(lags)], axis=1)
    scores = []
    for test in np.array_split(np.arange(lags, len(past)), 5):
        train = np.setdiff1d(np.arange(lags, len(past)), test)
        middle, spread = past[train].mean(0), past[train].std(0) + 1e-9
        x, x_test = (past[train] - middle) / spread, (past[test] - middle) / spread
        offset = target[train].mean(0)
        weights = np.linalg.solve(
            x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (target[train] - offset)
        )
        residual = ((x_test @ weights + offset - target[test]) ** 2).sum(0)
        scores.append(1 - residual / ((target[test] - target[test].mean(0)) ** 2).sum(0))
    return np.mean(scores, axis=0)


def test_m1_reach(stores: dict[str, Any], recordings: Path) -> None:
    tree = stores["m1_reach"]
    with h5py.File(recordings / "m1_reach.nwb") as h5:
        counts = h5["processing/ecephys/spike_counts/data"][:]
        velocity = h5["processing/behavior/hand_velocity/data"][:]
        position = h5["processing/behavior/Position/hand_position/data"][:]
    found = tree["spikes/counts"].values
    assert found.shape == (310, 50, 171)
    np.testing.assert_array_equal(found.reshape(-1, 171), counts[:15_500])
    assert tree["trials/start"].values[0] == pytest.approx(12.591)
    assert tree["spikes"].attrs["contiguous"]
    value = tree["behavior/value"]
    assert value["feature"].values.tolist() == [
        "hand_velocity_x", "hand_velocity_y", "hand_position_x", "hand_position_y"
    ]  # fmt: skip
    kinematics = np.concatenate([velocity, position], axis=1)[:15_500]
    np.testing.assert_allclose(value.values.reshape(-1, 4), kinematics, rtol=1e-5, atol=1e-7)
    assert value["unit_of_measure"].values.tolist() == ["m/s", "m/s", "meters", "meters"]
    assert found.mean() / 0.05 == pytest.approx(17.7, abs=0.05)


def test_v1_gratings(stores: dict[str, Any], recordings: Path) -> None:
    tree = stores["v1_gratings"]
    counts = tree["spikes/counts"].values
    assert counts.shape == (176, 50, 41)
    with h5py.File(recordings / "v1_gratings.nwb") as h5:
        times = h5["units/spike_times"][:]
        starts = h5["intervals/trials/start_time"][:]
        direction = h5["intervals/trials/direction"][:]
    inside = sum(int(((times >= s) & (times < s + 2.0)).sum()) for s in starts)
    assert counts.sum() == inside
    assert counts.mean() / 0.04 == pytest.approx(9.0, abs=0.05)
    np.testing.assert_array_equal(tree["stimulus/direction"], direction)
    np.testing.assert_allclose(tree["trials/condition"].values, direction / 22.5)
    split = tree["trials/split"].values
    for code in range(16):
        own = split[tree["trials/condition"].values == code]
        assert {"train", "valid", "test"} <= set(own)


def test_hippocampus_track(stores: dict[str, Any], recordings: Path) -> None:
    tree = stores["hippocampus_track"]
    counts = tree["spikes/counts"].values
    assert counts.shape == (189, 50, 21)
    with h5py.File(recordings / "hippocampus_track.nwb") as h5:
        times = h5["units/spike_times"][:]
        ends = h5["units/spike_times_index"][:].astype(int)
        stamps = h5["processing/behavior/Position/position/timestamps"][:]
        place = h5["processing/behavior/Position/position/data"][:].astype(float)
    start, stop = 4431.0, 4431.0 + 189 * 5.0
    on_track = [((own >= start) & (own < stop)).sum() for own in np.split(times, ends[:-1])]
    kept = np.array(on_track) / (stop - start) >= 0.05
    np.testing.assert_array_equal(counts.sum((0, 1)), np.array(on_track)[kept])
    position, velocity, speed = np.moveaxis(tree["behavior/value"].values, -1, 0)
    running = np.isfinite(position)
    # The sanity figure's 1,187 bins of 250 ms above 20 px/s, within the error of its smoothing.
    assert running.sum() * 0.1 == pytest.approx(1187 * 0.25, rel=0.03)
    np.testing.assert_array_equal(running, speed >= 20)
    np.testing.assert_allclose(np.abs(velocity[running]), speed[running], rtol=0.02, atol=2)
    # In each bin the place is the camera's, seen along the line that explains most of its variance.
    on = (stamps > start) & (stamps < stop)
    middle = place[on].mean(0)
    along = (place - middle) @ np.linalg.svd(place[on] - middle, full_matrices=False)[2][0]
    centres = (tree["trials/start"].values[:, None] + 0.1 * (np.arange(50) + 0.5))[running]
    camera = along[np.searchsorted(stamps, centres)]
    slope, offset = np.polyfit(camera, position[running], 1)
    assert abs(slope) == pytest.approx(1, abs=0.01)
    assert np.median(np.abs(slope * camera + offset - position[running])) < 2
    np.testing.assert_allclose([position[running].min(), position[running].max()], [0, 430], atol=5)


def test_utah_seizure(stores: dict[str, Any], recordings: Path) -> None:
    field = stores["utah_seizure"]["field"].to_dataset()
    with h5py.File(recordings / "utah_seizure.nwb") as h5:
        stored = h5["processing/ecephys/LFP/ElectricalSeries/data"][:]
        x = h5["general/extracellular_ephys/electrodes/rel_x"][:]
    assert field["lfp"].dims == ("time", "electrode")
    np.testing.assert_allclose(field["lfp"], stored, rtol=1e-6)  # stored in microvolt
    assert field.attrs["sampling_rate"] == pytest.approx(500.0056, abs=1e-4)
    assert field["good"].values.all()
    np.testing.assert_allclose(field["x"], x / 1000)
    assert (field["x"].min(), field["x"].max()) == (pytest.approx(0.2), pytest.approx(3.8))
    places = np.stack([field["x"], field["y"]], axis=1)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_allclose(distance.min(axis=1), 0.4)


def test_trials_of_text_and_bytes(recordings: Path) -> None:
    layout = parse_layout({
        "name": "mtl", "description": "d", "bin_width": 0.05, "spikes": {},
        "trials": {"table": "intervals/encoding_table", "align": "boundary1_time",
                   "window": [-0.5, 1.0], "where": "stimCategory == 1"},
    })  # fmt: skip
    with open_nwb(recordings / "human_mtl.nwb") as file:
        tree = read_recording(file, layout, session="s")
    names = tree["trials/Clip_name"].values
    assert names.dtype.kind == "U"
    assert all(name.endswith(".mp4") for name in names)
    assert set(tree["trials/stimCategory"].values) == {1}


def test_bad_trials_and_missing_cues(recordings: Path) -> None:
    content: dict[str, Any] = {
        "name": "thalamus", "description": "d", "bin_width": 0.05, "spikes": {},
        "trials": {"align": "cue_start_time", "window": [-1.0, 1.0]},
    }  # fmt: skip
    with open_nwb(recordings / "thalamus_delay_response.nwb") as file:
        every = read_recording(file, parse_layout(content), session="s")
        content["trials"]["where"] = "is_good == 1"
        good = read_recording(file, parse_layout(content), session="s")
    assert every["trials"].attrs["rows_without_alignment_event"] > 0
    assert good["trials"].attrs["rows_without_alignment_event"] == 0
    assert good["spikes/counts"].shape[0] <= 342
    assert set(good["trials/response"].values) == {"correct", "incorrect", "early lick"}


def test_retinal_units_have_places(recordings: Path) -> None:
    layout = parse_layout({
        "name": "retina", "description": "d", "bin_width": 0.5,
        "spikes": {"positions": {"x": "rel_x", "y": "rel_y"}}, "windows": {"length": 50.0},
    })  # fmt: skip
    with open_nwb(recordings / "retinal_waves.nwb") as file:
        tree = read_recording(file, layout, session="s")
    assert tree["spikes/counts"].shape == (36, 100, 1240)
    assert int(tree["spikes/counts"].sum()) == 448_089
    assert tree["units/x"].values.max() == pytest.approx(2.646)
    # The published sanity figure: more than 5 % of the electrodes fire in 26 % of the bins.
    active = (tree["spikes/counts"].values > 0).mean(axis=2)
    assert (active > 0.05).mean() == pytest.approx(0.26, abs=0.01)
