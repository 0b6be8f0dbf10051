"""Condition means of predicted rates against peri-stimulus time histograms (PSTH R2).

Definition: Pei, Ye et al. 2021, "Neural Latents Benchmark '21": spikes smoothed by a Gaussian and
averaged over training and evaluation trials of a condition, against the mean of the rates that a
model predicts for the condition's evaluation trials; R2 per unit over all conditions and bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.signal import convolve
from scipy.signal.windows import gaussian
from sklearn.metrics import r2_score

from driftwave.errors import InputError
from driftwave.recording import trial_mask
from driftwave.scores.r_squared import r2_sums
from driftwave.scores.settings import scored_bins, trials_where
from driftwave.scores.trial_sums import TrialSums

STEP = 1e-3  # s; resolution at which spikes are smoothed
# Trials shorter than this share of their condition's mean length are left out.
_LEAST_LENGTH = 0.8


@dataclass(frozen=True)
class Psth:
    """Smoothed mean counts of each condition.

    Attributes
    ----------
    mean : ndarray (condition, time, unit)
        spikes/bin; NaN in bins that not all of its trials have.
    train, test : list of ndarray of int
        Each condition's trials, as places among the training (and validation) and test trials.
    """

    mean: np.ndarray
    train: list[np.ndarray]
    test: list[np.ndarray]


def psth_of(recording: xr.DataTree, sd: float, where: str | None = None) -> Psth:
    """PSTHs of the recording's conditions over training, validation and test trials, seen bins.

    Parameters
    ----------
    recording : DataTree
    sd : float
        Standard deviation of the Gaussian, s; it is cut off at three.
    where : str, optional
        Condition on the trials used (``driftwave.expression``).

    Raises
    ------
    InputError
        If no trial is left, or the condition fails.
    """
    fitted, test = trial_mask(recording, "train", "valid"), trial_mask(recording, "test")
    bins = scored_bins(recording)
    length = bins.sum(1)
    used = (fitted | test) & trials_where(recording, where, "psth.where") & (length > 0)
    if not used.any():
        raise InputError(
            file=recording.attrs["session"],
            field="scores.psth",
            found=f"no trial to average (where: {where})",
            expected="trials of training, validation or test with scored bins",
            fix="Mend the query, or remove `psth` from `scores` in the layout",
        )
    codes = recording["trials"].to_dataset()["condition"].values
    place = np.where(test, np.cumsum(test), np.cumsum(fitted)) - 1
    groups, starts = [], []
    for code in np.unique(codes[used]):
        members = used & (codes == code)
        members &= length >= _LEAST_LENGTH * length[members].mean()
        groups.append(members)
        starts.append(bins.shape[1] - int(length[members].min()))
    means = _smoothed_means(recording, groups, sd)
    for mean, start in zip(means, starts, strict=True):
        mean[:start] = np.nan
    return Psth(
        mean=np.stack(means),
        train=[place[members & fitted] for members in groups],
        test=[place[members & test] for members in groups],
    )


def psth_r2(
    psth: np.ndarray,
    rates: np.ndarray,
    conditions: Sequence[np.ndarray],
    jitter: np.ndarray | None = None,
) -> float:
    """Mean over units of the R2 of condition means of rates, as the benchmark computes it.

    A unit whose PSTHs do not vary counts as 0 (1 if matched exactly), as in scikit-learn.

    Parameters
    ----------
    psth : ndarray (condition, time, unit)
        spikes/bin; NaN in bins that are not scored.
    rates : ndarray (trial, time, unit)
        spikes/bin.
    conditions : sequence of ndarray of int
        Trials of each condition; conditions without trials are left out.
    jitter : ndarray of int (trial,), optional
        Bins by which each trial's rates are early.

    Raises
    ------
    ValueError
        If rates are NaN in a scored bin, or no condition has a trial.
    """
    predicted, truth = condition_means(psth, rates, conditions, jitter)
    there = ~np.isnan(truth[..., 0])
    if not np.isfinite(predicted[there]).all():
        raise ValueError("rates hold NaN or infinite values in bins of the PSTH")
    return float(r2_score(truth[there], predicted[there]))


def psth_sums(psth: np.ndarray, rates: np.ndarray, conditions: Sequence[np.ndarray]) -> TrialSums:
    """Sums over each condition (in the place of trials) from which the mean R2 follows.

    Units whose PSTHs do not vary are left out. A shuffle gives each condition another's rates.
    """
    predicted, truth = condition_means(psth, rates, conditions)
    return r2_sums(predicted, truth)


def condition_means(
    psth: np.ndarray,
    rates: np.ndarray,
    conditions: Sequence[np.ndarray],
    jitter: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean rates and PSTH of the conditions that have trials, each (condition, time, unit)."""
    if len(conditions) != len(psth):
        raise ValueError(f"{len(conditions)} lists of trials for {len(psth)} conditions")
    present = [i for i, members in enumerate(conditions) if len(members)]
    if not present:
        raise ValueError("no condition has a trial")
    if jitter is not None:
        rates = np.stack([_later(one, int(by)) for one, by in zip(rates, jitter, strict=True)])
    means = [rates[np.asarray(conditions[i], dtype=int)].mean(0) for i in present]
    return np.stack(means), psth[present]


def _later(rates: np.ndarray, bins: int) -> np.ndarray:
    """Rates (time, unit) moved ``bins`` later, or earlier if negative; NaN where none arrive."""
    moved = np.full_like(rates, np.nan)
    if bins >= 0:
        moved[bins:] = rates[: len(rates) - bins]
    else:
        moved[:bins] = rates[-bins:]
    return moved


def _smoothed_means(recording: xr.DataTree, groups: list[np.ndarray], sd: float) -> list:
    """Mean smoothed counts (seen bin, unit) of each group of trials."""
    if "spike_times" in recording.children:
        return _from_times(recording, groups, sd)
    seen = scored_bins(recording).shape[1]
    counts = recording["spikes"].to_dataset()["counts"].values[:, :seen]
    width = float(recording["spikes"].attrs["bin_width"])
    lags = np.arange(seen) * width
    kernel = np.exp(-0.5 * ((lags[:, None] - lags) / sd) ** 2)
    kernel *= np.abs(lags[:, None] - lags) <= 3 * sd
    # Beyond the trial there is nothing to average, so the weights there go to its own bins.
    kernel /= kernel.sum(1, keepdims=True)
    return [kernel @ counts[members].mean(0, dtype=float) for members in groups]


def _from_times(recording: xr.DataTree, groups: list[np.ndarray], sd: float) -> list:
    """Spikes beyond a trial's ends count where the Gaussian reaches them.

    Smoothing is linear, so each condition's spikes are added up before they are smoothed.
    """
    spikes, all_times = recording["spikes"].to_dataset(), recording["spike_times"].to_dataset()
    seen, units = scored_bins(recording).shape[1], spikes.sizes["unit"]
    per_bin = max(1, round(float(spikes.attrs["bin_width"]) / STEP))
    step = float(spikes.attrs["bin_width"]) / per_bin
    # An even number of steps, as in the benchmark's own code, which smooths half a step late.
    window = gaussian(int(round(6 * sd / step, 6)), sd / step, sym=True)
    window /= window.sum()
    margin = len(window)
    steps = seen * per_bin + 2 * margin
    order = np.argsort(all_times["time"].values, kind="stable")
    times, unit = all_times["time"].values[order], all_times["unit"].values[order]
    starts = spikes["trial_start"].values
    means = []
    for members in groups:
        total = np.zeros(steps * units)
        for start in starts[members]:
            first = start - margin * step
            low, high = np.searchsorted(times, [first - step, first + (steps + 1) * step])
            at = np.floor(np.round((times[low:high] - first) / step, 6)).astype(int)
            inside = (at >= 0) & (at < steps)
            flat = at[inside] * units + unit[low:high][inside]
            total += np.bincount(flat, minlength=steps * units)
        smooth = convolve(total.reshape(steps, units), window[:, None], "same")
        smooth = np.maximum(smooth[margin : margin + seen * per_bin], 0.0)
        means.append(smooth.reshape(seen, per_bin, units).sum(1) / members.sum())
    return means
