"""Phase over the array: film strips of events, or maps of an oscillator model's loadings."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.figures.array_parts import array_parts
from driftwave.figures.event_course import course_of, headline
from driftwave.figures.inputs import need_result
from driftwave.figures.phase_maps import Arrows, Tiles, colour_bar, positions
from driftwave.figures.style import COLOURS, NULL, STYLE
from driftwave.figures.wave_panels import class_label, further, significant

STAGE = "waves"
RESULTS = "waves"
EACH = True
WAVES = "field loadings"

EXAMPLES = 4
LEVEL = 0.05  # of a loading's p, above which its pattern is marked in grey
PHASES = 6
ARROWS = 5  # along the longer side of a map, as the maps are small
STILL = ("synchronous", "standing")
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
            axes.text(
                0.5,
                0.5,
                "no event: nothing above the threshold of the zero-lag null for long enough",
                ha="center",
            )
            return figure
        return _strips(waves)


class Example(NamedTuple):
    """An event, by its place in what the stage wrote of its array."""

    array: str
    waves: xr.Dataset
    event: int

    @property
    def one(self) -> xr.Dataset:
        """The event's row."""
        return self.waves.isel(event=self.event)


def example_events(waves: xr.Dataset, most: int = EXAMPLES) -> list[Example]:
    """Best-scoring events of different classes, then others.

    Significant ones come first, and of these waves before fields that are in phase, and before
    those of no known pattern. Waves that share their stretch with a stronger one are left out: the
    phase there is the stronger one's.
    """
    names = waves["class"].values.astype(str)
    rank = 2 - np.isin(names, STILL).astype(int) - (names == "none")
    score = waves["peak_score"].values + 1e6 * rank + 1e9 * significant(waves)
    order = [int(n) for n in np.argsort(-score, kind="stable") if not further(waves)[n]]
    first = {names[n]: n for n in reversed(order)}.values()
    chosen = sorted(first, key=order.index)
    chosen += [n for n in order if n not in chosen]
    parts = array_parts(waves)
    owner = waves["array"].values.astype(str) if "array" in waves.dims else np.full(len(names), "")
    within = {n: int((owner[:n] == owner[n]).sum()) for n in chosen[:most]}
    return [Example(owner[n], parts[owner[n]], at) for n, at in within.items()]


class Map(NamedTuple):
    """How the electrodes of one array are drawn."""

    tiles: Tiles
    arrows: Arrows

    @classmethod
    def of(cls, waves: xr.Dataset, most: int) -> Map:
        """Of what the stage wrote of one array, with at most ``most`` arrows along a side."""
        position = positions(waves)
        return cls(Tiles.of(position), Arrows.of(position, float(waves.attrs["pitch"]), most=most))


def _strips(waves: xr.Dataset) -> Figure:
    chosen = example_events(waves)
    maps = {example.array: Map.of(example.waves, ARROWS) for example in chosen}
    shape = max(float(m.tiles.size[1] / m.tiles.size[0]) for m in maps.values())
    figure, axes = plt.subplots(
        len(chosen),
        PHASES + 1,
        figsize=(7.6, (0.25 + 0.8 * np.clip(shape, 0.6, 2.5)) * len(chosen) + 0.3),
        squeeze=False,
        layout="compressed",
    )
    for row, example in enumerate(chosen):
        _strip(axes[row], example, maps[example.array])
    colour_bar(figure, axes)
    return figure


def _strip(axes: np.ndarray, example: Example, layout: Map) -> None:
    """One event: its phase in the course of a cycle, and its mean map."""
    one = example.one
    course = course_of(example.waves, one, cycles=1, steps=PHASES)
    for column, axis in enumerate(axes[:-1]):
        if course is None:
            axis.axis("off")
            continue
        layout.tiles.draw(axis, course.phase[:, column])
        if course.gradient is not None:
            layout.arrows.draw(axis, course.gradient[:, :, column], width=0.014)
        seconds = course.time - course.time[0]
        axis.set_title(_span(seconds[column], seconds[-1]), fontsize=7)
    layout.tiles.draw(axes[-1], one["event_phase"].values)
    _mark(axes[-1], one, layout.tiles)
    axes[-1].set_title("mean", fontsize=7)
    label = headline(one, example.array).replace("counter-", "counter-\n").replace(", ", "\n")
    at = axes[-1] if course is None else axes[0]
    at.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)


def _span(seconds: float, longest: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if longest < 1 else f"{seconds:.1f} s"


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


def _mark(axes: Axes, one: xr.Dataset, tiles: Tiles, colour: str = COLOURS[7]) -> None:
    """Arrow along a planar wave; a dot at the centre of the others, if it lies on the map."""
    low, high = tiles.low, tiles.high
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
    tiles = Tiles.of(positions(waves))
    for number, axis in enumerate(axes.flat):
        if number >= count:
            axis.axis("off")
            continue
        one = waves.isel(oscillator=number)
        tiles.draw(axis, one["event_phase"].values)
        _mark(axis, one, tiles, COLOURS[7] if float(one["p"]) <= LEVEL else NULL)
        axis.set_title(_words(one), fontsize=7)
    colour_bar(figure, axes)
    return figure
