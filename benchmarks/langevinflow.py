"""LangevinFlow on the Lorenz benchmark: both variants' scores and cost, and the recursion alone.

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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

from driftwave.compute import Clock, blas_threads
from driftwave.inference.langevin import (
    Force,
    LatticePotential,
    baoab,
    released_gradient,
    released_recursion,
)
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


def seconds(function: Callable[[], object], repeats: int) -> float:
    """CPU seconds per call."""
    function()
    clock = Clock.start()
    for _ in range(repeats):
        function()
    return clock.cpu_seconds / repeats


def backward(function: Callable[[], Tensor]) -> None:
    """Forward and backward of a scalar of the function's value."""
    function().square().sum().backward()


def autograd_force(energy: Callable[[Tensor], Tensor]) -> Force:
    """-grad U taken by autograd with a graph, as the reference does at every bin."""

    def force(position: Tensor, _: Tensor) -> Tensor:
        place = position if position.requires_grad else position.detach().requires_grad_()
        return -torch.autograd.grad(energy(place).sum(), place, create_graph=True)[0]

    return force


def released_by_autograd(z: Tensor, v: Tensor, noise: Tensor, kernel: Tensor) -> Tensor:
    """The released recursion with the gradient of conv1d energy taken inside the loop."""

    def energy(place: Tensor) -> Tensor:
        lattice = place.reshape(len(place), 4, -1)
        c = functional.conv1d(lattice, kernel, padding=1)
        return (c.sum(1) * lattice.sum(1)).sum()

    path = [v]
    for kick in noise:
        gradient = torch.autograd.grad(energy(z), z, create_graph=True)[0]
        z, v = z + 0.01 * v, v - 0.01 * gradient
        v = 0.45 * v + math.sqrt(1.1) * kick
        path.append(v)
    return torch.stack(path)


def recursions(repeats: int, trials: int = 64, bins: int = 50) -> list[dict[str, Any]]:
    """Forward and backward through the latent recursion: closed form against autograd inside."""
    torch.manual_seed(0)
    rows = []
    for latents in (16, 32, 280):
        z = torch.randn(trials, latents, requires_grad=True)
        v = torch.randn(trials, latents, requires_grad=True)
        noise = torch.randn(bins - 1, trials, latents)
        kernel = torch.randn(4, 4, 3, requires_grad=True)
        gamma = torch.full((latents,), 0.1)
        potential = LatticePotential(latents)

        def closed(z=z, v=v, noise=noise, kernel=kernel, latents=latents) -> Tensor:
            gradient = released_gradient(kernel, latents)
            return released_recursion(z, v, noise, gradient, 0.55)[1]

        def by_autograd(z=z, v=v, noise=noise, kernel=kernel) -> Tensor:
            return released_by_autograd(z, v, noise, kernel)

        def lattice(z=z, v=v, noise=noise, gamma=gamma, potential=potential) -> Tensor:
            return baoab(z, v, noise, potential.force(), gamma)[1]

        def lattice_by_autograd(z=z, v=v, noise=noise, gamma=gamma, potential=potential) -> Tensor:
            return baoab(z, v, noise, autograd_force(potential.energy), gamma)[1]

        for name, fast, slow in (
            ("released", closed, by_autograd),
            ("driftwave", lattice, lattice_by_autograd),
        ):
            ours, theirs = fast().detach(), slow().detach()
            apart = float((ours - theirs).abs().max() / theirs.abs().max())
            cost = [seconds(partial(backward, function), repeats) for function in (fast, slow)]
            row = {"recursion": name, "latents": latents, "closed form (ms)": 1e3 * cost[0]}
            row |= {"autograd inside (ms)": 1e3 * cost[1], "ratio": cost[1] / cost[0]}
            rows.append(row | {"largest relative difference": apart})
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print rows as an aligned table."""
    head = list(rows[0])
    table = [head] + [[v if isinstance(v, str) else f"{v:.4g}" for v in r.values()] for r in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    for line in table:
        print("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)), flush=True)
    print()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs")
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    folder = os.environ.get("DRIFTWAVE_RECORDINGS")
    if not folder or not (Path(folder) / FILE).exists():
        sys.exit(f"Set DRIFTWAVE_RECORDINGS to the folder that holds {FILE}.")
    short = {"steps": 36} if chosen.quick else {}
    with blas_threads(1):
        show(recursions(2 if chosen.quick else 10))
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
