"""The network of LFADS: encoders, controller, generator, factors, and its penalised objective."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from driftwave.inference.elbo import gaussian_kl, sample_gaussian
from driftwave.inference.lfads_recursion import Bidirectional, controlled_scan, gru_scan
from driftwave.inference.spike_network import Pass, Sizes, SpikeNetwork, SpikeTask

PRIOR_TIMESCALE = 10.0  # bins
PRIOR_VARIANCE = 0.1


class AutoregressivePrior(nn.Module):
    r"""Gaussian AR(1) prior of each inferred input, with learned time constant and variance.

    :math:`u_1 \sim N(0, \sigma^2)`, :math:`u_t = a u_{t-1} + \sigma \sqrt{1 - a^2}\,\epsilon_t`
    with :math:`a = e^{-1/\tau}`, so that :math:`\sigma^2` is the variance of every bin
    (Pandarinath et al. 2018, online methods, "inferred inputs").
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.log_timescale = nn.Parameter(torch.full((inputs,), PRIOR_TIMESCALE).log())
        self.log_variance = nn.Parameter(torch.full((inputs,), PRIOR_VARIANCE).log())

    def _law(self) -> tuple[Tensor, Tensor, Tensor]:
        """Decay per bin, stationary variance, and variance given the bin before."""
        decay = torch.exp(-torch.exp(-self.log_timescale))
        variance = self.log_variance.exp()
        return decay, variance, variance * (1 - decay**2)

    def divergence(self, mean: Tensor, log_variance: Tensor, path: Tensor) -> Tensor:
        r"""KL of q from the prior, nats per trial, given a path drawn from q.

        :math:`KL(q(u_1) || p(u_1)) + \sum_{t>1} KL(q(u_t) || p(u_t | u_{t-1}))`: each term is
        exact given the drawn :math:`u_{t-1}`, and its mean over paths is the divergence.

        Parameters
        ----------
        mean, log_variance : Tensor (bin, trial, input)
            Of q(u_t) given the controller's state.
        path : Tensor (bin, trial, input)

        Returns
        -------
        Tensor (trial,)
        """
        decay, variance, given = self._law()
        first = gaussian_kl(mean[0], log_variance[0], 0.0, variance)
        rest = gaussian_kl(mean[1:], log_variance[1:], decay * path[:-1], given)
        return first.sum(-1) + rest.sum((0, -1))

    def run_on(self, last: Tensor, noise: Tensor) -> Tensor:
        """Draws from the prior for the bins (bin, trial, input) after ``last`` (trial, input)."""
        decay, _, given = self._law()
        sd, path = given.sqrt(), []
        for standard in noise:
            last = decay * last + sd * standard
            path.append(last)
        return torch.stack(path) if path else noise


class Cell(nn.Module):
    """Weights of one gated recurrent unit, for the scans of ``lfads_recursion``."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        bound = size**-0.5
        self.input_weight = nn.Parameter(torch.empty(3 * size, inputs).uniform_(-bound, bound))
        self.input_bias = nn.Parameter(torch.empty(3 * size).uniform_(-bound, bound))
        self.weight = nn.Parameter(torch.empty(3 * size, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(3 * size).uniform_(-bound, bound))

    def forward(self, sequence: Tensor, start: Tensor) -> Tensor:
        """States (bin, trial, size) for inputs (bin, trial, input)."""
        return gru_scan(sequence, start, self.input_weight, self.input_bias, self.weight, self.bias)


class LFADS(SpikeNetwork):
    r"""Latent factor analysis via dynamical systems.

    A bidirectional GRU reads the visible counts; its last states give :math:`q(g_0)`. A second
    one gives the controller an :math:`e_t` per bin. In each bin the controller reads
    :math:`[e_t, f_{t-1}]` and gives :math:`q(u_t)`; the generator takes the draw :math:`u_t`;
    factors :math:`f_t` are a linear map of its state whose rows have norm one; log rates are
    linear in the factors (Sussillo et al. 2016, equations 5 to 17). Forward bins, of which the
    encoders know nothing, take draws of the prior of u, begun at the last inferred input.

    Parameters
    ----------
    sizes : Sizes
    log_mean_count : Tensor (unit,)
        Start of the readout's bias.
    input_law : Tensor (2, held-in unit)
        Mean and standard deviation of the counts, which the encoders read standardised.
    generator, controller, encoder : int
        Units of each recurrent network (of the encoders: per direction).
    initial : int
        Dimension of :math:`q(g_0)`, mapped linearly to the generator's first state.
    factors, inputs : int
        Number of factors and of inferred inputs; without inputs there is no controller.
    learned_prior : bool
        Learn mean and variance of the prior of the initial condition; else N(0, 0.1).
    dropout : float
        On the counts that the encoders read and on what they give.
    """

    input_law: Tensor

    def __init__(
        self,
        sizes: Sizes,
        log_mean_count: Tensor,
        input_law: Tensor,
        *,
        generator: int,
        controller: int,
        encoder: int,
        initial: int,
        factors: int,
        inputs: int,
        learned_prior: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.initial, self.factors, self.inputs = initial, factors, inputs
        self.register_buffer("input_law", input_law)
        self.encoder = Bidirectional(sizes.units_in, encoder, 2 if inputs else 1)
        self.posterior = nn.Linear(2 * encoder, 2 * initial)
        self.prior_mean = nn.Parameter(torch.zeros(initial), requires_grad=learned_prior)
        self.prior_log_variance = nn.Parameter(
            torch.full((initial,), PRIOR_VARIANCE).log(), requires_grad=learned_prior
        )
        self.start = nn.Linear(initial, generator)
        self.generator = Cell(inputs, generator)
        self.loading = nn.Parameter(torch.randn(factors, generator))
        self.readout = nn.Linear(factors, sizes.units_out)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            self.posterior.bias.zero_()
            self.posterior.bias[initial:] = self.prior_log_variance
            self.readout.bias.copy_(log_mean_count)
        if inputs:
            self.controller = Cell(2 * encoder, controller)
            self.control_start = nn.Parameter(torch.zeros(controller))
            self.feedback = nn.Linear(factors, 3 * controller, bias=False)
            self.input_posterior = nn.Linear(controller, 2 * inputs)
            self.input_prior = AutoregressivePrior(inputs)
            with torch.no_grad():
                self.input_posterior.bias.zero_()
                self.input_posterior.bias[inputs:] = self.input_prior.log_variance

    def encode(self, visible: Tensor) -> tuple[Tensor, ...]:
        """Parameters of q(g_0) (trial, 2 initial) and the controller's drive, trials first."""
        mean, sd = self.input_law
        states = self.encoder(self.dropout((visible - mean) / sd))
        ends = torch.cat([states[0, -1, 0], states[1, 0, 0]], -1)
        law = self.posterior(self.dropout(ends))
        if not self.inputs:
            return (law,)
        seen = self.dropout(torch.cat([states[0, :, 1], states[1, :, 1]], -1))
        drive = functional.linear(seen, self.controller.input_weight, self.controller.input_bias)
        return law, drive.transpose(0, 1)

    def noise_shape(self, trials: int) -> tuple[int, ...]:
        """Noise of the initial condition, then of each bin's inputs: one row, trials second."""
        return 1, trials, self.initial + self.sizes.bins * self.inputs

    def decode(self, encoded: tuple[Tensor, ...], noise: Tensor) -> Pass:
        """Run the generator over all bins; the latents are factors, then inferred inputs."""
        loading = functional.normalize(self.loading, dim=1)
        states, path, kl = self.run_generator(encoded, noise, loading)
        factors = functional.linear(states, loading).transpose(0, 1)
        latent = torch.cat([factors, path.transpose(0, 1)], -1)
        return Pass(self.readout(factors), latent, kl)

    def run_generator(
        self, encoded: tuple[Tensor, ...], noise: Tensor, loading: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Generator states and inputs (bin, trial, ...) of all bins, and the KL (trial,).

        ``loading`` (factor, generator unit) has rows of norm one; the controller reads through it.
        """
        law, *drive = encoded
        mean, log_variance = law.chunk(2, -1)
        kl = gaussian_kl(mean, log_variance, self.prior_mean, self.prior_log_variance.exp()).sum(-1)
        drawn = sample_gaussian(mean, log_variance, noise[0, :, : self.initial])
        start = self.start(drawn)
        standard = noise[0, :, self.initial :].unflatten(1, (self.sizes.bins, self.inputs))
        standard = standard.transpose(0, 1)
        if not self.inputs:
            return self.generator(standard, start), standard, kl
        states, path, cost = self._controlled(drive[0], start, standard, loading)
        return states, path, kl + cost

    def encoder_states(self, visible: Tensor) -> dict[str, Tensor]:
        """States (trial, seen bin, 2 encoder) of the encoders, both directions side by side.

        ``encoder`` is the one whose last states give the initial condition,
        ``controller_encoder``, if there is a controller, the one that drives it.
        """
        mean, sd = self.input_law
        states = self.encoder(self.dropout((visible - mean) / sd))
        names = ("encoder", "controller_encoder")[: states.shape[2]]
        return {
            name: torch.cat([states[0, :, i], states[1, :, i]], -1).transpose(0, 1)
            for i, name in enumerate(names)
        }

    def _controlled(
        self, drive: Tensor, start: Tensor, noise: Tensor, loading: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Generator states and inputs (bin, trial, ...) of all bins, and the inputs' KL."""
        seen = drive.shape[1]
        states, law, inputs = controlled_scan(
            drive.transpose(0, 1),
            noise[:seen],
            control_start=self.control_start.expand(len(start), -1),
            control_weight=self.controller.weight,
            control_bias=self.controller.bias,
            feedback=self.feedback.weight @ loading,
            posterior_weight=self.input_posterior.weight,
            posterior_bias=self.input_posterior.bias,
            start=start,
            weight=self.generator.weight,
            bias=self.generator.bias,
            input_weight=self.generator.input_weight,
            input_bias=self.generator.input_bias,
        )
        mean, log_variance = law.chunk(2, -1)
        cost = self.input_prior.divergence(mean, log_variance, inputs)
        if seen == self.sizes.bins:
            return states, inputs, cost
        ahead = self.input_prior.run_on(inputs[-1], noise[seen:])
        later = self.generator(ahead, states[-1])
        return torch.cat([states, later]), torch.cat([inputs, ahead]), cost

    def recurrent_penalty(self, of_generator: float, of_controller: float) -> Tensor:
        """Half the mean squared recurrent weight of generator and controller, times a factor."""
        penalty = 0.5 * of_generator * self.generator.weight.square().mean()
        if self.inputs:
            penalty = penalty + 0.5 * of_controller * self.controller.weight.square().mean()
        return penalty


class LFADSTask(SpikeTask):
    """The shared objective plus an L2 penalty on recurrent weights, in nats per trial.

    The penalty grows from zero over the same steps as the weight of the KL.
    """

    network: LFADS
    l2: tuple[float, float] = (0.0, 0.0)

    def loss(self, index: Tensor, step: int) -> Tensor:
        """Objective on a batch of training trials, nats per bin and unit."""
        ramp = min(1.0, step / max(1.0, self.objective.kl_warmup))
        entries = self.network.sizes.bins * self.network.sizes.units_out
        penalty = self.network.recurrent_penalty(*self.l2)
        return super().loss(index, step) + ramp * penalty / entries
