r"""Linear stochastic oscillators with wave-like loadings, seen by an array and by Poisson units.

.. math:: z_{k,t} = a_k e^{i \omega_k} z_{k,t-1} + \sqrt{1 - a_k^2}\, \eta, \qquad
          y_t = \sum_k \mathrm{Re}(c_k z_{k,t}) + B s_t + \epsilon

with unit variance in either part of z, slow AR(1) factors s, and noise that is white or 1/f, its
own on each channel or correlated in space. The argument of the complex loadings c over the
electrodes is the wave. LFP in ``processing/ecephys/LFP/lfp``; the truth, in
``processing/ground_truth``, is the table ``oscillators`` with its loadings, the series ``states``
(real and imaginary part of each oscillator by turns) and, with units, ``firing_rates``, Hz.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pynwb import NWBFile, ProcessingModule, TimeSeries

from driftwave.compute import generator
from driftwave.ingest.simulate import _nwbfile
from driftwave.ingest.simulate._lfp import write_lfp
from driftwave.ingest.simulate._linear import (
    DEFAULT,
    Oscillator,
    oscillator_table,
    pattern,
    recursion,
)
from driftwave.ingest.simulate._noise import (
    band_rms,
    noise_blocks,
    power_law_filter,
    root,
    spatial_covariance,
)
from driftwave.ingest.simulate._poisson import spike_times
from driftwave.ingest.simulate._trials import ground_truth_table

PAPER = "Matsuda & Komaki 2017"
NAME = "linear_oscillators"
BLOCK = 10.0  # s held in memory at once
MAP_LENGTH = 1.0  # mm; correlation length of a random or zero-lag map


class Params(BaseModel):
    """Parameters of the recording of linear oscillators."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    duration: float = Field(60.0, gt=1, description="Length of the recording, s.")
    sampling_rate: float = Field(250.0, ge=50, description="Hz.")
    rows: int = Field(10, ge=2, description="Rows of the grid.")
    columns: int = Field(10, ge=2, description="Columns of the grid.")
    pitch: float = Field(0.4, gt=0, description="Distance between neighbouring electrodes, mm.")
    corners: bool = Field(False, description="Whether the four corners of the grid are there.")
    oscillators: tuple[Oscillator, ...] = Field(DEFAULT, description="The oscillators.")
    null: Literal["none", "zero_lag"] = Field(
        "none",
        description="zero_lag makes the twin: every loading keeps its size and is made real, with "
        "signs from a smooth random map.",
    )
    slow: tuple[float, ...] = Field(
        (0.999, 0.995, 0.98), description="AR(1) coefficients of the slow factors."
    )
    slow_amplitude: float = Field(
        10.0, ge=0, description="Mean loading of a slow factor, microvolt; their SD is half of it."
    )
    snr: tuple[float, float] = Field(
        (1.0, 1.0),
        description="Range over channels of the ratio of the oscillators' RMS to the noise's, "
        "uniform in the logarithm.",
    )
    exponent: float = Field(
        0.0, ge=0, le=2, description="Noise power falls with frequency to this power."
    )
    shared: float = Field(
        0.0, ge=0, le=1, description="Share of the noise's variance that is spatially correlated."
    )
    correlation_length: float = Field(
        1.0, gt=0, description="Length over which the shared noise falls off, mm."
    )
    missing: int = Field(0, ge=0, description="Number of missing stretches (NaN).")
    missing_length: float = Field(0.5, gt=0, description="Length of each, s.")
    missing_share: float = Field(
        1.0, gt=0, le=1, description="Share of the electrodes that a stretch is missing from."
    )
    units: int = Field(0, ge=0, description="Number of Poisson units, at random electrodes.")
    rate: tuple[float, float] = Field(
        (5.0, 20.0), description="Range of mean rates, Hz; uniform in the logarithm."
    )
    gain: float = Field(
        0.5, ge=0, description="RMS of what each oscillator adds to a unit's log rate, on average."
    )
    held_out: float = Field(0.25, ge=0, lt=1, description="Share of units marked held out.")
    bin_width: float = Field(0.02, gt=0, description="Bin width of the true rates, s.")

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        if not self.oscillators:
            raise ValueError("oscillators must not be empty")
        highest = max(one.frequency for one in self.oscillators)
        if highest >= self.sampling_rate / 2:
            raise ValueError(f"frequency {highest:g} Hz is not below half the sampling_rate")
        if any(not 0 <= a < 1 for a in self.slow):
            raise ValueError("slow must be coefficients from 0 to below 1")
        for name in ("snr", "rate"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be an ascending range of positive numbers")
        if self.missing_length * max(1, self.missing) >= self.duration / 2:
            raise ValueError("missing stretches must leave at least half of the recording")
        for name, per in (("bin_width", self.sampling_rate), ("duration", self.sampling_rate)):
            samples = getattr(self, name) * per
            if abs(samples - round(samples)) > 1e-6:
                raise ValueError(f"{name} must be a whole number of samples")
        return self

    @property
    def samples(self) -> int:
        """Samples of the recording."""
        return round(self.duration * self.sampling_rate)

    def positions(self) -> np.ndarray:
        """Electrodes (electrode, 2), mm, row after row."""
        x, y = np.meshgrid(np.arange(self.columns), np.arange(self.rows))
        corner = np.isin(x, [0, self.columns - 1]) & np.isin(y, [0, self.rows - 1])
        kept = np.flatnonzero(~corner.ravel() | self.corners)
        return self.pitch * np.stack([x.ravel(), y.ravel()], axis=-1)[kept]


def loadings(params: Params, seed: int) -> np.ndarray:
    """Complex loadings (oscillator, electrode), microvolt."""
    position = params.positions()
    rng = generator(seed, NAME, "loadings")
    mixing = root(spatial_covariance(position, MAP_LENGTH, 1.0, "gaussian"))
    found = []
    for one in params.oscillators:
        draws = rng.standard_normal((3, len(position))) @ mixing
        shape = pattern(one, position, draws[0] + 1j * draws[1])
        if params.null == "zero_lag":
            shape = np.abs(shape) * np.where(draws[2] < 0, -1.0, 1.0)
        found.append(one.amplitude * shape / np.sqrt(np.mean(np.abs(shape) ** 2)))
    return np.array(found)


class States:
    """States and slow factors, drawn piece after piece; stationary from the first sample on."""

    def __init__(self, params: Params, seed: int) -> None:
        self.damping = np.array([one.damping for one in params.oscillators])
        omega = 2 * np.pi * np.array([one.frequency for one in params.oscillators])
        self.poles = self.damping * np.exp(1j * omega / params.sampling_rate)
        self.slow = np.array(params.slow)
        self.rng = generator(seed, NAME, "states")
        self.z = self.rng.standard_normal((2, len(omega))).T @ np.array([1, 1j])
        self.s = self.rng.standard_normal(len(self.slow))

    def take(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """The next states z, complex (rows, oscillator), and slow factors (rows, factor)."""
        count = len(self.poles)
        draws = self.rng.standard_normal((rows, 2 * count + len(self.slow)))
        white = draws[:, :count] + 1j * draws[:, count : 2 * count]
        states = recursion(self.poles, np.sqrt(1 - self.damping**2) * white, self.z)
        coloured = np.sqrt(1 - self.slow**2) * draws[:, 2 * count :]
        factors = recursion(self.slow, coloured, self.s)
        self.z, self.s = states[-1], factors[-1]
        return states, factors


def state_blocks(params: Params, seed: int) -> Iterator[np.ndarray]:
    """Yield states z, complex (block, oscillator)."""
    source, step = States(params, seed), round(BLOCK * params.sampling_rate)
    for start in range(0, params.samples, step):
        yield source.take(min(step, params.samples - start))[0]


def slow_loadings(params: Params, seed: int) -> np.ndarray:
    """Loadings (factor, electrode) of the slow factors, microvolt."""
    shape = (len(params.slow), len(params.positions()))
    draws = generator(seed, NAME, "slow loadings").standard_normal(shape)
    return params.slow_amplitude * (1 + draws / 2)


def noise_levels(params: Params, seed: int) -> np.ndarray:
    """Standard deviation of the noise (electrode,), microvolt."""
    rng = generator(seed, NAME, "snr")
    signal = np.sqrt((np.abs(loadings(params, seed)) ** 2).sum(0))
    # A node of a standing wave would otherwise be an electrode without noise.
    signal = np.maximum(signal, 0.1 * np.sqrt(np.mean(signal**2)))
    low, high = np.log(params.snr)
    return signal / np.exp(rng.uniform(float(low), float(high), len(signal)))


def lfp_blocks(params: Params, seed: int) -> Iterator[np.ndarray]:
    """Yield the LFP (block, electrode), microvolt; NaN in missing stretches."""
    loading, slow = loadings(params, seed), slow_loadings(params, seed)
    sections = power_law_filter(params.exponent, params.sampling_rate)
    level = noise_levels(params, seed) / band_rms(
        sections, params.sampling_rate, (0.0, params.sampling_rate / 2)
    )
    covariance = spatial_covariance(params.positions(), params.correlation_length, params.shared)
    step = round(BLOCK * params.sampling_rate)
    rng = generator(seed, NAME, "noise")
    noise = noise_blocks(
        sections, root(covariance), params.samples, step, params.sampling_rate, rng
    )
    gaps, source, start = missing(params, seed), States(params, seed), 0
    for voltage in noise:
        states, factors = source.take(len(voltage))
        voltage = (states @ loading).real + factors @ slow + level * voltage
        for first, stop, electrodes in gaps:
            voltage[max(0, first - start) : max(0, stop - start), electrodes] = np.nan
        yield voltage
        start += len(voltage)


def missing(params: Params, seed: int) -> list[tuple[int, int, np.ndarray]]:
    """First and stop sample and electrodes (bool) of each missing stretch."""
    rng = generator(seed, NAME, "missing")
    length = round(params.missing_length * params.sampling_rate)
    count = len(params.positions())
    hidden = max(1, round(params.missing_share * count))
    found = []
    for first in np.sort(rng.integers(1, params.samples - length, params.missing)):
        electrodes = np.zeros(count, dtype=bool)
        electrodes[rng.permutation(count)[:hidden]] = True
        found.append((int(first), int(first) + length, electrodes))
    return found


def draw_units(params: Params, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Electrode, mean rate (Hz) and held-out flag of each unit (unit,)."""
    rng = generator(seed, NAME, "units")
    count = len(params.positions())
    rounds = [rng.permutation(count) for _ in range(-(-params.units // count))]
    electrode = np.sort(np.concatenate(rounds)[: params.units])
    low, high = np.log(params.rate)
    rate = np.exp(rng.uniform(float(low), float(high), params.units))
    held_out = np.zeros(params.units, dtype=bool)
    held_out[rng.permutation(params.units)[: round(params.held_out * params.units)]] = True
    return electrode, rate, held_out


def rate_blocks(
    params: Params, electrode: np.ndarray, mean_rate: np.ndarray, seed: int
) -> Iterator[np.ndarray]:
    r"""Yield rates (block, unit), Hz, constant within a sample.

    .. math:: \log\lambda_n(t) = \log\bar\lambda_n + \sum_k \mathrm{Re}(w_{nk} z_k(t))
              - \tfrac12 \sum_k |w_{nk}|^2

    with :math:`w_{nk}` the loading at the unit's electrode in units of its RMS, times the gain;
    the last term makes :math:`\bar\lambda_n` the mean, the states being Gaussian.
    """
    loading = loadings(params, seed)
    weight = params.gain * loading / np.sqrt(np.mean(np.abs(loading) ** 2, axis=1))[:, None]
    weight = weight[:, electrode]
    base = np.log(mean_rate) - (np.abs(weight) ** 2).sum(0) / 2
    for states in state_blocks(params, seed):
        yield np.exp(base + (states @ weight).real)


def _add_units(file: NWBFile, params: Params, seed: int) -> np.ndarray:
    """Add units and return their true rates (bin, unit), Hz."""
    electrode, mean_rate, held_out = draw_units(params, seed)
    rng = generator(seed, NAME, "spikes")
    per_bin = round(params.bin_width * params.sampling_rate)
    times: list[np.ndarray] = []
    members: list[np.ndarray] = []
    means: list[np.ndarray] = []
    start, left = 0, np.empty((0, params.units))
    for rate in rate_blocks(params, electrode, mean_rate, seed):
        time, unit, _ = spike_times(rate, 1 / params.sampling_rate, rng)
        times.append(time + start / params.sampling_rate)
        members.append(unit)
        start += len(rate)
        left = np.concatenate([left, rate])
        whole = len(left) // per_bin * per_bin
        means.append(left[:whole].reshape(-1, per_bin, params.units).mean(1))
        left = left[whole:]
    unit, time = np.concatenate(members), np.concatenate(times)
    time = time[np.argsort(unit, kind="stable")]
    ends = np.cumsum(np.bincount(unit, minlength=params.units))
    columns = {
        "held_out": ("Whether models may not see the unit at evaluation.", held_out),
        "mean_rate": ("Expected mean rate, Hz.", mean_rate),
    }
    observed = np.array([[0.0, params.duration]])
    _nwbfile.add_units(file, np.split(time, ends[:-1]), electrode, columns, observed=observed)
    return np.concatenate(means)


def _add_states(module: ProcessingModule, params: Params, seed: int) -> None:
    blocks = (
        states.view(float).astype(np.float32)  # real and imaginary part by turns
        for states in state_blocks(params, seed)
    )
    shape = (params.samples, 2 * len(params.oscillators))
    iterator = _nwbfile.BlockIterator(blocks, shape, np.float32)
    module.add(
        TimeSeries(
            name="states",
            description="State of the oscillators: real and imaginary part by turns, each of unit "
            "variance.",
            data=_nwbfile.compressed(iterator, chunks=iterator.recommended_chunk_shape()),
            unit="a.u.",
            starting_time=0.0,
            rate=params.sampling_rate,
        )
    )


def simulate(path: str | Path, params: Params, *, seed: int) -> None:
    """Write the recording to ``path`` as an NWB file; memory does not grow with the LFP's length.

    Parameters
    ----------
    path : path
    params : Params
    seed : int
        The same seed and parameters give the same arrays; loadings, states, noise, missing
        stretches, units and spikes are separate streams of it.
    """
    position, loading = params.positions(), loadings(params, seed)
    file = _nwbfile.create_file(
        NAME,
        params,
        seed,
        session_description=f"{len(position)}-channel array, {params.duration:g} s: "
        f"{len(params.oscillators)} linear stochastic oscillators."
        + (" The twin without lags." if params.null == "zero_lag" else ""),
        experiment_description="Recover frequencies, dampings and loadings of oscillators.",
        keywords=["oscillation", "state space model", "travelling wave"],
        related_publications=["doi:10.1162/neco_a_00916"],
    )
    _nwbfile.add_electrodes(file, position)
    shape = (params.samples, len(position))
    blocks = lfp_blocks(params, seed)
    write_lfp(file, blocks, shape, params.sampling_rate, with_gaps=params.missing > 0)
    module = file.create_processing_module("ground_truth", "What the simulation knows.")
    _add_states(module, params, seed)
    columns = oscillator_table(
        params.oscillators, position, loading, still=params.null == "zero_lag"
    )
    module.add(ground_truth_table("oscillators", "Oscillators and their loadings.", columns))
    if params.slow:
        slow = {
            "damping": ("AR(1) coefficient.", np.array(params.slow)),
            "loading": ("On each electrode, microvolt.", slow_loadings(params, seed)),
        }
        module.add(ground_truth_table("slow_factors", "Slow factors and their loadings.", slow))
    known = {
        "null": ("Whether this is the twin.", np.array([params.null])),
        "exponent": ("Of the noise.", np.array([params.exponent])),
        "shared": ("Share of the noise correlated in space.", np.array([params.shared])),
    }
    module.add(ground_truth_table("parameters", "Parameters of the simulation.", known))
    if params.units:
        module.add(
            TimeSeries(
                name="firing_rates",
                description="Mean rate of each unit (rows of the units table) in each bin.",
                data=_nwbfile.compressed(_add_units(file, params, seed).astype(np.float32)),
                unit="Hz",
                starting_time=0.0,
                rate=1 / params.bin_width,
            )
        )
    _nwbfile.write_file(file, path)
