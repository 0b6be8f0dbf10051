"""Mean course of training trials, scaled by each trial's own level of activity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.inference.data import rates_dataset, spike_arrays

from .rates import mean_course

OBSERVES = "spikes"
PAPER = "Goris et al. 2014, 10.1038/nn.3711 (one gain per trial)"


class Params(BaseModel):
    """Parameters of the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lowest: float = Field(0.1, gt=0, description="Lowest rate, Hz.")
    prior: float = Field(20.0, gt=0, description="Spikes that a trial's gain is drawn to 1 by.")


@dataclass(frozen=True)
class Fit:
    """The mean course.

    Attributes
    ----------
    rate : ndarray (time, unit)
        Hz.
    prior : float
        Spikes.
    """

    rate: np.ndarray
    prior: float

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Mean course times the trial's gain.

        With a gamma prior of mean 1 the gain is (prior + spikes) / (prior + expected spikes), of
        what is visible.
        """
        arrays = spike_arrays(recording, "mylab_mean")
        expected = self.rate[: arrays.seen_bins, arrays.held_in].sum() * arrays.bin_width
        gain = (self.prior + arrays.visible.sum(axis=(1, 2))) / (self.prior + expected)
        rate = gain[:, None, None] * self.rate
        latent = np.broadcast_to(gain[:, None, None], (*rate.shape[:2], 1))
        return rates_dataset(recording, rate, latent)

    def save(self, folder: Path) -> None:
        """Write ``fit.npz``."""
        np.savez(Path(folder) / "fit.npz", rate=self.rate, prior=self.prior)

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote."""
        with np.load(Path(folder) / "fit.npz", allow_pickle=False) as file:
            return cls(file["rate"], float(file["prior"]))


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    device: str,
    progress: str | None,
    checkpoint: Path | None,
) -> Fit:
    """Average the training trials."""
    del seed, device, progress, checkpoint
    arrays = spike_arrays(recording, "mylab_mean")
    rate = mean_course(arrays.counts[arrays.train], arrays.bin_width, params.lowest)
    return Fit(rate.astype(float), params.prior)
