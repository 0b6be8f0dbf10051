"""From a field to what the oscillators' EM sees: split in time, whitened if asked, standardised."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.inference.field import TRAIN_SHARE, VALID_SHARE, FieldSource
from driftwave.inference.oscillator_start import Spectrum, background, spectrum
from driftwave.inference.whitening import Whitening, widened
from driftwave.recording import require

SHORTEST_SECONDS = 5.0
SHORTEST_PIECE = 2
# Samples on each side that the low-pass before decimation mixes into a kept one.
LOW_PASS_REACH = 10


@dataclass(frozen=True)
class Prepared:
    """Data and the numbers that lead back to microvolt.

    Attributes
    ----------
    data : ndarray (time, channel), float32
        Whitened, zero mean and unit variance over the fitted stretch; zero where missing.
    seen : ndarray of bool (time, channel) or None
        None where nothing is missing.
    fitted : int
        Leading samples that are fitted; the rest validates.
    fresh : tuple of int
        Samples at which a piece begins that does not continue the one before it.
    offset, deviation : ndarray (channel,)
        Mean and standard deviation before whitening, microvolt.
    scale : ndarray (channel,)
        Standard deviation after whitening, microvolt.
    whitening : Whitening
    recorded, standard : Spectrum
        Before whitening and standardising (microvolt^2/Hz), and after.
    """

    data: np.ndarray
    seen: np.ndarray | None
    fitted: int
    fresh: tuple[int, ...]
    offset: np.ndarray
    deviation: np.ndarray
    scale: np.ndarray
    whitening: Whitening
    recorded: Spectrum
    standard: Spectrum


@dataclass(frozen=True)
class Stretches:
    """Samples of a field that are fitted and that validate.

    Attributes
    ----------
    stop : int
        What lies from here on is not read.
    hidden : ndarray of bool (time,)
        Samples before ``stop`` that must not be seen in any way.
    train, valid : ndarray of bool (time,)
    """

    stop: int
    hidden: np.ndarray
    train: np.ndarray
    valid: np.ndarray

    def pieces(self) -> tuple[np.ndarray, int, tuple[int, ...]]:
        """Samples kept, fitted ones first; how many are fitted; where a piece starts afresh."""
        order: list[np.ndarray] = []
        fresh, total = [0], 0
        for part in (self.train, self.valid):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], part, [False]]).astype(int)))
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                if stop - start < SHORTEST_PIECE:
                    continue
                if order and order[-1][-1] + 1 != start:
                    fresh.append(total)
                order.append(np.arange(start, stop))
                total += stop - start
        fitted = sum(len(part) for part in order if self.train[part[0]])
        return np.concatenate(order), fitted, tuple(fresh)


def recording_stretches(samples: int) -> Stretches:
    """The first 70 % of a field is fitted, the next 15 % validates, the rest is not read."""
    fitted, stop = round(TRAIN_SHARE * samples), round((TRAIN_SHARE + VALID_SHARE) * samples)
    train = np.arange(stop) < fitted
    return Stretches(stop, np.zeros(stop, bool), train, ~train)


def trial_stretches(
    source: FieldSource, samples: int, start: np.ndarray, stop: np.ndarray, split: np.ndarray
) -> Stretches:
    """Training trials are fitted, validation trials validate, test trials are hidden.

    Trials that do not abut are independent pieces of the process. What lies between trials is
    neither fitted nor scored, but the whitening filter may see it.

    Parameters
    ----------
    source : FieldSource
    samples : int
        At most so many, at the source's rate.
    start, stop : ndarray (trial,)
        s, session clock.
    split : ndarray of str (trial,)

    Raises
    ------
    InputError
        No training or no validation trial within the samples.
    """
    time = source.time()[:samples]

    def inside(name: str) -> np.ndarray:
        mask = np.zeros(len(time), bool)
        for a, b in zip(start[split == name], stop[split == name], strict=True):
            mask[np.searchsorted(time, a - 1e-9) : np.searchsorted(time, b - 1e-9)] = True
        return mask

    hidden = inside("test")
    if source.factor > 1:
        hidden = widened(hidden[:, None], LOW_PASS_REACH, LOW_PASS_REACH)[:, 0]
    train = inside("train") & ~hidden
    valid = inside("valid") & ~hidden & ~train
    for name, mask in (("train", train), ("valid", valid)):
        if mask.sum() < SHORTEST_PIECE:
            raise InputError(
                file=source.session,
                field="trials/split",
                found=f"no {name} trial with a field in the first {len(time) / source.rate:.4g} s",
                expected="training and validation trials",
                fix="Raise `max_duration`, or fit the whole recording with `stretches: recording`",
            )
    return Stretches(len(time), hidden, train, valid)


def choose_stretches(
    recording: xr.DataTree, source: FieldSource, kind: str, duration: float
) -> Stretches:
    """What is fitted and what validates of the first ``duration`` seconds.

    ``kind`` is ``recording`` (:func:`recording_stretches`) or ``trials``
    (:func:`trial_stretches`).
    """
    samples = min(source.samples, round(duration * source.rate))
    if kind == "recording":
        return recording_stretches(samples)
    trials = require(recording, "trials", "`stretches: trials`")
    start, stop, split = (trials[name].values for name in ("start", "stop", "split"))
    return trial_stretches(source, samples, start, stop, split.astype(str))


def prepare(
    source: FieldSource, stretches: Stretches, *, band: tuple[float, float], whiten: bool
) -> Prepared:
    """Read a field and ready it for EM.

    Parameters
    ----------
    source : FieldSource
    stretches : Stretches
    band : tuple of float
        Hz.
    whiten : bool
        Flatten the 1/f background first.

    Raises
    ------
    InputError
        Too short; a signal that is constant or all NaN on a good electrode.
    """
    data = np.concatenate(list(source.blocks(stretches.stop / source.rate)))[: stretches.stop]
    data[stretches.hidden] = np.nan
    kept, fitted, fresh = stretches.pieces()
    _check_length(fitted, data.shape[1], source, whiten)
    part = data[kept[:fitted]]
    _refuse_missing(part, source, whiten)
    offset = np.array([np.nanmean(column, dtype=np.float64) for column in part.T])
    part -= offset.astype(np.float32)
    data -= offset.astype(np.float32)
    deviation = _deviation(part, ~np.isnan(part))
    _refuse_constant(deviation, offset, source)
    highest = min(1.5 * band[1], source.rate / 2.2)
    recorded = spectrum(part, source.rate, highest)
    del part
    whitening = Whitening.none(source.rate)
    if whiten:
        whitening = Whitening.of_background(*background(recorded, band), source.rate)
    data, seen = whitening.apply_to_gaps(data)
    if len(fresh) > 1 or len(kept) < len(data):
        data, seen = data[kept], None if seen is None else seen[kept]
    if seen is not None and seen.all():
        seen = None
    shown = np.ones((1, data.shape[1]), bool) if seen is None else seen[:fitted]
    scale = _deviation(data[:fitted], shown)
    _refuse_unseen(scale, source)
    data /= scale.astype(np.float32)
    gapped = data[:fitted]
    if seen is not None:
        gapped = np.where(seen[:fitted], gapped, np.float32(np.nan))
    standard = spectrum(gapped, source.rate, highest)
    return Prepared(
        data, seen, fitted, fresh, offset, deviation, scale, whitening, recorded, standard
    )


def _deviation(data: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Root of the mean square (channel,) of what is seen; NaN where nothing is."""
    counts = np.broadcast_to(seen, data.shape).sum(0)
    sums = np.array([np.nansum(np.square(c, dtype=np.float64)) for c in data.T])
    return np.sqrt(np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0))


def _check_length(fitted: int, channels: int, source: FieldSource, whiten: bool) -> None:
    least = TRAIN_SHARE * SHORTEST_SECONDS
    if whiten:
        # A full noise covariance needs well more samples than channels.
        least = max(least, 4 * channels / source.rate)
    if fitted < least * source.rate:
        raise InputError(
            file=source.session,
            field="field/lfp",
            found=f"{fitted / source.rate:.3g} s to fit",
            expected=f"at least {least:.3g} s for {channels} electrodes",
            fix="Use a longer stretch of the recording, or raise `max_duration`",
        )


def _labels(which: np.ndarray, source: FieldSource) -> str:
    labels = [str(label) for label in source.lfp["electrode"].values[source.good][which]]
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")


def _refuse_missing(part: np.ndarray, source: FieldSource, whiten: bool) -> None:
    seen = np.isfinite(part).sum(0)
    empty = seen == 0
    few = seen < (2 * part.shape[1] if whiten else 10)
    if not few.any():
        return
    which = empty if empty.any() else few
    raise InputError(
        file=source.session,
        field="field/lfp",
        found=f"electrode {_labels(which, source)} "
        + ("all NaN" if empty.any() else "nearly all NaN")
        + " over the fitted stretch",
        expected="some finite signal on every good electrode",
        fix="Add the electrode to `field.bad_electrodes` in the layout, or choose another stretch "
        "with `field.start` and `field.stop`",
    )


def _refuse_constant(deviation: np.ndarray, offset: np.ndarray, source: FieldSource) -> None:
    flat = ~(deviation > 1e-6 * np.maximum(1e-3, np.abs(offset)))
    if not flat.any():
        return
    raise InputError(
        file=source.session,
        field="field/lfp",
        found=f"a constant signal on electrode {_labels(flat, source)}",
        expected="a varying signal on every good electrode",
        fix="Add the electrode to `field.bad_electrodes` in the layout",
    )


def _refuse_unseen(scale: np.ndarray, source: FieldSource) -> None:
    unseen = ~(scale > 0)
    if not unseen.any():
        return
    raise InputError(
        file=source.session,
        field="field/lfp",
        found=f"electrode {_labels(unseen, source)} with gaps so dense that no sample is left "
        "where the whitening filter touches none",
        expected="stretches without NaN on every good electrode",
        fix="Add the electrode to `field.bad_electrodes` in the layout, or set "
        "`background: factors`",
    )


def fingerprint(prepared: Prepared, settings: dict[str, Any], seed: int) -> str:
    """Of data and settings, so that a checkpoint of another fit is not resumed."""
    data = prepared.data
    described = [settings, seed, data.shape, prepared.fitted]
    digest = hashlib.sha256(json.dumps(described).encode())
    digest.update(np.ascontiguousarray(data[:: max(1, len(data) // 1000)]).tobytes())
    return digest.hexdigest()
