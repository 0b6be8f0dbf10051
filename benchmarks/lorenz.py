"""Latent models on the two Lorenz benchmark files: scores, cost, ablations.

Usage: DRIFTWAVE_RECORDINGS=<folder with lorenz29.h5 and lorenz_lfads.h5>
       python benchmarks/lorenz.py SUITE [--seeds 3] [--out rows.jsonl]

Suites: ``targets`` (langevinflow, both files), ``baselines`` (every other model of spikes),
``ablations`` (one part of langevinflow taken away or changed), ``quick`` (few steps), ``table``
(prints the rows that ``--out`` of earlier runs holds). The table gives medians over seeds and
the cost beside that of `lfads`.

lorenz29: models are fitted on ``fit`` with ``select`` for early stopping; ``test`` holds
conditions of the training set, ``new`` conditions never trained on. lorenz_lfads: the file's
training trials, a tenth of which stops early; its validation trials are the test. Denoising sees
all units. Co-smoothing hides 7 of 29 (as the file says) or 15 of 60 (drawn with seed 0).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from driftwave import registry
from driftwave.compute import Clock, blas_threads, generator
from driftwave.scores.bits_per_spike import bits_per_spike
from driftwave.scores.latent_r2 import read_out_state
from driftwave.scores.r_squared import mean_r2

TASKS = ("denoise", "co-smoothing")
SAMPLES = {"samples": 50}
ABLATIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no z, v (encoder and Transformer alone)": {"langevin": False, "encoder_in_decoder": True},
    "encoder's states in the decoder too": {"encoder_in_decoder": True},
    "no potential": {"potential": "none"},
    "no innovations (z0, v0 only)": {"innovations": False},
    "no Transformer": {"transformer": False},
    "no noise on the latents": {"latent_noise": 0.0},
    "KL weight .1": {"kl_weight": 0.1},
    "quadratic potential": {"potential": "quadratic"},
    "quartic potential": {"potential": "quartic"},
    "force F(z, v), not a gradient": {"nonconservative": True},
    "8 latents": {"latents": 8},
    "32 latents": {"latents": 32},
    "bidirectional GRU": {"encoder": "gru"},
    "weight decay 1e-4": {"weight_decay": 1e-4},
    "released": {"variant": "released"},
}


def load_29(path: Path) -> dict[str, np.ndarray]:
    """Counts, rates (per bin), states and splits of lorenz29.h5."""
    names = ("fit", "select", "test", "new")
    with h5py.File(path) as file:
        data = {
            key: np.concatenate([file[f"{name}_{key}"][:] for name in names])
            for key in ("spikes", "rates", "latents", "cond")
        }
        sizes = [len(file[f"{name}_spikes"]) for name in names]
        hidden = np.isin(np.arange(data["spikes"].shape[2]), file["heldout"][:])
    return data | {"split": np.repeat(names, sizes), "hidden": hidden, "width": np.array(0.02)}


def load_lfads(path: Path) -> dict[str, np.ndarray]:
    """The same of lorenz_lfads.h5; ``select`` is a tenth of its training trials."""
    with h5py.File(path) as file:
        counts = np.concatenate([file["train_data"][:], file["valid_data"][:]])
        rates = np.concatenate([file["train_truth"][:], file["valid_truth"][:]])
        states = np.concatenate([file["train_lowd"][:], file["valid_lowd"][:]])
        trials = len(file["train_data"])
    # The file's rates are in its own unit; counts fix the factor.
    rates = rates * (counts[:trials].mean() / rates[:trials].mean())
    split = np.array(["fit"] * trials + ["test"] * (len(counts) - trials), dtype="<U6")
    split[generator(0, "select").choice(trials, trials // 10, replace=False)] = "select"
    hidden = np.zeros(counts.shape[2], bool)
    hidden[generator(0, "held out").choice(hidden.size, hidden.size // 4, replace=False)] = True
    data = {"spikes": counts, "rates": rates, "latents": states, "cond": np.zeros(len(counts), int)}
    return data | {"split": split, "hidden": hidden, "width": np.array(0.01)}


FILES = {"lorenz29": load_29, "lorenz_lfads": load_lfads}
SPLITS = {"fit": "train", "select": "valid", "test": "test", "new": "test"}


def recording_of(name: str, data: dict[str, np.ndarray], task: str) -> xr.DataTree:
    """The data as a recording."""
    counts, width = data["spikes"], float(data["width"])
    trials, bins, units = counts.shape
    index = {"trial": np.arange(trials), "time": np.arange(bins) * width, "unit": np.arange(units)}
    attrs = {"bin_width": width, "forward_bins": 0, "contiguous": False}
    root = {"session": name, "source_file": name, "source_sha256": "", "layout": ""}
    split = np.array([SPLITS[n] for n in data["split"]])
    hidden = data["hidden"] & (task == "co-smoothing")
    groups = {
        "/": xr.Dataset(attrs=root | {"schema_version": 1}),
        "spikes": xr.Dataset(
            {"counts": (("trial", "time", "unit"), counts.astype(np.uint16))}, index, attrs
        ),
        "units": xr.Dataset({"held_out": ("unit", hidden)}, {"unit": index["unit"]}),
        "trials": xr.Dataset({"split": ("trial", split), "condition": ("trial", data["cond"])}),
    }
    return xr.DataTree.from_dict(groups)


def scores(data: dict[str, np.ndarray], rates: np.ndarray, task: str) -> dict[str, float]:
    """Scores of rates (per bin) on select, test and new."""
    split, true, row = data["split"], data["rates"], {}
    for name in np.unique(split[split != "fit"]):
        chosen = split == name
        row[f"R2 {name}"] = mean_r2(rates[chosen], true[chosen])
        row[f"xbps {name}"] = bits_per_spike(rates[chosen], true[chosen])
        state = read_out_state(rates, data["latents"], split == "fit", split == "select", chosen)
        row[f"latent R2 {name}"] = mean_r2(state, data["latents"][chosen])
        if task == "co-smoothing":
            units = np.ix_(chosen, np.arange(rates.shape[1]), data["hidden"])
            row[f"held-out R2 {name}"] = mean_r2(rates[units], true[units])
            row[f"co-bps {name}"] = bits_per_spike(
                rates[units], data["spikes"][units].astype(float)
            )
    return row


def run(
    folder: Path, file: str, plugin: str, params: dict[str, Any], task: str, seed: int
) -> dict[str, Any]:
    """Fit once, infer, score."""
    data = FILES[file](folder / f"{file}.h5")
    recording = recording_of(file, data, task)
    module = registry.load("models", plugin)
    chosen = module.Params(**params)
    clock = Clock.start()
    fit = module.fit(recording, chosen, seed=seed, device="cpu", progress=None, checkpoint=None)
    row: dict[str, Any] = {"fit CPU s": clock.cpu_seconds}
    clock = Clock.start()
    found = fit.infer(recording)
    row["trials/CPU s"] = len(data["spikes"]) / clock.cpu_seconds
    rates = found["rate"].values.astype(float) * float(data["width"])
    history = getattr(fit, "history", None)
    if history is not None:
        row["epochs"] = len(history.valid_loss)
    if hasattr(fit, "network"):
        row["parameters"] = sum(p.numel() for p in fit.network.parameters())
    return row | scores(data, rates, task)


def wanted(suite: str) -> list[tuple[str, str, str, dict[str, Any], str]]:
    """File, name, plug-in, parameters and task of each run of a suite."""
    if suite == "targets":
        return [(f, "langevinflow", "langevinflow", SAMPLES, t) for f in FILES for t in TASKS]
    if suite == "quick":
        few = SAMPLES | {"steps": 600, "learning_rate": 0.012}
        return [("lorenz29", "langevinflow, 600 steps", "langevinflow", few, "denoise")]
    if suite == "ablations":
        return [
            ("lorenz29", name, "langevinflow", SAMPLES | change, "denoise")
            for name, change in ABLATIONS.items()
        ]
    models = [n for n, p in registry.plugins("models").items() if p.observes == "spikes"]
    return [
        (file, name, name, {}, task)
        for name in models
        if name != "langevinflow"
        for file in FILES
        for task in TASKS
    ]


def ceilings(folder: Path) -> list[dict[str, Any]]:
    """The scores of the true rates."""
    rows = []
    for file, load in FILES.items():
        data = load(folder / f"{file}.h5")
        for task in TASKS:
            row = {"file": file, "task": task, "model": "truth", "seed": 0}
            rows.append(row | scores(data, data["rates"].astype(float), task))
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print medians over seeds, per file and task, with the cost over that of lfads."""
    table = pd.DataFrame(rows)
    for (file, task), part in table.groupby(["file", "task"], sort=False):
        middle = part.groupby("model", sort=False).median(numeric_only=True).drop(columns="seed")
        middle.insert(0, "seeds", part.groupby("model", sort=False).size())
        if "lfads" in middle.index:
            middle["cost / lfads"] = middle["fit CPU s"] / middle.loc["lfads", "fit CPU s"]
        print(f"\n{file}, {task}")
        print(middle.dropna(axis=1, how="all").to_string(float_format="%.4g", na_rep=""))


def main() -> None:
    """Run a suite and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", choices=["targets", "quick", "baselines", "ablations", "table"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--file", choices=list(FILES), help="this file only")
    parser.add_argument("--only", help="runs whose model name contains this")
    parser.add_argument("--out", type=Path, help="file that rows are added to and shown from")
    chosen = parser.parse_args()
    folder = Path(os.environ.get("DRIFTWAVE_RECORDINGS", ""))
    if not (folder / "lorenz29.h5").exists():
        sys.exit("Set DRIFTWAVE_RECORDINGS to the folder that holds lorenz29.h5.")
    rows = []
    runs = [] if chosen.suite == "table" else wanted(chosen.suite)
    for file, name, plugin, params, task in runs:
        if file != (chosen.file or file):
            continue
        for seed in range(chosen.seeds) if (chosen.only or "") in name else ():
            with blas_threads(1):
                row = run(folder, file, plugin, params, task, seed)
            rows.append({"file": file, "task": task, "model": name, "seed": seed} | row)
            if chosen.out:
                with chosen.out.open("a") as lines:
                    lines.write(json.dumps(rows[-1]) + "\n")
    if chosen.out:
        rows = [json.loads(line) for line in chosen.out.read_text().splitlines()]
    show(ceilings(folder) + rows)


if __name__ == "__main__":
    main()
