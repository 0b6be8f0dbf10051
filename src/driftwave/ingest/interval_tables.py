"""Interval tables of a file, wherever they lie, and tables nested in one another."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hdmf.common import DynamicTable

from driftwave.ingest.file import NwbFile
from driftwave.ingest.tables import column, matching, table_frame
from driftwave.joblog import note
from driftwave.layout import WithinLayout

# A reference from a row to stretches of series is no fact about the row.
NO_FACTS = ("timeseries", "timeseries_index")


def interval_table(file: NwbFile, path: str, field: str) -> DynamicTable:
    """The table at a path, such as ``intervals/NAME``, or named ``trials`` or ``epochs``.

    Raises
    ------
    InputError
        If there is none; the sentence lists the interval tables there are.
    """
    item = file.h5.get(path.strip("/"))
    identity = None if item is None else item.attrs.get("object_id")
    identity = identity.decode() if isinstance(identity, bytes) else identity
    found = file.nwbfile.objects.get(identity)
    return found if isinstance(found, DynamicTable) else file.intervals(path, field)


def interval_frame(
    file: NwbFile, path: str, where: str | None, field: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of an interval table that a condition selects.

    Returns
    -------
    frame : DataFrame (row)
        Its plain columns, as :func:`driftwave.ingest.tables.table_frame` gives them.
    spans : ndarray (row, 2)
        Start and stop, s. Rows without either are left out, which is said.

    Raises
    ------
    InputError
        No such table, no start_time or stop_time, a condition that fails or matches nothing.
    """
    table = interval_table(file, path, field)
    frame, _ = table_frame(file, table, leave_out=NO_FACTS)
    frame = frame[matching(file, frame, where, f"{field}.where", path)]
    spans = np.stack(
        [
            pd.to_numeric(column(file, frame, name, field, path), errors="coerce").to_numpy(float)
            for name in ("start_time", "stop_time")
        ],
        axis=1,
    )
    whole = spans[:, 1] >= spans[:, 0]
    if not whole.all():
        note(f"{int((~whole).sum())} rows of {path} have no stop after their start: left out")
    return frame[whole].reset_index(drop=True), spans[whole]


def nested(
    file: NwbFile, frame: pd.DataFrame, events: np.ndarray, layouts: list[WithinLayout]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Give rows the columns of the rows of other tables that lie around them.

    Where several rows of a table hold an event, the one that starts last counts, the innermost.

    Parameters
    ----------
    frame : DataFrame (row)
    events : ndarray (row,)
        Alignment event of each row, s; NaN lies in no interval.
    layouts : list of WithinLayout

    Returns
    -------
    frame : DataFrame (row)
        With further columns, named with each table's prefix; missing where no row lies around.
    inside : ndarray of bool (row,)
        Rows whose event lies in an interval of every table.

    Raises
    ------
    InputError
        As :func:`interval_frame`, or if a column's name is taken.
    """
    inside = np.ones(len(frame), dtype=bool)
    frame = frame.reset_index(drop=True)
    for number, layout in enumerate(layouts):
        field = f"trials.within.{number}"
        outer, spans = interval_frame(file, layout.table, layout.where, field)
        name = layout.table.strip("/").rpartition("/")[2]
        prefix = f"{name}_" if layout.prefix is None else layout.prefix
        outer = outer.add_prefix(prefix)
        taken = [str(c) for c in outer.columns if c in frame]
        if taken:
            raise file.fault(
                f"{field}.prefix",
                f"columns {taken[:5]} twice",
                "names that no other column has",
                f"Set another `{field}.prefix` in the layout",
            )
        row = innermost(spans, events)
        inside &= row >= 0
        added = outer.reindex(row).reset_index(drop=True)
        frame = pd.concat([frame, added], axis=1)
    return frame, inside


def innermost(spans: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The interval that holds each time, the one that starts last if several do; -1 for none.

    Parameters
    ----------
    spans : ndarray (interval, 2)
        Start and stop, s, in any order; intervals are ``[start, stop)``.
    times : ndarray (time,)

    Returns
    -------
    ndarray of int (time,)
    """
    if not len(spans):
        return np.full(len(times), -1)
    order = np.argsort(spans[:, 0], kind="stable")
    starts, stops = spans[order, 0], spans[order, 1]
    reach = np.maximum.accumulate(stops)
    at = np.searchsorted(starts, times, side="right") - 1
    at[~np.isfinite(times)] = -1
    while True:
        wrong = np.flatnonzero((at >= 0) & (stops[at] <= times))
        if not len(wrong):
            return np.where(at >= 0, order[at], -1)
        # No earlier interval reaches this far: none holds the time.
        at[wrong] = np.where(reach[at[wrong]] <= times[wrong], -1, at[wrong] - 1)
