"""Fields of coupled oscillators seen by spiking units and electrodes: parameters and recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from pynwb import NWBFile

from driftwave.compute import generator
from driftwave.ingest.simulate import _nwbfile, _sites
from driftwave.ingest.simulate._field_facts import FACTS, facts_of
from driftwave.ingest.simulate._lfp import add_lfp
from driftwave.ingest.simulate._noise import root, spatial_covariance
from driftwave.ingest.simulate._sites import Sites
from driftwave.ingest.simulate._starts import Start, start_field
from driftwave.ingest.simulate._trials import (
    STEP,
    Population,
    TrialParams,
    Truth,
    add_trials,
    add_units,
    bin_means,
    draw_spikes,
    population,
    scaled_rates,
    split_of,
)

CHUNK = 4_000_000  # complex numbers of a field held in memory at once

SHARED = (
    *(
        "topology",
        "frequency",
        "frequency_spread",
        "lag",
        "lag_y",
        "frustration",
        "asymmetry",
        "start",
    ),
    *("winding", "both_ways", "null", "gain", "readout_width", "preferred_phase"),
)

# Integrates a field: (start (trial, site), generator) to (trial, step + 1, site).
Dynamics = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class FieldParams(TrialParams):
    """Sites, their coupling, the field they start from, and what is seen of it."""

    topology: Literal["ring", "lattice", "disc"] = Field(
        "ring", description="Sites on a circle, a rectangle, or the lattice points of a disc."
    )
    sites: int = Field(32, ge=3, description="Sites of the ring.")
    rows: int = Field(8, ge=2, description="Rows of the lattice.")
    columns: int = Field(8, ge=2, description="Columns of the lattice.")
    pitch: float = Field(0.4, gt=0, description="Distance between sites (not of the ring), mm.")
    radius: float = Field(2.0, gt=0, description="Radius of the ring or the disc, mm.")
    frequency: float = Field(8.0, description="Mean natural frequency, Hz.")
    frequency_spread: float = Field(
        0.0, ge=0, description="Standard deviation of the sites' natural frequencies, Hz."
    )
    asymmetry: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="Coupling from the left, west or south is stronger by this share, from the "
        "right, east or north weaker.",
    )
    lag: float = Field(
        0.4,
        description="Phase lag of the coupling along the ring or +x, rad: what arrives from the "
        "left or west is held back by it, from the right or east put forward. A wave whose phase "
        "falls by it from site to site is what the coupling favours.",
    )
    lag_y: float = Field(0.0, description="The same along +y, rad.")
    frustration: float = Field(
        0.0,
        description="Phase lag of the coupling that is the same from all directions, rad; it turns "
        "vortices into spirals with arms.",
    )
    start: Start = Field("twisted", description="Field at the start of each trial.")
    winding: int = Field(
        2, description="Winding number (twisted) or charge (spiral); positive is counter-clockwise."
    )
    both_ways: bool = Field(False, description="Half of the trials have the opposite winding.")
    plane_step: tuple[float, float] | None = Field(
        None,
        description="Phase by which a plane wave lags per site along x and y, rad (standing: its "
        "wavenumber); default the lags.",
    )
    perturbation: float = Field(
        0.5, ge=0, description="Standard deviation of each site's own phase at the start, rad."
    )
    substeps: int = Field(2, ge=1, description="Heun steps within 2 ms.")
    null: Literal["none", "zero_lag"] = Field(
        "none",
        description="zero_lag makes the twin: in each trial all sites follow one site's course, in "
        "phase or antiphase, each with its own power.",
    )
    gain: float = Field(
        1.2, ge=0, description="Swing of the log rate where the local field has RMS amplitude."
    )
    readout_width: float = Field(
        0.3, gt=0, description="Standard deviation of the Gaussian a unit averages sites with, mm."
    )
    preferred_phase: Literal["shared", "random"] = Field(
        "shared", description="Whether all units prefer phase 0, or each its own."
    )
    field: bool = Field(False, description="Whether the units' electrodes record an LFP too.")
    snr: float = Field(
        2.0, gt=0, description="RMS of the LFP's signal in trials over its noise in 5-40 Hz."
    )
    amplitude: float = Field(40.0, gt=0, description="RMS of the LFP's signal, microvolt.")
    exponent: float = Field(
        1.0, ge=0, le=2, description="The LFP's noise power falls with frequency to this power."
    )

    @model_validator(mode="after")
    def _consistent(self) -> FieldParams:
        if self.start == "twisted" and self.topology != "ring":
            raise ValueError("start: twisted is for a ring; a disc has spiral, a lattice plane")
        if self.start == "spiral" and self.topology == "ring":
            raise ValueError("start: spiral is for a disc or lattice; a ring has twisted")
        if self.start == "twisted" and abs(self.winding) >= self.sites / 2:
            raise ValueError("winding must be below half the number of sites")
        if self.both_ways and self.start not in ("twisted", "spiral"):
            raise ValueError("both_ways is for twisted and spiral starts")
        if self.topology == "disc" and self.radius < self.pitch:
            raise ValueError("radius of a disc must be at least the pitch")
        if self.field and self.jitter == 0 and self.units > len(self.place().position):
            raise ValueError("with field, units that share a site need jitter")
        return self

    def place(self) -> Sites:
        """The sites."""
        if self.topology == "ring":
            return _sites.ring(self.sites, self.radius)
        if self.topology == "lattice":
            return _sites.lattice(self.rows, self.columns, self.pitch)
        return _sites.disc(self.radius, self.pitch)

    def lags(self) -> np.ndarray:
        """Phase lag of the coupling from each direction (direction,), rad."""
        both = np.array([self.lag, -self.lag, self.lag_y, -self.lag_y])
        return both[: 2 if self.topology == "ring" else 4] + self.frustration

    def strengths(self) -> np.ndarray:
        """Coupling from each direction (direction,) relative to its mean."""
        pairs = 1 if self.topology == "ring" else 2
        return np.tile([1 + self.asymmetry, 1 - self.asymmetry], pairs)


@dataclass(frozen=True)
class Observed:
    """What is kept of the field.

    Attributes
    ----------
    site : ndarray, complex (trial, bin, site)
        Mean over each bin.
    local : ndarray, complex (trial, step + 1, unit)
        Gaussian-weighted average about each unit, in units of ``scale``.
    scale : float
        RMS of the field over trials, time and sites.
    facts : dict of str to ndarray (trial,)
        :data:`FACTS`.
    """

    site: np.ndarray
    local: np.ndarray
    scale: float
    facts: dict[str, np.ndarray]


def natural_frequency(params: FieldParams, seed: int, simulator: str) -> np.ndarray:
    """Natural frequency of each site (site,), Hz."""
    rng = generator(seed, simulator, "natural frequency")
    count = len(params.place().position)
    return params.frequency + params.frequency_spread * rng.standard_normal(count)


def readout(params: FieldParams, sites: Sites, position: np.ndarray) -> np.ndarray:
    """Weights (unit, site) of the local average, summing to one for each unit."""
    distance = sites.distance(position)
    # The nearest site's exponent is taken out, so that a narrow Gaussian cannot vanish.
    power = np.square(distance) - np.square(distance).min(1, keepdims=True)
    weight = np.exp(-power / (2 * params.readout_width**2))
    return weight / weight.sum(1, keepdims=True)


def windings(params: FieldParams, seed: int, simulator: str) -> np.ndarray:
    """Winding number (trial,) of the start."""
    if params.start not in ("twisted", "spiral"):
        return np.zeros(params.trials, dtype=int)
    sign = np.ones(params.trials, dtype=int)
    if params.both_ways:
        sign[: params.trials // 2] = -1
        sign = generator(seed, simulator, "winding").permutation(sign)
    return sign * params.winding


def fields(
    params: FieldParams, dynamics: Dynamics, size: float, seed: int, simulator: str
) -> Iterator[np.ndarray]:
    """Yield the field (trial, step + 1, site) of a chunk of trials after the other."""
    sites = params.place()
    start = size * start_field(
        params.start,
        sites,
        winding=windings(params, seed, simulator),
        step=params.plane_step or (params.lag, params.lag_y),
        perturbation=params.perturbation,
        rng=generator(seed, simulator, "start"),
    )
    rng = generator(seed, simulator, "noise")
    twin = generator(seed, simulator, "twin")
    at_once = max(1, CHUNK // ((params.steps + 1) * len(sites.position)))
    for first in range(0, params.trials, at_once):
        z = dynamics(start[first : first + at_once], rng)
        yield zero_lag(z, sites, twin) if params.null == "zero_lag" else z


def zero_lag(z: np.ndarray, sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """Each trial's twin without lags: one site's course times a real map.

    Every site keeps its own mean power in the trial; signs come from a smooth random map.

    Parameters
    ----------
    z : ndarray, complex (trial, step, site)
    """
    trials, _, count = z.shape
    power = np.sqrt(np.mean(np.abs(z) ** 2, axis=1))
    mixing = root(spatial_covariance(sites.position, 3 * sites.pitch, 1.0, "gaussian"))
    sign = np.where(rng.standard_normal((trials, count)) @ mixing < 0, -1.0, 1.0)
    chosen = rng.integers(0, count, trials)
    rows = np.arange(trials)
    course = z[rows, :, chosen] / power[rows, chosen][:, None]
    return course[:, :, None] * (sign * power)[:, None, :]


def observe(
    params: FieldParams,
    dynamics: Dynamics,
    units: Population,
    seed: int,
    simulator: str,
    *,
    size: float = 1.0,
) -> Observed:
    """Integrate all trials, a chunk of them at a time, and keep what is seen of the field.

    Parameters
    ----------
    dynamics : callable
    units : Population
    size : float
        Amplitude at the start.
    """
    sites = params.place()
    weight = readout(params, sites, units.position)
    site, local, facts, power = [], [], [], []
    for z in fields(params, dynamics, size, seed, simulator):
        middle = (z[:, 1:] + z[:, :-1]) / 2
        site.append(bin_means(middle, params.per_bin).astype(np.complex64))
        local.append((z @ weight.T).astype(np.complex64))
        facts.append(facts_of(z, sites, STEP, lagged=params.null == "none"))
        power.append(np.mean(np.abs(z) ** 2, axis=(1, 2)))
    scale = float(np.sqrt(np.concatenate(power).mean()))
    return Observed(
        np.concatenate(site),
        np.concatenate(local) / np.float32(scale),
        scale,
        {name: np.concatenate([one[name] for one in facts]) for name in facts[0]},
    )


def preferred_phases(params: FieldParams, seed: int, simulator: str) -> np.ndarray:
    """Phase (unit,) of the local field at which each unit fires most, rad."""
    if params.preferred_phase == "shared":
        return np.zeros(params.units)
    rng = generator(seed, simulator, "preferred phase")
    return rng.uniform(-np.pi, np.pi, params.units)


def rates(params: FieldParams, units: Population, phase: np.ndarray, seen: Observed) -> np.ndarray:
    r"""Rates (trial, step, unit), Hz.

    .. math:: \lambda_n \propto \exp\Big(g \, \mathrm{Re}\, e^{-i \psi_n} \sum_j w_{nj} z_j /
              z_\mathrm{rms}\Big)
    """
    middle = (seen.local[:, 1:] + seen.local[:, :-1]) / 2
    turn = np.exp(-1j * phase).astype(np.complex64)
    return scaled_rates(params.gain * (middle * turn).real, units.rate)


def write_recording(
    path: str | Path,
    simulator: str,
    params: FieldParams,
    dynamics: Dynamics,
    seed: int,
    *,
    size: float,
    description: str,
    publications: list[str],
    known: dict[str, str | float | int],
) -> None:
    """Simulate and write the NWB file.

    Parameters
    ----------
    size : float
        Amplitude at the start.
    description : str
        Of the session.
    known : dict
        Parameters of the dynamics for the table ``parameters``.
    """
    units = population(params, params.place(), seed, simulator)
    phase = preferred_phases(params, seed, simulator)
    seen = observe(params, dynamics, units, seed, simulator, size=size)
    rate = rates(params, units, phase, seen)
    file = _nwbfile.create_file(
        simulator,
        params,
        seed,
        session_description=description,
        experiment_description="Recover coupled oscillators, their lags and the wave from spikes.",
        keywords=["travelling wave", "coupled oscillators", simulator.replace("_", " ")],
        related_publications=publications,
    )
    started = windings(params, seed, simulator)
    columns = {
        "condition": ("Winding number or charge at the start.", started),
        **{name: (text, seen.facts[name]) for name, text in FACTS.items()},
    }
    add_trials(file, params, split_of(params, seed, simulator), columns)
    extra = {"preferred_phase": ("Phase of the local field with the highest rate, rad.", phase)}
    add_units(file, params, units, draw_spikes(params, rate, seed, simulator), extra)
    if params.field:
        add_lfp(file, params, seen.local, seed, simulator)
    _add_truth(file, params, seen, rate, known, natural_frequency(params, seed, simulator))
    _nwbfile.write_file(file, path)


def _add_truth(
    file: NWBFile,
    params: FieldParams,
    seen: Observed,
    rate: np.ndarray,
    known: dict[str, str | float | int],
    frequency: np.ndarray,
) -> None:
    truth, sites = Truth(file, params), params.place()
    truth.rates(rate, params.per_bin)
    for name, part in (("site_re", seen.site.real), ("site_im", seen.site.imag)):
        which = "Real" if name == "site_re" else "Imaginary"
        text = f"{which} part of the field at each site (rows of the table sites), mean over bins"
        truth.series(name, text, part, "a.u.")
    x, y = sites.position.T
    columns = {
        "x": ("mm, on the axes of the electrodes' rel_x.", x),
        "y": ("mm, on the axes of the electrodes' rel_y.", y),
        "frequency": ("Natural frequency, Hz.", frequency),
    }
    truth.table("sites", "Where the oscillators are.", columns)
    values = {name: getattr(params, name) for name in SHARED}
    truth.parameters({**values, **known, "scale": seen.scale})
