"""Which targets are decoded together, on which trials, against which shuffles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.readouts.activity import Activity
from driftwave.readouts.features import abutting_runs, history_index, seen_bins
from driftwave.readouts.folds import Plan, block_folds, grouped_folds, make_plan
from driftwave.readouts.null import (
    Labels,
    possible_shuffles,
    shifted_bins,
    shuffled_trials,
)
from driftwave.readouts.regression import Problem
from driftwave.readouts.targets import Target
from driftwave.recording import trial_mask

DEFAULT_LAGS = 10


@dataclass(frozen=True)
class Job:
    """Targets that share their bins, and so their folds and their null.

    Attributes
    ----------
    positions : list of int
        Positions of the targets among all targets.
    targets : list of Target
    history : ndarray of int (trial, time, lag)
    complete : ndarray of bool (trial, time)
        Bins whose whole history is there.
    plan : Plan
    labels : ndarray of int (label, trial) or BinShifts
        Whose target each trial is given, or shifts by bins; label 0 is the true one.
    runs : ndarray of int (trial,)
        Trials of one run abut in time.
    """

    positions: list[int]
    targets: list[Target]
    history: np.ndarray
    complete: np.ndarray
    plan: Plan
    labels: Labels
    runs: np.ndarray

    def problem(self, features: np.ndarray) -> Problem:
        """The regression of these targets on some features (trial, time, dim)."""
        return Problem(features, self.history, self.values, self.mask, self.labels)

    def activity(self, features: np.ndarray) -> Activity:
        """What decoders other than a linear one are given of some features (trial, time, dim)."""
        return Activity(features, self.runs, self.mask)

    @property
    def values(self) -> np.ndarray:
        """The targets (trial, time, target)."""
        return np.stack([target.values for target in self.targets], axis=-1)

    @property
    def mask(self) -> np.ndarray:
        """Bins used (trial, time)."""
        return np.isfinite(self.targets[0].values) & self.complete


@dataclass(frozen=True)
class Scheme:
    """How trials are divided and shuffled; see the parameters of the decoder."""

    folds: int
    gap: int
    shuffles: int
    validate_on: str
    seed: int


def chosen_lags(recording: xr.DataTree, wanted: int | None) -> int:
    """Bins of history: as wanted, or the default, which spares short trials.

    Raises
    ------
    InputError
        No stretch of seen bins is that long.
    """
    runs = abutting_runs(recording)
    bins = seen_bins(recording)
    separate = len(np.unique(runs)) == len(runs)
    lags = wanted or (min(DEFAULT_LAGS, max(1, bins // 4)) if separate else DEFAULT_LAGS)
    longest = int(np.bincount(runs).max()) * bins
    if lags > longest:
        raise InputError(
            file=recording.attrs["session"],
            field="decoding.params.lags",
            found=f"{lags} bins of history",
            expected=f"at most the {longest} bins that are seen without a break",
            fix="Lower `lags`",
        )
    return lags


Span = Callable[[list[Target]], tuple[int, int]]


def regression_jobs(
    recording: xr.DataTree,
    targets: list[Target],
    varying: list[int],
    span: int | Span,
    scheme: Scheme,
) -> Iterator[Job]:
    """Group the varying targets by the bins in which they are there.

    Parameters
    ----------
    recording : DataTree
    targets : list of Target
    varying : list of int
        Positions of those that are decoded.
    span : int or function
        Bins of history, the current one included; or, of some targets decoded together, those and
        the bins of the future.
    scheme : Scheme
    """
    groups: dict[tuple[str, bytes], list[int]] = {}
    for i in varying:
        key = (targets[i].per, np.isfinite(targets[i].values).tobytes())
        groups.setdefault(key, []).append(i)
    for positions in groups.values():
        chosen = [targets[i] for i in positions]
        runs, bins = abutting_runs(recording), seen_bins(recording)
        if chosen[0].per == "trial":
            runs, bins, lags, ahead = np.arange(len(runs)), 1, 1, 0
        else:
            lags, ahead = span(chosen) if callable(span) else (span, 0)
        history, complete = history_index(runs, bins, lags, ahead)
        there = (np.isfinite(chosen[0].values) & complete).any(axis=1)
        plan, labels = plan_and_labels(recording, there, scheme, what=chosen[0].feature, bins=bins)
        yield Job(positions, chosen, history, complete, plan, labels, runs)


def plan_and_labels(
    recording: xr.DataTree,
    there: np.ndarray,
    scheme: Scheme,
    *,
    what: str,
    bins: int | None = None,
) -> tuple[Plan, Labels]:
    """Folds, test split and label shuffles of the trials in which a target is there.

    Parameters
    ----------
    recording : DataTree
    there : ndarray of bool (trial,)
    scheme : Scheme
    what : str
        Name of the target, for the error.
    bins : int, optional
        Bins per trial: labels of abutting windows are then shifted by bins, not whole windows.

    Raises
    ------
    InputError
        Too few trials for three folds and the gap around them.
    """
    contiguous = bool(recording["spikes"].attrs.get("contiguous", False))
    gap = scheme.gap if contiguous else 0
    fit = trial_mask(recording, "train", "valid") & there
    test = trial_mask(recording, "test") & there
    pool = fit | test if scheme.validate_on == "all" else fit
    strata = recording["trials"].dataset["condition"].values[pool]
    folds = min(scheme.folds, len(strata))
    possible = possible_shuffles(int((pool | test).sum()), contiguous=contiguous, gap=gap)
    plan = None
    if folds >= 3 and possible:
        rng = generator(scheme.seed, "decoding folds")
        fold = np.full(len(there), -1)
        fold[pool] = (
            block_folds(len(strata), folds) if contiguous else grouped_folds(strata, folds, rng)
        )
        plan = make_plan(fold, fit, test, gap)
    if plan is None or not plan.trainable:
        raise InputError(
            file=recording.attrs["session"],
            field=what,
            found=f"{len(strata)} trials that have it",
            expected=f"enough for 3 folds with a gap of {gap} trials either side",
            fix="Use more trials or shorter windows in the layout, or fewer folds or a smaller gap",
        )
    rng = generator(scheme.seed, "shuffles of decoding")
    if contiguous and bins is not None:
        return plan, shifted_bins(pool | test, scheme.shuffles, bins, gap=gap, rng=rng)
    count = int(min(scheme.shuffles, possible))
    return plan, shuffled_trials(pool | test, count, contiguous=contiguous, gap=gap, rng=rng)
