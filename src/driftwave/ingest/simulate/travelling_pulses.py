r"""Pulses of activity that travel round a ring or along a line of Poisson units.

In each trial a Gaussian pulse appears at a random place and moment and travels at constant speed,
forward (counter-clockwise on the ring, towards +x on the line) or backward, until it leaves the
line or the trial ends:

.. math:: \lambda_n(t) \propto \exp\Big(g\, e^{-d(x_n, x_p(t))^2 / 2 w^2}\Big)

With ``null: shifted`` each unit's course is rotated within the trial by a random time of its own:
the same rates, units and pulses, but nothing travels. Kept beside the data, in
``processing/ground_truth``: ``firing_rates``, Hz, and ``pulse_position``, mm along the track, NaN
where there is no pulse; onset, place, direction and speed of each pulse in the trials table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from driftwave.compute import generator
from driftwave.ingest.simulate import _nwbfile, _sites
from driftwave.ingest.simulate._sites import Sites
from driftwave.ingest.simulate._trials import (
    STEP,
    TrialParams,
    Truth,
    add_trials,
    add_units,
    draw_spikes,
    population,
    scaled_rates,
    split_of,
)

PAPER = "Keller et al. 2023 (arXiv:2309.08045): waves as moving bumps of activity"
NAME = "travelling_pulses"


class Params(TrialParams):
    """Parameters of the recording of travelling pulses."""

    topology: Literal["ring", "line"] = Field("ring", description="Shape of the track.")
    sites: int = Field(48, ge=3, description="Places for units along the track.")
    pitch: float = Field(0.4, gt=0, description="Distance between them, mm.")
    width: float = Field(0.8, gt=0, description="Standard deviation of the pulse, mm.")
    speed: float = Field(16.0, gt=0, description="mm/s.")
    direction: Literal["forward", "backward", "both"] = Field(
        "forward", description="Way the pulses travel; both: either at random."
    )
    onset: tuple[float, float] = Field(
        (0.0, 0.3), description="Range of the moment a pulse appears, s from the trial's start."
    )
    gain: float = Field(2.5, ge=0, description="Rise of the log rate at the pulse's peak.")
    null: Literal["none", "shifted"] = Field(
        "none", description="shifted makes the twin in which nothing travels."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        if not 0 <= self.onset[0] <= self.onset[1] < self.duration:
            raise ValueError("onset must be an ascending range within the trial")
        if self.topology == "ring" and 6 * self.width > self.sites * self.pitch:
            raise ValueError("width must be at most a sixth of the ring's circumference")
        return self

    def place(self) -> Sites:
        """Places along the track."""
        if self.topology == "ring":
            return _sites.ring(self.sites, self.sites * self.pitch / (2 * np.pi))
        return _sites.lattice(1, self.sites, self.pitch)


@dataclass(frozen=True)
class Pulses:
    """Pulses, each attribute (trial,): onset (s), place at onset (mm), sign of the direction."""

    onset: np.ndarray
    origin: np.ndarray
    sign: np.ndarray


def track_of(params: Params, position: np.ndarray) -> np.ndarray:
    """Place along the track (point,), mm from its beginning, of positions (point, 2)."""
    if params.topology == "ring":
        angle = np.arctan2(position[:, 1], position[:, 0]) % (2 * np.pi)
        return angle * params.sites * params.pitch / (2 * np.pi)
    return position[:, 0] + (params.sites - 1) * params.pitch / 2


def draw_pulses(params: Params, seed: int) -> Pulses:
    """Draw where, when and in which direction pulses start.

    On a line they start anywhere in the half that lies behind, so that there is way left to go.
    """
    rng = generator(seed, NAME, "pulses")
    onset = rng.uniform(*params.onset, params.trials)
    sign = np.ones(params.trials, dtype=int)
    if params.direction == "backward":
        sign = -sign
    elif params.direction == "both":
        sign[: params.trials // 2] = -1
        sign = rng.permutation(sign)
    share = rng.uniform(0, 1, params.trials)
    if params.topology == "ring":
        return Pulses(onset, share * params.sites * params.pitch, sign)
    length = (params.sites - 1) * params.pitch
    return Pulses(onset, np.where(sign > 0, share / 2, 1 - share / 2) * length, sign)


def pulse_position(params: Params, pulses: Pulses, time: np.ndarray) -> np.ndarray:
    """Place of the pulse (trial, time), mm along the track; NaN before its onset and off the line.

    Parameters
    ----------
    time : ndarray (time,)
        s from the trial's start.
    """
    since = time[None] - pulses.onset[:, None]
    place = pulses.origin[:, None] + pulses.sign[:, None] * params.speed * since
    if params.topology == "ring":
        place = place % (params.sites * params.pitch)
        there = since >= 0
    else:
        length = (params.sites - 1) * params.pitch
        # The tail still reaches units when the centre has left the track.
        there = (since >= 0) & (np.abs(place - length / 2) <= length / 2 + 3 * params.width)
    return np.where(there, place, np.nan)


def activity(params: Params, pulses: Pulses, track: np.ndarray) -> np.ndarray:
    """Height of the pulse, 0 to 1, at places (unit,) along the track: (trial, step, unit)."""
    place = pulse_position(params, pulses, (np.arange(params.steps) + 0.5) * STEP)
    away = place[..., None] - track
    if params.topology == "ring":
        around = params.sites * params.pitch
        away = (away + around / 2) % around - around / 2
    return np.nan_to_num(np.exp(-np.square(away) / (2 * params.width**2)))


def shifted(course: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate each unit's course (trial, step, unit) in time, by itself in every trial."""
    trials, steps, units = course.shape
    shift = rng.integers(0, steps, (trials, 1, units))
    return np.take_along_axis(course, (np.arange(steps)[None, :, None] + shift) % steps, axis=1)


def simulate(path: str | Path, params: Params, *, seed: int) -> None:
    """Write the recording to ``path`` as an NWB file.

    Parameters
    ----------
    path : path
    params : Params
    seed : int
        The same seed and parameters give the same arrays; units, pulses, shifts, spikes and split
        are separate streams of it, so that a twin shares units and pulses.
    """
    units, pulses = population(params, params.place(), seed, NAME), draw_pulses(params, seed)
    track = track_of(params, units.position)
    course = activity(params, pulses, track)
    if params.null == "shifted":
        course = shifted(course, generator(seed, NAME, "shifts"))
    rate = scaled_rates(params.gain * course, units.rate)
    file = _nwbfile.create_file(
        NAME,
        params,
        seed,
        session_description=f"{params.units} Poisson units on a {params.topology}, "
        f"{params.trials} trials with a travelling pulse each."
        + (" The twin, in which nothing travels." if params.null == "shifted" else ""),
        experiment_description="Predict travelling pulses from spikes.",
        keywords=["travelling wave", "pulse", "Wave-RNN"],
        related_publications=["doi:10.48550/arXiv.2309.08045"],
    )
    still = params.null == "shifted"
    blank = np.full(params.trials, np.nan)
    columns = {
        "condition": ("+1 forward, -1 backward.", pulses.sign),
        "onset": ("When the pulse appears, s from the trial's start.", pulses.onset),
        "origin": ("Where it appears, mm along the track.", pulses.origin),
        "speed": (
            "Forward speed, mm/s; NaN in the twin.",
            blank if still else pulses.sign * params.speed,
        ),
    }
    add_trials(file, params, split_of(params, seed, NAME), columns)
    extra = {"track": ("Place along the track, mm.", track)}
    add_units(file, params, units, draw_spikes(params, rate, seed, NAME), extra)
    _add_truth(file, params, rate, pulses)
    _nwbfile.write_file(file, path)


def _add_truth(file: _nwbfile.NWBFile, params: Params, rate: np.ndarray, pulses: Pulses) -> None:
    truth = Truth(file, params)
    truth.rates(rate, params.per_bin)
    bins = round(params.duration / params.bin_width)
    place = pulse_position(params, pulses, (np.arange(bins) + 0.5) * params.bin_width)
    text = "Place of the pulse at the middle of each bin, mm along the track; NaN without a pulse"
    truth.series("pulse_position", text, place[..., None], "mm")
    sites = params.place()
    columns = {
        "x": ("mm, on the axes of the electrodes' rel_x.", sites.position[:, 0]),
        "y": ("mm, on the axes of the electrodes' rel_y.", sites.position[:, 1]),
    }
    truth.table("sites", "Places along the track.", columns)
    names = ("topology", "pitch", "width", "speed", "direction", "gain", "null")
    truth.parameters({name: getattr(params, name) for name in names})
