"""What a sequential VAE observes: counts, a field cut into the same bins, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from driftwave.errors import InputError
from driftwave.inference.data import SpikeArrays, spike_arrays
from driftwave.inference.spike_network import Sizes, input_law, log_mean_count
from driftwave.recording import forward_bins, require, trial_mask

ObservationKind = Literal["spikes", "field", "both"]


@dataclass(frozen=True)
class Observed:
    """Trials (or windows) of counts, of a field, or of both side by side.

    Attributes
    ----------
    counts : ndarray, float32 (trial, bin, unit) or None
        Spikes per bin; None where no spikes are observed.
    field : ndarray, float32 (trial, bin, electrode) or None
        Standardised field, NaN where it is missing; None where no field is observed.
    held_in : ndarray of bool (unit,)
        Units visible at evaluation; empty without counts.
    seen_bins : int
        Leading bins visible at evaluation, of counts and field.
    train, valid, test : ndarray of bool (trial,)
    bin_width : float
        s.
    field_mean, field_sd : ndarray (electrode,)
        Microvolt, of the training trials: field = (microvolt - mean) / sd. Empty without a field.
    """

    counts: np.ndarray | None
    field: np.ndarray | None
    held_in: np.ndarray
    seen_bins: int
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    bin_width: float
    field_mean: np.ndarray
    field_sd: np.ndarray

    def __post_init__(self) -> None:
        if self.counts is None and self.field is None:
            raise ValueError("neither counts nor field")

    @property
    def shape(self) -> tuple[int, int]:
        """Trials and bins."""
        one = self.field if self.counts is None else self.counts
        assert one is not None
        return one.shape[0], one.shape[1]

    @property
    def electrodes(self) -> int:
        """Number of electrodes; 0 without a field."""
        return 0 if self.field is None else self.field.shape[2]

    @property
    def sizes(self) -> Sizes:
        """Shapes for a :class:`driftwave.inference.sequential_vae.SequentialVAE`."""
        units = 0 if self.counts is None else self.counts.shape[2]
        return Sizes(int(self.held_in.sum()), units, self.seen_bins, self.shape[1])

    @property
    def visible(self) -> np.ndarray:
        """What the encoder reads at evaluation (trial, seen bin, held-in unit + 2 electrode):
        counts, field with zeros where missing, and 1 where the field is there."""
        parts = []
        if self.counts is not None:
            parts.append(self.counts[:, : self.seen_bins, self.held_in])
        if self.field is not None:
            seen = self.field[:, : self.seen_bins]
            parts += [np.nan_to_num(seen), np.isfinite(seen).astype(np.float32)]
        return np.concatenate(parts, -1)

    def log_mean_count(self) -> Tensor:
        """Log mean count of each unit in the training trials; (0,) without counts."""
        if self.counts is None:
            return torch.zeros(0)
        return log_mean_count(self._spikes())

    def input_law(self) -> Tensor:
        """Mean and sd (2, held-in unit) of the counts seen in training; (2, 0) without counts."""
        return torch.ones(2, 0) if self.counts is None else input_law(self._spikes())

    def _spikes(self) -> SpikeArrays:
        assert self.counts is not None
        return SpikeArrays(
            self.counts,
            self.held_in,
            self.seen_bins,
            self.train,
            self.valid,
            self.test,
            self.bin_width,
        )

    def in_microvolt(self, standardised: np.ndarray) -> np.ndarray:
        """Microvolt of standardised values (..., electrode)."""
        return standardised * self.field_sd + self.field_mean


def observe(recording: xr.DataTree, kind: ObservationKind, needed_by: str) -> Observed:
    """Trials of a recording with spikes, as a sequential VAE takes them.

    The field of a bin is the mean over its samples, of the good electrodes only; it is NaN where
    all of them are missing or the recorded field does not reach.

    Raises
    ------
    InputError
        As :func:`driftwave.inference.data.spike_arrays`; no field where one is asked for; fewer
        samples than bins; an electrode that is constant or missing in all training trials.
    """
    if kind == "spikes":
        arrays = spike_arrays(recording, needed_by)
        return _observed(arrays, arrays.counts, None)
    values = field_of_trials(recording, needed_by)
    if kind == "both":
        arrays = spike_arrays(recording, needed_by)
        return _observed(arrays, arrays.counts, standardised(recording, values, arrays.train))
    frame = SpikeArrays(
        counts=np.zeros((*values.shape[:2], 0), np.float32),
        held_in=np.zeros(0, bool),
        seen_bins=values.shape[1] - forward_bins(recording),
        train=trial_mask(recording, "train"),
        valid=trial_mask(recording, "valid"),
        test=trial_mask(recording, "test"),
        bin_width=float(recording["spikes"].attrs["bin_width"]),
    )
    return _observed(frame, None, standardised(recording, values, frame.train))


def _observed(
    frame: SpikeArrays, counts: np.ndarray | None, field: tuple[np.ndarray, ...] | None
) -> Observed:
    values, mean, sd = field or (None, np.zeros(0), np.ones(0))
    masks = frame.train, frame.valid, frame.test
    held_in = frame.held_in
    return Observed(counts, values, held_in, frame.seen_bins, *masks, frame.bin_width, mean, sd)


def field_of_trials(recording: xr.DataTree, needed_by: str) -> np.ndarray:
    """Mean field (trial, bin, good electrode), microvolt float32, in the bins of the spikes.

    Raises
    ------
    InputError
        Without spikes (which give trials and bins) or field; fewer samples than bins.
    """
    spikes = require(recording, "spikes", needed_by)
    field = require(recording, "field", needed_by)
    width = float(spikes.attrs["bin_width"])
    clock, rate = field["lfp"]["time"].values, float(field.attrs["sampling_rate"])
    if rate * width < 1 - 1e-6:
        raise InputError(
            file=str(recording.attrs["session"]),
            field="field/lfp",
            found=f"{rate:.4g} samples/s for bins of {1e3 * width:.4g} ms",
            expected="at least one sample per bin",
            fix="Take wider bins in the layout",
        )
    good = np.flatnonzero(field["good"].values)
    bins = spikes.sizes["time"]
    out = np.full((spikes.sizes["trial"], bins, len(good)), np.nan, np.float32)
    for trial, start in enumerate(spikes["trial_start"].values):
        # Half a sample earlier, or rounding would decide to which bin a sample on an edge belongs.
        edges = start + np.arange(bins + 1) * width - 0.5 / rate
        cut = np.searchsorted(clock, edges)
        samples = np.asarray(field["lfp"][cut[0] : cut[-1]].values, float)[:, good]
        out[trial] = _binned(samples, cut - cut[0])
    return out


def _binned(samples: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean of what is there (bin, electrode) of samples (time, electrode) between edges."""
    there = np.isfinite(samples)
    total, count = (
        np.concatenate([np.zeros((1, samples.shape[1])), part.cumsum(0)])
        for part in (np.where(there, samples, 0.0), there.astype(float))
    )
    number = np.diff(count[edges], axis=0)
    return np.where(number > 0, np.diff(total[edges], axis=0) / np.maximum(number, 1), np.nan)


def standardised(
    recording: xr.DataTree, values: np.ndarray, train: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Field (trial, bin, electrode) standardised by the training trials, their mean and sd.

    Raises
    ------
    InputError
        If an electrode is constant or missing in all training trials.
    """
    seen = values[train].reshape(-1, values.shape[2]).astype(float)
    there = np.isfinite(seen)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, seen, 0.0).sum(0) / count
    sd = np.sqrt((np.where(there, seen - mean, 0.0) ** 2).sum(0) / count)
    flat = sd <= 1e-6 * np.maximum(1.0, np.abs(mean))
    if flat.any():
        raise InputError(
            file=str(recording.attrs["session"]),
            field="field/lfp",
            found=f"{int(flat.sum())} of {flat.size} good electrodes constant or missing in all "
            f"training trials, the first number {int(np.argmax(flat))}",
            expected="electrodes that vary",
            fix="Mark them as bad in the layout",
        )
    return ((values - mean) / sd).astype(np.float32), mean, sd
