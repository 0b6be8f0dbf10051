"""How one unit's spikes go with the phase of the wave at its electrode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from driftwave.spike_waves.circular import (
    direction_interval,
    moments,
    phase_bin,
    rayleigh_p,
    weights_of,
)
from driftwave.spike_waves.frames import RECORDING, Clock, TrialFrames, Waves
from driftwave.spike_waves.trial_shuffle import PairedMoments, derangements, shuffle_p
from driftwave.spike_waves.triggered import Triggered, about_cycles, about_events

CYCLE_BINS = 16
CYCLE_SPAN = 1.5
BAND_DRAWS = 200


@dataclass(frozen=True)
class Spikes:
    """A unit's spikes beside the phase of its electrode.

    Attributes
    ----------
    time : ndarray (spike,)
        s.
    frame : ndarray of int (spike,)
        Nearest frame.
    phase : ndarray (spike,)
        rad, interpolated between frames; NaN in gaps.
    """

    time: np.ndarray
    frame: np.ndarray
    phase: np.ndarray

    @classmethod
    def of(cls, time: np.ndarray, course: np.ndarray, clock: Clock) -> Spikes:
        """Read the phase course (frame,) at spike times (spike,), s, that it covers."""
        place = clock.place(time)
        covered = (place >= 0) & (place <= clock.count - 1)
        time, place = time[covered], place[covered]
        low = np.minimum(place.astype(int), clock.count - 2)
        here, after = course[low], course[low + 1]
        step = (after - here + np.pi) % (2 * np.pi) - np.pi
        phase = here + (place - low) * step
        phase = (phase + np.pi) % (2 * np.pi) - np.pi
        return cls(time, np.rint(place).astype(int), phase)


@dataclass(frozen=True)
class Settings:
    """What all units share; times in s.

    Attributes
    ----------
    params : Params
        Of :mod:`driftwave.spike_waves.coupling`.
    clock : Clock
    waves : Waves
    trials : TrialFrames
    period : float
        Of the wave, s.
    lags : ndarray of int (lag,)
        About starts of events, in bins of ``params.lag_bin``.
    """

    params: Any
    clock: Clock
    waves: Waves
    trials: TrialFrames
    period: float
    lags: np.ndarray

    @property
    def cycle_bin(self) -> float:
        """Bin width about cycles, s."""
        return self.period / CYCLE_BINS

    @property
    def cycle_lags(self) -> np.ndarray:
        """Lags about cycles, in bins of ``cycle_bin``."""
        reach = round(CYCLE_SPAN * CYCLE_BINS)
        return np.arange(-reach, reach + 1)


@dataclass
class Coupling:
    """Numbers and arrays of one unit and one class of frames, by name; missing ones are NaN."""

    values: dict[str, Any] = field(default_factory=dict)


def couple_unit(
    time: np.ndarray,
    course: np.ndarray,
    array: str,
    settings: Settings,
    rng: np.random.Generator,
) -> list[Coupling]:
    """Hold one unit's spikes against the phase of its electrode, class by class.

    Parameters
    ----------
    time : ndarray (spike,)
        Spike times, s.
    course : ndarray (frame,)
        Phase, rad; NaN where it must not be used.
    array : str
        Of the electrode.
    settings : Settings
    rng : Generator
    """
    clock = settings.clock
    spikes = Spikes.of(time, course, clock)
    usable = np.isfinite(course) & settings.trials.inside(clock.count)
    found = []
    for name in settings.waves.classes:
        valid = usable & settings.waves.mask(name, array, clock)
        values = _locking(spikes, course, valid, settings, rng)
        values |= _about_cycles(spikes, course, valid, settings, rng)
        if name != RECORDING:
            events = settings.waves.of_class(name, array)
            values |= _about_starts(spikes.time, settings.waves.start[events], settings, rng)
        found.append(Coupling(values))
    return found


def _locking(
    spikes: Spikes,
    course: np.ndarray,
    valid: np.ndarray,
    settings: Settings,
    rng: np.random.Generator,
) -> dict[str, Any]:
    params, step, bins = settings.params, settings.clock.step, settings.params.phase_bins
    occupancy = np.bincount(phase_bin(course[valid], bins), minlength=bins)
    seconds = float(valid.sum() * step)
    kept = valid[spikes.frame] & np.isfinite(spikes.phase)
    phase = spikes.phase[kept]
    values: dict[str, Any] = {"spikes": int(kept.sum()), "seconds": seconds}
    if seconds > 0:
        values["rate"] = len(phase) / seconds
        values["occupancy"] = occupancy / occupancy.sum()
    if len(phase) < params.least_spikes:
        return values
    own = phase_bin(phase, bins)
    weights = weights_of(occupancy)
    total = moments(phase, weights[own])
    # Stretches of a few cycles: long beside a spike train's memory, many enough to be drawn from.
    block = spikes.frame[kept] // settings.trials.shortest
    vectors = _summed(weights[own] * np.exp(1j * phase), block - block.min())
    low, high = direction_interval(vectors, params.bootstrap, rng)
    values |= {
        "resultant": float(total.resultant),
        "preferred_phase": float(np.degrees(total.direction)),
        "preferred_phase_low": np.degrees(low),
        "preferred_phase_high": np.degrees(high),
        "ppc": float(total.ppc),
        "rayleigh_p": rayleigh_p(phase),
        "phase_rate": _rates(np.bincount(own, minlength=bins), occupancy, step),
    }
    return values | _null(spikes.frame[kept], course, valid, weights, settings, rng)


def _summed(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Complex values summed per group."""
    return np.bincount(group, values.real) + 1j * np.bincount(group, values.imag)


def _rates(counts: np.ndarray, occupancy: np.ndarray, step: float) -> np.ndarray:
    """Hz; NaN at phases that never occur."""
    time = occupancy * step
    return np.divide(counts, time, out=np.full(counts.shape, np.nan), where=time > 0)


def _null(
    frames: np.ndarray,
    course: np.ndarray,
    valid: np.ndarray,
    weights: np.ndarray,
    settings: Settings,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """P value and what locking looks like with trials shuffled."""
    params, bins = settings.params, len(weights)
    rows = settings.trials.rows(valid)
    if rows is None or len(rows) < 2:
        return {}
    counts = np.bincount(frames, minlength=len(course)).astype(float)[rows]
    used = valid[rows]
    counts[~used] = 0
    safe = np.where(used, np.nan_to_num(course[rows]), 0.0)
    own = phase_bin(safe, bins)
    phasor, weight = np.where(used, np.exp(1j * safe), 0), np.where(used, weights[own], 0.0)
    paired = PairedMoments.of(counts, phasor, weight)
    orders = derangements(len(rows), params.surrogates, rng)
    p, null = shuffle_p(paired, orders)
    trial, place = np.nonzero(counts)
    many, share = counts[trial, place], np.zeros((min(BAND_DRAWS, len(orders)), bins))
    occupancy = np.bincount(own[used], minlength=bins)
    for draw, order in enumerate(orders[: len(share)]):
        which = own[order[trial], place]
        there = used[order[trial], place]
        hits = np.bincount(which[there], weights=many[there], minlength=bins)
        share[draw] = _rates(hits, occupancy, settings.clock.step)
    return {
        "p": p,
        "null_ppc": float(np.nanmean(null)),
        "null_resultant": float(np.nanquantile(paired.along(orders).resultant, 0.95)),
        "phase_rate_low": np.quantile(share, 0.025, axis=0),
        "phase_rate_high": np.quantile(share, 0.975, axis=0),
    }


def _about_starts(
    time: np.ndarray, starts: np.ndarray, settings: Settings, rng: np.random.Generator
) -> dict[str, Any]:
    """Rates about the starts of events."""
    params, clock, lags = settings.params, settings.clock, settings.lags
    bins = int(clock.count * clock.step / params.lag_bin)
    place = ((starts - clock.start) / params.lag_bin).astype(int)
    place = place[(place + lags[0] >= 0) & (place + lags[-1] < bins)]
    found = about_events(
        _binned(time, clock.start, params.lag_bin, bins),
        place,
        lags,
        params.lag_bin,
        jitter=max(1, round(params.shift / params.lag_bin)),
        draws=params.surrogates,
        rng=rng,
    )
    return {"events": len(place), **_named("event", found)}


def _about_cycles(
    spikes: Spikes,
    course: np.ndarray,
    valid: np.ndarray,
    settings: Settings,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Rates about the wave's peaks (phase 0) at the unit's electrode."""
    clock, width = settings.clock, settings.cycle_bin
    lags = settings.cycle_lags
    here, after = course[:-1], course[1:]
    rising = (here < 0) & (after >= 0) & (after - here < np.pi) & valid[:-1] & valid[1:]
    at = np.flatnonzero(rising)
    part = -here[at] / np.maximum(after[at] - here[at], 1e-12)
    bins = int(clock.count * clock.step / width)
    place = ((at + part) * clock.step / width).astype(int)
    place = place[(place + lags[0] >= 0) & (place + lags[-1] < bins)]
    triggers = np.bincount(place, minlength=bins)
    found = about_cycles(
        _binned(spikes.time, clock.start, width, bins),
        triggers,
        lags,
        width,
        least=max(1, round(settings.params.shift / width)),
        draws=settings.params.surrogates,
        rng=rng,
    )
    return _named("cycle", found)


def _binned(time: np.ndarray, start: float, width: float, bins: int) -> np.ndarray:
    place = ((time - start) / width).astype(int)
    return np.bincount(place[place < bins], minlength=bins)


def _named(about: str, found: Triggered | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        f"{about}_rate": found.rate,
        f"{about}_rate_low": found.low,
        f"{about}_rate_high": found.high,
        f"{about}_p": found.p,
    }
