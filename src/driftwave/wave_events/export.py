"""The event table as a table of text, for what does not read zarr."""

from __future__ import annotations

import pandas as pd
import xarray as xr


def events_frame(waves: xr.Dataset) -> pd.DataFrame:
    """One row per event, one column per variable that has one value for each.

    Parameters
    ----------
    waves : Dataset
        What a detector found, with a dim ``event``.

    Returns
    -------
    DataFrame
        Columns are named as the variables, in their units (s, degree, mm, mm/s, rad/mm, Hz); the
        session comes first, then start and stop.
    """
    names = [str(name) for name in waves.data_vars if waves[name].dims == ("event",)]
    table = pd.DataFrame({name: waves[name].values for name in sorted(names)})
    first = [name for name in ("start", "stop", "class") if name in table]
    table = table[[*first, *(name for name in table if name not in first)]]
    table.insert(0, "session", str(waves.attrs.get("session", "")))
    return table.sort_values(["start", "stop"], ignore_index=True) if "start" in table else table
