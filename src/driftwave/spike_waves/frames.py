"""The wave's frames: their clock, which of them lie in waves of a class, and in which trial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.spike_waves.trial_shuffle import FEWEST

RECORDING, EVENT = "recording", "event"
# Blocks of a continuous recording that make up for trials; more of them where it is long enough.
BLOCKS = 12
CYCLES = 5


@dataclass(frozen=True)
class Clock:
    """Evenly spaced frames: ``start`` (s) of the first, ``step`` (s), ``count`` of them."""

    start: float
    step: float
    count: int

    @classmethod
    def of(cls, time: np.ndarray) -> Clock:
        return cls(float(time[0]), float((time[-1] - time[0]) / (len(time) - 1)), len(time))

    def place(self, time: np.ndarray) -> np.ndarray:
        """Times (s) in frames, fractional."""
        return (np.asarray(time, dtype=float) - self.start) / self.step

    def frames(self, seconds: float) -> int:
        return max(1, round(seconds / self.step))

    def between(self, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Frames within any of the intervals (s), bool (frame,)."""
        inside = np.zeros(self.count + 1, dtype=int)
        first = np.clip(np.ceil(self.place(starts) - 1e-6), 0, self.count).astype(int)
        last = np.clip(np.ceil(self.place(stops) - 1e-6), 0, self.count).astype(int)
        np.add.at(inside, first, 1)
        np.add.at(inside, np.maximum(first, last), -1)
        return inside[:-1].cumsum() > 0


@dataclass(frozen=True)
class Waves:
    """Significant events: ``start`` and ``stop`` (event,) s, ``label`` and ``array`` (event,)."""

    start: np.ndarray
    stop: np.ndarray
    label: np.ndarray
    array: np.ndarray

    @classmethod
    def of(cls, table: xr.Dataset, level: float) -> Waves:
        """Events of a detector's table with q at most ``level``; all where it gives no q."""
        kept = np.ones(table.sizes["event"], dtype=bool)
        if "q" in table:
            kept = table["q"].values <= level
        blank = np.full(len(kept), "")
        array = blank
        if "array" in table and table["array"].dims == ("event",):
            array = table["array"].values.astype(str)
        return cls(
            table["start"].values[kept],
            table["stop"].values[kept],
            table["class"].values.astype(str)[kept],
            array[kept],
        )

    @property
    def classes(self) -> list[str]:
        """The whole recording, all events, and each class there is, in alphabetical order."""
        return [RECORDING, EVENT, *sorted(set(self.label))]

    def of_class(self, name: str, array: str) -> np.ndarray:
        """Events of a class on an array, bool (event,)."""
        here = self.array == array if array else np.ones(len(self.label), dtype=bool)
        return here if name in (RECORDING, EVENT) else here & (self.label == name)

    def mask(self, name: str, array: str, clock: Clock) -> np.ndarray:
        """Frames within events of a class, bool (frame,); all for the whole recording."""
        if name == RECORDING:
            return np.ones(clock.count, dtype=bool)
        chosen = self.of_class(name, array)
        return clock.between(self.start[chosen], self.stop[chosen])


@dataclass(frozen=True)
class TrialFrames:
    """How frames are cut for the trial-wise null.

    Attributes
    ----------
    starts : ndarray of int (trial,) or None
        First frame of each trial; None for a continuous recording, cut into blocks.
    length : int
        Frames of a trial, or of a block at most.
    shortest : int
        Frames of a block at least.
    """

    starts: np.ndarray | None
    length: int
    shortest: int

    @classmethod
    def of(
        cls, recording: xr.DataTree, clock: Clock, block: float, frequency: float
    ) -> TrialFrames:
        """Trials of the recording that lie within the frames, or blocks of ``block`` s."""
        shortest = clock.frames(CYCLES / frequency)
        if "spikes" in recording.children and not recording["spikes"].attrs.get("contiguous"):
            group = recording["spikes"].dataset
            seconds = group.sizes["time"] * float(group.attrs["bin_width"])
            length = int(seconds / clock.step + 1e-6)
            first = np.ceil(clock.place(group["trial_start"].values) - 1e-6).astype(int)
            first = first[(first >= 0) & (first + length <= clock.count)]
            if len(first) >= FEWEST and length >= 1:
                return cls(np.unique(first), length, shortest)
        return cls(None, max(shortest, clock.frames(block)), shortest)

    def inside(self, count: int) -> np.ndarray:
        """Frames that are used at all, bool (frame,)."""
        if self.starts is None:
            return np.ones(count, dtype=bool)
        edges = np.zeros(count + 1, dtype=int)
        np.add.at(edges, self.starts, 1)
        np.add.at(edges, self.starts + self.length, -1)
        return edges[:-1].cumsum() > 0

    def rows(self, valid: np.ndarray) -> np.ndarray | None:
        """Frames (trial, frame of the trial); None if they make too few trials.

        A continuous recording's valid frames, joined, are cut into blocks of equal length; the
        last, incomplete one is left out. Trials keep their invalid frames.
        """
        if self.starts is not None:
            frames = self.starts[:, None] + np.arange(self.length)
            return frames[valid[frames].any(axis=1)] if valid[frames].any() else None
        frames = np.flatnonzero(valid)
        length = max(self.shortest, min(self.length, len(frames) // BLOCKS))
        blocks = len(frames) // length
        if blocks < FEWEST:
            return None
        return frames[: blocks * length].reshape(blocks, length)
