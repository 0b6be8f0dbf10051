"""Between the recording and a model of spike counts: what it may see, and what it must give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.errors import DriftwaveError, InputError
from driftwave.recording import forward_bins, held_out_units, require, trial_mask

# A rate too small for its number type becomes this (spikes/bin), as in the benchmark's scores.
LOWEST_RATE = 1e-9


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
        No spikes; counts that are no whole numbers of at least 0; no spike at all in the training
        trials; fewer than two training trials or no validation trial; no held-in unit; forward
        bins that leave nothing to see.
    """
    spikes = require(recording, "spikes", needed_by)
    session = recording.attrs["session"]
    _check_counts(spikes["counts"].values, session)
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


def _check_counts(counts: np.ndarray, session: str) -> None:
    """Refuse what is no count; ingest writes none such, a notebook may."""
    if counts.dtype.kind in "bu":
        return
    kinds = {
        "NaN": np.isnan(counts),
        "infinite": np.isinf(counts),
        "negative": counts < 0,
        "fractional": np.isfinite(counts) & (counts != np.rint(counts)),
    }
    for kind, wrong in kinds.items():
        if wrong.any():
            trial, time, unit = np.argwhere(wrong)[0]
            raise InputError(
                file=session,
                field="spikes/counts",
                found=f"{int(wrong.sum())} {kind} values, the first in trial {trial}, bin {time}, "
                f"unit {unit}",
                expected="whole numbers of spikes, at least 0",
                fix="Give raw counts; leave out trials or units in which some are missing",
            )


def rates_dataset(
    recording: xr.DataTree,
    rate: np.ndarray,
    latent: np.ndarray,
    *,
    rate_sd: np.ndarray | None = None,
    latent_sd: np.ndarray | None = None,
    curves: Mapping[str, np.ndarray] | None = None,
) -> xr.Dataset:
    """Label what a model of spike counts infers.

    Parameters
    ----------
    rate : ndarray (trial, time, unit)
        Hz, for all units and all bins, forward bins included.
    latent : ndarray (trial, time, latent)
    rate_sd : ndarray (trial, time, unit), optional
        Posterior standard deviation of the rate, Hz.
    latent_sd : ndarray (trial, time, latent), optional
        Posterior standard deviation.
    curves : mapping of name to ndarray (epoch,), optional
        Training curves, e.g. ``train_loss`` and ``valid_loss``.

    Raises
    ------
    DriftwaveError
        If a rate is negative or not finite, or a latent not finite.
    """
    coords = recording["spikes"].to_dataset().coords
    expected = recording["spikes/counts"].shape
    if rate.shape != expected:
        raise ValueError(f"rate has shape {rate.shape}, the recording's counts {expected}")
    width = float(recording["spikes"].attrs["bin_width"])
    rate, latent = rate.astype(np.float32), latent.astype(np.float32)
    _check_inferred(str(recording.attrs["session"]), rate, latent)
    rate = np.where(rate == 0, np.float32(LOWEST_RATE / width), rate)
    dims = ("trial", "time", "latent")
    dataset = xr.Dataset(
        {
            "rate": (("trial", "time", "unit"), rate, {"units": "Hz"}),
            "latent": (dims, latent, {"units": "arbitrary"}),
        },
        # No labels for the dim `latent`: xarray would mistake the variable of that name for them.
        coords={name: coords[name] for name in ("trial", "time", "unit")},
        attrs={"bin_width": width},
    )
    if rate_sd is not None:
        spread = rate_sd.astype(np.float32)
        dataset["rate_sd"] = (("trial", "time", "unit"), spread, {"units": "Hz"})
    if latent_sd is not None:
        dataset["latent_sd"] = (dims, latent_sd.astype(np.float32), {"units": "arbitrary"})
    for name, curve in (curves or {}).items():
        dataset[name] = ("epoch", np.asarray(curve, dtype=np.float64))
    return dataset


def _check_inferred(session: str, rate: np.ndarray, latent: np.ndarray) -> None:
    bad = (~np.isfinite(rate) | (rate < 0)).any((1, 2)) | ~np.isfinite(latent).all((1, 2))
    if bad.any():
        raise DriftwaveError(
            f"{session}: rates or latents of {int(bad.sum())} of {bad.size} trials, trial "
            f"{int(np.argmax(bad))} the first, are negative or not finite; lower learning_rate in "
            "the model's params if its training was unsteady, or leave these trials out if their "
            "counts are unlike all others."
        )
