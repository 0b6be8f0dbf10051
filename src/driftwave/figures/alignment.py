"""Sessions beside one another: aligned scores, distances of every measure, pictures of them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, NULL, SEQUENTIAL, STYLE

STAGE = "alignment"
RESULTS = "group"

COLUMNS = 5
# More names than this overlap beside a matrix.
MOST_NAMES = 16
LONGEST_NAME = 14
_SCORES = {
    "cca_correlation": "held-out canonical correlation",
    "procrustes_r2": r"held-out $R^2$ (Procrustes)",
    "decoding_accuracy": "decoding across sessions\n(accuracy)",
}
_TITLES = {
    "cca": "CCA",
    "procrustes": "Procrustes",
    "shape": "shape, angle",
    "shape_size": "shape and size",
    "shape_stochastic": "stochastic shape",
    "rsa": "RSA (crossnobis)",
    "cka": "CKA (debiased)",
    "dsa": "DSA",
    "gromov_wasserstein": "Gromov-Wasserstein",
}
# Lowest R2 drawn: an unaligned prediction can be as bad as one likes.
LOWEST = -0.5


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Aligned scores of every pair between floor and ceiling; a matrix and a picture by measure.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : mapping of str to Dataset
        ``group``: a comparison of sessions.

    Raises
    ------
    InputError
        If it is not given.
    """
    del recording
    result = need_result(results, "group", "alignment")
    measures = [str(m) for m in result["measure"].values]
    blocks = -(-len(measures) // COLUMNS)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(8.2, 2.4 + 3.3 * blocks))
        rows = figure.subfigures(1 + blocks, 1, height_ratios=[2.4] + [3.3] * blocks, squeeze=False)
        _draw_scores(rows[0, 0], result)
        for block in range(blocks):
            chosen = measures[block * COLUMNS : (block + 1) * COLUMNS]
            axes = rows[1 + block, 0].subplots(2, COLUMNS, squeeze=False)
            for matrix, picture in axes.T[len(chosen) :]:
                matrix.set_visible(False)
                picture.set_visible(False)
            for column, measure in enumerate(chosen):
                part = result.sel(measure=measure)
                _draw_matrix(figure, axes[0, column], part, names=column == 0)
                _draw_picture(axes[1, column], part)
    return figure


def _draw_scores(part: Figure, result: xr.Dataset) -> None:
    """A line per pair: floor, null, aligned, ceiling."""
    scores = [str(s) for s in result["score"].values]
    axes = part.subplots(1, len(scores))
    for panel, score in zip(np.atleast_1d(axes), scores, strict=True):
        own = result.sel(score=score)
        rows = np.stack(
            [
                own["aligned_score_floor"].values,
                np.median(own["null_aligned_score"].values, axis=-1),
                own["aligned_score"].values,
                own["aligned_score_ceiling"].values,
            ],
            axis=-1,
        )
        apart = np.isfinite(own["aligned_score"].values)
        if score == "cca_correlation":
            apart &= np.triu(np.ones(apart.shape, bool), 1)
        sure = own["aligned_score_q_value"].values[apart] <= 0.05
        for values, significant in zip(rows[apart], sure, strict=True):
            shown = np.maximum(values, LOWEST)
            panel.plot(shown, color=COLOURS[0] if significant else NULL, linewidth=0.6, alpha=0.7)
            panel.plot(shown, "o", color=COLOURS[0] if significant else NULL, ms=2)
        if score == "decoding_accuracy" and apart.any():
            chance = float(np.nanmean(own["chance"].values))
            panel.axhline(chance, color="black", linewidth=0.6, linestyle=":")
            panel.text(3.3, chance, "chance", fontsize=6, ha="right", va="bottom")
        else:
            panel.axhline(0, color="black", linewidth=0.6, linestyle=":")
        panel.set_xticks(range(4), ["floor", "null", "aligned", "ceiling"])
        panel.set_xlim(-0.3, 3.3)
        panel.set_ylim(top=1.04)
        panel.set_ylabel(_SCORES.get(score, score))
    part.suptitle(
        "a line per pair of sessions; blue, and dots below: "
        "closer than the null, most often conditions permuted (q <= 0.05)",
        fontsize=7.5,
    )


def _colour(k: int) -> str:
    """Of session k; the last house colour is too light for text."""
    return COLOURS[k % (len(COLOURS) - 1)]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _draw_matrix(figure: Figure, axes: Axes, part: xr.Dataset, *, names: bool) -> None:
    measure = str(part["measure"].values)
    labels = [f"{_short(str(name))}  {k + 1}" for k, name in enumerate(part["session"].values)]
    values = part["distance"].values.copy()
    np.fill_diagonal(values, np.nan)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=SEQUENTIAL)
    bar = figure.colorbar(image, ax=axes, location="top", shrink=0.9, aspect=14, pad=0.04)
    unit = str(part["unit_of_measure"].values)
    shown = {"1": "", "Hz^0.5": r" ($\sqrt{\mathrm{Hz}}$)"}.get(unit, f" ({unit})")
    bar.set_label(f"{_TITLES.get(measure, measure)}{shown}", fontsize=7.5)
    bar.ax.tick_params(labelsize=6)
    bar.ax.locator_params(nbins=3)
    bar.outline.set_visible(False)
    close = np.argwhere(part["q_value"].values <= 0.05)
    if len(close):
        size = float(np.clip(20 / len(labels), 1, 3))
        axes.plot(close[:, 1], close[:, 0], "o", color="white", ms=size, mec="black", mew=0.3)
    few = len(labels) <= MOST_NAMES
    ticks = range(len(labels)) if few else []
    numbers = [str(k + 1) for k in ticks]
    axes.set_xticks(ticks, numbers, fontsize=6)
    axes.set_yticks(ticks, (labels if names else numbers) if few else [], fontsize=6)
    for own in (axes.get_xticklabels(), axes.get_yticklabels()):
        for k, label in enumerate(own):
            label.set_color(_colour(k))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_picture(axes: Axes, part: xr.Dataset) -> None:
    places = part["mds"].values
    for k, (x, y) in enumerate(places):
        axes.plot(x, y, "o", color=_colour(k), ms=3)
        if np.isfinite(x):
            axes.annotate(
                str(k + 1),
                (x, y),
                xytext=(2, 2),
                textcoords="offset points",
                fontsize=6,
                color=_colour(k),
            )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.25)
    axes.set_aspect("equal", adjustable="datalim")
    stress = float(part["stress"])
    axes.set_xlabel(f"MDS, stress {stress:.2f}" if np.isfinite(stress) else "not measured")
