"""Angles: decoded as cosine and sine, scored as angles."""

from __future__ import annotations

import numpy as np


def cos_sin(angle: np.ndarray) -> np.ndarray:
    """Cosine and sine on a last axis of length 2; angle in radians, NaN stays NaN."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def angle_of(components: np.ndarray) -> np.ndarray:
    """Angle (radians, in (-pi, pi]) of (cosine, sine) pairs on the last axis, of any length."""
    return np.arctan2(components[..., 1], components[..., 0])


def angular_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Absolute difference of two angles on the circle, radians in [0, pi]."""
    return np.abs(np.angle(np.exp(1j * (first - second))))


def median_angular_error(decoded: np.ndarray, true: np.ndarray, axis: int = 0) -> np.ndarray:
    """Median absolute angular error in degrees; 90 by chance for uniform angles.

    Parameters
    ----------
    decoded, true : ndarray (..., 2)
        Cosine and sine; the decoded pair need not lie on the unit circle.
    axis : int
        Axis of the samples.
    """
    distance = angular_distance(angle_of(decoded), angle_of(true))
    return np.degrees(np.median(distance, axis=axis))
