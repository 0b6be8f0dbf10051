"""Bayesian decoding of a position or an angle from tuning curves and Poisson counts."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.readouts.features import abutting_runs, features_of, seen_bins
from driftwave.readouts.heldout import held_out_name
from driftwave.readouts.jobs import Scheme, plan_and_labels
from driftwave.readouts.location import Choices, Located, Task, locate
from driftwave.readouts.place_fields import Track
from driftwave.readouts.results import Cells, score_variables, shuffles_used
from driftwave.recording import require, trial_mask

DECODES = "behaviour"
PAPER = "Zhang et al. 1998 J Neurophysiol 79:1017; Viejo et al. 2023 eLife 12:RP85786 (pynapple)"
QUICK = {"shuffles": 19, "windows": (0.06,), "smoothings": (1.0,), "bins": 12}


class Params(BaseModel):
    """Parameters of the decoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    behaviour: tuple[str, ...] | None = Field(
        None, min_length=1, description="Behavioural features decoded; default the first."
    )
    bins: int = Field(40, ge=3, description="Bins of the feature, over its range or the circle.")
    windows: tuple[float, ...] = Field(
        (0.25, 0.5, 1.0),
        min_length=1,
        description="Widths (s) of the counting window tried; the best is chosen inside the "
        "training fold.",
    )
    smoothings: tuple[float, ...] = Field(
        (1.0, 2.0, 4.0),
        min_length=1,
        description="Standard deviations (bins of the feature) of the tuning curves' Gaussian "
        "tried; the best is chosen inside the training fold.",
    )
    estimate: Literal["map", "mean", "either"] = Field(
        "either",
        description="Position read from the posterior: its peak, its mean, or whichever is better "
        "inside the training fold.",
    )
    prior: Literal["uniform", "occupancy"] = Field(
        "uniform", description="Prior over positions: flat, or as often as they were visited."
    )
    lowest_rate: float = Field(
        0.05, gt=0, description="Rates of tuning curves are at least this (Hz)."
    )
    folds: int = Field(5, ge=3, description="Folds of whole trials, or of contiguous blocks.")
    gap: int = Field(
        1,
        ge=0,
        description="Windows left out of training either side of a held block, if abutting.",
    )
    shuffles: int = Field(
        1000,
        ge=1,
        description="Circular shifts by bins (or permutations of trials) of the null; a short "
        "recording allows fewer shifts.",
    )
    units: Literal["held_in", "all"] = Field(
        "held_in", description="Units whose counts are decoded; held-in units are what models see."
    )


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Decode behaviour from counts, or from the counts that a model's rates predict.

    Tuning curves are those of the training bins alone; window, smoothing and estimate are chosen
    on inner folds by the mean absolute error. Bins without the feature (the animal stands still,
    say) train nothing and are not scored. The null scores the same held-out estimates against the
    feature shifted circularly by bins over the whole recording (or of other trials of the fold,
    where trials do not abut).

    Parameters
    ----------
    recording : DataTree
        With spikes and behaviour.
    latents : Dataset or None
        With ``rate (trial, time, unit)`` in Hz.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``median_error_*`` of features on a line, in their unit, with ``r2_*``, and
        ``angular_error_*`` of angles, degrees: ``_fold``, ``_cv``, ``_test``, nulls and p-values;
        ``prediction``, ``target_value`` and ``posterior (features_from, target, test_trial, time,
        position_bin)`` of the test split; ``position (target, position_bin)``.

    Raises
    ------
    InputError
        No spikes or behaviour; no such feature, or a constant one; no unit that fires; too few
        trials; latents without rates.
    """
    behaviour = require(recording, "behavior", "bayesian_position")
    names = _chosen(recording, behaviour, params)
    source, counts = _counts(recording, latents, params)
    contiguous = bool(recording["spikes"].attrs.get("contiguous", False))
    scheme = Scheme(params.folds, params.gap, params.shuffles, "fitting", seed)
    choices = Choices(
        params.windows,
        params.smoothings,
        ("mean", "map") if params.estimate == "either" else (params.estimate,),
        params.prior == "uniform",
        params.lowest_rate,
        params.shuffles,
    )
    found: dict[str, tuple[Task, Located]] = {}
    for name in names:
        one = behaviour.sel(feature=name)
        values = one["value"].transpose("trial", "time").values[:, : seen_bins(recording)]
        values = values.astype(float)
        circular = str(one["kind"].values) == "circular"
        there = np.isfinite(values).any(axis=1)
        plan, labels = plan_and_labels(recording, there, scheme, what=name, bins=values.shape[1])
        fitted = values[plan.trials(plan.fitting)]
        track = Track.over(fitted, params.bins, circular=circular)
        width = float(recording["spikes"].attrs["bin_width"])
        task = Task(counts, values, abutting_runs(recording), track, width, choices, labels)
        rng = generator(seed, "shifts", name)
        found[name] = task, locate(task, plan, rng)
    return _dataset(recording, source, behaviour, found, params, contiguous, seed)


def _chosen(recording: xr.DataTree, behaviour: xr.Dataset, params: Params) -> list[str]:
    """Names of the features decoded, each with more than one value."""
    known = [str(name) for name in behaviour["feature"].values]
    names = list(params.behaviour or known[:1])
    used = trial_mask(recording, "train", "valid")
    for name in names:
        values = behaviour["value"].sel(feature=name).values[used] if name in known else np.zeros(0)
        values = values[np.isfinite(values)]
        if len(values) < 2 or np.ptp(values) == 0:
            raise InputError(
                file=recording.attrs["session"],
                field=f"behavior/{name}",
                found="only constant or missing values" if name in known else "nothing",
                expected=f"one of the features {known}, with values that vary",
                fix="Name another feature in `behaviour`",
            )
    return names


def _counts(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params
) -> tuple[str, np.ndarray]:
    """Counts (trial, time, unit) of the seen bins, measured or expected; units that fire."""
    found = features_of(
        recording,
        latents,
        smoothing=0.0,
        units=params.units,
        rate_transform="sqrt",
        needed_by="bayesian_position",
    )
    name = "counts" if latents is None else "rates"
    if name not in found:
        raise InputError(
            file=recording.attrs["session"],
            field="rate",
            found=f"only {sorted(found)}",
            expected="a model's rates: the decoder is of Poisson counts",
            fix="Leave this decoder out for this model",
        )
    width = float(recording["spikes"].attrs["bin_width"])
    counts = found[name] ** 2 * (1.0 if latents is None else width)
    fires = counts[trial_mask(recording, "train", "valid")].sum(axis=(0, 1)) > 0
    if not fires.any():
        raise InputError(
            file=recording.attrs["session"],
            field="spikes/counts",
            found="no unit that fires in the train and valid splits",
            expected="at least one",
            fix="Look at the spikes of this session, or leave this decoder out",
        )
    return name, counts[..., fires]


def _dataset(
    recording: xr.DataTree,
    source: str,
    behaviour: xr.Dataset,
    found: dict[str, tuple[Task, Located]],
    params: Params,
    contiguous: bool,
    seed: int,
) -> xr.Dataset:
    names = list(found)
    units = [str(behaviour["unit_of_measure"].sel(feature=name).values) for name in names]
    test = np.flatnonzero(trial_mask(recording, "test"))
    spikes = recording["spikes"].to_dataset()
    dims = ("features_from", "target", "test_trial", "time")
    own = {"units": "unit_of_measure"}
    stacked = {
        "prediction": (dims, np.stack([f.estimate[test] for _, f in found.values()])[None], own),
        "target_value": (
            dims[1:],
            np.stack([task.values[test] for task, _ in found.values()]),
            own,
        ),
        "posterior": (
            (*dims, "position_bin"),
            np.stack([f.posterior[test] for _, f in found.values()])[None],
            {"units": "1", "long_name": "posterior probability of each bin of the feature"},
        ),
        "position": (
            ("target", "position_bin"),
            np.stack([task.track.centres for task, _ in found.values()]),
            own,
        ),
    }
    chosen = _chosen_settings(found, params.folds)
    coords: dict[str, Any] = {
        "features_from": [source],
        "target": names,
        "kind": (
            "target",
            ["circular" if t.track.circular else "continuous" for t, _ in found.values()],
        ),
        "unit_of_measure": ("target", units),
        "test_trial": spikes["trial"].values[test],
        "time": ("time", spikes["time"].values[: seen_bins(recording)], {"units": "s"}),
    }
    scores = _score_variables(found, names, params.folds)
    angles = [name for name, (task, _) in found.items() if task.track.circular]
    attrs = {
        "session": recording.attrs["session"],
        "folds": "contiguous blocks" if contiguous else "whole trials, stratified by condition",
        "null": held_out_name(contiguous),
        "shuffles_used": shuffles_used(scores),
        "validated_on": "train and valid",
        "bin_width": float(recording["spikes"].attrs["bin_width"]),
        "params": params.model_dump_json(),
        "seed": seed,
    }
    if angles:
        coords["angle"] = angles
    return xr.Dataset(scores | stacked | chosen, coords, attrs)


def _chosen_settings(found: dict[str, tuple[Task, Located]], folds: int) -> dict[str, Any]:
    """What each fold's decoder, and the test split's, was chosen to be."""
    values = np.full((3, len(found), folds + 1), np.nan)
    for column, (_, one) in enumerate(found.values()):
        for k, setting in enumerate(one.chosen):
            at = folds if k == len(one.chosen) - 1 else k
            values[:, column, at] = setting.window, setting.smoothing, setting.estimate == "mean"
    dims = ("target", "decoder")
    words = {
        "chosen_window": ("s", "counting window"),
        "chosen_smoothing": ("1", "smoothing of the tuning curves, bins of the feature"),
        "chosen_mean": ("1", "1 where the estimate is the posterior's mean, 0 its peak"),
    }
    return {
        name: (dims, part, {"units": unit, "long_name": f"{long}; the test split's last"})
        for (name, (unit, long)), part in zip(words.items(), values, strict=True)
    }


def _score_variables(
    found: dict[str, tuple[Task, Located]], names: list[str], folds: int
) -> dict[str, Any]:
    """Scores of features on a line by target, and of angles by angle."""
    lines: Cells = {}
    r2: Cells = {}
    angles: Cells = {}
    for name, (task, one) in found.items():
        if task.track.circular:
            angles[0, len(angles)] = one.error_fold, one.error_test
        else:
            lines[0, names.index(name)] = one.error_fold, one.error_test
            r2[0, names.index(name)] = one.r2_fold, one.r2_test
    variables: dict[str, Any] = {}
    if lines:
        shape, dims = (1, len(names)), ("features_from", "target", "shuffle")
        note = {"units": "unit_of_measure", "long_name": "median absolute error"}
        variables |= score_variables(
            "median_error", lines, shape, folds, dims=dims, attrs=note, smaller=True
        )
        note = {"units": "1", "long_name": "R2"}
        variables |= score_variables("r2", r2, shape, folds, dims=dims, attrs=note)
    if angles:
        variables |= score_variables(
            "angular_error",
            angles,
            (1, len(angles)),
            folds,
            dims=("features_from", "angle", "shuffle"),
            attrs={"units": "degree", "long_name": "median absolute angular error"},
            smaller=True,
        )
    return variables
