"""One pass over a recording's field: measures of each frame, dense fields, what detection needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import dask
import numpy as np

from driftwave.nulls.cross_spectrum import CrossSpectrum
from driftwave.phase.derivatives import Derivatives, field_derivatives
from driftwave.phase.directionality import Directionality, directionality_of
from driftwave.phase.frames import ALIASED, FieldReader, Kept
from driftwave.phase.gradient import (
    GridGradient,
    LocalPlanes,
    directionality,
    frequency,
    gradient_operator,
    order_parameter,
)
from driftwave.phase.kept_fluxes import KeptFluxes
from driftwave.phase.sites import Sites, sites_of
from driftwave.phase.spool import Spool
from driftwave.phase.timescale import stretch_of
from driftwave.phase.winding import Plaquettes

SEGMENT = 1.0
MEGABYTE = 1e6
# What a stretch takes per electrode: bytes per frame of it, and per sample that is read.
FRAME_BYTES, SAMPLE_BYTES = 64, 6
FIELDS = ("phase", "gradient", "divergence", "curl", "charge")


@dataclass(frozen=True)
class Frames:
    """What is kept of every frame.

    Attributes
    ----------
    dense : dict of str to ndarray (frame,)
        pgd, direction (deg), speed (mm/s), order_parameter, frequency (Hz), interpolated and
        aliased (shares); NaN in gaps.
    fields : dict of str to Spool (frame, electrode)
        phase (rad), gradient_x, gradient_y (rad/mm), divergence, curl (rad/mm^2), float32, NaN in
        gaps and where the layout gives none; charge int8 (frame, cell), 0 in gaps.
    cells : ndarray (cell, 2)
        mm.
    fluxes : KeptFluxes
        Of detection frames; 0 in gaps.
    spectrum : CrossSpectrum
        Of detection frames, from segments without gaps.
    sites : Sites
        What detection sees.
    reader : FieldReader
        Of the sites, from what was kept.
    whole : FieldReader
        Of all electrodes, from the recording.
    """

    dense: dict[str, np.ndarray]
    fields: dict[str, Spool]
    cells: np.ndarray
    fluxes: KeptFluxes
    spectrum: CrossSpectrum
    sites: Sites
    reader: FieldReader
    whole: FieldReader


@dataclass(frozen=True)
class _Pass:
    """What a task needs to go over a stretch."""

    reader: FieldReader
    operator: GridGradient | LocalPlanes
    derivatives: Derivatives | None
    cells: Plaquettes | None
    fields: dict[str, Spool]
    sites: Sites
    kept: Kept

    def __call__(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Write the dense fields of frames ``start`` to ``stop``; their measures."""
        # One more frame at either end, for differences in time.
        low, high = max(0, start - 1), min(self.reader.frames, stop + 1)
        wide, inside = self.reader.guarded(low, high)
        generalized = self.kept.generalized
        phase, filled = (
            part[:, inside] for part in self.reader.phase_of(wide, generalized=generalized)
        )
        own = slice(start - low, stop - low)
        self._keep(start, wide, inside, own, phase, filled)
        del wide
        rhythm = frequency(phase, self.reader.rate)[own]
        phase = np.ascontiguousarray(phase[:, own])
        gap = self.reader.gaps[start:stop]
        gradient = self.operator(phase)
        dense = self._measures(phase, gradient, rhythm)
        dense["interpolated"] = filled[:, own].mean(axis=0)
        self._write(start, phase, gradient, gap)
        for name, value in dense.items():
            dense[name] = np.where(gap, np.nan, value).astype(np.float32)
        return dense

    def _keep(
        self,
        start: int,
        wide: np.ndarray,
        inside: slice,
        own: slice,
        phase: np.ndarray,
        filled: np.ndarray,
    ) -> None:
        signal = self.sites.mean(wide)
        if not self.sites.trivial:
            phase, filled = (
                part[:, inside]
                for part in self.reader.phase_of(signal, generalized=self.kept.generalized)
            )
        self.kept.signal.write(start, signal[:, inside][:, own].T)
        self.kept.phase.write(start, phase[:, own].T)
        self.kept.filled.write(start, filled[:, own].T)

    def _measures(
        self, phase: np.ndarray, gradient: np.ndarray, rhythm: np.ndarray
    ) -> dict[str, np.ndarray]:
        mean = gradient.mean(axis=1)
        size = np.hypot(*mean)
        return {
            "pgd": directionality(gradient),
            "direction": np.degrees(np.arctan2(-mean[1], -mean[0])),
            "speed": 2 * np.pi * rhythm / np.maximum(size, 1e-9),
            "order_parameter": order_parameter(phase),
            "frequency": rhythm,
            "aliased": self.operator.steep(phase, ALIASED),
        }

    def _write(self, start: int, phase: np.ndarray, gradient: np.ndarray, gap: np.ndarray) -> None:
        if "phase" in self.fields:
            self._put("phase", start, phase, gap, None)
        if "gradient_x" in self.fields:
            self._put("gradient_x", start, gradient[0], gap, self.operator.usable)
            self._put("gradient_y", start, gradient[1], gap, self.operator.usable)
        if self.derivatives is not None:
            found = self.derivatives(gradient, phase)
            for name, values in zip(("divergence", "curl"), found, strict=True):
                if name in self.fields:
                    self._put(name, start, values, gap, self.operator.usable)
        if self.cells is not None:
            charge = self.cells.confirmed(phase).T
            self.fields["charge"].write(start, np.where(gap[:, None], np.int8(0), charge))

    def _put(
        self, name: str, start: int, values: np.ndarray, gap: np.ndarray, at: np.ndarray | None
    ) -> None:
        spool = self.fields[name]
        rows = np.full((len(gap), spool.shape[1]), np.nan, np.float32)
        rows[:, slice(None) if at is None else at] = values.T
        rows[gap] = np.nan
        spool.write(start, rows)


def read_frames(
    reader: FieldReader,
    *,
    chunk: float,
    generalized: bool,
    fields: tuple[str, ...] = (),
    sites: int | None = None,
    memory: float = 300.0,
) -> tuple[Frames, Directionality]:
    """Go over the whole recording in dask tasks of ``chunk`` seconds with overlapping margins.

    Parameters
    ----------
    reader : FieldReader
    chunk : float
        s; shorter where a stretch would take more than ``memory``.
    generalized : bool
        Generalized phase, or else the analytic signal's.
    fields : tuple of str
        Dense fields to write, of :data:`FIELDS`.
    sites : int, optional
        Detection takes no more than this many sites; default all electrodes.
    memory : float
        MB per task.

    Returns
    -------
    Frames
    Directionality
        Of the sites.
    """
    seen = sites_of(reader.electrodes, sites)
    shape = (reader.frames, len(seen.electrodes))
    kept = Kept(
        Spool(shape, np.complex64), Spool(shape, np.float32), Spool(shape, np.bool_), generalized
    )
    over = _pass(reader, fields, seen, kept)
    step = stretch_frames(reader, chunk, memory)
    tasks = [dask.delayed(over)(*ends) for ends in _stretches(reader.frames, step)]
    parts = dask.compute(*tasks)
    read = replace(reader, electrodes=seen.electrodes, kept=kept)
    measure = directionality_of(seen.electrodes)
    fluxes, spectrum = _detection(read, measure, chunk)
    frames = Frames(
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
        over.fields,
        over.cells.centre if over.cells is not None else np.zeros((0, 2)),
        fluxes,
        spectrum,
        seen,
        read,
        reader,
    )
    return frames, measure


def stretch_frames(reader: FieldReader, chunk: float, memory: float) -> int:
    """Frames of a stretch of ``chunk`` seconds, or of as many as take ``memory`` MB."""
    electrodes = len(reader.electrodes)
    room = memory * MEGABYTE / electrodes - SAMPLE_BYTES * 2 * reader.margin
    fitting = room / (FRAME_BYTES + SAMPLE_BYTES * reader.every)
    shortest = round(SEGMENT * stretch_of(reader.band) * reader.rate)
    return max(shortest, min(round(chunk * reader.rate), int(fitting)))


def _stretches(frames: int, step: int) -> Iterator[tuple[int, int]]:
    edges = [*range(0, frames, step), frames]
    yield from pairwise(edges)


def _pass(reader: FieldReader, fields: tuple[str, ...], sites: Sites, kept: Kept) -> _Pass:
    electrodes = reader.electrodes
    cells = Plaquettes.of(electrodes) if "charge" in fields else None
    cells = None if cells is not None and not len(cells) else cells
    names: list[str] = [name for name in ("phase", "divergence", "curl") if name in fields]
    names += ["gradient_x", "gradient_y"] if "gradient" in fields else []
    shape = (reader.frames, len(electrodes))
    spools = {name: Spool(shape, np.float32) for name in names}
    if cells is not None:
        spools["charge"] = Spool((reader.frames, len(cells)), np.int8)
    wanted = {"divergence", "curl"} & set(fields)
    return _Pass(
        reader,
        gradient_operator(electrodes),
        field_derivatives(electrodes) if wanted else None,
        cells,
        spools,
        sites,
        kept,
    )


def _detection(
    reader: FieldReader, measure: Directionality, chunk: float
) -> tuple[KeptFluxes, CrossSpectrum]:
    """Fluxes and cross-spectrum of every ``stride``-th frame."""
    step = reader.stride * max(1, round(chunk * reader.detection_rate))
    frames = -(-reader.frames // reader.stride)
    spool = Spool((frames, len(measure.templates)), np.float32)
    sizes, total = [], None
    for ends in _stretches(reader.frames, step):
        part = dask.delayed(_detected, nout=2)(reader, measure, spool, *ends)
        sizes.append(part[0])
        # One after the other: a sum's last digits do not depend on the threads.
        total = part[1] if total is None else dask.delayed(_add)(total, part[1])
    parts, spectrum = dask.compute(sizes, total)
    power, steepness = (np.concatenate(one) for one in zip(*parts, strict=True))
    return KeptFluxes(spool, power, steepness), spectrum


def _add(one: CrossSpectrum, other: CrossSpectrum) -> CrossSpectrum:
    return one + other


def segment(reader: FieldReader) -> float:
    """Length (s) of the cross-spectrum's segments: a twentieth of the recording, from 1 to 2 s.

    Below 5 Hz from 5 to 10 cycles. Longer ones blur the spectrum of a narrow rhythm less, but are
    fewer.
    """
    shortest = SEGMENT * stretch_of(reader.band)
    return min(2 * shortest, max(shortest, reader.frames / reader.rate / 20))


def _detected(
    reader: FieldReader, measure: Directionality, spool: Spool, start: int, stop: int
) -> tuple[tuple[np.ndarray, np.ndarray], CrossSpectrum]:
    """Write the fluxes of a stretch; their power and steepness, and the cross-spectrum."""
    assert reader.kept is not None
    rows = reader.kept.signal.read(start, stop)[:: reader.stride]
    coarse = np.ascontiguousarray(rows.T)
    length = round(segment(reader) * reader.detection_rate)
    first = start // reader.stride
    gap = reader.detection_gaps[first : first + coarse.shape[1]]
    found = measure(coarse).without(gap)
    spool.write(first, found.flux.T)
    sizes = found.power, found.steepness
    if not gap.any():
        return sizes, CrossSpectrum.of(coarse, length)
    ends = np.flatnonzero(np.diff(np.concatenate([[True], gap, [True]]).astype(np.int8)))
    spectrum = CrossSpectrum.of(coarse[:, :0], length)
    for one, other in ends.reshape(-1, 2):
        spectrum = spectrum + CrossSpectrum.of(coarse[:, one:other], length)
    return sizes, spectrum
