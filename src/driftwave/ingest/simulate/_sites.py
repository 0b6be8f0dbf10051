"""Where simulated oscillators sit, which of them are neighbours, and how a field winds on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RING = ("left", "right")
COMPASS = ("west", "east", "south", "north")
OPPOSITE = ((0, 1), (2, 3))  # pairs of directions


@dataclass(frozen=True)
class Sites:
    """Sites of a ring or a square lattice.

    Attributes
    ----------
    position : ndarray (site, 2)
        mm. A ring's sites go counter-clockwise from angle 0 about (0, 0).
    neighbour : ndarray of int (direction, site)
        The site whose state arrives at a site from that direction, -1 where there is none.
        Directions are left (the site before) and right on a ring, else west, east, south, north.
    pitch : float
        Distance between neighbours, mm; along the circle on a ring.
    radius : float
        Of a ring's circle, mm; NaN otherwise.
    """

    position: np.ndarray
    neighbour: np.ndarray
    pitch: float
    radius: float = np.nan

    @property
    def is_ring(self) -> bool:
        """Whether the sites lie on a circle."""
        return bool(np.isfinite(self.radius))

    def angle(self) -> np.ndarray:
        """Angle (site,) about (0, 0), rad."""
        return np.arctan2(self.position[:, 1], self.position[:, 0])

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Distance (point, site), mm, of points (point, 2); along the circle on a ring."""
        if not self.is_ring:
            return np.linalg.norm(points[:, None] - self.position[None], axis=-1)
        turn = np.arctan2(points[:, 1], points[:, 0])[:, None] - self.angle()[None]
        return self.radius * np.abs(np.angle(np.exp(1j * turn)))

    def jittered(self, site: np.ndarray, jitter: float, rng: np.random.Generator) -> np.ndarray:
        """Points (point, 2), mm, up to ``jitter`` pitches from sites (point,) along each axis.

        On a ring they stay on its circle.
        """
        away = self.pitch * jitter * rng.uniform(-1, 1, (len(site), 2))
        if not self.is_ring:
            return self.position[site] + away
        angle = self.angle()[site] + away[:, 0] / self.radius
        return self.radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def ring(sites: int, radius: float) -> Sites:
    """Sites evenly on a circle of the given radius, mm."""
    angle = 2 * np.pi * np.arange(sites) / sites
    here = np.arange(sites)
    return Sites(
        radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1),
        np.stack([(here - 1) % sites, (here + 1) % sites]),
        2 * np.pi * radius / sites,
        radius,
    )


def lattice(rows: int, columns: int, pitch: float) -> Sites:
    """A rectangle with open borders, centred on (0, 0), row after row from the south-west."""
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    return _on_grid(np.stack([x.ravel(), y.ravel()], axis=-1), pitch)


def disc(radius: float, pitch: float) -> Sites:
    """Lattice points up to ``radius`` (mm) from (0, 0), which lies between four of them."""
    half = int(np.ceil(radius / pitch))
    x, y = np.meshgrid(np.arange(2 * half), np.arange(2 * half))
    place = np.stack([x.ravel(), y.ravel()], axis=-1)
    inside = np.linalg.norm(place - (half - 0.5), axis=1) * pitch <= radius
    return _on_grid(place[inside], pitch)


def _on_grid(place: np.ndarray, pitch: float) -> Sites:
    index = {(int(x), int(y)): number for number, (x, y) in enumerate(place)}
    steps = ((-1, 0), (1, 0), (0, -1), (0, 1))
    neighbour = np.array([[index.get((x + i, y + j), -1) for x, y in place] for i, j in steps])
    low, high = place.min(0), place.max(0)
    return Sites(pitch * (place - (low + high) / 2), neighbour, pitch)


def inflow(z: np.ndarray, neighbour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted sum over directions of what arrives at each site.

    Parameters
    ----------
    z : ndarray (..., site)
    neighbour : ndarray of int (direction, site)
    weight : ndarray (direction,)
    """
    # A neighbour -1 picks the zero that is put behind the last site.
    padded = np.concatenate([z, np.zeros_like(z[..., :1])], axis=-1)
    total = weight[0] * padded[..., neighbour[0]]
    for one, w in zip(neighbour[1:], weight[1:], strict=True):
        total += w * padded[..., one]
    return total


def advance(z: np.ndarray, sites: Sites, axis: int) -> np.ndarray:
    """Phase lead (..., pair) of the earlier site of each pair of neighbours over the later, rad.

    A wave that travels towards later sites (counter-clockwise, +x, +y) has positive ones.

    Parameters
    ----------
    z : ndarray, complex (..., site)
    sites : Sites
    axis : {0, 1}
        Along the ring or x (0), or y (1).
    """
    before = sites.neighbour[OPPOSITE[axis][0]]
    pairs = np.flatnonzero(before >= 0)
    return np.angle(z[..., before[pairs]] * z[..., pairs].conj())


def ring_winding(z: np.ndarray, sites: Sites) -> np.ndarray:
    """Turns of the phase once round the ring, int (...); positive travels counter-clockwise.

    The phase of a wave omega t - q angle winds by q in this convention.
    """
    return np.rint(advance(z, sites, 0).sum(-1) / (2 * np.pi)).astype(int)


def plaquettes(sites: Sites) -> np.ndarray:
    """Corners (plaquette, 4) of the lattice's squares, counter-clockwise from the south-west."""
    _, east, _, north = sites.neighbour
    corner = np.arange(len(sites.position))
    corners = np.stack([corner, east, np.where(east >= 0, north[east], -1), north], axis=-1)
    return corners[(corners >= 0).all(1)]


def charges(z: np.ndarray, sites: Sites) -> np.ndarray:
    """Charge (..., plaquette) of every plaquette: +1 turns counter-clockwise, -1 clockwise."""
    loop = plaquettes(sites)
    step = np.angle(z[..., np.roll(loop, -1, axis=1)] * z[..., loop].conj())
    return -np.rint(step.sum(-1) / (2 * np.pi)).astype(int)
