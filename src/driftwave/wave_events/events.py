"""Wave events: when the field travels, and how."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.phase.directionality import Directionality
from driftwave.phase.frames import ALIASED, FieldReader
from driftwave.wave_events.intervals import parameter_covariance, plane_interval, plane_spread
from driftwave.wave_events.noise import ZeroLagNoise
from driftwave.wave_events.patterns import (
    CENTRED,
    CLASSES,
    Patterns,
    charge,
    circular_linear,
    mean_phase,
)
from driftwave.wave_events.spectra import peak_frequencies, snapshots
from driftwave.wave_events.standing import travelling_share
from driftwave.wave_events.verdict import Verdict, classify, prepared_for

STILL = ("synchronous", "standing", "none")
# Planes at two frequencies that travel within this angle (degree) of each other are one wave.
SAME = 30.0
NUMBERS = (
    "direction",
    "direction_low",
    "direction_high",
    "speed",
    "speed_low",
    "speed_high",
    "wavelength",
    "wavenumber",
    "centre_x",
    "centre_y",
    "centre_sd",
    "rho",
    "charge",
    "charge_share",
    "standing_ratio",
    "heldout_phase_error",
    "component",
)


@dataclass(frozen=True)
class Estimate:
    """One event's row of the table and its mean phase map.

    Attributes
    ----------
    row : dict
    verdict : Verdict
    phase : ndarray (electrode,)
        rad.
    further : tuple of Estimate
        Other waves in the same stretch, at other frequencies.
    """

    row: dict[str, float | str]
    verdict: Verdict
    phase: np.ndarray
    further: tuple[Estimate, ...] = ()


@dataclass(frozen=True)
class Piece:
    """An event's analytic signal, phase (rad) and interpolated samples, (electrode, frame) each."""

    signal: np.ndarray
    phase: np.ndarray
    filled: np.ndarray


def estimate_group(
    reader: FieldReader,
    measure: Directionality,
    patterns: Patterns,
    frames: list[tuple[int, int]],
    *,
    generalized: bool,
    draws: int,
    streams: list[np.random.Generator],
    noise: ZeroLagNoise | None = None,
) -> list[Estimate]:
    """Estimate neighbouring events, given by first and last frame, from one read of the field."""
    first = min(start for start, _ in frames)
    last = max(stop for _, stop in frames)
    stretch = reader.stretch(first, last, generalized=generalized)
    return [
        estimate(
            reader,
            measure,
            patterns,
            *(part[:, start - first : stop - first] for part in stretch),
            draws=draws,
            rng=rng,
            noise=noise,
        )
        for (start, stop), rng in zip(frames, streams, strict=True)
    ]


def estimate(
    reader: FieldReader,
    measure: Directionality,
    patterns: Patterns,
    signal: np.ndarray,
    phase: np.ndarray,
    filled: np.ndarray,
    *,
    draws: int,
    rng: np.random.Generator,
    noise: ZeroLagNoise | None = None,
) -> Estimate:
    """Estimate pattern, direction, speed and the rest of one event, and of further waves in it.

    ``signal`` (analytic), ``phase`` (rad) and ``filled`` (interpolated samples) are the event's
    (electrode, frame) each. ``noise`` is what the recording's electrodes share without lags; with
    it fits are generalised least squares and intervals those of their residuals, without it noise
    is taken for independent and equal on all electrodes and intervals are a bootstrap over cycles.
    """
    piece = Piece(signal, phase, filled)
    frequencies = peak_frequencies(signal, reader.rate, reader.band, measure)
    found: list[Estimate] = []
    for number, frequency in enumerate(frequencies):
        others = tuple(f for f in frequencies if f != frequency)
        one = _estimate(reader, patterns, piece, frequency, others, draws, rng, noise)
        if number == 0 or _own(one, found):
            one.row["component"] = float(len(found))
            found.append(one)
    main = found[0]
    return Estimate(main.row, main.verdict, main.phase, tuple(found[1:]))


def _own(one: Estimate, found: list[Estimate]) -> bool:
    """Whether a wave at a lesser peak is one of its own, not another frequency of one found."""
    if one.verdict.name in STILL:
        return False
    for other in found:
        if one.verdict.name != other.verdict.name:
            continue
        if one.verdict.name != "planar":
            return False
        turn = float(one.row["direction"]) - float(other.row["direction"])
        if abs((turn + 180) % 360 - 180) < SAME:
            return False
    return True


def _estimate(
    reader: FieldReader,
    patterns: Patterns,
    piece: Piece,
    frequency: float,
    others: tuple[float, ...],
    draws: int,
    rng: np.random.Generator,
    noise: ZeroLagNoise | None,
) -> Estimate:
    values, parts = snapshots(piece.signal, reader.rate, frequency, others=others)
    covariance = noise(frequency) if noise is not None else None
    verdict = classify(patterns, values, covariance, _possible(patterns))
    at = CLASSES.index(verdict.name)
    row: dict[str, float | str] = {
        "class": verdict.name,
        "frequency": frequency,
        "interpolated": float(piece.filled.mean()),
        "resultant": float(verdict.resultant[at]),
        "evidence": verdict.evidence,
        "prediction_synchronous": float(verdict.prediction[0]),
    }
    row |= dict.fromkeys(NUMBERS, np.nan)
    row["aliased"] = 0.0
    if verdict.name != "none":
        row["heldout_phase_error"] = float(verdict.phase_error[at])
    fitted = verdict.patterns.get(verdict.name)
    pattern = mean_phase(values, None if fitted is None else np.angle(fitted))
    event = Event(reader, patterns, verdict, frequency, values, covariance)
    if verdict.name == "planar":
        row |= event.planar(parts, draws, rng)
    elif verdict.name == "standing":
        row |= event.standing()
    elif verdict.name.startswith(CENTRED):
        row |= event.centred(pattern, piece.phase)
    return Estimate(row, verdict, pattern)


def _possible(patterns: Patterns) -> tuple[str, ...]:
    """On a line nothing can be told to turn or to have a centre."""
    if "rotating_cw" in patterns:
        return CLASSES
    return ("synchronous", "standing", "planar", "none")


@dataclass(frozen=True)
class Event:
    """What the numbers of one class of wave are read from."""

    reader: FieldReader
    patterns: Patterns
    verdict: Verdict
    frequency: float
    values: np.ndarray
    noise: np.ndarray | None

    def planar(self, parts: np.ndarray, draws: int, rng: np.random.Generator) -> dict[str, float]:
        """Direction, speed and their intervals."""
        k = self.reader.electrodes.seen(self.verdict.parameters["planar"])
        if self.noise is None:
            turn, sizes = plane_interval(k, self.patterns.position, parts, rng, draws)
        else:
            turn, sizes = plane_spread(k, self._covariance(k), rng, draws)
        size = max(float(np.hypot(*k)), 1e-9)
        direction = float(np.degrees(np.arctan2(k[1], k[0])))
        omega = 2 * np.pi * self.frequency
        return {
            "direction": direction,
            "direction_low": direction + float(np.degrees(turn[0])),
            "direction_high": direction + float(np.degrees(turn[1])),
            "speed_low": omega / max(float(sizes[1]), 1e-9),
            "speed_high": omega / max(float(sizes[0]), 1e-9),
            "standing_ratio": self._share(k),
            **self._sizes(size),
            "aliased": float(self.reader.electrodes.steps(k).max() > ALIASED * np.pi),
        }

    def standing(self) -> dict[str, float]:
        """Wavelength of two opposite planes, and how much one exceeds the other."""
        k = self.verdict.parameters.get("standing")
        if k is None:
            k = self.verdict.parameters["planar"]
            return {"standing_ratio": self._share(k[:2])}
        size = max(float(np.hypot(*k[:2])), 1e-9)
        return {
            "standing_ratio": self._share(k[:2]),
            "wavelength": 2 * np.pi / size,
            "wavenumber": size,
        }

    def centred(self, pattern: np.ndarray, phase: np.ndarray) -> dict[str, float]:
        """Centre, and what radial waves, rotating ones and spirals have beside it."""
        name = self.verdict.name
        fitted = self.verdict.parameters[name]
        row = {"centre_x": float(fitted[0]), "centre_y": float(fitted[1])}
        position = self.reader.electrodes.position
        distance = np.hypot(*(position - fitted[:2]).T)
        kappa = float(fitted[2]) if len(fitted) > 2 else 0.0
        if self.noise is not None:
            local = np.array([*(fitted[:2] - self.patterns.centroid), kappa])
            spread = self._covariance(local)
            row["centre_sd"] = float(np.sqrt(max(np.trace(spread[:2, :2]) / 2, 0)))
            if kappa:
                ends = abs(kappa) + 1.96 * np.sqrt(spread[2, 2]) * np.array([1, -1])
                fast = 2 * np.pi * self.frequency / np.maximum(ends, 1e-9)
                row |= {"speed_low": float(fast[0]), "speed_high": float(fast[1])}
        if kappa:
            row |= self._sizes(max(abs(kappa), 1e-9))
            steep = abs(kappa) * self.reader.electrodes.spacing.max()
            row["aliased"] = float(steep > ALIASED * np.pi)
        if name.startswith("radial"):
            row["rho"] = circular_linear(pattern, distance)
        else:
            unwound = kappa * distance[:, None]
            row |= self._winding(pattern[:, None] + unwound, phase + unwound, fitted[:2])
        if name.startswith("spiral"):
            row["charge"] = float(self.verdict.charge)
        return row

    def _winding(
        self, pattern: np.ndarray, phase: np.ndarray, centre: np.ndarray
    ) -> dict[str, float]:
        """Charge of the event's mean phase map, and the share of frames that wind alike."""
        electrodes = self.reader.electrodes
        rings = {"inner": 1.5 * electrodes.pitch, "outer": 2.6 * electrodes.pitch}
        whole = int(charge(pattern, electrodes.position, centre, **rings)[0])
        frames = charge(phase, electrodes.position, centre, **rings)
        return {"charge": float(whole), "charge_share": float((frames == whole).mean())}

    def _sizes(self, size: float) -> dict[str, float]:
        return {
            "speed": 2 * np.pi * self.frequency / size,
            "wavelength": 2 * np.pi / size,
            "wavenumber": size,
        }

    def _covariance(self, parameters: np.ndarray) -> np.ndarray:
        patterns = self.patterns
        return parameter_covariance(
            self.verdict.name,
            parameters,
            patterns.position,
            prepared_for(patterns, self.noise),
            self.values,
            patterns.closest,
        )

    def _share(self, k: np.ndarray) -> float:
        whitening = prepared_for(self.patterns, self.noise).whitening
        scaled = self.values / whitening.scale[:, None]
        return travelling_share(k, self.patterns.position, whitening.weights, scaled)
