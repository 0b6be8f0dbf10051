"""Phase over the array: film strips of events, or maps of an oscillator model's loadings."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.figures.event_course import course_of, headline
from driftwave.figures.inputs import need_result
from driftwave.figures.phase_maps import Arrows, colour_bar, draw_map, marker_area, positions
from driftwave.figures.style import COLOURS, NULL, STYLE
from driftwave.figures.waves import class_label, significant

STAGE = "waves"
RESULTS = "waves"
EACH = True
WAVES = "field loadings"

EXAMPLES = 4
LEVEL = 0.05  # of a loading's p, above which its pattern is marked in grey
PHASES = 6
COLUMNS = 4


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw the phase at each electrode in the course of example events.

    Parameters
    ----------
    recording : DataTree or None
        Not needed.
    results : dict
        ``waves``: what the waves stage wrote; without the dense phase the events' mean maps only.

    Raises
    ------
    InputError
        If ``waves`` is not given.
    """
    del recording
    waves = need_result(results, "waves", "wave_field")
    with plt.rc_context(STYLE):
        if "oscillator" in waves.dims:
            return _loadings(waves)
        if not waves.sizes["event"]:
            figure, axes = plt.subplots(figsize=(7, 1.2))
            axes.axis("off")
            axes.text(0.5, 0.5, "no event above the threshold of the zero-lag null", ha="center")
            return figure
        return _strips(waves)


def example_events(waves: xr.Dataset, most: int = EXAMPLES) -> list[int]:
    """Best-scoring events of different classes, significant ones first, then others."""
    score = waves["peak_score"].values + 1e3 * significant(waves)
    order = np.argsort(-score)
    names = waves["class"].values.astype(str)
    first = [int(np.flatnonzero(names[order] == n)[0]) for n in dict.fromkeys(names[order])]
    chosen = [int(order[i]) for i in first]
    chosen += [int(i) for i in order if int(i) not in chosen]
    return chosen[:most]


def _strips(waves: xr.Dataset) -> Figure:
    chosen = example_events(waves)
    figure, axes = plt.subplots(
        len(chosen), PHASES + 1, figsize=(7.6, 1.05 * len(chosen) + 0.3), squeeze=False
    )
    position = positions(waves)
    area = marker_area(figure, position, float(waves.attrs["pitch"]), PHASES + 1)
    arrows = Arrows.of(position, float(waves.attrs["pitch"]))
    for row, event in enumerate(chosen):
        one = waves.isel(event=event)
        course = course_of(waves, one, cycles=1, steps=PHASES)
        for column in range(PHASES):
            axis = axes[row, column]
            if course is None:
                axis.axis("off")
                continue
            draw_map(axis, position, course.phase[:, column], area)
            if course.gradient is not None:
                arrows.draw(axis, course.gradient[:, :, column])
            axis.set_title(f"{_span(course.time[column] - course.time[0])}", fontsize=7)
        draw_map(axes[row, -1], position, one["event_phase"].values, area)
        _mark(axes[row, -1], one, position)
        axes[row, -1].set_title("mean", fontsize=7)
        axes[row, 0].set_ylabel(
            headline(one).replace("counter-", "counter-\n").replace(", ", "\n"),
            rotation=0,
            ha="right",
            va="center",
            fontsize=7,
        )
    colour_bar(figure, axes)
    return figure


def _span(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _words(one: xr.Dataset) -> str:
    """What is known of one oscillator's wave, with its intervals."""
    lines = [
        f"{float(one['frequency']):.1f} Hz, p = {float(one['p']):.2g}",
        class_label(str(one["class"].values)),
    ]
    lines += [
        f"{float(one[name]):.0f} {unit}{_interval(one, name)}"
        for name, unit in (("direction", "degrees"), ("speed", "mm/s"))
        if np.isfinite(float(one[name]))
    ]
    if "log_bayes_factor" in one and np.isfinite(float(one["log_bayes_factor"])):
        factor = float(one["log_bayes_factor"]) / np.log(10)
        lines.append(f"travelling : standing = 10^{factor:.1f}")
    return "\n".join(lines)


def _interval(one: xr.Dataset, name: str) -> str:
    if f"{name}_low" not in one or not np.isfinite(float(one[f"{name}_low"])):
        return ""
    low, high = float(one[f"{name}_low"]), float(one[f"{name}_high"])
    digits = 1 if high - low < 10 else 0
    return f" ({low:.{digits}f} to {high:.{digits}f})"


def _mark(axes: Axes, one: xr.Dataset, position: np.ndarray, colour: str = COLOURS[7]) -> None:
    """Arrow along a planar wave; a dot at the centre of the others, if it lies on the map."""
    low, high = position.min(axis=0), position.max(axis=0)
    if np.isfinite(float(one["direction"])):
        angle = np.deg2rad(float(one["direction"]))
        step = 0.35 * (high - low).max() * np.array([np.cos(angle), np.sin(angle)])
        middle = (low + high) / 2
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "mutation_scale": 9}
        axes.annotate("", xy=middle + step, xytext=middle - step, arrowprops=arrow)
    elif np.isfinite(float(one["centre_x"])):
        centre = np.array([float(one["centre_x"]), float(one["centre_y"])])
        if ((centre >= low) & (centre <= high)).all():
            axes.plot(*centre, "o", mfc=colour, mec="black", ms=4.5)


def _loadings(waves: xr.Dataset) -> Figure:
    count = waves.sizes["oscillator"]
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.9 * columns + 0.9, 3.0 * rows), squeeze=False
    )
    position = positions(waves)
    size = 0.8 * marker_area(figure, position, float(waves.attrs["pitch"]), columns)
    for number, axis in enumerate(axes.flat):
        if number >= count:
            axis.axis("off")
            continue
        one = waves.isel(oscillator=number)
        draw_map(axis, position, one["event_phase"].values, size)
        _mark(axis, one, position, COLOURS[7] if float(one["p"]) <= LEVEL else NULL)
        axis.set_title(_words(one), fontsize=7)
    colour_bar(figure, axes)
    return figure
