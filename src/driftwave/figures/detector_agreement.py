"""Detectors of one recording against each other: what each says when, and how far they agree."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, DIVERGING, NULL, STYLE

STAGE = "waves"
RESULTS = "agreement"

CLASS_COLOURS = {
    "planar": COLOURS[0],
    "radial_out": COLOURS[1],
    "radial_in": COLOURS[4],
    "rotating_ccw": COLOURS[2],
    "rotating_cw": COLOURS[3],
    "spiral_out": COLOURS[5],
    "spiral_in": COLOURS[7],
    "saddle": COLOURS[6],
    "standing": "#666666",
    "synchronous": NULL,
    "none": "#DDDDDD",
}
WORDS = {"ccw": "counter-clockwise", "cw": "clockwise", "in": "inward", "out": "outward"}
SPEEDS = (0.25, 4.0)
NARROWEST = 0.002


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw all detectors' events over time, and their agreement in direction and speed.

    Parameters
    ----------
    recording : DataTree or None
        Not needed.
    results : dict
        ``agreement``: what :func:`driftwave.wave_events.agreement.agree` returns.

    Raises
    ------
    InputError
        If ``agreement`` is not given.
    """
    del recording
    found = need_result(results, "agreement", "detector_agreement")
    count = found.sizes["detector"]
    with plt.rc_context(STYLE):
        height = max(2.9, 0.42 * count + 1.6)
        figure = plt.figure(figsize=(10.4, height))
        grid = figure.add_gridspec(1, 3, width_ratios=[1.35, 1, 1])
        _raster(figure.add_subplot(grid[0]), found)
        direction, speed = (figure.add_subplot(grid[at]) for at in (1, 2))
        agreement = found["direction_agreement"].values
        cells = [[_direction_cell(found, a, b) for b in range(count)] for a in range(count)]
        _matrix(direction, found, agreement, Normalize(-1, 1), cells)
        direction.set_title("directions: mean cosine\n(p from shifts in time)")
        ratio = found["speed_ratio"].values
        cells = [[_number(ratio[a, b]) for b in range(count)] for a in range(count)]
        _matrix(speed, found, ratio, LogNorm(*SPEEDS), cells)
        speed.set_title("speeds: median ratio,\nrow over column")
        speed.set_yticklabels([])
    return figure


def _label(name: str) -> str:
    return name.replace("_", " ")


def _class_label(name: str) -> str:
    return " ".join(WORDS.get(part, part) for part in name.split("_"))


def _raster(axes: Axes, found: xr.Dataset) -> None:
    """A row of bars per detector: filled where it stands by the event, hollow elsewhere."""
    names = found["detector"].values.astype(str)
    owner = found["event_detector"].values.astype(str)
    start, stop = found["event_start"].values, found["event_stop"].values
    kind = found["event_class"].values.astype(str)
    sure = found["event_claimed"].values.astype(bool)
    low, high = float(found.attrs["start"]), float(found.attrs["stop"])
    thinnest = NARROWEST * (high - low)
    for row, name in enumerate(names):
        for shape in CLASS_COLOURS:
            for filled in (False, True):
                at = np.flatnonzero((owner == name) & (kind == shape) & (sure == filled))
                spans = [(start[n], max(stop[n] - start[n], thinnest)) for n in at]
                colour = CLASS_COLOURS[shape]
                axes.broken_barh(
                    spans,
                    (row - 0.32, 0.64) if filled else (row + 0.36, 0.1),
                    facecolor=colour,
                    edgecolor="none",
                )
    counts = found["events"].values
    labels = [f"{_label(name)} ({count})" for name, count in zip(names, counts, strict=True)]
    axes.set_yticks(range(len(names)), labels)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(low, high or 1), xlabel="time (s)")
    shown = [name for name in CLASS_COLOURS if name in kind]
    axes.legend(
        [plt.Rectangle((0, 0), 1, 1, color=CLASS_COLOURS[name]) for name in shown],
        [_class_label(name) for name in shown],
        ncol=3,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderpad=0,
        handlelength=1,
        columnspacing=1,
    )


def _number(value: float) -> str:
    return "" if not np.isfinite(value) else f"{value:.2f}"


def _direction_cell(found: xr.Dataset, a: int, b: int) -> str:
    text = _number(float(found["direction_agreement"][a, b]))
    p = float(found["direction_p"][a, b])
    return f"{text}\np = {p:.2g}" if text and np.isfinite(p) else text


def _matrix(
    axes: Axes, found: xr.Dataset, value: np.ndarray, norm: Normalize, cells: list[list[str]]
) -> None:
    names = [_label(name) for name in found["detector"].values.astype(str)]
    axes.imshow(np.ma.masked_invalid(value), cmap=DIVERGING, norm=norm, aspect="auto")
    for a, row in enumerate(cells):
        for b, text in enumerate(row):
            shade = norm(value[a, b]) if np.isfinite(value[a, b]) else 0.5
            colour = "white" if abs(shade - 0.5) > 0.32 else "black"
            axes.text(b, a, text, ha="center", va="center", color=colour, fontsize=6)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
