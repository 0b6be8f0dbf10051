"""Coupled oscillators: recovery of planted waves, ablations, seeds, and what surrogates yield.

    python benchmarks/coupled_oscillators.py SUITE [--seeds 3] [--cases ...] [--out rows.jsonl]

Suites: ``recovery`` (twisted rings, lattices with a lag, spirals), ``ablations`` (one part of the
model taken away), ``others`` (other models and the ceiling of the true rates), ``agreement`` (two
fits of one recording), ``nothing`` (recordings without lags, or without common time), ``table``
(prints the rows that ``--out`` of earlier runs holds). Recordings come from the simulators, 100
trials of 1 s, 60 units of 5 to 20 Hz, bins of 10 ms; a quarter of the units is held out and the
last 0.2 s is forecast. Scores are of the test trials.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from driftwave import registry
from driftwave.compute import Clock, blas_threads, generator
from driftwave.config import load_layout
from driftwave.inference.coupled_setup import lattice_of
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.ingest.simulate._sites import Sites, advance, charges, plaquettes
from driftwave.recording import forward_bins, held_out_units, trial_mask
from driftwave.scores.bits_per_spike import bits_per_spike

LAYOUTS = Path(__file__).resolve().parents[1] / "config" / "layouts"
NAME = "coupled_oscillators"
SEEN = {"trials": 100, "units": 60}
RING: dict[str, Any] = {**SEEN, "topology": "ring", "sites": 24, "radius": 1.5, "frequency": 6.0}
SQUARE: dict[str, Any] = {
    **SEEN,
    "topology": "lattice",
    "rows": 6,
    "columns": 6,
    "frequency": 6.0,
}
DISC: dict[str, Any] = {**SEEN, "topology": "disc", "radius": 1.4, "frequency": 6.0}

WAYS = (("+", 0.6), ("-", -0.6))

# name: simulator, its parameters, the model's
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    **{
        f"ring q={q:+d}": ("kuramoto", {**RING, "lag": 0.0, "winding": q}, {"sites": 24})
        for q in (1, -1, 2, -2)
    },
    "ring both ways": (
        "kuramoto",
        {**RING, "lag": 0.0, "winding": 1, "both_ways": True},
        {"sites": 24},
    ),
    **{
        f"ring lag {way}": (
            "kuramoto",
            {**RING, "start": "random", "lag": lag},
            {"sites": 24},
        )
        for way, lag in WAYS
    },
    **{
        f"lattice lag {way}": (
            "stuart_landau",
            {**SQUARE, "start": "random", "lag": lag},
            {"sites": 36},
        )
        for way, lag in WAYS
    },
    **{
        f"lattice growing {way}": (
            "stuart_landau",
            {**SQUARE, "start": "random", "start_amplitude": 0.01, "lag": lag},
            {"sites": 36},
        )
        for way, lag in WAYS
    },
    **{
        f"spiral {sign:+d}": (
            "kuramoto",
            {**DISC, "start": "spiral", "lag": 0.0, "frustration": 0.4, "winding": sign},
            {"sites": 49},
        )
        for sign in (1, -1)
    },
    "synchronous": (
        "kuramoto",
        {**RING, "lag": 0.0, "start": "synchronous", "winding": 0},
        {"sites": 24},
    ),
    "zero-lag ring": (
        "kuramoto",
        {**RING, "lag": 0.6, "winding": 2, "null": "zero_lag"},
        {"sites": 24},
    ),
    "zero-lag lattice": (
        "stuart_landau",
        {**SQUARE, "start": "random", "lag": 0.6, "null": "zero_lag"},
        {"sites": 36},
    ),
}
NOTHING = ("synchronous", "zero-lag ring", "zero-lag lattice")
RECOVERY = tuple(name for name in CASES if name not in NOTHING)
SHIFTED = ("ring q=+1", "lattice lag +")
ABLATED = ("ring lag +", "lattice lag +", "spiral +1")
ABLATIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no coupling": {"coupling": "none"},
    "shuffled adjacency": {"adjacency": "shuffled"},
    "real coupling": {"coupling": "real"},
    "dense readout": {"readout": "dense"},
    "start only (u = 0)": {"innovations": False},
    "2 inputs, no innovations": {"innovations": False, "inputs": 2},
    "kuramoto": {"variant": "kuramoto"},
    "second order": {"variant": "second_order"},
}
OTHERS: dict[str, dict[str, Any]] = {
    "poisson_lds": {},
    "gpfa": {},
    "langevinflow": {},
    "oscillators": {"observations": "spikes"},
    "lfads": {},
}


@cache
def recording_of(case: str, seed: int) -> xr.DataTree:
    """The simulated recording of a case, as the layout reads it."""
    simulator, given, _ = CASES[case]
    module = registry.load("simulators", simulator)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simulated.nwb"
        module.simulate(path, module.Params(**given), seed=seed)
        layout = load_layout(simulator, LAYOUTS)
        with open_nwb(path) as file:
            return read_recording(file, layout, session=f"{case} {seed}").load()


def shuffled_in_time(recording: xr.DataTree, seed: int) -> xr.DataTree:
    """Every unit's bins in each trial shifted by themselves: no unit keeps its relation."""
    copy = recording.copy(deep=True)
    counts = copy["spikes/counts"].values
    trials, bins, units = counts.shape
    shift = generator(seed, "shifted units").integers(0, bins, (trials, 1, units))
    index = (np.arange(bins)[None, :, None] + shift) % bins
    copy["spikes/counts"][:] = np.take_along_axis(counts, index, 1)
    return copy


def fitted(recording: xr.DataTree, model: str, given: dict[str, Any], seed: int) -> dict[str, Any]:
    """A fit, what it infers, and what it cost."""
    module, clock = registry.load("models", model), Clock.start()
    fit = module.fit(
        recording,
        module.Params(**given),
        seed=seed,
        device="cpu",
        progress=None,
        checkpoint=None,
    )
    cost = clock.cpu_seconds
    return {"fit": fit, "found": fit.infer(recording), "cpu": round(cost, 1)}


def scores(recording: xr.DataTree, rates: np.ndarray) -> dict[str, float]:
    """Held-out units in seen bins (co-bps), and all units in forward bins (fp-bps) by lead."""
    width = float(recording["spikes"].attrs["bin_width"])
    test, hidden = trial_mask(recording, "test"), held_out_units(recording)
    counts = recording["spikes/counts"].values[test].astype(float)
    rates, seen = rates[test] * width, counts.shape[1] - forward_bins(recording)
    row = {
        "co_bps": bits_per_spike(rates[:, :seen, hidden], counts[:, :seen, hidden]),
        "fp_bps": bits_per_spike(rates[:, seen:], counts[:, seen:]),
    }
    for low, high in ((0, 50), (50, 100), (100, 200)):
        part = slice(seen + round(low / 1e3 / width), seen + round(high / 1e3 / width))
        row[f"fp_bps {low}-{high} ms"] = bits_per_spike(rates[:, part], counts[:, part])
    return row


def decoded(recording: xr.DataTree, found: xr.Dataset) -> np.ndarray:
    """Field (trial, time, site) of the first band, of the test trials' seen bins."""
    test, seen = trial_mask(recording, "test"), -forward_bins(recording) or None
    field = found["decoded_re"].values + 1j * found["decoded_im"].values
    return field[test][:, :seen, 0]


def true_field(recording: xr.DataTree, found: xr.Dataset) -> np.ndarray:
    """The true field at the sites nearest to the model's, of the same trials and bins."""
    truth = recording["truth"].to_dataset()
    test, seen = trial_mask(recording, "test"), -forward_bins(recording) or None
    field = truth["site_re"].values + 1j * truth["site_im"].values
    here = np.stack([found["site_x"].values, found["site_y"].values], -1)
    there = np.stack([truth["site_x"].values, truth["site_y"].values], -1)
    nearest = np.linalg.norm(here[:, None] - there[None], axis=-1).argmin(1)
    return field[test][:, :seen][:, :, nearest]


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Modulus of the correlation of two complex fields: blind to a common phase and scale."""
    cross = np.vdot(one, other)
    return float(np.abs(cross) / (np.linalg.norm(one) * np.linalg.norm(other)))


def mean_frequency(field: np.ndarray, width: float) -> float:
    """Mean frequency of a field (trial, time, site), Hz, weighted by power."""
    step = (field[:, 1:] * field[:, :-1].conj()).sum((0, 1, 2))
    return float(np.angle(step) / (2 * np.pi * width))


def on_sites(fit: Any) -> Sites:
    """The model's lattice as the simulators' sites, in its own, unshuffled order."""
    lattice = lattice_of(fit.params.model_copy(update={"adjacency": "local"}))
    radius = lattice.radius if lattice.topology == "ring" else np.nan
    return Sites(lattice.position, lattice.neighbour, lattice.pitch, radius)


def travelling(field: np.ndarray, sites: Sites) -> dict[str, float]:
    """Phase by which later sites follow earlier ones, and how steadily, along x and y."""
    row: dict[str, float] = {}
    for axis, name in ((0, "x"), (1, "y"))[: len(sites.neighbour) // 2]:
        before = sites.neighbour[2 * axis]
        pair = np.flatnonzero(before >= 0)
        cross = field[..., before[pair]] * field[..., pair].conj()
        row[f"step {name}"] = float(np.angle(cross.sum()))
        row[f"directed {name}"] = float(cross.imag.sum() / np.abs(cross).sum())
    return row


def wave_facts(recording: xr.DataTree, found: xr.Dataset, fit: Any, case: str) -> dict[str, Any]:
    """What is decoded, beside the truth."""
    field, truth = decoded(recording, found), true_field(recording, found)
    sites, width = on_sites(fit), float(recording["spikes"].attrs["bin_width"])
    kappa = (found["kappa_re"].values + 1j * found["kappa_im"].values)[0]
    row: dict[str, Any] = {
        "likeness": likeness(field, truth),
        "f": float(found["frequency"][0]),
        "f field": float(found["decoded_frequency"][0]),
        "f true field": mean_frequency(truth, width),
        "lag x": float(found["directed_lag"][0, 0]),
        "lag common x": float(found["common_lag"][0, 0]),
        "coupling x": float(found["coupling"][0, :2].mean()),
        "prediction gain": float(found["prediction_gain"]),
        "wave gain": float(found["wave_gain"][0]),
        "prediction gain sd": float(found["prediction_gain_sd"]),
        "wave gain sd": float(found["wave_gain_sd"][0]),
        "kappa": np.round(kappa, 2).astype(str).tolist(),
        "noise": float(found["noise"][0]) if "noise" in found else 0.0,
        "readout_width": float(found["readout_width"][0]) if "readout_width" in found else 0.0,
        **travelling(field, sites),
        **{f"true {k}": v for k, v in travelling(truth, sites).items()},
    }
    if sites.is_ring:
        turns, true = (
            np.rint(advance(z, sites, 0).sum(-1) / (2 * np.pi)).astype(int) for z in (field, truth)
        )
        row["winding right"] = float((turns == true).mean())
        row["winding right (median of trial)"] = float(
            (np.median(turns, 1) == np.median(true, 1)).mean()
        )
        row["mean |winding|"] = float(np.abs(turns).mean())
    if "spiral" in case:
        total, true = charge(field, sites), charge(truth, sites)
        row["charge right (median of trial)"] = float(
            (np.median(total, 1) == np.median(true, 1)).mean()
        )
        row["charge right"] = float((total == true).mean())
    return row


def charge(field: np.ndarray, sites: Sites) -> np.ndarray:
    """Sum of the charges (trial, time) within a pitch and a half of the centre."""
    corners = sites.position[plaquettes(sites)].mean(1)
    near = np.linalg.norm(corners - sites.position.mean(0), axis=1) < 1.6 * sites.pitch
    return charges(field, sites)[..., near].sum(-1)


def rows_of(
    suite: str, cases: list[str], seeds: list[int], given: dict[str, Any], chosen: list[str]
) -> Iterator[dict[str, Any]]:
    """Rows of a suite, one at a time."""
    for case in cases:
        for seed in seeds:
            recording, own = recording_of(case, seed), CASES[case][2] | given
            if suite == "ablations":
                yield from _ablations(recording, case, own, seed, chosen)
            elif suite == "agreement":
                yield _agreement(recording, case, own, seed)
            elif suite == "others":
                yield from _others(recording, case, seed, chosen)
            elif suite == "nothing" and case in SHIFTED:
                moved = shuffled_in_time(recording, seed)
                yield _one(moved, case, own, seed, f"{case}, shifted in time")
            else:
                yield _one(recording, case, own, seed, case)


def _one(
    recording: xr.DataTree, case: str, given: dict[str, Any], seed: int, label: str
) -> dict[str, Any]:
    run = fitted(recording, NAME, given, seed)
    row = {"case": label, "what": "as it is", "seed": seed, "cpu": run["cpu"]}
    row |= scores(recording, run["found"]["rate"].values)
    row |= wave_facts(recording, run["found"], run["fit"], case)
    ceiling = scores(recording, recording["truth/rate"].values)
    return row | {f"ceiling {k}": v for k, v in ceiling.items()}


def _ablations(
    recording: xr.DataTree, case: str, given: dict[str, Any], seed: int, chosen: list[str]
) -> Iterator[dict[str, Any]]:
    base = {"case": case, "seed": seed}
    for what in chosen:
        run = fitted(recording, NAME, given | ABLATIONS[what], seed)
        row = {**base, "what": what, "cpu": run["cpu"]}
        row |= scores(recording, run["found"]["rate"].values)
        yield row | wave_facts(recording, run["found"], run["fit"], case)


def _others(
    recording: xr.DataTree, case: str, seed: int, models: list[str]
) -> Iterator[dict[str, Any]]:
    base = {"case": case, "seed": seed}
    truth = recording["truth/rate"].values
    yield {**base, "what": "ceiling (true rates)", "cpu": 0.0, **scores(recording, truth)}
    for model in models:
        run = fitted(recording, model, OTHERS[model], seed)
        rates = run["found"]["rate"].values
        yield {**base, "what": model, "cpu": run["cpu"], **scores(recording, rates)}


def _agreement(
    recording: xr.DataTree, case: str, given: dict[str, Any], seed: int
) -> dict[str, Any]:
    fields = [
        decoded(recording, fitted(recording, NAME, given, one)["found"])
        for one in (seed, seed + 1000)
    ]
    return {"case": case, "what": "two fits", "seed": seed, "likeness": likeness(*fields)}


def show(rows: list[dict[str, Any]]) -> None:
    """Means over seeds, per case and what was changed."""
    frame = pd.DataFrame(rows)
    numbers = frame.select_dtypes("number").columns.drop("seed")
    grouped = frame.groupby(["case", "what"], sort=False)
    table = grouped[list(numbers)].mean().assign(fits=grouped.size())
    for case, part in table.groupby(level="case", sort=False):
        print(f"\n{case}")
        print(part.droplevel("case").dropna(axis=1, how="all").T.round(4).to_string())


def main() -> None:
    """Run a suite."""
    parser = argparse.ArgumentParser(description=__doc__)
    suites = ["recovery", "ablations", "others", "agreement", "nothing", "table"]
    parser.add_argument("suite", choices=suites)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--cases", nargs="*")
    parser.add_argument("--what", nargs="*", default=list(ABLATIONS), help="of the ablations")
    parser.add_argument("--models", nargs="*", default=list(OTHERS), help="of the suite others")
    parser.add_argument("--params", type=json.loads, default={}, help="of the model, JSON")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.suite == "table":
        show([json.loads(line) for line in chosen.out.read_text().splitlines()])
        return
    usual = {
        "recovery": RECOVERY,
        "ablations": ABLATED,
        "others": ABLATED,
        "agreement": ABLATED,
        "nothing": (*NOTHING, *SHIFTED),
    }
    seeds = list(range(chosen.first, chosen.first + chosen.seeds))
    rows = []
    with blas_threads(1):
        cases = chosen.cases or list(usual[chosen.suite])
        parts = chosen.models if chosen.suite == "others" else chosen.what
        for row in rows_of(chosen.suite, cases, seeds, chosen.params, parts):
            rows.append(row)
            short = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
            print(json.dumps(short), flush=True)
            if chosen.out:
                with chosen.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
