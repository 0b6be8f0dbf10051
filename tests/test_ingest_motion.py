"""Place along a track, velocity and speed from tracked positions, against closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from driftwave.config import parse_layout
from driftwave.errors import InputError
from driftwave.ingest.motion import along_track, velocity
from driftwave.ingest.nwb import open_nwb, read_recording
from nwb_builder import Builder, poisson_units


def test_place_along_a_bent_track() -> None:
    corners = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    wanted = {
        (0.0, 0.0): 0.0,
        (1.5, 0.7): 1.5,  # beside the first leg
        (3.0, 0.0): 3.0,
        (3.6, 2.5): 5.5,  # beside the second
        (3.0, 9.0): 7.0,  # beyond the end
        (-2.0, 0.1): 0.0,  # before the start
        (2.9, 1.0): 4.0,  # nearer the second leg than the first
    }
    found = along_track(np.array(list(wanted)), corners)
    np.testing.assert_allclose(found[:, 0], list(wanted.values()), atol=1e-12)
    assert np.isnan(along_track(np.array([[np.nan, 1.0]]), corners)).all()


def test_velocity_of_a_sine_is_its_filtered_derivative() -> None:
    rng = np.random.default_rng(0)
    times = np.sort(np.arange(0, 20, 1 / 60) + rng.uniform(-0.004, 0.004, 1200))
    omega, sd = 2 * np.pi * 0.4, 0.2
    found = velocity(times, np.sin(omega * times)[:, None], sd, longest_gap=0.25)[:, 0]
    inner = (times > 1.5) & (times < 18.5)
    expected = np.exp(-0.5 * (omega * sd) ** 2) * omega * np.cos(omega * times)
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.01 * omega)


def test_nothing_is_differentiated_across_a_gap() -> None:
    times = np.concatenate([np.arange(0, 5, 0.1), np.arange(8, 13, 0.1), [20.0]])
    values = np.where(times < 6, 2 * times, 100 - times)[:, None]
    values[10] = np.nan
    found = velocity(times, values, 0.01, longest_gap=0.25)[:, 0]
    np.testing.assert_allclose(np.delete(found[:50], 10), 2.0)
    np.testing.assert_allclose(found[50:100], -1.0)
    assert np.isnan(found[[10, 100]]).all()


def test_repeated_stamps_have_no_infinite_speed() -> None:
    times = np.array([0.0, 0.1, 0.1, 0.2, 0.3])
    found = velocity(times, times[:, None] + [[0], [0], [5], [0], [0]], 0.01, longest_gap=1.0)
    np.testing.assert_allclose(found[[0, 1, 3, 4], 0], 1.0)
    assert np.isnan(found[2, 0])


SERIES = "processing/behavior/place"


@pytest.fixture(scope="module")
def lapping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of runs of 2 s at 50 px/s along a diagonal and rests of 2 s at its ends."""
    times = np.arange(0, 60, 1 / 50)
    phase = times % 8
    place = 100 * np.select([phase < 2, phase < 4, phase < 6], [phase / 2, 1, 3 - phase / 2], 0.0)
    places = np.array([10.0, 20.0]) + place[:, None] * np.array([0.6, 0.8])
    builder = Builder().units(poisson_units(4, 60.0, 20.0))
    builder.series("behavior", "place", places, rate=50.0, unit="pixels")
    return builder.write(tmp_path_factory.mktemp("motion") / "laps.nwb")


TRACK = [[10, 20], [70, 100]]


def read(path: Path, *behavior: dict[str, Any]) -> xr.DataTree:
    layout = parse_layout({
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {},
        "windows": {"length": 2.0, "start": 0.0, "stop": 60.0},
        "behavior": [{"series": SERIES, "speed_smoothing": 0.05, **b} for b in behavior],
    })  # fmt: skip
    with open_nwb(path) as file:
        return read_recording(file, layout, session="s").compute()


def test_features_of_a_run_along_a_track(lapping: Path) -> None:
    tree = read(
        lapping,
        {"name": "position", "track": TRACK, "min_speed": 20},
        {"name": "velocity", "track": TRACK, "derivative": "velocity"},
        {"name": "speed", "derivative": "speed"},
    )
    behavior = tree["behavior"].to_dataset()
    assert behavior["feature"].values.tolist() == ["position", "velocity", "speed"]
    units = behavior["unit_of_measure"].values.tolist()
    assert units == ["pixels", "pixels/s", "pixels/s"]
    position, signed, speed = np.moveaxis(behavior["value"].values, -1, 0)
    # Windows are, in turn, a run up, a rest, a run down and a rest.
    inner = slice(3, -3)
    centre = 0.1 * np.arange(20) + 0.05
    np.testing.assert_allclose(position[0, inner], 50 * centre[inner], atol=0.6)
    np.testing.assert_allclose(position[2, inner], 100 - 50 * centre[inner], atol=0.6)
    assert np.isnan(position[1::2, inner]).all()
    np.testing.assert_allclose(signed[0, inner], 50, atol=0.1)
    np.testing.assert_allclose(signed[2, inner], -50, atol=0.1)
    np.testing.assert_allclose(speed[[0, 2], inner], 50, atol=0.1)
    np.testing.assert_allclose(speed[1::2, inner], 0, atol=0.1)
    assert behavior.attrs["bins_without_behavior"] == 0
    assert behavior.attrs["bins_too_slow"] == np.isnan(position).sum()


def test_windows_at_rest_are_used_all_the_same(lapping: Path) -> None:
    tree = read(lapping, {"name": "position", "track": TRACK, "min_speed": 20})
    moving = np.isfinite(tree["behavior/value"].values).any((1, 2))
    assert not moving.all()
    without = read(lapping, {"name": "position", "track": TRACK})
    np.testing.assert_array_equal(tree["trials/split"], without["trials/split"])
    assert {"train", "valid", "test"} <= set(tree["trials/split"].values[~moving])


def test_a_series_is_stored_once_as_recorded(lapping: Path) -> None:
    tree = read(
        lapping,
        {"name": "position", "track": TRACK},
        {"name": "speed", "derivative": "speed"},
        {"name": "height", "columns": [1]},
    )
    series = tree["behavior_series"].to_dataset()
    assert set(series.data_vars) == {"position", "height"}
    assert series["position"].shape == (3000, 2)
    assert series["position"].attrs["units"] == "pixels"
    np.testing.assert_allclose(series["position"].values[0], [10, 20])
    np.testing.assert_allclose(series["height"].values[:, 0], series["position"].values[:, 1])


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"columns": [0], "track": TRACK}, r"behavior\.0\.track: found 1 columns"),
    ({"track": TRACK, "labels": ["x", "y"]}, r"behavior\.0\.labels: found 2 labels, .* 1 values"),
    ({"track": TRACK, "min_speed": 500}, r"behavior\.0\.min_speed: found no bin"),
    ({"track": [[1, 2]]}, r"behavior\.0\.track"),
    ({"track": [[1, 2], [1, 2]]}, "follow each other are the same"),
    ({"kind": "circular", "derivative": "speed"}, "are for continuous series"),
    ({"derivative": "acceleration"}, r"behavior\.0\.derivative"),
]


@pytest.mark.parametrize(("changes", "words"), FAULTS, ids=[str(c)[:40] for c, _ in FAULTS])
def test_motion_that_cannot_be_had(lapping: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(lapping, {"name": "place", **changes})
