"""Behaviour of a first layout: the series that are recorded at the same time."""

from __future__ import annotations

import json
import re

import numpy as np
import pynwb
import yaml

from driftwave.ingest.file import NwbFile
from driftwave.ingest.series import length

_LEAST_SHARED = 0.5  # of the longest series, for another to be used beside it
_LEAST_SAMPLES = 10
Span = tuple[float, float]


def quoted(text: str) -> str:
    """A text as YAML reads it back, in quotes where it would not be itself without."""
    try:
        plain = yaml.safe_load(f"[{text}]") == [text] and yaml.safe_load(text) == text
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)


def behavior_lines(file: NwbFile) -> tuple[list[str], Span | None]:
    """Behaviour series as layout lines, and the times they all cover.

    Series that share less than half of the longest one's time are left to a comment: windows are
    cut where all behaviour is recorded.
    """
    found = _series(file)
    if not found:
        return [], None
    spans = {path: _span(series) for path, series in found.items()}
    longest = max(spans.values(), key=lambda span: span[1] - span[0])
    start, stop = longest
    lines, left_out, taken = [], [], set[str]()
    for path, series in found.items():
        own = max(start, spans[path][0]), min(stop, spans[path][1])
        if own[1] - own[0] < _LEAST_SHARED * (longest[1] - longest[0]):
            left_out.append(path)
            continue
        start, stop = own
        name = _name(path, taken)
        taken.add(name)
        lines += _one(path, series, name)
    comment = [f"# Recorded at other times: {', '.join(left_out)}"] if left_out else []
    return [*comment, "behavior:", *lines], ((start, stop) if stop > start else None)


def _series(file: NwbFile) -> dict[str, pynwb.TimeSeries]:
    """Numbers in time that are behaviour by their type or their place."""
    found = {}
    for path in sorted(file.series_paths):
        series = file.nwbfile.objects[file.series_paths[path]]
        behavioral = path.startswith("processing/behavior/") or isinstance(
            series, pynwb.behavior.SpatialSeries
        )
        shape = getattr(series.data, "shape", ())
        numbers = getattr(series.data, "dtype", np.dtype(object)).kind in "iufb"
        if behavioral and numbers and 1 <= len(shape) <= 2 and length(series) >= _LEAST_SAMPLES:
            found[path] = series
    return found


def _name(path: str, taken: set[str]) -> str:
    parts = [re.sub(r"[^A-Za-z0-9_\-]+", "_", part).strip("_-") for part in path.split("/")]
    for count in range(1, len(parts)):
        name = "_".join(filter(None, parts[-count:])) or "behavior"
        if name not in taken:
            return name
    return f"behavior_{len(taken)}"


def _one(path: str, series: pynwb.TimeSeries, name: str) -> list[str]:
    lines = [f"  - name: {quoted(name)}", f"    series: {quoted(path)}"]
    angle = re.search("direction|compass|angle", path, re.I)
    if angle and "rad" in (series.unit or "").lower().split("/")[0]:
        lines.append("    kind: circular")
    if not (series.unit or "").strip():
        lines.append("    unit: not stated       # the file leaves it empty")
    return lines


def _span(series: pynwb.TimeSeries) -> Span:
    if series.timestamps is not None:
        return float(series.timestamps[0]), float(series.timestamps[-1])
    start = float(series.starting_time or 0.0)
    return start, start + length(series) / float(series.rate)
