"""Linear stochastic oscillators seen through spike counts, or through counts and field at once.

    x_k,t = a_k R(w_k) x_k,t-1 + sqrt(1 - a_k^2) noise,   x_k two-dimensional, variance 1
    s_j,t = b_j s_j,t-1 + sqrt(1 - b_j^2) noise,          variance 1
    y_tn ~ Poisson(exp(d_n + C_n x_t)),                   spikes/bin
    field_t = B x_t + e_t,                                e independent between electrodes

with the oscillators of Matsuda & Komaki 2017 (Neural Computation 29:332, equations 9 to 12). Every
trial starts from the stationary distribution. That holds for the abutting trials of a continuous
recording too: what one of them tells about the start of the next is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from driftwave.errors import DriftwaveError
from driftwave.inference.laplace import GaussianEvidence, Loadings, Posterior, infer, outer
from driftwave.inference.linear_dynamics import Dynamics
from driftwave.inference.oscillator_model import Oscillators, fix_gauge


@dataclass(frozen=True)
class CountsModel:
    """Parameters.

    Attributes
    ----------
    angle : ndarray (oscillator,)
        w, radian per bin.
    damping : ndarray (oscillator,)
        a, the factor by which an oscillation shrinks in one bin.
    slow_damping : ndarray (slow,)
        b.
    weights : ndarray (unit, state)
        C, log spikes/bin; columns Re c_1, -Im c_1, Re c_2, ..., then the slow factors.
    offset : ndarray (unit,)
        d, log spikes/bin.
    field_weights : ndarray (electrode, state)
        B, of the standardised field; no rows where only spikes are observed.
    field_noise : ndarray (electrode,)
        Variance of e.
    """

    angle: np.ndarray
    damping: np.ndarray
    slow_damping: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    field_weights: np.ndarray
    field_noise: np.ndarray

    @property
    def states(self) -> int:
        """Number of real state variables."""
        return 2 * len(self.angle) + len(self.slow_damping)

    @property
    def loadings(self) -> Loadings:
        """C and d."""
        return Loadings(self.weights, self.offset)

    def dynamics(self) -> Dynamics:
        """The stationary process as the prior of a trial.

        Raises
        ------
        DriftwaveError
            If a damping is not in [0, 1).
        """
        every = np.concatenate([self.damping, self.slow_damping])
        unstable = ~((every >= 0) & (every < 1))
        if unstable.any():
            raise DriftwaveError(
                f"an oscillator or slow factor has damping {every[unstable][0]:g} per bin, which "
                "is not stable; it must be at least 0 and below 1. Fit the model again."
            )
        space = self._oscillators().state_space(np.zeros((self.states, self.states)))
        return Dynamics(space.transition, space.noise, np.zeros(self.states), space.initial)

    def _oscillators(self) -> Oscillators:
        loading = np.concatenate([self.field_weights, self.weights])
        noise = np.ones(len(loading))
        return Oscillators(self.angle, self.damping, self.slow_damping, loading, noise)

    def evidence(self, field: np.ndarray, bins: int) -> GaussianEvidence:
        """What a standardised field (trial, seen bin, electrode), NaN where missing, tells."""
        known = np.isfinite(field)
        values = np.where(known, field, 0.0)
        trials, seen, _ = field.shape
        linear = np.zeros((trials, bins, self.states))
        precision = np.zeros((trials, bins, self.states, self.states))
        linear[:, :seen] = (values / self.field_noise) @ self.field_weights
        products = known / self.field_noise @ outer(self.field_weights)
        precision[:, :seen] = products.reshape(trials, seen, self.states, self.states)
        cost = values**2 / self.field_noise + known * np.log(2 * np.pi * self.field_noise)
        return GaussianEvidence(linear, precision, 0.5 * cost.sum((1, 2)))

    def infer(
        self,
        counts: np.ndarray,
        units: np.ndarray,
        *,
        field: np.ndarray | None = None,
        bins: int | None = None,
        start: Posterior | None = None,
        tolerance: float = 1e-6,
        refinements: int = 2,
    ) -> Posterior:
        """Gaussian posterior given counts (trial, seen bin, unit) of some units, and the field.

        Laplace's approximation, refined so many times towards the Gaussian of highest evidence
        lower bound: mode and curvature at the mode make weakly driven oscillations too small and
        too regular. ``start`` is a posterior of the same trials to go on from.
        """
        bins = counts.shape[1] if bins is None else bins
        gaussian = None if field is None else self.evidence(field, bins)
        loadings, dynamics, posterior = self.loadings.of(units), self.dynamics(), start
        for _ in range(refinements + (start is None)):
            posterior = infer(
                counts,
                loadings,
                dynamics,
                bins=bins,
                start=None if posterior is None else posterior.mean,
                tolerance=tolerance,
                gaussian=gaussian,
                spread=None if posterior is None else posterior.covariance,
            )
        assert posterior is not None
        return posterior

    def complex_loadings(self, weights: np.ndarray) -> np.ndarray:
        """c, complex (oscillator, channel), of loadings (channel, state)."""
        pairs = weights[:, : 2 * len(self.angle)]
        return (pairs[:, 0::2] - 1j * pairs[:, 1::2]).T

    def in_standard_gauge(self) -> CountsModel:
        """Oscillators by frequency, their phases as :func:`oscillator_model.fix_gauge` sets them.

        The reference is the electrodes' loadings together with the units'.
        """
        fixed = fix_gauge(self._oscillators())
        electrodes = len(self.field_weights)
        return replace(
            self,
            angle=fixed.angle,
            damping=fixed.damping,
            slow_damping=fixed.slow_damping,
            field_weights=fixed.loading[:electrodes],
            weights=fixed.loading[electrodes:],
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All parameters by name, for saving."""
        return asdict(self)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> CountsModel:
        """The inverse of :meth:`arrays`."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})
