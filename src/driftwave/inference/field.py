"""Between a recorded field and a model of it: good electrodes, low-passed, decimated, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.signal import firwin, upfirdn

from driftwave.errors import InputError
from driftwave.recording import require

BLOCK_SECONDS = 30.0
# A field is split in time: the first part is fitted, the next validates, the rest is the test.
TRAIN_SHARE = 0.7
VALID_SHARE = 0.15


@dataclass(frozen=True)
class FieldSource:
    """The good electrodes of a field, read block by block at a lower rate.

    Attributes
    ----------
    session : str
    lfp : DataArray (time, electrode)
        Microvolt, in memory or lazy.
    good : ndarray of bool (electrode,)
    factor : int
        Every ``factor``-th sample is kept after the low-pass.
    rate : float
        Hz, after decimation.
    """

    session: str
    lfp: xr.DataArray
    good: np.ndarray
    factor: int
    rate: float

    @property
    def samples(self) -> int:
        """Samples after decimation."""
        return -(-self.lfp.sizes["time"] // self.factor)

    def time(self) -> np.ndarray:
        """Time (s, session clock) of each sample after decimation."""
        return self.lfp["time"].values[:: self.factor].astype(np.float64)

    def blocks(self, duration: float | None = None) -> Iterator[np.ndarray]:
        """Low-passed, decimated blocks (time, good electrode), float32, microvolt.

        Missing samples are NaN; a decimated sample is missing where its low-pass filter touches a
        missing one.
        """
        whole = self.lfp.sizes["time"]
        if duration is not None:
            whole = min(whole, round(duration * self.rate * self.factor))
        raw = self._raw(whole)
        return raw if self.factor == 1 else _decimated(raw, self.factor)

    def _raw(self, whole: int) -> Iterator[np.ndarray]:
        step = self._block_samples()
        for start in range(0, whole, step):
            part = self.lfp.isel(time=slice(start, min(start + step, whole)))
            block = np.asarray(part.values, dtype=np.float32)[:, self.good]
            block[~np.isfinite(block)] = np.nan
            yield block

    def _block_samples(self) -> int:
        """Whole stored chunks, so that each is decompressed once; about half a minute."""
        target = max(1, int(BLOCK_SECONDS * self.rate * self.factor))
        preferred = self.lfp.encoding.get("preferred_chunks", {})
        chunk = self.lfp.chunks[0][0] if self.lfp.chunks else preferred.get("time", 0)
        return max(1, target // chunk) * chunk if chunk else target


def field_source(
    recording: xr.DataTree, rate: float, needed_by: str, *, passband: float
) -> FieldSource:
    """The field of a recording, to be read at about ``rate``.

    Parameters
    ----------
    recording : DataTree
    rate : float
        Hz; the sampling rate is divided by the largest whole number that keeps at least this.
    needed_by : str
        Who asks, for error messages.
    passband : float
        Highest frequency of interest, Hz.

    Raises
    ------
    InputError
        No field; ``passband`` above what the rate can carry.
    """
    field = require(recording, "field", needed_by)
    session = str(recording.attrs["session"])
    lfp = field["lfp"]
    sampling_rate = float(field.attrs["sampling_rate"])
    factor = max(1, int(sampling_rate / rate + 1e-3))
    kept = sampling_rate / factor
    # A decimated signal is flat up to two thirds of its Nyquist frequency only.
    highest = kept / 2 if factor == 1 else kept / 3
    if passband > highest:
        raise InputError(
            file=session,
            field="field/sampling_rate",
            found=f"{kept:g} Hz after decimation by {factor} (recorded at {sampling_rate:g} Hz)",
            expected=f"a rate that carries {passband:g} Hz, the upper edge of {needed_by}'s band",
            fix="Lower the upper edge of `band`, or raise `rate`",
        )
    good = np.ones(lfp.sizes["electrode"], bool)
    if "good" in field.coords:
        good = field["good"].values.astype(bool)
    if not good.any():
        raise InputError(
            file=session,
            field="field/good",
            found="no good electrode",
            expected="at least one",
            fix="Mend `field.good` or `field.bad_electrodes` in the layout",
        )
    return FieldSource(session, lfp, good, factor, kept)


def _decimated(blocks: Iterator[np.ndarray], factor: int) -> Iterator[np.ndarray]:
    """Zero-phase FIR low-pass and decimation; the ends are extended by reflection."""
    half = 10 * factor
    taps = firwin(2 * half + 1, 0.85 / factor).astype(np.float32)
    pending: np.ndarray | None = None
    for block in blocks:
        if pending is None:
            pending = np.concatenate([_mirror(block, half), block])
        else:
            pending = np.concatenate([pending, block])
        ready = (len(pending) - 2 * half - 1) // factor + 1
        if ready > 0:
            yield _filtered(pending, taps, factor, ready)
            pending = pending[ready * factor :]
    if pending is None:
        return
    pending = np.concatenate([pending, _mirror(pending[::-1], half)[::-1]])
    ready = (len(pending) - 2 * half - 1) // factor + 1
    if ready > 0:
        yield _filtered(pending, taps, factor, ready)


def _filtered(pending: np.ndarray, taps: np.ndarray, factor: int, ready: int) -> np.ndarray:
    skip = (len(taps) - 1) // factor
    missing = np.isnan(pending)
    if not missing.any():
        return upfirdn(taps, pending, down=factor, axis=0)[skip : skip + ready]
    finite = np.where(missing, np.float32(0), pending)
    kept = upfirdn(taps, finite, down=factor, axis=0)[skip : skip + ready]
    columns = np.flatnonzero(missing.any(0))
    touched = upfirdn(
        np.ones(len(taps), np.float32), missing[:, columns].astype(np.float32), down=factor, axis=0
    )[skip : skip + ready]
    kept[:, columns] = np.where(touched > 0.5, np.float32(np.nan), kept[:, columns])
    return kept


def _mirror(block: np.ndarray, length: int) -> np.ndarray:
    """``length`` samples before the first one, by reflection (repeated if the block is short)."""
    return np.pad(block, ((length, 0), (0, 0)), mode="reflect")[:length]
