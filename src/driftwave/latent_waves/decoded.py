"""Waves of a field that a model decodes, beside those of the recording at the same times.

The decoded field is that of an oscillator model at the electrodes, sum over k of c_k z_k(t), or the
complex field of a lattice of coupled oscillators at its sites. The recorded one is the recording's
own field, band-passed, or where it has none the spike counts of units near each site. Both are read
frame by frame in the same way (:mod:`driftwave.latent_waves.site_statistics`), each against
zero-lag surrogates of itself.
"""

from __future__ import annotations

from typing import NamedTuple

import dask
import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.latent_waves.site_statistics import SiteFrames, Sites, join_frames
from driftwave.nulls.multiplicity import p_value
from driftwave.nulls.surrogates import CrossSpectrum, power_course, stretches, zero_lag_factors

DIRECTIONS = 24
LEVELS = 20
WINDINGS = 5
COURSE = 0.5  # s over which surrogates follow the field's power
SEGMENT = 1.0  # s
SHIFTS = 200
# A field's null is drawn for every signal; its mean, shown beside the field's, needs no more.
MOST_SURROGATES = 39


class SiteSignal(NamedTuple):
    """A complex field seen in stretches of time.

    Attributes
    ----------
    name : str
        recorded, decoded or truth.
    stretches : list of ndarray, complex (site, frame)
    rate : float
        Frames per second.
    sites : Sites
    """

    name: str
    stretches: list[np.ndarray]
    rate: float
    sites: Sites

    def parts(self) -> list[SiteFrames]:
        """What is read off the frames of each stretch."""
        return [self.sites(part) for part in self.stretches]


class Summary(NamedTuple):
    """Averages over frames.

    Attributes
    ----------
    directionality : float
    singularities : float
        Per frame.
    net_winding : float
        Size of the mean winding of a stretch, averaged over stretches: a field without lags winds
        one way as often as the other.
    """

    directionality: float
    singularities: float
    net_winding: float

    @classmethod
    def of(cls, parts: list[SiteFrames]) -> Summary:
        """Summarise the frames of several stretches."""
        frames = join_frames(parts)
        return cls(
            frames.mean(frames.directionality),
            frames.mean(frames.positive + frames.negative),
            float(np.mean([abs(part.mean(part.winding)) for part in parts])),
        )


class ZeroLag:
    """Draws surrogates of a signal that keep spectra and zero-lag coherence, and no lags."""

    def __init__(self, signal: SiteSignal) -> None:
        shortest = min(part.shape[1] for part in signal.stretches)
        self.length = max(4, min(round(SEGMENT * signal.rate), shortest))
        parts = [CrossSpectrum.of(part, self.length) for part in signal.stretches]
        gathered = parts[0]
        for part in parts[1:]:
            gathered = gathered + part
        self.factors = zero_lag_factors(gathered.mean)
        course = max(1, round(COURSE * signal.rate))
        self.gains = [
            power_course((np.abs(part) ** 2).sum(0), min(course, part.shape[1]))
            for part in signal.stretches
        ]
        self.sites = signal.sites

    def draw(self, rng: np.random.Generator) -> Summary:
        """Averages over one surrogate."""
        return Summary.of(
            [
                self.sites(piece)
                for gain in self.gains
                for piece in stretches(self.factors, gain, len(gain), rng)
            ]
        )


def field_statistics(signal: SiteSignal, *, surrogates: int, seed: int) -> xr.Dataset:
    """Directions, directionality and singularities of one field, with its zero-lag null.

    Parameters
    ----------
    signal : SiteSignal
    surrogates : int
        At most 39 are drawn.
    seed : int

    Returns
    -------
    Dataset
        Shares of power over ``direction_bin`` (degrees), ``level_bin`` (directionality) and
        ``winding``; their means; the null over ``field_surrogate``; p values.
    """
    parts = signal.parts()
    frames, found = join_frames(parts), Summary.of(parts)
    null = ZeroLag(signal)
    drawn = dask.compute(
        *[
            dask.delayed(null.draw)(generator(seed, "decoded field", signal.name, str(number)))
            for number in range(min(surrogates, MOST_SURROGATES))
        ]
    )
    level, rate, net = np.array(drawn, dtype=float).reshape(-1, len(found)).T
    plain = {"units": "1"}
    turns = np.arange(-WINDINGS, WINDINGS + 1)
    winding = np.clip(frames.winding, -WINDINGS, WINDINGS)
    east, north = (
        frames.mean(frames.directionality * axis(frames.direction)) for axis in (np.cos, np.sin)
    )
    degrees = np.degrees(frames.direction)
    return xr.Dataset(
        {
            "direction_share": ("direction_bin", _shares(degrees, frames, _turn_edges()), plain),
            "directionality_share": (
                "level_bin",
                _shares(frames.directionality, frames, np.linspace(0, 1, LEVELS + 1)),
                plain,
            ),
            "winding_share": (
                "winding",
                np.array([frames.mean(winding == turn) for turn in turns]),
                plain,
            ),
            "field_directionality": ((), found.directionality, plain),
            "field_direction": (
                (),
                float(np.degrees(np.arctan2(north, east))),
                {"units": "degree"},
            ),
            "field_wavenumber": ((), frames.mean(frames.wavenumber), {"units": "rad/mm"}),
            "singularity_rate": ((), found.singularities, {"units": "1/frame"}),
            "net_winding": ((), found.net_winding, plain),
            "null_directionality": ("field_surrogate", level, plain),
            "null_singularity_rate": ("field_surrogate", rate, {"units": "1/frame"}),
            "null_net_winding": ("field_surrogate", net, plain),
            "p_directionality": ((), float(p_value(level, found.directionality)), plain),
            "p_winding": ((), float(p_value(net, found.net_winding)), plain),
            "field_frames": ((), len(frames.power), {"units": "frame"}),
        },
        coords={
            "direction_bin": ("direction_bin", _centres(_turn_edges()), {"units": "degree"}),
            "level_bin": ("level_bin", _centres(np.linspace(0, 1, LEVELS + 1)), plain),
            "winding": ("winding", turns, plain),
        },
    )


def compare_fields(signals: list[SiteSignal], *, surrogates: int, seed: int) -> xr.Dataset:
    """Statistics of several fields side by side, and how far the decoded one follows the recorded.

    Parameters
    ----------
    signals : list of SiteSignal
        With frames at the same times.

    Returns
    -------
    Dataset
        :func:`field_statistics` over the dim ``signal``; ``direction_agreement`` (signal): mean
        cosine of the angle between its direction and the first signal's, weighted by the power of
        both, and ``null_direction_agreement``, its 95 % quantile with the frames shifted in time.
    """
    tables = [field_statistics(s, surrogates=surrogates, seed=seed) for s in signals]
    names = [signal.name for signal in signals]
    result = xr.concat(tables, dim="signal").assign_coords(signal=names)
    frames = [join_frames(signal.parts()) for signal in signals]
    rng = generator(seed, "direction agreement")
    pairs = [_agreement(frames[0], other, rng) for other in frames]
    result["direction_agreement"] = ("signal", np.array([p[0] for p in pairs]), {"units": "1"})
    result["null_direction_agreement"] = ("signal", np.array([p[1] for p in pairs]), {"units": "1"})
    return result


def _agreement(one: SiteFrames, other: SiteFrames, rng: np.random.Generator) -> tuple[float, float]:
    count = min(len(one.power), len(other.power))
    first = (one.power * np.exp(1j * one.direction))[:count]
    second = (other.power * np.exp(1j * other.direction))[:count]

    def cosine(shift: int) -> float:
        moved = np.roll(second, shift)
        weight = np.abs(first) @ np.abs(moved)
        return float((first @ moved.conj()).real / max(weight, np.finfo(float).tiny))

    if count <= 20:
        return cosine(0), float("nan")
    shifts = rng.integers(count // 10, count - count // 10, SHIFTS)
    return cosine(0), float(np.quantile([cosine(int(shift)) for shift in shifts], 0.95))


def _turn_edges() -> np.ndarray:
    return np.linspace(-180, 180, DIRECTIONS + 1)


def _centres(edges: np.ndarray) -> np.ndarray:
    return (edges[1:] + edges[:-1]) / 2


def _shares(values: np.ndarray, frames: SiteFrames, edges: np.ndarray) -> np.ndarray:
    total, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges, weights=frames.power)
    return total / max(float(total.sum()), np.finfo(float).tiny)
