"""Embeddings of activity by each method, and what they keep beside chance."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from driftwave.figures.inputs import one_result
from driftwave.figures.style import COLOURS, CYCLIC, NULL, SEQUENTIAL, STYLE

STAGE = "manifold"
RESULTS = "geometry"
GEOMETRY = "embedding"
EACH = True

TITLES = {"pca": "PCA", "isomap": "Isomap", "umap": "UMAP", "diffusion": "diffusion map"}
SHORT = {
    "trustworthiness": "trust-\nworthy",
    "continuity": "conti-\nnuity",
    "distance_correlation": "dis-\ntances",
    "separability": "condi-\ntion",
}
PIECES_NAMED = 3


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """A row for each set of features: each method's first two components, and its quality.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : mapping of str to Dataset
        One result of the plug-in ``embedding``.

    Raises
    ------
    InputError
        If there is not exactly one result, or it is another plug-in's.
    """
    del recording
    result = one_result(results, "embedding", "coordinate")
    sources = [str(name) for name in result["features_from"].values]
    methods = [str(name) for name in result["embedding"].values]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(1.2 + 1.65 * len(methods) + 2.2, 0.7 + 1.9 * len(sources)))
        grid = figure.add_gridspec(
            len(sources), len(methods) + 1, width_ratios=[1] * len(methods) + [1.5]
        )
        scattered = []
        for row, source in enumerate(sources):
            for column, method in enumerate(methods):
                axes = figure.add_subplot(grid[row, column])
                scattered.append(axes)
                part = result.sel(features_from=source, embedding=method)
                _scatter(axes, part, result)
                if row == 0:
                    axes.set_title(TITLES[method])
                if column == 0:
                    axes.set_ylabel(source.replace("_", " "))
            quality = figure.add_subplot(grid[row, -1])
            _quality(quality, result.sel(features_from=source), legend=row == 0)
        _key(figure, scattered, result)
        figure.suptitle(_title(result), fontsize=8)
    return figure


def _title(result: xr.Dataset) -> str:
    count, available = result.sizes["point"], int(result.attrs["points_available"])
    kind = str(result.attrs["points"]).replace("_", " ")
    few = f" of {available}, drawn at random" if count < available else ""
    rule = str(result.attrs["condition_rule"]).replace("_", " ")
    return f"{result.attrs['session']}: {count} {kind}{few}; colour, {rule}"


def _colours(result: xr.Dataset) -> np.ndarray:
    """A colour (condition, rgb), none too light for a white page."""
    count = result.sizes.get("condition", 0)
    circular = bool(result.attrs["conditions_circular"])
    places = np.arange(count) / max(count, 1) if circular else np.linspace(0, 0.92, count)
    rgb = mpl.colormaps[CYCLIC if circular else SEQUENTIAL](places)[:, :3]
    return rgb * np.minimum(1, 0.72 / np.maximum(rgb @ [0.299, 0.587, 0.114], 1e-9))[:, None]


def _scatter(axes: Axes, part: xr.Dataset, result: xr.Dataset) -> None:
    """Pieces of a graph side by side, each about its own centre."""
    x, y = part["coordinate"].values[:, :2].T.copy()
    piece = part["graph_component"].values
    width = 0.0
    for label in np.unique(piece):
        inside = (piece == label) & np.isfinite(x)
        if not inside.any():
            continue
        if label:
            x[inside] += width - x[inside].min()
        width = x[inside].max() + 0.25 * max(np.ptp(x[inside]), 1e-9)
        if label < PIECES_NAMED and piece.max() > 0:
            axes.text(x[inside].mean(), y[inside].max(), f"piece {label}", fontsize=6, ha="center")
    condition = part["condition_of_point"].values
    rgb = np.tile(mpl.colors.to_rgb(NULL), (len(x), 1))
    if result.sizes.get("condition", 0):
        rgb[condition >= 0] = _colours(result)[condition[condition >= 0]]
    size = 9 if len(x) <= 400 else 3.5
    axes.scatter(x, y, c=rgb, s=size, linewidths=0, rasterized=len(x) > 400)
    axes.set(xticks=[], yticks=[])
    axes.spines[["left", "bottom"]].set_color(NULL)
    share = float(part["embedded_share"])
    if share < 1:
        axes.set_xlabel(f"{100 * share:.0f} % embedded", fontsize=6.5)


def _quality(axes: Axes, part: xr.Dataset, *, legend: bool) -> None:
    """Each measure by method, beside the range of its null; a line for the activity itself."""
    methods = [str(m) for m in part["embedding"].values]
    entries: list[tuple[str, xr.DataArray, xr.DataArray, float]] = []
    for name, label in SHORT.items():
        if name in part and np.isfinite(part[name]).any():
            top = float(part["separability_activity"]) if name == "separability" else np.nan
            entries.append((label, part[name], part[f"null_{name}"], top))
    if "behaviour_r2" in part:
        for i, feature in enumerate(part["feature"].values):
            label = f"{feature}\nR2".replace("_", "\n")
            top = float(part["behaviour_r2_activity"][i])
            entries.append(
                (label, part["behaviour_r2"][:, i], part["null_behaviour_r2"][:, i], top)
            )
    offset = (np.arange(len(methods)) - (len(methods) - 1) / 2) * 0.18
    for x, (_, values, null, top) in enumerate(entries):
        if np.isfinite(top):
            axes.hlines(top, x - 0.42, x + 0.42, color="black", linewidth=0.8, linestyle=":")
        for m in range(len(methods)):
            draws = null.values[m][np.isfinite(null.values[m])]
            if len(draws):
                axes.vlines(x + offset[m], *np.quantile(draws, [0, 0.95]), color=NULL, lw=3.5)
            axes.plot(
                x + offset[m],
                values.values[m],
                "o",
                ms=3.2,
                color=COLOURS[m],
                label=TITLES[methods[m]] if x == 0 else None,
            )
    axes.set_xticks(range(len(entries)), [label for label, *_ in entries], fontsize=6)
    axes.set_xlim(-0.5, len(entries) - 0.5)
    axes.axhline(0, color=NULL, linewidth=0.5)
    axes.set_ylim(top=1.04)
    axes.set_ylabel("share, correlation, R2")
    if legend:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, columnspacing=0.8)


def _key(figure: Figure, axes: list[Axes], result: xr.Dataset) -> None:
    labels = [str(label) for label in result["condition"].values] if "condition" in result else []
    if not labels:
        return
    shown = ScalarMappable(
        BoundaryNorm(np.arange(len(labels) + 1) - 0.5, len(labels)),
        ListedColormap(_colours(result)),
    )
    # Wide labels of few panels would run into one another.
    most = 8 if result.sizes["embedding"] > 2 else 4
    ticks = np.unique(np.linspace(0, len(labels) - 1, min(most, len(labels))).astype(int))
    bar = figure.colorbar(shown, ax=axes, location="bottom", ticks=ticks, aspect=50, shrink=0.7)
    bar.set_ticklabels([labels[tick] for tick in ticks])
    bar.set_label("condition", labelpad=1)
    bar.outline.set_visible(False)
