"""Panels of the overview of a session's waves."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from driftwave.figures.style import COLOURS, NULL, TRUTH

CLASS_COLOURS = {
    "planar": COLOURS[0],
    "radial_out": COLOURS[1],
    "radial_in": COLOURS[4],
    "rotating_ccw": COLOURS[2],
    "rotating_cw": COLOURS[3],
    "spiral_out": COLOURS[5],
    "spiral_in": COLOURS[7],
    "standing": "#666666",
    "synchronous": NULL,
    "none": "#CCCCCC",
    "zero_lag": NULL,
}
FAMILY_COLOURS = {"planar": COLOURS[0], "radial": COLOURS[1], "rotating": COLOURS[2]}
FURTHER_COLOURS = {
    "common_phase": COLOURS[3],
    "independent_phase": COLOURS[4],
    "channel_shuffle": COLOURS[5],
    "grid_shift": TRUTH,
}
SPREAD = 1.5
SPEED_BINS = 13
ROSE_BINS = 16
NULL_BINS = 8
MOST_POINTS = 4000  # of a curve, beyond which it is thinned out
NARROWEST = 0.002  # share of the time axis that a bar is wide, at least


def class_label(name: str) -> str:
    """Class name for a reader."""
    if name == "zero_lag":
        return "burst without lag (no wave)"
    words = {"ccw": "counter-clockwise", "cw": "clockwise", "in": "inward", "out": "outward"}
    return " ".join(words.get(part, part) for part in name.split("_"))


def _short(name: str) -> str:
    """Class name where there is little room."""
    turn = {"rotating_ccw": "rotating ↺", "rotating_cw": "rotating ↻"}
    return turn.get(name, class_label(name))


def significant(events: xr.Dataset) -> np.ndarray:
    """Mask (event,) of events at the level the analysis was made with."""
    return events["q"].values <= float(events.attrs.get("level", 0.05))


def further(events: xr.Dataset) -> np.ndarray:
    """Mask (event,) of waves that share their stretch with a stronger one at another frequency."""
    if "component" not in events:
        return np.zeros(events.sizes["event"], bool)
    return events["component"].values > 0


def shown_classes(waves: xr.Dataset) -> list[str]:
    """Classes of events found or true, in the order of their rows."""
    names = set(waves["class"].values.astype(str))
    if "true_wave" in waves.dims:
        names |= set(waves["true_class"].values.astype(str))
    return [name for name in CLASS_COLOURS if name in names]


def trace(axes: Axes, waves: xr.Dataset) -> None:
    """The power-weighted directionality of each family with time, and its threshold."""
    time = waves["frame_time"].values
    thin = slice(None, None, max(1, len(time) // MOST_POINTS))
    for number, family in enumerate(waves["family"].values.astype(str)):
        colour = FAMILY_COLOURS[family]
        values = waves["statistic"].values[thin, number]
        axes.plot(time[thin], values, color=colour, lw=0.7, alpha=0.8, label=family)
        axes.axhline(float(waves["threshold"][number]), color=colour, lw=0.8, ls=":")
    axes.set(ylabel="power-weighted\ndirectionality", ylim=(0, None), xlim=(time[0], time[-1]))
    axes.legend(ncol=3, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0)
    axes.set_title("dotted: threshold from the zero-lag null", loc="left")
    axes.tick_params(labelbottom=False)


def raster(axes: Axes, waves: xr.Dataset) -> None:
    """A row per class: events as bars, thin if not significant, true waves as black lines."""
    rows = shown_classes(waves)
    found = waves["class"].values.astype(str)
    sure, lesser = significant(waves), further(waves)
    low, high = axes.get_xlim()
    start, stop = waves["start"].values, waves["stop"].values
    length = np.maximum(stop - start, NARROWEST * (high - low))
    kinds = (
        (sure & ~lesser, -0.28, 0.62),
        (sure & lesser, -0.28, 0.31),
        (~sure, 0.24, 0.1),
    )
    for row, name in enumerate(rows):
        for kind, bottom, height in kinds:
            at = np.flatnonzero((found == name) & kind)
            axes.broken_barh(
                [(start[n], length[n]) for n in at],
                (row + bottom, height),
                facecolor=CLASS_COLOURS[name],
                edgecolor="white",
                lw=0.3 if height > 0.5 else 0,
            )
    if "true_wave" in waves.dims:
        _true_waves(axes, waves, rows)
    counts = [
        f"{_short(name)} ({int((sure & (found == name)).sum())}/{int((found == name).sum())})"
        for name in rows
    ]
    axes.set_yticks(range(len(rows)), counts)
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(max(len(rows), 1) - 0.5, -0.6), xlabel="time (s)")
    if not rows:
        words = "no event: nothing above the threshold of the zero-lag null for long enough"
        axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)


def _true_waves(axes: Axes, waves: xr.Dataset, rows: list[str]) -> None:
    kind = waves["true_class"].values.astype(str)
    start, stop = waves["true_start"].values, waves["true_stop"].values
    # A recording without waves has one row of no class known here.
    at = [n for n in range(len(kind)) if kind[n] in rows]
    axes.hlines([rows.index(kind[n]) - 0.42 for n in at], start[at], stop[at], color=TRUTH, lw=1.6)
    axes.text(
        1, 1.0, "black: true waves", transform=axes.transAxes, ha="right", va="bottom", fontsize=7
    )


def directions(axes: Axes, waves: xr.Dataset) -> None:
    """Direction of each significant planar event over its time, with its interval."""
    planar = waves.isel(event=np.flatnonzero(planar_events(waves)))
    centre = (planar["direction"].values + 180) % 360 - 180
    shift = centre - planar["direction"].values
    low, high = (planar[f"direction_{end}"].values + shift for end in ("low", "high"))
    middle = 0.5 * (planar["start"].values + planar["stop"].values)
    for turn in (-360, 0, 360):  # an interval across 180 degrees shows at both ends
        axes.vlines(middle, low + turn, high + turn, color=COLOURS[0], lw=0.8)
    axes.hlines(centre, planar["start"], planar["stop"], color=COLOURS[0], lw=1.2)
    axes.plot(middle, centre, ".", color=COLOURS[0], ms=3)
    axes.set(ylim=(-190, 190), yticks=(-180, 0, 180), xlabel="time (s)")
    axes.set_ylabel("direction\n(degrees)")


def nulls(axes: Axes, waves: xr.Dataset, number: int, family: str) -> None:
    """What was observed beside the zero-lag null, and beside other nulls if they were asked for."""
    kinds = {"zero_lag": "", **{kind: f"_{kind}" for kind in further_nulls(waves)}}
    drawn = {kind: waves[f"null_mean{end}"].values[:, number] for kind, end in kinds.items()}
    observed = float(waves["observed_mean"][number])
    shown = np.concatenate([*drawn.values(), [observed]])
    shown = shown[np.isfinite(shown)]
    spread = float(np.ptp(shown)) or 0.1
    for kind, values in drawn.items():
        p = float(waves[f"p_recording{kinds[kind]}"][number])
        label = f"{kind.replace('_', ' ')}: p = {p:.2g}"
        _histogram(axes, values[np.isfinite(values)], spread / 40, kind, label)
    axes.axvline(observed, color=FAMILY_COLOURS[family], lw=1.6)
    axes.set_xlim(shown.min() - 0.1 * spread, shown.max() + 0.1 * spread)
    marks = [float(np.median(drawn["zero_lag"])), observed]
    if abs(marks[1] - marks[0]) < 0.4 * spread:
        marks = marks[1:]  # the labels would overlap
    axes.set_xticks(marks, [f"{mark:.2f}" for mark in marks])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("directionality", fontsize=7)
    axes.set_title(
        family if len(kinds) > 1 else f"{family}\np = {waves['p_recording'][number]:.2g}"
    )
    if number == 0:
        axes.set_ylabel("zero-lag surrogates" if len(kinds) == 1 else "surrogates")
    if len(kinds) > 1:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.27),
            fontsize=6,
            handlelength=0.8,
            handletextpad=0.4,
            borderpad=0,
        )


def _histogram(axes: Axes, values: np.ndarray, narrowest: float, kind: str, label: str) -> None:
    """One null, scaled to the panel's height: how narrow nulls are differs too much for one scale.

    Bins are at least ``narrowest`` wide.
    """
    width = max(float(np.ptp(values)) / NULL_BINS, narrowest)
    bins = max(1, int(np.ceil(float(np.ptp(values)) / width)))
    middle = 0.5 * float(values.min() + values.max())
    counts, edges = np.histogram(values, middle + width * (np.arange(bins + 1) - bins / 2))
    if kind == "zero_lag":
        axes.stairs(counts / counts.max(), edges, fill=True, color=NULL, label=label)
    else:
        axes.stairs(counts / counts.max(), edges, color=FURTHER_COLOURS[kind], lw=1, label=label)


def further_nulls(waves: xr.Dataset) -> list[str]:
    """Nulls that stand beside the zero-lag one."""
    asked = waves.attrs.get("further_nulls", ())
    asked = [asked] if isinstance(asked, str) else list(asked)
    return [str(kind) for kind in asked if f"null_mean_{kind}" in waves]


def planar_events(waves: xr.Dataset) -> np.ndarray:
    """Mask (event,) of significant planar events."""
    return (waves["class"].values.astype(str) == "planar") & significant(waves)


def rose(axes: Axes, waves: xr.Dataset) -> None:
    """Directions of significant planar events."""
    planar = planar_events(waves)
    edges = np.linspace(-np.pi, np.pi, ROSE_BINS + 1)
    angle = np.angle(np.exp(1j * np.deg2rad(waves["direction"].values[planar])))
    counts, _ = np.histogram(angle, edges)
    axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=COLOURS[0], alpha=0.8)
    top = max(1, int(counts.max()))
    words = f"rim: {top} event{'s' * (top > 1)}" if planar.any() else ""
    errors = _matched(waves, "match_direction_error", planar=True)
    if len(errors):
        words += f"; median error {np.median(errors):.1f}°"
    axes.set_xlabel(words, labelpad=2, fontsize=7)
    axes.set_ylim(0, top)
    axes.set_yticks([])
    axes.set_xticks(np.deg2rad([0, 90, 180, 270]), ["0°", "90°", "180°", "270°"])
    axes.tick_params(pad=-2)
    axes.set_title(f"direction of planar\nevents (n = {int(planar.sum())})")


def _matched(waves: xr.Dataset, name: str, *, planar: bool = False) -> np.ndarray:
    """A comparison with the truth, of true waves that a significant event matches."""
    if name not in waves:
        return np.zeros(0)
    matched = waves["match_significant"].values.astype(bool)
    if planar:
        matched &= waves["match_class"].values.astype(str) == "planar"
    values = waves[name].values[matched]
    return values[np.isfinite(values)]


def speeds(axes: Axes, waves: xr.Dataset) -> None:
    """Phase speeds of significant events by class, and the true speeds if they are known."""
    speed = waves["speed"].values
    known = significant(waves) & np.isfinite(speed) & (speed > 0)
    axes.set_title(f"phase speed of\nevents (n = {int(known.sum())})")
    axes.set_xlabel("speed (mm/s)")
    if not known.any():
        axes.text(0.5, 0.5, "none significant", ha="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    names = waves["class"].values.astype(str)
    shown = [name for name in CLASS_COLOURS if (names[known] == name).any()]
    edges = np.geomspace(speed[known].min() / SPREAD, speed[known].max() * SPREAD, SPEED_BINS)
    axes.hist(
        [speed[known & (names == name)] for name in shown],
        bins=edges.tolist(),
        stacked=True,
        color=[CLASS_COLOURS[name] for name in shown],
        label=[class_label(name) for name in shown],
    )
    axes.set_xscale("log")
    ticks = speed_ticks(float(edges[0]), float(edges[-1]))
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_ylabel("events")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    ratio = _matched(waves, "match_speed_ratio")
    if len(ratio):
        _true_speeds(axes, waves)
        axes.set_xlabel(f"mm/s (ticks: true)\nmedian ratio {np.median(ratio):.2f}")


def _true_speeds(axes: Axes, waves: xr.Dataset) -> None:
    sure = waves["match_significant"].values.astype(bool)
    found = waves["speed"].values[waves["match_event"].values[sure].astype(int)]
    true = found / waves["match_speed_ratio"].values[sure]
    true = true[np.isfinite(true)]
    axes.plot(
        true,
        np.full(len(true), 0.0),
        "|",
        color=TRUTH,
        ms=7,
        clip_on=False,
        transform=axes.get_xaxis_transform(),
    )


def speed_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers in an interval for a logarithmic axis, at most ``most`` of them."""
    powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
        ticks = [float(f"{s:g}e{int(p)}") for p in powers for s in steps]
        ticks = [tick for tick in ticks if low < tick < high]
        if len(ticks) <= most:
            break
    return ticks[:: max(1, -(-len(ticks) // most))]


def words(waves: xr.Dataset, array: str = "") -> str:
    """How many events there are, against which nulls, and how well they predict phases."""
    name = str(waves.attrs.get("session", "recording")) + (f", array {array}" if array else "")
    level = float(waves.attrs.get("level", 0.05))
    main, sure = ~further(waves), significant(waves)
    count, more = int(main.sum()), int((~main).sum())
    parts = [f"{name}: {count} event{'s' * (count != 1)}"]
    if count:
        parts[0] += f", {int((main & sure).sum())} significant (q ≤ {level:g})"
    if more:
        parts.append(f"{more} further wave{'s' * (more > 1)} at other frequencies")
    for kind in further_nulls(waves):
        if count and f"q_{kind}" in waves:
            beyond = int((main & (waves[f"q_{kind}"].values <= level)).sum())
            parts.append(f"{beyond} against the null {kind.replace('_', ' ')}")
    text = "; ".join(parts)
    error = waves["heldout_phase_error"].values[sure] if "heldout_phase_error" in waves else []
    error = np.asarray(error)[np.isfinite(error)]
    if len(error):
        text += (
            f"\nphases of left-out electrodes are predicted to {np.median(error):.0f}° "
            "(circular SD, median over significant events)"
        )
    return text
