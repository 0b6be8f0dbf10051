"""Wave fronts from triggers grouped in space and time, by slowness regression."""

from __future__ import annotations

from itertools import islice
from typing import Literal

import dask
import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.fronts.grouping import Grouping
from driftwave.fronts.measures import Waves, front_table, measure_fronts
from driftwave.fronts.null import NullWaves, Shuffled, Source, ZeroLag, null_waves
from driftwave.fronts.pooling import pooled_evidence
from driftwave.fronts.refit import Refit
from driftwave.fronts.shapes import Cones
from driftwave.fronts.sources import (
    Detection,
    Kind,
    Traces,
    filtered_traces,
    plain_traces,
    triggers_of,
)
from driftwave.fronts.triggers import Triggers, joined
from driftwave.phase.band import Band
from driftwave.phase.electrodes import good_electrodes
from driftwave.phase.frames import open_field
from driftwave.phase.signal import wave_signal
from driftwave.wave_events.arrays import per_array

PAPER = "Ester et al. 1996, KDD 226; Capone et al. 2019, Cereb Cortex 29:319"
QUICK = {"bootstrap": 20, "surrogates": 2}
BAND = (5.0, 40.0)
BATCH = 64
POOLED = 8.0
FEWEST = 6


class Params(BaseModel):
    """Parameters of wave fronts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signal: Literal["auto", "field", "imaging", "spikes"] = Field(
        "auto", description="What triggers are looked for in."
    )
    band: Band | Literal["auto"] | None = Field(
        "auto",
        description="Pass band, Hz; null for none; auto for 5 to 40 Hz in fields, none elsewhere.",
    )
    bin_width: float | None = Field(
        None, gt=0, description="Bins in which spikes are counted, s; default by their rate."
    )
    smoothing: float = Field(
        0.0, ge=0, description="SD of a Gaussian that smooths an unfiltered signal, s."
    )
    trigger: Kind | Literal["auto"] = Field(
        "auto",
        description="minima (troughs), threshold (upward crossings), phase (passages of "
        "target_phase), spikes (bins that hold one); auto for minima in fields, spikes in spikes, "
        "threshold in imaging.",
    )
    threshold: float = Field(
        1.0,
        description="Depth, level or amplitude that makes a trigger, in SDs of each electrode.",
    )
    baseline: Literal["mean", "median"] = Field(
        "mean",
        description="Whether SDs are taken about the mean, or robustly about the median.",
    )
    target_phase: float = Field(180.0, description="Phase of a trigger `phase`, degrees.")
    silence: float | None = Field(
        None,
        ge=0,
        description="Shortest time between triggers of one electrode, s; default half a period of "
        "the band's upper edge, or twice the lag.",
    )
    reach: float = Field(
        2.0, gt=0, description="How far apart neighbouring triggers may be, in electrode pitches."
    )
    lag: float | None = Field(
        None,
        gt=0,
        description="How long apart neighbouring triggers may be, s; reach over lag is the slowest "
        "wave followed. Default a quarter period of the band's geometric mean, or two samples.",
    )
    neighbours: int = Field(
        3, ge=2, description="Triggers in a neighbourhood, itself included, that make a core."
    )
    share: float = Field(
        0.3, gt=0, le=1, description="Share of electrodes that a wave passes at least."
    )
    longest: float = Field(30.0, gt=0, description="A group going on for longer is cut, s.")
    chunk: float = Field(60.0, gt=0, description="Length of a stretch handled at once, s.")
    bootstrap: int = Field(
        200, ge=20, description="Resamples of electrodes for confidence intervals."
    )
    null: Literal["auto", "zero_lag", "shuffle", "none"] = Field(
        "auto",
        description="What p values are against: zero_lag surrogates of the signal, shuffle of the "
        "electrodes in space; auto for zero_lag of band-passed signals, shuffle of others.",
    )
    pool: float | None = Field(
        None,
        ge=0,
        description="Waves this far apart (s) support each other in p; 0 for each by itself. "
        "Default 8 cycles of a band's geometric mean, without a band 0.",
    )
    surrogates: int = Field(39, ge=1, description="Most surrogate recordings drawn.")
    permutations: int = Field(
        0,
        ge=0,
        description="Permutations of the times within a wave for p_permutation, which is too small "
        "in any noise; 0 for none.",
    )
    level: float = Field(
        0.05, gt=0, lt=1, description="False discovery rate at which a wave is significant."
    )


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Find the fronts of waves that pass a recording's electrodes.

    Parameters
    ----------
    recording : DataTree
        With a field, imaging or spikes with positions.
    latents : Dataset or None
        Not used.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        Dim ``event``: the table of waves, with ``r_squared`` of the plane, ``evidence`` (see
        :func:`driftwave.fronts.pooling.pooled_evidence`), ``heldout_time_error`` (s), ``source_x``
        and ``source_y`` (mm), ``electrodes`` (number). Dim ``trigger``: ``trigger_time`` (s),
        ``trigger_electrode``, ``trigger_event``. Dim ``null_event``: ``null_evidence``.

    Raises
    ------
    InputError
        No signal with positions, unusable electrodes, a rate or length that does not suit the band.
    """
    del latents
    dataset = wave_signal(recording, params.signal, bin_width=params.bin_width)
    session = str(recording.attrs.get("session", "recording"))
    result = per_array(dataset, session, lambda one: _of_array(recording, one, params, seed))
    return result.assign_attrs(
        detector="wave_fronts",
        session=session,
        speed_kind="front",
        signal=dataset.attrs["signal"],
        level=params.level,
    )


def _of_array(recording: xr.DataTree, dataset: xr.Dataset, params: Params, seed: int) -> xr.Dataset:
    band = params.band
    if band == "auto":
        band = BAND if dataset.attrs["signal"] == "field" else None
    traces = _traces(recording, dataset, band, params)
    lag = params.lag or (0.25 / float(np.sqrt(np.prod(band))) if band else 2 / traces.rate)
    silence = 0.5 / band[1] if band else 2 * lag
    electrodes = traces.electrodes
    detection = Detection(
        kind=_kind(params, str(dataset.attrs["signal"])),
        threshold=params.threshold,
        target=float(np.deg2rad(params.target_phase)),
        silence=silence if params.silence is None else params.silence,
        robust=params.baseline == "median",
    )
    grouping = Grouping(
        position=electrodes.position,
        reach=params.reach * electrodes.pitch,
        lag=lag,
        neighbours=params.neighbours,
        fewest=max(FEWEST, int(np.ceil(params.share * len(electrodes)))),
        longest=params.longest,
    )
    cones = Cones.of(electrodes.position, electrodes.pitch)
    stretches = list(triggers_of(traces, detection, chunk=params.chunk))
    triggers = joined([found for found, _ in stretches])
    refit = Refit.of(
        triggers,
        electrodes.position,
        cones,
        reach=grouping.reach,
        lag=lag,
        fewest=grouping.fewest,
    )
    found = grouping.stream(stretches)
    tasks = [
        dask.delayed(measure_fronts)(
            groups,
            refit.about(groups, triggers),
            refit,
            electrodes,
            draws=params.bootstrap,
            permutations=params.permutations,
            rng=generator(seed, "wave fronts", str(number)),
        )
        for number, groups in enumerate(iter(lambda: list(islice(found, BATCH)), []))
    ]
    parts: list[Waves] = list(dask.compute(*tasks))
    labels = dataset["electrode"].values[electrodes.index]
    place, pool = electrodes.position, params.pool
    if pool is None:
        pool = POOLED / float(np.sqrt(np.prod(band))) if band else 0.0
    null = _null(traces, triggers, detection, band, params, seed)
    drawn = NullWaves(np.zeros(0), np.zeros(0))
    if null is not None:
        drawn = null_waves(
            null, grouping, cones, pool=pool, surrogates=params.surrogates, seed=seed
        )
    table = front_table(
        parts, labels, drawn, lambda groups: pooled_evidence(groups, place, cones, pool)
    )
    if null is None:
        table = table.drop_vars(["p", "q"])
    else:
        table["null_evidence"] = ("null_event", drawn.evidence, {"units": "1"})
        table = table.assign_attrs(null=null.name, surrogates=len(drawn.largest))
    return table.assign_attrs(
        band=list(band) if band else [],
        trigger=detection.kind,
        reach=grouping.reach,
        lag=lag,
        pool=pool,
        slowest=grouping.reach / lag,
        fewest=grouping.fewest,
    )


def _null(
    traces: Traces,
    triggers: Triggers,
    detection: Detection,
    band: tuple[float, float] | None,
    params: Params,
    seed: int,
) -> Source | None:
    kind = params.null
    if kind == "auto":
        kind = "zero_lag" if band else "shuffle"
    if kind == "none":
        return None
    if kind == "shuffle":
        return Shuffled(triggers, len(traces.electrodes))
    period = 1 / float(np.sqrt(np.prod(band))) if band else 4 / traces.rate
    return ZeroLag.of(traces, detection, period, generator(seed, "wave fronts sketch"))


def _kind(params: Params, signal: str) -> Kind:
    if params.trigger != "auto":
        return params.trigger
    kinds: dict[str, Kind] = {"field": "minima", "spikes": "spikes", "imaging": "threshold"}
    return kinds[signal]


def _traces(
    recording: xr.DataTree,
    dataset: xr.Dataset,
    band: tuple[float, float] | None,
    params: Params,
) -> Traces:
    if band is not None:
        return filtered_traces(open_field(recording, dataset, band=band, frame_rate=None))
    if params.trigger == "phase":
        raise InputError(
            file=str(recording.attrs.get("session", "recording")),
            field="trigger",
            found="'phase' without a band",
            expected="a band in which the phase is defined",
            fix="Give `band`, or take another `trigger`",
        )
    session = str(recording.attrs.get("session", "recording"))
    return plain_traces(dataset, good_electrodes(dataset, session), params.smoothing)
