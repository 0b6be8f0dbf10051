"""Expectation-maximisation for Poisson linear dynamical systems.

The E step is the Laplace approximation of :mod:`driftwave.inference.laplace`; the M step is closed
for the dynamics and takes a Newton step for the loadings (Macke et al. 2011, NIPS 24).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from driftwave.inference.laplace import Loadings, Posterior, fit_loadings, infer
from driftwave.inference.linear_dynamics import (
    Dynamics,
    dynamics_moments,
    fit_dynamics,
    symmetric,
)
from driftwave.inference.subspace import identify


@dataclass(frozen=True)
class PoissonLds:
    """``x_{t+1} = A x_t + w``, counts ``~ Poisson(exp(C x + d))``."""

    loadings: Loadings
    dynamics: Dynamics

    @property
    def states(self) -> int:
        """Number of latents."""
        return len(self.dynamics.start)

    def infer(
        self,
        counts: np.ndarray,
        units: np.ndarray,
        *,
        bins: int | None = None,
        start: np.ndarray | None = None,
        tolerance: float = 1e-6,
    ) -> Posterior:
        """Posterior given the counts (trial, seen bin, unit) of some units (mask or indices)."""
        return infer(
            counts,
            self.loadings.of(units),
            self.dynamics,
            bins=bins,
            start=start,
            tolerance=tolerance,
        )

    def transformed(self, matrix: np.ndarray) -> PoissonLds:
        """The same model in coordinates ``matrix @ x``."""
        weights = np.linalg.solve(matrix.T, self.loadings.weights.T).T
        return PoissonLds(
            Loadings(weights, self.loadings.offset), self.dynamics.transformed(matrix)
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All parameters by name, for saving."""
        return vars(self.loadings) | vars(self.dynamics)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> PoissonLds:
        """The inverse of :meth:`arrays`."""
        parts = (
            part(**{name: arrays[name] for name in part.__dataclass_fields__})
            for part in (Loadings, Dynamics)
        )
        return cls(*parts)  # type: ignore[arg-type]


def first_guess(counts: np.ndarray, states: int) -> PoissonLds:
    """Start of EM by subspace identification; units without a spike are given a constant rate.

    Parameters
    ----------
    counts : ndarray (trial, bin, unit)
    states : int
        Brought below the number of units with spikes.
    """
    active = np.asarray(counts.any((0, 1)))
    states = max(1, min(states, int(active.sum()) - 1))
    found, dynamics = identify(counts[..., active], states)
    weights = np.zeros((len(active), states))
    weights[active] = found.weights
    offset = silent_offset(counts)
    offset[active] = found.offset
    return PoissonLds(Loadings(weights, offset), dynamics)


def silent_offset(counts: np.ndarray) -> np.ndarray:
    """Log mean count of each unit, with half a spike for units that have none."""
    return np.log(np.maximum(counts.sum((0, 1), dtype=float), 0.5) / counts[..., 0].size)


def woken(model: PoissonLds, counts: np.ndarray) -> PoissonLds:
    """The model with units that it holds for silent set to their mean in these counts."""
    silent = ~model.loadings.weights.any(1)
    offset = np.where(silent, silent_offset(counts), model.loadings.offset)
    return PoissonLds(Loadings(model.loadings.weights, offset), model.dynamics)


def em_iterations(
    counts: np.ndarray,
    model: PoissonLds,
    count: int,
    *,
    penalty: float,
    tolerance: float = 1e-3,
) -> tuple[PoissonLds, float]:
    """Some iterations of EM.

    Parameters
    ----------
    counts : ndarray (trial, bin, unit)
    model : PoissonLds
    count : int
        Iterations. The modes of one are where Newton's method starts in the next.
    penalty : float
        Prior precision of a loading.
    tolerance : float
        Of Newton's method, nats per trial.

    Returns
    -------
    PoissonLds
    float
        Laplace approximation of the log-likelihood before the last M step, nats per entry.
    """
    every = np.ones(counts.shape[-1], dtype=bool)
    mode, evidence = None, np.nan
    for _ in range(count):
        posterior = model.infer(counts, every, start=mode, tolerance=tolerance)
        mode, evidence = posterior.mean, posterior.log_evidence.sum() / counts.size
        moments = dynamics_moments(posterior.mean, posterior.covariance, posterior.lagged)
        model = PoissonLds(
            fit_loadings(counts, posterior, model.loadings, penalty=penalty, steps=1),
            fit_dynamics(moments),
        )
    return model, float(evidence)


def in_standard_coordinates(model: PoissonLds, counts: np.ndarray) -> PoissonLds:
    """The model with latents of unit variance, orthogonal in their loadings, strongest first.

    Parameters
    ----------
    counts : ndarray (trial, bin, unit)
        The variance is that of the posterior of these trials.
    """
    posterior = model.infer(counts, np.ones(counts.shape[-1], dtype=bool))
    mean = posterior.mean.reshape(-1, model.states)
    second = np.cov(mean.T, bias=True).reshape(model.states, -1)
    root = np.linalg.cholesky(symmetric(second + posterior.covariance.mean((0, 1))))
    _, _, axes = np.linalg.svd(model.loadings.weights @ root, full_matrices=False)
    weights = model.loadings.weights @ root @ axes.T
    # The sign of a latent is arbitrary; its largest loading is made positive.
    peak = np.take_along_axis(weights, np.abs(weights).argmax(0)[None], 0)[0]
    signs = np.where(peak < 0, -1.0, 1.0)[:, None]
    return model.transformed(signs * np.linalg.solve(root.T, axes.T).T)
