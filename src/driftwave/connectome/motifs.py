"""Patterns of affinity that come and go together, beside those of shifted traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import dask
import numpy as np

from driftwave.compute import generator
from driftwave.connectome.affinity import Affinities
from driftwave.tensors.matching import match
from driftwave.tensors.ntf import Factors, ntf

AffinityOf = Callable[[np.ndarray], Affinities]


@dataclass(frozen=True)
class Motifs:
    """Motifs of a recording by descending weight.

    Attributes
    ----------
    time : ndarray (motif, window)
        Course, with a mean of 1 over time.
    pair : ndarray (motif, pair)
        Affinity of each pair while the motif's course is 1.
    explained : float
        Share of the affinities' squared deviation from each pair's own mean over time.
    error : ndarray (restart,)
        Relative residual norm of each restart.
    """

    time: np.ndarray
    pair: np.ndarray
    explained: float
    error: np.ndarray


def motifs_of(found: Affinities, rank: int, *, restarts: int, seed: int) -> Motifs:
    """Non-negative factors of affinities (window, pair): courses and patterns of motifs."""
    factors = ntf(found.values, rank, restarts=restarts, seed=seed)
    time, pair = factors.factors
    mean = np.maximum(time.mean(axis=0), 1e-300)
    deviation = found.values - found.values.mean(axis=0)
    left = found.values - factors.full()
    total = float((deviation**2).sum())
    return Motifs(
        (time / mean).T,
        (pair * mean * factors.weight).T,
        1 - float((left**2).sum()) / total if total > 0 else np.nan,
        factors.error,
    )


def stability(
    found: Affinities, ranks: list[int], *, splits: int, restarts: int, seed: int
) -> np.ndarray:
    """Correlation (rank, split) of the motifs' courses seen in two halves of the units.

    Each half has the pairs within it only, so the halves share no unit; what moves in both at the
    same times is no unit's own doing. Courses are matched one to one.
    """

    def one(rank: int, split: int) -> float:
        rng = generator(seed, "connectome split", str(split))
        half = rng.permutation(found.units) < found.units // 2
        first, second = np.triu_indices(found.units, 1)
        sides = [half[first] & half[second], ~half[first] & ~half[second]]
        courses = [_course(found.values[:, side], rank, restarts, seed) for side in sides]
        return _matched_correlation(*courses)

    jobs = [dask.delayed(one)(rank, split) for rank in ranks for split in range(splits)]
    return np.array(dask.compute(*jobs)).reshape(len(ranks), splits)


def _course(values: np.ndarray, rank: int, restarts: int, seed: int) -> np.ndarray:
    factors: Factors = ntf(np.ascontiguousarray(values), rank, restarts=restarts, seed=seed)
    return factors.factors[0]


def _matched_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Mean correlation of the columns of two arrays, matched to one another."""
    scaled = []
    for courses in (first, second):
        centred = courses - courses.mean(axis=0)
        scaled.append(centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-300))
    similarity = scaled[0].T @ scaled[1]
    return float(similarity[match(similarity)].mean())


def shifted(traces: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each trace (frame, unit) shifted circularly by itself, by a tenth of the recording at least.

    A unit's own course and autocorrelation stay, what it shares with others at the same time goes.
    """
    frames = len(traces)
    margin = max(1, frames // 10)
    shifts = rng.integers(margin, frames - margin + 1, traces.shape[1])
    index = (np.arange(frames)[:, None] - shifts) % frames
    return np.take_along_axis(traces, index, axis=0)


def surrogate_motifs(
    traces: np.ndarray, affinity_of: AffinityOf, rank: int, *, surrogates: int, seed: int
) -> list[Motifs]:
    """Motifs of recordings whose traces were shifted, one start each."""

    def one(number: int) -> Motifs:
        rng = generator(seed, "connectome shift", str(number))
        return motifs_of(affinity_of(shifted(traces, rng)), rank, restarts=1, seed=seed + number)

    return list(dask.compute(*[dask.delayed(one)(number) for number in range(surrogates)]))
