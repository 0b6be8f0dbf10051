"""Waves of recordings: the seizure against its source's figures, spikes and imaging."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from driftwave.cli import cli
from driftwave.config import load_layout
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.phase.signal import wave_signal
from driftwave.recording import open_recording
from driftwave.store import open_dataset, write_tree
from driftwave.waves.phase_gradient import Params, analyse

pytestmark = pytest.mark.recording
LAYOUTS = Path(__file__).resolve().parents[1] / "config" / "layouts"


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
    # The source's figures: 90 % of frames, 99 mm/s with quartiles 77 and 124.
    assert np.nanmean(seizure["pgd"].values > 0.5) == pytest.approx(0.9, abs=0.05)
    quartiles = np.nanquantile(seizure["frame_speed"].values, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quartiles, [77, 99, 124], rtol=0.1)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "signal", "shape"),
    [("retinal_waves", "spikes", (3600, 1240)), ("suite2p_calcium", "imaging", (2000, 219))],
)
def test_waves_run_on_spikes_and_on_imaging(recordings, tmp_path, name, signal, shape):
    """What they run on and where it is, and what the main analysis says of it."""
    with open_nwb(recordings / f"{name}.nwb") as file:
        write_tree(
            read_recording(file, load_layout(name, LAYOUTS), session=name), tmp_path / "r.zarr"
        )
    recording = open_recording(tmp_path / "r.zarr")
    found = wave_signal(recording)
    assert found.attrs["signal"] == load_layout(name, LAYOUTS).wave_signal() == signal
    assert found["lfp"].shape == shape
    if signal == "spikes":
        assert found.attrs["bin_width"] == 0.5
        assert float(found["lfp"].sum()) == 448_089
        assert float(found["x"].max()) == pytest.approx(2.646)
        pooled = wave_signal(recording, site=0.252)
        assert float(pooled["lfp"].sum()) == 448_089
        assert pooled.sizes["electrode"] == 98
    else:
        assert found["good"].values.sum() == 19  # of 20 cells, one has no positive baseline
        assert np.ptp(found["x"].values) == pytest.approx(1.21, abs=0.01)
        assert "turned" in found.attrs
    suited = load_layout(name, LAYOUTS).waves
    own = {key: suited[key] for key in Params.model_fields if key in suited}
    params = Params(**own, surrogates=39, bootstrap=20, fields=("phase",))
    result = analyse(recording, None, params, seed=0)
    assert result.attrs["signal"] == signal
    # Single events are not told from the null: a retinal wave is one packet.
    assert not (result["q"].values <= 0.05).any()
    if signal == "spikes":
        assert result.attrs["null"] == "zero-lag surrogates with each site's own counts"
        assert float(result["p_recording_any"]) == 1 / 40
        beyond = result["observed_mean"] - result["null_mean"].max("surrogate")
        assert (beyond > 0).all()
    else:
        assert result["observed_mean"][0] < result["null_mean"][:, 0].quantile(0.95)
