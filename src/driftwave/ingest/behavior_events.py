"""Behaviour that is no sampled signal: events to count, intervals to measure, values to hold."""

from __future__ import annotations

import numpy as np
import pynwb

from driftwave.ingest import intervals
from driftwave.ingest.binning import bin_spikes
from driftwave.ingest.clock import in_order
from driftwave.ingest.file import NwbFile
from driftwave.ingest.interval_tables import interval_frame
from driftwave.ingest.series import times_of, values_of
from driftwave.joblog import note
from driftwave.layout import BehaviorLayout


def event_counts(times: np.ndarray, starts: np.ndarray, bin_width: float, bins: int) -> np.ndarray:
    """Events per bin, (trial, time, 1); bins hold their left edge, as those of spikes do.

    Parameters
    ----------
    times : ndarray (event,)
        s.
    starts : ndarray (trial,)
        Start of the first bin of each trial, s.
    bin_width : float
        s.
    bins : int
    """
    return bin_spikes(times, np.array([len(times)]), starts, bin_width, bins).astype(float)


def interval_shares(
    spans: np.ndarray, starts: np.ndarray, bin_width: float, bins: int
) -> np.ndarray:
    """Share of each bin that intervals cover, (trial, time, 1), 0 to 1.

    Parameters
    ----------
    spans : ndarray (interval, 2)
        s; where they overlap they count once.
    starts, bin_width, bins
        As in :func:`event_counts`.
    """
    edges = np.asarray(starts)[:, None] + np.arange(bins + 1) * bin_width
    if not len(spans):
        return np.zeros((len(edges), bins, 1))
    merged = intervals.merge(spans)
    before = np.concatenate([[0.0], np.cumsum(np.diff(merged, axis=1))])
    at = np.stack([before[:-1], before[1:]], axis=1)
    covered = np.interp(edges, merged.ravel(), at.ravel())
    return np.clip(np.diff(covered, axis=1) / bin_width, 0, 1)[..., None]


def held_values(
    times: np.ndarray, values: np.ndarray, starts: np.ndarray, bin_width: float, bins: int
) -> np.ndarray:
    """The last value before the centre of each bin, (trial, time, column); NaN before the first.

    Parameters
    ----------
    times : ndarray (sample,)
        Ascending, s.
    values : ndarray (sample, column)
    starts, bin_width, bins
        As in :func:`event_counts`.
    """
    centres = np.asarray(starts)[:, None] + (np.arange(bins) + 0.5) * bin_width
    at = np.searchsorted(times, centres, side="right") - 1
    found = values[np.maximum(at, 0)]
    found[at < 0] = np.nan
    return found


def events_of(
    file: NwbFile, layout: BehaviorLayout, key: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """Times (event,), s, values (event, column) and unit of a layout's events or held values.

    Rows of an interval table are events at their start, of value 1.
    """
    if layout.series.strip("/") not in file.series_paths:
        _, spans = interval_frame(file, layout.series, layout.where, f"{key}.series")
        times, values, unit = spans[:, 0], np.ones((len(spans), 1)), "event"
    else:
        series = file.series(layout.series, f"{key}.series")
        times, unit = times_of(file, series, layout.series), str(series.unit or "not stated")
        text = isinstance(series, pynwb.misc.AnnotationSeries)
        values = np.ones((len(times), 1)) if text else values_of(file, series, layout.series)
    order = in_order(file, times, layout.series, repeats=layout.binning == "count")
    return times[order], values[order], layout.unit or unit


def spans_of(file: NwbFile, layout: BehaviorLayout, key: str) -> np.ndarray:
    """Intervals (interval, 2), s, of an IntervalSeries or an interval table.

    Raises
    ------
    InputError
        If the layout names another kind of series.
    """
    if layout.series.strip("/") not in file.series_paths:
        return interval_frame(file, layout.series, layout.where, f"{key}.series")[1]
    series = file.series(layout.series, f"{key}.series")
    if not isinstance(series, pynwb.misc.IntervalSeries):
        raise file.fault(
            f"{key}.series ({layout.series})",
            f"a {type(series).__name__}",
            "an IntervalSeries or an interval table, to take the share of",
            f"Set `{key}.binning` to resample, hold or count",
        )
    times = times_of(file, series, layout.series)
    marks = file.read(series.data, slice(None), field=layout.series).astype(int)
    order = in_order(file, times, layout.series, repeats=True)
    return _paired(times[order], marks[order], layout.series)


def _paired(times: np.ndarray, marks: np.ndarray, path: str) -> np.ndarray:
    """Starts (a mark k > 0) with the stops (-k) that follow them, (interval, 2)."""
    found, lone = [np.empty((0, 2))], 0
    for kind in np.unique(np.abs(marks[marks != 0])):
        own = np.abs(marks) == kind
        t, starts = times[own], marks[own] > 0
        pairs = np.flatnonzero(starts[:-1] & ~starts[1:])
        lone += int(len(t) - 2 * len(pairs))
        found.append(np.stack([t[pairs], t[pairs + 1]], axis=1))
    if lone:
        note(f"{lone} starts or stops of {path} have no counterpart: left out")
    return np.concatenate(found)
