"""Cost and accuracy of the oscillator model: 96 channels x 10 min x 250 Hz, 4 + 3 factors.

Prints CPU seconds of the whole fit with its standard errors, recovery errors, and the cost of one
filter-and-smoother pass beside that of a textbook Kalman filter and RTS smoother (one sample at a
time, in the space of the channels) on the same data. The textbook pass is timed on its first
samples and scaled up, its cost being proportional to time; its means are compared with ours there.
With ``--scaling`` also the cost of an iteration and of standard errors for half the time and half
the channels.

    python benchmarks/oscillators.py [--minutes 10] [--textbook-samples 4000] [--scaling]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import minimize
from scipy.signal import lfilter

from driftwave.compute import generator
from driftwave.inference.kalman import filter_gains, run_filter, run_smoother
from driftwave.inference.oscillator_em import maximise
from driftwave.inference.oscillator_errors import standard_errors
from driftwave.inference.oscillator_field_fit import fit_field as fit
from driftwave.inference.oscillator_likelihood import Observations, reduce_observations
from driftwave.inference.oscillator_model import Bounds, Oscillators
from driftwave.models.oscillators import Params

RATE = 250.0
FREQUENCY = np.array([6.0, 11.0, 21.0, 35.0])
DAMPING = np.array([0.985, 0.98, 0.96, 0.93])
DIRECTION = np.array([30.0, -100.0, 160.0, 75.0])
SPEED = np.array([150.0, 250.0, 300.0, 400.0])
SLOW = np.array([0.999, 0.995, 0.98])
AMPLITUDE = 10.0


def positions() -> np.ndarray:
    """A 10 x 10 grid without corners, mm."""
    edge = (0, 9)
    sites = [(x, y) for y in range(10) for x in range(10) if not (x in edge and y in edge)]
    return 0.4 * np.array(sites, float)


def simulate(seconds: float, seed: int) -> np.ndarray:
    """LFP (time, electrode) of the model itself, noise as strong as the signal on each channel."""
    rng = generator(seed, "benchmark", "oscillators")
    position, samples = positions(), int(seconds * RATE)
    lfp = np.zeros((samples, len(position)))
    for f, a, degrees, speed in zip(FREQUENCY, DAMPING, DIRECTION, SPEED, strict=True):
        direction = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
        loading = AMPLITUDE * np.exp(-2j * np.pi * f / speed * position @ direction)
        noise = rng.normal(size=(samples, 2)) @ [1, 1j] * np.sqrt(1 - a**2)
        z = lfilter([1], [1, -a * np.exp(2j * np.pi * f / RATE)], noise)
        lfp += (z[:, None] * loading).real
    for b in SLOW:
        s = lfilter([1], [1, -b], rng.normal(size=samples) * np.sqrt(1 - b**2))
        lfp += s[:, None] * rng.normal(AMPLITUDE, AMPLITUDE / 2, len(position))
    lfp += rng.normal(size=lfp.shape) * lfp.std(0)
    return lfp.astype(np.float32)


def as_recording(lfp: np.ndarray) -> xr.DataTree:
    """The LFP as a recording."""
    x, y = positions().T
    field = xr.Dataset(
        {"lfp": (("time", "electrode"), lfp)},
        coords={"time": np.arange(len(lfp)) / RATE, "electrode": np.arange(len(x))}
        | {"x": ("electrode", x), "y": ("electrode", y)},
        attrs={"sampling_rate": RATE},
    )
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"session": "benchmark"}), "field": field})


def plane(phase: np.ndarray, weight: np.ndarray, frequency: float) -> tuple[float, float]:
    """Direction (degrees) and speed (mm/s) of a loading, by a weighted plane fit."""
    position = positions()

    def misfit(k: np.ndarray) -> float:
        return -abs(np.sum(weight * np.exp(1j * (phase + position @ k)))) / weight.sum()

    starts = [np.array([i, j]) for i in np.linspace(-2, 2, 41) for j in np.linspace(-2, 2, 41)]
    options = {"xatol": 1e-7, "fatol": 1e-12}
    k = minimize(misfit, min(starts, key=misfit), method="Nelder-Mead", options=options).x
    return float(np.degrees(np.arctan2(k[1], k[0]))), float(2 * np.pi * frequency / np.hypot(*k))


def textbook(data: np.ndarray, model: Oscillators) -> np.ndarray:
    """Smoothed means (time, state) by the textbook recursions with all N channels."""
    loading = model.loading
    space = model.state_space(loading.T @ model.weights())
    transition, identity = space.transition, np.eye(len(space.transition))
    noise = np.diag(model.noise)
    mean, covariance = np.zeros(len(transition)), space.initial
    means, covariances, aheads, ahead_covariances = [], [], [], []
    for y in data:
        aheads.append(mean)
        ahead_covariances.append(covariance)
        innovation = loading @ covariance @ loading.T + noise
        gain = np.linalg.solve(innovation, loading @ covariance).T
        means.append(mean + gain @ (y - loading @ mean))
        covariances.append((identity - gain @ loading) @ covariance)
        mean = transition @ means[-1]
        covariance = transition @ covariances[-1] @ transition.T + space.noise
    smooth = np.array(means)
    for t in range(len(data) - 2, -1, -1):
        gain = np.linalg.solve(ahead_covariances[t + 1], transition @ covariances[t]).T
        smooth[t] = means[t] + gain @ (smooth[t + 1] - aheads[t + 1])
    return smooth


def ours(data: np.ndarray, model: Oscillators) -> np.ndarray:
    """Smoothed means (time, state)."""
    space = model.state_space(model.loading.T @ model.weights())
    gains = filter_gains(space, len(data))
    filtered = run_filter(reduce_observations(data, model.weights()), space, gains)
    return run_smoother(filtered.mean, space, gains).mean


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """A call's result and its CPU seconds."""
    began = time.process_time()
    return work(*arguments), time.process_time() - began


def scaling(lfp: np.ndarray, model: Oscillators) -> None:
    """Print the CPU seconds of one EM iteration, by length and number of channels.

    Halves only: with fewer samples or channels the cost of the calls themselves shows.
    """
    bounds = Bounds((0.05, 1.2), 0.8)
    print("\nsamples  channels  CPU s an EM iteration  ratio  CPU s of standard errors")
    whole = None
    for part, every in ((1, 1), (2, 1), (1, 2), (2, 2)):
        data = np.ascontiguousarray(lfp[: len(lfp) // part, ::every])
        smaller = replace(model, loading=model.loading[::every], noise=model.noise[::every])
        observations = Observations(data, len(data) - 1)
        maximise(smaller, observations.moments(smaller), bounds)
        work = [
            timed(lambda o=observations, m=smaller: maximise(m, o.moments(m), bounds))[1]
            for _ in range(9)
        ]
        spent = float(np.median(work))
        whole = whole or spent
        _, errors = timed(
            standard_errors, smaller, np.array([len(data)]), np.ones((1, data.shape[1]), bool)
        )
        print(
            f"{len(data):7d}  {data.shape[1]:8d}  {spent:21.3f}  {whole / spent:5.2f}  {errors:.2f}"
        )


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--textbook-samples", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scaling", action="store_true")
    options = parser.parse_args()
    lfp = simulate(60 * options.minutes, options.seed)
    recording = as_recording(lfp)
    params = Params(background="factors")
    fitted, seconds = timed(lambda: fit(recording, params, seed=0))
    model: Oscillators = fitted.model
    epochs = len(fitted.curves["train_loss"])
    print(f"{lfp.shape[1]} channels x {options.minutes:g} min x {RATE:g} Hz, 4 + 3 factors")
    print(
        f"fit with standard errors: {seconds:.1f} CPU s, {epochs} EM iterations, "
        f"{fitted.facts['gradient_steps']} gradient steps"
    )
    found = model.angle * RATE / (2 * np.pi)
    deviation = fitted.errors.angle * RATE / (2 * np.pi)
    print("\nfrequency (Hz)               damping         direction error (degrees)  speed (mm/s)")
    for k, (f, a) in enumerate(zip(found, model.damping, strict=True)):
        c = model.complex_loading[k]
        direction, speed = plane(np.angle(c), np.abs(c) ** 2, f)
        error = (direction - DIRECTION[k] + 180) % 360 - 180
        print(
            f"{f:7.3f} +- {deviation[k]:.3f} (true {FREQUENCY[k]:4.1f})  {a:.4f} ({DAMPING[k]:.3f})"
            f"  {error:+8.2f}                   {speed:7.1f} ({SPEED[k]:.0f})"
        )
    data = (lfp - fitted.offset).astype(np.float32)
    smooth, mine = timed(ours, data, model)
    few = min(options.textbook_samples, len(data))
    peer, part = timed(textbook, data[:few].astype(float), model)
    dense = part * len(data) / few
    apart = np.abs(peer[: few - 1000] - smooth[: few - 1000]).max()
    print(f"\nsmoother: textbook {dense:.1f} CPU s (scaled from {few} samples), ours {mine:.2f} s")
    print(f"ratio {dense / mine:.0f}; largest difference of the means {apart:.1e}")
    if options.scaling:
        scaling(data, model)


if __name__ == "__main__":
    main()
