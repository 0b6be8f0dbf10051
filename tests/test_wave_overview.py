"""The overview of a session's waves shows every event, null and speed, however many there are."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from driftwave.figures import waves as overview
from driftwave.figures.wave_panels import class_label, speed_ticks

MOVING = ("planar", "radial_out", "radial_in", "spiral_out", "spiral_in")
OTHERS = ("rotating_ccw", "rotating_cw", "standing", "synchronous", "none")


def result(classes: list[str], *, q: list[float] | None = None, speed: float = 200) -> xr.Dataset:
    """What the waves stage writes of a recording with these events, one after the other."""
    count, rng = len(classes), np.random.default_rng(0)
    names = np.array(classes, dtype="<U16")
    moves = np.isin(names, MOVING)
    planar = names == "planar"
    direction = np.where(planar, 170.0, np.nan)
    event = {
        "start": 2.0 * np.arange(count),
        "stop": 2.0 * np.arange(count) + 1,
        "class": names,
        "q": np.array(q or [0.01] * count, float),
        "component": np.zeros(count),
        "speed": np.where(moves, speed * np.linspace(0.5, 2, max(count, 1))[:count], np.nan),
        "direction": direction,
        "direction_low": direction - 20,
        "direction_high": direction + 20,
        "heldout_phase_error": np.full(count, 12.0),
    }
    frames = 2 * max(count, 5)
    return xr.Dataset(
        {name: ("event", values) for name, values in event.items()}
        | {
            "statistic": (("frame", "family"), rng.uniform(size=(frames, 3))),
            "threshold": ("family", np.full(3, 0.6)),
            "null_mean": (("surrogate", "family"), rng.uniform(0.1, 0.2, (19, 3))),
            "observed_mean": ("family", np.full(3, 0.5)),
            "p_recording": ("family", np.full(3, 0.05)),
        },
        coords={
            "family": ["planar", "radial", "rotating"],
            "frame_time": ("frame", np.arange(frames, dtype=float)),
        },
        attrs={"session": "array", "level": 0.05, "further_nulls": []},
    )


def drawn(waves: xr.Dataset) -> Figure:
    figure = overview.draw(None, {"waves": waves})
    figure.canvas.draw()
    return figure


def heading(figure: Figure) -> str:
    return next(
        part.get_suptitle()
        for block in figure.subfigs
        for part in block.subfigs
        if part.get_suptitle()
    )


def panel(figure: Figure, words: str) -> Axes:
    return next(axes for axes in figure.axes if words in axes.get_title())


def bars(axes: Axes, colour: str) -> list[float]:
    """Where bars of a colour begin."""
    found = []
    for one in axes.collections:
        if np.allclose(one.get_facecolor()[:1], to_rgba(colour)):
            found += [path.vertices[:, 0].min() for path in one.get_paths()]
    return sorted(found)


@pytest.mark.parametrize("count", [1, 100])
def test_every_class_has_a_row_with_its_events(count: int) -> None:
    classes = [*MOVING, *OTHERS] * count
    figure = drawn(result(classes))
    raster = figure.axes[1]
    labels = [label.get_text() for label in raster.get_yticklabels()]
    assert len(labels) == 10
    assert all(label.endswith(f"({count}/{count})") for label in labels)
    begins = bars(raster, overview.wave_panels.CLASS_COLOURS["radial_out"])
    np.testing.assert_allclose(begins, 2.0 * np.flatnonzero(np.array(classes) == "radial_out"))


def test_events_that_are_not_significant_are_counted_and_left_out_below() -> None:
    figure = drawn(result(["planar", "planar", "planar"], q=[0.01, 0.5, 0.02]))
    assert "3 events, 2 significant" in heading(figure)
    assert "12°" in heading(figure)
    assert "n = 2" in panel(figure, "direction of").get_title()
    assert sum(bar.get_height() for bar in panel(figure, "direction of").patches) == 2


def test_without_events_the_overview_says_so() -> None:
    figure = drawn(result([]))
    assert "0 events" in heading(figure)
    assert "no event" in figure.axes[1].texts[0].get_text()


def test_further_waves_of_a_stretch_are_told_apart() -> None:
    waves = result(["planar", "planar", "radial_in"])
    waves["component"] = ("event", [0.0, 1.0, 0.0])
    assert "2 events, 2 significant (q ≤ 0.05); 1 further wave" in heading(drawn(waves))


def test_further_nulls_stand_beside_the_zero_lag_one() -> None:
    waves = result(["planar"])
    waves["null_mean_common_phase"] = waves["null_mean"] + 0.2
    waves["p_recording_common_phase"] = waves["p_recording"] * 4
    waves["q_common_phase"] = ("event", [0.3])
    waves.attrs["further_nulls"] = ["common_phase"]
    figure = drawn(waves)
    legend = panel(figure, "planar").get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "zero lag: p = 0.05",
        "common phase: p = 0.2",
    ]
    assert "0 against the null common phase" in heading(figure)


@pytest.mark.parametrize("speed", [0.02, 30000])
def test_slow_and_fast_waves_have_labelled_speeds(speed: float) -> None:
    axes = panel(drawn(result(["planar"] * 4, speed=speed)), "phase speed")
    shown = [float(label.get_text()) for label in axes.get_xticklabels()]
    low, high = axes.get_xlim()
    assert 2 <= len(shown) <= 4
    assert all(low < tick < high for tick in shown)


def test_speed_ticks_are_round_and_few() -> None:
    assert speed_ticks(0.03, 40) == [0.1, 1, 10]
    assert speed_ticks(60, 450) == [100, 200]
    assert 1 <= len(speed_ticks(95, 210)) <= 4


def test_class_labels_are_words() -> None:
    assert class_label("rotating_ccw") == "rotating counter-clockwise"
