"""What a decoder is given: binned activity or a model's output, with its recent past."""

from __future__ import annotations

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


def history_index(runs: np.ndarray, bins: int, lags: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the flattened (trial, time) axis that hold each bin and its past.

    Parameters
    ----------
    runs : ndarray of int (trial,)
        As from :func:`abutting_runs`; history never crosses from one run into another.
    bins : int
        Bins per trial.
    lags : int
        Bins of history, the current one included.

    Returns
    -------
    index : ndarray of int (trial, time, lag)
        Lag 0 is the bin itself. Meaningless where the history is not complete.
    complete : ndarray of bool (trial, time)
        Whether all ``lags`` bins lie in the bin's run.
    """
    position = np.arange(len(runs) * bins).reshape(len(runs), bins)
    first_trial = np.searchsorted(runs, runs)
    index = position[..., None] - np.arange(lags)
    complete = index[..., -1] >= (first_trial * bins)[:, None]
    return np.maximum(index, 0), complete


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
    counts = (
        recording["spikes"].dataset["counts"].values[:, : seen_bins(recording), kept].astype(float)
    )
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
    for key, values in found.items():
        if not np.isfinite(values).all():
            raise InputError(
                file=name,
                field=key,
                found=f"{int((~np.isfinite(values)).sum())} values that are not finite",
                expected="finite values",
                fix="Fit the model again and look at its training curve",
            )
    return found


def check_latents(recording: xr.DataTree, latents: xr.Dataset, name: str, needed_by: str) -> None:
    """Refuse latents without trials or of other trials than the recording's."""
    variables = [latents[key] for key in ("rate", "latent") if key in latents]
    if not variables or any("trial" not in variable.dims for variable in variables):
        raise InputError(
            file=name,
            field="latent",
            found=f"dims {variables[0].dims}" if variables else "neither rate nor latent",
            expected="rate or latent with a trial dim",
            fix=f"Leave {needed_by} out for this model (a model of the field has no trials)",
        )
    trials = recording["spikes"].dataset["trial"].values
    if not np.array_equal(latents["trial"].values, trials):
        raise InputError(
            file=name,
            field="trial",
            found=f"{latents.sizes['trial']} trials",
            expected=f"the recording's {len(trials)} trials",
            fix="Fit the model to this recording again",
        )


def features_of(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    *,
    smoothing: float,
    units: str,
    rate_transform: str,
    needed_by: str,
) -> dict[str, np.ndarray]:
    """Features of the recording (``latents`` None) or of a model, by name."""
    require(recording, "spikes", needed_by)
    if latents is None:
        return count_features(recording, smoothing=smoothing, units=units)
    return model_features(recording, latents, rate_transform=rate_transform, needed_by=needed_by)


def trial_means(name: str, features: np.ndarray) -> np.ndarray:
    """One row of features per trial (trial, 1, dim), for what is constant within a trial.

    Counts are added up before the square root is taken again: the root of a trial's count has a
    nearly constant variance, a mean of roots of sparse bins has not.
    """
    if name == "counts":
        return np.sqrt((features**2).sum(axis=1, keepdims=True))
    return features.mean(axis=1, keepdims=True)
