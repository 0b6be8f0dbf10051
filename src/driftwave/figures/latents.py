"""Latent trajectories of a model of spikes, beside the true state where it is known."""

from __future__ import annotations

from typing import NamedTuple

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
from driftwave.figures.spike_trials import SpikeTrials, spike_trials
from driftwave.figures.style import COLOURS, NULL, STYLE, TRUTH, new_figure
from driftwave.recording import trial_mask
from driftwave.scores.r_squared import mean_r2

STAGE = "models"
RESULTS = "latents"
EACH = True
OBSERVES = "spikes"

SHOWN = 3  # components, or dimensions of the true state
EXAMPLES = 2
CONDITIONS = COLOURS[:6]
SINGLE_TRIALS = 12  # of each condition


class Courses(NamedTuple):
    """What the time courses show, (test trial, time, dimension).

    Attributes
    ----------
    value, sd : ndarray
        From the latents, with the posterior's standard deviation where it is given.
    true : ndarray or None
    names : list of str
    note : str
        R2 and its null, where there is a truth.
    """

    value: np.ndarray
    sd: np.ndarray | None
    true: np.ndarray | None
    names: list[str]
    note: str


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """State space of the test trials above time courses of two of them.

    Parameters
    ----------
    recording : DataTree
        With ``spikes``; where ``truth`` holds ``state``, an affine map of the latents to it,
        fitted on training trials, is drawn over it.
    results : dict
        ``latents``: with ``latent`` (trial, time, latent) and, if given, ``latent_sd``.

    Raises
    ------
    InputError
        If a recording with test trials, or the latents are missing.
    """
    trials = spike_trials(recording, "latents")
    latents = need_result(results, "latents", "latents")
    if "latent" not in latents or latents["latent"].dims != ("trial", "time", "latent"):
        raise InputError(
            file=str(latents.attrs.get("model", "latents")),
            field="latent",
            found="no latents of trials",
            expected="latent (trial, time, latent)",
            fix="Give figure latents the latents of a model of spikes",
        )
    assert recording is not None
    value = latents["latent"].values.astype(float)
    axes, share = _components(value)
    scores = (value[trials.index] - value.mean((0, 1))) @ axes.T
    courses = _courses(recording, trials, latents, value, axes)
    with plt.rc_context(STYLE):
        return _draw(trials, scores, share, courses)


def _components(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes (component, latent) and their shares of variance, padded to three."""
    flat = value.reshape(-1, value.shape[-1])
    power, axes = np.linalg.eigh(np.atleast_2d(np.cov(flat, rowvar=False)))
    power, axes = np.maximum(power[::-1], 0), axes[:, ::-1].T
    share = power / max(power.sum(), np.finfo(float).tiny)
    padding = max(0, SHOWN - len(axes))
    return np.pad(axes, ((0, padding), (0, 0)))[:SHOWN], np.pad(share, (0, padding))


def _courses(
    recording: xr.DataTree,
    trials: SpikeTrials,
    latents: xr.Dataset,
    value: np.ndarray,
    axes: np.ndarray,
) -> Courses:
    sd = trials.of(latents, "latent_sd")
    truth = recording["truth"].to_dataset() if "truth" in recording.children else {}
    train = trial_mask(recording, "train")
    if "state" not in truth or not train.any():
        shown = (value[trials.index] - value.mean((0, 1))) @ axes.T
        spread = None if sd is None else np.sqrt(sd**2 @ (axes.T**2))
        names = [f"component {k + 1}" for k in range(min(SHOWN, value.shape[-1]))]
        return Courses(shown, spread, None, names, "")
    state = truth["state"].values.astype(float)
    features = np.concatenate([value, np.ones((*value.shape[:2], 1))], -1)
    flat = features[train].reshape(-1, features.shape[-1])
    weights = np.linalg.lstsq(flat, state[train].reshape(-1, state.shape[-1]), rcond=None)[0]
    predicted, true = features[trials.index] @ weights, state[trials.index]
    spread = None if sd is None else np.sqrt(sd**2 @ weights[:-1] ** 2)
    other = generator(0, "other trials").permutation(len(true))
    note = (
        f"R² {mean_r2(predicted, true):.3f} (other trials' {mean_r2(predicted[other], true):.2f})"
    )
    names = [f"true state {k + 1}" for k in range(min(SHOWN, state.shape[-1]))]
    return Courses(predicted, spread, true, names, note)


def _draw(trials: SpikeTrials, scores: np.ndarray, share: np.ndarray, courses: Courses) -> Figure:
    figure, axes = new_figure(1 + EXAMPLES, SHOWN, width=7.5, height=6.2)
    for axis, (across, up) in zip(axes[:2], ((0, 1), (0, 2)), strict=True):
        _plane(axis, trials, scores[..., across], scores[..., up])
        axis.set_xlabel(f"component {across + 1} ({100 * share[across]:.0f} %)")
        axis.set_ylabel(f"component {up + 1} ({100 * share[up]:.0f} %)")
    axes[0].set_title("latents, principal components")
    if courses.true is not None and courses.true.shape[-1] > 1:
        _true_plane(axes[2], trials, courses)
    else:
        _variance(axes[2], share)
    shown = _examples(trials)
    for row, trial in enumerate(shown):
        for column in range(SHOWN):
            axis = axes[SHOWN * (1 + row) + column]
            if column >= len(courses.names):
                axis.set_axis_off()
                continue
            _course(axis, trials, courses, trial, column)
            if row == 0:
                axis.set_title(courses.names[column])
            if row == len(shown) - 1:
                axis.set_xlabel("time (s)")
        label = f"trial {trials.trial[trial]}\n"
        axes[SHOWN * (1 + row)].set_ylabel(
            label + ("state" if courses.true is not None else "latent")
        )
    for axis in axes[SHOWN * (1 + len(shown)) :]:
        axis.set_axis_off()
    _legend(figure, trials, courses)
    return figure


def _plane(axis: Axes, trials: SpikeTrials, across: np.ndarray, up: np.ndarray) -> None:
    """Single trials (thin), condition averages (thick, dot where they start), by condition.

    Where all trials are of one condition, such as windows cut from a continuous recording, their
    mean says nothing and each has its own colour.
    """
    if not _has_conditions(trials):
        for trial, colour in zip(_spread(trials), CONDITIONS, strict=False):
            axis.plot(across[trial], up[trial], color=colour, lw=1)
            axis.plot(across[trial][0], up[trial][0], "o", color=colour, ms=4)
        axis.locator_params(nbins=5)
        return
    values, number = np.unique(trials.condition, return_counts=True)
    chosen = values[np.argsort(-number, kind="stable")[: len(CONDITIONS)]]
    for condition, colour in zip(chosen, CONDITIONS, strict=False):
        same = np.flatnonzero(trials.condition == condition)
        for trial in same[:SINGLE_TRIALS]:
            axis.plot(across[trial], up[trial], color=colour, lw=0.4, alpha=0.45)
        mean = across[same].mean(0), up[same].mean(0)
        axis.plot(*mean, color=colour, lw=1.6)
        axis.plot(mean[0][0], mean[1][0], "o", color=colour, ms=4)
    axis.locator_params(nbins=5)


def _has_conditions(trials: SpikeTrials) -> bool:
    return len(np.unique(trials.condition)) > 1


def _spread(trials: SpikeTrials) -> np.ndarray:
    """As many test trials as there are colours, evenly chosen."""
    count = min(len(CONDITIONS), len(trials.index))
    return np.linspace(0, len(trials.index) - 1, count).astype(int)


def _true_plane(axis: Axes, trials: SpikeTrials, courses: Courses) -> None:
    """True state and the latents mapped to it, in the first trial whose courses are drawn."""
    assert courses.true is not None
    first, last = 0, courses.true.shape[-1] - 1
    trial = _examples(trials)[0]
    for path, colour in ((courses.true[trial], TRUTH), (courses.value[trial], COLOURS[0])):
        axis.plot(path[:, first], path[:, last], color=colour, lw=1)
        axis.plot(path[0, first], path[0, last], "o", color=colour, ms=3)
    axis.set(xlabel=f"true state {first + 1}", ylabel=f"true state {last + 1}")
    axis.set_title(f"true state from latents\n{courses.note}")


def _variance(axis: Axes, share: np.ndarray) -> None:
    number = np.arange(1, len(share) + 1)
    axis.plot(number, np.cumsum(share), "o-", color=COLOURS[0], ms=2.5)
    axis.set(xlabel="component", ylabel="share of variance,\ncumulative", ylim=(0, 1.03))
    axis.set_title("latents")


def _examples(trials: SpikeTrials) -> list[int]:
    """First test trial of the most frequent condition, and one of another condition if any."""
    first = int(trials.usual_condition()[0])
    others = np.flatnonzero(trials.condition != trials.condition[first])
    if not others.size:
        others = np.delete(np.arange(len(trials.condition)), first)
    return [first, *map(int, others[: EXAMPLES - 1])]


def _course(axis: Axes, trials: SpikeTrials, courses: Courses, trial: int, column: int) -> None:
    time, value = trials.time, courses.value[trial, :, column]
    if courses.sd is not None:
        band = 2 * courses.sd[trial, :, column]
        axis.fill_between(time, value - band, value + band, color=COLOURS[0], alpha=0.25, lw=0)
    if courses.true is not None:
        axis.plot(time, courses.true[trial, :, column], color=TRUTH, lw=1.4)
    axis.plot(time, value, color=COLOURS[0], lw=1)
    half = trials.bin_width / 2
    if trials.seen_bins < len(time):
        start = time[trials.seen_bins] - half
        axis.axvspan(start, time[-1] + half, color="0.92", zorder=0, lw=0)
    axis.set_xlim(time[0] - half, time[-1] + half)


def _legend(figure: Figure, trials: SpikeTrials, courses: Courses) -> None:
    line = (
        "mean of a condition, its start" if _has_conditions(trials) else "single trial, its start"
    )
    marks: list[Line2D | Patch] = [
        Line2D([], [], color=NULL, lw=1.6, marker="o", ms=4, label=line),
        Line2D([], [], color=COLOURS[0], lw=1, label="from latents"),
    ]
    if courses.sd is not None:
        marks.append(Patch(color=COLOURS[0], alpha=0.25, lw=0, label="± 2 posterior sd"))
    if courses.true is not None:
        marks.append(Line2D([], [], color=TRUTH, lw=1.4, label="true state"))
    if trials.seen_bins < len(trials.time):
        marks.append(Patch(color="0.92", label="forward bins (hidden)"))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
