"""Conditions whose average activity is followed: of the trials, or bins of the behaviour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.readouts.features import seen_bins
from driftwave.recording import trial_mask

SECTORS = 8
# Averages of fewer bins than this are noise.
FEWEST_BINS = 10


@dataclass(frozen=True)
class Conditions:
    """Which condition each trial, or each bin, belongs to.

    Attributes
    ----------
    rule : str
        How the conditions were told apart, in words.
    labels : list of str
        One per condition; empty where there are none.
    of : ndarray of int (trial,) or (trial, time)
        Position of the condition, -1 for none. By trial, averages keep their time course; by
        bin they do not.
    circular : bool
        The last condition is a neighbour of the first.
    """

    rule: str
    labels: list[str]
    of: np.ndarray
    circular: bool = False

    @property
    def by_trial(self) -> bool:
        return self.of.ndim == 1

    def within(self, trials: np.ndarray) -> Conditions:
        """The same conditions in some trials (boolean mask) only."""
        mask = trials if self.by_trial else trials[:, None]
        return Conditions(self.rule, self.labels, np.where(mask, self.of, -1), self.circular)

    def averages(self, features: np.ndarray) -> np.ndarray:
        """Mean features (condition, time, dim), one time for conditions of bins.

        Parameters
        ----------
        features : ndarray (trial, time, dim)

        Returns
        -------
        ndarray
            NaN for a condition without trials, or with fewer than ``FEWEST_BINS`` bins.
        """
        rows = features if self.by_trial else features.reshape(-1, 1, features.shape[-1])
        chosen = self.of.ravel()[None] == np.arange(len(self.labels))[:, None]
        count = chosen.sum(axis=1)
        total = chosen.astype(float) @ rows.reshape(len(rows), -1)
        enough = count >= (1 if self.by_trial else FEWEST_BINS)
        mean = np.where(enough[:, None], total / np.maximum(count, 1)[:, None], np.nan)
        return mean.reshape(len(self.labels), *rows.shape[1:])


def find_conditions(recording: xr.DataTree) -> Conditions:
    """Conditions of the trials; where there is only one, sectors or quantiles of the behaviour.

    Of the behaviour, the first that applies: eight sectors of a circular feature; eight sectors
    of the direction of a velocity (features ending in ``_x`` and ``_y``) while the speed is above
    its median; eight quantiles of the first feature that varies.
    """
    used = trial_mask(recording, "train", "valid", "test")
    condition = recording["trials"].dataset["condition"].values
    ids = np.unique(condition[used])
    if len(ids) > 1:
        position = np.where(used, np.searchsorted(ids, condition), -1)
        labels, circular = _stimulus_labels(recording, position, ids)
        return Conditions("condition of the trial", labels, position, circular)
    found = _behaviour_bins(recording)
    if found is None:
        return Conditions("none: one condition and no behaviour", [], np.full(len(used), -1))
    return found.within(used)


def _stimulus_labels(
    recording: xr.DataTree, position: np.ndarray, ids: np.ndarray
) -> tuple[list[str], bool]:
    """Name conditions by the one stimulus column that tells them apart, if there is one."""
    labels = [str(i) for i in ids]
    if "stimulus" not in recording.children:
        return labels, False
    stimulus = recording["stimulus"].dataset
    columns = [v for v in stimulus.data_vars.values() if v.dims == ("trial",)]
    if len(columns) != 1:
        return labels, False
    values = [np.unique(columns[0].values[position == k]) for k in range(len(ids))]
    names = [f"{v[0]:g}" if v.dtype.kind in "iuf" else str(v[0]) for v in values]
    if any(len(v) != 1 for v in values) or len(set(names)) != len(names):
        return labels, False
    return names, "period" in columns[0].attrs


def _behaviour_bins(recording: xr.DataTree) -> Conditions | None:
    if "behavior" not in recording.children:
        return None
    behaviour = recording["behavior"].to_dataset()
    values = behaviour["value"].transpose("trial", "time", "feature").values
    values = values[:, : seen_bins(recording)].astype(float)
    names = [str(name) for name in behaviour["feature"].values]
    kinds = [str(kind) for kind in behaviour["kind"].values]
    if "circular" in kinds:
        i = kinds.index("circular")
        return _sectors(values[..., i], f"sector of {names[i]}")
    for name in names:
        other = f"{name.removesuffix('_x')}_y"
        if name.endswith("_x") and "velocity" in name and other in names:
            x, y = values[..., names.index(name)], values[..., names.index(other)]
            speed = np.hypot(x, y)
            moving = speed > np.nanmedian(speed)
            rule = f"direction of {name.removesuffix('_x')} above its median speed"
            return _sectors(np.where(moving, np.arctan2(y, x), np.nan), rule)
    for i, name in enumerate(names):
        there = np.isfinite(values[..., i])
        if there.any() and np.ptp(values[..., i][there]) > 0:
            return _quantiles(values[..., i], name)
    return None


def _sectors(angle: np.ndarray, rule: str) -> Conditions:
    """Eight sectors centred on 0, 45, 90 ... degrees; angle in radians, NaN for no sector."""
    width = 2 * np.pi / SECTORS
    there = np.isfinite(angle)
    sector = np.floor(np.where(there, angle, 0) / width + 0.5).astype(int) % SECTORS
    labels = [f"{360 * k / SECTORS:g} deg" for k in range(SECTORS)]
    return Conditions(rule, labels, np.where(there, sector, -1), circular=True)


def _quantiles(values: np.ndarray, name: str) -> Conditions:
    there = np.isfinite(values)
    edges = np.unique(np.quantile(values[there], np.linspace(0, 1, SECTORS + 1)[1:-1]))
    level = np.searchsorted(edges, np.where(there, values, edges[0]), side="right")
    labels = [f"{k + 1} of {len(edges) + 1}" for k in range(len(edges) + 1)]
    return Conditions(f"quantile of {name}", labels, np.where(there, level, -1))
