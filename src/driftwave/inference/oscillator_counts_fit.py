"""A fitted model of oscillators seen through spike counts: inference, description, storage."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.inference.data import rates_dataset, spike_arrays
from driftwave.inference.field_bins import field_in_bins
from driftwave.inference.hidden import check_same_view
from driftwave.inference.oscillator_counts_model import CountsModel

NAME = "oscillators"


@dataclass(frozen=True)
class CountsFit:
    """Oscillators fitted to spike counts, or to counts and field.

    Attributes
    ----------
    model : CountsModel
    held_in : ndarray of bool (unit,)
    seen_bins, bins : int
    bin_width : float
        s.
    lowest, highest : ndarray (unit,)
        Bounds of the log rates (spikes/bin): half a spike in the training set, and one spike more
        than the largest training count.
    edge : float
        Upper edge of the band, Hz.
    good : ndarray of bool (electrode,)
        Empty, as the following ones, where only spikes are observed.
    electrode : ndarray (electrode,)
        Labels.
    field_offset, field_scale : ndarray (electrode,)
        Microvolt; the model's field is (microvolt - offset) / scale.
    gain : ndarray (oscillator,)
        Of the field's low-pass at the oscillators' frequencies.
    epoch : ndarray of int (epoch,)
        EM iterations done at each look.
    train_loss, valid_loss : ndarray (epoch,)
        Minus the log-likelihood, and the cost of units left out, nats per entry.
    candidates, costs : ndarray (candidate,)
        Numbers of oscillators tried, and the validation cost of each, nats per entry.
    peaks : int
        Number of oscillators that were started at a spectral peak.
    """

    model: CountsModel
    held_in: np.ndarray
    seen_bins: int
    bins: int
    bin_width: float
    lowest: np.ndarray
    highest: np.ndarray
    edge: float
    good: np.ndarray
    electrode: np.ndarray
    field_offset: np.ndarray
    field_scale: np.ndarray
    gain: np.ndarray
    epoch: np.ndarray
    train_loss: np.ndarray
    valid_loss: np.ndarray
    candidates: np.ndarray
    costs: np.ndarray
    peaks: int

    @property
    def frequency(self) -> np.ndarray:
        """Of the oscillators, Hz."""
        return self.model.angle / (2 * np.pi * self.bin_width)

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Rates (Hz) of all units and bins and the latents, from what is visible.

        That is the counts of held-in units and, for a fit to both, the field, in seen bins. In
        forward bins the posterior follows from the dynamics. ``rate`` is the posterior mean.

        Raises
        ------
        InputError
            If units, bins or electrodes are not those of the fit.
        """
        arrays = spike_arrays(recording, NAME)
        check_same_view(recording, arrays, self.held_in, self.seen_bins, self.bins)
        field = self._visible_field(recording) if self.good.size else None
        posterior = self.model.infer(arrays.visible, self.held_in, field=field, bins=self.bins)
        log_rate = self.model.loadings.log_rate(posterior.mean, posterior.covariance)
        rate = np.exp(np.clip(log_rate, self.lowest, self.highest))
        variance = np.diagonal(posterior.covariance, axis1=-2, axis2=-1)
        dataset = rates_dataset(
            recording,
            rate / arrays.bin_width,
            posterior.mean,
            latent_sd=np.sqrt(variance),
            curves={"train_loss": self.train_loss, "valid_loss": self.valid_loss},
        )
        for name, units in (("latent", "1"), ("latent_sd", "1")):
            dataset[name].attrs["units"] = units
        for name in ("train_loss", "valid_loss"):
            dataset[name].attrs["units"] = "nats/entry"
        return self._described(dataset, recording)

    def _visible_field(self, recording: xr.DataTree) -> np.ndarray:
        standard = (self.field_offset, self.field_scale)
        found = field_in_bins(recording, NAME, highest=self.edge, standard=standard)
        labels = found.electrode.astype(self.electrode.dtype)
        if not np.array_equal(labels, self.electrode) or not np.array_equal(found.good, self.good):
            raise InputError(
                file=recording.attrs["session"],
                field="field/electrode",
                found=f"{int(found.good.sum())} good of {len(labels)} electrodes",
                expected=f"the {int(self.good.sum())} good of {len(self.good)} electrodes that the "
                "model was fitted to",
                fix="Fit the model to this recording",
            )
        return found.visible[..., self.good]

    def _described(self, dataset: xr.Dataset, recording: xr.DataTree) -> xr.Dataset:
        model, count = self.model, len(self.model.angle)
        loading = model.complex_loadings(model.weights)
        width = -np.log(np.maximum(model.damping, 1e-300)) / (np.pi * self.bin_width)
        of_units = ("oscillator", "unit")
        variables: dict[str, Any] = {
            "frequency": ("oscillator", self.frequency, {"units": "Hz"}),
            "damping": ("oscillator", model.damping, {"units": "1"}),
            "bandwidth": ("oscillator", width, {"units": "Hz"}),
            "unit_loading_amplitude": (of_units, np.abs(loading), {"units": "log spikes/bin"}),
            "unit_loading_phase": (of_units, np.angle(loading), {"units": "radian"}),
            "valid_cost": ("candidate", self.costs, {"units": "nats/entry"}),
        }
        if len(model.slow_damping):
            slow = model.weights[:, 2 * count :].T
            variables["slow_damping"] = ("slow", model.slow_damping, {"units": "1"})
            variables["unit_slow_loading"] = (("slow", "unit"), slow, {"units": "log spikes/bin"})
        coords: dict[str, Any] = {
            "oscillator": np.arange(count),
            "label": ("latent", np.array(latent_labels(model))),
            "epoch": self.epoch,
            "candidate_oscillators": ("candidate", self.candidates, {"units": "1"}),
        }
        if self.good.size:
            variables |= self._field_maps()
            field = recording["field"].to_dataset().coords
            names = ("electrode", "x", "y", "z", "group", "region", "good")
            coords |= {name: field[name] for name in names if name in field}
        dataset = dataset.assign(variables).assign_coords(coords)
        return dataset.assign_attrs(
            best_epoch=int(np.nanargmin(self.valid_loss)) + 1,
            oscillators_at_peaks=self.peaks,
            observations="both" if self.good.size else "spikes",
        )

    def _field_maps(self) -> dict[str, Any]:
        """Loadings of the field before its low-pass, microvolt, NaN on bad electrodes."""
        model, scale = self.model, self.field_scale
        maps = ("oscillator", "electrode")
        loading = np.full((len(model.angle), len(self.good)), np.nan + 0j)
        loading[:, self.good] = model.complex_loadings(model.field_weights) / self.gain[:, None]
        noise = np.full(len(self.good), np.nan)
        noise[self.good] = model.field_noise
        variables: dict[str, Any] = {
            "loading_amplitude": (maps, np.abs(loading) * scale, {"units": "microvolt"}),
            "loading_phase": (maps, np.angle(loading), {"units": "radian"}),
            "noise_variance": ("electrode", noise * scale**2, {"units": "microvolt^2"}),
        }
        if len(model.slow_damping):
            slow = np.full((len(model.slow_damping), len(self.good)), np.nan)
            slow[:, self.good] = model.field_weights[:, 2 * len(model.angle) :].T
            units = {"units": "microvolt"}
            variables["slow_loading"] = (("slow", "electrode"), slow * scale, units)
        return variables

    def save(self, folder: Path) -> None:
        """Write ``fit.npz``."""
        arrays: dict[str, Any] = {n: value for n, value in vars(self).items() if n != "model"}
        arrays |= {f"model_{name}": value for name, value in self.model.arrays().items()}
        np.savez(Path(folder) / "fit.npz", **arrays)

    @classmethod
    def load(cls, folder: Path) -> CountsFit:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DriftwaveError
            If the saved dynamics are not stable.
        """
        with np.load(Path(folder) / "fit.npz", allow_pickle=False) as file:
            arrays = dict(file)
        prefix = "model_"
        model = CountsModel.from_arrays(
            {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}
        )
        model.dynamics()
        plain: dict[str, Any] = {f.name: arrays[f.name] for f in fields(cls) if f.name != "model"}
        plain |= {name: int(plain[name]) for name in ("seen_bins", "bins", "peaks")}
        plain |= {name: float(plain[name]) for name in ("bin_width", "edge")}
        return cls(model=model, **plain)


def latent_labels(model: CountsModel) -> list[str]:
    """Names of the states: ``osc<k>_re``, ``osc<k>_im``, then ``slow<j>``."""
    labels = [f"osc{k}_{part}" for k in range(len(model.angle)) for part in ("re", "im")]
    return labels + [f"slow{j}" for j in range(len(model.slow_damping))]
