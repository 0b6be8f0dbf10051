"""What a sequential VAE observes: counts, a field cut into the same bins, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from driftwave.inference.data import SpikeArrays, spike_arrays
from driftwave.inference.field_bins import field_in_bins
from driftwave.inference.spike_network import Sizes, input_law, log_mean_count
from driftwave.recording import trial_mask

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

    The field is that of :func:`driftwave.inference.field_bins.field_in_bins`, of the good
    electrodes only; in seen bins it is made from the seen part of each trial alone.

    Raises
    ------
    InputError
        As :func:`driftwave.inference.data.spike_arrays` and
        :func:`driftwave.inference.field_bins.field_in_bins`.
    """
    if kind == "spikes":
        arrays = spike_arrays(recording, needed_by)
        return _observed(arrays, arrays.counts, None)
    found = field_in_bins(recording, needed_by)
    seen, good = found.visible.shape[1], found.good
    values = np.concatenate([found.visible, found.values[:, seen:]], 1)[..., good]
    field = values, found.offset[good], found.scale[good]
    if kind == "both":
        arrays = spike_arrays(recording, needed_by)
        return _observed(arrays, arrays.counts, field)
    frame = SpikeArrays(
        counts=np.zeros((*values.shape[:2], 0), np.float32),
        held_in=np.zeros(0, bool),
        seen_bins=seen,
        train=trial_mask(recording, "train"),
        valid=trial_mask(recording, "valid"),
        test=trial_mask(recording, "test"),
        bin_width=found.bin_width,
    )
    return _observed(frame, None, field)


def _observed(
    frame: SpikeArrays, counts: np.ndarray | None, field: tuple[np.ndarray, ...] | None
) -> Observed:
    values, mean, sd = field or (None, np.zeros(0), np.ones(0))
    masks = frame.train, frame.valid, frame.test
    held_in = frame.held_in
    return Observed(counts, values, held_in, frame.seen_bins, *masks, frame.bin_width, mean, sd)
