"""CPU seconds and peak memory from an NWB file of 9.7 million spikes to a trial tensor.

    python benchmarks/ingest.py [--spikes 9660000] [--repeats 5]

200 units, 30 minutes, 500 trials of 3.6 s, 20 ms bins, file in the page cache. Every route runs
in a process of its own; the median over repeats is shown, and its ratio to the floor: h5py, one
numpy bincount over all spikes and no trials but a reshape (possible here only because the trials
abut). pynapple is measured if it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

UNITS, SECONDS, TRIALS, WIDTH, BINS = 200, 1800.0, 500, 0.02, 180
STARTS = np.arange(TRIALS) * BINS * WIDTH


def make_file(path: Path, spikes: int) -> None:
    """Write the benchmark's NWB file: Poisson units of log-normal rates."""
    import h5py
    import pynwb

    rng = np.random.default_rng(0)
    share = rng.lognormal(0, 0.7, UNITS)
    number = rng.multinomial(spikes, share / share.sum())
    nwb = pynwb.NWBFile(
        session_description="benchmark",
        identifier="benchmark",
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
    )
    for count in number:
        nwb.add_unit(
            spike_times=np.sort(rng.uniform(0, SECONDS, count)),
            obs_intervals=np.array([[0.0, SECONDS]]),
        )
    for start in STARTS:
        nwb.add_trial(start_time=start, stop_time=start + BINS * WIDTH)
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    with h5py.File(path) as file:
        assert len(file["units/spike_times"]) == spikes


def _ragged(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import h5py

    with h5py.File(path) as file:
        return file["units/spike_times"][:], file["units/spike_times_index"][:].astype(np.int64)


def floor(path: Path) -> np.ndarray:
    """h5py and one bincount over all spikes."""
    times, ends = _ragged(path)
    index = (times * (1 / WIDTH) + 1e-6).astype(np.int64)
    index += np.repeat(np.arange(UNITS) * TRIALS * BINS, np.diff(ends, prepend=0))
    counts = np.bincount(index, minlength=UNITS * TRIALS * BINS).astype(np.uint16)
    return np.ascontiguousarray(counts.reshape(UNITS, TRIALS, BINS).transpose(1, 2, 0))


def driftwave_binning(path: Path) -> np.ndarray:
    """h5py and driftwave's binning, for trials anywhere."""
    from driftwave.ingest.binning import bin_spikes

    times, ends = _ragged(path)
    return bin_spikes(times, ends, STARTS, WIDTH, BINS)


def driftwave_recording(path: Path) -> np.ndarray:
    """The whole of `driftwave ingest` but for writing the store."""
    from driftwave.config import parse_layout
    from driftwave.ingest.nwb import open_nwb, read_recording

    layout = {
        "name": "benchmark",
        "description": "a benchmark",
        "bin_width": WIDTH,
        "spikes": {},
        "trials": {"window": [0.0, BINS * WIDTH]},
    }
    with open_nwb(path) as file:
        tree = read_recording(file, parse_layout(layout), session="benchmark")
    return np.asarray(tree["spikes/counts"].values)


def histogram_by_unit(path: Path) -> np.ndarray:
    """h5py and np.histogram, unit by unit."""
    times, ends = _ragged(path)
    edges = np.arange(TRIALS * BINS + 1) * WIDTH - 1e-8
    counts = [np.histogram(own, edges)[0] for own in np.split(times, ends[:-1])]
    return np.stack(counts, axis=-1).astype(np.uint16).reshape(TRIALS, BINS, UNITS)


def histogram_by_trial(path: Path) -> np.ndarray:
    """h5py and np.histogram, unit by unit and trial by trial."""
    times, ends = _ragged(path)
    counts = np.zeros((TRIALS, BINS, UNITS), dtype=np.uint16)
    edges = np.arange(BINS + 1) * WIDTH - 1e-8
    for unit, own in enumerate(np.split(times, ends[:-1])):
        low = np.searchsorted(own, STARTS + edges[0])
        high = np.searchsorted(own, STARTS + edges[-1])
        for trial in range(TRIALS):
            inside = own[low[trial] : high[trial]]
            counts[trial, :, unit] = np.histogram(inside, STARTS[trial] + edges)[0]
    return counts


def pynapple(path: Path) -> np.ndarray:
    """pynapple's count and build_tensor."""
    import pynapple as nap

    times, ends = _ragged(path)
    group = nap.TsGroup({k: nap.Ts(own) for k, own in enumerate(np.split(times, ends[:-1]))})
    epochs = nap.IntervalSet(STARTS, STARTS + BINS * WIDTH - 1e-9)
    tensor = nap.build_tensor(group, epochs, bin_size=WIDTH)
    return np.moveaxis(np.nan_to_num(tensor), 0, -1)


ROUTES: dict[str, Callable[[Path], np.ndarray]] = {
    "h5py + bincount (floor)": floor,
    "driftwave binning": driftwave_binning,
    "driftwave ingest, all but writing": driftwave_recording,
    "np.histogram by unit": histogram_by_unit,
    "np.histogram by unit and trial": histogram_by_trial,
    "pynapple": pynapple,
}


def _peak() -> float:
    """Peak memory of this program, MB.

    getrusage would do, but a child inherits its parent's peak across exec; VmHWM starts afresh.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(route: str, path: Path, repeats: int) -> dict[str, float]:
    """Median CPU seconds of a route in this process, after one run to warm up, and its peak."""
    ROUTES[route](path)
    spent = []
    for _ in range(repeats):
        before = time.process_time()
        counts = ROUTES[route](path)
        spent.append(time.process_time() - before)
    return {
        "cpu": statistics.median(spent),
        "peak": _peak(),
        "spikes": float(counts.sum(dtype=int)),
    }


def main() -> None:
    """Measure every route in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--spikes", type=int, default=9_660_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--route", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.route:
        print(json.dumps(measure(options.route, options.file, options.repeats)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.nwb"
        make_file(path, options.spikes)
        print(f"{'route':36s}{'CPU s':>8s}{'ratio':>8s}{'peak MB':>9s}{'spikes':>12s}")
        base = None
        for route in ROUTES:
            if route == "pynapple" and importlib.util.find_spec("pynapple") is None:
                print(f"{route:36s} not installed")
                continue
            command = [sys.executable, __file__, "--route", route, "--file", str(path)]
            done = subprocess.run(
                [*command, "--repeats", str(options.repeats)],
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            base = base or found["cpu"]
            print(
                f"{route:36s}{found['cpu']:8.3f}{found['cpu'] / base:8.1f}"
                f"{found['peak']:9.0f}{found['spikes']:12.0f}"
            )


if __name__ == "__main__":
    main()
