"""Slowness of a front: time regressed on position, never position on time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

HUBER = 1.345
STEPS = 8
FLAT = 1e-3
LEVEL = 0.975


def spanned(position: np.ndarray) -> np.ndarray:
    """Orthonormal directions (2, rank) that positions (electrode, 2) span: one along a probe.

    Along a line only the component of slowness along it is seen.
    """
    _, size, directions = np.linalg.svd(position - position.mean(axis=0), full_matrices=False)
    return directions[size > FLAT * size[0]].T


def huber(design: np.ndarray, time: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Huber regression of many weightings at once, by iteratively reweighted least squares.

    Parameters
    ----------
    design : ndarray (electrode, column)
        The last column is ones.
    time : ndarray (electrode,)
    counts : ndarray (fit, electrode)
        How often each electrode enters each fit; 0 leaves it out.

    Returns
    -------
    ndarray (fit, column)
    """
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    columns = design.shape[1]
    ridge = 1e-9 * np.eye(columns) * np.trace(design.T @ design) / columns
    weight = counts.astype(float)
    solution = np.zeros((len(counts), columns))
    for _ in range(STEPS):
        left = (weight @ products).reshape(-1, columns, columns) + ridge
        right = (weight * time) @ design
        solution = np.linalg.solve(left, right[..., None])[..., 0]
        residual = np.abs(time - solution @ design.T)
        bound = HUBER * robust_scale(residual, counts)[:, None]
        weight = counts * np.minimum(1, bound / np.maximum(residual, 1e-15))
    return solution


def robust_scale(residual: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """1.4826 times the median of |residual| (fit, electrode) over electrodes with a count."""
    shown = np.sort(np.where(counts > 0, residual, np.inf), axis=1)
    middle = (counts > 0).sum(axis=1, keepdims=True)
    pair = np.concatenate([(middle - 1) // 2, middle // 2], axis=1)
    return np.maximum(1.4826 * shown[np.arange(len(shown))[:, None], pair].mean(axis=1), 1e-12)


@dataclass(frozen=True)
class Slowness:
    """A plane through the times of a front.

    Attributes
    ----------
    vector : ndarray (2,)
        s/mm; the front travels along it at 1 / |vector|.
    r_squared : float
    drawn : ndarray (draw, 2)
        Bootstrap over electrodes.
    widening : float
        Half a 95 % interval over the SD of ``drawn``: Student's quantile, times what the residuals
        are smaller than the errors.
    """

    vector: np.ndarray
    r_squared: float
    drawn: np.ndarray
    widening: float

    def row(self) -> dict[str, float]:
        """Direction (degrees) and speed (mm/s) with 95 % intervals.

        The interval of speed comes from the slowness along the direction of travel; it is unbounded
        where that includes 0, and the interval of direction spans the circle.
        """
        here = complex(*self.vector)
        if here == 0:
            return {"direction": np.nan, "speed": np.inf} | dict.fromkeys(BOUNDS, np.nan)
        along = (self.drawn[:, 0] + 1j * self.drawn[:, 1]) / here
        covariance = self.widening**2 * np.cov(along.real, along.imag)
        reach = float(np.sqrt(covariance[0, 0]))
        low, high = (1 - reach) * abs(here), (1 + reach) * abs(here)
        turn = np.degrees(fieller(covariance)) if low > 0 else (-180.0, 180.0)
        direction = float(np.degrees(np.angle(here)))
        return {
            "direction": direction,
            "direction_low": direction + float(turn[0]),
            "direction_high": direction + float(turn[1]),
            "speed": 1 / abs(here),
            "speed_low": 1 / high if high > 0 else np.inf,
            "speed_high": 1 / low if low > 0 else np.inf,
        }


BOUNDS = ("direction_low", "direction_high", "speed_low", "speed_high")


def slowness(
    position: np.ndarray, time: np.ndarray, *, draws: int, rng: np.random.Generator
) -> Slowness:
    """Regress time (electrode,) in s on position (electrode, 2) in mm: t = s . r + t0.

    Huber's loss; the interval is a bootstrap over electrodes. Regressing position on time, or each
    axis by itself, would be biased by noise in the times and by the array's shape.
    """
    directions = spanned(position)
    centre, origin = position.mean(axis=0), float(np.median(time))
    design = np.column_stack([(position - centre) @ directions, np.ones(len(position))])
    late = time - origin
    count = len(time)
    again = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    fits = huber(design, late, np.concatenate([np.ones((1, count)), again]))
    error = ((late - design @ fits[0]) ** 2).sum()
    total = ((late - late.mean()) ** 2).sum()
    vectors = fits[:, :-1] @ directions.T
    r_squared = float(1 - error / total) if total > 0 else 0.0
    freedom = max(count - design.shape[1], 1)
    widening = float(stdtrit(freedom, LEVEL) * np.sqrt(count / freedom))
    return Slowness(vectors[0], r_squared, vectors[1:], widening)


def fieller(covariance: np.ndarray) -> tuple[float, float]:
    """Bounds of the angle (rad) of a vector estimated as (1, 0), as far as they are within pi / 2.

    Fieller's theorem: the angles at which the component across them is within its interval, whose
    half-length squared is that of ``covariance`` (2, 2).
    """
    left = 1 - covariance[0, 0]
    middle = covariance[0, 1]
    root = np.sqrt(middle**2 + left * covariance[1, 1])
    return float(np.arctan((-middle - root) / left)), float(np.arctan((-middle + root) / left))
