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

STAGE = "recording"

_SHOWN_SECONDS = 10.0
_SHOWN_LFP_SECONDS = 1.0
_SHOWN_ELECTRODES = 8
_RMS_SECONDS = 10.0
SEEN, HIDDEN = COLOURS[0], COLOURS[1]
SPLIT_COLOURS = {"train": COLOURS[0], "valid": COLOURS[4], "test": COLOURS[1], "unused": NULL}


def draw(
    recording: xr.DataTree | None,
    results: dict[str, xr.Dataset],  # noqa: ARG001
) -> Figure:
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


def _values(recording: xr.DataTree, path: str) -> np.ndarray:
    return np.asarray(recording[path].values)


def _panels(recording: xr.DataTree) -> list[Callable[[Axes, xr.DataTree], None]]:
    panels: list[Callable[[Axes, xr.DataTree], None]] = []
    if "spikes" in recording.children:
        panels += [_raster if "spike_times" in recording.children else _count_image, _unit_rates]
    if "behavior" in recording.children:
        panels.append(_behavior)
    if "spikes" in recording.children:
        if len(np.unique(_values(recording, "trials/condition"))) > 1:
            panels.append(_condition_rates)
        # The splits matter most where they follow time; else they fill an empty place.
        if recording["spikes"].attrs.get("contiguous") or len(panels) % 2:
            panels.append(_splits)
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
    time = _values(recording, "spikes/time")
    if len(trials) > 1 or recording["spikes"].attrs.get("contiguous"):
        start = _values(recording, "spikes/trial_start")[trials]
        return start[:, None] + (time - time[0]), "session time (s)"
    return time[None], "time from alignment event (s)"


def _shade_forward(axis: Axes, recording: xr.DataTree, clock: np.ndarray) -> None:
    hidden = forward_bins(recording)
    width = float(recording["spikes"].attrs["bin_width"])
    for row in clock if hidden else []:
        axis.axvspan(row[-hidden], row[-1] + width, color=NULL, alpha=0.25, lw=0)


def _unit_order(recording: xr.DataTree) -> tuple[np.ndarray, np.ndarray]:
    """Units by rate, held-out ones last, and which those are in that order."""
    held_out = held_out_units(recording)
    order = np.lexsort((_values(recording, "units/rate"), held_out))
    return order, held_out[order]


def _raster(axis: Axes, recording: xr.DataTree) -> None:
    trials = _shown_trials(recording)
    clock, label = _clock(recording, trials)
    width = float(recording["spikes"].attrs["bin_width"])
    order, hidden = _unit_order(recording)
    _shade_forward(axis, recording, clock)
    start = float(_values(recording, "spikes/trial_start")[trials[0]])
    time = _values(recording, "spike_times/time") - start + clock[0, 0]
    place = np.argsort(order)[_values(recording, "spike_times/unit")]
    inside = (time >= clock[0, 0]) & (time < clock[-1, -1] + width)
    time, place = time[inside], place[inside]
    axis.scatter(
        time,
        place,
        marker="|",
        s=max(1.0, 900 / len(order) ** 1.2),
        lw=0.5,
        c=np.where(hidden[place], HIDDEN, SEEN),
        rasterized=True,
    )
    _label_units(axis, hidden, label, "spikes")
    axis.set_xlim(clock[0, 0], clock[-1, -1] + width)


def _count_image(axis: Axes, recording: xr.DataTree) -> None:
    trials = _shown_trials(recording)
    clock, label = _clock(recording, trials)
    width = float(recording["spikes"].attrs["bin_width"])
    order, hidden = _unit_order(recording)
    counts = _values(recording, "spikes/counts")[trials]
    counts = counts.reshape(-1, counts.shape[2])[:, order].T
    image = axis.imshow(
        counts,
        aspect="auto",
        origin="lower",
        cmap=SEQUENTIAL,
        vmax=max(1.0, float(np.percentile(counts, 99))),
        interpolation="none",
        extent=(clock[0, 0], clock[-1, -1] + width, -0.5, len(order) - 0.5),
    )
    bar = axis.figure.colorbar(image, ax=axis)
    bar.set_label(f"spikes per {1000 * width:g} ms bin")
    _label_units(axis, hidden, label, "counts")


def _label_units(axis: Axes, hidden: np.ndarray, label: str, title: str) -> None:
    """Label the axes of a unit-by-time panel, with a bar beside the held-out units."""
    axis.set(xlabel=label, ylabel="unit (by rate)", ylim=(-0.8, len(hidden) - 0.2), title=title)
    if not hidden.any():
        return
    first = int(np.argmax(hidden))
    axis.annotate(
        "",
        (1.015, first - 0.4),
        (1.015, len(hidden) - 0.6),
        xycoords=("axes fraction", "data"),
        arrowprops={"arrowstyle": "-", "color": HIDDEN, "lw": 2.5},
        annotation_clip=False,
    )
    axis.set_title("held-out units: top", loc="right", color=HIDDEN, fontsize=7)
    axis.set_title("")
    axis.set_title(title, loc="left")


def _unit_rates(axis: Axes, recording: xr.DataTree) -> None:
    rate = _values(recording, "units/rate")
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
    axis.set(xlim=(clock[0, 0], clock[-1, -1] + width), xlabel=label, ylabel=f"behaviour ({unit})")
    if len(shown) == 1:
        axis.set_title(str(behavior["feature"].values[shown[0]]).replace("_", " "))
    else:
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderpad=0)


def _condition_rates(axis: Axes, recording: xr.DataTree) -> None:
    width = float(recording["spikes"].attrs["bin_width"])
    population = _values(recording, "spikes/counts").mean(axis=2) / width
    condition = _values(recording, "trials/condition")
    codes = np.unique(condition)
    mean = np.stack([population[condition == code].mean(axis=0) for code in codes])
    time = _values(recording, "spikes/time")
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
    split = _values(recording, "trials/split").astype(str)
    counts = _values(recording, "spikes/counts")
    width = float(recording["spikes"].attrs["bin_width"])
    rate = counts.mean(axis=(1, 2)) / width
    start = _values(recording, "trials/start")
    for name, colour in SPLIT_COLOURS.items():
        mine = split == name
        if mine.any():
            label = f"{name} ({int(mine.sum())})"
            axis.scatter(start[mine], rate[mine], s=8, lw=0, color=colour, label=label)
    axis.set(xlabel="session time (s)", ylabel="rate per unit (Hz)")
    axis.set_ylim(0, 1.1 * rate.max())
    axis.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, borderpad=0, columnspacing=0.4,
        handletextpad=0.0, handlelength=1.2, fontsize=6.5,
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
