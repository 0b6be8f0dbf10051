"""Which electrodes a unit was recorded on, and what that says of it: place, region, probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from hdmf.common import DynamicTable, VectorIndex

from driftwave.ingest.electrodes import positions_mm
from driftwave.ingest.file import NwbFile
from driftwave.ingest.tables import column, table_frame
from driftwave.layout import PositionsLayout

_PLACES = ["x", "y", "z", "rel_x", "rel_y", "rel_z"]


@dataclass(frozen=True)
class UnitElectrodes:
    """Electrodes of each unit: ``rows`` (pair,) of ``table``, ``ends`` (unit,) one past the last.

    ``table`` is the electrodes table as a data frame.
    """

    table: pd.DataFrame
    rows: np.ndarray
    ends: np.ndarray

    @property
    def per_unit(self) -> np.ndarray:
        """Number of electrodes, (unit,)."""
        return np.diff(self.ends, prepend=0)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean (unit,) of a value per electrode; NaN for units without electrodes."""
        owner = np.repeat(np.arange(len(self.ends)), self.per_unit)
        total = np.bincount(owner, weights=values[self.rows], minlength=len(self.ends))
        found = np.full(len(self.ends), np.nan)
        some = self.per_unit > 0
        found[some] = total[some] / self.per_unit[some]
        return found


def unit_electrodes(
    file: NwbFile, units: DynamicTable | None, id_column: str | None
) -> UnitElectrodes | None:
    """Electrodes of the units, by the table's reference to them or by a column of ids.

    Parameters
    ----------
    units : DynamicTable or None
        The Units table.
    id_column : str or None
        Column with the id of each unit's electrode, for files without the reference.

    Returns
    -------
    UnitElectrodes or None
        None if the file does not tell.

    Raises
    ------
    InputError
        If the column is missing or names ids that no electrode has, or if a reference leads
        beyond the electrodes table.
    """
    if units is None:
        return None
    if id_column is not None:
        return _by_id(file, units, id_column)
    if "electrodes" not in units.colnames:
        return None
    region = units["electrodes"]
    if isinstance(region, VectorIndex):
        rows = file.read(region.target.data, slice(None), field="units/electrodes")
        ends = file.read(region.data, slice(None), field="units/electrodes_index").astype(int)
        table = region.target.table
    else:
        rows = file.read(region.data, slice(None), field="units/electrodes")
        ends, table = np.arange(1, len(rows) + 1), region.table
    frame, _ = table_frame(file, table)
    rows = rows.astype(int)
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(frame):
        raise file.fault(
            "units/electrodes",
            f"references to rows {rows.min()} to {rows.max()}",
            f"rows 0 to {len(frame) - 1} of the electrodes table",
            "Mend the file",
        )
    return UnitElectrodes(frame, rows, ends)


def _by_id(file: NwbFile, units: DynamicTable, name: str) -> UnitElectrodes:
    facts, _ = table_frame(file, units, leave_out=tuple(c for c in units.colnames if c != name))
    wanted = column(file, facts, name, "spikes.electrode_column", "units").to_numpy()
    if file.nwbfile.electrodes is None:
        raise file.fault(
            "spikes.electrode_column",
            "no electrodes table",
            "one that the units' electrode ids refer to",
            "Remove `spikes.electrode_column` from the layout",
        )
    frame, _ = table_frame(file, file.nwbfile.electrodes)
    row_of = {identity: row for row, identity in enumerate(frame["id"])}
    unknown = [w for w in wanted if w not in row_of]
    if unknown:
        raise file.fault(
            "spikes.electrode_column",
            f"{unknown[0]!r} in column {name!r}, which is no electrode's id",
            f"ids of the electrodes table, such as {list(frame['id'][:3])}",
            "Name another column, or remove `spikes.electrode_column`",
        )
    rows = np.array([row_of[w] for w in wanted], dtype=int)
    return UnitElectrodes(frame, rows, np.arange(1, len(rows) + 1))


def electrode_facts(found: UnitElectrodes) -> pd.DataFrame:
    """Columns of the electrodes table, per unit, as ``electrode_NAME``; positions left out.

    A unit whose electrodes differ has their texts joined by ``;``, and NaN for numbers.
    """
    facts: dict[str, np.ndarray] = {}
    firsts = np.minimum(found.ends - found.per_unit, max(0, len(found.rows) - 1))
    owner = np.repeat(np.arange(len(found.ends)), found.per_unit)
    for name in found.table.columns.difference(_PLACES, sort=False):
        values = found.table[name].to_numpy()[found.rows]
        text = values.dtype.kind not in "biuf"
        values = values.astype(str).astype(object) if text else values.astype(float)
        if not len(values):
            facts[f"electrode_{name}"] = np.full(len(found.ends), "" if text else np.nan)
            continue
        own = values[firsts].copy()
        own[found.per_unit == 0] = "" if text else np.nan
        for unit in np.unique(owner[values != own[owner]]):
            distinct = pd.unique(values[owner == unit])
            own[unit] = ";".join(distinct) if text else np.nan
        facts[f"electrode_{name}"] = own
    return pd.DataFrame(facts)


def group_facts(units: DynamicTable) -> pd.DataFrame:
    """Name, location and device of each unit's electrode group; empty if the table has none."""
    if "electrode_group" not in units.colnames:
        return pd.DataFrame(index=range(len(units)))
    groups = [units["electrode_group"][k] for k in range(len(units))]
    return pd.DataFrame(
        {
            "electrode_group": [str(g.name) for g in groups],
            "electrode_group_location": [str(g.location) for g in groups],
            "electrode_group_device": [str(g.device.name) for g in groups],
        },
        dtype=object,
    )


def unit_positions(
    file: NwbFile, found: UnitElectrodes | None, wanted: PositionsLayout | None, rows: np.ndarray
) -> dict[str, np.ndarray]:
    """x, y, z (unit,) in mm: the mean over each unit's electrodes; empty if the file has none.

    Parameters
    ----------
    rows : ndarray of int (unit,)
        Rows of the selected units in the Units table.
    """
    if found is None or wanted is None:
        return {}
    per_electrode = positions_mm(file, found.table, wanted, "spikes.positions")
    return {axis: found.mean(values)[rows] for axis, values in per_electrode.items()}
