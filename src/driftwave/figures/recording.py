"""What was recorded: spikes, behaviour, rates, conditions, electrodes and field."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.errors import InputError
from driftwave.figures.style import COLOURS, NULL, SEQUENTIAL, STYLE
from driftwave.recording import forward_bins, held_out_units

_SHOWN_SECONDS = 10.0
_SHOWN_LFP_SECONDS = 1.0
_SHOWN_ELECTRODES = 8
_RMS_SECONDS = 10.0
SEEN, HIDDEN = COLOURS[0], COLOURS[1]
SPLIT_COLOURS = {"train": COLOURS[0], "valid": COLOURS[4], "test": COLOURS[1], "unused": NULL}


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """An overview of whatever the recording holds.

    Parameters
    ----------
    recording : DataTree
    results : dict
        Not used.

    Returns
    -------
    Figure
    """
    if recording is None:
        raise InputError(
            file="figure recording",
            field="--recording",
            found="nothing",
            expected="a recording store",
            fix="Give its path",
        )
    panels = _panels(recording)
    rows = -(-len(panels) // 2)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, 2, figsize=(7.2, 2.4 * rows), squeeze=False)
        for axis, panel in zip(axes.flat, panels, strict=False):
            panel(axis, recording)
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        figure.suptitle(_title(recording), fontsize=9)
    return figure


def _panels(recording: xr.DataTree) -> list[Callable[[Axes, xr.DataTree], None]]:
    panels: list[Callable[[Axes, xr.DataTree], None]] = []
    if "spikes" in recording.children:
        panels += [_raster, _unit_rates]
    if "behavior" in recording.children:
        panels.append(_behavior)
    if "spikes" in recording.children:
        several = len(np.unique(recording["trials/condition"].values)) > 1
        panels.append(_condition_rates if several else _splits)
    if "field" in recording.children:
        if "x" in recording["field"].coords:
            panels.append(_electrode_map)
        panels.append(_field_traces)
    return panels


def _title(recording: xr.DataTree) -> str:
    attrs = recording.attrs
    parts = [str(attrs["session"])]
    if attrs.get("species", "not stated") != "not stated":
        parts.append(str(attrs["species"]))
    if "spikes" in recording.children:
        sizes = recording["spikes"].sizes
        kind = "windows" if recording["spikes"].attrs.get("contiguous") else "trials"
        width = 1000 * float(recording["spikes"].attrs["bin_width"])
        parts.append(f"{sizes['unit']} units, {sizes['trial']} {kind}, {width:g} ms bins")
    if "field" in recording.children:
        field = recording["field"]
        rate = float(field.attrs["sampling_rate"])
        seconds = field.sizes["time"] / rate
        parts.append(f"{field.sizes['electrode']} electrodes, {rate:.4g} Hz, {seconds:.4g} s")
    return "  |  ".join(parts)


def _shown_trials(recording: xr.DataTree) -> np.ndarray:
    """The trial in the middle, or as many abutting windows there as make ten seconds."""
    trials = recording["spikes"].sizes["trial"]
    middle = trials // 2
    if not recording["spikes"].attrs.get("contiguous"):
        return np.array([middle])
    width = float(recording["spikes"].attrs["bin_width"])
    number = max(1, int(_SHOWN_SECONDS / (width * recording["spikes"].sizes["time"])))
    return np.arange(max(0, min(middle, trials - number)), min(trials, middle + number))


def _clock(recording: xr.DataTree, trials: np.ndarray) -> tuple[np.ndarray, str]:
    """Start of every bin shown (trial, time) and the label of that axis."""
    time = recording["spikes"]["time"].values
    if len(trials) > 1 or recording["spikes"].attrs.get("contiguous"):
        start = recording["spikes/trial_start"].values[trials]
        return start[:, None] + (time - time[0]), "session time (s)"
    return time[None], "time from alignment event (s)"


def _shade_forward(axis: Axes, recording: xr.DataTree, clock: np.ndarray) -> None:
    hidden = forward_bins(recording)
    width = float(recording["spikes"].attrs["bin_width"])
    for row in clock if hidden else []:
        axis.axvspan(row[-hidden], row[-1] + width, color=NULL, alpha=0.25, lw=0)


def _raster(axis: Axes, recording: xr.DataTree) -> None:
    trials = _shown_trials(recording)
    clock, label = _clock(recording, trials)
    width = float(recording["spikes"].attrs["bin_width"])
    held_out = held_out_units(recording)
    order = np.lexsort((recording["units/rate"].values, held_out))
    rank = np.argsort(order)
    _shade_forward(axis, recording, clock)
    times, units = _spikes_shown(recording, trials, clock, width)
    for hidden, colour, name in ((False, SEEN, "held-in"), (True, HIDDEN, "held-out")):
        mine = held_out[units] == hidden
        axis.scatter(
            times[mine],
            rank[units[mine]],
            marker="|",
            s=max(1.0, 900 / len(order) ** 1.2),
            lw=0.5,
            color=colour,
            label=name if (held_out == hidden).any() else None,
            rasterized=True,
        )
    axis.set(
        xlim=(clock[0, 0], clock[-1, -1] + width),
        ylim=(-1, len(order)),
        xlabel=label,
        ylabel="unit (by rate)",
        title="spikes" if "spike_times" in recording.children else "bins with spikes",
    )
    if held_out.any():
        handles, labels = axis.get_legend_handles_labels()
        legend = axis.legend(
            handles, labels, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderpad=0
        )
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set(sizes=[40], linewidths=[1.5])  # type: ignore[call-arg]
        axis.set_title(axis.get_title(), loc="left")
        axis.set_title("")


def _spikes_shown(
    recording: xr.DataTree, trials: np.ndarray, clock: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Times on the axis shown, and units, of the spikes in the trials; bins where only counted."""
    if "spike_times" in recording.children:
        start = recording["spikes/trial_start"].values[trials]
        time = recording["spike_times/time"].values
        unit = recording["spike_times/unit"].values
        stop = start[-1] + recording["spikes"].sizes["time"] * width
        inside = (time >= start[0]) & (time < stop)
        return time[inside] - start[0] + clock[0, 0], unit[inside]
    counts = recording["spikes/counts"].isel(trial=trials).values
    trial, bin_, unit = np.nonzero(counts)
    return clock[trial, bin_] + width / 2, unit


def _unit_rates(axis: Axes, recording: xr.DataTree) -> None:
    rate = recording["units/rate"].values
    held_out = held_out_units(recording)
    order = np.argsort(rate)
    colour = np.where(held_out[order], HIDDEN, SEEN)
    axis.scatter(np.arange(len(rate)), rate[order], s=10, c=colour, lw=0)
    spiking = rate[rate > 0]
    if len(spiking) and spiking.max() > 20 * spiking.min():
        axis.set_yscale("symlog", linthresh=float(max(spiking.min(), 1e-3)))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set(xlabel="unit (by rate)", ylabel="mean rate (Hz)", title="firing rates")
    axis.axhline(np.median(rate), color=NULL, lw=0.8, ls="--")
    axis.annotate(
        f"median {np.median(rate):.3g} Hz",
        (0.02, np.median(rate)),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        fontsize=7,
        color="#555555",
    )


def _behavior(axis: Axes, recording: xr.DataTree) -> None:
    behavior = recording["behavior"].to_dataset()
    unit = str(behavior["unit_of_measure"].values[0])
    # Features of another unit would need an axis of their own.
    shown = np.flatnonzero(behavior["unit_of_measure"].values.astype(str) == unit)[:4]
    trials = (
        _shown_trials(recording)
        if "spikes" in recording.children
        else np.array([behavior.sizes["trial"] // 2])
    )
    clock, label = (
        _clock(recording, trials)
        if "spikes" in recording.children
        else (behavior["time"].values[None], "time from alignment event (s)")
    )
    value = behavior["value"].isel(trial=trials).values
    width = float(behavior.attrs.get("bin_width", clock[0, 1] - clock[0, 0]))
    centre = clock.ravel() + width / 2
    for k, colour in zip(shown, COLOURS, strict=False):
        name = str(behavior["feature"].values[k])
        trace = value[..., k].ravel().astype(float)
        if str(behavior["kind"].values[k]) == "circular":
            axis.scatter(centre, trace, s=4, color=colour, lw=0, label=name)
            axis.set_ylim(0, 2 * np.pi)
            axis.set_yticks([0, np.pi, 2 * np.pi], ["0", "π", "2π"])
        else:
            axis.plot(centre, trace, color=colour, label=name)
    if "spikes" in recording.children:
        _shade_forward(axis, recording, clock)
    axis.set(xlim=(clock[0, 0], clock[-1, -1] + width), xlabel=label, ylabel=f"({unit})")
    if len(shown) == 1:
        axis.set_title(str(behavior["feature"].values[shown[0]]).replace("_", " "))
    else:
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderpad=0)


def _condition_rates(axis: Axes, recording: xr.DataTree) -> None:
    counts = recording["spikes/counts"]
    width = float(recording["spikes"].attrs["bin_width"])
    population = counts.values.mean(axis=2) / width
    condition = recording["trials/condition"].values
    codes = np.unique(condition)
    mean = np.stack([population[condition == code].mean(axis=0) for code in codes])
    time = counts["time"].values
    image = axis.imshow(
        mean,
        aspect="auto",
        origin="lower",
        cmap=SEQUENTIAL,
        interpolation="none",
        extent=(time[0], time[-1] + width, -0.5, len(codes) - 0.5),
    )
    bar = axis.figure.colorbar(image, ax=axis)
    bar.set_label("rate per unit (Hz)")
    axis.set(
        xlabel="time from alignment event (s)",
        ylabel="condition",
        title="mean over units and trials",
    )


def _splits(axis: Axes, recording: xr.DataTree) -> None:
    split = recording["trials/split"].values.astype(str)
    counts = recording["spikes/counts"].values
    width = float(recording["spikes"].attrs["bin_width"])
    rate = counts.mean(axis=(1, 2)) / width
    start = recording["trials/start"].values
    for name, colour in SPLIT_COLOURS.items():
        mine = split == name
        if mine.any():
            label = f"{name} ({int(mine.sum())})"
            axis.scatter(start[mine], rate[mine], s=8, lw=0, color=colour, label=label)
    axis.set(xlabel="session time (s)", ylabel="rate per unit (Hz)")
    axis.set_ylim(0, 1.1 * rate.max())
    axis.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, borderpad=0, columnspacing=1.0,
        handletextpad=0.2,
    )  # fmt: skip


def _electrode_map(axis: Axes, recording: xr.DataTree) -> None:
    field = recording["field"].to_dataset()
    good = field["good"].values.astype(bool)
    samples = int(min(field.sizes["time"], _RMS_SECONDS * float(field.attrs["sampling_rate"])))
    part = field["lfp"].isel(time=slice(0, samples)).values
    size = np.full(len(good), np.nan)
    size[good] = part[:, good].std(axis=0)
    x, y = field["x"].values, field["y"].values
    image = axis.scatter(x[good], y[good], c=size[good], s=34, cmap=SEQUENTIAL, lw=0)
    if (~good).any():
        axis.scatter(x[~good], y[~good], marker="x", s=20, color=COLOURS[1], label="bad", lw=1)
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderpad=0)
    bar = axis.figure.colorbar(image, ax=axis)
    bar.set_label("standard deviation (µV)")
    axis.set(xlabel="x (mm)", ylabel="y (mm)", aspect="equal")
    axis.set_title("electrodes", loc="right" if (~good).any() else "center")


def _field_traces(axis: Axes, recording: xr.DataTree) -> None:
    field = recording["field"].to_dataset()
    rate = float(field.attrs["sampling_rate"])
    samples = min(field.sizes["time"], max(2, int(_SHOWN_LFP_SECONDS * rate)))
    begin = (field.sizes["time"] - samples) // 2
    good = np.flatnonzero(field["good"].values)
    shown = good[np.unique(np.linspace(0, len(good) - 1, _SHOWN_ELECTRODES).astype(int))]
    part = field["lfp"].isel(time=slice(begin, begin + samples)).values[:, shown]
    time = field["time"].values[begin : begin + samples]
    step = 1.2 * float(np.ptp(part, axis=0).max()) or 1.0
    for k in range(len(shown)):
        axis.plot(time, part[:, k] - part[:, k].mean() + k * step, color=SEEN, lw=0.7)
    length = float(f"{step / 2:.0e}")
    right = time[-1] + 0.02 * (time[-1] - time[0])
    axis.plot([right, right], [0, length], color="black", lw=2, clip_on=False)
    axis.annotate(
        f"{length:g} µV", (right, length / 2), xytext=(4, 0), textcoords="offset points",
        rotation=90, va="center", fontsize=7, annotation_clip=False,
    )  # fmt: skip
    axis.set_yticks(np.arange(len(shown)) * step, field["electrode"].values[shown].astype(str))
    axis.set(xlabel="session time (s)", ylabel="electrode", title="field")
    axis.set_xlim(time[0], time[-1])
