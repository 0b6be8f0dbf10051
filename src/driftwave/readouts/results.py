"""The labelled result of a decoder: scores beside their null, and the test split's predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from driftwave.readouts.crossval import Decoded
from driftwave.readouts.features import seen_bins
from driftwave.readouts.jobs import Job
from driftwave.readouts.null import p_value
from driftwave.readouts.targets import Target, angle_pairs
from driftwave.recording import trial_mask

REFITTED = (
    "fitted anew to circular shifts by bins",
    "fitted anew to permuted whole trials",
)

# Variables of the noise ceiling, and where Ceiling holds them.
CEILINGS = {"reliability": "reliability", "ceiling_r2": "r2", "ceiling_r2_sd": "sd"}
_CEILING_NAMES = {
    "reliability": "correlation of the held-out predictions of two halves of the units",
    "ceiling_r2": "bound on R2 by noise, if halves are interchangeable (Spearman-Brown)",
    "ceiling_r2_sd": "standard deviation over random halves",
}

# (source, target) -> scores of the folds (fold, label) and of the test split (label,)
Cells = dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]


def mean_folds(values: np.ndarray) -> np.ndarray:
    """Mean over the leading axis of what is there; NaN where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=0)
    total = np.where(there, values, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def score_variables(
    name: str,
    cells: Cells,
    shape: tuple[int, int],
    folds: int,
    *,
    dims: tuple[str, str, str],
    attrs: dict[str, str],
    smaller: bool = False,
) -> dict[str, Any]:
    """Scores by fold, their mean, the test split's, their nulls and p-values.

    Parameters
    ----------
    name : str
        ``r2``, ``angular_error`` or ``accuracy``; gives the variables their names.
    cells : Cells
        What was scored; the rest is NaN. Label 0 is the true one, the others are shuffles.
    shape : (int, int)
        Number of sources and of targets.
    folds : int
    dims : (str, str, str)
        Dims of sources, targets and shuffles.
    attrs : dict
        Unit and long name.
    smaller : bool
        Small scores are the good ones.
    """
    shuffles = min((len(test) for _, test in cells.values()), default=1) - 1
    by_fold, test = np.full((*shape, folds), np.nan), np.full(shape, np.nan)
    null = np.full((*shape, shuffles), np.nan)
    null_test = null.copy()
    for at, (fold_score, test_score) in cells.items():
        by_fold[at][: len(fold_score)] = fold_score[:, 0]
        test[at] = test_score[0]
        null[at] = mean_folds(fold_score[:, 1 : shuffles + 1])
        null_test[at] = test_score[1 : shuffles + 1]
    mean = mean_folds(np.moveaxis(by_fold, -1, 0))
    source, target, shuffle = dims
    suffix = "" if name == "r2" else f"_{name}"
    p = {"units": "1", "long_name": "permutation p-value"}
    return {
        f"{name}_fold": ((source, target, "fold"), by_fold, attrs),
        f"{name}_cv": ((source, target), mean, attrs),
        f"{name}_test": ((source, target), test, attrs),
        f"null_{name}": ((source, target, shuffle), null, attrs),
        f"null_{name}_test": ((source, target, shuffle), null_test, attrs),
        f"p_value{suffix}": ((source, target), p_value(mean, null, smaller=smaller), p),
        f"p_value{suffix}_test": ((source, target), p_value(test, null_test, smaller=smaller), p),
    }


def shuffles_used(variables: dict[str, Any]) -> int:
    """Size of the null of some scores; a short recording allows fewer shifts than asked for."""
    return min(value[1].shape[-1] for name, value in variables.items() if name.startswith("null_"))


class Results:
    """Collects the scores of all sources and targets; what was not decoded stays NaN."""

    def __init__(
        self,
        recording: xr.DataTree,
        sources: list[str],
        targets: list[Target],
        folds: int,
    ) -> None:
        self.recording, self.folds = recording, folds
        self.sources, self.targets = sources, targets
        self.angles = list(angle_pairs(targets))
        self.test = np.flatnonzero(trial_mask(recording, "test"))
        self.r2: Cells = {}
        self.angular_error: Cells = {}
        shape = len(sources), len(targets)
        self.penalty = np.full(shape, np.nan)
        self.ceilings = {name: np.full(shape, np.nan) for name in CEILINGS}
        self.setting = np.full(shape, "", dtype=object)
        self.spread: np.ndarray | None = None
        self.bins = np.zeros(len(targets), int)
        self.prediction = np.full(
            (*shape, len(self.test), seen_bins(recording)), np.nan, np.float32
        )

    def add_regression(self, source: str, job: Job, decoded: Decoded) -> None:
        """Keep the scores and predictions of one group of targets."""
        s = self.sources.index(source)
        used = trial_mask(self.recording, "train", "valid", "test")
        for column, position in enumerate(job.positions):
            self.r2[s, position] = decoded.r2_fold[..., column], decoded.r2_test[..., column]
            self.penalty[s, position] = decoded.penalty[column]
            self.prediction[s, position] = decoded.prediction[self.test, :, column]
            self.bins[position] = job.mask[used].sum()
            for name, part in CEILINGS.items():
                values = getattr(decoded.ceiling, part)
                if values is not None:
                    self.ceilings[name][s, position] = values[column]
            if decoded.settings:
                self.setting[s, position] = decoded.settings[column]
            if decoded.spread is not None:
                if self.spread is None:
                    self.spread = np.full(self.prediction.shape, np.nan, np.float32)
                self.spread[s, position] = decoded.spread[self.test, :, column]
        for k, angle in enumerate(angle_pairs(job.targets)):
            self.angular_error[s, self.angles.index(angle)] = (
                decoded.angular_error_fold[..., k],
                decoded.angular_error_test[..., k],
            )

    def dataset(
        self,
        *,
        lags: int,
        validate_on: str,
        params: str,
        seed: int,
        null: str | None = None,
        ceiling: str = "this decoder",
    ) -> xr.Dataset:
        """All scores as one labelled dataset.

        Parameters
        ----------
        lags : int
        validate_on : str
        params : str
            As JSON.
        seed : int
        null : str, optional
            What the null does; by default each shuffle is fitted anew.
        ceiling : str
            The decoder that the noise ceiling is of.
        """
        variables: dict[str, Any] = {}
        coords: dict[str, Any] = {"features_from": self.sources}
        if self.targets:
            variables |= self._regression()
            coords |= self._target_coords()
        if self.angles:
            variables |= score_variables(
                "angular_error",
                self.angular_error,
                (len(self.sources), len(self.angles)),
                self.folds,
                dims=("features_from", "angle", "shuffle"),
                attrs={"units": "degree", "long_name": "median absolute angular error"},
                smaller=True,
            )
            coords["angle"] = self.angles
        contiguous = bool(self.recording["spikes"].attrs.get("contiguous", False))
        left = [t.name for i, t in enumerate(self.targets) if (0, i) not in self.r2]
        attrs = {
            "session": self.recording.attrs["session"],
            "folds": "contiguous blocks" if contiguous else "whole trials, stratified by condition",
            "null": null or (REFITTED[0] if contiguous else REFITTED[1]),
            "shuffles_used": shuffles_used(variables) if variables else 0,
            "noise_ceiling": f"two random halves of the units, {ceiling}",
            "validated_on": "train and valid" if validate_on == "fitting" else "all splits",
            "lags": lags,
            "bin_width": float(self.recording["spikes"].attrs["bin_width"]),
            "note": f"constant, so not decoded: {', '.join(left)}" if left else "",
            "params": params,
            "seed": seed,
        }
        return xr.Dataset(variables, coords, attrs)

    def _target_coords(self) -> dict[str, Any]:
        spikes = self.recording["spikes"].to_dataset()
        return {
            "target": [t.name for t in self.targets],
            "feature": ("target", [t.feature for t in self.targets]),
            "component": ("target", [t.component for t in self.targets]),
            "per": ("target", [t.per for t in self.targets]),
            "unit_of_measure": ("target", [t.unit for t in self.targets]),
            "test_trial": spikes["trial"].values[self.test],
            "time": ("time", spikes["time"].values[: seen_bins(self.recording)], {"units": "s"}),
        }

    def _regression(self) -> dict[str, Any]:
        used = trial_mask(self.recording, "train", "valid", "test")
        missing = [int((~np.isfinite(t.values[used])).sum()) for t in self.targets]
        true = np.empty(self.prediction.shape[1:], np.float32)
        for column, target in enumerate(self.targets):
            true[column] = target.values[self.test]  # a stimulus has one value for all bins
        dims = ("target", "test_trial", "time")
        own = {"units": "unit_of_measure"}
        return score_variables(
            "r2",
            self.r2,
            self.penalty.shape,
            self.folds,
            dims=("features_from", "target", "shuffle"),
            attrs={"units": "1", "long_name": "R2"},
        ) | {
            "penalty": (("features_from", "target"), self.penalty, {"units": "1"}),
            **{
                name: (
                    ("features_from", "target"),
                    values,
                    {"units": "1", "long_name": _CEILING_NAMES[name]},
                )
                for name, values in self.ceilings.items()
            },
            **self._optional(own),
            "prediction": (("features_from", *dims), self.prediction, own),
            "target_value": (dims, true, own),
            "bins_decoded": ("target", self.bins, {"units": "1"}),
            "bins_missing": ("target", missing, {"units": "1", "long_name": "NaN in the source"}),
        }

    def _optional(self, own: dict[str, str]) -> dict[str, Any]:
        """Settings in words and predictive standard deviations, of decoders that have them."""
        found: dict[str, Any] = {}
        if (self.setting != "").any():
            note = {"units": "1", "long_name": "setting of the decoder of the test split"}
            found["setting"] = (("features_from", "target"), self.setting.astype(str), note)
        if self.spread is not None:
            note = {**own, "long_name": "predictive standard deviation"}
            dims = ("features_from", "target", "test_trial", "time")
            found["prediction_sd"] = (dims, self.spread, note)
        return found
