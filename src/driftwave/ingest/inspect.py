"""What an NWB file holds, as a table; and a first layout for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pynwb
from hdmf.common import DynamicTable

from driftwave.errors import InputError
from driftwave.ingest.draft import draft_layout
from driftwave.ingest.file import NwbFile, explained, open_nwb
from driftwave.strict import NAME_PATTERN

COLUMNS = ["path", "type", "shape", "rate", "start", "stop", "units", "notes"]


def contents(path: str | Path) -> pd.DataFrame:
    """List the series and tables of an NWB file.

    Returns
    -------
    DataFrame
        Columns path, type, shape, rate (Hz, or ``time stamps``), start and stop (s), units and
        notes: what deserves attention, such as arrays stored the wrong way round, uneven time
        stamps, missing values, columns of a table.

    Raises
    ------
    InputError
        If the file cannot be opened.
    """
    with open_nwb(path, access="ranges") as file, explained(file):
        rows = [_series_row(file, name) for name in sorted(file.series_paths)]
        rows += [_table_row(file, name, table) for name, table in _tables(file)]
    return pd.DataFrame(rows, columns=COLUMNS)


def layout_name(path: Path, *, force: bool = False) -> str:
    """Name of a layout from the path that it is to be written to.

    Raises
    ------
    InputError
        If the path names no layout, or a file is there and ``force`` is false.
    """

    def fault(found: str, expected: str, fix: str) -> InputError:
        return InputError(
            file=path, field="--write-layout", found=found, expected=expected, fix=fix
        )

    if path.suffix not in (".yaml", ".yml") or not re.fullmatch(NAME_PATTERN, path.stem):
        raise fault(
            repr(path.name), "NAME.yaml, NAME of letters, digits, _ and -", "Give another path"
        )
    if path.exists() and not force:
        raise fault(
            "a file", "none, since it may have been edited", "Give another path, or add --force"
        )
    return path.stem


def first_layout(path: str | Path, name: str | None = None) -> str:
    """A commented layout for an NWB file, which ingests it as it is and is meant to be edited.

    Parameters
    ----------
    path : str or Path
    name : str, optional
        Name of the layout; default that of the file.

    Raises
    ------
    InputError
        If the file cannot be opened, or holds neither spikes, nor a field signal, nor imaging.
    """
    with open_nwb(path, access="ranges") as file, explained(file):
        return draft_layout(file, name)


def _row(**facts: Any) -> dict[str, str]:
    return {name: str(facts.get(name, "")) for name in COLUMNS}


def _series_row(file: NwbFile, path: str) -> dict[str, str]:
    series = file.nwbfile.objects[file.series_paths[path]]
    shape = tuple(getattr(series.data, "shape", ()) or np.shape(series.data))
    notes = _turned(series, shape)
    if series.timestamps is None:
        rate = float(series.rate or 0.0)
        start = float(series.starting_time or 0.0)
        samples = shape[1] if notes and len(shape) > 1 else (shape[0] if shape else 0)
        stop = start + samples / rate if rate else start
        shown = f"{rate:.6g}"
    else:
        stamps = np.asarray(file.read(series.timestamps, slice(None), field=path), dtype=float)
        start, stop = (float(stamps[0]), float(stamps[-1])) if len(stamps) else (np.nan, np.nan)
        shown = f"stamps, {_typical_rate(stamps)}"
        notes += _stamp_notes(stamps)
    if series.conversion not in (None, 1.0):
        notes.append(f"conversion {series.conversion:g}")
    if getattr(series, "external_file", None) is not None:
        notes.append("data in an external file")
    return _row(
        path=path,
        type=type(series).__name__,
        shape=" x ".join(map(str, shape)),
        rate=shown,
        start=f"{start:.6g}",
        stop=f"{stop:.6g}",
        units=series.unit or "not stated",
        notes="; ".join(notes),
    )


def _turned(series: pynwb.TimeSeries, shape: tuple[int, ...]) -> list[str]:
    """Notes on arrays whose first dimension is not time."""
    if len(shape) != 2:
        return []
    stamps = None if series.timestamps is None else len(series.timestamps)
    region, what = None, ""
    if isinstance(series, pynwb.ophys.RoiResponseSeries):
        region, what = series.rois, "ROI"
    elif isinstance(series, pynwb.ecephys.ElectricalSeries):
        region, what = series.electrodes, "electrode"
    if region is not None and shape[0] == len(region.data) != shape[1]:
        return [f"stored as {what} x time, the transpose of NWB's order"]
    if stamps is not None and shape[0] != stamps == shape[1]:
        return ["stored as column x time, the transpose of NWB's order"]
    return []


def _typical_rate(stamps: np.ndarray) -> str:
    if len(stamps) < 2:
        return "one sample" if len(stamps) else "none"
    return f"about {1 / max(float(np.median(np.diff(stamps))), 1e-12):.4g}"


def _stamp_notes(stamps: np.ndarray) -> list[str]:
    steps = np.diff(stamps)
    if not len(steps):
        return []
    notes = []
    if (steps <= 0).any():
        notes.append(f"{int((steps <= 0).sum())} time stamps not ascending")
    middle = float(np.median(steps))
    gaps = int((steps > 1.5 * middle).sum())
    if gaps:
        notes.append(f"{gaps} gaps, the longest {steps.max():.4g} s")
    elif steps.max() - steps.min() > 0.02 * middle:
        notes.append(f"uneven, {steps.min():.4g} to {steps.max():.4g} s apart")
    return notes


def _tables(file: NwbFile) -> list[tuple[str, DynamicTable]]:
    nwbfile = file.nwbfile
    found: list[tuple[str, DynamicTable]] = []
    if nwbfile.units is not None:
        found.append(("units", nwbfile.units))
    if nwbfile.electrodes is not None:
        found.append(("electrodes", nwbfile.electrodes))
    tables = {table.name: table for table in (nwbfile.intervals or {}).values()}
    for extra in (nwbfile.trials, nwbfile.epochs):
        if extra is not None:
            tables[extra.name] = extra
    for name in sorted(tables):
        found.append(("trials" if name == "trials" else f"intervals/{name}", tables[name]))
    return found


def _table_row(file: NwbFile, path: str, table: DynamicTable) -> dict[str, str]:
    start, stop, notes = "", "", []
    if path == "units" and "spike_times" in table.colnames:
        index = table["spike_times"]
        times = np.asarray(file.read(index.target.data, slice(None), field="units/spike_times"))
        ends = np.asarray(file.read(index.data, slice(None), field="units/spike_times_index"))
        silent = int((np.diff(ends.astype(np.int64), prepend=0) == 0).sum())
        notes.append(f"{len(times)} spikes" + (f", {silent} units silent" if silent else ""))
        if len(times):
            start, stop = f"{times.min():.6g}", f"{times.max():.6g}"
    elif "start_time" in table.colnames and len(table):
        starts, stops = (
            file.read(table[name].data, slice(None), field=path).astype(float)
            for name in ("start_time", "stop_time")
        )
        start, stop = f"{np.nanmin(starts):.6g}", f"{np.nanmax(stops):.6g}"
    notes.append("columns " + ", ".join(table.colnames))
    return _row(
        path=path,
        type=type(table).__name__,
        shape=f"{len(table)} rows",
        start=start,
        stop=stop,
        notes="; ".join(notes),
    )
