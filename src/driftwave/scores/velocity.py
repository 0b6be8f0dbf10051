"""Behaviour read out of predicted rates by ridge regression (velocity R2).

Definition: Pei, Ye et al. 2021, "Neural Latents Benchmark '21": the penalty is one of nine, chosen
by five contiguous folds of the training samples; R2 is the plain mean over the behaviour's
features, and over decoders where groups of trials have their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from sklearn.metrics import r2_score

from driftwave.scores.r_squared import r2_sums
from driftwave.scores.trial_sums import TrialSums

PENALTIES = np.logspace(-4, 0, 9)
FOLDS = 5


def velocity_r2(
    train_rates: np.ndarray,
    train_behavior: np.ndarray,
    rates: np.ndarray,
    behavior: np.ndarray,
    train_groups: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> float:
    """R2 of behaviour read out of rates; the parameters are those of :func:`decoded`."""
    found = decoded(train_rates, train_behavior, rates, behavior, train_groups, groups)
    scores = []
    for predicted, truth in found:
        there = np.isfinite(truth).all(-1)
        scores.append(r2_score(truth[there], predicted[there]))
    return float(np.mean(scores))


def velocity_sums(
    train_rates: np.ndarray,
    train_behavior: np.ndarray,
    rates: np.ndarray,
    behavior: np.ndarray,
    train_groups: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> TrialSums:
    """Per-trial sums from which the R2 of any set of trials follows, the decoders held fixed.

    The parameters are those of :func:`decoded`. A shuffle deals rates within a group.
    """
    found = decoded(train_rates, train_behavior, rates, behavior, train_groups, groups)
    trials = len(rates)
    own = _all_trials(trials) if groups is None else groups.astype(bool)
    parts = []
    for members, (predicted, truth) in zip(own.T, found, strict=True):
        part = r2_sums(predicted, truth)
        sums = np.zeros((trials, *part.sums.shape[1:]))
        sums[members] = part.sums
        # Normalised by all trials later on, where the group's own would be right.
        share = (trials - 1) / (members.sum() - 1) if members.sum() > 1 else np.nan
        parts.append(replace(part, sums=sums, other_trials=part.other_trials * share))
    return TrialSums(
        sums=np.concatenate([part.sums for part in parts], axis=2),
        formula=parts[0].formula,
        other_trials=np.concatenate([part.other_trials for part in parts]),
    )


def decoded(
    train_rates: np.ndarray,
    train_behavior: np.ndarray,
    rates: np.ndarray,
    behavior: np.ndarray,
    train_groups: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Behaviour of the evaluation trials as read out of their rates, and as it was.

    Parameters
    ----------
    train_rates, rates : ndarray (trial, time, unit)
        Rates predicted for training and evaluation trials.
    train_behavior, behavior : ndarray (trial, time, feature)
        Bins with a NaN feature are not fitted to, nor scored.
    train_groups, groups : ndarray of bool (trial, group), optional
        Trials that share a decoder; default one decoder for all.

    Returns
    -------
    list of (predicted, truth)
        One pair (trial of the group, time, feature) per group; the truth is NaN throughout a bin
        that is not scored.

    Raises
    ------
    ValueError
        On rates that are NaN or infinite where there is behaviour, or a group without enough
        behaviour to fit and choose a penalty.
    """
    train_rates, rates = np.asarray(train_rates, dtype=float), np.asarray(rates, dtype=float)
    train_own = _all_trials(len(train_rates)) if train_groups is None else train_groups
    own = _all_trials(len(rates)) if groups is None else groups
    pairs = []
    for train_members, members in zip(train_own.astype(bool).T, own.astype(bool).T, strict=True):
        goal = train_behavior[train_members]
        there = np.isfinite(goal).all(-1)
        features = train_rates[train_members][there]
        truth = behavior[members]
        scored = np.isfinite(truth).all(-1, keepdims=True)
        shown = rates[members]
        if not (np.isfinite(features).all() and np.isfinite(shown[scored[..., 0]]).all()):
            raise ValueError("rates hold NaN or infinite values where there is behaviour")
        if len(features) < 2 * FOLDS or not scored.any():
            raise ValueError("a group of trials has too little behaviour to read out")
        weights, offset = _fit(features, goal[there])
        predicted = np.where(np.isfinite(shown), shown, 0.0) @ weights + offset
        pairs.append((predicted, np.where(scored, truth, np.nan)))
    return pairs


def _all_trials(trials: int) -> np.ndarray:
    return np.ones((trials, 1), dtype=bool)


def _fit(features: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (unit, feature) and offset (feature,) of the best penalty.

    Sums over each fold give those of every training set by subtraction, so that all penalties and
    folds together cost one pass over the samples.
    """
    level, height = features.mean(0), goal.mean(0)
    design, goal = features - level, goal - height
    folds = np.array_split(np.arange(len(design)), FOLDS)
    sums = [_sums(design[rows], goal[rows]) for rows in folds]
    total = [sum(parts) for parts in zip(*sums, strict=True)]
    scores = np.zeros(len(PENALTIES))
    for rows, part in zip(folds, sums, strict=True):
        kept = [whole - fold for whole, fold in zip(total, part, strict=True)]
        for index, (weights, offset) in enumerate(_solve(kept, PENALTIES)):
            scores[index] += r2_score(goal[rows], design[rows] @ weights + offset)
    ((weights, offset),) = _solve(total, PENALTIES[[int(np.argmax(scores))]])
    return weights, offset + height - level @ weights


def _sums(design: np.ndarray, goal: np.ndarray) -> tuple:
    """Number of samples, first and second moments."""
    return len(design), design.sum(0), goal.sum(0), design.T @ design, design.T @ goal


def _solve(sums: list, penalties: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ridge with an unpenalised offset, for each penalty, from the moments of the samples."""
    number, first, goal, gram, drive = sums
    centre, height = first / number, goal / number
    strength, basis = np.linalg.eigh(gram - number * np.outer(centre, centre))
    strength = np.maximum(strength, 0)[:, None]
    drive = basis.T @ (drive - number * np.outer(centre, height))
    for penalty in penalties:
        weights = basis @ (drive / (strength + penalty))
        yield weights, height - centre @ weights
