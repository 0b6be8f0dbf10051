"""CPU seconds and memory from spike times to a trial tensor, beside other libraries.

    python benchmarks/ingest.py [--spikes 10000000] [--width 0.005] [--repeats 3]
                                [--peer-python PYTHON]

200 units, 30 minutes, 500 trials of 3.6 s that abut (every spike lies in a trial), file in the page
cache. Every route runs in a process of its own. ``read`` is CPU s until the spike times are in
memory, ``bin`` the median CPU s after that, ``ratio`` bin against driftwave, ``extra`` the
peak memory (MB) of the first call above what was there before and beyond its result, ``x times``
the same as a multiple of the spike times (8 bytes each).

The floor is one numpy bincount over all spikes and no trials but a reshape, possible here only
because the trials abut. pynapple is measured if it is installed. PYTHON is the interpreter of an
environment with nlb_tools and the pandas it needs (< 2.3: it fails on pandas 3), which bins to 1 ms
while it reads; its resample to the bin width is timed, then its cutting into trials.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

UNITS, SECONDS, TRIALS, LENGTH = 200, 1800.0, 500, 3.6
STARTS = np.arange(TRIALS) * LENGTH


def make_file(path: Path, spikes: int) -> None:
    """Write the benchmark's NWB file: Poisson units of log-normal rates."""
    import pynwb
    from hdmf.common import VectorData, VectorIndex

    rng = np.random.default_rng(0)
    share = rng.lognormal(0, 0.7, UNITS)
    number = rng.multinomial(spikes, share / share.sum())
    times = np.concatenate([np.sort(rng.uniform(0, SECONDS, count)) for count in number])
    columns = []
    observed = np.tile([[0.0, SECONDS]], (UNITS, 1))
    parts = {
        "spike_times": (times, np.cumsum(number)),
        "obs_intervals": (observed, np.arange(1, UNITS + 1)),
    }
    for name, (data, ends) in parts.items():
        column = VectorData(name=name, description="of the benchmark", data=data)
        columns += [column, VectorIndex(name=f"{name}_index", data=ends, target=column)]
    nwb = pynwb.NWBFile(
        session_description="benchmark",
        identifier="benchmark",
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
    )
    nwb.units = pynwb.misc.Units(
        name="units", description="of the benchmark", columns=columns, id=list(range(UNITS))
    )
    for start in STARTS:
        nwb.add_trial(start_time=start, stop_time=start + LENGTH)
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)


@dataclass(frozen=True)
class Route:
    """How spikes become counts: ``read`` a file, then ``bin`` what was read, in bins of s.

    ``result`` is the number of bytes that a call gives back; ``again`` is false where ``bin``
    changes what was read.
    """

    read: Callable[[Path], Any]
    bin: Callable[[Any, float], Any]
    result: Callable[[Any], int] = lambda counts: counts.nbytes
    total: Callable[[Any], float] = lambda counts: float(counts.sum(dtype=np.int64))
    again: bool = True


def bins_of(width: float) -> int:
    """Bins per trial."""
    return round(LENGTH / width)


def ragged(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Spike times, unit after unit, and where each unit's end."""
    import h5py

    with h5py.File(path) as file:
        return file["units/spike_times"][:], file["units/spike_times_index"][:].astype(np.int64)


def floor(read: tuple[np.ndarray, np.ndarray], width: float) -> np.ndarray:
    """One bincount over all spikes."""
    (times, ends), rows = read, TRIALS * bins_of(width)
    index = (times * (1 / width) + 1e-6).astype(np.int64)
    index += np.repeat(np.arange(UNITS) * rows, np.diff(ends, prepend=0))
    counts = np.bincount(index, minlength=UNITS * rows).astype(np.uint16)
    return np.ascontiguousarray(counts.reshape(UNITS, TRIALS, -1).transpose(1, 2, 0))


def read_for_driftwave(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same, with driftwave imported."""
    import driftwave.ingest.binning  # noqa: F401

    return ragged(path)


def driftwave_binning(read: tuple[np.ndarray, np.ndarray], width: float) -> np.ndarray:
    """driftwave's binning, for trials anywhere."""
    from driftwave.ingest.binning import bin_spikes

    return bin_spikes(*read, STARTS, width, bins_of(width))


def import_driftwave(path: Path) -> Path:
    """Nothing read yet."""
    import driftwave.ingest.nwb  # noqa: F401

    return path


def driftwave_recording(path: Path, width: float) -> Any:
    """The whole of `driftwave ingest` but for writing the store."""
    from driftwave.config import parse_layout
    from driftwave.ingest.nwb import open_nwb, read_recording

    layout = {
        "name": "benchmark",
        "description": "a benchmark",
        "bin_width": width,
        "spikes": {},
        "trials": {"window": [0.0, LENGTH]},
    }
    with open_nwb(path) as file:
        return read_recording(file, parse_layout(layout), session="benchmark")


def histogram_by_unit(read: tuple[np.ndarray, np.ndarray], width: float) -> np.ndarray:
    """np.histogram, unit by unit."""
    times, ends = read
    edges = np.arange(TRIALS * bins_of(width) + 1) * width - 1e-8
    counts = [np.histogram(own, edges)[0] for own in np.split(times, ends[:-1])]
    return np.stack(counts, axis=-1).astype(np.uint16).reshape(TRIALS, -1, UNITS)


def read_for_pynapple(path: Path) -> Any:
    """A TsGroup."""
    import pynapple as nap

    times, ends = ragged(path)
    return nap.TsGroup({k: nap.Ts(own) for k, own in enumerate(np.split(times, ends[:-1]))})


def pynapple_count(group: Any, width: float) -> np.ndarray:
    """pynapple's count over trials."""
    import pynapple as nap

    epochs = nap.IntervalSet(STARTS, STARTS + LENGTH - 1e-9)
    return np.asarray(group.count(width, ep=epochs).values)


def read_by_nlb_tools(path: Path) -> Any:
    """nlb_tools' data set, in bins of 1 ms."""
    from nlb_tools.nwb_interface import NWBDataset

    return NWBDataset(str(path), split_heldout=False)


def nlb_resample(dataset: Any, width: float) -> Any:
    """nlb_tools' resample."""
    dataset.resample(round(width * 1000))
    return dataset


def nlb_trials(dataset: Any, width: float) -> np.ndarray:
    """nlb_tools' resample, its cutting into trials and a tensor of them."""
    dataset.resample(round(width * 1000))
    frame = dataset.make_trial_data(allow_overlap=True)
    counts = frame["spikes"].to_numpy()
    return counts.reshape(TRIALS, -1, UNITS)


def _tree_bytes(tree: Any) -> int:
    return sum(v.nbytes for node in tree.subtree for v in node.to_dataset().variables.values())


def _dataset_bytes(dataset: Any) -> int:
    return int(dataset.data["spikes"].to_numpy().nbytes)


def _dataset_total(dataset: Any) -> float:
    return float(np.nansum(dataset.data["spikes"].to_numpy().astype(np.float32), dtype=float))


OURS = "driftwave, binning"
ROUTES: dict[str, Route] = {
    OURS: Route(read_for_driftwave, driftwave_binning),
    "one bincount (floor)": Route(ragged, floor),
    "driftwave, ingest but for writing": Route(
        import_driftwave,
        driftwave_recording,
        _tree_bytes,
        lambda tree: float(tree["spikes/counts"].values.sum(dtype=np.int64)),
    ),
    "np.histogram by unit": Route(ragged, histogram_by_unit),
    "pynapple, count": Route(read_for_pynapple, pynapple_count),
    "nlb_tools, resample": Route(
        read_by_nlb_tools, nlb_resample, _dataset_bytes, _dataset_total, again=False
    ),
    "nlb_tools, resample and trials": Route(
        read_by_nlb_tools,
        nlb_trials,
        total=lambda counts: float(np.nansum(counts.astype(np.float32), dtype=float)),
        again=False,
    ),
}


def _status(key: str) -> float:
    """MB of an entry of this process's status (Linux)."""
    text = Path("/proc/self/status").read_text()
    line = next(x for x in text.splitlines() if x.startswith(key))
    return float(line.split()[1]) / 1024


def measure(name: str, path: Path, width: float, repeats: int) -> dict[str, float]:
    """CPU s of reading and binning, and the memory of the first call, in this process."""
    route = ROUTES[name]
    before = time.process_time()
    read = route.read(path)
    reading = time.process_time() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    resting = _status("VmRSS")
    spent = []
    for _ in range(repeats if route.again else 1):
        before = time.process_time()
        found = route.bin(read, width)
        spent.append(time.process_time() - before)
        if len(spent) == 1:
            peak = _status("VmHWM")
            result, spikes = route.result(found), route.total(found)
        del found
    return {
        "read": reading,
        "bin": statistics.median(spent),
        "extra": peak - resting - result / 1024**2,
        "result": result / 1024**2,
        "peak": peak,
        "spikes": spikes,
    }


def _interpreter(route: str, peer: str | None) -> str | None:
    """The interpreter of a route; None if it cannot run."""
    if route.startswith("nlb_tools"):
        return peer
    if route.startswith("pynapple") and importlib.util.find_spec("pynapple") is None:
        return None
    return sys.executable


def main() -> None:
    """Measure every route in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--spikes", type=int, default=10_000_000)
    parser.add_argument("--width", type=float, default=0.005)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", help="Interpreter with nlb_tools and pandas < 2.3.")
    parser.add_argument("--route", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.route:
        found = measure(options.route, options.file, options.width, options.repeats)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.nwb"
        make_file(path, options.spikes)
        size = options.spikes * 8 / 1024**2
        print(f"{options.spikes} spikes ({size:.0f} MB), bins of {1000 * options.width:g} ms")
        heads = ("read", "bin", "ratio", "extra", "x times", "result", "peak MB", "spikes")
        print(f"{'route':36s}" + "".join(f"{head:>9s}" for head in heads))
        base = None
        for route in ROUTES:
            python = _interpreter(route, options.peer_python)
            if python is None:
                print(f"{route:36s} not installed")
                continue
            command = [python, __file__, "--route", route, "--file", str(path)]
            command += ["--width", str(options.width), "--repeats", str(options.repeats)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{route:36s} failed: {done.stderr.strip().splitlines()[-1]}")
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            base = base or found["bin"]
            print(
                f"{route:36s}{found['read']:9.2f}{found['bin']:9.2f}{found['bin'] / base:9.1f}"
                f"{found['extra']:9.0f}{found['extra'] / size:9.2f}{found['result']:9.0f}"
                f"{found['peak']:9.0f}{found['spikes']:9.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
