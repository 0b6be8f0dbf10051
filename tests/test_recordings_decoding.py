"""Decoders on real recordings, against figures computed independently from the same files.

Hidden bins and held-out units are for comparing models; here every bin and unit is decoded, as in
those figures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from conftest import ROOT
from driftwave import registry
from driftwave.config import load_layout
from driftwave.decoding import ridge
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.layout import WindowsLayout

pytestmark = pytest.mark.recording


def whole_recording(
    recordings: Path, name: str, where: str | None = None, **changes: object
) -> xr.DataTree:
    layout = load_layout(name, ROOT / "config" / "layouts")
    assert layout.spikes is not None
    spikes = layout.spikes.model_copy(update={"held_out": 0.0, "where": where, "min_rate": 0.0})
    layout = layout.model_copy(update={"spikes": spikes, "forward": 0.0, **changes})
    with open_nwb(recordings / f"{name}.nwb") as file:
        return read_recording(file, layout, session=name)


def decode(recording: xr.DataTree, **params: object) -> xr.Dataset:
    chosen = ridge.Params.model_validate({"validate_on": "all", **params})
    return ridge.analyse(recording, None, chosen, seed=0).sel(features_from="counts")


@pytest.mark.slow
def test_velocity_and_position_from_motor_cortex(recordings: Path) -> None:
    found = decode(whole_recording(recordings, "m1_reach"), lags=10, shuffles=3)
    r2 = found["r2_cv"].to_series()
    assert found.attrs["folds"] == "contiguous blocks"
    assert r2["hand_velocity_x"] == pytest.approx(0.801, abs=0.04)
    assert r2["hand_velocity_y"] == pytest.approx(0.729, abs=0.04)
    assert r2["hand_position_x"] == pytest.approx(0.870, abs=0.04)
    assert r2["hand_position_y"] == pytest.approx(0.838, abs=0.04)
    assert found["null_r2"].max() < 0.05


def test_heading_from_anterodorsal_thalamus(recordings: Path) -> None:
    recording = whole_recording(recordings, "head_direction", "location == 'adn'")
    assert recording["units"].sizes["unit"] == 7
    found = decode(recording, lags=5, shuffles=40)
    r2 = found["r2_cv"].to_series()
    assert r2["head_direction_cos"] == pytest.approx(0.84, abs=0.04)
    assert r2["head_direction_sin"] == pytest.approx(0.81, abs=0.04)
    assert found["angular_error_cv"].item() == pytest.approx(8.2, abs=0.8)
    assert found["null_angular_error"].min() > 60
    assert found["p_value_angular_error"].item() == pytest.approx(1 / 41)


def decode_by(name: str, recording: xr.DataTree, **params: object) -> xr.Dataset:
    """The same course with another decoder, from square-root counts."""
    module = registry.load("decoding", name)
    chosen = {"validate_on": "all", "features": ("counts",), "shuffles": 199, "halves": 1}
    found = module.analyse(recording, None, module.Params(**{**chosen, **params}), seed=0)
    return found.sel(features_from="counts")


@pytest.mark.parametrize(
    ("name", "cosine", "sine", "degrees"),
    [
        ("wiener", 0.84, 0.82, 8.4),
        pytest.param("kalman", 0.80, 0.77, 9.3, marks=pytest.mark.slow),
        pytest.param("kernel", 0.90, 0.92, 6.9, marks=pytest.mark.slow),
    ],
)
def test_heading_by_other_decoders(
    recordings: Path, name: str, cosine: float, sine: float, degrees: float
) -> None:
    """Ridge has 0.84, 0.82 and 8.2 degrees; a kernel sees that tuning curves are not linear."""
    recording = whole_recording(recordings, "head_direction", "location == 'adn'")
    found = decode_by(name, recording)
    r2 = found["r2_cv"].to_series()
    assert r2["head_direction_cos"] == pytest.approx(cosine, abs=0.04)
    assert r2["head_direction_sin"] == pytest.approx(sine, abs=0.04)
    assert found["angular_error_cv"].item() == pytest.approx(degrees, abs=0.8)
    assert found["p_value_angular_error"].item() == pytest.approx(1 / 200)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lower"), [("wiener", 0.04), ("kalman", 0.15)])
def test_velocity_by_other_decoders(recordings: Path, name: str, lower: float) -> None:
    """Ridge of ten bins: .801 and .729. The Wiener filter is the same model; a Kalman filter reads
    one bin at a time through its dynamics, and may lie lower but not higher.
    """
    options = {"past": (9,)} if name == "wiener" else {"components": (40,), "lags": (2,)}
    found = decode_by(name, whole_recording(recordings, "m1_reach"), **options)
    r2 = found["r2_cv"].to_series()
    assert 0.801 - lower < r2["hand_velocity_x"] < 0.801 + 0.04
    assert 0.729 - lower < r2["hand_velocity_y"] < 0.729 + 0.04
    assert (found["p_value"].sel(target=["hand_velocity_x", "hand_velocity_y"]) < 0.01).all()


def test_no_heading_from_hippocampus(recordings: Path) -> None:
    recording = whole_recording(recordings, "head_direction", "location == 'ca1'")
    found = decode(recording, lags=5, shuffles=40)
    r2 = found["r2_cv"].to_series()
    assert r2["head_direction_cos"] < 0
    assert r2["head_direction_sin"] < 0
    assert found["p_value"].sel(target="head_direction_cos").item() > 0.05


@pytest.mark.slow
def test_place_on_the_track_from_hippocampus(recordings: Path) -> None:
    """Bins of 250 ms while running, two either side: 0.61, blocks 0.44 to 0.72, 52 px."""
    layout = load_layout("hippocampus_track", ROOT / "config" / "layouts")
    # Five bins of history, read half a second late, are two bins either side.
    position = layout.behavior[0].model_copy(update={"lag": -0.5})
    whole_run = WindowsLayout(length=5.0, start=4430.0, stop=5378.0)
    recording = whole_recording(
        recordings, "hippocampus_track", bin_width=0.25, behavior=[position], windows=whole_run
    )
    assert recording["units"].sizes["unit"] == 31
    found = decode(recording, lags=5, shuffles=40)
    assert found["r2_cv"].item() == pytest.approx(0.61, abs=0.04)
    blocks = found["r2_fold"].values.ravel()
    assert (blocks.min(), blocks.max()) == (
        pytest.approx(0.44, abs=0.05),
        pytest.approx(0.72, abs=0.05),
    )
    error = (found["prediction"] - found["target_value"]).values
    assert np.nanmedian(np.abs(error)) < 65  # of the test split, from fewer trials
    assert found["null_r2"].max() < 0.1
    assert found["p_value"].item() == pytest.approx(1 / 41)


@pytest.mark.slow
def test_direction_of_gratings_from_visual_cortex(recordings: Path) -> None:
    recording = whole_recording(recordings, "v1_gratings")
    found = decode(recording, shuffles=20, classifier_shuffles=10)
    assert found["accuracy_cv"].item() == pytest.approx(0.944, abs=0.03)
    assert found["chance"].item() == pytest.approx(1 / 16, abs=0.04)
    assert found["p_value_accuracy"].item() == pytest.approx(1 / 11)
    assert found["angular_error_cv"].item() < found["null_angular_error"].min()
