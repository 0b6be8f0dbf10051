"""What a decoder is given: binned activity or a model's output, with its recent past."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from driftwave.errors import InputError
from driftwave.recording import forward_bins, held_out_units, require

# Log rates below this (Hz) carry no more information than "silent", but would be far outliers.
LOWEST_RATE = 0.1


def seen_bins(recording: xr.DataTree) -> int:
    """Number of leading bins of a trial that a model may see at evaluation."""
    return int(recording["spikes"].sizes["time"]) - forward_bins(recording)


def abutting_runs(recording: xr.DataTree) -> np.ndarray:
    """Index (trial,) of the run each trial belongs to: within a run, seen bins abut in time.

    Every trial is a run of its own unless the recording is continuous and nothing is hidden at
    the end of its windows; a missing window ends a run.
    """
    spikes = recording["spikes"].to_dataset()
    trials = spikes.sizes["trial"]
    if not spikes.attrs.get("contiguous", False) or forward_bins(recording):
        return np.arange(trials)
    length = spikes.sizes["time"] * float(spikes.attrs["bin_width"])
    step = np.diff(spikes["trial_start"].values)
    broken = np.abs(step - length) > 0.5 * float(spikes.attrs["bin_width"])
    return np.concatenate([[0], np.cumsum(broken)]).astype(int)


def history_index(
    runs: np.ndarray, bins: int, lags: int, ahead: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the flattened (trial, time) axis that hold each bin and its past (and future).

    Parameters
    ----------
    runs : ndarray of int (trial,)
        As from :func:`abutting_runs`; history never crosses from one run into another.
    bins : int
        Bins per trial.
    lags : int
        Bins of history, the current one included.
    ahead : int
        Bins of the future, which follow those of the past.

    Returns
    -------
    index : ndarray of int (trial, time, lag)
        Lag 0 is the bin itself. Meaningless where the history is not complete.
    complete : ndarray of bool (trial, time)
        Whether all bins lie in the bin's run.
    """
    position = np.arange(len(runs) * bins).reshape(len(runs), bins)
    first_trial = np.searchsorted(runs, runs)
    stop_trial = np.searchsorted(runs, runs, side="right")
    offsets = np.concatenate([-np.arange(lags), np.arange(1, ahead + 1)])
    index = position[..., None] + offsets
    complete = position - lags + 1 >= (first_trial * bins)[:, None]
    complete &= position + ahead < (stop_trial * bins)[:, None]
    return np.clip(index, 0, position.size - 1), complete


def smooth(values: np.ndarray, runs: np.ndarray, width: float) -> np.ndarray:
    """Gaussian smoothing along time within runs, unbiased at their ends.

    Parameters
    ----------
    values : ndarray (trial, time, unit)
    runs : ndarray of int (trial,)
    width : float
        Standard deviation in bins; 0 returns the values.
    """
    if width == 0:
        return values
    out = np.empty(values.shape)
    starts = np.flatnonzero(np.diff(runs, prepend=-1))
    if len(starts) == len(runs):
        return _smooth_axis(values, 1, width)
    for start, stop in zip(starts, [*starts[1:], len(runs)], strict=True):
        flat = values[start:stop].reshape(-1, values.shape[-1])
        out[start:stop] = _smooth_axis(flat, 0, width).reshape(values[start:stop].shape)
    return out


def _smooth_axis(values: np.ndarray, axis: int, width: float) -> np.ndarray:
    shape = [1] * values.ndim
    shape[axis] = values.shape[axis]
    filtered = gaussian_filter1d(values.astype(float), width, axis=axis, mode="constant")
    return filtered / gaussian_filter1d(np.ones(shape), width, axis=axis, mode="constant")


def count_features(
    recording: xr.DataTree, *, smoothing: float, units: str
) -> dict[str, np.ndarray]:
    """Square-root counts and square-root smoothed counts of the seen bins.

    Parameters
    ----------
    recording : DataTree
    smoothing : float
        Standard deviation of the Gaussian, s.
    units : {"held_in", "all"}
        Held-in units are what a model sees, so that models are compared on equal terms.

    Returns
    -------
    dict of ndarray (trial, time, unit)
        Keys ``counts`` and ``smoothed_counts``.
    """
    kept = ~held_out_units(recording)
    if units == "all":
        kept = np.ones_like(kept)
    counts = recording["spikes"].dataset["counts"].transpose("trial", "time", "unit").values
    counts = counts[:, : seen_bins(recording), kept].astype(float)
    width = smoothing / float(recording["spikes"].attrs["bin_width"])
    smoothed = smooth(counts, abutting_runs(recording), width)
    return {"counts": np.sqrt(counts), "smoothed_counts": np.sqrt(smoothed)}


def model_features(
    recording: xr.DataTree, latents: xr.Dataset, *, rate_transform: str, needed_by: str
) -> dict[str, np.ndarray]:
    """Rates (log or square root) and latents of a model in the seen bins.

    Returns
    -------
    dict of ndarray (trial, time, unit) and (trial, time, latent)
        Keys ``rates`` and ``latents``, whichever the model has.

    Raises
    ------
    InputError
        The latents have no trials (a model of the field), are of other trials, or are empty.
    """
    name = str(latents.attrs.get("model", "latents"))
    check_latents(recording, latents, name, needed_by)
    bins = seen_bins(recording)
    found: dict[str, np.ndarray] = {}
    if "rate" in latents:
        rate = latents["rate"].transpose("trial", "time", "unit").values[:, :bins].astype(float)
        clipped = np.maximum(rate, LOWEST_RATE)
        found["rates"] = np.log(clipped) if rate_transform == "log" else np.sqrt(rate)
    if "latent" in latents:
        latent = latents["latent"].transpose("trial", "time", "latent").values
        found["latents"] = latent[:, :bins].astype(float)
    _require_finite(found, name)
    return found


def check_latents(recording: xr.DataTree, latents: xr.Dataset, name: str, needed_by: str) -> None:
    """Refuse latents without trials or of other trials than the recording's."""
    wanted = activation_names(latents) or [key for key in ("rate", "latent") if key in latents]
    missing = [key for key in wanted if key not in latents]
    variables = [latents[key] for key in wanted if key in latents]
    if missing or not variables or any("trial" not in variable.dims for variable in variables):
        found = f"dims {variables[0].dims}" if variables else "neither rate nor latent"
        raise InputError(
            file=name,
            field="latent" if not missing else "activations",
            found=f"no variable {missing[0]!r}" if missing else found,
            expected="rate or latent with a trial dim" if not missing else "every name listed",
            fix=f"Leave {needed_by} out for this model (a model of the field has no trials)"
            if not missing
            else "Write the activations again",
        )
    trials = recording["spikes"].dataset["trial"].values
    if "trial" not in latents.coords or not np.array_equal(latents["trial"].values, trials):
        raise InputError(
            file=name,
            field="trial",
            found=f"{latents.sizes['trial']} trials",
            expected=f"the recording's {len(trials)} trials",
            fix="Fit the model to this recording again",
        )


def activation_names(latents: xr.Dataset) -> list[str]:
    """Names in ``attrs["activations"]`` (comma-separated); none where it is a model's output."""
    return [name.strip() for name in str(latents.attrs.get("activations", "")).split(",") if name]


def activation_features(
    recording: xr.DataTree, latents: xr.Dataset, *, needed_by: str
) -> dict[str, np.ndarray]:
    """Hidden units' activations in the seen bins, one set (trial, time, unit) per variable.

    Raises
    ------
    InputError
        A variable listed is missing, has no trials or time, is of other trials or bins, or holds
        values that are not finite.
    """
    name = str(latents.attrs.get("model", "activations"))
    check_latents(recording, latents, name, needed_by)
    bins = seen_bins(recording)
    found = {}
    for key in activation_names(latents):
        variable = latents[key]
        rest = [dim for dim in variable.dims if dim not in ("trial", "time")]
        if "time" not in variable.dims or len(rest) != 1 or variable.sizes["time"] < bins:
            raise InputError(
                file=name,
                field=key,
                found=f"dims {dict(variable.sizes)}",
                expected=f"(trial, time, {key}_unit) with at least {bins} bins",
                fix="Write the activations on the recording's bins",
            )
        found[key] = variable.transpose("trial", "time", *rest).values[:, :bins].astype(float)
    _require_finite(found, name)
    return found


def _require_finite(found: dict[str, np.ndarray], name: str) -> None:
    for key, values in found.items():
        if not np.isfinite(values).all():
            raise InputError(
                file=name,
                field=key,
                found=f"{int((~np.isfinite(values)).sum())} values that are not finite",
                expected="finite values",
                fix="Fit the model again and look at its training curve",
            )


def features_of(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    *,
    smoothing: float,
    units: str,
    rate_transform: str,
    needed_by: str,
    features: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Features (trial, time, dim) of the recording, of a model, or of activations, by name.

    Parameters
    ----------
    recording : DataTree
    latents : Dataset or None
        None for the recording's counts; a model's ``rate`` and ``latent``; or activations: a
        Dataset whose ``attrs["activations"]`` lists its variables (trial, time, unit).
    smoothing : float
        Standard deviation of the Gaussian of the smoothed counts, s.
    units : {"held_in", "all"}
    rate_transform : {"log", "sqrt"}
    needed_by : str
        Stage, for errors.
    features : sequence of str, optional
        Sets wanted; those that this source does not have are left out, unless it has none.

    Raises
    ------
    InputError
        No spikes; latents without trials, of other trials or not finite; none of the sets wanted.
    """
    require(recording, "spikes", needed_by)
    if latents is None:
        found = count_features(recording, smoothing=smoothing, units=units)
    elif activation_names(latents):
        found = activation_features(recording, latents, needed_by=needed_by)
    else:
        found = model_features(
            recording, latents, rate_transform=rate_transform, needed_by=needed_by
        )
    if features is None:
        return found
    chosen = {name: values for name, values in found.items() if name in features}
    if not chosen:
        source = recording.attrs["session"] if latents is None else latents.attrs.get("model", "")
        raise InputError(
            file=str(source),
            field="features",
            found=f"{list(features)}, none of which this source has",
            expected=f"some of {list(found)}",
            fix="Name others in `features`, or leave it out for all",
        )
    return chosen


def trial_means(name: str, features: np.ndarray) -> np.ndarray:
    """One row of features per trial (trial, 1, dim), for what is constant within a trial.

    Counts are added up before the square root is taken again: the root of a trial's count has a
    nearly constant variance, a mean of roots of sparse bins has not.
    """
    if name == "counts":
        return np.sqrt((features**2).sum(axis=1, keepdims=True))
    return features.mean(axis=1, keepdims=True)
