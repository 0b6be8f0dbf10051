"""Gaussian-process factor analysis: CPU seconds and likelihood beside elephant's, on the same data.

    DRIFTWAVE_RECORDINGS=<folder with lorenz29.h5> python benchmarks/gpfa.py [--latents 3]
        [--iterations 100] [--trials N]

Both fit the square roots of the training counts (without the file: of a simulation of the same
shape) by so many EM iterations of the same model (squared-exponential kernels, noise share .001)
from their own starts. elephant's fitted parameters are also put into our likelihood, which has to
give elephant's value.
elephant is not a dependency; to run it,

    python -m venv peers && peers/bin/pip install "elephant[extras]" h5py
    PYTHONPATH=src peers/bin/python benchmarks/gpfa.py
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from pathlib import Path

import numpy as np
from scipy.linalg import subspace_angles

from driftwave.inference.gaussian_process import (
    GpFactors,
    em_step,
    first_guess,
    kernel,
    log_likelihood,
    orthonormal,
    smoother,
)

BIN_MS = 20.0
START_MS = 100.0


def data(trials: int | None) -> np.ndarray:
    """Square-root counts (trial, bin, unit)."""
    path = Path(os.environ.get("DRIFTWAVE_RECORDINGS", ".")) / "lorenz29.h5"
    if path.exists():
        import h5py

        with h5py.File(path) as file:
            return np.sqrt(file["fit_spikes"][:trials].astype(float))
    rng = np.random.default_rng(0)
    count = trials or 1123
    latent = np.stack(
        [rng.multivariate_normal(np.zeros(50), kernel(50, t), count) for t in (2.0, 4.0, 8.0)], -1
    )
    rate = np.exp(np.log(0.26) + latent @ rng.normal(0, 0.6, (3, 29)))
    return np.sqrt(rng.poisson(rate).astype(float))


def ours(values: np.ndarray, latents: int, iterations: int) -> tuple[GpFactors, float]:
    """Our fit and its CPU seconds."""
    begin = time.process_time()
    model = first_guess(values, latents)
    for _ in range(iterations):
        model, _ = em_step(model, values)
    return model, time.process_time() - begin


def elephants(
    values: np.ndarray, latents: int, iterations: int
) -> tuple[GpFactors, float, float, float]:
    """elephant's fit as our parameters, its likelihood, CPU seconds of fit and of inference."""
    from elephant.gpfa import gpfa_core

    sequences = np.empty(len(values), dtype=[("T", int), ("y", object)])
    for sequence, trial in zip(sequences, values, strict=True):
        sequence["T"], sequence["y"] = len(trial), np.ascontiguousarray(trial.T)
    begin = time.process_time()
    found, _ = gpfa_core.fit(
        sequences,
        x_dim=latents,
        bin_width=BIN_MS,
        tau_init=START_MS,
        em_max_iters=iterations,
        em_tol=0.0,
    )
    spent = time.process_time() - begin
    begin = time.process_time()
    _, likelihood = gpfa_core.exact_inference_with_ll(sequences, found, get_ll=True)
    inferring = time.process_time() - begin
    model = GpFactors(
        found["C"], found["d"].ravel(), np.diag(found["R"]), 1 / np.sqrt(found["gamma"].ravel())
    )
    return model, float(likelihood), spent, inferring


def describe(name: str, model: GpFactors, values: np.ndarray, seconds: float) -> float:
    """Print a fit; its log-likelihood, nats per entry."""
    begin = time.process_time()
    found = smoother(model, values.shape[1])
    likelihood = log_likelihood(model, values, found).sum() / values.size
    rate = len(values) / (time.process_time() - begin)
    scales = ", ".join(f"{BIN_MS * t:.0f}" for t in np.sort(model.timescale))
    print(
        f"{name}: fit {seconds:.1f} CPU s; log-likelihood {likelihood:.5f} nats/entry; timescales "
        f"{scales} ms; our inference of it {rate:.0f} trials per CPU s"
    )
    return likelihood


def latents_of(model: GpFactors, values: np.ndarray) -> np.ndarray:
    found = smoother(model, values.shape[1]).mean(model.reduced(values))
    return (found @ orthonormal(model).T).reshape(-1, model.latents)


def main() -> None:
    """Fit both and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latents", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--trials", type=int)
    options = parser.parse_args()
    values = data(options.trials)
    print(f"{values.shape[0]} trials x {values.shape[1]} bins x {values.shape[2]} units")
    model, seconds = ours(values, options.latents, options.iterations)
    describe("driftwave", model, values, seconds)
    if importlib.util.find_spec("elephant") is None:
        print('elephant is not installed here: pip install "elephant[extras]" in a venv of its own')
        return
    peer, own, spent, inferring = elephants(values, options.latents, options.iterations)
    likelihood = describe("elephant", peer, values, spent)
    print(f"elephant's inference: {len(values) / inferring:.0f} trials per CPU s")
    print(f"elephant's own value of its likelihood {own / values.size:.5f}, ours {likelihood:.5f}")
    angles = np.rad2deg(subspace_angles(model.weights, peer.weights))
    print("angles between the loadings' spaces, degrees:", np.round(angles, 1))
    a, b = latents_of(model, values), latents_of(peer, values)
    r = [abs(np.corrcoef(a[:, k], b[:, k])[0, 1]) for k in range(options.latents)]
    print("correlation of orthonormal latents:", np.round(r, 4))
    print(f"ratio of CPU seconds: {spent / seconds:.1f}")


if __name__ == "__main__":
    main()
