"""Scores of predicted rates in an h5 file against one of targets: the benchmark's evaluation.

Definitions: Pei, Ye et al. 2021, "Neural Latents Benchmark '21", and the code of the benchmark
(nlb_tools 0.0.4), with which the values agree to 1e-9. What the files hold is told in
:mod:`driftwave.scores.prediction_file`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from driftwave.errors import InputError
from driftwave.scores.bits_per_spike import bits_per_spike
from driftwave.scores.prediction_file import open_h5
from driftwave.scores.produced_interval import interval_correlation, speeds
from driftwave.scores.psth import psth_r2
from driftwave.scores.velocity import velocity_r2

# metric -> (name the benchmark gives it, unit)
METRICS = {
    "co_bps": ("co-bps", "bits/spike"),
    "vel_r2": ("vel R2", "R2"),
    "tp_corr": ("tp corr", "r"),
    "psth_r2": ("psth R2", "R2"),
    "fp_bps": ("fp-bps", "bits/spike"),
}
# Columns of trial-wise behaviour that make a condition; the last one is the produced interval.
_CONDITION_COLUMNS = 3


def evaluate(targets: str | Path, predictions: str | Path) -> pd.DataFrame:
    """Score every session that both files hold.

    Parameters
    ----------
    targets, predictions : path
        h5 files as :mod:`driftwave.scores.prediction_file` describes them.

    Returns
    -------
    DataFrame
        dataset, metric, value, unit, and the benchmark's own name of the metric.

    Raises
    ------
    InputError
        Naming the file, session and array: files without a common session, missing arrays, arrays
        whose shapes do not fit, rates that are negative, NaN or infinite.
    """
    rows = []
    with open_h5(targets) as truth, open_h5(predictions) as guess:
        common = [
            name
            for name in guess
            if "eval_rates_heldout" in guess[name]
            and name in truth
            and "eval_spikes_heldout" in truth[name]
        ]
        if not common:
            raise InputError(
                file=predictions,
                field="groups",
                found=f"{sorted(guess)}, targets {sorted(truth)}",
                expected="a session with eval_rates_heldout here and eval_spikes_heldout there",
                fix="Name the groups alike, such as mc_maze for 5 ms and mc_maze_20 for 20 ms bins",
            )
        for name in common:
            for metric, value in _scores(_Arrays(truth[name]), _Arrays(guess[name])):
                label, unit = METRICS[metric]
                rows.append((name, metric, value, unit, label))
    return pd.DataFrame(rows, columns=["dataset", "metric", "value", "unit", "benchmark_name"])


class _Arrays:
    """Arrays of one session in one file, with errors that name them."""

    def __init__(self, group: h5py.Group) -> None:
        self.group = group

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def fault(self, name: str, found: object, expected: object, fix: str) -> InputError:
        """An error about an array."""
        field = f"{self.group.name.strip('/')}/{name}"
        return InputError(
            file=self.group.file.filename, field=field, found=found, expected=expected, fix=fix
        )

    def read(self, name: str, like: tuple[int | None, ...] | None = None) -> np.ndarray:
        """An array as floats; ``like`` is its shape, None for any length."""
        if name not in self.group:
            raise self.fault(name, "nothing", "an array", "Export the file again")
        values = np.asarray(self.group[name][()], dtype=float)
        if like is not None:
            fits = values.ndim == len(like) and all(
                want in (None, size) for size, want in zip(values.shape, like, strict=True)
            )
            if not fits:
                wanted = " x ".join("any" if n is None else str(n) for n in like)
                raise self.fault(
                    name, f"shape {values.shape}", f"{wanted}, as the targets", "Export it again"
                )
        return values

    def both(self, prefix: str, like: tuple[int | None, ...], ending: str = "") -> np.ndarray:
        """Held-in and held-out rates, held-in units first."""
        first = self.read(f"{prefix}_rates_heldin{ending}", like)
        shape = (*first.shape[:2], None)
        second = self.read(f"{prefix}_rates_heldout{ending}", shape)
        return np.concatenate([first, second], axis=2)

    def checked(self, name: str, score: Callable[[], float]) -> float:
        """A score; what is wrong with the rates it is of becomes an error about ``name``."""
        try:
            return score()
        except ValueError as error:
            raise self.fault(
                name, str(error), "finite rates of at least 0, in spikes/bin", "Predict them again"
            ) from error


def _scores(truth: _Arrays, guess: _Arrays) -> Iterator[tuple[str, float]]:
    """Metric and value of one session, in the benchmark's order."""
    spikes = truth.read("eval_spikes_heldout", (None, None, None))
    hidden = guess.read("eval_rates_heldout", spikes.shape)
    rates = guess.both("eval", (*spikes.shape[:2], None))
    yield "co_bps", guess.checked("eval_rates_heldout", lambda: bits_per_spike(hidden, spikes))
    if "train_behavior" in truth and "eval_behavior" in truth:
        if truth.group["eval_behavior"].ndim == 2:
            yield "tp_corr", _interval_correlation(truth, spikes, rates)
        else:
            yield "vel_r2", _velocity_r2(truth, guess, rates)
    if "psth" in truth:
        yield "psth_r2", _psth_r2(truth, guess, rates)
    if "eval_spikes_heldin_forward" in truth and "eval_rates_heldin_forward" in guess:
        parts = [truth.read(f"eval_spikes_{p}_forward", (len(spikes), None, None)) for p in _PARTS]
        forward = [
            guess.read(f"eval_rates_{p}_forward", counts.shape)
            for p, counts in zip(_PARTS, parts, strict=True)
        ]
        joined = np.concatenate(forward, 2), np.concatenate(parts, 2)
        yield "fp_bps", guess.checked("eval_rates_*_forward", lambda: bits_per_spike(*joined))


_PARTS = ("heldin", "heldout")


def _interval_correlation(truth: _Arrays, spikes: np.ndarray, rates: np.ndarray) -> float:
    behavior = truth.read("eval_behavior", (len(rates), None))
    speed = speeds(rates, ~np.isnan(spikes[..., 0]))
    return interval_correlation(speed, behavior[:, -1], behavior[:, :_CONDITION_COLUMNS])


def _velocity_r2(truth: _Arrays, guess: _Arrays, rates: np.ndarray) -> float:
    behavior = truth.read("eval_behavior", (*rates.shape[:2], None))
    train_behavior = truth.read("train_behavior", (None, None, behavior.shape[2]))
    train_rates = guess.both("train", (*train_behavior.shape[:2], None))
    if train_rates.shape[2] != rates.shape[2]:
        raise guess.fault(
            "train_rates_heldin, train_rates_heldout",
            f"{train_rates.shape[2]} units together",
            f"{rates.shape[2]}, as in eval_rates_heldin and eval_rates_heldout",
            "Export them again",
        )
    groups: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    if "train_decode_mask" in truth:
        masks = [truth.read(f"{part}_decode_mask") for part in ("train", "eval")]
        groups = (masks[0].astype(bool), masks[1].astype(bool))
    return guess.checked(
        "train_rates_*, eval_rates_*",
        lambda: velocity_r2(train_rates, train_behavior, rates, behavior, *groups),
    )


def _psth_r2(truth: _Arrays, guess: _Arrays, rates: np.ndarray) -> float:
    psth = truth.read("psth", (None, *rates.shape[1:]))
    conditions = list(truth.group["eval_cond_idx"][()])
    jitter = truth.read("eval_jitter", (len(rates),)) if "eval_jitter" in truth else None
    return guess.checked("eval_rates_*", lambda: psth_r2(psth, rates, conditions, jitter))
