"""Our IAN beside the reference implementation: CPU seconds and how far the graphs agree.

Used by graphs.py. The reference runs in a process (and, if asked, an interpreter) of its own, ours
in this one, in turns. The reference starts from all pairs of points, ours too below 2,000 points,
from each point's 500 nearest above. Columns: CPU s and their ratio (reference / ours); mean
degrees; Jaccard index of the edges of the Gabriel graphs (both from all pairs) and of the final
graphs; median ratio of the scales (ours / reference); components and the adjusted Rand index
between them; edges that cut across the bent plane.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from driftwave.compute import Clock
from driftwave.graphs.components import components_of
from driftwave.graphs.ian import IanGraph, ian_graph
from driftwave.graphs.knn import nearest
from driftwave.graphs.populations import population

PEER = Path(__file__).parent / "ian_peer.py"
# Edges between places farther apart on the plane than this cut across its bend (its sheets lie 0.64
# apart, the bend is 1 long).
SHORTCUT = 1.0
OBJECTIVE = {"greedy": "greedy", "linear": "l1"}  # of the reference
HEAD = (
    f"{'points':>6s} seed  {'set':12s} {'scales':7s} {'ours':>8s} {'peer':>8s} {'ratio':>6s}"
    f" {'degree':>6s} {'peer':>6s} {'Gabriel':>7s} {'edges':>6s} {'scale':>6s}"
    f" {'parts':>5s} {'peer':>4s} {'Rand':>5s} {'cuts':>5s} {'peer':>5s}"
)


class PeerError(RuntimeError):
    """The reference ended with an error of its own."""


@dataclass(frozen=True)
class Peer:
    """Where the reference lies, the interpreter that runs it and the solver it is given."""

    folder: Path
    python: str
    solver: str

    def about(self) -> str:
        """Versions and solver, as the peer tells them."""
        command = [self.python, str(PEER), "about", self.solver]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def run(self, points: np.ndarray, objective: str) -> tuple[dict, dict[str, np.ndarray]]:
        one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        with tempfile.TemporaryDirectory() as place:
            given, result = Path(place) / "points.npy", Path(place) / "result.npz"
            np.save(given, points)
            command = [self.python, PEER, self.folder, given, objective, self.solver, result]
            found = subprocess.run(
                [str(part) for part in command],
                capture_output=True,
                text=True,
                env=os.environ | one_thread,
            )
            if found.returncode:
                raise PeerError(" / ".join(found.stderr.strip().splitlines()[-2:]))
            with np.load(result) as arrays:
                return json.loads(found.stdout.splitlines()[-1]), dict(arrays)


def bent_plane(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two parallel sheets joined by a half-turn, and the place (point, 2) on the plane."""
    length, width = rng.uniform(-2.5, 2.5, count), rng.uniform(0, 2, count)
    radius = 1 / np.pi
    angle = np.clip(length, -0.5, 0.5) / radius
    past = length - np.clip(length, -0.5, 0.5)
    x, z = radius * np.sin(angle), np.abs(past) - radius * np.cos(angle)
    return np.column_stack([x, width, z]), np.column_stack([length, width])


def sets(count: int, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Points, and their place on the plane where it is bent back on itself."""
    curved = population("curved sheet", count, np.random.default_rng(seed))
    return {
        "curved sheet": (curved, None),
        "bent plane": bent_plane(count, np.random.default_rng(seed)),
    }


def compare_ian(
    peer: Peer, count: int, seed: int, repeats: int, scales: list[Literal["greedy", "linear"]]
) -> None:
    """Print a row per set of points and way to the scales."""
    for name, (points, place) in sets(count, seed).items():
        for one in scales:
            row = timed_in_turns(peer, points, place, repeats, one)
            print(f"{count:6d} {seed:4d}  {name:12s} {one:7s} {row}", flush=True)


def timed_in_turns(
    peer: Peer,
    points: np.ndarray,
    place: np.ndarray | None,
    repeats: int,
    scales: Literal["greedy", "linear"],
) -> str:
    ian_graph(points[:100], scales=scales)  # compiled before the clock runs
    ours, theirs = [], []
    for _ in range(repeats):
        clock = Clock.start()
        graph = ian_graph(points, scales=scales)
        ours.append(clock.cpu_seconds)
        try:
            report, arrays = peer.run(points, OBJECTIVE[scales])
        except PeerError as error:
            return f"{ours[0]:8.3f}  the reference fails: {error}"
        theirs.append(report["seconds"])
    mine, other = statistics.median(ours), statistics.median(theirs)
    seconds = f"{mine:8.3f} {other:8.3f} {other / mine:6.1f}"
    return f"{seconds} {agreement(points, place, graph, arrays)}"


def agreement(
    points: np.ndarray, place: np.ndarray | None, graph: IanGraph, arrays: dict[str, np.ndarray]
) -> str:
    count = len(points)
    theirs = matrix(arrays["graph"], count)
    parts, others = components_of(graph.adjacency), components_of(theirs)
    kept = (graph.scale > 0) & (arrays["scale"] > 0)
    found = (
        f"{graph.adjacency.nnz / count:6.2f} {theirs.nnz / count:6.2f}"
        f" {jaccard(gabriel(points), matrix(arrays['gabriel'], count)):7.4f}"
        f" {jaccard(graph.adjacency, theirs):6.4f}"
        f" {np.median(graph.scale[kept] / arrays['scale'][kept]):6.3f}"
        f" {parts.max() + 1:5d} {others.max() + 1:4d} {adjusted_rand_score(parts, others):5.3f}"
    )
    if place is None:
        return found
    return found + f" {shortcuts(graph.adjacency, place):5d} {shortcuts(theirs, place):5d}"


def matrix(pairs: np.ndarray, count: int) -> sp.csr_array:
    return sp.csr_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))


def gabriel(points: np.ndarray) -> sp.csr_array:
    """The graph that our rounds start from."""
    from driftwave.graphs.ian_compiled import gabriel_edges

    ends, _ = gabriel_edges(points, *nearest(points, len(points) - 1))
    both = np.concatenate([ends, ends[:, ::-1]])
    return matrix(np.unique(both, axis=0), len(points))


def jaccard(one: sp.csr_array, other: sp.csr_array) -> float:
    shared = one.multiply(other).nnz
    return shared / (one.nnz + other.nnz - shared)


def shortcuts(graph: sp.csr_array, place: np.ndarray) -> int:
    one, other = sp.triu(graph).nonzero()
    return int((np.linalg.norm(place[one] - place[other], axis=1) > SHORTCUT).sum())
