"""Linear stochastic oscillators: exact Kalman/RTS inference and EM on a field of electrodes.

Each oscillator is a damped rotation z with one complex loading c per electrode, and gives the field
Re(c z); the argument of c over the electrodes is the travelling wave. Slow AR(1) factors carry what
electrodes share below the band. With ``background: factors`` noise is white and independent between
electrodes, as in the paper. With ``whitened`` the 1/f background is first flattened by a zero-phase
filter and the noise has a full covariance between electrodes: only this can tell waves from a
background with spatial correlations of its own, at the price of frequencies up to 1.5 % too high
where the background is steep and the peak broad (the filter tilts the peak).

Bad electrodes (coordinate ``good`` false) are left out of the fit and keep NaN loadings. The last
part of the recording is a validation stretch: it is never fitted and stops the iterations. EM is
deterministic; the seed has no influence.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator

from driftwave.errors import InputError
from driftwave.inference.field import FieldSource, field_source
from driftwave.inference.kalman import filter_gains, posterior_sd, run_filter, run_smoother
from driftwave.inference.oscillator_data import Prepared, prepare
from driftwave.inference.oscillator_em import (
    Bounds,
    Observations,
    Oscillators,
    fix_gauge,
    reduce_observations,
)
from driftwave.inference.oscillator_results import loadings_dataset, spread, variance_shares
from driftwave.inference.oscillator_start import (
    first_guess,
    further_frequencies,
    spectral_peaks,
)
from driftwave.inference.oscillator_training import Schedule, Trained, run_em
from driftwave.inference.whitening import Whitening

PAPER = "Matsuda & Komaki 2017, Neural Computation 29:332"
OBSERVES = "field"
GIVES_CURVES = True
GIVES_WAVES = "loadings"

Frequency = Annotated[float, Field(gt=0)]


class Params(BaseModel):
    """Settings of the oscillator model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    oscillators: int | None = Field(
        None, ge=1, description="Number of oscillators; empty for one per spectral peak found."
    )
    max_oscillators: int = Field(
        6, ge=1, description="At most so many oscillators where their number is left to the peaks."
    )
    per_peak: int = Field(
        1,
        ge=1,
        description="Oscillators started at each peak, with the strongest patterns there; several "
        "where waves of one frequency go different ways.",
    )
    background: Literal["whitened", "factors"] = Field(
        "whitened",
        description="1/f background: flattened by a filter, noise correlated between electrodes; "
        "or left to the slow factors, noise independent.",
    )
    slow_factors: int = Field(
        3,
        ge=0,
        description="Number of slow AR(1) factors for what electrodes share below the band.",
    )
    rate: float = Field(
        250.0, gt=0, description="The field is low-passed and decimated to about this rate, Hz."
    )
    band: tuple[Frequency, Frequency] = Field(
        (3.0, 45.0), description="Frequencies an oscillator may have, Hz."
    )
    peak_prominence: float = Field(
        1.0,
        gt=0,
        description="A spectral peak stands out from the flattened mean spectrum by this much, dB.",
    )
    max_bandwidth: float = Field(
        12.0, gt=0, description="An oscillator's spectral peak is at most this wide (FWHM), Hz."
    )
    iterations: int = Field(300, ge=1, description="At most so many EM iterations.")
    tolerance: float = Field(
        1e-8,
        ge=0,
        description="EM stops once an iteration gains less than this, nats per sample and channel.",
    )
    patience: int = Field(
        30, ge=1, description="EM stops after so many iterations without a better validation loss."
    )
    valid_fraction: float = Field(
        0.15, gt=0, lt=0.9, description="Share at the end of the recording kept for validation."
    )
    max_duration: float = Field(
        600.0, gt=0, description="Only this much of the start of the recording is fitted, s."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Params:
        if self.band[1] <= self.band[0]:
            raise ValueError("band must end above its start")
        return self


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes
    ----------
    model : Oscillators
        Of the whitened good electrodes, microvolt.
    taps : ndarray (tap,)
        Of the whitening filter.
    offset : ndarray (channel,)
        Mean of each good electrode over the fitted stretch, microvolt.
    electrode : ndarray (electrode,)
        Labels of all electrodes of the recording.
    good : ndarray of bool (electrode,)
    curves : dict of ndarray (epoch,)
    shares : dict of ndarray (oscillator,) or (slow,)
        Shares of variance.
    facts : dict
        Requested rate, band, log-likelihoods, lengths.
    """

    model: Oscillators
    taps: np.ndarray
    offset: np.ndarray
    electrode: np.ndarray
    good: np.ndarray
    curves: dict[str, np.ndarray]
    shares: dict[str, np.ndarray]
    facts: dict[str, float]

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Smoothed latents of the whole recording, with loadings and their frequencies.

        Raises
        ------
        InputError
            If the recording has other electrodes, another rate, or missing samples.
        """
        source = field_source(
            recording, self.facts["rate"], "oscillators", passband=self.facts["highest"]
        )
        self._check_same(source)
        weights, space = self.model.weights(), self.model.state_space()
        reduced = np.empty((source.samples, weights.shape[1]))
        start = 0
        for block in source.blocks():
            part = reduce_observations(block - self.offset.astype(np.float32), weights)
            reduced[start : start + len(part)] = part
            start += len(part)
        # The filter is the same on every electrode, so it may as well act on their sums.
        reduced = self.whitening.apply(reduced)
        gains = filter_gains(space, len(reduced))
        filtered = run_filter(reduced, space, gains)
        smoothed = run_smoother(filtered.mean, space, gains)
        deviation = posterior_sd(gains, len(reduced))
        dataset = loadings_dataset(self.model, self.whitening, self.good)
        dataset["offset"] = ("electrode", spread(self.offset, self.good), {"units": "microvolt"})
        dims = ("time", "latent")
        dataset["latent"] = (dims, smoothed.mean.astype(np.float32), {"units": "1"})
        dataset["latent_sd"] = (dims, deviation.astype(np.float32), {"units": "1"})
        for name, values in self.shares.items():
            dim = "slow" if name.startswith("slow") else "oscillator"
            dataset[name] = (dim, values, {"units": "1"})
        for name, curve in self.curves.items():
            dataset[name] = ("epoch", curve, {"units": "nats per sample and channel"})
        field = recording["field"].to_dataset().coords
        names = ("electrode", "x", "y", "z", "group", "region")
        dataset = dataset.assign_coords({name: field[name] for name in names if name in field})
        dataset = dataset.assign_coords(time=("time", source.time(), {"units": "s"}))
        return dataset.assign_attrs(self.facts)

    @property
    def whitening(self) -> Whitening:
        """The filter applied before the model."""
        return Whitening(self.taps, self.facts["sampling_rate"])

    def _check_same(self, source: FieldSource) -> None:
        labels = source.lfp["electrode"].values.astype(self.electrode.dtype)
        same = np.array_equal(labels, self.electrode) and np.array_equal(source.good, self.good)
        if same and np.isclose(source.rate, self.facts["sampling_rate"], rtol=1e-3):
            return
        raise InputError(
            file=source.session,
            field="field/electrode",
            found=f"{int(source.good.sum())} good of {len(labels)} electrodes, {source.rate:g} Hz",
            expected=f"the {int(self.good.sum())} good electrodes at "
            f"{self.facts['sampling_rate']:g} Hz that the model was fitted to",
            fix="Fit the model to this recording",
        )

    def save(self, folder: Path) -> None:
        """Write ``oscillators.npz`` and ``oscillators.json`` into a folder."""
        arrays = {f"model_{name}": array for name, array in self.model.arrays().items()}
        arrays |= {f"curve_{name}": array for name, array in self.curves.items()}
        arrays |= {f"share_{name}": array for name, array in self.shares.items()}
        arrays |= {
            "taps": self.taps,
            "offset": self.offset,
            "electrode": self.electrode,
            "good": self.good,
        }
        np.savez(folder / "oscillators.npz", **arrays)  # type: ignore[arg-type]
        (folder / "oscillators.json").write_text(json.dumps(self.facts, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote."""
        with np.load(folder / "oscillators.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}

        def part(prefix: str) -> dict[str, np.ndarray]:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        return cls(
            model=Oscillators(**part("model_")),
            taps=arrays["taps"],
            offset=arrays["offset"],
            electrode=arrays["electrode"],
            good=arrays["good"],
            curves=part("curve_"),
            shares=part("share_"),
            facts=json.loads((folder / "oscillators.json").read_text()),
        )


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    device: str = "cpu",
    progress: str | None = None,
    checkpoint: Path | None = None,
) -> Fit:
    """Fit oscillators to a recording's field.

    Parameters
    ----------
    recording : DataTree
        With a group ``field``; may be lazy, and longer than memory.
    params : Params
    seed : int
        Recorded only: start and iterations are deterministic.
    device : str
        Not used.
    progress : str, optional
        Label of the progress bar.
    checkpoint : Path, optional
        Folder to resume from.

    Raises
    ------
    InputError
        No field; NaN or constant signals on a good electrode; fewer good electrodes than
        oscillators; too short; a band the rate cannot carry; no spectral peak in the band.
    """
    del device
    source = field_source(recording, params.rate, "oscillators", passband=params.band[1])
    whiten = params.background == "whitened"
    prepared = prepare(
        source,
        duration=params.max_duration,
        valid_fraction=params.valid_fraction,
        band=params.band,
        whiten=whiten,
    )
    low, high = (2 * np.pi * edge / source.rate for edge in params.band)
    bounds = Bounds((low, high), float(np.exp(-np.pi * params.max_bandwidth / source.rate)))
    start = first_guess(
        prepared.standard,
        _choose(prepared, source, params),
        slow=params.slow_factors,
        full=whiten,
        rate=source.rate,
        bounds=bounds,
    )
    observations = Observations(prepared.data, prepared.fitted, full=whiten)
    trained = run_em(
        observations,
        start,
        bounds,
        Schedule(params.iterations, params.tolerance, params.patience),
        label=progress,
        checkpoint=checkpoint,
        fingerprint=_fingerprint(prepared.data, params, seed),
    )
    return _finish(trained, observations, prepared, source, params)


def _fingerprint(data: np.ndarray, params: Params, seed: int) -> str:
    """Of data and settings, so that a checkpoint of another fit is not resumed."""
    digest = hashlib.sha256(json.dumps([params.model_dump(), seed, data.shape]).encode())
    digest.update(np.ascontiguousarray(data[:: max(1, len(data) // 1000)]).tobytes())
    return digest.hexdigest()


def _choose(prepared: Prepared, source: FieldSource, params: Params) -> np.ndarray:
    """Starting frequencies (Hz), ascending, one per oscillator."""
    peaks = spectral_peaks(prepared.recorded, params.band, params.peak_prominence)
    wanted = params.oscillators
    if wanted is None and not len(peaks):
        raise InputError(
            file=source.session,
            field="field/lfp",
            found=f"no spectral peak from {params.band[0]:g} to {params.band[1]:g} Hz",
            expected=f"one that stands {params.peak_prominence:g} dB above the 1/f background",
            fix="Set `oscillators` to a number, widen `band` or lower `peak_prominence`, or leave "
            "this model out for the session",
        )
    starts = np.repeat(peaks, params.per_peak)
    count = min(len(starts), params.max_oscillators) if wanted is None else wanted
    channels = int(source.good.sum())
    if channels < count:
        raise InputError(
            file=source.session,
            field="field/good",
            found=f"{channels} good electrodes",
            expected=f"at least as many as oscillators ({count})",
            fix="Lower `oscillators`, or mend the electrodes marked bad in the layout",
        )
    starts = starts[:count]
    if len(starts) < count:
        missing = count - len(starts)
        more = further_frequencies(prepared.recorded, params.band, peaks, missing)
        starts = np.concatenate([starts, more])
    return np.sort(starts)


def _finish(
    trained: Trained,
    observations: Observations,
    prepared: Prepared,
    source: FieldSource,
    params: Params,
) -> Fit:
    standard, scale, fitted = fix_gauge(trained.model), prepared.scale, prepared.fitted
    moments = observations.moments(standard)
    twice = scale**2 if standard.noise.ndim == 1 else np.outer(scale, scale)
    model = replace(
        standard, loading=standard.loading * scale[:, None], noise=standard.noise * twice
    )
    # Densities are per microvolt: standardising multiplies them by the scales.
    shift = float(np.log(scale).mean())
    later, channels = len(prepared.data) - fitted, len(scale)
    nats = moments.fitted - shift * fitted * channels
    facts = {
        "sampling_rate": source.rate,
        "rate": params.rate,
        "highest": params.band[1],
        "log_likelihood": nats,
        "log_likelihood_validation": moments.validation - shift * later * channels,
        "bic": model.count * float(np.log(fitted)) - 2 * nats,
        "best_epoch": trained.best,
        "fitted_seconds": fitted / source.rate,
        "validation_seconds": later / source.rate,
    }
    electrode = source.lfp["electrode"].values
    return Fit(
        model=model,
        taps=prepared.whitening.taps,
        offset=prepared.offset,
        electrode=electrode if electrode.dtype.kind in "iuU" else electrode.astype(str),
        good=source.good,
        curves={"train_loss": trained.train_loss + shift, "valid_loss": trained.valid_loss + shift},
        shares=variance_shares(standard, moments, prepared, source.rate),
        facts=facts,
    )
