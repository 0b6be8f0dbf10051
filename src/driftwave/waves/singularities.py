"""Phase singularities: spirals with charge and radius, tracked from birth to death."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr
from pydantic import Field

from driftwave.frame_fits.event_null import event_p
from driftwave.frame_fits.layouts import require_plane
from driftwave.frame_fits.loops import spiral_finder
from driftwave.frame_fits.params import DetectorParams
from driftwave.frame_fits.stream import NULL, Measures, Plan, observe, plan, surrogates
from driftwave.frame_fits.tracks import link, summarise
from driftwave.phase.frames import open_field
from driftwave.phase.signal import wave_signal
from driftwave.wave_events.arrays import per_array

PAPER = "Ye et al. 2023, bioRxiv 2023.12.07.570517"
QUICK = {"surrogates": 9}


class Params(DetectorParams):
    """Parameters of the search for singularities."""

    frame_rate: float | None = Field(
        None,
        gt=0,
        description="Frames searched per second; default three times the band's upper edge.",
    )
    smoothing: float = Field(
        1.0, ge=0, description="SD of the Gaussian that smooths the phasors, in pitches; 0: none."
    )
    largest: float | None = Field(
        None, gt=0, description="Largest radius tried, mm; default half the array's extent."
    )
    link: float | None = Field(
        None,
        gt=0,
        description="Largest shift of a singularity from one frame to the next, mm; default twice "
        "the pitch.",
    )
    missed: int = Field(2, ge=0, description="Frames for which a track may be lost.")
    shortest: float = Field(
        1.0,
        gt=0,
        description="Shortest lifetime, in cycles of the band's geometric mean frequency.",
    )


def analyse(
    recording: xr.DataTree,
    latents: xr.Dataset | None,  # noqa: ARG001
    params: Params,
    *,
    seed: int,
) -> xr.Dataset:
    """Find phase singularities frame by frame and follow them.

    A cell whose phase winds, confirmed on a loop of radius two pitches, is the centre of a spiral
    if around circles of one and two pitches the phase runs through all four quadrants in order;
    its radius is that of the largest such circle. Centres are linked over frames; a track's p
    value is that of its lifetime among the tracks of zero-lag surrogates.

    Parameters
    ----------
    recording : DataTree
        With LFP, imaging or spikes whose electrodes have positions that span a plane.
    latents : Dataset or None
        Not used: models' latents are the phase gradient's.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        The event table, one row per track; the tracks themselves along ``point`` (``track`` is the
        event they belong to); the surrogates' lifetimes along ``null_event``.

    Raises
    ------
    InputError
        No signal, unusable electrodes, all of them on one line, a sampling rate or length that
        does not suit the band.
    """
    dataset = wave_signal(recording, params.signal)
    session = str(recording.attrs.get("session", "recording"))
    return per_array(dataset, session, partial(_one_array, recording, params=params, seed=seed))


def _one_array(
    recording: xr.DataTree, dataset: xr.Dataset, *, params: Params, seed: int
) -> xr.Dataset:
    reader = open_field(recording, dataset, band=params.band, frame_rate=None)
    require_plane(reader.electrodes, reader.session, "singularities")
    wanted = params.frame_rate or 3 * params.band[1]
    step = max(1, int(reader.rate / wanted + 1e-6))
    rate = reader.rate / step
    generalized = params.phase == "generalized"
    pieces = plan(reader, chunk=params.chunk, window=step, generalized=generalized)
    measure = spiral_finder(
        reader.electrodes, largest=params.largest, step=step, smoothing=params.smoothing
    )
    observed = observe(pieces, measure, seed=seed)
    pitch = reader.electrodes.pitch
    follow = partial(
        _followed,
        distance=params.link or 2 * pitch,
        missed=params.missed,
        shortest=max(2, round(params.shortest * rate / params.middle)),
    )
    null = surrogates(
        pieces,
        observed,
        measure,
        count=params.surrogates,
        seed=seed,
        reduce=lambda points: {"lifetime": follow(points)[1]["lifetime"]},
    )
    points, tracks = follow(observed.measures)
    chance = [one["lifetime"] / rate for one in null]
    worth = event_p(tracks["lifetime"] / rate, chance)
    table = xr.merge([_events(pieces, tracks, step), worth, _points(pieces, points, step)])
    table["null_lifetime"] = ("null_event", np.concatenate([*chance, []]), {"units": "s"})
    return table.assign_attrs(
        detector="singularities",
        session=reader.session,
        null=NULL,
        surrogates=params.surrogates,
        band=list(params.band),
        phase=params.phase,
        frame_rate=rate,
        pitch=pitch,
    )


def _followed(
    points: Measures, *, distance: float, missed: int, shortest: int
) -> tuple[Measures, Measures]:
    """Points of the tracks that live long enough, and those tracks, numbered alike."""
    track = link(points, distance=distance, missed=missed)
    tracks = summarise(points, track)
    kept = tracks["lifetime"] >= shortest
    number = np.cumsum(kept) - 1
    inside = kept[track] if len(track) else np.zeros(0, bool)
    chosen = {name: value[inside] for name, value in points.items()}
    chosen["track"] = number[track[inside]]
    return chosen, {name: value[kept] for name, value in tracks.items()}


def _clock(pieces: Plan, step: int, frame: np.ndarray) -> np.ndarray:
    """Time (s) of searched frames; one beyond the last is a step later."""
    time = pieces.reader.lfp["time"].values[:: pieces.reader.every * step].astype(float)
    after = time[-1] + step / pieces.reader.rate
    return np.append(time, after)[frame]


def _events(pieces: Plan, tracks: Measures, step: int) -> xr.Dataset:
    rate = pieces.reader.rate / step
    columns = {
        "start": (_clock(pieces, step, tracks["birth"]), "s"),
        "stop": (_clock(pieces, step, tracks["death"] + 1), "s"),
        "centre_x": (tracks["x"], "mm"),
        "centre_y": (tracks["y"], "mm"),
        "charge": (tracks["charge"].astype(float), "1"),
        "extent": (tracks["radius"], "mm"),
        "lifetime": (tracks["lifetime"] / rate, "s"),
        "path": (tracks["path"], "mm"),
    }
    table = xr.Dataset(
        {name: ("event", value, {"units": unit}) for name, (value, unit) in columns.items()}
    )
    names = np.where(tracks["charge"] > 0, "rotating_ccw", "rotating_cw").astype("<U16")
    return table.assign({"class": ("event", names)})


def _points(pieces: Plan, points: Measures, step: int) -> xr.Dataset:
    """Tracks, one row per singularity and frame, in order of track and time."""
    order = np.lexsort((points["frame"], points["track"]))
    columns = {
        "track_time": (_clock(pieces, step, points["frame"]), "s"),
        "track_x": (points["x"], "mm"),
        "track_y": (points["y"], "mm"),
        "track_charge": (points["charge"].astype(float), "1"),
        "track_radius": (points["radius"], "mm"),
    }
    table = xr.Dataset(
        {name: ("point", value[order], {"units": unit}) for name, (value, unit) in columns.items()}
    )
    return table.assign(track=("point", points["track"][order], {"units": "index of the track"}))
