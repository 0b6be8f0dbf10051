"""Where a flow is known and which places are neighbours: a filled grid, or Delaunay triangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from driftwave.phase.electrodes import Electrodes

# Triangles of an irregular layout with a side this many times the median one's span a gap.
LONGEST_SIDE = 3.0
# A flow's Jacobian is fitted to the nodes within this many pitches of a triangle's centre.
REACH = 2.0


@dataclass(frozen=True)
class Mesh:
    """Nodes, neighbours and triangles of a layout.

    Attributes
    ----------
    position : ndarray (node, 2)
        mm. On a grid every place of its bounding rectangle, holes included.
    node : ndarray of int (electrode,)
        Each electrode's node.
    neighbour : ndarray of int32 (node, degree)
        Padded with the node itself at weight 0.
    weight : ndarray of float32 (node, degree)
        (pitch / distance)^2, so that the sum of squared differences over neighbours is an integral
        of the squared derivative whatever the spacing.
    triangle : ndarray of int32 (triangle, 3)
        Counter-clockwise.
    near : ndarray of int32 (triangle, neighbour)
        Nodes about the triangle's centre, padded with -1.
    slope : ndarray of float32 (triangle, 2, neighbour)
        Least squares derivative (1/mm) along x and y from values at the nodes ``near``.
    """

    position: np.ndarray
    node: np.ndarray
    neighbour: np.ndarray
    weight: np.ndarray
    triangle: np.ndarray
    near: np.ndarray
    slope: np.ndarray

    def __len__(self) -> int:
        return len(self.position)


def mesh_of(electrodes: Electrodes) -> Mesh:
    """The mesh of a layout."""
    if electrodes.lattice is not None:
        position, node, triangle = _filled_grid(electrodes, electrodes.lattice)
        edges = _grid_edges(*(electrodes.lattice.max(axis=0) + 1))
    elif electrodes.linear:
        position, node = electrodes.position, np.arange(len(electrodes))
        triangle = np.empty((0, 3), int)
        order = np.argsort(position @ electrodes.axis)
        edges = np.stack([order[:-1], order[1:]], axis=1)
    else:
        position, node = electrodes.position, np.arange(len(electrodes))
        triangle = _delaunay(position)
        edges = _edges(triangle, position)
    known = np.zeros(len(position), bool)
    known[node] = True
    # A zero of the flow between places that are all but filled in is no finding.
    triangle = _counter_clockwise(triangle[known[triangle].sum(axis=1) >= 2], position)
    neighbour, weight = _padded(edges, position, electrodes.pitch)
    near, slope = _slopes(triangle, position, electrodes.pitch)
    return Mesh(position, node, neighbour, weight, triangle, near, slope)


def _filled_grid(
    electrodes: Electrodes, lattice: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns, rows = (lattice.max(axis=0) + 1).tolist()
    place = np.stack(np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij"), axis=-1)
    step = electrodes.spacing[:, None] * electrodes.basis
    origin = (electrodes.position - lattice @ step).mean(axis=0)
    position = origin + place.reshape(-1, 2) @ step
    number = np.arange(columns * rows).reshape(columns, rows)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    # Diagonals alternate, so that no direction is preferred.
    even = (np.add.outer(np.arange(columns - 1), np.arange(rows - 1)) % 2 == 0)[..., None]
    first = np.where(even, np.stack([a, b, c], -1), np.stack([a, b, d], -1))
    second = np.where(even, np.stack([a, c, d], -1), np.stack([b, c, d], -1))
    triangle = np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)])
    return position, lattice[:, 0] * rows + lattice[:, 1], triangle


def _grid_edges(columns: int, rows: int) -> np.ndarray:
    number = np.arange(columns * rows).reshape(columns, rows)
    along = np.stack([number[:-1].ravel(), number[1:].ravel()], axis=1)
    across = np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], axis=1)
    return np.concatenate([along, across])


def _delaunay(position: np.ndarray) -> np.ndarray:
    triangle = Delaunay(position).simplices
    corner = position[triangle]
    side = np.linalg.norm(corner - np.roll(corner, 1, axis=1), axis=-1)
    return triangle[side.max(axis=1) <= LONGEST_SIDE * np.median(side)]


def _edges(triangle: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Sides of triangles, and the nearest neighbour of a place that has none."""
    sides = np.concatenate([triangle[:, [0, 1]], triangle[:, [1, 2]], triangle[:, [2, 0]]])
    alone = np.setdiff1d(np.arange(len(position)), sides)
    if len(alone):
        _, nearest = cKDTree(position).query(position[alone], k=2)
        sides = np.concatenate([sides, np.stack([alone, nearest[:, 1]], axis=1)])
    return np.unique(np.sort(sides, axis=1), axis=0)


def _counter_clockwise(triangle: np.ndarray, position: np.ndarray) -> np.ndarray:
    one, two = (position[triangle[:, i]] - position[triangle[:, 0]] for i in (1, 2))
    turned = one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0] < 0
    return np.where(turned[:, None], triangle[:, [0, 2, 1]], triangle).astype(np.int32)


def _padded(edges: np.ndarray, position: np.ndarray, pitch: float) -> tuple[np.ndarray, np.ndarray]:
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    degree = np.bincount(both[:, 0], minlength=len(position))
    slot = np.arange(len(both)) - np.repeat(np.cumsum(degree) - degree, degree)
    neighbour = np.repeat(np.arange(len(position))[:, None], degree.max(), axis=1)
    weight = np.zeros(neighbour.shape, np.float32)
    neighbour[both[:, 0], slot] = both[:, 1]
    distance = np.linalg.norm(position[both[:, 0]] - position[both[:, 1]], axis=1)
    weight[both[:, 0], slot] = (pitch / distance) ** 2
    return neighbour.astype(np.int32), weight


def _slopes(
    triangle: np.ndarray, position: np.ndarray, pitch: float
) -> tuple[np.ndarray, np.ndarray]:
    centre = position[triangle].mean(axis=1).reshape(-1, 2)
    found = cKDTree(position).query_ball_point(centre, REACH * pitch)
    members = [
        np.union1d(np.array(nodes, int), own) for nodes, own in zip(found, triangle, strict=True)
    ]
    most = max((len(nodes) for nodes in members), default=3)
    near = np.full((len(triangle), most), -1, np.int32)
    slope = np.zeros((len(triangle), 2, most), np.float32)
    for which, nodes in enumerate(members):
        design = np.column_stack([np.ones(len(nodes)), position[nodes] - centre[which]])
        near[which, : len(nodes)] = nodes
        slope[which, :, : len(nodes)] = np.linalg.pinv(design)[1:]
    return near, slope
