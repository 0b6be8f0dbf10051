"""Rows of the comparison table from a decoding result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

# score variable of the decoding store -> (metric, null model's value)
_SCORES = {
    "r2": ("decode_r2", 0.0),
    "angular_error": ("decode_angular_error", np.nan),
    "accuracy": ("decode_accuracy", np.nan),
}
_SMALL_IS_GOOD = {"angular_error"}


def decoding_rows(source: str, dataset: xr.Dataset) -> Iterator[dict[str, Any]]:
    """One row per score, features decoded from and target, on the test split.

    ``null_shuffled`` is the 95 % quantile of the shuffles (the 5 % one where small is good):
    what a decoder reaches by chance. Values that were not decoded (NaN) are left out.

    Parameters
    ----------
    source : str
        ``recording`` or a model.
    dataset : Dataset
        With ``<score>_test (features_from, target)`` for the scores r2, angular_error and
        accuracy, and ``null_<score>_test`` or ``null_<score>`` with a shuffle dim.
    """
    for score, (metric, null) in _SCORES.items():
        values = dataset.get(f"{score}_test")
        if values is None:
            continue
        chance = _chance(dataset, score, values)
        cross_validated = dataset.get(f"{score}_cv")
        for index in np.ndindex(values.shape):
            at = dict(zip(values.dims, index, strict=True))
            value = float(values.isel(at))
            if not np.isfinite(value):
                continue
            labels = {str(dim): str(values[dim].values[i]) for dim, i in at.items()}
            features = labels.pop("features_from", "")
            note = f"decoded from {features}; null_shuffled: "
            note += "5 % quantile" if score in _SMALL_IS_GOOD else "95 % quantile"
            if cross_validated is not None:
                note += f"; cross-validated {float(cross_validated.isel(at)):.3f}"
            yield {
                "session": dataset.attrs.get("session", ""),
                "model": source,
                "metric": " ".join([metric, *labels.values()]),
                "value": value,
                "unit": _unit(score, values),
                "null": null,
                "split": "test",
                "note": note,
                "null_shuffled": float(chance.isel(at)),
                "features": features,
            }


def _unit(score: str, values: xr.DataArray) -> str:
    if score == "r2":
        return "R2"
    return "share" if score == "accuracy" else str(values.attrs.get("units", ""))


def _chance(dataset: xr.Dataset, score: str, values: xr.DataArray) -> xr.DataArray:
    """Quantile of the shuffled scores for each value; NaN where there are no shuffles."""
    for name in (f"null_{score}_test", f"null_{score}"):
        if name in dataset:
            null = dataset[name]
            over = [dim for dim in null.dims if dim not in values.dims]
            if over and all(null.sizes[dim] for dim in over):
                level = 0.05 if score in _SMALL_IS_GOOD else 0.95
                return null.quantile(level, over).transpose(*values.dims)
    if "null_95" in dataset and score == "r2":
        return dataset["null_95"].broadcast_like(values).transpose(*values.dims)
    return xr.full_like(values, np.nan, dtype=float)
