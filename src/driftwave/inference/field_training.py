"""What baseline models of a field share: their data, standardised, and their labelled results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.inference.field import FieldSource
from driftwave.inference.field_prediction import read_stretch, split_samples

SHORTEST_SECONDS = 2.0


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each good electrode over the training stretch, microvolt."""

    mean: np.ndarray
    deviation: np.ndarray

    def standardise(self, data: np.ndarray) -> np.ndarray:
        """Data (time, electrode) in standard deviations, float32; NaN stays."""
        mean, deviation = self.mean.astype(np.float32), self.deviation.astype(np.float32)
        return (data.astype(np.float32, copy=False) - mean) / deviation

    def restore(self, data: np.ndarray) -> np.ndarray:
        """Standard deviations (..., electrode) in microvolt."""
        return data * self.deviation.astype(data.dtype) + self.mean.astype(data.dtype)


@dataclass(frozen=True)
class Electrodes:
    """The electrodes a model was fitted to and the rate of its samples.

    Attributes
    ----------
    label : ndarray (electrode,)
        Of all electrodes of the recording.
    good : ndarray of bool (electrode,)
    rate : float
        Hz.
    """

    label: np.ndarray
    good: np.ndarray
    rate: float

    @classmethod
    def of(cls, source: FieldSource) -> Electrodes:
        """Those of a source."""
        label = source.lfp["electrode"].values
        label = label if label.dtype.kind in "iuU" else label.astype(str)
        return cls(label, source.good, source.rate)

    def check(self, source: FieldSource) -> None:
        """Refuse a recording of other electrodes or another rate."""
        labels = source.lfp["electrode"].values.astype(self.label.dtype)
        same = np.array_equal(labels, self.label) and np.array_equal(source.good, self.good)
        if same and np.isclose(source.rate, self.rate, rtol=1e-3):
            return
        raise InputError(
            file=source.session,
            field="field/electrode",
            found=f"{int(source.good.sum())} good of {len(labels)} electrodes, {source.rate:g} Hz",
            expected=f"the {int(self.good.sum())} good electrodes at {self.rate:g} Hz that the "
            "model was fitted to",
            fix="Fit the model to this recording",
        )


@dataclass(frozen=True)
class TrainingData:
    """Training and validation stretch of a field.

    Attributes
    ----------
    train, valid : ndarray (time, electrode)
        Standardised, float32; NaN where missing.
    scale : Scale
    """

    train: np.ndarray
    valid: np.ndarray
    scale: Scale


def training_data(source: FieldSource, max_duration: float) -> TrainingData:
    """Read the stretches a fit may use; the test stretch is left alone.

    Parameters
    ----------
    source : FieldSource
    max_duration : float
        s; of a longer recording, the last part of the training stretch and the first part of the
        validation stretch, in the same proportion and adjoining.

    Raises
    ------
    InputError
        Too short; a constant signal on a good electrode; no sample with all of them recorded.
    """
    border, end = split_samples(source.samples)
    share = min(1.0, max_duration * source.rate / max(end, 1))
    start = border - round(share * border)
    stop = border + round(share * (end - border))
    train = read_stretch(source, start, border)
    valid = read_stretch(source, border, stop)
    if len(train) < SHORTEST_SECONDS * source.rate or not len(valid):
        raise InputError(
            file=source.session,
            field="field/lfp",
            found=f"{source.samples / source.rate:.3g} s",
            expected=f"at least {SHORTEST_SECONDS / 0.7:.3g} s",
            fix="Use a longer stretch of the recording, or leave this model out for the session",
        )
    _refuse_empty(train, valid, source)
    mean = np.asarray(np.nanmean(train, axis=0, dtype=np.float64))
    deviation = np.asarray(np.nanstd(train, axis=0, dtype=np.float64))
    _refuse_constant(deviation, mean, source)
    scale = Scale(mean, deviation)
    return TrainingData(scale.standardise(train), scale.standardise(valid), scale)


def _refuse_empty(train: np.ndarray, valid: np.ndarray, source: FieldSource) -> None:
    for name, part in (("training", train), ("validation", valid)):
        whole = np.isfinite(part).all(1)
        if whole.sum() < 0.1 * len(part):
            worst = int(np.argmin(np.isfinite(part).sum(0)))
            label = source.lfp["electrode"].values[source.good][worst]
            raise InputError(
                file=source.session,
                field="field/lfp",
                found=f"all good electrodes recorded at {int(whole.sum())} of {len(part)} samples "
                f"of the {name} stretch; electrode {label} misses most",
                expected="at a tenth of the samples or more",
                fix="Add the electrode to `field.bad_electrodes` in the layout",
            )


def _refuse_constant(deviation: np.ndarray, mean: np.ndarray, source: FieldSource) -> None:
    flat = ~(deviation > 1e-6 * np.maximum(1e-3, np.abs(mean)))
    if flat.any():
        labels = [str(label) for label in source.lfp["electrode"].values[source.good][flat]]
        raise InputError(
            file=source.session,
            field="field/lfp",
            found=f"a constant signal on electrode {', '.join(labels[:5])}"
            + (f" and {len(labels) - 5} more" if len(labels) > 5 else ""),
            expected="a varying signal on every good electrode",
            fix="Add the electrode to `field.bad_electrodes` in the layout",
        )


def standard_blocks(source: FieldSource, scale: Scale, before: int) -> Iterator[np.ndarray]:
    """The whole field block by block, each with the ``before`` samples that precede it.

    Standardised, float32; missing samples, and those before the first one, are 0 (the mean).
    """
    context = np.zeros((before, len(scale.mean)), dtype=np.float32)
    for block in source.blocks():
        part = np.nan_to_num(scale.standardise(block), copy=False)
        joined = np.concatenate([context, part])
        yield joined
        context = joined[len(joined) - before :]


def turned(loading: np.ndarray) -> np.ndarray:
    """Phase factor e^{-i phi} (component,) that fixes the free phase of loadings.

    The sum of loadings weighted by their amplitudes becomes real and positive; where it nearly
    vanishes, the strongest electrode's loading does.

    Parameters
    ----------
    loading : ndarray (component, electrode)
        Complex.
    """
    amplitude = np.abs(loading)
    reference = np.sum(amplitude * loading, 1)
    weak = np.abs(reference) < 0.1 * np.sum(amplitude**2, 1)
    strongest = np.take_along_axis(loading, amplitude.argmax(1)[:, None], 1)[:, 0]
    return np.exp(-1j * np.angle(np.where(weak, strongest, reference)))


def oscillations_dataset(
    source: FieldSource,
    scale: Scale,
    *,
    frequency: np.ndarray,
    damping: np.ndarray,
    loading: np.ndarray,
    latent: np.ndarray,
    labels: list[str],
) -> xr.Dataset:
    """Components of a field, in the form that the oscillators' results have.

    Parameters
    ----------
    source : FieldSource
    scale : Scale
    frequency, damping : ndarray (oscillator,)
        Hz; factor by which the component shrinks in one sample.
    loading : ndarray (oscillator, good electrode)
        Complex, microvolt.
    latent : ndarray (time, latent)
    labels : list of str
        Of the latents.

    Returns
    -------
    Dataset
        Latents are functions of the data, so that ``latent_sd`` is 0. ``variance_share`` is a
        component's share of the variance of the training stretch, summed over electrodes.
    """
    good = source.good
    full = np.full((len(loading), len(good)), np.nan, dtype=complex)
    full[:, good] = loading
    maps, dims = ("oscillator", "electrode"), ("time", "latent")
    latent = latent.astype(np.float32)
    share = np.sum(np.abs(loading) ** 2, 1) / np.sum(scale.deviation**2)
    dataset = xr.Dataset(
        {
            "frequency": ("oscillator", frequency, {"units": "Hz"}),
            "damping": ("oscillator", damping, {"units": "1"}),
            "loading_amplitude": (maps, np.abs(full), {"units": "microvolt"}),
            "loading_phase": (maps, np.angle(full), {"units": "radian"}),
            "variance_share": ("oscillator", share, {"units": "1"}),
            "latent": (dims, latent, {"units": "1"}),
            "latent_sd": (dims, np.zeros_like(latent), {"units": "1"}),
        },
        coords={
            "label": ("latent", np.array(labels)),
            "oscillator": np.arange(len(loading)),
            "time": ("time", source.time(), {"units": "s"}),
            "good": ("electrode", good),
        },
    )
    names = ("electrode", "x", "y", "z", "group", "region")
    coords = source.lfp.coords
    dataset = dataset.assign_coords({n: coords[n] for n in names if n in coords})
    return dataset.assign_attrs(sampling_rate=source.rate)


def save_arrays(folder: Path, name: str, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write ``<name>.npz`` and ``<name>.json`` into a folder."""
    np.savez(folder / f"{name}.npz", **arrays)
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1))


def load_arrays(folder: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    return arrays, json.loads((folder / f"{name}.json").read_text())
