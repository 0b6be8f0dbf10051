"""Input that cannot be used: one sentence that names file, field, found, expected and the fix."""

from __future__ import annotations

import copy
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from hdmf.backends.hdf5 import H5DataIO

from driftwave.cli import main
from driftwave.config import parse_layout
from driftwave.errors import InputError
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.recording import open_recording
from nwb_builder import TASK_LAYOUT, Builder, grid, poisson_units, task_file


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return task_file().write(tmp_path_factory.mktemp("bad") / "task.nwb")


def layout(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(TASK_LAYOUT) | changes


def refusal(path: Path, content: dict[str, Any], sha256: str | None = None) -> str:
    """The sentence with which an ingest is refused."""
    with pytest.raises(InputError) as caught, open_nwb(path, sha256) as file:
        read_recording(file, parse_layout(content), session="s").compute()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert ": found " in message
    assert ", expected " in message
    assert message.endswith(".")
    return message


def missing(_: Path, folder: Path) -> Path:
    return folder / "nothing.nwb"


def a_folder(_: Path, folder: Path) -> Path:
    path = folder / "folder.nwb"
    path.mkdir()
    return path


def empty(_: Path, folder: Path) -> Path:
    path = folder / "empty.nwb"
    path.touch()
    return path


def truncated(good: Path, folder: Path) -> Path:
    path = folder / "truncated.nwb"
    path.write_bytes(good.read_bytes()[: good.stat().st_size * 2 // 3])
    return path


def web_page(_: Path, folder: Path) -> Path:
    path = folder / "page.nwb"
    path.write_text("\n<!DOCTYPE html><html><body>404: not found</body></html>")
    return path


def plain_text(_: Path, folder: Path) -> Path:
    path = folder / "text.nwb"
    path.write_text("time,unit\n0.1,3\n")
    return path


def other_hdf5(_: Path, folder: Path) -> Path:
    path = folder / "other.nwb"
    with h5py.File(path, "w") as h5:
        h5["data"] = np.arange(5)
    return path


def nwb_1(_: Path, folder: Path) -> Path:
    path = folder / "old.nwb"
    with h5py.File(path, "w") as h5:
        h5["nwb_version"] = "NWB-1.0.6"
        h5.create_group("epochs")
    return path


BROKEN: list[tuple[Callable[[Path, Path], Path], str]] = [
    (missing, "no such file"),
    (a_folder, "a folder"),
    (empty, "an empty file"),
    (truncated, "a truncated HDF5 file"),
    (web_page, "a web page saved under this name"),
    (plain_text, "a file HDF5 cannot open"),
    (other_hdf5, "HDF5 content that is not NWB 2"),
    (nwb_1, "NWB version NWB-1.0.6"),
]


@pytest.mark.parametrize(("make", "words"), BROKEN, ids=[make.__name__ for make, _ in BROKEN])
def test_file_that_cannot_be_opened(
    good: Path, tmp_path: Path, make: Callable[[Path, Path], Path], words: str
) -> None:
    assert f"found {words}" in refusal(make(good, tmp_path), layout())


def test_damaged_chunk_inside_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "damaged.nwb"
    task_file().write(path)
    with h5py.File(path, "r+") as h5:
        data = h5["units/spike_times"][:]
        del h5["units/spike_times"]
        item = h5.create_dataset("units/spike_times", data=data, compression="gzip", chunks=True)
        for name, value in (("namespace", "hdmf-common"), ("neurodata_type", "VectorData")):
            item.attrs[name] = value
        item.attrs["object_id"] = "0" * 8 + "-0000-4000-8000-" + "0" * 12
        item.attrs["description"] = "spikes"
        offset = item.id.get_chunk_info(0).byte_offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 64)
    assert "data that cannot be read" in refusal(path, layout())


def test_checksum(good: Path) -> None:
    right = hashlib.sha256(good.read_bytes()).hexdigest()
    with open_nwb(good, sha256=right.upper()) as file:
        assert file.sha256 == right
    message = refusal(good, layout(), sha256="0" * 64)
    assert f"sha256: found {right}, expected {'0' * 64}" in message


LAYOUT_FAULTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"spikes": {"source": "processing/ecephys/counts"}}, ["spikes.source", "behavior/hand"]),
    ({"spikes": {"where": "quality == 'good'"}}, ["spikes.where", "'area'", "'hidden'"]),
    ({"spikes": {"where": "area == 'V4'"}}, ["matches none of 6 rows"]),
    ({"spikes": {"region": "place"}}, ["no column 'place'", "'area'"]),
    ({"spikes": {"held_out": "area"}}, ["only true and false", "'M1'"]),
    ({"spikes": {"held_out": 0.99}}, ["spikes.held_out", "6 of 6 units held out"]),
    ({"spikes": {"held_out": 1.0}}, ["spikes.held_out: found 1, expected a share"]),
    ({"spikes": {"held_out": -0.25}}, ["spikes.held_out: found -0.25, expected a share"]),
    ({"spikes": {"min_rate": 500.0}}, ["no unit at 500 Hz"]),
    ({"trials": {"table": "intervals/cues", "window": [0, 1]}}, ["trials.table", "'trials'"]),
    ({"trials": {"align": "move", "window": [0, 1]}}, ["no column 'move'", "'go_time'"]),
    ({"trials": {"where": "direction >", "window": [0, 1]}}, ["trials.where", "'direction'"]),
    ({"trials": {"condition": ["target"], "window": [0, 1]}}, ["trials.condition", "'target'"]),
    ({"trials": {"window": [0, 0.98]}}, ["trials.window", "19.6 bins", "whole number"]),
    ({"bin_width": 2.0}, ["trials.window", "shorter than one bin of 2 s", "Narrow `bin_width`"]),
    ({"bin_width": 1.0, "forward": 0.0}, ["forward", "at least two bins"]),
    ({"bin_width": 0.5, "forward": 0.1}, ["forward: found 0.1 s, shorter than one bin of 0.5 s"]),
    ({"forward": 0.99}, ["forward", "whole number of bins"]),
    ({"forward": 1.0}, ["forward", "at least two bins"]),
    ({"stimulus": {"columns": ["contrast"]}}, ["stimulus.columns", "'contrast'", "'direction'"]),
    ({"split": {"column": "fold"}}, ["split.column", "'fold'"]),
    (
        {"behavior": [{"name": "eye", "series": "processing/behavior/eye"}]},
        ["behavior.0.series", "'processing/behavior/eye'", "processing/behavior/hand"],
    ),
    (
        {"behavior": [{"name": "h", "series": "processing/behavior/hand", "columns": [0, 2]}]},
        ["behavior.0.columns", "0 to 1"],
    ),
    (
        {"behavior": [{"name": "h", "series": "processing/behavior/hand", "labels": ["x"]}]},
        ["behavior.0.labels", "one for each of 2 columns"],
    ),
    ({"field": {"series": "acquisition/lfp"}}, ["field.series", "no TimeSeries"]),
    ({"field": {"series": "processing/behavior/hand"}}, ["a TimeSeries", "an ElectricalSeries"]),
    ({"truth": {"rate": "processing/behavior/hand"}}, ["truth.rate", "2 columns", "6 units"]),
]


@pytest.mark.parametrize(
    ("changes", "words"), LAYOUT_FAULTS, ids=[str(c)[:50] for c, _ in LAYOUT_FAULTS]
)
def test_layout_that_asks_for_what_is_not_there(
    good: Path, changes: dict[str, Any], words: list[str]
) -> None:
    message = refusal(good, layout(**changes))
    for word in words:
        assert word in message


def test_windows_without_spikes(tmp_path: Path) -> None:
    observed = [np.array([[0.0, 60.0]])] * 3
    early = [s[s < 20] for s in poisson_units(3, 60.0, 20.0)]
    path = Builder().units(early, obs_intervals=observed).write(tmp_path / "f.nwb")
    content = {
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {},
        "windows": {"length": 2.0, "start": 30.0},
    }  # fmt: skip
    assert "no spike of 3 units in any of 15 trials from 30 to 60 s" in refusal(path, content)


def test_trials_outside_the_recording(good: Path) -> None:
    trials = {"window": [500.0, 501.0]}
    message = refusal(good, layout(trials=trials))
    assert "0 usable trials" in message
    assert '"rows_outside_recording": 24' in message
    assert "spans 0 to 52 s" in message


def test_no_spike_at_all(tmp_path: Path) -> None:
    path = Builder().units([np.empty(0)] * 2).write(tmp_path / "f.nwb")
    assert "2 units without a single spike" in refusal(path, layout())


def test_unit_without_spikes_is_kept_and_named(tmp_path: Path) -> None:
    spikes = [*poisson_units(3, 40.0, 20.0), np.empty(0)]
    path = Builder().units(spikes).write(tmp_path / "f.nwb")
    content = {
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {"held_out": 0.7},
        "windows": {"length": 2.0},
    }  # fmt: skip
    with pytest.raises(InputError, match="at least one unit with spikes that stays visible"):
        read(path, content)
    content["spikes"] = {"held_out": 0.25}
    tree = read(path, content)
    assert tree["spikes"].attrs["silent_units"] == [3]
    assert tree["units/rate"].values[3] == 0
    assert not tree["units/held_out"].values[3]


def read(path: Path, content: dict[str, Any]) -> Any:
    with open_nwb(path) as file:
        return read_recording(file, parse_layout(content), session="s").compute()


def test_no_units_table(tmp_path: Path) -> None:
    path = Builder().series("behavior", "hand", np.ones(50), rate=5.0).write(tmp_path / "f.nwb")
    message = refusal(path, layout())
    assert "no Units table" in message
    assert "processing/behavior/hand" in message


def test_one_trial_only(good: Path) -> None:
    message = refusal(good, layout(trials={"window": [0.0, 1.0], "where": "id == 4"}))
    assert "1 usable trial" in message
    assert "at least 3" in message


def test_behavior_that_is_nan_throughout(tmp_path: Path) -> None:
    builder = Builder().units(poisson_units(3, 40.0, 20.0))
    builder.series("behavior", "hand", np.full(4000, np.nan), rate=100.0)
    builder.series("behavior", "late", np.ones(100), rate=100.0, starting_time=90.0)
    path = builder.write(tmp_path / "f.nwb")
    content = {
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {}, "windows": {"length": 2.0}
    }  # fmt: skip
    for name, words in (
        ("hand", "NaN in all 4000 samples"),
        ("late", "finite samples from 90 to 90.99 s only"),
    ):
        behavior = [{"name": "h", "series": f"processing/behavior/{name}"}]
        assert words in refusal(path, content | {"behavior": behavior})


def field_file(path: Path, positions: np.ndarray, data: np.ndarray | None = None) -> Path:
    if data is None:
        data = np.random.default_rng(0).normal(size=(500, len(positions))) * 1e-5
    return Builder().electrodes(positions).field(data, rate=250.0).write(path)


FIELD = {"name": "n", "description": "d", "field": {"series": "acquisition/lfp"}}


def test_electrodes_that_share_a_position(tmp_path: Path) -> None:
    positions = grid(3, 3)
    positions[7] = positions[2]
    path = field_file(tmp_path / "f.nwb", positions)
    message = refusal(path, FIELD)
    assert "electrodes [2, 7] all at x 0.8, y 0, z 0 mm" in message
    mended = {**FIELD, "field": {"series": "acquisition/lfp", "bad_electrodes": [7]}}
    assert not read(path, mended)["field"]["good"].values[7]
    without = {**FIELD, "field": {"series": "acquisition/lfp", "positions": None}}
    assert "x" not in read(path, without)["field"].coords


def test_electrode_without_a_position(tmp_path: Path) -> None:
    positions = grid(3, 3)
    positions[4] = np.nan
    assert "none for electrodes [4]" in refusal(field_file(tmp_path / "f.nwb", positions), FIELD)


def test_position_columns_that_are_not_there(tmp_path: Path) -> None:
    content = {**FIELD, "field": {"series": "acquisition/lfp", "positions": {"x": "mni_x"}}}
    message = refusal(field_file(tmp_path / "f.nwb", grid(3, 3)), content)
    assert "field.positions.x" in message
    assert "'rel_x'" in message


def test_unknown_bad_electrode(tmp_path: Path) -> None:
    content = {**FIELD, "field": {"series": "acquisition/lfp", "bad_electrodes": [3, 99]}}
    assert "ids [99]" in refusal(field_file(tmp_path / "f.nwb", grid(3, 3)), content)


def test_field_without_a_good_electrode(tmp_path: Path) -> None:
    data = np.zeros((500, 4))
    data[3, 1] = np.nan
    path = field_file(tmp_path / "f.nwb", grid(2, 2), data)
    assert "1 electrodes with samples that are not finite, 3 flat, of 4" in refusal(path, FIELD)


def test_counts_that_are_no_counts(tmp_path: Path) -> None:
    content = layout(spikes={"source": "processing/ecephys/counts"}, behavior=[])
    for number, data in enumerate((np.full((900, 3), 0.5), np.full((900, 3), -1.0))):
        path = tmp_path / f"{number}.nwb"
        starts = np.arange(10.0)
        builder = Builder().trials(starts, starts + 1, direction=np.zeros(10))
        builder.series("ecephys", "counts", data, unit="spikes", rate=20.0).write(path)
        assert "negative or not whole" in refusal(path, content)


def test_counts_that_are_missing(tmp_path: Path) -> None:
    data = np.ones((900, 3))
    data[5, 1] = np.nan
    path = tmp_path / "f.nwb"
    Builder().series("ecephys", "counts", data, unit="spikes", rate=20.0).write(path)
    content = {
        "name": "n", "description": "d", "bin_width": 0.1, "windows": {"length": 2.0},
        "spikes": {"source": "processing/ecephys/counts"},
    }  # fmt: skip
    message = refusal(path, content)
    assert "1 values that are NaN or infinite, the first in bin 5, unit 1" in message


def test_bins_longer_than_the_windows(good: Path) -> None:
    content = layout(bin_width=3.0, windows={"length": 2.0}, behavior=[])
    del content["trials"]
    message = refusal(good, content)
    assert "windows.length: found 2 s, shorter than one bin of 3 s" in message


def test_no_unit_held_out(good: Path) -> None:
    with open_nwb(good) as file:
        tree = read_recording(file, parse_layout(layout(spikes={"held_out": 0})), session="s")
    assert not tree["units/held_out"].values.any()


def test_overflow_names_the_bin(tmp_path: Path) -> None:
    spikes = [np.sort(np.concatenate([np.full(70_000, 5.0), np.arange(0, 20, 0.1)]))]
    path = Builder().units(spikes).write(tmp_path / "f.nwb")
    content = {
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {}, "windows": {"length": 2.0}
    }  # fmt: skip
    message = refusal(path, content)
    assert "spikes of unit 0 in one bin" in message
    assert "at most 65535" in message


def run_ingest(path: Path, layout_path: Path, out: Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main(
            ["ingest", str(path), "--layout", str(layout_path), "--session", "s", "--out", str(out)]
        )
    assert isinstance(caught.value.code, int)
    return caught.value.code


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "layout.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("make", [make for make, _ in BROKEN], ids=lambda make: make.__name__)
def test_command_line_leaves_nothing_behind(
    good: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path, Path], Path],
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    path = make(good, tmp_path)
    assert run_ingest(path, written(tmp_path, layout()), results / "recording.zarr") == 1
    assert list(results.iterdir()) == []
    error = capsys.readouterr().err
    assert error.startswith(f"Error: {path}: ")
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_earlier_output_stays_as_it_was(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "recording.zarr"
    command = ["ingest", str(good), "--session", "s", "--out", str(out), "--layout"]
    main([*command, str(written(tmp_path, layout()))])
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    bad = written(tmp_path, layout(stimulus={"columns": ["contrast"]}))
    assert run_ingest(good, bad, out) == 1
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert [p.name for p in out.parent.iterdir()] == ["recording.zarr"]
    assert open_recording(out).attrs["session"] == "s"


def test_failure_while_the_field_is_streamed_leaves_nothing(tmp_path: Path) -> None:
    # Damage in a late chunk shows in the reading, whole metadata or not.
    data = np.random.default_rng(0).normal(size=(4000, 4)) * 1e-5
    wrapped = H5DataIO(data, compression="gzip", chunks=(500, 4))
    path = Builder().electrodes(grid(2, 2)).field(wrapped, rate=250.0).write(tmp_path / "f.nwb")
    with h5py.File(path, "r") as h5:
        offset = h5["acquisition/lfp/data"].id.get_chunk_info(6).byte_offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\x00" * 200)
    out = tmp_path / "results" / "recording.zarr"
    out.parent.mkdir()
    assert run_ingest(path, written(tmp_path, FIELD), out) == 1
    assert list(out.parent.iterdir()) == []


def test_process_ends_with_status_1(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "driftwave.cli", "ingest", str(tmp_path / "nothing.nwb"),
            "--layout", str(written(tmp_path, layout())), "--session", "s",
            "--out", str(tmp_path / "out.zarr"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no such file" in done.stderr
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.recording
def test_real_nwb_1_file_is_refused(recordings: Path) -> None:
    message = refusal(recordings / "invalid_photoreceptor.nwb", layout())
    assert "found NWB version 1.2.0, expected an NWB 2 file" in message


@pytest.mark.recording
@pytest.mark.parametrize("name", ["lorenz_lfads.h5", "SOURCES.md"])
def test_other_real_files_are_refused(recordings: Path, name: str) -> None:
    refusal(recordings / name, layout())
