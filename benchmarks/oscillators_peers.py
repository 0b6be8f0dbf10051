"""Models of a field side by side: hidden electrodes, later samples, likelihood, CPU seconds.

A simulated array (four oscillators and three slow factors, noise as strong as the signal on every
channel), and with ``--recordings FOLDER`` the seizure of ``utah_seizure.nwb`` in it. Every model is
fitted to the first 70 % (with the next 15 % to choose), and scored once on the last 15 %:

- R2 of each electrode predicted from the others (five groups hidden in turn), as recorded and
  within 3 to 45 Hz, mean over electrodes;
- R2 of forecasts 4, 20, 50 and 100 ms ahead;
- log-likelihood of the test stretch, one step ahead, nats per sample and channel: for models with a
  density (factor analysis takes samples for independent).

``true parameters`` is the model that made the data: what any model can reach. ``somata`` runs in an
interpreter of its own (``--somata PYTHON``, one that has it installed); it does not fit the
loadings of several channels, so it is given those of our starting guess, and learns dynamics and
noise. Its EM runs for ``--somata-iterations``; seconds per iteration are printed.

    python benchmarks/oscillators_peers.py [--channels 32] [--minutes 3] [--somata PYTHON]
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.linalg import solve_discrete_are
from scipy.signal import lfilter

from driftwave.compute import generator
from driftwave.errors import DriftwaveError
from driftwave.inference.field import FieldSource, field_source
from driftwave.inference.field_prediction import (
    RUN_IN,
    FieldPredictor,
    read_stretch,
    split_samples,
    test_predictions,
)
from driftwave.inference.field_training import training_data
from driftwave.inference.oscillator_start import first_guess, spectral_peaks, spectrum
from driftwave.inference.vector_autoregression import surprise
from driftwave.models import field_factor_analysis, field_var, hilbert_pca, oscillators
from driftwave.scores.field import field_rows

RATE = 250.0
FREQUENCY = np.array([6.0, 11.0, 21.0, 35.0])
DAMPING = np.array([0.985, 0.98, 0.96, 0.93])
DIRECTION = np.array([30.0, -100.0, 160.0, 75.0])
SPEED = np.array([150.0, 250.0, 300.0, 400.0])
SLOW = np.array([0.999, 0.995, 0.98])
AMPLITUDE = 10.0

SOMATA = """
import sys, time
import numpy as np
from somata.basic_models import AutoRegModel, OscillatorModel

source, target, iterations = sys.argv[1], sys.argv[2], int(sys.argv[3])
given = np.load(source)
rate = float(given["rate"])
model = OscillatorModel(freq=given["frequency"], a=given["damping"],
                        sigma2=1 - given["damping"] ** 2, Fs=rate)
for b in given["slow_damping"]:
    model = model.concat_(AutoRegModel(coeff=[float(b)], sigma2=1 - float(b) ** 2, Fs=rate))
model.G, model.R = given["loading"].copy(), np.diag(given["noise"])
y, likelihoods = given["data"].T, []
began = time.process_time()
for _ in range(iterations):
    found = model.dejong_filt_smooth(y=y, EM=True)
    likelihoods.append(float(found["logL"].sum()))
    model.m_estimate(y=y, **found)
np.savez(target, F=model.F, Q=model.Q, G=model.G, R=model.R, likelihoods=likelihoods,
         seconds=time.process_time() - began)
"""


@dataclass(frozen=True)
class LinearGaussian:
    """Exact predictions of a stationary linear Gaussian model, by textbook recursions.

    ``x_t = A x_{t-1} + w``, ``y_t = mean + C x_t + e``; steady gains, from the stationary mean on.

    Attributes
    ----------
    transition, drive : ndarray (state, state)
        A, and the covariance of w.
    loading : ndarray (electrode, state)
    noise : ndarray (electrode, electrode)
        Covariance of e.
    mean : ndarray (electrode,)
    """

    transition: np.ndarray
    drive: np.ndarray
    loading: np.ndarray
    noise: np.ndarray
    mean: np.ndarray

    def _filtered(self, data: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Filtered means (time, state) and the predictor's covariance."""
        loading, noise = self.loading[seen], self.noise[np.ix_(seen, seen)]
        ahead = solve_discrete_are(self.transition.T, loading.T, self.drive, noise)
        gain = np.linalg.solve(loading @ ahead @ loading.T + noise, loading @ ahead).T
        closed = (np.eye(len(ahead)) - gain @ loading) @ self.transition
        inputs = (data - self.mean)[:, seen] @ gain.T
        state, means = np.zeros(len(ahead)), np.empty((len(data), len(ahead)))
        for t, drive in enumerate(inputs):
            state = closed @ state + drive
            means[t] = state
        return means, ahead

    def fill(self, data: np.ndarray) -> np.ndarray:
        """Hidden electrodes (all NaN) given the others."""
        seen = np.isfinite(data).all(0)
        means, ahead = self._filtered(data.astype(float), seen)
        loading, noise = self.loading[seen], self.noise[np.ix_(seen, seen)]
        innovation = loading @ ahead @ loading.T + noise
        after = ahead - ahead @ loading.T @ np.linalg.solve(innovation, loading @ ahead)
        back = np.linalg.solve(ahead, self.transition @ after).T
        for t in range(len(means) - 2, -1, -1):
            means[t] += back @ (means[t + 1] - self.transition @ means[t])
        filled = self.mean + means @ self.loading.T
        rest = (data - filled)[:, seen]
        filled += rest @ np.linalg.solve(noise, self.noise[seen])
        return filled

    def forecast(self, data: np.ndarray, steps: Sequence[int]) -> np.ndarray:
        """Expectation of each sample given those ``step`` before it."""
        means, _ = self._filtered(data.astype(float), np.ones(data.shape[1], bool))
        found = np.full((len(steps), *data.shape), np.nan)
        for place, step in enumerate(steps):
            ahead = self.loading @ np.linalg.matrix_power(self.transition, step)
            found[place, step:] = self.mean + means[:-step] @ ahead.T
        return found

    def log_likelihood(self, data: np.ndarray, first: int) -> float:
        """One step ahead, from sample ``first`` on, nats per sample and channel."""
        _, ahead = self._filtered(data[:2].astype(float), np.ones(data.shape[1], bool))
        covariance = self.loading @ ahead @ self.loading.T + self.noise
        error = (data - self.forecast(data, [1])[0])[first:]
        energy = np.mean(np.sum(error * np.linalg.solve(covariance, error.T).T, 1))
        logarithm = np.linalg.slogdet(covariance)[1] + data.shape[1] * np.log(2 * np.pi)
        return -float(energy + logarithm) / (2 * data.shape[1])


def of_oscillators(model: Any, mean: np.ndarray) -> LinearGaussian:
    """Exact predictor of an ``Oscillators``."""
    states = model.loading.shape[1]
    space = model.state_space(np.zeros((states, states)))
    noise = model.noise if model.noise.ndim == 2 else np.diag(model.noise)
    return LinearGaussian(space.transition, space.noise, model.loading, noise, mean)


def positions() -> np.ndarray:
    """A 10 x 10 grid without corners, mm."""
    edge = (0, 9)
    sites = [(x, y) for y in range(10) for x in range(10) if not (x in edge and y in edge)]
    return 0.4 * np.array(sites, float)


def simulate(channels: int, seconds: float, seed: int) -> tuple[xr.DataTree, LinearGaussian]:
    """An array's field and the model that made it."""
    rng = generator(seed, "benchmark", "oscillator peers")
    place, samples = positions(), int(seconds * RATE)
    place = place[np.sort(rng.permutation(len(place))[:channels])]
    radian = np.deg2rad(DIRECTION)
    along = place @ np.stack([np.cos(radian), np.sin(radian)])
    c = AMPLITUDE * np.exp(-2j * np.pi * FREQUENCY / SPEED * along)
    slow = rng.normal(AMPLITUDE, AMPLITUDE / 2, (len(place), len(SLOW)))
    transition = np.zeros((2 * len(FREQUENCY) + len(SLOW),) * 2)
    course = []
    for k, (f, a) in enumerate(zip(FREQUENCY, DAMPING, strict=True)):
        turn = a * np.exp(2j * np.pi * f / RATE)
        noise = rng.normal(size=(samples, 2)) @ [1, 1j] * np.sqrt(1 - a**2)
        z = lfilter([1], [1, -turn], noise)
        course += [z.real, z.imag]
        pair = slice(2 * k, 2 * k + 2)
        transition[pair, pair] = [[turn.real, -turn.imag], [turn.imag, turn.real]]
    for j, b in enumerate(SLOW):
        drive = rng.normal(size=samples) * np.sqrt(1 - b**2)
        course.append(lfilter([1], [1, -b], drive))
        transition[-len(SLOW) + j, -len(SLOW) + j] = b
    loading = np.concatenate([np.stack([c.real, -c.imag], -1).reshape(len(c), -1), slow], 1)
    clean = np.array(course).T @ loading.T
    spread = clean.std(0)
    lfp = (clean + rng.normal(size=clean.shape) * spread).astype(np.float32)
    drive = np.eye(len(transition)) - transition @ transition.T
    truth = LinearGaussian(transition, drive, loading, np.diag(spread**2), np.zeros(len(c)))
    microvolt, clock = {"units": "microvolt"}, np.arange(samples) / RATE
    field = xr.Dataset(
        {"lfp": (("time", "electrode"), lfp, microvolt)},
        coords={"time": clock, "electrode": np.arange(len(place))}
        | {name: ("electrode", place[:, i]) for i, name in enumerate("xy")},
        attrs={"sampling_rate": RATE},
    )
    root = xr.Dataset(attrs={"session": "simulated array"})
    return xr.DataTree.from_dict({"/": root, "field": field}), truth


def seizure(folder: Path) -> xr.DataTree:
    """The recording ``utah_seizure.nwb``, with its layout."""
    from driftwave.config import load_layout
    from driftwave.ingest.nwb import open_nwb, read_recording

    layouts = Path(__file__).resolve().parents[1] / "config" / "layouts"
    with open_nwb(folder / "utah_seizure.nwb") as file:
        tree = read_recording(file, load_layout("utah_seizure", layouts), session="utah_seizure")
        return tree.load()


def somata(source: FieldSource, python: str, iterations: int, many: int) -> tuple[Any, Any]:
    """The model that somata learns, and CPU seconds."""
    data = training_data(source, 600.0)
    found = spectrum(data.train, source.rate, min(67.5, source.rate / 2.2))
    peaks = np.sort(spectral_peaks(found, (3.0, 45.0), 1.0)[:many])
    if not len(peaks):
        raise DriftwaveError("no spectral peak to start from")
    bounds = oscillators_bounds(source.rate)
    start = first_guess(found, peaks, slow=3, full=False, rate=source.rate, bounds=bounds)
    given = {
        "data": data.train.astype(float),
        "rate": source.rate,
        "frequency": peaks,
        "damping": start.damping,
        "slow_damping": start.slow_damping,
        "loading": start.loading,
        "noise": start.noise,
    }
    with tempfile.TemporaryDirectory() as folder:
        source_file, target = Path(folder, "given.npz"), Path(folder, "found.npz")
        np.savez(source_file, **given)
        command = [python, "-c", SOMATA, str(source_file), str(target), str(iterations)]
        subprocess.run(command, check=True)
        with np.load(target) as stored:
            answer = dict(stored)
    deviation = data.scale.deviation
    noise = answer["R"] * np.outer(deviation, deviation)
    loading = answer["G"] * deviation[:, None]
    model = LinearGaussian(answer["F"], answer["Q"], loading, noise, data.scale.mean)
    steps = np.diff(answer["likelihoods"]) / data.train.size
    print(
        f"somata: {len(peaks)} oscillators, {iterations} iterations, "
        f"{float(answer['seconds']) / iterations:.2f} CPU s each; the last one gained "
        f"{steps[-1] if len(steps) else np.nan:.1e} nats per sample and channel"
    )
    return model, float(answer["seconds"])


def oscillators_bounds(rate: float) -> Any:
    """Bounds of the starting guess: 3 to 45 Hz, at most 12 Hz wide."""
    from driftwave.inference.oscillator_start import Bounds

    low, high = (2 * np.pi * edge / rate for edge in (3.0, 45.0))
    return Bounds((low, high), float(np.exp(-np.pi * 12.0 / rate)))


def scores(recording: xr.DataTree, source: FieldSource, model: FieldPredictor) -> dict[str, float]:
    """R2 by name, of the test stretch."""
    rows = field_rows(recording, test_predictions(source, model), 0, resamples=200)
    found = {row["metric"]: row["value"] for row in rows}
    return found | {f"persistence {row['metric']}": row["null"] for row in rows}


def test_stretch(source: FieldSource) -> tuple[np.ndarray, int]:
    """The test stretch with its run-in, and where it begins."""
    start = split_samples(source.samples)[1]
    before = min(start, round(RUN_IN * source.rate))
    return read_stretch(source, start - before, source.samples), before


def likelihood(fitted: Any, data: np.ndarray, first: int) -> float:
    """Of the test stretch one step ahead, nats per sample and channel; NaN without a density."""
    fitted = getattr(fitted, "found", fitted)
    if isinstance(fitted, LinearGaussian):
        return fitted.log_likelihood(data, first)
    if hasattr(fitted, "taps") and len(fitted.taps) == 1:
        return of_oscillators(fitted.model, fitted.offset).log_likelihood(data, first)
    if not hasattr(fitted, "scale"):
        return np.nan
    shift = float(np.log(fitted.scale.deviation).mean())
    standard = fitted.scale.standardise(data)[first:]
    if isinstance(fitted, field_var.Fit):
        return -surprise(fitted.model, standard) - shift
    if isinstance(fitted, field_factor_analysis.Fit):
        parts = fitted.model.components, fitted.model.noise
        covariance = parts[0].T @ parts[0] + np.diag(parts[1])
        energy = np.mean(np.sum(standard * np.linalg.solve(covariance, standard.T).T, 1))
        size = len(covariance)
        whole = energy + np.linalg.slogdet(covariance)[1] + size * np.log(2 * np.pi)
        return -float(whole) / (2 * size) - shift
    return np.nan


def fits(
    recording: xr.DataTree, source: FieldSource, options: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], tuple[Any, float]]]]:
    """Name of each model and what fits it, with CPU seconds."""
    simulated = recording.attrs["session"] == "simulated array"

    def plugin(module: Any, params: Any) -> Callable[[], tuple[Any, float]]:
        def run() -> tuple[Any, float]:
            began = time.process_time()
            fitted = module.fit(
                recording, params, seed=0, device="cpu", progress=None, checkpoint=None
            )
            return fitted, time.process_time() - began

        return run

    if simulated:
        yield "oscillators", plugin(oscillators, oscillators.Params(background="factors"))
    else:
        yield "oscillators", plugin(oscillators, oscillators.Params())
        # The seizure's power is below 20 Hz; above it whitening divides by next to nothing.
        yield "oscillators, 1-20 Hz", plugin(oscillators, oscillators.Params(band=(1, 20)))
        yield "oscillators, factors", plugin(oscillators, oscillators.Params(background="factors"))
    yield "VAR", plugin(field_var, field_var.Params())
    yield "factor analysis", plugin(field_factor_analysis, field_factor_analysis.Params())
    yield "Hilbert + PCA", plugin(hilbert_pca, hilbert_pca.Params())
    if options.somata:
        iterations = options.somata_iterations
        yield "somata", lambda: somata(source, options.somata, iterations, len(FREQUENCY))


def compare(
    recording: xr.DataTree, truth: LinearGaussian | None, options: argparse.Namespace
) -> pd.DataFrame:
    """A row per model."""
    source = field_source(recording, RATE, "benchmark", passband=45.0)
    data, first = test_stretch(source)
    rows: dict[str, dict[str, float]] = {}
    for name, run in fits(recording, source, options):
        if options.only and name not in options.only:
            continue
        try:
            fitted, seconds = run()
        except DriftwaveError as error:
            print(f"{name}: refused, {error}", flush=True)
            continue
        rows[name] = scores(recording, source, fitted)
        rows[name] |= {"log-likelihood": likelihood(fitted, data, first), "CPU s": seconds}
        print(f"{name}: done", flush=True)
    if truth is not None:
        rows["true parameters"] = scores(recording, source, truth)
        rows["true parameters"]["log-likelihood"] = likelihood(truth, data, first)
    any_row = next(iter(rows.values()))
    mark = "persistence forecast"
    rows["persistence"] = {
        k.removeprefix("persistence "): v for k, v in any_row.items() if k.startswith(mark)
    }
    table = pd.DataFrame(rows).T
    wanted = [c for c in table.columns if not c.startswith("persistence") and "median" not in c]
    return table[wanted]


def main() -> None:
    """Run the benchmark and print a table for each recording."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=None, help="Names of models.")
    parser.add_argument("--somata", default=None, help="Python that has somata installed.")
    parser.add_argument("--somata-iterations", type=int, default=30)
    parser.add_argument("--recordings", type=Path, default=None, help="Folder of the recordings.")
    options = parser.parse_args()
    pd.set_option("display.width", 250, "display.max_columns", 30, "display.precision", 3)
    recording, truth = simulate(options.channels, 60 * options.minutes, options.seed)
    print(
        f"simulated: {options.channels} channels x {options.minutes:g} min x {RATE:g} Hz",
        flush=True,
    )
    print(compare(recording, truth, options).to_string())
    if options.recordings:
        recording = seizure(options.recordings)
        print(f"\nutah_seizure: {dict(recording['field'].sizes)}")
        print(compare(recording, None, options).to_string())


if __name__ == "__main__":
    main()
