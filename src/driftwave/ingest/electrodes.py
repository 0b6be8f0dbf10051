"""Electrodes: positions in mm, regions, and which are good."""

from __future__ import annotations

import numpy as np
import pandas as pd

from driftwave.ingest.file import NwbFile
from driftwave.ingest.tables import column, flags
from driftwave.layout import FieldLayout, PositionsLayout
from driftwave.phase.positions import UNITS, split_arrays, unlikely_unit


def positions_mm(
    file: NwbFile, frame: pd.DataFrame, layout: PositionsLayout, field: str
) -> dict[str, np.ndarray]:
    """x, y and z (electrode,) in mm; z is 0 where the layout names no column for it."""
    found = {}
    for axis in ("x", "y", "z"):
        name = getattr(layout, axis)
        if name is None:
            found[axis] = np.zeros(len(frame))
            continue
        values = pd.to_numeric(
            column(file, frame, name, f"{field}.{axis}", "electrodes"), errors="coerce"
        )
        found[axis] = values.to_numpy(dtype=float) * UNITS[layout.unit]
    return found


def marked_good(file: NwbFile, layout: FieldLayout, frame: pd.DataFrame) -> np.ndarray:
    """Electrodes that neither the layout's column nor its list marks bad, bool (electrode,)."""
    good = np.ones(len(frame), dtype=bool)
    if layout.good is not None:
        good = flags(
            file, column(file, frame, layout.good, "field.good", "electrodes"), "field.good"
        )
    unknown = sorted(set(layout.bad_electrodes) - set(frame["id"]))
    if unknown:
        raise file.fault(
            "field.bad_electrodes",
            f"ids {unknown}",
            f"ids of the series' electrodes, {_brief(frame['id'])}",
            "Mend `field.bad_electrodes` in the layout",
        )
    return good & ~frame["id"].isin(layout.bad_electrodes).to_numpy()


def check_unit(file: NwbFile, positions: np.ndarray, unit: str, field: str) -> None:
    """Positions (electrode, dimension) in mm must have distances that electrodes have.

    ``unit`` is the one the layout gives under ``field``, such as ``field.positions``.

    Raises
    ------
    InputError
        Naming the pitch found and the unit it looks like.
    """
    wrong = unlikely_unit(positions, unit)
    if wrong is None:
        return
    found, guess = wrong
    raise file.fault(
        f"{field}.unit",
        f"electrodes with a {found}",
        "a pitch of 0.001 to 100 mm within 600 mm",
        f"Set `{field}.unit: {guess or 'm, mm or um'}` in the layout (it is {unit})",
    )


def check_positions(
    file: NwbFile,
    ids: np.ndarray,
    positions: dict[str, np.ndarray],
    good: np.ndarray,
    *,
    unit: str = "mm",
    group: np.ndarray | None = None,
) -> None:
    """Good electrodes must each have a position of their own, within their array.

    ``unit`` is the layout's unit of the positions, ``group`` (electrode,) the electrode groups:
    arrays whose positions each start at 0 do not share positions.

    Raises
    ------
    InputError
        Naming the electrodes without a position, two that share one, or a unit that is wrong.
    """
    place = np.stack([positions[axis] for axis in ("x", "y", "z")], axis=1)
    missing = good & ~np.isfinite(place).all(axis=1)
    advice = "Mend the positions, list all but one of them in `field.bad_electrodes`"
    if missing.any():
        raise file.fault(
            "electrode positions",
            f"none for electrodes {_brief(ids[missing])}",
            "a position for each good electrode",
            "List them in `field.bad_electrodes`, or set `field.positions: null`",
        )
    # A nanometre: positions are written with rounding errors, never that close on purpose.
    rounded = np.round(place[good], 6)
    check_unit(file, place[good], unit, "field.positions")
    if group is not None and good.any():
        array = split_arrays(place[good], np.asarray(group)[good].astype(str))
        rounded = np.column_stack([np.unique(array, return_inverse=True)[1], rounded])
    _, at, size = np.unique(rounded, axis=0, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(size > 1)
    if len(shared):
        first = ids[good][at.ravel() == shared[0]]
        where = place[good][at.ravel() == shared[0]][0]
        more = f" (and {len(shared) - 1} more places)" if len(shared) > 1 else ""
        raise file.fault(
            "electrode positions",
            f"electrodes {_brief(first)} all at x {where[0]:g}, y {where[1]:g}, z {where[2]:g} mm"
            + more,
            "a position of its own for each good electrode",
            advice + ", or set `field.positions: null`",
        )


def _brief(ids: object) -> str:
    listed = [int(i) for i in np.asarray(ids)]
    shown = ", ".join(map(str, listed[:8]))
    return f"[{shown}{', ...' if len(listed) > 8 else ''}]"
