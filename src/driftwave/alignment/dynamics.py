"""Dynamical similarity analysis: are the dynamics of two sessions the same up to coordinates?

Ostrow et al. 2023 (2306.10168), by the package ``dsa-metric`` (extra ``dsa``).
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np


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


def eigenvalue_distance(first: np.ndarray, second: np.ndarray) -> float:
    """2-Wasserstein distance between the eigenvalues of two operators, in the complex plane."""
    import torch
    from DSA.simdist import SimilarityTransformDist

    measure = SimilarityTransformDist(score_method="wasserstein")
    a, b = torch.as_tensor(first), torch.as_tensor(second)
    # The package gives the mean squared displacement.
    return float(np.sqrt(max(float(measure.fit_score(a, b)), 0.0)))
