"""Waves of the recorded seizure against the figures of its sources."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
from click.testing import CliRunner

from driftwave.cli import cli
from driftwave.store import open_dataset

pytestmark = pytest.mark.recording


@pytest.fixture(scope="module")
def seizure(recordings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seizure")
    runner = CliRunner()
    steps = [
        f"ingest {recordings / 'utah_seizure.nwb'} --layout utah_seizure --session seizure "
        f"--out {folder / 'recording.zarr'}",
        f"waves {folder / 'recording.zarr'} --plugin phase_gradient --out {folder / 'waves.zarr'}",
    ]
    for step in steps:
        outcome = runner.invoke(cli, shlex.split(step), catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
    return open_dataset(folder / "waves.zarr")


def test_frames_point_where_the_source_says(seizure):
    direction = np.deg2rad(seizure["frame_direction"].values)
    assert np.angle(np.exp(1j * direction).mean(), deg=True) == pytest.approx(-161, abs=10)
    assert (seizure["pgd"].values > 0.5).mean() > 0.8
    assert 77 < np.median(seizure["frame_speed"].values) < 124


def test_the_seizure_is_one_significant_planar_event(seizure):
    longest = int(np.argmax(seizure["stop"].values - seizure["start"].values))
    event = seizure.isel(event=longest)
    assert event["class"].values == "planar"
    assert float(event["q"]) <= 0.05
    assert float(event["direction"]) == pytest.approx(-161, abs=10)
    assert (seizure["p_recording"].values <= 0.02).all()


def test_group_velocity_differs_from_phase_velocity(seizure):
    direction = float(seizure["delay_plane_direction"])
    assert abs((direction + 160.6 + 180) % 360 - 180) < 20
    assert 137 < float(seizure["delay_plane_speed"]) < 260
    assert float(seizure["delay_plane_r_squared"]) > 0.5
    assert float(seizure["delay_plane_speed"]) > 1.5 * np.median(seizure["frame_speed"].values)
