"""Principal components of trial trajectories, with the participation ratio against its null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.geometry.conditions import Conditions, find_conditions
from driftwave.geometry.dimension import (
    Components,
    participation_ratio,
    principal_components,
    shifted_participation_ratios,
)
from driftwave.readouts.features import features_of, seen_bins
from driftwave.readouts.null import p_value
from driftwave.recording import held_out_units, trial_mask

PAPER = "Gao et al. 2017, 10.1101/214262 (participation ratio)"


class Params(BaseModel):
    """Parameters of the analysis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    components: int = Field(10, ge=3, description="Principal components kept.")
    shuffles: int = Field(200, ge=100, description="Circular shifts of the null.")
    smoothing: float = Field(
        0.05, ge=0, description="Standard deviation (s) of the Gaussian that smooths the counts."
    )
    rate_transform: Literal["sqrt", "log"] = Field(
        "sqrt", description="Transform of a model's rates."
    )
    standardise: bool = Field(
        False, description="Give every unit or latent the same variance first."
    )


@dataclass(frozen=True)
class Geometry:
    """What is found for one set of features; ``level`` is trials, then conditions if any.

    Attributes
    ----------
    components : Components
        Of condition averages, or of trials where there are no conditions.
    averages : ndarray (condition, time, dim)
    features : ndarray (trial, time, dim)
    ratio, ratio_test : ndarray (level, component)
    participation : ndarray (level,)
    null : ndarray (level, shuffle)
    """

    components: Components
    averages: np.ndarray
    features: np.ndarray
    ratio: np.ndarray
    ratio_test: np.ndarray
    participation: np.ndarray
    null: np.ndarray


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Principal components of smoothed counts (``latents`` None) or of a model's output.

    Conditions are those of the trials; where there is one only, sectors or quantiles of the
    behaviour (attribute ``condition_rule``). Components and participation ratio are those of all
    bins of single trials (level ``trials``) and of condition averages (level ``conditions``). The
    null shifts every unit or latent circularly by itself: its variance and autocorrelation stay,
    its coordination with the others goes. Seen bins and used trials only.

    Parameters
    ----------
    recording : DataTree
        With spikes and trials.
    latents : Dataset or None
        ``rate (trial, time, unit)`` in Hz and/or ``latent (trial, time, latent)``.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``trajectory (features_from, condition, time, component)``, or ``condition_state``
        (features_from, condition, component) for conditions of the behaviour;
        ``trial_projection (features_from, trial, time, component)``; ``loading_<features>``;
        ``explained_variance_ratio`` and ``explained_variance_ratio_test`` (components of train
        and valid trials, variance of test trials) (features_from, level, component);
        ``participation_ratio``, ``p_value`` (features_from, level) and
        ``null_participation_ratio (features_from, level, shuffle)``.

    Raises
    ------
    InputError
        No spikes; latents without trials; activity that does not vary.
    """
    sources = features_of(
        recording,
        latents,
        smoothing=params.smoothing,
        units="held_in",
        rate_transform=params.rate_transform,
        needed_by="the manifold",
    )
    sources.pop("counts", None)  # bins of single spikes fill all dims evenly
    conditions = find_conditions(recording)
    used = trial_mask(recording, "train", "valid", "test")
    test = trial_mask(recording, "test")
    found = {}
    for name, features in sources.items():
        rng = generator(seed, "manifold", name)
        if not np.ptp(features[used], axis=(0, 1)).any():
            raise InputError(
                file=recording.attrs["session"],
                field=name,
                found="no variation at all in the trials used",
                expected="activity that varies",
                fix="Check the alignment and window of the layout, or the fit of the model",
            )
        found[name] = geometry(features, conditions, used, test, params, rng)
    return _dataset(recording, found, conditions, used, params, seed)


def geometry(
    features: np.ndarray,
    conditions: Conditions,
    used: np.ndarray,
    test: np.ndarray,
    params: Params,
    rng: np.random.Generator,
) -> Geometry:
    """Components, participation ratio and its null for one set of features.

    Parameters
    ----------
    features : ndarray (trial, time, dim)
    conditions : Conditions
    used, test : ndarray of bool (trial,)
        Trials that count, and those of the test split.
    params : Params
    rng : Generator
    """
    if params.standardise:
        spread = features[used].std(axis=(0, 1))
        features = features / np.where(spread > 0, spread, 1)
    averages = conditions.averages(features)
    levels = [
        _Level(*(features[mask].reshape(-1, features.shape[-1]) for mask in _masks(used, test)))
    ]
    if conditions.labels:
        parts = (conditions.within(mask).averages(features) for mask in _masks(used, test))
        levels.append(_Level(*map(_finite_rows, parts)))
    fitted = [principal_components(level.all, params.components) for level in levels]
    return Geometry(
        components=fitted[-1],
        averages=averages,
        features=features,
        ratio=np.array([_filled(c.ratio, params.components, features) for c in fitted]),
        ratio_test=np.array([level.test_ratio(params.components) for level in levels]),
        participation=np.array([participation_ratio(level.all) for level in levels]),
        null=np.array(
            [shifted_participation_ratios(level.all, params.shuffles, rng) for level in levels]
        ),
    )


@dataclass(frozen=True)
class _Level:
    """Rows (row, dim) of all trials, of those fitted on, and of the test split."""

    all: np.ndarray
    fit: np.ndarray
    test: np.ndarray

    def test_ratio(self, count: int) -> np.ndarray:
        if len(self.test) < 2 or len(self.fit) < 2 or not np.ptp(self.fit, axis=0).any():
            return np.full(min(count, self.all.shape[1]), np.nan)
        return _filled(principal_components(self.fit, count).ratio_of(self.test), count, self.all)


def _filled(ratio: np.ndarray, count: int, values: np.ndarray) -> np.ndarray:
    """Shares of no variance for dims beyond those that few rows fill."""
    return np.pad(ratio, (0, min(count, values.shape[-1]) - len(ratio)))


def _masks(used: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return used, used & ~test, test


def _finite_rows(averages: np.ndarray) -> np.ndarray:
    rows = averages.reshape(-1, averages.shape[-1])
    return rows[np.isfinite(rows).all(axis=1)]


def _dataset(
    recording: xr.DataTree,
    found: Mapping[str, Geometry],
    conditions: Conditions,
    used: np.ndarray,
    params: Params,
    seed: int,
) -> xr.Dataset:
    spikes = recording["spikes"].to_dataset()
    levels = ["trials", "conditions"] if conditions.labels else ["trials"]
    time = spikes["time"].values[: seen_bins(recording)]
    own = {"units": "arbitrary"}
    variables: dict[str, Any] = _scores(found, params.components)
    projections = [g.components.project(g.features[used]) for g in found.values()]
    variables["trial_projection"] = (
        ("features_from", "trial", "time", "component"),
        _stacked(projections, params.components).astype(np.float32),
        own,
    )
    if conditions.labels:
        averages = [g.components.project(g.averages) for g in found.values()]
        stacked = _stacked(averages, params.components)
        dims = ("features_from", "condition", "time", "component")
        if conditions.by_trial:
            variables["trajectory"] = dims, stacked, own
        else:
            variables["condition_state"] = (dims[0], dims[1], dims[3]), stacked[:, :, 0], own
    variables |= _loadings(recording, found)
    of_trial = conditions.of[used] if conditions.by_trial else np.full(int(used.sum()), -1)
    coords = {
        "features_from": list(found),
        "level": levels,
        "component": np.arange(1, params.components + 1),
        "trial": spikes["trial"].values[used],
        "time": ("time", time, {"units": "s"}),
        "condition_of_trial": ("trial", of_trial),
    }
    if conditions.labels:
        coords["condition"] = conditions.labels
    attrs = {
        "session": recording.attrs["session"],
        "condition_rule": conditions.rule,
        "conditions_circular": conditions.circular,
        "null": "circular shift of each dim by itself",
        "bin_width": float(spikes.attrs["bin_width"]),
        "params": params.model_dump_json(),
        "seed": seed,
    }
    return xr.Dataset(variables, coords, attrs)


def _stacked(arrays: list[np.ndarray], components: int) -> np.ndarray:
    """Stack sets of features on a leading axis, the last axis filled up with NaN."""
    out = np.full((len(arrays), *arrays[0].shape[:-1], components), np.nan)
    for row, array in zip(out, arrays, strict=True):
        row[..., : array.shape[-1]] = array
    return out


def _scores(found: Mapping[str, Geometry], components: int) -> dict[str, Any]:
    everything = list(found.values())
    participation = np.array([g.participation for g in everything])
    null = np.array([g.null for g in everything])
    dims = ("features_from", "level")
    share = {"units": "1", "long_name": "share of variance"}
    test = {"units": "1", "long_name": "share of the test split's variance, other trials' axes"}
    ratio = {"units": "dimensions", "long_name": "participation ratio"}
    return {
        "explained_variance_ratio": (
            (*dims, "component"),
            _stacked([g.ratio for g in everything], components),
            share,
        ),
        "explained_variance_ratio_test": (
            (*dims, "component"),
            _stacked([g.ratio_test for g in everything], components),
            test,
        ),
        "participation_ratio": (dims, participation, ratio),
        "null_participation_ratio": ((*dims, "shuffle"), null, ratio),
        "p_value": (dims, p_value(participation, null, smaller=True), {"units": "1"}),
    }


def _loadings(recording: xr.DataTree, found: Mapping[str, Geometry]) -> dict[str, Any]:
    """Loadings (unit or latent, component) of each set of features."""
    variables: dict[str, Any] = {}
    for name, geometry_found in found.items():
        axes = geometry_found.components.axes
        dims = ("latent" if name == "latents" else f"unit_of_{name}", f"component_of_{name}")
        variables[f"loading_{name}"] = dims, axes, {"units": "1"}
        if name == "smoothed_counts":
            units = recording["spikes"].dataset["unit"].values[~held_out_units(recording)]
            variables[f"unit_{name}"] = dims[0], units, {"units": "1", "long_name": "unit"}
    return variables
