"""Horn-Schunck optical flow of phase: flow per frame, critical points, patterns that last."""

from __future__ import annotations

from typing import Literal

import dask
import dask.array as da
import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.flow.events import events_of
from driftwave.flow.frames import (
    MOST_ELECTRODES,
    FlowFrames,
    FlowMeasure,
    flow_of_frames,
    gaps_of,
    read_flow,
    stretch_frames,
)
from driftwave.flow.horn_schunck import horn_schunck
from driftwave.flow.null import FlowNull, Rules, draw_null
from driftwave.phase.band import Band
from driftwave.phase.frames import FieldReader, open_field
from driftwave.phase.signal import Signal, wave_signal
from driftwave.wave_events.arrays import per_array
from driftwave.wave_events.spans import SpanFinder

PAPER = "Horn and Schunck 1981; Townsend and Gong 2018"
QUICK = {"surrogates": 3, "surrogate_length": 5.0, "bootstrap": 20, "keep_flow": True}
# Holes of a pattern's track, in cycles, and of a coherent stretch, in s.
TRACK_GAP = 0.25
LONGEST_GAP = 0.1
# Without surrogates a stretch is coherent above this.
COHERENT = 0.7


class Params(BaseModel):
    """Parameters of optical flow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signal: Signal = Field(
        "auto", description="What the flow is of: field, imaging, spikes, or the first there is."
    )
    band: Band = Field((5.0, 40.0), description="Pass band, Hz.")
    phase: Literal["generalized", "narrowband"] = Field(
        "generalized",
        description="generalized for a wide band; narrowband, plain analytic phase, for a narrow "
        "one.",
    )
    frame_rate: float | None = Field(
        None,
        gt=0,
        description="Frames per second, reached by dropping samples after the filter; default six "
        "times the band's upper edge.",
    )
    chunk: float = Field(60.0, gt=0, description="Longest stretch handled at once, s.")
    alpha: float = Field(
        1.0,
        gt=0,
        description="Weight of smoothness relative to the phase gradient's mean square; the flow "
        "is smoothed over about this many pitches.",
    )
    penalty: Literal["quadratic", "charbonnier"] = Field(
        "quadratic",
        description="Penalty of the data term; charbonnier weakens the pull of single "
        "electrodes at three times the cost.",
    )
    smoothing: float = Field(
        0.5, gt=0, description="Window (s) over which the coherence that delimits events is taken."
    )
    average: float = Field(
        1.0,
        ge=0,
        description="Cycles over which the flow is averaged before its zeros are looked for.",
    )
    reach: float = Field(
        1.0, gt=0, description="Furthest (pitches) a pattern moves from one frame to the next."
    )
    shortest: float = Field(
        3.0, gt=0, description="Shortest event, in cycles of the band's geometric mean frequency."
    )
    longest: float = Field(
        30.0, gt=1, description="Longest planar event, s; a longer one is cut into equal parts."
    )
    surrogates: int = Field(
        99, ge=0, description="Number of zero-lag surrogates; 0 leaves p values out."
    )
    surrogate_length: float = Field(
        60.0, gt=0, description="Length of a surrogate, s, at most that of the recording."
    )
    threshold: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="Quantile of the surrogates' smoothed coherence above which a wave is planar.",
    )
    bootstrap: int = Field(200, ge=20, description="Resamples of cycles for confidence intervals.")
    keep_flow: bool = Field(
        False, description="Whether the flow of every frame and electrode is kept."
    )


def analyse(
    recording: xr.DataTree,
    latents: xr.Dataset | None,  # noqa: ARG001  the signature all wave analyses share
    params: Params,
    *,
    seed: int,
) -> xr.Dataset:
    """Follow the phase of a recording's field as it moves.

    Parameters
    ----------
    recording : DataTree
        With a signal whose electrodes have positions.
    latents : None
        Not used.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``event``: planar waves (coherent flow), patterns about zeros of the flow, synchrony, with
        the detectors' columns. ``time``: flow_direction (degree), flow_speed (mm/s, mean over
        electrodes), flow_coherence, smooth_coherence, order_parameter. With ``keep_flow`` also
        flow_x, flow_y (time, electrode), mm/s. With surrogates also
        null_coherence (null_event), the largest smoothed coherence of each coherent stretch of the
        surrogates, and null_lasting (null_pattern), how long their patterns last.

    Raises
    ------
    InputError
        No signal, unusable electrodes, a sampling rate or length that does not suit the band.
    """
    dataset = wave_signal(recording, params.signal)
    session = str(recording.attrs.get("session", "recording"))
    return per_array(dataset, session, lambda one: _of_array(recording, one, params, seed))


def _of_array(recording: xr.DataTree, dataset: xr.Dataset, params: Params, seed: int) -> xr.Dataset:
    reader = open_field(recording, dataset, band=params.band, frame_rate=params.frame_rate)
    generalized = params.phase == "generalized"
    cycle = reader.rate / np.sqrt(np.prod(params.band))
    solver = horn_schunck(
        reader.electrodes, alpha=params.alpha, robust=params.penalty == "charbonnier"
    )
    measure = FlowMeasure(solver, reader.rate, max(1, round(params.average * cycle)))
    tested = params.surrogates > 0 and len(reader.electrodes) <= MOST_ELECTRODES
    frames = read_flow(
        reader, measure, chunk=params.chunk, generalized=generalized, spectrum=tested
    )
    rules = _rules(reader, params, cycle)
    null = None
    if tested and frames.spectrum is not None and frames.spectrum.segments:
        null = draw_null(
            reader,
            measure,
            frames,
            rules,
            surrogates=params.surrogates,
            seconds=params.surrogate_length,
            quantile=params.threshold,
            generalized=generalized,
            seed=seed,
        )
    threshold = COHERENT if null is None else null.threshold
    time = reader.lfp["time"].values[:: reader.every]
    events = events_of(
        frames,
        np.cumsum(np.diff(gaps_of(reader), prepend=False)),
        time,
        reader.electrodes,
        rules,
        null,
        threshold=threshold,
        cycle=round(cycle),
        bootstrap=params.bootstrap,
        rng=generator(seed, "flow bootstrap"),
    )
    if null is None:
        events = events.drop_vars(["p", "q"])
    result = events.merge(_dense(frames, rules, time)).assign(_null_table(null))
    if params.keep_flow:
        result = result.assign(_kept(reader, measure, params, generalized))
        result = result.assign_coords(_places(reader))
    name = "zero-lag cross-spectrum surrogates"
    return result.assign_attrs(
        detector="optical_flow",
        session=reader.session,
        speed_kind="phase",
        null="none" if null is None else name,
        surrogates=0 if null is None else params.surrogates,
        band=list(params.band),
        alpha=params.alpha,
        coherence_threshold=threshold,
        sampling_rate=reader.rate,
        pitch=reader.electrodes.pitch,
    )


def _rules(reader: FieldReader, params: Params, cycle: float) -> Rules:
    window = max(1, round(params.smoothing * reader.rate))
    finder = SpanFinder(
        window=window,
        shortest=max(2, round(params.shortest * cycle)),
        longest_gap=round(LONGEST_GAP * reader.rate),
        longest=max(2, round(params.longest * reader.rate)),
    )
    gap = max(1, round(TRACK_GAP * cycle))
    return Rules(window, finder, params.reach * reader.electrodes.pitch, gap, round(cycle))


def _dense(frames: FlowFrames, rules: Rules, time: np.ndarray) -> xr.Dataset:
    course = frames.course
    direction = np.degrees(np.arctan2(course["coherence_y"], course["coherence_x"]))
    known = np.isfinite(course["coherence_x"])
    smooth = np.where(known, frames.smooth_coherence(rules.window), np.nan)
    values = {
        "flow_direction": (direction, "degree"),
        "flow_speed": (course["speed"], "mm/s"),
        "flow_coherence": (frames.coherence, "1"),
        "smooth_coherence": (smooth.astype(np.float32), "1"),
        "order_parameter": (course["order_parameter"], "1"),
    }
    return xr.Dataset(
        {name: ("time", value, {"units": unit}) for name, (value, unit) in values.items()},
        coords={"time": ("time", time, {"units": "s"})},
    )


def _null_table(null: FlowNull | None) -> dict[str, tuple]:
    """Events of surrogates, which those of the recording are set beside."""
    if null is None:
        return {}
    lasting = null.lasting[False]
    return {
        "null_coherence": ("null_event", null.coherence, {"units": "1"}),
        "null_lasting": ("null_pattern", lasting / null.rate, {"units": "s"}),
    }


def _kept(
    reader: FieldReader, measure: FlowMeasure, params: Params, generalized: bool
) -> dict[str, tuple]:
    """Flow per electrode, worked out stretch by stretch when it is written."""
    step = stretch_frames(reader, measure, params.chunk)
    parts = []
    for start in range(0, reader.frames, step):
        stop = min(start + step, reader.frames)
        task = dask.delayed(flow_of_frames, pure=True)(reader, measure, start, stop, generalized)
        shape = (stop - start, len(reader.electrodes), 2)
        parts.append(da.from_delayed(task, shape, np.float32))
    flow = da.concatenate(parts)
    unit = {"units": "mm/s"}
    return {
        f"flow_{axis}": (("time", "electrode"), flow[..., i], unit) for i, axis in enumerate("xy")
    }


def _places(reader: FieldReader) -> dict[str, tuple]:
    electrodes = reader.electrodes
    return {
        "electrode": ("electrode", reader.lfp["electrode"].values[electrodes.index]),
        "x": ("electrode", electrodes.position[:, 0], {"units": "mm"}),
        "y": ("electrode", electrodes.position[:, 1], {"units": "mm"}),
    }
