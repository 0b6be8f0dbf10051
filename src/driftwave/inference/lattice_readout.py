"""What units and electrodes read from a lattice of oscillators."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from driftwave.inference.lattice_geometry import Lattice
from driftwave.inference.sequential_vae import LatentReadout

START_GAIN = 0.3


def inverse_softplus(value: float) -> float:
    """The number whose softplus is ``value``."""
    return math.log(math.expm1(value))


class _Readout(LatentReadout):
    """A linear readout of the state (trial, bin, width) by :meth:`weight` (channel, width)."""

    def weight(self) -> Tensor:
        """Weights (channel, width) of the state's real numbers."""
        raise NotImplementedError

    def forward(self, state: Tensor) -> Tensor:
        """Channels (trial, bin, channel), without offset."""
        return functional.linear(state, self.weight())


class SpatialReadout(_Readout):
    r"""Every channel reads the field around its own place.

    .. math:: s_n = \sum_b \mathrm{Re}\,( e^{-i\psi_{bn}} g_{bn}
              \textstyle\sum_j G_{\sigma_b}(r_n - r_j)\, z_{bj} )

    with G a Gaussian of the distance (along the circle on a ring), normalised over the sites. A
    phase that all channels of a band share is no parameter: turning the band's whole field does
    the same. Gains of units are kept above zero, those of electrodes are real.

    Parameters
    ----------
    lattice : Lattice
    units : ndarray (unit, 2)
        mm.
    electrodes : ndarray (electrode, 2)
        mm.
    bands : int
    free_phase : bool
        Learn a preferred phase of every channel. Winding number and lag are then no longer
        determined: :math:`z_j \to z_j e^{i q j}` goes into the phases and the couplings.
    """

    distance: Tensor

    def __init__(
        self,
        lattice: Lattice,
        units: np.ndarray,
        electrodes: np.ndarray,
        *,
        bands: int,
        free_phase: bool = False,
    ) -> None:
        super().__init__()
        self.units = len(units)
        places = np.concatenate([np.reshape(units, (-1, 2)), np.reshape(electrodes, (-1, 2))])
        distance = torch.from_numpy(lattice.distance(places) / lattice.pitch).float()
        self.register_buffer("distance", distance)
        self.raw_width = nn.Parameter(torch.full((bands,), inverse_softplus(1.0)))
        gain = torch.full((bands, len(places)), START_GAIN)
        gain[:, : self.units] = inverse_softplus(START_GAIN)
        self.raw_gain = nn.Parameter(gain)
        phase = torch.zeros(bands, len(places))
        self.phase = nn.Parameter(phase) if free_phase else None

    def width(self) -> Tensor:
        """Widths sigma (band,) in multiples of the pitch."""
        return functional.softplus(self.raw_width)

    def gain(self) -> Tensor:
        """Gains (band, channel)."""
        units, electrodes = self.raw_gain.split(
            [self.units, self.raw_gain.shape[1] - self.units], 1
        )
        return torch.cat([functional.softplus(units), electrodes], 1)

    def kernel(self) -> Tensor:
        """Share (band, channel, site) of each site in what a channel reads; sums to 1."""
        width = self.width()[:, None, None]
        return torch.softmax(-0.5 * (self.distance / width) ** 2, -1)

    def weight(self) -> Tensor:
        """Weights (channel, width)."""
        share = self.gain()[..., None] * self.kernel()
        if self.phase is None:
            parts = torch.stack([share, torch.zeros_like(share)], -1)
        else:
            turn = self.phase[..., None]
            parts = torch.stack([share * turn.cos(), share * turn.sin()], -1)
        return parts.transpose(0, 1).flatten(1)


class DenseReadout(_Readout):
    """Every channel reads every site with a complex weight of its own.

    Parameters
    ----------
    channels, width : int
        Units and electrodes; real numbers in the state.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.randn(channels, width) * START_GAIN / math.sqrt(width / 2))

    def weight(self) -> Tensor:
        """Weights (channel, width)."""
        return self.raw
