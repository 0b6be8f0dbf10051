"""A long LFP file through `driftwave ingest` and `driftwave waves`, and the memory it takes.

    python benchmarks/ingest_large.py [--gigabytes 20] [--channels 96] [--rate 2000] [--keep 250]
                                      [--band 1 4] [--surrogates 19] [--folder FOLDER]

The file is an NWB of int16 samples (shuffle and lzf): noise that all electrodes share in part and a
plane wave of 2 Hz that comes and goes, one minute of it, again and again. Its chunks are compressed
once and put in place as they are, so that making the file costs next to nothing. Both commands run
in a process of their own; their CPU s, MB of samples per CPU s and peak memory are printed, then
what the waves are, whose direction is known. FOLDER must hold the file, the store and the dense
fields, about 1.2 times the gigabytes at 20.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

TILE, PITCH, FREQUENCY, DIRECTION, SPEED = 60, 0.4, 2.0, 30.0, 20.0  # s, mm, Hz, degree, mm/s
CONVERSION = 0.5e-6


def positions(channels: int) -> np.ndarray:
    """A square grid (electrode, 2), mm, without its last corner."""
    side = int(np.ceil(np.sqrt(channels)))
    y, x = np.divmod(np.arange(channels), side)
    return np.stack([x, y], 1) * PITCH


def tile(channels: int, rate: int) -> np.ndarray:
    """One minute (time, electrode), int16, whose end meets its beginning."""
    rng = np.random.default_rng(0)
    count = TILE * rate
    frequency = np.fft.rfftfreq(count, 1 / rate)
    gain = np.maximum(frequency, 1.0) ** -0.75
    clock = np.arange(count) / rate
    burst = np.clip(2 * np.sin(2 * np.pi * clock / 20), 0, 1)  # 10 s of every 20 s
    place = positions(channels)
    toward = np.array([np.cos(np.deg2rad(DIRECTION)), np.sin(np.deg2rad(DIRECTION))])
    lag = 2 * np.pi * FREQUENCY / SPEED * (place @ toward)

    def noise() -> np.ndarray:
        made = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) * gain, n=count)
        return made / made.std()

    shared, found = noise(), np.empty((count, channels), np.int16)
    for channel in range(channels):
        wave = burst * np.cos(2 * np.pi * FREQUENCY * clock - lag[channel])
        found[:, channel] = np.rint(25 * (0.8 * shared + 0.6 * noise() + wave))
    return found


def make_file(path: Path, channels: int, rate: int, samples: int) -> None:
    """Write the NWB file, then put chunk after chunk in place."""
    import h5py
    import pynwb
    from hdmf.backends.hdf5 import H5DataIO

    nwb = pynwb.NWBFile(
        session_description="benchmark",
        identifier="benchmark",
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
    )
    group = nwb.create_electrode_group("array", "a grid", "V1", nwb.create_device("array"))
    for x, y in positions(channels):
        nwb.add_electrode(group=group, location="V1", rel_x=1000 * x, rel_y=1000 * y)
    region = nwb.create_electrode_table_region(list(range(channels)), "all")
    minute = tile(channels, rate)
    data = H5DataIO(
        minute, maxshape=(None, channels), chunks=(rate, channels), compression="lzf", shuffle=True
    )
    nwb.add_acquisition(
        pynwb.ecephys.ElectricalSeries(
            name="lfp", data=data, electrodes=region, rate=float(rate), conversion=CONVERSION
        )
    )
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    with h5py.File(path, "r+") as file:
        series = file["acquisition/lfp/data"]
        pieces = [series.id.read_direct_chunk((k * rate, 0)) for k in range(TILE)]
        series.resize(samples, axis=0)
        for k in range(TILE, -(-samples // rate)):
            mask, piece = pieces[k % TILE]
            series.id.write_direct_chunk((k * rate, 0), piece, mask)


def run(*arguments: str) -> tuple[float, float, float]:
    """CPU s, wall s and peak MB of a `driftwave` command."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "driftwave.cli", *arguments]
    # A child's peak starts from its parent's, which this small program keeps far below.
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed")
    cpu = usage.ru_utime + usage.ru_stime
    return cpu, time.perf_counter() - begin, usage.ru_maxrss / 1024


def disk(path: Path) -> float:
    """GB on disk of a file or folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) / 1e9


def layout(keep: float) -> str:
    """The file's layout."""
    return json.dumps(
        {
            "name": "large",
            "description": "a large file",
            "bin_width": 0.05,
            "field": {"series": "acquisition/lfp", "rate": keep, "positions": {"unit": "um"}},
        }
    )


def found_waves(path: Path) -> str:
    """The events, beside the wave that was put in."""
    from driftwave.store import open_dataset

    waves = open_dataset(path)
    planar = (waves["class"].values == "planar") & (waves["q"].values < 0.05)
    angle = np.exp(1j * np.deg2rad(waves["direction"].values[planar]))
    mean = np.degrees(np.angle(angle.mean())) if planar.any() else np.nan
    return (
        f"{waves.sizes['event']} events, {int(planar.sum())} planar with q < 0.05; mean "
        f"direction {mean:.1f} (made: {DIRECTION:g}) degrees"
    )


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Make the file, run both commands, print the table."""
    samples = round(options.gigabytes * 1e9 / 2 / options.channels)
    size = samples * options.channels * 2 / 1e6
    path, recording, waves = (folder / name for name in ("large.nwb", "r.zarr", "w.zarr"))
    maker = [sys.executable, __file__, "--make", str(path), "--channels", str(options.channels)]
    maker += ["--rate", str(options.rate), "--samples", str(samples)]
    subprocess.run(maker, check=True)
    print(
        f"{size / 1000:.1f} GB of int16, {disk(path):.1f} GB on disk: {options.channels} channels "
        f"x {samples / options.rate / 3600:.2f} h at {options.rate} Hz, {options.keep:g} Hz kept",
        flush=True,
    )
    (folder / "large.yaml").write_text(layout(options.keep))
    print(
        f"{'command':10s}{'CPU s':>9s}{'wall s':>9s}{'MB/CPU s':>10s}{'peak MB':>9s}{'disk GB':>9s}"
    )
    ingest = ["ingest", str(path), "--layout", str(folder / "large.yaml"), "--session", "large"]
    params = {"band": options.band, "surrogates": options.surrogates, "fields": options.fields}
    analyse = ["waves", str(recording), "--plugin", "phase_gradient", "--params"]
    for name, arguments, out in (
        ("ingest", ingest, recording),
        ("waves", [*analyse, json.dumps(params)], waves),
    ):
        cpu, wall, peak = run(*arguments, "--out", str(out))
        print(
            f"{name:10s}{cpu:9.0f}{wall:9.0f}{size / cpu:10.0f}{peak:9.0f}{disk(out):9.2f}",
            flush=True,
        )
        if out == recording:
            path.unlink()  # room for what follows
    subprocess.run([sys.executable, __file__, "--show", str(waves)], check=True)


def main() -> None:
    """Measure in a folder that goes away afterwards."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--keep", type=float, default=250.0)
    parser.add_argument("--band", type=float, nargs=2, default=(1.0, 4.0))
    parser.add_argument("--surrogates", type=int, default=19)
    parser.add_argument("--fields", nargs="*", default=["phase"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--show", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make_file(options.make, options.channels, options.rate, options.samples)
        return
    if options.show:
        print(found_waves(options.show))
        return
    folder = Path(tempfile.mkdtemp(prefix="large-", dir=options.folder))
    try:
        measure(options, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
