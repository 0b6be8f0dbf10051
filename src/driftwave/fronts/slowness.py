"""Slowness of a front: time regressed on position, never position on time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HUBER = 1.345
STEPS = 8
FLAT = 1e-3
LEVELS = (0.025, 0.975)


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
    return np.maximum(1.4826 * np.take_along_axis(shown, pair, axis=1).mean(axis=1), 1e-12)


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
    """

    vector: np.ndarray
    r_squared: float
    drawn: np.ndarray

    def row(self) -> dict[str, float]:
        """Direction (degrees) and speed (mm/s) with 95 % intervals.

        The interval of speed comes from the slowness along the direction of travel; it is unbounded
        where that includes 0, and the interval of direction spans the circle.
        """
        here = complex(*self.vector)
        if here == 0:
            return {"direction": np.nan, "speed": np.inf} | dict.fromkeys(BOUNDS, np.nan)
        along = (self.drawn[:, 0] + 1j * self.drawn[:, 1]) / here
        low, high = np.quantile(along.real, LEVELS) * abs(here)
        turn = np.degrees(np.quantile(np.angle(along), LEVELS)) if low > 0 else (-180.0, 180.0)
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
    return Slowness(vectors[0], r_squared, vectors[1:])
