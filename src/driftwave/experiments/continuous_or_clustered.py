"""Which statistics tell clustered populations from continuous ones, raw and against surrogates.

Populations of known kind are drawn; each statistic's area under the ROC curve (AUC) is given for
its value and for its z against continuous surrogates. The number of clusters found and the
modularity stand beside them and enter no verdict.
"""

from __future__ import annotations

import dask
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.experiments._chance import binomial_interval
from driftwave.figures.style import COLOURS, NULL, STYLE, TRUTH, new_figure
from driftwave.graphs.continuity import ALPHA, continuity
from driftwave.graphs.populations import KINDS, population
from driftwave.graphs.statistics import EVIDENCE, NO_EVIDENCE

QUICK = {"sets": 2, "points": 40, "kinds": ("sheet", "clusters"), "resamples": 20}
SIGNS = {**EVIDENCE, **NO_EVIDENCE}
STATISTICS = [*SIGNS, "combined"]
TITLES = {
    "silhouette": "Silhouette",
    "hdbscan_noise": "HDBSCAN noise",
    "between_weight": "Between-community\nweight",
    "mst_tail": "Spanning-tree tail",
    "combined": "All four, combined",
    "cluster_count": "Number of clusters",
    "modularity": "Modularity",
}
CONTRASTS = {
    "clusters": (("sheet",), ("clusters",)),
    "overlapping clusters": (("sheet",), ("overlapping clusters",)),
    "merging clusters": (("sheet",), ("merging clusters",)),
    "all": (
        tuple(name for name, kind in KINDS.items() if not kind[2]),
        tuple(name for name, kind in KINDS.items() if kind[2]),
    ),
}
CONTRAST_TITLES = {
    "clusters": "sheet or 8\nclusters",
    "overlapping clusters": "sheet or 8\noverlapping clusters",
    "merging clusters": "sheet or 8\nmerging clusters",
    "all": "all continuous or\nall clustered",
}


class Params(BaseModel):
    """Settings of the comparison of clustered and continuous populations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sets: int = Field(12, ge=2, description="Populations of each kind.")
    points: int = Field(300, ge=40, description="Points of a population.")
    surrogates: int = Field(19, ge=19, description="Continuous surrogates of each population.")
    kinds: tuple[str, ...] = Field(
        tuple(name for name in KINDS if name != "merging clusters"),
        min_length=2,
        description="Kinds of population; 'merging clusters', the hardest, only where asked for.",
    )
    resamples: int = Field(
        1000, ge=20, description="Resamples of the populations for the intervals of the AUC."
    )


def auc(continuous: np.ndarray, clustered: np.ndarray) -> float:
    """Probability that a clustered population has the larger value; ties count half."""
    gap = clustered[:, None] - continuous
    return float(((gap > 0) + 0.5 * (gap == 0)).mean())


def judged(kind: str, params: Params, seed: int, number: int) -> dict[str, float]:
    """Signed value, z and p of every statistic for population ``number`` of a kind."""
    rng = generator(seed, "continuous or clustered", kind, str(number))
    points = population(kind, params.points, rng)
    found = continuity(points, surrogates=params.surrogates, seed=int(rng.integers(2**31)))
    row = {"combined value": np.nan}
    for name in STATISTICS:
        row[f"{name} z"], row[f"{name} p"] = float(found[f"{name}_z"]), float(found[f"{name}_p"])
        if name in SIGNS:
            row[f"{name} value"] = SIGNS[name] * float(found[name])
    return row


def run(params: Params, *, seed: int) -> xr.Dataset:
    """Draw and judge the populations.

    Parameters
    ----------
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``value`` (larger for clusters), ``z`` and ``p`` along (kind, set, statistic);
        ``auc``, ``auc_low``, ``auc_high`` (contrast, measure, statistic) with measures "value" and
        "z" and 95 % intervals over resampled populations; ``rejected``, ``rejected_low``,
        ``rejected_high`` (kind, statistic), shares with p <= .05 with exact 95 % intervals. Coord
        ``clustered`` (kind).

    Raises
    ------
    ValueError
        If a kind is unknown.
    """
    unknown = set(params.kinds) - set(KINDS)
    if unknown:
        raise ValueError(f"unknown kinds of population {sorted(unknown)}; known: {list(KINDS)}")
    tasks = [
        dask.delayed(judged)(kind, params, seed, number)
        for kind in params.kinds
        for number in range(params.sets)
    ]
    rows = dask.compute(*tasks)
    shape = len(params.kinds), params.sets, len(STATISTICS)
    result = xr.Dataset(
        {
            one: (
                ("kind", "set", "statistic"),
                np.reshape([[row[f"{n} {one}"] for n in STATISTICS] for row in rows], shape),
                {"units": "1"},
            )
            for one in ("value", "z", "p")
        },
        coords={
            "kind": list(params.kinds),
            "statistic": STATISTICS,
            "clustered": ("kind", [KINDS[kind][2] for kind in params.kinds]),
        },
    )
    return result.merge(_areas(result, params.resamples, seed)).merge(_rejections(result))


def _areas(result: xr.Dataset, resamples: int, seed: int) -> xr.Dataset:
    present = set(result["kind"].values.tolist())
    wanted = {
        name: ([k for k in first if k in present], [k for k in second if k in present])
        for name, (first, second) in CONTRASTS.items()
    }
    wanted = {name: pair for name, pair in wanted.items() if pair[0] and pair[1]}
    measures = ("value", "z")
    areas = np.full((3, len(wanted), len(measures), len(STATISTICS)), np.nan)
    for i, (name, pair) in enumerate(wanted.items()):
        for j, measure in enumerate(measures):
            for k, statistic in enumerate(STATISTICS):
                if measure == "value" and statistic == "combined":
                    continue
                table = result[measure].sel(statistic=statistic)
                groups = [table.sel(kind=kinds).values for kinds in pair]
                rng = generator(seed, "areas", name)
                draws = [
                    auc(*(_resampled(group, rng).ravel() for group in groups))
                    for _ in range(resamples)
                ]
                value = auc(*(group.ravel() for group in groups))
                areas[:, i, j, k] = value, *np.quantile(draws, [0.025, 0.975])
    dims = ("contrast", "measure", "statistic")
    return xr.Dataset(
        {
            f"auc{end}": (dims, area, {"units": "1"})
            for end, area in zip(("", "_low", "_high"), areas, strict=True)
        },
        coords={"contrast": list(wanted), "measure": list(measures), "statistic": STATISTICS},
    )


def _resampled(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Populations (kind, set) redrawn within each kind."""
    return np.take_along_axis(group, rng.integers(group.shape[1], size=group.shape), axis=1)


def _rejections(result: xr.Dataset) -> xr.Dataset:
    hits = (result["p"].values <= ALPHA).sum(axis=1)
    sets = result.sizes["set"]
    low, high = binomial_interval(hits, sets)
    return xr.Dataset(
        {
            f"rejected{end}": (("kind", "statistic"), share, {"units": "1"})
            for end, share in (("", hits / sets), ("_low", low), ("_high", high))
        },
        coords={"kind": result["kind"], "statistic": STATISTICS},
    )


def draw(result: xr.Dataset) -> Figure:
    """Areas under the curve of each contrast, and the combined z of each population.

    Parameters
    ----------
    result : Dataset
        Of :func:`run`.
    """
    contrasts = result["contrast"].values.tolist()
    figure, axes = new_figure(1, len(contrasts) + 1, height=3.2, width=2.3 * len(contrasts) + 2.6)
    with plt.rc_context(STYLE):
        for ax, contrast in zip(axes, contrasts, strict=False):
            _draw_areas(ax, result.sel(contrast=contrast), contrast, ax is axes[0])
        _draw_scores(axes[-1], result)
    return figure


def _draw_areas(ax: Axes, result: xr.Dataset, contrast: str, first: bool) -> None:
    order = [*EVIDENCE, "combined", *NO_EVIDENCE]
    for row, name in enumerate(order):
        colour = COLOURS[1] if name in NO_EVIDENCE else COLOURS[0]
        for measure, shift, fill in (("value", -0.17, "white"), ("z", 0.17, colour)):
            one = result.sel(statistic=name, measure=measure)
            value, low, high = (float(one[f"auc{end}"]) for end in ("", "_low", "_high"))
            if np.isfinite(value):
                ax.plot([low, high], [row + shift] * 2, "-", lw=0.8, color=colour)
                ax.plot(value, row + shift, "o", ms=3.5, color=colour, mfc=fill, clip_on=False)
    ax.axvline(0.5, color=NULL, lw=0.8, zorder=0)
    ax.axvline(0.95, color=TRUTH, lw=0.8, ls=":", zorder=0)
    ax.set(xlim=(0, 1.02), ylim=(len(order) - 0.5, -0.5), xlabel="AUC (95 % interval)")
    ax.set_title(CONTRAST_TITLES[contrast])
    ax.set_yticks(range(len(order)), [TITLES[n] for n in order] if first else [])
    ax.tick_params(axis="y", length=0)
    if first:
        for fill, label in (("white", "value"), (COLOURS[0], "z against surrogates")):
            ax.plot([], [], "o", ms=3.5, color=COLOURS[0], mfc=fill, label=label)
        ax.legend(loc="lower left", bbox_to_anchor=(-0.05, 0.0), handletextpad=0.2)


def _draw_scores(ax: Axes, result: xr.Dataset) -> None:
    kinds = result["kind"].values.tolist()
    sets = result.sizes["set"]
    for row, kind in enumerate(kinds):
        one = result.sel(kind=kind, statistic="combined")
        colour = COLOURS[1] if bool(one["clustered"]) else COLOURS[0]
        place = row + np.linspace(-0.25, 0.25, sets)
        ax.plot(one["z"], place, "o", ms=2.5, mew=0, alpha=0.8, color=colour)
        count = round(float(one["rejected"]) * sets)
        ax.annotate(
            f"{count}/{sets}", (1.0, row), xycoords=ax.get_yaxis_transform(), fontsize=7,
            ha="left", va="center",
        )  # fmt: skip
    ax.axvline(0, color=NULL, lw=0.8, zorder=0)
    ax.set_xscale("symlog", linthresh=3, linscale=1)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks(range(len(kinds)), [kind.capitalize() for kind in kinds])
    ax.set(
        ylim=(len(kinds) - 0.5, -0.5), xlabel="Combined z (right: p \N{LESS-THAN OR EQUAL TO} .05)"
    )
    ax.tick_params(axis="y", length=0)
    for colour, label in ((COLOURS[0], "continuous"), (COLOURS[1], "clustered")):
        ax.plot([], [], "o", ms=3, color=colour, label=label)
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2, columnspacing=0.8)
