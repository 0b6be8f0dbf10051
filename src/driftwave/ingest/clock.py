"""Clocks that run backwards, stand still or leave gaps: put in order where that is safe."""

from __future__ import annotations

import numpy as np

from driftwave.ingest.file import NwbFile
from driftwave.joblog import note

# Runs of stamps may overlap by this many sampling intervals: a buffer written late, not a clock
# that began anew.
_LATE = 10
# A longer distance, in median ones, is a gap.
GAP = 2.5


def in_order(file: NwbFile, times: np.ndarray, field: str, *, repeats: bool = False) -> np.ndarray:
    """Indices that bring samples into the order of their stamps, each stamp once.

    Stamps that are missing (NaN) and repetitions of a stamp are left out, the first of a stamp's
    samples staying; all of this is said. Pieces written in another order are sorted. A clock that
    begins anew is refused: its pieces would be woven into one another.

    Parameters
    ----------
    times : ndarray (sample,)
        s, in the order of the file.
    repeats : bool
        Keep all samples of a stamp, as for events.

    Returns
    -------
    ndarray of int (kept,)

    Raises
    ------
    InputError
        If stretches of the recording overlap in time.
    """
    kept = np.flatnonzero(np.isfinite(times))
    if len(kept) < len(times):
        note(f"{len(times) - len(kept)} samples of {field} have no time stamp: left out")
    t = times[kept]
    back = np.flatnonzero(np.diff(t) < 0) + 1
    if len(back):
        _refuse_restart(file, t, back, field)
        order = np.argsort(t, kind="stable")
        kept, t = kept[order], t[order]
        note(f"time stamps of {field} step back {len(back)} times: sorted")
    first = (np.diff(t, prepend=-np.inf) > 0) | repeats
    if not first.all():
        note(f"{int((~first).sum())} samples of {field} repeat a time stamp: left out")
    return kept[first]


def _refuse_restart(file: NwbFile, t: np.ndarray, back: np.ndarray, field: str) -> None:
    begins, ends = np.concatenate([[0], back]), np.concatenate([back, [len(t)]]) - 1
    steps = np.diff(t)
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    # Within a run stamps ascend, so its ends are its first and last time.
    order = np.argsort(t[begins], kind="stable")
    low, high = t[begins][order], np.maximum.accumulate(t[ends][order])
    woven = np.flatnonzero(high[:-1] - low[1:] > _LATE * step)
    if len(woven):
        k = back[0]
        raise file.fault(
            f"{field} timestamps",
            f"a clock that goes back from {t[k - 1]:.6g} to {t[k]:.6g} s, so that stretches of "
            "the recording overlap",
            "each time once",
            "Mend the time stamps in the file, or leave this series out of the layout",
        )


def stretches(times: np.ndarray, step: float) -> np.ndarray:
    """Stretches (interval, 2), s, of ascending stamps without a gap; each ends a step later.

    Parameters
    ----------
    times : ndarray (sample,)
        s.
    step : float
        Usual distance of two stamps, s; more than :data:`GAP` of it is a gap.
    """
    after = np.flatnonzero(np.diff(times) > GAP * step)
    starts = times[np.concatenate([[0], after + 1])]
    stops = times[np.concatenate([after, [len(times) - 1]])] + step
    return np.stack([starts, stops], axis=1)
