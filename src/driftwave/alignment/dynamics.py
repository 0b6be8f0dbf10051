"""Dynamical similarity analysis: are the dynamics of two sessions the same up to coordinates?

Ostrow et al. 2023 (2306.10168), by the package ``dsa-metric`` (extra ``dsa``).
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import linear_sum_assignment


def installed() -> bool:
    """Whether the package is there."""
    return find_spec("DSA") is not None


def linear_operator(trajectories: np.ndarray, delays: int, rank: int) -> np.ndarray:
    """Operator (rank, rank) that advances the delay-embedded trajectories by one bin.

    Parameters
    ----------
    trajectories : ndarray (condition, time, component)
    delays : int
        Bins in the Hankel matrix.
    rank : int
        Singular vectors of the Hankel matrix that are kept.
    """
    import torch
    from DSA import DMD

    scaled = trajectories / trajectories.std()
    model = DMD(
        torch.as_tensor(scaled, dtype=torch.float64), n_delays=delays, rank=rank, device="cpu"
    )
    model.fit()
    return np.asarray(model.A_v.cpu().numpy(), dtype=float)


def without_dynamics(trajectories: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Trajectories of the same covariance and smoothness that follow no dynamics.

    Rows (conditions and times) are put in random order and every component is smoothed by a
    Gaussian as wide as gives white noise the component's correlation between successive bins; its
    mean and variance stay.

    Parameters
    ----------
    trajectories : ndarray (condition, time, component)
    rng : Generator
    """
    shape = trajectories.shape
    rows = trajectories.reshape(-1, shape[-1])
    drawn = rows[rng.permutation(len(rows))].reshape(shape)
    centred = trajectories - rows.mean(axis=0)
    out = np.empty(shape)
    for k in range(shape[-1]):
        own, spread = centred[..., k], rows[:, k].std()
        after = (own[:, 1:] * own[:, :-1]).mean() / spread**2 if spread > 0 else 0.0
        # White noise smoothed by a Gaussian of s bins correlates by exp(-1 / (4 s^2)) at lag 1.
        width = np.sqrt(-0.25 / np.log(min(after, 0.999))) if after > 0 else 0.0
        noise = gaussian_filter1d(drawn[..., k], width, axis=1, mode="wrap")
        scale = noise.std()
        out[..., k] = rows[:, k].mean() + (noise - noise.mean()) * (
            spread / scale if scale > 0 else 0.0
        )
    return out


def eigenvalue_distance(first: np.ndarray, second: np.ndarray) -> float:
    """2-Wasserstein distance between the eigenvalues of two operators, in the complex plane.

    Of equally many eigenvalues the best transport is an assignment; the root of what the package
    gives, without its cost of building tensors.

    Parameters
    ----------
    first, second : ndarray (rank, rank)
    """
    a, b = np.linalg.eigvals(first), np.linalg.eigvals(second)
    squared = np.abs(a[:, None] - b) ** 2
    return float(np.sqrt(squared[linear_sum_assignment(squared)].mean()))
