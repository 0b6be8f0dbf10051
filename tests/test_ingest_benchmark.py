"""What ingest does for the benchmark's sets: bins on the session's grid, words of its splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from conftest import ROOT
from driftwave.cli import main
from driftwave.config import load_sessions, parse_layout
from driftwave.errors import DriftwaveError, InputError
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.preflight import checked_plan
from driftwave.recording import open_recording
from driftwave.summary import summarise
from driftwave.workflow_plan import Plan
from nwb_builder import TASK_LAYOUT, Builder, poisson_units

WORDS = np.array(["train", "val", "none", "train", "test", "train"] * 8)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 trials whose events fall between bins, with the benchmark's words in ``split``."""
    starts = 1.0 + 2.0 * np.arange(48)
    clock = np.arange(0, 100, 0.001)
    go = starts + 0.25 + 0.001 * (np.arange(48) % 50)
    builder = (
        Builder()
        .units(
            poisson_units(5, 100.0, 12.0),
            obs_intervals=[np.array([[0.0, 100.0]])] * 5,
            heldout=[False, True, False, False, False],
            area=["M1"] * 5,
        )
        .trials(starts, starts + 1.8, go_time=go, split=list(WORDS))
        .series("behavior", "ramp", clock[:, None], rate=1000.0, starting_time=0.0)
    )
    return builder.write(tmp_path_factory.mktemp("task") / "task.nwb")


def ingested(path: Path, **changes: object) -> xr.DataTree:
    layout = {
        **{k: v for k, v in TASK_LAYOUT.items() if k != "stimulus"},
        "behavior": [{"name": "ramp", "series": "processing/behavior/ramp"}],
        "trials": {"align": "go_time", "window": [-0.1, 0.5], "on_grid": True},
        "split": {"column": "split", "words": {"val": "test", "test": "unused"}, "valid": 0.25},
        "spikes": {"held_out": "heldout"},
        **changes,
    }
    with open_nwb(path) as file:
        return read_recording(file, parse_layout(layout), session="task")


def test_trials_on_the_grid_start_at_the_next_whole_bin(task: Path) -> None:
    recording = ingested(task)
    start = recording["spikes/trial_start"].values
    wanted = recording["trials/go_time"].values - 0.1
    np.testing.assert_allclose(start / 0.05, np.rint(start / 0.05), atol=1e-9)
    late = start - wanted
    assert (late > -1e-9).all()
    assert (late < 0.05 - 1e-9).all()
    exact = np.arange(48) % 50 == 0  # these are on the grid and stay
    np.testing.assert_allclose(late[exact], 0, atol=1e-9)
    off = ingested(task, trials={"align": "go_time", "window": [-0.1, 0.5]})
    np.testing.assert_allclose(off["spikes/trial_start"].values, wanted, atol=1e-12)


def test_words_of_the_split_mean_what_the_layout_says(task: Path) -> None:
    split = ingested(task)["trials/split"].values
    assert (split[WORDS == "val"] == "test").all()
    assert (split[np.isin(WORDS, ["none", "test"])] == "unused").all()
    assert set(split[WORDS == "train"]) == {"train", "valid"}
    assert (split == "valid").sum() == 6  # a quarter of 24
    plain = ingested(task, split={"column": "split"})["trials/split"].values
    assert (plain[WORDS == "val"] == "valid").all()
    assert (plain[WORDS == "test"] == "test").all()


def test_validation_trials_are_drawn_by_the_seed(task: Path) -> None:
    def valid(seed: int) -> np.ndarray:
        words = {"column": "split", "words": {"val": "test"}, "valid": 0.25, "seed": seed}
        return ingested(task, split=words)["trials/split"].values == "valid"

    np.testing.assert_array_equal(valid(0), valid(0))
    assert not np.array_equal(valid(0), valid(1))


def test_behaviour_is_read_at_the_bins_start_or_centre(task: Path) -> None:
    """The series is the clock, so its value at a bin is the moment it was read at."""
    for at, offset in (("centre", 0.025), ("start", 0.0)):
        series = {"name": "ramp", "series": "processing/behavior/ramp", "lag": 0.1, "at": at}
        recording = ingested(task, behavior=[series])
        start = recording["spikes/trial_start"].values
        value = recording["behavior/value"].values[..., 0]
        expected = start[:, None] + np.arange(12) * 0.05 + 0.1 + offset
        np.testing.assert_allclose(value, expected, atol=1e-5)


def test_the_session_table_may_set_the_bin_width(task: Path, tmp_path: Path) -> None:
    layout = tmp_path / "task.yaml"
    layout.write_text(
        "name: task\ndescription: a task\nbin_width: 0.05\nspikes: {held_out: heldout}\n"
        "trials: {align: go_time, window: [-0.1, 0.5]}\n"
    )
    table = tmp_path / "sessions.tsv"
    table.write_text(
        f"session\tnwb\tlayout\tbin_width\nwide\t{task}\t{layout}\t\nfine\t{task}\t{layout}\t0.01\n"
    )
    assert [row.bin_width for row in load_sessions(table)] == [None, 0.01]
    plan = Plan.read({"sessions": str(table), "models": {"smoothing": {}}})
    assert [plan.layout(name).bin_width for name in ("wide", "fine")] == [0.05, 0.01]
    arguments = ["ingest", str(task), "--layout", str(layout), "--session", "fine"]
    main([*arguments, "--bin-width", "0.01", "--out", str(tmp_path / "fine.zarr")])
    recording = open_recording(tmp_path / "fine.zarr")
    assert recording["spikes"].sizes["time"] == 60
    assert recording.attrs["bin_width"] == 0.01
    table.write_text(f"session\tnwb\tlayout\tbin_width\nbad\t{task}\t{layout}\t-1\n")
    with pytest.raises(InputError, match="bin_width"):
        load_sessions(table)


def test_sessions_without_their_file_are_left_out_and_listed(task: Path, tmp_path: Path) -> None:
    table = tmp_path / "sessions.tsv"
    layout = ROOT / "config" / "layouts" / "nlb_mc_maze.yaml"
    table.write_text(f"session\tnwb\tlayout\nhere\t{task}\t{layout}\ngone\tgone.nwb\t{layout}\n")
    content = {
        "sessions": str(table),
        "data_root": str(tmp_path),
        "results": str(tmp_path / "results"),
        "models": {"smoothing": {}},
    }
    with pytest.raises(DriftwaveError, match=r"nwb of session gone: found no file .*gone\.nwb"):
        checked_plan(content)
    plan = checked_plan({**content, "absent": "skip"})
    assert list(plan.sessions) == ["here"]
    assert not any("gone" in path for path in plan.targets())
    told = {row.session: (row.state, row.why) for row in summarise(plan)}
    assert told["gone"] == ("skipped", f"There is no file {tmp_path / 'gone.nwb'}.")
    table.write_text(f"session\tnwb\tlayout\ngone\tgone.nwb\t{layout}\n")
    with pytest.raises(DriftwaveError, match="none of 1 NWB files"):
        checked_plan({**content, "absent": "skip"})


def test_the_benchmarks_configuration_names_every_set_at_both_widths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    content = yaml.safe_load((ROOT / "config" / "paper" / "nlb.yaml").read_text())
    rows = load_sessions(ROOT / "config" / "paper" / "nlb.tsv")
    for row in rows:  # files where DANDI puts them
        path = tmp_path / row.nwb
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    plan = checked_plan({**content, "data_root": str(tmp_path)})
    widths = {name: plan.layout(name).bin_width for name in plan.sessions}
    assert len(widths) == 14
    for name, width in widths.items():
        assert width == (0.02 if name.endswith("_20") else 0.005)
        scores = plan.layout(name).scores
        assert scores is not None
        assert scores.name == name.removesuffix("_20")
    assert not plan.left_out
    (tmp_path / rows[0].nwb).unlink()
    left = checked_plan({**content, "data_root": str(tmp_path)}).left_out
    assert set(left) == {"mc_maze", "mc_maze_20"}
    with pytest.raises(DriftwaveError, match="none of 14 NWB files"):
        checked_plan({**content, "data_root": str(tmp_path / "empty")})
