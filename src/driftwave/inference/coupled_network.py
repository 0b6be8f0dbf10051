"""The sequential VAE of coupled oscillators: what it infers from, and what enters its sites."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from driftwave.inference.lattice_dynamics import CoupledOscillators
from driftwave.inference.sequential_vae import LatentReadout, SequentialVAE
from driftwave.inference.spike_network import Sizes

# Widths of the encoder's filters, in periods of the band.
TIMESCALES = (0.5, 2.0)
# Share of the start that the encoder reads off its slower filter before any training.
START_READING = 0.5


class Demodulator(nn.Module):
    r"""Running Fourier coefficients of each site's channels, from the past and from the future.

    .. math:: D^\pm_j(t) = \frac{1}{\sqrt{N}} \sum_{t'} e^{-|t-t'| / \tau}
              e^{i\omega (t - t')} \textstyle\sum_n P_{jn} x_n(t')

    over t' <= t (+) or t' >= t (-). They are what a Kalman smoother of an oscillation is linear in.

    Parameters
    ----------
    projection : Tensor (band, site, channel)
        Start of the learned P.
    angle : Tensor (band,)
        omega, rad per bin.
    bins : int
    """

    filters: Tensor

    def __init__(self, projection: Tensor, angle: Tensor, bins: int) -> None:
        super().__init__()
        self.projection = nn.Parameter(projection)
        lag = torch.arange(bins)[:, None] - torch.arange(bins)[None]
        parts = []
        for turn in angle.tolist():
            for periods in TIMESCALES:
                scale = max(1.0, periods * 2 * math.pi / turn)
                weight = torch.exp(-lag.abs() / scale)
                carrier = torch.stack([torch.cos(turn * lag), torch.sin(turn * lag)])
                for side in (lag >= 0, lag <= 0):
                    norm = math.sqrt(1 - math.exp(-2 / scale))
                    parts.append(norm * weight * side * carrier)
        shape = (len(angle), 2 * len(TIMESCALES), 2, bins, bins)
        # Counts as buffer, not as weight: the frequencies are those the fit starts from.
        self.register_buffer("filters", torch.stack(parts).view(shape).float(), persistent=False)

    @property
    def features(self) -> int:
        """Real numbers per band and site: filters x real and imaginary part."""
        return self.filters.shape[1] * 2

    def forward(self, values: Tensor) -> Tensor:
        """Coefficients (trial, bin, band, site, feature) of values (trial, seen bin, channel)."""
        seen = values.shape[1]
        at_sites = torch.einsum("tic,bsc->btis", values, self.projection)
        filters = self.filters[..., :seen, :seen]
        bands, kinds, parts = filters.shape[:3]
        stacked = filters.reshape(bands, 1, kinds * parts * seen, seen)
        out = (stacked @ at_sites).view(bands, len(values), kinds, parts, seen, -1)
        return out.permute(1, 4, 0, 5, 2, 3).flatten(4)


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

    The start and every bin's innovations are linear in the running Fourier coefficients, with
    learned, constant spreads. The convolutions read the shared inputs only. The start adds what
    the convolutions say of the first bins.

    Parameters
    ----------
    projection : Tensor (band, site, channel)
        Start of the map from channels to sites.
    angle : Tensor (band,)
        rad per bin.
    site_inputs : SiteInputs
    """

    dynamics: CoupledOscillators
    input_map: SiteInputs

    def __init__(
        self,
        sizes: Sizes,
        log_mean_count: Tensor,
        input_law: Tensor,
        dynamics: CoupledOscillators,
        readout: LatentReadout,
        *,
        projection: Tensor,
        angle: Tensor,
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
        self.shared = site_inputs.inputs
        width = dynamics.width
        self.demodulator = Demodulator(projection, angle, sizes.bins)
        features = width // 2 * self.demodulator.features
        self.start_reading = nn.Linear(features, width)
        self.own = site_inputs.total - self.shared
        with torch.no_grad():
            self.start.weight.mul_(0.1)
            _read_slow_future(self.start_reading, self.demodulator.features)
        if self.own:
            self.innovation_reading = nn.Linear(features, width)
            self.innovation_log_variance = nn.Parameter(torch.zeros(width))
            with torch.no_grad():
                self.innovation_reading.weight.zero_()
                self.innovation_reading.bias.zero_()
        if site_inputs.total:
            # Shared inputs and innovations are read in different ways.
            del self.input_posterior
        if self.shared:
            self.shared_reading = nn.Linear(hidden, 2 * self.shared)

    def undecayed(self) -> set[str]:
        """Also all that reads or is read by position, whose sizes mean something."""
        free = ("readout.",)
        named = {n for n, _ in self.named_parameters() if n.startswith(free)}
        return super().undecayed() | named

    def encode(self, visible: Tensor) -> tuple[Tensor, ...]:
        """Laws of the start (trial, 2 width) and of all inputs (trial, seen bin, 2 total)."""
        mean, sd = self.input_law
        units = self.sizes.units_in
        counts = (visible[..., :units] - mean) / sd
        field = visible[..., units : units + self.electrodes]
        values = torch.cat([counts, visible[..., units:]], -1)
        states, first = self.encoder(self.dropout(values))
        found = self.demodulator(torch.cat([counts, field], -1)).flatten(2)
        start = self.start(first)
        width = self.dynamics.width
        read = functional.pad(self.start_reading(found[:, 0]), (0, width))
        law = (start + read,)
        if not self.inputs:
            return law
        parts: list[list[Tensor]] = [[], []]
        if self.shared:
            for part, value in zip(parts, self.shared_reading(states).chunk(2, -1), strict=True):
                part.append(value)
        if self.own:
            own = self.innovation_reading(self.dropout(found))
            parts[0].append(own)
            parts[1].append(self.innovation_log_variance.expand_as(own))
        return (*law, torch.cat([*parts[0], *parts[1]], -1))


def _read_slow_future(layer: nn.Linear, features: int) -> None:
    """Read every site's start from its slower filter of the future, and nothing else.

    Features of a site are (timescale, side, part).
    """
    weight = layer.weight.zero_().view(layer.out_features // 2, 2, -1, features)
    slow_future = features - 2
    for site in range(len(weight)):
        for part in range(2):
            weight[site, part, site, slow_future + part] = START_READING
    layer.bias.zero_()


def site_projection(reading: Tensor, bands: int, sites: int) -> Tensor:
    """Map (band, site, channel) from channels to sites: the readout's, transposed and normalised.

    Parameters
    ----------
    reading : Tensor (channel, width)
        Weights of the readout, of the channels the encoder sees.
    """
    parts = reading.detach().view(len(reading), bands, sites, 2)[..., 0]
    projection = parts.permute(1, 2, 0)
    return projection / projection.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def angles(frequencies: Sequence[float], bin_width: float) -> Tensor:
    """rad per bin (band,) of frequencies in Hz."""
    return torch.tensor([2 * math.pi * f * bin_width for f in frequencies])
