"""Points in few dimensions: PCA, Isomap, UMAP and diffusion maps, components by themselves."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

from driftwave.geometry.dimension import principal_components
from driftwave.graphs.components import components_of
from driftwave.graphs.diffusion import diffusion_map
from driftwave.graphs.knn import knn_graph

# Affinities below this hold a piece of the graph to nothing: its walk leaves once in as many steps.
WEAKEST = 1e-3

Method = Literal["pca", "isomap", "umap", "diffusion"]


@dataclass(frozen=True)
class Embedding:
    """Points in few dimensions.

    Attributes
    ----------
    coordinates : ndarray (point, component)
        Of each connected component of the graph by itself, about the component's own centre; NaN
        in those with too few points.
    of : ndarray of int (point,)
        Connected component, 0 the largest; all 0 for methods that need no connected graph.
    """

    coordinates: np.ndarray
    of: np.ndarray

    @property
    def there(self) -> np.ndarray:
        return np.isfinite(self.coordinates).all(axis=1)


def embed(
    points: np.ndarray, method: Method, *, components: int, neighbours: int, seed: int
) -> Embedding:
    """Points (point, dim) in ``components`` dimensions.

    PCA: Pearson 1901. Isomap: Tenenbaum et al. 2000 (10.1126/science.290.5500.2319),
    scikit-learn's. UMAP: McInnes et al. 2018 (1802.03426), umap-learn's. Diffusion map: Coifman
    and Lafon 2006, of the self-tuning graph. Isomap and diffusion maps of a graph in several
    pieces embed each piece by itself: distances between pieces mean nothing. For the diffusion map
    affinities below ``WEAKEST`` are none: the slowest coordinate would part a few outliers from the
    rest.

    Parameters
    ----------
    points : ndarray (point, dim)
        More points than ``components + 1``.
    method : {"pca", "isomap", "umap", "diffusion"}
    components : int
    neighbours : int
        Of the graph; at most all other points.
    seed : int
        Of UMAP.
    """
    neighbours = min(neighbours, len(points) - 1)
    whole = np.zeros(len(points), int)
    if method == "pca":
        found = principal_components(points, components).project(points)
        return Embedding(_filled(found, components), whole)
    if method == "umap":
        return Embedding(_umap(points, components, neighbours, seed), whole)
    graph = knn_graph(points, neighbours)
    if method == "diffusion":
        graph.data[graph.data < WEAKEST] = 0
        graph.eliminate_zeros()
        result = diffusion_map(graph, components=components)
        return Embedding(result.coordinates, result.of)
    of = components_of(graph)
    coordinates = np.full((len(points), components), np.nan)
    for label in range(of.max() + 1):
        members = np.flatnonzero(of == label)
        if len(members) > max(components + 1, 3):
            coordinates[members] = _isomap(points[members], components, neighbours)
    return Embedding(coordinates, of)


def _filled(values: np.ndarray, components: int) -> np.ndarray:
    """Zeros for components that the points do not have."""
    return np.pad(values, ((0, 0), (0, components - values.shape[1])))


def _isomap(points: np.ndarray, components: int, neighbours: int) -> np.ndarray:
    from sklearn.manifold import Isomap

    neighbours = min(neighbours, len(points) - 1)
    found = Isomap(
        n_neighbors=neighbours, n_components=components, eigen_solver="dense"
    ).fit_transform(points)
    # Geodesic distances of fewer dimensions leave components without variance.
    return np.nan_to_num(found)


def _umap(points: np.ndarray, components: int, neighbours: int, seed: int) -> np.ndarray:
    from umap import UMAP

    # The spectral start needs more points than it has eigenvectors.
    start = "spectral" if len(points) > 2 * components + 4 else "random"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="umap")
        warnings.filterwarnings("ignore", module="sklearn")
        model = UMAP(
            n_components=components,
            n_neighbors=max(2, neighbours),
            init=start,
            random_state=seed % 2**32,
            n_jobs=1,
        )
        return np.asarray(model.fit_transform(points.astype(np.float32)), float)
