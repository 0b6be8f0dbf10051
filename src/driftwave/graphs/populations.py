"""Populations of points known to be continuous or clustered."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import pdist

FEATURES = 10
CLUSTERS = 8
APART = 0.2
FEW_APART = 7
TIGHT, WIDE, WIDEST = 0.03, 0.06, 0.08


def sheet(points: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform on a square (point, 2)."""
    return rng.uniform(size=(points, 2))


def curved_sheet(points: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform on half a cylinder (point, 3)."""
    place = rng.uniform(size=(points, 2))
    angle = np.pi * place[:, 0]
    return np.column_stack([np.cos(angle), np.sin(angle), 1.5 * place[:, 1]])


def ring(points: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform on a circle (point, 2)."""
    angle = 2 * np.pi * rng.uniform(size=points)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def gamma_factors(points: int, rng: np.random.Generator) -> np.ndarray:
    """Four independent non-negative factors of skewness 1.4 (point, 4)."""
    return rng.gamma(2, size=(points, 4))


def sparse_factors(points: int, rng: np.random.Generator) -> np.ndarray:
    """Roots of six independent factors that are mostly near zero (point, 6)."""
    return np.sqrt(rng.gamma(0.5, size=(points, 6)))


def clusters(points: int, rng: np.random.Generator, spread: float) -> np.ndarray:
    """Eight Gaussian clusters of one standard deviation in a square (point, 2).

    Centres are at least ``APART`` from each other.
    """
    centres = rng.uniform(size=(CLUSTERS, 2))
    while pdist(centres).min() < APART:
        centres = rng.uniform(size=(CLUSTERS, 2))
    of = rng.integers(CLUSTERS, size=points)
    return centres[of] + spread * rng.standard_normal((points, 2))


def few_clusters(points: int, rng: np.random.Generator) -> np.ndarray:
    """Three Gaussian clusters, centres seven standard deviations from each other (point, 2)."""
    angle = 2 * np.pi * np.arange(3) / 3
    centres = FEW_APART / np.sqrt(3) * np.column_stack([np.cos(angle), np.sin(angle)])
    return centres[rng.integers(3, size=points)] + rng.standard_normal((points, 2))


# name: latent places, standard deviation of the noise, whether clustered
KINDS: dict[str, tuple[Callable[[int, np.random.Generator], np.ndarray], float, bool]] = {
    "sheet": (sheet, 0.05, False),
    "noisy sheet": (sheet, 0.3, False),
    "curved sheet": (curved_sheet, 0.05, False),
    "ring": (ring, 0.05, False),
    "gamma factors": (gamma_factors, 0.05, False),
    "sparse factors": (sparse_factors, 0.05, False),
    "clusters": (lambda n, rng: clusters(n, rng, TIGHT), 0.05, True),
    "overlapping clusters": (lambda n, rng: clusters(n, rng, WIDE), 0.05, True),
    "three clusters": (few_clusters, 0.05, True),
    "merging clusters": (lambda n, rng: clusters(n, rng, WIDEST), 0.05, True),
}


def population(kind: str, points: int, rng: np.random.Generator) -> np.ndarray:
    """A population of ``KINDS`` turned at random into 10 features, with noise in all of them.

    Latent places have mean variance 1 per dimension; the noise is that of ``KINDS``.

    Returns
    -------
    ndarray (point, feature)
    """
    draw, noise, _ = KINDS[kind]
    place = draw(points, rng)
    place = (place - place.mean(axis=0)) / np.sqrt(place.var(axis=0).mean())
    turn = np.linalg.qr(rng.standard_normal((FEATURES, place.shape[1])))[0]
    return place @ turn.T + noise * rng.standard_normal((points, FEATURES))
