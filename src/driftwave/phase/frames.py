"""The recording's field, stretch by stretch: phase, gradient and what is read off each frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import dask
import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.nulls.surrogates import CrossSpectrum
from driftwave.phase.directionality import Directionality, Fluxes, directionality_of, join
from driftwave.phase.electrodes import Electrodes, good_electrodes
from driftwave.phase.filters import analytic, extend, settling
from driftwave.phase.generalized_phase import generalized_phase
from driftwave.phase.gradient import directionality, frequency, order_parameter

# Generalized phase looks ahead three times the longest reversal, beyond what the filter needs.
GAP_MARGIN = 0.5
ALIASED = 0.75
SEGMENT = 1.0


@dataclass(frozen=True)
class FieldReader:
    """Reads analytic signals of any stretch of a recording's field.

    Attributes
    ----------
    lfp : DataArray (time, electrode)
        Lazy; only what is asked for is read.
    electrodes : Electrodes
    band : (low, high)
        Hz.
    sampling_rate : float
        Of the field, Hz.
    every : int
        Samples per frame.
    stride : int
        Frames per detection frame.
    session : str
    """

    lfp: xr.DataArray
    electrodes: Electrodes
    band: tuple[float, float]
    sampling_rate: float
    every: int
    stride: int
    session: str

    @property
    def rate(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.every

    @property
    def detection_rate(self) -> float:
        """Detection frames per second."""
        return self.rate / self.stride

    @property
    def frames(self) -> int:
        return -(-self.lfp.sizes["time"] // self.every)

    @cached_property
    def margin(self) -> int:
        """Samples read beyond either end of a stretch."""
        return settling(self.band, self.sampling_rate) + round(GAP_MARGIN * self.sampling_rate)

    def signal(self, start: int, stop: int, *, guard: int = 0) -> np.ndarray:
        """Analytic signal (electrode, frame) of frames ``start`` to ``stop``.

        ``guard`` further frames at either end come from the recording where it has them.
        """
        total = self.lfp.sizes["time"]
        first = max(0, start - guard) * self.every
        last = min((min(stop, self.frames) - 1 + guard) * self.every + 1, total)
        low, high = max(0, first - self.margin), min(total, last + self.margin)
        block = self.lfp[low:high].values[:, self.electrodes.index].T.astype(float)
        self._check(block, low)
        missing = (self.margin - (first - low), self.margin - (high - last))
        block = extend(block, *missing) if any(missing) else block
        return analytic(
            block,
            rate=self.sampling_rate,
            band=self.band,
            before=self.margin,
            after=self.margin,
            every=self.every,
        )

    def _check(self, block: np.ndarray, low: int) -> None:
        broken = ~np.isfinite(block)
        if broken.any():
            labels = self.lfp["electrode"].values[self.electrodes.index]
            which = labels[broken.any(axis=1)]
            seconds = (low + np.flatnonzero(broken.any(axis=0))[0]) / self.sampling_rate
            raise InputError(
                file=self.session,
                field="field/lfp",
                found=f"values that are not finite on electrodes {which[:5].tolist()}, first "
                f"{seconds:.3f} s after the start",
                expected="finite values on every good electrode",
                fix="List these electrodes under `field.bad_electrodes`, or narrow `field.start` "
                "and `field.stop` in the layout",
            )

    def stretch(
        self, start: int, stop: int, *, generalized: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Analytic signal, phase (rad) and interpolated samples (bool), (electrode, frame) each."""
        guard = round(GAP_MARGIN * self.rate)
        signal = self.signal(start, stop, guard=guard)
        if generalized:
            # A constant, so that a stretch's phase does not depend on what else it holds.
            advance = 2 * np.pi * float(np.sqrt(np.prod(self.band))) / self.rate
            phase, filled = generalized_phase(signal, advance=advance)
        else:
            phase, filled = np.angle(signal), np.zeros(signal.shape, bool)
        skip = start - max(0, start - guard)
        kept = slice(skip, skip + min(stop, self.frames) - start)
        return signal[:, kept], phase[:, kept], filled[:, kept]


def open_field(
    recording: xr.DataTree,
    dataset: xr.Dataset,
    *,
    band: tuple[float, float],
    frame_rate: float | None,
) -> FieldReader:
    """Check a recording's field against the band and prepare to read it.

    Raises
    ------
    InputError
        Unusable electrodes (see :func:`good_electrodes`), a sampling rate too low for the band, a
        recording too short for the filter.
    """
    session = str(recording.attrs.get("session", "recording"))
    electrodes = good_electrodes(dataset, session)
    rate = float(dataset.attrs["sampling_rate"])
    if rate < 2.5 * band[1]:
        raise InputError(
            file=session,
            field="field/sampling_rate",
            found=f"{rate:g} Hz",
            expected=f"at least 2.5 times the upper edge of the band, {band[1]:g} Hz",
            fix="Lower `band` in the waves parameters, or raise `field.rate` in the layout",
        )
    shortest = max(2.0, 3 / band[0])
    length = dataset.sizes["time"] / rate
    if length < shortest:
        raise InputError(
            file=session,
            field="field/lfp",
            found=f"{length:.2f} s",
            expected=f"at least {shortest:.1f} s, which a filter from {band[0]:g} Hz needs",
            fix="Use a longer stretch of the recording, or raise the lower edge of `band`",
        )
    wanted = frame_rate or 6 * band[1]
    every = max(1, int(rate / wanted + 1e-6))
    # One-sided spectra up to the band's edge fit into twice the edge without aliasing.
    stride = max(1, int(rate / every / (2 * band[1]) + 1e-6))
    return FieldReader(dataset["lfp"], electrodes, band, rate, every, stride, session)


@dataclass(frozen=True)
class Frames:
    """What is kept of every frame.

    Attributes
    ----------
    dense : dict of str to ndarray (frame,)
        pgd, direction (deg), speed (mm/s), order_parameter, frequency (Hz), interpolated and
        aliased (shares).
    phase : ndarray, float32 (frame, electrode) or None
        rad.
    fluxes : Fluxes
        Of detection frames.
    spectrum : CrossSpectrum
        Of detection frames.
    """

    dense: dict[str, np.ndarray]
    phase: np.ndarray | None
    fluxes: Fluxes
    spectrum: CrossSpectrum


def read_frames(
    reader: FieldReader, *, chunk: float, generalized: bool, keep_phase: bool
) -> tuple[Frames, Directionality]:
    """Go over the whole recording in dask tasks of ``chunk`` seconds with overlapping margins."""
    measure = directionality_of(reader.electrodes)
    step = reader.stride * max(1, round(chunk * reader.detection_rate))
    tasks = [
        dask.delayed(_stretch)(reader, measure, start, step, generalized, keep_phase)
        for start in range(0, reader.frames, step)
    ]
    parts: tuple[Frames, ...] = dask.compute(*tasks)
    spectrum = parts[0].spectrum
    for part in parts[1:]:
        spectrum = spectrum + part.spectrum
    frames = Frames(
        {name: np.concatenate([p.dense[name] for p in parts]) for name in parts[0].dense},
        np.concatenate([p.phase for p in parts if p.phase is not None]) if keep_phase else None,
        join([part.fluxes for part in parts]),
        spectrum,
    )
    return frames, measure


def _stretch(
    reader: FieldReader,
    measure: Directionality,
    start: int,
    count: int,
    generalized: bool,
    keep_phase: bool,
) -> Frames:
    stop = min(start + count, reader.frames)
    signal, phase, filled = reader.stretch(start, stop, generalized=generalized)
    dense = _dense(phase, reader, measure)
    dense["interpolated"] = filled.mean(axis=0)
    coarse = signal[:, :: reader.stride].astype(np.complex64)
    length = round(SEGMENT * reader.detection_rate)
    return Frames(
        {name: value.astype(np.float32) for name, value in dense.items()},
        np.ascontiguousarray(phase.T, dtype=np.float32) if keep_phase else None,
        measure(coarse),
        CrossSpectrum.of(coarse, length),
    )


def _dense(
    phase: np.ndarray, reader: FieldReader, measure: Directionality
) -> dict[str, np.ndarray]:
    rhythm = frequency(phase, reader.rate)
    gradient = measure.operator(phase)
    mean = gradient.mean(axis=1)
    size = np.hypot(*mean)
    steps = measure.operator.differences(phase)
    steep = sum((np.abs(step) > ALIASED * np.pi).sum(axis=0) for step in steps)
    return {
        "pgd": directionality(gradient),
        "direction": np.degrees(np.arctan2(-mean[1], -mean[0])),
        "speed": 2 * np.pi * rhythm / np.maximum(size, 1e-9),
        "order_parameter": order_parameter(phase),
        "frequency": rhythm,
        "aliased": steep / sum(len(step) for step in steps),
    }
