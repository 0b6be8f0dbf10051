"""LangevinFlow's speed: the recursion, a training epoch and its memory, and how cost grows.

Usage: python benchmarks/langevinflow_speed.py [--quick] [--peer-python PYTHON] [--only TABLE]

Everything runs on one thread; CPU seconds. ``plain`` is the same model bin by bin (a loop over GRU
cells, the gradient of the energy taken by autograd inside the loop). ``--peer-python`` is an
interpreter of an environment with `ladys` and the same torch. Each row of the epoch and growth
tables is a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from driftwave.inference import langevin_scan
from driftwave.inference.data import SpikeArrays
from driftwave.inference.langevin import (
    LatticePotential,
    LearnedForce,
    baoab,
    released_gradient,
    released_recursion,
)
from driftwave.inference.spike_network import SpikeTask, input_law, log_mean_count, sizes_of
from driftwave.models import langevinflow
from langevinflow_plain import (
    autograd_force,
    closed_force,
    make_plain,
    plain_baoab,
    plain_released,
)

PEER = (
    "python -m venv peer && peer/bin/pip install torch=={torch} numpy pydantic PyYAML scipy && "
    "peer/bin/pip install --no-deps torch=={torch} git+https://github.com/jonathanhuml/ladys "
    "(the release 0.1.1 of ladys has no LangevinFlow)"
)
LORENZ = {
    "name": "lorenz29",
    "trials": 32,
    "all_trials": 1123,
    "bins": 50,
    "seen_bins": 50,
    "units": 29,
    "held_in": 22,
    "latents": 32,
    "steps": 20,
}
MAZE = {
    "name": "MC_Maze, 20 ms",
    "trials": 256,
    "all_trials": 1721,
    "bins": 45,
    "seen_bins": 35,
    "units": 182,
    "held_in": 137,
    "latents": 280,
    "steps": 2,
}


def best(functions: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Least CPU milliseconds of each function; they take turns, so that none has a quiet hour."""
    found = dict.fromkeys(functions, math.inf)
    for function in functions.values():
        function()
    end = time.process_time() + seconds * len(functions)
    while time.process_time() < end:
        for name, function in functions.items():
            start = time.process_time()
            function()
            found[name] = min(found[name], 1e3 * (time.process_time() - start))
    return found


def products(trials: int, bins: int, latents: int, inner: int) -> dict[str, Callable[[], object]]:
    """The recursion's dense matrix products alone, all bins stacked: what a GEMM would take."""
    rows = torch.randn(trials * bins, latents)
    across, back = torch.randn(latents, inner), torch.randn(inner, latents)

    def forward() -> None:
        (rows @ across) @ back

    def backward() -> None:
        forward()
        toward = (rows @ back.T) @ across.T
        (toward.T @ (rows @ across)).sum()
        (rows.T @ (rows @ across)).sum()

    def once() -> None:
        rows @ across

    def twice() -> None:
        once()
        once()
        rows.T @ rows

    if inner == latents:
        return {"forward": once, "both": twice}
    return {"forward": forward, "both": backward}


def in_torch(function: Callable[[], object]) -> Callable[[], object]:
    """The function with the scan in torch operations, as on a GPU."""

    def run() -> object:
        kept = langevin_scan._compiled
        langevin_scan._compiled = lambda: None
        try:
            return function()
        finally:
            langevin_scan._compiled = kept

    return run


def recursion(kind: str, trials: int, bins: int, latents: int, seconds: float) -> dict[str, Any]:
    """Forward and backward of one recursion in all its versions."""
    torch.manual_seed(0)
    z, v = (torch.randn(trials, latents, requires_grad=True) for _ in range(2))
    noise = torch.randn(bins - 1, trials, latents, requires_grad=True)
    log_friction = torch.full((latents,), -2.3, requires_grad=True)
    if kind == "released":
        kernel = torch.randn(4, 4, 3, requires_grad=True)
        ours = lambda: released_recursion(z, v, noise, released_gradient(kernel, latents), 0.55)  # noqa: E731
        slow = lambda: plain_released(z, v, noise, kernel, 0.55)  # noqa: E731
        versions = {"fused": ours, "in torch": in_torch(ours), "plain": slow}
        floor = products(trials, bins, latents, latents)
    else:
        module = LearnedForce(latents) if kind == "force" else LatticePotential(latents, "learned")
        ours = lambda: baoab(z, v, noise, module.force(), log_friction.exp())  # noqa: E731
        closed = lambda: plain_baoab(z, v, noise, closed_force(module), log_friction.exp())  # noqa: E731
        versions = {"fused": ours, "in torch": in_torch(ours), "closed form by steps": closed}
        if kind == "learned":
            energy = autograd_force(module.energy)
            versions["plain"] = lambda: plain_baoab(z, v, noise, energy, log_friction.exp())
        floor = products(trials, bins, latents, len(module.force().inward))
    given = torch.randn(bins, trials, 2 * latents)

    def both(function: Callable[[], tuple[Tensor, ...]]) -> None:
        torch.cat(function()[:2], -1).backward(given)

    def alone(function: Callable[[], tuple[Tensor, ...]]) -> None:
        with torch.no_grad():
            function()

    timed: dict[str, Callable[[], object]] = {n: partial(both, f) for n, f in versions.items()}
    timed |= {"products": floor["both"]}
    timed |= {"inference": partial(alone, ours), "inference products": floor["forward"]}
    ms = best(timed, seconds)
    row: dict[str, Any] = {"recursion": kind, "trials": trials, "bins": bins, "latents": latents}
    row |= {f"{name} (ms)": ms.get(name, math.nan) for name in ("plain", "closed form by steps")}
    row |= {f"{name} (ms)": ms[name] for name in ("in torch", "fused", "products")}
    row["plain/fused"] = row["plain (ms)"] / ms["fused"]
    row["steps/fused"] = row["closed form by steps (ms)"] / ms["fused"]
    row["fused/products"] = ms["fused"] / ms["products"]
    row |= {f"{name} (ms)": ms[name] for name in ("inference", "inference products")}
    return row


def peak() -> float:
    """Largest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def training_step(size: dict[str, Any]) -> dict[str, float]:
    """CPU seconds of a training step (median), peak memory (MB) and its growth by the training."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tiny = torch.zeros(1, 16, requires_grad=True)  # loads the compiled kernels
    baoab(tiny, tiny, tiny[None], LatticePotential(16).force(), torch.ones(16))[0].sum().backward()
    before = peak()
    trials, bins = size["trials"] + 1, size["bins"]
    drawn = np.random.default_rng(0)
    counts = drawn.poisson(0.2, (trials, bins, size["units"])).astype(np.float32)
    train = np.arange(trials) < size["trials"]
    arrays = SpikeArrays(
        counts=counts,
        held_in=np.arange(size["units"]) < size["held_in"],
        train=train,
        valid=~train,
        test=np.zeros(trials, bool),
        seen_bins=size["seen_bins"],
        bin_width=0.02,
    )
    params = langevinflow.Params(
        variant=size["variant"], latents=size["latents"], feedforward=512
    ).resolved()
    mean, law = log_mean_count(arrays), input_law(arrays)
    network = langevinflow.build(params, sizes_of(arrays), mean, law)
    if size["plain"]:
        make_plain(network)
    task = SpikeTask(network, arrays, langevinflow.objective(params), 0, "cpu")
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    index, seconds = torch.arange(size["trials"]), []
    network.train()
    for step in range(size["steps"] + 1):
        start = time.process_time()
        optimiser.zero_grad()
        task.loss(index, step).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        seconds.append(time.process_time() - start)
    return {"step": statistics.median(seconds[1:]), "peak": peak(), "training": peak() - before}


def in_process(command: list[str], size: dict[str, Any]) -> dict[str, float] | str:
    """Run one measurement in a process of its own; a line of text if it failed."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, json.dumps(size)],
        capture_output=True,
        text=True,
        env=os.environ | threads,
        check=False,
    )
    if done.returncode:
        return (done.stderr.strip() or "no message").splitlines()[-1]
    return json.loads(done.stdout.splitlines()[-1])


OURS = [sys.executable, __file__, "--step"]


def epochs(size: dict[str, Any], peer: str | None) -> list[dict[str, Any]]:
    """One training epoch and peak memory of both variants, their plain versions and the peer."""
    per_epoch = math.ceil(size["all_trials"] / size["trials"])
    rows: list[dict[str, Any]] = []
    for variant in ("released", "driftwave"):
        found = {
            name: in_process(OURS, size | {"variant": variant, "plain": name == "plain"})
            for name in ("driftwave", "plain")
        }
        if variant == "released" and peer:
            script = str(Path(__file__).with_name("langevinflow_peer.py"))
            found["ladys"] = in_process([peer, script], size)
        ours = found["driftwave"]
        if isinstance(ours, str):
            raise RuntimeError(ours)
        for name, cost in found.items():
            if isinstance(cost, str):
                print(f"{name} not available: {cost}")
                continue
            row: dict[str, Any] = {"shape": size["name"], "variant": variant, "version": name}
            row["s/epoch"] = cost["step"] * per_epoch
            row["times ours"] = cost["step"] / ours["step"]
            rows.append(row | {"peak (MB)": cost["peak"], "by training (MB)": cost["training"]})
    return rows


def growth(quick: bool) -> list[dict[str, Any]]:
    """A training step of 16 trials as bins, units and latents grow."""
    long, wide, many = ((100, 60, 32),) * 3 if quick else ((1000,), (1000,), (280,))
    shapes = [(50, 29, 16)]
    shapes += [(bins, 29, 16) for bins in (200, *long[:1])]
    shapes += [(50, units, 16) for units in (200, *wide[:1])]
    shapes += [(50, 29, latents) for latents in (64, *many[:1])]
    shapes += [(long[0], wide[0], 16)]
    rows = []
    for variant in ("driftwave", "released"):
        for bins, units, latents in shapes:
            size = {"trials": 16, "bins": bins, "seen_bins": bins, "units": units, "steps": 3}
            size |= {"held_in": units, "latents": latents, "variant": variant, "plain": False}
            cost = in_process(OURS, size)
            if isinstance(cost, str):
                raise RuntimeError(cost)
            row: dict[str, Any] = {"variant": variant, "bins": bins, "units": units}
            row |= {"latents": latents, "ms/step": 1e3 * cost["step"], "peak (MB)": cost["peak"]}
            row |= {"by training (MB)": cost["training"]}
            rows.append(row)
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
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--peer-python", help="interpreter of an environment with ladys")
    parser.add_argument("--only", choices=("recursion", "lorenz", "maze", "growth"))
    parser.add_argument("--step", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        print(json.dumps(training_step(json.loads(chosen.step))))
        return
    torch.set_num_threads(1)
    wanted = {chosen.only} if chosen.only else {"recursion", "lorenz", "maze", "growth"}
    if "recursion" in wanted:
        shapes = [("learned", 32, 50, 16), ("force", 32, 50, 16), ("released", 32, 50, 32)]
        if not chosen.quick:
            shapes += [("learned", 1600, 50, 16)]
            shapes += [(kind, 256, 45, 280) for kind in ("learned", "force", "released")]
        show([recursion(*shape, seconds=0.2 if chosen.quick else 0.6) for shape in shapes])
    if not chosen.peer_python and wanted & {"lorenz", "maze"}:
        print("peer not available; to have it:", PEER.format(torch=torch.__version__.split("+")[0]))
    if "lorenz" in wanted:
        show(epochs(LORENZ | ({"steps": 2} if chosen.quick else {}), chosen.peer_python))
    if "maze" in wanted:
        small = {"trials": 8, "latents": 32} if chosen.quick else {}
        show(epochs(MAZE | small, chosen.peer_python))
    if "growth" in wanted:
        show(growth(chosen.quick))


if __name__ == "__main__":
    main()
