"""The electrodes a wave is seen with: positions, neighbours, and what makes them unusable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.spatial import cKDTree

from driftwave.errors import InputError

MINIMUM = 4


@dataclass(frozen=True)
class Electrodes:
    """Good electrodes with known positions.

    Attributes
    ----------
    index : ndarray of int (electrode,)
        Where they stand along the recording's electrode dim.
    position : ndarray (electrode, 2)
        mm.
    pitch : float
        Median distance to the nearest neighbour, mm.
    lattice : ndarray of int (electrode, 2) or None
        Column and row on a rectangular grid; None if the layout is irregular.
    spacing : ndarray (2,)
        Grid spacing along x and y, mm; the pitch twice if the layout is irregular.
    """

    index: np.ndarray
    position: np.ndarray
    pitch: float
    lattice: np.ndarray | None
    spacing: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def nyquist(self) -> float:
        """Largest wavenumber the layout can tell from a smaller one, rad/mm."""
        return float(np.pi / self.spacing.max())

    @property
    def extent(self) -> float:
        """Largest distance between two electrodes along x or y, mm."""
        return float(np.ptp(self.position, axis=0).max())


def place(position: np.ndarray, index: np.ndarray | None = None) -> Electrodes:
    """Describe a layout from positions in mm (electrode, 2)."""
    position = np.asarray(position, dtype=float)
    distance, _ = cKDTree(position).query(position, k=2)
    pitch = float(np.median(distance[:, 1]))
    lattice, spacing = _lattice(position)
    return Electrodes(
        index=np.arange(len(position)) if index is None else np.asarray(index),
        position=position,
        pitch=pitch,
        lattice=lattice,
        spacing=np.full(2, pitch) if spacing is None else spacing,
    )


def _lattice(position: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Column and row of each electrode if all stand on one grid along x and y, else None."""
    columns, spacing = [], []
    for axis in (0, 1):
        values = np.sort(position[:, axis])
        steps = np.diff(values)
        steps = steps[steps > 1e-3 * max(np.ptp(values), 1e-12)]
        if not len(steps):
            return None, None
        step = float(np.median(steps[steps < 1.5 * steps.min()]))
        column = (position[:, axis] - values[0]) / step
        if np.abs(column - np.round(column)).max() > 0.1:
            return None, None
        columns.append(np.round(column).astype(int))
        spacing.append(step)
    lattice = np.stack(columns, axis=1)
    occupied = len(lattice) / np.prod(lattice.max(0) + 1)
    if occupied < 0.4 or len(np.unique(lattice, axis=0)) < len(lattice):
        return None, None
    return lattice, np.array(spacing)


def good_electrodes(dataset: xr.Dataset, session: str, group: str = "field") -> Electrodes:
    """Positions of the electrodes that may be used.

    Parameters
    ----------
    dataset : Dataset
        With an ``electrode`` dim, coords ``x`` and ``y`` (mm) and optionally ``good``.
    session : str
        Named in errors.
    group : str
        Where the dataset comes from, named in errors.

    Raises
    ------
    InputError
        No positions; an electrode without a position; two at the same place; fewer than four
        good electrodes; all of them on one line.
    """

    def fault(field: str, found: object, expected: str, fix: str) -> InputError:
        return InputError(
            file=session, field=f"{group}/{field}", found=found, expected=expected, fix=fix
        )

    if "x" not in dataset or "y" not in dataset:
        raise fault(
            "x, y",
            f"coordinates {sorted(map(str, dataset.coords))}",
            "electrode positions x and y in mm, which waves need",
            "Name the position columns under `field.positions` in the layout and ingest again",
        )
    count = dataset.sizes["electrode"]
    good = dataset["good"].values.astype(bool) if "good" in dataset else np.ones(count, bool)
    index = np.flatnonzero(good)
    labels = dataset["electrode"].values if "electrode" in dataset.coords else np.arange(count)
    if len(index) < MINIMUM:
        raise fault(
            "good",
            f"{len(index)} good electrodes of {count}",
            f"at least {MINIMUM}",
            "Mark fewer electrodes bad in the layout, or leave waves out for this session",
        )
    position = np.stack([dataset["x"].values, dataset["y"].values], axis=1)[index].astype(float)
    missing = ~np.isfinite(position).all(axis=1)
    if missing.any():
        raise fault(
            "x, y",
            f"no position for electrodes {labels[index][missing][:5].tolist()}",
            "a finite position for each good electrode",
            "Give their positions in the file, or list them under `field.bad_electrodes`",
        )
    unique, times = np.unique(position, axis=0, return_counts=True)
    if (times > 1).any():
        place_of = unique[times > 1][0]
        at = labels[index][(position == place_of).all(axis=1)].tolist()
        raise fault(
            "x, y",
            f"electrodes {at} at the same position {tuple(place_of.tolist())} mm",
            "each electrode at its own position",
            "Mend the positions in the file, or list all but one under `field.bad_electrodes`",
        )
    spread = np.linalg.svd(position - position.mean(0), compute_uv=False)
    if spread[1] < 1e-3 * spread[0]:
        raise fault(
            "x, y",
            "all good electrodes on one line",
            "positions that span a plane, for a direction to be defined",
            "Leave waves out for this session",
        )
    return place(position, index)
