"""Winding of phase around the cells of a layout: phase singularities and their charge.

The charge of a closed loop of electrodes is q = -1/(2 pi) sum_loop arg(u_{j+1} conj u_j), counted
counter-clockwise: +1 where the phase falls counter-clockwise, so that the wave turns that way.
Single cells wind in any noise; :meth:`Plaquettes.confirmed` asks a loop of radius two pitches or
more about the cell as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay

from driftwave.phase import kernels
from driftwave.phase.electrodes import Electrodes

# A triangle lower than this share of its longest side has no inside to speak of.
FLAT = 0.05
# Loops that confirm: radii in pitches, number of sectors, widest gap (degree) between electrodes.
INNER, OUTER = 2.0, 2.6
OUTER_IRREGULAR = 3.2
SECTORS = 12
WIDEST_GAP = 75.0
# Mean cosine of the phase steps' deviations from an even turn around a loop, below which its
# winding is not to be relied on. In noise the mean is 0 +- .2.
SMOOTH = 0.6


@dataclass(frozen=True)
class Plaquettes:
    """Cells of a layout and the larger loops about them.

    Attributes
    ----------
    corners : ndarray of int (cell, 4)
        Electrodes counter-clockwise; a triangle repeats its last corner. On grids 2 x 2 cells,
        where one corner is missing the triangle of the others, and the diamond about a single
        missing electrode; elsewhere Delaunay triangles. None on a line.
    centre : ndarray (cell, 2)
        Mean of the corners, mm.
    loop : ndarray of int (cell, 12)
        Electrodes counter-clockwise about the cell, 2 to 2.6 pitches from its centre, on irregular
        layouts 2 to 3.2 median edges of its triangles; shorter loops repeat their last electrode,
        -1 where the layout has no closed loop (near its border).
    """

    corners: np.ndarray
    centre: np.ndarray
    loop: np.ndarray

    @classmethod
    def of(cls, electrodes: Electrodes) -> Plaquettes:
        """Cells and loops of a layout."""
        position = electrodes.position
        if electrodes.linear:
            none = np.empty((0, 4), int)
            return cls(none, np.empty((0, 2)), np.empty((0, SECTORS), int))
        if electrodes.lattice is None:
            corners, outer = triangles(position)[:, [0, 1, 2, 2]], OUTER_IRREGULAR
            # Nearest neighbours are nearer than the typical one where electrodes are scattered.
            edges = position[corners[:, :3]] - position[corners[:, [1, 2, 0]]]
            scaled = position / np.median(np.linalg.norm(edges, axis=-1))
        else:
            corners, scaled, outer = _cells(electrodes.lattice), electrodes.lattice, OUTER
        centre = _mean_corner(position, corners)
        middle = _mean_corner(scaled, corners)
        loops = [_loop(scaled - place, outer) for place in middle]
        loop = np.array(loops, dtype=int).reshape(-1, SECTORS)
        return cls(corners, centre, loop)

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def confirmable(self) -> np.ndarray:
        """Cells (cell,) with a closed loop of radius two pitches or more about them."""
        return self.loop[:, 0] >= 0

    def __call__(self, phase: np.ndarray) -> np.ndarray:
        """Charge int8 (cell, frame) of phase (electrode, frame), rad.

        0 where a corner's phase is NaN.
        """
        phase, turn = _prepared(phase)
        charge = np.zeros((len(self), phase.shape[1]), np.int8)
        kernels.winding(phase, self.corners, turn, charge)
        return charge

    def around(self, phase: np.ndarray) -> np.ndarray:
        """Charge int8 (cell, frame) on the loop about each cell, which holds up to +-5.

        0 where there is no loop, or where its steps are not smooth (see :data:`SMOOTH`).
        """
        phase, turn = _prepared(phase)
        charge = np.zeros((len(self), phase.shape[1]), np.int8)
        everywhere = np.ones_like(charge)
        kernels.loop_winding(phase, self.loop, everywhere, turn, SMOOTH, charge)
        return charge

    def confirmed(self, phase: np.ndarray) -> np.ndarray:
        """Charge int8 (cell, frame), only where the loop about the cell winds the same way.

        A singularity of charge +-2 shows as two neighbouring cells of +-1 whose loops wind by 2;
        :meth:`around` gives the 2.
        """
        charge = self(phase)
        phase, turn = _prepared(phase)
        loop = np.zeros_like(charge)
        kernels.loop_winding(phase, self.loop, charge, turn, SMOOTH, loop)
        charge[np.sign(loop) != np.sign(charge)] = 0
        return charge


def _prepared(phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    phase = np.ascontiguousarray(phase)
    return phase, kernels.wrapping(phase.dtype)


def _mean_corner(position: np.ndarray, corners: np.ndarray) -> np.ndarray:
    triangle = corners[:, 3] == corners[:, 2]
    three = position[corners[:, :3]].mean(axis=1)
    four = position[corners].mean(axis=1)
    return np.where(triangle[:, None], three, four).reshape(-1, 2)


def triangles(position: np.ndarray) -> np.ndarray:
    """Delaunay triangles (cell, 3) of positions (electrode, 2), counter-clockwise, no flat ones.

    None of positions on a line.
    """
    spread = np.linalg.svd(position - position.mean(axis=0), compute_uv=False)
    if spread[1] < 1e-6 * spread[0]:
        return np.empty((0, 3), int)
    corners = Delaunay(position).simplices
    a, b, c = (position[corners[:, i]] for i in range(3))
    (bx, by), (cx, cy) = (b - a).T, (c - a).T
    cross = bx * cy - by * cx
    longest = np.max([np.linalg.norm(p - q, axis=1) for p, q in ((a, b), (b, c), (c, a))], axis=0)
    corners = np.where((cross < 0)[:, None], corners[:, ::-1], corners)
    return corners[np.abs(cross) > FLAT * longest**2]


def _cells(lattice: np.ndarray) -> np.ndarray:
    """Cells (cell, 4) of a grid with holes, counter-clockwise."""
    at = {tuple(node): i for i, node in enumerate(lattice.tolist())}
    high = lattice.max(axis=0)
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    diamond = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
    cells = []
    for node in np.ndindex(*(high + 1)):
        found = [at[n] for n in map(tuple, (node + square).tolist()) if n in at]
        if len(found) == 4:
            cells.append(found)
        elif len(found) == 3:
            cells.append([*found, found[-1]])
        if node not in at:
            around = [at[n] for n in map(tuple, (node + diamond).tolist()) if n in at]
            if len(around) == 4:
                cells.append(around)
    return np.array(cells, dtype=int).reshape(-1, 4)


def _loop(away: np.ndarray, outer: float) -> np.ndarray:
    """Electrodes (12,) around the origin of positions (electrode, 2) in pitches; -1 if no loop."""
    distance = np.hypot(*away.T)
    ring = np.flatnonzero((distance >= INNER - 1e-9) & (distance <= outer + 1e-9))
    angle = np.arctan2(away[ring, 1], away[ring, 0])
    # One electrode per sector, the one nearest to the middle of the ring.
    sector = np.floor((angle + np.pi) / (2 * np.pi) * SECTORS + 1e-9).astype(int) % SECTORS
    nearest = np.argsort(np.abs(distance[ring] - (INNER + outer) / 2), kind="stable")
    _, first = np.unique(sector[nearest], return_index=True)
    chosen = nearest[first]
    chosen = chosen[np.argsort(angle[chosen])]
    gaps = np.diff(np.append(angle[chosen], angle[chosen[:1]] + 2 * np.pi))
    if len(chosen) < 3 or gaps.max() > np.deg2rad(WIDEST_GAP):
        return np.full(SECTORS, -1)
    loop = ring[chosen]
    return np.append(loop, np.repeat(loop[-1:], SECTORS - len(loop)))
