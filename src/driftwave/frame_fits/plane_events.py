"""Planar events: where direction holds over consecutive frames, and how fast the wave goes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats
from scipy.ndimage import uniform_filter1d

from driftwave.frame_fits.stream import Measures
from driftwave.wave_events.spans import Span, SpanFinder

LONGEST_GAP = 0.1


def steady_resultant(measures: Measures, frames: int) -> np.ndarray:
    """Resultant of the plane fit that stays once directions are averaged, (frame,).

    With the frames' power w, resultant R and unit vector d of the direction,

        S = |<w R^2 d>| / sqrt(<w> <w R^2>),

    <> a moving average over ``frames`` frames: R itself while the direction holds, and small where
    it turns back and forth, as it does in standing patterns however well planes fit them.
    """
    vector, weight = _pull(measures)

    def smooth(values: np.ndarray) -> np.ndarray:
        return uniform_filter1d(values, frames, axis=-1, mode="constant")

    steady = np.abs(smooth(vector.real) + 1j * smooth(vector.imag))
    # The filter's running sums leave rounding errors of either sign where power is 0.
    power, part = (np.maximum(smooth(values), 0) for values in (measures["power"], weight))
    size = np.sqrt(power * part)
    statistic = steady / np.maximum(size, np.finfo(float).tiny)
    return np.where(measures["valid"], statistic, 0.0)


def _pull(measures: Measures) -> tuple[np.ndarray, np.ndarray]:
    """w R^2 d as a complex number, and w R^2, (frame,) each."""
    k = measures["k"][0] + 1j * measures["k"][1]
    weight = measures["power"] * measures["resultant"] ** 2
    return weight * k / np.maximum(np.abs(k), 1e-12), weight


@dataclass(frozen=True)
class EventFinder:
    """Runs of frames whose steady resultant exceeds a threshold; none holds a gap."""

    spans: SpanFinder
    threshold: float

    def __call__(self, statistic: np.ndarray, valid: np.ndarray) -> list[Span]:
        """Spans of a statistic (frame,); ``peak`` is the sum of what exceeds the threshold."""
        found = self.spans(statistic[None], np.array([self.threshold]), statistic)
        excess = np.maximum(statistic - self.threshold, 0)
        return [
            Span(a, b, float(excess[a:b].sum()))
            for span in found
            for a, b in _without_gaps(span, valid)
            if b - a >= self.spans.shortest
        ]


def _without_gaps(span: Span, valid: np.ndarray) -> list[tuple[int, int]]:
    inside = valid[span.start : span.stop]
    edges = span.start + np.flatnonzero(np.diff(inside, prepend=False, append=False))
    return [(a, b) for a, b in pairwise(edges.tolist()) if valid[a]]


def estimate(
    measures: Measures, span: Span, *, rate: float, draws: int, rng: np.random.Generator
) -> dict[str, float]:
    """Direction, speed and the rest of one event, with 95 % bootstrap intervals over cycles.

    The wavevector is the mean over frames of k weighted by w R^2 (the mean of |k| would be biased
    upwards by noise); speed is omega over its length, with the weighted median frequency.
    """
    here = slice(span.start, span.stop)
    part = {name: values[..., here] for name, values in measures.items()}
    weight = part["power"] * part["resultant"] ** 2
    pull = weight * (part["k"][0] + 1j * part["k"][1])
    mean = complex(pull.sum() / weight.sum())
    frequency = _median(part["frequency"], weight)
    cycle = (np.arange(len(weight)) * frequency / rate).astype(int)
    starts = np.flatnonzero(np.diff(cycle, prepend=-1))
    turn, size = _intervals(np.add.reduceat(pull, starts), np.add.reduceat(weight, starts),
                            mean, draws, rng)  # fmt: skip
    direction, wavenumber = float(np.angle(mean)), max(abs(mean), 1e-9)
    omega = 2 * np.pi * frequency
    return {
        "direction": np.degrees(direction),
        "direction_low": np.degrees(direction + turn[0]),
        "direction_high": np.degrees(direction + turn[1]),
        "speed": omega / wavenumber,
        "speed_low": omega / size[1],
        "speed_high": omega / size[0],
        "wavelength": 2 * np.pi / wavenumber,
        "wavenumber": wavenumber,
        "frequency": frequency,
        "resultant": float(np.average(part["resultant"], weights=weight)),
        "rho": float(np.average(part["rho"], weights=weight)),
        "aliased": float(np.average(part["aliased"], weights=weight)),
        "excess": span.peak / rate,
    }


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    """Weighted median."""
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(total, total[-1] / 2)]])


def _intervals(
    pull: np.ndarray, weight: np.ndarray, mean: complex, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Deviation of direction (rad) and wavenumber, 2.5 and 97.5 % each, from sums per cycle."""
    cycles = len(pull)
    counts = rng.multinomial(cycles, np.full(cycles, 1 / cycles), size=draws)
    drawn = (counts @ pull) / np.maximum(counts @ weight, np.finfo(float).tiny)
    # Percentile intervals of few cycles are too narrow.
    free = max(cycles - 1, 1)
    widen = np.sqrt(cycles / free) * stats.t.ppf(0.975, free) / stats.norm.ppf(0.975)
    quantiles = (0.025, 0.975)
    turn = np.clip(widen * np.quantile(np.angle(drawn * np.conj(mean)), quantiles), -np.pi, np.pi)
    ratio = np.log(np.maximum(np.abs(drawn), 1e-9) / max(abs(mean), 1e-9))
    spread = np.clip(widen * np.quantile(ratio, quantiles), -20, 20)
    return turn, max(abs(mean), 1e-9) * np.exp(spread)
