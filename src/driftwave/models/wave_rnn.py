"""Wave-RNN: rings of rectified activity round which inputs travel, and its twin without waves."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from driftwave.inference.data import SpikeArrays
from driftwave.inference.dropout import HidingKind
from driftwave.inference.network_fit import NetworkFit
from driftwave.inference.ring_dynamics import IdentityDynamics, RingDynamics
from driftwave.inference.sequential_vae import (
    DenseReadout,
    InputMap,
    LatentDynamics,
    SequentialVAE,
)
from driftwave.inference.spike_network import Objective, Sizes, SpikeTask
from driftwave.inference.training import Schedule

PAPER = "Keller, Muller, Sejnowski and Welling 2024, ICLR, arXiv 2309.08045"
OBSERVES = "spikes"
GIVES_CURVES = True
GIVES_WAVES = "ring"
USES_DEVICE = True

QUICK = {"channels": 2, "sites": 8, "hidden": 16, "steps": 12, "samples": 2}

SAVE_EVERY = 10

RecurrenceKind = Literal["wave", "still", "identity"]


class Params(BaseModel):
    """Parameters of the Wave-RNN."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recurrence: RecurrenceKind = Field(
        "wave",
        description="`wave`: ring convolution that starts as a shift by one site per bin; `still`: "
        "the same convolution, started as the identity; `identity`: dense matrix started as the "
        "identity (the paper's IRNN).",
    )
    channels: int = Field(2, ge=1, description="Number of rings (paper 1 to 36).")
    sites: int = Field(
        48,
        ge=3,
        description="Sites of each ring (paper 16 to 625); what enters is back after as many bins.",
    )
    inputs: int = Field(
        4,
        ge=0,
        description="Number of inferred inputs; 0 leaves the start of a trial to explain it all.",
    )
    hidden: int = Field(48, ge=1, description="Channels of the encoder's convolutions.")
    encoder_layers: int = Field(
        3, ge=0, description="Residual layers of the encoder, 2, 4, 8 ... bins apart."
    )
    encoder_kernel: Literal[1, 3, 5, 7, 9] = Field(
        3, description="Bins that a layer of the encoder reads."
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="Dropout on what the encoder reads and gives, in training."
    )
    hiding: HidingKind = Field(
        "thinning",
        description="How spikes are hidden from the encoder in training: thinning or coordinated "
        "dropout.",
    )
    hidden_share: float = Field(0.5, gt=0, lt=1, description="Share hidden.")
    kl_weight: float = Field(
        0.1, ge=0, description="Weight of the KL of start and inputs (nats per trial)."
    )
    kl_warmup: float = Field(
        0.2, ge=0, le=1, description="Share of all steps over which the KL weight grows from 0."
    )
    steps: int = Field(1000, ge=1, description="Optimiser steps at most.")
    batch: int = Field(32, ge=1, description="Trials per step (paper 128).")
    learning_rate: float = Field(
        1e-2, gt=0, description="Highest learning rate, cosine decay (paper 1e-2 to 1e-4)."
    )
    weight_decay: float = Field(
        0.01, ge=0, description="Weight decay of encoder and readout; the recurrence is spared."
    )
    patience: int = Field(
        30, ge=1, description="Epochs without a better validation loss before training stops."
    )
    samples: int = Field(
        32, ge=1, description="Posterior samples averaged when rates are predicted."
    )


def dynamics(params: Params) -> LatentDynamics:
    """The recurrence, as it starts."""
    if params.recurrence == "identity":
        return IdentityDynamics(params.channels * params.sites)
    start: Literal["shift", "identity"] = "shift" if params.recurrence == "wave" else "identity"
    return RingDynamics(params.channels, params.sites, start)


def entry_sites(channels: int, sites: int, inputs: int) -> Tensor:
    """Columns (width, input) with one entry each: where an input enters.

    Input i goes to ring i mod ``channels``; several on one ring enter evenly spaced.
    """
    columns = torch.zeros(channels * sites, inputs)
    per_ring = -(-inputs // channels) if inputs else 1
    for i in range(inputs):
        site = (i // channels) * sites // per_ring
        columns[(i % channels) * sites + site, i] = 1.0
    return columns


class Fit(NetworkFit):
    """A fitted Wave-RNN or twin."""

    NAME = "wave_rnn"
    PARAMS = Params
    params: Params
    network: SequentialVAE

    @staticmethod
    def build(params: Params, sizes: Sizes, mean: Tensor, law: Tensor) -> SequentialVAE:
        """The network of these parameters, with weights from torch's default generator."""
        moves = dynamics(params)
        entry = None
        if params.recurrence != "identity":
            entry = entry_sites(params.channels, params.sites, params.inputs)
        return SequentialVAE(
            sizes,
            mean,
            law,
            moves,
            DenseReadout(moves.width, sizes.units_out),
            inputs=params.inputs,
            hidden=params.hidden,
            encoder_layers=params.encoder_layers,
            encoder_kernel=params.encoder_kernel,
            dropout=params.dropout,
            input_map=InputMap(moves.width, params.inputs, gain=1.0, start=entry),
        )

    @staticmethod
    def task(
        params: Params, network: SequentialVAE, arrays: SpikeArrays, seed: int, device: str
    ) -> SpikeTask:
        """NLL of hidden spikes and weighted KL."""
        objective = Objective(
            hiding=params.hiding,
            hidden_share=params.hidden_share,
            kl_weight=params.kl_weight,
            kl_warmup=params.kl_warmup * params.steps,
        )
        return SpikeTask(network, arrays, objective, seed, device)

    @staticmethod
    def schedule(params: Params) -> Schedule:
        """How the network is trained."""
        return Schedule(
            steps=params.steps,
            batch=params.batch,
            learning_rate=params.learning_rate,
            weight_decay=params.weight_decay,
            warmup=min(50, params.steps // 8),
            patience=params.patience,
            save_every=SAVE_EVERY,
        )

    @property
    def samples(self) -> int:
        """Posterior samples averaged when rates are predicted."""
        return self.params.samples

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Rates (Hz) and activity of the rings from held-in units and seen bins alone.

        ``latent`` (trial, time, latent) is the activity, on coordinates ``channel`` (ring) and
        ``site``; ``inferred_input`` (trial, time, input) the mean inputs, in forward bins draws of
        their prior; ``loading`` (unit, latent) the weights of the log rates. Rings have the
        ``kernel`` (channel_to, channel_from, tap); the twin's ``channel`` and ``site`` are an order
        without meaning, for comparison.
        """
        found = self.posterior(recording)
        mean, sd = self.network.parts(found.latent), self.network.parts(found.latent_sd)
        dataset = self.label(recording, found._replace(latent=mean.state, latent_sd=sd.state))
        width, sites = self.network.dynamics.width, self.params.sites
        dataset = dataset.assign_coords(
            part=("latent", np.full(width, "activity")),
            channel=("latent", np.arange(width) // sites),
            site=("latent", np.arange(width) % sites),
        )
        one = {"units": "1"}
        if self.params.inputs:
            dims = ("trial", "time", "input")
            dataset["inferred_input"] = (dims, mean.input.astype(np.float32), one)
            dataset["inferred_input_sd"] = (dims, sd.input.astype(np.float32), one)
        weights = self.network.state_dict()
        loading = weights["readout.weight"].cpu().numpy()
        dataset["loading"] = (("unit", "latent"), loading, {"units": "1"})
        if self.params.recurrence != "identity":
            kernel = weights["dynamics.kernel"].cpu().numpy()
            dataset["kernel"] = (("channel_to", "channel_from", "tap"), kernel, one)
        return dataset


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    device: str,
    progress: str | None,
    checkpoint: Path | None,
) -> Fit:
    """Fit a Wave-RNN (or its twin) to the training trials, stopping early on the validation trials.

    The encoder sees held-in units in seen bins, with a share of the spikes hidden; the likelihood
    is asked for the hidden spikes, the held-out units and the forward bins. The loss is
    ``NLL + weight * KL`` in nats per trial, divided by bins x units. The weights kept are those
    with the lowest validation NLL of spikes that the encoder has not seen.
    """
    return Fit.train(
        recording,
        params,
        seed=seed,
        device=device,
        progress=progress,
        checkpoint=checkpoint,
    )
