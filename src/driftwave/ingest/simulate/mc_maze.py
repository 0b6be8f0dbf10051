"""Reaches through mazes: units, trials and hand in the layout of MC_Maze (DANDI 000128).

A low-dimensional state drives log-linear Poisson units: the hand's velocity a little later, the
planned reach, two rotations that start before the movement (Churchland et al. 2012), a part common
to all reaches, and two slow inputs that differ from trial to trial. A condition is a maze
(``trial_type``) in one of three versions (``trial_version``): no barrier, barriers that bend the
reach one way or the other. Reaches of a condition differ in direction, size and duration.

In the units table ``heldout`` marks held-out units; in the trials table ``split`` holds train and
val and ``move_onset_time`` is what the benchmark aligns to; ``processing/behavior`` holds
``hand_pos`` and ``hand_vel`` at 1 kHz. Kept beside the data, in ``processing/ground_truth``, unless
``truth`` says otherwise: ``state`` (time, dimension) and, if asked for, ``firing_rates`` (time,
unit), Hz, from 0.3 s before to 0.7 s after movement onset; stamped with the starts of 5 ms steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pynwb import NWBFile, TimeSeries
from scipy.ndimage import gaussian_filter1d

from driftwave.compute import generator
from driftwave.ingest.simulate import _nwbfile

PAPER = "Pei, Ye et al. 2021 (arXiv:2109.04463), Churchland et al. 2012 (doi:10.1038/nature11129)"

STEP = 0.005  # s; rates are constant within a step of the session's clock
HAND_RATE = 1000.0  # Hz
TRUTH = (-0.3, 0.7)  # s around movement onset, longer than the benchmark's window
_BEFORE, _AFTER = 0.1, 0.75  # s from a trial's start to the target, from onset to its stop
_RETURN = 0.4  # s between trials, in which the hand goes back
_ROTATIONS = ((1.5, 0.35), (2.5, 0.25))  # Hz, decay in s
_BLOCK = 64  # trials drawn at once


class Params(BaseModel):
    """Parameters of the maze recording."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: int = Field(1721, ge=2, description="Trials of split train.")
    val: int = Field(574, ge=1, description="Trials of split val.")
    held_in: int = Field(137, ge=1, description="Units a model may see.")
    held_out: int = Field(45, ge=1, description="Units marked held out.")
    mazes: int = Field(36, ge=1, description="Mazes; each has three versions.")
    mean_rate: float = Field(6.0, gt=0, description="Mean over units of the rate at rest, Hz.")
    tuning: float = Field(0.35, ge=0, description="RMS weight of a state dimension, in log rate.")
    variability: float = Field(
        0.1,
        ge=0,
        description="Standard deviation of a reach's size and duration (share) and "
        "direction (rad) within a condition.",
    )
    lag: float = Field(0.1, ge=0, description="The hand follows the state by this, s.")
    truth: Literal["none", "state", "rates"] = Field(
        "state",
        description="Truth kept beside the data: nothing, as in the real file, the state, or the "
        "state and all units' rates (150 kB per trial at full size).",
    )

    @model_validator(mode="after")
    def _whole_steps(self) -> Params:
        if abs(self.lag / STEP - round(self.lag / STEP)) > 1e-6:
            raise ValueError("lag must be a whole number of steps of 5 ms")
        return self


@dataclass(frozen=True)
class Trials:
    """Times (s, session clock), conditions and reaches, each (trial,).

    Attributes
    ----------
    start, target, go, onset, stop : ndarray
        Start and stop are on the 5 ms grid, events at whole milliseconds.
    maze, version, split : ndarray
    angle, bend : ndarray
        Direction of the reach at onset and its turn until the end, rad.
    size, duration : ndarray
        m and s.
    """

    start: np.ndarray
    target: np.ndarray
    go: np.ndarray
    onset: np.ndarray
    stop: np.ndarray
    maze: np.ndarray
    version: np.ndarray
    split: np.ndarray
    angle: np.ndarray
    bend: np.ndarray
    size: np.ndarray
    duration: np.ndarray


def plan_trials(params: Params, seed: int) -> Trials:
    """Draw order, splits, times and reaches of all trials."""
    rng = generator(seed, "mc_maze", "trials")
    count = params.train + params.val
    condition = rng.permutation(np.arange(count) % (3 * params.mazes))
    maze, version = condition // 3, condition % 3
    plan = generator(seed, "mc_maze", "mazes")
    angle = plan.uniform(0, 2 * np.pi, params.mazes)[maze]
    size = plan.uniform(0.08, 0.14, params.mazes)[maze]
    bend = np.array([0.0, 1.2, -1.2])[version] * plan.uniform(0.7, 1.3, params.mazes)[maze]
    delay = rng.uniform(0.0, 0.6, count) * (rng.random(count) > 0.2)
    reaction = np.clip(rng.normal(0.3, 0.04, count), 0.2, 0.45)
    spread = params.variability * np.clip(rng.standard_normal((3, count)), -2, 2)
    duration = (0.42 + 0.8 * (size - 0.11)) * np.maximum(1 + spread[1], 0.3)
    # Counted in milliseconds, so that no event is a rounding error off.
    target = np.full(count, round(_BEFORE * 1000))
    go = target + np.rint(delay * 1000).astype(int)
    onset = go + np.rint(reaction * 1000).astype(int)
    length = -(-(onset + round(_AFTER * 1000)) // 5) * 5
    start = np.concatenate([[0], np.cumsum(length + round(_RETURN * 1000))[:-1]]) + 1000
    return Trials(
        start=start / 1000,
        target=(start + target) / 1000,
        go=(start + go) / 1000,
        onset=(start + onset) / 1000,
        stop=(start + length) / 1000,
        maze=maze,
        version=version,
        split=_split(params, condition, rng),
        angle=angle + spread[0],
        bend=bend,
        size=size * np.maximum(1 + spread[2], 0.2),
        duration=duration,
    )


def _split(params: Params, condition: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Train and val, the conditions spread evenly over both."""
    order = np.lexsort((rng.random(len(condition)), condition))
    ranks = (np.arange(len(condition)) * params.val) // len(condition)
    split = np.full(len(condition), "train", dtype="<U5")
    split[order[np.flatnonzero(np.diff(ranks, append=params.val))]] = "val"
    return split


def hand_velocity(trials: Trials, chosen: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Velocity of the hand (trial, time, axis), m/s.

    The speed is that of a minimum-jerk reach; its direction turns evenly by the bend.

    Parameters
    ----------
    chosen : ndarray of int (trial,)
    time : ndarray (trial, time)
        s from movement onset.
    """
    share = np.clip(time / trials.duration[chosen, None], 0, 1)
    speed = 30 * (share * (1 - share)) ** 2 * (trials.size / trials.duration)[chosen, None]
    angle = trials.angle[chosen, None] + trials.bend[chosen, None] * share
    return speed[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def states(params: Params, trials: Trials, chosen: np.ndarray, slow: np.ndarray) -> np.ndarray:
    """State at the middle of each step from the trial's start, (trial, step, 11).

    Parameters
    ----------
    chosen : ndarray of int (trial,)
    slow : ndarray (trial, step, 2)
        Slow inputs that differ from trial to trial.
    """
    clock = trials.start[chosen, None] + (np.arange(slow.shape[1]) + 0.5) * STEP
    time = clock - trials.onset[chosen, None]
    shown = clock - trials.target[chosen, None]
    velocity = hand_velocity(trials, chosen, time + params.lag) / 0.3
    goal = trials.angle[chosen] + trials.bend[chosen] / 2
    plan = np.stack([np.cos(goal), np.sin(goal)], axis=-1)[:, None, :]
    planning = _sigmoid((shown - 0.1) / 0.03) * (1 - _sigmoid((time + 0.1) / 0.04))
    parts = [velocity, plan * planning[..., None]]
    since = np.clip(time + 0.15, 0, None)
    for frequency, decay in _ROTATIONS:
        phase = 2 * np.pi * frequency * since + goal[:, None] + trials.bend[chosen, None]
        envelope = since * np.exp(1 - since / decay) / decay
        parts.append(envelope[..., None] * np.stack([np.cos(phase), np.sin(phase)], axis=-1))
    parts.append(2 * np.exp(-0.5 * ((time + 0.05) / 0.12) ** 2)[..., None])
    return np.concatenate([*parts, slow], axis=2)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


def _steps(trials: Trials) -> np.ndarray:
    return np.rint((trials.stop - trials.start) / STEP).astype(int)


def _blocks(
    params: Params, trials: Trials, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Trials of each block, their states (trial, step, dimension) and which steps are theirs."""
    rng = generator(seed, "mc_maze", "slow inputs")
    for first in range(0, len(trials.start), _BLOCK):
        chosen = np.arange(first, min(first + _BLOCK, len(trials.start)))
        steps = _steps(trials)[chosen]
        white = rng.standard_normal((len(chosen), steps.max(), 2))
        smooth = gaussian_filter1d(white, 0.15 / STEP, axis=1, mode="reflect")
        slow = smooth * np.sqrt(2 * np.sqrt(np.pi) * 0.15 / STEP)
        own = np.arange(steps.max()) < steps[:, None]
        yield chosen, states(params, trials, chosen, slow), own


@dataclass(frozen=True)
class Activity:
    """Spike times of each unit, s, and the truth around movement onset.

    Attributes
    ----------
    spikes : list of ndarray (spike,)
    stamps : ndarray (time,)
        Start of each step, s.
    state : ndarray (time, dimension)
    rate : ndarray (time, unit) or None
        Hz.
    """

    spikes: list[np.ndarray]
    stamps: np.ndarray
    state: np.ndarray
    rate: np.ndarray | None


def draw_activity(params: Params, trials: Trials, seed: int) -> Activity:
    """Draw the loadings and the spikes, block by block."""
    units = params.held_in + params.held_out
    weights = generator(seed, "mc_maze", "loadings")
    loading = weights.normal(0, params.tuning, (11, units))
    base = np.log(params.mean_rate) + weights.normal(-(0.7**2) / 2, 0.7, units)
    rng = generator(seed, "mc_maze", "spikes")
    times, owners, stamps, kept, rates = [], [], [], [], []
    for chosen, state, own in _blocks(params, trials, seed):
        rate = np.exp(np.minimum(state @ loading + base, np.log(200.0)))
        counts = rng.poisson(rate * own[..., None] * STEP)
        trial, step, unit = np.nonzero(counts)
        number = counts[trial, step, unit]
        starts = trials.start[chosen][trial] + step * STEP
        times.append(np.repeat(starts, number) + rng.random(number.sum()) * STEP)
        owners.append(np.repeat(unit, number))
        low = np.ceil((trials.onset[chosen] + TRUTH[0] - trials.start[chosen]) / STEP - 1e-6)
        window = low.astype(int)[:, None] + np.arange(round((TRUTH[1] - TRUTH[0]) / STEP))
        rows = np.arange(len(chosen))[:, None]
        stamps.append((trials.start[chosen, None] + window * STEP).ravel())
        kept.append(state[rows, window].reshape(-1, state.shape[2]).astype(np.float32))
        if params.truth == "rates":
            rates.append(rate[rows, window].reshape(-1, units).astype(np.float32))
    time, owner = np.concatenate(times), np.concatenate(owners)
    order = np.lexsort((time, owner))
    ends = np.cumsum(np.bincount(owner, minlength=units))[:-1]
    return Activity(
        spikes=np.split(time[order], ends),
        stamps=np.concatenate(stamps),
        state=np.concatenate(kept),
        rate=np.concatenate(rates) if rates else None,
    )


def draw_hand(trials: Trials) -> tuple[np.ndarray, np.ndarray]:
    """Position (m) and velocity (m/s) of the hand, (time, axis), at 1 kHz from time 0 on.

    After each trial the hand goes straight back to where it started.
    """
    returning = round(_RETURN * HAND_RATE)
    count = round(trials.stop[-1] * HAND_RATE)
    velocity = np.zeros((count + returning, 2))
    for trial in range(len(trials.start)):
        first, last = (round(float(t[trial]) * HAND_RATE) for t in (trials.onset, trials.stop))
        time = np.arange(last - first) / HAND_RATE
        reach = hand_velocity(trials, np.array([trial]), time[None])[0]
        velocity[first:last] = reach
        share = np.linspace(0, 1, returning)
        back = (share * (1 - share)) ** 2
        velocity[last : last + returning] -= np.outer(back / back.sum(), reach.sum(0))
    velocity = velocity[:count]
    return np.cumsum(velocity, axis=0) / HAND_RATE, velocity


def _add_trials(file: NWBFile, trials: Trials) -> None:
    version = trials.version
    columns = {
        "target_on_time": ("When the targets appear, s.", trials.target),
        "go_cue_time": ("When the animal may move, s.", trials.go),
        "move_onset_time": ("When the hand starts to move, s.", trials.onset),
        "split": ("Part of the benchmark: train or val.", trials.split),
        "trial_type": ("Maze, numbered.", trials.maze),
        "trial_version": ("0: no barriers; 1, 2: barriers on either side.", version),
        "maze_id": ("Maze.", trials.maze),
        "success": ("Whether the reach ended on its target.", np.ones(len(version), dtype=bool)),
        "num_targets": ("Targets shown.", np.ones(len(version), dtype=int)),
        "num_barriers": ("Barriers shown.", np.where(version > 0, 3, 0)),
        "rt": ("Reaction time, ms.", np.rint((trials.onset - trials.go) * 1000)),
        "delay": ("From targets to go cue, ms.", np.rint((trials.go - trials.target) * 1000)),
    }
    file.trials = _nwbfile.intervals(
        "trials", "Reaches, one per row.", trials.start, trials.stop, columns
    )


def _add_units(
    file: NWBFile, params: Params, trials: Trials, spikes: list[np.ndarray], seed: int
) -> None:
    units = len(spikes)
    side = int(np.ceil(np.sqrt(units)))
    _nwbfile.add_electrodes(
        file, 0.4 * np.stack([np.arange(units) % side, np.arange(units) // side], axis=-1)
    )
    held_out = np.zeros(units, dtype=bool)
    order = generator(seed, "mc_maze", "held out").permutation(units)
    held_out[order[: params.held_out]] = True
    _nwbfile.add_units(
        file,
        spikes,
        np.arange(units),
        {"heldout": ("Whether models may not see the unit at evaluation.", held_out)},
        observed=np.stack([trials.start, trials.stop], axis=-1),
    )


def _add_hand(file: NWBFile, trials: Trials) -> None:
    module = file.create_processing_module("behavior", "Simulated movement of a hand.")
    for name, values, unit in zip(
        ("hand_pos", "hand_vel"), draw_hand(trials), ("m", "m/s"), strict=True
    ):
        module.add(
            TimeSeries(
                name=name,
                description="Of the hand, in the plane of the screen.",
                comments="columns=[x,y]",
                data=_nwbfile.compressed(values.astype(np.float32)),
                unit=unit,
                starting_time=0.0,
                rate=HAND_RATE,
            )
        )


def _add_truth(file: NWBFile, activity: Activity) -> None:
    module = file.create_processing_module("ground_truth", "What the simulation knows.")
    series = TimeSeries(
        name="state",
        description="State that the log rates are linear in: velocity (2), plan (2), rotations "
        "(4), common part, slow inputs (2); timestamps are starts of steps of 5 ms.",
        data=_nwbfile.compressed(activity.state),
        unit="a.u.",
        timestamps=_nwbfile.compressed(activity.stamps),
    )
    module.add(series)
    if activity.rate is not None:
        module.add(
            TimeSeries(
                name="firing_rates",
                description="Rate of each unit (rows of the units table) in each step.",
                data=_nwbfile.compressed(activity.rate),
                unit="Hz",
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
        The same seed and parameters give the same arrays; mazes, trials, loadings, slow inputs,
        spikes and held-out units are separate streams of it.
    """
    trials = plan_trials(params, seed)
    activity = draw_activity(params, trials, seed)
    file = _nwbfile.create_file(
        "mc_maze",
        params,
        seed,
        session_description=f"{params.held_in + params.held_out} Poisson units, "
        f"{params.train + params.val} reaches through {params.mazes} mazes of three versions.",
        experiment_description="Co-smoothing and decoding in the layout of MC_Maze.",
        keywords=["maze", "reaching", "Neural Latents Benchmark"],
        related_publications=["doi:10.48550/arXiv.2109.04463", "doi:10.1038/nature11129"],
    )
    _add_trials(file, trials)
    _add_units(file, params, trials, activity.spikes, seed)
    _add_hand(file, trials)
    if params.truth != "none":
        _add_truth(file, activity)
    _nwbfile.write_file(file, path)
