"""LangevinFlow on the Lorenz benchmark: both variants' scores and cost.

Usage: DRIFTWAVE_RECORDINGS=<folder with lorenz29.h5> python benchmarks/langevinflow.py [--quick]

Rates are fitted on ``fit`` with ``select`` for early stopping, and scored on ``test`` (conditions
of the training set) and ``new`` (conditions never trained on). R2 is the uniform mean over units of
R2 against the true rates. Denoising sees all units; co-smoothing sees 22 and predicts 7.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from driftwave.compute import Clock, blas_threads
from driftwave.models import langevinflow

FILE = "lorenz29.h5"
SPLITS = {"fit": "train", "select": "valid", "test": "test", "new": "test"}


def load(path: Path, *, cosmoothing: bool) -> tuple[xr.DataTree, np.ndarray, np.ndarray]:
    """The benchmark file as a recording, with true rates (counts per bin) and split names."""
    with h5py.File(path) as file:
        parts = {n: {k: file[f"{n}_{k}"][:] for k in ("spikes", "rates", "cond")} for n in SPLITS}
        hidden = np.zeros(parts["fit"]["spikes"].shape[2], bool)
        hidden[file["heldout"][:]] = cosmoothing
        width = float(file["bin_ms"][()]) / 1000
    counts, rates, condition = (
        np.concatenate([part[key] for part in parts.values()])
        for key in ("spikes", "rates", "cond")
    )
    names = np.concatenate([[n] * len(part["spikes"]) for n, part in parts.items()])
    trials, bins, units = counts.shape
    index = {"trial": np.arange(trials), "time": np.arange(bins) * width, "unit": np.arange(units)}
    attrs = {"bin_width": width, "forward_bins": 0, "contiguous": False}
    root = {"session": path.stem, "source_file": str(path), "source_sha256": "", "layout": ""}
    split = np.array([SPLITS[n] for n in names])
    groups = {
        "/": xr.Dataset(attrs=root | {"schema_version": 1}),
        "spikes": xr.Dataset(
            {"counts": (("trial", "time", "unit"), counts.astype(np.uint16))}, index, attrs
        ),
        "units": xr.Dataset({"held_out": ("unit", hidden)}, {"unit": index["unit"]}),
        "trials": xr.Dataset({"split": ("trial", split), "condition": ("trial", condition)}),
    }
    return xr.DataTree.from_dict(groups), rates, names


def rate_r2(true: np.ndarray, found: np.ndarray) -> float:
    """Uniform mean over units of R2 over all bins."""
    residual = ((true - found) ** 2).sum((0, 1))
    return float(np.mean(1 - residual / ((true - true.mean((0, 1))) ** 2).sum((0, 1))))


def bits_per_spike(counts: np.ndarray, found: np.ndarray) -> float:
    """Poisson log-likelihood over that of each unit's mean count, bits per spike."""
    mean = counts.mean((0, 1))
    gain = (counts * np.log(found / mean) - found + mean).sum()
    return float(gain / counts.sum() / math.log(2))


def score(
    path: Path, params: langevinflow.Params, seed: int, *, cosmoothing: bool
) -> dict[str, Any]:
    """Fit once and score."""
    recording, true, names = load(path, cosmoothing=cosmoothing)
    clock = Clock.start()
    fit = langevinflow.fit(
        recording, params, seed=seed, device="cpu", progress=None, checkpoint=None
    )
    row: dict[str, Any] = {
        "variant": params.variant,
        "task": "co-smoothing" if cosmoothing else "denoise",
    }
    row["epochs"] = len(fit.history.valid_loss)
    row["fit CPU s"] = clock.cpu_seconds
    row["CPU s/epoch"] = row["fit CPU s"] / row["epochs"]
    clock = Clock.start()
    found = fit.infer(recording)["rate"].values * recording["spikes"].attrs["bin_width"]
    row["trials/CPU s"] = len(names) / clock.cpu_seconds
    counts = recording["spikes"].to_dataset()["counts"].values.astype(float)
    units = recording["units"].to_dataset()["held_out"].values
    units = units if cosmoothing else ~units
    for name in ("test", "new"):
        chosen = names == name
        row[f"R2 {name}"] = rate_r2(true[chosen][..., units], found[chosen][..., units])
        row[f"bps {name}"] = bits_per_spike(counts[chosen][..., units], found[chosen][..., units])
    return row


def show(rows: list[dict[str, Any]]) -> None:
    """Print rows as an aligned table."""
    head = list(rows[0])
    table = [head] + [[v if isinstance(v, str) else f"{v:.4g}" for v in r.values()] for r in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    for line in table:
        print("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)), flush=True)
    print()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs")
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    folder = os.environ.get("DRIFTWAVE_RECORDINGS")
    if not folder or not (Path(folder) / FILE).exists():
        sys.exit(f"Set DRIFTWAVE_RECORDINGS to the folder that holds {FILE}.")
    short = {"steps": 36} if chosen.quick else {}
    with blas_threads(1):
        rows = [
            {"seed": seed}
            | score(
                Path(folder) / FILE,
                langevinflow.Params(variant=variant, **short),
                seed,
                cosmoothing=task,
            )
            for seed in range(chosen.seeds)
            for variant in ("driftwave", "released")
            for task in (False, True)
        ]
    show(rows)


if __name__ == "__main__":
    main()
