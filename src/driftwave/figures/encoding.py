"""Encoding manifold: units by their responses, the components, their number, and continuity."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecBase
from matplotlib.ticker import MaxNLocator

from driftwave.figures.inputs import one_result
from driftwave.figures.style import COLOURS, NULL, SEQUENTIAL, STYLE

STAGE = "encoding"
RESULTS = "encoding"
EACH = True

MOST_FACTORS = 6
MOST_STIMULI = 8
_MEASURES = {
    "silhouette": "silhouette",
    "hdbscan_noise": "HDBSCAN noise",
    "between_weight": "weight between\ncommunities",
    "mst_tail": "spanning-tree tail",
}


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Diffusion coordinates by tuning; components; curve of ranks; z scores of continuity.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : mapping of str to Dataset
        One encoding result.

    Raises
    ------
    InputError
        If there is not exactly one result, or it is of another kind.
    """
    del recording
    result = one_result(results, "encoding", "neuron_factor")
    shown = min(MOST_FACTORS, result.sizes["rank_component"])
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(7.5, 5.6))
        grid = figure.add_gridspec(3, 1, height_ratios=[1.25, 0.95, 1.0])
        top = grid[0].subgridspec(1, 3)
        _preferred(figure.add_subplot(top[0]), result)
        for place, name in ((1, "osi"), (2, "dsi")):
            _tuned(figure.add_subplot(top[place]), result, name)
        bars = 0.45 if result.sizes["stimulus"] > 1 else 0.02
        _factors(figure, grid[1].subgridspec(2, shown, height_ratios=[bars, 1]), result, shown)
        bottom = grid[2].subgridspec(1, 3, width_ratios=[1, 1, 1.25])
        _ranks(figure.add_subplot(bottom[0]), result)
        _stability(figure.add_subplot(bottom[1]), result)
        draw_continuity(figure.add_subplot(bottom[2]), result)
    return figure


def unit_plane(ax: Axes, result: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """First two diffusion coordinates (unit,) of the largest component of the graph."""
    coordinate = result["coordinate"].transpose("unit", "diffusion_component").values
    first = coordinate[:, 0]
    second = coordinate[:, 1] if coordinate.shape[1] > 1 else np.zeros(len(first))
    elsewhere = result["component_of"].values > 0
    first, second = (np.where(elsewhere, np.nan, v) for v in (first, second))
    ax.set(xlabel="Diffusion coordinate 1", ylabel="Diffusion coordinate 2")
    ax.set(xticks=[], yticks=[])
    return first, second


def _scale(result: xr.Dataset, name: str) -> str:
    placed, total = int(np.isfinite(result["feature"].values[:, 0]).sum()), result.sizes["unit"]
    parts = int(result["component_of"].max()) + 1
    if parts > 1:
        shown = int((result["component_of"] == 0).sum())
        return f"{shown} of {placed} {name.lower()} placed:\nlargest of {parts} graph parts"
    return f"{name} ({placed} of {total} placed)"


def _preferred(ax: Axes, result: xr.Dataset) -> None:
    """Units coloured by their preferred stimulus; by their preferred direction if there is one."""
    first, second = unit_plane(ax, result)
    stimuli = [str(s) for s in result["stimulus"].values]
    if len(stimuli) == 1 and result.sizes["direction"] > 1:
        angle = result["preferred_direction"].values
        drawn = ax.scatter(
            first, second, c=angle, cmap="twilight_shifted", s=12, lw=0.3, ec="0.4",
            vmin=0, vmax=float(result.attrs["period"]),
        )  # fmt: skip
        unit = result["preferred_direction"].attrs.get("units", "")
        label = f"Preferred {result.attrs['direction_column']}"
        known = unit not in ("", "1", "none", "as in the file")
        plt.colorbar(drawn, ax=ax, label=f"{label} ({unit})" if known else label)
        ax.set_title(_scale(result, "Units"))
        return
    preferred = result["preferred_stimulus"].values.astype(str)
    for k, name in enumerate(stimuli[:MOST_STIMULI]):
        chosen = preferred == name
        ax.plot(first[chosen], second[chosen], "o", ms=3, mew=0, alpha=0.85,
                color=COLOURS[k % len(COLOURS)], label=name.split("=")[-1])  # fmt: skip
    rest = ~np.isin(preferred, stimuli[:MOST_STIMULI])
    if rest.any():
        ax.plot(first[rest], second[rest], "o", ms=2, mew=0, color=NULL, label="others")
    ax.legend(title="Preferred stimulus", title_fontsize=7, handletextpad=0.1, loc="upper left",
              bbox_to_anchor=(1.0, 1.0))  # fmt: skip
    ax.set_title(_scale(result, "Units"))


def _tuned(ax: Axes, result: xr.Dataset, name: str) -> None:
    first, second = unit_plane(ax, result)
    titles = {"osi": "Orientation selectivity", "dsi": "Direction selectivity"}
    ax.set_title(titles[name])
    values = result[name].values
    if not np.isfinite(values).any():
        ax.plot(first, second, "o", ms=3, mew=0, color=NULL)
        ax.text(0.5, 0.5, "no directions", ha="center", transform=ax.transAxes)
        return
    drawn = ax.scatter(first, second, c=values, cmap=SEQUENTIAL, s=12, lw=0, vmin=0, vmax=1)
    plt.colorbar(drawn, ax=ax, label=name.upper())


def _factors(figure: Figure, grid: GridSpecBase, result: xr.Dataset, shown: int) -> None:
    """Bars of the stimulus factors over maps of the response factors."""
    response = result["response_factor"].transpose("direction", "time", "rank_component").values
    stimulus = result["stimulus_factor"].transpose("stimulus", "rank_component").values
    weight = result["weight"].values
    time = result["time"].values
    step = float(time[1] - time[0]) if len(time) > 1 else 1.0
    turned = response.shape[0] > 1
    for r in range(shown):
        bars, map_ = figure.add_subplot(grid[0, r]), figure.add_subplot(grid[1, r])
        bars.bar(np.arange(len(stimulus)), stimulus[:, r], color=COLOURS[0], width=0.7)
        share = 100 * weight[r] ** 2 / (weight**2).sum()
        bars.set(xticks=[], yticks=[], ylim=(0, 1.05 * max(stimulus.max(), 1e-9)))
        bars.set_title(f"{r + 1}: {share:.0f} %", fontsize=7)
        if len(stimulus) == 1:  # one bar says nothing
            bars.clear()
            bars.set_axis_off()
            map_.set_title(f"{r + 1}: {share:.0f} %", fontsize=7)
        if turned:
            extent = (time[0], time[-1] + step, 0, response.shape[0])
            map_.imshow(response[..., r], aspect="auto", origin="lower", extent=extent,
                        cmap=SEQUENTIAL, vmin=0, interpolation="nearest")  # fmt: skip
            map_.set_yticks([])
        else:
            map_.plot(time, response[0, :, r], color=COLOURS[0])
            map_.set(yticks=[], ylim=(0, None))
        map_.set_xlabel("Time (s)")
        map_.set_xticks([round(time[0], 2), round(time[-1] + step, 2)])
        if r == 0:
            bars.set_ylabel("Stimuli")
            own = result.attrs["shift"] != "none"
            directed = "Direction\n(from the\nunit's own)" if own else "Direction"
            map_.set_ylabel(directed if turned else "Response")


def _no_curve(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, color="0.3")
    ax.set(xticks=[], yticks=[])


def _mark(ax: Axes, result: xr.Dataset) -> None:
    ax.axvline(result.attrs["rank"], color=NULL, ls="--", lw=0.8)
    ax.set_xlabel("Rank (dashed: used)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _ranks(ax: Axes, result: xr.Dataset) -> None:
    """Nuclear norm of the neuron factors over rank."""
    if "rank_curve_nuclear_norm" not in result:
        _no_curve(ax, "one rank only")
        return
    ranks = result["rank"].values
    ax.plot(ranks, result["rank_curve_nuclear_norm"].values, "o-", ms=3, label="neuron factors")
    ax.plot(ranks, np.sqrt(ranks), ":", color=NULL, label="most possible")
    _mark(ax, result)
    ax.set_ylabel("Nuclear / Frobenius norm")
    ax.legend()


def _stability(ax: Axes, result: xr.Dataset) -> None:
    """Split-half cosine, and held-out error, over rank."""
    if "rank_curve_stability" not in result or not result["rank_curve_stability"].size:
        _no_curve(ax, "no halves of the trials")
        return
    ranks = result["rank"].values
    stability = result["rank_curve_stability"].values
    error = result["rank_curve_held_out_error"].values.reshape(len(ranks), -1)
    ax.plot(ranks, stability.mean(axis=1), "o-", ms=3, color=COLOURS[0], label="split-half cosine")
    ax.plot(ranks, error.mean(axis=1), "s-", ms=3, color=COLOURS[1], label="held-out error")
    ax.plot(ranks, result["rank_curve_error"].values, "s:", ms=3, mfc="white", color=COLOURS[1],
            label="error of the fit")  # fmt: skip
    _mark(ax, result)
    ax.set(ylim=(0, 1.6), yticks=[0, 0.5, 1], ylabel="Cosine; relative error")
    ax.legend(loc="upper left", handlelength=1.5)


def draw_continuity(ax: Axes, result: xr.Dataset) -> None:
    """Surrogates' and the population's z of each measure; to the right speaks for clusters."""
    names = [name for name in _MEASURES if f"{name}_surrogate" in result]
    if not names:
        _no_curve(ax, str(result.attrs.get("continuity_note", "continuity not measured"))
                  .replace(": ", ":\n").replace(", ", ",\n"))  # fmt: skip
        return
    for row, name in enumerate(names):
        null, value = result[f"{name}_surrogate"].values, float(result[name])
        spread = null.std(ddof=1)
        z = float(result[f"{name}_z"])
        raw = (value - null.mean()) / spread if spread > 0 else 0.0
        # The stored z is signed so that clusters are positive.
        sign = np.sign(z) * np.sign(raw) if raw and np.isfinite(z) else 1.0
        points = sign * (null - null.mean()) / (spread if spread > 0 else 1)
        jitter = np.linspace(-0.25, 0.25, len(points))
        ax.plot(points, row + jitter, ".", ms=2, color=NULL, alpha=0.7)
        ax.plot(np.clip(z, -20, 40), row, "D", ms=5, color=COLOURS[1], mec="white", mew=0.5)
        p = float(result[f"{name}_p"])
        ax.text(1.02, row, f"p = {p:.2g}", transform=mpl.transforms.blended_transform_factory(
            ax.transAxes, ax.transData), va="center", fontsize=6.5)  # fmt: skip
    ax.axvline(0, color=NULL, lw=0.8, zorder=0)
    ax.set_yticks(range(len(names)), [_MEASURES[name] for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel("z against continuous surrogates\n(positive: clustered)")
    verdict = result.attrs.get("continuity_verdict", "")
    if verdict:
        # Clustered only against both nulls: the larger p decides.
        both = [n for n in ("combined_p", "combined_shuffled_p") if n in result]
        p = max((float(result[n]) for n in both), default=float("nan"))
        ax.set_title(f"{verdict} (combined p = {p:.2g})")
