"""The electrodes a wave is seen with: positions, neighbours, and what makes them unusable."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.phase.lattices import find_lattice, on_line, pitch_of, principal_axis
from driftwave.phase.positions import split_arrays, unlikely_unit

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
        Column and row on a rectangular grid, which may be turned; None if the layout is irregular
        or a line.
    spacing : ndarray (2,)
        Grid spacing along columns and rows, mm; the pitch twice if there is no grid.
    basis : ndarray (2, 2)
        Unit vectors along which column and row count up, as rows, in x and y; on a line the line's
        axis and the vector across it; the identity on irregular layouts.
    linear : bool
        Whether all stand on one line (a probe): then only the component of a wavevector along it
        can be seen, the one across it is 0 by definition.
    axis : ndarray (2,)
        Unit vector along which the layout is longest, towards +x (of vertical ones, +y).
    """

    index: np.ndarray
    position: np.ndarray
    pitch: float
    lattice: np.ndarray | None
    spacing: np.ndarray
    basis: np.ndarray = field(default_factory=lambda: np.eye(2))
    linear: bool = False
    axis: np.ndarray = field(default_factory=lambda: np.array([1.0, 0.0]))

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

    def seen(self, wavevector: np.ndarray) -> np.ndarray:
        """The part of wavevectors (..., 2) the layout sees: on a line the component along it."""
        if not self.linear:
            return wavevector
        return (wavevector @ self.axis)[..., None] * self.axis

    def steps(self, wavevector: np.ndarray) -> np.ndarray:
        """Size of the phase step between neighbours, rad (..., 2), of wavevectors (..., 2), rad/mm.

        Along columns and along rows; beyond pi a wave cannot be told from a longer one.
        """
        return np.abs(wavevector @ self.basis.T) * self.spacing


def place(position: np.ndarray, index: np.ndarray | None = None) -> Electrodes:
    """Describe a layout from positions in mm (electrode, 2)."""
    position = np.asarray(position, dtype=float)
    pitch = pitch_of(position)
    axis = principal_axis(position)
    linear = on_line(position, axis, pitch)
    lattice = None if linear else find_lattice(position, pitch)
    basis = np.array([axis, [-axis[1], axis[0]]]) if linear else np.eye(2)
    return Electrodes(
        index=np.arange(len(position)) if index is None else np.asarray(index),
        position=position,
        pitch=pitch,
        lattice=None if lattice is None else lattice.node,
        spacing=np.full(2, pitch) if lattice is None else lattice.spacing,
        basis=basis if lattice is None else lattice.basis,
        linear=linear,
        axis=axis,
    )


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
        No positions; an electrode without a position; two at the same place, or all; fewer than
        four good electrodes; distances that no array in mm has.
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
    good = _good(dataset)
    index = np.flatnonzero(good)
    labels = dataset["electrode"].values if "electrode" in dataset.coords else np.arange(count)
    if len(index) < MINIMUM:
        raise fault(
            "good",
            f"{len(index)} good electrodes of {count}",
            f"at least {MINIMUM}",
            "Mark fewer electrodes bad in the layout, or leave waves out for this session",
        )
    position = _plane(dataset)[index]
    missing = ~np.isfinite(position).all(axis=1)
    if missing.any():
        raise fault(
            "x, y",
            f"no position for electrodes {labels[index][missing][:5].tolist()}",
            "a finite position for each good electrode",
            "Give their positions in the file, or list them under `field.bad_electrodes`",
        )
    _check_places(dataset, position, labels[index], fault)
    wrong = unlikely_unit(position)
    if wrong is not None:
        found, guess = wrong
        raise fault(
            "x, y",
            found,
            "positions in mm, with a pitch of 0.001 to 100 mm",
            f"Set `field.positions.unit: {guess}` in the layout and ingest again, or give x and y "
            "in mm"
            if guess
            else "Set `field.positions.unit` in the layout to the unit of the file's positions",
        )
    return place(position, index)


def _check_places(dataset, position, labels, fault) -> None:
    unique, times = np.unique(position, axis=0, return_counts=True)
    if len(unique) == 1:
        deep = "z" in dataset and np.ptp(dataset["z"].values) > 0
        raise fault(
            "x, y",
            f"all {len(position)} good electrodes at one point {tuple(unique[0].tolist())} mm",
            "each electrode at its own position",
            "Name the column of the depth along the probe as `field.positions.y` in the layout"
            if deep
            else "Mend the positions in the file, or name other columns under `field.positions`",
        )
    if (times > 1).any():
        place_of = unique[times > 1][0]
        at = labels[(position == place_of).all(axis=1)].tolist()
        raise fault(
            "x, y",
            f"electrodes {at} at the same position {tuple(place_of.tolist())} mm",
            "each electrode at its own position",
            "Mend the positions in the file, or list all but one under `field.bad_electrodes`",
        )


def _good(dataset: xr.Dataset) -> np.ndarray:
    if "good" in dataset:
        return dataset["good"].values.astype(bool)
    return np.ones(dataset.sizes["electrode"], bool)


def _plane(dataset: xr.Dataset) -> np.ndarray:
    return np.stack([dataset["x"].values, dataset["y"].values], axis=1).astype(float)


def arrays_of(dataset: xr.Dataset, session: str) -> dict[str, xr.Dataset]:
    """The electrodes split into the arrays they stand on.

    Parameters
    ----------
    dataset : Dataset
        With an ``electrode`` dim, coords ``x`` and ``y`` (mm), optionally ``good`` and ``group``
        (the name of the array, bank or shank of each electrode).
    session : str
        Named in errors.

    Returns
    -------
    dict of str to Dataset
        One entry "" (the dataset itself) if there is one array, else one per array under the
        group's name, each with its own electrodes only (good and bad ones). Groups within three
        pitches of each other are one array; groups whose electrodes lie on top of each other, as
        where each array's positions start at 0, are arrays of their own. Groups without a good
        electrode are left out.

    Raises
    ------
    InputError
        Positions missing, in a wrong unit, or shared within an array; fewer than four good
        electrodes in one of the arrays (see :func:`good_electrodes`).
    """
    name_of = _arrays_of_groups(dataset)
    if len(set(name_of.values())) < 2:
        good_electrodes(dataset, session)
        return {"": dataset}
    arrays = {}
    for name in dict.fromkeys(name_of.values()):
        groups = [group for group, array in name_of.items() if array == name]
        inside = np.isin(dataset["group"].values.astype(str), groups)
        arrays[name] = dataset.isel(electrode=np.flatnonzero(inside))
        good_electrodes(arrays[name], f"{session}, array {name}")
    return arrays


def _arrays_of_groups(dataset: xr.Dataset) -> dict[str, str]:
    """Array of each group with a good electrode; empty where the question does not arise."""
    if not {"x", "y", "group"} <= set(dataset.coords):
        return {}
    good = _good(dataset)
    position, group = _plane(dataset)[good], dataset["group"].values.astype(str)[good]
    if len(group) < MINIMUM or not np.isfinite(position).all():
        return {}
    arrays = split_arrays(position, group)
    return dict(zip(group.tolist(), arrays.tolist(), strict=True))
