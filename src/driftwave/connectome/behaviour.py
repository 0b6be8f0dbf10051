"""Whether motifs come and go with what the animal does."""

from __future__ import annotations

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.readouts.null import p_value


def behaviour_at(recording: xr.DataTree, time: np.ndarray, window: float) -> dict[str, np.ndarray]:
    """Behaviour (window,) by name around each moment, averaged with the window's Gaussian.

    Angles are left out: their average needs another statistic.
    """
    if "behavior_series" not in recording.children:
        return {}
    series = recording["behavior_series"].dataset
    kinds = {}
    if "behavior" in recording.children:
        behaviour = recording["behavior"].dataset
        names = behaviour["feature"].values.astype(str)
        kinds = dict(zip(names, behaviour["kind"].values.astype(str), strict=True))
    found = {}
    for values in series.data_vars.values():
        clock, columns = values.dims
        stamps = series[clock].values.astype(float)
        for column, label in enumerate(series[columns].values.astype(str)):
            if kinds.get(label) == "circular":
                continue
            found[label] = _averaged(stamps, values.values[:, column].astype(float), time, window)
    return {k: v for k, v in found.items() if np.isfinite(v).all() and np.ptp(v) > 0}


def _averaged(
    stamps: np.ndarray, values: np.ndarray, time: np.ndarray, window: float
) -> np.ndarray:
    there = np.isfinite(values)
    out = np.full(len(time), np.nan)
    for k, centre in enumerate(time):
        weight = np.where(there, np.exp(-0.5 * ((stamps - centre) / window) ** 2), 0)
        if weight.sum() > 1e-6:
            out[k] = (weight * np.where(there, values, 0)).sum() / weight.sum()
    return out


def correlations(
    courses: np.ndarray, behaviour: dict[str, np.ndarray], *, shifts: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rank correlation (motif, feature) of courses and behaviour, and its p.

    The null shifts the course circularly by at least a tenth of the recording; the p is that of the
    absolute value. A recording of few windows has few different shifts, and p is no finer.
    """
    features = np.stack(list(behaviour.values()), axis=-1)
    ranks = [np.argsort(np.argsort(x, axis=0), axis=0).astype(float) for x in (courses.T, features)]
    course, feature = [(r - r.mean(0)) / np.maximum(r.std(0), 1e-300) for r in ranks]
    windows = len(course)
    margin = max(1, windows // 10)
    possible = np.arange(margin, windows - margin + 1)
    rng = generator(seed, "connectome behaviour")
    chosen = rng.permutation(possible)[:shifts]
    observed = course.T @ feature / windows
    null = np.stack([np.roll(course, s, axis=0).T @ feature / windows for s in chosen], axis=-1)
    return observed, p_value(np.abs(observed), np.abs(null))
