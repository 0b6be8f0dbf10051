"""Non-negative tensor factorisation beside tensorly and tensortools, and with many units.

python benchmarks/tensors.py [peers|shifts|large]

``peers``: the time of plain NTF (300 x 6 x 296, rank 6) until the relative error that the slowest
method ends at, same data, several seeds. ``shifts``: CPU time of permuted NTF per restart.
``large``: response tensor, factors and features of 10,000 units x 1,000 samples, with the peak
memory of the process. Peers that cannot be imported are skipped, and named.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import dask
import numpy as np

from driftwave.tensors.features import neuron_features
from driftwave.tensors.matching import matched_cosine
from driftwave.tensors.ntf import ntf
from driftwave.tensors.permuted import permuted_ntf
from driftwave.tensors.planted import planted_factors

Curve = tuple[float, float]  # CPU seconds, relative error
SEEDS = 5


def relative_error(tensor: np.ndarray, factors: list[np.ndarray]) -> float:
    """Relative residual norm of a three-way model."""
    model = np.einsum("ir,jr,kr->ijk", *factors, optimize=True)
    return float(np.linalg.norm(tensor - model) / np.linalg.norm(tensor))


def ours(tensor: np.ndarray, rank: int, iterations: int, seed: int) -> list[np.ndarray]:
    """Factors after a number of iterations."""
    found = ntf(tensor, rank, restarts=1, seed=seed, max_iterations=iterations, tolerance=0.0)
    return [found.factors[0] * found.weight, *found.factors[1:]]


def tensorly_hals(tensor: np.ndarray, rank: int, iterations: int, seed: int) -> list[np.ndarray]:
    """tensorly's non_negative_parafac_hals from a random start."""
    from tensorly.decomposition import non_negative_parafac_hals

    weights, factors = non_negative_parafac_hals(
        tensor, rank, n_iter_max=iterations, init="random", tol=0, random_state=seed
    )
    return [factors[0] * weights, *factors[1:]]


def tensortools_bcd(tensor: np.ndarray, rank: int, iterations: int, seed: int) -> list[np.ndarray]:
    """tensortools' ncp_hals from a random start."""
    from tensortools import ncp_hals

    found = ncp_hals(
        tensor, rank, random_state=seed, max_iter=iterations, min_iter=iterations, tol=0,
        verbose=False,
    )  # fmt: skip
    return list(found.factors)


def until(
    method: Callable[..., list[np.ndarray]], tensor: np.ndarray, target: float, seed: int
) -> Curve:
    """CPU time of the run, of 5, 10, 20 ... iterations, that first gets to the error wanted."""
    for iterations in (5, 10, 20, 40, 80, 160, 320, 640):
        start = time.process_time()
        factors = method(tensor, 6, iterations, seed)
        spent = time.process_time() - start
        error = relative_error(tensor, factors)
        if error <= target:
            return spent, error
    return np.nan, error


def peers() -> None:
    """Time to equal error, and to the best error, beside the peers."""
    methods = {"ours": ours}
    for name, method in (("tensorly", tensorly_hals), ("tensortools", tensortools_bcd)):
        try:
            __import__(name)
            methods[name] = method
        except ImportError as error:
            print(f"{name}: skipped, it cannot be imported ({error})")
    times: dict[str, list[float]] = {name: [] for name in methods}
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        truth = planted_factors(300, 6, 8, 37, 6, rng=rng, shift="none")
        tensor = truth.tensor.reshape(300, 6, -1)
        ends = [relative_error(tensor, m(tensor, 6, 200, seed)) for m in methods.values()]
        target = 1.001 * max(ends)
        for name, method in methods.items():
            times[name].append(until(method, tensor, target, seed)[0])
        parts = [
            f"{name} {1e3 * times[name][-1]:.0f} ms (ends at {end:.4f})"
            for name, end in zip(methods, ends, strict=True)
        ]
        print(f"seed {seed}: to {target:.4f}:", ", ".join(parts), flush=True)
    own = np.nanmedian(times["ours"])
    for name, spent in times.items():
        other = np.nanmedian(spent)
        print(f"{name}: median {1e3 * other:.0f} ms; ours {1e3 * own:.0f} ms; "
              f"ratio {other / own:.1f}")  # fmt: skip


def shifts() -> None:
    """CPU seconds per restart and recovery of planted factors, by mode of shifts."""
    for mode in ("per_stimulus", "common", "none"):
        truth = planted_factors(300, 6, 8, 37, 6, rng=np.random.default_rng(0))
        start = time.process_time()
        found = permuted_ntf(truth.tensor, 6, shift=mode, restarts=4, seed=0)
        spent = (time.process_time() - start) / 4
        cosine = matched_cosine(found.neuron, truth.neuron)
        print(f"{mode}: {spent:.2f} CPU-s per restart, cosine {cosine:.3f}", flush=True)


def large() -> None:
    """10,000 units x 1 stimulus x 8 directions x 125 samples, rank 10, two restarts."""
    truth = planted_factors(10_000, 1, 8, 125, 10, rng=np.random.default_rng(0))
    size = truth.tensor.nbytes / 2**20
    print(f"tensor {size:.0f} MiB; before: {_peak():.2f} GiB", flush=True)
    norm = np.sqrt((truth.tensor**2).sum(axis=(2, 3), keepdims=True))
    maps = truth.tensor / norm
    start = time.process_time()
    factors = permuted_ntf(maps, 10, restarts=2, seed=0)
    print(f"permuted NTF: {(time.process_time() - start) / 2:.1f} CPU-s per restart, error "
          f"{factors.final_error:.3f}, peak {_peak():.2f} GiB", flush=True)  # fmt: skip
    start = time.process_time()
    found = neuron_features(maps, np.ones(maps.shape[:2]), np.ones(maps.shape[:2], bool), factors)
    print(f"features: {time.process_time() - start:.1f} CPU-s, {found.feature.shape[1]} "
          f"components, peak {_peak():.2f} GiB", flush=True)  # fmt: skip
    start = time.process_time()
    plain = ntf(maps.reshape(10_000, -1), 10, restarts=2, seed=0)
    print(f"plain NTF, 10,000 x 1,000: {(time.process_time() - start) / 2:.1f} CPU-s per restart, "
          f"error {plain.error.min():.3f}, peak {_peak():.2f} GiB", flush=True)  # fmt: skip


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["peers", "shifts", "large"]
    with dask.config.set(scheduler="synchronous"):
        for name in wanted:
            print(f"--- {name}", flush=True)
            {"peers": peers, "shifts": shifts, "large": large}[name]()
