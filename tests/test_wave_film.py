"""Films, arrows and tables of events show what the waves stage found."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import xarray as xr
from PIL import Image

from driftwave.figures import wave_field
from driftwave.figures import waves as overview_of_waves
from driftwave.figures.array_parts import array_parts
from driftwave.figures.event_course import course_of
from driftwave.figures.film import CYCLES, STEPS, save_film
from driftwave.figures.phase_maps import Arrows, Tiles
from driftwave.figures.wave_field import example_events
from driftwave.wave_events.arrays import _side_by_side
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


def test_tiles_of_a_turned_grid_leave_no_gap_and_missing_electrodes_empty() -> None:
    angle = np.deg2rad(25)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    position = np.delete(grid(6, 5), 8, axis=0) @ turn + [2, 3]
    tiles = Tiles.of(position)
    assert tiles.member.size == 30
    assert (tiles.member < 0).sum() == 1
    row, column = np.nonzero(tiles.member >= 0)
    place = tiles.turn.transform(np.stack([column, row], axis=1))
    np.testing.assert_allclose(place, position[tiles.member[row, column]], atol=1e-9)
    image = tiles.image(np.arange(29.0))
    assert image.mask.sum() == 1
    assert sorted(image.compressed()) == list(range(29))


@pytest.mark.parametrize("layout", ["line", "irregular", "movie"])
def test_tiles_colour_each_electrode_about_its_place(layout: str) -> None:
    rng = np.random.default_rng(0)
    position = {
        "line": np.stack([0.05 * np.arange(24), 0.05 * np.arange(24)], axis=1)[::-1],
        "irregular": rng.uniform(0, 4, (30, 2)),
        "movie": grid(100, 100),
    }[layout]
    tiles = Tiles.of(position)
    assert set(tiles.member.ravel()) - {-1} == set(range(len(position)))
    assert tiles.member.size <= max(4 * len(position), 400**2)
    row, column = np.nonzero(tiles.member >= 0)
    place = tiles.turn.transform(np.stack([column, row], axis=1))
    away = np.hypot(*(place - position[tiles.member[row, column]]).T)
    pitch = Arrows.of(position, 0.4).length  # well above any electrode's reach
    assert away.max() < pitch


def two_arrays(waves: xr.Dataset) -> xr.Dataset:
    """The same recording twice, the second time with fewer electrodes and farther off."""
    fewer = waves.isel(electrode=slice(0, 60), cell=slice(0, 40), event=slice(0, 1))
    fewer = fewer.assign_coords(x=fewer["x"] + 50)
    fewer = fewer.assign_attrs(pitch=0.3)
    return _side_by_side({"A": waves, "B": fewer})


def test_arrays_are_taken_apart_as_they_were(waves: xr.Dataset) -> None:
    both = two_arrays(waves)
    parts = array_parts(both)
    assert list(parts) == ["A", "B"]
    xr.testing.assert_equal(parts["A"][list(waves.variables)].load(), waves.load())
    second = parts["B"]
    assert second.sizes["electrode"] == 60
    assert second.attrs["pitch"] == 0.3
    assert float(second["x"].min()) == 50
    assert list(second["electrode"].values) == list(waves["electrode"].values[:60])
    assert second.sizes["event"] == 1
    assert array_parts(waves)[""] is waves


def test_each_event_is_drawn_on_its_own_array(waves: xr.Dataset) -> None:
    both = two_arrays(waves)
    events = both.isel(event=np.flatnonzero(both["array"].values == "B"))
    chosen = example_events(events)
    assert [example.array for example in chosen] == ["B"]
    assert chosen[0].waves.sizes["electrode"] == 60
    figure = wave_field.draw(None, {"waves": both})
    label = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel().startswith("array")]
    assert len(label) == min(wave_field.EXAMPLES, both.sizes["event"])
    overview = overview_of_waves.draw(None, {"waves": both})
    overview.canvas.draw()
    heads = [part.get_suptitle() for block in overview.subfigs for part in block.subfigs]
    assert [head.split(":")[0] for head in heads if head] == ["array, array A", "array, array B"]


def test_further_waves_of_a_stretch_are_no_examples(waves: xr.Dataset) -> None:
    best = int(np.argmax(waves["peak_score"].values))
    pair = waves.isel(event=[best, best])
    pair["component"] = ("event", [1.0, 0.0])
    assert [example.event for example in example_events(pair)] == [1]
