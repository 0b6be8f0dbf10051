"""Trajectories in principal components, their variance, and the participation ratio at chance."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from mpl_toolkits.mplot3d import Axes3D

from driftwave.figures.inputs import one_result
from driftwave.figures.style import COLOURS, CYCLIC, NULL, SEQUENTIAL, STYLE

STAGE = "manifold"
RESULTS = "manifold"
EACH = True

Colour = tuple[float, float, float]

MOST_IN_LEGEND = 8
MOST_TRIALS = 12
# More curves than this hide one another; evenly spaced conditions stand for them.
MOST_CURVES, CURVES_SHOWN = 16, 8
_NAMES = {"smoothed_counts": "smoothed counts", "rates": "rates", "latents": "latents"}
_LEVELS = {"trials": COLOURS[0], "conditions": COLOURS[1]}


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """A row for each set of features: trajectories, explained variance, participation ratio.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : mapping of str to Dataset
        One manifold result.

    Raises
    ------
    InputError
        If there is not exactly one result, or it is of another kind.
    """
    del recording
    result = one_result(results, "manifold", "participation_ratio")
    sources = [str(name) for name in result["features_from"].values]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(7.5, 0.35 + 2.15 * len(sources)))
        grid = figure.add_gridspec(len(sources), 4, width_ratios=[1.15, 1, 0.85, 0.85])
        for row, source in enumerate(sources):
            part = thinned(result.sel(features_from=source))
            space = figure.add_subplot(grid[row, 0], projection="3d")
            plane = figure.add_subplot(grid[row, 1])
            curves, colours = curves_of(part)
            _draw_space(space, curves, colours)
            draw_plane(plane, curves, colours, shares_of(part))
            plane.set_title(_NAMES.get(source, source), loc="left")
            _draw_variance(figure.add_subplot(grid[row, 2]), part)
            draw_participation(figure.add_subplot(grid[row, 3]), part)
            if row == 0:
                _draw_key(figure, plane, part, colours)
        figure.suptitle(_title(result), fontsize=8)
    return figure


def thinned(result: xr.Dataset) -> xr.Dataset:
    """The result with a few of its conditions, if it has too many to be told apart."""
    count = result.sizes.get("condition", 0)
    if "trajectory" not in result or count <= MOST_CURVES:
        return result
    return result.isel(condition=np.linspace(0, count - 1, CURVES_SHOWN).astype(int))


def _title(result: xr.Dataset) -> str:
    if "condition_state" in result:
        return f"means of bins by {result.attrs['condition_rule']}".replace("_", " ")
    if "trajectory" in result:
        count, shown = result.sizes["condition"], thinned(result).sizes["condition"]
        few = f" ({shown} of {count} conditions)" if shown < count else ""
        return f"condition averages over the trial: dot, first bin; arrow, last bin{few}"
    return "single test trials: dot, first bin; arrow, last bin"


def curves_of(part: xr.Dataset) -> tuple[list[np.ndarray], list[Colour]]:
    """Curves (point, component) with their colours; the states of bins make one closed curve."""
    circular = bool(part.attrs["conditions_circular"])
    if "condition_state" in part:
        states = part["condition_state"].values
        if circular:
            states = np.vstack([states, states[:1]])
        colours = ordered_colours(part.sizes["condition"], circular)
        return [states], colours
    if "trajectory" in part:
        return list(part["trajectory"].values), ordered_colours(part.sizes["condition"], circular)
    trials = part["trial_projection"].values[:MOST_TRIALS]
    return list(trials), ordered_colours(len(trials), False)


def ordered_colours(count: int, circular: bool) -> list[Colour]:
    """Ordered colours, none too light for a white page."""
    places = np.arange(count) / count if circular else np.linspace(0, 0.92, count)
    rgb = mpl.colormaps[CYCLIC if circular else SEQUENTIAL](places)[:, :3]
    lightness = rgb @ [0.299, 0.587, 0.114]
    dimmed = rgb * np.minimum(1, 0.72 / lightness)[:, None]
    return [(float(r), float(g), float(b)) for r, g, b in dimmed]


def shares_of(part: xr.Dataset) -> np.ndarray:
    """Percent of variance of the components drawn: of condition averages if there are any."""
    return 100 * part["explained_variance_ratio"].isel(level=-1).values


def _draw_space(axes: Axes3D, curves: list[np.ndarray], colours: list[Colour]) -> None:
    for index, curve in enumerate(curves):
        x, y, z = curve[:, :3].T
        if len(curves) == 1:
            axes.plot(x, y, z, color=NULL, linewidth=0.8)
            axes.scatter(x[: len(colours)], y[: len(colours)], z[: len(colours)], c=colours, s=16)
        else:
            axes.plot(x, y, z, color=colours[index], linewidth=0.9)
            axes.scatter(x[:1], y[:1], z[:1], color=colours[index], s=5)
    axes.zaxis.set_rotate_label(False)
    for name, label in zip("xyz", ("PC 1", "PC 2", "PC 3"), strict=True):
        turned = {"rotation": 90} if name == "z" else {}
        getattr(axes, f"set_{name}label")(label, labelpad=-15, fontsize=7, **turned)
        getattr(axes, f"set_{name}ticks")([])
    axes.set_box_aspect((1, 1, 0.85), zoom=0.95)


def draw_plane(
    axes: Axes, curves: list[np.ndarray], colours: list[Colour], shares: np.ndarray
) -> None:
    for index, curve in enumerate(curves):
        x, y = curve[:, :2].T
        if len(curves) == 1:
            axes.plot(x, y, color=NULL, linewidth=0.8)
            axes.scatter(x[: len(colours)], y[: len(colours)], c=colours, s=22, zorder=3)
        else:
            axes.plot(x, y, color=colours[index], linewidth=0.9)
            axes.plot(x[0], y[0], "o", color=colours[index], ms=2.5)
            _arrow_head(axes, x, y, colours[index])
    axes.set_xlabel(f"PC 1 ({shares[0]:.0f} %)")
    axes.set_ylabel(f"PC 2 ({shares[1]:.0f} %)")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")


def _arrow_head(axes: Axes, x: np.ndarray, y: np.ndarray, colour: Colour) -> None:
    """An arrow head where the curve ends, in the direction of its last step."""
    if np.isfinite([x[-2:], y[-2:]]).all():
        axes.annotate(
            "",
            xy=(x[-1], y[-1]),
            xytext=(x[-2], y[-2]),
            arrowprops={"arrowstyle": "-|>", "color": colour, "mutation_scale": 6, "lw": 0},
        )


def _draw_variance(axes: Axes, part: xr.Dataset) -> None:
    component = part["component"].values
    for level in part["level"].values:
        colour = _LEVELS[str(level)]
        for name, style in (
            ("explained_variance_ratio", "-"),
            ("explained_variance_ratio_test", "--"),
        ):
            values = part[name].sel(level=level).values
            axes.plot(component, 100 * np.cumsum(values), style, color=colour, marker=".", ms=3)
    axes.set_ylim(0, 102)
    axes.set_xlim(0.6, component[-1] + 0.4)
    axes.set_xticks(np.unique(np.linspace(1, component[-1], 4).astype(int)))
    axes.set_xlabel("components")
    axes.set_ylabel("variance (%)")
    axes.set_title("line: all; dashed: test", fontsize=6.5)


def draw_participation(axes: Axes, part: xr.Dataset) -> None:
    """Null as a violin with its median, the value as a dot with its p-value."""
    levels = [str(level) for level in part["level"].values]
    for x, level in enumerate(levels):
        null = part["null_participation_ratio"].sel(level=level).values
        null = null[np.isfinite(null)]
        if len(null) and np.ptp(null) > 0:
            bodies = axes.violinplot(null, [x], widths=0.7, showextrema=False)["bodies"]
            for body in np.atleast_1d(bodies):  # type: ignore[call-overload]
                body.set(facecolor=NULL, edgecolor="none", alpha=0.6)
            axes.hlines(np.median(null), x - 0.3, x + 0.3, color=NULL, linewidth=1.2)
        value = float(part["participation_ratio"].sel(level=level))
        axes.plot(x, value, "o", color=_LEVELS[level], ms=4.5)
        note = f"p = {float(part['p_value'].sel(level=level)):.2g}"
        above = axes.get_xaxis_transform()
        axes.text(x, 1.0, note, transform=above, fontsize=6.5, ha="center", va="bottom")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator([1, 2, 3, 5, 10, 20, 50, 100, 200, 500]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.9, low * 0.8), high * 1.15)
    axes.set_xticks(range(len(levels)), levels)
    for label, level in zip(axes.get_xticklabels(), levels, strict=True):
        label.set_color(_LEVELS[level])
    axes.set_xlim(-0.6, len(levels) - 0.4)
    axes.set_ylabel("participation ratio")


def _draw_key(figure: Figure, axes: Axes, part: xr.Dataset, colours: list[Colour]) -> None:
    """Which colour is which condition: a legend, or a bar where there are many."""
    if "condition" not in part.dims:
        return
    labels = [str(label) for label in part["condition"].values]
    if len(labels) <= MOST_IN_LEGEND:
        marks = [Line2D([], [], color=c, marker="o", ms=3, linestyle="none") for c in colours]
        figure.legend(
            marks,
            labels,
            loc="outside lower center",
            ncols=len(labels),
            handletextpad=0.1,
            columnspacing=1.2,
        )
        return
    shown = mpl.cm.ScalarMappable(
        mpl.colors.BoundaryNorm(np.arange(len(labels) + 1) - 0.5, len(labels)),
        mpl.colors.ListedColormap(colours),
    )
    ticks = np.unique(np.linspace(0, len(labels) - 1, 5).astype(int))
    bar = figure.colorbar(shown, ax=axes, location="bottom", ticks=ticks, aspect=25, pad=0.02)
    bar.set_ticklabels([labels[tick] for tick in ticks])
    bar.set_label("condition", labelpad=1)
    bar.outline.set_visible(False)
