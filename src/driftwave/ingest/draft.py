"""A first layout drafted from what a file holds: a guess to be edited, but one that loads."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pynwb
import yaml
from hdmf.common import DynamicTable

from driftwave.config import parse_layout
from driftwave.ingest.draft_behavior import behavior_lines, quoted
from driftwave.ingest.electrodes import positions_mm
from driftwave.ingest.file import NwbFile
from driftwave.ingest.rois import centroids, grid_spacing
from driftwave.ingest.series import length, rate_of, times_of
from driftwave.ingest.split import SPELLINGS
from driftwave.ingest.tables import table_frame
from driftwave.layout import PositionsLayout

_BIN_WIDTH = 0.02
_MOST_CONDITIONS = 64
_LEAST_TRIALS = 10


def draft_layout(file: NwbFile, name: str | None = None) -> str:
    """Draft a layout, as commented YAML.

    Raises
    ------
    InputError
        If the file holds neither spikes, nor a field signal, nor imaging.
    """
    spikes, bin_width = _spikes(file)
    field = _field(file)
    imaging = _imaging(file)
    if not spikes and not field and not imaging:
        raise file.fault(
            "contents",
            f"neither units with spike times, nor counts, nor an ElectricalSeries, nor traces of "
            f"ROIs or a movie among {sorted(file.series_paths)}",
            "spikes, a field signal or imaging",
            "Use another file",
        )
    recording = Path(str(file.path))
    name = name or re.sub(r"[^A-Za-z0-9_\-]+", "_", recording.stem).strip("_-") or "layout"
    lines = [
        "# A first layout by `driftwave inspect`: every line is a guess, to be checked.",
        f"name: {quoted(name)}",
        f"description: {quoted(recording.name)}",
    ]
    if spikes:
        lines += [
            f"bin_width: {bin_width:.6g}        # s",
            "forward: 0.0           # s at the end of each trial, hidden from models at evaluation",
            *spikes,
            *_cuts(file, bin_width),
        ]
    lines += field + imaging
    text = "\n".join(lines) + "\n"
    parse_layout(yaml.safe_load(text), Path("drafted layout"))
    return text


def _spikes(file: NwbFile) -> tuple[list[str], float]:
    units = file.nwbfile.units
    fire = 0 if units is None or "spike_times" not in units.colnames else _firing(file)
    if units is not None and fire:
        lines = ["spikes:", "  source: units"]
        places = [n for n in ("location", "region", "brain_area") if n in units.colnames]
        if places:
            lines.append(f"  region: {places[0]}")
        return [*lines, _held_out(fire)], _BIN_WIDTH
    for path in sorted(file.series_paths):
        series = file.nwbfile.objects[file.series_paths[path]]
        unit = (series.unit or "").lower()
        counts = "count" in path.lower() or unit in ("spikes", "counts", "count")
        shape: tuple[int, ...] = getattr(series.data, "shape", ())
        if counts and len(shape) == 2 and length(series) >= 2:
            width = _bin_width(file, series, path)
            lines = [
                "spikes:",
                f"  source: {quoted(path)}   # counts in bins of {width:.6g} s",
                _held_out(int(shape[1])),
            ]
            return lines, width
    return [], _BIN_WIDTH


def _held_out(units: int) -> str:
    """A fifth of the units, if one is left to see."""
    share = "0.2" if units > 1 else "0.0"
    return f"  held_out: {share}          # share of units hidden at evaluation"


def _bin_width(file: NwbFile, series: pynwb.TimeSeries, path: str) -> float:
    """Width of the bins that counts were made in, s."""
    if series.timestamps is None:
        return 1 / rate_of(file, series, path)
    return float(np.median(np.diff(times_of(file, series, path))))


def _firing(file: NwbFile) -> int:
    """Number of units that fire at all."""
    index = file.nwbfile.units["spike_times"]
    ends = file.read(index.data, slice(None), field="units/spike_times_index").astype(np.int64)
    return int((np.diff(ends, prepend=0) > 0).sum())


def _cuts(file: NwbFile, bin_width: float) -> list[str]:
    """Trials or windows, stimulus, split and behaviour."""
    behavior, span = behavior_lines(file)
    table = _trial_table(file)
    if table is None:
        seconds = max(2.0, 50 * bin_width)
        lines = [
            "windows:",
            f"  length: {round(seconds / bin_width) * bin_width:.6g}            # s",
        ]
        if span is not None:
            lines += [
                f"  start: {span[0]:.6g}           # s; where all behaviour below is recorded",
                f"  stop: {span[1]:.6g}",
            ]
        return lines + behavior
    return _trials(*table, bin_width) + behavior


def _trial_table(file: NwbFile) -> tuple[str, pd.DataFrame] | None:
    tables = {table.name: table for table in (file.nwbfile.intervals or {}).values()}
    if file.nwbfile.trials is not None:
        return "trials", table_frame(file, file.nwbfile.trials)[0]
    named = [n for n in sorted(tables) if re.search("trial|encod|recogn|presentation", n)]
    rest = [n for n in sorted(tables) if n not in (*named, "trials", "epochs", "invalid_times")]
    for name in [*named, *rest]:
        if len(tables[name]) < _LEAST_TRIALS:
            continue
        frame = table_frame(file, tables[name])[0]
        # Intervals of any name (ripples, bouts) are trials only if they say what was presented.
        if name in named or _factors(frame):
            return f"intervals/{name}", frame
    return None


def _trials(path: str, frame: pd.DataFrame, bin_width: float) -> list[str]:
    lasting = (frame["stop_time"] - frame["start_time"]).to_numpy(dtype=float)
    # Most trials should be whole; a few very short ones must not dictate the window.
    seconds = min(float(np.nanpercentile(lasting, 5)), 60.0)
    bins = max(5, int(np.floor(seconds / bin_width + 1e-6)))
    events = [
        name
        for name in map(str, frame.columns)
        if name.endswith("_time") and name not in ("start_time", "stop_time")
    ]
    lines = [
        "trials:",
        f"  table: {path}",
        "  align: start_time" + (f"      # or {', '.join(events)}" if events else ""),
        f"  window: [0.0, {bins * bin_width:.6g}]   # s; trials last "
        f"{np.nanmin(lasting):.4g} to {np.nanmax(lasting):.4g} s",
    ]
    factors = _factors(frame)
    if factors:
        lines.append(
            f"  condition: [{quoted(factors[0])}]"
            + (f"   # or {', '.join(factors[1:])}" if factors[1:] else "")
        )
        lines += ["stimulus:", f"  columns: [{', '.join(map(quoted, factors))}]"]
        angles = [n for n in factors if re.search("direction|orientation|angle", n)]
        if angles and pd.api.types.is_numeric_dtype(frame[angles[0]]):
            period = 180 if "orientation" in angles[0] else 360
            lines.append(f"  circular: {{{quoted(angles[0])}: {period}}}")
    words = set(frame["split"].astype(str).str.lower()) if "split" in frame else set()
    # A column without test trials (train and validation only) would leave nothing to score on.
    if words <= set(SPELLINGS) and {"train", "test"} <= words:
        lines += ["split:", "  column: split"]
    return lines


def _factors(frame: pd.DataFrame) -> list[str]:
    """Columns with few distinct values, likeliest condition first."""
    found = []
    for name in map(str, frame.columns):
        if name in ("id", "split") or name.endswith("_time"):
            continue
        distinct = frame[name].nunique()
        if 2 <= distinct <= min(_MOST_CONDITIONS, len(frame) // 3):
            found.append(name)
    likely = re.compile("condition|direction|orientation|stim|type|target|image|clip", re.I)
    return sorted(found, key=lambda name: not likely.search(name))


def _field(file: NwbFile) -> list[str]:
    electrical = [
        path
        for path in sorted(file.series_paths)
        if isinstance(file.nwbfile.objects[file.series_paths[path]], pynwb.ecephys.ElectricalSeries)
    ]
    if not electrical:
        return []
    chosen = next((p for p in electrical if re.search("LFP|ecog", p, re.I)), electrical[0])
    others = [p for p in electrical if p != chosen]
    lines = ["field:", f"  series: {quoted(chosen)}"]
    if others:
        lines[-1] += f"   # or {', '.join(others)}"
    lines.append(_positions(file))
    series = file.nwbfile.objects[file.series_paths[chosen]]
    if series.rate and float(series.rate) > 2000:
        lines.append("  rate: 1000             # Hz, after a low-pass")
    return lines


def _imaging(file: NwbFile) -> list[str]:
    """The likeliest traces, or else a movie that lies in the file."""
    traces, movies = [], []
    for path in sorted(file.series_paths):
        series = file.nwbfile.objects[file.series_paths[path]]
        if isinstance(series, pynwb.ophys.RoiResponseSeries):
            traces.append(path)
        elif (
            isinstance(series, pynwb.image.ImageSeries)
            and series.external_file is None
            and len(getattr(series.data, "shape", ())) == 3
        ):
            movies.append(path)
    likely = re.compile(r"df.?f|fluorescence|ratio|z-?score", re.I)
    traces.sort(key=lambda p: (bool(re.search("neuropil|deconv", p, re.I)), not likely.search(p)))
    if not traces and not movies:
        return []
    chosen, *others = traces or movies
    series = file.nwbfile.objects[file.series_paths[chosen]]
    lines = ["imaging:", f"  series: {quoted(chosen)}"]
    if others:
        lines[-1] += f"   # or {', '.join(others)}"
    kind = "roi_centroids" if traces else "pixels"
    plane = series.rois.table.imaging_plane if traces else getattr(series, "imaging_plane", None)
    if not _distinct(file, series, traced=bool(traces)):
        lines.append("  positions: null        # no distinct masks in the ROI table")
    elif (spacing := grid_spacing(plane)) is None:
        lines.append(f"  positions: null        # or {kind}, with pixel_size, mm")
    else:
        stated = " x ".join(f"{side:.6g}" for side in spacing)
        lines += [
            f"  positions: {kind}",
            f"  pixel_size: file       # {stated} mm; check that it was measured",
        ]
    columns = [] if not traces else _truth_columns(file, series.rois.table)
    if columns:
        lines.append(f"  # good: {columns[0]}        # a column that is 0 or 1")
    return lines


def _distinct(file: NwbFile, series: pynwb.TimeSeries, *, traced: bool) -> bool:
    """Whether ROIs have centroids of their own; pixels always have."""
    if not traced:
        return True
    table = series.rois.table
    if not {"pixel_mask", "voxel_mask", "image_mask"} & set(table.colnames):
        return False
    centre = centroids(file, table, "xy")[np.asarray(series.rois.data[:]).astype(int), :2]
    return bool(np.isfinite(centre).all()) and len(np.unique(centre, axis=0)) == len(centre)


def _truth_columns(file: NwbFile, table: DynamicTable) -> list[str]:
    masks = ("pixel_mask", "voxel_mask", "image_mask")
    frame, _ = table_frame(file, table, leave_out=masks)
    numbers = frame.drop(columns="id").select_dtypes(["number", "bool"])
    return [str(name) for name in numbers if set(np.unique(numbers[name])) == {0, 1}]


def _positions(file: NwbFile) -> str:
    frame, _ = table_frame(file, file.nwbfile.electrodes)
    for x, y in (("rel_x", "rel_y"), ("x", "y"), ("x", "z"), ("y", "z")):
        if x in frame and y in frame:
            places = positions_mm(file, frame, PositionsLayout(x=x, y=y), "field.positions")
            plane = np.stack([places["x"], places["y"]], axis=1)
            if np.isfinite(plane).all() and len(np.unique(plane, axis=0)) == len(plane):
                return f"  positions: {{x: {x}, y: {y}, unit: um}}   # check the unit"
    return "  positions: null        # no distinct positions in the electrodes table"
