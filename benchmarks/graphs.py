"""Graphs and embeddings beside those of scikit-learn, umap and the reference IAN.

    python benchmarks/graphs.py [--points 1000 5000 10000] [--repeats 3]
    python benchmarks/graphs.py --ian FOLDER [--ian-python PYTHON] [--ian-points 500 1000]
        [--ian-seeds 0] [--ian-scales greedy linear] [--ian-solver CLARABEL]

One thread. Points lie on a curved sheet with noise in 10 dimensions. CPU seconds are medians over
repeats taken in turn in the same process; peak memory (MB) is that of a fresh process running the
row alone. The embeddings' graphs have 15 neighbours.

``FOLDER`` is a checkout of github.com/dyballa/IAN with its extension built: then only our IAN is
compared, with the reference run by ``PYTHON`` (ian_peer.py says what that needs), on the points
that ian_reference.py makes and with the agreement of the graphs beside the seconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from driftwave.compute import Clock, blas_threads
from driftwave.graphs.diffusion import diffusion_map
from driftwave.graphs.ian import ian_graph
from driftwave.graphs.knn import knn_graph
from driftwave.graphs.populations import population

NEIGHBOURS, COMPONENTS = 15, 5


def points_of(count: int) -> np.ndarray:
    return population("curved sheet", count, np.random.default_rng(0))


def ours_knn(points: np.ndarray) -> object:
    return knn_graph(points, NEIGHBOURS)


def sklearn_knn(points: np.ndarray) -> object:
    from sklearn.neighbors import kneighbors_graph

    return kneighbors_graph(points, NEIGHBOURS, mode="distance")


def umap_graph(points: np.ndarray) -> object:
    from umap.umap_ import fuzzy_simplicial_set

    return fuzzy_simplicial_set(
        points, NEIGHBOURS, np.random.RandomState(0), "euclidean", return_dists=False
    )[0]


def ours_embedding(points: np.ndarray) -> object:
    return diffusion_map(knn_graph(points, NEIGHBOURS), components=COMPONENTS)


def ours_sparse(points: np.ndarray) -> object:
    return diffusion_map(knn_graph(points, NEIGHBOURS), components=COMPONENTS, dense_below=100)


def sklearn_embedding(points: np.ndarray) -> object:
    from sklearn.manifold import SpectralEmbedding

    model = SpectralEmbedding(COMPONENTS, n_neighbors=NEIGHBOURS, random_state=0)
    return model.fit_transform(points)


def ours_ian(points: np.ndarray) -> object:
    return ian_graph(points)


# ours, peer
PAIRS: dict[str, tuple[Callable[[np.ndarray], object], Callable[[np.ndarray], object]]] = {
    "k-NN graph / scikit-learn kneighbors_graph": (ours_knn, sklearn_knn),
    "k-NN graph / umap fuzzy_simplicial_set": (ours_knn, umap_graph),
    "k-NN + diffusion map / SpectralEmbedding": (ours_embedding, sklearn_embedding),
    "k-NN + diffusion map, sparse / SpectralEmbedding": (ours_sparse, sklearn_embedding),
}


def timed(job: Callable[[np.ndarray], object], points: np.ndarray) -> float:
    clock = Clock.start()
    job(points)
    return clock.cpu_seconds


def compare(title: str, ours: Callable, peer: Callable, count: int, repeats: int) -> None:
    points = points_of(count)
    small = points[:200]
    ours(small), peer(small)  # compiled before the clock runs
    rows = [(timed(ours, points), timed(peer, points)) for _ in range(repeats)]
    mine, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"{count:6d}  {title:50s} {mine:8.3f} {theirs:8.3f} {theirs / mine:7.2f}", flush=True)


def peak(job: str, count: int) -> float:
    """Peak resident memory, MB, of one of this module's jobs in a fresh process."""
    command = [sys.executable, __file__, "--job", job, "--points", str(count)]
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    found = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | one_thread
    )
    return float(found.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[1000, 5000, 10000])
    parser.add_argument("--ian", type=Path)
    parser.add_argument("--ian-python", default=sys.executable)
    parser.add_argument("--ian-solver", default="default", help="cvxpy's name of a solver")
    parser.add_argument(
        "--ian-scales",
        nargs="+",
        choices=["greedy", "linear"],
        default=["greedy", "linear"],
    )
    parser.add_argument("--ian-seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ian-points", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.job:
        globals()[options.job](points_of(options.points[0]))
        # The kernel's own mark: that of getrusage is handed on by the parent process.
        status = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        print(int(status["VmHWM"].split()[0]) / 1024)
        return
    if options.ian:
        beside_reference(options)
        return
    print(f"{'points':>6s}  {'CPU s':50s} {'ours':>8s} {'peer':>8s} {'ratio':>7s}")
    with blas_threads(1):
        for count in options.points:
            for title, (ours, peer) in PAIRS.items():
                compare(title, ours, peer, count, options.repeats)
            own_ian(count, options.repeats)
    print(f"\n{'points':>6s}  {'peak memory, MB':40s}")
    for count in options.points:
        for job in ("ours_embedding", "sklearn_embedding", "ours_ian"):
            print(f"{count:6d}  {job:40s} {peak(job, count):8.0f}", flush=True)


def own_ian(count: int, repeats: int) -> None:
    points = points_of(count)
    ours_ian(points[:200])
    seconds = statistics.median(timed(ours_ian, points) for _ in range(repeats))
    degree = np.diff(ian_graph(points).adjacency.indptr).mean()
    print(
        f"{count:6d}  {'IAN, greedy / reference: see --ian':50s} {seconds:8.3f}"
        f"   mean degree {degree:.2f}",
        flush=True,
    )


def beside_reference(options: argparse.Namespace) -> None:
    from ian_reference import HEAD, Peer, compare_ian

    peer = Peer(options.ian, options.ian_python, options.ian_solver)
    print(
        f"reference: {peer.folder}, run by {peer.python} ({peer.about()}), a process per run, one"
        f" thread; imports and a first call on 100 points outside the clock; median of"
        f" {options.repeats}, in turns with ours\n{HEAD}",
        flush=True,
    )
    with blas_threads(1):
        for count in options.ian_points:
            for seed in options.ian_seeds:
                compare_ian(peer, count, seed, options.repeats, options.ian_scales)


if __name__ == "__main__":
    main()
