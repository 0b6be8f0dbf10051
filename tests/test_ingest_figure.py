"""The overview shows what a recording holds, labelled with units."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.figures.recording import draw
from driftwave.figures.style import save_figure


def with_field(tree: xr.DataTree) -> xr.DataTree:
    y, x = np.mgrid[:4, :4] * 0.4
    lfp = np.random.default_rng(0).normal(0, 30, (900, 16)).astype(np.float32)
    tree["field"] = xr.Dataset(
        {"lfp": (("time", "electrode"), lfp, {"units": "microvolt"})},
        coords={
            "time": np.arange(900) / 500,
            "electrode": np.arange(16),
            "x": ("electrode", x.ravel()),
            "y": ("electrode", y.ravel()),
            "good": ("electrode", np.arange(16) != 5),
        },
        attrs={"sampling_rate": 500.0},
    )
    return tree


def titles(figure: plt.Figure) -> set[str]:
    found = set()
    for axis in figure.axes:
        found |= {axis.get_title(loc=loc) for loc in ("left", "center", "right")}
    return found - {""}


@pytest.mark.parametrize("contiguous", [True, False])
def test_spikes_behavior_and_field(contiguous: bool, tmp_path: Path) -> None:
    tree = with_field(make_recording(contiguous=contiguous))
    figure = draw(tree, {})
    assert {"counts", "firing rates", "electrodes", "field"} <= titles(figure)
    labels = {axis.get_ylabel() for axis in figure.axes}
    assert {"mean rate (Hz)", "behaviour (m)", "y (mm)", "standard deviation (µV)"} <= labels
    assert "12 units, 60 " + ("windows" if contiguous else "trials") in figure.get_suptitle()
    save_figure(figure, tmp_path / "recording")
    assert (tmp_path / "recording.png").stat().st_size > 10_000
    assert (tmp_path / "recording.svg").exists()


def test_raster_shows_the_spikes_of_the_trial() -> None:
    tree = make_recording(trials=11)
    start = float(tree["spikes/trial_start"].values[5])
    times = np.array([start - 0.01, start, start + 0.3, start + 0.59, start + 0.61])
    tree["spike_times"] = xr.Dataset(
        {"time": ("spike", times), "unit": ("spike", np.array([0, 1, 2, 11, 4]))}
    )
    raster = draw(tree, {}).axes[0]
    shown = np.asarray(raster.collections[-1].get_offsets())
    np.testing.assert_allclose(np.sort(shown[:, 0]), [0.0, 0.3, 0.59], atol=1e-9)
    plt.close("all")


def test_field_alone() -> None:
    tree = with_field(make_recording())
    for name in ("spikes", "units", "behavior", "trials", "truth"):
        del tree[name]
    figure = draw(tree, {})
    assert titles(figure) == {"electrodes", "field"}
    plt.close(figure)


def test_needs_a_recording() -> None:
    with pytest.raises(InputError, match="--recording"):
        draw(None, {})
