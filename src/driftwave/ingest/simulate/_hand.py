"""A hand that follows a neural state: a damped mass pulled towards a moving target."""

from __future__ import annotations

import numpy as np
from scipy.signal import bilinear, lfilter


def hand_movement(
    target: np.ndarray, sampling_rate: float, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Position and velocity of a critically damped second-order system.

    .. math:: \ddot p + 2 \omega \dot p + \omega^2 p = \omega^2 u, \qquad \omega = 2 \pi f_c

    Causal and low-pass; discretised by the bilinear transform, so that the velocity is the
    position's derivative under the trapezoid rule.

    Parameters
    ----------
    target : ndarray (time, axis)
        Point the hand is pulled to, m.
    sampling_rate : float
        Hz.
    cutoff : float
        Natural frequency f_c, Hz.

    Returns
    -------
    position, velocity : ndarray (time, axis)
        m and m/s.
    """
    omega = 2 * np.pi * cutoff
    denominator = [1.0, 2 * omega, omega**2]
    position = lfilter(*bilinear([omega**2], denominator, sampling_rate), target, axis=0)
    velocity = lfilter(*bilinear([omega**2, 0.0], denominator, sampling_rate), target, axis=0)
    return position, velocity
