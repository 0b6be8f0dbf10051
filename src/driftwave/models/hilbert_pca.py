"""Complex principal components of the field's analytic signal, band by band.

A baseline of models of the field, and what is usually done to find waves in it: band-pass filter,
Hilbert transform, complex PCA (Barnett 1983, Mon Weather Rev 111:756). The band is cut halfway
between spectral peaks; components per band are chosen by how well they fill hidden electrodes of
the validation stretch. Hidden electrodes are filled by complex least squares on those seen.
Forecasts take each component as if the data ended at the present sample, and turn it at its mean
frequency, with a gain, a decay and a weight of its band fitted to the training stretch. Outside the
band the model expects the mean. The test stretch is never read by the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator

from driftwave.inference.analytic import (
    Components,
    analytic,
    analytic_taps,
    band_edges,
    covariance_of,
    hidden_error,
    principal_components,
    rotation,
    weighted,
)
from driftwave.inference.field import FieldSource, field_source
from driftwave.inference.field_prediction import (
    HORIZONS,
    electrode_folds,
    field_positions,
    test_predictions,
)
from driftwave.inference.field_training import (
    Electrodes,
    Scale,
    TrainingData,
    load_arrays,
    oscillations_dataset,
    save_arrays,
    standard_blocks,
    training_data,
    turned,
)
from driftwave.inference.oscillator_start import spectral_peaks, spectrum
from driftwave.progress import Progress

PAPER = "Barnett 1983, Monthly Weather Review 111:756"
OBSERVES = "field"
GIVES_WAVES = "loadings"
QUICK = {"components": [1, 2]}
FOLDS = 5
NEAREST = 3.0  # Hz between neighbouring peaks
_PARTS = tuple(part.name for part in fields(Components))
WEIGHED = 60.0  # s on which the bands' weights are fitted
FORETOLD = 0.1  # s over which a component's decay is fitted

Frequency = Annotated[float, Field(gt=0)]


class Params(BaseModel):
    """Settings of the complex principal components."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    components: tuple[int, ...] = Field(
        (1, 2, 3, 4, 6, 8, 12, 16),
        min_length=1,
        description="Candidate numbers of components per band; those not below the number of "
        "electrodes are left out.",
    )
    max_bands: int = Field(6, ge=1, description="At most so many bands, one per spectral peak.")
    peak_prominence: float = Field(
        1.0,
        gt=0,
        description="A spectral peak stands out from the flattened mean spectrum by this much, dB.",
    )
    band: tuple[Frequency, Frequency] = Field(
        (3.0, 45.0), description="Frequencies that are modelled, Hz."
    )
    rate: float = Field(
        250.0, gt=0, description="The field is low-passed and decimated to about this rate, Hz."
    )
    max_duration: float = Field(
        600.0,
        gt=0,
        description="At most so much is read to train and to choose, s, around where the "
        "validation stretch begins.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Params:
        if self.band[1] <= self.band[0]:
            raise ValueError("band must end above its start")
        return self


@dataclass(frozen=True)
class Fit:
    """Components of every band.

    Attributes
    ----------
    bands : list of Components
        Of the standardised good electrodes, ascending in frequency.
    scale : Scale
    electrodes : Electrodes
    edges : ndarray (band + 1,)
        Hz.
    facts : dict
        Requested rate and highest frequency (Hz).
    """

    bands: list[Components]
    scale: Scale
    electrodes: Electrodes
    edges: np.ndarray
    facts: dict[str, Any]

    def fill(self, data: np.ndarray) -> np.ndarray:
        """Every electrode given those recorded; recorded samples as they are.

        Missing samples of electrodes that are recorded at other times are 0 to the filters.

        Parameters
        ----------
        data : ndarray (time, electrode)
            Microvolt; NaN where hidden or missing.
        """
        standard = self.scale.standardise(data)
        there = np.isfinite(standard)
        known = np.where(there, standard, np.float32(0))
        expected = np.zeros_like(known)
        patterns, which = np.unique(np.packbits(there, axis=1), axis=0, return_inverse=True)
        which = which.ravel()
        first = [int(np.argmax(which == place)) for place in range(len(patterns))]
        for band in self.bands:
            signal = analytic(known, band.taps)
            for place, row in enumerate(first):
                seen = there[row]
                if seen.all() or not seen.any():
                    continue
                rows = which == place
                part = signal[rows][:, seen] @ band.reader(seen).T @ band.pattern.T
                expected[rows] += part.real.astype(np.float32)
        return self.scale.restore(np.where(there, standard, expected))

    def forecast(self, data: np.ndarray, steps: Sequence[int]) -> np.ndarray:
        """Expectation of each sample (step, time, electrode) given those ``step`` before it."""
        known = np.nan_to_num(self.scale.standardise(data))
        found = np.full((len(steps), *data.shape), np.nan, dtype=np.float32)
        for place, step in enumerate(steps):
            found[place, step:] = 0
        for band in self.bands:
            course = band.course(known)
            for place, step in enumerate(steps):
                if step < len(data):
                    found[place, step:] += band.ahead(course[: len(data) - step], step)
        return self.scale.restore(found)

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Components of the whole recording and predictions of its test stretch."""
        source = field_source(
            recording, self.facts["rate"], "hilbert_pca", passband=self.facts["highest"]
        )
        self.electrodes.check(source)
        pole = np.concatenate([band.pole for band in self.bands])
        unit = np.concatenate([np.sqrt(band.power / 2) for band in self.bands])
        loading = np.concatenate([band.pattern.T for band in self.bands]) * unit[:, None]
        loading = loading * self.scale.deviation
        phase = turned(loading)
        order = np.argsort(np.angle(pole), kind="stable")
        latent = (self._course(source) / (unit * phase))[:, order]
        dataset = oscillations_dataset(
            source,
            self.scale,
            frequency=(np.angle(pole) * source.rate / (2 * np.pi))[order],
            damping=np.abs(pole)[order],
            loading=(loading * phase[:, None])[order],
            latent=np.stack([latent.real, latent.imag], -1).reshape(len(latent), -1),
            labels=[f"osc{k}_{part}" for k in range(len(order)) for part in ("re", "im")],
        )
        dataset = dataset.merge(test_predictions(source, self))
        dataset["band_low"] = ("band", self.edges[:-1], {"units": "Hz"})
        dataset["band_high"] = ("band", self.edges[1:], {"units": "Hz"})
        counts = [len(band.pole) for band in self.bands]
        dataset["band_components"] = ("band", np.array(counts), {"units": "1"})
        return dataset.assign_attrs(sampling_rate=source.rate)

    def _course(self, source: FieldSource) -> np.ndarray:
        """All components (time, component) of the whole recording, block by block."""
        half = len(self.bands[0].taps) // 2
        count = sum(len(band.pole) for band in self.bands)
        course = np.zeros((source.samples + 2 * half, count), dtype=np.complex64)
        start = 0
        for block in standard_blocks(source, self.scale, 0):
            # A block's share reaches half a filter beyond both its ends.
            margin = np.zeros((half, block.shape[1]), dtype=block.dtype)
            padded = np.concatenate([margin, block, margin])
            parts = [analytic(padded, band.taps) @ band.pattern.conj() for band in self.bands]
            course[start : start + len(padded)] += np.concatenate(parts, 1)
            start += len(block)
        return course[half : half + source.samples]

    def save(self, folder: Path) -> None:
        """Write ``hilbert_pca.npz`` and ``hilbert_pca.json`` into a folder."""
        arrays: dict[str, Any] = {f"scale_{k}": v for k, v in vars(self.scale).items()}
        arrays |= {"label": self.electrodes.label, "good": self.electrodes.good}
        arrays["edges"] = self.edges
        for k, band in enumerate(self.bands):
            arrays |= {f"band{k}_{name}": np.asarray(v) for name, v in vars(band).items()}
        save_arrays(folder, "hilbert_pca", arrays, self.facts)

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote."""
        arrays, facts = load_arrays(folder, "hilbert_pca")
        bands = []
        for k in range(len(arrays["edges"]) - 1):
            parts: dict[str, Any] = {n: arrays[f"band{k}_{n}"] for n in _PARTS}
            parts |= {n: float(parts[n]) for n in ("noise", "weight")}
            bands.append(Components(**parts))
        return cls(
            bands=bands,
            scale=Scale(arrays["scale_mean"], arrays["scale_deviation"]),
            electrodes=Electrodes(arrays["label"], arrays["good"], facts["sampling_rate"]),
            edges=arrays["edges"],
            facts=facts,
        )


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    device: str = "cpu",  # noqa: ARG001
    progress: str | None = None,
    checkpoint: Path | None = None,  # noqa: ARG001
) -> Fit:
    """Find complex principal components of the training stretch in each band.

    Parameters
    ----------
    recording : DataTree
        With a group ``field``.
    params : Params
    seed : int
        Of the groups of electrodes that are hidden in turn to choose the number of components.
    device, checkpoint
        Not used.
    progress : str, optional
        Label of the progress bar.

    Raises
    ------
    InputError
        No field; constant signals or missing samples throughout; too short; a band the rate
        cannot carry.
    """
    source = field_source(recording, params.rate, "hilbert_pca", passband=params.band[1])
    data = training_data(source, params.max_duration)
    train, valid = np.nan_to_num(data.train), np.nan_to_num(data.valid)
    data = TrainingData(train, valid, data.scale)
    edges = band_edges(_peaks(train, source.rate, params), params.band)
    fold = electrode_folds(field_positions(source), train.shape[1], FOLDS, seed)
    bands = []
    with Progress(len(edges) - 1, progress) as bar:
        for low, high in pairwise(edges):
            taps = analytic_taps(low, high, source.rate)
            bands.append(_components(data, taps, fold, source.rate, params))
            bar.step(components=len(bands[-1].pole))
    part = train[: round(WEIGHED * source.rate)]
    steps = sorted({max(1, round(h * source.rate)) for h in HORIZONS})
    return Fit(
        bands=weighted(bands, part, [h for h in steps if h < len(part)]),
        scale=data.scale,
        electrodes=Electrodes.of(source),
        edges=edges,
        facts={
            "rate": params.rate,
            "sampling_rate": source.rate,
            "highest": params.band[1],
        },
    )


def _peaks(train: np.ndarray, rate: float, params: Params) -> np.ndarray:
    """Frequencies (Hz) of the strongest peaks that are not too close to a stronger one."""
    found = spectrum(train, rate, min(1.5 * params.band[1], rate / 2.2))
    peaks: list[float] = []
    for peak in spectral_peaks(found, params.band, params.peak_prominence):
        if all(abs(peak - other) >= NEAREST for other in peaks):
            peaks.append(float(peak))
    return np.array(peaks[: params.max_bands])


def _components(
    data: TrainingData, taps: np.ndarray, fold: np.ndarray, rate: float, params: Params
) -> Components:
    signal = analytic(data.train, taps)
    power, pattern = principal_components(covariance_of(signal))
    later = covariance_of(analytic(data.valid, taps))
    size = len(power)
    counts = [n for n in sorted(params.components) if n < size] or [1]

    def noise(count: int) -> float:
        return float(power[count:].mean()) if count < size else 1e-6 * float(power.mean())

    errors = [hidden_error(pattern[:, :n], power[:n], noise(n), later, fold) for n in counts]
    best = counts[int(np.argmin(errors))]
    causal = analytic(data.train, taps, causal=True) @ pattern[:, :best].conj()
    course = signal @ pattern[:, :best].conj()
    lags = max(1, round(FORETOLD * rate))
    turns = [rotation(course[:, k], causal[:, k], lags) for k in range(best)]
    return Components(
        taps=taps,
        pattern=pattern[:, :best],
        power=power[:best],
        noise=noise(best),
        gain=np.array([gain for gain, _ in turns]),
        pole=np.array([pole for _, pole in turns]),
    )
