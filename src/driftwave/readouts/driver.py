"""The course of every continuous decoder but ridge: nested folds, null and noise ceiling."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import dask
import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.readouts.activity import Activity, Context, Decoder, Predictor, Setting
from driftwave.readouts.ceiling import (
    Agreement,
    Ceiling,
    correlation_of,
    halves_factor,
    random_halves,
)
from driftwave.readouts.course import begin
from driftwave.readouts.crossval import Decoded, cross_validate
from driftwave.readouts.features import abutting_runs, history_index, seen_bins
from driftwave.readouts.heldout import OtherLabels, held_out_name
from driftwave.readouts.jobs import Job, chosen_lags
from driftwave.readouts.params import Params
from driftwave.readouts.regression import Problem
from driftwave.readouts.targets import Target, angle_pairs

Make = Callable[[Context], Decoder]
CEILING_PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)


def decode(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    params: Params,
    make: Make,
    *,
    seed: int,
) -> xr.Dataset:
    """Decode behaviour and numeric stimuli with any decoder, from any source.

    Folds are whole trials, or contiguous blocks with a gap where trials abut. Hyper-parameters are
    chosen, and everything is fitted, on the training trials of each fold (nested, grouped
    likewise); scores of the test split come from a decoder fitted on train and valid. The null
    pairs the same held-out predictions with other labels of the same fold
    (:mod:`driftwave.readouts.heldout`); the noise ceiling is that of two halves of the units
    (:mod:`driftwave.readouts.ceiling`), of counts only: a model's rates share their noise.

    Parameters
    ----------
    recording : DataTree
        With spikes, trials, and behaviour or stimulus.
    latents : Dataset or None
        None for the recording's counts; a model's output; or activations.
    params : Params
    make : function
        From a :class:`Context` to a :class:`Decoder`.
    seed : int

    Returns
    -------
    Dataset
        As of :class:`driftwave.readouts.results.Results`.

    Raises
    ------
    InputError
        As of :func:`driftwave.readouts.course.begin`.
    """

    def context(targets: list[Target]) -> Context:
        per_trial = targets[0].per == "trial"
        runs = abutting_runs(recording)
        bins = 1 if per_trial else seen_bins(recording)
        longest = 1 if per_trial else int(np.bincount(runs).max()) * bins
        width = float(recording["spikes"].attrs["bin_width"])
        return Context(targets, targets[0].per, bins, longest, width)

    def span(targets: list[Target]) -> tuple[int, int]:
        decoder = make(context(targets))
        return decoder.past + 1, decoder.future

    course = begin(recording, latents, params, span, seed=seed)
    lags, ceiling_from = 1, "not computed"
    for number, job in enumerate(course.jobs):
        decoder = make(context(job.targets))
        lags = max(lags, decoder.past + 1)
        for name in course.sources:
            views = course.views(name, job)
            task = Task(job, [job.activity(v) for v in views], decoder, params, seed)
            found = task.run(np.random.default_rng([seed, number]))
            if latents is None and params.halves:
                rng = generator(seed, "halves of the units")
                halves = random_halves(views[0].shape[-1], params.halves, rng)
                if decoder.costly:
                    most = chosen_lags(recording, None) if job.targets[0].per == "bin" else 1
                    ceiling = _ridge_ceiling(job, views, halves, most)
                    ceiling_from = "ridge"
                else:
                    ceiling = task.ceiling(halves, generator(seed, "fits of the halves"))
                    ceiling_from = "this decoder"
                found = replace(found, ceiling=ceiling)
            course.results.add_regression(name, job, found)
    return course.results.dataset(
        lags=lags,
        validate_on=params.validate_on,
        params=params.model_dump_json(),
        seed=seed,
        null=held_out_name(bool(recording["spikes"].attrs.get("contiguous", False))),
        ceiling=ceiling_from,
    )


@dataclass
class Task:
    """One set of features, one group of targets."""

    job: Job
    views: list[Activity]
    decoder: Decoder
    params: Params
    seed: int

    def __post_init__(self) -> None:
        self.candidates: list[tuple[int, Setting]] = [
            (view, setting)
            for view in range(len(self.views))
            for setting in self.decoder.candidates()
        ]
        mask = self.job.mask[..., None]
        self.targets = np.where(mask, self.job.values, np.nan)
        self.scale = np.nanvar(self.targets, axis=(0, 1))
        self.angles = list(angle_pairs(self.job.targets).values())
        self.scores = OtherLabels(self.job, self.params, self.angles, self.seed)

    def fit(
        self,
        trials: np.ndarray,
        chosen: list[int],
        rng: np.random.Generator,
        units: np.ndarray | None = None,
    ) -> dict[int, tuple[Activity, Predictor]]:
        """Fitted decoders of some candidates, each with the activity it reads."""
        found: dict[int, tuple[Activity, Predictor]] = {}
        for view, activity in enumerate(self.views):
            mine = [k for k in chosen if self.candidates[k][0] == view]
            if mine:
                seen = activity if units is None else activity.of_units(units)
                settings = [self.candidates[k][1] for k in mine]
                fitted = self.decoder.fit(seen, trials, self.targets[trials], settings, rng)
                found |= {k: (seen, one) for k, one in zip(mine, fitted, strict=True)}
        return found

    def errors(self, fitted: dict[int, tuple[Activity, Predictor]], held: np.ndarray) -> np.ndarray:
        """Squared errors (candidate, target) on held trials, in units of the target's variance."""
        found = np.zeros((len(self.candidates), len(self.scale)))
        for k, (activity, predictor) in fitted.items():
            if len(held):
                off = predictor.predict(activity, held) - self.targets[held]
                used = self.job.mask[held]
                found[k] = np.nan_to_num((off[used] ** 2).sum(axis=0), nan=np.inf) / self.scale
        return found

    def choose(self, errors: np.ndarray) -> np.ndarray:
        """Candidate of each target: the least error, of all targets together if fitted jointly."""
        if self.decoder.joint:
            return np.full(errors.shape[1], errors.sum(axis=1).argmin())
        return errors.argmin(axis=0)

    def predict(
        self, chosen: np.ndarray, fitted: dict[int, tuple[Activity, Predictor]], held: np.ndarray
    ) -> np.ndarray:
        """Predictions (trial, time, target), each target's from its own candidate."""
        prediction = np.full((len(held), *self.targets.shape[1:]), np.nan)
        for k in np.unique(chosen):
            activity, predictor = fitted[k]
            prediction[..., chosen == k] = predictor.predict(activity, held)[..., chosen == k]
        return prediction

    def inner_errors(self, rngs: list[np.random.Generator]) -> np.ndarray:
        """Errors (outer fold, candidate, target) summed over the inner folds."""
        plan = self.job.plan
        pairs = list(combinations(range(plan.folds), 2))

        def one(f: int, g: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            both = plan.trials(plan.train[f] & plan.train[g])
            fitted = self.fit(both, list(range(len(self.candidates))), rng)
            return (
                self.errors(fitted, plan.trials(plan.held[g] & plan.train[f])),
                self.errors(fitted, plan.trials(plan.held[f] & plan.train[g])),
            )

        found = dask.compute(
            *[dask.delayed(one)(f, g, rng) for (f, g), rng in zip(pairs, rngs, strict=True)]
        )
        total = np.zeros((plan.folds, len(self.candidates), len(self.scale)))
        for (f, g), (of_f, of_g) in zip(pairs, found, strict=True):
            total[f] += of_f
            total[g] += of_g
        return total

    def run(self, rng: np.random.Generator) -> Decoded:
        """Scores of the folds and of the test split, with their null."""
        plan, folds = self.job.plan, self.job.plan.folds
        several = len(self.candidates) > 1
        inner = (
            self.inner_errors(rng.spawn(folds * (folds - 1) // 2))
            if several
            else np.zeros((folds, 1, len(self.scale)))
        )
        self.chosen_of_fold = [self.choose(inner[fold]) for fold in range(folds)]
        everything = list(range(len(self.candidates)))

        def one(fold: int, seed: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            train, held = plan.train[fold], plan.trials(plan.held[fold])
            chosen = self.chosen_of_fold[fold]
            own = not (train & ~plan.fitting).any()
            wanted = everything if several and own else np.unique(chosen).tolist()
            fitted = self.fit(plan.trials(train), wanted, seed)
            prediction = self.predict(chosen, fitted, held)
            r2, error = self.scores(held, prediction, folds=True)
            left_out = np.zeros((len(self.candidates), len(self.scale)))
            if several:
                if not own:
                    fitted = self.fit(plan.trials(train & plan.fitting), everything, seed)
                left_out = self.errors(fitted, plan.trials(plan.held[fold] & plan.fitting))
            return r2, error, left_out

        found = dask.compute(
            *[dask.delayed(one)(fold, seed) for fold, seed in enumerate(rng.spawn(folds))]
        )
        r2, error, left_out = zip(*found, strict=True)
        chosen = self.choose(np.sum(left_out, axis=0))
        test = self.test(chosen, rng)
        settings = [json.dumps(self.described(int(k))) for k in chosen]
        penalty = [float(self.candidates[k][1].get("penalty", np.nan)) for k in chosen]
        return Decoded(
            np.array(r2),
            np.array(error),
            np.array(penalty),
            test.r2,
            test.angular_error,
            test.prediction,
            chosen=[self.candidates[k][0] for k in chosen],
            settings=settings,
            spread=test.spread,
        )

    def described(self, candidate: int) -> Setting:
        """A candidate's setting, with the smoothing where there was a choice."""
        view, setting = self.candidates[candidate]
        width = {"smoothing": self.params.widths[view]} if len(self.views) > 1 else {}
        return {**setting, **width}

    def test(self, chosen: np.ndarray, rng: np.random.Generator) -> Tested:
        """Fit on train and valid, and score the test split."""
        plan, shape = self.job.plan, self.job.values.shape
        prediction, spread = np.full(shape, np.nan), None
        held = plan.trials(plan.test)
        if not self.job.mask[held].any() or not plan.fitting.any():
            labels = self.scores.labels
            empty = np.full((labels, shape[-1]), np.nan)
            return Tested(empty, np.full((labels, len(self.angles)), np.nan), prediction, None)
        fitted = self.fit(plan.trials(plan.fitting), np.unique(chosen).tolist(), rng)
        prediction[held] = self.predict(chosen, fitted, held)
        activity, predictor = fitted[int(chosen[0])]
        if hasattr(predictor, "spread"):
            spread = np.full(shape, np.nan)
            spread[held] = predictor.spread(activity, held)
        r2, error = self.scores(held, prediction[held], folds=False)
        return Tested(r2, error, prediction, spread)

    def ceiling(
        self,
        halves: list[tuple[np.ndarray, np.ndarray]],
        rng: np.random.Generator,
    ) -> Ceiling:
        """What this decoder's fits to two halves of the units agree on, held out."""
        plan = self.job.plan
        if not halves:
            return Ceiling()
        units = self.views[0].features.shape[-1]

        def one(fold: int, seed: np.random.Generator) -> Agreement:
            train, held = plan.trials(plan.train[fold]), plan.trials(plan.held[fold])
            chosen, used = self.chosen_of_fold[fold], self.job.mask[held]
            found = []
            for pair in halves:
                first, second = (
                    self.predict(
                        chosen, self.fit(train, np.unique(chosen).tolist(), seed, half), held
                    )[used]
                    for half in pair
                )
                found.append(correlation_of(first, second))
            return np.array(found), halves_factor(units)

        delayed = [dask.delayed(one)(f, r) for f, r in enumerate(rng.spawn(plan.folds))]
        return Ceiling.of(list(dask.compute(*delayed)))


@dataclass(frozen=True)
class Tested:
    """Scores and predictions of the test split; see :class:`Decoded`."""

    r2: np.ndarray
    angular_error: np.ndarray
    prediction: np.ndarray
    spread: np.ndarray | None


def _ridge_ceiling(
    job: Job, views: list[np.ndarray], halves: list[tuple[np.ndarray, np.ndarray]], lags: int
) -> Ceiling:
    """The ceiling of a ridge regression on the same bins, as far as their history is complete."""
    if not halves:
        return Ceiling()
    bins = job.mask.shape[1]
    history, complete = history_index(job.runs, bins, min(lags, bins), 0)
    own = np.arange(len(job.mask))[None]
    problem = Problem(views[0], history, job.values, job.mask & complete, own)
    return cross_validate(problem, job.plan, CEILING_PENALTIES, halves=halves).ceiling
