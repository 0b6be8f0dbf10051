"""The maze simulator: MC_Maze's layout, and spikes and hand that follow the state it keeps."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
import xarray as xr

from conftest import ROOT
from driftwave import registry
from driftwave.config import load_layout, parse_layout
from driftwave.errors import InputError
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.ingest.simulate import mc_maze
from driftwave.scores.bits_per_spike import expected_bits_per_spike
from driftwave.scores.velocity import velocity_r2

SMALL = mc_maze.Params(
    train=60, val=30, held_in=20, held_out=6, mazes=4, lag=0.1, truth="rates", mean_rate=8.0
)


@pytest.fixture(scope="module")
def maze_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maze") / "small.nwb"
    mc_maze.simulate(path, SMALL, seed=3)
    return path


@pytest.fixture(scope="module")
def recording(maze_file: Path) -> xr.DataTree:
    """The file in 20 ms bins, with its truth."""
    layout = load_layout("nlb_mc_maze", ROOT / "config" / "layouts").model_dump()
    truth = {name: f"processing/ground_truth/{name}" for name in ("firing_rates", "state")}
    layout |= {
        "bin_width": 0.02,
        "truth": {"rate": truth["firing_rates"], "state": truth["state"]},
    }
    with open_nwb(maze_file) as file:
        return read_recording(file, parse_layout(layout), session="maze")


def test_the_file_is_valid_and_clean(maze_file: Path) -> None:
    inspector = pytest.importorskip("nwbinspector")
    assert not pynwb.validate(path=str(maze_file))
    threshold = inspector.Importance.BEST_PRACTICE_VIOLATION
    assert list(inspector.inspect_nwbfile(maze_file, importance_threshold=threshold)) == []


def test_it_has_the_shape_of_mc_maze() -> None:
    params = mc_maze.Params()
    assert (params.train, params.val) == (1721, 574)
    assert (params.held_in, params.held_out) == (137, 45)
    trials = mc_maze.plan_trials(params, seed=0)
    assert len(trials.start) == 2295
    assert (trials.split == "val").sum() == 574
    conditions = set(zip(trials.maze.tolist(), trials.version.tolist(), strict=True))
    assert len(conditions) == 108
    in_val = set(
        zip(trials.maze[trials.split == "val"], trials.version[trials.split == "val"], strict=True)
    )
    assert len(in_val) == 108
    assert "mc_maze" in registry.plugins("simulators")


def test_tables_are_named_as_in_the_real_file(maze_file: Path) -> None:
    with h5py.File(maze_file) as file:
        trials, units = file["intervals/trials"], file["units"]
        named = {"split", "trial_type", "trial_version", "move_onset_time", "go_cue_time"}
        assert named | {"target_on_time", "start_time", "stop_time", "success"} <= set(trials)
        assert set(trials["split"].asstr()[()]) == {"train", "val"}
        assert {"heldout", "spike_times", "obs_intervals"} <= set(units)
        assert units["heldout"][()].sum() == 6
        hand = file["processing/behavior/hand_vel"]
        assert hand["starting_time"].attrs["rate"] == 1000
        assert hand["data"].shape == file["processing/behavior/hand_pos/data"].shape
        # The window that is scored, with lag and forward bins, lies within each trial.
        onset = trials["move_onset_time"][()]
        assert (trials["start_time"][()] < onset - 0.25).all()
        assert (trials["stop_time"][()] >= onset + 0.7).all()


def test_the_same_seed_gives_the_same_arrays(maze_file: Path, tmp_path: Path) -> None:
    for name, seed in (("again", 3), ("other", 4)):
        mc_maze.simulate(tmp_path / f"{name}.nwb", SMALL, seed=seed)
    names = ["units/spike_times", "units/heldout", "processing/behavior/hand_vel/data"]
    for name in names:
        arrays = []
        for path in (maze_file, tmp_path / "again.nwb", tmp_path / "other.nwb"):
            with h5py.File(path) as file:
                arrays.append(file[name][()])
        np.testing.assert_array_equal(arrays[0], arrays[1])
        assert not np.array_equal(arrays[0], arrays[2])


def test_spikes_are_poisson_with_the_kept_rates(recording: xr.DataTree) -> None:
    expected = recording["truth/rate"].values * 0.02
    counts = recording["spikes/counts"].values
    z = (counts - expected) / np.sqrt(expected)
    assert np.mean(z) == pytest.approx(0, abs=4 / np.sqrt(z.size))
    assert np.mean(z**2) == pytest.approx(1, abs=0.03)
    per_unit = counts.sum((0, 1)) / expected.sum((0, 1))
    assert np.abs(per_unit - 1).max() < 4 / np.sqrt(expected.sum((0, 1)).min())
    assert expected_bits_per_spike(expected, expected) > 0.2


def test_log_rates_are_linear_in_the_state(maze_file: Path) -> None:
    with h5py.File(maze_file) as file:
        truth = file["processing/ground_truth"]
        state, rates = truth["state/data"][()], truth["firing_rates/data"][()]
    design = np.column_stack([state, np.ones(len(state))])
    log_rates = np.log(rates)
    kept = (rates < 199).all(1)  # rates are capped at 200 Hz
    weights, *_ = np.linalg.lstsq(design[kept], log_rates[kept], rcond=None)
    assert np.abs(design[kept] @ weights - log_rates[kept]).max() < 1e-3


def test_the_hand_follows_the_state_by_the_lag(recording: xr.DataTree) -> None:
    state = recording["truth/state"].values[:, :35]
    hand = recording["behavior/value"].values[:, :35]
    r = np.corrcoef(state[..., 0].ravel(), hand[..., 0].ravel())[0, 1]
    assert r > 0.99
    train, test = (recording["trials/split"].values == name for name in ("train", "test"))
    rates = recording["truth/rate"].values[:, :35] * 0.02
    assert velocity_r2(rates[train], hand[train], rates[test], hand[test]) > 0.85
    logs = np.log(rates)
    assert velocity_r2(logs[train], hand[train], logs[test], hand[test]) > 0.97


def test_conditions_shape_the_reaches(recording: xr.DataTree) -> None:
    hand = recording["behavior/value"].values[:, 10:30]
    condition = recording["trials/condition"].values
    groups = [hand[condition == c] for c in np.unique(condition)]
    between = np.mean([((g.mean(0) - hand.mean(0)) ** 2).mean() for g in groups])
    within = np.mean([((g - g.mean(0)) ** 2).mean() for g in groups])
    assert len(groups) == 12
    assert between > 5 * within
    assert within > 0


def test_the_hand_ends_each_trial_where_the_next_begins(maze_file: Path) -> None:
    with h5py.File(maze_file) as file:
        position = file["processing/behavior/hand_pos/data"][()]
        onset = file["intervals/trials/move_onset_time"][()]
    at_onset = position[np.rint(onset * 1000).astype(int)]
    np.testing.assert_allclose(at_onset, 0, atol=1e-3)
    reach = np.linalg.norm(position[np.rint((onset + 0.7) * 1000).astype(int)], axis=1)
    assert ((reach > 0.04) & (reach < 0.2)).all()


def test_truth_can_be_left_out(tmp_path: Path) -> None:
    params = SMALL.model_copy(update={"truth": "none", "train": 4, "val": 2})
    mc_maze.simulate(tmp_path / "plain.nwb", params, seed=0)
    with h5py.File(tmp_path / "plain.nwb") as file:
        assert set(file["processing"]) == {"behavior"}


def test_a_lag_between_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of steps of 5 ms"):
        mc_maze.Params(lag=0.003)


def test_a_bin_width_that_does_not_divide_the_window_is_told(maze_file: Path) -> None:
    layout = load_layout("nlb_mc_maze", ROOT / "config" / "layouts")
    with (
        open_nwb(maze_file) as file,
        pytest.raises(InputError, match=r"trials\.window: found 0\.9 s, that is 28\.125 bins"),
    ):
        read_recording(file, layout.model_copy(update={"bin_width": 0.032}), session="maze")
