"""Communities of weighted networks of units."""

from __future__ import annotations

import networkx as nx
import numpy as np

from driftwave.tensors.matching import match


def communities(
    weights: np.ndarray, *, resolution: float, starts: int, seed: int
) -> tuple[np.ndarray, float]:
    """Communities of a weighted network, the best of several Louvain runs, and its modularity.

    Parameters
    ----------
    weights : ndarray (unit, unit)
        Symmetric, not negative.
    resolution : float
        Above 1 more and smaller communities (Newman 2016, 10.1103/PhysRevE.94.052315).
    starts : int
    seed : int

    Returns
    -------
    label : ndarray of int (unit,)
        By descending size, from 0; -1 for a unit without an edge.
    modularity : float
        Of the units that have edges; NaN without any.
    """
    label = np.full(len(weights), -1)
    linked = np.flatnonzero(weights.sum(axis=0) > 0)
    if not len(linked):
        return label, np.nan
    graph = nx.from_numpy_array(weights[np.ix_(linked, linked)])
    best, modularity = [set(range(len(linked)))], -np.inf
    for start in range(starts):
        found = nx.community.louvain_communities(graph, resolution=resolution, seed=seed + start)
        value = nx.community.modularity(graph, found, resolution=resolution)
        if value > modularity:
            best, modularity = found, value
    for number, members in enumerate(sorted(best, key=lambda m: (-len(m), min(m)))):
        label[linked[sorted(members)]] = number
    return label, float(modularity)


def renamed(labels: np.ndarray) -> np.ndarray:
    """Labels (window, unit) with names carried from window to window where members stay.

    A community takes the name of the one of the window before with which it shares most units;
    one that shares none takes a name that is not in use.
    """
    out = labels.copy()
    for now in range(1, len(labels)):
        before, here = out[now - 1], labels[now]
        names = np.unique(here[here >= 0])
        old = np.unique(before[before >= 0])
        shared = np.array([[((here == n) & (before == o)).sum() for o in old] for n in names])
        taken: dict[int, int] = {}
        if shared.size:
            pairs = zip(*match(shared.astype(float)), strict=True)
            taken = {int(names[i]): int(old[j]) for i, j in pairs if shared[i, j]}
        free = (k for k in range(len(names) + len(old) + 1) if k not in taken.values())
        for name in names:
            out[now, here == name] = taken[int(name)] if int(name) in taken else next(free)
    return out
