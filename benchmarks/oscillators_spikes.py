"""Oscillators seen through spikes: recovery, held-out units, and baselines on the same recordings.

    python benchmarks/oscillators_spikes.py [--seeds 10] [--baseline-seeds 3]
        [--recordings FOLDER] [--sessions head_direction m1_reach]
        [--only select 1 2 poisson_lds gpfa factor_analysis]

Simulated: oscillators of 6 and 11 Hz drive 40 Poisson units (5 to 20 Hz, bins of 10 ms, 120 trials
of 1 s, 10 units held out, 100 ms forward) and 8 electrodes with noise of 2.5 times the signal. For
spikes alone, field alone and both: errors of frequency, damping and phases, and bits per spike of
the held-out units in test trials' seen bins, beside the true rates' and those of the baselines.
With ``--recordings``: head_direction.nwb and m1_reach.nwb by their shipped layouts; co-bps and
fp-bps of test trials. ``--only`` names models; a number is that many oscillators.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.config import load_layout
from driftwave.inference.field_bins import field_in_bins
from driftwave.inference.laplace import Loadings, fit_loadings
from driftwave.inference.oscillator_counts import CountsSettings, fit_counts
from driftwave.inference.oscillator_counts_em import Observed, em_iterations
from driftwave.inference.oscillator_counts_model import CountsModel
from driftwave.inference.oscillator_model import Bounds
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.scores.bits_per_spike import bits_per_spike

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oscillator_cases import Planted, planted

WIDTH = 0.01
ELECTRODES = 8
BASELINES = ("poisson_lds", "gpfa", "factor_analysis")
REAL = {
    "head_direction": {"band": (0.05, 2.0), "slow_factors": 4, "max_bandwidth": 3.0},
    "m1_reach": {"band": (0.5, 8.0), "slow_factors": 4, "max_bandwidth": 6.0},
}


def simulate(seed: int) -> Planted:
    """120 trials of 1 s with 100 ms forward."""
    return planted(
        units=40, held_out=10, electrodes=ELECTRODES, field_noise=2.5, forward=10, seed=seed
    )


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


def field_alone(recording: xr.DataTree) -> tuple[CountsModel, np.ndarray]:
    """EM on the field only, its units' loadings read out afterwards; rates (spikes/bin)."""
    bins = field_in_bins(recording, "benchmark")
    counts = recording["spikes/counts"].values.astype(np.float32)
    trials, length, units = counts.shape
    train = recording["trials/split"].values == "train"
    rng = generator(0, "benchmark", "start")
    nobody = np.zeros(0, int)
    model = CountsModel(
        angle=2 * np.pi * np.array([5.5, 11.5]) * WIDTH,
        damping=np.array([0.95, 0.95]),
        slow_damping=np.zeros(0),
        weights=np.zeros((0, 4)),
        offset=np.zeros(0),
        field_weights=rng.normal(0, 0.3, (ELECTRODES, 4)),
        field_noise=np.full(ELECTRODES, 0.8),
    )
    bounds = Bounds((2 * np.pi * 3 * WIDTH, 2 * np.pi * 45 * WIDTH), 0.7)
    none = np.zeros((trials, length, 0))
    observed = Observed(none[train], bins.values[train])
    model, _ = em_iterations(observed, model, 100, bounds, penalty=1.0)
    posterior = model.infer(none[train], nobody, field=bins.values[train], refinements=0)
    start = Loadings(np.zeros((units, 4)), np.log(counts[train].mean((0, 1))))
    loadings = fit_loadings(counts[train], posterior, start, penalty=1.0, steps=10)
    seen = bins.visible.shape[1]
    posterior = model.infer(none[:, :seen], nobody, field=bins.visible, bins=length, refinements=0)
    return model, np.exp(loadings.log_rate(posterior.mean, posterior.covariance))


def one(kind: str, case: Planted, seed: int) -> list[float] | None:
    """Errors, scores and CPU seconds of one fit; None where it found other than two peaks."""
    begin = time.process_time()
    if kind == "field":
        model, rate = field_alone(case.recording)
    else:
        settings = CountsSettings(slow_factors=0, observations=kind)
        fit = fit_counts(case.recording, settings, seed=seed)
        if len(fit.frequency) != 2:
            return None
        model, rate = fit.model, fit.infer(case.recording)["rate"].values * WIDTH
    spent = time.process_time() - begin
    order = np.argsort(model.angle)
    error = model.angle[order] / (2 * np.pi * WIDTH) / case.frequency - 1
    maps = [np.nan, np.nan]
    if kind != "field":
        maps[0] = phase_error(model.complex_loadings(model.weights), case.unit_loading, 0.4)
    if kind != "spikes":
        c = model.complex_loadings(model.field_weights)[order]
        maps[1] = phase_error(c, case.field_loading, 1.0)
    damping = model.damping[order] - case.damping
    return [*np.abs(error) * 100, *damping, *maps, *scores(case.recording, rate), spent]


def recovery(seeds: int) -> None:
    """Table over seeds."""
    rows: dict[str, list[list[float]]] = {"spikes": [], "field": [], "both": [], "truth": []}
    for seed in range(seeds):
        case = simulate(seed)
        true = case.recording["truth/rate"].values * WIDTH
        rows["truth"].append([*[np.nan] * 6, *scores(case.recording, true), np.nan])
        for kind in ("spikes", "field", "both"):
            row = one(kind, case, seed)
            if row is not None:
                rows[kind].append(row)
    print("means over the seeds in which both peaks, and no other, were found")
    print("        |f| error %       damping error     phase rms, deg    co-bps   fp-bps    CPU-s")
    for kind, values in rows.items():
        mean = np.mean(values, axis=0)
        print(f"{kind:7s}", " ".join(f"{value:8.4f}" for value in mean), f"{len(values)}/{seeds}")


def baseline_rates(name: str, recording: xr.DataTree) -> np.ndarray:
    """Rates (spikes/bin) of a registered model with its default parameters."""
    module: Any = importlib.import_module(f"driftwave.models.{name}")
    fitted = module.fit(
        recording,
        module.Params(),
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
        recording = simulate(seed).recording
        print(f"simulated, seed {seed}")
        for name in BASELINES:
            begin = time.process_time()
            show(name, recording, baseline_rates(name, recording), begin)


def real(folder: Path, sessions: list[str], only: list[str]) -> None:
    """Real recordings by their layouts."""
    layouts = Path(__file__).resolve().parents[1] / "config" / "layouts"
    for name in sessions:
        settings = REAL[name]
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
    parser.add_argument("--sessions", nargs="*", default=list(REAL), choices=list(REAL))
    parser.add_argument("--only", nargs="*", default=["select", *BASELINES])
    chosen = parser.parse_args()
    if chosen.seeds:
        recovery(chosen.seeds)
    baselines(chosen.baseline_seeds)
    if chosen.recordings:
        real(chosen.recordings, chosen.sessions, chosen.only)


if __name__ == "__main__":
    main()
