"""A drafted layout ingests the file it was drafted from, whatever its structure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pynwb
import pytest
import yaml
from pynwb.behavior import CompassDirection, Position, SpatialSeries

from driftwave.cli import main
from driftwave.config import load_layout, parse_layout
from driftwave.errors import InputError
from driftwave.ingest.inspect import first_layout
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.recording import check_recording, trial_mask
from driftwave.store import verify_store
from nwb_builder import Builder, grid, poisson_units, task_file

SECONDS = 60.0
STARTS = np.arange(1.0, 57.0, 2.0)
NOISE = np.random.default_rng(0)


def units(**columns: Any) -> Builder:
    return Builder().units(poisson_units(6, SECONDS, 10.0), **columns)


def with_position(builder: Builder, columns: int = 2, conversion: float = 1.0) -> Builder:
    module = builder.nwb.create_processing_module("behavior", "of a test")
    data = np.cumsum(NOISE.normal(size=(3000, columns)), axis=0)
    series = SpatialSeries(
        name="animal position", data=data, rate=50.0, reference_frame="corner", unit="m",
        conversion=conversion,
    )  # fmt: skip
    module.add(Position(spatial_series=series))
    return builder


def with_field(builder: Builder, sites: int = 6, rate: float = 500.0, **options: Any) -> Builder:
    data = NOISE.normal(size=(int(rate * 10), sites)).astype(np.float32) * 1e-5
    return builder.field(data, rate=rate, **options)


def absolute(positions: np.ndarray, columns: str = "xyz") -> Builder:
    """Electrodes with x, y, z in micrometres, as NWB has them, and no relative ones."""
    builder = Builder()
    group = builder.nwb.create_electrode_group(
        "grid", "a grid", "V1", builder.nwb.create_device("array")
    )
    for place in positions:
        at = dict(zip(columns, map(float, place), strict=False))
        builder.nwb.add_electrode(group=group, location="V1", **at)
    return builder


def two_probes() -> Builder:
    builder = Builder()
    device = builder.nwb.create_device("probes")
    for name, y in (("left", 0.0), ("right", 5000.0)):
        group = builder.nwb.create_electrode_group(name, "a probe", "V1", device)
        for k in range(4):
            builder.nwb.add_electrode(group=group, location="V1", rel_x=20.0 * k, rel_y=y)
    return with_field(builder, sites=8)


def compass() -> Builder:
    builder = units()
    module = builder.nwb.create_processing_module("behavior", "of a test")
    angle = SpatialSeries(
        name="head", data=np.linspace(0, 6, 3000) % (2 * np.pi), rate=50.0,
        reference_frame="north", unit="radians",
    )  # fmt: skip
    module.add(CompassDirection(spatial_series=angle))
    return builder


def ragged_trials() -> Builder:
    """A trials table with a ragged column, NaN stops and an unfinished trial."""
    stops = STARTS + 1.0
    builder = units().trials(STARTS, stops, kind=["a", "b"] * 14, go_time=STARTS + 0.3)
    builder.nwb.add_trial_column("licks", "ragged", index=True, data=[[0.1]] * 28)
    return builder


def in_words() -> Builder:
    """Columns with spaces, booleans, NaN and a constant."""
    columns = {
        "stimulus name": (["grating", "blank"] * 14),
        "correct": [True, False, True, True] * 7,
        "contrast": [np.nan, 0.5, 1.0, 0.5] * 7,
        "block": [1] * 28,
    }
    return units().trials(STARTS, STARTS + 1, **columns)


def with_images(table: str = "image_presentations") -> Builder:
    return units().intervals(table, STARTS, STARTS + 0.5, image=[f"i{k % 7}" for k in range(28)])


def ripples() -> Builder:
    """Intervals before the behaviour that tell nothing but when they were."""
    builder = units().intervals("ripples", np.arange(0.0, 19.0), np.arange(0.0, 19.0) + 0.1)
    place = np.cumsum(NOISE.normal(size=2000))
    return builder.series("behavior", "wheel", place, rate=50.0, starting_time=20.0)


def epochs() -> Builder:
    builder = units()
    for k, start in enumerate((0.0, 20.0, 40.0)):
        builder.nwb.add_epoch(start, start + 19.0, tags=[f"part{k}"])
    return builder


def counts(unit: str, **clock: Any) -> Builder:
    data = NOISE.poisson(1.0, (2400, 5))
    return Builder().series("ecephys", "binned_spikes", data, unit, **clock)


def behaviour_apart() -> Builder:
    """Two series of behaviour that do not overlap in time."""
    data = np.zeros((1000, 1))
    builder = units().series("behavior", "early", data, rate=50.0, starting_time=0.0)
    return builder.series("behavior", "late", data, rate=50.0, starting_time=30.0)


def one_unit() -> Builder:
    return Builder().units(poisson_units(1, SECONDS, 10.0))


def few_trials() -> Builder:
    return units().trials(STARTS[:4], STARTS[:4] + 1)


def with_text() -> Builder:
    """A behaviour module that also holds what is no number."""
    builder = with_position(units())
    words = pynwb.TimeSeries(
        name="labels", data=["a", "b"] * 20, unit="n/a", timestamps=np.arange(40.0)
    )
    builder.nwb.processing["behavior"].add(words)
    return builder


def gappy() -> Builder:
    stamps = np.arange(2000) * 0.02
    stamps[1000:] += 5.0
    return units().series("behavior", "wheel", np.arange(2000.0), timestamps=stamps)


STRUCTURES: dict[str, tuple[Callable[[], Builder], set[str]]] = {
    "units and trials": (task_file, {"spikes", "behavior", "stimulus"}),
    "units only": (units, {"spikes"}),
    "one unit": (one_unit, {"spikes"}),
    "units and position": (lambda: with_position(units()), {"spikes", "behavior"}),
    "position of 3 columns": (lambda: with_position(units(), 3), {"spikes", "behavior"}),
    "head direction": (compass, {"spikes", "behavior"}),
    "position beside text": (with_text, {"spikes", "behavior"}),
    "a clock with a gap": (gappy, {"spikes"}),
    "behaviour that does not overlap": (behaviour_apart, {"spikes"}),
    "ragged trials": (ragged_trials, {"spikes"}),
    "columns in words": (in_words, {"spikes", "stimulus"}),
    "few trials": (few_trials, {"spikes"}),
    "stimulus presentations": (with_images, {"spikes", "stimulus"}),
    "intervals of any name": (lambda: with_images("movies"), {"spikes", "stimulus"}),
    "intervals that are no trials": (ripples, {"spikes", "behavior"}),
    "epochs": (epochs, {"spikes"}),
    "counts with a rate": (lambda: counts("spikes", rate=40.0), {"spikes"}),
    "counts with stamps": (
        lambda: counts("counts", timestamps=np.arange(2400) * 0.025),
        {"spikes"},
    ),
    "field, rel_x": (lambda: with_field(Builder().electrodes(grid(2, 3))), {"field"}),
    "field, x and y": (lambda: with_field(absolute(grid(2, 3)[:, :2], "xy")), {"field"}),
    "field, y and z": (
        lambda: with_field(absolute(np.c_[np.zeros(6), grid(2, 3)])),
        {"field"},
    ),
    "field, a probe along z": (
        lambda: with_field(absolute(np.c_[np.zeros((6, 2)), 20.0 * np.arange(6)])),
        {"field"},
    ),
    "field of two probes": (two_probes, {"field"}),
    "field and units": (
        lambda: with_field(units().electrodes(grid(2, 3))),
        {"field", "spikes"},
    ),
    "field, fast": (lambda: with_field(Builder().electrodes(grid(2, 3)), rate=4000.0), {"field"}),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_drafted_layout_ingests_its_file(tmp_path: Path, name: str) -> None:
    make, groups = STRUCTURES[name]
    path = make().write(tmp_path / "f.nwb")
    text = first_layout(path)
    with open_nwb(path) as file:
        tree = read_recording(file, parse_layout(yaml.safe_load(text)), session="s").compute()
    check_recording(tree)
    assert groups <= set(tree.children), text
    if name == "intervals that are no trials":
        assert "windows:" in text
    if "spikes" in groups:
        assert int(tree["spikes/counts"].sum()) > 0
        assert all(trial_mask(tree, split).any() for split in ("train", "valid", "test")), text
        assert not tree["units/held_out"].values.all()


def test_positions_are_the_columns_that_tell_electrodes_apart(tmp_path: Path) -> None:
    text = {}
    for name in ("field, x and y", "field, y and z", "field, a probe along z"):
        path = STRUCTURES[name][0]().write(tmp_path / f"{len(text)}.nwb")
        text[name] = first_layout(path)
    assert "positions: {x: x, y: y, unit: um}" in text["field, x and y"]
    assert "positions: {x: y, y: z, unit: um}" in text["field, y and z"]
    assert "positions: {x: x, y: z, unit: um}" in text["field, a probe along z"]


def test_the_layout_says_what_it_leaves_out(tmp_path: Path) -> None:
    path = gappy().write(tmp_path / "f.nwb")
    assert "wheel" in first_layout(path)


@pytest.mark.parametrize("make", [Builder, lambda: Builder().units([np.empty(0)] * 3)])
def test_nothing_usable_is_told_in_one_sentence(
    tmp_path: Path, make: Callable[[], Builder]
) -> None:
    path = make().write(tmp_path / "f.nwb")
    with pytest.raises(InputError, match=r"found .*, expected spikes.*; "):
        first_layout(path)


def test_a_layout_that_was_edited_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, layout = task_file().write(tmp_path / "task.nwb"), tmp_path / "mylab.yaml"
    main(["inspect", str(path), "--write-layout", str(layout)])
    assert load_layout(str(layout)).name == "mylab"
    layout.write_text("mine\n")
    with pytest.raises(SystemExit):
        main(["inspect", str(path), "--write-layout", str(layout)])
    assert "add --force" in capsys.readouterr().err
    assert layout.read_text() == "mine\n"
    main(["inspect", str(path), "--write-layout", str(layout), "--force"])
    assert load_layout(str(layout)).name == "mylab"
    with pytest.raises(SystemExit):
        main(["inspect", str(path), "--write-layout", str(tmp_path / "my lab.txt")])
    assert "expected NAME.yaml" in capsys.readouterr().err


def test_large_data_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a field only its shape and clock, whatever its length."""
    import h5py

    path = with_field(Builder().electrodes(grid(2, 3))).write(tmp_path / "f.nwb")
    real, read = h5py.Dataset.__getitem__, []

    def counted(self: h5py.Dataset, *arguments: Any, **options: Any) -> Any:
        value = real(self, *arguments, **options)
        if self.name.endswith("lfp/data"):
            read.append(np.size(value))
        return value

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    main(["inspect", str(path), "--write-layout", str(tmp_path / "l.yaml")])
    assert sum(read) <= 6


@pytest.mark.recording
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["head_direction", "hippocampus_track", "human_mtl", "lorenz", "m1_reach", "retinal_waves",
     "suite2p_calcium", "thalamus_delay_response", "utah_seizure", "v1_gratings", "worm"],
)  # fmt: skip
def test_the_two_commands_make_a_store_of_a_real_file(
    recordings: Path, tmp_path: Path, name: str
) -> None:
    nwb, layout, store = recordings / f"{name}.nwb", tmp_path / "l.yaml", tmp_path / "s.zarr"
    main(["inspect", str(nwb), "--write-layout", str(layout)])
    main(["ingest", str(nwb), "--layout", str(layout), "--session", name, "--out", str(store)])
    assert verify_store(store) == []


@pytest.mark.recording
def test_the_invalid_file_is_refused(recordings: Path) -> None:
    with pytest.raises(InputError, match=r"invalid_photoreceptor.nwb: .*found .*, expected "):
        first_layout(recordings / "invalid_photoreceptor.nwb")
