"""Gromov-Wasserstein distance between encoding manifolds, by POT.

Memoli 2011 (10.1007/s10208-011-9093-5). Units of two sessions have no partners: only the
distances among the units of each session are compared.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.spatial.distance import pdist, squareform

from driftwave.errors import InputError


def manifold_points(encoding: xr.Dataset, name: str) -> np.ndarray:
    """Diffusion coordinates (unit, component) of the units that have any.

    Raises
    ------
    InputError
        No coordinates, or fewer than ten units with them.
    """
    if "coordinate" not in encoding:
        raise InputError(
            file=name,
            field="coordinate",
            found=f"variables {sorted(map(str, encoding.data_vars))}",
            expected="coordinate (unit, diffusion_component)",
            fix="Give the store of the encoding manifold",
        )
    points = encoding["coordinate"].transpose("unit", "diffusion_component").values
    points = points[:, np.isfinite(points).any(axis=0)]
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 10 or not np.ptp(points, axis=0).any():
        raise InputError(
            file=name,
            field="coordinate",
            found=f"{len(points)} units with coordinates",
            expected="at least 10, not all in one place",
            fix="Leave this session's encoding manifold out of the group",
        )
    return np.asarray(points, dtype=float)


def gromov_wasserstein(x: np.ndarray, y: np.ndarray) -> float:
    """Gromov-Wasserstein distance between two sets of points, every point of equal weight.

    Distances within each set are divided by their root mean square first: the scale of
    coordinates of two graphs is not comparable.

    Parameters
    ----------
    x, y : ndarray (unit, component)
        Components and units may differ in number.

    Returns
    -------
    float
        Half the root of the distortion; 0 for isometric sets. The solver finds a local optimum,
        hence an upper bound.
    """
    import ot

    first, second = _scaled(x), _scaled(y)
    weight_x, weight_y = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    found = min(
        float(
            ot.gromov.gromov_wasserstein2(
                first, second, weight_x, weight_y, "square_loss", symmetric=True, G0=start
            )
        )
        for start in (np.outer(weight_x, weight_y), _by_eccentricity(first, second))
    )
    return 0.5 * float(np.sqrt(max(found, 0)))


def _scaled(points: np.ndarray) -> np.ndarray:
    distances = pdist(points)
    return squareform(distances / np.sqrt((distances**2).mean()))


def _by_eccentricity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Coupling of points by their mean distance to the others: a start near isometry."""
    import ot

    plan = ot.emd_1d(first.mean(axis=1), second.mean(axis=1))
    return np.asarray(plan)


def shuffled(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points with every component permuted over units by itself: marginals stay, geometry goes."""
    return rng.permuted(points, axis=0)


def random_halves(
    points: np.ndarray, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint random sets of equally many units, at most ``most`` in each."""
    order = rng.permutation(len(points))
    size = min(len(points) // 2, most)
    return points[order[:size]], points[order[size : 2 * size]]
