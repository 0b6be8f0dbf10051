"""Times that trials must not, or are said to, overlap: invalid times, light, other intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from driftwave.ingest import intervals
from driftwave.ingest.file import NwbFile
from driftwave.ingest.interval_tables import interval_frame
from driftwave.ingest.series import clock_of, length, values_of
from driftwave.layout import Layout, OverlapLayout

_ROWS_AT_ONCE = 4_000_000


def invalid_times(file: NwbFile, layout: Layout) -> np.ndarray:
    """The file's invalid_times (interval, 2), s, sorted and disjoint; empty if none or ignored."""
    table = file.nwbfile.invalid_times
    if table is None or len(table) == 0 or layout.invalid_times == "ignore":
        return np.empty((0, 2))
    _, spans = interval_frame(file, "intervals/invalid_times", None, "invalid_times")
    return intervals.merge(spans) if len(spans) else np.empty((0, 2))


def touched(spans: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Which trials overlap one of the intervals, bool (trial,); NaN overlaps nothing.

    Parameters
    ----------
    spans : ndarray (interval, 2)
        Sorted and disjoint, s.
    starts, stops : ndarray (trial,)
        s.
    """
    if not len(spans):
        return np.zeros(len(starts), dtype=bool)
    at = np.searchsorted(spans[:, 0], stops - intervals.ABUT, side="left") - 1
    return (at >= 0) & (spans[np.maximum(at, 0), 1] > starts + intervals.ABUT)


def overlaps(
    file: NwbFile, layouts: list[OverlapLayout], starts: np.ndarray, stops: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Trials that overlap what the layout names, bool (trial,), by name: to mark, to leave out.

    Raises
    ------
    InputError
        No such table or series, or a condition that fails.
    """
    marked: dict[str, np.ndarray] = {}
    left_out: dict[str, np.ndarray] = {}
    for number, layout in enumerate(layouts):
        spans = _spans(file, layout, f"overlaps.{number}")
        spans = spans + np.array([-layout.margin, layout.margin])
        found = touched(intervals.merge(spans) if len(spans) else spans, starts, stops)
        (marked if layout.action == "mark" else left_out)[layout.name] = found
    return marked, left_out


def check_names(file: NwbFile, marked: dict[str, np.ndarray], frame: pd.DataFrame) -> None:
    """Refuse marks that are named as a column of the trials."""
    taken = sorted(set(marked) & set(map(str, frame.columns)))
    if taken:
        raise file.fault(
            "overlaps",
            f"the names {taken}, which columns of the trials have",
            "names of their own",
            "Rename them in the layout",
        )


def _spans(file: NwbFile, layout: OverlapLayout, key: str) -> np.ndarray:
    if layout.table is not None:
        return interval_frame(file, layout.table, layout.where, key)[1]
    return _above(file, str(layout.series), layout.above, f"{key}.series")


def _above(file: NwbFile, path: str, level: float, field: str) -> np.ndarray:
    """Stretches (interval, 2), s, in which any column of a series is above a level."""
    series = file.series(path, field)
    samples = length(series)
    on = np.zeros(samples + 2, dtype=bool)
    for begin in range(0, samples, _ROWS_AT_ONCE):
        rows = slice(begin, min(samples, begin + _ROWS_AT_ONCE))
        on[rows.start + 1 : rows.stop + 1] = (values_of(file, series, path, rows) > level).any(1)
    edges = np.flatnonzero(on[1:] != on[:-1]).reshape(-1, 2)
    if not len(edges):
        return np.empty((0, 2))
    clock = clock_of(file, series, path)
    # A sample stands for the time up to the next one.
    return np.stack([clock.at(edges[:, 0]), clock.at(edges[:, 1] - 1) + clock.step], axis=1)
