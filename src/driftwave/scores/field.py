"""Scores of a model of the field on the test stretch: hidden electrodes and later samples.

R2 is one minus the squared error over the variance about the electrode's mean, both over the test
stretch; 0 is a prediction no better than that mean. Intervals come from a bootstrap over blocks of
time, since neighbouring samples are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from scipy.signal import butter, sosfiltfilt

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.scores.r_squared import r2_sums
from driftwave.scores.trial_sums import TrialSums

BAND = (3.0, 45.0)  # Hz; the oscillators' default band, the same for all models
BLOCK_SECONDS = 2.0
LEAST_BLOCKS = 10
_NULL = "null_shuffled: predictions of other blocks of time"


@dataclass(frozen=True)
class Stretch:
    """The test stretch as recorded and as predicted, good electrodes only.

    Attributes
    ----------
    recorded, filled : ndarray (time, electrode)
        Microvolt; NaN where not recorded.
    forecast : ndarray (horizon, time, electrode)
    steps : ndarray of int (horizon,)
        Samples.
    truth : ndarray (time, electrode) or None
        The field without noise, where it is known.
    rate : float
        Hz.
    """

    recorded: np.ndarray
    filled: np.ndarray
    forecast: np.ndarray
    steps: np.ndarray
    truth: np.ndarray | None
    rate: float

    @property
    def block(self) -> int:
        """Samples to a block of the bootstrap."""
        longest = len(self.recorded) / LEAST_BLOCKS
        return max(1, int(min(BLOCK_SECONDS * self.rate, longest)))


def field_rows(
    recording: xr.DataTree, latents: xr.Dataset, seed: int, *, resamples: int = 1000
) -> list[dict[str, Any]]:
    """Rows of the table of scores for a model of the field.

    ``held_out_electrode_r2``
        Each electrode predicted from the other groups of electrodes: mean of R2 over electrodes.
    ``held_out_electrode_r2_median``
        Median over electrodes.
    ``held_out_electrode_r2_band``, ``held_out_electrode_r2_band_median``
        The same within :data:`BAND`, recording and prediction filtered alike.
    ``forecast_r2 H ms``
        Each sample predicted from all electrodes up to H ms before it: mean of R2 over electrodes.

    Parameters
    ----------
    recording : DataTree
        For its session's name and, of a simulation, ``truth/field`` (field_time, electrode), the
        field without noise, which gives the ceiling.
    latents : Dataset
        With ``field_recorded``, ``field_filled`` and ``field_forecast``.
    seed : int
        Of the bootstrap.
    resamples : int
        Bootstrap resamples of blocks behind the 95 % interval.

    Returns
    -------
    list of dict
        ``null`` is 0 (the mean) for hidden electrodes, and for forecasts the R2 of persistence,
        the last sample seen; ``null_shuffled`` that of the same predictions dealt to other blocks.
    """
    stretch = read_stretch(recording, latents)
    rows = []
    for name, note, sums, null, ceiling in _scores(stretch):
        low, high = sums.interval(generator(seed, "bootstrap", name), resamples=resamples)
        rows.append(
            {
                "metric": name,
                "value": sums.value(),
                "unit": "R2",
                "ci_low": low,
                "ci_high": high,
                "null": null,
                "ceiling": ceiling,
                "split": "test",
                "note": f"{note}; blocks of {stretch.block / stretch.rate:.3g} s; {_NULL}",
                "null_shuffled": sums.shuffled(),
            }
        )
    return rows


def read_stretch(recording: xr.DataTree, latents: xr.Dataset) -> Stretch:
    """What a model predicted of the test stretch.

    Raises
    ------
    InputError
        Latents of another session; predictions that are missing or not finite.
    """
    session = str(recording.attrs["session"])
    if latents.attrs.get("session", session) != session:
        raise InputError(
            file="latents",
            field="session",
            found=latents.attrs["session"],
            expected=session,
            fix="Score a model on the recording it was fitted to",
        )
    missing = [n for n in ("field_recorded", "field_forecast", "test_rate") if n not in latents]
    if missing:
        raise InputError(
            file=str(latents.attrs.get("model", "latents")),
            field="variables",
            found=f"no {' and no '.join(missing)}",
            expected="what `driftwave fit` writes for a model of the field",
            fix="Fit the model to this recording again",
        )
    maps = ("test_time", "electrode")
    recorded = latents["field_recorded"].transpose(*maps).values.astype(float)
    filled = latents["field_filled"].transpose(*maps).values.astype(float)
    forecast = latents["field_forecast"].transpose("horizon", *maps).values.astype(float)
    time = latents["test_time"].values
    rate = float(latents["test_rate"])
    used = np.isfinite(recorded).any(0)
    stretch = Stretch(
        recorded=recorded[:, used],
        filled=filled[:, used],
        forecast=forecast[..., used],
        steps=np.round(latents["horizon"].values * rate).astype(int),
        truth=_truth(recording, time, used),
        rate=rate,
    )
    _check(stretch, latents)
    return stretch


def _check(stretch: Stretch, latents: xr.Dataset) -> None:
    late = stretch.forecast[:, stretch.steps.max(initial=0) :]
    for name, values in (("field_filled", stretch.filled), ("field_forecast", late)):
        bad = int((~np.isfinite(values)).sum())
        if bad or not values.size:
            raise InputError(
                file=str(latents.attrs.get("model", "latents")),
                field=name,
                found=f"{bad} NaN or infinite values" if bad else "no value",
                expected="a finite prediction of every sample of the test stretch",
                fix="Fit the model again",
            )


def _truth(recording: xr.DataTree, time: np.ndarray, used: np.ndarray) -> np.ndarray | None:
    if "truth" not in recording.children or "field" not in recording["truth"].data_vars:
        return None
    truth = recording["truth"].to_dataset()["field"].sel(field_time=time, method="nearest")
    return truth.transpose("field_time", "electrode").values[:, used].astype(float)


def _scores(stretch: Stretch) -> Iterator[tuple[str, str, TrialSums, float, float]]:
    """Name, note, sums over blocks, null and ceiling of each score."""
    note = "electrodes hidden in turn, predicted from the others"
    for suffix, band in (("", None), ("_band", _band(stretch.rate))):
        part = stretch if band is None else in_band(stretch, band)
        where = "" if band is None else f", {band[0]:g} to {band[1]:g} Hz"
        ceiling = _ceiling(part, 0)
        sums = _sums(part, part.filled, 0)
        name = f"held_out_electrode_r2{suffix}"
        yield name, f"{note}{where}; mean over electrodes; 0: mean", sums, 0.0, ceiling.value()
        middle, best = (replace(s, formula=_median_r2) for s in (sums, ceiling))
        median = f"{note}{where}; median over electrodes; 0: mean"
        yield f"{name}_median", median, middle, 0.0, best.value()
    # No forecasts in the band: the filter would mix those made before and after a sample.
    first = int(stretch.steps.max())
    for place, step in enumerate(stretch.steps):
        last = np.roll(stretch.recorded, step, axis=0)
        yield (
            f"forecast_r2 {1000 * step / stretch.rate:.3g} ms",
            "from all electrodes so long before; mean over electrodes; 0: mean; null: persistence",
            _sums(stretch, stretch.forecast[place], first),
            _sums(stretch, last, first).value(),
            _ceiling(stretch, first).value(),
        )


def _band(rate: float) -> tuple[float, float]:
    return BAND[0], min(BAND[1], 0.45 * rate)


def in_band(stretch: Stretch, band: tuple[float, float]) -> Stretch:
    """A stretch after a zero-phase band-pass, but for its forecasts; NaN stays NaN."""
    sections = butter(3, band, "bandpass", fs=stretch.rate, output="sos")
    level = np.nanmean(stretch.recorded, axis=0)

    def passed(values: np.ndarray) -> np.ndarray:
        there = np.isfinite(values)
        centred = np.where(there, values - level, 0.0)
        length = min(3 * (2 * len(sections) + 1), len(values) - 1)
        filtered = sosfiltfilt(sections, centred, axis=0, padlen=length)
        return np.where(there, filtered, np.nan)

    return replace(
        stretch,
        recorded=passed(stretch.recorded),
        filled=passed(stretch.filled),
        truth=None if stretch.truth is None else passed(stretch.truth),
    )


def _sums(stretch: Stretch, predicted: np.ndarray, first: int) -> TrialSums:
    """Sums over whole blocks, from sample ``first`` on."""
    there = np.isfinite(predicted)
    truth = np.where(there, stretch.recorded, np.nan)
    blocks = [_blocks(v, first, stretch.block) for v in (np.where(there, predicted, 0.0), truth)]
    return r2_sums(*blocks)


def _blocks(values: np.ndarray, first: int, length: int) -> np.ndarray:
    count = (len(values) - first) // length
    return values[first : first + count * length].reshape(count, length, -1)


def _ceiling(stretch: Stretch, first: int) -> TrialSums:
    truth = np.full_like(stretch.recorded, np.nan) if stretch.truth is None else stretch.truth
    return _sums(stretch, truth, first)


def _median_r2(sums: np.ndarray) -> np.ndarray:
    """Median over electrodes of R2 (...) from the sums (..., 4, electrode) of ``r2_sums``."""
    error, first, second, count = np.moveaxis(sums, -2, 0)
    spread = second - first**2 / np.maximum(count, 1)
    varies = spread > 1e-12 * np.maximum(second, np.finfo(float).tiny)
    r2 = 1 - np.divide(error, spread, out=np.full(error.shape, np.nan), where=varies)
    found = np.full(r2.shape[:-1], np.nan)
    some = varies.any(-1)
    found[some] = np.nanmedian(r2[some], axis=-1)
    return found
