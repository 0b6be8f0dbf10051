"""Functional connectome: courses and networks of motifs, communities in time, and their nulls."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, NULL, SEQUENTIAL, STYLE
from driftwave.nulls.multiplicity import benjamini_hochberg

STAGE = "connectome"
RESULTS = "connectome"

MOST_NETWORKS = 4
MOST_COURSES = 8
MOST_FEATURES = 3
LEVEL = 0.05
UNLINKED, FURTHER = "#FFFFFF", "#666666"


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw when motifs are active, who is in them, and how far chance would take each.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : dict of str to Dataset
        ``connectome``: what :func:`driftwave.connectome.analysis.analyse` returns.

    Raises
    ------
    InputError
        If it is not given.
    """
    del recording
    found = need_result(results, "connectome", "connectome")
    with plt.rc_context(STYLE):
        features = _features(found)
        lines = min(found.sizes["motif"], MOST_COURSES) + len(features)
        heights = [0.55 + 0.28 * lines, 1.7, 1.95, 1.5]
        figure = plt.figure(figsize=(7.5, 0.25 + sum(heights)))
        rows = figure.add_gridspec(4, 1, height_ratios=heights)
        course = figure.add_subplot(rows[0])
        _draw_courses(course, found, features)
        _draw_communities(figure.add_subplot(rows[1], sharex=course), found)
        _draw_networks(figure, rows[2], found)
        last = rows[3].subgridspec(1, 3)
        _draw_stability(figure.add_subplot(last[0]), found)
        _draw_explained(figure.add_subplot(last[1]), found)
        _draw_modularity(figure.add_subplot(last[2]), found)
        figure.suptitle(_title(found), fontsize=8.5)
    return figure


def _title(found: xr.Dataset) -> str:
    units, motifs = found.sizes["unit"], found.sizes["motif"]
    number = f"{motifs} motif{'s' if motifs > 1 else ''}"
    return f"{units} units in windows of {float(found.attrs['window']):.3g} s: {number}"


def _draw_courses(axes: Axes, found: xr.Dataset, features: list[tuple[str, str, float]]) -> None:
    """A line per motif, the heaviest above, and below them what the animal did."""
    time = found["time"].values
    shown = min(found.sizes["motif"], MOST_COURSES)
    labels = []
    for k in range(shown):
        course = found["course"].isel(motif=k).values
        span = max(float(course.max()), 1e-12)
        axes.fill_between(time, -k, course / span * 0.85 - k, color="#555555", lw=0)
        labels.append(f"motif {k + 1}")
    for row, (feature, note, q) in enumerate(features):
        values = found["behaviour"].sel(feature=feature).values
        unit = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
        place = -(shown + row)
        axes.plot(time, unit * 0.8 + place, color=COLOURS[1] if q <= LEVEL else NULL, lw=0.9)
        labels.append(f"{feature.replace('_', ' ')}: {note}")
    axes.set_yticks([0.4 - k for k in range(len(labels))], labels, fontsize=6.5)
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(-len(labels) + 0.9, 1.0), xlim=(time[0], time[-1]))
    axes.tick_params(axis="x", labelbottom=False)
    axes.spines["left"].set_visible(False)
    axes.set_title("activity of motifs" + (", and behaviour" if len(labels) > shown else ""))


def _features(found: xr.Dataset) -> list[tuple[str, str, float]]:
    """The features that go best with a motif: name, which motif and how closely, q."""
    if "p_behaviour" not in found:
        return []
    p = found["p_behaviour"].transpose("feature", "motif").values
    q = benjamini_hochberg(p.ravel()).reshape(p.shape)
    rank = found["behaviour_correlation"].transpose("feature", "motif").values
    best = [int(np.lexsort((-np.abs(rank[row]), p[row]))[0]) for row in range(len(p))]
    order = np.argsort([p[row, k] for row, k in enumerate(best)], kind="stable")[:MOST_FEATURES]
    names = found["feature"].values.astype(str)
    return [
        (
            names[row],
            f"ρ = {rank[row, best[row]]:.2f}\n"
            f"with motif {best[row] + 1}, q = {q[row, best[row]]:.2g}",
            float(q[row, best[row]]),
        )
        for row in order
    ]


def _draw_stability(axes: Axes, found: xr.Dataset) -> None:
    rank = found["rank"].values
    values = found["stability"].transpose("rank", "split").values
    axes.plot(rank, values, ".", color=COLOURS[0], ms=4, alpha=0.6)
    axes.plot(rank, np.median(values, axis=1), color=COLOURS[0])
    axes.axvline(found.sizes["motif"], color=COLOURS[1], ls="--", lw=0.9)
    axes.set(ylim=(min(0.0, float(values.min())) - 0.05, 1.05), xlabel="motifs")
    axes.set_xticks(rank)
    axes.set_ylabel("correlation\nof halves")
    axes.set_title("dashed: number used")


def _draw_explained(axes: Axes, found: xr.Dataset) -> None:
    null = found["null_explained"].values
    axes.hist(null, bins=min(10, len(null)), color=NULL)
    axes.axvline(float(found["explained"]), color=COLOURS[1])
    axes.set(xlabel="explained variation of affinity", ylabel="shifted")
    axes.set_title(f"orange: as recorded (p = {float(found['p_explained']):.2g})")


def _draw_modularity(axes: Axes, found: xr.Dataset) -> None:
    """The modularity of each motif's network beside that of shifted traces."""
    null = found["null_modularity"].transpose("motif", "surrogate").values
    shown = min(found.sizes["motif"], MOST_COURSES)
    p = found["p_modularity"].values
    for k in range(shown):
        axes.plot(np.full(null.shape[1], k + 1), null[k], "_", color=NULL, ms=7, alpha=0.6)
        axes.plot(k + 1, found["modularity"].values[k], "D", color=COLOURS[1], ms=4)
        above = axes.get_xaxis_transform()
        axes.text(k + 1, 1.0, f"{p[k]:.2g}", transform=above, fontsize=6, ha="center", va="bottom")
    axes.set(xlabel="motif", ylabel="modularity", xlim=(0.4, shown + 0.6))
    axes.set_xticks(range(1, shown + 1))
    axes.margins(y=0.15)
    axes.text(-0.02, 1.0, "p", transform=axes.transAxes, fontsize=6, ha="right", va="bottom")


def _sorted_units(community: np.ndarray) -> np.ndarray:
    """Units by community, those without an edge last."""
    return np.lexsort((np.arange(len(community)), np.where(community < 0, np.inf, community)))


def _draw_networks(figure: Figure, place: mpl.gridspec.SubplotSpec, found: xr.Dataset) -> None:
    """Affinities of the heaviest motifs, units sorted by the motif's own communities."""
    shown = min(found.sizes["motif"], MOST_NETWORKS)
    grid = place.subgridspec(1, max(shown, 3))
    affinity = found["affinity"].transpose("motif", "unit", "other").values
    top = float(np.quantile(affinity[:shown], 0.995)) or 1.0
    axes = []
    for k in range(shown):
        axis = figure.add_subplot(grid[0, k])
        community = found["community"].transpose("motif", "unit").values[k]
        order = _sorted_units(community)
        image = axis.imshow(affinity[k][np.ix_(order, order)], cmap=SEQUENTIAL, vmin=0, vmax=top)
        for edge in np.flatnonzero(np.diff(community[order])) + 0.5:
            axis.axhline(edge, color="white", lw=0.6)
            axis.axvline(edge, color="white", lw=0.6)
        count = len(np.unique(community[community >= 0]))
        axis.set_title(f"motif {k + 1}: {count} communities")
        axis.set(xticks=[], yticks=[], xlabel="units")
        axes.append(axis)
    axes[0].set_ylabel("units")
    bar = figure.colorbar(image, ax=axes, aspect=18, pad=0.01)
    bar.set_label("affinity")
    bar.outline.set_visible(False)


def _draw_communities(axes: Axes, found: xr.Dataset) -> None:
    """The community of each unit in each window; units sorted by the one they are mostly in."""
    label = found["community_in_time"].transpose("unit", "time").values
    mostly = [np.bincount(row[row >= 0]).argmax() if (row >= 0).any() else -1 for row in label]
    order = _sorted_units(np.array(mostly))
    colours = mpl.colors.ListedColormap([UNLINKED, *COLOURS, FURTHER])
    number = np.minimum(label[order], len(COLOURS)) + 1
    time = found["time"].values
    half = (time[1] - time[0]) / 2
    axes.imshow(
        number,
        cmap=colours,
        vmin=-0.5,
        vmax=len(COLOURS) + 1.5,
        aspect="auto",
        interpolation="nearest",
        extent=(time[0] - half, time[-1] + half, len(order) - 0.5, -0.5),
    )
    axes.set(xlabel="time (s)", ylabel="units", yticks=[])
    axes.set_title("communities in time (white: no edge)")
