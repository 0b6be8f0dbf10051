"""Poisson units driven by a Lorenz system (the LFADS protocol), with a hand that follows it.

States start from random points near the attractor, run on for a burn-in and are standardised;
rates are log-linear in them. Each condition is one initial state, repeated as trials that differ by
Poisson noise only. The hand is pulled towards a linear readout of the state after a lag.

Kept beside the data, in ``processing/ground_truth``: ``firing_rates`` (time, unit), Hz, the mean
over each bin, and ``lorenz_state`` (time, 3), the mean over each bin; both stamped with bin starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pynwb import NWBFile, TimeSeries
from pynwb.behavior import Position, SpatialSeries

from driftwave.compute import generator
from driftwave.ingest.simulate import _nwbfile
from driftwave.ingest.simulate._hand import hand_movement
from driftwave.ingest.simulate._poisson import spike_times

PAPER = "Sussillo et al. 2016 (arXiv:1608.06315), Pandarinath et al. 2018"

STEP = 0.001  # s; rates are constant within a step
BURN_IN = 2.0  # s; longer would let the chaos amplify rounding, and files differ by machine


class Params(BaseModel):
    """Parameters of the Lorenz recording."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conditions: int = Field(65, ge=1, description="Initial states; each is one condition.")
    trials_per_condition: int = Field(24, ge=3, description="Repeats of a condition.")
    novel_conditions: int = Field(
        0,
        ge=0,
        description="Further conditions whose trials are 'unused': neither fitted nor scored "
        "unless asked for.",
    )
    units: int = Field(29, ge=2, description="Number of units.")
    held_out: int = Field(7, ge=0, description="Units marked held out for co-smoothing.")
    duration: float = Field(1.0, gt=0, description="Length of a trial, s.")
    gap: float = Field(0.6, gt=0.1, description="Time between trials, s.")
    bin_width: float = Field(0.02, ge=STEP, description="Bin width of the truth, s.")
    mean_rate: float = Field(13.0, gt=0, description="Mean rate over units and trials, Hz.")
    loading: tuple[float, float] = Field(
        (0.45, 0.9),
        description="Range of a loading's size; its sign is random and states have unit variance.",
    )
    sorted_loadings: bool = Field(
        True,
        description="Sort the loadings of each dimension over units, as the LFADS data sets do: "
        "units share most of their tuning. False: independent loadings, a lower ceiling.",
    )
    speed: float = Field(6.0, gt=0, description="Lorenz time units per second.")
    sigma: float = Field(10.0, description="Lorenz system: Prandtl number.")
    rho: float = Field(28.0, description="Lorenz system: Rayleigh number.")
    beta: float = Field(8 / 3, description="Lorenz system: geometric factor.")
    valid: float = Field(0.1, gt=0, lt=0.5, description="Share of a condition's trials to valid.")
    test: float = Field(0.2, gt=0, lt=0.5, description="Share of a condition's trials to test.")
    hand_rate: float = Field(100.0, gt=0, description="Sampling rate of the hand, Hz.")
    hand_lag: float = Field(0.1, ge=0, description="The hand follows the state by this, s.")
    hand_cutoff: float = Field(4.0, gt=0, description="Natural frequency of the hand, Hz.")
    hand_size: float = Field(0.03, gt=0, description="RMS of the hand's position, m.")
    hand_noise: float = Field(
        0.25, ge=0, description="RMS of movement unrelated to the state, as a share of the rest."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        for name in ("bin_width", "duration", "gap"):
            steps = getattr(self, name) / STEP
            if abs(steps - round(steps)) > 1e-6:
                raise ValueError(f"{name} must be a whole number of milliseconds")
        bins = self.duration / self.bin_width
        if abs(bins - round(bins)) > 1e-6:
            raise ValueError("duration must be a whole number of bins")
        if self.held_out >= self.units:
            raise ValueError("held_out must leave at least one unit held in")
        if not 0 <= self.loading[0] <= self.loading[1]:
            raise ValueError("loading must be an ascending range of sizes")
        return self


@dataclass(frozen=True)
class Population:
    """States and rates of every condition.

    Attributes
    ----------
    time : ndarray (step,)
        s from the trial's start; negative before it.
    state : ndarray (condition, step, 3)
        Zero mean and unit variance in each dimension.
    rate : ndarray (condition, step, unit)
        Hz, from the trial's start on only.
    """

    time: np.ndarray
    state: np.ndarray
    rate: np.ndarray


@dataclass(frozen=True)
class Trials:
    """When trials start, their condition and split, each (trial,)."""

    start: np.ndarray
    condition: np.ndarray
    split: np.ndarray


def lorenz_states(
    initial: np.ndarray, steps: int, step: float, sigma: float, rho: float, beta: float
) -> np.ndarray:
    r"""Integrate the Lorenz system with the classical fourth-order Runge-Kutta method.

    .. math:: \dot x = \sigma (y - x), \; \dot y = x (\rho - z) - y, \; \dot z = x y - \beta z

    (Lorenz 1963, eq. 25-27.)

    Parameters
    ----------
    initial : ndarray (condition, 3)
    steps : int
    step : float
        Length of a step in Lorenz time.

    Returns
    -------
    ndarray (condition, steps, 3)
        Starts with ``initial``.
    """

    def slope(state: np.ndarray) -> np.ndarray:
        x, y, z = state.T
        return np.stack([sigma * (y - x), x * (rho - z) - y, x * y - beta * z], axis=-1)

    states = np.empty((len(initial), steps, 3))
    state = initial
    for now in range(steps):
        states[:, now] = state
        first = slope(state)
        second = slope(state + step / 2 * first)
        third = slope(state + step / 2 * second)
        last = slope(state + step * third)
        state = state + step / 6 * (first + 2 * second + 2 * third + last)
    return states


def population(params: Params, seed: int) -> Population:
    """Draw initial states and loadings, and compute states and rates of every condition."""
    count = params.conditions + params.novel_conditions
    draws = generator(seed, "lorenz", "initial states").standard_normal((count, 3))
    before = round(_lead(params) / STEP)
    burn_in, steps = round(BURN_IN / STEP), round(params.duration / STEP)
    states = lorenz_states(
        draws * 8 + [0.0, 0.0, params.rho - 1],
        burn_in + before + steps,
        STEP * params.speed,
        params.sigma,
        params.rho,
        params.beta,
    )[:, burn_in:]
    states = states - states.mean((0, 1))
    states /= states.std((0, 1))
    rng = generator(seed, "lorenz", "loadings")
    shape = (3, params.units)
    loading = rng.uniform(*params.loading, shape) * rng.choice([-1.0, 1.0], shape)
    if params.sorted_loadings:
        loading = np.sort(loading, axis=1)
    rate = np.exp(states[:, before:] @ loading)
    rate *= params.mean_rate / rate.mean()
    return Population(np.arange(-before, steps) * STEP, states, rate)


def _lead(params: Params) -> float:
    """How long (s) before a trial the state already drives the hand."""
    return round(params.gap / 2 / STEP) * STEP


def plan_trials(params: Params, seed: int) -> Trials:
    """Order the trials at random and divide each condition's into train, valid and test."""
    rng = generator(seed, "lorenz", "trials")
    repeats = params.trials_per_condition
    valid = max(1, round(params.valid * repeats))
    test = max(1, round(params.test * repeats))
    names = np.repeat(["train", "valid", "test"], [repeats - valid - test, valid, test])
    splits = [rng.permutation(names) for _ in range(params.conditions)]
    splits += [np.full(repeats, "unused")] * params.novel_conditions
    condition = np.repeat(np.arange(len(splits)), repeats)
    order = rng.permutation(len(condition))
    # Counted in steps, so that no start is a rounding error off the millisecond.
    period = round((params.duration + params.gap) / STEP)
    start = (np.arange(len(order)) * period + round(params.gap / STEP)) * STEP
    return Trials(start, condition[order], np.concatenate(splits)[order])


def draw_spikes(params: Params, rates: Population, trials: Trials, seed: int) -> list[np.ndarray]:
    """Spike times of every unit, s on the session's clock, one array (spike,) per unit."""
    rng = generator(seed, "lorenz", "spikes")
    times, units = [], []
    for condition, rate in enumerate(rates.rate):
        starts = trials.start[trials.condition == condition]
        time, unit, repeat = spike_times(rate, STEP, rng, repeats=len(starts))
        times.append(time + starts[repeat])
        units.append(unit)
    time, unit = np.concatenate(times), np.concatenate(units)
    order = np.lexsort((time, unit))
    return np.split(time[order], np.cumsum(np.bincount(unit, minlength=params.units))[:-1])


def bin_means(values: np.ndarray, per_bin: int) -> np.ndarray:
    """Mean over each bin: (condition, step, column) to (condition, bin, column)."""
    conditions, steps, columns = values.shape
    return values.reshape(conditions, steps // per_bin, per_bin, columns).mean(2)


def draw_hand(
    params: Params, rates: Population, trials: Trials, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Position (m) and velocity (m/s) of the hand, (time, axis), over the whole session.

    Between trials the target moves in a straight line from one trial's states to the next's.
    """
    rng = generator(seed, "lorenz", "hand")
    readout, _ = np.linalg.qr(rng.standard_normal((3, 2)))
    length = trials.start[-1] + params.duration + params.gap
    time = np.arange(int(length * params.hand_rate)) / params.hand_rate
    every = max(1, round(1 / params.hand_rate / STEP) // 2)
    moments = (trials.start[:, None] + rates.time[::every] + params.hand_lag).ravel()
    drive = (rates.state[trials.condition, ::every] @ readout).reshape(-1, 2)
    target = np.stack([np.interp(time, moments, axis) for axis in drive.T], axis=-1)
    signal = hand_movement(target - target.mean(0), params.hand_rate, params.hand_cutoff)
    other = hand_movement(rng.standard_normal(target.shape), params.hand_rate, params.hand_cutoff)
    scale = params.hand_size / _rms(signal[0])
    noise = params.hand_noise * params.hand_size / _rms(other[0])
    return signal[0] * scale + other[0] * noise, signal[1] * scale + other[1] * noise


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _add_trials(file: NWBFile, params: Params, trials: Trials) -> None:
    columns = {
        "condition": ("Which initial state.", trials.condition),
        "split": ("train, valid, test, or unused for novel conditions.", trials.split),
        "novel": ("Whether no trial of this condition is trained on.", trials.split == "unused"),
    }
    stop = trials.start + params.duration
    file.trials = _nwbfile.intervals(
        "trials", "Repeats of each condition in random order.", trials.start, stop, columns
    )


def _add_units(file: NWBFile, params: Params, rates: Population, trials: Trials, seed: int) -> None:
    side = int(np.ceil(np.sqrt(params.units)))
    site = np.arange(params.units)
    _nwbfile.add_electrodes(file, 0.4 * np.stack([site % side, site // side], axis=-1))
    held_out = np.zeros(params.units, dtype=bool)
    chosen = generator(seed, "lorenz", "held out").permutation(params.units)[: params.held_out]
    held_out[chosen] = True
    _nwbfile.add_units(
        file,
        draw_spikes(params, rates, trials, seed),
        site,
        {"held_out": ("Whether models may not see the unit at evaluation.", held_out)},
        observed=np.stack([trials.start, trials.start + params.duration], axis=-1),
    )


def _add_hand(file: NWBFile, params: Params, rates: Population, trials: Trials, seed: int) -> None:
    position, velocity = draw_hand(params, rates, trials, seed)
    module = file.create_processing_module("behavior", "Simulated movement of a hand.")
    clock = {"starting_time": 0.0, "rate": params.hand_rate}
    module.add(
        Position(
            spatial_series=SpatialSeries(
                name="hand_position",
                description="Horizontal position of the hand (x, y).",
                data=_nwbfile.compressed(position.astype(np.float32)),
                reference_frame="Mean position is (0, 0).",
                unit="meters",
                **clock,
            )
        )
    )
    module.add(
        TimeSeries(
            name="hand_velocity",
            description="Derivative of hand_position (x, y).",
            data=_nwbfile.compressed(velocity.astype(np.float32)),
            unit="m/s",
            **clock,
        )
    )


def _add_truth(file: NWBFile, params: Params, rates: Population, trials: Trials) -> None:
    per_bin = round(params.bin_width / STEP)
    bins = round(params.duration / params.bin_width)
    rate = bin_means(rates.rate, per_bin)[trials.condition].reshape(-1, params.units)
    state = bin_means(rates.state[:, rates.time > -STEP / 2], per_bin)
    module = file.create_processing_module("ground_truth", "What the simulation knows.")
    series = TimeSeries(
        name="firing_rates",
        description="Mean rate of each unit (rows of the units table) in each bin of each trial; "
        "timestamps are bin starts.",
        data=_nwbfile.compressed(rate.astype(np.float32)),
        unit="Hz",
        timestamps=_nwbfile.compressed(
            (trials.start[:, None] + np.arange(bins) * params.bin_width).ravel()
        ),
    )
    module.add(series)
    module.add(
        TimeSeries(
            name="lorenz_state",
            description="Mean Lorenz state (x, y, z), zero mean, unit variance, in each bin.",
            data=_nwbfile.compressed(state[trials.condition].reshape(-1, 3).astype(np.float32)),
            unit="a.u.",
            timestamps=series,
        )
    )


def simulate(path: str | Path, params: Params, *, seed: int) -> None:
    """Write the recording to ``path`` as an NWB file.

    Parameters
    ----------
    path : path
    params : Params
    seed : int
        The same seed and parameters give the same arrays; initial states, loadings, trial order,
        spikes and hand are separate streams of it.
    """
    rates, trials = population(params, seed), plan_trials(params, seed)
    file = _nwbfile.create_file(
        "lorenz",
        params,
        seed,
        session_description=f"{params.units} Poisson units driven by a Lorenz system: "
        f"{params.conditions} conditions x {params.trials_per_condition} trials.",
        experiment_description="Recover rates and the 3-d state from spikes (LFADS protocol).",
        keywords=["Lorenz", "latent dynamics", "LFADS"],
        related_publications=["doi:10.48550/arXiv.1608.06315", "doi:10.1038/s41592-018-0109-9"],
    )
    _add_trials(file, params, trials)
    _add_units(file, params, rates, trials, seed)
    _add_hand(file, params, rates, trials, seed)
    _add_truth(file, params, rates, trials)
    _nwbfile.write_file(file, path)
