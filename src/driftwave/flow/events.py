"""Events of a flow: coherent stretches, patterns that last, synchrony."""

from __future__ import annotations

import numpy as np
import xarray as xr

from driftwave.flow.critical_points import PATTERNS, SADDLE
from driftwave.flow.frames import FlowFrames
from driftwave.flow.null import FlowNull, Rules
from driftwave.flow.tracks import Track
from driftwave.nulls.surrogates import benjamini_hochberg
from driftwave.phase.electrodes import Electrodes
from driftwave.wave_events.spans import Span
from driftwave.wave_events.units import CENTRE, MOTION, RHYTHM, SPAN

UNITS = {
    **SPAN,
    **MOTION,
    **RHYTHM,
    **CENTRE,
    "charge": "1",
    "extent": "mm",
    "coherence": "1",
    "order": "1",
    "p": "1",
    "q": "1",
}
SYNCHRONOUS = 0.9
# A coherent stretch of which patterns take more than this share is theirs.
TAKEN = 0.5
FEWEST_BLOCKS = 4


def events_of(
    frames: FlowFrames,
    section: np.ndarray,
    time: np.ndarray,
    electrodes: Electrodes,
    rules: Rules,
    null: FlowNull | None,
    *,
    threshold: float,
    cycle: int,
    bootstrap: int,
    rng: np.random.Generator,
) -> xr.Dataset:
    """The event table of a recording's flow.

    Parameters
    ----------
    frames : FlowFrames
    section : ndarray of int (frame,)
        Number of the stretch between gaps that a frame lies in.
    time : ndarray (frame,)
        s.
    electrodes : Electrodes
    rules : Rules
    null : FlowNull or None
    threshold : float
        Smoothed coherence above which a stretch is coherent.
    cycle : int
        Frames per cycle; the bootstrap resamples blocks of that length.
    bootstrap : int
    rng : Generator
    """
    smooth = frames.smooth_coherence(rules.window)
    tested = rules.tracks(frames, section)
    tracks = [track for track in tested if track.frames >= rules.finder.shortest]
    taken = np.zeros(len(time), bool)
    for track in tracks:
        if track.pattern != SADDLE:
            taken[track.start : track.stop] = True
    spans = rules.spans(smooth, threshold, section)
    planar = [span for span in spans if taken[span.start : span.stop].mean() <= TAKEN]
    order = np.nan_to_num(frames.course["order_parameter"])
    still = np.where(smooth < threshold, order, 0.0) * ~taken
    together = rules.spans(still, SYNCHRONOUS, section)
    rows = [_planar(span, frames, cycle, bootstrap, rng, null, electrodes) for span in planar]
    rows += [_pattern(track, frames, null) for track in tracks]
    rows += [_synchronous(span, frames) for span in together]
    if null is not None:
        # Chance patterns too short to be events belong to the family of those tested.
        family = [_p_of(track, null) for track in tested if track.frames < rules.finder.shortest]
        _add_q([row for row in rows if row["class"] == "planar"], [])
        _add_q([row for row in rows if row["class"] in PATTERNS], family)
    rows.sort(key=lambda row: (row["first"], row["last"]))
    return _table(rows, time)


def _table(rows: list[dict], time: np.ndarray) -> xr.Dataset:
    step = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    columns = {name: np.array([row.get(name, np.nan) for row in rows], float) for name in UNITS}
    columns["start"] = np.array([time[row["first"]] for row in rows], float)
    columns["stop"] = np.array([time[row["last"] - 1] + step for row in rows], float)
    table = xr.Dataset(
        {name: ("event", columns[name], {"units": unit}) for name, unit in UNITS.items()}
    )
    return table.assign({"class": ("event", np.array([row["class"] for row in rows], "<U16"))})


def _add_q(rows: list[dict], further: list[float]) -> None:
    """False discovery rates over one kind of event's p values and those of what is not reported."""
    q = benjamini_hochberg(np.array([row["p"] for row in rows] + further))
    for row, value in zip(rows, q[: len(rows)], strict=True):
        row["q"] = float(value)


def _p_of(track: Track, null: FlowNull) -> float:
    return null.p_lasting(track.frames, saddle=track.pattern == SADDLE)


def _common(first: int, last: int, frames: FlowFrames) -> dict:
    inside = slice(first, last)
    power = np.nan_to_num(frames.course["power"][inside].astype(float))
    weight = power / max(power.sum(), 1e-300)

    def mean(values: np.ndarray) -> float:
        return float((np.nan_to_num(values[inside]) * weight).sum())

    return {
        "first": first,
        "last": last,
        "frequency": mean(frames.course["frequency"]) / (2 * np.pi),
        "coherence": mean(frames.coherence),
        "order": mean(frames.course["order_parameter"]),
    }


def _planar(
    span: Span,
    frames: FlowFrames,
    cycle: int,
    bootstrap: int,
    rng: np.random.Generator,
    null: FlowNull | None,
    electrodes: Electrodes,
) -> dict:
    """Direction and speed of the constant flow that best fits, with 95 % intervals over cycles.

    It is omega / |k| along -k, with omega and k the plain means of the derivatives: where the
    flow does not vary smoothness costs nothing, and means are not pulled towards small speeds as
    least squares with noise in the gradient is, nor, as with weights of power, towards large ones
    by noise that adds to the power but not to the gradient.
    """
    inside = slice(span.start, span.stop)
    course = {name: np.nan_to_num(v[inside].astype(float)) for name, v in frames.course.items()}
    known = np.isfinite(frames.course["wave_x"][inside]).astype(float)
    names = ("wave_x", "wave_y", "frequency")
    product = np.stack([course[name] * known for name in names])
    blocks = max(FEWEST_BLOCKS, (span.stop - span.start) // max(cycle, 1))
    sums = np.stack([part.sum(axis=1) for part in np.array_split(product, blocks, axis=1)])
    counts = np.array([part.sum() for part in np.array_split(known, blocks)])
    draw = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=bootstrap)
    drawn = (draw @ sums) / np.maximum(draw @ counts, 1.0)[:, None]
    wave = sums.sum(axis=0) / max(counts.sum(), 1.0)
    here, speed = _motion(wave[None])
    turned, speeds = _motion(drawn)
    turn = np.degrees(np.quantile(np.angle(turned / here), (0.025, 0.975)))
    direction = float(np.degrees(np.angle(here[0])))
    low, high = np.quantile(speeds, (0.025, 0.975))
    wavenumber = float(np.hypot(wave[0], wave[1]))
    return _common(span.start, span.stop, frames) | {
        "class": "planar",
        "direction": direction,
        "direction_low": direction + turn[0],
        "direction_high": direction + turn[1],
        "speed": float(speed[0]),
        "speed_low": float(low),
        "speed_high": float(high),
        "wavenumber": wavenumber,
        "wavelength": 2 * np.pi / max(wavenumber, 1e-12),
        "extent": electrodes.extent,
        "charge": 0.0,
        "p": np.nan if null is None else null.p_coherence(span.peak),
    }


def _motion(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction (as a complex number) and speed from rows (k_x, k_y, omega) of derivatives."""
    gradient = wave[:, 0] + 1j * wave[:, 1]
    size = np.maximum(np.abs(gradient), 1e-12)
    return -np.sign(wave[:, 2]) * gradient / size, np.abs(wave[:, 2]) / size


def _pattern(track: Track, frames: FlowFrames, null: FlowNull | None) -> dict:
    return _common(track.start, track.stop, frames) | {
        "class": PATTERNS[track.pattern],
        "speed": float(np.nanmedian(frames.course["speed"][track.start : track.stop])),
        "centre_x": float(track.centre[0]),
        "centre_y": float(track.centre[1]),
        "charge": track.charge,
        "p": np.nan if null is None else _p_of(track, null),
    }


def _synchronous(span: Span, frames: FlowFrames) -> dict:
    return _common(span.start, span.stop, frames) | {"class": "synchronous", "charge": 0.0}
