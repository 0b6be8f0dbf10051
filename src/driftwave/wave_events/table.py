"""Results of the waves stage as labelled arrays with units."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import dask
import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.nulls.multiplicity import benjamini_hochberg
from driftwave.nulls.null import Null
from driftwave.phase.directionality import Directionality
from driftwave.phase.frames import FieldReader
from driftwave.phase.passes import Frames
from driftwave.wave_events.delays import DelayPlane, velocity
from driftwave.wave_events.events import NUMBERS, Estimate, estimate_group
from driftwave.wave_events.noise import noise_of
from driftwave.wave_events.patterns import CLASSES, Patterns, patterns_of
from driftwave.wave_events.spans import Span
from driftwave.wave_events.units import CENTRE, MOTION, RHYTHM, SPAN

UNITS = {
    **SPAN,
    **MOTION,
    **RHYTHM,
    **CENTRE,
    "peak_score": "null SD",
    "extent": "mm",
    "heldout_phase_error": "degree",
    "evidence": "nat",
    "centre_sd": "mm",
}
# Columns that any event has, beside those of its class.
ALWAYS = (
    "frequency",
    "interpolated",
    "resultant",
    "evidence",
    "aliased",
    "prediction_synchronous",
    "channels_used",
    "extent",
    "gap_share",
)
# An electrode takes part in an event above this share of the median amplitude.
PART = 0.5
DIRECTIONS = 90


def event_table(
    frames: Frames,
    measure: Directionality,
    spans: list[Span],
    nulls: list[Null],
    params: Any,
    seed: int,
) -> xr.Dataset:
    """Estimate each event and lay them out along ``event`` in order of time.

    ``nulls`` has the default null first; ``params`` are those of the plug-in.
    """
    reader = frames.reader
    patterns = patterns_of(reader.electrodes)
    ends = [
        (span.start * reader.stride, min(span.stop * reader.stride, reader.frames))
        for span in spans
    ]
    noise = noise_of(reader, ends, frames.spectrum, reader.detection_rate)
    step = max(1, round(params.chunk * reader.rate))
    tasks = []
    for _, group in groupby(range(len(spans)), key=lambda number: ends[number][0] // step):
        members = list(group)
        tasks.append(
            dask.delayed(_group)(
                reader,
                measure,
                patterns,
                [ends[number] for number in members],
                window=round(params.smoothing[0] * reader.rate),
                generalized=params.phase == "generalized",
                draws=params.bootstrap,
                streams=[generator(seed, "event", str(number)) for number in members],
                noise=noise,
            )
        )
    estimates = [one for group in dask.compute(*tasks) for one in group]
    # Waves at several frequencies in one stretch are rows of their own; its p is theirs.
    parts = [(one, *one.further) for one in estimates]
    spans = [span for span, waves in zip(spans, parts, strict=True) for _ in waves]
    return _events(frames, spans, [one for waves in parts for one in waves], nulls)


def _group(
    reader: FieldReader,
    measure: Directionality,
    patterns: Patterns,
    ends: list[tuple[int, int]],
    *,
    window: int,
    **options: Any,
) -> list[Estimate]:
    """Estimates of neighbouring events, with what the field's amplitude and gaps add to them."""
    found = estimate_group(reader, measure, patterns, ends, **options)
    for one, (start, stop) in zip(found, ends, strict=True):
        near = reader.gaps[max(0, start - window // 2) : stop + window // 2]
        common = taking_part(reader, start, stop) | {"gap_share": float(near.mean())}
        for wave in (one, *one.further):
            wave.row.update(common)
    return found


def taking_part(reader: FieldReader, start: int, stop: int) -> dict[str, float]:
    """Electrodes that take part in an event, and the largest distance between two of them (mm).

    Those whose root mean square amplitude exceeds half the median over electrodes.
    """
    signal = reader.signal(start, stop)
    amplitude = np.sqrt((signal.real**2 + signal.imag**2).mean(axis=1))
    used = amplitude > PART * np.median(amplitude)
    position = reader.electrodes.position[used]
    # Of many electrodes only those that stick out in some direction can be the farthest.
    angle = np.arange(DIRECTIONS) * np.pi / DIRECTIONS
    along = position @ np.stack([np.cos(angle), np.sin(angle)])
    extent = np.ptp(along, axis=0).max() if used.any() else np.nan
    return {"channels_used": float(used.sum()), "extent": float(extent)}


def _events(
    frames: Frames, spans: list[Span], estimates: list[Estimate], nulls: list[Null]
) -> xr.Dataset:
    reader, null = frames.reader, nulls[0]
    time = reader.lfp["time"].values
    step = reader.every * reader.stride
    last = len(time) - 1
    peak = np.array([span.peak for span in spans])
    p = null.p_event(peak)
    columns: dict[str, np.ndarray] = {
        "start": np.array([time[span.start * step] for span in spans], dtype=float),
        "stop": np.array([time[min(span.stop * step, last)] for span in spans], dtype=float),
        "peak_score": peak.astype(float),
        "p": p,
        "p_familywise": null.p_familywise(peak),
        "q": benjamini_hochberg(p),
    }
    for further in nulls[1:]:
        columns[f"p_{further.kind}"] = further.p_event(peak)
        columns[f"q_{further.kind}"] = benjamini_hochberg(columns[f"p_{further.kind}"])
    columns |= _numbers([one.row for one in estimates])
    table = xr.Dataset(
        {name: ("event", value, {"units": UNITS.get(name, "1")}) for name, value in columns.items()}
    )
    table["aliased"] = table["aliased"].astype(bool)
    table["class"] = ("event", np.array([str(e.row["class"]) for e in estimates], dtype="<U16"))
    sites = frames.sites
    maps = np.array([one.phase for one in estimates], np.float32).reshape(-1, len(sites.electrodes))
    scores = np.array([one.verdict.prediction for one in estimates]).reshape(-1, len(CLASSES))
    table["event_phase"] = (("event", "electrode"), maps[:, sites.nearest], {"units": "rad"})
    table["prediction"] = (("event", "pattern"), scores, {"units": "1"})
    errors = np.array([one.verdict.phase_error for one in estimates]).reshape(-1, len(CLASSES))
    table["pattern_phase_error"] = (("event", "pattern"), errors, {"units": "degree"})
    return table.assign_coords(pattern=list(CLASSES))


def _numbers(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Every numeric column of the rows, those of events without it NaN."""
    names = dict.fromkeys((*NUMBERS, *ALWAYS))
    for row in rows:
        names |= dict.fromkeys(name for name, value in row.items() if not isinstance(value, str))
    return {name: np.array([float(row.get(name, np.nan)) for row in rows]) for name in names}


def delay_table(plane: DelayPlane | None) -> xr.Dataset:
    """The delay plane's direction, group speed and R squared, NaN where there is none."""
    values = dict.fromkeys(("direction", "direction_low", "direction_high"), np.nan)
    values |= dict.fromkeys(("speed", "speed_low", "speed_high", "r_squared"), np.nan)
    if plane is not None:
        values |= velocity(plane) | {"r_squared": plane.r_squared}
    return xr.Dataset(
        {
            f"delay_plane_{name}": ((), float(value), {"units": UNITS.get(name, "1")})
            for name, value in values.items()
        }
    )
