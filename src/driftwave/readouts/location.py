"""Nested, grouped cross-validation of Bayesian decoding of one feature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

import dask
import numpy as np
import xarray as xr

from driftwave.readouts.folds import Plan
from driftwave.readouts.heldout import held_rows, widened
from driftwave.readouts.null import Labels
from driftwave.readouts.place_fields import (
    Track,
    estimates,
    posterior,
    smoothed,
    tuning_curves,
    windowed_counts,
)


@dataclass(frozen=True)
class Setting:
    """One choice of the hyper-parameters."""

    window: float
    smoothing: float
    estimate: str


@dataclass(frozen=True)
class Choices:
    """Hyper-parameters tried, and the size of the null.

    Attributes
    ----------
    windows : tuple of float
        s.
    smoothings : tuple of float
        Bins of the feature.
    estimates : tuple of str
        Of ``mean`` and ``map``.
    uniform : bool
        A flat prior; else the occupancy.
    lowest_rate : float
        Hz.
    shuffles : int
        Permutations of separate trials.
    """

    windows: tuple[float, ...]
    smoothings: tuple[float, ...]
    estimates: tuple[str, ...]
    uniform: bool
    lowest_rate: float
    shuffles: int


@dataclass(frozen=True)
class Task:
    """One feature, decoded from one set of counts.

    Attributes
    ----------
    counts : ndarray (trial, time, unit)
    values : ndarray (trial, time)
        NaN where missing.
    runs : ndarray of int (trial,)
    track : Track
    bin_width : float
        s.
    choices : Choices
    labels : ndarray or BinShifts
        Shifts of the null, where windows abut.
    """

    counts: np.ndarray
    values: np.ndarray
    runs: np.ndarray
    track: Track
    bin_width: float
    choices: Choices
    labels: Labels

    @cached_property
    def settings(self) -> list[Setting]:
        """All choices of the hyper-parameters."""
        some = self.choices
        return [Setting(*s) for s in product(some.windows, some.smoothings, some.estimates)]

    @cached_property
    def sums(self) -> dict[float, np.ndarray]:
        """Counts (trial, time, unit) in each window."""
        return {
            window: windowed_counts(self.counts, self.runs, self.in_bins(window))
            for window in self.choices.windows
        }

    def in_bins(self, window: float) -> int:
        """Bins of a window."""
        return max(1, round(window / self.bin_width))

    def curves(self, train: np.ndarray) -> xr.DataArray:
        """Tuning curves of some trials."""
        there = np.isfinite(self.values[train])
        return tuning_curves(
            self.counts[train][there], self.values[train][there], self.track, self.bin_width
        )

    def decode(
        self, curves: xr.DataArray, held: np.ndarray, setting: Setting
    ) -> tuple[np.ndarray, np.ndarray]:
        """Posterior (trial, time, position) of some trials, and the estimate (trial, time)."""
        fields = smoothed(curves, setting.smoothing, self.track, self.choices.lowest_rate)
        sums = self.sums[setting.window][held]
        found = posterior(
            fields,
            sums.reshape(-1, sums.shape[-1]),
            self.in_bins(setting.window) * self.bin_width,
            self.track,
            uniform=self.choices.uniform,
        )
        at = estimates(found, self.track, setting.estimate)
        return found.reshape(*sums.shape[:2], -1), at.reshape(sums.shape[:2])

    def errors(self, train: np.ndarray, *held: np.ndarray) -> np.ndarray:
        """Sum of absolute errors (held, setting) on some sets of trials."""
        curves = self.curves(train)
        total = np.zeros((len(held), len(self.settings)))
        for row, trials in enumerate(held):
            done: dict[tuple[float, float], np.ndarray] = {}
            for k, setting in enumerate(self.settings):
                key = setting.window, setting.smoothing
                if key not in done:
                    done[key] = self.decode(curves, trials, setting)[0]
                flat = done[key].reshape(-1, done[key].shape[-1])
                at = estimates(flat, self.track, setting.estimate).reshape(len(trials), -1)
                total[row, k] = np.nansum(self.track.distance(at, self.values[trials]))
        return total


@dataclass(frozen=True)
class Located:
    """Scores of one task.

    Attributes
    ----------
    error_fold, r2_fold : ndarray (fold, label)
        Median absolute error in the feature's unit (degrees of an angle), and R2 (NaN of an
        angle).
    error_test, r2_test : ndarray (label,)
    estimate : ndarray (trial, time)
        Of the test split, NaN elsewhere.
    posterior : ndarray (trial, time, position)
        Likewise.
    chosen : list of Setting
        Of the folds, then of the test split.
    """

    error_fold: np.ndarray
    r2_fold: np.ndarray
    error_test: np.ndarray
    r2_test: np.ndarray
    estimate: np.ndarray
    posterior: np.ndarray
    chosen: list[Setting]


def locate(task: Task, plan: Plan, rng: np.random.Generator) -> Located:
    """Cross-validate one task and decode its test split."""
    folds, settings = range(plan.folds), task.settings
    pairs = list(combinations(folds, 2)) if len(settings) > 1 else []

    def pair(f: int, g: int) -> np.ndarray:
        train = plan.trials(plan.train[f] & plan.train[g])
        return task.errors(
            train,
            plan.trials(plan.held[g] & plan.train[f]),
            plan.trials(plan.held[f] & plan.train[g]),
        )

    inner = np.zeros((plan.folds, len(settings)))
    done = dask.compute(*[dask.delayed(pair)(f, g) for f, g in pairs])
    for (f, g), (of_f, of_g) in zip(pairs, done, strict=True):
        inner[f] += of_f
        inner[g] += of_g
    chosen = [settings[row.argmin()] for row in inner]

    def one_fold(f: int, seed: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        train, held = plan.trials(plan.train[f]), plan.trials(plan.held[f])
        at = task.decode(task.curves(train), held, chosen[f])[1]
        left_out = task.errors(train, held)[0] if len(settings) > 1 else np.zeros(1)
        return *_scores(task, at, held, seed), left_out

    outer = dask.compute(
        *[dask.delayed(one_fold)(f, s) for f, s in zip(folds, rng.spawn(plan.folds), strict=True)]
    )
    error, r2, left_out = (np.array(part) for part in zip(*outer, strict=True))
    error, r2 = (np.array([widened(fold) for fold in part]) for part in (error, r2))
    chosen.append(settings[left_out.sum(axis=0).argmin()])
    estimate = np.full(task.values.shape, np.nan)
    found = np.full((*task.values.shape, len(task.track.centres)), np.nan, np.float32)
    test = plan.trials(plan.test)
    scored = np.full(error.shape[1], np.nan), np.full(error.shape[1], np.nan)
    if len(test):
        curves = task.curves(plan.trials(plan.fitting))
        found[test], estimate[test] = task.decode(curves, test, chosen[-1])
        scored = _scores(task, estimate[test], test, rng)
    return Located(error, r2, *scored, estimate, found, chosen)


def _scores(
    task: Task, at: np.ndarray, held: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Median absolute error and R2 (label,) of the true pairing, then of the null's."""
    rows = held_rows(task.labels, held, task.values.shape[1], task.choices.shuffles, rng)
    # An estimate counts only where the animal's own value is there to compare it with.
    mine = np.flatnonzero(np.isfinite(task.values[held].ravel()))
    decoded = at.ravel()[mine]
    labels = task.values.ravel()[rows.reshape(len(rows), -1)[:, mine]]
    error = np.full(len(rows), np.nan)
    some = np.isfinite(labels).any(axis=1)
    error[some] = np.nanmedian(task.track.distance(decoded, labels[some]), axis=1)
    if task.track.circular:
        return np.degrees(error), np.full(len(rows), np.nan)
    off = np.nansum((decoded - labels) ** 2, axis=1)
    total = np.zeros(len(rows))
    mean = np.nanmean(labels[some], axis=1, keepdims=True)
    total[some] = np.nansum((labels[some] - mean) ** 2, axis=1)
    return error, np.where(total > 0, 1 - off / np.where(total > 0, total, 1), np.nan)
