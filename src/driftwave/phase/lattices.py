"""Recognising a rectangular grid or a line of electrodes, whichever way it is turned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

# Shares of the pitch: how far electrodes may stand off a grid's nodes, and off a line.
OFF_NODE = 0.1
OFF_LINE = 0.2
# Shares of a grid's nodes that hold an electrode, and of electrodes with neighbours both ways.
OCCUPIED = 0.4
NEIGHBOURED = 0.5
# rad; a grid turned by less is taken as it stands.
UPRIGHT = 1e-4


@dataclass(frozen=True)
class Lattice:
    """A rectangular grid with holes.

    Attributes
    ----------
    node : ndarray of int (electrode, 2)
        Column and row.
    spacing : ndarray (2,)
        Between columns and between rows, mm.
    basis : ndarray (2, 2)
        Unit vectors along which column and row count up, as rows; right-handed.
    """

    node: np.ndarray
    spacing: np.ndarray
    basis: np.ndarray


def pitch_of(position: np.ndarray) -> float:
    """Median distance to the nearest neighbour of positions (electrode, dimension)."""
    distance, _ = cKDTree(position).query(position, k=2)
    return float(np.median(distance[:, 1]))


def principal_axis(position: np.ndarray) -> np.ndarray:
    """Unit vector (2,) along which positions (electrode, 2) spread most, towards +x (or +y)."""
    axis = np.linalg.svd(position - position.mean(axis=0), full_matrices=False)[2][0]
    axis = np.where(np.abs(axis) < 1e-12, 0.0, axis)
    leading = axis[0] if abs(axis[0]) > 1e-6 else axis[1]
    return axis * np.sign(leading)


def on_line(position: np.ndarray, axis: np.ndarray, pitch: float) -> bool:
    """Whether positions (electrode, 2) keep within 0.2 pitches of one line along ``axis``."""
    away = position - position.mean(axis=0)
    return bool(np.abs(away @ np.array([-axis[1], axis[0]])).max() <= OFF_LINE * pitch)


def find_lattice(position: np.ndarray, pitch: float) -> Lattice | None:
    """The grid all positions (electrode, 2) stand on, else None.

    Grids along x and y are tried first, then the direction most electrodes see their nearest
    neighbour in (Utah arrays are often given turned), refined by least squares.
    """
    angle = 0.0
    found = _along(position, np.eye(2), pitch)
    if found is None:
        angle = _commonest_direction(position)
        found = _along(position, _turned(angle), pitch)
    for _ in range(4):
        if found is None:
            return None
        turn = _residual_turn(position, found)
        if abs(turn) < (UPRIGHT if angle == 0 else 1e-12):
            break
        angle += turn
        found = _along(position, _turned(angle), pitch)
    return found


def _turned(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _commonest_direction(position: np.ndarray) -> float:
    """Direction to the nearest neighbour, rad in (-pi/4, pi/4], up to quarter turns."""
    _, nearest = cKDTree(position).query(position, k=2)
    step = position[nearest[:, 1]] - position
    quarter = np.exp(4j * np.arctan2(step[:, 1], step[:, 0]))
    # The candidate closest to most others: means would be drawn off by diagonal neighbours.
    agreement = (np.real(quarter[:, None] * quarter.conj()) > np.cos(0.2)).sum(axis=1)
    best = quarter[np.argmax(agreement)]
    close = np.real(quarter * best.conj()) > np.cos(0.2)
    return float(np.angle(quarter[close].sum()) / 4)


def _residual_turn(position: np.ndarray, lattice: Lattice) -> float:
    """Angle (rad) by which the grid still has to be turned to fit the positions best."""
    ideal = lattice.node * lattice.spacing
    ideal = (ideal - ideal.mean(axis=0)) @ lattice.basis
    away = position - position.mean(axis=0)
    cross = (ideal[:, 0] * away[:, 1] - ideal[:, 1] * away[:, 0]).sum()
    return float(np.arctan2(cross, (ideal * away).sum()))


def _along(position: np.ndarray, basis: np.ndarray, pitch: float) -> Lattice | None:
    nodes, spacing = [], []
    for values in basis @ position.T:
        found = _columns(values, pitch)
        if found is None:
            return None
        nodes.append(found[0])
        spacing.append(found[1])
    node = np.stack(nodes, axis=1)
    taken = {tuple(place) for place in node.tolist()}
    if len(taken) < len(node) or len(node) < OCCUPIED * np.prod(node.max(axis=0) + 1):
        return None
    beside = [all(_neighboured(place, axis, taken) for axis in (0, 1)) for place in node.tolist()]
    if np.mean(beside) < NEIGHBOURED:
        return None
    return Lattice(node, np.array(spacing), basis)


def _columns(values: np.ndarray, pitch: float) -> tuple[np.ndarray, float] | None:
    """Whole-numbered column of each coordinate and their spacing, mm; None if there is none."""
    ordered = np.sort(values)
    starts = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > pitch / 4)
    if len(starts) < 2:
        return None
    centres = np.array([part.mean() for part in np.split(ordered, starts[1:])])
    steps = np.diff(centres)
    step = float(np.median(steps[steps < 1.5 * steps.min()]))
    column = np.round((centres - centres[0]) / step)
    step = float(np.polyfit(column, centres, 1)[0])
    column = (values - centres[0]) / step
    if np.abs(column - np.round(column)).max() > OFF_NODE:
        return None
    return np.round(column).astype(int), step


def _neighboured(place: list[int], axis: int, taken: set[tuple[int, ...]]) -> bool:
    ahead = (1, 0) if axis == 0 else (0, 1)
    return any((place[0] + s * ahead[0], place[1] + s * ahead[1]) in taken for s in (-1, 1))
