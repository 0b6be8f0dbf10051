"""Wave-RNN against its twins on travelling pulses: cost, training, prediction, and surrogates.

Usage: python benchmarks/wave_rnn.py {speed,training,surrogates} [--seeds 3]

``speed``: the fused recursions against a loop over bins under autograd, in the same run. One
thread, CPU milliseconds for forward and backward pass.

``training``: simulated pulses on a ring of 48 units at three speeds, 20 ms bins, .6 s seen and .4 s
forecast. The same learning rate, batches and steps for all networks; `identity` has as many
weights as `wave` (its width is chosen for that), `still` has the very same ones. Steps and CPU
seconds to a stated validation loss: 90 % of the way from the largest loss after the first epoch to
the best loss of any network on these data. Forecasts are expected bits per spike given the true
rates, in the 50 ms that end at each horizon; the truth's own are the ceiling.

``surrogates``: twins of the data in which every unit's course is shifted by itself in every trial.
Networks are fitted to them and tested for a wave as any recording is; the rate of p <= .05. A
fifth as many recordings with pulses beside them.

Medians over seeds, with the range in brackets.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

from driftwave import registry
from driftwave.compute import blas_threads
from driftwave.config import load_layout
from driftwave.inference.data import spike_arrays
from driftwave.inference.ring_dynamics import dense_scan, ring_matrix, ring_scan
from driftwave.inference.spike_network import input_law, log_mean_count, sizes_of
from driftwave.ingest.file import open_nwb
from driftwave.ingest.nwb import read_recording
from driftwave.ingest.simulate import travelling_pulses
from driftwave.latent_waves.ring_pulses import analyse_rings
from driftwave.models import wave_rnn
from driftwave.recording import trial_mask
from driftwave.scores.bits_per_spike import expected_bits_per_spike

LAYOUTS = Path(__file__).resolve().parents[1] / "config" / "layouts"
BIN, FORWARD = 0.02, 0.4
HORIZONS = (0.05, 0.1, 0.2, 0.4)
SPEEDS = (16.0, 48.0, 96.0)
STEPS = 300


def pulses(seed: int, **params: Any) -> xr.DataTree:
    """A simulated recording of pulses, ingested."""
    layout = load_layout("travelling_pulses", LAYOUTS)
    layout = layout.model_copy(update={"forward": FORWARD, "bin_width": BIN})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pulses.nwb"
        wanted = travelling_pulses.Params(bin_width=BIN, **params)
        travelling_pulses.simulate(file, wanted, seed=seed)
        with open_nwb(file) as nwb:
            return read_recording(nwb, layout, session=f"pulses_{seed}").load()


def weights_of(params: wave_rnn.Params, recording: xr.DataTree) -> int:
    """Number of weights of a network."""
    arrays = spike_arrays(recording, "benchmark")
    law = log_mean_count(arrays), input_law(arrays)
    network = wave_rnn.Fit.build(params, sizes_of(arrays), *law)
    return sum(weight.numel() for weight in network.parameters())


def networks(recording: xr.DataTree) -> dict[str, wave_rnn.Params]:
    """The network and its twins, of equal numbers of weights."""
    wave = wave_rnn.Params(steps=STEPS)
    goal = weights_of(wave, recording)

    def dense(width: int) -> wave_rnn.Params:
        return wave_rnn.Params(recurrence="identity", channels=1, sites=width, steps=STEPS)

    width = min(range(16, 128), key=lambda w: abs(weights_of(dense(w), recording) - goal))
    still = wave_rnn.Params(recurrence="still", steps=STEPS)
    return {"wave": wave, "identity": dense(width), "still": still}


def fitted(name: str, params: Any, recording: xr.DataTree, seed: int) -> tuple[Any, float]:
    """A fit and its CPU seconds."""
    start = time.process_time()
    options = {"seed": seed, "device": "cpu", "progress": None, "checkpoint": None}
    fit = registry.load("models", name).fit(recording, params, **options)
    return fit, time.process_time() - start


def scores(recording: xr.DataTree, rate: np.ndarray) -> dict[str, float]:
    """Expected bits per spike of test trials: held-out units, and forecasts by horizon."""
    test = trial_mask(recording, "test")
    truth, rate = recording["truth/rate"].values[test] * BIN, rate[test] * BIN
    hidden = recording["units/held_out"].values
    seen = rate.shape[1] - round(FORWARD / BIN)
    found = {"co-bps": expected_bits_per_spike(rate[:, :seen, hidden], truth[:, :seen, hidden])}
    for horizon in HORIZONS:
        first, last = (seen + round(t / BIN) for t in (horizon - 0.05, horizon))
        part = slice(first, max(last, first + 1))
        name = f"fp {1000 * horizon:.0f} ms"
        found[name] = expected_bits_per_spike(rate[:, part], truth[:, part])
    return found


def spread(values: list[float], form: str) -> str:
    """Median and range."""
    low, high = (format(x, form) for x in (min(values), max(values)))
    return f"{statistics.median(values):{form}} [{low}, {high}]"


def steps_to(history: Any, loss: float) -> float:
    """Optimiser steps to a validation loss; infinite where it was not reached."""
    there = np.flatnonzero(np.array(history.valid_loss) <= loss)
    return float("inf") if not len(there) else STEPS * (there[0] + 1) / len(history.valid_loss)


def training(seeds: int) -> None:
    """Tables of training and prediction."""
    for speed in SPEEDS:
        rows: dict[str, list[dict[str, float]]] = {}
        for seed in range(seeds):
            recording = pulses(seed, speed=speed)
            for name, row in _one_recording(recording, seed).items():
                rows.setdefault(name, []).append(row)
        print(f"\n{speed:g} mm/s, {19.2 / speed / BIN:.0f} bins per turn, {seeds} seeds")
        for name, found in rows.items():
            line = [f"{key} {spread([r[key] for r in found], _form(key))}" for key in found[0]]
            print(f"  {name:12s} " + "; ".join(line), flush=True)


def _form(key: str) -> str:
    return {"steps": ".0f", "CPU s": ".1f", "weights": ".0f", "loss": ".4f"}.get(key, ".3f")


def _one_recording(recording: xr.DataTree, seed: int) -> dict[str, dict[str, float]]:
    chosen = networks(recording)
    fits = {n: fitted("wave_rnn", params, recording, seed) for n, params in chosen.items()}
    histories = [fit.history for fit, _ in fits.values()]
    first = max(h.valid_loss[0] for h in histories)
    stated = first - 0.9 * (first - min(h.best for h in histories))
    rows = {}
    for name, (fit, seconds) in fits.items():
        steps = steps_to(fit.history, stated)
        cost = {"steps": steps, "CPU s": seconds * steps / STEPS, "loss": fit.history.best}
        rate = fit.infer(recording)["rate"].values
        weights = {"weights": float(weights_of(chosen[name], recording))}
        rows[name] = cost | scores(recording, rate) | weights
    for name, extra in (("langevinflow", {"steps": STEPS}), ("smoothing", {})):
        params = registry.load("models", name).Params(**extra)
        fit, _ = fitted(name, params, recording, seed)
        rows[name] = scores(recording, fit.infer(recording)["rate"].values)
    return rows | {"truth": scores(recording, recording["truth/rate"].values)}


def surrogates(seeds: int) -> None:
    """Rate of recordings credited with a wave, real pulses and their twins."""
    for null, count in (("none", -(-seeds // 5)), ("shifted", seeds)):
        p: dict[str, list[np.ndarray]] = {}
        sizes: dict[str, list[np.ndarray]] = {}
        for seed in range(count):
            recording = pulses(100 + seed, speed=48.0, null=null)
            for name, params in networks(recording).items():
                if name == "still":
                    continue
                quick = params.model_copy(update={"steps": STEPS // 3, "samples": 8})
                fit, _ = fitted("wave_rnn", quick, recording, seed)
                found = analyse_rings(recording, fit.infer(recording), surrogates=19, seed=seed)
                p.setdefault(name, []).append(found["p"].values)
                sizes.setdefault(name, []).append(found["directionality"].values)
        print(f"\nnull: {null}, {count} recordings")
        for name in p:
            rate, size = np.mean(np.array(p[name]) <= 0.05, 0), np.median(sizes[name], 0)
            for at, source in enumerate(("activity", "spikes")):
                print(
                    f"  {name:9s} {source:9s} p <= .05 in {rate[at]:.2f}; D {size[at]:.2f}",
                    flush=True,
                )


def plain_ring(start: Tensor, drive: Tensor, kernel: Tensor, bias: Tensor, sites: int) -> Tensor:
    """The ring recursion bin by bin under autograd, as one would write it at first."""
    state, out = start.unflatten(-1, (len(kernel), sites)), []
    for now in drive.unflatten(-1, (len(kernel), sites)).unbind(1):
        padded = functional.pad(state, (1, 1), mode="circular")
        state = (functional.conv1d(padded, kernel, bias) + now).relu()
        out.append(state.flatten(1))
    return torch.stack(out, 1)


def plain_dense(start: Tensor, drive: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The dense recursion bin by bin under autograd."""
    out = []
    for now in drive.unbind(1):
        start = (functional.linear(start, weight, bias) + now).relu()
        out.append(start)
    return torch.stack(out, 1)


def cost(function: Callable[..., Tensor], parts: list[Tensor], *rest: int) -> float:
    """CPU milliseconds of a forward and a backward pass, the median of 5."""
    function(*parts, *rest).sum().backward()
    spent = []
    for _ in range(5):
        start = time.process_time()
        function(*parts, *rest).sum().backward()
        spent.append(1e3 * (time.process_time() - start))
    return statistics.median(spent)


def speed(_: int) -> None:
    """Table of the recursions' cost."""
    for rings, sites, trials, bins in ((2, 48, 32, 50), (4, 48, 32, 100), (1, 96, 64, 200)):
        torch.manual_seed(0)
        width = rings * sites
        shapes = [(trials, width), (trials, bins, width), (rings, rings, 3), (rings,)]
        parts = [(0.2 * torch.randn(s)).requires_grad_() for s in shapes]
        plain, fused = cost(plain_ring, parts, sites), cost(ring_scan, parts, sites)
        label = f"{rings} x {sites} sites, {bins} bins, {trials} trials"
        print(f"{label}: loop {plain:.1f} ms, fused {fused:.1f} ms, {plain / fused:.1f} times")
        weight = ring_matrix(parts[2].detach(), sites).requires_grad_()
        dense = [*parts[:2], weight, torch.zeros(width, requires_grad=True)]
        plain, fused = cost(plain_dense, dense), cost(dense_scan, dense)
        print(f"{'':9s}dense: loop {plain:.1f} ms, fused {fused:.1f} ms, {plain / fused:.1f} times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=["speed", "training", "surrogates"])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    suites = {"speed": speed, "training": training, "surrogates": surrogates}
    with blas_threads(1):
        suites[given.suite](given.seeds)
