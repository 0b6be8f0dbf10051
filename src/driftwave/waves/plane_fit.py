"""Plane waves from a circular-linear fit to every frame of phase, refined beyond its grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.frame_fits.circular_correlation import adjusted, circular_circular
from driftwave.frame_fits.circular_plane import PlaneFitter, plane_fitter
from driftwave.frame_fits.event_null import event_p
from driftwave.frame_fits.plane_events import LONGEST_GAP, EventFinder, estimate, steady_resultant
from driftwave.frame_fits.stream import NULL, Measures, Piece, Plan, observe, plan, surrogates
from driftwave.phase.band import Band
from driftwave.phase.electrodes import Electrodes
from driftwave.phase.frames import ALIASED, open_field
from driftwave.phase.gradient import frequency
from driftwave.phase.signal import wave_signal
from driftwave.wave_events.arrays import per_array
from driftwave.wave_events.spans import Span, SpanFinder
from driftwave.wave_events.units import MOTION, RHYTHM

PAPER = "Zhang et al. 2018, Neuron 98:1269"
QUICK = {"surrogates": 9, "bootstrap": 20}
UNITS = {
    **MOTION,
    **RHYTHM,
    "excess": "s",
}
COLUMNS = (*UNITS, "resultant", "rho", "aliased")


class Params(BaseModel):
    """Parameters of the plane fit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signal: Literal["auto", "field", "imaging", "spikes"] = Field(
        "auto", description="Signal of the recording that waves are looked for in."
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
        description="Frames fitted per second; default three times the band's upper edge.",
    )
    largest: float | None = Field(
        None,
        gt=0,
        description="Largest wavenumber searched, rad/mm; default the spatial Nyquist wavenumber.",
    )
    chunk: float = Field(60.0, gt=0, description="Length of a stretch handled at once, s.")
    smoothing: float = Field(
        0.5, gt=0, description="Window (s) over which directions must agree for an event."
    )
    surrogates: int = Field(39, ge=9, description="Number of zero-lag surrogates.")
    threshold: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="Quantile of the surrogates' steady resultant above which an event lies.",
    )
    shortest: float = Field(
        3.0, gt=0, description="Shortest event, in cycles of the band's geometric mean frequency."
    )
    longest: float = Field(
        30.0, gt=1, description="Longest event, s; a longer one is cut into equal parts."
    )
    bootstrap: int = Field(200, ge=20, description="Resamples of cycles for confidence intervals.")


@dataclass(frozen=True)
class FitFrames:
    """Fits a plane to every ``step``-th frame of a piece."""

    fitter: PlaneFitter
    electrodes: Electrodes
    step: int
    described: bool

    def __call__(self, piece: Piece) -> Measures:
        phase = np.angle(piece.signal)
        rhythm = frequency(phase, piece.rate)[:: self.step]
        valid = piece.valid[:: self.step]
        coarse = piece.signal[:, :: self.step]
        amplitude = np.abs(coarse)
        k, resultant = self.fitter(coarse / np.maximum(amplitude, np.finfo(np.float32).tiny))
        power = (amplitude.astype(float) ** 2).sum(axis=0)
        found = {
            "k": k.T,
            "resultant": resultant,
            "power": np.where(valid, power, 0.0),
            "valid": valid,
        }
        return found | (self._described(phase, k, rhythm) if self.described else {})

    def _described(self, phase: np.ndarray, k: np.ndarray, rhythm: np.ndarray) -> Measures:
        """What only the recording itself is asked for."""
        plane = -((k @ self.fitter.axes.T) @ self.fitter.position.T)
        rho = circular_circular(phase[:, :: self.step].T, plane.astype(np.float32))
        return {
            "frequency": rhythm,
            "rho": adjusted(np.maximum(rho, 0), len(phase), 2),
            "aliased": self.electrodes.steps(k).max(axis=1) > ALIASED * np.pi,
        }


def analyse(
    recording: xr.DataTree,
    latents: xr.Dataset | None,  # noqa: ARG001
    params: Params,
    *,
    seed: int,
) -> xr.Dataset:
    """Fit a plane to the phases of every frame and gather those that keep a direction.

    In noise that electrodes share nothing of, ``p_familywise`` is liberal: at most .05 in 13 of 87
    recordings of 20 s (64 electrodes, 19 surrogates); in noise shared over 2 mm in 0 of 30. ``q``
    held: at most .05 in 2 of 55 and 0 of 30.

    Parameters
    ----------
    recording : DataTree
        With LFP, imaging or spikes whose electrodes have positions.
    latents : Dataset or None
        Not used: models' latents are the phase gradient's.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        The event table (``event``); along ``time`` direction (degree), speed (mm/s), wavenumber
        (rad/mm), resultant, circular correlation with the plane (adjusted for its two parameters),
        aliasing and the statistic that events are found by; ``threshold``.

    Raises
    ------
    InputError
        No signal, unusable electrodes, a sampling rate or length that does not suit the band.
    """
    dataset = wave_signal(recording, params.signal)
    session = str(recording.attrs.get("session", "recording"))
    one = partial(_one_array, recording, params=params, seed=seed)
    return per_array(dataset, session, one)


def _one_array(
    recording: xr.DataTree, dataset: xr.Dataset, *, params: Params, seed: int
) -> xr.Dataset:
    reader = open_field(recording, dataset, band=params.band, frame_rate=None)
    wanted = params.frame_rate or 3 * params.band[1]
    step = max(1, int(reader.rate / wanted + 1e-6))
    fitter = plane_fitter(reader.electrodes, params.largest)
    generalized = params.phase == "generalized"
    pieces = plan(reader, chunk=params.chunk, window=step, generalized=generalized)
    observed = observe(
        pieces, FitFrames(fitter, reader.electrodes, step, described=True), seed=seed
    )
    rate = reader.rate / step
    window = max(1, round(params.smoothing * rate))
    measure = FitFrames(fitter, reader.electrodes, step, described=False)
    reduce = partial(_reduced, frames=window)
    null = surrogates(pieces, observed, measure, count=params.surrogates, seed=seed, reduce=reduce)
    statistic = steady_resultant(observed.measures, window)
    valid = observed.measures["valid"]
    sample = np.concatenate([one["statistic"][valid][window // 2 :: window] for one in null])
    threshold = float(np.quantile(sample, params.threshold))
    find = EventFinder(_spans(params, rate, window), threshold)
    spans = find(statistic, valid)
    chance = [
        np.array([span.peak for span in find(one["statistic"].astype(float), valid)])
        for one in null
    ]
    events = _events(pieces, observed.measures, spans, step, params, seed)
    worth = event_p(np.array([span.peak for span in spans]), chance)
    dense = _dense(pieces, observed.measures, statistic, step)
    result = xr.merge([events, worth, dense])
    result["threshold"] = ((), threshold, {"units": "1"})
    result["null_excess"] = ("null_event", np.concatenate([*chance, []]) / rate, {"units": "s"})
    return result.assign_attrs(
        detector="plane_fit",
        session=reader.session,
        speed_kind="phase",
        null=NULL,
        surrogates=params.surrogates,
        band=list(params.band),
        phase=params.phase,
        frame_rate=rate,
        pitch=reader.electrodes.pitch,
    )


def _reduced(measures: Measures, *, frames: int) -> Measures:
    return {"statistic": steady_resultant(measures, frames).astype(np.float32)}


def _spans(params: Params, rate: float, window: int) -> SpanFinder:
    cycle = 1 / np.sqrt(params.band[0] * params.band[1])
    return SpanFinder(
        window=window,
        shortest=max(2, round(params.shortest * cycle * rate)),
        longest_gap=round(LONGEST_GAP * rate),
        longest=round(params.longest * rate),
    )


def _events(
    pieces: Plan, measures: Measures, spans: list[Span], step: int, params: Params, seed: int
) -> xr.Dataset:
    rate = pieces.reader.rate / step
    rows: list[dict[str, Any]] = [
        estimate(
            measures,
            span,
            rate=rate,
            draws=params.bootstrap,
            rng=generator(seed, "plane event", str(number)),
        )
        for number, span in enumerate(spans)
    ]
    time = pieces.reader.lfp["time"].values[:: pieces.reader.every * step].astype(float)
    edges = np.append(time, time[-1] + 1 / rate)
    table = xr.Dataset(
        {
            name: ("event", np.array([row[name] for row in rows], float), _unit(name))
            for name in COLUMNS
        }
    )
    table["start"] = ("event", np.array([edges[s.start] for s in spans], float), {"units": "s"})
    table["stop"] = ("event", np.array([edges[s.stop] for s in spans], float), {"units": "s"})
    table["class"] = ("event", np.full(len(spans), "planar", dtype="<U16"))
    table["extent"] = (
        "event", np.full(len(spans), pieces.reader.electrodes.extent), {"units": "mm"}
    )  # fmt: skip
    return table


def _unit(name: str) -> dict[str, str]:
    return {"units": UNITS.get(name, "1")}


def _dense(pieces: Plan, measures: Measures, statistic: np.ndarray, step: int) -> xr.Dataset:
    """Measures of the frames fitted, NaN within gaps."""
    k = measures["k"]
    size = np.hypot(*k)
    columns = {
        "frame_direction": (np.degrees(np.arctan2(k[1], k[0])), "degree"),
        "frame_speed": (2 * np.pi * measures["frequency"] / np.maximum(size, 1e-9), "mm/s"),
        "frame_wavenumber": (size, "rad/mm"),
        "frame_frequency": (measures["frequency"], "Hz"),
        "frame_resultant": (measures["resultant"], "1"),
        "frame_rho": (measures["rho"], "1"),
        "frame_aliased": (measures["aliased"].astype(float), "1"),
        "statistic": (statistic, "1"),
    }
    valid = measures["valid"]
    time = pieces.reader.lfp["time"].values[:: pieces.reader.every * step]
    return xr.Dataset(
        {
            name: ("time", np.where(valid, value, np.nan).astype(np.float32), {"units": unit})
            for name, (value, unit) in columns.items()
        },
        coords={"time": ("time", time, {"units": "s"})},
    )
