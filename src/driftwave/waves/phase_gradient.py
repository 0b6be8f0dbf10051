"""Travelling waves from the spatial gradient of phase, against a zero-lag null.

On a recording's field: band-pass, generalized phase, complex phase gradient, directionality of
planar, radial and rotating waves with time, and a table of events with direction, speed, pattern
and p values. On the latents of an oscillator model: the pattern of each oscillator's loadings, and
the waves of the field it decodes beside those recorded. On latents that lie on a lattice: the phase
gradient along its chains, against sites shifted in time; on rings: pulses.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.latent_waves.decoded_sources import gives_field, of_lattice, of_oscillators
from driftwave.latent_waves.lattice import analyse_lattice, on_lattice
from driftwave.latent_waves.loadings import analyse_loadings
from driftwave.latent_waves.ring_pulses import analyse_rings, on_rings
from driftwave.nulls.kinds import COUNTS, LABELS, QUESTIONS, Kind
from driftwave.nulls.null import Null
from driftwave.nulls.of_field import field_nulls, recording_windows
from driftwave.nulls.statistics import multiscale, recording_means
from driftwave.phase.band import Band
from driftwave.phase.directionality import FAMILIES, Directionality
from driftwave.phase.frames import FieldReader, open_field
from driftwave.phase.passes import Frames, read_frames
from driftwave.phase.signal import wave_signal
from driftwave.phase.timescale import stretch_of
from driftwave.recording import require
from driftwave.wave_events.arrays import per_array
from driftwave.wave_events.delays import DelayPlane, delay_plane
from driftwave.wave_events.dense import dense_table
from driftwave.wave_events.matching import match_truth
from driftwave.wave_events.spans import SpanFinder
from driftwave.wave_events.table import delay_table, event_table

PAPER = "Rubino et al. 2006; Davis et al. 2020"
# s, as what parameters of time are by default: at 5 Hz and above, longer below.
LONGEST_GAP, SMOOTHING, LONGEST, CHUNK = 0.1, (0.5, 1.0, 4.0), 30.0, 60.0
# Of the group velocity's cross-spectra; a recording sampled slower has no such frequencies.
DELAY_BAND = (1.0, 13.0)
SAMPLES_PER_CYCLE = 2.5


def _longer(seconds: float, known: dict[str, Any]) -> float:
    return seconds * stretch_of(known["band"])


class Params(BaseModel):
    """Parameters of the phase gradient analysis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    signal: Literal["auto", "field", "imaging", "spikes"] = Field(
        "auto",
        description="Where waves are looked for; auto takes the field, else imaging, else spikes.",
    )
    bin_width: float | None = Field(
        None,
        gt=0,
        description="Bins (s) that spikes are counted in; by default the median site fires once in "
        "ten.",
    )
    site: float | None = Field(
        None,
        gt=0,
        description="Side (mm) of the squares over which spikes are summed; by default units at "
        "one position are.",
    )
    chunk: float = Field(
        default_factory=lambda known: _longer(CHUNK, known),
        gt=0,
        description="Length of a stretch handled at once, s; default 60 s, or 300 cycles of the "
        "band's geometric mean frequency where that is longer (below 5 Hz).",
    )
    memory: float = Field(
        300.0, gt=0, description="MB that a stretch may take; it is made shorter to fit."
    )
    max_missing: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of missing samples above which an electrode is dropped; fewer make "
        "gaps for all electrodes.",
    )
    sites: int = Field(
        256,
        ge=16,
        description="Most electrodes that events are found on; of more, neighbours are averaged.",
    )
    reference: Literal["none", "common_average", "csd"] = Field(
        "none",
        description="What is subtracted from every electrode before the phase: nothing, the mean "
        "of all, or what a plane through its neighbours predicts (current source density).",
    )
    smoothing: tuple[float, ...] = Field(
        default_factory=lambda known: tuple(_longer(one, known) for one in SMOOTHING),
        min_length=1,
        description="Windows (s) over which the power-weighted statistic is averaged; the first "
        "delimits events, all of them give the p value. Default 0.5, 1 and 4 s, or 2.5, 5 and 20 "
        "cycles where these are longer (below 5 Hz).",
    )
    surrogates: int = Field(99, ge=19, description="Number of surrogates of each null.")
    null: Literal["auto", "zero_lag", "zero_lag_ranked"] = Field(
        "auto",
        description="Null that thresholds and p come from: zero_lag, Gaussian surrogates without "
        "lags; zero_lag_ranked, which are as sparse as counts; auto takes that for spikes.",
    )
    further_nulls: tuple[
        Literal["common_phase", "independent_phase", "channel_shuffle", "grid_shift"], ...
    ] = Field(
        (),
        description="Nulls with other questions, whose p stands beside: common_phase (are waves "
        "bursty?); independent_phase, channel_shuffle and grid_shift are legacy, and reject "
        "spatially correlated noise.",
    )
    threshold: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="Quantile of the surrogates' smoothed statistic above which an event lies.",
    )
    shortest: float = Field(
        3.0, gt=0, description="Shortest event, in cycles of the band's geometric mean frequency."
    )
    longest: float = Field(
        default_factory=lambda known: _longer(LONGEST, known),
        gt=1,
        description="Longest event, s; a longer one is cut into equal parts. Default 30 s, or 150 "
        "cycles where that is longer (below 5 Hz).",
    )
    level: float = Field(
        0.05, gt=0, lt=1, description="False discovery rate at which an event is significant."
    )
    bootstrap: int = Field(200, ge=20, description="Resamples of cycles for confidence intervals.")
    fields: tuple[Literal["phase", "gradient", "divergence", "curl", "charge"], ...] = Field(
        ("phase", "gradient", "divergence", "curl", "charge"),
        description="Fields kept at every electrode and frame, on disk until they are stored.",
    )
    delay_band: Band | None = Field(
        DELAY_BAND,
        description="Band (Hz) of the plane fitted to delays over the recording; null for none. "
        "The default one is left out where the sampling rate is too low for it.",
    )
    oscillator_width: float = Field(
        2.0, gt=0, description="Half-width (Hz) of the band about an oscillator that is tested."
    )


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Find travelling waves in a recording's field, in an oscillator model's loadings or a lattice.

    Parameters
    ----------
    recording : DataTree
        With a group ``field`` whose electrodes have positions; for latents on a lattice with
        ``spikes`` instead.
    latents : Dataset or None
        Of a model of oscillators (``frequency``, ``loading_amplitude``, ``loading_phase``), of one
        with a decoded field (``decoded_re``, ``decoded_im``), or of one whose latents lie on a
        lattice or on rings (coordinates part, channel, site); None analyses the field itself.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        For a field: dims ``event`` (the table), ``time`` (dense measures), ``frame`` and
        ``family`` (statistic, threshold, null), ``electrode``; for latents: dim ``oscillator`` and
        the statistics of :func:`driftwave.latent_waves.decoded.compare_fields` over ``signal``,
        those alone for a decoded field, or ``channel`` as
        :func:`driftwave.latent_waves.lattice.analyse_lattice` and
        :func:`driftwave.latent_waves.ring_pulses.analyse_rings` say.

    Raises
    ------
    InputError
        No field, unusable electrodes, a sampling rate or length that does not suit the band,
        latents without loadings.
    """
    if latents is not None and on_rings(latents):
        return analyse_rings(recording, latents, surrogates=params.surrogates, seed=seed)
    if latents is not None and on_lattice(latents):
        return analyse_lattice(recording, latents, surrogates=params.surrogates, seed=seed)
    common = {"surrogates": params.surrogates, "seed": seed}
    if latents is not None and gives_field(latents):
        return of_lattice(recording, latents, width=params.oscillator_width, **common)
    if latents is not None:
        dataset = require(recording, "field", "waves")
        width = params.oscillator_width
        table = analyse_loadings(
            recording, dataset, latents, width=width, chunk=params.chunk, **common
        )
        if "label" not in latents.coords or "osc0_re" not in latents["label"].values:
            return table
        fields = of_oscillators(recording, dataset, latents, width=width, **common)
        return table.merge(fields, combine_attrs="no_conflicts")
    dataset = wave_signal(recording, params.signal, bin_width=params.bin_width, site=params.site)
    session = str(recording.attrs.get("session", "recording"))
    return per_array(dataset, session, lambda one: _array(recording, one, params, seed))


def _array(recording: xr.DataTree, dataset: xr.Dataset, params: Params, seed: int) -> xr.Dataset:
    """Analyse the field of one array."""
    reader = open_field(
        recording,
        dataset,
        band=params.band,
        frame_rate=params.frame_rate,
        max_missing=params.max_missing,
        reference=params.reference,
    )
    frames, measure = read_frames(
        reader,
        chunk=params.chunk,
        generalized=params.phase == "generalized",
        fields=params.fields,
        sites=params.sites,
        memory=params.memory,
    )
    windows = tuple(max(1, round(s * reader.detection_rate)) for s in params.smoothing)
    finder = _finder(reader, windows[0], params)
    nulls = _null(frames, measure, finder, windows, params, seed)
    smooth = multiscale(frames.fluxes, windows)
    spans = nulls[0].scale.spans(smooth, finder)
    events = event_table(frames, measure, spans, nulls, params, seed)
    result = xr.merge(
        [dense_table(reader, frames), events, _null_table(frames, smooth, nulls)],
        compat="no_conflicts",
        combine_attrs="drop_conflicts",
    )
    if params.delay_band is not None:
        plane, note = _delay_plane(frames.reader, params, seed)
        result = result.merge(delay_table(plane)).assign_attrs(note)
    if "truth" in recording.children and "wave_start" in recording["truth"]:
        result = result.merge(match_truth(recording["truth"].to_dataset(), events, params.level))
    return result.assign_attrs(_attrs(reader, frames, params))


def _delay_plane(
    reader: FieldReader, params: Params, seed: int
) -> tuple[DelayPlane | None, dict[str, str]]:
    """The plane of delays, or why there is none."""
    band = params.delay_band
    assert band is not None
    lowest = SAMPLES_PER_CYCLE * band[1]
    if reader.sampling_rate >= lowest:
        return delay_plane(reader, band, draws=40, rng=generator(seed, "delay plane")), {}
    if "delay_band" in params.model_fields_set:
        raise InputError(
            file=reader.session,
            field="delay_band",
            found=f"up to {band[1]:g} Hz, of a signal sampled at {reader.sampling_rate:g} Hz",
            expected=f"at most {reader.sampling_rate / SAMPLES_PER_CYCLE:g} Hz",
            fix="Lower `delay_band` in the waves parameters, or set it to null",
        )
    note = f"none: {reader.sampling_rate:g} Hz is too low for delays at {band[0]:g}-{band[1]:g} Hz"
    return None, {"delay_plane": note}


def _attrs(reader: FieldReader, frames: Frames, params: Params) -> dict[str, Any]:
    sites, null = frames.sites.electrodes, _null_kind(reader, params)
    facts = reader.lfp.attrs
    binned = {name: facts[name] for name in ("bin_width", "sites") if name in facts}
    if binned and params.site is not None:
        binned["site"] = params.site
    return {
        **binned,
        "source": "field",
        "detector": "phase_gradient",
        "speed_kind": "phase",
        "session": reader.session,
        "signal": str(facts.get("signal", "field")),
        "band": list(params.band),
        "phase": params.phase,
        "reference": params.reference,
        "sampling_rate": reader.rate,
        "detection_rate": reader.detection_rate,
        "pitch": reader.electrodes.pitch,
        "detection_sites": len(sites),
        "detection_wavelength": float(2 * sites.spacing.max()),
        "electrodes_dropped": list(reader.dropped),
        "gap_share": float(reader.gaps.mean()),
        "null": LABELS[null],
        "null_question": QUESTIONS[null],
        "smoothing": list(params.smoothing),
        "further_nulls": list(params.further_nulls),
        "surrogates": params.surrogates,
        "level": params.level,
    }


def _null(
    frames: Frames,
    measure: Directionality,
    finder: SpanFinder,
    windows: tuple[int, ...],
    params: Params,
    seed: int,
) -> list[Null]:
    """Nulls of the recording, the default one first."""
    kinds: tuple[Kind, ...] = (
        _null_kind(frames.reader, params),
        *dict.fromkeys(params.further_nulls),
    )
    return field_nulls(
        frames,
        measure,
        finder,
        kinds=kinds,
        surrogates=params.surrogates,
        smoothing=windows,
        quantile=params.threshold,
        chunk=params.chunk,
        seed=seed,
    )


def _null_kind(reader: FieldReader, params: Params) -> Kind:
    if params.null != "auto":
        return params.null
    return COUNTS if reader.lfp.attrs.get("signal") == "spikes" else "zero_lag"


def _finder(reader: FieldReader, window: int, params: Params) -> SpanFinder:
    cycle = 1 / np.sqrt(params.band[0] * params.band[1])
    rate = reader.detection_rate
    return SpanFinder(
        window=window,
        shortest=max(2, round(params.shortest * cycle * rate)),
        longest_gap=round(LONGEST_GAP * stretch_of(params.band) * rate),
        longest=round(params.longest * rate),
        gaps=reader.detection_gaps,
    )


def _null_table(frames: Frames, smooth: np.ndarray, nulls: list[Null]) -> xr.Dataset:
    """The statistic with time, and the nulls beside what was observed."""
    reader, null = frames.reader, nulls[0]
    observed = recording_means(frames.fluxes, recording_windows(reader))
    families = len(FAMILIES)
    unit = {"units": "1"}
    time = reader.lfp["time"].values[:: reader.every * reader.stride]
    statistic = np.where(reader.detection_gaps, np.nan, smooth[:families])
    score = np.where(reader.detection_gaps, np.nan, null.scale.score(smooth))
    return xr.Dataset(
        {
            "statistic": (("frame", "family"), statistic.T.astype(np.float32), unit),
            "score": ("frame", score.astype(np.float32), {"units": "null SD"}),
            "threshold": ("family", null.scale.threshold[:families], unit),
            "null_largest_score": ("surrogate", null.largest, {"units": "null SD"}),
            "null_event_score": ("null_event", null.peaks, {"units": "null SD"}),
            "observed_mean": ("family", observed[0].astype(np.float64), unit),
            "observed_score": ("family", null.score(observed), {"units": "null SD"}),
            "null_score": (("surrogate", "family"), null.score(null.means), {"units": "null SD"}),
            **_recording_columns(nulls, observed),
        },
        coords={
            "family": list(FAMILIES),
            "frame_time": ("frame", time, {"units": "s"}),
        },
    )


def _recording_columns(nulls: list[Null], observed: np.ndarray) -> dict[str, tuple]:
    """Each null's distribution and p of the whole recording; names of further ones end in it."""
    columns: dict[str, tuple] = {}
    for null, ending in zip(nulls, ("", *(f"_{one.kind}" for one in nulls[1:])), strict=True):
        facts = {"units": "1", "null": null.kind, "question": QUESTIONS[null.kind]}
        means = null.means[:, 0].astype(np.float64)
        columns[f"null_mean{ending}"] = (("surrogate", "family"), means, facts)
        columns[f"p_recording{ending}"] = ("family", null.p_recording(observed), facts)
        columns[f"p_recording_any{ending}"] = ((), null.p_any(observed), facts)
    return columns
