"""Manifold analyses of many units: peak memory and seconds, beside scikit-learn's in the same run.

Usage: python benchmarks/manifolds_large.py [--units 10000] [--trials 20] [--bins 50] [--umap]
       [--whole]

Poisson counts of units tuned to a latent rotation, four conditions, ``trials`` x ``bins`` time
points. Each row runs in a process of its own, one thread: peak resident memory is that of the whole
process, the Python libraries and the recording included. Kernels are ours and the peer's on the
same matrix (time point, unit): PCA to 10 components (``principal_components`` and scikit-learn's
``PCA`` with its full and its default solver) and Isomap to 3 (ours on rows reduced without loss).
Plug-ins run with few surrogates (``pca`` its least, 100); with ``--whole``, with their defaults.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import xarray as xr

KERNELS = ("ours PCA", "scikit-learn PCA full", "scikit-learn PCA auto", "ours Isomap",
           "scikit-learn Isomap")  # fmt: skip
PLUGINS = ("pca", "shape", "embedding")


def recording(units: int, trials: int, bins: int) -> xr.DataTree:
    """Counts of units tuned to four rotations."""
    rng = np.random.default_rng(0)
    width, time_ = 0.02, np.arange(bins) * 0.02
    condition = np.arange(trials) % 4
    angle = 2 * np.pi * 2 * time_ + condition[:, None] * np.pi / 2
    state = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    rate = np.exp(np.log(10) + state @ rng.normal(0, 0.6, (2, units)))
    counts = rng.poisson(rate * width).astype(np.uint16)
    trial, unit = np.arange(trials), np.arange(units)
    start = trial * (bins * width + 0.5)
    attrs = {
        "session": "large",
        "source_file": "memory",
        "source_sha256": "",
        "layout": "synthetic",
        "bin_width": width,
        "schema_version": 1,
    }
    spikes = xr.Dataset(
        {"counts": (("trial", "time", "unit"), counts), "trial_start": ("trial", start)},
        {"trial": trial, "time": time_, "unit": unit},
        {"bin_width": width, "forward_bins": 0, "contiguous": False},
    )
    trials_ = xr.Dataset(
        {
            "split": ("trial", np.where(trial % 5 == 4, "test", "train")),
            "condition": ("trial", condition),
        }
    )
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs=attrs),
            "spikes": spikes,
            "units": xr.Dataset({"held_out": ("unit", np.zeros(units, bool))}),
            "trials": trials_,
        }
    )


def kernel(name: str, rows: np.ndarray) -> Callable[[], object]:
    """The computation a row of the table times."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import Isomap

    from driftwave.geometry.dimension import isometric, principal_components
    from driftwave.geometry.embeddings import embed

    def ours_isomap() -> object:
        return embed(isometric(rows), "isomap", components=3, neighbours=15, seed=0)

    return {
        "ours PCA": lambda: principal_components(rows, 10).project(rows),
        "scikit-learn PCA full": lambda: PCA(10, svd_solver="full").fit_transform(rows),
        "scikit-learn PCA auto": lambda: PCA(10, random_state=0).fit_transform(rows),
        "ours Isomap": ours_isomap,
        "scikit-learn Isomap": lambda: Isomap(n_neighbors=15, n_components=3).fit_transform(rows),
    }[name]


def plugin(name: str, tree: xr.DataTree, *, whole: bool, umap: bool) -> Callable[[], object]:
    """The analysis, with few surrogates unless ``whole``."""
    from driftwave import registry

    module = registry.load("manifolds", name)
    options: dict[str, object] = {}
    if not whole:
        options = {
            "pca": {"shuffles": 100},
            "shape": {"surrogates": 2, "shuffles": 5},
            "embedding": {"surrogates": 1},
        }[name]
    if name == "embedding":
        # Trials would be few: every bin is a point.
        methods = ("pca", "isomap", "diffusion") + (("umap",) if umap else ())
        options |= {"points": "time_points", "methods": methods}
    params = module.Params(**options)
    return lambda: module.analyse(tree, None, params, seed=0)


def one(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Seconds and peak memory of one row, in this process."""
    from driftwave.compute import blas_threads
    from driftwave.readouts.features import count_features

    tree = recording(options.units, options.trials, options.bins)
    if name in PLUGINS:
        call = plugin(name, tree, whole=options.whole, umap=options.umap)
    else:
        values = count_features(tree, smoothing=0.05, units="held_in")["smoothed_counts"]
        call = kernel(name, values.reshape(-1, options.units))
    with blas_threads(1):
        start = time.process_time(), time.perf_counter()
        call()
        cpu, wall = time.process_time() - start[0], time.perf_counter() - start[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"name": name, "cpu_s": cpu, "wall_s": wall, "peak_gib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--bins", type=int, default=50)
    parser.add_argument("--umap", action="store_true", help="embed by UMAP as well")
    parser.add_argument("--whole", action="store_true", help="default surrogates")
    parser.add_argument("--row", help="one row, as JSON")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(one(options.row, options)))
        return
    print(f"{options.units} units x {options.trials * options.bins} time points")
    print(f"{'':24}{'CPU s':>9}{'wall s':>9}{'peak GiB':>10}")
    for name in (*KERNELS, *PLUGINS):
        command = [sys.executable, __file__, *sys.argv[1:], "--row", name]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(found.stdout.splitlines()[-1])
        print(
            f"{name:24}{row['cpu_s']:9.2f}{row['wall_s']:9.2f}{row['peak_gib']:10.2f}", flush=True
        )


if __name__ == "__main__":
    main()
