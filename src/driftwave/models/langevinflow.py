"""LangevinFlow: latents that follow underdamped Langevin dynamics on a lattice of oscillators."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from driftwave.activations.dataset import activations_dataset
from driftwave.activations.networks import encoded_states
from driftwave.inference.data import SpikeArrays
from driftwave.inference.dropout import HidingKind
from driftwave.inference.encoders import EncoderKind
from driftwave.inference.langevin import CHANNELS, PotentialKind
from driftwave.inference.langevin_modes import describe
from driftwave.inference.langevin_networks import Driftwave, Released
from driftwave.inference.network_fit import NetworkFit
from driftwave.inference.spike_network import Objective, Sizes, SpikeNetwork, SpikeTask
from driftwave.inference.training import Schedule

PAPER = "Song, Keller, Yue, Perona and Welling 2025, arXiv 2507.11531"
OBSERVES = "spikes"
GIVES_CURVES = True
GIVES_ACTIVATIONS = True
GIVES_WAVES = "lattice"
USES_DEVICE = True

# Where the variants differ, a parameter left empty takes its value from here. Those of `released`
# are the reference's for MC_Maze, save latents (280), batch (256) and steps (2,000 epochs), cut so
# that a fit takes about a minute on one core.
VARIANT_DEFAULTS: dict[str, dict[str, Any]] = {
    "driftwave": {
        "latents": 16,
        "feedforward": 128,
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "hiding": "thinning",
        "hidden_share": 0.5,
        "kl_weight": 0.01,
        "dropout": 0.1,
        "steps": 2000,
    },
    "released": {
        "latents": 32,
        "feedforward": 512,
        "learning_rate": 3e-3,
        "weight_decay": 2e-5,
        "hiding": "coordinated",
        "hidden_share": 0.5,
        "kl_weight": 0.1,
        "dropout": 0.05,
        "steps": 900,
    },
}
SAVE_EVERY = 10


class Params(BaseModel):
    """Parameters; those left empty take the variant's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: Literal["driftwave", "released"] = Field(
        "driftwave",
        description="`driftwave`: innovations of every bin inferred from the data, exact "
        "Ornstein-Uhlenbeck step; `released`: recursion and decoder of the reference code.",
    )
    latents: int | None = Field(
        None,
        ge=8,
        multiple_of=CHANNELS,
        description="Number H of latent positions (and of velocities): 4 channels x H/4 sites; "
        "16 for driftwave, 32 for released (paper 280).",
    )
    encoder: EncoderKind = Field(
        "convolution",
        description="What reads the counts (driftwave): dilated convolutions, which see a stretch "
        "of bins around each, or a bidirectional GRU, which sees the whole trial.",
    )
    hidden: int = Field(
        48, ge=1, description="Width of the encoder: channels, or GRU units per direction."
    )
    encoder_layers: int = Field(
        3, ge=0, description="Residual layers of the convolution encoder, 2, 4, 8 ... bins apart."
    )
    encoder_kernel: Literal[1, 3, 5, 7, 9] = Field(
        3, description="Bins that a layer of the convolution encoder reads."
    )
    langevin: bool = Field(
        True,
        description="Langevin latents (driftwave); false, for comparison, decodes the encoder's "
        "states alone.",
    )
    potential: PotentialKind = Field(
        "learned",
        description="Potential of driftwave: learned (stiffness and local log-cosh couplings), "
        "quadratic (normal modes), quartic (normal modes and an on-site quartic), or none.",
    )
    nonconservative: bool = Field(
        False, description="Learn a force F(z, v) in place of the potential's gradient (driftwave)."
    )
    potential_terms: int = Field(64, ge=1, description="Terms of the learned potential or force.")
    innovations: bool = Field(
        True, description="Per-bin noise, inferred in seen bins (driftwave); false: z0, v0 only."
    )
    transformer: bool = Field(
        True, description="Transformer layer between latents and rates (driftwave)."
    )
    encoder_in_decoder: bool = Field(
        False,
        description="Give the decoder the encoder's states too (driftwave); the latents then "
        "explain little of the rates.",
    )
    feedforward: int | None = Field(
        None,
        ge=1,
        description="Width inside the Transformer layer; 128 for driftwave, 512 for released.",
    )
    friction: float = Field(
        0.55, gt=0, lt=1, description="gamma of the released step; driftwave learns its own."
    )
    lag: Literal[0, 1] = Field(
        1, description="Bins the released encoder lags the data; 0 is the paper's Algorithm 1."
    )
    hiding: HidingKind | None = Field(
        None,
        description="How spikes are hidden from the encoder in training: thinning (driftwave) or "
        "coordinated dropout (released).",
    )
    hidden_share: float | None = Field(None, gt=0, lt=1, description="Share hidden; .5 for both.")
    latent_noise: float = Field(
        0.3,
        ge=0,
        description="Standard deviation of noise added in training to the latents that the decoder "
        "sees (driftwave).",
    )
    kl_weight: float | None = Field(
        None,
        ge=0,
        description="Weight of the KL (nats per trial); .01 for driftwave, .1 for released.",
    )
    kl_warmup: float = Field(
        0.2, ge=0, le=1, description="Share of all steps over which the KL weight grows from 0."
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Dropout in training, off whenever rates are predicted; .1 for driftwave, .05 "
        "for released.",
    )
    steps: int | None = Field(
        None, ge=1, description="Optimiser steps at most; 2000 for driftwave, 900 for released."
    )
    batch: int = Field(32, ge=1, description="Trials per step (paper 32 to 256).")
    learning_rate: float | None = Field(
        None, gt=0, description="Highest learning rate; .01 for driftwave, .003 for released."
    )
    weight_decay: float | None = Field(
        None, ge=0, description="Weight decay; .1 for driftwave, 2e-5 for released."
    )
    patience: int = Field(
        30, ge=1, description="Epochs without a better validation loss before training stops."
    )
    samples: int = Field(
        32, ge=1, description="Posterior samples averaged when rates are predicted (paper 50)."
    )

    @model_validator(mode="after")
    def _one_force(self) -> Params:
        if self.nonconservative and self.potential != "learned":
            raise ValueError("nonconservative replaces the potential; leave potential at learned")
        if not self.langevin and not self.encoder_in_decoder:
            raise ValueError("langevin: false needs encoder_in_decoder: true, or nothing is left")
        return self

    def resolved(self) -> Resolved:
        """These parameters with every empty one filled from the variant's defaults."""
        given = {k: v for k, v in self.model_dump().items() if v is not None}
        return Resolved(**(VARIANT_DEFAULTS[self.variant] | given))


class Resolved(Params):
    """Parameters of which none is empty."""

    latents: int = Field(description="Number of latent positions.")
    feedforward: int = Field(description="Feed-forward width.")
    hiding: HidingKind = Field(description="How spikes are hidden.")
    hidden_share: float = Field(description="Share hidden.")
    kl_weight: float = Field(description="Weight of the KL.")
    dropout: float = Field(description="Dropout in training.")
    steps: int = Field(description="Optimiser steps at most.")
    learning_rate: float = Field(description="Learning rate.")
    weight_decay: float = Field(description="Weight decay.")


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    device: str,
    progress: str | None,
    checkpoint: Path | None,
) -> Fit:
    """Fit LangevinFlow to the training trials, stopping early on the validation trials.

    The encoder sees held-in units in seen bins, with a share of the spikes hidden; the likelihood
    is asked for the hidden spikes, the held-out units and the forward bins. The loss is
    ``NLL + weight * KL`` in nats per trial, divided by bins x units. The weights kept are those
    with the lowest validation NLL of spikes that the encoder has not seen.
    """
    return Fit.train(
        recording,
        params.resolved(),
        seed=seed,
        device=device,
        progress=progress,
        checkpoint=checkpoint,
    )


def build(params: Resolved, sizes: Sizes, mean: Tensor, law: Tensor) -> Driftwave | Released:
    """The network of these parameters, with weights from torch's default generator.

    ``mean`` (unit,) is the log mean count of each unit, ``law`` (2, held-in unit) mean and sd of
    the counts that the encoder sees.
    """
    if params.variant == "released":
        return Released(
            sizes,
            mean,
            latents=params.latents,
            friction=params.friction,
            lag=params.lag,
            feedforward=params.feedforward,
            dropout=params.dropout,
        )
    return Driftwave(
        sizes,
        mean,
        law,
        latents=params.latents,
        encoder=params.encoder,
        hidden=params.hidden,
        encoder_layers=params.encoder_layers,
        encoder_kernel=params.encoder_kernel,
        langevin=params.langevin,
        potential=params.potential,
        nonconservative=params.nonconservative,
        terms=params.potential_terms,
        innovations=params.innovations,
        latent_noise=params.latent_noise,
        transformer=params.transformer,
        feedforward=params.feedforward,
        encoder_in_decoder=params.encoder_in_decoder,
        dropout=params.dropout,
    )


def objective(params: Resolved) -> Objective:
    """What is minimised. The released mask scores a shown entry too, with the share hidden."""
    return Objective(
        hiding=params.hiding,
        hidden_share=params.hidden_share,
        kl_weight=params.kl_weight,
        kl_warmup=params.kl_warmup * params.steps,
        also_shown=params.hidden_share if params.variant == "released" else 0.0,
    )


def _schedule(params: Resolved) -> Schedule:
    released = params.variant == "released"
    return Schedule(
        steps=params.steps,
        batch=params.batch,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        betas=(0.9, 0.999) if released else (0.9, 0.99),
        optimiser="adam" if released else "adamw",
        rate="plateau" if released else "cosine",
        warmup=0 if released else min(100, params.steps // 8),
        decay_warmup=500 if released else 0,
        patience=params.patience,
        save_every=SAVE_EVERY,
    )


class Fit(NetworkFit):
    """A fitted LangevinFlow."""

    NAME = "langevinflow"
    PARAMS = Resolved
    params: Resolved
    network: Driftwave | Released

    build = staticmethod(build)
    schedule = staticmethod(_schedule)

    @staticmethod
    def task(
        params: Resolved, network: SpikeNetwork, arrays: SpikeArrays, seed: int, device: str
    ) -> SpikeTask:
        """Loss and validation."""
        return SpikeTask(network, arrays, objective(params), seed, device)

    @property
    def samples(self) -> int:
        """Posterior samples averaged when rates are predicted."""
        return self.params.samples

    @property
    def of_log_rates(self) -> bool:
        """The released variant averages log rates, as its reference does."""
        return self.params.variant == "released"

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Rates (Hz) and latents of every trial from held-in units and seen bins alone.

        ``latent`` (trial, time, latent) holds positions, then velocities (coordinate ``part``), on
        a lattice of ``channel`` x ``site``; ``rate_sd`` and ``latent_sd`` are the spread over
        posterior samples. Couplings and modes are those of
        :func:`driftwave.inference.langevin_modes.describe`.
        """
        dataset = self.label(recording, self.posterior(recording))
        latents = self.network.latents
        index = np.arange(2 * latents)
        sites = latents // CHANNELS
        dataset = dataset.assign_coords(
            part=("latent", np.where(index < latents, "position", "velocity")),
            channel=("latent", index % latents // sites),
            site=("latent", index % sites),
        )
        # The potential's couplings and modes, about the states inferred.
        modes = describe(self.network, dataset["latent"].values, dataset.attrs["bin_width"])
        return dataset.merge(modes, combine_attrs="no_conflicts")

    def activations(self, recording: xr.DataTree) -> xr.Dataset:
        """``h``, the encoder's states, and ``z`` and ``v``, posterior mean position and velocity.

        In every trial, in seen bins if the encoder has no more. Without Langevin latents there
        is h alone.
        """
        modules = encoded_states(
            self, recording, lambda visible: {"h": self.network.encode(visible)[0]}
        )
        if self.params.langevin or self.params.variant == "released":
            latent = self.posterior(recording).latent
            modules["z"], modules["v"] = np.split(latent, 2, axis=-1)
        return activations_dataset(recording, modules, source=self.NAME)
