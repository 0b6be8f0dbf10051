"""Spikes against the phase of waves: locking, preferred phases and rates around waves.

The phase of the wave at a unit's electrode, at each of its spikes, over the whole recording, within
significant waves, and within waves of each class. Phase histograms are rates, that is, corrected
for the time spent at each phase; p values come from spikes of one trial with the phase of another.
"""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, field_validator
from scipy.stats import false_discovery_control

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.recording import require
from driftwave.spike_waves.circular import bin_centres
from driftwave.spike_waves.frames import Clock, TrialFrames, Waves
from driftwave.spike_waves.sites import PhaseFrom, phase_columns, phase_course, unit_sites
from driftwave.spike_waves.unit_coupling import Coupling, Settings, couple_unit

PAPER = "Vinck et al. 2010; Lachaux et al. 1999"
_GROUP_BYTES = 64_000_000

# name -> (further dim, unit, what it is)
_NUMBERS = {
    "spikes": ("", "count", "spikes in the class"),
    "seconds": ("", "s", "time in the class"),
    "rate": ("", "Hz", "mean rate in the class"),
    "resultant": ("", "1", "mean resultant length, corrected for occupancy"),
    "preferred_phase": ("", "degree", "phase of the wave at which the unit fires most"),
    "preferred_phase_low": ("", "degree", "95 % interval, bootstrap over stretches"),
    "preferred_phase_high": ("", "degree", "95 % interval, bootstrap over stretches"),
    "ppc": ("", "1", "pairwise phase consistency, corrected for occupancy"),
    "null_ppc": ("", "1", "its mean with trials shuffled"),
    "null_resultant": ("", "1", "95 % quantile with trials shuffled"),
    "p": ("", "1", "of the pairwise phase consistency, trials shuffled"),
    "rayleigh_p": ("", "1", "Rayleigh's test, for reference: takes spikes for independent"),
    "occupancy": ("phase_bin", "1", "share of time at each phase"),
    "phase_rate": ("phase_bin", "Hz", "rate at each phase"),
    "phase_rate_low": ("phase_bin", "Hz", "2.5 % with trials shuffled"),
    "phase_rate_high": ("phase_bin", "Hz", "97.5 % with trials shuffled"),
    "events": ("", "count", "waves that rates are taken about"),
    "event_rate": ("lag", "Hz", "rate about the start of waves"),
    "event_rate_low": ("lag", "Hz", "2.5 % with waves shifted in time"),
    "event_rate_high": ("lag", "Hz", "97.5 % with waves shifted in time"),
    "event_p": ("", "1", "of the largest deviation about the start of waves"),
    "cycle_rate": ("cycle_lag", "Hz", "rate about the wave's peak at the electrode"),
    "cycle_rate_low": ("cycle_lag", "Hz", "2.5 % with peaks shifted in time"),
    "cycle_rate_high": ("cycle_lag", "Hz", "97.5 % with peaks shifted in time"),
    "cycle_p": ("", "1", "of the largest deviation about the peaks"),
}
_TESTED = ("p", "event_p", "cycle_p")


class Params(BaseModel):
    """Parameters of the coupling of spikes to waves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    phase_from: PhaseFrom = Field(
        "own",
        description="own: phase of the electrode nearest to the unit; neighbours: of the "
        "electrodes around it, so that the unit's own spikes cannot show in the field.",
    )
    reach: float | None = Field(
        None, gt=0, description="Farthest a unit may be from its electrode, mm; default one pitch."
    )
    level: float = Field(
        0.05, gt=0, lt=1, description="False discovery rate below which a wave counts."
    )
    least_spikes: int = Field(
        50, ge=5, description="Units with fewer spikes in a class are not held against it."
    )
    phase_bins: int = Field(24, ge=6, description="Bins of a cycle.")
    block: float = Field(
        5.0,
        gt=0,
        description="Length (s) of the blocks that serve as trials in a continuous recording.",
    )
    surrogates: int = Field(999, ge=19, description="Number of trial shuffles and time shifts.")
    bootstrap: int = Field(500, ge=50, description="Resamples for confidence intervals.")
    window: tuple[float, float] = Field(
        (-0.5, 1.0), description="Lags about the start of waves, s."
    )
    lag_bin: float = Field(0.02, gt=0, description="Bin width of these lags, s.")
    shift: float = Field(
        5.0,
        gt=0,
        description="Largest shift (s) of each wave, and smallest of all cycles together, in the "
        "null of rates about them.",
    )

    @field_validator("window")
    @classmethod
    def _about_zero(cls, window: tuple[float, float]) -> tuple[float, float]:
        if not window[0] < window[1]:
            raise ValueError("window must stop after it starts")
        return window


def couple(recording: xr.DataTree, waves: xr.Dataset, params: Params, *, seed: int) -> xr.Dataset:
    """Hold the spikes of a recording against the phase of its waves.

    Parameters
    ----------
    recording : DataTree
        With ``spike_times`` and ``units`` that have positions.
    waves : Dataset
        The main analysis of the recording's waves: dense ``phase`` and the table of events.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        Dims unit (those beside an electrode), class (``recording``; ``event``, all significant
        waves; and each class of them), phase_bin (degree), lag and cycle_lag (s). p values have
        a q each, over the units of a class.

    Raises
    ------
    InputError
        No spike times, no positions of units, no dense phase, units beside no electrode.
    """
    spikes = require(recording, "spike_times", "spike_waves")
    phase = phase_columns(waves)
    _check_overlap(recording, spikes, phase)
    sites = unit_sites(recording, phase, params.phase_from, params.reach)
    settings = _settings(recording, waves, phase, params)
    trains = _trains(spikes, sites.unit)
    observed = _observed(spikes, settings.clock)
    rows: list[list[Coupling]] = []
    for members in _groups(sites.columns, settings.clock.count):
        columns = np.unique(np.concatenate([sites.columns[number] for number in members]))
        block = phase.isel(site=columns).values
        tasks = []
        for number in members:
            course = phase_course(block, np.searchsorted(columns, sites.columns[number]))
            course[~observed] = np.nan
            rng = generator(seed, "spike waves", str(int(sites.unit[number])))
            array = str(sites.array[number])
            tasks.append(dask.delayed(couple_unit)(trains[number], course, array, settings, rng))
        rows += dask.compute(*tasks)
    return _table(recording, waves, rows, sites, settings, params)


def _groups(columns: list[np.ndarray], frames: int) -> list[list[int]]:
    """Units in groups whose electrodes' phase fits into 64 MB, or one by one."""
    groups: list[list[int]] = [[]]
    held: set[int] = set()
    for number, own in enumerate(columns):
        wanted = held | set(own.tolist())
        if groups[-1] and 4 * frames * len(wanted) > _GROUP_BYTES:
            groups.append([])
            wanted = set(own.tolist())
        groups[-1].append(number)
        held = wanted
    return groups


def _observed(spikes: xr.Dataset, clock: Clock) -> np.ndarray:
    """Frames at which spikes could have been seen, bool (frame,)."""
    stated = np.asarray(spikes.attrs.get("observed", []), dtype=float).reshape(-1, 2)
    if not len(stated):
        return np.ones(clock.count, dtype=bool)
    return clock.between(stated[:, 0], stated[:, 1])


def _check_overlap(recording: xr.DataTree, spikes: xr.Dataset, phase: xr.DataArray) -> None:
    time, frames = spikes["time"].values, phase["time"].values
    if len(time) and time.min() <= frames[-1] and time.max() >= frames[0]:
        return
    span = f"{time.min():.6g} to {time.max():.6g} s" if len(time) else "no spikes"
    raise InputError(
        file=str(recording.attrs.get("session", "recording")),
        field="spike_times/time",
        found=span,
        expected=f"spikes between {frames[0]:.6g} and {frames[-1]:.6g} s, where the waves are",
        fix="Check that spikes and field share one clock, in seconds",
    )


def _settings(
    recording: xr.DataTree, waves: xr.Dataset, phase: xr.DataArray, params: Params
) -> Settings:
    clock = Clock.of(phase["time"].values)
    events = Waves.of(waves, params.level)
    low, high = waves.attrs.get("band", (5.0, 40.0))
    frequency = float(np.sqrt(low * high))
    if "frequency" in waves and waves.sizes["event"]:
        heard = waves["frequency"].values
        heard = heard[np.isfinite(heard) & (heard >= low) & (heard <= high)]
        frequency = float(np.median(heard)) if len(heard) else frequency
    first, last = (round(edge / params.lag_bin) for edge in params.window)
    return Settings(
        params=params,
        clock=clock,
        waves=events,
        trials=TrialFrames.of(recording, clock, params.block, frequency),
        period=1 / frequency,
        lags=np.arange(first, last + 1),
    )


def _trains(spikes: xr.Dataset, units: np.ndarray) -> list[np.ndarray]:
    """Ascending spike times (spike,) of the units, s."""
    time, owner = spikes["time"].values, spikes["unit"].values
    order = np.lexsort((time, owner))
    time, owner = time[order], owner[order]
    first = np.searchsorted(owner, units)
    last = np.searchsorted(owner, units, side="right")
    return [time[a:b] for a, b in zip(first, last, strict=True)]


def _table(
    recording: xr.DataTree,
    waves: xr.Dataset,
    rows: list[list[Coupling]],
    sites: Any,
    settings: Settings,
    params: Params,
) -> xr.Dataset:
    sizes = {
        "phase_bin": params.phase_bins,
        "lag": len(settings.lags),
        "cycle_lag": len(settings.cycle_lags),
    }
    variables: dict[str, tuple] = {}
    for name, (dim, unit, meaning) in _NUMBERS.items():
        shape = (len(rows), len(settings.waves.classes), *([sizes[dim]] if dim else []))
        values = np.full(shape, np.nan)
        for number, row in enumerate(rows):
            for place, one in enumerate(row):
                if name in one.values:
                    values[number, place] = one.values[name]
        dims = ("unit", "class", *([dim] if dim else []))
        variables[name] = (dims, values, {"units": unit, "long_name": meaning})
    for name in _TESTED:
        stem = name.removesuffix("p")
        values = np.stack([_fdr(column) for column in variables[name][1].T], axis=1)
        attrs = {"units": "1", "long_name": f"{name} corrected over units (Benjamini-Hochberg)"}
        variables[f"{stem}q"] = (("unit", "class"), values, attrs)
    units = recording["units"].dataset
    here = units.isel(unit=sites.unit)
    width = settings.cycle_bin
    coords: dict[str, Any] = {
        "unit": here["unit"].values,
        "class": settings.waves.classes,
        "phase_bin": ("phase_bin", np.degrees(bin_centres(params.phase_bins)), {"units": "degree"}),
        "lag": ("lag", settings.lags * params.lag_bin, {"units": "s"}),
        "cycle_lag": ("cycle_lag", settings.cycle_lags * width, {"units": "s"}),
        "x": ("unit", here["x"].values, {"units": "mm"}),
        "y": ("unit", here["y"].values, {"units": "mm"}),
        "distance": ("unit", sites.distance, {"units": "mm"}),
    }
    trials = "trials" if settings.trials.starts is not None else "blocks"
    return xr.Dataset(
        variables,
        coords=coords,
        attrs={
            "session": str(recording.attrs.get("session", "")),
            "band": list(waves.attrs.get("band", [])),
            "frequency": 1 / settings.period,
            "phase_from": params.phase_from,
            "null": f"spikes of one of the {trials} with the phase of another; rates about waves: "
            "each wave shifted a little; rates about cycles: all cycles shifted by one time",
            "surrogates": params.surrogates,
            "level": params.level,
            "significant_waves": len(settings.waves.start),
            "units_left_out": int(units.sizes["unit"] - len(rows)),
        },
    )


def _fdr(p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg q values (unit,); NaN stays NaN."""
    q = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = false_discovery_control(p[known])
    return q
