"""Steps of peers, each run alone by the interpreter of an environment that holds them.

    python _cost_peers.py STEP field.npy RATE

``field.npy`` is (time, electrode) of a square grid, row by row, 0.4 mm apart. Prints JSON: CPU and
wall seconds of the step itself, the memory (MB) it adds to imports and input, how many frames it
went through, and the name and version of the peer. Needs neither driftwave nor its dependencies.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np

PITCH = 0.4  # mm
BAND = (5.0, 40.0)  # Hz
FLOW_ALPHA, FLOW_ITERATIONS = 1.0, 100


def _movie(field: np.ndarray) -> np.ndarray:
    side = round(np.sqrt(field.shape[1]))
    return field.reshape(len(field), side, side)


def _phase(field: np.ndarray, rate: float) -> np.ndarray:
    """Phase of the band-passed field (time, electrode), for peers that start from phase."""
    from scipy import signal

    filtered = signal.sosfiltfilt(
        signal.butter(4, BAND, btype="bandpass", fs=rate, output="sos"), field, axis=0
    )
    return np.angle(signal.hilbert(filtered, axis=0))


def elephant_filter(field: np.ndarray, rate: float) -> Callable[[], object]:
    """Butterworth band-pass and Hilbert transform."""
    import neo
    import quantities as pq
    from elephant.signal_processing import butter, hilbert

    whole = neo.AnalogSignal(field.astype(float), units="uV", sampling_rate=rate * pq.Hz)
    return lambda: hilbert(butter(whole, BAND[0] * pq.Hz, BAND[1] * pq.Hz, order=4))


def wavespace_generalized_phase(field: np.ndarray, rate: float) -> Callable[[], object]:
    """Generalized phase of the band-passed field."""
    from scipy import signal
    from WaveSpace.Decomposition.GenPhase import generalized_phase
    from WaveSpace.Utils.WaveData import DataBucket, WaveData

    sections = signal.butter(4, BAND, btype="bandpass", fs=rate, output="sos")
    filtered = signal.sosfiltfilt(sections, field, axis=0).T[None]
    data = WaveData(time=np.arange(len(field)) / rate, sampleRate=rate)
    data.add_data_bucket(DataBucket(filtered, "wide", "trl_chan_time", ["trl", "chan", "time"]))
    return lambda: generalized_phase(data, "wide")


def _labelled(values: np.ndarray, rate: float) -> object:
    import xarray as xr

    clock = np.arange(len(values)) / rate
    coords = {
        "time": clock,
        "fs": rate,
        "AP": np.arange(values.shape[1]),
        "ML": np.arange(values.shape[2]),
    }
    return xr.DataArray(values, dims=("time", "AP", "ML"), coords=coords)


def cogpy_generalized_phase(field: np.ndarray, rate: float) -> Callable[[], object]:
    """Generalized phase."""
    from cogpy.wave.generalized_phase import generalized_phase

    data = _labelled(_movie(field.astype(float)), rate)
    return lambda: generalized_phase(data)


def cogpy_pgd(field: np.ndarray, rate: float) -> Callable[[], object]:
    """Phase gradient directionality."""
    from cogpy.wave._types import Geometry
    from cogpy.wave.phase_gradient import pgd

    phase = _labelled(_movie(_phase(field, rate)), rate)
    return lambda: pgd(phase, Geometry.regular(PITCH))


def cogpy_plane_fit(field: np.ndarray, rate: float) -> Callable[[], object]:
    """A plane wave per frame."""
    from cogpy.wave._types import Geometry
    from cogpy.wave.phase_gradient import plane_wave_fit

    phase = _labelled(_movie(_phase(field, rate)), rate)
    return lambda: plane_wave_fit(phase, Geometry.regular(PITCH))


def cogpy_wavenumber_frequency(field: np.ndarray, rate: float) -> Callable[[], object]:
    """Wavenumber-frequency spectrum from segments of a second."""
    from cogpy.wave._types import Geometry
    from cogpy.wave.kw_spectrum import kw_spectrum_3d

    data = _labelled(_movie(field.astype(float)), rate)
    return lambda: kw_spectrum_3d(data, Geometry.regular(PITCH), nperseg=round(rate))


def wavespace_flow(field: np.ndarray, rate: float) -> Callable[[], object]:
    """Horn-Schunck on phase, frame by frame."""
    from WaveSpace.WaveAnalysis.OpticalFlow import HS

    phase = _movie(_phase(field, rate))
    kernel = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    start = np.zeros(phase.shape[1:])

    def run() -> None:
        for one, two in pairwise(phase):
            HS(one, two, start, start, FLOW_ALPHA, kernel, FLOW_ITERATIONS, True)

    return run


def _cobrawap(folder: Path, script: str, *options: str) -> None:
    root = Path(str(find_spec("cobrawap").submodule_search_locations[0])) / "pipeline"  # type: ignore[union-attr, index]
    environment = os.environ | {"PYTHONPATH": str(root), "MPLBACKEND": "Agg"}
    command = [sys.executable, str(root / script), *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{script}: {done.stderr[-1500:]}")


def _nix(field: np.ndarray, rate: float, folder: Path) -> str:
    import neo
    import quantities as pq

    side = round(np.sqrt(field.shape[1]))
    row, column = np.divmod(np.arange(field.shape[1]), side)
    analog = neo.AnalogSignal(
        field.astype(float),
        units="uV",
        sampling_rate=rate * pq.Hz,
        array_annotations={"x_coords": column, "y_coords": row},
        spatial_scale=PITCH * pq.mm,
        grid_size=[side, side],
        orientation_top="anterior",
        orientation_right="right",
    )
    segment = neo.Segment()
    segment.analogsignals.append(analog)
    block = neo.Block()
    block.segments.append(segment)
    with neo.NixIO(str(folder / "field.nix"), "ow") as file:
        file.write(block)
    return "field.nix"


def _filtered(field: np.ndarray, rate: float) -> np.ndarray:
    from scipy import signal

    sections = signal.butter(4, BAND, btype="bandpass", fs=rate, output="sos")
    return signal.sosfiltfilt(sections, field, axis=0)


def cobrawap_flow(field: np.ndarray, rate: float) -> Callable[[], object]:
    """Horn-Schunck on phase, its own block, files in and out included."""
    folder = Path(tempfile.mkdtemp())
    name = _nix(_filtered(field, rate), rate, folder)

    def run() -> None:
        script = "stage04_wave_detection/scripts/optical_flow.py"
        options = ["--alpha", str(FLOW_ALPHA), "--max_Niter", str(FLOW_ITERATIONS)]
        options += ["--gaussian_sigma", "0", "0", "0", "--use_phases", "True"]
        options += ["--derivative_filter", "scharr_3x3", "--convergence_limit", "0.0001"]
        options += ["--output_img", str(folder / "flow.png")]
        _cobrawap(folder, script, "--data", name, "--output", "flow.nix", *options)

    return run


def cobrawap_fronts(field: np.ndarray, rate: float) -> Callable[[], object]:
    """Triggers of the Hilbert phase and their clustering, without directions: two blocks."""
    folder = Path(tempfile.mkdtemp())
    name = _nix(_filtered(field, rate), rate, folder)

    def run() -> None:
        triggers = "stage03_trigger_detection/scripts/hilbert_phase.py"
        options = ["--transition_phase", "-1.57", "--plot_channels", "0", "--plot_tstart", "0"]
        options += ["--plot_tstop", "1", "--img_dir", str(folder), "--img_name", "channel_0.png"]
        _cobrawap(folder, triggers, "--data", name, "--output", "triggers.nix", *options)
        cluster = "stage04_wave_detection/scripts/trigger_clustering.py"
        options = ["--metric", "euclidean", "--time_space_ratio", "400"]
        options += ["--neighbour_distance", "2", "--min_samples", "40"]
        _cobrawap(folder, cluster, "--data", "triggers.nix", "--output", "waves.nix", *options)

    return run


# step -> (what it prepares, distribution whose version is told)
STEPS: dict[str, tuple[Callable[[np.ndarray, float], Callable[[], object]], str]] = {
    "elephant_filter": (elephant_filter, "elephant"),
    "wavespace_generalized_phase": (wavespace_generalized_phase, "WaveSpace"),
    "cogpy_generalized_phase": (cogpy_generalized_phase, "ecogpy"),
    "cogpy_pgd": (cogpy_pgd, "ecogpy"),
    "cogpy_plane_fit": (cogpy_plane_fit, "ecogpy"),
    "cogpy_wavenumber_frequency": (cogpy_wavenumber_frequency, "ecogpy"),
    "wavespace_flow": (wavespace_flow, "WaveSpace"),
    "cobrawap_flow": (cobrawap_flow, "cobrawap"),
    "cobrawap_fronts": (cobrawap_fronts, "cobrawap"),
}


def _usage() -> tuple[float, float]:
    """CPU seconds and peak memory (MB) of this process and of those it has waited for."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(p.ru_utime + p.ru_stime for p in parts), max(p.ru_maxrss for p in parts) / 1024


def main(step: str, path: str, rate: float) -> None:
    """Run one step and print what it cost."""
    prepare, distribution = STEPS[step]
    field = np.load(path, mmap_mode="r")
    run = prepare(field, rate)
    cpu, memory = _usage()
    start = time.perf_counter()
    run()
    wall = time.perf_counter() - start
    after = _usage()
    peer = f"{distribution} {version(distribution)}"
    facts = {"cpu": after[0] - cpu, "wall": wall, "memory": max(after[1] - memory, 0.0)}
    print(json.dumps({**facts, "frames": len(field), "peer": peer}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
