"""Posterior predictive checks: rates, Fano factors, correlations and population counts."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from driftwave.figures.inputs import need_recording, need_result
from driftwave.figures.spike_trials import SpikeTrials, need_rates, spike_trials
from driftwave.figures.style import COLOURS, NULL, STYLE, TRUTH, new_figure
from driftwave.inference.predictive import predictive_check
from driftwave.recording import trial_mask

STAGE = "models"
RESULTS = "latents"
EACH = True
OBSERVES = "spikes"

DRAWS = 200
FEWER_DRAWS = 100  # for truth and mean rate, of which only the shares are shown
TITLES = {
    "rate": ("mean rate", "Hz"),
    "fano": ("Fano factor of trial counts", ""),
    "signal_correlation": ("signal correlation", ""),
    "noise_correlation": ("noise correlation", ""),
    "population": ("population count", "share of bins"),
    "autocorrelation": ("population autocorrelation", "correlation"),
}
MOST_BARS = 60
MOST_DOTS = 1000
ENTRIES = 60_000_000  # counts drawn, unless the fewest draws need more
FEWEST_DRAWS = 80
LEAST = 0.02  # of the range, the half-length of a bar that can still be seen


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Statistics of the test trials' counts against counts drawn from the inferred rates.

    Parameters
    ----------
    recording : DataTree
        With ``spikes``.
    results : dict
        ``latents``: what a model of spikes inferred.

    Raises
    ------
    InputError
        If a recording with spikes and test trials, or the model's rates are missing.
    """
    trials = spike_trials(recording, "predictive")
    latents = need_result(results, "latents", "predictive")
    rate = need_rates(trials, latents, "predictive")
    width = trials.bin_width
    sd = trials.of(latents, "rate_sd")
    check = _check(trials, rate * width, DRAWS, None if sd is None else sd * width)
    mean = np.broadcast_to(_training_mean(recording), trials.counts.shape)
    others = {"mean rates": _check(trials, mean, FEWER_DRAWS)}
    if trials.expected is not None:
        others = {"true rates": _check(trials, trials.expected, FEWER_DRAWS)} | others
    with plt.rc_context(STYLE):
        figure, axes = new_figure(2, 3, width=7.5, height=5.6)
        for axis, name in zip(axes, TITLES, strict=True):
            _panel(axis, name, check, trials)
            _title(axis, name, check, others)
        _legend(figure, trials)
    return figure


def _training_mean(recording: xr.DataTree | None) -> np.ndarray:
    """Mean count per bin of each unit in the trials outside the test split."""
    recording = need_recording(recording, "predictive")
    counts = recording["spikes/counts"].transpose("trial", "time", "unit").values
    rest = ~trial_mask(recording, "test")
    return counts[rest if rest.any() else slice(None)].mean((0, 1))


def _check(
    trials: SpikeTrials, expected: np.ndarray, draws: int, sd: np.ndarray | None = None
) -> xr.Dataset:
    return predictive_check(
        trials.counts,
        expected,
        trials.condition,
        trials.bin_width,
        expected_sd=sd,
        draws=min(draws, max(FEWEST_DRAWS, ENTRIES // trials.counts.size)),
    )


def _title(axis: Axes, name: str, check: xr.Dataset, others: dict[str, xr.Dataset]) -> None:
    """Name of the statistic and the share of it within the band, beside ceiling and null."""
    title = TITLES[name][0]
    share = check.attrs[f"{name}_share"]
    if np.isfinite(share):
        beside = ", ".join(
            f"{other} {100 * checked.attrs[f'{name}_share']:.0f} %"
            for other, checked in others.items()
            if np.isfinite(checked.attrs[f"{name}_share"])
        )
        title += f"\nin band: {100 * share:.0f} %"
        axis.text(
            0.5,
            1.01,
            f"({beside})",
            ha="center",
            va="bottom",
            transform=axis.transAxes,
            fontsize=6.5,
        )
    axis.set_title(title, pad=11)


def _panel(axis: Axes, name: str, check: xr.Dataset, trials: SpikeTrials) -> None:
    data = check[name].values
    if not np.isfinite(data).any():
        needs = "conditions with several trials" if "noise" in name else "three conditions"
        axis.text(0.5, 0.5, f"needs {needs}", ha="center", va="center", transform=axis.transAxes)
        axis.set_axis_off()
    elif name in ("rate", "fano"):
        _scatter(axis, name, check, trials.held_out)
    elif name.endswith("correlation") and name != "autocorrelation":
        _scatter(axis, name, check, _with_held_out(trials.held_out))
    else:
        _course(axis, name, check)


def _with_held_out(held_out: np.ndarray) -> np.ndarray:
    """Pairs of which one unit at least is held out."""
    first, second = np.triu_indices(len(held_out), 1)
    return held_out[first] | held_out[second]


def _scatter(axis: Axes, name: str, check: xr.Dataset, held_out: np.ndarray) -> None:
    """Data across, prediction with its band up; the diagonal is a perfect prediction."""
    data, predicted = check[name].values, check[f"{name}_predicted"].values
    low, high = check[f"{name}_low"].values, check[f"{name}_high"].values
    many = len(data) > MOST_BARS
    dotted, barred = _evenly(len(data), MOST_DOTS), _evenly(len(data), MOST_BARS)
    for mask, colour in ((~held_out, COLOURS[0]), (held_out, COLOURS[1])):
        size = 2 if many else 3
        dots = mask & dotted
        axis.plot(data[dots], predicted[dots], "o", ms=size, color=colour, mew=0, rasterized=many)
        shown = mask & barred
        axis.vlines(data[shown], low[shown], high[shown], color=colour, lw=0.7, alpha=0.6)
    both = np.concatenate([data, low, high])
    ends = np.array([np.nanmin(both), np.nanmax(both)])
    ends = ends + np.array([-1, 1]) * LEAST * max(float(np.ptp(ends)), 1e-6)
    axis.plot(ends, ends, color=TRUTH, lw=0.7, zorder=0)
    unit = f" ({TITLES[name][1]})" if TITLES[name][1] else ""
    axis.set(xlim=ends, ylim=ends, xlabel=f"data{unit}", ylabel=f"predicted{unit}")
    axis.set_aspect("equal", adjustable="box")
    axis.locator_params(nbins=5)


def _evenly(count: int, most: int) -> np.ndarray:
    """Mask (count,) of at most ``most`` entries, evenly chosen."""
    mask = np.zeros(count, dtype=bool)
    mask[np.linspace(0, count - 1, min(most, count)).astype(int)] = True
    return mask


def _course(axis: Axes, name: str, check: xr.Dataset) -> None:
    """Data as a black line over the predicted band."""
    lags = name == "autocorrelation"
    x = check["lag"].values if lags else check["level"].values
    low, high = check[f"{name}_low"].values, check[f"{name}_high"].values
    axis.fill_between(x, low, high, color=COLOURS[0], alpha=0.3, lw=0, step=None)
    axis.plot(x, check[f"{name}_predicted"], color=COLOURS[0], lw=1)
    axis.plot(x, check[name], color=TRUTH, lw=1, marker="o", ms=2)
    axis.set_xlabel("lag (s)" if lags else "spikes of all units per bin")
    axis.set_ylabel(TITLES[name][1])
    if lags:
        axis.axhline(0, color=NULL, lw=0.6, zorder=0)
    else:
        filled = np.flatnonzero((check[name].values > 0) | (high > 0))
        axis.set_xlim(x[filled[0]], x[min(filled[-1] + 1, len(x) - 1)])
        axis.set_yscale("log")  # the tail is what bursts are made of
        axis.set_ylim(bottom=0.5 / (check.attrs["bins"]))


def _legend(figure: Figure, trials: SpikeTrials) -> None:
    held_in = "held-in units" if trials.held_out.any() else "units"
    marks = [
        Line2D([], [], color=COLOURS[0], marker="o", ms=3, lw=0.8, label=f"{held_in}, 95 % band")
    ]
    if trials.held_out.any():
        marks.append(
            Line2D([], [], color=COLOURS[1], marker="o", ms=3, lw=0.8, label="held-out units")
        )
    marks.append(Line2D([], [], color=TRUTH, lw=1, marker="o", ms=2, label="data"))
    marks.append(Line2D([], [], color=TRUTH, lw=0.7, label="equality"))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
