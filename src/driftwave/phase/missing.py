"""Missing samples of a recording's field: which electrodes to drop, what to fill, what to mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

BLOCK_BYTES = 32_000_000


@dataclass(frozen=True)
class Missing:
    """Runs of samples that are not finite, with the values on either side.

    Attributes
    ----------
    electrode : ndarray of int (run,)
        Column of the electrode among those that were scanned.
    start, stop : ndarray of int (run,)
        Samples.
    before, after : ndarray (run,)
        The last finite value before and the first one after; NaN beyond the recording's ends.
    """

    electrode: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def none(cls) -> Missing:
        """Nothing is missing."""
        whole, real = np.zeros(0, int), np.zeros(0)
        return cls(whole, whole, whole, real, real)

    def __len__(self) -> int:
        return len(self.start)

    def of(self, columns: np.ndarray) -> Missing:
        """The runs of some electrodes, numbered in the order of ``columns``."""
        number = np.full(max(self.electrode.max(initial=-1), columns.max(initial=-1)) + 1, -1)
        number[columns] = np.arange(len(columns))
        kept = number[self.electrode] >= 0
        return Missing(
            number[self.electrode[kept]],
            self.start[kept],
            self.stop[kept],
            self.before[kept],
            self.after[kept],
        )

    def fill(self, block: np.ndarray, first: int) -> None:
        """Fill runs of a block (electrode, sample) from sample ``first`` by straight lines.

        A line joins the values on either side of a run wherever these lie, so that what is filled
        does not depend on the block; beyond the recording's ends the nearest value is held.
        """
        last = first + block.shape[1]
        for run in np.flatnonzero((self.start < last) & (self.stop > first)):
            start, stop = int(self.start[run]), int(self.stop[run])
            before, after = self.before[run], self.after[run]
            before = before if np.isfinite(before) else after
            after = after if np.isfinite(after) else before
            here = np.arange(max(start, first), min(stop, last))
            share = (here - start + 1) / (stop - start + 1)
            block[self.electrode[run], here - first] = before + share * (after - before)

    def cover(self) -> np.ndarray:
        """Stretches (stretch, 2) in which any electrode misses samples, in order, apart."""
        if not len(self):
            return np.zeros((0, 2), int)
        order = np.argsort(self.start)
        start, stop = self.start[order], np.maximum.accumulate(self.stop[order])
        opens = np.flatnonzero(np.concatenate([[True], start[1:] > stop[:-1]]))
        closes = np.append(opens[1:], len(start)) - 1
        return np.stack([start[opens], stop[closes]], axis=1)

    def shares(self, electrodes: int, samples: int) -> np.ndarray:
        """Share missing on each electrode (electrode,) of the samples that most electrodes have."""
        count = np.zeros(samples + 1, np.int64)
        np.add.at(count, self.start, 1)
        np.add.at(count, self.stop, -1)
        usual = np.cumsum(count)[:samples] * 2 <= electrodes
        had = np.concatenate([[0], np.cumsum(usual)])
        lost = np.bincount(self.electrode, had[self.stop] - had[self.start], minlength=electrodes)
        return lost / max(int(had[-1]), 1)


def blocks(lfp: xr.DataArray) -> Iterator[tuple[int, int]]:
    """Stretches of time (first, last sample) of about 32 MB that follow the storage's chunks."""
    total = lfp.sizes["time"]
    axis = lfp.get_axis_num("time")
    wanted = max(1, BLOCK_BYTES // max(1, lfp.dtype.itemsize * lfp.size // max(total, 1)))
    stored = lfp.chunks[axis][0] if lfp.chunks else (lfp.encoding.get("chunks") or (wanted,))[0]
    step = max(1, wanted // stored) * stored
    for first in range(0, total, step):
        yield first, min(first + step, total)


def find_missing(lfp: xr.DataArray, index: np.ndarray) -> Missing:
    """Scan the electrodes ``index`` of lfp (time, electrode) for samples that are not finite."""
    edges = np.zeros((0, 3), int)
    values = np.zeros(0)
    previous = np.zeros(len(index), bool)
    last_row = np.full(len(index), np.nan)
    parts, seen = [edges], [values]
    for first, last in blocks(lfp):
        block = lfp[first:last].values[:, index]
        broken = ~np.isfinite(block)
        if broken.any() or previous.any():
            before = np.concatenate([previous[None], broken[:-1]])
            sample, electrode = np.nonzero(before != broken)
            opening = broken[sample, electrode]
            earlier = np.where(sample > 0, block[sample - 1, electrode], last_row[electrode])
            value = np.where(opening, earlier, block[sample, electrode])
            parts.append(np.stack([electrode, sample + first, opening], axis=1))
            seen.append(value.astype(float))
        previous, last_row = broken[-1], block[-1].astype(float)
    total = lfp.sizes["time"]
    open_still = np.flatnonzero(previous)
    parts.append(np.stack([open_still, np.full_like(open_still, total), 0 * open_still], axis=1))
    seen.append(np.full(len(open_still), np.nan))
    edges, values = np.concatenate(parts), np.concatenate(seen)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    edges, values = edges[order], values[order]
    opens, closes = edges[0::2], edges[1::2]
    return Missing(opens[:, 0], opens[:, 1], closes[:, 1], values[0::2], values[1::2])


def gap_samples(cover: np.ndarray, total: int, edge: int) -> np.ndarray:
    """Widen stretches of missing samples by the filter's edge, and join what is left too short.

    Parameters
    ----------
    cover : ndarray of int (stretch, 2)
    total : int
        Samples of the recording.
    edge : int
        Samples over which what was filled still shows; what lies between two gaps is one, too,
        unless it is at least this long.

    Returns
    -------
    ndarray of int (gap, 2)
    """
    gaps: list[list[int]] = []
    for start, stop in cover.tolist():
        start, stop = max(0, start - edge), min(total, stop + edge)
        if gaps and start - gaps[-1][1] < edge:
            gaps[-1][1] = stop
        else:
            gaps.append([0 if start < edge else start, stop])
    if gaps and total - gaps[-1][1] < edge:
        gaps[-1][1] = total
    return np.array(gaps, dtype=int).reshape(-1, 2)
