"""Constants of the discretisations of Langevin dynamics."""

from __future__ import annotations

from typing import NamedTuple


class Scheme(NamedTuple):
    """Constants of one step: drift by v, k and w, and the kicks before and after."""

    old: float
    kicked: float
    thermal: float
    before: float
    after: float

    @classmethod
    def baoab(cls, dt: float) -> Scheme:
        """Half kick, half drift, Ornstein-Uhlenbeck step, half drift, half kick."""
        return cls(0.0, dt / 2, dt / 2, dt / 2, dt / 2)

    @classmethod
    def released(cls, step: float) -> Scheme:
        """Explicit Euler in z and v; the force is that of the state before the step."""
        return cls(step, 0.0, 0.0, step, 0.0)
