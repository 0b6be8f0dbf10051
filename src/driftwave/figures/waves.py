"""Travelling waves of a session: events with time, directions, speeds, and the null."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure, SubFigure

from driftwave.figures import wave_panels
from driftwave.figures.array_parts import array_parts
from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, NULL, STYLE
from driftwave.figures.wave_panels import class_label

STAGE = "waves"
RESULTS = "waves"
EACH = True
WAVES = "field loadings"

WIDTH = 7.4
ROW = 0.17  # height of a class of events, inches
MOST_ARRAYS = 6

__all__ = ["class_label", "draw"]


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw the overview of a session's waves, or of an oscillator model's loadings.

    Parameters
    ----------
    recording : DataTree or None
        Not needed.
    results : dict
        ``waves``: what the waves stage wrote.

    Raises
    ------
    InputError
        If ``waves`` is not given.
    """
    del recording
    waves = need_result(results, "waves", "waves")
    with plt.rc_context(STYLE):
        return _draw_loadings(waves) if "oscillator" in waves.dims else _draw_arrays(waves)


def _draw_arrays(waves: xr.Dataset) -> Figure:
    """One overview per array, one below the other."""
    parts = dict(list(array_parts(waves).items())[:MOST_ARRAYS])
    left_out = len(waves.attrs.get("arrays", ())) - len(parts)
    heights = [sum(_heights(part)) for part in parts.values()]
    figure = plt.figure(figsize=(WIDTH, sum(heights)))
    blocks = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False).flat
    for block, (name, part) in zip(blocks, parts.items(), strict=True):
        _draw_events(block, part, name)
    if left_out > 0:
        text = f"{left_out} further arrays are not drawn"
        figure.text(0.99, 0.01, text, ha="right", va="bottom")
    return figure


def _upper(waves: xr.Dataset) -> list[float]:
    """Inches of the statistic, the events, and the events' directions, if any."""
    rows = max(1, len(wave_panels.shown_classes(waves)))
    directed = [0.5] if wave_panels.planar_events(waves).any() else []
    return [1.15, ROW * (rows + 0.6), *directed]


def _heights(waves: xr.Dataset) -> list[float]:
    """Inches of what goes with time and of the distributions, with their titles and labels."""
    return [sum(_upper(waves)) + 1.2, 2.2 + 0.13 * len(wave_panels.further_nulls(waves))]


def _draw_events(figure: SubFigure, waves: xr.Dataset, array: str) -> None:
    above, below = figure.subfigures(2, 1, height_ratios=_heights(waves), squeeze=False).flat
    heights = _upper(waves)
    grid = above.add_gridspec(len(heights), 1, height_ratios=heights)
    trace = above.add_subplot(grid[0])
    wave_panels.trace(trace, waves)
    bars = above.add_subplot(grid[1], sharex=trace)
    wave_panels.raster(bars, waves)
    if len(heights) > 2:
        bars.set_xlabel("")
        bars.tick_params(labelbottom=False)
        wave_panels.directions(above.add_subplot(grid[2], sharex=trace), waves)
    above.suptitle(wave_panels.words(waves, array), fontsize=8.5, x=0.02, ha="left")
    grid = below.add_gridspec(1, 5, width_ratios=[1, 1, 1, 1.35, 1.6])
    for number, family in enumerate(waves["family"].values.astype(str)):
        wave_panels.nulls(below.add_subplot(grid[number]), waves, number, family)
    wave_panels.rose(below.add_subplot(grid[3], projection="polar"), waves)
    wave_panels.speeds(below.add_subplot(grid[4]), waves)


def _draw_loadings(waves: xr.Dataset) -> Figure:
    """Null beside observation for each oscillator."""
    count = waves.sizes["oscillator"]
    figure, axes = plt.subplots(1, count, figsize=(max(3.0, 1.9 * count), 2.4), squeeze=False)
    for number, axis in enumerate(axes.flat):
        one = waves.isel(oscillator=number)
        null = waves["null_asymmetry"].values[:, number]
        axis.hist(null[np.isfinite(null)], bins=15, color=NULL)
        axis.axvline(float(one["asymmetry"]), color=COLOURS[1], lw=1.6)
        name = class_label(str(one["class"].values))
        axis.set_title(f"{float(one['frequency']):.1f} Hz, p = {float(one['p']):.2g}\n{name}")
        axis.set_xlabel("lag asymmetry")
        axis.locator_params(axis="x", nbins=4)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
    axes[0, 0].set_ylabel("surrogates")
    return figure
