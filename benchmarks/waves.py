"""CPU seconds and peak memory of each step of the waves stage, and of peers where installed.

    python benchmarks/waves.py [--minutes 10] [--surrogates 20] [--large]
    python benchmarks/waves.py --peers PYTHON [--minutes 10] [--repeats 1]

96 channels at 1 kHz, 1/f noise with a plane wave for 2 s of every 6 s. Each step runs in a process
of its own, so that its peak memory (MB, beyond that of the imports and the input) is its own.
``--large`` adds a minute of 4,096 electrodes at 250 Hz and of an imaging movie of 100 x 100 pixels
at 30 Hz, whose signals are made block by block as they are read. ``--peers`` prints other steps,
each beside the peers that take it: PYTHON is the interpreter of an environment with the extra
``bench`` (their dependencies do not suit driftwave's).
"""

from __future__ import annotations

import argparse
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
FEWEST = 19
FIELDS = ("phase", "gradient", "divergence", "curl", "charge")


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
    burst = clock % 6 < 2
    for channel in range(96):
        shape = np.fft.rfft(rng.standard_normal(count)) * gain
        noise = np.fft.irfft(shape, n=count)
        wave = np.cos(2 * np.pi * 12 * clock - 0.5 * place[channel, 0])
        lfp[:, channel] = 50 * (noise / noise.std() + burst * wave)
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


def ours_frames(path: Path, fields: tuple[str, ...] = ()) -> None:
    """The above, gradient, PGD, direction, speed, fluxes, cross-spectrum, and dense fields."""
    from driftwave.phase.passes import read_frames

    read_frames(_reader(path), chunk=60, generalized=True, fields=fields)


def ours_without_surrogates(path: Path) -> None:
    """The above, events with class and intervals, and the delay plane; the fewest surrogates."""
    ours_everything(path, FEWEST)


def ours_surrogates(path: Path, surrogates: int) -> None:
    """Frames as above without dense fields, then surrogates alone."""
    from driftwave.nulls.of_field import field_nulls
    from driftwave.phase.passes import read_frames
    from driftwave.waves.phase_gradient import Params, _finder

    params = Params()
    reader = _reader(path)
    frames, measure = read_frames(reader, chunk=60, generalized=True)
    windows = tuple(max(1, round(s * reader.detection_rate)) for s in params.smoothing)
    field_nulls(
        frames,
        measure,
        _finder(reader, windows[0], params),
        kinds=("zero_lag",),
        surrogates=surrogates,
        smoothing=windows,
        quantile=params.threshold,
        chunk=60,
        seed=0,
    )


def ours_everything(path: Path, surrogates: int) -> None:
    """The whole stage with surrogates and events."""
    from driftwave.store import open_tree
    from driftwave.waves.phase_gradient import Params, analyse

    analyse(open_tree(path), None, Params(surrogates=surrogates), seed=0)


def ours_stored(path: Path, surrogates: int) -> None:
    """The above, and the result written to a store."""
    from driftwave.store import open_tree, write_tree
    from driftwave.waves.phase_gradient import Params, analyse

    result = analyse(open_tree(path), None, Params(surrogates=surrogates), seed=0)
    write_tree(result, path.with_name("waves.zarr"))


def lazy_field(columns: int, rows: int, rate: float, seconds: float, frequency: float):
    """A plane wave and white noise on a large grid, made block by block as they are read."""
    import dask.array as da

    place = np.array([(i, j) for j in range(rows) for i in range(columns)], float) * 0.1
    lag = 2 * np.pi / 4.0 * place @ np.array([np.cos(0.5), np.sin(0.5)])
    count, block = round(seconds * rate), round(2 * rate)

    def make(block_info=None) -> np.ndarray:
        (start, stop), _ = block_info[None]["array-location"]
        clock = np.arange(start, stop)[:, None] / rate
        noise = np.random.default_rng(start).standard_normal((stop - start, len(place)), np.float32)
        return noise + np.cos(2 * np.pi * frequency * clock - lag).astype(np.float32)

    sizes = (block,) * (count // block) + ((count % block,) if count % block else ())
    lfp = da.map_blocks(make, chunks=(sizes, (len(place),)), dtype=np.float32)
    field = xr.Dataset(
        {"lfp": (("time", "electrode"), lfp)},
        coords={
            "time": np.arange(count) / rate,
            "x": ("electrode", place[:, 0]),
            "y": ("electrode", place[:, 1]),
            "electrode": np.arange(len(place)),
        },
        attrs={"sampling_rate": rate},
    )
    root = xr.Dataset(attrs={"session": "large"})
    return xr.DataTree.from_dict({"/": root, "field": field})


def ours_electrodes() -> None:
    """4,096 electrodes, 250 Hz, 60 s, 5-40 Hz: everything with the fewest surrogates."""
    from driftwave.waves.phase_gradient import Params, analyse

    tree = lazy_field(64, 64, 250.0, 60.0, 8.0)
    analyse(tree, None, Params(surrogates=FEWEST, delay_band=None), seed=0)


def ours_movie() -> None:
    """A movie of 100 x 100 pixels, 30 Hz, 60 s, 0.5-8 Hz: everything with the fewest surrogates."""
    from driftwave.waves.phase_gradient import Params, analyse

    tree = lazy_field(100, 100, 30.0, 60.0, 2.0)
    analyse(tree, None, Params(band=(0.5, 8), surrogates=FEWEST, delay_band=None), seed=0)


def print_peers(peers: str, minutes: float, repeats: int) -> None:
    """Each step beside the peers that take it, in the same run (experiment ``wave_cost``)."""
    from driftwave.experiments.wave_cost import Params, run

    found = run(Params(minutes=minutes, peers=peers, repeats=repeats), seed=0)
    print(f"{'step':24s} {'who':24s} {'CPU s':>8s} {'ms/frame':>9s} {'MB':>6s} {'ratio':>8s}")
    for number in range(found.sizes["run"]):
        row = found.isel(run=number)
        names = f"{row['step'].item():24s} {row['peer'].item() or row['who'].item():24s}"
        values = (float(row[name]) for name in ("cpu", "cpu_frame", "memory", "ratio"))
        print(names + " {:8.2f} {:9.4f} {:6.0f} {:8.2f}".format(*values), row["failure"].item())


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
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--peers", help="interpreter of an environment with the extra `bench`")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each step beside peers")
    options = parser.parse_args()
    if options.peers:
        print_peers(options.peers, options.minutes, options.repeats)
        return
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
            ("ours: + dense fields", ours_frames, (path, FIELDS)),
            (f"ours: all, {FEWEST} surrogates", ours_without_surrogates, (path,)),
            (f"ours: all, {FEWEST} surrogates, stored", ours_stored, (path, FEWEST)),
            (
                f"ours: all, {options.surrogates} surrogates",
                ours_everything,
                (path, options.surrogates),
            ),
            (
                f"ours: frames and {options.surrogates} surrogates alone",
                ours_surrogates,
                (path, options.surrogates),
            ),
        ]
        if options.large:
            jobs.append(("ours: 4,096 electrodes x 1 min x 250 Hz", ours_electrodes, ()))
            jobs.append(("ours: 100 x 100 pixels x 1 min x 30 Hz", ours_movie, ()))
        print(f"96 channels x {options.minutes:g} min x {RATE:g} Hz")
        print(f"{'step':48s} {'CPU s':>8s} {'wall s':>8s} {'MB':>8s}")
        for name, job, arguments in jobs:
            cpu, wall, memory = measure(job, *arguments)
            print(f"{name:48s} {cpu:8.1f} {wall:8.1f} {memory:8.0f}", flush=True)


if __name__ == "__main__":
    main()
