"""Train at one time, test at another: the matrix, its clusters, and its diagonal."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from driftwave.figures.inputs import need_result, need_variable
from driftwave.figures.style import COLOURS, NULL, SEQUENTIAL, STYLE, TRUTH

STAGE = "decoding"
RESULTS = "decoders"
DECODER = "temporal"
EACH = True

WIDTH, HEIGHT = 7.2, 2.9
LEVEL = 0.05


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw the generalisation matrix and the scores along its diagonal, beside their null.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : dict
        ``decoders``: what the decoder ``temporal`` found.

    Raises
    ------
    InputError
        If ``decoders`` is not given, or holds no matrix.
    """
    del recording
    found = need_result(results, "decoders", "temporal_generalisation")
    need_variable(
        found,
        "generalisation",
        "temporal_generalisation",
        expected="a temporal generalisation matrix",
        plugin="temporal",
    )
    sources = [str(name) for name in found["features_from"].values]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(WIDTH, HEIGHT * len(sources)))
        rows = figure.subfigures(len(sources), 1, squeeze=False).flat
        for row, source in zip(rows, sources, strict=True):
            _draw_source(row, found.sel(features_from=source), source)
        target = str(found.attrs.get("target", "class")).replace("_", " ")
        chance = float(found.attrs.get("chance", np.nan))
        number = round(1 / chance) if chance > 0 else 0
        session = found.attrs.get("session", "recording")
        figure.suptitle(f"{session}: {target}, {number} classes", fontsize=8.5, x=0.02, ha="left")
    return figure


def _draw_source(figure: SubFigure, found: xr.Dataset, source: str) -> None:
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.35])
    _matrix(figure, left, found)
    _diagonal(right, found)
    right.set_title(f"trained and tested at the same time ({source.replace('_', ' ')})")


def _matrix(figure: SubFigure, axes: Axes, found: xr.Dataset) -> None:
    start, stop = found["window_start"].values, found["window_stop"].values
    edges = _edges(start, stop)
    chance = float(found.attrs.get("chance", 0))
    values = found["generalisation"].transpose("train_window", "test_window").values
    low = min(chance, float(np.nanmin(values)))
    image = axes.pcolormesh(edges, edges, values, cmap=SEQUENTIAL, vmin=low, rasterized=True)
    inside = (found["cluster_p_generalisation"].values <= LEVEL).astype(int)
    _outline(axes, inside, edges)
    axes.plot(edges[[0, -1]], edges[[0, -1]], color="white", lw=0.6, ls=":")
    axes.set(xlabel="tested at (s)", ylabel="trained at (s)", aspect="equal")
    pale = np.ma.masked_where(inside == 1, np.ones(inside.shape))
    axes.pcolormesh(edges, edges, pale, cmap="Greys_r", vmin=0, vmax=1, alpha=0.6, rasterized=True)
    words = "no significant cluster (all pale)"
    if inside.any():
        words = f"cluster outlined (p ≤ {LEVEL:g}); rest pale"
    axes.set_title(words)
    bar = figure.colorbar(image, ax=axes, shrink=0.85, aspect=22)
    bar.set_label("balanced accuracy")
    bar.ax.axhline(chance, color="white", lw=1.2)


def _edges(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Borders of the cells: windows may overlap, or leave gaps."""
    middle = (start + stop) / 2
    between = (middle[1:] + middle[:-1]) / 2
    return np.concatenate([[2 * middle[0] - between[0]], between, [2 * middle[-1] - between[-1]]])


def _outline(axes: Axes, inside: np.ndarray, edges: np.ndarray) -> None:
    """The border of a set of cells, along their edges; black on white to show on any colour."""
    padded = np.pad(inside, 1)
    lines: list[tuple[Any, Any]] = []
    for row, column in np.argwhere(np.diff(padded, axis=1)[1:-1] != 0):
        lines.append(([edges[column]] * 2, edges[row : row + 2]))
    for row, column in np.argwhere(np.diff(padded, axis=0)[:, 1:-1] != 0):
        lines.append((edges[column : column + 2], [edges[row]] * 2))
    for colour, width in (("white", 2.4), (TRUTH, 1.0)):
        for x, y in lines:
            axes.plot(x, y, color=colour, lw=width, solid_capstyle="round")


def _diagonal(axes: Axes, found: xr.Dataset) -> None:
    time = found["window"].values
    null = found["null_score_time"].transpose("class_shuffle", "window").values
    low, high = np.quantile(null, [0.025, 0.975], axis=0)
    axes.fill_between(time, low, high, color=NULL, alpha=0.45, lw=0, label="shuffled labels, 95 %")
    axes.axhline(float(found.attrs.get("chance", 0)), color=NULL, lw=0.8)
    score = found["score_time"].values
    axes.fill_between(
        time,
        found["score_low"].values,
        found["score_high"].values,
        color=COLOURS[0],
        alpha=0.2,
        lw=0,
    )
    axes.plot(time, score, color=COLOURS[0], label="cross-validated, 95 % over trials")
    test = found["score_time_test"].values
    if np.isfinite(test).any():
        axes.plot(time, test, "o", ms=3, mfc="white", color=COLOURS[0], label="test split")
    bottom = axes.get_ylim()[0]
    inside = found["cluster_p_time"].values <= LEVEL
    for number in np.unique(found["cluster_time"].values[inside]):
        member = found["cluster_time"].values == number
        span = found["window_start"].values[member][0], found["window_stop"].values[member][-1]
        axes.plot(span, [bottom, bottom], color=COLOURS[1], lw=3, solid_capstyle="butt")
    onset = float(found["onset"])
    if np.isfinite(onset):
        axes.plot([], [], color=COLOURS[1], lw=3, label=f"cluster, p ≤ {LEVEL:g}")
        axes.axvline(onset, color=COLOURS[1], lw=0.9, ls="--")
        interval = f"{float(found['onset_low']):.2f} to {float(found['onset_high']):.2f}"
        axes.annotate(
            f"onset {onset:.2f} s ({interval})",
            (onset, 1),
            (4, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=7,
            color=COLOURS[1],
        )
    axes.set(xlabel="time (s)", ylabel="balanced accuracy")
    axes.set_ylim(top=max(1.15 * float(np.nanmax(found["score_high"])), axes.get_ylim()[1]))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
