"""Tables of an NWB file as data frames: text decoded, ragged columns joined, queries explained."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pandas as pd
from hdmf.common import DynamicTable, DynamicTableRegion, VectorIndex

from driftwave.expression import GRAMMAR, ExpressionError, evaluate
from driftwave.ingest.file import NwbFile

# Wider columns (waveforms, masks) are arrays in their own right, not facts about a row.
_WIDEST = 4


def table_frame(
    file: NwbFile, table: DynamicTable, *, leave_out: tuple[str, ...] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """A table as a data frame with one plain column per fact.

    Text comes as ``str``; ragged columns are joined by ``;``; a column of up to four numbers per
    row becomes ``name_0``, ``name_1`` ...; references and wider columns are left out.

    Parameters
    ----------
    file : NwbFile
    table : hdmf DynamicTable
    leave_out : tuple of str
        Columns not to read.

    Returns
    -------
    frame : DataFrame
        With the table's ``id`` as a column.
    dropped : list of str
        Columns left out because they are no plain values.
    """
    columns: dict[str, Any] = {"id": file.read(table.id.data, slice(None), field=table.name)}
    dropped: list[str] = []
    for name in table.colnames:
        if name in leave_out:
            continue
        values = _plain_column(file, table, name)
        if values is None:
            dropped.append(name)
        elif values.ndim == 1:
            columns[storable(name)] = values
        else:
            columns |= {f"{storable(name)}_{k}": values[:, k] for k in range(values.shape[1])}
    return pd.DataFrame(columns), dropped


def storable(name: str) -> str:
    """A column's name as that of an array, which is a folder: no path, nothing unprintable."""
    text = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in name)[:100]
    return text if text.strip(".") and not text.startswith("__") else f"column_{text}"


def _plain_column(file: NwbFile, table: DynamicTable, name: str) -> np.ndarray | None:
    column = table[name]
    field = f"{table.name}/{name}"
    target = column
    while isinstance(target, VectorIndex):
        target = target.target
    if isinstance(target, DynamicTableRegion):
        return None
    values = _decoded(file.read(target.data, slice(None), field=field))
    if values is None or values.ndim > 2 or (values.ndim == 2 and values.shape[1] > _WIDEST):
        return None
    if isinstance(column, VectorIndex):
        if target is not column.target or values.ndim > 1:
            return None
        ends = file.read(column.data, slice(None), field=field)
        return _joined(values, ends)
    return values


def _decoded(values: np.ndarray) -> np.ndarray | None:
    """Bytes as text; None for references and compound types."""
    if values.dtype.kind == "V":
        return None
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8").astype(object)
    if values.dtype == object:
        sample = next((v for v in values.flat if v is not None), "")
        if isinstance(sample, h5py.Reference) or not isinstance(sample, str | bytes | np.str_):
            return None
        plain = [v.decode() if isinstance(v, bytes) else str(v) for v in values.flat]
        return np.array(plain, dtype=object).reshape(values.shape)
    return values


def _joined(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    starts = np.concatenate([[0], ends[:-1]]).astype(int)
    rows = [";".join(map(str, values[start:end])) for start, end in zip(starts, ends, strict=True)]
    return np.array(rows, dtype=object)


def column(file: NwbFile, frame: pd.DataFrame, name: str, field: str, table: str) -> pd.Series:
    """A column of a table.

    Raises
    ------
    InputError
        If the table has no such column; the sentence lists those it has.
    """
    if name not in frame:
        raise file.fault(
            field,
            f"no column {name!r} in {table}",
            f"one of {list(frame.columns)}",
            f"Mend `{field}` in the layout",
        )
    return frame[name]


def matching(
    file: NwbFile, frame: pd.DataFrame, where: str | None, field: str, table: str
) -> np.ndarray:
    """Boolean mask of the rows for which the condition ``where`` holds (all for None).

    Raises
    ------
    InputError
        If the condition cannot be evaluated or matches no row.
    """
    if where is None:
        return np.ones(len(frame), dtype=bool)
    try:
        mask = evaluate(where, frame)
    except ExpressionError as error:
        raise file.fault(
            field,
            f"{where[:200]!r}, {error}",
            f"{GRAMMAR}; {table} has the columns {list(frame.columns)}",
            f"Mend `{field}` in the layout",
        ) from error
    if not mask.any():
        raise file.fault(
            field,
            f"{where!r}, which matches none of {len(frame)} rows of {table}",
            "at least one row",
            f"Mend `{field}` in the layout",
        )
    return mask


def flags(file: NwbFile, values: pd.Series, field: str) -> np.ndarray:
    """A column of true and false (or 1 and 0) as booleans.

    Raises
    ------
    InputError
        If it holds anything else.
    """
    numbers = values.replace({"true": 1, "false": 0, "True": 1, "False": 0})
    numbers = pd.to_numeric(numbers, errors="coerce")
    if not numbers.isin([0, 1]).all():
        odd = sorted({str(v) for v in values[~numbers.isin([0, 1])]})[:5]
        raise file.fault(
            field,
            f"values {odd} in column {values.name!r}",
            "only true and false",
            f"Name a boolean column in `{field}`",
        )
    return numbers.to_numpy().astype(bool)
