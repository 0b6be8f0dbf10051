"""The two LangevinFlow networks: what is inferred from counts, run as dynamics, and decoded."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from driftwave.inference.elbo import gaussian_kl, sample_gaussian
from driftwave.inference.encoders import ConvolutionEncoder, EncoderKind, GruEncoder
from driftwave.inference.langevin import (
    CHANNELS,
    LatticePotential,
    LearnedForce,
    PotentialKind,
    baoab,
    released_gradient,
    released_recursion,
)
from driftwave.inference.spike_network import Pass, Sizes, SpikeNetwork

# Where friction and the square root of the stiffness start, per bin.
FRICTION = 0.5
TURNS = (0.4, 1.2)


def decoder_layer(width: int, feedforward: int, dropout: float) -> nn.TransformerEncoderLayer:
    """One post-norm Transformer layer with two heads: no mask, no positional encoding."""
    return nn.TransformerEncoderLayer(
        width, nhead=2, dim_feedforward=feedforward, dropout=dropout, batch_first=True
    )


class Driftwave(SpikeNetwork):
    r"""Data-informed Langevin latents.

    An encoder reads the visible counts around each bin. Its start state gives
    :math:`q(z_0, v_0)`, its state in bin t gives :math:`q(\xi_t) = N(m_t, s_t^2)` for the
    innovation of that bin's exact Ornstein-Uhlenbeck step; all priors are N(0, I). The posterior
    thus covers the whole trial. Forward bins take their innovations from the prior: they are a
    forecast by the dynamics. Friction starts at .5 and stiffness between .4 and 1.2 squared, per
    bin: the latents turn within a trial, and forget within a few bins what they were told.

    Parameters
    ----------
    sizes : Sizes
    log_mean_count : Tensor (unit,)
        Start of the readout's bias.
    input_law : Tensor (2, held-in unit)
        Mean and standard deviation of the counts; the encoder reads standardised counts, which
        keeps its gates from saturating when counts are large or units many.
    """

    input_law: Tensor

    def __init__(
        self,
        sizes: Sizes,
        log_mean_count: Tensor,
        input_law: Tensor,
        *,
        latents: int,
        encoder: EncoderKind,
        hidden: int,
        encoder_layers: int,
        encoder_kernel: int,
        langevin: bool,
        potential: PotentialKind,
        nonconservative: bool,
        terms: int,
        innovations: bool,
        latent_noise: float,
        transformer: bool,
        feedforward: int,
        encoder_in_decoder: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.latents = latents
        self.innovations = innovations
        self.latent_noise = latent_noise
        self.langevin = langevin
        self.encoder_in_decoder = encoder_in_decoder
        self.register_buffer("input_law", input_law)
        self.encoder = (
            GruEncoder(sizes.units_in, hidden)
            if encoder == "gru"
            else ConvolutionEncoder(sizes.units_in, hidden, encoder_layers, encoder_kernel)
        )
        self.start = nn.Linear(self.encoder.size, 4 * latents)
        self.drive = nn.Linear(self.encoder.size, 2 * latents)
        self.dynamics = (
            LearnedForce(latents, terms)
            if nonconservative
            else LatticePotential(latents, potential, terms)
        )
        self.log_friction = nn.Parameter(torch.full((latents,), FRICTION).log())
        width = 2 * latents * langevin + self.encoder.size * encoder_in_decoder
        self.mixer = decoder_layer(width, feedforward, 0.0) if transformer else nn.Identity()
        self.readout = nn.Linear(width, sizes.units_out)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.dynamics.log_stiffness.copy_(2 * torch.linspace(*TURNS, latents).log())
            for layer, parts in ((self.start, 2), (self.drive, 1)):
                layer.bias.zero_()
                layer.bias[parts * latents :] = -2.0
            self.readout.bias.copy_(log_mean_count)

    def encode(self, visible: Tensor) -> tuple[Tensor, ...]:
        """Encoder states (trial, seen bin, size) and the parameters of both posteriors."""
        mean, sd = self.input_law
        states, start = self.encoder(self.dropout((visible - mean) / sd))
        states = self.dropout(states)
        return states, self.start(self.dropout(start)), self.drive(states[:, 1:])

    def undecayed(self) -> set[str]:
        """All vectors but friction and stiffness, which weight decay draws to one per bin.

        Without that the latents learn to remember, and to tell trained conditions apart by what
        they remember: conditions that were not trained on are then predicted worse.
        """
        physical = {"log_friction", "dynamics.log_stiffness"}
        return {name for name, p in self.named_parameters() if p.ndim < 2} - physical

    def noise_shape(self, trials: int) -> tuple[int, ...]:
        """Noise of z_0, of v_0 and of each later bin: (bins + 1, trial, latent)."""
        return self.sizes.bins + 1, trials, self.latents

    def decode(self, encoded: tuple[Tensor, ...], noise: Tensor) -> Pass:
        """Draw the latents with ``noise``, run the dynamics over all bins, and decode."""
        states, start, drive = encoded
        if not self.langevin:
            features = _repeat_last(states, self.sizes.bins)
            still = features.new_zeros(*features.shape[:2], 2 * self.latents)
            return Pass(self.readout(self.mixer(features)), still, still.sum((1, 2)))
        mean, log_variance = start.chunk(2, -1)
        kl = gaussian_kl(mean, log_variance).sum(-1)
        first = sample_gaussian(mean, log_variance, torch.cat([noise[0], noise[1]], -1))
        innovation = noise[2:]
        if self.innovations:
            shift, log_spread = drive.transpose(0, 1).chunk(2, -1)
            kl = kl + gaussian_kl(shift, log_spread).sum((0, -1))
            inferred = sample_gaussian(shift, log_spread, innovation[: len(shift)])
            innovation = torch.cat([inferred, innovation[len(shift) :]])
        else:
            innovation = torch.zeros_like(innovation)
        position, velocity = first.chunk(2, -1)
        force, friction = self.dynamics.force(), self.log_friction.exp()
        path = baoab(position, velocity, innovation, force, friction)
        latent = torch.cat(path, -1).transpose(0, 1)
        features = latent
        if self.training and self.latent_noise:
            features = latent + self.latent_noise * torch.randn_like(latent)
        if self.encoder_in_decoder:
            features = torch.cat([features, _repeat_last(states, self.sizes.bins)], -1)
        return Pass(self.readout(self.mixer(features)), latent, kl)


def _repeat_last(sequence: Tensor, bins: int) -> Tensor:
    """Repeat the last bin of (trial, time, ...) until there are ``bins``."""
    missing = bins - sequence.shape[1]
    return torch.cat([sequence, sequence[:, -1:].expand(-1, missing, -1)], 1)


class Released(SpikeNetwork):
    r"""The recursion and decoder of the reference implementation.

    :math:`h_0 = GRU(x_0, 0)`, :math:`h_t = GRU(x_{t-1}, h_{t-1})` (``lag`` 1; with ``lag`` 0 the
    paper's Algorithm 1, :math:`h_t = GRU(x_t, h_{t-1})`); :math:`z_0, v_0` from :math:`h_0`;
    the linear recursion of :func:`released_recursion`; one Transformer layer over
    :math:`[z, v, h]` and linear log rates. Dropout acts on the encoder states that are read, not
    inside the recurrence, so that the fused GRU serves.

    Unlike the reference, the divergence of a transition is that of
    :math:`N((1-\gamma)v', 2\gamma)` from N(0, s), where :math:`s = 2\gamma/(1-(1-\gamma)^2)` is
    the stationary variance of the step itself (the reference's 0.1 cannot be matched), and the
    potential's kernel starts small and random instead of at the singular zero.
    """

    STEP = 0.01

    def __init__(
        self,
        sizes: Sizes,
        log_mean_count: Tensor,
        *,
        latents: int,
        friction: float,
        lag: int,
        feedforward: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.latents = latents
        self.friction = friction
        self.lag = lag
        self.encoder = nn.GRU(sizes.units_in, latents, batch_first=True)
        self.start = nn.Linear(latents, 4 * latents)
        self.kernel = nn.Parameter(0.01 * torch.randn(CHANNELS, CHANNELS, 3))
        self.mixer = decoder_layer(3 * latents, feedforward, dropout)
        self.readout = nn.Linear(3 * latents, sizes.units_out)
        self.dropout = nn.Dropout(dropout)
        scale = 0.67 * 3 ** (-0.25)
        with torch.no_grad():
            attention = self.mixer.self_attn.out_proj
            for layer in (self.mixer.linear1, self.mixer.linear2, attention):
                layer.weight.mul_(scale)
            self.readout.bias.copy_(log_mean_count)

    def encode(self, visible: Tensor) -> tuple[Tensor, ...]:
        """Encoder states (trial, bin, latent) and the parameters of q(z_0, v_0)."""
        inputs = _repeat_last(visible, self.sizes.bins)
        if self.lag:
            inputs = torch.cat([inputs[:, :1], inputs[:, : -self.lag]], 1)
        states = self.dropout(self.encoder(inputs)[0])
        return states, self.start(states[:, 0])

    def noise_shape(self, trials: int) -> tuple[int, ...]:
        """Noise of z_0, of v_0 and of each later bin: (bins + 1, trial, latent)."""
        return self.sizes.bins + 1, trials, self.latents

    def decode(self, encoded: tuple[Tensor, ...], noise: Tensor) -> Pass:
        """Draw the latents with ``noise``, run the recursion over all bins, and decode."""
        states, start = encoded
        mean, log_variance = start.chunk(2, -1)
        first = sample_gaussian(mean, log_variance, torch.cat([noise[0], noise[1]], -1))
        position, velocity = first.chunk(2, -1)
        gradient = released_gradient(functional.normalize(self.kernel, dim=-1), self.latents)
        positions, velocities, means = released_recursion(
            position, velocity, noise[2:], gradient, self.friction, self.STEP
        )
        variance = torch.tensor(2 * self.friction, device=means.device)
        stationary = variance / (1 - (1 - self.friction) ** 2)
        kl = gaussian_kl(mean, log_variance).sum(-1)
        kl = kl + gaussian_kl(means, variance.log(), 0.0, stationary).sum((0, -1))
        latent = torch.cat([positions, velocities], -1).transpose(0, 1)
        features = torch.cat([latent, states], -1)
        return Pass(self.readout(self.mixer(features)), latent, kl)
