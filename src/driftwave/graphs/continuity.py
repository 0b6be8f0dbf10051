"""Clustered or continuous? Statistics of a population against its continuous surrogates."""

from __future__ import annotations

import dask
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from driftwave.compute import generator
from driftwave.graphs.checks import checked_points
from driftwave.graphs.statistics import EVIDENCE, NO_EVIDENCE, GraphKind, statistics_of
from driftwave.graphs.surrogates import shuffled_loadings, smoothed, surrogate_neighbours
from driftwave.nulls.multiplicity import p_value

LEAST_POINTS = 40
ALPHA = 0.05
LARGEST = 100.0


def continuity(
    points: ArrayLike,
    *,
    surrogates: int = 200,
    seed: int,
    neighbours: int = 10,
    graph: GraphKind = "knn",
    most: int = 2000,
    loadings: ArrayLike | None = None,
) -> xr.Dataset:
    """Four statistics of clustering, each against continuous surrogates, and their verdict.

    Factors that are zero in many points leave gaps between them without any clusters: points that
    are made of non-negative loadings must be beyond shuffled loadings as well.

    Parameters
    ----------
    points : array (point, feature)
    surrogates : int
        At least 19, the least with which p <= .05 can be reached.
    seed : int
    neighbours : int
        Of the graph for communities.
    graph : str
        "knn": self-tuning neighbour graph; "ian": iterated adaptive neighbourhoods.
    most : int
        Of more points a random subset of this size is judged.
    loadings : array (point, factor), optional
        Non-negative ones of whose roots the points are the principal scores.

    Returns
    -------
    Dataset
        For each of ``silhouette``, ``hdbscan_noise``, ``between_weight`` and ``mst_tail``: its
        value; ``<name>_surrogate`` (surrogate); ``<name>_z``, standardised by the surrogates,
        signed so that positive speaks for clusters, cut at 100; one-sided ``<name>_p``.
        ``combined_z``, the mean of the four z over its standard deviation among surrogates, and
        ``combined_p``.
        ``cluster_count`` and ``modularity`` likewise: they are no evidence (attribute
        ``evidence`` is 0) and enter nothing. ``surrogate_share``: neighbourhood of the
        surrogates, share of the points judged (attribute ``points``). With loadings
        ``<name>_shuffled_z`` and ``_p`` of the four and of ``combined``: the same against points
        with each factor shuffled. Attribute ``verdict``: "clustered" where ``combined_p``, and
        ``combined_shuffled_p`` if there is one, are <= .05, else "continuous", which says no more
        than that clustering was not shown.

    Raises
    ------
    InputError
        With fewer than 40 points, values that are not finite, or all points alike.
    ValueError
        With fewer than 19 surrogates, or loadings that are negative or not one row per point.
    """
    if surrogates < 19:
        raise ValueError("at least 19 surrogates are needed for p <= .05")
    array = checked_points(points, least=max(LEAST_POINTS, neighbours + 1))
    factors = None if loadings is None else _checked_loadings(loadings, len(array))
    if len(array) > most:
        chosen = generator(seed, "continuity", "subset").permutation(len(array))[:most]
        array, factors = array[chosen], None if factors is None else factors[chosen]
    array = _rotated(array)
    index = surrogate_neighbours(array, generator(seed, "continuity", "width"))
    draw = dask.delayed(_surrogate_statistics)
    observed = dask.delayed(statistics_of)(array, neighbours=neighbours, graph=graph, seed=seed)
    null = [draw(array, index, neighbours, graph, seed, number) for number in range(surrogates)]
    if factors is not None:
        draw = dask.delayed(_shuffled_statistics)
        width = array.shape[1]
        null += [draw(factors, width, neighbours, graph, seed, k) for k in range(surrogates)]
    observed, *null = dask.compute(observed, *null)
    result = compared(observed, null[:surrogates])
    if factors is not None:
        result = _beyond_shuffled(result, compared(observed, null[surrogates:]))
    return result.assign(
        surrogate_share=((), index.shape[1] / len(array), {"units": "1", "points": len(array)})
    )


def _checked_loadings(loadings: ArrayLike, points: int) -> np.ndarray:
    factors = np.asarray(loadings, dtype=float)
    if factors.ndim != 2 or len(factors) != points or not (factors >= 0).all():
        raise ValueError("loadings must be non-negative, with one row for each point")
    return factors


def _beyond_shuffled(result: xr.Dataset, shuffled: xr.Dataset) -> xr.Dataset:
    """Scores against shuffled loadings beside the others; clustered only where both are."""
    for name in (*EVIDENCE, "combined"):
        for one in ("z", "p"):
            result[f"{name}_shuffled_{one}"] = shuffled[f"{name}_{one}"]
    both = {result.attrs["verdict"], shuffled.attrs["verdict"]} == {"clustered"}
    return result.assign_attrs(verdict="clustered" if both else "continuous")


def _rotated(points: np.ndarray) -> np.ndarray:
    """Scores on the principal components that have variance: the same distances, fewer columns."""
    left, spread, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    kept = spread > 1e-10 * spread[0]
    return left[:, kept] * spread[kept]


def _surrogate_statistics(
    points: np.ndarray,
    index: np.ndarray,
    neighbours: int,
    graph: GraphKind,
    seed: int,
    number: int,
) -> dict[str, float]:
    rng = generator(seed, "continuity", str(number))
    return statistics_of(
        smoothed(points, index, rng),
        neighbours=neighbours,
        graph=graph,
        seed=int(rng.integers(2**31)),
    )


def _shuffled_statistics(
    loadings: np.ndarray, components: int, neighbours: int, graph: GraphKind, seed: int, number: int
) -> dict[str, float]:
    rng = generator(seed, "continuity", "shuffled", str(number))
    root = np.sqrt(shuffled_loadings(loadings, rng))
    points = _rotated(root)[:, :components]
    return statistics_of(points, neighbours=neighbours, graph=graph, seed=int(rng.integers(2**31)))


def compared(observed: dict[str, float], null: list[dict[str, float]]) -> xr.Dataset:
    """Statistics of a population against those of surrogates: variables of :func:`continuity`.

    Parameters
    ----------
    observed : dict
        Of :func:`driftwave.graphs.statistics.statistics_of`.
    null : list of dict
        The same of each surrogate.
    """
    result = xr.Dataset()
    scores = []
    for name, sign in {**EVIDENCE, **NO_EVIDENCE}.items():
        surrogate = np.array([one[name] for one in null], dtype=float)
        # One set of exchangeable draws under the null: standardised together.
        z, z_null = _standardised(sign * observed[name], sign * surrogate)
        about = {"units": "1", "evidence": int(name in EVIDENCE)}
        result[name] = ((), float(observed[name]), about)
        result[f"{name}_surrogate"] = ("surrogate", surrogate, about)
        result[f"{name}_z"] = ((), z, about)
        result[f"{name}_p"] = ((), float(p_value(sign * surrogate, sign * observed[name])), about)
        if name in EVIDENCE:
            scores.append(np.append(z, z_null))
    together = np.mean(scores, axis=0)
    z, z_null = _standardised(together[0], together[1:])
    p = float(p_value(together[1:], together[0]))
    result["combined_z"] = ((), z, {"units": "1"})
    result["combined_p"] = ((), p, {"units": "1"})
    return result.assign_attrs(verdict="clustered" if p <= ALPHA else "continuous")


def _standardised(value: float, null: np.ndarray) -> tuple[float, np.ndarray]:
    """z of the value and of the null, cut at ``LARGEST``: a null without spread has no scale."""
    spread = max(float(null.std(ddof=1)), 1e-12)
    z = np.clip(float(value - null.mean()) / spread, -LARGEST, LARGEST)
    return float(z), np.clip((null - null.mean()) / spread, -LARGEST, LARGEST)
