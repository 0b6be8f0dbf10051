"""What is decoded: behaviour bin by bin, the stimulus trial by trial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.readouts.circular import cos_sin
from driftwave.readouts.features import seen_bins

# More distinct values than this are a continuum to regress on, not conditions to tell apart.
MOST_CLASSES = 64


@dataclass(frozen=True)
class Target:
    """One column of a regression.

    Attributes
    ----------
    name : str
        The feature, with ``_cos`` or ``_sin`` for the components of an angle.
    feature : str
        Behaviour feature or stimulus column.
    component : {"value", "cos", "sin"}
    unit : str
    per : {"bin", "trial"}
    values : ndarray (trial, time)
        NaN where missing; one bin per trial where ``per`` is ``trial``.
    """

    name: str
    feature: str
    component: str
    unit: str
    per: str
    values: np.ndarray


def _angle_targets(feature: str, angle: np.ndarray, per: str) -> list[Target]:
    parts = np.moveaxis(cos_sin(angle), -1, 0)
    return [
        Target(f"{feature}_{component}", feature, component, "1", per, part)
        for component, part in zip(("cos", "sin"), parts, strict=True)
    ]


def behaviour_targets(recording: xr.DataTree) -> list[Target]:
    """Targets of the behaviour in the seen bins; an angle gives two."""
    if "behavior" not in recording.children:
        return []
    behaviour = recording["behavior"].to_dataset()
    values = behaviour["value"].transpose("trial", "time", "feature").values
    values = values[:, : seen_bins(recording)].astype(float)
    found: list[Target] = []
    for i, feature in enumerate(map(str, behaviour["feature"].values)):
        if str(behaviour["kind"].values[i]) == "circular":
            found += _angle_targets(feature, values[..., i], "bin")
        else:
            unit = str(behaviour["unit_of_measure"].values[i])
            found.append(Target(feature, feature, "value", unit, "bin", values[..., i]))
    return found


def stimulus_targets(recording: xr.DataTree) -> list[Target]:
    """Targets of the numeric stimulus columns, one value per trial; an angle gives two."""
    found: list[Target] = []
    for name, column in _stimulus_columns(recording):
        if column.dtype.kind not in "iuf":
            continue
        values = column.values.astype(float)[:, None]
        period = float(column.attrs.get("period", np.nan))
        if np.isfinite(period):
            found += _angle_targets(name, 2 * np.pi * values / period, "trial")
        else:
            unit = str(column.attrs.get("units", ""))
            found.append(Target(name, name, "value", unit, "trial", values))
    return found


def stimulus_classes(recording: xr.DataTree) -> dict[str, np.ndarray]:
    """Class (trial,) of each trial by stimulus column, for columns with few distinct values.

    A column qualifies with at least two classes of at least two trials, at most
    ``MOST_CLASSES`` classes, and fewer classes than half the trials. Missing values are -1.
    """
    found: dict[str, np.ndarray] = {}
    for name, column in _stimulus_columns(recording):
        values = column.values
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
        classes = np.full(len(values), -1)
        _, classes[~missing] = np.unique(values[~missing].astype(str), return_inverse=True)
        sizes = np.bincount(classes[~missing]) if (~missing).any() else np.zeros(0, int)
        if 2 <= len(sizes) <= min(MOST_CLASSES, (~missing).sum() / 2) and (sizes >= 2).sum() >= 2:
            found[name] = classes
    return found


def _stimulus_columns(recording: xr.DataTree) -> list[tuple[str, xr.DataArray]]:
    if "stimulus" not in recording.children:
        return []
    stimulus = recording["stimulus"].to_dataset()
    return [(str(k), v) for k, v in stimulus.data_vars.items() if v.dims == ("trial",)]


def varies(target: Target, trials: np.ndarray) -> bool:
    """Whether a target has more than one value in some trials."""
    values = target.values[trials]
    values = values[np.isfinite(values)]
    return len(values) > 1 and float(np.ptp(values)) > 0


def angle_pairs(targets: list[Target]) -> dict[str, tuple[int, int]]:
    """Positions of the cosine and the sine of each angle, by feature."""
    position = {(t.feature, t.component): i for i, t in enumerate(targets)}
    return {
        feature: (i, position[feature, "sin"])
        for (feature, component), i in position.items()
        if component == "cos" and (feature, "sin") in position
    }
