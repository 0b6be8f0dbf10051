"""What an embedding keeps: neighbourhoods, distances, conditions and behaviour."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from driftwave.geometry.embeddings import Embedding
from driftwave.geometry.two_nn import squared_distances

# The vote of a nearer neighbour settles ties and nothing else.
TIE = 1e-6


def apart(embedding: Embedding) -> np.ndarray:
    """Coordinates (point, component) of the points embedded, pieces of the graph far apart."""
    there = embedding.there
    coordinates, of = embedding.coordinates[there], embedding.of[there]
    if not of.any():
        return coordinates
    far = 100 * (np.abs(coordinates).max() + 1)
    return np.column_stack([coordinates, far * (of[:, None] == np.unique(of))])


def kept_neighbourhoods(
    points: np.ndarray, embedding: Embedding, neighbours: int
) -> tuple[float, float]:
    """Trustworthiness and continuity of the points embedded, scikit-learn's.

    Venna and Kaski 2001: 1 less the penalty for neighbours in the embedding that are none in the
    activity (trustworthiness), and the other way round (continuity). About .5 by chance.
    """
    from sklearn.manifold import trustworthiness

    there = embedding.there
    neighbours = min(neighbours, (int(there.sum()) - 1) // 2)
    if neighbours < 1:
        return np.nan, np.nan
    inside = apart(embedding)
    points = points[there]
    return (
        float(trustworthiness(points, inside, n_neighbors=neighbours)),
        float(trustworthiness(inside, points, n_neighbors=neighbours)),
    )


def distance_correlation(squared: np.ndarray, embedding: Embedding) -> float:
    """Spearman correlation of distances in activity and embedding, within pieces of the graph.

    Parameters
    ----------
    squared : ndarray (point, point)
        Squared distances of activity.
    embedding : Embedding
    """
    from scipy.stats import rankdata

    there = np.flatnonzero(embedding.there)
    if len(there) < 3:
        return np.nan
    row, column = np.triu_indices(len(there), 1)
    same = embedding.of[there][row] == embedding.of[there][column]
    inside = squared_distances(embedding.coordinates[there])[row, column][same]
    outside = squared[there[row], there[column]][same]
    if len(inside) < 3 or not np.ptp(inside) or not np.ptp(outside):
        return np.nan
    return float(np.corrcoef(rankdata(inside), rankdata(outside))[0, 1])


@dataclass(frozen=True)
class Voters:
    """The nearest points that may speak for each.

    Attributes
    ----------
    index : ndarray of int (point, neighbour)
    weight : ndarray (point, neighbour)
        0 where there are fewer.
    """

    index: np.ndarray
    weight: np.ndarray


def voters(coordinates: np.ndarray, of: np.ndarray, allowed: np.ndarray, neighbours: int) -> Voters:
    """Nearest points of the same piece of the graph among those allowed.

    Parameters
    ----------
    coordinates : ndarray (point, component)
        NaN for points that are not embedded.
    of : ndarray of int (point,)
    allowed : ndarray of bool (point, point)
    neighbours : int
    """
    there = np.isfinite(coordinates).all(axis=1)
    distance = squared_distances(np.where(there[:, None], coordinates, 0.0))
    barred = ~allowed | (of[:, None] != of) | ~there | ~there[:, None]
    distance[barred] = np.inf
    np.fill_diagonal(distance, np.inf)
    neighbours = min(neighbours, len(of) - 1)
    index = np.argsort(distance, axis=1, kind="stable")[:, :neighbours]
    near = np.isfinite(np.take_along_axis(distance, index, axis=1))
    return Voters(index, near * (1 + TIE * np.arange(neighbours, 0, -1)))


def separability(
    found: Voters, labels: np.ndarray, at: np.ndarray, shuffled: Iterable[np.ndarray]
) -> tuple[float, np.ndarray]:
    """Share of points whose neighbours of other trials vote for their condition; and by chance.

    Parameters
    ----------
    found : Voters
    labels : ndarray of int (row, column)
        Condition of each place of the grid, -1 for none.
    at : ndarray of int (point,)
        Place of each point in the flattened grid.
    shuffled : iterable of ndarray (point,)
        Places whose labels the points are given instead.

    Returns
    -------
    float
        NaN with fewer than two conditions.
    ndarray (shuffle,)
    """
    flat = labels.ravel()
    number = int(flat.max(initial=-1)) + 1
    if len(np.unique(flat[at][flat[at] >= 0])) < 2:
        return np.nan, np.full(sum(1 for _ in shuffled), np.nan)
    return _vote(found, flat[at], number), np.array(
        [_vote(found, flat[places], number) for places in shuffled]
    )


def _vote(found: Voters, label: np.ndarray, number: int) -> float:
    """Share of labelled points with any voter that are told right."""
    of_voter = label[found.index]
    weight = np.where(of_voter >= 0, found.weight, 0)
    place = np.arange(len(label))[:, None] * number + np.maximum(of_voter, 0)
    votes = np.bincount(place.ravel(), weight.ravel(), len(label) * number)
    votes = votes.reshape(len(label), number)
    scored = (label >= 0) & (votes.max(axis=1) > 0)
    return float((votes.argmax(axis=1) == label)[scored].mean()) if scored.any() else np.nan


def told_behaviour(
    found: Voters, values: np.ndarray, at: np.ndarray, shuffled: Iterable[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """R2 of behaviour as the mean of the neighbours' of other trials; and by chance.

    Parameters
    ----------
    found : Voters
    values : ndarray (row, column, target)
        NaN where missing.
    at : ndarray of int (point,)
    shuffled : iterable of ndarray (point,)

    Returns
    -------
    ndarray (target,)
    ndarray (shuffle, target)
    """
    flat = values.reshape(values.shape[0] * values.shape[1], values.shape[2])
    null = [_told(found, flat[places]) for places in shuffled]
    return _told(found, flat[at]), np.array(null).reshape(len(null), values.shape[2])


def _told(found: Voters, values: np.ndarray) -> np.ndarray:
    there = np.isfinite(values)
    neighbours = there[found.index] & (found.weight > 0)[..., None]
    total = np.where(neighbours, values[found.index], 0).sum(axis=1)
    number = neighbours.sum(axis=1)
    scored = there & (number > 0)
    out = np.full(values.shape[1], np.nan)
    for target in range(values.shape[1]):
        rows = scored[:, target]
        true = values[rows, target]
        if rows.sum() > 1 and np.ptp(true) > 0:
            told = total[rows, target] / number[rows, target]
            out[target] = 1 - ((true - told) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    return out
