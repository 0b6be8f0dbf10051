"""Uneven samples of a field brought to an even clock, missing where there was a gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pynwb

from driftwave.ingest.clock import GAP, stretches
from driftwave.ingest.file import NwbFile
from driftwave.ingest.limits import check_even_clock
from driftwave.ingest.series import SampleRange, times_of


@dataclass(frozen=True)
class EvenClock:
    """An even clock laid through uneven stamps.

    Attributes
    ----------
    first : int
        Stored sample of the first stamp.
    stamps : ndarray (sample,)
        Ascending, s; in memory, eight bytes each.
    rate : float
        One over the mean distance of the stamps, gaps apart, Hz.
    """

    first: int
    stamps: np.ndarray
    rate: float

    @property
    def samples(self) -> SampleRange:
        """Samples of the even clock, from the first stamp to the last."""
        number = int(np.floor((self.stamps[-1] - self.stamps[0]) * self.rate + 1e-6)) + 1
        return SampleRange(0, number, float(self.stamps[0]), self.rate)

    @property
    def recorded(self) -> np.ndarray:
        """Stretches (interval, 2), s, without a gap."""
        return stretches(self.stamps, 1 / self.rate)

    def facts(self) -> dict[str, Any]:
        """For the attributes: that samples were interpolated, and over how many gaps none."""
        return {"clock": "interpolated from uneven time stamps", "gaps": len(self.recorded) - 1}

    def interpolated(
        self, read: Callable[[int, int], np.ndarray], start: int, stop: int
    ) -> np.ndarray:
        """Samples ``start`` to ``stop`` of the even clock, float32 (sample, electrode).

        Linear between the stored samples around each; NaN in a gap of more than
        :data:`driftwave.ingest.clock.GAP` usual distances.

        Parameters
        ----------
        read : callable
            Gives stored samples from one index to another, (sample, electrode).
        start, stop : int
        """
        # A sample that rounding puts beyond the last stamp is the last one.
        times = np.minimum(self.stamps[0] + np.arange(start, stop) / self.rate, self.stamps[-1])
        left = np.clip(np.searchsorted(self.stamps, times, "right") - 1, 0, len(self.stamps) - 2)
        low, high = int(left[0]), int(left[-1]) + 2
        raw = read(self.first + low, self.first + high)
        apart = self.stamps[left + 1] - self.stamps[left]
        share = ((times - self.stamps[left]) / apart)[:, None].astype(np.float32)
        before, after = raw[left - low], raw[left + 1 - low]
        # A sample on a stamp is that sample, whatever its neighbour is.
        found = np.where(share == 0, before, np.where(share == 1, after, 0))
        between = (share > 0) & (share < 1)
        found = np.where(between, before + share * (after - before), found)
        gap = (apart > GAP / self.rate) & between[:, 0]
        found[gap] = np.nan
        return found


def even_clock(
    file: NwbFile,
    series: pynwb.TimeSeries,
    field: str,
    start: float | None,
    stop: float | None,
) -> EvenClock:
    """Lay an even clock through a series' stamps from ``start`` to ``stop`` (exclusive), s.

    Raises
    ------
    InputError
        If the stamps do not ascend, or fewer than two lie between.
    """
    times = times_of(file, series, field)
    back = np.flatnonzero(~(np.diff(times) > 0))
    if len(back):
        raise file.fault(
            f"{field} timestamps",
            f"{len(back)} time stamps not after the last, the first after {times[back[0]]:.6g} s",
            "ascending time stamps",
            "Mend the file",
        )
    low = 0 if start is None else int(np.searchsorted(times, start))
    high = len(times) if stop is None else int(np.searchsorted(times, stop))
    if high - low < 2:
        raise file.fault(
            field,
            f"{max(0, high - low)} samples between start {start} and stop {stop}",
            "at least 2 samples",
            "Mend `start` and `stop` in the layout",
        )
    chosen = times[low:high]
    steps = np.diff(chosen)
    # The mean is the step of a jittered clock, the median is not; gaps must not count.
    step = float(steps[steps <= GAP * np.median(steps)].mean())
    check_even_clock(file, field, (chosen[-1] - chosen[0]) / step, len(chosen))
    return EvenClock(low, chosen, 1 / step)
