"""Steps of driftwave's wave analyses, each run alone in a process of its own.

    python _cost_ours.py STEP field.zarr
    python _cost_ours.py write FOLDER MINUTES SHORT RATE SEED

Prints JSON as the peers' script does: CPU and wall seconds of the step, reading included, the
memory (MB) it adds to imports, and how many samples of the field it went through.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from driftwave import __version__
from driftwave.compute import generator
from driftwave.experiments._recordings import field_recording
from driftwave.phase.frames import FieldReader, open_field
from driftwave.recording import open_recording
from driftwave.store import write_tree

SIDE, PITCH = 10, 0.4  # electrodes along a side, mm
BAND = (5.0, 40.0)  # Hz
FREQUENCY, WAVENUMBER, LEVEL = 12.0, 0.5, 50.0  # Hz, rad/mm, microvolt
NOISE = 1.0  # RMS of the noise over the wave's
CHUNK = 60.0  # s


def write_fields(folder: Path, minutes: float, short: float, rate: float, seed: int) -> None:
    """Write what all steps run on: ``long.zarr``, ``long.npy`` and ``short.npy``.

    A plane wave towards +x in 1/f noise of each electrode's own on a 10 x 10 grid, microvolt.
    Peers that take images need its four corners; the store marks them bad, so that driftwave sees
    96 electrodes.
    """
    rng = generator(seed, "cost field")
    row, column = np.divmod(np.arange(SIDE**2), SIDE)
    count = round(60 * minutes * rate)
    clock = np.arange(count) / rate
    gain = np.maximum(np.fft.rfftfreq(count, 1 / rate), 1.0) ** -0.75
    lfp = np.empty((count, SIDE**2), np.float32)
    for electrode in range(SIDE**2):
        shape = np.fft.rfft(rng.standard_normal(count)) * gain
        noise = np.fft.irfft(shape, n=count)
        phase = WAVENUMBER * PITCH * column[electrode]
        wave = np.sqrt(2) * np.cos(2 * np.pi * FREQUENCY * clock - phase)
        lfp[:, electrode] = LEVEL * (wave + NOISE * noise / noise.std())
    np.save(folder / "long.npy", lfp)
    np.save(folder / "short.npy", lfp[: round(60 * short * rate)])
    corner = np.isin(row, (0, SIDE - 1)) & np.isin(column, (0, SIDE - 1))
    position = PITCH * np.stack([column, row], axis=1)
    tree = field_recording(lfp, position, rate, "cost", good=~corner)
    write_tree(tree, folder / "long.zarr")


def _reader(recording: xr.DataTree) -> FieldReader:
    return open_field(recording, recording["field"].to_dataset(), band=BAND, frame_rate=None)


def analytic(recording: xr.DataTree) -> None:
    """Band-pass, analytic signal and decimation."""
    reader = _reader(recording)
    step = round(CHUNK * reader.rate)
    for start in range(0, reader.frames, step):
        reader.signal(start, start + step)


def generalized_phase(recording: xr.DataTree) -> None:
    """The above and generalized phase."""
    reader = _reader(recording)
    step = round(CHUNK * reader.rate)
    for start in range(0, reader.frames, step):
        reader.stretch(start, start + step, generalized=True)


def gradient(recording: xr.DataTree) -> Callable[[], None]:
    """Phase gradient and PGD of phases in memory, as peers are given them."""
    from driftwave.phase.gradient import directionality, gradient_operator

    reader = _reader(recording)
    operator = gradient_operator(reader.electrodes)
    step = round(CHUNK * reader.rate)
    pieces = [
        reader.stretch(start, start + step, generalized=False)[1].astype(np.float32)
        for start in range(0, reader.frames, step)
    ]

    def run() -> None:
        for phase in pieces:
            directionality(operator(phase))

    return run


def plane_fit(recording: xr.DataTree) -> None:
    """A plane per frame at three frames per cycle of the upper edge, refined; filter included."""
    from driftwave.frame_fits.circular_plane import plane_fitter

    reader = _reader(recording)
    fitter = plane_fitter(reader.electrodes, None)
    every = max(1, int(reader.rate / (3 * BAND[1]) + 1e-6))
    step = round(CHUNK * reader.rate)
    for start in range(0, reader.frames, step):
        signal = reader.signal(start, start + step)[:, ::every]
        fitter(signal / np.maximum(np.abs(signal), 1e-12))


def wavenumber_frequency(recording: xr.DataTree) -> None:
    """Spectrum, peaks and intervals, with the fewest surrogates."""
    from driftwave.waves.wavenumber_frequency import Params, analyse

    analyse(recording, None, Params(surrogates=19, bootstrap=20), seed=0)


def flow(recording: xr.DataTree) -> None:
    """Optical flow with its patterns and events, without surrogates; filter and phase included."""
    from driftwave.waves.optical_flow import Params, analyse

    analyse(recording, None, Params(surrogates=0), seed=0)


def fronts(recording: xr.DataTree) -> None:
    """Wave fronts with slowness, intervals and source, without surrogates; filter included."""
    from driftwave.waves.wave_fronts import Params, analyse

    analyse(recording, None, Params(null="none", bootstrap=20), seed=0)


def stage(recording: xr.DataTree) -> None:
    """The main analysis: dense fields, events with class and intervals; the fewest surrogates."""
    from driftwave.waves.phase_gradient import Params, analyse

    analyse(recording, None, Params(surrogates=19), seed=0)


STEPS: dict[str, Callable[[xr.DataTree], Callable[[], None] | None]] = {
    "analytic": analytic,
    "generalized_phase": generalized_phase,
    "gradient": gradient,
    "plane_fit": plane_fit,
    "wavenumber_frequency": wavenumber_frequency,
    "flow": flow,
    "fronts": fronts,
    "stage": stage,
}
PREPARED = {"gradient"}  # these return what is measured


def main(step: str, path: str) -> None:
    """Run one step and print what it cost."""
    recording = open_recording(path)
    job = STEPS[step]
    prepared = job(recording) if step in PREPARED else None
    _warm(job, step)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    if prepared is None:
        job(recording)
    else:
        prepared()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    facts = {"cpu": cpu, "wall": wall, "memory": (after.ru_maxrss - before.ru_maxrss) / 1024}
    frames = recording["field"].sizes["time"]
    print(json.dumps({**facts, "frames": frames, "peer": f"driftwave {__version__}"}))


def _warm(job: Callable, step: str) -> None:
    """Compile and import what the step needs on a few seconds of noise."""
    rng = np.random.default_rng(0)
    lfp = rng.standard_normal((4000, 16)).astype(np.float32)
    row, column = np.divmod(np.arange(16), 4)
    few = field_recording(lfp, PITCH * np.stack([column, row], axis=1), 250.0, "warm")
    found = job(few)
    if step in PREPARED and found is not None:
        found()


if __name__ == "__main__":
    if sys.argv[1] == "write":
        minutes, short, rate = map(float, sys.argv[3:6])
        write_fields(Path(sys.argv[2]), minutes, short, rate, int(sys.argv[6]))
    else:
        main(sys.argv[1], sys.argv[2])
