"""Visual population: Poisson units from planted non-negative factors, continuous or clustered.

Stimuli are shown in directions around the circle, in random order, with spontaneous activity in
between. A unit's responses are a non-negative mixture of a few spatio-temporal components, each
turned to a preferred direction of the unit's own for every stimulus. The mixtures either vary
smoothly over a sheet of units (``continuous``) or are alike within groups (``clustered``).

Kept beside the data: columns ``loading_1``, ``loading_2`` ... (mixture), ``cluster`` (-1 for a
continuous population), ``sheet_x`` and ``sheet_y`` of the units table; in
``processing/ground_truth`` ``firing_rates`` (time, unit), Hz, stamped with bin starts, and the
table ``parameters``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from hdmf.common import DynamicTable, VectorData
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pynwb import NWBFile, TimeSeries

from driftwave.compute import generator
from driftwave.ingest.simulate import _nwbfile
from driftwave.ingest.simulate._poisson import spike_times
from driftwave.tensors.steps import rolled

BUMP = 0.3
CANDIDATES = 50

PAPER = "Dyballa et al. 2024, 10.1073/pnas.2316008121 (encoding manifolds)"


class Params(BaseModel):
    """Parameters of the visual population."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    units: int = Field(120, ge=4, description="Number of units.")
    stimuli: int = Field(4, ge=1, description="Number of stimuli.")
    directions: int = Field(8, ge=2, description="Directions of each, evenly spaced.")
    repeats: int = Field(8, ge=1, description="Trials of each stimulus and direction.")
    components: int = Field(5, ge=1, description="Planted components.")
    population: Literal["continuous", "clustered"] = Field(
        "continuous", description="Mixtures that vary smoothly over a sheet, or are grouped."
    )
    clusters: int = Field(5, ge=2, description="Groups of a clustered population.")
    scatter: float = Field(
        0.1, ge=0, description="Relative standard deviation of loadings within a group."
    )
    shift: Literal["per_stimulus", "common", "none"] = Field(
        "per_stimulus", description="What has a preferred direction of its own."
    )
    baseline: float = Field(2.0, gt=0, description="Spontaneous rate, Hz.")
    peak: tuple[float, float] = Field(
        (15.0, 60.0), description="Range of the peak rates over the spontaneous one, Hz."
    )
    duration: float = Field(0.6, gt=0, description="Length of a trial, s.")
    gap: float = Field(0.6, gt=0, description="Spontaneous activity after each trial, s.")
    bin_width: float = Field(0.02, gt=0, description="Rates are constant this long, s.")
    held_out: float = Field(0.2, ge=0, lt=1, description="Share of units marked held out.")

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        for name in ("duration", "gap"):
            bins = getattr(self, name) / self.bin_width
            if abs(bins - round(bins)) > 1e-6:
                raise ValueError(f"{name} must be a whole number of bins")
        if not 0 < self.peak[0] <= self.peak[1]:
            raise ValueError("peak must be an ascending range of positive rates")
        return self


@dataclass(frozen=True)
class Population:
    """Loadings (unit, component), sheet (unit, 2), cluster (unit,), and what follows from them.

    ``rate`` (unit, stimulus, direction, time), Hz, includes the baseline; ``shift`` (unit,
    stimulus) rolls a unit's response back onto the components.
    """

    loading: np.ndarray
    sheet: np.ndarray
    cluster: np.ndarray
    stimulus: np.ndarray
    response: np.ndarray
    shift: np.ndarray
    rate: np.ndarray


@dataclass(frozen=True)
class Trials:
    """Start (s), stimulus and direction of each trial, (trial,)."""

    start: np.ndarray
    stimulus: np.ndarray
    direction: np.ndarray


def population(params: Params, seed: int) -> Population:
    """Draw loadings, components and preferred directions, and the rates they give."""
    rng = generator(seed, "visual population", "loadings")
    if params.population == "continuous":
        sheet = _evenly_loaded(params.units, params.components, rng)
        loading, cluster = _smooth_loadings(sheet, params.components), np.full(params.units, -1)
    else:
        sheet = rng.random((params.units, 2))
        cluster = rng.permutation(np.arange(params.units) % params.clusters)
        centre = rng.gamma(0.5, 1.0, (params.clusters, params.components))
        # Every group has a component that dominates it, so that groups differ.
        centre[np.arange(params.clusters), np.arange(params.clusters) % params.components] += 2
        jitter = 1 + params.scatter * rng.standard_normal((params.units, params.components))
        loading = centre[cluster] * np.maximum(jitter, 0)
    rng = generator(seed, "visual population", "components")
    stimulus = rng.uniform(0.1, 1, (params.stimuli, params.components))
    bins = round(params.duration / params.bin_width)
    response = _responses(params.directions, bins, params.components, rng)
    rng = generator(seed, "visual population", "preferred directions")
    shift = rng.integers(params.directions, size=(params.units, params.stimuli))
    if params.shift == "common":
        shift = np.repeat(shift[:, :1], params.stimuli, axis=1)
    elif params.shift == "none":
        shift = np.zeros_like(shift)
    evoked = np.einsum("nr,sr,dtr->nsdt", loading, stimulus, response, optimize=True)
    evoked = rolled(evoked, -shift)
    peak = np.exp(rng.uniform(np.log(params.peak[0]), np.log(params.peak[1]), params.units))
    evoked *= (peak / evoked.max(axis=(1, 2, 3)))[:, None, None, None]
    return Population(loading, sheet, cluster, stimulus, response, shift, params.baseline + evoked)


def _responses(directions: int, bins: int, components: int, rng: np.random.Generator) -> np.ndarray:
    """Components (direction, time, component) that differ in latency and in width of tuning."""
    angle = 2 * np.pi * np.arange(directions) / directions
    time = (np.arange(bins) + 0.5) / bins
    latency = np.linspace(0.12, 0.75, components)
    width = rng.permutation(np.geomspace(0.3, 8, components))
    course = np.exp(-0.5 * ((time[:, None] - latency) / 0.09) ** 2)
    curve = np.exp(width * (np.cos(angle)[:, None] - 1))
    return curve[:, None] * course[None]


def _smooth_loadings(sheet: np.ndarray, components: int) -> np.ndarray:
    """Gaussian bumps over the sheet, centred on a spiral that covers it evenly."""
    number = np.arange(components) + 0.5
    radius, angle = 0.5 * np.sqrt(number / components), number * np.pi * (3 - np.sqrt(5))
    centre = 0.5 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    distance = ((sheet[:, None] - centre) ** 2).sum(axis=-1)
    return np.exp(-distance / (2 * BUMP**2))


def _evenly_loaded(units: int, components: int, rng: np.random.Generator) -> np.ndarray:
    """Places on the sheet (unit, 2) whose mixtures, not they themselves, are evenly spread.

    Mixtures hardly change within a bump and fast between bumps, so that even places would crowd
    them into groups. The density of places is the area that the roots of the mixtures, scaled to
    unit norm, cover there (root of the determinant of J'J, J by central differences).
    """
    place = rng.random((CANDIDATES * units, 2))
    slope = [
        (_direction(place + step, components) - _direction(place - step, components)) / 2e-4
        for step in 1e-4 * np.eye(2)
    ]
    first, second = ((one**2).sum(axis=1) for one in slope)
    area = np.sqrt(np.maximum(first * second - (slope[0] * slope[1]).sum(axis=1) ** 2, 0))
    if not area.any():
        return place[:units]
    return place[rng.choice(len(place), units, replace=False, p=area / area.sum())]


def _direction(sheet: np.ndarray, components: int) -> np.ndarray:
    """Roots of the mixtures (unit, component) of unit norm: what tells units apart."""
    loading = _smooth_loadings(sheet, components)
    return np.sqrt(loading / loading.sum(axis=1, keepdims=True))


def plan_trials(params: Params, seed: int) -> Trials:
    """All stimuli and directions in random order within each repeat."""
    rng = generator(seed, "visual population", "trials")
    cells = params.stimuli * params.directions
    order = np.concatenate([rng.permutation(cells) for _ in range(params.repeats)])
    per_period = round((params.duration + params.gap) / params.bin_width)
    first = round(params.gap / params.bin_width)
    start = (first + np.arange(len(order)) * per_period) * params.bin_width
    return Trials(start, order // params.directions, order % params.directions)


def draw_spikes(params: Params, found: Population, trials: Trials, seed: int) -> list[np.ndarray]:
    """Spike times of every unit, s, one array (spike,) per unit, from the first trial on."""
    rng = generator(seed, "visual population", "spikes")
    rest = np.full((round(params.gap / params.bin_width), params.units), params.baseline)
    times, units = [], []
    for s in range(params.stimuli):
        for d in range(params.directions):
            starts = trials.start[(trials.stimulus == s) & (trials.direction == d)]
            rate = np.concatenate([found.rate[:, s, d].T, rest])
            time, unit, repeat = spike_times(rate, params.bin_width, rng, repeats=len(starts))
            times.append(time + starts[repeat])
            units.append(unit)
    time, unit = np.concatenate(times), np.concatenate(units)
    order = np.lexsort((time, unit))
    return np.split(time[order], np.cumsum(np.bincount(unit, minlength=params.units))[:-1])


def _add_trials(file: NWBFile, params: Params, trials: Trials) -> None:
    names = np.array([f"grating_{s + 1}" for s in range(params.stimuli)])
    columns = {
        "stimulus": ("Which stimulus.", names[trials.stimulus]),
        "direction": (
            "Direction of motion, degrees.",
            trials.direction * 360.0 / params.directions,
        ),
    }
    file.trials = _nwbfile.intervals(
        "trials", "Stimuli in random order.", trials.start, trials.start + params.duration, columns
    )


def _add_units(file: NWBFile, params: Params, found: Population, trials: Trials, seed: int) -> None:
    _nwbfile.add_electrodes(file, found.sheet)
    held_out = np.zeros(params.units, dtype=bool)
    count = round(params.held_out * params.units)
    chosen = generator(seed, "visual population", "held out").permutation(params.units)[:count]
    held_out[chosen] = True
    columns = {
        "held_out": ("Whether models may not see the unit at evaluation.", held_out),
        "cluster": ("True group of the unit, -1 for none.", found.cluster),
        "sheet_x": ("Place on the sheet of units, 1.", found.sheet[:, 0]),
        "sheet_y": ("Place on the sheet of units, 1.", found.sheet[:, 1]),
    }
    for r in range(params.components):
        columns[f"loading_{r + 1}"] = (f"True loading on component {r + 1}.", found.loading[:, r])
    end = trials.start[-1] + params.duration + params.gap
    _nwbfile.add_units(
        file,
        draw_spikes(params, found, trials, seed),
        np.arange(params.units),
        columns,
        observed=np.array([[trials.start[0], end]]),
    )


def _add_truth(file: NWBFile, params: Params, found: Population, trials: Trials) -> None:
    module = file.create_processing_module("ground_truth", "What the simulation knows.")
    rate = found.rate[:, trials.stimulus, trials.direction].transpose(1, 2, 0)
    bins = rate.shape[1]
    stamps = (trials.start[:, None] + np.arange(bins) * params.bin_width).ravel()
    module.add(
        TimeSeries(
            name="firing_rates",
            description="Rate of each unit (rows of the units table) in each bin of each trial; "
            "timestamps are bin starts.",
            data=_nwbfile.compressed(rate.reshape(-1, params.units).astype(np.float32)),
            unit="Hz",
            timestamps=_nwbfile.compressed(stamps),
        )
    )
    facts = {
        "population": params.population,
        "components": params.components,
        "clusters": params.clusters if params.population == "clustered" else 0,
        "shift": params.shift,
        "baseline": params.baseline,
    }
    columns = [
        VectorData(name=name, description=f"Parameter {name}.", data=[value])
        for name, value in facts.items()
    ]
    module.add(
        DynamicTable(
            name="parameters", description="Parameters of the population.", columns=columns
        )
    )


def simulate(path: str | Path, params: Params, *, seed: int) -> None:
    """Write the recording to ``path`` as an NWB file.

    Parameters
    ----------
    path : path
    params : Params
    seed : int
        The same seed and parameters give the same arrays; loadings, components, preferred
        directions, trial order and spikes are separate streams of it.
    """
    found, trials = population(params, seed), plan_trials(params, seed)
    file = _nwbfile.create_file(
        "visual_population",
        params,
        seed,
        session_description=f"{params.units} Poisson units, {params.stimuli} stimuli x "
        f"{params.directions} directions x {params.repeats} repeats; {params.population}.",
        experiment_description="Recover the factors and the topology of a population's responses.",
        keywords=["encoding manifold", "tensor factorisation", "direction tuning"],
        related_publications=["doi:10.1073/pnas.2316008121"],
    )
    _add_trials(file, params, trials)
    _add_units(file, params, found, trials, seed)
    _add_truth(file, params, found, trials)
    _nwbfile.write_file(file, path)
