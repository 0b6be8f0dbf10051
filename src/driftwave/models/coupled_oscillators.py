"""Coupled oscillators: a complex field on a ring, lattice or graph, as a sequential VAE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from driftwave.compute import generator
from driftwave.inference.coupled_evidence import validation_evidence
from driftwave.inference.coupled_field import FieldPredictions, field_results, observe_field
from driftwave.inference.coupled_network import CoupledNetwork
from driftwave.inference.coupled_results import describe_couplings, field_dataset
from driftwave.inference.coupled_setup import (
    NAME,
    build_network,
    check_electrodes,
    fit_key,
    frequencies_of,
    good_electrodes,
    places_of,
    topology_of,
)
from driftwave.inference.data import spike_arrays
from driftwave.inference.dropout import HidingKind
from driftwave.inference.hidden import check_same_view
from driftwave.inference.lattice_dynamics import Coupling, Variant
from driftwave.inference.lattice_geometry import Topology
from driftwave.inference.network_fit import NetworkFit
from driftwave.inference.sequential_data import ObservationKind, Observed, observe
from driftwave.inference.sequential_task import FieldHiding, SequentialTask
from driftwave.inference.spike_network import Objective, Posterior, Sizes, posterior_average
from driftwave.inference.training import Schedule, seeded, train

PAPER = "Keller and Welling 2023 (Neural Wave Machines); Budzinski et al. 2022, Chaos"
OBSERVES = "spikes"
GIVES_CURVES = True
GIVES_WAVES = "decoded"
USES_DEVICE = True

QUICK = {"readout": "dense", "sites": 6, "hidden": 8, "steps": 32, "samples": 2}

SAVE_EVERY = 10


class Params(BaseModel):
    """Parameters of coupled oscillators."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    observations: ObservationKind = Field(
        "spikes", description="What is observed: spikes, a field, or both on one state."
    )
    topology: Literal["ring", "lattice", "graph", "auto"] = Field(
        "auto",
        description="Where the sites lie: on a circle, in rows and columns, or at the units and "
        "electrodes themselves; auto takes a ring where the positions lie on one, else a lattice.",
    )
    sites: int = Field(25, ge=3, description="Sites of a ring; at most so many of a lattice.")
    pitch: float | None = Field(
        None, gt=0, description="Distance of a lattice's sites, mm; empty: as `sites` allows."
    )
    bands: int = Field(1, ge=1, description="Fields of different frequencies.")
    variant: Variant = Field(
        "stuart_landau",
        description="Oscillators: stuart_landau, kuramoto (unit modulus) or second_order (coRNN).",
    )
    coupling: Coupling = Field(
        "complex", description="Couplings per direction: complex (with lags), real, or none."
    )
    adjacency: Literal["local", "shuffled"] = Field(
        "local", description="shuffled, for comparison: the same graph between sites at random."
    )
    readout: Literal["spatial", "dense"] = Field(
        "spatial",
        description="Units read the field around their position, or (the baseline, which needs no "
        "positions) all sites with complex weights of their own.",
    )
    preferred_phase: Literal["shared", "free"] = Field(
        "shared",
        description="free learns a phase per unit, which makes winding and lag undetermined.",
    )
    inputs: int = Field(0, ge=0, description="Number of inferred inputs shared by the sites.")
    innovations: bool = Field(
        True, description="Noise at every site, inferred, of one learned strength per band."
    )
    noise: float = Field(
        1.0, gt=0, description="Strength of innovations and inputs at the start, 1/s**0.5."
    )
    frequency: tuple[float, ...] = Field(
        (), description="Frequency of each band at the start, Hz; empty: at spectral peaks."
    )
    hidden: int = Field(
        24, ge=1, description="Channels of the convolutions that read the shared inputs."
    )
    hiding: HidingKind = Field(
        "thinning", description="How spikes are hidden from the encoder in training."
    )
    hidden_share: float = Field(0.3, gt=0, lt=1, description="Share of the spikes hidden.")
    kl_weight: float = Field(0.1, ge=0, description="Weight of the KL, nats per trial.")
    kl_warmup: float = Field(
        0.3, ge=0, le=1, description="Share of all steps over which the KL weight grows from 0."
    )
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout of the convolutions in training.")
    steps: int = Field(600, ge=1, description="Optimiser steps at most.")
    batch: int = Field(32, ge=1, description="Trials per step.")
    learning_rate: float = Field(1e-2, gt=0, description="Highest learning rate, cosine decay.")
    weight_decay: float = Field(
        1e-3, ge=0, description="Weight decay of the convolutions and of what a dense fit reads."
    )
    patience: int = Field(
        10, ge=1, description="Epochs without a better validation loss before training stops."
    )
    samples: int = Field(16, ge=1, description="Posterior samples averaged at inference.")
    window: float = Field(1.0, gt=0, description="Of a field alone: length of its windows, s.")
    rate: float = Field(100.0, gt=0, description="Of a field alone: rate it is read at, Hz.")
    ahead: float = Field(
        0.2, ge=0, lt=1, description="Of a field alone: share of a window left to be forecast."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Params:
        if self.frequency and len(self.frequency) != self.bands:
            raise ValueError(f"frequency has {len(self.frequency)} values for {self.bands} bands")
        if any(not f > 0 for f in self.frequency):
            raise ValueError("frequencies must be above 0")
        return self


class Resolved(Params):
    """Parameters together with what a recording decides."""

    topology: Topology = Field(description="Topology found.")
    seed: int = Field(description="Of the shuffled adjacency.")
    bin_width: float = Field(description="s.")
    held_in: tuple[int, ...] = Field(description="Units that the encoder sees.")
    unit_position: tuple[tuple[float, float], ...] = Field(description="mm; empty without.")
    electrode_position: tuple[tuple[float, float], ...] = Field(description="mm; empty without.")
    field_mean: tuple[float, ...] = Field(description="Of each good electrode, microvolt.")
    field_sd: tuple[float, ...] = Field(description="Of each good electrode, microvolt.")


class Fit(FieldPredictions, NetworkFit):
    """Fitted coupled oscillators."""

    NAME = NAME
    PARAMS = Resolved
    params: Resolved
    network: CoupledNetwork

    @staticmethod
    def build(params: Resolved, sizes: Sizes, mean: Tensor, law: Tensor) -> CoupledNetwork:
        """The network of these parameters, with weights from torch's default generator."""
        return build_network(params, sizes, mean, law)

    @staticmethod
    def schedule(params: Resolved) -> Schedule:
        """How the network is trained."""
        return Schedule(
            steps=params.steps,
            batch=params.batch,
            learning_rate=params.learning_rate,
            weight_decay=params.weight_decay,
            warmup=20,
            patience=params.patience,
            save_every=SAVE_EVERY,
        )

    @property
    def samples(self) -> int:
        """Posterior samples averaged at inference."""
        return self.params.samples

    @classmethod
    def train_on(
        cls,
        observed: Observed,
        params: Resolved,
        *,
        seed: int,
        device: str,
        progress: str | None,
        checkpoint: Path | None,
    ) -> Fit:
        """Fit to the training trials, stopping early on the validation trials."""
        law = observed.log_mean_count(), observed.input_law()
        with seeded(seed, f"{NAME} weights", device):
            network = cls.build(params, observed.sizes, *law)
        network = network.to(device)
        task = SequentialTask(network, observed, objective(params), seed, device, FieldHiding())
        history = train(
            network,
            loss=task.loss,
            validate=task.validate,
            trials=int(observed.train.sum()),
            schedule=cls.schedule(params),
            seed=seed,
            label=progress,
            checkpoint=checkpoint,
            key=fit_key(params, observed, seed),
        )
        words = int(generator(seed, "validation evidence").integers(2**62))
        found = validation_evidence(network, observed, samples=params.samples, seed=words)
        network.evidence.copy_(found)
        return cls(params, observed.sizes, observed.held_in, seed, network, history, device)

    def posterior_of(self, visible: np.ndarray) -> Posterior:
        """Expected counts per bin and latents of visible data (trial, seen bin, channel)."""
        return posterior_average(
            self.network, visible, samples=self.samples, seed=self.seed, device=self.device
        )

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Decoded field, couplings and, of spikes, rates (Hz) from what is visible alone.

        ``latent`` holds the state (real and imaginary part of each band and site); the decoded
        field is in ``decoded_re`` and ``decoded_im`` (trial, time, band, site), 1. Couplings and
        readout are those of :func:`driftwave.inference.coupled_results.describe_couplings`. Waves
        are a claim only where ``prediction_gain`` and ``wave_gain`` are above twice their errors:
        see
        :mod:`driftwave.inference.coupled_evidence`.
        """
        if self.params.observations == "field":
            return field_results(self, recording)
        arrays = spike_arrays(recording, NAME)
        check_same_view(recording, arrays, self.held_in, self.sizes.seen_bins, self.sizes.bins)
        found = self.posterior_of(self._view(recording).visible)
        state, sd = (self.network.parts(x).state for x in (found.latent, found.latent_sd))
        width = arrays.bin_width
        found = Posterior(found.rate / width, found.rate_sd / width, state, sd)
        dataset = self.label(recording, found)
        return self.with_field(dataset, state, dataset["time"].values)

    def with_field(self, dataset: xr.Dataset, state: np.ndarray, time: np.ndarray) -> xr.Dataset:
        """The Dataset with the decoded field and the couplings beside it."""
        decoded = field_dataset(self.params, state, time, self.sizes.seen_bins)
        facts = describe_couplings(self.network, self.params)
        extra = decoded.drop_vars("time").merge(facts)
        return dataset.merge(extra).assign_attrs(decoded.attrs, variant=self.params.variant)

    def _view(self, recording: xr.DataTree) -> Observed:
        """The recording's observations, its field in the standard deviations of the fit."""
        observed = observe(recording, self.params.observations, NAME)
        if observed.field is None:
            return observed
        check_electrodes(recording, observed.electrodes, len(self.params.field_sd))
        mean, sd = (np.array(x) for x in (self.params.field_mean, self.params.field_sd))
        field = (observed.in_microvolt(observed.field) - mean) / sd
        return replace(observed, field=field.astype(np.float32), field_mean=mean, field_sd=sd)


def objective(params: Params) -> Objective:
    """What is minimised."""
    return Objective(
        hiding=params.hiding,
        hidden_share=params.hidden_share,
        kl_weight=params.kl_weight,
        kl_warmup=params.kl_warmup * params.steps,
    )


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    device: str,
    progress: str | None,
    checkpoint: Path | None,
) -> Fit:
    """Fit coupled oscillators to the training trials, stopping early on the validation trials.

    Spikes: the encoder sees held-in units in seen bins, with a share of the spikes hidden; the
    likelihood is asked for the hidden spikes, the held-out units and the forward bins. A field:
    hidden entries and electrodes, and the forward bins. The loss is ``NLL + weight * KL`` in nats
    per trial, divided by bins x channels.
    """
    session = str(recording.attrs["session"])
    alone = params.observations == "field"
    observed = (
        observe_field(recording, params) if alone else observe(recording, params.observations, NAME)
    )
    units, electrodes = places_of(recording, params, observed, good_electrodes(recording))
    resolved = Resolved(
        **params.model_dump(exclude={"topology", "frequency"}),
        topology=topology_of(params, units + electrodes, session),
        frequency=frequencies_of(params, observed, session),
        seed=seed,
        bin_width=observed.bin_width,
        held_in=tuple(np.flatnonzero(observed.held_in).tolist()),
        unit_position=units,
        electrode_position=electrodes,
        field_mean=tuple(observed.field_mean.tolist()),
        field_sd=tuple(observed.field_sd.tolist()),
    )
    return Fit.train_on(
        observed, resolved, seed=seed, device=device, progress=progress, checkpoint=checkpoint
    )
