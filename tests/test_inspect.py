"""The table of contents of a file, and first layouts that work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from pynwb.ophys import Fluorescence, ImageSegmentation, OpticalChannel, RoiResponseSeries

from driftwave.cli import main
from driftwave.config import load_layout, parse_layout
from driftwave.errors import InputError
from driftwave.ingest.inspect import COLUMNS, contents, first_layout
from driftwave.ingest.nwb import open_nwb, read_recording
from nwb_builder import Builder, grid, poisson_units, task_file


def facts(path: Path) -> dict[str, dict[str, str]]:
    table = contents(path)
    assert list(table.columns) == COLUMNS
    return table.set_index("path").to_dict("index")


def ingested(path: Path) -> Any:
    """What the drafted layout makes of the file it was drafted from."""
    layout = parse_layout(yaml.safe_load(first_layout(path)))
    with open_nwb(path) as file:
        return read_recording(file, layout, session="s").compute()


def imaging(path: Path, turned: bool) -> Path:
    """Seven ROIs, 100 frames."""
    builder = Builder()
    device = builder.nwb.create_device("scope")
    channel = OpticalChannel(name="green", description="a test", emission_lambda=510.0)
    plane = builder.nwb.create_imaging_plane(
        name="plane", optical_channel=channel, description="a test", device=device,
        excitation_lambda=920.0, indicator="GCaMP", location="V1", imaging_rate=10.0,
    )  # fmt: skip
    segmentation = ImageSegmentation()
    rois = segmentation.create_plane_segmentation("rois", imaging_plane=plane, name="cells")
    for k in range(7):
        rois.add_roi(pixel_mask=[(k, k, 1.0)])
    module = builder.nwb.create_processing_module("ophys", "a test")
    region = rois.create_roi_table_region("all", region=list(range(7)))
    data = np.ones((7, 100) if turned else (100, 7))
    trace = RoiResponseSeries(name="dff", data=data, rois=region, unit="1", rate=10.0)
    module.add(segmentation)
    module.add(Fluorescence(roi_response_series=trace))
    return builder.write(path)


def test_contents_of_a_task(tmp_path: Path) -> None:
    found = facts(task_file().write(tmp_path / "task.nwb"))
    hand = found["processing/behavior/hand"]
    assert hand["type"] == "TimeSeries"
    assert hand["shape"] == "10400 x 2"
    assert hand["rate"] == "200"
    assert (hand["start"], hand["stop"], hand["units"]) == ("0", "52", "m")
    assert found["units"]["shape"] == "6 rows"
    assert "area, hidden" in found["units"]["notes"]
    number = sum(map(len, poisson_units(6, 52.0, 12.0)))
    assert f"{number} spikes" in found["units"]["notes"]
    assert found["trials"]["shape"] == "24 rows"
    assert (found["trials"]["start"], found["trials"]["stop"]) == ("1", "48")
    assert "go_time, direction" in found["trials"]["notes"]


def test_notes_on_stamps_conversion_and_silence(tmp_path: Path) -> None:
    stamps = np.arange(50) * 0.1
    gap, uneven = stamps.copy(), stamps.copy()
    gap[20:] += 3.0
    uneven[1::2] += 0.01
    path = (
        Builder()
        .units([np.arange(5.0), np.empty(0)])
        .series("m", "gap", np.ones(50), timestamps=gap)
        .series("m", "uneven", np.ones(50), timestamps=uneven)
        .series("m", "scaled", np.ones(50), timestamps=stamps, conversion=0.001)
        .series("m", "turned", np.ones((50, 3)), timestamps=stamps)
        .write(tmp_path / "f.nwb")
    )
    # pynwb refuses to write an array the wrong way round; others' tools do not.
    with h5py.File(path, "r+") as h5:
        attrs = dict(h5["processing/m/turned/data"].attrs)
        del h5["processing/m/turned/data"]
        h5["processing/m/turned"].create_dataset("data", data=np.ones((3, 50))).attrs.update(attrs)
    found = facts(path)
    assert found["processing/m/gap"]["notes"] == "1 gaps, the longest 3.1 s"
    assert found["processing/m/uneven"]["notes"] == "uneven, 0.09 to 0.11 s apart"
    assert found["processing/m/scaled"]["notes"] == "conversion 0.001"
    assert found["processing/m/scaled"]["rate"] == "stamps, about 10"
    assert "column x time" in found["processing/m/turned"]["notes"]
    assert "1 units silent" in found["units"]["notes"]
    content = {
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {}, "windows": {"length": 1.0},
        "behavior": [{"name": "turned", "series": "processing/m/turned"}],
    }  # fmt: skip
    with open_nwb(path) as file, pytest.raises(InputError, match="again as time x column"):
        read_recording(file, parse_layout(content), session="s")


@pytest.mark.parametrize("turned", [True, False])
def test_imaging_stored_the_wrong_way_round(tmp_path: Path, turned: bool) -> None:
    path = imaging(tmp_path / "f.nwb", turned)
    row = facts(path)["processing/ophys/Fluorescence/dff"]
    assert ("ROI x time" in row["notes"]) is turned
    assert row["stop"] == "10"
    text = first_layout(path)
    assert "series: processing/ophys/Fluorescence/dff" in text
    assert "positions: null" in text
    assert "with pixel_size, mm" in text


def test_layout_for_units_and_trials(tmp_path: Path) -> None:
    path = task_file().write(tmp_path / "task.nwb")
    text = first_layout(path)
    assert "# or go_time" in text
    tree = ingested(path)
    assert tree["spikes/counts"].shape == (24, 50, 6)
    assert tree["stimulus/direction"].attrs["period"] == 360
    assert len(set(tree["trials/condition"].values)) == 4
    assert tree["behavior"]["feature"].values.tolist() == ["hand_0", "hand_1"]


def test_layout_for_units_and_behavior(tmp_path: Path) -> None:
    path = (
        Builder()
        .units(poisson_units(4, 60.0, 10.0), location=["CA1"] * 4)
        .series("behavior", "head direction", np.zeros(4000), unit="rad", rate=100.0,
                starting_time=10.0)
        .write(tmp_path / "f.nwb")
    )  # fmt: skip
    tree = ingested(path)
    assert tree["trials/start"].values[0] == 10
    assert tree["trials/stop"].values[-1] == 50
    assert tree["units/region"].values.tolist() == ["CA1"] * 4
    assert tree["behavior"]["kind"].values.tolist() == ["circular"]


def test_layout_for_counts(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(1, (3000, 5))
    path = (
        Builder()
        .series("ecephys", "spike_counts", counts, "spikes", rate=40.0)
        .write(tmp_path / "f.nwb")
    )
    tree = ingested(path)
    assert tree.attrs["bin_width"] == 0.025
    assert int(tree["spikes/counts"].sum()) == counts[: 37 * 80].sum()


def test_layout_for_a_field(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(12_000, 6)) * 1e-5
    path = Builder().electrodes(grid(2, 3)).field(data, rate=4000.0).write(tmp_path / "f.nwb")
    field = ingested(path)["field"]
    assert field.attrs["sampling_rate"] == 1000.0
    np.testing.assert_allclose(field["x"], grid(2, 3)[:, 0] / 1000)


def test_layout_without_usable_positions(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(500, 4)) * 1e-5
    path = Builder().electrodes(np.zeros((4, 2))).field(data, rate=500.0).write(tmp_path / "f.nwb")
    assert "x" not in ingested(path)["field"].coords


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = task_file().write(tmp_path / "task 1.nwb")
    main(["inspect", str(path), "--write-layout", str(tmp_path / "layouts" / "mine.yaml")])
    shown = capsys.readouterr().out
    assert "processing/behavior/hand" in shown
    assert load_layout("mine", tmp_path / "layouts").name == "mine"


@pytest.mark.recording
@pytest.mark.parametrize(
    "name",
    ["head_direction", "human_mtl", "hippocampus_track", "lorenz", "m1_reach", "retinal_waves",
     "thalamus_delay_response", "utah_seizure", "v1_gratings"],
)  # fmt: skip
def test_drafted_layout_ingests_the_real_file(recordings: Path, name: str) -> None:
    path = recordings / f"{name}.nwb"
    assert len(contents(path))
    assert {"spikes", "field"} & set(ingested(path).children)


@pytest.mark.recording
@pytest.mark.parametrize("name", ["suite2p_calcium", "worm"])
def test_real_imaging_is_listed(recordings: Path, name: str) -> None:
    found = facts(recordings / f"{name}.nwb")
    traces = [row for row in found.values() if row["type"] == "RoiResponseSeries"]
    assert traces
    turned = ["ROI x time" in row["notes"] for row in traces]
    assert all(turned) if name == "suite2p_calcium" else not any(turned)
    imaging = ingested(recordings / f"{name}.nwb")["imaging"]
    assert imaging["dff"].shape == ((2000, 219) if name == "suite2p_calcium" else (800, 141))
    assert ("x" in imaging.coords) is (name == "suite2p_calcium")
