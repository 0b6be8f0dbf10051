"""CPU seconds and peak memory of each step of the waves stage, and of peers where installed.

    python benchmarks/waves.py [--minutes 10] [--surrogates 20]

96 channels at 1 kHz, 1/f noise with a plane wave. Each step runs in a process of its own, so that
its peak memory (MB, beyond that of the imports and the input) is its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

RATE = 1000.0
BAND = (5.0, 40.0)


def write_field(path: Path, minutes: float) -> None:
    """A recording store written minute by minute, so that reading it streams."""
    from driftwave.store import write_tree

    rng = np.random.default_rng(0)
    place = np.array([(i, j) for j in range(10) for i in range(10)], float) * 0.4
    place = place[~np.isin(np.arange(100), [0, 9, 90, 99])]
    count = round(minutes * 60 * RATE)
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    gain = np.maximum(frequency, 1.0) ** -0.75
    lfp = np.empty((count, 96), np.float32)
    clock = np.arange(count) / RATE
    for channel in range(96):
        shape = np.fft.rfft(rng.standard_normal(count)) * gain
        noise = np.fft.irfft(shape, n=count)
        wave = np.cos(2 * np.pi * 12 * clock - 0.5 * place[channel, 0])
        lfp[:, channel] = 50 * (noise / noise.std() + 0.5 * wave)
    field = xr.Dataset(
        {"lfp": (("time", "electrode"), lfp, {"units": "microvolt"})},
        coords={
            "time": ("time", clock, {"units": "s"}),
            "x": ("electrode", place[:, 0]),
            "y": ("electrode", place[:, 1]),
            "electrode": np.arange(96),
        },
        attrs={"sampling_rate": RATE},
    )
    root = xr.Dataset(attrs={"session": "benchmark"})
    write_tree(xr.DataTree.from_dict({"/": root, "field": field}), path)


def _reader(path: Path):
    from driftwave.phase.frames import open_field
    from driftwave.store import open_tree

    tree = open_tree(path)
    return open_field(tree, tree["field"].to_dataset(), band=BAND, frame_rate=None)


def ours_filter(path: Path) -> None:
    """Band-pass, analytic signal and decimation, read from the store in stretches of 60 s."""
    reader = _reader(path)
    step = round(60 * reader.rate)
    for start in range(0, reader.frames, step):
        reader.signal(start, start + step)


def ours_generalized_phase(path: Path) -> None:
    """The above and generalized phase."""
    reader = _reader(path)
    step = round(60 * reader.rate)
    for start in range(0, reader.frames, step):
        reader.stretch(start, start + step, generalized=True)


def ours_frames(path: Path) -> None:
    """The above, gradient, PGD, direction, speed, fluxes and cross-spectrum."""
    from driftwave.phase.frames import read_frames

    read_frames(_reader(path), chunk=60, generalized=True, keep_phase=False)


def ours_everything(path: Path, surrogates: int) -> None:
    """The whole stage with surrogates and events."""
    from driftwave.store import open_tree
    from driftwave.waves.phase_gradient import Params, analyse

    analyse(open_tree(path), None, Params(surrogates=surrogates), seed=0)


def elephant_filter(path: Path) -> None:
    """elephant's Butterworth filter and Hilbert transform of the whole recording."""
    import neo
    import quantities as pq
    from elephant.signal_processing import butter, hilbert

    from driftwave.store import open_tree

    lfp = open_tree(path)["field"]["lfp"].values.astype(float)
    whole = neo.AnalogSignal(lfp, units="uV", sampling_rate=RATE * pq.Hz)
    hilbert(butter(whole, BAND[0] * pq.Hz, BAND[1] * pq.Hz, order=4))


def _measured(job: Callable, arguments: tuple, pipe) -> None:
    import driftwave.waves.phase_gradient  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    job(*arguments)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    memory = (after.ru_maxrss - before.ru_maxrss) / 1024
    pipe.send((cpu, time.perf_counter() - start, memory))


def measure(job: Callable, *arguments) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak memory (MB) of a job in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(job, arguments, theirs))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--surrogates", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.zarr"
        # In a process of its own: a child starts with the peak memory of its parent.
        writer = multiprocessing.get_context("spawn").Process(
            target=write_field, args=(path, options.minutes)
        )
        writer.start()
        writer.join()
        jobs: list[tuple[str, Callable, tuple]] = [
            ("ours: read, band-pass, analytic, decimate", ours_filter, (path,)),
            ("ours: + generalized phase", ours_generalized_phase, (path,)),
            ("ours: + gradient, PGD, cross-spectrum", ours_frames, (path,)),
            (
                f"ours: all, {options.surrogates} surrogates",
                ours_everything,
                (path, options.surrogates),
            ),
        ]
        if importlib.util.find_spec("elephant"):
            jobs.append(("elephant: band-pass, Hilbert", elephant_filter, (path,)))
        print(f"96 channels x {options.minutes:g} min x {RATE:g} Hz")
        print(f"{'step':48s} {'CPU s':>8s} {'wall s':>8s} {'MB':>8s}")
        for name, job, arguments in jobs:
            cpu, wall, memory = measure(job, *arguments)
            print(f"{name:48s} {cpu:8.1f} {wall:8.1f} {memory:8.0f}", flush=True)


if __name__ == "__main__":
    main()
