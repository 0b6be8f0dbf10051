"""Oscillators seen through spikes: recovery, held-out units, and baselines on the same recordings.

    python benchmarks/oscillators_spikes.py [--seeds 10] [--baseline-seeds 3]
        [--recordings FOLDER]

Simulated: oscillators of 6 and 11 Hz drive 40 Poisson units (5 to 20 Hz, bins of 10 ms, 120 trials
of 1 s, 10 units held out, 100 ms forward) and 8 electrodes with noise of 2.5 times the signal. For
spikes alone, field alone and both: errors of frequency, damping and phases, and bits per spike of
the held-out units in test trials' seen bins, beside the true rates' and those of the baselines.
With ``--recordings``: head_direction.nwb and m1_reach.nwb by their shipped layouts; co-bps and
fp-bps of test trials.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.config import load_layout
from driftwave.inference.laplace import Loadings, fit_loadings
from driftwave.inference.oscillator_counts import CountsFit, CountsSettings, fit_counts
from driftwave.inference.oscillator_counts_em import Observed, em_iterations
from driftwave.inference.oscillator_counts_model import CountsModel
from driftwave.inference.oscillator_model import Bounds
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.scores.bits_per_spike import bits_per_spike

WIDTH = 0.01
FREQUENCY = np.array([6.0, 11.0])
DAMPING = np.array([0.97, 0.98])
TRIALS, BINS, FORWARD = 120, 100, 10
UNITS, HELD_OUT, ELECTRODES = 40, 10, 8
FIELD_NOISE = 2.5
PAUSE = 50  # bins between trials
BASELINES = {
    "poisson_lds": {},
    "gpfa": {},
    "factor_analysis": {},
}
REAL = {
    "head_direction": {"band": (0.05, 2.0), "slow_factors": 4, "max_bandwidth": 3.0},
    "m1_reach": {"band": (0.5, 8.0), "slow_factors": 4, "max_bandwidth": 6.0},
}


def simulate(seed: int) -> tuple[xr.DataTree, np.ndarray, np.ndarray, np.ndarray]:
    """Recording; complex loadings of units and electrodes; true rates (spikes/bin)."""
    rng = generator(seed, "benchmark", "oscillators_spikes")
    turn = DAMPING * np.exp(2j * np.pi * FREQUENCY * WIDTH)
    z = np.empty((TRIALS, BINS, 2), complex)
    for t in range(BINS):
        noise = rng.normal(size=(TRIALS, 2, 2)) @ [1, 1j]
        z[:, t] = noise if t == 0 else turn * z[:, t - 1] + np.sqrt(1 - DAMPING**2) * noise
    size = rng.uniform(0.2, 0.7, (2, UNITS))
    units = size * np.exp(1j * rng.uniform(-np.pi, np.pi, (2, UNITS)))
    rate = np.log(rng.uniform(5, 20, UNITS) * WIDTH) + (z @ units).real
    rate = np.exp(rate - (size**2).sum(0) / 2)
    lag = np.linspace(0, np.pi, ELECTRODES) * np.array([[1.0], [-0.7]])
    electrodes = 20 * np.exp(1j * lag)
    field = (z @ electrodes).real
    field += FIELD_NOISE * field.std() * rng.normal(size=field.shape)
    samples = np.zeros((TRIALS, BINS + PAUSE, ELECTRODES), np.float32)
    samples[:, :BINS] = field
    split = np.array(["train"] * TRIALS, dtype="<U6")
    order = rng.permutation(TRIALS)
    split[order[:24]], split[order[24:36]] = "test", "valid"
    coords = {"trial": np.arange(TRIALS), "time": np.arange(BINS) * WIDTH, "unit": np.arange(UNITS)}
    dims = ("trial", "time", "unit")
    start = np.arange(TRIALS) * (BINS + PAUSE) * WIDTH
    spikes = xr.Dataset(
        {"counts": (dims, rng.poisson(rate).astype(np.uint16)), "trial_start": ("trial", start)},
        coords,
        {"bin_width": WIDTH, "forward_bins": FORWARD, "contiguous": False},
    )
    held_out = np.arange(UNITS) >= UNITS - HELD_OUT
    clock = (np.arange(TRIALS * (BINS + PAUSE)) + 0.5) * WIDTH
    groups = {
        "/": xr.Dataset(attrs={"session": f"simulated {seed}", "bin_width": WIDTH}),
        "spikes": spikes,
        "units": xr.Dataset({"held_out": ("unit", held_out)}),
        "trials": xr.Dataset({"split": ("trial", split)}),
        "field": xr.Dataset(
            {"lfp": (("time", "electrode"), samples.reshape(-1, ELECTRODES))},
            {"time": clock, "electrode": np.arange(ELECTRODES)},
            {"sampling_rate": 1 / WIDTH},
        ),
    }
    return xr.DataTree.from_dict(groups), units, electrodes, rate


def scores(recording: xr.DataTree, rate: np.ndarray) -> tuple[float, float]:
    """co-bps and fp-bps of the test trials; rate in spikes/bin."""
    test = recording["trials/split"].values == "test"
    hidden = recording["units/held_out"].values
    counts = recording["spikes/counts"].values[test].astype(float)
    seen = counts.shape[1] - int(recording["spikes"].attrs["forward_bins"])
    co = bits_per_spike(rate[test][:, :seen, hidden], counts[:, :seen, hidden])
    return co, bits_per_spike(rate[test][:, seen:], counts[:, seen:])


def phase_error(found: np.ndarray, true: np.ndarray, least: float) -> float:
    """Root mean square, degrees, of channels above an amplitude, after one common rotation."""
    errors = []
    for c, t in zip(found, true, strict=True):
        turned = c * np.exp(1j * np.angle(np.vdot(c, t)))
        errors.append(np.rad2deg(np.angle(turned / t))[np.abs(t) > least])
    return float(np.sqrt(np.mean(np.square(np.concatenate(errors)))))


def field_alone(recording: xr.DataTree, fit: CountsFit) -> tuple[CountsModel, np.ndarray]:
    """EM on the field only, its units' loadings read out afterwards; rates (spikes/bin)."""
    from driftwave.inference.field_bins import field_in_bins

    bins = field_in_bins(recording, "benchmark")
    counts = recording["spikes/counts"].values.astype(np.float32)
    train = recording["trials/split"].values == "train"
    states = fit.model.states
    rng = generator(0, "benchmark", "start")
    model = CountsModel(
        angle=2 * np.pi * np.array([5.5, 11.5]) * WIDTH,
        damping=np.array([0.95, 0.95]),
        slow_damping=np.zeros(0),
        weights=np.zeros((0, states)),
        offset=np.zeros(0),
        field_weights=rng.normal(0, 0.3, (ELECTRODES, states)),
        field_noise=np.full(ELECTRODES, 0.8),
    )
    bounds = Bounds((2 * np.pi * 3 * WIDTH, 2 * np.pi * 45 * WIDTH), 0.7)
    none = np.zeros((int(train.sum()), BINS, 0))
    model, _ = em_iterations(Observed(none, bins.values[train]), model, 150, bounds, penalty=1.0)
    posterior = model.infer(none, np.zeros(0, int), field=bins.values[train])
    start = Loadings(np.zeros((UNITS, states)), np.log(counts[train].mean((0, 1))))
    loadings = fit_loadings(counts[train], posterior, start, penalty=1.0, steps=10)
    shown = bins.visible
    posterior = model.infer(
        np.zeros((*shown.shape[:2], 0)), np.zeros(0, int), field=shown, bins=BINS
    )
    return model, np.exp(loadings.log_rate(posterior.mean, posterior.covariance))


def recovery(seeds: int) -> None:
    """Table over seeds."""
    rows: dict[str, list[list[float]]] = {"spikes": [], "field": [], "both": [], "truth": []}
    peaks = {"spikes": 0, "both": 0}
    for seed in range(seeds):
        recording, units, electrodes, rate = simulate(seed)
        rows["truth"].append([*[np.nan] * 6, *scores(recording, rate), np.nan])
        for kind in ("spikes", "both", "field"):
            begin = time.process_time()
            if kind == "field":
                model, found = field_alone(recording, fit)
            else:
                settings = CountsSettings(slow_factors=0, observations=kind)
                fit = fit_counts(recording, settings, seed=seed)
                peaks[kind] += len(fit.frequency) == 2
                if len(fit.frequency) != 2:
                    continue
                model = fit.model
                found = fit.infer(recording)["rate"].values * WIDTH
            spent = time.process_time() - begin
            order = np.argsort(model.angle)
            error = model.angle[order] / (2 * np.pi * WIDTH) / FREQUENCY - 1
            maps = [np.nan, np.nan]
            if kind != "field":
                maps[0] = phase_error(model.complex_loadings(model.weights), units, 0.4)
            if kind != "spikes":
                c = model.complex_loadings(model.field_weights)[order]
                maps[1] = phase_error(c, electrodes, 1.0)
            rows[kind].append(
                [
                    *np.abs(error) * 100,
                    *model.damping[order] - DAMPING,
                    *maps,
                    *scores(recording, found),
                    spent,
                ]
            )
    print(f"two oscillators found at peaks: {peaks} of {seeds} seeds")
    print("observed  |f| error %   damping error     phase rms: unit, electrode   co-bps fp-bps  s")
    for kind, values in rows.items():
        mean = np.mean(values, axis=0)
        print(f"{kind:8s}", " ".join(f"{value:8.4f}" for value in mean), f"({len(values)} seeds)")


def baseline_rates(name: str, recording: xr.DataTree) -> np.ndarray:
    """Rates (spikes/bin) of a registered model with its default parameters."""
    module: Any = importlib.import_module(f"driftwave.models.{name}")
    fitted = module.fit(
        recording,
        module.Params(**BASELINES[name]),
        seed=0,
        device="cpu",
        progress=None,
        checkpoint=None,
    )
    width = float(recording["spikes"].attrs["bin_width"])
    return fitted.infer(recording)["rate"].values * width


def show(name: str, recording: xr.DataTree, rate: np.ndarray, begin: float, note: str = "") -> None:
    co, fp = scores(recording, rate)
    spent = time.process_time() - begin
    print(
        f"  {name:28s} co-bps {co:7.4f}  fp-bps {fp:7.4f}  {spent:6.1f} CPU-s  {note}", flush=True
    )


def baselines(seeds: int) -> None:
    """Baselines on the simulated recordings."""
    for seed in range(seeds):
        recording, *_ = simulate(seed)
        print(f"simulated, seed {seed}")
        for name in BASELINES:
            begin = time.process_time()
            show(name, recording, baseline_rates(name, recording), begin)


def real(folder: Path, only: list[str]) -> None:
    """Real recordings by their layouts."""
    layouts = Path(__file__).resolve().parents[1] / "config" / "layouts"
    for name, settings in REAL.items():
        with open_nwb(folder / f"{name}.nwb") as file:
            recording = read_recording(file, load_layout(name, layouts), session=name).compute()
        print(f"{name}: {recording['spikes/counts'].shape} counts")
        for wanted in ("select", 1, 2):
            if str(wanted) not in only:
                continue
            begin = time.process_time()
            fit = fit_counts(recording, CountsSettings(oscillators=wanted, **settings), seed=0)
            out = fit.infer(recording)
            width = float(recording["spikes"].attrs["bin_width"])
            note = f"{fit.frequency.round(2)} Hz, a {fit.model.damping.round(3)}"
            label = f"oscillators {wanted} ({len(fit.frequency)})"
            show(label, recording, out["rate"].values * width, begin, note)
        for baseline in BASELINES:
            if baseline in only:
                begin = time.process_time()
                show(baseline, recording, baseline_rates(baseline, recording), begin)


def main() -> None:
    """Run what is asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--baseline-seeds", type=int, default=3)
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--only", nargs="*", default=["select", *BASELINES])
    chosen = parser.parse_args()
    if chosen.seeds:
        recovery(chosen.seeds)
    baselines(chosen.baseline_seeds)
    if chosen.recordings:
        real(chosen.recordings, chosen.only)


if __name__ == "__main__":
    main()
