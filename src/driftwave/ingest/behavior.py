"""Behaviour at the bins: averaged where it is sampled finer, interpolated where it is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pynwb
import xarray as xr

from driftwave.ingest.behavior_events import (
    event_counts,
    events_of,
    held_values,
    interval_shares,
    spans_of,
)
from driftwave.ingest.clock import in_order
from driftwave.ingest.file import NwbFile
from driftwave.ingest.motion import along_track, velocity
from driftwave.ingest.resampling import LONGEST_BRIDGE, resample
from driftwave.ingest.series import times_of, values_of
from driftwave.joblog import note
from driftwave.layout import BehaviorLayout

__all__ = ["LONGEST_BRIDGE", "behavior_groups", "has_behavior", "resample"]

_RADIANS = {"rad": 1.0, "radian": 1.0, "radians": 1.0}
_DEGREES = {"deg": np.pi / 180, "degree": np.pi / 180, "degrees": np.pi / 180, "°": np.pi / 180}
_TO_RADIANS = _RADIANS | _DEGREES


@dataclass(frozen=True)
class _Variable:
    """One behavioural variable: at the bins (trial, time, feature), and as recorded."""

    value: np.ndarray
    slow: np.ndarray
    labels: list[str]
    unit: str
    series: xr.DataArray
    source: tuple[str, tuple[int, ...]]


def behavior_groups(
    file: NwbFile,
    layouts: list[BehaviorLayout],
    starts: np.ndarray,
    offset: float,
    bin_width: float,
    bins: int,
) -> tuple[xr.Dataset, xr.Dataset, np.ndarray]:
    """The recording's ``behavior`` and ``behavior_series`` groups.

    Circular variables are resampled as unit vectors and given in rad, 0 to 2 pi. Bins below a
    layout's ``min_speed`` are NaN.

    Returns
    -------
    behavior : Dataset
        ``value (trial, time, feature)``.
    series : Dataset
        ``NAME (NAME_time, NAME_column)``, unchanged but for the conversion to the file's unit;
        a series that several variables are made of is there once, under the first one's name.
    covered : ndarray of bool (trial,)
        Trials in which every variable was recorded at all, fast enough or not.

    Raises
    ------
    InputError
        Missing series or column, wrong number of labels, unknown unit of a circular variable,
        nothing but NaN.
    """
    found = [
        _variable(file, layout, f"behavior.{number}", starts, bin_width, bins)
        for number, layout in enumerate(layouts)
    ]
    names = [label for variable in found for label in variable.labels]
    _unique(file, names)
    recorded = np.concatenate([variable.value for variable in found], axis=2).astype(np.float32)
    slow = np.concatenate([variable.slow for variable in found], axis=2)
    covered = has_behavior(recorded)
    if not covered.all():
        note(f"{int((~covered).sum())} trials lack a sample of some behaviour: unused")
    behavior = xr.Dataset(
        {
            "value": (
                ("trial", "time", "feature"),
                np.where(slow, np.float32(np.nan), recorded),
                {"units": "see unit_of_measure"},
            )
        },
        coords={
            "trial": np.arange(len(starts)),
            "time": ("time", offset + np.arange(bins) * bin_width, {"units": "s"}),
            "feature": names,
            "kind": (
                "feature",
                [n.kind for n, v in zip(layouts, found, strict=True) for _ in v.labels],
            ),
            "unit_of_measure": ("feature", [v.unit for v in found for _ in v.labels]),
        },
        attrs={
            "bin_width": bin_width,
            "bins_without_behavior": int(np.isnan(recorded).any(axis=2).sum()),
            "bins_too_slow": int(slow.any(axis=2).sum()),
            "windows_without_behavior": int((~covered).sum()),
        },
    )
    first = {variable.source: variable.series for variable in reversed(found)}
    return behavior, xr.Dataset({str(s.name): s for s in reversed(first.values())}), covered


def _variable(
    file: NwbFile,
    layout: BehaviorLayout,
    key: str,
    starts: np.ndarray,
    bin_width: float,
    bins: int,
) -> _Variable:
    if layout.binning != "resample":
        return _of_events(file, layout, key, starts, bin_width, bins)
    times, data, columns, unit = _read(file, layout, key)
    moved, speed, unit_at_bins = _motion(file, layout, key, times, data, unit)
    labels = _labels(file, layout, key, columns, moved.shape[1])
    # Values are those at the bins' centres, so half a bin earlier for those at their starts.
    shift = layout.lag - (bin_width / 2 if layout.at == "start" else 0.0)
    at = starts + shift, bin_width, bins
    value = _at_bins(times, moved, *at, unit, layout.kind == "circular")
    if not np.isfinite(value).any():
        raise file.fault(
            f"{key}.series ({layout.series})",
            _why_empty(times, data),
            "samples within the trials, which span "
            f"{starts.min():.6g} to {starts.max() + bins * bin_width:.6g} s",
            "Use another series or other times, or remove it from `behavior`",
        )
    slow = np.zeros(value.shape, dtype=bool)
    if layout.min_speed is not None:
        slow |= resample(times, speed, *at) < layout.min_speed
        if not np.isfinite(value[~slow]).any():
            raise file.fault(
                f"{key}.min_speed",
                f"no bin in which {layout.series} changes by {layout.min_speed:g} {unit}/s",
                "some bins",
                f"Lower `{key}.min_speed` in the layout",
            )
    named = labels if len(labels) == len(columns) else columns
    series = _as_recorded(layout, times, data, named, unit)
    source = layout.series, tuple(columns)
    return _Variable(value, slow, labels, unit_at_bins, series, source)


def _of_events(
    file: NwbFile, layout: BehaviorLayout, key: str, starts: np.ndarray, bin_width: float, bins: int
) -> _Variable:
    """Counts, shares or held values; what no event or interval touches is 0, not missing."""
    shift = layout.lag - (bin_width / 2 if layout.at == "start" else 0.0)
    at = starts + shift, bin_width, bins
    if layout.binning == "share":
        spans = spans_of(file, layout, key)
        # As recorded: 1 from each start, 0 from each stop.
        times, data = spans.ravel(), np.tile([1.0, 0.0], len(spans))[:, None]
        value, unit, unit_at_bins = interval_shares(spans, *at), "1", "share of the bin"
    else:
        times, data, unit = events_of(file, layout, key)
        if layout.binning == "hold":
            data, _ = _columns(file, layout, key, _without_fill(layout, data))
            value, unit_at_bins = held_values(times, data, *at), unit
        else:
            value, unit_at_bins = event_counts(times, *at), "events/bin"
    labels = _labels(file, layout, key, list(range(value.shape[2])), value.shape[2])
    named = labels if len(labels) == data.shape[1] else list(range(data.shape[1]))
    series = _as_recorded(layout, times, data, named, unit)
    source = f"{layout.series} {layout.binning} {layout.where}", tuple(layout.columns or ())
    return _Variable(value, np.zeros(value.shape, dtype=bool), labels, unit_at_bins, series, source)


def _as_recorded(
    layout: BehaviorLayout, times: np.ndarray, data: np.ndarray, columns: list, unit: str
) -> xr.DataArray:
    return xr.DataArray(
        data,
        dims=(f"{layout.name}_time", f"{layout.name}_column"),
        coords={
            f"{layout.name}_time": (f"{layout.name}_time", times, {"units": "s"}),
            f"{layout.name}_column": columns,
        },
        name=layout.name,
        attrs={"units": unit, "kind": layout.kind},
    )


def _motion(
    file: NwbFile,
    layout: BehaviorLayout,
    key: str,
    times: np.ndarray,
    data: np.ndarray,
    unit: str,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Samples as the layout wants them, their speed (sample, 1) if it matters, and their unit."""
    if layout.track is not None:
        if data.shape[1] != 2:
            raise file.fault(
                f"{key}.track",
                f"{data.shape[1]} columns of {layout.series}",
                "two, x and y",
                f"Name two in `{key}.columns`, or remove `{key}.track`",
            )
        data = along_track(data, np.array(layout.track, dtype=float))
    if layout.derivative is None and layout.min_speed is None:
        unit = "rad" if layout.kind == "circular" else unit
        return data, np.zeros((len(data), 1)), unit
    change = velocity(times, data, layout.speed_smoothing, LONGEST_BRIDGE)
    speed = np.linalg.norm(change, axis=1, keepdims=True)
    chosen = {None: data, "velocity": change, "speed": speed}[layout.derivative]
    return chosen, speed, unit if layout.derivative is None else f"{unit}/s"


def has_behavior(value: np.ndarray) -> np.ndarray:
    """Trials in which every feature has at least one sample, bool (trial,)."""
    return np.isfinite(value).any(axis=1).all(axis=1)


def _at_bins(
    times: np.ndarray,
    data: np.ndarray,
    starts: np.ndarray,
    bin_width: float,
    bins: int,
    unit: str,
    circular: bool,
) -> np.ndarray:
    if not circular:
        return resample(times, data, starts, bin_width, bins)
    angle = data * _TO_RADIANS[unit]
    columns = angle.shape[1]
    vector = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    mean = resample(times, vector, starts, bin_width, bins)
    return np.arctan2(mean[..., columns:], mean[..., :columns]) % (2 * np.pi)


def _read(
    file: NwbFile, layout: BehaviorLayout, key: str
) -> tuple[np.ndarray, np.ndarray, list[int], str]:
    """Times and chosen columns of a series, which columns these are, and their unit."""
    series = file.series(layout.series, f"{key}.series")
    if isinstance(series, pynwb.misc.IntervalSeries):
        raise file.fault(
            f"{key}.series ({layout.series})",
            "an IntervalSeries, whose data are starts and stops",
            "a sampled signal",
            f"Set `{key}.binning: share` in the layout",
        )
    times = times_of(file, series, layout.series)
    data, columns = _columns(file, layout, key, values_of(file, series, layout.series))
    unit = (layout.unit or series.unit or "").strip() or "not stated"
    if layout.kind == "circular" and unit not in _TO_RADIANS:
        raise file.fault(
            f"{key}.unit",
            f"unit {unit!r} of the circular series {layout.series}",
            f"one of {sorted(_TO_RADIANS)}",
            f"Set `{key}.unit` in the layout",
        )
    data = _without_fill(layout, data)
    order = in_order(file, times, layout.series)
    return times[order], data[order], columns, unit


def _columns(
    file: NwbFile, layout: BehaviorLayout, key: str, data: np.ndarray
) -> tuple[np.ndarray, list[int]]:
    """The layout's columns of the values, and their numbers."""
    columns = list(range(data.shape[1])) if layout.columns is None else layout.columns
    if not columns or not all(0 <= c < data.shape[1] for c in columns):
        raise file.fault(
            f"{key}.columns",
            f"{columns}",
            f"column numbers 0 to {data.shape[1] - 1} of {layout.series}",
            "Mend them in the layout",
        )
    return data[:, columns], columns


def _without_fill(layout: BehaviorLayout, data: np.ndarray) -> np.ndarray:
    """NaN for what is infinite or a value that stands for a missing one."""
    data = np.where(np.isfinite(data), data, np.nan)
    for fill in layout.missing:
        at = np.isclose(data, fill, rtol=1e-6, atol=0)
        if at.any():
            note(f"{int(at.sum())} values {fill:g} of {layout.series} are taken as missing")
        data[at] = np.nan
    return data


def _labels(
    file: NwbFile, layout: BehaviorLayout, key: str, columns: list[int], number: int
) -> list[str]:
    """Names of the ``number`` features a variable gives."""
    if layout.labels is not None and len(layout.labels) != number:
        of = f"columns of {layout.series}" if number == len(columns) else f"values of {key}"
        raise file.fault(
            f"{key}.labels",
            f"{len(layout.labels)} labels",
            f"one for each of {number} {of}",
            "Mend them in the layout",
        )
    numbers = columns if number == len(columns) else range(number)
    endings = layout.labels or (list(map(str, numbers)) if number > 1 else None)
    return [f"{layout.name}_{e}" for e in endings] if endings else [layout.name]


def _why_empty(times: np.ndarray, data: np.ndarray) -> str:
    finite = np.isfinite(data).all(axis=1)
    if not finite.any():
        return f"NaN in all {len(times)} samples" if len(times) else "no sample"
    return f"finite samples from {times[finite][0]:.6g} to {times[finite][-1]:.6g} s only"


def _unique(file: NwbFile, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise file.fault(
            "behavior", f"features {twice} twice", "different names", "Rename them in the layout"
        )
