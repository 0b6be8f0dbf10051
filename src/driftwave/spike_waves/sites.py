"""Which phase a unit is held against: that of its electrode, or of the electrodes around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from scipy.spatial import cKDTree

from driftwave.errors import InputError
from driftwave.recording import require

PhaseFrom = Literal["own", "neighbours"]
# Electrodes this many pitches from a unit's own surround it: four on a grid, and four diagonal.
AROUND = 1.5


@dataclass(frozen=True)
class UnitSites:
    """Electrodes whose phase each unit is held against.

    Attributes
    ----------
    unit : ndarray of int (unit,)
        Units that have any, by their place in the recording.
    columns : list of ndarray of int
        Their columns of the phase.
    distance : ndarray (unit,)
        From the unit to its nearest electrode, mm.
    array : ndarray of str (unit,)
        Name of the electrodes' array; empty if there is one.
    """

    unit: np.ndarray
    columns: list[np.ndarray]
    distance: np.ndarray
    array: np.ndarray


def phase_columns(waves: xr.Dataset) -> xr.DataArray:
    """The dense phase as (time, site) with coords x, y (mm) and array.

    Raises
    ------
    InputError
        If the result holds no phase of every frame.
    """
    if "phase" not in waves or "time" not in waves["phase"].dims:
        raise InputError(
            file=str(waves.attrs.get("session", "waves")),
            field="phase",
            found=f"variables {sorted(map(str, waves.data_vars))}",
            expected="the phase (time, electrode) of every frame",
            fix="Run the waves stage on the recording with `phase` among its `fields`",
        )
    phase, names = waves["phase"], np.array([""])
    shape = (1, phase.sizes["electrode"])
    if "array" in phase.dims:
        names = np.array(waves.attrs.get("arrays", np.arange(phase.sizes["array"]).astype(str)))
        shape = (phase.sizes["array"], phase.sizes["electrode"])
        phase = phase.transpose("time", "array", "electrode").chunk()
        phase = xr.DataArray(phase.data.reshape(len(phase), -1), dims=("time", "site"))
    else:
        # Renamed, not reshaped: what is not read into memory yet stays so.
        phase = phase.transpose("time", "electrode").rename(electrode="site")
    place = {axis: np.broadcast_to(waves[axis].values, shape).ravel() for axis in "xy"}
    phase = phase.reset_coords(drop=True).drop_vars(list(phase.coords), errors="ignore")
    flat = phase.assign_coords(
        time=waves["time"].values,
        x=("site", place["x"]),
        y=("site", place["y"]),
        array=("site", np.repeat(names, shape[1])),
    )
    # Where arrays differ in size the smaller ones are filled up.
    return flat.isel(site=np.flatnonzero(np.isfinite(place["x"]) & np.isfinite(place["y"])))


def unit_sites(
    recording: xr.DataTree, phase: xr.DataArray, source: PhaseFrom, reach: float | None
) -> UnitSites:
    """Find each unit's electrodes by position.

    Parameters
    ----------
    recording : DataTree
        With ``units`` that have x and y, mm.
    phase : DataArray (time, site)
    source : str
        ``own``: the nearest electrode. ``neighbours``: those within 1.5 pitches of that one,
        without any at the unit's own position, whose spikes might show in the field.
    reach : float, optional
        Farthest a unit may be from its electrode, mm; default one pitch.

    Raises
    ------
    InputError
        If units have no positions, or none of them is within reach.
    """
    units = require(recording, "units", "spike_waves")
    session = str(recording.attrs.get("session", "recording"))
    if "x" not in units or "y" not in units:
        raise InputError(
            file=session,
            field="units/x, y",
            found=f"variables {sorted(map(str, units.data_vars))}",
            expected="positions x and y of the units in mm",
            fix="Name them under `spikes.positions` in the layout and ingest again, or leave "
            "spike_waves out for this session",
        )
    place = np.stack([units["x"].values, units["y"].values], axis=1).astype(float)
    site = np.stack([phase["x"].values, phase["y"].values], axis=1).astype(float)
    tree = cKDTree(site)
    pitch = float(np.median(tree.query(site, k=2)[0][:, 1]))
    limit = (1 + 1e-6) * (pitch if reach is None else reach)
    placed = np.flatnonzero(np.isfinite(place).all(axis=1))
    distance, nearest = tree.query(place[placed])
    columns, kept = [], []
    for row, unit in enumerate(placed):
        found = np.array([nearest[row]])
        if source == "neighbours":
            near = np.array(tree.query_ball_point(site[nearest[row]], AROUND * pitch))
            apart = np.hypot(*(site[near] - place[unit]).T) > 1e-3 * pitch
            found = near[apart & (near != nearest[row])]
        if distance[row] <= limit and len(found):
            columns.append(found)
            kept.append(row)
    if not kept:
        raise InputError(
            file=session,
            field="units/x, y",
            found=f"no unit within {limit:.3g} mm of an electrode with phase",
            expected="units beside the electrodes of the field, in the same coordinates",
            fix="Check the unit of positions in the layout, or raise `reach`",
        )
    chosen = np.array(kept)
    return UnitSites(
        placed[chosen], columns, distance[chosen], phase["array"].values[nearest[chosen]]
    )


def phase_course(phase: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Phase (time,) in rad at columns of (time, site): that of their mean phasor; NaN in gaps."""
    own = phase[:, columns].astype(float)
    if own.shape[1] == 1:
        return own[:, 0]
    return np.angle(np.exp(1j * own).mean(axis=1))
