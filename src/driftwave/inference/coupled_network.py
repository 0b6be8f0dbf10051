"""The sequential VAE of coupled oscillators: what it infers from, and what enters its sites."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from driftwave.inference.coupled_reading import Demodulator, SiteReading
from driftwave.inference.lattice_dynamics import CoupledOscillators
from driftwave.inference.sequential_vae import NARROW, LatentReadout, SequentialVAE
from driftwave.inference.spike_network import Sizes


class SiteInputs(nn.Module):
    """Drive of a few shared inputs, and of small innovations at every site.

    Parameters
    ----------
    bands, sites : int
    inputs : int
        Shared inputs u, which enter all sites through B.
    innovations : bool
        Whether every site has noise of its own, of one learned standard deviation per band.
    noise : float
        Standard deviation of the innovations at the start.
    """

    def __init__(
        self, bands: int, sites: int, inputs: int, *, innovations: bool, noise: float
    ) -> None:
        super().__init__()
        width = 2 * bands * sites
        self.inputs, self.bands = inputs, bands
        self.total = inputs + width * innovations
        self.matrix = nn.Parameter(torch.randn(width, inputs) * noise) if inputs else None
        start = torch.full((bands,), math.log(noise))
        self.log_noise = nn.Parameter(start) if innovations else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Drive (trial, bin, width) of inputs (trial, bin, total)."""
        drive = inputs.new_zeros(())
        if self.matrix is not None:
            drive = functional.linear(inputs[..., : self.inputs], self.matrix)
        if self.log_noise is not None:
            own = inputs[..., self.inputs :].unflatten(-1, (self.bands, -1))
            drive = drive + (own * self.log_noise.exp()[:, None]).flatten(-2)
        return drive


class CoupledNetwork(SequentialVAE):
    """A :class:`SequentialVAE` whose encoder demodulates what it sees at the bands' frequencies.

    The start and every bin's innovations are :class:`SiteReading` of the running Fourier
    coefficients, with the same weights at every site, and have learned, constant spreads. The
    convolutions read the shared inputs, where there are any.

    Parameters
    ----------
    angle : Tensor (band,)
        rad per bin.
    start_reading, innovation_reading : SiteReading
        The second is unused without innovations.
    site_inputs : SiteInputs

    Attributes
    ----------
    evidence : Tensor (1 + band, 2)
        What :mod:`driftwave.inference.coupled_evidence` found on the validation trials; NaN before.
    """

    dynamics: CoupledOscillators
    input_map: SiteInputs
    evidence: Tensor

    def __init__(
        self,
        sizes: Sizes,
        log_mean_count: Tensor,
        input_law: Tensor,
        dynamics: CoupledOscillators,
        readout: LatentReadout,
        *,
        angle: Tensor,
        start_reading: SiteReading,
        innovation_reading: SiteReading,
        site_inputs: SiteInputs,
        electrodes: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__(
            sizes,
            log_mean_count,
            input_law,
            dynamics,
            readout,
            inputs=site_inputs.total,
            electrodes=electrodes,
            hidden=hidden,
            dropout=dropout,
            input_map=site_inputs,
        )
        width = dynamics.width
        self.shared = site_inputs.inputs
        self.own = site_inputs.total - self.shared
        self.register_buffer("evidence", torch.full((1 + dynamics.bands, 2), math.nan))
        self.demodulator = Demodulator(angle, sizes.bins)
        del self.start
        self.start_reading = start_reading
        self.start_bias = nn.Parameter(torch.zeros(width))
        self.start_spread = nn.Parameter(torch.full((width,), NARROW))
        if self.own:
            self.innovation_reading = innovation_reading
            self.innovation_log_variance = nn.Parameter(torch.zeros(width))
        if site_inputs.total:
            # Shared inputs and innovations are read in different ways.
            del self.input_posterior
        if self.shared:
            self.shared_reading = nn.Linear(hidden, 2 * self.shared)
        else:
            del self.encoder

    def undecayed(self) -> set[str]:
        """Also all that reads or is read by position, whose sizes mean something."""
        free = ("readout.", "start_reading.weight", "innovation_reading.weight")
        named = {n for n, _ in self.named_parameters() if n.startswith(free)}
        return super().undecayed() | named

    def encode(self, visible: Tensor) -> tuple[Tensor, ...]:
        """Laws of the start (trial, 2 width) and of all inputs (trial, seen bin, 2 total)."""
        mean, sd = self.input_law
        units = self.sizes.units_in
        counts = (visible[..., :units] - mean) / sd
        field = visible[..., units : units + self.electrodes]
        found = self.demodulator(torch.cat([counts, field], -1))
        start = self.start_reading(found[:, :1])[:, 0] + self.start_bias
        law = (torch.cat([start, self.start_spread.expand_as(start)], -1),)
        if not self.inputs:
            return law
        parts: list[list[Tensor]] = [[], []]
        if self.shared:
            values = torch.cat([counts, visible[..., units:]], -1)
            states, _ = self.encoder(self.dropout(values))
            for part, value in zip(parts, self.shared_reading(states).chunk(2, -1), strict=True):
                part.append(value)
        if self.own:
            own = self.innovation_reading(found)
            parts[0].append(own)
            parts[1].append(self.innovation_log_variance.expand_as(own))
        return (*law, torch.cat([*parts[0], *parts[1]], -1))


def angles(frequencies: Sequence[float], bin_width: float) -> Tensor:
    """rad per bin (band,) of frequencies in Hz."""
    return torch.tensor([2 * math.pi * f * bin_width for f in frequencies])
