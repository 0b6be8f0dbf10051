"""The measures of shape as a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from driftwave.geometry.activity import Session
from driftwave.geometry.shape_measures import MEASURES, SCALES, Settings, Shape
from driftwave.nulls.multiplicity import benjamini_hochberg
from driftwave.readouts.null import p_value

# Dims after features_from, unit and words of every part.
PARTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "two_nn_by_scale": (("share",), "dimensions", "TwoNN of parts of the points"),
    "signal_variance": (("signal_component",), "arbitrary^2", "cross-validated variance"),
    "noise_limit": (("signal_component",), "arbitrary^2", "0.95-quantile of noise alone"),
    "signal_total": ((), "arbitrary^2", "signal variance over all dims"),
    "explained_variance_ratio": (("component",), "1", "share of the averages' variance"),
    "tangling_of_state": (("condition", "time"), "s^-2", "tangling Q"),
    "tangling_behaviour": ((), "s^-2", "0.9-quantile of the behaviour's own tangling"),
    "tubularity_ratio_of_condition": (("condition",), "1", "radius per radius of shuffled labels"),
    "s_tight": (("condition",), "1", "S_tight, which noise and length lower"),
    "distance": (("average_time",), "arbitrary^2", "unbiased squared distance of conditions"),
    "pairwise_distance": (
        ("condition", "other_condition", "average_time"),
        "arbitrary^2",
        "unbiased squared distance of conditions",
    ),
    "speed": (("condition", "average_time"), "arbitrary^2 s^-2", "unbiased squared speed"),
}
_NULLS = {"null_distance": "distance", "null_speed": "speed"}


def shape_dataset(
    shapes: Mapping[str, Shape], session: Session, settings: Settings, attrs: dict[str, Any]
) -> xr.Dataset:
    """Values, nulls, errors and parts of all sets of features.

    Measures that a session cannot have are NaN; parts that no set of features has are left out.
    """
    found = list(shapes.values())
    variables = _table(found, max(settings.shuffles, settings.surrogates))
    for name, (dims, unit, words) in PARTS.items():
        if any(name in shape.part for shape in found):
            values = _stacked([shape.part.get(name) for shape in found])
            words_of = {"units": unit, "long_name": words}
            variables[name] = ("features_from", *dims), values, words_of
    for null, name in _NULLS.items():
        variables |= _over_time(found, null, name)
    coords: dict[str, Any] = {
        "features_from": list(shapes),
        "measure": list(MEASURES),
        "unit_of_measure": ("measure", [m.unit for m in MEASURES.values()]),
        "small_is_remarkable": ("measure", [m.smaller for m in MEASURES.values()]),
        "share": list(SCALES),
    }
    conditions = session.conditions
    if conditions.labels:
        coords["condition"] = conditions.labels
        coords["other_condition"] = conditions.labels
    coords["time"] = ("time", session.time, {"units": "s"})
    # Averages over bins of one behaviour have no time of their own.
    average = session.time if conditions.by_trial else np.array([np.nan])
    coords["average_time"] = ("average_time", average, {"units": "s"})
    for dim in ("component", "signal_component"):
        sizes = [v[1].shape[v[0].index(dim)] for v in variables.values() if dim in v[0]]
        if sizes:
            coords[dim] = np.arange(1, sizes[0] + 1)
    used = {dim for v in variables.values() for dim in v[0]}
    coords = {
        name: value
        for name, value in coords.items()
        if (value[0] if isinstance(value, tuple) else name) in used
    }
    own: dict[str, Any] = {
        "session": session.name,
        "condition_rule": conditions.rule,
        "conditions_circular": conditions.circular,
        "conditions_left_out": ", ".join(_left_out(session)),
        "null": "participation ratio and TwoNN: circular shift of each dim by itself; signal "
        "dimension: noise of repeats with random signs; tangling: each component's conditions "
        "permuted and time shifted; tubularity and distance: labels permuted among trials; "
        "speed: each trial shifted in time",
        "bin_width": session.bin_width,
    }
    return xr.Dataset(variables, coords, own | attrs)


def _left_out(session: Session) -> list[str]:
    """Conditions of trials with fewer than two repeats."""
    conditions = session.conditions
    if not (conditions.labels and conditions.by_trial):
        return []
    counts = np.bincount(conditions.of[conditions.of >= 0], minlength=len(conditions.labels))
    return [label for label, n in zip(conditions.labels, counts, strict=True) if n < 2]


def _table(found: list[Shape], shuffles: int) -> dict[str, Any]:
    value = np.array([[s.value.get(m, np.nan) for m in MEASURES] for s in found])
    error = np.array([[s.error.get(m, np.nan) for m in MEASURES] for s in found])
    null = np.full((*value.shape, shuffles), np.nan)
    p = np.full(value.shape, np.nan)
    for i, shape in enumerate(found):
        for j, (name, measure) in enumerate(MEASURES.items()):
            if name not in shape.null:
                continue
            draws = shape.null[name]
            null[i, j, : len(draws)] = draws
            fresh = p_value(value[i, j, None], draws[None], smaller=measure.smaller).item()
            p[i, j] = shape.p.get(name, fresh)
    q = np.full(p.shape, np.nan)
    q[np.isfinite(p)] = benjamini_hochberg(p[np.isfinite(p)])
    own = {"units": "as unit_of_measure names"}
    dims = ("features_from", "measure")
    return {
        "value": (dims, value, own),
        "standard_error": (dims, error, own),
        "null": ((*dims, "shuffle"), null, own),
        "p_value": (dims, p, {"units": "1"}),
        "q_value": (dims, q, {"units": "1", "long_name": "false discovery rate over all measures"}),
    }


def _over_time(found: list[Shape], null: str, name: str) -> dict[str, Any]:
    """0.95-quantile of a null over time, and where the measure exceeds it."""
    if not any(null in shape.part for shape in found):
        return {}
    limits, q = [], []
    for shape in found:
        draws = shape.part[null]
        value = shape.part[name]
        mean = value if value.ndim == 1 else np.nanmean(value, axis=0)
        limits.append(np.quantile(draws, 0.95, axis=0))
        q.append(benjamini_hochberg(p_value(mean, draws.T)))
    dims = ("features_from", "average_time")
    unit = PARTS[name][1]
    return {
        f"limit_{name}": (dims, np.array(limits), {"units": unit}),
        f"q_{name}": (dims, np.array(q), {"units": "1", "long_name": "false discovery rate"}),
    }


def _stacked(arrays: list[np.ndarray | None]) -> np.ndarray:
    """Arrays of one number of dims on a leading axis, filled up with NaN."""
    there = [a for a in arrays if a is not None]
    shape = tuple(max(sizes) for sizes in zip(*(a.shape for a in there), strict=True))
    out = np.full((len(arrays), *shape), np.nan)
    for row, array in enumerate(arrays):
        if array is not None:
            part: tuple[Any, ...] = (row, *(slice(n) for n in array.shape))
            out[part] = array
    return out
