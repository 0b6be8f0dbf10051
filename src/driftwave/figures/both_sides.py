"""Both sides of one population: its decoding manifold, its encoding manifold, and their nulls."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from driftwave.figures.encoding import draw_continuity, unit_plane
from driftwave.figures.inputs import need_result
from driftwave.figures.learning_curve import draw_curve, score_name
from driftwave.figures.manifold import (
    Colour,
    curves_of,
    draw_participation,
    draw_plane,
    ordered_colours,
    shares_of,
    thinned,
)
from driftwave.figures.style import COLOURS, NULL, SEQUENTIAL, STYLE
from driftwave.tuning.design import design_of

STAGE = "encoding"
RESULTS = "both_sides"

MOST_STIMULI = 6
MOST_TARGETS = 4
MOST_LABELS = 8
LEVEL = 0.05
_INDICES = {"osi": "orientation selectivity", "dsi": "direction selectivity"}


@dataclass(frozen=True)
class Key:
    """What colours mean in both manifolds.

    Attributes
    ----------
    title : str
    labels : list of str
        One per colour.
    colours : list of colours
    conditions : list of colours or None
        Of the conditions drawn; None where they are not told apart by the same thing as units.
    units : list of colours
    """

    title: str
    labels: list[str]
    colours: list[Colour]
    conditions: list[Colour] | None
    units: list[Colour]


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw trajectories of conditions and places of units, each beside what chance gives.

    Parameters
    ----------
    recording : DataTree or None
        Gives conditions the colours of the stimuli; without it they have an order of their own.
    results : dict of str to Dataset
        ``manifold`` and ``encoding`` of the recording, and ``learning_curve`` or ``decoding``
        where there is one.

    Raises
    ------
    InputError
        If either manifold is not given.
    """
    manifold = need_result(results, "manifold", "both_sides")
    encoding = need_result(results, "encoding", "both_sides")
    part = thinned(manifold.isel(features_from=0))
    drawn = np.flatnonzero(np.isin(manifold.get("condition", []), part.get("condition", [])))
    key = _key(recording, part, drawn, encoding)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(7.5, 5.2))
        above, below = np.asarray(figure.subfigures(2, 1))
        first = above.subplots(1, 3, width_ratios=[1.15, 0.75, 1.1])
        _draw_conditions(first[0], manifold, part, key)
        draw_participation(first[1], part)
        first[1].set_title("grey: units shifted in time", pad=14)
        _draw_decoding(first[2], results)
        second = below.subplots(1, 3, width_ratios=[1, 1.1, 1.1])
        _draw_units(second[0], encoding, key)
        _draw_selectivity(below, second[1], encoding)
        draw_continuity(second[2], encoding)
        if not second[2].get_title():
            second[2].set_title("clustered or continuous?")
        _draw_key(figure, key)
        above.suptitle("Decoding manifold: states of the population", x=0.01, ha="left", fontsize=9)
        below.suptitle("Encoding manifold: places of its units", x=0.01, ha="left", fontsize=9)
    return figure


def _key(
    recording: xr.DataTree | None, part: xr.Dataset, drawn: np.ndarray, encoding: xr.Dataset
) -> Key:
    """Colours of the directions where there is one stimulus, else of the stimuli."""
    stimuli = [str(name) for name in encoding["stimulus"].values]
    directions = encoding["direction"].values.astype(float)
    if len(stimuli) == 1 and len(directions) > 1:
        period = float(encoding.attrs["period"])
        colours = ordered_colours(len(directions), True)
        angle = encoding["preferred_direction"].values
        turn = np.where(np.isfinite(angle), angle, 0) / period * len(directions)
        nearest = np.round(turn).astype(int) % len(directions)
        of = _of_conditions(recording, part, drawn, "of_direction")
        return Key(
            _meaning(str(encoding.attrs["direction_column"]), of),
            [f"{direction:g}" for direction in directions],
            colours,
            None if of is None else [colours[k] for k in of],
            [colours[k] for k in nearest],
        )
    shown = min(len(stimuli), MOST_STIMULI)
    grey = _rgb(NULL)
    colours = [_rgb(colour) for colour in COLOURS[:shown]] + [grey] * (len(stimuli) - shown)
    place = {name: k for k, name in enumerate(stimuli)}
    preferred = [place.get(str(name), -1) for name in encoding["preferred_stimulus"].values]
    of = _of_conditions(recording, part, drawn, "of_stimulus")
    return Key(
        _meaning("stimulus", of),
        [name.split("=")[-1] for name in stimuli[:shown]],
        colours[:shown],
        None if of is None else [colours[k] for k in of],
        [colours[k] if k >= 0 else grey for k in preferred],
    )


def _meaning(name: str, of: list[int] | None) -> str:
    return f"preferred {name} of units" if of is None else f"{name} (units: preferred)"


def _rgb(colour: str) -> Colour:
    red, green, blue = mpl.colors.to_rgb(colour)
    return red, green, blue


def _of_conditions(
    recording: xr.DataTree | None, part: xr.Dataset, drawn: np.ndarray, column: str
) -> list[int] | None:
    """Stimulus or direction of each condition drawn; None where they are told apart otherwise."""
    if recording is None or "trajectory" not in part or "condition_of_trial" not in part.coords:
        return None
    of_trial = getattr(design_of(recording), column)[part["trial"].values]
    condition = part["condition_of_trial"].values
    found = []
    for number in drawn:
        values = np.unique(of_trial[condition == number])
        if len(values) != 1 or values[0] < 0:
            return None
        found.append(int(values[0]))
    return found


def _draw_conditions(axes: Axes, manifold: xr.Dataset, part: xr.Dataset, key: Key) -> None:
    curves, own = curves_of(part)
    draw_plane(axes, curves, key.conditions or own, shares_of(part))
    total = manifold.sizes.get("condition", 0)
    if "trajectory" not in part:
        axes.set_title("states" if "condition_state" in part else "single trials")
    elif part.sizes["condition"] < total:
        axes.set_title(f"{part.sizes['condition']} of {total} conditions")
    else:
        axes.set_title(f"{total} conditions")


def _draw_decoding(axes: Axes, results: dict[str, xr.Dataset]) -> None:
    """The curve over units where there is one, else the scores of all units."""
    if "learning_curve" in results:
        found = results["learning_curve"]
        _draw_ceiling(axes, found, results.get("decoding"))
        draw_curve(axes, found.sel(kind="units"))
        axes.set_xlabel("units")
        axes.set_ylabel(score_name(found))
        axes.set_title(f"decoding of {str(found.attrs['target']).replace('_', ' ')}")
        smallest = found.sel(kind="units").isel(features_from=0)
        p = smallest["p_value"].dropna("size").values[-1]
        axes.plot([], [], " ", label=f"all units: p = {p:.2g}")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.4 * (high - low))  # room for the legend
        if not str(found.attrs.get("score", "")).startswith("R2"):
            axes.set_yticks(np.arange(0, 1.01, 0.2))
        axes.legend(loc="upper left", handlelength=1.2, fontsize=6.5, labelspacing=0.3)
    elif "decoding" in results:
        _draw_scores(axes, results["decoding"])
    else:
        axes.text(0.5, 0.5, "not decoded", ha="center", transform=axes.transAxes, color="0.3")
        axes.set(xticks=[], yticks=[])


def _draw_ceiling(axes: Axes, curve: xr.Dataset, decoding: xr.Dataset | None) -> None:
    """The bound that noise sets, where the main decoder has one of the same target."""
    if decoding is None or "ceiling_r2" not in decoding or "feature" not in decoding.coords:
        return
    same = decoding["feature"].values == curve.attrs["target"]
    source = decoding["features_from"].values == str(curve["features_from"].values[0])
    bound = decoding["ceiling_r2"].values[np.ix_(source, same)]
    if str(curve.attrs.get("score", "")).startswith("R2") and np.isfinite(bound).any():
        axes.axhline(np.nanmean(bound), color="black", lw=0.8, ls="-.", label="ceiling (noise)")


def _draw_scores(axes: Axes, decoding: xr.Dataset) -> None:
    """Scores as dots beside violins of their nulls: stimuli by accuracy, behaviour by R2."""
    discrete = bool(decoding.sizes.get("stimulus", 0))
    dim, name, p_name = ("stimulus", "accuracy", "p_value_accuracy") if discrete else (
        "target", "r2", "p_value")  # fmt: skip
    found = decoding.isel(features_from=0).isel({dim: slice(MOST_TARGETS)})
    for x in range(found.sizes[dim]):
        one = found.isel({dim: x})
        null = one[f"null_{name}"].values
        null = null[np.isfinite(null)]
        if len(null) and np.ptp(null) > 0:
            bodies = axes.violinplot(null, [x], widths=0.7, showextrema=False)["bodies"]
            for body in np.atleast_1d(bodies):  # type: ignore[call-overload]
                body.set(facecolor=NULL, edgecolor="none", alpha=0.6)
        axes.plot(x, float(one[f"{name}_cv"]), "o", color=COLOURS[0], ms=4.5)
        above = axes.get_xaxis_transform()
        p = f"p = {float(one[p_name]):.2g}"
        axes.text(x, 1.0, p, transform=above, fontsize=6.5, ha="center", va="bottom")
    names = [str(label).replace("_", "\n") for label in found[dim].values]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel("accuracy" if discrete else "R$^2$")
    axes.set_title("decoding from all units; grey: shuffled", pad=14)


def _draw_units(axes: Axes, encoding: xr.Dataset, key: Key) -> None:
    first, second = unit_plane(axes, encoding)
    axes.scatter(first, second, c=key.units, s=10, lw=0.3, ec="0.4")
    placed = int(np.isfinite(first).sum())
    axes.set_title(f"{placed} of {encoding.sizes['unit']} units placed")


def _draw_selectivity(figure: Figure, axes: Axes, encoding: xr.Dataset) -> None:
    """Units by selectivity, that which more of them have; crosses where shuffles give as much."""
    first, second = unit_plane(axes, encoding)
    placed = np.isfinite(first)
    sure = {name: placed & (encoding[f"{name}_q"].values <= LEVEL) for name in _INDICES}
    name = max(sure, key=lambda index: sure[index].sum())  # orientation, if as many have either
    values, chosen = encoding[name].values.astype(float), sure[name]
    if not np.isfinite(values).any():
        axes.plot(first, second, "o", ms=3, mew=0, color=NULL)
        axes.set_title("no directions")
        return
    axes.plot(first[~chosen], second[~chosen], "x", ms=3, mew=0.7, color=NULL)
    drawn = axes.scatter(
        first[chosen], second[chosen], c=values[chosen], cmap=SEQUENTIAL, s=10, lw=0, vmin=0, vmax=1
    )
    figure.colorbar(drawn, ax=axes, label=_INDICES[name], aspect=25)
    axes.set_title(f"{int(chosen.sum())} selective (q ≤ {LEVEL:g}); ×: not", fontsize=7.5)


def _draw_key(figure: Figure, key: Key) -> None:
    shown = slice(None, None, -(-len(key.labels) // MOST_LABELS))
    colours, labels = key.colours[shown], key.labels[shown]
    marks = [Line2D([], [], color=c, marker="o", ms=4, linestyle="none") for c in colours]
    marks.insert(0, Line2D([], [], linestyle="none"))
    labels.insert(0, f"{key.title}:")
    figure.legend(
        marks,
        labels,
        loc="outside lower center",
        ncols=len(labels),
        handletextpad=0.0,
        columnspacing=0.7,
        handlelength=1.2,
    )
