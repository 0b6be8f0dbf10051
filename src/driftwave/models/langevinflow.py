"""LangevinFlow: latents that follow underdamped Langevin dynamics on a lattice of oscillators."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.inference.data import SpikeArrays, rates_dataset, spike_arrays
from driftwave.inference.dropout import Hidden, HidingKind, hide
from driftwave.inference.elbo import poisson_nll
from driftwave.inference.langevin import CHANNELS, PotentialKind
from driftwave.inference.langevin_networks import Corrected, Released, Sizes
from driftwave.inference.training import History, Schedule, seeded, train

PAPER = "Song, Keller, Yue, Perona and Welling 2025, arXiv 2507.11531"
OBSERVES = "spikes"
USES_DEVICE = True

# Where the variants differ, a parameter left empty takes its value from here. Those of `released`
# are the reference's for MC_Maze, save the number of latents (280) and of steps.
VARIANT_DEFAULTS: dict[str, dict[str, Any]] = {
    "corrected": {
        "latents": 16,
        "feedforward": 128,
        "learning_rate": 4e-3,
        "weight_decay": 1e-4,
        "hiding": "thinning",
        "hidden_share": 0.3,
        "kl_weight": 0.05,
        "steps": 1600,
    },
    "released": {
        "latents": 32,
        "feedforward": 512,
        "learning_rate": 3e-3,
        "weight_decay": 2e-5,
        "hiding": "coordinated",
        "hidden_share": 0.5,
        "kl_weight": 0.1,
        "steps": 1000,
    },
}
VALIDATION_SAMPLES = 2
SAVE_EVERY = 10
CHUNK = 512


class Params(BaseModel):
    """Parameters; those left empty take the variant's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: Literal["corrected", "released"] = Field(
        "corrected",
        description="`corrected`: innovations of every bin inferred from the data, exact "
        "Ornstein-Uhlenbeck step; `released`: recursion and decoder of the reference code.",
    )
    latents: int | None = Field(
        None,
        ge=8,
        multiple_of=CHANNELS,
        description="Number H of latent positions (and of velocities): 4 channels x H/4 sites; "
        "16 for corrected, 32 for released (paper 280).",
    )
    hidden: int = Field(64, ge=1, description="GRU units per direction (corrected).")
    potential: PotentialKind = Field(
        "learned",
        description="Potential of corrected: learned (stiffness and local log-cosh couplings), "
        "quadratic (normal modes), or none.",
    )
    nonconservative: bool = Field(
        False, description="Learn a force F(z, v) in place of the potential's gradient (corrected)."
    )
    potential_terms: int = Field(64, ge=1, description="Terms of the learned potential or force.")
    innovations: bool = Field(
        True, description="Per-bin noise, inferred in seen bins (corrected); false: z0, v0 only."
    )
    transformer: bool = Field(
        True, description="Transformer layer between latents and rates (corrected)."
    )
    encoder_in_decoder: bool = Field(
        False,
        description="Give the decoder the encoder's states too (corrected); the latents then "
        "explain little of the rates.",
    )
    feedforward: int | None = Field(
        None, ge=1, description="Feed-forward width of the Transformer layer; 128 or 512."
    )
    friction: float = Field(
        0.55, gt=0, lt=1, description="gamma of the released step; corrected learns its own."
    )
    lag: Literal[0, 1] = Field(
        1, description="Bins the released encoder lags the data; 0 is the paper's Algorithm 1."
    )
    hiding: HidingKind | None = Field(
        None,
        description="How spikes are hidden from the encoder in training: thinning (corrected) or "
        "coordinated dropout (released).",
    )
    hidden_share: float | None = Field(
        None, gt=0, lt=1, description="Share hidden; .3 for corrected, .5 for released."
    )
    kl_weight: float | None = Field(
        None, ge=0, description="Weight of the KL (nats per trial); .05 or .1."
    )
    kl_warmup: float = Field(
        0.2, ge=0, le=1, description="Share of all steps over which the KL weight grows from 0."
    )
    dropout: float = Field(
        0.05, ge=0, lt=1, description="Dropout in training; off whenever rates are predicted."
    )
    steps: int | None = Field(
        None, ge=1, description="Optimiser steps at most; 1600 for corrected, 1000 for released."
    )
    batch: int = Field(64, ge=1, description="Trials per step.")
    learning_rate: float | None = Field(None, gt=0, description="4e-3 or 3e-3.")
    weight_decay: float | None = Field(None, ge=0, description="1e-4 or 2e-5.")
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
        return self

    def resolved(self) -> Params:
        """These parameters with every empty one filled from the variant's defaults."""
        given = {k: v for k, v in self.model_dump().items() if v is not None}
        return Params(**(VARIANT_DEFAULTS[self.variant] | given))


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
    chosen = params.resolved()
    arrays = spike_arrays(recording, "langevinflow")
    sizes = _sizes(arrays)
    with seeded(seed, "langevinflow weights", device):
        module = build(chosen, sizes, _log_mean_count(arrays)).to(device)
    task = _Task(module, arrays, chosen, seed, device)
    history = train(
        module,
        loss=task.loss,
        validate=task.validate,
        trials=int(arrays.train.sum()),
        schedule=_schedule(chosen),
        seed=seed,
        label=progress,
        checkpoint=checkpoint,
        key=_key(chosen, arrays, seed),
    )
    return Fit(chosen, sizes, seed, module, history, device)


def build(params: Params, sizes: Sizes, log_mean_count: Tensor) -> Corrected | Released:
    """The network of (resolved) parameters, with weights from torch's default generator."""
    if params.variant == "released":
        return Released(
            sizes,
            log_mean_count,
            latents=params.latents,
            friction=params.friction,
            lag=params.lag,
            feedforward=params.feedforward,
            dropout=params.dropout,
        )
    return Corrected(
        sizes,
        log_mean_count,
        latents=params.latents,
        hidden=params.hidden,
        potential=params.potential,
        nonconservative=params.nonconservative,
        terms=params.potential_terms,
        innovations=params.innovations,
        transformer=params.transformer,
        feedforward=params.feedforward,
        encoder_in_decoder=params.encoder_in_decoder,
        dropout=params.dropout,
    )


def _schedule(params: Params) -> Schedule:
    released = params.variant == "released"
    return Schedule(
        steps=params.steps,
        batch=params.batch,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        betas=(0.9, 0.999) if released else (0.9, 0.99),
        optimiser="adam" if released else "adamw",
        rate="plateau" if released else "cosine",
        decay_warmup=500 if released else 0,
        patience=params.patience,
        save_every=SAVE_EVERY,
    )


def _sizes(arrays: SpikeArrays) -> Sizes:
    _, bins, units = arrays.counts.shape
    return Sizes(int(arrays.held_in.sum()), units, arrays.seen_bins, bins)


def _log_mean_count(arrays: SpikeArrays) -> Tensor:
    """Log mean count of each unit in the training trials; half a spike for silent ones."""
    train = arrays.counts[arrays.train]
    total = np.maximum(train.sum((0, 1)), 0.5)
    return torch.from_numpy(np.log(total / (train.shape[0] * train.shape[1]))).float()


def _key(params: Params, arrays: SpikeArrays, seed: int) -> str:
    """Digest of all that decides the fit: parameters, seed and the trials it may use."""
    digest = hashlib.sha256(f"{params.model_dump_json()} {seed} {arrays.seen_bins}".encode())
    for part in (arrays.held_in, arrays.counts[arrays.train], arrays.counts[arrays.valid]):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


class _Task:
    """Loss and validation of one fit."""

    def __init__(
        self,
        module: Corrected | Released,
        arrays: SpikeArrays,
        params: Params,
        seed: int,
        device: str,
    ) -> None:
        self.module = module
        self.params = params
        self.held_in = torch.from_numpy(np.flatnonzero(arrays.held_in)).to(device)
        self.seen_bins = arrays.seen_bins
        self.train = torch.from_numpy(arrays.counts[arrays.train]).to(device)
        valid = torch.from_numpy(arrays.counts[arrays.valid])
        # Hidden spikes and noise of the validation are drawn once and on the CPU: every epoch and
        # every device is judged on the same ones.
        drawn = torch.Generator().manual_seed(int(generator(seed, "validation").integers(2**62)))
        hidden = hide(self._visible(valid, "cpu"), params.hiding, params.hidden_share, drawn)
        self.validation = [part.to(device) for part in self._targets(valid, hidden)]
        shape = (VALIDATION_SAMPLES, module.sizes.bins + 1, len(valid), module.latents)
        self.validation_noise = torch.randn(shape, generator=drawn).to(device)
        self.warmup = max(1.0, params.kl_warmup * params.steps)

    def _visible(self, counts: Tensor, device: str) -> Tensor:
        return counts[:, : self.seen_bins, self.held_in.to(device)]

    def _targets(self, counts: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Tensor]:
        """What the encoder sees, and counts and exposure (trial, bin, unit) to be explained."""
        exposure = torch.ones_like(counts)
        held_in = self.held_in.to(counts.device)
        target = counts.clone()
        target[:, : self.seen_bins, held_in] = hidden.counts
        exposure[:, : self.seen_bins, held_in] = hidden.exposure
        return hidden.shown, target, exposure

    def loss(self, index: Tensor, step: int) -> Tensor:
        """(NLL + weight KL) per bin and unit of a batch of training trials."""
        params = self.params
        counts = self.train[index.to(self.train.device)]
        visible = counts[:, : self.seen_bins].index_select(2, self.held_in)
        # The released mask lets a gradient through where an entry is hidden or, with the
        # probability of hiding, although it is shown.
        also_shown = params.hidden_share if params.variant == "released" else 0.0
        hidden = hide(visible, params.hiding, params.hidden_share, also_shown=also_shown)
        shown, target, exposure = self._targets(counts, hidden)
        out = self.module(shown, self.module.noise(len(counts)))
        nll = poisson_nll(out.log_rate, target, exposure).sum((1, 2))
        weight = params.kl_weight * min(1.0, step / self.warmup)
        return (nll + weight * out.kl).mean() / (counts.shape[1] * counts.shape[2])

    def validate(self) -> Tensor:
        """NLL per bin and unit of validation spikes that the encoder does not see."""
        shown, target, exposure = self.validation
        total = torch.zeros((), device=shown.device)
        for part in torch.arange(len(shown), device=shown.device).split(CHUNK):
            encoded = self.module.encode(shown[part])
            rate = sum(
                self.module.decode(encoded, noise[:, part]).log_rate.exp()
                for noise in self.validation_noise
            )
            log_rate = torch.log(rate / VALIDATION_SAMPLES)
            total += poisson_nll(log_rate, target[part], exposure[part]).sum()
        return total / target.numel()


@dataclass
class Fit:
    """A fitted LangevinFlow."""

    params: Params
    sizes: Sizes
    seed: int
    module: Corrected | Released
    history: History = field(default_factory=History)
    device: str = "cpu"

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Rates (Hz) and latents of every trial from held-in units and seen bins alone.

        ``latent`` (trial, time, latent) holds positions, then velocities (coordinate ``part``), on
        a lattice of ``channel`` x ``site``; ``latent_sd`` is the spread over posterior samples.
        Corrected averages the rates of the samples, released their log rates, as its reference.
        """
        arrays = spike_arrays(recording, "langevinflow")
        self._check(arrays, recording.attrs["session"])
        visible = torch.from_numpy(np.ascontiguousarray(arrays.visible)).to(self.device)
        drawn = torch.Generator(device=self.device).manual_seed(
            int(generator(self.seed, "posterior samples").integers(2**62))
        )
        self.module.eval()
        with torch.no_grad():
            parts = [self._infer(chunk, drawn) for chunk in visible.split(CHUNK)]
        rate, mean, sd = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
        curves = {"train_loss": self.history.train_loss, "valid_loss": self.history.valid_loss}
        dataset = rates_dataset(
            recording, rate / arrays.bin_width, mean, latent_sd=sd, curves=curves
        )
        return self._label(dataset)

    def _infer(self, visible: Tensor, drawn: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        encoded = self.module.encode(visible)
        averages_logs = self.params.variant == "released"
        rate, first, second = 0.0, 0.0, 0.0
        for _ in range(self.params.samples):
            out = self.module.decode(encoded, self.module.noise(len(visible), drawn))
            rate = rate + (out.log_rate if averages_logs else out.log_rate.exp())
            first = first + out.latent
            second = second + out.latent**2
        rate, mean = rate / self.params.samples, first / self.params.samples
        variance = (second / self.params.samples - mean**2).clamp_min(0.0)
        return rate.exp() if averages_logs else rate, mean, variance.sqrt()

    def _check(self, arrays: SpikeArrays, session: str) -> None:
        found = _sizes(arrays)
        if found != self.sizes:
            raise InputError(
                file=session,
                field="spikes/counts",
                found=found,
                expected=self.sizes,
                fix="Give the recording that the model was fitted to, or fit it again",
            )

    def _label(self, dataset: xr.Dataset) -> xr.Dataset:
        latents = self.module.latents
        index = np.arange(2 * latents)
        sites = latents // CHANNELS
        history = self.history
        dataset = dataset.assign_coords(
            part=("latent", np.where(index < latents, "position", "velocity")),
            channel=("latent", index % latents // sites),
            site=("latent", index % sites),
            epoch=np.arange(1, len(history.train_loss) + 1),
        )
        for name in ("train_loss", "valid_loss"):
            dataset[name].attrs["units"] = "nats per bin and unit"
        dataset.attrs.update(
            best_epoch=history.best_epoch + 1,
            training_ended=history.ended,
            step_backs=history.step_backs,
            training_notes="; ".join(history.notes),
        )
        return dataset

    def save(self, folder: Path) -> None:
        """Write ``weights.pt`` and ``params.json`` into an existing folder."""
        torch.save(self.module.state_dict(), folder / "weights.pt")
        content = {
            "params": self.params.model_dump(),
            "sizes": self.sizes._asdict(),
            "seed": self.seed,
            "history": asdict(self.history),
        }
        (folder / "params.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote, onto the CPU."""
        content = json.loads((folder / "params.json").read_text(encoding="utf-8"))
        params, sizes = Params(**content["params"]), Sizes(**content["sizes"])
        module = build(params, sizes, torch.zeros(sizes.units_out))
        weights = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
        module.load_state_dict(weights)
        return cls(params, sizes, content["seed"], module, History(**content["history"]))
