"""Spatial gradient of phase without unwrapping, and what is read off it frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from driftwave.phase.electrodes import Electrodes

NEIGHBOURS = 6


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angle in [-pi, pi]; equals arg(exp(i angle)) without a trigonometric call."""
    turns = angle * angle.dtype.type(1 / (2 * np.pi))
    np.rint(turns, out=turns)
    turns *= angle.dtype.type(2 * np.pi)
    return np.subtract(angle, turns, out=turns)


@dataclass(frozen=True)
class GridGradient:
    """Centred differences on a grid with holes.

    d(i) = arg(u_{i+1} conj u_i); at an electrode with both neighbours the gradient is the mean
    of its two one-sided differences, with one neighbour the one-sided difference. The customary
    arg(u_{i+1} conj u_{i-1}) / 2 aliases at half the wavenumber.
    """

    pair: tuple[np.ndarray, np.ndarray]
    before: tuple[np.ndarray, np.ndarray]
    after: tuple[np.ndarray, np.ndarray]
    spacing: np.ndarray
    usable: np.ndarray

    def differences(self, phase: np.ndarray) -> list[np.ndarray]:
        """Wrapped differences of neighbouring pairs along x and y, each (pair, frame)."""
        return [wrap(phase[pair[1]] - phase[pair[0]]) for pair in self.pair]

    def __call__(self, phase: np.ndarray) -> np.ndarray:
        """Gradient (axis, usable electrode, frame), rad/mm, of phase (electrode, frame), rad."""
        steps = self.differences(phase)
        gradient = np.empty((2, len(self.usable), phase.shape[1]), phase.dtype)
        for axis, step in enumerate(steps):
            scale = phase.dtype.type(0.5 / self.spacing[axis])
            np.add(step[self.before[axis]], step[self.after[axis]], out=gradient[axis])
            gradient[axis] *= scale
        return gradient


@dataclass(frozen=True)
class LocalPlanes:
    """Gradient on an irregular layout: a plane on the circle through each electrode's neighbours.

    Least squares on wrapped differences to the neighbours, then a Gauss-Newton step on the
    residuals wrapped again, so that a difference beyond half a cycle finds its branch.
    """

    neighbour: np.ndarray
    offset: np.ndarray
    inverse: np.ndarray
    usable: np.ndarray

    def differences(self, phase: np.ndarray) -> list[np.ndarray]:
        """Wrapped differences to the neighbours, one array (electrode x neighbour, frame)."""
        step = wrap(phase[self.neighbour] - phase[self.usable][:, None])
        return [step.reshape(-1, phase.shape[1])]

    def __call__(self, phase: np.ndarray) -> np.ndarray:
        """Gradient (axis, usable electrode, frame), rad/mm, of phase (electrode, frame), rad."""
        step = wrap(phase[self.neighbour] - phase[self.usable][:, None])
        inverse = self.inverse.astype(phase.dtype)
        offset = self.offset.astype(phase.dtype)
        gradient = inverse @ step
        for _ in range(2):
            gradient += inverse @ wrap(step - offset @ gradient)
        return np.ascontiguousarray(gradient.transpose(1, 0, 2))


def gradient_operator(electrodes: Electrodes) -> GridGradient | LocalPlanes:
    """The operator that suits a layout; ``usable`` lists the electrodes it gives a gradient at."""
    if electrodes.lattice is None:
        return _local_planes(electrodes)
    grid = _grid(electrodes)
    return grid if len(grid.usable) >= len(electrodes) / 2 else _local_planes(electrodes)


def _grid(electrodes: Electrodes) -> GridGradient:
    lattice = electrodes.lattice
    assert lattice is not None
    at = {tuple(place): i for i, place in enumerate(lattice.tolist())}
    pairs, links = [], []
    for axis in (0, 1):
        ahead = np.eye(2, dtype=int)[axis]
        pair = [(i, at.get(tuple((place + ahead).tolist()))) for i, place in enumerate(lattice)]
        pair = [(i, j) for i, j in pair if j is not None]
        leaving = {i: p for p, (i, _) in enumerate(pair)}
        arriving = {j: p for p, (_, j) in enumerate(pair)}
        pairs.append(np.array(pair, dtype=int).reshape(-1, 2).T)
        links.append((arriving, leaving))
    usable = [
        i for i in range(len(lattice)) if all(i in before or i in after for before, after in links)
    ]
    before = tuple(np.array([b.get(i, a.get(i)) for i in usable], dtype=int) for b, a in links)
    after = tuple(np.array([a.get(i, b.get(i)) for i in usable], dtype=int) for b, a in links)
    return GridGradient(
        (pairs[0], pairs[1]),
        (before[0], before[1]),
        (after[0], after[1]),
        electrodes.spacing,
        np.array(usable, dtype=int),
    )


def _local_planes(electrodes: Electrodes) -> LocalPlanes:
    count = min(NEIGHBOURS, len(electrodes) - 1)
    position = electrodes.position
    _, nearest = cKDTree(position).query(position, k=count + 1)
    neighbour = nearest[:, 1:]
    offset = position[neighbour] - position[:, None]
    strength = np.linalg.svd(offset, compute_uv=False)
    usable = np.flatnonzero(strength[:, 1] > 0.1 * strength[:, 0])
    return LocalPlanes(neighbour[usable], offset[usable], np.linalg.pinv(offset[usable]), usable)


def directionality(gradient: np.ndarray) -> np.ndarray:
    """Phase gradient directionality |mean grad phi| / mean |grad phi| (Rubino et al. 2006, eq. 2).

    Parameters
    ----------
    gradient : ndarray (axis, electrode, frame)

    Returns
    -------
    ndarray (frame,)
        1 where all electrodes agree on the direction, 0 where they cancel.
    """
    mean = gradient.mean(axis=1)
    size = np.sqrt((gradient**2).sum(axis=0)).mean(axis=0)
    return np.sqrt((mean**2).sum(axis=0)) / np.maximum(size, np.finfo(gradient.dtype).tiny)


def order_parameter(phase: np.ndarray) -> np.ndarray:
    """Kuramoto's |mean exp(i phi)| over electrodes, (frame,), of phase (electrode, frame)."""
    return np.hypot(np.cos(phase).mean(axis=0), np.sin(phase).mean(axis=0))


def frequency(phase: np.ndarray, rate: float) -> np.ndarray:
    """Mean instantaneous frequency over electrodes, Hz (frame,), by centred differences.

    ``phase`` (electrode, frame) is in rad, ``rate`` the frames per second.
    """
    step = wrap(np.diff(phase, axis=1)).mean(axis=0) * rate / (2 * np.pi)
    padded = np.concatenate([step[:1], step, step[-1:]])
    return 0.5 * (padded[1:] + padded[:-1])
