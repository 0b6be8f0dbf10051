"""Forward and backward of coupled oscillators: the fused scan against loops under autograd.

    python benchmarks/coupled_oscillators_speed.py [--repeats 9] [--only NAME]

CPU milliseconds on one thread, medians over turns taken one after another in the same process (the
site-by-site loop runs once in nine turns), float32. ``kept`` is what autograd holds between forward
and backward beside the inputs, in MiB. Results and gradients are compared before anything is timed.

fused    the compiled scan, as the models run it
sites    bin by bin and site by site, as one would first write it: every site gathers its neighbours
gather   bin by bin, all sites at once: neighbours gathered by index (what runs on a GPU)
dense    bin by bin, coupling as a product with a dense (site, site) matrix
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from driftwave.inference import lattice_scan_torch
from driftwave.inference.lattice_coefficients import FirstOrder, SecondOrder
from driftwave.inference.lattice_dynamics import CoupledOscillators

BINS, TRIALS, BIN_WIDTH = 200, 16, 0.005
SCALAR_SHARE = 9
Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def ring(sites: int) -> np.ndarray:
    """Neighbours (direction, site) on the left and right."""
    place = np.arange(sites)
    return np.stack([(place - 1) % sites, (place + 1) % sites])


def lattice(rows: int, columns: int) -> np.ndarray:
    """Neighbours (direction, site) in the west, east, south and north; -1 beyond the edge."""
    place = np.pad(np.arange(rows * columns).reshape(rows, columns), 1, constant_values=-1)
    inner = slice(1, -1)
    sides = [place[inner, :-2], place[inner, 2:], place[:-2, inner], place[2:, inner]]
    return np.stack(sides).reshape(4, -1)


SHAPES = {
    "lattice 8 x 12": (lattice(8, 12), 1),
    "ring of 32": (ring(32), 1),
    "lattice 10 x 10, 2 bands": (lattice(10, 10), 2),
}


def finish(c: FirstOrder, re: Tensor, im: Tensor, f_re: Tensor, f_im: Tensor) -> tuple[Tensor, ...]:
    """Amplitude law or unit modulus, and rotation, of all sites."""
    if c.phases:
        turn = re * f_im - im * f_re
        re, im = re - turn * im, im + turn * re
        scale = torch.rsqrt(re**2 + im**2)
    else:
        re, im = re + f_re, im + f_im
        scale = torch.rsqrt(c.decay[:, None] + c.bend[:, None] * (re**2 + im**2))
    cos, sin = c.turn.cos() * scale, c.turn.sin() * scale
    return cos * re - sin * im, cos * im + sin * re


def bend(c: SecondOrder, y: Tensor, v: Tensor, reads: Tensor, drive: Tensor) -> tuple[Tensor, ...]:
    """A substep of second-order oscillators from what they read."""
    v = c.keep * v + c.spring * y - c.force[:, None] * torch.tanh(reads + c.bias) + drive[..., 1]
    return y - c.spring * v + drive[..., 0], v


def over_bins(module: CoupledOscillators, start: Tensor, drive: Tensor, step: Step) -> Tensor:
    """A loop over bins of steps of (re, im, drive)."""
    shape = (module.bands, module.sites, 2)
    re, im = start.unflatten(-1, shape).unbind(-1)
    states = []
    for enters in drive.unflatten(-1, shape).unbind(1):
        re, im = step(re, im, enters)
        states.append(torch.stack([re, im], -1))
    return torch.stack(states, 1).flatten(2)


def by_sites(module: CoupledOscillators, neighbour: np.ndarray) -> Callable[..., Tensor]:
    """Every site on its own: its neighbours' differences, weighted and summed."""
    c = module.coefficients()
    pull = c.pull if isinstance(c, FirstOrder) else torch.stack([c.pull, torch.zeros_like(c.pull)])
    real, imaginary = pull.detach()
    own = 0.0 if module.variant == "kuramoto" else 1.0

    def read(re: Tensor, im: Tensor) -> tuple[Tensor, Tensor]:
        res, ims = [], []
        for j in range(module.sites):
            f_re = f_im = torch.zeros_like(re[..., 0])
            for m, sources in enumerate(neighbour):
                n = int(sources[j])
                if n >= 0:
                    a, b = re[..., n] - own * re[..., j], im[..., n] - own * im[..., j]
                    p, q = real[:, m, j], imaginary[:, m, j]
                    f_re, f_im = f_re + p * a - q * b, f_im + p * b + q * a
            res.append(f_re)
            ims.append(f_im)
        return torch.stack(res, -1), torch.stack(ims, -1)

    return looped(module, read)


def by_matrix(module: CoupledOscillators, neighbour: np.ndarray) -> Callable[..., Tensor]:
    """Coupling of a band as two dense real matrices (site, site)."""
    c = module.coefficients()
    parts = [x.detach() for x in (c.pull if isinstance(c, FirstOrder) else [c.pull])]
    owns = [x.detach() for x in (c.own if isinstance(c, FirstOrder) else [c.own])]
    dense = [torch.diag_embed(own).mT.contiguous() for own in owns]
    for matrix, part in zip(dense, parts, strict=True):
        for m, j in zip(*np.nonzero(neighbour >= 0), strict=True):
            matrix[:, neighbour[m, j], j] += part[:, m, j]

    def times(x: Tensor, matrix: Tensor) -> Tensor:
        return torch.bmm(x.transpose(0, 1), matrix).transpose(0, 1)

    def read(re: Tensor, im: Tensor) -> tuple[Tensor, Tensor]:
        if len(dense) == 1:
            return times(re, dense[0]), im
        f_re = times(re, dense[0]) - times(im, dense[1])
        return f_re, times(im, dense[0]) + times(re, dense[1])

    return looped(module, read)


def looped(module: CoupledOscillators, read: Callable[..., tuple[Tensor, Tensor]]):
    """The scan as a loop over bins around a way to read the neighbours."""

    def step(re: Tensor, im: Tensor, enters: Tensor) -> tuple[Tensor, ...]:
        c = module.coefficients_of_run
        f_re, f_im = read(re, im)
        if isinstance(c, SecondOrder):
            return bend(c, re, im, f_re, enters)
        return finish(c, re, im, f_re + enters[..., 0], f_im + enters[..., 1])

    def run(start: Tensor, drive: Tensor) -> Tensor:
        module.coefficients_of_run = module.coefficients()
        return over_bins(module, start, drive, step)

    return run


def ways(module: CoupledOscillators, neighbour: np.ndarray) -> dict[str, Callable[..., Tensor]]:
    """The four scans; couplings of ``sites`` and ``dense`` are constants, to their advantage."""

    def gather(start: Tensor, drive: Tensor) -> Tensor:
        return lattice_scan_torch.scan(start, drive, module.coefficients(), module.index, 1)

    return {
        "fused": module,
        "sites": by_sites(module, neighbour),
        "gather": gather,
        "dense": by_matrix(module, neighbour),
    }


def kept(run: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> float:
    """MiB that autograd holds between forward and backward, beside the inputs."""
    known = {x.untyped_storage().data_ptr() for x in inputs}
    held: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        states = run(*inputs)
    size = sum(x.untyped_storage().nbytes() for key, x in held.items() if key not in known)
    del states
    return size / 2**20


def timed(run: Callable[..., Tensor], inputs: tuple[Tensor, ...], given: Tensor) -> list[float]:
    """CPU milliseconds of forward and of backward."""
    before = time.process_time()
    states = run(*inputs)
    middle = time.process_time()
    states.backward(given)
    return [1e3 * (middle - before), 1e3 * (time.process_time() - middle)]


def check(
    runs: dict[str, Callable[..., Tensor]], inputs: tuple[Tensor, ...], given: Tensor
) -> None:
    """All ways must give the same states, and the same gradients of start and drive."""
    short = inputs[0], inputs[1][:, :20].detach().requires_grad_()
    found = {}
    for name, run in runs.items():
        states = run(*short)
        found[name] = [states.detach(), *torch.autograd.grad((given[:, :20] * states).sum(), short)]
    for name, values in found.items():
        for ours, theirs in zip(found["fused"], values, strict=True):
            error = float((ours - theirs).abs().max() / theirs.abs().max())
            assert error < 1e-4, f"{name} differs by {error:.2g}"


def measure(variant: str, shape: str, repeats: int) -> None:
    """Print a row per way."""
    neighbour, bands = SHAPES[shape]
    module = CoupledOscillators(
        neighbour, bands=bands, variant=variant, coupling="complex", bin_width=BIN_WIDTH
    )
    torch.manual_seed(0)
    start = module.start_from(torch.randn(TRIALS, module.width)).requires_grad_()
    drive = (0.1 * torch.randn(TRIALS, BINS, module.width)).requires_grad_()
    runs, given = ways(module, neighbour), torch.randn(TRIALS, BINS, module.width)
    check(runs, (start, drive), given)
    times: dict[str, list[list[float]]] = {name: [] for name in runs}
    timed(module, (start, drive), given)
    for turn in range(repeats):
        for name, run in runs.items():
            if name != "sites" or turn % SCALAR_SHARE == 0:
                times[name].append(timed(run, (start, drive), given))
    fused = statistics.median(sum(pair) for pair in times["fused"])
    for name, pairs in times.items():
        forth, back = (statistics.median(x) for x in zip(*pairs, strict=True))
        both = statistics.median(sum(pair) for pair in pairs)
        memory = kept(runs[name], (start, drive))
        print(
            f"{variant:14} {shape:25} {name:7} {forth:9.1f} {back:9.1f} {both:9.1f} "
            f"{both / fused:8.1f} {memory:9.1f}",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--only", choices=list(SHAPES), help="one shape")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{TRIALS} trials x {BINS} bins, float32, one thread; CPU ms, MiB")
    print(
        f"{'variant':14} {'shape':25} {'way':7} {'forward':>9} {'backward':>9} {'both':>9} "
        f"{'/ fused':>8} {'kept':>9}"
    )
    for variant in ("stuart_landau", "kuramoto", "second_order"):
        for shape in SHAPES:
            if arguments.only in (None, shape):
                measure(variant, shape, arguments.repeats)


if __name__ == "__main__":
    main()
