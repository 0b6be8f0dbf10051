"""A cloud of population states made ready for persistent homology: denoised and thinned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from driftwave.geometry.dimension import Components, principal_components


class Recipe(NamedTuple):
    """How landmarks are chosen.

    Attributes
    ----------
    components : int
        Principal components kept.
    rows : int
        Rows (evenly spaced) that enter at most.
    neighbours : int
        Rows whose mean stands for each row; also what its density is judged by.
    sparsest : float
        Share of the rows, the most isolated ones, that are left out.
    points : int
        Landmarks.
    """

    components: int
    rows: int
    neighbours: int
    sparsest: float
    points: int


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of a cloud, in the order in which they were chosen.

    Attributes
    ----------
    components : Components
        Principal axes of the rows.
    scale : float
        Root mean square distance of the rows from their mean, in these axes.
    position : ndarray (point, component)
        Divided by ``scale``. The first n are themselves a farthest-point sample.
    """

    components: Components
    scale: float
    position: np.ndarray

    def place(self, rows: np.ndarray) -> np.ndarray:
        """Any rows (row, dim) in the coordinates of the landmarks (row, component)."""
        return self.components.project(rows) / self.scale


def choose_landmarks(rows: np.ndarray, recipe: Recipe) -> Landmarks:
    """Landmarks of rows (row, dim): PCA, local means, sparse rows left out, farthest points.

    Each row is replaced by the mean of its nearest rows (noise off the manifold goes, the manifold
    stays), the rows farthest from their neighbours are left out (Chaudhuri et al. 2019 and Gardner
    et al. 2022 drop sparse points likewise), and landmarks are picked one by one, each as far as
    possible from those before: visits to some parts of the manifold being more frequent does not
    matter then.

    Raises
    ------
    ValueError
        If the rows do not vary.
    """
    thinned = rows[np.linspace(0, len(rows) - 1, min(len(rows), recipe.rows)).astype(int)]
    components = principal_components(thinned, recipe.components)
    cloud = components.project(thinned)
    scale = float(np.sqrt((cloud**2).sum(axis=1).mean()))
    cloud = cloud / scale
    count = min(recipe.neighbours, len(cloud) - 1)
    distance, nearest = cKDTree(cloud).query(cloud, count + 1)
    kept = distance[:, -1] <= np.quantile(distance[:, -1], 1 - recipe.sparsest)
    denoised = np.zeros_like(cloud)
    for one in nearest.T:  # row by row of neighbours: memory stays that of the cloud
        denoised += cloud[one]
    denoised = denoised[kept] / (count + 1)
    chosen = farthest_points(denoised, recipe.points)
    return Landmarks(components, scale, denoised[chosen])


def farthest_points(cloud: np.ndarray, count: int) -> np.ndarray:
    """Positions (point,) of points of a cloud (row, dim), each farthest from those before it.

    Begins with the row farthest from the mean; at most ``count``, fewer once all that is left lies
    on a point already chosen.
    """
    chosen = [int(((cloud - cloud.mean(axis=0)) ** 2).sum(axis=1).argmax())]
    squared = ((cloud - cloud[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(cloud)):
        farthest = int(squared.argmax())
        if squared[farthest] <= 0:
            break
        chosen.append(farthest)
        np.minimum(squared, ((cloud - cloud[farthest]) ** 2).sum(axis=1), out=squared)
    return np.array(chosen)
