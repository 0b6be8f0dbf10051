"""Films, arrows and tables of events show what the waves stage found."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import xarray as xr
from PIL import Image

from driftwave.figures import wave_field
from driftwave.figures.event_course import course_of
from driftwave.figures.film import CYCLES, STEPS, save_film
from driftwave.figures.phase_maps import Arrows
from driftwave.wave_events.export import events_frame
from driftwave.waves.phase_gradient import Params, analyse
from waves_cases import grid, noise, phase_of, recording_of

RATE = 250.0


@pytest.fixture(scope="module")
def waves() -> xr.Dataset:
    """A plane wave towards 60 degrees in the middle of ten seconds of noise."""
    position = grid()
    clock = np.arange(round(10 * RATE)) / RATE
    field = 0.3 * noise(np.random.default_rng(0), position, len(clock), RATE)
    phase = phase_of("planar", position, frequency=12, direction=60)
    field += ((clock > 3) & (clock < 7)) * np.cos(2 * np.pi * 12 * clock + phase[:, None])
    recording = recording_of(field.T, position, RATE)
    return analyse(recording, None, Params(surrogates=19, bootstrap=20), seed=0)


def test_arrows_point_along_the_direction_of_travel(waves: xr.Dataset) -> None:
    best = waves.isel(event=int(np.argmax(waves["peak_score"].values)))
    course = course_of(waves, best, cycles=1, steps=6)
    assert course is not None
    assert course.gradient is not None
    position = np.stack([waves["x"].values, waves["y"].values], axis=1)
    arrows = Arrows.of(position, 0.4)
    drawn = arrows.vectors(course.gradient[:, :, 3])
    mean = drawn.mean(axis=0)
    assert np.degrees(np.arctan2(mean[1], mean[0])) == pytest.approx(60, abs=5)
    assert np.hypot(*drawn.T).max() <= arrows.length * (1 + 1e-5)


def test_arrows_leave_out_electrodes_without_a_gradient() -> None:
    position = grid(8, 8)
    gradient = np.tile([[-1.0], [0.0]], (1, len(position)))
    gradient[:, ::3] = np.nan
    drawn = Arrows.of(position, 0.4).vectors(gradient)
    assert np.isfinite(drawn).all()
    assert (drawn[:, 0] > 0).any()
    assert np.allclose(drawn[:, 1], 0)


def test_a_film_has_a_page_per_moment_in_both_formats(waves: xr.Dataset, tmp_path: Path) -> None:
    one = waves.isel(event=[int(np.argmax(waves["peak_score"].values))])
    save_film(one, tmp_path / "film")
    with Image.open(tmp_path / "film.gif") as gif:
        pages = gif.n_frames
    course = course_of(one, one.isel(event=0), cycles=CYCLES, steps=STEPS)
    assert course is not None
    assert 20 <= pages <= len(course.time)
    with av.open(str(tmp_path / "film.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == len(course.time)


def test_without_events_the_film_says_so(waves: xr.Dataset, tmp_path: Path) -> None:
    save_film(waves.isel(event=slice(0, 0)), tmp_path / "film")
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames == 1
        assert np.asarray(gif.convert("L")).min() < 100


def test_strips_draw_a_map_per_phase_and_a_mean(waves: xr.Dataset) -> None:
    one = waves.isel(event=[int(np.argmax(waves["peak_score"].values))])
    figure = wave_field.draw(None, {"waves": one})
    assert len(figure.axes) == wave_field.PHASES + 2  # the mean, and the colour bar
    assert "mm/s" in figure.axes[0].get_ylabel()


def test_the_table_has_a_row_per_event_in_order_of_time(waves: xr.Dataset) -> None:
    order = np.arange(waves.sizes["event"])[::-1]
    table = events_frame(waves.isel(event=order))
    assert list(table.columns[:4]) == ["session", "start", "stop", "class"]
    assert table["start"].is_monotonic_increasing
    np.testing.assert_allclose(table["direction"], waves["direction"].values)
    assert {"p", "q", "speed", "wavelength", "frequency"} <= set(table)
