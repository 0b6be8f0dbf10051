"""The picture of singularities shows every track, with its charge, lifetime and significance."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from driftwave.errors import InputError
from driftwave.figures import singularity_tracks
from waves_cases import grid, recording_of

STEP = 0.01


def found(lives: list[int], charges: list[int], q: list[float]) -> xr.Dataset:
    """Tracks that go straight along x, each at a y of its own, one after the other."""
    start = 0.5 * np.arange(len(lives))
    track = np.repeat(np.arange(len(lives)), lives)
    step = np.concatenate([np.arange(n) for n in lives] or [np.zeros(0)])
    life = STEP * np.array(lives, float)
    event = {
        "start": start,
        "stop": start + life,
        "lifetime": life,
        "charge": np.array(charges, float),
        "q": np.array(q, float),
    }
    point = {
        "track": track,
        "track_time": start[track] + STEP * step,
        "track_x": 0.1 * step,
        "track_y": 0.4 * track,
    }
    return xr.Dataset(
        {name: ("event", values) for name, values in event.items()}
        | {name: ("point", values) for name, values in point.items()}
        | {"null_lifetime": ("null_event", np.array([0.02, 0.03, 0.05]))},
        attrs={"surrogates": 9, "session": "array", "pitch": 0.4},
    )


def words(figure: Figure) -> str:
    figure.canvas.draw()
    blocks = [figure, *figure.subfigs, *(sub for one in figure.subfigs for sub in one.subfigs)]
    titles = [block.get_suptitle() for block in blocks]
    labels = [t.get_text() for axes in figure.axes for t in axes.get_yticklabels()]
    return " | ".join(titles + labels)


def drawn(figure: Figure) -> list[np.ndarray]:
    lines = [one for axes in figure.axes for one in axes.collections]
    lines = [one for one in lines if isinstance(one, LineCollection)]
    return [path.vertices for one in lines for path in one.get_paths() if len(path.vertices) > 2]


def test_every_track_is_drawn_where_it_went() -> None:
    tracks = found([5, 9, 3], [1, -1, 1], [0.5, 0.01, 0.6])
    recording = recording_of(np.zeros((2000, 100)), grid(), 250)
    figure = singularity_tracks.draw(recording, {"detectors": tracks})
    shown = words(figure)
    assert "3 tracks, 1 of significant lifetime" in shown
    assert "(2)" in shown
    assert "(1)" in shown
    paths = {round(float(path[0, 1]) / 0.4): path for path in drawn(figure)}
    assert sorted(paths) == [0, 1, 2]
    np.testing.assert_allclose(paths[1], np.stack([0.1 * np.arange(9), np.full(9, 0.4)], axis=1))


def test_lifetimes_stand_beside_those_of_a_surrogate() -> None:
    figure = singularity_tracks.draw(None, {"detectors": found([5, 9], [1, 1], [0.5, 0.5])})
    axes = next(axes for axes in figure.axes if axes.get_xlabel() == "lifetime (s)")
    null, life = (line.get_ydata() for line in axes.get_lines())
    assert list(life) == [2, 2, 1, 0]
    np.testing.assert_allclose(null, np.array([3, 3, 2, 1, 0]) / 9)


@pytest.mark.parametrize("count", [0, 1, 250])
def test_any_number_of_tracks_is_drawn(count: int) -> None:
    tracks = found([3] * count, [1] * count, [0.01] * count)
    figure = singularity_tracks.draw(None, {"detectors": tracks})
    assert f"{count} track" in words(figure)
    assert len(drawn(figure)) == min(count, singularity_tracks.MOST)


def test_a_result_without_tracks_is_refused() -> None:
    with pytest.raises(InputError, match="track_x"):
        singularity_tracks.draw(None, {"detectors": found([], [], []).drop_vars("track_x")})
