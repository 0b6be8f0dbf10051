"""What is read off the flow of every frame, stretch by stretch of a recording."""

from __future__ import annotations

from dataclasses import dataclass

import dask
import numpy as np
from scipy.ndimage import uniform_filter1d

from driftwave.flow import critical_points as zeros
from driftwave.flow.critical_points import CriticalPoints, critical_points
from driftwave.flow.horn_schunck import Derivatives, HornSchunck
from driftwave.nulls.surrogates import CrossSpectrum
from driftwave.phase.frames import FieldReader
from driftwave.phase.generalized_phase import generalized_phase
from driftwave.phase.gradient import order_parameter

# Nodes times frames handled at once, so that a large array does not fill the memory.
LARGEST = 6_000_000
# Surrogates need a full cross-spectrum, which grows with the square of the electrodes.
MOST_ELECTRODES = 512
SEGMENT = 1.0


@dataclass(frozen=True)
class FlowFrames:
    """What is kept of every frame.

    Attributes
    ----------
    course : dict of str to ndarray, float32 (frame,)
        coherence_x, coherence_y: mean flow over mean speed; speed (mm/s); order_parameter;
        wave_x, wave_y (rad/mm) and frequency (rad/s): mean derivatives of phase;
        power. NaN within gaps and where the phase has no gradient.
    points : CriticalPoints
        Of the flow averaged over a cycle.
    spectrum : CrossSpectrum or None
        Of the frames' signal.
    """

    course: dict[str, np.ndarray]
    points: CriticalPoints
    spectrum: CrossSpectrum | None

    @property
    def coherence(self) -> np.ndarray:
        """|mean v| / mean |v| over electrodes (frame,)."""
        return np.hypot(self.course["coherence_x"], self.course["coherence_y"])

    def smooth_coherence(self, window: int) -> np.ndarray:
        """|sum P c| / sum P over ``window`` frames, c the coherence as a vector, P the power.

        Opposite directions cancel. 0 within gaps.
        """
        parts = [self.course[name] for name in ("coherence_x", "coherence_y")]
        known = np.isfinite(parts[0])
        power = np.where(known, self.course["power"], 0.0)
        sums = [
            uniform_filter1d(np.where(known, part, 0.0) * power, window, mode="constant")
            for part in parts
        ]
        total = uniform_filter1d(power, window, mode="constant")
        result = np.hypot(*sums) / np.maximum(total, np.finfo(float).tiny)
        return np.where(known, np.minimum(result, 1.0), 0.0)


@dataclass(frozen=True)
class FlowMeasure:
    """Turns analytic signal and phase into :class:`FlowFrames`.

    Attributes
    ----------
    solver : HornSchunck
    rate : float
        Frames per second.
    average : int
        Frames over which the flow is averaged before its zeros are looked for.
    """

    solver: HornSchunck
    rate: float
    average: int

    def derivatives(self, phase: np.ndarray) -> Derivatives:
        """Derivatives of every frame; the last one's are those of the frame before."""
        return self.solver.derivatives(np.concatenate([phase, _ahead(phase)], axis=1), self.rate)

    def flow(self, phase: np.ndarray) -> np.ndarray:
        """Flow (axis, electrode, frame), mm/s, of phase (electrode, frame)."""
        return self.solver(self.derivatives(phase))[:, self.solver.mesh.node]

    def __call__(self, signal: np.ndarray, phase: np.ndarray, broken: np.ndarray) -> FlowFrames:
        """Measures of frames.

        Parameters
        ----------
        signal : ndarray, complex (electrode, frame)
        phase : ndarray (electrode, frame)
            rad.
        broken : ndarray of bool (frame,)
            Frames that must not be used.
        """
        derivatives = self.derivatives(phase)
        flow = self.solver(derivatives)
        broken = broken | ~np.isfinite(flow[0, 0])
        flow[..., broken] = 0
        node = self.solver.mesh.node
        seen = flow[:, node]
        size = np.hypot(*seen)
        speed = size.mean(axis=0)
        mean = seen.mean(axis=1) / np.maximum(speed, np.finfo(np.float32).tiny)
        weight = np.nan_to_num(signal.real**2 + signal.imag**2).astype(np.float32)
        power = weight.sum(axis=0)
        usable = self.solver.operator.usable
        space, time = derivatives.space[:, node[usable]], derivatives.time[node[usable]]
        course = {
            "coherence_x": mean[0],
            "coherence_y": mean[1],
            "speed": speed,
            "order_parameter": order_parameter(phase),
            "wave_x": space[0].mean(axis=0),
            "wave_y": space[1].mean(axis=0),
            "frequency": time.mean(axis=0),
            "power": power,
        }
        for values in course.values():
            values[broken] = np.nan
        root = np.sqrt((size**2).mean(axis=0))
        gain = np.where(broken | (root == 0), 0, power / np.maximum(root, 1e-30))
        uniform_filter1d(
            flow * gain.astype(np.float32), self.average, axis=-1, output=flow, mode="nearest"
        )
        flow[..., broken] = np.nan
        return FlowFrames(
            {name: values.astype(np.float32) for name, values in course.items()},
            critical_points(flow, self.solver.mesh),
            None,
        )


def _ahead(phase: np.ndarray) -> np.ndarray:
    """The frame after the last, continued as the last two went."""
    return 2 * phase[:, -1:] - phase[:, -2:-1] if phase.shape[1] > 1 else phase[:, -1:]


def gaps_of(reader: FieldReader) -> np.ndarray:
    """Frames (bool) whose flow would use a frame that must not be used."""
    gaps = getattr(reader, "gaps", None)
    if gaps is None:
        return np.zeros(reader.frames, bool)
    gaps = np.asarray(gaps, bool)
    return gaps | np.append(gaps[1:], False)


def stretch_frames(reader: FieldReader, measure: FlowMeasure, chunk: float) -> int:
    """Frames handled at once: ``chunk`` seconds, fewer on large arrays."""
    largest = max(round(reader.rate), LARGEST // len(measure.solver.mesh))
    return max(2, min(round(chunk * reader.rate), largest))


def read_flow(
    reader: FieldReader, measure: FlowMeasure, *, chunk: float, generalized: bool, spectrum: bool
) -> FlowFrames:
    """Go over the whole recording in dask tasks with overlapping margins."""
    gaps = gaps_of(reader)
    step = stretch_frames(reader, measure, chunk)
    tasks = [
        dask.delayed(_stretch)(reader, measure, gaps, start, step, generalized, spectrum)
        for start in range(0, reader.frames, step)
    ]
    return join(list(dask.compute(*tasks)))


def join(parts: list[FlowFrames]) -> FlowFrames:
    """Measures of consecutive stretches as one."""
    total = None
    for part in parts:
        if part.spectrum is not None:
            total = part.spectrum if total is None else total + part.spectrum
    return FlowFrames(
        {name: np.concatenate([p.course[name] for p in parts]) for name in parts[0].course},
        zeros.join([part.points for part in parts]),
        total,
    )


def _stretch(
    reader: FieldReader,
    measure: FlowMeasure,
    gaps: np.ndarray,
    start: int,
    count: int,
    generalized: bool,
    spectrum: bool,
) -> FlowFrames:
    stop = min(start + count, reader.frames)
    guard = measure.average // 2 + 2
    low, high = max(0, start - guard), min(reader.frames, stop + guard)
    signal, phase, _ = reader.stretch(low, high, generalized=generalized)
    broken = gaps[low:high]
    found = measure(signal, phase, broken)
    kept = slice(start - low, stop - low)
    return FlowFrames(
        {name: values[kept] for name, values in found.course.items()},
        found.points.shifted(low, start - low, stop - low),
        _spectrum(signal[:, kept], broken[kept], reader) if spectrum else None,
    )


def _spectrum(signal: np.ndarray, broken: np.ndarray, reader: FieldReader) -> CrossSpectrum | None:
    """Cross-spectrum about the band, of the pieces between gaps."""
    length = segment_frames(reader)
    ends = np.flatnonzero(np.diff(np.concatenate([[True], broken, [True]]).astype(np.int8)))
    total = None
    for first, last in ends.reshape(-1, 2).tolist():
        piece = signal[:, first:last].astype(np.complex64)
        part = CrossSpectrum.of(piece, length, band_bins(reader))
        total = part if total is None else total + part
    return total


def segment_frames(reader: FieldReader) -> int:
    """Frames of a segment of the cross-spectrum."""
    return max(4, round(max(SEGMENT, 2 / reader.band[0]) * reader.rate))


def band_bins(reader: FieldReader) -> np.ndarray:
    """Bins of a segment's FFT in which the band-passed signal has power."""
    length = segment_frames(reader)
    frequency = np.arange(length) * reader.rate / length
    low, high = reader.band
    wanted = (frequency > low / 3) & (frequency < min(1.7 * high, reader.rate / 2))
    return np.flatnonzero(wanted)


def flow_of_frames(
    reader: FieldReader, measure: FlowMeasure, start: int, stop: int, generalized: bool
) -> np.ndarray:
    """Flow (frame, electrode, axis) of frames ``start`` to ``stop``, NaN within gaps."""
    last = min(stop + 1, reader.frames)
    _, phase, _ = reader.stretch(start, last, generalized=generalized)
    flow = measure.flow(phase)[..., : stop - start]
    flow[..., gaps_of(reader)[start:stop]] = np.nan
    return np.ascontiguousarray(flow.transpose(2, 1, 0))


def phase_of(signal: np.ndarray, reader: FieldReader, *, generalized: bool) -> np.ndarray:
    """Phase (electrode, frame) of an analytic signal as :meth:`FieldReader.stretch` gives it."""
    if not generalized:
        return np.angle(signal)
    advance = 2 * np.pi * float(np.sqrt(np.prod(reader.band))) / reader.rate
    return generalized_phase(signal.astype(complex), advance=advance)[0]
