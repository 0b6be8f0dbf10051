"""Forward prediction: forecast rates and counts with bands, and what they gain by lead time."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.figures.inputs import need_result
from driftwave.figures.spike_trials import SpikeTrials, need_rates, spike_trials
from driftwave.figures.style import COLOURS, NULL, STYLE, TRUTH, new_figure
from driftwave.inference.predictive import LEVEL, draw_counts
from driftwave.scores.bits_per_spike import bits_per_spike

STAGE = "models"
RESULTS = "latents"
EACH = True
OBSERVES = "spikes"
FORWARD = True

COLUMNS = 3
SEEN = 15  # bins before the forecast that are shown
DRAWS = 500


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Population counts of test trials, PSTHs of units, and gain over the mean rate by lead time.

    Parameters
    ----------
    recording : DataTree
        With ``spikes`` that have forward bins.
    results : dict
        ``latents``: what a model of spikes inferred; ``rate_sd`` (Hz), where it is given, widens
        the bands by the posterior's spread.

    Raises
    ------
    InputError
        If a recording with test trials and forward bins, or the model's rates are missing.
    """
    trials = spike_trials(recording, "forecast")
    latents = need_result(results, "latents", "forecast")
    rate = need_rates(trials, latents, "forecast")
    if trials.seen_bins >= len(trials.time):
        raise InputError(
            file="recording",
            field="spikes/forward_bins",
            found="0",
            expected="at least 1 bin that models do not see",
            fix="Set `forward` in the layout, or leave this figure out",
        )
    expected, sd = rate * trials.bin_width, trials.of(latents, "rate_sd")
    sd = None if sd is None else sd * trials.bin_width
    with plt.rc_context(STYLE):
        figure, axes = new_figure(3, COLUMNS, width=7.5, height=6.6)
        _populations(axes[:COLUMNS], trials, expected, sd)
        _psths(axes[COLUMNS : 2 * COLUMNS], trials, expected, sd)
        _gain(axes[-3], trials, expected)
        _coverage(axes[-2], trials, expected, sd)
        _final(axes[-1], trials, expected)
        _legend(figure, trials)
    return figure


def _window(trials: SpikeTrials) -> slice:
    return slice(max(0, trials.seen_bins - SEEN), len(trials.time))


def _shade(axis: Axes, trials: SpikeTrials) -> None:
    half = trials.bin_width / 2
    start = trials.time[trials.seen_bins] - half
    axis.axvspan(start, trials.time[-1] + half, color="0.92", zorder=0, lw=0)
    axis.set_xlim(trials.time[_window(trials)][0] - half, trials.time[-1] + half)


def _bands(
    expected: np.ndarray, sd: np.ndarray | None, purpose: str, axis: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """95 % band of counts summed over ``axis``, by drawing."""
    rng = generator(0, "forecast", purpose)
    sums = np.stack([draw_counts(expected, rng, sd=sd).sum(axis) for _ in range(DRAWS)])
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(sums, [tail, 1 - tail], axis=0)
    return low, high


def _populations(
    axes: list[Axes], trials: SpikeTrials, expected: np.ndarray, sd: np.ndarray | None
) -> None:
    """Spikes of all units in single trials, evenly chosen, with the band of drawn counts."""
    part = _window(trials)
    time = trials.time[part]
    chosen = np.linspace(0, len(trials.index) - 1, min(len(axes), len(trials.index))).astype(int)
    top = trials.counts[chosen, part].sum(2).max() * 1.3
    for axis, trial in zip(axes, chosen, strict=False):
        spread = None if sd is None else sd[trial, part]
        low, high = _bands(expected[trial, part], spread, f"trial {trial}", (1,))
        axis.fill_between(time, low, high, color=COLOURS[0], alpha=0.25, lw=0, step="mid")
        axis.plot(time, expected[trial, part].sum(1), color=COLOURS[0])
        if trials.expected is not None:
            axis.plot(time, trials.expected[trial, part].sum(1), color=TRUTH, lw=1, ls="--")
        axis.plot(time, trials.counts[trial, part].sum(1), ".", color=TRUTH, ms=4)
        axis.set_title(f"trial {trials.trial[trial]}, all units")
        axis.set_ylim(0, max(top, 1))
        _shade(axis, trials)
    for axis in axes[len(chosen) :]:
        axis.set_axis_off()
    axes[0].set_ylabel("spikes per bin")


def _psths(
    axes: list[Axes], trials: SpikeTrials, expected: np.ndarray, sd: np.ndarray | None
) -> None:
    """Mean rate over the trials of one condition, of the units that vary most."""
    part = _window(trials)
    time = trials.time[part]
    same = trials.usual_condition()
    reference = expected if trials.expected is None else trials.expected
    order = np.argsort(-reference[:, trials.seen_bins :].var((0, 1)), kind="stable")
    held_out = [u for u in order if trials.held_out[u]][:1]
    units = [u for u in order if not trials.held_out[u]][: len(axes) - len(held_out)] + held_out
    scale = 1 / (len(same) * trials.bin_width)
    spread = None if sd is None else sd[same][:, part][:, :, units]
    low, high = _bands(expected[same][:, part][:, :, units], spread, "psth", (0,))
    for column, (axis, unit) in enumerate(zip(axes, units, strict=False)):
        band = scale * low[:, column], scale * high[:, column]
        axis.fill_between(time, *band, color=COLOURS[0], alpha=0.25, lw=0, step="mid")
        axis.plot(time, scale * expected[same, part, unit].sum(0), color=COLOURS[0])
        if trials.expected is not None:
            true = scale * trials.expected[same, part, unit].sum(0)
            axis.plot(time, true, color=TRUTH, lw=1, ls="--")
        counts = scale * trials.counts[same, part, unit].sum(0)
        axis.plot(time, counts, ".", color=TRUTH, ms=4)
        kind = "held out" if trials.held_out[unit] else "held in"
        axis.set_title(f"unit {trials.unit[unit]} ({kind})")
        axis.set_ylim(bottom=0)
        _shade(axis, trials)
        axis.set_xlabel("time (s)")
    for axis in axes[len(units) :]:
        axis.set_axis_off()
    number = f"{len(same)} trial{'s' if len(same) > 1 else ''}"
    several = len(np.unique(trials.condition)) > 1
    axes[0].set_ylabel(f"rate (Hz), mean of\n{number}{' of one condition' if several else ''}")


def _gain(axis: Axes, trials: SpikeTrials, expected: np.ndarray) -> None:
    """Bits per spike over each unit's mean rate, bin by bin of the forecast."""
    lead = _lead(trials)
    bins = range(trials.seen_bins, len(trials.time))
    axis.axhline(0, color=NULL, lw=0.8, ls="--", zorder=0)
    axis.plot(lead, _bps(expected, trials, bins), "o-", color=COLOURS[0], ms=3)
    if trials.expected is not None:
        axis.plot(lead, _bps(trials.expected, trials, bins), "o--", color=TRUTH, ms=2, lw=0.8)
    axis.set(xlabel="lead time (s)", ylabel="gain over mean rate\n(bits/spike)")
    axis.set_title("forward prediction")


def _lead(trials: SpikeTrials) -> np.ndarray:
    """Time (s) from the last bin seen to each forward bin."""
    return trials.bin_width * np.arange(1, len(trials.time) - trials.seen_bins + 1)


def _bps(expected: np.ndarray, trials: SpikeTrials, bins: range) -> list[float]:
    return [bits_per_spike(expected[:, b], trials.counts[:, b]) for b in bins]


def _coverage(axis: Axes, trials: SpikeTrials, expected: np.ndarray, sd: np.ndarray | None) -> None:
    """Share of trials whose population count lies in its 95 % band, by time."""
    part = _window(trials)
    low, high = _bands(expected[:, part], None if sd is None else sd[:, part], "coverage", (2,))
    counts = trials.counts[:, part].sum(2)
    inside = ((counts >= low) & (counts <= high)).mean(0)
    axis.axhline(LEVEL, color=NULL, lw=0.8, ls="--", zorder=0)
    axis.plot(trials.time[part], inside, "o-", color=COLOURS[0], ms=3)
    if trials.expected is not None:
        low, high = _bands(trials.expected[:, part], None, "true", (2,))
        true = ((counts >= low) & (counts <= high)).mean(0)
        axis.plot(trials.time[part], true, "o--", color=TRUTH, ms=2, lw=0.8)
    axis.set(xlabel="time (s)", ylabel="share of trials in\n95 % band")
    axis.set_ylim(min(0.5, float(inside.min()) - 0.05), 1.01)
    axis.set_title("population count")
    _shade(axis, trials)


def _final(axis: Axes, trials: SpikeTrials, expected: np.ndarray) -> None:
    """Forecast against recorded spikes of whole forward stretches, all trials."""
    part = slice(trials.seen_bins, None)
    forecast, counts = expected[:, part].sum((1, 2)), trials.counts[:, part].sum((1, 2))
    ends = np.array([min(forecast.min(), counts.min()), max(forecast.max(), counts.max())])
    axis.plot(ends, ends, color=TRUTH, lw=0.7, zorder=0)
    axis.plot(forecast, counts, "o", color=COLOURS[0], ms=2.5, mew=0, alpha=0.6)
    title = "all forward bins"
    if len(counts) > 2 and forecast.std() > 0 and counts.std() > 0:
        title += f", r = {np.corrcoef(forecast, counts)[0, 1]:.2f}"
        if trials.expected is not None:
            true = np.corrcoef(trials.expected[:, part].sum((1, 2)), counts)[0, 1]
            title += f"\n(true rates {true:.2f})"
    axis.set(xlabel="spikes forecast", ylabel="spikes recorded")
    axis.set_title(title)


def _legend(figure: Figure, trials: SpikeTrials) -> None:
    marks: list[Line2D | Patch] = [
        Line2D([], [], color=COLOURS[0], label="model"),
        Patch(color=COLOURS[0], alpha=0.25, lw=0, label="95 % band of counts"),
        Line2D([], [], color=TRUTH, marker=".", ls="", label="recorded counts"),
    ]
    if trials.expected is not None:
        marks.append(Line2D([], [], color=TRUTH, ls="--", lw=1, label="true rates (ceiling)"))
    marks.append(Line2D([], [], color=NULL, ls="--", lw=0.8, label="mean rate; nominal share"))
    marks.append(Patch(color="0.92", label="forward bins (hidden)"))
    figure.legend(handles=marks, loc="outside lower center", ncols=3)
