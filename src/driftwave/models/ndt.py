"""Neural Data Transformer: attention over bins, trained to predict masked counts."""

from __future__ import annotations

from pathlib import Path

import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from driftwave.activations.dataset import activations_dataset
from driftwave.activations.hooks import record_modules
from driftwave.activations.networks import visible_chunks
from driftwave.inference.data import SpikeArrays
from driftwave.inference.ndt_network import NDT, Masking, MaskKind, NDTTask
from driftwave.inference.network_fit import NetworkFit
from driftwave.inference.spike_network import Sizes
from driftwave.inference.training import Schedule

PAPER = "Ye and Pandarinath 2021, arXiv 2108.01210"
OBSERVES = "spikes"
GIVES_CURVES = True
GIVES_ACTIVATIONS = True
USES_DEVICE = True

QUICK = {"width": 16, "feedforward": 32, "layers": 2, "steps": 12, "warmup": 2}

SAVE_EVERY = 10


class Params(BaseModel):
    """Parameters of the Neural Data Transformer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(64, ge=1, description="Size of a token (paper: number of units, or twice).")
    feedforward: int = Field(128, ge=1, description="Width inside a layer (paper 128).")
    layers: int = Field(4, ge=1, description="Transformer layers (paper 6, MC_Maze 4).")
    heads: int = Field(2, ge=1, description="Attention heads (paper 2).")
    context: int | None = Field(
        8,
        ge=0,
        description="Bins on either side that one layer attends to; empty for all (paper 4 to 32, "
        "searched).",
    )
    masking: MaskKind = Field(
        "entries",
        description="What is masked in training: whole bins (paper), single entries (bin and "
        "unit), or single spikes by thinning.",
    )
    mask_share: float = Field(0.25, gt=0, lt=1, description="Share masked (paper 0.25).")
    mask_span: int = Field(
        1, ge=1, description="Longest span of masked bins (paper 1 to 5, searched)."
    )
    zero_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of masked entries set to zero, the others to a random entry's count "
        "(paper 0.5 to 1, searched).",
    )
    dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Dropout inside the layers (paper 0 to 0.3, searched); off whenever rates are "
        "predicted.",
    )
    input_dropout: float = Field(
        0.1, ge=0, lt=1, description="Dropout on the tokens and before the readout (paper 0.2)."
    )
    steps: int = Field(1500, ge=1, description="Optimiser steps at most (paper 20,000 to 50,000).")
    batch: int = Field(64, ge=1, description="Trials per step (paper 64).")
    learning_rate: float = Field(
        3e-3, gt=0, description="Highest learning rate, cosine decay (paper 0.001)."
    )
    warmup: int = Field(
        200, ge=0, description="Steps over which the learning rate grows from 0 (paper 1,000)."
    )
    weight_decay: float = Field(1e-4, ge=0, description="Weight decay (paper 0 to 5e-5).")
    patience: int = Field(
        40, ge=1, description="Epochs without a better validation loss before training stops."
    )

    @model_validator(mode="after")
    def _whole_heads(self) -> Params:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        return self


class Fit(NetworkFit):
    """A fitted Neural Data Transformer."""

    NAME = "ndt"
    PARAMS = Params
    params: Params
    network: NDT

    @staticmethod
    def build(params: Params, sizes: Sizes, mean: Tensor, law: Tensor) -> NDT:
        """The network of these parameters, with weights from torch's default generator."""
        shared = (
            "width",
            "feedforward",
            "layers",
            "heads",
            "context",
            "dropout",
            "input_dropout",
        )
        return NDT(sizes, mean, law, **{name: getattr(params, name) for name in shared})

    @staticmethod
    def task(params: Params, network: NDT, arrays: SpikeArrays, seed: int, device: str) -> NDTTask:
        """NLL of masked entries, held-out units and forward bins."""
        masking = Masking(params.masking, params.mask_share, params.mask_span, params.zero_share)
        return NDTTask(network, arrays, masking, seed, device)

    @staticmethod
    def schedule(params: Params) -> Schedule:
        """How the network is trained."""
        return Schedule(
            steps=params.steps,
            batch=params.batch,
            learning_rate=params.learning_rate,
            weight_decay=params.weight_decay,
            warmup=params.warmup,
            patience=params.patience,
            save_every=SAVE_EVERY,
        )

    @property
    def samples(self) -> int:
        """One: inference is deterministic."""
        return 1

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Rates (Hz) and the last layer's output of every trial from visible counts alone."""
        return self.label(recording, self.posterior(recording))

    def activations(self, recording: xr.DataTree) -> xr.Dataset:
        """Tokens after each layer, ``layers_0`` first, in every trial."""

        def run() -> None:
            for chunk in visible_chunks(self, recording):
                self.network.encode(chunk)

        names = [f"layers.{i}" for i in range(self.params.layers)]
        modules = record_modules(self.network, names, run)
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
    """Fit a Neural Data Transformer to the training trials, stopping early on the validation ones.

    The network sees held-in units in seen bins, with a share masked; the loss is the Poisson NLL of
    masked entries, held-out units and forward bins, in nats per bin and unit. The weights kept are
    those with the lowest validation NLL under masks drawn once.
    """
    return Fit.train(
        recording,
        params,
        seed=seed,
        device=device,
        progress=progress,
        checkpoint=checkpoint,
    )
