"""Sequential VAE: latents that follow a plug-in's dynamics, driven by inferred inputs."""

from __future__ import annotations

from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from driftwave.inference.elbo import gaussian_kl, sample_gaussian
from driftwave.inference.encoders import ConvolutionEncoder
from driftwave.inference.lfads_network import AutoregressivePrior
from driftwave.inference.spike_network import Pass, Sizes, SpikeNetwork

PriorKind = Literal["white", "autoregressive"]
Values = TypeVar("Values", Tensor, np.ndarray)

# Log variance at which the posteriors start, below the prior's so that the first states are not
# noise alone.
NARROW = -2.0


# Standard deviations from its mean that a unit's count may tell the encoder: a unit that is silent
# in training and fires in a test trial would otherwise drive the dynamics where they were never
# trained.
FARTHEST = 10.0


class LatentDynamics(nn.Module):
    """How a state of ``width`` real numbers moves from bin to bin.

    Attributes
    ----------
    width : int
        Number of real state variables.
    """

    width: int

    def forward(self, start: Tensor, drive: Tensor) -> Tensor:
        """States after each bin, deterministic given the drive.

        Parameters
        ----------
        start : Tensor (trial, width)
            State before bin 0.
        drive : Tensor (trial, bin, width)
            What enters in each bin.

        Returns
        -------
        Tensor (trial, bin, width)
            The state of bin t is F(state of bin t - 1, drive[:, t]).
        """
        raise NotImplementedError

    def start_from(self, free: Tensor) -> Tensor:
        """An allowed start (trial, width) from an unconstrained one of the same shape."""
        return free


class LatentReadout(nn.Module):
    """What a state says about every channel, without the channel's offset."""

    def forward(self, state: Tensor) -> Tensor:
        """Channels (trial, bin, channel) of states (trial, bin, width).

        Units come first (log rate per bin), then electrodes (standardised microvolt).
        """
        raise NotImplementedError


class DenseReadout(LatentReadout):
    """A linear map without structure, the baseline of every readout with positions.

    Parameters
    ----------
    width, channels : int
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, width) / width**0.5)

    def forward(self, state: Tensor) -> Tensor:
        """Linear channels (trial, bin, channel)."""
        return functional.linear(state, self.weight)


class InputMap(nn.Module):
    r"""Drive :math:`B u`: columns of B have norm :math:`g_i = g_{max} \sigma(a_i)`, learned.

    The bound keeps the prior's draws, of standard deviation one, from being blown up so far that
    the inputs alone write the state.

    Parameters
    ----------
    width, inputs : int
    gain, bound : float
        The norm of each column at the start, and the most it can become.
    start : Tensor (width, input), optional
        Directions of the columns at the start; random ones without.
    """

    def __init__(
        self,
        width: int,
        inputs: int,
        *,
        gain: float = 0.3,
        bound: float = 3.0,
        start: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.bound = bound
        self.direction = nn.Parameter(torch.randn(width, inputs) if start is None else start)
        ratio = torch.full((inputs,), gain / bound)
        self.gain = nn.Parameter(torch.logit(ratio))

    def matrix(self) -> Tensor:
        """B (width, input)."""
        return functional.normalize(self.direction, dim=0) * self.bound * self.gain.sigmoid()

    def forward(self, inputs: Tensor) -> Tensor:
        """Drive (..., width) of inputs (..., input)."""
        return functional.linear(inputs, self.matrix())


class Parts(NamedTuple, Generic[Values]):
    """The parts of a pass's ``latent`` (tensors or arrays).

    Attributes
    ----------
    state : (trial, bin, width)
    input : (trial, bin, input)
        Inferred inputs u, in forward bins draws of their prior.
    field : (trial, bin, electrode)
        Expected field, standardised.
    """

    state: Values
    input: Values
    field: Values


class SequentialVAE(SpikeNetwork):
    r"""An encoder infers where a state starts and what drives it; the dynamics do the rest.

    Dilated convolutions read the visible counts (and field). Their first state gives the diagonal
    Gaussian :math:`q(s)` of the start, against a prior whose mean and variance are learned; the
    state of bin t gives :math:`q(u_t)`, against white :math:`N(0, 1)` or an AR(1) process. The
    drive is :math:`B u_t` (:class:`InputMap`). In forward bins u is drawn from its prior and
    costs nothing: they are a forecast by the dynamics.

    Parameters
    ----------
    sizes : Sizes
        Units in and out are 0 where no spikes are observed.
    log_mean_count : Tensor (unit,)
        Start of the units' offsets.
    input_law : Tensor (2, held-in unit)
        Mean and sd of the counts, which the encoder reads standardised.
    dynamics : LatentDynamics
    readout : LatentReadout
        To ``sizes.units_out + electrodes`` channels.
    inputs : int
        Number of inferred inputs; 0: the start alone decides the trial.
    electrodes : int
        Channels of the field. The encoder then expects, after the counts, the standardised field
        with zeros where it is hidden or missing, and a mask that is 1 where it is shown:
        (trial, seen bin, held-in unit + 2 electrode).
    hidden, encoder_layers, encoder_kernel
        Of :class:`driftwave.inference.encoders.ConvolutionEncoder`.
    dropout : float
        On what the encoder reads and gives.
    input_map : nn.Module, optional
        In place of the default :class:`InputMap`.
    prior : {"white", "autoregressive"}
        Of the inputs.
    """

    input_law: Tensor

    def __init__(
        self,
        sizes: Sizes,
        log_mean_count: Tensor,
        input_law: Tensor,
        dynamics: LatentDynamics,
        readout: LatentReadout,
        *,
        inputs: int,
        electrodes: int = 0,
        hidden: int = 48,
        encoder_layers: int = 3,
        encoder_kernel: int = 3,
        dropout: float = 0.1,
        input_map: nn.Module | None = None,
        prior: PriorKind = "white",
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.inputs, self.electrodes = inputs, electrodes
        self.dynamics, self.readout = dynamics, readout
        self.register_buffer("input_law", input_law)
        width = dynamics.width
        seen = sizes.units_in + 2 * electrodes
        self.encoder = ConvolutionEncoder(seen, hidden, encoder_layers, encoder_kernel)
        self.start = nn.Linear(hidden, 2 * width)
        self.start_mean = nn.Parameter(torch.zeros(width))
        self.start_log_variance = nn.Parameter(torch.zeros(width))
        self.offset = nn.Parameter(torch.cat([log_mean_count, torch.zeros(electrodes)]))
        self.log_noise = nn.Parameter(torch.zeros(electrodes))
        self.dropout = nn.Dropout(dropout)
        _start_narrow(self.start)
        if inputs:
            self.input_posterior = nn.Linear(hidden, 2 * inputs)
            self.input_map = InputMap(width, inputs) if input_map is None else input_map
            self.input_prior = AutoregressivePrior(inputs) if prior == "autoregressive" else None
            _start_narrow(self.input_posterior)

    def undecayed(self) -> set[str]:
        """All vectors, the dynamics, and the map of the inputs, whose norm is bounded anyway."""
        free = ("dynamics.", "input_map.", "input_prior.")
        return {n for n, p in self.named_parameters() if p.ndim < 2 or n.startswith(free)}

    def encode(self, visible: Tensor) -> tuple[Tensor, ...]:
        """Laws of the start (trial, 2 width) and of the inputs (trial, seen bin, 2 input)."""
        mean, sd = self.input_law
        units = self.sizes.units_in
        counts = ((visible[..., :units] - mean) / sd).clamp(-FARTHEST, FARTHEST)
        states, start = self.encoder(self.dropout(torch.cat([counts, visible[..., units:]], -1)))
        law = self.start(self.dropout(start))
        return (law, self.input_posterior(self.dropout(states))) if self.inputs else (law,)

    def noise_shape(self, trials: int) -> tuple[int, ...]:
        """Noise of the start, then of each bin's inputs: one row, trials second."""
        return 1, trials, self.dynamics.width + self.sizes.bins * self.inputs

    def decode(self, encoded: tuple[Tensor, ...], noise: Tensor) -> Pass:
        """Run the dynamics over all bins; ``latent`` is read by :meth:`parts`."""
        width, bins = self.dynamics.width, self.sizes.bins
        mean, log_variance = encoded[0].chunk(2, -1)
        prior = self.start_mean, self.start_log_variance.exp()
        kl = gaussian_kl(mean, log_variance, *prior).sum(-1)
        start = self.dynamics.start_from(sample_gaussian(mean, log_variance, noise[0, :, :width]))
        standard = noise[0, :, width:].unflatten(1, (bins, self.inputs))
        if self.inputs:
            path, cost = self._inputs(encoded[1], standard)
            drive, kl = self.input_map(path), kl + cost
        else:
            path, drive = standard, start.new_zeros(len(start), bins, width)
        state = self.dynamics(start, drive)
        channels = self.readout(state) + self.offset
        log_rate, field = channels.split([self.sizes.units_out, self.electrodes], -1)
        return Pass(log_rate, torch.cat([state, path, field], -1), kl)

    def _inputs(self, law: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (trial, bin, input) drawn in all bins, and their KL (trial,)."""
        mean, log_variance = law.chunk(2, -1)
        seen = mean.shape[1]
        drawn = sample_gaussian(mean, log_variance, noise[:, :seen])
        if self.input_prior is None:
            path = torch.cat([drawn, noise[:, seen:]], 1)
            return path, gaussian_kl(mean, log_variance).sum((1, 2))
        law_first = (x.transpose(0, 1) for x in (mean, log_variance, drawn))
        cost = self.input_prior.divergence(*law_first)
        if seen == noise.shape[1]:
            return drawn, cost
        ahead = self.input_prior.run_on(drawn[:, -1], noise[:, seen:].transpose(0, 1))
        return torch.cat([drawn, ahead.transpose(0, 1)], 1), cost

    def parts(self, latent: Values) -> Parts[Values]:
        """State, inputs and field of the ``latent`` of a pass or of a posterior average."""
        ends = self.dynamics.width, self.dynamics.width + self.inputs
        return Parts(latent[..., : ends[0]], latent[..., slice(*ends)], latent[..., ends[1] :])


def _start_narrow(layer: nn.Linear) -> None:
    """A posterior that starts narrower than its prior."""
    half = layer.out_features // 2
    with torch.no_grad():
        layer.bias.zero_()
        layer.bias[half:] = NARROW
