"""A 96-channel array with planar, radial and rotating waves in correlated 1/f noise, and units.

LFP at 1 kHz, in ``processing/ecephys/LFP/lfp``; units whose rates are log-linear in the wave at
their electrode. The truth is the table ``intervals/waves`` and, in ``processing/ground_truth``,
``firing_rates``, Hz.

With ``waves: false`` it is the wave-free twin: the same noise, sample by sample, and (by default)
at the same times zero-lag bursts of the same frequency, envelope and mean power, which all
electrodes follow at once or in antiphase. Nothing in the twin travels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pynwb import NWBFile, TimeSeries
from pynwb.ecephys import LFP, ElectricalSeries

from driftwave.compute import generator
from driftwave.ingest.simulate import _nwbfile
from driftwave.ingest.simulate._episodes import (
    KINDS,
    Episode,
    deal_kinds,
    field,
    schedule,
    wave_table,
)
from driftwave.ingest.simulate._noise import (
    band_rms,
    noise_blocks,
    power_law_filter,
    root,
    spatial_covariance,
)
from driftwave.ingest.simulate._poisson import locked_rates, spike_times

BAND = (5.0, 40.0)  # Hz; where the signal-to-noise ratio is defined
RESOLUTION = 0.25  # microvolt per stored step
BLOCK = 10.0  # s held in memory at once
STEP = 0.001  # s; rates are constant within a step
WAVES = "Ground truth: travelling waves; in the twin, where they would be (kind zero_lag or none)."
MAP_LENGTH = 2.0  # mm; correlation length of a zero-lag burst's map


class Params(BaseModel):
    """Parameters of the array recording."""

    # The file's notes keep the parameters as JSON, which has no infinite numbers.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    duration: float = Field(60.0, gt=1, description="Length of the recording, s.")
    sampling_rate: float = Field(1000.0, ge=100, description="Sampling rate of the LFP, Hz.")
    rows: int = Field(10, ge=3, description="Rows of the grid.")
    columns: int = Field(10, ge=3, description="Columns of the grid.")
    pitch: float = Field(0.4, gt=0, description="Distance between neighbouring electrodes, mm.")
    corners: bool = Field(False, description="Whether the four corners of the grid are there.")
    missing: int = Field(0, ge=0, description="Further electrodes missing at random.")
    bad: int = Field(3, ge=0, description="Electrodes marked bad: noisy and flat by turns.")
    waves: bool = Field(True, description="False makes the wave-free twin.")
    twin_kind: Literal["noise", "zero_lag"] = Field(
        "zero_lag", description="What the twin has in place of waves: nothing, or zero-lag bursts."
    )
    planar: float = Field(0.5, ge=0, description="Share of planar waves.")
    radial: float = Field(0.25, ge=0, description="Share of radial waves, in and out.")
    rotating: float = Field(0.25, ge=0, description="Share of rotating waves, both ways.")
    off_grid: float = Field(
        0.5, ge=0, le=1, description="Share of radial waves whose centre lies beside the array."
    )
    speed: tuple[float, float] = Field(
        (100.0, 800.0), description="Range of speeds, mm/s; uniform in the logarithm."
    )
    frequency: float = Field(12.0, gt=0, description="Mean frequency of waves, Hz.")
    frequency_range: float = Field(1.0, ge=0, description="Largest deviation from it, Hz.")
    episode: tuple[float, float] = Field((1.0, 2.0), description="Range of episode lengths, s.")
    pause: tuple[float, float] = Field((0.5, 1.5), description="Range of pauses between, s.")
    modulation: float = Field(
        0.3, ge=0, lt=1, description="Depth of the slow modulation of the envelope."
    )
    amplitude: float = Field(40.0, ge=0, description="RMS of a wave during an episode, microvolt.")
    snr: float = Field(
        2.0,
        gt=0,
        description="RMS of a wave during an episode over that of the noise in 5-40 Hz; .inf for "
        "none.",
    )
    exponent: float = Field(
        1.5, ge=0, le=2, description="Noise power falls with frequency to this power."
    )
    correlation_length: float = Field(
        1.0, gt=0, description="Length over which the shared noise falls off, mm."
    )
    shared: float = Field(
        0.9, ge=0, le=1, description="Share of the noise's variance that is spatially correlated."
    )
    kernel: Literal["exponential", "gaussian"] = Field(
        "exponential", description="How the shared noise falls off with distance."
    )
    unit_electrodes: int = Field(
        30, ge=0, description="Electrodes with units; each has one to three."
    )
    mean_rate: float = Field(8.0, gt=0, description="Mean of the units' mean rates, Hz.")
    coupling: float = Field(
        1.0,
        ge=0,
        description="Swing of the log rate at a wave's mean amplitude: the concentration of the "
        "spikes' phases.",
    )
    held_out: float = Field(0.25, ge=0, lt=1, description="Share of units marked held out.")
    bin_width: float = Field(0.02, ge=STEP, description="Bin width of the true rates, s.")

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        for name in ("speed", "episode", "pause"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be an ascending range of positive numbers")
        if self.planar + self.radial + self.rotating <= 0:
            raise ValueError("the shares of planar, radial and rotating must not all be 0")
        if self.frequency_range >= self.frequency:
            raise ValueError("frequency_range must be below frequency")
        sites = self.rows * self.columns - 4 * (not self.corners)
        if sites - self.missing - self.bad < max(2, self.unit_electrodes):
            raise ValueError("too few good electrodes are left for unit_electrodes")
        for name in ("bin_width", "duration"):
            steps = getattr(self, name) / STEP
            if abs(steps - round(steps)) > 1e-6:
                raise ValueError(f"{name} must be a whole number of milliseconds")
        return self


@dataclass(frozen=True)
class Grid:
    """Electrode positions (electrode, 2), mm, and which of them are good, (electrode,)."""

    position: np.ndarray
    good: np.ndarray


@dataclass(frozen=True)
class Population:
    """Units, each attribute (unit,): electrode row, mean rate (Hz), preferred phase (rad)."""

    electrode: np.ndarray
    rate: np.ndarray
    phase: np.ndarray
    held_out: np.ndarray


def grid(params: Params, seed: int) -> Grid:
    """Place the electrodes, leave out corners and missing ones, and mark bad ones."""
    rng = generator(seed, "array", "grid")
    x, y = np.meshgrid(np.arange(params.columns), np.arange(params.rows))
    corner = np.isin(x, [0, params.columns - 1]) & np.isin(y, [0, params.rows - 1])
    kept = np.flatnonzero(~corner.ravel() | params.corners)
    kept = np.sort(rng.permutation(kept)[: len(kept) - params.missing])
    position = params.pitch * np.stack([x.ravel(), y.ravel()], axis=-1)[kept]
    good = np.ones(len(position), dtype=bool)
    good[rng.permutation(len(good))[: params.bad]] = False
    return Grid(position, good)


def _radial_centre(params: Params, rng: np.random.Generator) -> tuple[float, float]:
    """Inside the array, or up to 2 mm beside it."""
    extent = params.pitch * np.array([params.columns - 1, params.rows - 1])
    beside = rng.random() < params.off_grid
    while True:
        x, y = rng.uniform(-2.0 * beside, extent + 2.0 * beside)
        inside = 0 <= x <= extent[0] and 0 <= y <= extent[1]
        if inside != beside:
            return float(x), float(y)


def _wave(
    params: Params, kind: str, start: float, stop: float, rng: np.random.Generator
) -> Episode:
    extent = params.pitch * np.array([params.columns - 1, params.rows - 1])
    frequency = params.frequency + params.frequency_range * rng.uniform(-1, 1)
    phase, direction = rng.uniform(0, 2 * np.pi), rng.uniform(-180, 180)
    modulation = (params.modulation, rng.uniform(0.5, 1.0), rng.uniform(0, 2 * np.pi))
    speed = float(np.exp(rng.uniform(*np.log(params.speed))))
    sign = int(rng.choice([-1, 1]))
    x, y = extent * rng.uniform(0.25, 0.75, 2)
    centre = _radial_centre(params, rng) if kind == "radial" else (float(x), float(y))
    planar, rotating = kind == "planar", kind == "rotating"
    return Episode(
        start=start,
        stop=stop,
        kind=kind,
        frequency=frequency,
        phase=phase,
        direction=direction if planar else np.nan,
        speed=np.nan if rotating else speed,
        sign=0 if planar else sign,
        centre=(np.nan, np.nan) if planar else centre,
        modulation=modulation,
    )


def episodes(params: Params, position: np.ndarray, seed: int) -> list[Episode]:
    """Waves in order of time; in the twin zero-lag bursts, or nothing, at the same times."""
    rng = generator(seed, "array", "waves")
    times = schedule(params.duration, params.episode, params.pause, rng)
    kinds = deal_kinds(len(times), [getattr(params, kind) for kind in KINDS], rng)
    waves = [
        _wave(params, str(kind), float(start), float(stop), rng)
        for kind, (start, stop) in zip(kinds, times, strict=True)
    ]
    if params.waves:
        return waves
    if params.twin_kind == "noise":
        return [Episode(wave.start, wave.stop, "none") for wave in waves]
    mixing = root(spatial_covariance(position, MAP_LENGTH, 1.0, "gaussian"))
    maps = generator(seed, "array", "zero lag").standard_normal((len(waves), len(position)))
    return [wave.zero_lag(gain) for wave, gain in zip(waves, maps @ mixing, strict=True)]


def lfp_blocks(params: Params, seed: int, *, block: float = BLOCK) -> Iterator[np.ndarray]:
    """Yield the LFP (block, electrode), microvolt, block after block.

    Parameters
    ----------
    block : float
        Length of a block, s; the signal does not depend on it.
    """
    sites = grid(params, seed)
    waves = episodes(params, sites.position, seed)
    samples, step = _samples(params), round(block * params.sampling_rate)
    sections = power_law_filter(params.exponent, params.sampling_rate)
    level = params.amplitude / params.snr / band_rms(sections, params.sampling_rate, BAND)
    covariance = spatial_covariance(
        sites.position, params.correlation_length, params.shared, params.kernel
    )
    rng = generator(seed, "array", "noise")
    noise = noise_blocks(
        sections, level * root(covariance), samples, step, params.sampling_rate, rng
    )
    broken = generator(seed, "array", "bad electrodes")
    noisy, flat = np.flatnonzero(~sites.good)[::2], np.flatnonzero(~sites.good)[1::2]
    start = 0
    for voltage in noise:
        time = np.arange(start, start + len(voltage)) / params.sampling_rate
        voltage += np.sqrt(2) * params.amplitude * field(waves, sites.position, time).real
        voltage[:, noisy] += 10 * params.amplitude * broken.standard_normal((len(time), len(noisy)))
        voltage[:, flat] = 0
        yield voltage
        start += len(voltage)


def _samples(params: Params) -> int:
    return int(round(params.duration * params.sampling_rate, 6))


def population(params: Params, sites: Grid, seed: int) -> Population:
    """Draw units: one to three on each of some good electrodes, preferring phases near pi."""
    rng = generator(seed, "array", "units")
    hosts = np.sort(rng.permutation(np.flatnonzero(sites.good))[: params.unit_electrodes])
    electrode = np.repeat(hosts, rng.integers(1, 4, len(hosts)))
    rate = rng.lognormal(0, 0.6, len(electrode))
    rate *= params.mean_rate / rate.mean() if len(rate) else 1
    held_out = np.zeros(len(electrode), dtype=bool)
    hidden = round(params.held_out * len(electrode))
    held_out[rng.permutation(len(electrode))[:hidden]] = True
    return Population(electrode, rate, rng.vonmises(np.pi, 4.0, len(electrode)), held_out)


def draw_spikes(
    params: Params, sites: Grid, units: Population, seed: int, *, block: float = BLOCK
) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw spikes block after block.

    Returns
    -------
    times : list of ndarray (spike,)
        s, one per unit.
    rate : ndarray (bin, unit)
        Mean rate in each whole bin, Hz.
    """
    waves = episodes(params, sites.position, seed)
    rng = generator(seed, "array", "spikes")
    per_bin = round(params.bin_width / STEP)
    steps, length = round(params.duration / STEP), round(block / params.bin_width) * per_bin
    times: list[np.ndarray] = []
    members: list[np.ndarray] = []
    means: list[np.ndarray] = []
    for start in range(0, steps, length):
        middle = (np.arange(start, min(start + length, steps)) + 0.5) * STEP
        wave = field(waves, sites.position, middle)[:, units.electrode]
        rate = locked_rates(units.rate, units.phase, params.coupling, wave)
        time, unit, _ = spike_times(rate, STEP, rng)
        times.append(time + start * STEP)
        members.append(unit)
        whole = len(rate) // per_bin
        means.append(rate[: whole * per_bin].reshape(whole, per_bin, -1).mean(1))
    unit, time = np.concatenate(members), np.concatenate(times)
    time = time[np.argsort(unit, kind="stable")]
    ends = np.cumsum(np.bincount(unit, minlength=len(units.electrode)))
    return np.split(time, ends[:-1]), np.concatenate(means)


def _add_lfp(file: NWBFile, params: Params, sites: Grid, seed: int) -> None:
    _nwbfile.add_electrodes(
        file, sites.position, {"good": ("False for broken electrodes.", sites.good)}
    )
    limit = np.iinfo(np.int16).max
    stored = (
        np.clip(np.rint(block / RESOLUTION), -limit, limit).astype(np.int16)
        for block in lfp_blocks(params, seed)
    )
    blocks = _nwbfile.BlockIterator(stored, (_samples(params), len(sites.good)), np.int16)
    rows = np.arange(len(sites.good))
    series = ElectricalSeries(
        name="lfp",
        description="Simulated local field potential.",
        data=_nwbfile.compressed(blocks, chunks=blocks.recommended_chunk_shape()),
        electrodes=_nwbfile.electrode_region(file, rows, "All electrodes."),
        rate=params.sampling_rate,
        starting_time=0.0,
        conversion=RESOLUTION * 1e-6,
        filtering="none",
    )
    module = file.create_processing_module("ecephys", "Simulated local field potential.")
    lfp = LFP()
    module.add(lfp)
    lfp.add_electrical_series(series)


def _add_units(file: NWBFile, params: Params, sites: Grid, seed: int) -> np.ndarray | None:
    """Add units and return their true rates (bin, unit), Hz, if there are any units."""
    units = population(params, sites, seed)
    if not len(units.electrode):
        return None
    times, rate = draw_spikes(params, sites, units, seed)
    columns = {
        "held_out": ("Whether models may not see the unit at evaluation.", units.held_out),
        "preferred_phase": ("Wave phase with the highest rate, rad.", units.phase),
        "mean_rate": ("Mean rate, Hz.", units.rate),
    }
    observed = np.array([[0.0, params.duration]])
    _nwbfile.add_units(file, times, units.electrode, columns, observed=observed)
    return rate


def _add_truth(
    file: NWBFile, params: Params, waves: list[Episode], rate: np.ndarray | None
) -> None:
    start, stop = (np.array([getattr(wave, end) for wave in waves]) for end in ("start", "stop"))
    file.add_time_intervals(_nwbfile.intervals("waves", WAVES, start, stop, wave_table(waves)))
    if rate is not None:
        module = file.create_processing_module("ground_truth", "What the simulation knows.")
        module.add(
            TimeSeries(
                name="firing_rates",
                description="Mean rate of each unit (rows of the units table) in each bin.",
                data=_nwbfile.compressed(rate.astype(np.float32)),
                unit="Hz",
                starting_time=0.0,
                rate=1 / params.bin_width,
            )
        )


def simulate(path: str | Path, params: Params, *, seed: int) -> None:
    """Write the recording to ``path`` as an NWB file; memory does not grow with its length.

    Parameters
    ----------
    path : path
    params : Params
    seed : int
        The same seed and parameters give the same arrays; grid, waves, noise, units and spikes are
        separate streams of it, so a twin shares all but the waves.
    """
    sites = grid(params, seed)
    waves = episodes(params, sites.position, seed)
    file = _nwbfile.create_file(
        "array",
        params,
        seed,
        session_description=f"{len(sites.good)}-channel array, {params.duration:g} s: "
        + (f"{len(waves)} travelling waves." if params.waves else "the twin without waves."),
        experiment_description="Find travelling waves, their direction, speed and kind.",
        keywords=["travelling wave", "local field potential", "electrode array"],
    )
    _add_lfp(file, params, sites, seed)
    _add_truth(file, params, waves, _add_units(file, params, sites, seed))
    _nwbfile.write_file(file, path)
