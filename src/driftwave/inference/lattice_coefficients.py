"""Coefficients of a substep of coupled oscillators, as tensors and as the kernels take them.

The equations are those of :mod:`driftwave.inference.lattice_scan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from driftwave.inference import lattice_kernels, lattice_kernels_second

# What has gradients, in the order of the kernels' sums.
FIRST = ("pull", "own", "turn", "decay", "bend")
SECOND = ("pull", "own", "bias", "keep", "spring")


def array(tensor: Tensor) -> np.ndarray:
    """The contiguous values of a tensor on the CPU."""
    return tensor.detach().contiguous().numpy()


@dataclass(frozen=True)
class FirstOrder:
    """Coefficients of a substep of Stuart-Landau (``phases`` false) or phase oscillators.

    Attributes
    ----------
    pull : Tensor (2, band, direction, site)
        Real and imaginary part of the factor of each neighbour; zero where there is none.
    own : Tensor (2, band, site)
    turn : Tensor (band, site)
        Angle of rotation, rad.
    decay, bend : Tensor (band,)
        d > 0 and c >= 0 of the amplitude law.
    phases : bool
    """

    pull: Tensor
    own: Tensor
    turn: Tensor
    decay: Tensor
    bend: Tensor
    phases: bool

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What has gradients, in the order of the kernels' sums."""
        return tuple(getattr(self, name) for name in FIRST)

    def with_tensors(self, tensors: list[Tensor]) -> FirstOrder:
        """The same with other tensors."""
        return FirstOrder(**dict(zip(FIRST, tensors, strict=True)), phases=self.phases)

    def law(self, index: np.ndarray, substeps: int) -> Any:
        """The coefficients as the kernels take them."""
        pull, own, turn, decay, bend = (array(x) for x in self.tensors)
        scalar = turn.dtype.type
        return lattice_kernels.Law(
            index,
            pull,
            own,
            np.stack([np.cos(turn), np.sin(turn)]),
            decay,
            bend,
            scalar(1 / substeps),
            scalar(lattice_kernels.TINY),
            substeps,
            self.phases,
        )

    def gradients(self, sums: Any) -> list[np.ndarray]:
        """Gradients of ``tensors`` from the kernels' sums over blocks."""
        pull, own, turn, decay, bend = (x.sum(0) for x in sums)
        shaped = pull.reshape(self.pull.shape), own.reshape(self.own.shape)
        laws = (-0.5 * x.reshape(self.turn.shape).sum(1) for x in (decay, bend))
        return [*shaped, turn.reshape(self.turn.shape), *laws]

    @property
    def entries(self) -> list[int]:
        """Sizes of the kernels' sums, which keep amplitude laws by site."""
        places = self.turn.numel()
        return [self.pull.numel(), self.own.numel(), places, places, places]


@dataclass(frozen=True)
class SecondOrder:
    """Coefficients of a substep of second-order oscillators.

    Attributes
    ----------
    pull, own, bias : Tensor (band, direction, site), (band, site), (band, site)
    keep, spring : Tensor (band, site)
        k and g.
    force : Tensor (band,)
        F; it gets no gradient.
    """

    pull: Tensor
    own: Tensor
    bias: Tensor
    keep: Tensor
    spring: Tensor
    force: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What has gradients, in the order of the kernels' sums."""
        return tuple(getattr(self, name) for name in SECOND)

    def with_tensors(self, tensors: list[Tensor]) -> SecondOrder:
        """The same with other tensors."""
        return SecondOrder(**dict(zip(SECOND, tensors, strict=True)), force=self.force)

    def law(self, index: np.ndarray, substeps: int) -> Any:
        """The coefficients as the kernels take them."""
        scalar = array(self.keep).dtype.type
        return lattice_kernels_second.Law(
            index,
            array(self.pull),
            array(self.own),
            array(self.bias),
            array(self.keep),
            array(self.spring),
            array(self.force),
            scalar(1 / substeps),
            substeps,
        )

    def gradients(self, sums: Any) -> list[np.ndarray]:
        """Gradients of ``tensors`` from the kernels' sums over blocks."""
        pairs = zip(sums, self.tensors, strict=True)
        return [x.sum(0).reshape(tensor.shape) for x, tensor in pairs]

    @property
    def entries(self) -> list[int]:
        """Sizes of the kernels' sums."""
        return [x.numel() for x in self.tensors]


Coefficients = FirstOrder | SecondOrder
