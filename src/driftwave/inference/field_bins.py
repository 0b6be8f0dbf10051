"""The field in the bins of the spikes' trials: low-passed, sampled at bin centres, standardised.

Each trial is filtered on its own, extended at both ends by reflection: no bin holds a sample of
another trial, and no seen bin one of a forward bin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.inference.field import BLOCK_SECONDS, FieldSource, field_source
from driftwave.recording import forward_bins, require, trial_mask

HIGHEST = 0.45  # edge of the low-pass, times the bin rate
HALF_WIDTH = 10  # half the length of its kernel, bins


@dataclass(frozen=True)
class FieldBins:
    """The field of every trial, NaN where it is not known and on bad electrodes.

    Attributes
    ----------
    values : ndarray (trial, bin, electrode)
        (microvolt - offset) / scale at bin centres, of whole trials: what a fit may be trained on.
    visible : ndarray (trial, seen bin, electrode)
        The same computed from the seen part of each trial alone: what a model may see at
        evaluation.
    offset, scale : ndarray (electrode,)
        Mean and standard deviation over the training trials, microvolt; NaN on bad electrodes.
    good : ndarray of bool (electrode,)
    electrode : ndarray (electrode,)
        Labels.
    bin_width : float
        s.
    spacing : float
        Of the low-pass: the bin width, or the field's sampling interval where that is longer, s.
    """

    values: np.ndarray
    visible: np.ndarray
    offset: np.ndarray
    scale: np.ndarray
    good: np.ndarray
    electrode: np.ndarray
    bin_width: float
    spacing: float

    def gain(self, frequency: np.ndarray) -> np.ndarray:
        """Of the low-pass at frequencies (Hz); near 1 below 0.35 / bin width, 1/2 at its edge."""
        time = np.arange(-HALF_WIDTH * 50, HALF_WIDTH * 50 + 1) / 50
        weight = _kernel(time)
        turn = np.cos(2 * np.pi * np.multiply.outer(frequency, time * self.spacing))
        return turn @ weight / weight.sum()


def field_in_bins(
    recording: xr.DataTree,
    needed_by: str,
    *,
    highest: float | None = None,
    standard: tuple[np.ndarray, np.ndarray] | None = None,
) -> FieldBins:
    """Low-pass the field below the bins' Nyquist frequency, sample it at bin centres, standardise.

    The kernel is a sinc with its edge at 0.45 / bin width under a Hann window 20 bins long
    (zero-phase; evaluated at the samples' own times, so that bin centres may fall between them).

    Parameters
    ----------
    recording : DataTree
        With groups ``spikes`` and ``field`` on one clock; the field may be lazy.
    needed_by : str
        Who asks, for error messages.
    highest : float, optional
        Highest frequency of interest, Hz.
    standard : tuple of ndarray (electrode,), optional
        Offset and scale (microvolt) of a fit, in place of this recording's own.

    Raises
    ------
    InputError
        No spikes or field; ``highest`` above 0.45 / bin width; no training trial covered by the
        field; a good electrode that is constant or missing in all training trials.
    """
    spikes = require(recording, "spikes", needed_by)
    field = require(recording, "field", needed_by)
    width = float(spikes.attrs["bin_width"])
    rate = float(field.attrs["sampling_rate"])
    source = field_source(recording, rate, needed_by, passband=0.0)
    _check_band(source.session, width, rate, highest, needed_by)
    bins, seen = spikes.sizes["time"], spikes.sizes["time"] - forward_bins(recording)
    begin = spikes["trial_start"].values.astype(float)
    shape = (len(begin), bins, len(source.good))
    values, visible = np.full(shape, np.nan), np.full((shape[0], seen, shape[2]), np.nan)
    for trial, time, samples in _trials(source, begin, bins * width):
        values[trial] = _at_centres(time, samples, begin[trial], width, bins, 1 / rate)
        if seen == bins:
            visible[trial] = values[trial]
            continue
        kept = time < begin[trial] + seen * width - 1e-9
        visible[trial] = _at_centres(time[kept], samples[kept], begin[trial], width, seen, 1 / rate)
    train = trial_mask(recording, "train")
    offset, scale = _moments(values[train], source) if standard is None else standard
    return FieldBins(
        values=((values - offset) / scale).astype(np.float32),
        visible=((visible - offset) / scale).astype(np.float32),
        offset=offset,
        scale=scale,
        good=source.good,
        electrode=source.lfp["electrode"].values,
        bin_width=width,
        spacing=max(width, 1 / rate),
    )


def _check_band(
    session: str, width: float, rate: float, highest: float | None, needed_by: str
) -> None:
    limit = HIGHEST / max(width, 1 / rate)
    if highest is None or highest <= limit * (1 + 1e-9):
        return
    raise InputError(
        file=session,
        field="spikes/bin_width" if width * rate > 1 else "field/sampling_rate",
        found=f"bins of {width:g} s and a field at {rate:g} Hz, which carry {limit:.3g} Hz",
        expected=f"bins that carry {highest:g} Hz, the upper edge of {needed_by}'s band",
        fix="Lower the upper edge of `band`, or set a smaller `bin_width` in the layout",
    )


def _trials(
    source: FieldSource, begin: np.ndarray, length: float
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each trial covered at least in part, with its samples' times (s) and values (microvolt).

    Trials that lie close are read together, so that a stored chunk is decompressed about once.
    """
    clock = source.lfp["time"].values.astype(np.float64)
    first = np.searchsorted(clock, begin - 1e-9)
    last = np.searchsorted(clock, begin + length - 1e-9)
    longest = max(1, round(BLOCK_SECONDS * source.rate))
    order = np.argsort(begin, kind="stable")
    order = order[last[order] > first[order]]
    position = 0
    while position < len(order):
        start = first[order[position]]
        stop = start
        group: list[int] = []
        while position < len(order):
            trial = order[position]
            if group and last[trial] - start > longest:
                break
            stop = max(stop, last[trial])
            group.append(int(trial))
            position += 1
        block = np.asarray(source.lfp.isel(time=slice(start, stop)).values, dtype=np.float32)
        block[:, ~source.good] = np.nan
        for trial in group:
            own = slice(first[trial], last[trial])
            yield trial, clock[own], block[own.start - start : own.stop - start]


def _kernel(lag: np.ndarray) -> np.ndarray:
    """Windowed sinc at a lag in bins."""
    window = np.cos(0.5 * np.pi * np.clip(lag / HALF_WIDTH, -1, 1)) ** 2
    return np.sinc(2 * HIGHEST * lag) * window


def _at_centres(
    time: np.ndarray, samples: np.ndarray, begin: float, width: float, bins: int, interval: float
) -> np.ndarray:
    """Low-passed values (bin, electrode) at bin centres; NaN near NaN and where nothing is."""
    result = np.full((bins, samples.shape[1]), np.nan)
    centre = begin + (np.arange(bins) + 0.5) * width
    if len(time) < 2:
        return result
    spacing = max(width, interval)
    reach = int(np.ceil(HALF_WIDTH * spacing / interval)) + 1
    place = (centre - time[0]) / interval
    near = np.rint(place).astype(int)[:, None] + np.arange(-reach, reach + 1)
    weight = _kernel((near - place[:, None]) * interval / spacing)
    weight /= weight.sum(1, keepdims=True)
    # Reflection about the first and last sample.
    period = 2 * (len(time) - 1)
    index = near % period
    index = np.minimum(index, period - index)
    matrix = np.zeros((bins, len(time)))
    np.add.at(matrix, (np.arange(bins)[:, None], index), weight)
    missing = ~np.isfinite(samples)
    blurred = matrix @ np.where(missing, 0.0, samples)
    if missing.any():
        # What carries less than a thousandth of a bin's weight does not make it unknown.
        blurred[np.abs(matrix) @ missing > 1e-3] = np.nan
    # A bin belongs to the field only where samples lie on both sides of its centre, or nearly so.
    inside = (centre >= time[0] - 0.5 * spacing) & (centre <= time[-1] + 0.5 * spacing)
    result[inside] = blurred[inside]
    return result


def _moments(values: np.ndarray, source: FieldSource) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (electrode,) over trials and bins, NaN on bad electrodes."""
    known = np.isfinite(values)
    if not known.any():
        raise InputError(
            file=source.session,
            field="field/time",
            found="no training trial with a known field",
            expected="a field that covers the trials, on the clock of the spikes",
            fix="Check `field.start` and `field.stop` in the layout against the trials' times",
        )
    number = known.sum((0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        offset = np.where(known, values, 0.0).sum((0, 1)) / number
        spread = np.where(known, values - offset, 0.0)
        scale = np.sqrt(np.square(spread).sum((0, 1)) / number)
    useless = source.good & ~(scale > 1e-6 * np.maximum(np.abs(offset), 1e-6))
    if useless.any():
        labels = source.lfp["electrode"].values[useless]
        raise InputError(
            file=source.session,
            field="field/lfp",
            found=f"electrode {labels[0]} constant or missing in all training trials "
            f"({int(useless.sum())} such electrodes)",
            expected="a varying signal on every good electrode",
            fix="Add the electrode to `field.bad_electrodes` in the layout",
        )
    bad = ~source.good
    return np.where(bad, np.nan, offset), np.where(bad, np.nan, scale)
