"""Coupled oscillators of a continuous field: its windows, its gaps filled, its future foretold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from driftwave.errors import InputError
from driftwave.inference.coupled_setup import NAME, check_electrodes
from driftwave.inference.field import FieldSource, field_source
from driftwave.inference.field_prediction import read_stretch, split_samples, test_predictions
from driftwave.inference.sequential_data import Observed

if TYPE_CHECKING:
    from driftwave.inference.coupled_network import CoupledNetwork
    from driftwave.models.coupled_oscillators import Fit, Params, Resolved

CHUNK = 256
LEAST_TRAINING, LEAST_BINS = 4, 8


def source_of(recording: xr.DataTree, params: Params) -> FieldSource:
    """The recording's field at about the rate asked for."""
    return field_source(recording, params.rate, NAME, passband=max(params.frequency, default=0.0))


def observe_field(recording: xr.DataTree, params: Params) -> Observed:
    """Windows of a continuous field, split by time as :func:`split_samples` does.

    Training windows overlap by half, the others do not; none crosses from one split to another.
    The last bins of each, a share of ``ahead``, are for forecasts.

    Raises
    ------
    InputError
        As :func:`driftwave.inference.field.field_source`; a field too short for windows; a
        constant electrode.
    """
    source = source_of(recording, params)
    bins = round(params.window * source.rate)
    edges = [0, *split_samples(source.samples), source.samples]
    strides = (max(1, bins // 2), max(1, bins), max(1, bins))
    starts = [
        np.arange(low, high - bins + 1, stride)
        for low, high, stride in zip(edges, edges[1:], strides, strict=False)
    ]
    if bins < LEAST_BINS or len(starts[0]) < LEAST_TRAINING or not len(starts[1]):
        raise InputError(
            file=source.session,
            field="field/lfp",
            found=f"{source.samples / source.rate:.3g} s, windows of {bins} samples",
            expected=f"windows of at least {LEAST_BINS} samples, {LEAST_TRAINING} of them in the "
            "training stretch and one in the validation stretch",
            fix="Use a longer stretch of the recording, or another `window` or `rate`",
        )
    data = read_stretch(source, 0, source.samples)
    mean, sd = _moments(data[: edges[1]], source)
    standard = ((data - mean) / sd).astype(np.float32)
    kind = np.repeat([0, 1, 2], [len(part) for part in starts])
    index = np.concatenate(starts)[:, None] + np.arange(bins)
    masks = (kind == 0, kind == 1, kind == 2)
    seen = bins - round(params.ahead * bins)
    hidden = np.zeros(0, bool)
    return Observed(None, standard[index], hidden, seen, *masks, 1 / source.rate, mean, sd)


def _moments(data: np.ndarray, source: FieldSource) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (electrode,) of what is there of data (time, electrode)."""
    there = np.isfinite(data)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, data, 0.0).sum(0, dtype=float) / count
    sd = np.sqrt(np.square(np.where(there, data - mean, 0.0)).sum(0) / count)
    flat = sd <= 1e-6 * np.maximum(1.0, np.abs(mean))
    if flat.any():
        label = source.lfp["electrode"].values[source.good][flat][0]
        raise InputError(
            file=source.session,
            field="field/lfp",
            found=f"{int(flat.sum())} electrodes constant or missing throughout the training "
            f"stretch, {label} the first",
            expected="a varying signal on every good electrode",
            fix="Add the electrode to `field.bad_electrodes` in the layout",
        )
    return mean, sd


@contextlib.contextmanager
def _bins(network: CoupledNetwork, bins: int) -> Iterator[None]:
    """Let the network decode another number of bins."""
    sizes = network.sizes
    network.sizes = sizes._replace(bins=bins)
    try:
        yield
    finally:
        network.sizes = sizes


class FieldPredictions:
    """What a fit to a field predicts: see :mod:`driftwave.inference.field_prediction`."""

    params: Resolved
    network: Any
    sizes: Any
    device: str

    def mean_path(self, windows: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
        """States (window, bin, width) and expected field (window, bin, electrode), microvolt.

        The path of the posterior's means: no noise.

        Parameters
        ----------
        windows : ndarray (window, seen bin, electrode)
            Microvolt; NaN where hidden or missing.
        bins : int
            To be decoded.
        """
        mean, sd = (np.array(x) for x in (self.params.field_mean, self.params.field_sd))
        standard = ((windows - mean) / sd).astype(np.float32)
        there = np.isfinite(standard)
        visible = np.concatenate([np.where(there, standard, 0), there.astype(np.float32)], -1)
        self.network.eval()
        parts = []
        with torch.no_grad(), _bins(self.network, bins):
            for chunk in torch.from_numpy(visible).split(CHUNK):
                encoded = self.network.encode(chunk.clone().to(self.device))
                still = torch.zeros(self.network.noise_shape(len(chunk)), device=self.device)
                found = self.network.parts(self.network.decode(encoded, still).latent)
                parts.append((found.state.cpu().numpy(), found.field.cpu().numpy()))
        state, field = (np.concatenate(part) for part in zip(*parts, strict=True))
        return state, field * sd + mean

    def fill(self, data: np.ndarray) -> np.ndarray:
        """Every electrode given all that is there, from windows of which the middle half is kept.

        Parameters
        ----------
        data : ndarray (time, electrode)
            Microvolt at the fit's rate; NaN where hidden or missing.

        Returns
        -------
        ndarray (time, electrode)
            Microvolt.
        """
        bins = self.sizes.bins
        half, quarter = max(1, bins // 2), bins // 4
        samples = len(data)
        padded = np.full((max(samples, bins), data.shape[1]), np.nan)
        padded[:samples] = data
        last = len(padded) - bins
        starts = np.unique(np.append(np.arange(0, last + 1, half), last))
        windows = padded[starts[:, None] + np.arange(bins)]
        _, field = self.mean_path(windows, bins)
        out = np.empty_like(padded)
        for start, part in zip(starts, field, strict=True):
            from_ = 0 if start == 0 else quarter
            out[start + from_ : start + bins] = part[from_:]
        return out[:samples]

    def forecast(self, data: np.ndarray, steps: Sequence[int]) -> np.ndarray:
        """The expected field ``steps`` samples after what is seen, at its own time.

        Parameters
        ----------
        data : ndarray (time, electrode)
            Microvolt at the fit's rate; NaN where missing.
        steps : sequence of int
            Samples.

        Returns
        -------
        ndarray (step, time, electrode)
            Microvolt; NaN for the first ``step`` samples.
        """
        seen, samples = self.sizes.seen_bins, len(data)
        before = np.full((seen - 1, data.shape[1]), np.nan)
        padded = np.concatenate([before, data])
        out = np.full((len(steps), samples, data.shape[1]), np.nan)
        last = max(steps)
        for first in range(0, samples, CHUNK):
            now = np.arange(first, min(first + CHUNK, samples))
            windows = padded[now[:, None] + np.arange(seen)]
            _, field = self.mean_path(windows, seen + last)
            for row, step in enumerate(steps):
                target = now + step
                kept = target < samples
                out[row, target[kept]] = field[kept, seen - 1 + step]
        return out


def field_results(fit: Fit, recording: xr.DataTree) -> xr.Dataset:
    """Decoded field of consecutive windows of the recording, couplings, and test predictions.

    Returns
    -------
    Dataset
        ``latent`` (trial, time, latent) and what :meth:`Fit.with_field` adds, a trial being a
        window of which ``trial_start`` (s, session clock) is the first sample; what
        :func:`driftwave.inference.field_prediction.test_predictions` gives; training curves.
    """
    source = source_of(recording, fit.params)
    check_electrodes(recording, int(source.good.sum()), len(fit.params.field_sd))
    if abs(source.rate * fit.params.bin_width - 1) > 1e-6:
        raise InputError(
            file=source.session,
            field="field/sampling_rate",
            found=f"{source.rate:g} Hz after decimation",
            expected=f"{1 / fit.params.bin_width:g} Hz, as in the fit",
            fix="Infer on the recording the model was fitted to, or fit it again",
        )
    bins = fit.sizes.bins
    data = read_stretch(source, 0, source.samples)
    starts = np.arange(0, len(data) - bins + 1, bins)
    state, _ = fit.mean_path(data[starts[:, None] + np.arange(bins)], bins)
    history = fit.history
    dataset = xr.Dataset(
        {
            "latent": (("trial", "time", "latent"), state, {"units": "arbitrary"}),
            "trial_start": ("trial", source.time()[starts], {"units": "s"}),
        },
        coords={
            "trial": np.arange(len(starts)),
            "time": ("time", np.arange(bins) / source.rate, {"units": "s"}),
            "epoch": np.arange(1, len(history.train_loss) + 1),
        },
        attrs={"sampling_rate": source.rate, "bin_width": 1 / source.rate},
    )
    for name in ("train_loss", "valid_loss"):
        curve = np.array(getattr(history, name))
        dataset[name] = ("epoch", curve, {"units": "nats per bin and electrode"})
    dataset.attrs.update(
        best_epoch=history.best_epoch + 1,
        training_ended=history.ended,
        step_backs=history.step_backs,
        training_notes="; ".join(history.notes),
    )
    dataset = fit.with_field(dataset, state, dataset["time"].values)
    predicted = test_predictions(source, fit)
    return dataset.merge(predicted).assign_attrs(dataset.attrs | predicted.attrs)
