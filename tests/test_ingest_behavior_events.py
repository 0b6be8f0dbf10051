"""Behaviour of every container of NWB: signals, events, intervals, values that hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pynwb
import pytest
from pynwb import behavior as nwb_behavior

from driftwave.config import parse_layout
from driftwave.errors import InputError
from driftwave.ingest.behavior_events import held_values, interval_shares
from driftwave.ingest.nwb import open_nwb, read_recording
from nwb_builder import Builder, poisson_units

T = np.arange(0, 60, 0.01)
LICKS = np.sort(np.random.default_rng(3).uniform(0, 60, 300))
CENTRES = 2.0 * np.arange(30)[:, None] + 0.1 * (np.arange(20) + 0.5)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file with each behavioural interface of NWB."""
    builder = Builder().units(
        poisson_units(3, 60.0, 20.0), obs_intervals=[np.array([[0, 60.0]])] * 3
    )
    module = builder.nwb.create_processing_module("behavior", "of a test")
    spatial = {"reference_frame": "of a test", "rate": 100.0}
    angle = np.rad2deg(0.5 * T) % 360
    for container, name, data, unit in (
        (nwb_behavior.Position(), "place", np.stack([T, -T], axis=1), "m"),
        (nwb_behavior.CompassDirection(), "heading", angle, "degrees"),
        (nwb_behavior.EyeTracking(), "gaze", np.stack([np.sin(T), np.cos(T)], axis=1), "m"),
    ):
        container.add_spatial_series(
            nwb_behavior.SpatialSeries(name=name, data=data, unit=unit, **spatial)
        )
        module.add(container)
    pupil = nwb_behavior.PupilTracking()
    pupil.add_timeseries(pynwb.TimeSeries(
        name="diameter", data=(2000 + 1000 * np.sin(T)).astype(np.int16), unit="mm",
        conversion=1e-3, offset=0.5, timestamps=T,
    ))  # fmt: skip
    series = nwb_behavior.BehavioralTimeSeries()
    series.add_timeseries(pynwb.TimeSeries(name="wheel", data=T, unit="cm", rate=100.0))
    events = nwb_behavior.BehavioralEvents()
    events.add_timeseries(
        pynwb.TimeSeries(name="lick", data=np.ones(300), unit="event", timestamps=LICKS)
    )
    events.add_timeseries(pynwb.TimeSeries(
        name="reward", data=[1.0, 3.0, 2.0], unit="ul", timestamps=[10.0, 30.0, 50.0]
    ))  # fmt: skip
    epochs = nwb_behavior.BehavioralEpochs()
    epochs.add_interval_series(pynwb.misc.IntervalSeries(
        name="running", data=[1, -1, 1, -1, 1], timestamps=[2.05, 4.0, 20.0, 21.0, 59.0]
    ))  # fmt: skip
    for container in (pupil, series, events, epochs):
        module.add(container)
    builder.nwb.add_acquisition(pynwb.misc.AnnotationSeries(
        name="notes", data=["a", "b"], timestamps=[0.55, 0.57]
    ))  # fmt: skip
    builder.intervals("grooming", [1.0, 1.5], [1.6, 2.5], paw=["left", "right"])
    return builder.write(tmp_path_factory.mktemp("behavior") / "f.nwb")


def read(path: Path, *behavior: dict[str, Any]) -> Any:
    layout = parse_layout({
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {},
        "windows": {"length": 2.0, "start": 0.0, "stop": 60.0}, "behavior": list(behavior),
    })  # fmt: skip
    with open_nwb(path) as file:
        return read_recording(file, layout, session="s").compute()


@pytest.mark.parametrize(
    ("series", "expected", "unit"),
    [
        ("Position/place", (CENTRES, -CENTRES), "m"),
        ("EyeTracking/gaze", (np.sin(CENTRES), np.cos(CENTRES)), "m"),
        ("PupilTracking/diameter", (2.5 + np.sin(CENTRES),), "mm"),
        ("BehavioralTimeSeries/wheel", (CENTRES,), "cm"),
    ],
)
def test_signals_of_each_container(
    path: Path, series: str, expected: tuple[np.ndarray, ...], unit: str
) -> None:
    tree = read(path, {"name": "b", "series": f"processing/behavior/{series}"})
    value = tree["behavior/value"]
    np.testing.assert_allclose(value, np.stack(expected, axis=-1), atol=3e-3)
    assert set(value["unit_of_measure"].values) == {unit}


def test_compass_direction_turns_past_zero(path: Path) -> None:
    heading = {"name": "b", "series": "processing/behavior/CompassDirection/heading",
               "kind": "circular"}  # fmt: skip
    value = read(path, heading)["behavior/value"].values[..., 0]
    error = np.angle(np.exp(1j * (value - 0.5 * CENTRES)))
    assert np.abs(error).max() < 2e-3


def test_events_are_counted(path: Path) -> None:
    licks = {"name": "lick", "series": "processing/behavior/BehavioralEvents/lick",
             "binning": "count"}  # fmt: skip
    tree = read(path, licks, {"name": "note", "series": "acquisition/notes", "binning": "count"})
    edges = np.arange(601) * 0.1
    value = tree["behavior/value"]
    expected = np.histogram(LICKS, edges)[0].reshape(30, 20)
    np.testing.assert_array_equal(value.sel(feature="lick"), expected)
    assert value.sel(feature="note").values[0, 5] == 2
    assert value.sel(feature="note").sum() == 2
    assert value["unit_of_measure"].values.tolist() == ["events/bin"] * 2
    np.testing.assert_array_equal(tree["behavior_series"]["lick_time"], LICKS)
    assert (tree["trials/split"] != "unused").sum() > 20


def test_intervals_give_the_share_of_a_bin(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = {"name": "run", "series": "processing/behavior/BehavioralEpochs/running",
               "binning": "share"}  # fmt: skip
    grooming = {"name": "groom", "series": "intervals/grooming", "binning": "share"}
    left = {"name": "left", "series": "intervals/grooming", "binning": "share",
            "where": "paw == 'left'"}  # fmt: skip
    value = read(path, running, grooming, left)["behavior/value"]
    run = value.sel(feature="run").values.ravel()
    expected = np.zeros(600)
    expected[20], expected[21:40], expected[200:210] = 0.5, 1, 1
    np.testing.assert_allclose(run, expected, atol=1e-6)
    assert "1 starts or stops of" in capsys.readouterr().err
    groom = np.zeros(600)
    groom[10:25] = 1  # both overlap from 1.5 to 1.6 s and count once
    np.testing.assert_allclose(value.sel(feature="groom").values.ravel(), groom, atol=1e-6)
    assert value.sel(feature="left").values.sum() == pytest.approx(6, abs=1e-5)


def test_values_hold_until_the_next(path: Path) -> None:
    reward = {"name": "reward", "series": "processing/behavior/BehavioralEvents/reward",
              "binning": "hold"}  # fmt: skip
    tree = read(path, reward)
    value = tree["behavior/value"].values[..., 0]
    expected = np.select([CENTRES < 10, CENTRES < 30, CENTRES < 50], [np.nan, 1, 3], 2)
    np.testing.assert_array_equal(value, expected)
    assert tree["behavior"]["unit_of_measure"].item() == "ul"
    assert (tree["trials/split"].values[:5] == "unused").all()


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"series": "processing/behavior/BehavioralEpochs/running"}, "binning: share"),
        ({"series": "processing/behavior/Position/place", "binning": "share"}, "a SpatialSeries"),
        ({"series": "acquisition/notes"}, "numbers"),
        ({"series": "intervals/licks", "binning": "count"}, "no interval table"),
    ],
)
def test_what_is_no_signal_or_interval(path: Path, layout: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(path, {"name": "b", **layout})


def test_shares_against_fine_sampling() -> None:
    rng = np.random.default_rng(0)
    begin = rng.uniform(0, 20, 30)
    spans = np.stack([begin, begin + rng.exponential(0.4, 30)], axis=1)
    found = interval_shares(spans, np.array([0.0, 7.3]), 0.25, 40)[..., 0]
    fine = np.arange(0, 10, 1e-3) + 5e-4
    for start, row in zip((0.0, 7.3), found, strict=True):
        t = start + fine
        on = ((spans[:, :1] <= t) & (t < spans[:, 1:])).any(axis=0)
        np.testing.assert_allclose(row, on.reshape(40, 250).mean(axis=1), atol=0.02)


def test_nothing_is_held_before_the_first_sample() -> None:
    found = held_values(np.array([1.0]), np.array([[4.0]]), np.array([0.0]), 0.5, 4)
    np.testing.assert_array_equal(found[0, :, 0], [np.nan, np.nan, 4, 4])
