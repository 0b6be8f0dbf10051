"""Activity whose geometry is measured: the trials used, the dims that vary, their conditions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.geometry.conditions import Conditions, find_conditions
from driftwave.readouts.features import features_of, seen_bins
from driftwave.recording import trial_mask

ROUNDING = 1e-9


@dataclass(frozen=True)
class Activity:
    """One set of features of the trials used.

    Attributes
    ----------
    name : str
        What it is made of: smoothed_counts, rates, latents or activations.
    values : ndarray (trial, time, dim)
        Finite; every dim varies.
    dims : ndarray of int (dim,)
        Position of each dim among all there were.
    constant : int
        Dims left out because they do not vary.
    """

    name: str
    values: np.ndarray
    dims: np.ndarray
    constant: int

    @property
    def rows(self) -> np.ndarray:
        """Bins (row, dim) in the order of time."""
        return self.values.reshape(-1, self.values.shape[-1])


@dataclass(frozen=True)
class Session:
    """Trials used of a recording, and when they were.

    Attributes
    ----------
    name : str
    used : ndarray of bool (recording's trial,)
    trial : ndarray (trial,)
        Labels of the trials used.
    time : ndarray (time,)
        Start of each seen bin relative to the alignment event, s.
    clock : ndarray (trial, time)
        Start of each bin on the session's clock, s.
    bin_width : float
        s.
    contiguous : bool
        Trials are abutting windows of one recording.
    conditions : Conditions
        Of the trials used.
    """

    name: str
    used: np.ndarray
    trial: np.ndarray
    time: np.ndarray
    clock: np.ndarray
    bin_width: float
    contiguous: bool
    conditions: Conditions


def session_of(recording: xr.DataTree) -> Session:
    """The trials of the splits train, valid and test, with their conditions."""
    used = trial_mask(recording, "train", "valid", "test")
    spikes = recording["spikes"].to_dataset()
    time = spikes["time"].values[: seen_bins(recording)].astype(float)
    found = find_conditions(recording)
    conditions = Conditions(found.rule, found.labels, found.of[used], found.circular)
    return Session(
        name=str(recording.attrs["session"]),
        used=used,
        trial=spikes["trial"].values[used],
        time=time,
        clock=spikes["trial_start"].values[used][:, None] + (time - time[0]),
        bin_width=float(spikes.attrs["bin_width"]),
        contiguous=bool(spikes.attrs.get("contiguous", False)),
        conditions=conditions,
    )


def activities(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    session: Session,
    *,
    smoothing: float,
    standardise: bool,
) -> list[Activity]:
    """Smoothed counts (square root) of held-in units, or a model's rates, latents, activations.

    Dims that do not vary over the bins used carry nothing and are left out.

    Raises
    ------
    InputError
        No spikes; latents of other trials, without trials or not finite; fewer than two dims or
        trials that vary.
    """
    sources = features_of(
        recording,
        latents,
        smoothing=smoothing,
        units="held_in",
        rate_transform="sqrt",
        needed_by="the geometry",
    )
    sources.pop("counts", None)  # bins of single spikes fill all dims evenly
    return [_activity(name, values, session, standardise) for name, values in sources.items()]


def _activity(name: str, values: np.ndarray, session: Session, standardise: bool) -> Activity:
    values = values[session.used]
    varies = np.zeros(values.shape[-1], bool)
    if values.size:
        # Smoothing a constant leaves rounding errors.
        varies = np.ptp(values, axis=(0, 1)) > ROUNDING * np.abs(values).max(axis=(0, 1))
    if varies.sum() < 2 or len(values) < 2:
        raise InputError(
            file=session.name,
            field=name,
            found=f"{int(varies.sum())} dims that vary in {len(values)} trials",
            expected="at least 2 dims and 2 trials",
            fix="Use more units or trials, or leave the geometry out for this source",
        )
    values = values[..., varies]
    if standardise:
        values = values / values.std(axis=(0, 1))
    return Activity(name, values, np.flatnonzero(varies), int((~varies).sum()))
