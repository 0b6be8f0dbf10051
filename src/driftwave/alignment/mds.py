"""A picture of sessions in the plane from their distances."""

from __future__ import annotations

import numpy as np

from driftwave.compute import generator

COMPONENTS = 2
# Of the root mean square distance: SMACOF never leaves a start on a line.
JITTER = 1e-3


def embed(distance: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Metric multidimensional scaling by SMACOF, started from the classical solution.

    Sessions are left out, the one with most missing distances first, until none is missing.

    Parameters
    ----------
    distance : ndarray (session, session)
        Symmetric, diagonal 0; NaN where a pair could not be compared.
    seed : int

    Returns
    -------
    coordinates : ndarray (session, 2)
        About their mean, along their principal axes; NaN for sessions left out.
    stress : float
        Kruskal's stress-1: root of the squared misfit over the squared distances.
    """
    from sklearn.manifold import MDS

    kept = np.arange(len(distance))
    while np.isnan(distance[np.ix_(kept, kept)]).any():
        kept = np.delete(kept, np.isnan(distance[np.ix_(kept, kept)]).sum(axis=0).argmax())
    coordinates = np.full((len(distance), COMPONENTS), np.nan)
    wanted = np.maximum(distance[np.ix_(kept, kept)], 0)
    if len(kept) < 2 or not wanted.any():
        return coordinates, np.nan
    if len(kept) == 2:
        half = wanted[0, 1] / 2
        coordinates[kept] = [[-half, 0.0], [half, 0.0]]
        return coordinates, 0.0
    start = _classical(wanted) + JITTER * np.sqrt((wanted**2).mean()) * generator(
        seed, "multidimensional scaling"
    ).standard_normal((len(kept), COMPONENTS))
    model = MDS(COMPONENTS, metric="precomputed", n_init=1, init="random", random_state=seed)
    places = _principal(model.fit_transform(wanted, init=start))
    coordinates[kept] = places
    found = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return coordinates, float(np.sqrt(((found - wanted) ** 2).sum() / (wanted**2).sum()))


def _classical(distance: np.ndarray) -> np.ndarray:
    """Classical scaling (session, 2), an axis without variance where there is no second one.

    Distances that are not Euclidean have negative eigenvalues, of which scikit-learn takes roots.
    """
    squared = distance**2
    mean = squared.mean(axis=0)
    values, vectors = np.linalg.eigh(-0.5 * (squared - mean - mean[:, None] + mean.mean()))
    return vectors[:, : -COMPONENTS - 1 : -1] * np.sqrt(
        np.maximum(values[: -COMPONENTS - 1 : -1], 0)
    )


def _principal(places: np.ndarray) -> np.ndarray:
    """Along principal axes, the largest entry of each positive: pictures do not turn at random."""
    centred = places - places.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    turned = centred @ axes.T
    largest = np.abs(turned).argmax(axis=0)
    return turned * np.where(turned[largest, range(turned.shape[1])] < 0, -1, 1)
