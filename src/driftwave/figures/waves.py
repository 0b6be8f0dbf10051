"""Travelling waves of a session: events with time, directions, speeds, and the null."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, NULL, STYLE, TRUTH

STAGE = "waves"
RESULTS = "waves"
EACH = True
WAVES = "field loadings"

CLASS_COLOURS = {
    "planar": COLOURS[0],
    "radial_out": COLOURS[1],
    "radial_in": COLOURS[4],
    "rotating_ccw": COLOURS[2],
    "rotating_cw": COLOURS[3],
    "spiral_out": COLOURS[5],
    "spiral_in": COLOURS[7],
    "standing": COLOURS[6],
    "synchronous": NULL,
    "none": "#DDDDDD",
    "zero_lag": NULL,
}
FAMILY_COLOURS = {"planar": COLOURS[0], "radial": COLOURS[1], "rotating": COLOURS[2]}
SPREAD = 1.5


def class_label(name: str) -> str:
    """Class name for a reader."""
    if name == "zero_lag":
        return "burst without lag (no wave)"
    words = {"ccw": "counter-clockwise", "cw": "clockwise", "in": "inward", "out": "outward"}
    return " ".join(words.get(part, part) for part in name.split("_"))


def significant(events: xr.Dataset) -> np.ndarray:
    """Mask (event,) of events at the level the analysis was made with."""
    return events["q"].values <= events.attrs.get("level", 0.05)


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
        return _draw_loadings(waves) if "oscillator" in waves.dims else _draw_events(waves)


def _draw_events(waves: xr.Dataset) -> Figure:
    figure = plt.figure(figsize=(7.4, 5.8))
    grid = figure.add_gridspec(3, 12, height_ratios=[1.0, 0.6, 1.15])
    trace = figure.add_subplot(grid[0, :])
    bars = figure.add_subplot(grid[1, :], sharex=trace)
    _trace(trace, waves)
    _bars(bars, waves)
    for number, family in enumerate(waves["family"].values.astype(str)):
        _null(figure.add_subplot(grid[2, 2 * number : 2 * number + 2]), waves, number, family)
    _rose(figure.add_subplot(grid[2, 6:9], projection="polar"), waves)
    _speeds(figure.add_subplot(grid[2, 9:]), waves)
    return figure


def _trace(axes: Axes, waves: xr.Dataset) -> None:
    time = waves["frame_time"].values
    for number, family in enumerate(waves["family"].values.astype(str)):
        colour = FAMILY_COLOURS[family]
        axes.plot(time, waves["statistic"].values[:, number], color=colour, lw=0.8, label=family)
        axes.axhline(float(waves["threshold"][number]), color=colour, lw=0.8, ls=":")
    axes.set(ylabel="power-weighted\ndirectionality", ylim=(0, None), xlim=(time[0], time[-1]))
    axes.legend(ncol=3, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0)
    axes.set_title("dotted: threshold from the zero-lag null", loc="left")
    axes.tick_params(labelbottom=False)


def _bars(axes: Axes, waves: xr.Dataset) -> None:
    """Events (found) and true waves as bars coloured by class, with direction arrows."""
    sure = significant(waves)
    used = []
    for event in range(waves.sizes["event"]):
        name = str(waves["class"].values[event])
        span = (float(waves["start"][event]), float(waves["stop"][event]))
        _bar(axes, 0, span, name, filled=bool(sure[event]))
        used.append(name)
    labels = [f"found\n({int(sure.sum())}/{len(sure)}\nsignificant)"]
    if "true_wave" in waves.dims:
        labels.append("true")
        for wave in range(waves.sizes["true_wave"]):
            name = str(waves["true_class"].values[wave])
            if name not in CLASS_COLOURS:
                continue  # the placeholder row of a recording without waves
            _bar(axes, 1, (float(waves["true_start"][wave]), float(waves["true_stop"][wave])), name)
            used.append(name)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(ylim=(len(labels) - 0.5, -0.5), xlabel="time (s)")
    shown = [name for name in CLASS_COLOURS if name in used]
    handles = [plt.Rectangle((0, 0), 1, 1, color=CLASS_COLOURS[name]) for name in shown]
    if shown:
        axes.legend(
            handles,
            [class_label(name) for name in shown],
            ncol=len(shown),
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderpad=0,
            handlelength=1,
            columnspacing=1,
        )


def _bar(
    axes: Axes, row: int, span: tuple[float, float], name: str, *, filled: bool = True
) -> None:
    colour = CLASS_COLOURS[name]
    axes.broken_barh(
        [(span[0], span[1] - span[0])],
        (row - 0.3, 0.6),
        facecolor=colour if filled else "none",
        edgecolor=colour,
        lw=0.8,
    )


def _null(axes: Axes, waves: xr.Dataset, number: int, family: str) -> None:
    null = waves["null_mean"].values[:, number]
    observed = float(waves["observed_mean"][number])
    axes.hist(null, bins=15, color=NULL)
    axes.axvline(observed, color=FAMILY_COLOURS[family], lw=1.6)
    p = float(waves["p_recording"][number])
    axes.set_title(f"{family}\np = {p:.2g}")
    low, high = min(null.min(), observed), max(null.max(), observed)
    axes.set_xlim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axes.set_xticks([np.median(null), observed], [f"{np.median(null):.2f}", f"{observed:.2f}"])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if number == 1:
        axes.set_xlabel("time-averaged directionality\n(grey: zero-lag surrogates)")


def _planar(waves: xr.Dataset) -> np.ndarray:
    return (waves["class"].values.astype(str) == "planar") & significant(waves)


def _rose(axes: Axes, waves: xr.Dataset) -> None:
    planar = _planar(waves)
    edges = np.linspace(-np.pi, np.pi, 17)
    angle = np.angle(np.exp(1j * np.deg2rad(waves["direction"].values[planar])))
    counts, _ = np.histogram(angle, edges)
    axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=COLOURS[0], alpha=0.8)
    top = max(1, counts.max())
    if "match_direction_error" in waves:
        matched = waves["match_significant"].values & (waves["match_class"].values == "planar")
        errors = waves["match_direction_error"].values[matched]
        errors = errors[np.isfinite(errors)]
        if len(errors):
            axes.set_xlabel(f"median error {np.median(errors):.1f}°", labelpad=2)
    axes.set_yticks([top])
    axes.set_xticks(np.deg2rad([0, 90, 180, 270]), ["0°", "90°", "180°", "270°"])
    axes.tick_params(pad=-2)
    axes.set_title(f"direction of planar\nevents (n = {int(planar.sum())})")


def _speeds(axes: Axes, waves: xr.Dataset) -> None:
    planar = _planar(waves)
    speed = waves["speed"].values[planar]
    axes.set_title("speed of planar\nevents")
    axes.set_xlabel("speed (mm/s)")
    if not len(speed):
        axes.text(0.5, 0.5, "none significant", ha="center", transform=axes.transAxes)
        axes.set_yticks([])
        return
    edges = np.geomspace(speed.min() / SPREAD, speed.max() * SPREAD, 13)
    axes.hist(speed, bins=edges.tolist(), color=COLOURS[0], alpha=0.8)
    axes.set_xscale("log")
    ticks = [t for t in (10, 20, 50, 100, 200, 500, 1000, 2000) if edges[0] < t < edges[-1]]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_ylabel("events")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if "match_speed_ratio" in waves:
        matched = waves["match_significant"].values & (waves["match_class"].values == "planar")
        event = waves["match_event"].values[matched]
        ratio = waves["match_speed_ratio"].values[matched]
        true = waves["speed"].values[event] / ratio
        true = true[np.isfinite(true)]
        axes.plot(
            true,
            np.full(len(true), -0.04),
            "|",
            color=TRUTH,
            ms=6,
            clip_on=False,
            transform=axes.get_xaxis_transform(),
            label="true",
        )
        if len(true):
            axes.set_xlabel(f"mm/s (ticks: true)\nmedian ratio {np.nanmedian(ratio):.2f}")


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
