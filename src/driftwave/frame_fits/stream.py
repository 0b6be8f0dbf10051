"""A field piece by piece, recorded or surrogate, so that both are measured in the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import dask
import numpy as np

from driftwave.compute import generator
from driftwave.frame_fits.sketch import SketchedSpectrum
from driftwave.nulls.cross_spectrum import CrossSpectrum, zero_lag_factors
from driftwave.nulls.null import ZeroLag
from driftwave.nulls.of_field import zero_lag_source
from driftwave.phase.frames import FieldReader

NULL = "zero_lag"
SEGMENT = 1.0
# Beyond so many electrodes the cross-spectrum is kept as a sketch of so many columns.
MANY, WIDTH = 256, 32
# Complex samples of a piece, so that arrays of thousands of electrodes stay within memory.
MOST_SAMPLES = 4_000_000


@dataclass(frozen=True)
class Piece:
    """Consecutive frames of a field.

    Attributes
    ----------
    signal : ndarray, complex64 (electrode, frame)
        Amplitude times e^{i phase}.
    first : int
        Frame of the recording at which it starts.
    valid : ndarray of bool (frame,)
        False within gaps of the recording.
    rate : float
        Frames per second.
    """

    signal: np.ndarray
    first: int
    valid: np.ndarray
    rate: float


# Names to arrays whose last axis runs over what was measured (frames, windows, singularities).
Measures = dict[str, np.ndarray]
Measure = Callable[[Piece], Measures]


@dataclass(frozen=True)
class Plan:
    """How a recording is read.

    Attributes
    ----------
    reader : FieldReader
    generalized : bool
        Whether the phase is the generalized one.
    length : int
        Frames of a piece, a multiple of a window's.
    """

    reader: FieldReader
    generalized: bool
    length: int

    def valid(self) -> np.ndarray:
        """Frames (frame,) that may be used."""
        return ~self.reader.gaps

    def recorded(self, start: int) -> Piece:
        """The piece from frame ``start``."""
        reader = self.reader
        stop = min(start + self.length, reader.frames)
        signal, phase, _ = reader.stretch(start, stop, generalized=self.generalized)
        if self.generalized:
            signal = np.abs(signal) * np.exp(1j * phase)
        valid = self.valid()[start:stop]
        return Piece(signal.astype(np.complex64, copy=False), start, valid, reader.rate)

    def surrogate(self, signal: np.ndarray, start: int) -> Piece:
        """A piece of a surrogate's analytic signal, given the same phase and gaps."""
        if self.generalized:
            phase, _ = self.reader.phase_of(signal, generalized=True)
            signal = np.abs(signal) * np.exp(1j * phase)
        valid = self.valid()[start : start + signal.shape[1]]
        return Piece(signal.astype(np.complex64, copy=False), start, valid, self.reader.rate)


def plan(reader: FieldReader, *, chunk: float, window: int, generalized: bool) -> Plan:
    """Pieces of about ``chunk`` seconds, fewer on large arrays, in whole windows (frames)."""
    frames = min(chunk * reader.rate, MOST_SAMPLES / len(reader.electrodes))
    length = max(window, round(SEGMENT * reader.rate), int(frames))
    return Plan(reader, generalized, window * -(-length // window))


def join(parts: list[Measures]) -> Measures:
    """Measures of consecutive pieces as one."""
    return {name: np.concatenate([p[name] for p in parts], axis=-1) for name in parts[0]}


@dataclass(frozen=True)
class Observed:
    """Measures of a recording, and what its surrogates are drawn from.

    Attributes
    ----------
    measures : dict of str to ndarray (..., item)
    source : ZeroLag
    """

    measures: Measures
    source: ZeroLag


def observe(plan: Plan, measure: Measure, *, seed: int) -> Observed:
    """Measure a recording in dask tasks, one per piece."""
    measures, powers, total = [], [], None
    for start in range(0, plan.reader.frames, plan.length):
        rng = generator(seed, "sketch", str(start))
        part = dask.delayed(_observe, nout=3)(plan, measure, start, rng)
        measures.append(part[0])
        powers.append(part[1])
        # One after the other: a sum's last digits do not depend on the threads.
        total = part[2] if total is None else dask.delayed(_add)(total, part[2])
    found, power, spectrum = dask.compute(measures, powers, total)
    if isinstance(spectrum, SketchedSpectrum):
        factors = spectrum.factors()
    else:
        factors = zero_lag_factors(spectrum.mean)
    source = zero_lag_source(
        plan.reader,
        factors,
        np.concatenate(power),
        ~plan.valid(),
        rate=plan.reader.rate,
        stretch=plan.length,
        seed=seed,
    )
    return Observed(join(found), source)


def _add(one: Any, other: Any) -> Any:
    return one + other


def _observe(
    plan: Plan, measure: Measure, start: int, rng: np.random.Generator
) -> tuple[Measures, np.ndarray, CrossSpectrum | SketchedSpectrum]:
    piece = plan.recorded(start)
    edges = np.flatnonzero(np.diff(piece.valid, prepend=False, append=False))
    runs = [piece.signal[:, a:b] for a, b in pairwise(edges.tolist()) if piece.valid[a]]
    spectrum = _spectrum(piece.signal[:, :0], piece.rate, rng)
    for run in runs:
        spectrum = _add(spectrum, _spectrum(run, piece.rate, rng))
    power = (piece.signal.real**2 + piece.signal.imag**2).sum(axis=0)
    return measure(piece), np.where(piece.valid, power, np.float32(0)), spectrum


def _spectrum(
    signal: np.ndarray, rate: float, rng: np.random.Generator
) -> CrossSpectrum | SketchedSpectrum:
    length = round(SEGMENT * rate)
    if len(signal) > MANY:
        return SketchedSpectrum.of(signal, length, width=WIDTH, rng=rng)
    return CrossSpectrum.of(signal, length)


def surrogates(
    plan: Plan,
    observed: Observed,
    measure: Measure,
    *,
    count: int,
    seed: int,
    reduce: Callable[[Measures], Measures] | None = None,
) -> list[Measures]:
    """Measures of ``count`` zero-lag surrogates as long as the recording, one task each."""
    tasks = [
        dask.delayed(_surrogate)(
            plan, observed, measure, reduce, generator(seed, "zero-lag surrogate", str(number))
        )
        for number in range(count)
    ]
    return list(dask.compute(*tasks))


def _surrogate(
    plan: Plan,
    observed: Observed,
    measure: Measure,
    reduce: Callable[[Measures], Measures] | None,
    rng: np.random.Generator,
) -> Measures:
    parts, start = [], 0
    for signal in observed.source.pieces(rng):
        parts.append(measure(plan.surrogate(signal, start)))
        start += signal.shape[1]
    measured = join(parts)
    return measured if reduce is None else reduce(measured)
