"""The Langevin scan by the compiled kernels: tensors to arrays and back, blocks to threads."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from driftwave.inference import langevin_kernels as kernels
from driftwave.inference.langevin_force import ClosedForce
from driftwave.inference.langevin_scheme import Scheme

# State entries (bins x trials x latents) below which a second thread costs more than it saves.
THREAD_WORK = 200_000
OPTIONAL = ("offset", "stiffness", "quartic", "bias")


@functools.cache
def _all_columns(terms: int, columns: int) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(np.arange(columns), (terms, columns)))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.contiguous().numpy()


def _law(force: ClosedForce, latents: int) -> Any:
    """The force as the kernels take it."""
    terms, columns = force.inward.shape
    reads = _all_columns(terms, columns) if force.reads is None else _array(force.reads)
    if force.outward is None:
        outward = np.ones((terms, 1), np.float32)
        writes = np.arange(terms)[:, None]
    else:
        outward = _array(force.outward)
        writes = _all_columns(*outward.shape) if force.writes is None else _array(force.writes)
    none, endless = np.zeros(latents, np.float32), np.full(latents, np.inf, np.float32)
    return kernels.Law(
        _array(force.inward),
        reads,
        np.zeros(terms, np.float32) if force.offset is None else _array(force.offset),
        outward,
        writes,
        force.bent,
        none if force.stiffness is None else _array(force.stiffness),
        none if force.quartic is None else _array(force.quartic),
        endless if force.reach is None else _array(force.reach),
        none if force.bias is None else _array(force.bias),
    )


def _steps(scheme: Scheme, keep: Tensor, spread: Tensor) -> Any:
    constants = [np.float32(x) for x in scheme]
    return kernels.Steps._make([*constants, _array(keep), _array(spread)])


def _over_blocks(kernel: Callable[..., Any], arguments: tuple[Any, ...], blocks: int) -> None:
    """Share the blocks of trials among torch's number of threads; blocks do not interact."""
    threads = min(torch.get_num_threads(), blocks)
    if threads < 2 or arguments[3].size < THREAD_WORK:
        kernel(*arguments, 0, blocks)
        return
    edges = [blocks * i // threads for i in range(threads + 1)]
    parts = list(itertools.pairwise(edges))
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(kernel, *arguments, *part) for part in parts]:
            done.result()


def _blocks(trials: int) -> int:
    return -(-trials // kernels.LANES)


def forward(
    position: Tensor,
    velocity: Tensor,
    innovation: Tensor,
    keep: Tensor,
    spread: Tensor,
    force: ClosedForce,
    scheme: Scheme,
    wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    bins, (trials, latents) = len(innovation) + 1, position.shape
    positions, velocities = (torch.empty(bins, trials, latents) for _ in range(2))
    pulls = torch.empty(bins if wanted else 0, trials, latents)
    positions[0], velocities[0] = position, velocity
    path = (positions.numpy(), velocities.numpy(), pulls.numpy())
    law, steps = _law(force, latents), _steps(scheme, keep, spread)
    _over_blocks(kernels.forward, (law, steps, _array(innovation), *path), _blocks(trials))
    return positions, velocities, pulls


def backward(
    innovation: Tensor,
    keep: Tensor,
    spread: Tensor,
    force: ClosedForce,
    scheme: Scheme,
    path: tuple[Tensor, Tensor, Tensor],
    given: tuple[Tensor, Tensor],
    needs_noise: bool,
) -> tuple[Tensor | None, ...]:
    _, trials, latents = path[0].shape
    law, steps = _law(force, latents), _steps(scheme, keep, spread)
    blocks = _blocks(trials)
    to_start = torch.empty(2, trials, latents)
    to_noise = torch.empty(len(innovation), trials if needs_noise else 0, latents)
    entries = [law.weight.size, law.offset.size, law.back.size, *[latents] * 5]
    out = kernels.Sums(*(np.empty((blocks, count), np.float32) for count in entries))
    arrays = [_array(x) for x in (innovation, *path, *given, to_start, to_noise)]
    _over_blocks(kernels.backward, (law, steps, *arrays, out), blocks)
    sums = {name: torch.from_numpy(part.sum(0)) for name, part in out._asdict().items()}
    return (
        *to_start.unbind(),
        to_noise if needs_noise else None,
        sums["keep"],
        sums["spread"],
        sums["weight"].view_as(force.inward),
        None if force.outward is None else sums["back"].view_as(force.outward),
        *(None if getattr(force, name) is None else sums[name] for name in OPTIONAL),
    )
