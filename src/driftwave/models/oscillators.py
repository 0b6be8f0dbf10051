"""Linear stochastic oscillators: exact Kalman/RTS inference and EM on a field of electrodes.

Each oscillator is a damped rotation with one complex loading per electrode; the argument of the
loading over the electrodes is the travelling wave. Slow AR(1) factors carry the 1/f background that
electrodes share. Bad electrodes (coordinate ``good`` false) are left out of the fit and keep NaN
loadings. The last part of the recording is a validation stretch: it is never fitted and stops the
iterations. EM is deterministic; the seed has no influence.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator

from driftwave.errors import InputError
from driftwave.inference.field import FieldSource, field_source
from driftwave.inference.kalman import filter_gains, posterior_sd, run_filter, run_smoother
from driftwave.inference.oscillator_em import (
    Bounds,
    Moments,
    Observations,
    Oscillators,
    fix_gauge,
    reduce_observations,
)
from driftwave.inference.oscillator_start import (
    first_guess,
    further_frequencies,
    spectral_peaks,
    spectrum,
)
from driftwave.inference.oscillator_training import Schedule, Trained, run_em

PAPER = "Matsuda & Komaki 2017, Neural Computation 29:332"
OBSERVES = "field"

SHORTEST_SECONDS = 5.0
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
    slow_factors: int = Field(
        3, ge=0, description="Number of slow AR(1) factors for the background electrodes share."
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
    iterations: int = Field(200, ge=1, description="At most so many EM iterations.")
    tolerance: float = Field(
        1e-6,
        ge=0,
        description="EM stops once an iteration gains less than this, nats per sample and channel.",
    )
    patience: int = Field(
        20, ge=1, description="EM stops after so many iterations without a better validation loss."
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
        Loadings in microvolt, of the good electrodes.
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
        gains = filter_gains(space, len(reduced))
        filtered = run_filter(reduced, space, gains)
        smoothed = run_smoother(filtered.mean, space, gains)
        deviation = posterior_sd(space, gains, len(reduced))
        return self._dataset(recording, source, smoothed.mean, deviation)

    def _check_same(self, source: FieldSource) -> None:
        labels = source.lfp["electrode"].values.astype(self.electrode.dtype)
        same = np.array_equal(labels, self.electrode) and np.array_equal(source.good, self.good)
        if same and np.isclose(source.rate, self.facts["sampling_rate"], rtol=1e-3):
            return
        raise InputError(
            file=source.session,
            field="field/electrode",
            found=f"{int(source.good.sum())} good of {len(labels)} electrodes at {source.rate:g} Hz",
            expected=f"the {int(self.good.sum())} good electrodes at "
            f"{self.facts['sampling_rate']:g} Hz that the model was fitted to",
            fix="Fit the model to this recording",
        )

    def _dataset(
        self, recording: xr.DataTree, source: FieldSource, mean: np.ndarray, deviation: np.ndarray
    ) -> xr.Dataset:
        model, dims = self.model, ("time", "latent")
        count, slow = len(model.angle), len(model.slow_damping)
        rate = self.facts["sampling_rate"]
        labels = [f"osc{k}_{part}" for k in range(count) for part in ("re", "im")]
        labels += [f"slow{j}" for j in range(slow)]
        loading = self._spread(model.complex_loading)
        variables = {
            "latent": (dims, mean.astype(np.float32), {"units": "1"}),
            "latent_sd": (dims, deviation.astype(np.float32), {"units": "1"}),
            "frequency": ("oscillator", model.angle * rate / (2 * np.pi), {"units": "Hz"}),
            "damping": ("oscillator", model.damping, {"units": "1"}),
            "bandwidth": ("oscillator", -np.log(model.damping) * rate / np.pi, {"units": "Hz"}),
            "loading_amplitude": (
                ("oscillator", "electrode"),
                np.abs(loading),
                {"units": "microvolt", "long_name": "standard deviation of the oscillation"},
            ),
            "loading_phase": (("oscillator", "electrode"), np.angle(loading), {"units": "radian"}),
            "slow_damping": ("slow", model.slow_damping, {"units": "1"}),
            "slow_loading": (
                ("slow", "electrode"),
                self._spread(model.slow_loading),
                {"units": "microvolt"},
            ),
            "noise_variance": ("electrode", self._spread(model.noise), {"units": "microvolt^2"}),
            "offset": ("electrode", self._spread(self.offset), {"units": "microvolt"}),
        }
        for name, values in self.shares.items():
            dim = "slow" if name.startswith("slow") else "oscillator"
            variables[name] = (dim, values, {"units": "1"})
        for name, curve in self.curves.items():
            variables[name] = ("epoch", curve, {"units": "nats per sample and channel"})
        coords = {
            "time": ("time", source.time(), {"units": "s"}),
            # Not named `latent`: xarray would mistake the variable of that name for the labels.
            "label": ("latent", np.array(labels)),
            "oscillator": np.arange(count),
            "slow": np.arange(slow),
        }
        field = recording["field"].to_dataset().coords
        names = ("electrode", "x", "y", "z", "group", "region")
        coords |= {name: field[name] for name in names if name in field}
        coords["good"] = ("electrode", self.good)
        return xr.Dataset(variables, coords=coords, attrs=dict(self.facts))

    def _spread(self, values: np.ndarray) -> np.ndarray:
        """Values of good electrodes at their place among all; NaN elsewhere."""
        full = np.full((*values.shape[:-1], len(self.good)), np.nan, dtype=values.dtype)
        full[..., self.good] = values
        return full

    def save(self, folder: Path) -> None:
        """Write ``oscillators.npz`` and ``oscillators.json`` into a folder."""
        arrays = {f"model_{name}": array for name, array in self.model.arrays().items()}
        arrays |= {f"curve_{name}": array for name, array in self.curves.items()}
        arrays |= {f"share_{name}": array for name, array in self.shares.items()}
        arrays |= {"offset": self.offset, "electrode": self.electrode, "good": self.good}
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
    data, offset, scale, fitted = _prepare(source, params)
    bounds = Bounds(
        angle=(2 * np.pi * params.band[0] / source.rate, 2 * np.pi * params.band[1] / source.rate),
        least_damping=float(np.exp(-np.pi * params.max_bandwidth / source.rate)),
    )
    found = spectrum(data[:fitted], source.rate, min(1.5 * params.band[1], source.rate / 2.2))
    peaks = spectral_peaks(found, params.band, params.peak_prominence)
    frequencies = _choose(peaks, found, source, params)
    start = first_guess(found, frequencies, params.slow_factors, source.rate, bounds)
    observations = Observations(data, fitted)
    digest = hashlib.sha256(json.dumps([params.model_dump(), seed, data.shape]).encode())
    digest.update(np.ascontiguousarray(data[:: max(1, len(data) // 1000)]).tobytes())
    trained = run_em(
        observations,
        start,
        bounds,
        Schedule(params.iterations, params.tolerance, params.patience),
        label=progress,
        checkpoint=checkpoint,
        fingerprint=digest.hexdigest(),
    )
    return _finish(trained, observations, source, offset, scale, params)


def _prepare(source: FieldSource, params: Params) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Standardised data (time, channel) float32, offsets and scales (microvolt), fitted samples."""
    data = np.concatenate(list(source.blocks(params.max_duration)))
    if len(data) < SHORTEST_SECONDS * source.rate:
        raise InputError(
            file=source.session,
            field="field/lfp",
            found=f"{len(data) / source.rate:.3g} s",
            expected=f"at least {SHORTEST_SECONDS:g} s",
            fix="Use a longer stretch of the recording, or raise `max_duration`",
        )
    fitted = int(round((1 - params.valid_fraction) * len(data)))
    offset = data[:fitted].mean(0, dtype=np.float64)
    data -= offset.astype(np.float32)
    scale = np.sqrt(np.square(data[:fitted], dtype=np.float64).mean(0))
    flat = ~(scale > 1e-6 * np.maximum(1e-3, np.abs(offset)))
    if flat.any():
        labels = source.lfp["electrode"].values[source.good][flat]
        raise InputError(
            file=source.session,
            field="field/lfp",
            found=f"a constant signal on electrode {', '.join(map(str, labels[:5]))}"
            + (f" and {len(labels) - 5} more" if len(labels) > 5 else ""),
            expected="a varying signal on every good electrode",
            fix="Add the electrode to `field.bad_electrodes` in the layout",
        )
    data /= scale.astype(np.float32)
    return data, offset, scale, fitted


def _choose(peaks: np.ndarray, found: object, source: FieldSource, params: Params) -> np.ndarray:
    """Starting frequencies (Hz), as many as there will be oscillators."""
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
    count = min(len(peaks), params.max_oscillators) if wanted is None else wanted
    channels = int(source.good.sum())
    if channels < count:
        raise InputError(
            file=source.session,
            field="field/good",
            found=f"{channels} good electrodes",
            expected=f"at least as many as oscillators ({count})",
            fix="Lower `oscillators`, or mend the electrodes marked bad in the layout",
        )
    chosen = peaks[:count]
    if len(chosen) < count:
        more = further_frequencies(found, params.band, chosen, count - len(chosen))
        chosen = np.concatenate([chosen, more])
    return np.sort(chosen)


def _finish(
    trained: Trained,
    observations: Observations,
    source: FieldSource,
    offset: np.ndarray,
    scale: np.ndarray,
    params: Params,
) -> Fit:
    standard = fix_gauge(trained.model)
    moments = observations.moments(standard)
    model = replace(
        standard, loading=standard.loading * scale[:, None], noise=standard.noise * scale**2
    )
    shift = float(np.log(scale).mean())
    samples, channels = observations.data.shape
    nats = moments.fitted - shift * observations.fitted * channels
    facts = {
        "sampling_rate": source.rate,
        "rate": params.rate,
        "highest": params.band[1],
        "log_likelihood": nats,
        "log_likelihood_validation": moments.validation
        - shift * (samples - observations.fitted) * channels,
        "bic": model.count * float(np.log(observations.fitted)) - 2 * nats,
        "best_epoch": trained.best,
        "fitted_seconds": observations.fitted / source.rate,
        "validation_seconds": (samples - observations.fitted) / source.rate,
    }
    return Fit(
        model=model,
        offset=offset,
        electrode=_labels(source.lfp["electrode"].values),
        good=source.good,
        curves={"train_loss": trained.train_loss + shift, "valid_loss": trained.valid_loss + shift},
        shares=_shares(standard, moments, scale),
        facts=facts,
    )


def _labels(electrode: np.ndarray) -> np.ndarray:
    return electrode.astype(str) if electrode.dtype.kind not in "iuU" else electrode


def _shares(model: Oscillators, moments: Moments, scale: np.ndarray) -> dict[str, np.ndarray]:
    """Shares of the field's variance (summed over electrodes, microvolt^2) by factor.

    ``variance_share`` is what the model attributes to an oscillator; ``residual_explained`` is the
    share of what all other factors leave unexplained that the smoothed oscillator explains.
    """
    power = scale**2
    total = float((moments.energy / moments.samples) @ power)
    pairs, slow = np.abs(model.complex_loading) ** 2 @ power, model.slow_loading**2 @ power

    def unexplained(loading: np.ndarray) -> float:
        crossed = 2 * np.einsum("ns,ns->n", loading, moments.crossed)
        fitted = np.einsum("ns,sr,nr->n", loading, moments.mean_squares, loading)
        return float((moments.energy - crossed + fitted) @ power)

    with_all = unexplained(model.loading)
    gained = []
    for k in range(len(model.angle)):
        without = model.loading.copy()
        without[:, 2 * k : 2 * k + 2] = 0
        gained.append(1 - with_all / unexplained(without))
    return {
        "variance_share": pairs / total,
        "residual_explained": np.array(gained),
        "slow_variance_share": slow / total,
    }
