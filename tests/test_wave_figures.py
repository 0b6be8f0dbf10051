"""Figures of decoded fields, film strips and pulses on rings show what they are given."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.figures import decoded_waves, ring_pulses, rollout
from driftwave.waves.phase_gradient import Params, analyse
from test_waves_decoded import RING, lattice_latents


def with_positions(recording: xr.DataTree, position: np.ndarray) -> xr.DataTree:
    units = recording["units"].to_dataset()
    for axis, values in zip("xy", position.T, strict=True):
        units[axis] = ("unit", values, {"units": "mm"})
    recording["units"] = xr.DataTree(units)
    return recording


@pytest.fixture(scope="module")
def recording() -> xr.DataTree:
    return with_positions(make_recording(units=16, held_out=0, bins=40, trials=20), RING)


def words(figure) -> str:  # type: ignore[no-untyped-def]
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
    return " | ".join(found)


def test_decoded_waves_shows_every_signal_and_its_null(recording: xr.DataTree) -> None:
    waves = analyse(recording, lattice_latents(recording, 2), Params(surrogates=19), seed=0)
    figure = decoded_waves.draw(None, {"waves": waves})
    shown = words(figure)
    for part in ("recorded (spikes)", "decoded", "winding number", "zero-lag null", "8.0 Hz"):
        assert part in shown
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    assert np.argmax(heights) == list(waves["winding"].values).index(2)
    with pytest.raises(InputError, match="winding_share"):
        decoded_waves.draw(None, {"waves": waves.drop_vars("winding_share")})


def test_a_film_strip_of_a_ring_is_phase_over_angle_and_time(recording: xr.DataTree) -> None:
    latents = lattice_latents(recording, 2)
    figure = rollout.draw(recording, {"latents": latents})
    shown = words(figure)
    for part in ("units around each site", "decoded", "angle (degrees)", "time (ms); 8.0 Hz"):
        assert part in shown
    assert "forward" in shown
    picture = figure.axes[1].images[0].get_array()
    assert picture.shape == (16, 40, 3)
    with pytest.raises(InputError, match="decoded_re"):
        rollout.draw(recording, {"latents": latents.drop_vars("decoded_re")})


def test_a_film_strip_in_the_plane_is_a_row_of_pictures(recording: xr.DataTree) -> None:
    latents = lattice_latents(recording, 2)
    place = 0.4 * np.array([(i, j) for j in range(4) for i in range(4)], float)
    latents = latents.assign_coords(site_x=("site", place[:, 0]), site_y=("site", place[:, 1]))
    figure = rollout.draw(recording, {"latents": latents.assign_attrs(topology="lattice")})
    maps = [axes for axes in figure.axes if axes.collections]
    assert len(maps) == 2 * rollout.PICTURES + 1
    assert all(len(axes.collections[0].get_offsets()) == 16 for axes in maps[:-1])
    assert "forward" in words(figure)


def test_ring_pulses_shows_the_three_nulls() -> None:
    rng = np.random.default_rng(0)
    waves = xr.Dataset(
        {
            "directionality": ("source", [0.1, 0.5], {"units": "1"}),
            "p": ("source", [0.2, 0.05], {"units": "1"}),
            "null_directionality": (
                ("source", "null", "surrogate"),
                rng.uniform(0, 0.3, (2, 3, 19)),
                {"units": "1"},
            ),
            "example": (
                ("source", "example_time", "site"),
                rng.normal(size=(2, 30, 8)),
                {"units": "arbitrary"},
            ),
        },
        coords={
            "source": ["activity", "spikes"],
            "null": ["shifted", "zero_lag", "order"],
            "example_time": 0.01 * np.arange(30),
        },
    )
    figure = ring_pulses.draw(None, {"waves": waves})
    assert "p = 0.05" in words(figure)
    assert "p = 0.2" in words(figure)
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["shifted", "zero_lag", "order"]
