r"""How tightly single trials follow the centre line of their condition.

S_tight is the 0.9-quantile of the distance of a bundle of curves to its centre line, divided by the
line's length: lower is tighter. Noise lengthens the centre line, the more so the more bins it has,
so that S_tight falls with noise and with the length of a trial while the geometry stays. A ratio of
S_tight to that of shuffled labels, each by its own length, does not mend this: averages over mixed
conditions are short without noise and as long as any with it. Here both have the length of the true
centre lines, which cancels, and curves are averaged in a fixed number of time blocks first.
"""

from __future__ import annotations

import numpy as np

from driftwave.geometry.repeats import Repeats

QUANTILE = 0.9
BLOCKS = 15


def distance_to_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Distance (point,) of points (point, dim) to the nearest place on a polyline (node, dim)."""
    start, along = line[:-1], np.diff(line, axis=0)
    length = (along**2).sum(axis=1)
    place = points @ along.T - (start * along).sum(axis=1)
    share = np.clip(place / np.where(length > 0, length, 1), 0, 1)
    norm = (points**2).sum(axis=1)[:, None] + (start**2).sum(axis=1)
    squared = norm - 2 * points @ start.T - 2 * share * place + share**2 * length
    return np.sqrt(np.maximum(squared, 0).min(axis=1))


def line_length(line: np.ndarray) -> float:
    """Length of a polyline (node, dim)."""
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def radius(curves: np.ndarray) -> float:
    """0.9-quantile of the distance of curves (trial, time, dim) to their centre line."""
    line = curves.mean(axis=0)
    points = curves.reshape(-1, curves.shape[-1])
    return float(np.quantile(distance_to_line(points, line), QUANTILE))


def raw_tubularity(repeats: Repeats) -> np.ndarray:
    """S_tight (condition,) as published: the radius per length of the centre line."""
    lines = repeats.averages()
    found = []
    for label, line in enumerate(lines):
        length = line_length(line)
        curves = repeats.values[repeats.of == label]
        found.append(radius(curves) / length if length > 0 else np.nan)
    return np.array(found)


def in_blocks(values: np.ndarray, blocks: int = BLOCKS) -> np.ndarray:
    """Values (trial, time, dim) averaged in at most so many blocks of successive times."""
    if values.shape[1] <= blocks:
        return values
    parts = np.array_split(values, blocks, axis=1)
    return np.stack([part.mean(axis=1) for part in parts], axis=1)


def radii(repeats: Repeats, of: np.ndarray | None = None) -> np.ndarray:
    """Radius (condition,) of each condition's bundle; ``of`` gives other labels."""
    labels = repeats.of if of is None else of
    return np.array([radius(repeats.values[labels == k]) for k in range(repeats.conditions)])


def shuffled_radii(repeats: Repeats, shuffles: int, rng: np.random.Generator) -> np.ndarray:
    """Radii (shuffle, condition) with the labels permuted among trials: same N, T and noise."""
    found = np.empty((shuffles, repeats.conditions))
    for row in found:
        row[:] = radii(repeats, rng.permutation(repeats.of))
    return found
