"""Between the recording and a model of spike counts: what it may see, and what it must give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.recording import forward_bins, held_out_units, require, trial_mask


@dataclass(frozen=True)
class SpikeArrays:
    """Counts and masks of a recording.

    Attributes
    ----------
    counts : ndarray, float32 (trial, time, unit)
        Spikes per bin.
    held_in : ndarray of bool (unit,)
        Units visible at evaluation.
    seen_bins : int
        Leading bins of a trial visible at evaluation; the rest are forward bins.
    train, valid, test : ndarray of bool (trial,)
    bin_width : float
        s.
    """

    counts: np.ndarray
    held_in: np.ndarray
    seen_bins: int
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    bin_width: float

    @property
    def visible(self) -> np.ndarray:
        """What a model may see at evaluation: (trial, seen bins, held-in unit)."""
        return self.counts[:, : self.seen_bins, self.held_in]


def spike_arrays(recording: xr.DataTree, needed_by: str) -> SpikeArrays:
    """Read the counts of a recording for a model.

    Raises
    ------
    InputError
        No spikes; no spike at all in the training trials; fewer than two training trials or no
        validation trial; no held-in unit; forward bins that leave nothing to see.
    """
    spikes = require(recording, "spikes", needed_by)
    session = recording.attrs["session"]
    arrays = SpikeArrays(
        counts=spikes["counts"].values.astype(np.float32),
        held_in=~held_out_units(recording),
        seen_bins=spikes.sizes["time"] - forward_bins(recording),
        train=trial_mask(recording, "train"),
        valid=trial_mask(recording, "valid"),
        test=trial_mask(recording, "test"),
        bin_width=float(spikes.attrs["bin_width"]),
    )
    faults = [
        (
            arrays.train.sum() < 2,
            "trials/split",
            f"{int(arrays.train.sum())} training trials",
            "at least 2",
            "Use more trials, shorter windows or another split in the layout",
        ),
        (
            not arrays.valid.any(),
            "trials/split",
            "no validation trial",
            "at least 1, to stop training early",
            "Use more trials, shorter windows or another split in the layout",
        ),
        (
            not arrays.held_in.any(),
            "units/held_out",
            "every unit held out",
            "at least one unit to see",
            "Lower `spikes.held_out` in the layout",
        ),
        (
            arrays.seen_bins < 2,
            "spikes/forward_bins",
            f"{arrays.seen_bins} bins left to see",
            "at least 2",
            "Shorten `forward` or lengthen the window in the layout",
        ),
    ]
    for wrong, field, found, expected, fix in faults:
        if wrong:
            raise InputError(file=session, field=field, found=found, expected=expected, fix=fix)
    if not arrays.counts[arrays.train].any():
        raise InputError(
            file=session,
            field="spikes/counts",
            found="no spike in any training trial",
            expected="some spikes",
            fix="Check the alignment and window of the layout against the spike times",
        )
    return arrays


def rates_dataset(
    recording: xr.DataTree,
    rate: np.ndarray,
    latent: np.ndarray,
    *,
    latent_sd: np.ndarray | None = None,
    curves: Mapping[str, np.ndarray] | None = None,
) -> xr.Dataset:
    """Label what a model of spike counts infers.

    Parameters
    ----------
    rate : ndarray (trial, time, unit)
        Hz, for all units and all bins, forward bins included.
    latent : ndarray (trial, time, latent)
    latent_sd : ndarray (trial, time, latent), optional
        Posterior standard deviation.
    curves : mapping of name to ndarray (epoch,), optional
        Training curves, e.g. ``train_loss`` and ``valid_loss``.
    """
    coords = recording["spikes"].to_dataset().coords
    expected = recording["spikes/counts"].shape
    if rate.shape != expected:
        raise ValueError(f"rate has shape {rate.shape}, the recording's counts {expected}")
    dims = ("trial", "time", "latent")
    dataset = xr.Dataset(
        {
            "rate": (("trial", "time", "unit"), rate.astype(np.float32), {"units": "Hz"}),
            "latent": (dims, latent.astype(np.float32), {"units": "arbitrary"}),
        },
        # No labels for the dim `latent`: xarray would mistake the variable of that name for them.
        coords={name: coords[name] for name in ("trial", "time", "unit")},
        attrs={"bin_width": float(recording["spikes"].attrs["bin_width"])},
    )
    if latent_sd is not None:
        dataset["latent_sd"] = (dims, latent_sd.astype(np.float32), {"units": "arbitrary"})
    for name, curve in (curves or {}).items():
        dataset[name] = ("epoch", np.asarray(curve, dtype=np.float64))
    return dataset
