"""Trials as short windows of activity, and the class that each trial has throughout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.readouts.classes import Classes, condition_classes
from driftwave.readouts.features import seen_bins
from driftwave.readouts.targets import stimulus_classes
from driftwave.recording import trial_mask

# Windows that a trial is divided into where no width is given.
DEFAULT_WINDOWS = 16


@dataclass(frozen=True)
class Windows:
    """Windows of a trial.

    Attributes
    ----------
    bins : ndarray of int (window, bin)
        Bins of each window.
    start, stop : ndarray (window,)
        When each begins and ends, s from the alignment event.
    """

    bins: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """Middle of each window, s."""
        return (self.start + self.stop) / 2

    def of(self, name: str, features: np.ndarray) -> np.ndarray:
        """Features (trial, window, dim) of those by bin (trial, time, dim).

        Root counts are squared, added up and rooted again; other features are averaged.
        """
        parts = features[:, self.bins]
        return np.sqrt((parts**2).sum(axis=2)) if name == "counts" else parts.mean(axis=2)


def trial_windows(recording: xr.DataTree, width: float | None, step: float | None) -> Windows:
    """Divide the seen bins of the trials.

    Parameters
    ----------
    recording : DataTree
    width : float or None
        s; by default a sixteenth of what is seen of a trial, at least one bin.
    step : float or None
        From one window to the next, s; by default the width.

    Raises
    ------
    InputError
        Fewer than two windows fit.
    """
    spikes = recording["spikes"].to_dataset()
    bin_width, bins = float(spikes.attrs["bin_width"]), seen_bins(recording)
    wide = max(1, round(width / bin_width) if width else bins // DEFAULT_WINDOWS)
    pace = max(1, round(step / bin_width) if step else wide)
    first = np.arange(0, bins - wide + 1, pace)
    if len(first) < 2:
        raise InputError(
            file=recording.attrs["session"],
            field="params.window",
            found=f"windows of {wide * bin_width:g} s in trials of {bins * bin_width:g} s",
            expected="at least two windows in a trial",
            fix="Choose shorter windows",
        )
    start = spikes["time"].values[first]
    return Windows(first[:, None] + np.arange(wide), start, start + wide * bin_width)


def chosen_classes(
    recording: xr.DataTree, target: str | None, quantiles: int
) -> tuple[str, Classes]:
    """Classes of a stimulus column, of the conditions, or of a behaviour cut into quantiles.

    Parameters
    ----------
    recording : DataTree
    target : str or None
        A stimulus column, ``condition`` or a behavioural feature; None for the first stimulus
        column that qualifies, else a condition, else the first behavioural feature.
    quantiles : int
        Classes that the trial means of a behavioural feature are cut into, equally frequent in
        the train and valid splits.

    Raises
    ------
    InputError
        No such column or feature, or nothing to tell apart.
    """
    behaviour = _behaviour(recording)
    if target in behaviour:
        return target, _quantile_classes(behaviour[target], recording, quantiles, target)
    if target is None and not stimulus_classes(recording) and behaviour:
        condition = recording["trials"].to_dataset()["condition"].values
        if len(np.unique(condition)) < 2:
            name = next(iter(behaviour))
            return name, _quantile_classes(behaviour[name], recording, quantiles, name)
    found = condition_classes(recording, None if target is None else (target,))
    name = next(iter(found))
    return name, found[name]


def _behaviour(recording: xr.DataTree) -> dict[str, np.ndarray]:
    """Mean (trial,) of each behavioural feature that is no angle, over the seen bins."""
    if "behavior" not in recording.children:
        return {}
    behaviour = recording["behavior"].to_dataset()
    values = behaviour["value"].transpose("trial", "time", "feature").values
    values = values[:, : seen_bins(recording)].astype(float)
    there = np.isfinite(values)
    total = np.where(there, values, 0).sum(axis=1)
    mean = np.where(there.any(axis=1), total / np.maximum(there.sum(axis=1), 1), np.nan)
    return {
        str(name): mean[:, i]
        for i, name in enumerate(behaviour["feature"].values)
        if str(behaviour["kind"].values[i]) != "circular"
    }


def _quantile_classes(
    values: np.ndarray, recording: xr.DataTree, quantiles: int, name: str
) -> Classes:
    fitting = trial_mask(recording, "train", "valid") & np.isfinite(values)
    if not fitting.any():
        raise InputError(
            file=recording.attrs["session"],
            field=f"behavior/{name}",
            found="only missing values",
            expected="values in the train and valid splits",
            fix="Name another `target`",
        )
    edges = np.unique(np.quantile(values[fitting], np.arange(1, quantiles) / quantiles))
    label = np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), -1)
    shown = [f"{edge:.3g}" for edge in edges]
    names = [f"{low} to {high}" for low, high in zip(["", *shown], [*shown, ""], strict=True)]
    return Classes(label, names)
