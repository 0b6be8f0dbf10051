"""Singularities of single frames: cells that wind, and the largest loop on which they still do."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from driftwave.frame_fits.cycles import gaussian_kernel
from driftwave.frame_fits.stream import Measures, Piece
from driftwave.phase.electrodes import Electrodes
from driftwave.phase.gradient import wrap
from driftwave.phase.winding import Plaquettes

POINTS = 16
# A point of a loop takes the mean phasor of the electrodes within this many pitches.
REACH = 0.75


@dataclass(frozen=True)
class SpiralFinder:
    """Finds the centres of spirals in single frames, as Ye et al. (2023) did in imaging.

    A cell that winds is a candidate; on circles about it, of growing radius, the phase has to run
    through all four quadrants in order. The spiral's radius is that of the largest circle on which
    it does, all smaller ones included.

    Attributes
    ----------
    electrodes : Electrodes
    cells : Plaquettes
    radii : ndarray (radius,)
        mm.
    loops : list of sparse array (cell x point, electrode)
        Weights that give the phasor at each point of the circles of one radius.
    complete : ndarray of bool (radius, cell)
        Circles whose points all lie among electrodes.
    smallest : int
        Circles on which a candidate must wind.
    step : int
        Frames from one that is searched to the next.
    kernel : sparse array or None
        Smooths the phasors first.
    """

    electrodes: Electrodes
    cells: Plaquettes
    radii: np.ndarray
    loops: list[sparse.csr_array]
    complete: np.ndarray
    smallest: int
    step: int
    kernel: sparse.csr_array | None

    def __call__(self, piece: Piece) -> Measures:
        coarse = piece.signal[:, :: self.step]
        valid = piece.valid[:: self.step]
        found = self.find(coarse)
        keep = valid[found["frame"]]
        kept = {name: value[keep] for name, value in found.items()}
        kept["frame"] = piece.first // self.step + kept["frame"]
        return kept

    def find(self, signal: np.ndarray) -> Measures:
        """Singularities of a signal (electrode, frame).

        Returns
        -------
        dict
            frame, x, y (mm), charge (+1 turns counter-clockwise), radius (mm), (singularity,)
            each, in order of frames.
        """
        unit = signal / np.maximum(np.abs(signal), np.finfo(np.float32).tiny)
        if self.kernel is not None:
            unit = (self.kernel @ unit).astype(np.complex64)
        winding = self.cells.confirmed(np.angle(unit).astype(np.float32))
        frame, cell = np.nonzero(winding.T)
        charge = winding[cell, frame].astype(int)
        rings = self._rings(unit, frame, cell, charge)
        kept = rings >= self.smallest
        frame, cell, charge, rings = frame[kept], cell[kept], charge[kept], rings[kept]
        kept = self._strongest(frame, cell, charge, rings)
        place = self._zero(unit, frame[kept], cell[kept])
        return {
            "frame": frame[kept],
            "x": place[:, 0],
            "y": place[:, 1],
            "charge": charge[kept],
            "radius": self.radii[rings[kept] - 1],
        }

    def _zero(self, unit: np.ndarray, frame: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Where the plane through the corners' phasors vanishes, (singularity, 2), mm."""
        corners, centre = self.cells.corners[cell], self.cells.centre[cell]
        away = self.electrodes.position[corners] - centre[:, None]
        design = np.concatenate([np.ones((*away.shape[:2], 1)), away], axis=-1)
        value = unit[corners, frame[:, None]][..., None]
        fit = (np.linalg.pinv(design) @ value)[..., 0]
        slope = np.stack([fit[:, 1:].real, fit[:, 1:].imag], axis=1)
        level = np.stack([fit[:, 0].real, fit[:, 0].imag], axis=1)[..., None]
        shift = -(np.linalg.pinv(slope) @ level)[..., 0]
        reach = np.abs(away).max(axis=(1, 2))[:, None]
        return centre + np.clip(shift, -reach, reach)

    def _rings(
        self, unit: np.ndarray, frame: np.ndarray, cell: np.ndarray, charge: np.ndarray
    ) -> np.ndarray:
        """Number of circles, from the smallest on, around which each candidate winds."""
        rings = np.zeros(len(frame), int)
        going = np.arange(len(frame))
        for number, weights in enumerate(self.loops):
            going = going[self.complete[number, cell[going]]]
            if not len(going):
                break
            around = self._around(weights, unit, frame[going], cell[going])
            going = going[in_order(around) == charge[going]]
            rings[going] = number + 1
        return rings

    def _around(
        self, weights: sparse.csr_array, unit: np.ndarray, frame: np.ndarray, cell: np.ndarray
    ) -> np.ndarray:
        """Phasors (candidate, point) on the circles of one radius."""
        rows = (cell[:, None] * POINTS + np.arange(POINTS)).ravel()
        few = weights[rows]
        column = np.repeat(np.repeat(frame, POINTS), np.diff(few.indptr))
        values = few.data * unit[few.indices, column]
        return np.add.reduceat(values, few.indptr[:-1]).reshape(-1, POINTS)

    def _strongest(
        self, frame: np.ndarray, cell: np.ndarray, charge: np.ndarray, rings: np.ndarray
    ) -> np.ndarray:
        """Of candidates of one charge within the smallest confirming circle, the widest one."""
        apart = self.radii[self.smallest - 1]
        keep: list[int] = []
        edges = np.flatnonzero(np.diff(frame, prepend=-1, append=-2))
        for first, last in pairwise(edges.tolist()):
            if last - first == 1:
                keep.append(first)
                continue
            order = first + np.argsort(-rings[first:last], kind="stable")
            chosen: list[int] = []
            for one in order.tolist():
                place = self.cells.centre[cell[one]]
                if all(
                    charge[other] != charge[one]
                    or np.hypot(*(self.cells.centre[cell[other]] - place)) > apart
                    for other in chosen
                ):
                    chosen.append(one)
            keep += sorted(chosen)
        return np.array(keep, dtype=int)


def in_order(around: np.ndarray) -> np.ndarray:
    """Charge (loop,) of phasors (loop, point) that run through the four quadrants in order, else 0.

    Points are counter-clockwise. Phase may go back within a quadrant, never into the one before;
    no step reaches the opposite quadrant.
    """
    quadrant = np.floor(np.angle(around) / (np.pi / 2)).astype(int)
    step = (np.roll(quadrant, -1, axis=1) - quadrant + 1) % 4 - 1
    turns = step.sum(axis=1) // 4
    ordered = (step != 2).all(axis=1) & (np.abs(step).sum(axis=1) == 4) & (np.abs(turns) == 1)
    winding = wrap(np.angle(np.roll(around, -1, axis=1) * around.conj())).sum(axis=1)
    agrees = np.round(winding / (2 * np.pi)) == turns
    return np.where(ordered & agrees, -turns, 0)


def spiral_finder(
    electrodes: Electrodes, *, largest: float | None, step: int, smoothing: float
) -> SpiralFinder:
    """Prepare the search on a layout.

    Parameters
    ----------
    electrodes : Electrodes
    largest : float or None
        Largest radius, mm; default half the layout's extent.
    step : int
        Frames from one that is searched to the next.
    smoothing : float
        SD (pitches) of the Gaussian that smooths the phasors first; 0 for none.
    """
    position, pitch = electrodes.position, electrodes.pitch
    largest = electrodes.extent / 2 if largest is None else largest
    radii = np.arange(1, max(2, int(largest / pitch + 1e-9)) + 1) * pitch
    cells = Plaquettes.of(electrodes)
    tree = cKDTree(position)
    angle = (np.arange(POINTS) + 0.5) * 2 * np.pi / POINTS
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    loops, complete = [], np.zeros((len(radii), len(cells)), bool)
    for number, radius in enumerate(radii):
        points = (cells.centre[:, None] + radius * ring).reshape(-1, 2)
        weights = _weights(tree, points, REACH * pitch)
        inside = (np.diff(weights.indptr) > 0).reshape(-1, POINTS)
        # A point beside a missing electrode is left to its nearest neighbour, one beyond the
        # border is not.
        near, nearest = tree.query(points)
        inside |= (near <= 1.5 * pitch).reshape(-1, POINTS) & _within(position, points, POINTS)
        empty = np.flatnonzero(np.diff(weights.indptr) == 0)
        filled = sparse.csr_array(
            (np.ones(len(empty)), (empty, nearest[empty])), shape=weights.shape
        )
        loops.append(sparse.csr_array(weights + filled))
        complete[number] = inside.all(axis=1)
    kernel = gaussian_kernel(position, smoothing * pitch) if smoothing else None
    return SpiralFinder(electrodes, cells, radii, loops, complete, 2, step, kernel)


def _weights(tree: cKDTree, points: np.ndarray, reach: float) -> sparse.csr_array:
    """Weights (point, electrode), falling to 0 at ``reach``."""
    near = tree.query_ball_point(points, reach)
    row = np.repeat(np.arange(len(points)), [len(one) for one in near])
    column = np.concatenate([np.asarray(one, dtype=int) for one in near] or [np.zeros(0, int)])
    distance = np.linalg.norm(tree.data[column] - points[row], axis=1)
    shape = (len(points), tree.n)
    return sparse.csr_array((1 - distance / reach + 1e-6, (row, column)), shape=shape)


def _within(position: np.ndarray, points: np.ndarray, count: int) -> np.ndarray:
    low, high = position.min(axis=0) - 1e-9, position.max(axis=0) + 1e-9
    return ((points >= low) & (points <= high)).all(axis=1).reshape(-1, count)
