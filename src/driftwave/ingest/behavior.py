"""Behaviour at the bins: averaged where it is sampled finer, interpolated where it is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.ingest.file import NwbFile
from driftwave.ingest.motion import along_track, velocity
from driftwave.ingest.series import times_of, values_of
from driftwave.layout import BehaviorLayout

# Missing samples up to this long (s), or two and a half sampling intervals, are bridged.
LONGEST_BRIDGE = 0.25
_RADIANS = {"rad": 1.0, "radian": 1.0, "radians": 1.0}
_DEGREES = {"deg": np.pi / 180, "degree": np.pi / 180, "degrees": np.pi / 180, "°": np.pi / 180}
_TO_RADIANS = _RADIANS | _DEGREES


def resample(
    times: np.ndarray, values: np.ndarray, starts: np.ndarray, bin_width: float, bins: int
) -> np.ndarray:
    """Bring a sampled signal to the bins of trials.

    A series stamped at the bins' own starts, at their width, is taken as binned already. A series
    with two samples per bin or more is low-pass filtered: the value of a bin is the mean of the
    samples around its centre c, weighted by the raised cosine ``(1 + cos(pi (t - c) / w)) / 2``
    for ``|t - c| < w``, w the bin width. Its response is zero at multiples of 1/w and stays below
    -31 dB beyond (a plain mean over the bin: -13 dB), so little folds back into the band of the
    bins. A slower series, and a faster one beside a gap, is interpolated linearly at the bins'
    centres.

    Bins whose centre lies in a gap longer than :data:`LONGEST_BRIDGE`, or outside the series,
    are NaN.

    Parameters
    ----------
    times : ndarray (sample,)
        s, ascending; they need not be regular.
    values : ndarray (sample, column)
        A sample counts as missing if any of its columns is NaN.
    starts : ndarray (trial,)
        Start of the first bin of each trial, s.
    bin_width : float
        s.
    bins : int

    Returns
    -------
    ndarray (trial, time, column)
    """
    valid = np.isfinite(values).all(axis=1)
    shape = (len(starts), bins, values.shape[1])
    if not valid.any():
        return np.full(shape, np.nan)
    step = float(np.median(np.diff(times))) if len(times) > 1 else np.inf
    t, y = times[valid], values[valid]
    lefts = (np.asarray(starts)[:, None] + np.arange(bins) * bin_width).ravel()
    if _binned_already(times, step, starts, bin_width):
        found = _nearest(t, y, lefts, bin_width / 2)
    else:
        centres = lefts + bin_width / 2
        found = np.stack([np.interp(centres, t, column) for column in y.T], axis=1)
        if step <= bin_width / 2 * (1 + 1e-6):
            averaged = _raised_cosine_mean(t, y, centres, step, bin_width)
            found = np.where(np.isfinite(averaged), averaged, found)
        found[~_reached(t, centres, step, bin_width)] = np.nan
    return found.reshape(shape)


def _binned_already(times: np.ndarray, step: float, starts: np.ndarray, bin_width: float) -> bool:
    if abs(step - bin_width) > 1e-3 * bin_width:
        return False
    nearest = times[np.clip(np.searchsorted(times, starts - step / 2), 0, len(times) - 1)]
    return bool(np.median(np.abs(nearest - starts)) < 1e-2 * bin_width)


def _nearest(t: np.ndarray, y: np.ndarray, wanted: np.ndarray, within: float) -> np.ndarray:
    after = np.clip(np.searchsorted(t, wanted), 0, len(t) - 1)
    before = np.maximum(after - 1, 0)
    index = np.where(np.abs(t[before] - wanted) <= np.abs(t[after] - wanted), before, after)
    found = y[index].copy()
    found[np.abs(t[index] - wanted) > within] = np.nan
    return found


def _raised_cosine_mean(
    t: np.ndarray, y: np.ndarray, centres: np.ndarray, step: float, bin_width: float
) -> np.ndarray:
    """Weighted means around the centres, from running sums: cost linear in samples and bins.

    NaN where the samples around a centre have a hole. The identity
    cos(a - b) = cos a cos b + sin a sin b turns each weighted sum into three differences of
    running sums, whatever the sampling.
    """
    low = np.searchsorted(t, centres - bin_width, side="left")
    high = np.searchsorted(t, centres + bin_width, side="right")
    middle = y.mean(axis=0)
    columns = np.concatenate([np.ones((len(t), 1)), y - middle], axis=1)
    angle = np.pi * (t - t[0]) / bin_width
    at = np.pi * (centres - t[0]) / bin_width

    def between(weights: np.ndarray) -> np.ndarray:
        running = np.concatenate([np.zeros((1, columns.shape[1])), columns * weights[:, None]])
        np.cumsum(running, axis=0, out=running)
        return running[high] - running[low]

    sums = between(np.ones(len(t)))
    sums += between(np.cos(angle)) * np.cos(at)[:, None]
    sums += between(np.sin(angle)) * np.sin(at)[:, None]
    # Beside a gap, or at the ends, the weights would lean to one side.
    hole = max(bin_width / 2, 1.5 * step) * (1 + 1e-6)
    holes = np.cumsum(np.diff(t, prepend=-np.inf, append=np.inf) > hole)
    whole = holes[high] == np.where(low > 0, holes[low - 1], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole[:, None], sums[:, 1:] / sums[:, :1], np.nan) + middle


def _reached(t: np.ndarray, centres: np.ndarray, step: float, bin_width: float) -> np.ndarray:
    """Whether a centre lies between two samples no further apart than a bridge, or near one."""
    after = np.searchsorted(t, centres)
    right = t[np.minimum(after, len(t) - 1)]
    left = t[np.maximum(after - 1, 0)]
    bridged = (right - left <= max(LONGEST_BRIDGE, 2.5 * step)) & (left <= centres)
    bridged &= centres <= right
    near = np.minimum(np.abs(left - centres), np.abs(right - centres))
    return bridged | (near <= max(bin_width / 2, 0.75 * step))


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
    series = xr.DataArray(
        data,
        dims=(f"{layout.name}_time", f"{layout.name}_column"),
        coords={
            f"{layout.name}_time": (f"{layout.name}_time", times, {"units": "s"}),
            f"{layout.name}_column": labels if len(labels) == len(columns) else columns,
        },
        name=layout.name,
        attrs={"units": unit, "kind": layout.kind},
    )
    source = layout.series, tuple(columns)
    return _Variable(value, slow, labels, unit_at_bins, series, source)


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
    times = times_of(file, series, layout.series)
    data = values_of(file, series, layout.series)
    columns = list(range(data.shape[1])) if layout.columns is None else layout.columns
    if not columns or not all(0 <= c < data.shape[1] for c in columns):
        raise file.fault(
            f"{key}.columns",
            f"{columns}",
            f"column numbers 0 to {data.shape[1] - 1} of {layout.series}",
            "Mend them in the layout",
        )
    unit = (layout.unit or series.unit or "").strip() or "not stated"
    if layout.kind == "circular" and unit not in _TO_RADIANS:
        raise file.fault(
            f"{key}.unit",
            f"unit {unit!r} of the circular series {layout.series}",
            f"one of {sorted(_TO_RADIANS)}",
            f"Set `{key}.unit` in the layout",
        )
    data[~np.isfinite(data)] = np.nan
    order = np.argsort(times, kind="stable")
    return times[order], data[order][:, columns], columns, unit


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
