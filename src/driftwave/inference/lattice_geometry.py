"""Where the sites of a lattice of oscillators lie, and which of them are neighbours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.errors import InputError

Topology = Literal["ring", "lattice", "graph"]

RING = ("left", "right")
COMPASS = ("west", "east", "south", "north")
# A graph's sites are neighbours up to this many times their median nearest distance.
REACH = 2.0
# Points whose distance from the fitted circle is below this share of its radius lie on a ring.
ON_RING = 0.1


@dataclass(frozen=True)
class Lattice:
    """Sites, their places and their neighbours.

    Attributes
    ----------
    topology : {"ring", "lattice", "graph"}
    position : ndarray (site, 2)
        mm.
    neighbour : ndarray of int (direction, site)
        The site whose state arrives at a site from that direction; -1 where there is none.
    directions : tuple of str
        Where the neighbour lies: left (the site before) and right on a ring, else the compass.
    pitch : float
        Distance between neighbouring sites, mm; along the circle on a ring.
    centre : ndarray (2,)
        Of a ring's circle; of the positions otherwise. mm.
    """

    topology: Topology
    position: np.ndarray
    neighbour: np.ndarray
    directions: tuple[str, ...]
    pitch: float
    centre: np.ndarray

    @property
    def sites(self) -> int:
        """Number of sites."""
        return len(self.position)

    @property
    def radius(self) -> float:
        """Of a ring's circle, mm."""
        return self.pitch * self.sites / (2 * np.pi)

    def angle(self, points: np.ndarray | None = None) -> np.ndarray:
        """Angle (point,) in rad about the centre of points (point, 2), or of the sites."""
        x, y = ((self.position if points is None else points) - self.centre).T
        return np.arctan2(y, x)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Distance (point, site) in mm of points (point, 2) from the sites.

        On a ring it runs along the circle, between the angles.
        """
        if self.topology != "ring":
            return np.linalg.norm(points[:, None] - self.position[None], axis=-1)
        turn = self.angle(points)[:, None] - self.angle()[None]
        return self.radius * np.abs(np.angle(np.exp(1j * turn)))

    def shuffled(self, seed: int) -> Lattice:
        """The same graph between sites in random places: every coupling, none of the geometry."""
        order = generator(seed, "shuffled adjacency").permutation(self.sites)
        neighbour = np.empty_like(self.neighbour)
        moved = np.where(self.neighbour < 0, -1, order[self.neighbour])
        neighbour[:, order] = moved
        return replace(self, neighbour=neighbour)


def fit_circle(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (2,) and radius of the least-squares circle through points (point, 2).

    Minimises the sum of (|p - c|^2 - r^2)^2, which is linear in c and r^2 - |c|^2 (Kasa 1976).

    Raises
    ------
    ValueError
        Fewer than three points, or all on one line.
    """
    if len(points) < 3:
        raise ValueError(f"{len(points)} points determine no circle")
    mean = points.mean(0)
    shifted = points - mean
    spread = np.linalg.svd(shifted, compute_uv=False)
    if spread[1] <= 1e-9 * max(spread[0], 1e-300):
        raise ValueError("points on one line determine no circle")
    design = np.column_stack([2 * shifted, np.ones(len(points))])
    a, b, c = np.linalg.lstsq(design, np.square(shifted).sum(1), rcond=None)[0]
    return mean + np.array([a, b]), float(np.sqrt(c + a * a + b * b))


def lies_on_ring(points: np.ndarray) -> bool:
    """Whether points (point, 2) lie on a circle, all round it."""
    try:
        centre, radius = fit_circle(points)
    except ValueError:
        return False
    away = np.linalg.norm(points - centre, axis=1)
    turns = np.sort(np.angle((points - centre) @ np.array([1, 1j])))
    gap = np.diff(np.append(turns, turns[0] + 2 * np.pi)).max()
    return bool(np.abs(away - radius).max() < ON_RING * radius and gap < np.pi / 2)


def ring(points: np.ndarray, sites: int) -> Lattice:
    """Sites evenly on the circle fitted to points (point, 2), counter-clockwise from angle 0.

    Raises
    ------
    ValueError
        As :func:`fit_circle`.
    """
    centre, radius = fit_circle(points)
    angle = 2 * np.pi * np.arange(sites) / sites
    position = centre + radius * np.column_stack([np.cos(angle), np.sin(angle)])
    before = (np.arange(sites) - 1) % sites
    after = (np.arange(sites) + 1) % sites
    neighbour = np.stack([before, after])
    return Lattice("ring", position, neighbour, RING, 2 * np.pi * radius / sites, centre)


def grid(points: np.ndarray, *, pitch: float | None = None, sites: int = 36) -> Lattice:
    """Rows and columns that cover points (point, 2), centred on them.

    Parameters
    ----------
    pitch : float, optional
        mm; by default the smallest for which at most ``sites`` sites are needed.
    sites : int
    """
    low, high = points.min(0), points.max(0)
    extent = high - low
    if pitch is None:
        pitch = _smallest_pitch(extent, sites)
    columns, rows = (_needed(extent, pitch)).tolist()
    x, y = np.meshgrid(np.arange(columns) - (columns - 1) / 2, np.arange(rows) - (rows - 1) / 2)
    position = (low + high) / 2 + pitch * np.column_stack([x.ravel(), y.ravel()])
    index = np.pad(np.arange(rows * columns).reshape(rows, columns), 1, constant_values=-1)
    shifts = [index[1:-1, :-2], index[1:-1, 2:], index[:-2, 1:-1], index[2:, 1:-1]]
    neighbour = np.stack([part.ravel() for part in shifts])
    return Lattice("lattice", position, neighbour, COMPASS, float(pitch), (low + high) / 2)


def _needed(extent: np.ndarray, pitch: float) -> np.ndarray:
    """Columns and rows whose outer sites lie on or beyond the outer points."""
    return np.ceil(extent / pitch - 1e-9).astype(int) + 1


def _smallest_pitch(extent: np.ndarray, sites: int) -> float:
    width, height = np.maximum(extent, 1e-6 * max(extent.max(), 1e-6))
    tried = np.unique(np.concatenate([width / np.arange(1, sites), height / np.arange(1, sites)]))
    fits = [p for p in tried if np.prod(_needed(extent, p)) <= sites]
    return float(min(fits)) if fits else float(max(extent.max(), 1e-6))


def graph(points: np.ndarray) -> Lattice:
    """The distinct points (point, 2) themselves as sites.

    From each compass quarter comes the nearest site within ``REACH`` times the median distance of
    nearest sites, so that couplings can be told apart by direction as on a lattice.
    """
    position = np.unique(points, axis=0)
    step = position[None] - position[:, None]
    distance = np.linalg.norm(step, axis=-1)
    np.fill_diagonal(distance, np.inf)
    pitch = float(np.median(distance.min(1))) if len(position) > 1 else 1.0
    quarter = np.rint(np.arctan2(step[..., 1], step[..., 0]) / (np.pi / 2)).astype(int) % 4
    neighbour = np.full((4, len(position)), -1)
    for row, wanted in enumerate((2, 0, 3, 1)):
        near = np.where((quarter == wanted) & (distance <= REACH * pitch), distance, np.inf)
        found = near.argmin(1)
        neighbour[row] = np.where(np.isfinite(near.min(1)), found, -1)
    return Lattice("graph", position, neighbour, COMPASS, pitch, position.mean(0))


def build_lattice(
    points: np.ndarray, topology: Topology, *, sites: int, pitch: float | None
) -> Lattice:
    """The lattice of a topology over points (point, 2) in mm."""
    if topology == "ring":
        return ring(points, sites)
    if topology == "lattice":
        return grid(points, pitch=pitch, sites=sites)
    return graph(points)


def unit_positions(recording: xr.DataTree, needed_by: str) -> np.ndarray:
    """Positions (unit, 2) of a recording's units, mm.

    Raises
    ------
    InputError
        If there are none, or some are missing.
    """
    return _positions(recording, "units", "unit", needed_by)


def electrode_positions(recording: xr.DataTree, needed_by: str) -> np.ndarray:
    """Positions (electrode, 2) of a recording's electrodes, mm.

    Raises
    ------
    InputError
        If there are none, or some are missing.
    """
    return _positions(recording, "field", "electrode", needed_by)


def _positions(recording: xr.DataTree, group: str, what: str, needed_by: str) -> np.ndarray:
    table = recording[group].to_dataset()
    missing = [name for name in ("x", "y") if name not in table.variables]
    place = np.full((0, 2), np.nan)
    if not missing:
        place = np.column_stack([table[name].values.astype(float) for name in ("x", "y")])
    lost = ~np.isfinite(place).all(1)
    if missing or lost.any():
        raise InputError(
            file=str(recording.attrs["session"]),
            field=f"{group}/{' and '.join(missing) if missing else 'x, y'}",
            found="no positions" if missing else f"{int(lost.sum())} of {len(lost)} not finite",
            expected=f"a position (mm) of every {what}, for {needed_by}'s spatial readout",
            fix="Name the positions in the layout, or set `readout: dense`",
        )
    return place
