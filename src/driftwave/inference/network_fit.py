"""Fitting, labelling, saving and loading one network of spike counts, for any plug-in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from pydantic import BaseModel
from torch import Tensor

from driftwave.inference.data import SpikeArrays, rates_dataset, spike_arrays
from driftwave.inference.hidden import check_same_view
from driftwave.inference.spike_network import (
    Posterior,
    Sizes,
    SpikeNetwork,
    SpikeTask,
    input_law,
    log_mean_count,
    posterior_average,
    sizes_of,
)
from driftwave.inference.training import History, Schedule, seeded, train

CURVES = ("train_loss", "valid_loss")


@dataclass
class NetworkFit:
    """A fitted network; a plug-in's ``Fit`` says how it is built, trained and sampled."""

    NAME: ClassVar[str]
    PARAMS: ClassVar[type[BaseModel]]

    params: Any
    sizes: Sizes
    held_in: np.ndarray
    seed: int
    network: SpikeNetwork
    history: History = field(default_factory=History)
    device: str = "cpu"

    @staticmethod
    def build(params: Any, sizes: Sizes, mean: Tensor, law: Tensor) -> SpikeNetwork:
        """The network, with weights from torch's default generator.

        ``mean`` (unit,) is the log mean count of each unit, ``law`` (2, held-in unit) mean and sd
        of the counts that the encoder sees.
        """
        raise NotImplementedError

    @staticmethod
    def task(params: Any, network: Any, arrays: SpikeArrays, seed: int, device: str) -> SpikeTask:
        """Loss and validation."""
        raise NotImplementedError

    @staticmethod
    def schedule(params: Any) -> Schedule:
        """How the network is trained."""
        raise NotImplementedError

    @property
    def samples(self) -> int:
        """Posterior samples averaged when rates are predicted."""
        raise NotImplementedError

    @classmethod
    def train(
        cls,
        recording: xr.DataTree,
        params: Any,
        *,
        seed: int,
        device: str,
        progress: str | None,
        checkpoint: Path | None,
    ) -> Self:
        """Fit to the training trials, stopping early on the validation trials."""
        arrays = spike_arrays(recording, cls.NAME)
        sizes = sizes_of(arrays)
        with seeded(seed, f"{cls.NAME} weights", device):
            network = cls.build(params, sizes, log_mean_count(arrays), input_law(arrays))
        network = network.to(device)
        task = cls.task(params, network, arrays, seed, device)
        history = train(
            network,
            loss=task.loss,
            validate=task.validate,
            trials=int(arrays.train.sum()),
            schedule=cls.schedule(params),
            seed=seed,
            label=progress,
            checkpoint=checkpoint,
            key=_key(cls.NAME, params, arrays, seed),
        )
        return cls(params, sizes, arrays.held_in, seed, network, history, device)

    @property
    def of_log_rates(self) -> bool:
        """Whether samples of the log rates are averaged, not samples of the rates."""
        return False

    def posterior(self, recording: xr.DataTree) -> Posterior:
        """Mean and spread of rates (in Hz) and latents, from the visible counts alone."""
        arrays = spike_arrays(recording, self.NAME)
        check_same_view(recording, arrays, self.held_in, self.sizes.seen_bins, self.sizes.bins)
        found = posterior_average(
            self.network,
            arrays.visible,
            samples=self.samples,
            seed=self.seed,
            device=self.device,
            of_log_rates=self.of_log_rates,
        )
        width = arrays.bin_width
        return found._replace(rate=found.rate / width, rate_sd=found.rate_sd / width)

    def label(self, recording: xr.DataTree, found: Posterior) -> xr.Dataset:
        """What was inferred as a Dataset, with the training curves and how training ended.

        Spreads are left out where one sample was all there was.
        """
        history = self.history
        curves = {name: np.array(getattr(history, name)) for name in CURVES}
        spread = self.samples > 1
        dataset = rates_dataset(
            recording,
            found.rate,
            found.latent,
            rate_sd=found.rate_sd if spread else None,
            latent_sd=found.latent_sd if spread else None,
            curves=curves,
        )
        dataset = dataset.assign_coords(epoch=np.arange(1, len(history.train_loss) + 1))
        for name in CURVES:
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
        torch.save(self.network.state_dict(), folder / "weights.pt")
        content = {
            "params": self.params.model_dump(),
            "sizes": self.sizes._asdict(),
            "held_in": self.held_in.tolist(),
            "seed": self.seed,
            "history": asdict(self.history),
        }
        (folder / "params.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote, onto the CPU."""
        content = json.loads((folder / "params.json").read_text(encoding="utf-8"))
        params, sizes = cls.PARAMS(**content["params"]), Sizes(**content["sizes"])
        network = cls.build(
            params, sizes, torch.zeros(sizes.units_out), torch.ones(2, sizes.units_in)
        )
        weights = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
        held_in = np.array(content["held_in"], dtype=bool)
        history = History(**content["history"])
        return cls(params, sizes, held_in, content["seed"], network, history)


def _key(name: str, params: BaseModel, arrays: SpikeArrays, seed: int) -> str:
    """Digest of all that decides a fit: parameters, seed and the trials it may use."""
    facts = f"{name} {params.model_dump_json()} {seed} {arrays.seen_bins}"
    digest = hashlib.sha256(facts.encode())
    for part in (arrays.held_in, arrays.counts[arrays.train], arrays.counts[arrays.valid]):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
