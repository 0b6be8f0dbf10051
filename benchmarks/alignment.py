"""Alignment of sessions: cost of each measure, beside peers in the same run.

    python benchmarks/alignment.py [--sessions 10] [--units 100] [--conditions 8] [--bins 50]
        [--by-measure]

``group``: the whole comparison with every measure (all pairs, ceilings, nulls of the defaults), CPU
seconds and peak memory; with ``--by-measure``, with one measure at a time as well. ``peers``: what
one pair costs here and elsewhere, and how far the numbers agree: canonical correlation against
scikit-learn, Procrustes against SciPy, RDMs against rsatoolbox used directly, CKA against a plain
double loop, permutations against refitting each. One thread.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable

import numpy as np
import xarray as xr

from driftwave.alignment import cka, dynamics, heldout, shape
from driftwave.alignment.compare import compare
from driftwave.alignment.params import Params
from driftwave.compute import Clock, blas_threads

MEASURES = ["cca", "procrustes", "shape", "shape_size", "shape_stochastic", "rsa", "cka", "dsa"]


def recording(name: str, latent: np.ndarray, units: int, trials: int, seed: int) -> xr.DataTree:
    """Poisson units of 20 Hz that read a latent (condition, time, dim); bins of 20 ms."""
    rng = np.random.default_rng(seed)
    condition = np.tile(np.arange(len(latent)), trials)
    drive = latent @ rng.normal(0, 0.5, (latent.shape[-1], units))
    counts = rng.poisson(0.4 * np.exp(drive[condition])).astype(np.uint16)
    time = np.arange(latent.shape[1]) * 0.02
    spikes = xr.Dataset(
        {"counts": (("trial", "time", "unit"), counts)},
        {"trial": np.arange(len(counts)), "time": time, "unit": np.arange(units)},
        {"bin_width": 0.02, "forward_bins": 0, "contiguous": False},
    )
    trial_table = xr.Dataset(
        {"split": ("trial", np.full(len(counts), "train")), "condition": ("trial", condition)}
    )
    held = xr.Dataset({"held_out": ("unit", np.zeros(units, bool))})
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"session": name}),
            "spikes": spikes,
            "units": held,
            "trials": trial_table,
        }
    )


def course(conditions: int, bins: int, seed: int, dims: int = 6) -> np.ndarray:
    """Smooth random latents (condition, time, dim)."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.array([0.6, 1.1, 1.7, 2.3])[:, None] * np.arange(bins) * 0.02
    weight = rng.normal(size=(2, conditions, dims, 4))
    values = weight[0] @ np.cos(angle) + weight[1] @ np.sin(angle)
    return values.transpose(0, 2, 1) / values.std()


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_group(options: argparse.Namespace) -> None:
    latent = course(options.conditions, options.bins, 1)
    sessions = {
        f"s{k}": recording(f"s{k}", latent, options.units, options.trials, k)
        for k in range(options.sessions)
    }
    warm = {name: sessions[name] for name in list(sessions)[:2]}
    print(f"{'measure':18s} {'CPU s':>8s} {'peak MiB':>9s}   (all pairs, ceilings, nulls)")
    known = [m for m in MEASURES if m != "dsa" or dynamics.installed()]
    for measure in [known, *([[], *[[m] for m in known]] if options.by_measure else [])]:
        chosen = Params(measures=measure)
        compare(warm, {}, {}, chosen.model_copy(update={"shuffles": 19, "splits": 1}), seed=0)
        clock = Clock.start()
        compare(sessions, {}, {}, chosen, seed=0)
        name = "all" if measure == known else measure[0] if measure else "aligned scores only"
        print(f"{name:18s} {clock.cpu_seconds:8.1f} {peak_mib():9.0f}", flush=True)


def timed(function: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Least CPU seconds of some repeats, and what came out."""
    best, out = np.inf, None
    for _ in range(repeats):
        clock = Clock.start()
        out = function()
        best = min(best, clock.cpu_seconds)
    return best, out


def report(name: str, ours: float, peer: float, agreement: str) -> None:
    print(f"{name:44s} {1e3 * ours:9.2f} {1e3 * peer:9.2f} {peer / ours:8.1f}   {agreement}")


def run_peers(options: argparse.Namespace) -> None:
    from scipy.spatial import procrustes
    from sklearn.cross_decomposition import CCA

    rng = np.random.default_rng(0)
    conditions, bins, dims = options.conditions, options.bins, 10
    latent = course(conditions, bins, 1)
    a, b = (
        latent @ rng.normal(size=(6, options.units))
        + rng.normal(0, 0.3, (conditions, bins, options.units))
        for _ in range(2)
    )
    print(f"{'one pair':44s} {'ours ms':>9s} {'peer ms':>9s} {'ratio':>8s}   agreement")
    rows_a, rows_b = (shape.reduced(x.reshape(-1, options.units), dims) for x in (a, b))

    def canonical() -> np.ndarray:
        left, right = (np.linalg.qr(rows)[0] for rows in (rows_a, rows_b))
        return np.linalg.svd(left.T @ right, compute_uv=False)

    def scikit() -> np.ndarray:
        u, v = CCA(dims, scale=False, max_iter=2000).fit_transform(rows_a, rows_b)
        return np.array([np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(dims)])

    (ours, found), (peer, expected) = timed(canonical, 5), timed(scikit, 3)
    gap = np.abs(np.asarray(found) - np.asarray(expected)).max()
    report("canonical correlations / scikit-learn CCA", ours, peer, f"max difference {gap:.1e}")

    ours, found = timed(lambda: shape.angular_distance(rows_a, rows_b), 5)
    peer, expected = timed(lambda: procrustes(rows_a, rows_b)[2], 5)
    gap = abs(float(np.sin(found) ** 2) - float(expected))  # type: ignore[arg-type]
    report("angular distance / SciPy procrustes", ours, peer, f"difference {gap:.1e}")

    patterns = [x.reshape(conditions, 5, -1, options.units).mean(axis=2) for x in (a, b)]
    order = np.stack([rng.permutation(conditions) for _ in range(1000)])
    ours, found = timed(lambda: cka.permuted_cka(*patterns, order), 3)
    flat = [x.reshape(-1, options.units) for x in patterns]

    def one_by_one() -> np.ndarray:
        again = [patterns[1][p].reshape(-1, options.units) for p in order[:50]]
        return np.array([cka.debiased_cka(flat[0], x) for x in again])

    peer, expected = timed(one_by_one, 3)
    gap = np.abs(np.asarray(found)[:50] - np.asarray(expected)).max()
    report("1,000 permuted CKA / each from its rows", ours, peer * 20, f"max difference {gap:.1e}")

    fold = heldout.equal_folds(conditions, 3, conditions, rng)
    permutations = heldout.condition_permutations(fold, 1000, rng)

    def together() -> np.ndarray:
        scores = [heldout.fold_scores(x, fold, dims, remove=False) for x in (a, b)]
        return heldout.held_out(*scores, fold, permutations).correlation

    def refitted() -> np.ndarray:
        rows = []
        for p in permutations[:10]:
            scores = [heldout.fold_scores(x, fold, dims, remove=False) for x in (a, b[p])]
            identity = np.arange(conditions)[None]
            rows.append(heldout.held_out(*scores, fold, identity).correlation[0])
        return np.array(rows)

    (ours, found), (peer, expected) = timed(together, 2), timed(refitted, 2)
    gap = np.abs(np.asarray(found)[:10] - np.asarray(expected)).max()
    text = f"max difference {gap:.1e} (peer: 10 refits x 100)"
    report("1,000 held-out CCA nulls / refitting each", ours, peer * 100, text)
    rsa_peer(options, rng)


def rsa_peer(options: argparse.Namespace, rng: np.random.Generator) -> None:
    """Permuted RDM similarities at once, and rsatoolbox's own permutation of its RDMs."""
    from rsatoolbox.rdm import RDMs
    from rsatoolbox.rdm import compare as compare_rdms

    from driftwave.alignment.rsa import rdm_similarity

    count = options.conditions * 4
    first, second = rng.random((2, count * (count - 1) // 2))
    order = np.stack([rng.permutation(options.conditions) for _ in range(1000)])
    order[0] = np.arange(options.conditions)
    ours, found = timed(lambda: rdm_similarity(first, second, 4, order, "corr_cov"), 3)

    def directly() -> np.ndarray:
        other = RDMs(second[None])
        return np.array(
            [compare_rdms(RDMs(first[None]), other, method="corr_cov")[0, 0] for _ in range(50)]
        )

    peer, expected = timed(directly, 3)
    gap = abs(float(np.asarray(found)[0]) - float(np.asarray(expected)[0]))
    report("1,000 RDM similarities / rsatoolbox by turns", ours, peer * 20, f"difference {gap:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--conditions", type=int, default=8)
    parser.add_argument("--bins", type=int, default=50)
    parser.add_argument("--trials", type=int, default=10, help="of each condition")
    parser.add_argument("--by-measure", action="store_true", help="each measure by itself too")
    parser.add_argument("--only", choices=["group", "peers"])
    options = parser.parse_args()
    with blas_threads(1):
        if options.only != "group":
            run_peers(options)
        if options.only != "peers":
            run_group(options)


if __name__ == "__main__":
    main()
