"""Each session as samples with a condition, all sessions on one time axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from driftwave.alignment.params import Params
from driftwave.errors import InputError
from driftwave.geometry.conditions import Conditions, find_conditions
from driftwave.readouts.features import features_of, seen_bins
from driftwave.readouts.folds import block_folds
from driftwave.recording import trial_mask

# Blocks a continuous recording is cut into, so that halves do not share its autocorrelation.
BLOCKS = 20


@dataclass(frozen=True)
class Session:
    """One session, ready to be compared.

    Attributes
    ----------
    name : str
    rule : str
        How its conditions were found.
    labels : list of str
        Its conditions.
    values : ndarray (sample, time, dim)
        One sample per trial, or, for conditions of bins, per trial and condition with one time.
    condition : ndarray of int (sample,)
    group : ndarray of int (sample,)
        Samples that stay together when the session is halved: a trial, or a block of windows.
    time : ndarray (time,)
        Starts of the bins (s).
    bin_width : float
        s; NaN for conditions of bins.
    left_out : int
        Dims without any variation, which are left out.
    feature : str
    unit : str
        Of ``values``.
    """

    name: str
    rule: str
    labels: list[str]
    values: np.ndarray
    condition: np.ndarray
    group: np.ndarray
    time: np.ndarray
    bin_width: float
    left_out: int
    feature: str
    unit: str

    @property
    def by_trial(self) -> bool:
        return bool(np.isfinite(self.bin_width))


def read_sessions(
    recordings: Mapping[str, xr.DataTree], latents: Mapping[str, xr.Dataset], params: Params
) -> list[Session]:
    """Features and conditions of every session, on the time axis they share.

    Raises
    ------
    InputError
        Fewer than two sessions; latents of some sessions only; features that are missing, not
        finite or constant; sessions whose time does not overlap.
    """
    if len(recordings) < 2:
        raise InputError(
            file="alignment",
            field="sessions",
            found=f"{len(recordings)} session{'' if len(recordings) == 1 else 's'}",
            expected="at least two",
            fix="Name two or more sessions in the group",
        )
    if latents and set(latents) != set(recordings):
        raise InputError(
            file="alignment",
            field="latents",
            found=f"latents of {sorted(latents)}",
            expected=f"latents of {sorted(recordings)}, or none at all",
            fix="Give latents for every session of the group",
        )
    sessions = [
        _read(name, recording, latents.get(name), params) for name, recording in recordings.items()
    ]
    features = {session.name: session.feature for session in sessions}
    if len(set(features.values())) > 1:
        raise InputError(
            file="alignment",
            field="features",
            found=f"{features}",
            expected="the same features of every session",
            fix="Set `features` of the group to one that every session has",
        )
    return _on_shared_time(sessions)


def _read(name: str, recording: xr.DataTree, latents: xr.Dataset | None, params: Params) -> Session:
    feature, features, unit = _features(name, recording, latents, params)
    used = trial_mask(recording, "train", "valid", "test")
    if not np.isfinite(features[used]).all():
        raise InputError(
            file=name,
            field=feature,
            found=f"{int((~np.isfinite(features[used])).sum())} values that are not finite",
            expected="finite responses in every trial used",
            fix="Mark those trials as unused or leave those units out",
        )
    # Rounding alone leaves constant units a spread of about 1e-16 of their level.
    flat = features[used].reshape(-1, features.shape[-1])
    varying = np.ptp(flat, axis=0) > 1e-9 * np.abs(flat).max(axis=0)
    if varying.sum() < 2:
        raise InputError(
            file=name,
            field=feature,
            found=f"{int(varying.sum())} of {len(varying)} dims that vary",
            expected="at least 2",
            fix="Leave this session out, or check its alignment and units",
        )
    conditions = find_conditions(recording)
    contiguous = bool(recording["spikes"].attrs.get("contiguous", False))
    values, condition, trial = _samples(features[..., varying], conditions, used)
    block = block_folds(len(used), min(BLOCKS, len(used))) if contiguous else np.arange(len(used))
    by_trial = conditions.by_trial and len(conditions.labels) > 0
    return Session(
        name=name,
        rule=conditions.rule,
        labels=conditions.labels,
        values=values,
        condition=condition,
        group=block[trial],
        time=recording["spikes"].dataset["time"].values[: seen_bins(recording)].astype(float),
        bin_width=float(recording["spikes"].attrs["bin_width"]) if by_trial else np.nan,
        left_out=int((~varying).sum()),
        feature=feature,
        unit=unit,
    )


def _features(
    name: str, recording: xr.DataTree, latents: xr.Dataset | None, params: Params
) -> tuple[str, np.ndarray, str]:
    found = features_of(
        recording,
        latents,
        smoothing=params.smoothing,
        units="held_in",
        rate_transform=params.rate_transform,
        needed_by="alignment",
    )
    found.pop("counts", None)
    order = ["smoothed_counts", "latents", "rates", *found]
    wanted = params.features or next(key for key in order if key in found)
    if wanted not in found:
        raise InputError(
            file=name,
            field="features",
            found=f"features {sorted(found)}",
            expected=f"{wanted!r}",
            fix="Set `features` of the group to one of those that every session has",
        )
    if wanted == "smoothed_counts":
        # The root of a count per bin depends on the bin; the root of a rate does not.
        width = float(recording["spikes"].attrs["bin_width"])
        return wanted, found[wanted] / np.sqrt(width), "Hz^0.5"
    roots = wanted == "rates" and params.rate_transform == "sqrt"
    return wanted, found[wanted], "Hz^0.5" if roots else "arbitrary"


def _samples(
    features: np.ndarray, conditions: Conditions, used: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples (sample, time, dim) with the condition and the trial of each."""
    of = conditions.of if conditions.by_trial else conditions.of[:, : features.shape[1]]
    if conditions.by_trial:
        trial = np.flatnonzero(used & (of >= 0))
        return features[trial], of[trial], trial
    rows, labels, trials = [], [], []
    for k in range(len(conditions.labels)):
        inside = (of == k) & used[:, None]
        trial = np.flatnonzero(inside.any(axis=1))
        total = np.einsum("nt,ntd->nd", inside[trial].astype(float), features[trial])
        rows.append(total / inside[trial].sum(axis=1, keepdims=True))
        labels.append(np.full(len(trial), k))
        trials.append(trial)
    return np.concatenate(rows)[:, None], np.concatenate(labels), np.concatenate(trials)


def _on_shared_time(sessions: list[Session]) -> list[Session]:
    """Sessions with trials on the time they share, in bins of the widest session."""
    timed = [s for s in sessions if s.by_trial]
    if not timed:
        return sessions
    width = max(s.bin_width for s in timed)
    start = max(s.time[0] for s in timed)
    stop = min(s.time[-1] + s.bin_width for s in timed)
    bins = int(np.floor((stop - start) / width + 1e-6))
    if bins < 2:
        spans = {s.name: f"{s.time[0]:g} to {s.time[-1] + s.bin_width:g} s" for s in timed}
        raise InputError(
            file="alignment",
            field="time",
            found=f"trials of {spans}",
            expected="at least two bins of time that all sessions share",
            fix="Cut the sessions of a group around the same event with overlapping windows",
        )
    edges = start + width * np.arange(bins + 1)
    return [
        replace(
            s,
            values=rebin(s.values, s.time[0], s.bin_width, edges),
            time=edges[:-1],
            bin_width=width,
        )
        if s.by_trial
        else s
        for s in sessions
    ]


def rebin(values: np.ndarray, start: float, width: float, edges: np.ndarray) -> np.ndarray:
    """Means of piecewise constant values in other bins.

    Parameters
    ----------
    values : ndarray (sample, time, dim)
        Constant in bins of ``width`` s from ``start``.
    start, width : float
        s.
    edges : ndarray (bin + 1,)
        s, inside the span of ``values``.

    Returns
    -------
    ndarray (sample, bin, dim)
    """
    position = (edges - start) / width
    nearest = np.round(position)
    position = np.where(np.abs(position - nearest) < 1e-6, nearest, position)
    if (np.diff(position) == 1).all() and (position == nearest).all():
        first = int(position[0])
        return values[:, first : first + len(edges) - 1]
    total = np.concatenate([np.zeros_like(values[:, :1]), np.cumsum(values, axis=1)], axis=1)
    below = np.clip(np.floor(position).astype(int), 0, values.shape[1] - 1)
    part = (position - below)[:, None]
    at_edges = total[:, below] * (1 - part) + total[:, below + 1] * part
    return np.diff(at_edges, axis=1) / np.diff(position)[:, None]
