"""Scores over time, or over a matrix of times, corrected for how many there are.

Clusters of neighbouring scores above chance are weighed against the heaviest cluster of each label
shuffle (Maris & Oostenveld 2007, 10.1016/j.jneumeth.2007.03.024), so that one error rate holds for
the whole line or matrix. What a cluster's p tells of is the cluster, not its edges (Sassenhagen &
Draschkow 2019, 10.1111/psyp.13335).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from driftwave.nulls.multiplicity import benjamini_hochberg
from driftwave.readouts.null import p_value


@dataclass(frozen=True)
class Tested:
    """Scores beside their shuffles, each by itself, with false discovery rate and in clusters.

    Attributes
    ----------
    p, q : ndarray (...)
        Of each score by itself; false discovery rate over all of them.
    threshold : ndarray (...)
        Score above which a point may join a cluster.
    cluster : ndarray of int (...)
        Number of the cluster each score belongs to, from 1; 0 for none.
    cluster_p : ndarray (...)
        p of that cluster; 1 outside of clusters.
    """

    p: np.ndarray
    q: np.ndarray
    threshold: np.ndarray
    cluster: np.ndarray
    cluster_p: np.ndarray


def _masses(excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of positive excess (neighbours share an edge), and the sum of it in each."""
    cluster, number = ndimage.label(excess > 0)
    return cluster, ndimage.sum_labels(excess, cluster, np.arange(1, number + 1))


def weigh_clusters(observed: np.ndarray, null: np.ndarray, *, level: float = 0.05) -> Tested:
    """Test scores on a line or a matrix of times against label shuffles of all of them.

    Points above the ``1 - level`` quantile of shuffles and observation together join clusters; a
    cluster weighs the sum of what its points lie above it, in standard deviations of these.

    Parameters
    ----------
    observed : ndarray (...)
    null : ndarray (shuffle, ...)
        Each shuffle of the same labels at all points, so that their dependence is kept.
    level : float
        Of the threshold that forms clusters, not of their test.
    """
    together = np.concatenate([observed[None], null])
    spread = together.std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    threshold = np.quantile(together, 1 - level, axis=0)
    excess = (together - threshold) / spread
    heaviest = np.array([max(_masses(one)[1], default=0.0) for one in excess[1:]])
    cluster, masses = _masses(excess[0])
    each = np.array([(1 + (heaviest >= mass).sum()) / (len(heaviest) + 1) for mass in masses])
    p = p_value(observed, np.moveaxis(null, 0, -1))
    return Tested(
        p=p,
        q=benjamini_hochberg(p.ravel()).reshape(p.shape),
        threshold=threshold,
        cluster=cluster,
        cluster_p=np.append(1.0, each)[cluster],
    )


@dataclass(frozen=True)
class Onset:
    """When scores first lie above chance, s, with the interval of a bootstrap over trials.

    Attributes
    ----------
    at, low, high : float
        NaN where no cluster is significant.
    found : float
        Share of bootstrap samples with a run above the threshold beside the cluster.
    """

    at: float = np.nan
    low: float = np.nan
    high: float = np.nan
    found: float = np.nan


def onset(
    tested: Tested,
    resampled: np.ndarray,
    starts: np.ndarray,
    *,
    level: float = 0.05,
    confidence: float = 0.95,
) -> Onset:
    """Start of the first significant cluster of a line of scores, with its interval.

    In each bootstrap sample the heaviest run above the (fixed) threshold that overlaps the
    cluster gives an onset; the interval holds the middle of those.

    Parameters
    ----------
    tested : Tested
        Of scores (time,).
    resampled : ndarray (sample, time)
        Scores of trials drawn with replacement.
    starts : ndarray (time,)
        When each window begins, s.
    level : float
        Of a significant cluster.
    confidence : float
        Share of the samples inside the interval.
    """
    significant = tested.cluster_p <= level
    if not significant.any():
        return Onset()
    first = int(np.flatnonzero(significant)[0])
    inside = tested.cluster == tested.cluster[first]
    found = []
    for sample in resampled:
        cluster, masses = _masses(sample - tested.threshold)
        beside = np.unique(cluster[inside & (cluster > 0)])
        if len(beside):
            heaviest = beside[masses[beside - 1].argmax()]
            found.append(starts[np.flatnonzero(cluster == heaviest)[0]])
    if not found:
        return Onset(at=float(starts[first]), found=0.0)
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Onset(float(starts[first]), float(low), float(high), len(found) / len(resampled))
