"""Small NWB files with known content, for the tests of ingest."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pynwb
from pynwb.ecephys import ElectricalSeries


class Builder:
    """Collects the parts of an NWB file; :meth:`write` writes it."""

    def __init__(self) -> None:
        self.nwb = pynwb.NWBFile(
            session_description="made for a test",
            identifier="test",
            session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
            subject=pynwb.file.Subject(subject_id="nobody", species="Mus musculus"),
        )

    def units(self, times: list[np.ndarray], **columns: list[Any]) -> Builder:
        """Units with spike times (s, in the given order) and further columns."""
        if "obs_intervals" not in columns:
            columns["obs_intervals"] = [None] * len(times)
        observed = columns.pop("obs_intervals")
        for name in columns:
            self.nwb.add_unit_column(name, "of a test")
        for k, own in enumerate(times):
            facts = {name: values[k] for name, values in columns.items()}
            if observed[k] is not None:
                facts["obs_intervals"] = observed[k]
            self.nwb.add_unit(spike_times=np.asarray(own, dtype=float), **facts)
        return self

    def trials(self, starts: np.ndarray, stops: np.ndarray, **columns: Any) -> Builder:
        """A trials table."""
        for name in columns:
            self.nwb.add_trial_column(name, "of a test")
        for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            facts = {name: values[k] for name, values in columns.items()}
            self.nwb.add_trial(start_time=float(start), stop_time=float(stop), **facts)
        return self

    def intervals(self, name: str, starts: Any, stops: Any, **columns: Any) -> Builder:
        """Another interval table."""
        table = pynwb.epoch.TimeIntervals(name=name, description="of a test")
        for column in columns:
            table.add_column(column, "of a test")
        for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            facts = {column: values[k] for column, values in columns.items()}
            table.add_row(start_time=float(start), stop_time=float(stop), **facts)
        self.nwb.add_time_intervals(table)
        return self

    def series(self, module: str, name: str, data: Any, unit: str = "m", **clock: Any) -> Builder:
        """A TimeSeries at ``processing/MODULE/NAME``; clock: rate and starting_time, or stamps."""
        if module not in self.nwb.processing:
            self.nwb.create_processing_module(module, "of a test")
        made = pynwb.TimeSeries(name=name, data=data, unit=unit, **clock)
        self.nwb.processing[module].add(made)
        return self

    def electrodes(self, positions: np.ndarray, **columns: Any) -> Builder:
        """Electrodes with rel_x, rel_y (first two columns of ``positions``)."""
        device = self.nwb.create_device("array")
        group = self.nwb.create_electrode_group("grid", "a grid", "V1", device)
        for name in columns:
            self.nwb.add_electrode_column(name, "of a test")
        for k, (x, y) in enumerate(positions):
            facts = {name: values[k] for name, values in columns.items()}
            self.nwb.add_electrode(
                group=group, location="V1", rel_x=float(x), rel_y=float(y), **facts
            )
        return self

    def field(self, data: Any, name: str = "lfp", **options: Any) -> Builder:
        """An ElectricalSeries of all electrodes at ``acquisition/NAME``."""
        region = self.nwb.create_electrode_table_region(
            list(range(len(self.nwb.electrodes))), "all"
        )
        self.nwb.add_acquisition(
            ElectricalSeries(name=name, data=data, electrodes=region, **options)
        )
        return self

    def write(self, path: Path) -> Path:
        """Write the file and return its path."""
        with pynwb.NWBHDF5IO(str(path), "w") as io:
            io.write(self.nwb)
        return path


def poisson_units(units: int, seconds: float, rate: float, seed: int = 0) -> list[np.ndarray]:
    """Sorted Poisson spike times per unit, s."""
    rng = np.random.default_rng(seed)
    return [np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds))) for _ in range(units)]


def grid(rows: int, columns: int, pitch: float = 400.0) -> np.ndarray:
    """Positions (electrode, 2) of a grid."""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x.ravel(), y.ravel()], axis=1) * pitch


def task_file() -> Builder:
    """Six units, 24 trials of 1 s every 2 s from 1 s on, a hand moving at 200 Hz."""
    starts = 1.0 + 2.0 * np.arange(24)
    t = np.arange(0, 52, 0.005)
    hand = np.stack([np.sin(2 * np.pi * 0.5 * t), np.cos(2 * np.pi * 0.3 * t)], axis=1)
    go = starts + 0.25
    return (
        Builder()
        .units(
            poisson_units(6, 52.0, 12.0),
            area=["M1", "M1", "M1", "PMd", "PMd", "PMd"],
            hidden=[True, False, False, False, True, False],
            obs_intervals=[np.array([[0.0, 52.0]])] * 6,
        )
        .trials(starts, starts + 1, go_time=go, direction=(np.arange(24) % 4) * 90.0)
        .series("behavior", "hand", hand, rate=200.0, starting_time=0.0)
    )


TASK_LAYOUT: dict[str, Any] = {
    "name": "task",
    "description": "a reaching task",
    "bin_width": 0.05,
    "forward": 0.1,
    "spikes": {"held_out": 0.2, "region": "area"},
    "trials": {"window": [0.0, 1.0], "condition": ["direction"]},
    "behavior": [{"name": "hand", "series": "processing/behavior/hand", "labels": ["x", "y"]}],
    "stimulus": {"columns": ["direction"], "circular": {"direction": 360}},
}
