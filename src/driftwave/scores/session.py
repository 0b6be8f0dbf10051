"""What of a recording a model's rates are scored against: test trials only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.recording import forward_bins, held_out_units, require, trial_mask
from driftwave.scores.settings import scored_bins


@dataclass(frozen=True)
class Scored:
    """A model's rates beside what was recorded and, where it is known, the truth.

    Attributes
    ----------
    rates, counts : ndarray (test trial, time, unit)
        spikes/bin; counts are NaN in bins that the layout does not want scored.
    true_rates : ndarray (test trial, time, unit) or None
        spikes/bin.
    held_out : ndarray of bool (unit,)
    seen_bins : int
    """

    rates: np.ndarray
    counts: np.ndarray
    true_rates: np.ndarray | None
    held_out: np.ndarray
    seen_bins: int

    def cut(self, values: np.ndarray, part: str) -> np.ndarray:
        """The part of (trial, time, unit) values that a score is about.

        ``seen``: all units in seen bins; ``held_out``: held-out units in seen bins; ``forward``:
        all units in forward bins.
        """
        if part == "forward":
            return values[:, self.seen_bins :]
        seen = values[:, : self.seen_bins]
        return seen[..., self.held_out] if part == "held_out" else seen

    def has(self, part: str) -> bool:
        """Whether there is anything in that part."""
        return self.cut(self.counts, part).size > 0


def scored_session(recording: xr.DataTree, latents: xr.Dataset) -> Scored:
    """Read the test split of a recording and of a model's rates.

    Raises
    ------
    InputError
        If the model's rates are not of this recording, are not finite or negative, or there is
        no test trial.
    """
    counts = require(recording, "spikes", "scoring")["counts"]
    test = trial_mask(recording, "test")
    rate = latents["rate"]
    _check(recording, latents, rate, counts, int(test.sum()))
    width = float(recording["spikes"].attrs["bin_width"])
    rates = rates_per_bin(rate.values[test], width)
    _check_rates(latents, rates)
    truth = true_values(recording, "rate")
    scored = scored_bins(recording)[test]
    tested = counts.values[test].astype(float)
    tested[:, : scored.shape[1]][~scored] = np.nan
    return Scored(
        rates=rates,
        counts=tested,
        true_rates=None if truth is None else truth[test] * width,
        held_out=held_out_units(recording),
        seen_bins=counts.sizes["time"] - forward_bins(recording),
    )


def rates_per_bin(hertz: np.ndarray, bin_width: float) -> np.ndarray:
    """Rates in spikes/bin, to the single precision in which files of predictions hold them.

    A score in a table and that of the exported file are thus of the same numbers.
    """
    return (hertz.astype(float) * bin_width).astype(np.float32).astype(float)


def true_values(recording: xr.DataTree, name: str) -> np.ndarray | None:
    """A variable (trial, time, ...) of the ``truth`` group; None if it is not there."""
    if "truth" not in recording.children or name not in recording["truth"].data_vars:
        return None
    return recording["truth"].to_dataset()[name].values.astype(float)


def _check(
    recording: xr.DataTree,
    latents: xr.Dataset,
    rate: xr.DataArray,
    counts: xr.DataArray,
    tests: int,
) -> None:
    session = recording.attrs["session"]
    if latents.attrs.get("session", session) != session:
        raise InputError(
            file="latents",
            field="session",
            found=latents.attrs["session"],
            expected=session,
            fix="Score a model on the recording it was fitted to",
        )
    if rate.dims != counts.dims or rate.shape != counts.shape:
        raise InputError(
            file=session,
            field="rate",
            found=f"{rate.dims} of {rate.shape}",
            expected=f"{counts.dims} of {counts.shape}, as the recording's counts",
            fix="Fit the model to this recording again",
        )
    if not tests:
        raise InputError(
            file=session,
            field="trials/split",
            found="no test trial",
            expected="at least 1",
            fix="Use more trials or another split in the layout",
        )


def _check_rates(latents: xr.Dataset, rates: np.ndarray) -> None:
    bad = ~np.isfinite(rates) | (rates < 0)
    if bad.any():
        raise InputError(
            file=str(latents.attrs.get("model", "latents")),
            field="rate",
            found=f"{int(bad.sum())} negative, NaN or infinite rates in test trials",
            expected="finite rates of at least 0 Hz",
            fix="Fit the model again, with a smaller learning rate if its training diverged",
        )
