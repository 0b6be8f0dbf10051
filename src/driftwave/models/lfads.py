"""LFADS: a recurrent generator with an inferred initial condition and inferred inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from driftwave.activations.dataset import activations_dataset
from driftwave.activations.networks import encoded_states, sampled_states
from driftwave.inference.data import SpikeArrays
from driftwave.inference.dropout import HidingKind
from driftwave.inference.lfads_network import LFADS, LFADSTask
from driftwave.inference.network_fit import NetworkFit
from driftwave.inference.spike_network import Objective, Sizes
from driftwave.inference.training import Schedule

PAPER = "Sussillo et al. 2016, arXiv 1608.06315; Pandarinath et al. 2018, Nature Methods"
OBSERVES = "spikes"
GIVES_CURVES = True
GIVES_ACTIVATIONS = True
USES_DEVICE = True

QUICK = {"generator": 24, "controller": 16, "encoder": 16, "steps": 12, "samples": 2}

SAVE_EVERY = 10


class Params(BaseModel):
    """Parameters of LFADS."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    generator: int = Field(100, ge=1, description="Units of the generator (paper 64 to 200).")
    factors: int = Field(20, ge=1, description="Number of factors (paper 3 to 50).")
    inputs: int = Field(
        2,
        ge=0,
        description="Number of inferred inputs (paper 1 to 4); 0 leaves the controller out.",
    )
    controller: int = Field(64, ge=1, description="Units of the controller (paper 64 to 128).")
    encoder: int = Field(
        64, ge=1, description="Units per direction of each of the two encoders (paper 64 to 200)."
    )
    initial: int = Field(
        32, ge=1, description="Dimension of the initial condition's posterior (paper 64)."
    )
    learned_prior: bool = Field(
        True, description="Learn the initial condition's prior; false: N(0, 0.1)."
    )
    hiding: HidingKind = Field(
        "thinning",
        description="How spikes are hidden from the encoders in training: thinning, or coordinated "
        "dropout (AutoLFADS).",
    )
    hidden_share: float = Field(
        0.3, gt=0, lt=1, description="Share hidden (AutoLFADS searches 0.01 to 0.7)."
    )
    kl_weight: float = Field(
        0.03, ge=0, description="Weight of both divergences, of g0 and of the inputs (paper 1)."
    )
    l2_generator: float = Field(
        2000.0,
        ge=0,
        description="L2 on the generator's recurrent weights: half their mean square times this, "
        "nats per trial (paper 2000).",
    )
    l2_controller: float = Field(0.0, ge=0, description="The same for the controller (paper 0).")
    warmup: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of all steps over which the weights of KL and L2 grow from 0.",
    )
    dropout: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Dropout on what the encoders read and give (paper 0.05); off whenever rates "
        "are predicted.",
    )
    steps: int = Field(1500, ge=1, description="Optimiser steps at most.")
    batch: int = Field(64, ge=1, description="Trials per step (paper 128).")
    learning_rate: float = Field(
        1e-2, gt=0, description="Highest learning rate, cosine decay (paper 0.01, by plateau)."
    )
    patience: int = Field(
        40, ge=1, description="Epochs without a better validation loss before training stops."
    )
    samples: int = Field(
        32, ge=1, description="Posterior samples averaged when rates are predicted (paper 128)."
    )


class Fit(NetworkFit):
    """A fitted LFADS."""

    NAME = "lfads"
    PARAMS = Params
    params: Params
    network: LFADS

    @staticmethod
    def build(params: Params, sizes: Sizes, mean: Tensor, law: Tensor) -> LFADS:
        """The network of these parameters, with weights from torch's default generator."""
        sized = ("generator", "controller", "encoder", "initial", "factors", "inputs")
        return LFADS(
            sizes,
            mean,
            law,
            **{name: getattr(params, name) for name in sized},
            learned_prior=params.learned_prior,
            dropout=params.dropout,
        )

    @staticmethod
    def task(
        params: Params, network: LFADS, arrays: SpikeArrays, seed: int, device: str
    ) -> LFADSTask:
        """NLL of hidden spikes, weighted KL and L2 penalty."""
        objective = Objective(
            hiding=params.hiding,
            hidden_share=params.hidden_share,
            kl_weight=params.kl_weight,
            kl_warmup=params.warmup * params.steps,
        )
        task = LFADSTask(network, arrays, objective, seed, device)
        task.l2 = params.l2_generator, params.l2_controller
        return task

    @staticmethod
    def schedule(params: Params) -> Schedule:
        """How the network is trained; the L2 penalty is the only decay of weights."""
        return Schedule(
            steps=params.steps,
            batch=params.batch,
            learning_rate=params.learning_rate,
            weight_decay=0.0,
            warmup=50,
            patience=params.patience,
            save_every=SAVE_EVERY,
        )

    @property
    def samples(self) -> int:
        """Posterior samples averaged when rates are predicted."""
        return self.params.samples

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Rates (Hz), factors and inferred inputs of every trial from visible counts alone.

        ``latent`` holds the factors, ``inferred_input`` (trial, time, input) the mean of the
        controller's inputs; in forward bins both follow draws of the inputs' prior. The spread
        over posterior samples is in ``latent_sd`` and ``inferred_input_sd``.
        """
        found = self.posterior(recording)
        mean, sd, count = found.latent, found.latent_sd, self.params.factors
        factors = found._replace(latent=mean[..., :count], latent_sd=sd[..., :count])
        dataset = self.label(recording, factors)
        if not self.params.inputs:
            return dataset
        dims = ("trial", "time", "input")
        for name, values in (("inferred_input", mean), ("inferred_input_sd", sd)):
            values = values[..., count:].astype(np.float32)
            dataset[name] = (dims, values, {"units": "arbitrary"})
        bins = self.network.input_prior.log_timescale.detach().exp().cpu().numpy()
        seconds = {"units": "s"}
        dataset["input_timescale"] = ("input", bins * dataset.attrs["bin_width"], seconds)
        return dataset

    def activations(self, recording: xr.DataTree) -> xr.Dataset:
        """Units of the encoders and, as posterior mean, of the generator, in every trial."""
        loading = functional.normalize(self.network.loading.detach(), dim=1)

        def generator(encoded: tuple[Tensor, ...], noise: Tensor) -> Tensor:
            return self.network.run_generator(encoded, noise, loading)[0].transpose(0, 1)

        modules = encoded_states(self, recording, self.network.encoder_states)
        modules["generator"] = sampled_states(self, recording, generator)
        return activations_dataset(recording, modules, source=self.NAME)


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    device: str,
    progress: str | None,
    checkpoint: Path | None,
) -> Fit:
    """Fit LFADS to the training trials, stopping early on the validation trials.

    The encoders see held-in units in seen bins, with a share of the spikes hidden; the likelihood
    is asked for the hidden spikes, the held-out units and the forward bins. The loss is
    ``NLL + ramp * (kl_weight * KL + L2)`` in nats per trial, divided by bins x units. The weights
    kept are those with the lowest validation NLL of spikes that the encoders have not seen.
    """
    return Fit.train(
        recording,
        params,
        seed=seed,
        device=device,
        progress=progress,
        checkpoint=checkpoint,
    )
