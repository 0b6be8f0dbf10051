"""Inferred rates of a few units in test trials, all models over the truth or smoothed spikes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict
from scipy.ndimage import gaussian_filter1d

from driftwave.errors import InputError
from driftwave.figures.style import NULL, STYLE, TRUTH, colour_of, new_figure
from driftwave.recording import forward_bins, held_out_units, require, trial_mask

STAGE = "models"
RESULTS = "latents"
OBSERVES = "spikes"
ENSEMBLES = True

UNITS = 4
TRIALS = 2
SMOOTHING = 0.04


class Params(BaseModel):
    """This figure has no parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """One column per unit: spikes of all test trials, rates in two of them, and a PSTH.

    Parameters
    ----------
    recording : DataTree
        With ``spikes``; true rates are drawn where ``truth`` has them, else smoothed spikes.
    results : dict of str to Dataset
        Latents of models by name; those with ``rate`` (trial, time, unit; Hz) are drawn.

    Raises
    ------
    InputError
        If there is no recording with spikes, no test trial or no model with rates.
    """
    models = {
        n: d["rate"].transpose("trial", "time", "unit") for n, d in results.items() if "rate" in d
    }
    if recording is None or not models:
        raise InputError(
            file="results",
            field="rate",
            found="no recording" if recording is None else f"{sorted(results)} without rates",
            expected="a recording with spikes and the latents of at least one model of them",
            fix="Give --recording and --result NAME=PATH",
        )
    spikes = require(recording, "spikes", "the figure of rates")
    test = np.flatnonzero(trial_mask(recording, "test"))
    if not test.size:
        raise InputError(
            file=recording.attrs["session"],
            field="trials/split",
            found="no test trial",
            expected="at least 1",
            fix="Use more trials or another split in the layout",
        )
    with plt.rc_context(STYLE):
        return _draw(recording, spikes, models, test)


def _draw(
    recording: xr.DataTree, spikes: xr.Dataset, models: dict[str, xr.DataArray], test: np.ndarray
) -> Figure:
    width = float(spikes.attrs["bin_width"])
    time = spikes["time"].values + width / 2
    counts = spikes["counts"].values[test].astype(float)
    smooth = gaussian_filter1d(counts / width, SMOOTHING / width, axis=1, mode="nearest")
    truth = _truth(recording, test)
    rates = {name: rate.values[test] for name, rate in models.items()}
    condition = recording["trials"].to_dataset()["condition"].values[test]
    units = _choose_units(truth if truth is not None else smooth, held_out_units(recording))
    hidden_from = spikes.sizes["time"] - forward_bins(recording)
    held_out = held_out_units(recording)
    reference = truth if truth is not None else smooth
    trials = _choose_trials(condition)
    same = condition == condition[trials[0]]
    figure, axes = new_figure(
        2 + len(trials),
        len(units),
        width=1.2 + 1.75 * len(units),
        height=1.5 * (2 + len(trials)) + 0.6,
        sharex=True,
    )
    grid = np.array(axes).reshape(2 + len(trials), len(units))
    for column, unit in enumerate(units):
        kind = "held out" if held_out[unit] else "held in"
        grid[0, column].set_title(f"unit {spikes['unit'].values[unit]} ({kind})")
        _raster(grid[0, column], counts[np.argsort(condition, kind="stable"), :, unit], time, width)
        for row, trial in enumerate(trials, start=1):
            lines = {name: rate[trial, :, unit] for name, rate in rates.items()}
            _lines(grid[row, column], time, lines, reference[trial, :, unit], truth is not None)
        lines = {name: rate[same, :, unit].mean(0) for name, rate in rates.items()}
        psth = (truth if truth is not None else smooth)[same, :, unit].mean(0)
        _lines(grid[-1, column], time, lines, psth, truth is not None)
        if truth is not None:
            grid[-1, column].plot(time, smooth[same, :, unit].mean(0), color=NULL, lw=1, zorder=1)
    _label(grid, spikes, test, trials, condition, int(same.sum()))
    for axis in axes:
        if hidden_from < len(time):
            axis.axvspan(
                time[hidden_from] - width / 2, time[-1] + width / 2, color="0.92", zorder=0
            )
        axis.set_xlim(time[0] - width / 2, time[-1] + width / 2)
    _legend(figure, grid, truth is not None, hidden_from < len(time))
    return figure


def _truth(recording: xr.DataTree, test: np.ndarray) -> np.ndarray | None:
    if "truth" not in recording.children or "rate" not in recording["truth"].dataset:
        return None
    return recording["truth"].to_dataset()["rate"].values[test]


def _choose_units(rates: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """The units whose rates vary most, one held-out unit among them where there is one."""
    order = np.argsort(-rates.var(axis=(0, 1)), kind="stable")
    shown = [u for u in order if not held_out[u]][:UNITS]
    hidden = [u for u in order if held_out[u]][:1]
    return np.array([*shown[: UNITS - len(hidden)], *hidden])


def _choose_trials(condition: np.ndarray) -> list[int]:
    """First test trial of the most frequent condition, and one of another condition if any."""
    values, number = np.unique(condition, return_counts=True)
    first = int(np.flatnonzero(condition == values[number.argmax()])[0])
    others = np.flatnonzero(condition != condition[first])
    if not others.size:
        others = np.delete(np.arange(len(condition)), first)
    return [first, *map(int, others[: TRIALS - 1])]


def _raster(axis: Axes, counts: np.ndarray, time: np.ndarray, width: float) -> None:
    edges = np.concatenate([time - width / 2, [time[-1] + width / 2]])
    axis.pcolormesh(
        edges,
        np.arange(len(counts) + 1),
        counts,
        cmap="Greys",
        vmin=0,
        vmax=max(2.0, float(counts.max())),
        rasterized=True,
    )
    axis.set_ylim(len(counts), 0)


def _lines(
    axis: Axes,
    time: np.ndarray,
    lines: dict[str, np.ndarray],
    reference: np.ndarray,
    known: bool,
) -> None:
    axis.plot(time, reference, color=TRUTH if known else NULL, lw=1.6, zorder=2)
    colours = colour_of(list(lines))
    for name, line in lines.items():
        axis.plot(time, line, color=colours[name], lw=1, zorder=3, label=name)
    axis.set_ylim(bottom=0)


def _label(
    grid: np.ndarray,
    spikes: xr.Dataset,
    test: np.ndarray,
    trials: list[int],
    condition: np.ndarray,
    repeats: int,
) -> None:
    grid[0, 0].set_ylabel("test trial\n(by condition)")
    for row, trial in enumerate(trials, start=1):
        number = spikes["trial"].values[test[trial]]
        grid[row, 0].set_ylabel(f"rate (Hz)\ntrial {number}, cond. {condition[trial]}")
    grid[-1, 0].set_ylabel(f"mean rate (Hz)\n{repeats} trials, cond. {condition[trials[0]]}")
    for axis in grid[-1]:
        axis.set_xlabel("time (s)")


def _legend(figure: Figure, grid: np.ndarray, known: bool, forward: bool) -> None:
    handles, names = grid[1, 0].get_legend_handles_labels()
    reference = grid[1, 0].lines[0]
    smooth = f"smoothed spikes (sd {SMOOTHING * 1000:.0f} ms)"
    entries = [reference, *handles]
    labels = ["true rate" if known else smooth, *names]
    if known:
        entries.append(grid[-1, 0].lines[-1])
        labels.append(f"{smooth}, mean")
    if forward:
        entries.append(grid[1, 0].patches[-1])
        labels.append("forward bins (hidden)")
    figure.legend(
        entries, labels, loc="outside lower center", ncols=min(4, len(entries)), fontsize=7
    )
