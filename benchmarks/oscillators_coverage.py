"""Coverage of the oscillators' 95 % intervals on the model's own data.

Each seed draws two oscillators seen by eight channels (100 Hz), fits them to the first 70 % and
asks whether estimate +- 1.96 standard errors holds the truth. With ``--missing`` a quarter of every
channel is missing, in stretches of 2 s.

    python benchmarks/oscillators_coverage.py [--seeds 60] [--seconds 90] [--missing]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import xarray as xr
from scipy.signal import lfilter

from driftwave.compute import generator
from driftwave.inference.oscillator_field_fit import FieldFit as Fit
from driftwave.inference.oscillator_field_fit import fit_field as fit
from driftwave.inference.oscillator_model import Oscillators, fix_gauge
from driftwave.models.oscillators import Params

RATE = 100.0
FREQUENCY = np.array([7.0, 18.0])
DAMPING = np.array([0.96, 0.93])
CHANNELS = 8
NOISE = 10.0  # microvolt
GAP = 2.0  # s


def truth() -> Oscillators:
    """Two plane waves over a row of electrodes, microvolt, in the model's gauge."""
    place = np.arange(CHANNELS)
    amplitude = np.stack([8 + 2 * np.cos(place), 7 + 3 * np.sin(place / 2)])
    phase = np.stack([0.2 * place, -0.3 * place + 0.02 * place**2])
    columns = []
    for size, angle in zip(amplitude, phase, strict=True):
        columns += [size * np.cos(angle), -size * np.sin(angle)]
    angle = 2 * np.pi * FREQUENCY / RATE
    noise = np.full(CHANNELS, NOISE**2)
    return fix_gauge(Oscillators(angle, DAMPING, np.empty(0), np.stack(columns, 1), noise))


def simulate(model: Oscillators, seconds: float, seed: int, missing: bool) -> np.ndarray:
    """LFP (time, electrode), microvolt; NaN where missing."""
    rng = generator(seed, "benchmark", "coverage")
    samples = round(seconds * RATE)
    lfp = np.sqrt(model.noise) * rng.normal(size=(samples, CHANNELS))
    for c, a, w in zip(model.complex_loading, model.damping, model.angle, strict=True):
        kick = rng.normal(size=(2, samples)) * np.sqrt(1 - a**2)
        kick[:, 0] /= np.sqrt(1 - a**2)
        z = lfilter([1], [1, -a * np.exp(1j * w)], kick[0] + 1j * kick[1])
        lfp += (z[:, None] * c).real
    if missing:
        gap = round(GAP * RATE)
        for channel in range(CHANNELS):
            for start in range(gap * (channel % 4), samples, 4 * gap):
                lfp[start : start + gap, channel] = np.nan
    return lfp.astype(np.float32)


def as_recording(lfp: np.ndarray) -> xr.DataTree:
    """The LFP as a recording."""
    field = xr.Dataset(
        {"lfp": (("time", "electrode"), lfp)},
        coords={"time": np.arange(len(lfp)) / RATE, "electrode": np.arange(lfp.shape[1])},
        attrs={"sampling_rate": RATE},
    )
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"session": "coverage"}), "field": field})


def scores(found: Fit, model: Oscillators) -> dict[str, np.ndarray]:
    """(estimate - truth) / standard error by parameter."""
    errors = found.errors
    loading = (found.model.loading - model.loading) / errors.loading
    out = {
        "frequency": (found.model.angle - model.angle) / errors.angle,
        "damping": (found.model.damping - model.damping) / errors.damping,
    }
    for k in range(len(model.angle)):
        out[f"Re c, oscillator {k + 1}"] = loading[:, 2 * k]
        out[f"Im c, oscillator {k + 1}"] = loading[:, 2 * k + 1]
    return out


def run(seeds: int, seconds: float, missing: bool) -> dict[str, np.ndarray]:
    """Scores (seed, value) by parameter."""
    model = truth()
    params = Params(
        oscillators=2, background="factors", slow_factors=0, rate=RATE, band=(3.0, 40.0)
    )
    collected: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        recording = as_recording(simulate(model, seconds, seed, missing))
        for name, values in scores(fit(recording, params, seed=0), model).items():
            collected.setdefault(name, []).append(values)
    return {name: np.array(values) for name, values in collected.items()}


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--missing", action="store_true")
    options = parser.parse_args()
    began = time.process_time()
    collected = run(options.seeds, options.seconds, options.missing)
    spent = time.process_time() - began
    print(f"{options.seeds} seeds, {CHANNELS} channels, {options.seconds:g} s at {RATE:g} Hz")
    print(f"{spent / options.seeds:.2f} CPU s a fit\n")
    print(f"{'parameter':<22}{'coverage':>9}{'lowest':>8}{'mean z':>8}{'sd z':>7}{'NaN':>5}")
    everything = []
    for name, z in collected.items():
        held = np.abs(z) < 1.96
        everything.append(held.ravel())
        print(
            f"{name:<22}{held.mean():9.3f}{held.mean(0).min():8.3f}"
            f"{np.nanmean(z):8.2f}{np.nanstd(z):7.2f}{int(np.isnan(z).sum()):5d}"
        )
    print(f"{'all':<22}{np.concatenate(everything).mean():9.3f}")


if __name__ == "__main__":
    main()
