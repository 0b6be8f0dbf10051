"""Units that spike in trials: what the simulators of waves in populations share.

Rates and fields come on a fine grid of 2 ms, restart with every trial, and are written with their
means over each bin as truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hdmf.common import DynamicTable, VectorData
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pynwb import NWBFile, ProcessingModule, TimeSeries

from driftwave.compute import generator
from driftwave.ingest.simulate import _nwbfile
from driftwave.ingest.simulate._poisson import spike_times
from driftwave.ingest.simulate._sites import Sites

STEP = 0.002  # s; rates are constant within a step


class TrialParams(BaseModel):
    """Trials, units and their rates."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    trials: int = Field(240, ge=5, description="Number of trials.")
    duration: float = Field(1.0, gt=0, description="Length of a trial, s.")
    gap: float = Field(0.2, ge=0, description="Time between trials, s.")
    bin_width: float = Field(0.01, ge=STEP, description="Bin width of the truth, s.")
    units: int = Field(48, ge=2, description="Number of units, spread evenly over the sites.")
    held_out: float = Field(0.25, ge=0, lt=1, description="Share of units marked held out.")
    rate: tuple[float, float] = Field(
        (5.0, 20.0),
        description="Range of the units' mean rates, Hz; uniform in the logarithm.",
    )
    jitter: float = Field(
        0.25, ge=0, le=0.5, description="Units lie up to this many pitches from their site."
    )
    valid: float = Field(0.1, gt=0, lt=0.5, description="Share of trials to valid.")
    test: float = Field(0.2, gt=0, lt=0.5, description="Share of trials to test.")

    @model_validator(mode="after")
    def _whole_steps(self) -> TrialParams:
        for name in ("bin_width", "duration", "gap"):
            steps = getattr(self, name) / STEP
            if abs(steps - round(steps)) > 1e-6:
                raise ValueError(f"{name} must be a whole number of steps of {STEP:g} s")
        bins = self.duration / self.bin_width
        if abs(bins - round(bins)) > 1e-6:
            raise ValueError("duration must be a whole number of bins")
        if not 0 < self.rate[0] <= self.rate[1]:
            raise ValueError("rate must be an ascending range of positive numbers")
        return self

    @property
    def steps(self) -> int:
        """Steps of 2 ms in a trial."""
        return round(self.duration / STEP)

    @property
    def per_bin(self) -> int:
        """Steps in a bin."""
        return round(self.bin_width / STEP)

    def starts(self) -> np.ndarray:
        """Start of each trial (trial,), s; the first follows one gap."""
        period, lead = self.steps + round(self.gap / STEP), round(self.gap / STEP)
        return (np.arange(self.trials) * period + lead) * STEP


@dataclass(frozen=True)
class Population:
    """Units, each attribute with a row per unit: site, position (mm), mean rate (Hz), held out."""

    site: np.ndarray
    position: np.ndarray
    rate: np.ndarray
    held_out: np.ndarray


def population(params: TrialParams, sites: Sites, seed: int, simulator: str) -> Population:
    """Place the units near sites, as evenly as their number allows, and draw their mean rates."""
    rng = generator(seed, simulator, "units")
    count = len(sites.position)
    rounds = [rng.permutation(count) for _ in range(-(-params.units // count) - 1)]
    # The last, incomplete round is spread evenly over the sites.
    left = params.units - count * len(rounds)
    even = np.floor((np.arange(left) + rng.random()) * count / left).astype(int) % count
    site = np.sort(np.concatenate([*rounds, even]))
    position = sites.jittered(site, params.jitter, rng)
    rate = np.exp(rng.uniform(np.log(params.rate[0]), np.log(params.rate[1]), params.units))
    held_out = np.zeros(params.units, dtype=bool)
    held_out[rng.permutation(params.units)[: round(params.held_out * params.units)]] = True
    return Population(site, position, rate, held_out)


def split_of(params: TrialParams, seed: int, simulator: str) -> np.ndarray:
    """Split of each trial (trial,), at random."""
    valid = max(1, round(params.valid * params.trials))
    test = max(1, round(params.test * params.trials))
    names = np.repeat(["train", "valid", "test"], [params.trials - valid - test, valid, test])
    return generator(seed, simulator, "split").permutation(names)


def bin_means(values: np.ndarray, per_bin: int) -> np.ndarray:
    """Mean over each bin: (trial, step, column) to (trial, bin, column)."""
    trials, steps, columns = values.shape
    return values.reshape(trials, steps // per_bin, per_bin, columns).mean(2)


def scaled_rates(log_modulation: np.ndarray, mean_rate: np.ndarray) -> np.ndarray:
    """Rates (trial, step, unit), Hz, that follow exp(log_modulation) and have the given means.

    Parameters
    ----------
    log_modulation : ndarray (trial, step, unit)
    mean_rate : ndarray (unit,)
        Mean over all trials, Hz.
    """
    modulation = np.exp(log_modulation)
    return mean_rate * modulation / modulation.mean((0, 1), dtype=float)


def draw_spikes(
    params: TrialParams, rate: np.ndarray, seed: int, simulator: str
) -> list[np.ndarray]:
    """Poisson spike times of every unit, s on the session's clock, one array (spike,) per unit.

    Parameters
    ----------
    rate : ndarray (trial, step, unit)
        Hz, constant within a step.
    """
    rng = generator(seed, simulator, "spikes")
    units = rate.shape[2]
    time, unit, _ = spike_times(rate.reshape(-1, units), STEP, rng)
    trial = np.minimum((time / params.duration).astype(int), params.trials - 1)
    within = np.clip(time - trial * params.duration, 0, params.duration)
    time = params.starts()[trial] + within
    return np.split(time, np.cumsum(np.bincount(unit, minlength=units))[:-1])


def add_trials(
    file: NWBFile,
    params: TrialParams,
    split: np.ndarray,
    columns: Mapping[str, tuple[str, np.ndarray]],
) -> None:
    """Add the trials table with ``split`` and further columns, name: (description, values)."""
    start = params.starts()
    file.trials = _nwbfile.intervals(
        "trials",
        "Each trial starts afresh.",
        start,
        start + params.duration,
        {"split": ("train, valid or test.", split), **columns},
    )


def add_units(
    file: NWBFile,
    params: TrialParams,
    units: Population,
    times: list[np.ndarray],
    columns: Mapping[str, tuple[str, np.ndarray]],
) -> None:
    """Add one electrode per unit, where the unit is, and the units."""
    _nwbfile.add_electrodes(file, units.position)
    start = params.starts()
    shared = {
        "held_out": ("Whether models may not see the unit at evaluation.", units.held_out),
        "mean_rate": ("Mean rate within trials, Hz.", units.rate),
        "site": ("Nearest site, row of processing/ground_truth/sites.", units.site),
    }
    _nwbfile.add_units(
        file,
        times,
        np.arange(len(units.site)),
        {**shared, **columns},
        observed=np.stack([start, start + params.duration], axis=-1),
    )


class Truth:
    """The module ``ground_truth``: series at the bins of all trials, and tables."""

    def __init__(self, file: NWBFile, params: TrialParams) -> None:
        self.module: ProcessingModule = file.create_processing_module(
            "ground_truth", "What the simulation knows."
        )
        bins = round(params.duration / params.bin_width)
        stamps = params.starts()[:, None] + np.arange(bins) * params.bin_width
        self.stamps: Any = _nwbfile.compressed(stamps.ravel())

    def series(self, name: str, description: str, values: np.ndarray, unit: str) -> None:
        """Add values (trial, bin, column); their time stamps are bin starts."""
        added = TimeSeries(
            name=name,
            description=description + "; time stamps are bin starts.",
            data=_nwbfile.compressed(values.reshape(-1, values.shape[2]).astype(np.float32)),
            unit=unit,
            timestamps=self.stamps,
        )
        self.module.add(added)
        # Later series link to the first one's time stamps.
        self.stamps = added if not isinstance(self.stamps, TimeSeries) else self.stamps

    def rates(self, rate: np.ndarray, per_bin: int) -> None:
        """Add true rates (trial, step, unit), Hz, as means over bins."""
        self.series(
            "firing_rates",
            "Mean rate of each unit (rows of the units table) in each bin of each trial",
            bin_means(rate, per_bin),
            "Hz",
        )

    def table(
        self, name: str, description: str, columns: Mapping[str, tuple[str, np.ndarray]]
    ) -> None:
        """Add a table with columns name: (description, values)."""
        self.module.add(ground_truth_table(name, description, columns))

    def parameters(self, values: Mapping[str, str | float | int]) -> None:
        """Add the table ``parameters`` with one row; ingestion makes attributes of it."""
        columns = {
            name: ("As `driftwave simulate` took it.", np.array([value]))
            for name, value in values.items()
        }
        self.table("parameters", "Parameters of the simulated dynamics.", columns)


def ground_truth_table(
    name: str, description: str, columns: Mapping[str, tuple[str, np.ndarray]]
) -> DynamicTable:
    """A table of the truth with columns name: (description, values)."""
    made = [
        VectorData(
            name=column,
            description=text,
            data=values.astype(str).tolist() if values.dtype.kind in "UO" else values,
        )
        for column, (text, values) in columns.items()
    ]
    rows = len(next(iter(columns.values()))[1])
    return DynamicTable(name=name, description=description, columns=made, id=list(range(rows)))
