"""Measures of shape beside their nulls, signal spectrum, distances, speed and tangling in time."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.figures.inputs import one_result
from driftwave.figures.style import COLOURS, NULL, STYLE

STAGE = "manifold"
RESULTS = "geometry"
GEOMETRY = "shape"
EACH = True

SHOWN = {
    "participation_ratio": "participation\nratio",
    "two_nn": "TwoNN",
    "tangling": "tangling\nQ 90 %",
    "tubularity_ratio": "tubularity",
}
WITH_LIMIT = {"distance": COLOURS[0], "speed": COLOURS[1]}
CONFIDENCE = 1.96


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """A row for each set of features.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : mapping of str to Dataset
        One result of the plug-in ``shape``.

    Raises
    ------
    InputError
        If there is not exactly one result, or it is another plug-in's.
    """
    del recording
    result = one_result(results, "shape", "small_is_remarkable")
    sources = [str(name) for name in result["features_from"].values]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(9.4, 0.5 + 2.3 * len(sources)))
        grid = figure.add_gridspec(len(sources), 4, width_ratios=[1.45, 1, 1, 1])
        for row, source in enumerate(sources):
            part = result.sel(features_from=source)
            axes = [figure.add_subplot(grid[row, column]) for column in range(4)]
            axes[0].set_title(source.replace("_", " "), loc="left")
            _measures(axes[0], part)
            _spectrum(axes[1], part)
            _over_time(axes[2], part)
            _fourth(axes[3], part)
        words = f"errors: 95 % by leaving out groups of {result.attrs['resampled']}"
        rule = str(result.attrs["condition_rule"]).replace("_", " ")
        figure.suptitle(f"{result.attrs['session']}: {rule}; {words}", fontsize=8)
    return figure


def _measures(axes: Axes, part: xr.Dataset) -> None:
    """Each measure over the median of its null, on a logarithmic axis."""
    names = [n for n in SHOWN if np.isfinite(part["value"].sel(measure=n))]
    for x, name in enumerate(names):
        one = part.sel(measure=name)
        null = one["null"].values[np.isfinite(one["null"].values)]
        middle = np.median(null)
        bodies = axes.violinplot(np.log2(null / middle), [x], widths=0.75, showextrema=False)
        for body in np.atleast_1d(bodies["bodies"]):  # type: ignore[call-overload]
            body.set(facecolor=NULL, edgecolor="none", alpha=0.6)
        value, error = float(one["value"]), float(one["standard_error"])
        low, high = (max(value + s * CONFIDENCE * error, 0.05 * value) for s in (-1, 1))
        if np.isfinite(error):
            axes.vlines(x, np.log2(low / middle), np.log2(high / middle), color=COLOURS[0])
        axes.plot(x, np.log2(value / middle), "o", ms=4, color=COLOURS[0])
        shown = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
        note = f"{shown}\np {float(one['p_value']):.2g}"
        axes.text(
            x, 1.0, note, transform=axes.get_xaxis_transform(), fontsize=6.5, ha="center", va="top"
        )
    axes.axhline(0, color="black", linewidth=0.6)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))
    ticks = [t for t in axes.get_yticks() if low <= t <= high]
    axes.set_yticks(ticks, [f"{2**t:.2g}" for t in ticks])
    axes.set_xticks(range(len(names)), [SHOWN[n] for n in names], fontsize=6.5)
    axes.set_xlim(-0.55, len(names) - 0.45)
    axes.set_ylabel("value / median of null")


def _spectrum(axes: Axes, part: xr.Dataset) -> None:
    axes.set(xlabel="component", ylabel="signal variance (share)")
    if "signal_variance" not in part or not np.isfinite(part["signal_total"]):
        _nothing(axes, "no condition repeats")
        return
    total = float(part["signal_total"])
    component = part["signal_component"].values
    variance = part["signal_variance"].values / total
    shown = variance > 0
    axes.plot(component[shown], variance[shown], "o", ms=3, color=COLOURS[0])
    limit = part["noise_limit"].values / total
    positive = limit > 0
    axes.plot(component[positive], limit[positive], color=NULL, label="noise, 95 %")
    dimension = part["value"].sel(measure="signal_dimension").item()
    axes.axvline(dimension + 0.5, color="black", linewidth=0.7, linestyle=":")
    axes.set_yscale("log")
    if shown.any():
        axes.set_ylim(bottom=max(variance[shown].max() * 1e-5, variance[shown].min() / 2))
    axes.set_title(f"signal dimension {dimension:.0f}")
    axes.legend(loc="upper right")


def _over_time(axes: Axes, part: xr.Dataset) -> None:
    """Distance between conditions and speed over time, roots of unbiased squares."""
    time = part["average_time"].values if "average_time" in part.coords else np.array([np.nan])
    if not np.isfinite(time).all() or "limit_distance" not in part:
        _pairs(axes, part)
        return
    axes.set_xlabel("time (s)")
    for name, side in (("distance", axes), ("speed", axes.twinx() if "speed" in part else None)):
        if side is None:
            continue
        squared = part[name]
        mean = squared.mean("condition") if "condition" in squared.dims else squared
        colour = WITH_LIMIT[name]
        side.plot(time, np.sqrt(np.maximum(mean, 0)), color=colour)
        limit = np.sqrt(np.maximum(part[f"limit_{name}"], 0))
        side.plot(time, limit, color=colour, linewidth=0.8, linestyle="--")
        unit = "arb." if name == "distance" else "arb./s"
        side.set_ylabel(f"{name} ({unit})", color=colour)
        side.tick_params(axis="y", colors=colour)
        side.set_ylim(bottom=0)
        side.spines["right"].set_visible(name == "speed")
    axes.set_title("dashed: null, 95 %")


def _pairs(axes: Axes, part: xr.Dataset) -> None:
    """Distances of pairs of conditions, where averages have no time."""
    if "pairwise_distance" not in part:
        _nothing(axes, "no conditions that repeat")
        return
    pairs = part["pairwise_distance"].mean("average_time").values
    image = axes.imshow(np.sign(pairs) * np.sqrt(np.abs(pairs)), cmap="viridis")
    labels = [str(label) for label in part["condition"].values]
    ticks = np.unique(np.linspace(0, len(labels) - 1, 4).astype(int))
    axes.set_xticks(ticks, [labels[t] for t in ticks], fontsize=6)
    axes.set_yticks(ticks, [labels[t] for t in ticks], fontsize=6)
    p = float(part["p_value"].sel(measure="condition_distance"))
    axes.set_title(f"distance (arb.), p {p:.2g}")
    axes.figure.colorbar(image, ax=axes, shrink=0.75)


def _fourth(axes: Axes, part: xr.Dataset) -> None:
    """Tangling over time against its null, or TwoNN over scales where there is none."""
    if "tangling_of_state" in part and np.isfinite(part["tangling_of_state"]).any():
        of_state = part["tangling_of_state"].dropna("time", how="all").dropna("condition")
        axes.plot(of_state["time"], of_state.values.T, color=COLOURS[2], lw=0.5, alpha=0.5)
        axes.plot(of_state["time"], of_state.median("condition"), color=COLOURS[2], lw=1.6)
        null = part["null"].sel(measure="tangling")
        axes.axhline(float(null.median()), color=NULL, linestyle="--")
        own = float(part["tangling_behaviour"])
        if np.isfinite(own):
            axes.axhline(own, color="black", linestyle=":")
        axes.set_yscale("log")
        axes.set(xlabel="time (s)", ylabel="tangling Q (1/s$^2$)")
        dotted = "; dotted: behaviour" if np.isfinite(own) else ""
        axes.set_title(f"dashed: null's 90 %{dotted}")
        return
    axes.plot(part["share"], part["two_nn_by_scale"], "o-", ms=3, color=COLOURS[0])
    axes.set_xscale("log", base=2)
    shares = part["share"].values
    axes.set_xticks(shares, [f"1/{1 / s:.0f}" if s < 1 else "all" for s in shares])
    axes.minorticks_off()
    axes.set(xlabel="points used", ylabel="TwoNN (dimensions)", ylim=(0, None))


def _nothing(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, fontsize=7)
    axes.set(xticks=[], yticks=[])
