"""Which responses stand out: peaks of windowed counts against those of spontaneous intervals."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.stats import mannwhitneyu

from driftwave.nulls.multiplicity import benjamini_hochberg
from driftwave.recording import trial_mask
from driftwave.tuning.design import Design
from driftwave.tuning.spikes import SpikeTrains, trains_of, trial_window, unit_blocks

STEP = 0.01  # s; windows start this far apart
LEAST_INTERVALS = 10


@dataclass(frozen=True)
class Spontaneous:
    """Pieces of the session without stimulus, all of one length.

    Attributes
    ----------
    starts : ndarray (interval, piece)
        s; the pieces of an interval together are compared with one trial.
    piece : float
        Length of a piece, s; trials are cut into pieces alike.
    rule : str
    """

    starts: np.ndarray
    piece: float
    rule: str


def significance(
    recording: xr.DataTree,
    design: Design,
    *,
    window: float = 0.1,
    settle: float = 0.25,
    alpha: float = 1e-3,
    false_discovery_rate: float = 0.05,
) -> xr.Dataset:
    """Test every unit's response to every stimulus against its spontaneous activity.

    The largest (and the least) count in any window of a trial is compared with the same extreme
    of spontaneous intervals of the same length and cut, so that neither has more windows to
    choose from: one-sided rank tests of each direction's trials, and of all directions' together.
    The least of these p is multiplied by their number (Bonferroni). A map is significant if that
    is at most ``alpha`` and the false discovery rate over units and stimuli is in bounds too.

    Parameters
    ----------
    recording : DataTree
    design : Design
    window : float
        Length of a window, s; at most half a trial.
    settle : float
        Time after a trial that is not yet spontaneous, s.
    alpha : float
        Largest p of a map.
    false_discovery_rate : float
        Largest rate, over units and stimuli, at which a map counts as significant.

    Returns
    -------
    Dataset
        ``p``, ``q`` and ``significant`` (unit, stimulus); attribute ``spontaneous`` says what was
        compared with. Without any spontaneous interval p and q are NaN and all are significant.
    """
    trains = trains_of(recording)
    units = recording["spikes"].dataset["unit"].values
    rest = None if trains is None else spontaneous_intervals(recording, design, settle, window)
    p = np.full((len(units), len(design.stimulus)), np.nan)
    if rest is not None and trains is not None:
        for block in unit_blocks(len(units)):
            p[block] = _p_values(recording, trains, design, rest, window, block)
    q = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    q[known] = benjamini_hochberg(p[known])
    kept = (
        (p <= alpha) & (q <= false_discovery_rate) if rest is not None else np.ones(p.shape, bool)
    )
    dims = ("unit", "stimulus")
    return xr.Dataset(
        {
            "p": (dims, p, {"units": "1"}),
            "q": (dims, q, {"units": "1", "long_name": "false discovery rate"}),
            "significant": (dims, kept),
        },
        coords={"unit": units, "stimulus": design.stimulus},
        attrs={
            "spontaneous": rest.rule if rest else "none: responses were not tested",
            "alpha": alpha,
            "false_discovery_rate": false_discovery_rate,
        },
    )


def spontaneous_intervals(
    recording: xr.DataTree, design: Design, settle: float, window: float
) -> Spontaneous | None:
    """Blank trials, else the gaps between trials; None with fewer than 10 intervals.

    A gap shorter than a trial gives pieces of two windows at least; as many as make up a trial
    form one interval, each used once.
    """
    starts, length = trial_window(recording)
    if design.blank.sum() >= LEAST_INTERVALS:
        return Spontaneous(starts[design.blank][:, None], length, "trials without a direction")
    from_, to = _gaps(recording, settle)
    gap = to - from_
    if not len(gap):
        return None
    most = float(np.quantile(gap, 0.25))
    count = max(1, int(np.ceil(length / max(most, 1e-9) - 1e-9)))
    piece = STEP * np.floor(length / count / STEP + 1e-6)
    if piece < 2 * window:
        return None
    pieces = [
        np.arange(int((b - a) / piece + 1e-9)) * piece + a for a, b in zip(from_, to, strict=True)
    ]
    found = np.concatenate(pieces)
    intervals = len(found) // count
    if intervals < LEAST_INTERVALS:
        return None
    # Pieces of one interval come from all over the session, as slow drifts would else be shared.
    order = np.arange(intervals * count).reshape(count, intervals).T
    rule = f"{intervals} intervals of {count} x {piece:.3g} s between trials"
    return Spontaneous(found[order], piece, rule)


def _gaps(recording: xr.DataTree, settle: float) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops (gap,), s, of what lies between the trials within what was observed."""
    trials = recording["trials"].dataset
    starts, _ = trial_window(recording)
    # The table's stop is the stimulus's where the layout's window ends before it.
    stop = trials["stop"].values.astype(float)
    if "stop_time" in trials:
        stop = np.fmax(stop, trials["stop_time"].values.astype(float))
    begin = starts
    if "start_time" in trials:
        begin = np.fmin(begin, trials["start_time"].values.astype(float))
    order = np.argsort(begin)
    begin, busy = begin[order], np.maximum.accumulate(stop[order]) + settle
    from_, to = busy[:-1], begin[1:]
    kept = to > from_
    observed = recording["spike_times"].attrs.get("observed", "[]")
    pieces = json.loads(observed) if isinstance(observed, str) else observed
    if len(pieces):
        kept &= np.any([(from_ >= a) & (to <= b) for a, b in pieces], axis=0)
    return from_[kept], to[kept]


def windowed_extremes(counts: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest and least count in any window (interval, unit).

    Parameters
    ----------
    counts : ndarray (interval, piece, bin, unit)
        Windows do not reach from one piece into the next.
    window : int
        Bins.
    """
    running = np.cumsum(counts, axis=2, dtype=np.int32)
    running = np.concatenate([np.zeros_like(running[:, :, :1]), running], axis=2)
    sums = running[:, :, window:] - running[:, :, :-window]
    return sums.max(axis=(1, 2)), sums.min(axis=(1, 2))


def _p_values(
    recording: xr.DataTree,
    trains: SpikeTrains,
    design: Design,
    rest: Spontaneous,
    window: float,
    units: slice,
) -> np.ndarray:
    """p (unit, stimulus) of a slice of units."""
    used = design.used & trial_mask(recording, "train", "valid", "test")
    starts = trial_window(recording)[0][used]
    count = rest.starts.shape[1]
    pieces = starts[:, None] + np.arange(count) * rest.piece
    bins = max(1, round(window / STEP))
    evoked = windowed_extremes(_pieces(trains, pieces, rest.piece, units), bins)
    spontaneous = windowed_extremes(_pieces(trains, rest.starts, rest.piece, units), bins)
    stimulus, direction = design.of_stimulus[used], design.of_direction[used]
    out = np.ones((evoked[0].shape[1], len(design.stimulus)))
    for s in range(len(design.stimulus)):
        groups = [stimulus == s]
        if len(design.direction) > 1:
            groups += [(stimulus == s) & (direction == d) for d in range(len(design.direction))]
        found = [
            rank_p(values[group], reference, sign)
            for group in groups
            for values, reference, sign in zip(
                evoked, spontaneous, ("greater", "less"), strict=True
            )
        ]
        out[:, s] = np.minimum(np.min(found, axis=0) * len(found), 1)
    return out


def _pieces(trains: SpikeTrains, starts: np.ndarray, piece: float, units: slice) -> np.ndarray:
    counts = trains.count(starts.ravel(), piece, STEP, units)
    return counts.reshape(*starts.shape, *counts.shape[1:])


def rank_p(values: np.ndarray, reference: np.ndarray, alternative: str) -> np.ndarray:
    """p (unit,) of Mann and Whitney's test of values (row, unit) against a reference; 1 if tied."""
    together = np.concatenate([values, reference])
    varies = np.ptp(together, axis=0) > 0
    out = np.ones(values.shape[1])
    if varies.any():
        out[varies] = mannwhitneyu(
            values[:, varies], reference[:, varies], alternative=alternative, axis=0,
            method="asymptotic",
        ).pvalue  # fmt: skip
    return out
