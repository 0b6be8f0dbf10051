"""Trials: rows of an interval table aligned to an event, or abutting windows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from driftwave.errors import InputError
from driftwave.ingest.file import NwbFile
from driftwave.ingest.intervals import covered
from driftwave.ingest.tables import column, matching, table_frame
from driftwave.layout import Layout, StimulusLayout, TrialsLayout, WindowsLayout

_OWN_NAMES = ("split", "condition", "start", "stop")


@dataclass
class Trials:
    """Trials of equal length.

    Attributes
    ----------
    starts : ndarray (trial,)
        Start of the first bin, s, session clock.
    offset : float
        Start of the first bin relative to the alignment event, s.
    bins : int
    contiguous : bool
        Abutting windows of one continuous recording.
    table : DataFrame
        Columns of the interval table, a row per trial (empty for windows).
    usable : ndarray of bool (trial,)
        False where something the layout asks for is missing; such trials become ``unused``.
    notes : dict
        Numbers of trials left out and why, for the attributes.
    """

    starts: np.ndarray
    offset: float
    bins: int
    contiguous: bool
    table: pd.DataFrame
    usable: np.ndarray
    notes: dict[str, int | str] = field(default_factory=dict)


def whole_bins(length: float, bin_width: float, file: str | Path, key: str) -> int:
    """Number of bins in a length of time, which must be whole.

    Raises
    ------
    InputError
        If it is not.
    """
    bins = round(length / bin_width)
    if 0 < length < bin_width * (1 - 1e-6):
        raise InputError(
            file=file,
            field=key,
            found=f"{length:.6g} s, shorter than one bin of {bin_width:.6g} s",
            expected="a whole number of bins",
            fix=f"Narrow `bin_width`, or set `{key}` to a multiple of it",
        )
    if abs(length / bin_width - bins) > 1e-6:
        raise InputError(
            file=file,
            field=key,
            found=f"{length:.6g} s, that is {length / bin_width:.6g} bins of {bin_width:.6g} s",
            expected="a whole number of bins",
            fix=f"Set it to a multiple of `bin_width`, such as {max(1, bins) * bin_width:.6g} s",
        )
    return bins


def cut(file: NwbFile, layout: Layout, coverage: np.ndarray, slack: float) -> Trials | None:
    """The layout's trials or windows; None if it asks for neither.

    Parameters
    ----------
    coverage : ndarray (interval, 2)
        When was recorded, s: sorted, disjoint intervals.
    slack : float
        How far (s) a trial may reach beyond.

    Raises
    ------
    InputError
        Missing table or column, no trial left, one trial only.
    """
    if layout.trials is not None:
        found = _from_table(file, layout.trials, layout.bin_width, coverage, slack)
    elif layout.windows is not None:
        found = _windows(file, layout.windows, layout.bin_width, coverage, slack)
    else:
        return None
    if found.usable.sum() < 2:
        key = "trials" if layout.trials is not None else "windows"
        left_out = {k: v for k, v in found.notes.items() if v}
        raise file.fault(
            key,
            f"{int(found.usable.sum())} usable trial{'' if found.usable.sum() == 1 else 's'}"
            + (f" ({json.dumps(left_out)})" if left_out else ""),
            "at least 3, one each to train, validate and test on",
            "Loosen `trials.where`, or check alignment and window against the recording, which "
            f"spans {coverage[0, 0]:.6g} to {coverage[-1, 1]:.6g} s"
            if layout.trials is not None
            else "Shorten `windows.length`, or widen `windows.start` and `stop`; the recording "
            f"spans {coverage[0, 0]:.6g} to {coverage[-1, 1]:.6g} s",
        )
    return found


def _from_table(
    file: NwbFile, layout: TrialsLayout, bin_width: float, coverage: np.ndarray, slack: float
) -> Trials:
    table = file.intervals(layout.table, "trials.table")
    frame, dropped = table_frame(file, table, leave_out=("timeseries",))
    frame = frame[matching(file, frame, layout.where, "trials.where", layout.table)]
    events = pd.to_numeric(
        column(file, frame, layout.align, "trials.align", layout.table), errors="coerce"
    )
    events_known = events.notna().to_numpy()
    events_s = events.to_numpy(dtype=float)[events_known]
    frame = frame[events_known]
    bins = whole_bins(layout.window[1] - layout.window[0], bin_width, file.path, "trials.window")
    starts = events_s + layout.window[0]
    if layout.on_grid:
        # A start on the grid but for rounding must stay where it is.
        starts = np.ceil(np.round(starts / bin_width, 6)) * bin_width
    inside = covered(coverage, starts, starts + bins * bin_width, slack)
    return Trials(
        starts=starts[inside],
        offset=layout.window[0],
        bins=bins,
        contiguous=False,
        table=frame[inside].reset_index(drop=True),
        usable=np.ones(int(inside.sum()), dtype=bool),
        notes={
            "rows_without_alignment_event": int((~events_known).sum()),
            "rows_outside_recording": int((~inside).sum()),
            "columns_left_out": ", ".join(dropped),
        },
    )


def _windows(
    file: NwbFile, layout: WindowsLayout, bin_width: float, coverage: np.ndarray, slack: float
) -> Trials:
    bins = whole_bins(layout.length, bin_width, file.path, "windows.length")
    begin = coverage[0, 0] if layout.start is None else layout.start
    end = coverage[-1, 1] if layout.stop is None else layout.stop
    number = max(0, int(np.floor((end - begin) / layout.length + 1e-6)))
    starts = begin + np.arange(number) * layout.length
    observed = covered(coverage, starts, starts + layout.length, slack)
    kept = np.flatnonzero(observed)
    # Windows before or after the recording go; one over a gap inside it stays, so that the
    # others keep abutting, but is not used.
    span = slice(kept[0], kept[-1] + 1) if len(kept) else slice(0, 0)
    return Trials(
        starts=starts[span],
        offset=0.0,
        bins=bins,
        contiguous=True,
        table=pd.DataFrame(index=range(len(starts[span]))),
        usable=observed[span],
        notes={
            "windows_outside_recording": int(number - len(starts[span])),
            "windows_over_gaps": int((~observed[span]).sum()),
        },
    )


def conditions(file: NwbFile, layout: TrialsLayout, table: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Condition of each trial, int (trial,), and what the codes mean (JSON list of names).

    Codes number the combinations of the layout's columns in sorted order; without columns all
    trials are of condition 0.
    """
    if not layout.condition:
        return np.zeros(len(table), dtype=np.int64), json.dumps(["all"])
    for name in layout.condition:
        column(file, table, name, "trials.condition", layout.table)
    groups = table.groupby(layout.condition, dropna=False, sort=True)
    codes = groups.ngroup().to_numpy(dtype=np.int64)
    firsts = table.iloc[[int(np.flatnonzero(codes == k)[0]) for k in range(codes.max() + 1)]]
    names = [
        ", ".join(f"{name}={row[name]}" for name in layout.condition)
        for _, row in firsts.iterrows()
    ]
    return codes, json.dumps(names)


def trials_group(
    trials: Trials,
    bin_width: float,
    split: np.ndarray,
    condition: np.ndarray,
    condition_names: str,
) -> xr.Dataset:
    """The recording's ``trials`` group; a column named as one of ours gets ``_in_file``."""
    stops = trials.starts + trials.bins * bin_width
    category = {"units": "category"}
    variables: dict[str, tuple] = {
        "split": ("trial", split.astype("<U6"), category),
        "condition": ("trial", condition, category | {"names": condition_names}),
        "start": ("trial", trials.starts, {"units": "s"}),
        "stop": ("trial", stops, {"units": "s"}),
    }
    for name in trials.table.columns:
        values = trials.table[name].to_numpy()
        text = values.dtype.kind not in "biufc"
        values = values.astype(str) if text else values
        units = "s" if name.endswith("_time") else "text" if text else "as in the file"
        renamed = f"{name}_in_file" if name in _OWN_NAMES else name
        variables[renamed] = ("trial", values, {"units": units})
    attrs = {**trials.notes, "unused": int((split == "unused").sum())}
    return xr.Dataset(variables, coords={"trial": np.arange(len(trials.starts))}, attrs=attrs)


def stimulus_group(file: NwbFile, layout: StimulusLayout, table: pd.DataFrame) -> xr.Dataset:
    """The recording's ``stimulus`` group: a variable per column, with ``period`` if circular.

    Raises
    ------
    InputError
        If a column is missing or a circular one is not numeric.
    """
    unknown = sorted(set(layout.circular) - set(layout.columns))
    if unknown:
        raise file.fault(
            "stimulus.circular", f"{unknown}", f"names among {layout.columns}", "Mend the names"
        )
    variables = {}
    for name in layout.columns:
        values = column(file, table, name, "stimulus.columns", "the trials table").to_numpy()
        numeric = values.dtype.kind in "biuf"
        attrs: dict[str, str | float] = {"units": "as in the file" if numeric else "text"}
        if name in layout.circular:
            if not numeric:
                raise file.fault(
                    "stimulus.circular",
                    f"text in column {name!r}",
                    "numbers",
                    "Remove it from `stimulus.circular`",
                )
            attrs["period"] = layout.circular[name]
        variables[name] = ("trial", values if numeric else values.astype(str), attrs)
    return xr.Dataset(variables, coords={"trial": np.arange(len(table))})
