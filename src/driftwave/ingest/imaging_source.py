"""Imaging as it is read from an NWB file: traces of ROIs, or the pixels of a movie, lazily."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import pynwb

from driftwave.ingest.file import NwbFile
from driftwave.ingest.intervals import within
from driftwave.ingest.series import check_times, rate_of
from driftwave.layout import ImagingLayout

READ_BYTES = 32_000_000


@dataclass
class ImagingSource(ABC):
    """A lazy (time, roi) array of float32; any slice is computed from the frames it needs.

    Attributes
    ----------
    file : NwbFile
    series : pynwb.TimeSeries
    path : str
        Of the series.
    first : int
        First frame used.
    times : ndarray (frame,)
        Of the frames used, s.
    invalid : ndarray (interval, 2)
        Times, s, whose frames are missing, NaN.
    """

    file: NwbFile
    series: Any
    path: str
    first: int
    times: np.ndarray
    invalid: np.ndarray

    dtype = np.dtype(np.float32)
    ndim = 2

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(time, roi)."""

    @property
    @abstractmethod
    def frame_bytes(self) -> int:
        """Bytes of one frame as it is read, in float32."""

    @abstractmethod
    def stored(self, start: int, stop: int) -> np.ndarray:
        """Frames ``start`` to ``stop`` of those used, float32 (frame, roi)."""

    def valid(self, start: int, stop: int) -> np.ndarray:
        """The same, NaN in the invalid times."""
        found = self.stored(start, stop)
        if len(self.invalid):
            found[within(self.invalid, self.times[start:stop])] = np.nan
        return found

    @property
    def rate(self) -> float:
        """Frame rate, Hz; the median one of an uneven clock."""
        if self.series.timestamps is None:
            return float(self.series.rate)
        return float(1 / np.median(np.diff(self.times)))

    @property
    def frames_at_once(self) -> int:
        """Frames that make 32 MB."""
        return max(1, READ_BYTES // self.frame_bytes)

    def scaled(self, raw: np.ndarray) -> np.ndarray:
        """Stored numbers in the series' unit."""
        gain, offset = float(self.series.conversion or 1.0), float(self.series.offset or 0.0)
        return raw.astype(np.float32) * np.float32(gain) + np.float32(offset)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        start, stop, step = rows.indices(self.shape[0])
        out = np.empty((max(0, stop - start), self.shape[1]), dtype=np.float32)
        for begin in range(start, stop, self.frames_at_once):
            end = min(stop, begin + self.frames_at_once)
            out[begin - start : end - start] = self.valid(begin, end)
        return out[::step, columns]


@dataclass
class Traces(ImagingSource):
    """A RoiResponseSeries; ``turned`` if it is stored as ROI x time, the transpose of NWB's."""

    turned: bool
    neuropil: Any = None
    factor: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.times), len(self.series.rois.data)

    @property
    def frame_bytes(self) -> int:
        return 4 * self.shape[1]

    def stored(self, start: int, stop: int) -> np.ndarray:
        found = self.scaled(self._read(self.series, start, stop))
        if self.neuropil is not None:
            around = self.scaled(self._read(self.neuropil, start, stop))
            found -= np.float32(self.factor) * around
        return found

    def _read(self, series: Any, start: int, stop: int) -> np.ndarray:
        frames = slice(self.first + start, self.first + stop)
        chosen = (slice(None), frames) if self.turned else (frames, slice(None))
        if len(series.data.shape) == 1:
            return self.file.read(series.data, frames, field=self.path)[:, None]
        raw = self.file.read(series.data, chosen, field=self.path)
        return raw.T if self.turned else raw


@dataclass
class Movie(ImagingSource):
    """Frames of pixels; ``rows_first`` if dims are (time, y, x), else (time, x, y).

    ``bin`` x ``bin`` pixels are averaged; pixels beyond a whole number of bins are left out.
    A site's index is ``row * columns + column``.
    """

    rows_first: bool
    bin: int

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns after binning."""
        height, width = self.series.data.shape[1:3]
        if not self.rows_first:
            height, width = width, height
        return int(height) // self.bin, int(width) // self.bin

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.size
        return len(self.times), rows * columns

    @property
    def frame_bytes(self) -> int:
        return 4 * int(np.prod(self.series.data.shape[1:]))

    def stored(self, start: int, stop: int) -> np.ndarray:
        frames = slice(self.first + start, self.first + stop)
        raw = self.scaled(self.file.read(self.series.data, frames, field=self.path))
        raw = raw if self.rows_first else raw.transpose(0, 2, 1)
        (rows, columns), side = self.size, self.bin
        blocks = raw[:, : rows * side, : columns * side].reshape(-1, rows, side, columns, side)
        return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(len(raw), -1)


def imaging_source(
    file: NwbFile, layout: ImagingLayout, invalid: np.ndarray | None = None
) -> ImagingSource:
    """Find the layout's series and check that it can be streamed.

    Parameters
    ----------
    file : NwbFile
    layout : ImagingLayout
    invalid : ndarray (interval, 2), optional
        Times, s, whose frames are to be missing: sorted, disjoint.

    Raises
    ------
    InputError
        Missing, of another kind, a shape that fits neither order, time stamps that do not ascend,
        frames in an external file, or fewer than two frames between start and stop.
    """
    series = file.series(layout.series, "imaging.series")
    field = f"imaging.series ({layout.series})"
    invalid = np.empty((0, 2)) if invalid is None else invalid
    if isinstance(series, pynwb.ophys.RoiResponseSeries):
        turned = _turned(file, series, field)
        first, times = _clock(file, series, layout, int(series.data.shape[1 if turned else 0]))
        return Traces(
            file, series, layout.series, first, times, invalid, turned,
            _neuropil(file, layout, series), layout.neuropil_factor,
        )  # fmt: skip
    if isinstance(series, pynwb.image.ImageSeries):
        _check_movie(file, series, layout, field)
        first, times = _clock(file, series, layout, int(series.data.shape[0]))
        return Movie(
            file, series, layout.series, first, times, invalid,
            layout.order == "yx", layout.bin_pixels,
        )  # fmt: skip
    raise file.fault(
        field,
        f"a {type(series).__name__}",
        "a RoiResponseSeries, or an ImageSeries, OnePhotonSeries or TwoPhotonSeries",
        "Name another series in the layout",
    )


def _turned(file: NwbFile, series: Any, field: str) -> bool:
    """Whether data is stored as ROI x time: told by the number of ROIs and of time stamps."""
    shape, rois = tuple(series.data.shape), len(series.rois.data)
    stamps = None if series.timestamps is None else len(series.timestamps)
    if len(shape) == rois == 1:
        return False
    fits = [
        len(shape) == 2 and shape[1 - time] == rois and stamps in (None, shape[time])
        for time in (0, 1)
    ]
    if not any(fits):
        raise file.fault(
            field,
            f"data of shape {shape} for {rois} ROIs"
            + ("" if stamps is None else f" and {stamps} time stamps"),
            "time x ROI",
            "Mend the file",
        )
    return not fits[0]


def _neuropil(file: NwbFile, layout: ImagingLayout, series: Any) -> Any:
    if layout.neuropil is None:
        return None
    found = file.series(layout.neuropil, "imaging.neuropil")
    if tuple(found.data.shape) != tuple(series.data.shape):
        raise file.fault(
            f"imaging.neuropil ({layout.neuropil})",
            f"data of shape {tuple(found.data.shape)}",
            f"{tuple(series.data.shape)}, that of the traces",
            "Name the series of the same ROIs and frames, or remove `imaging.neuropil`",
        )
    return found


def _check_movie(file: NwbFile, series: Any, layout: ImagingLayout, field: str) -> None:
    if series.external_file is not None and len(series.external_file):
        raise file.fault(
            field,
            f"frames in an external file, {series.external_file[0]}",
            "frames in the NWB file",
            "Write the frames into the file, or name a RoiResponseSeries",
        )
    shape = tuple(series.data.shape)
    if len(shape) != 3 or min(shape[1:]) < layout.bin_pixels:
        raise file.fault(
            field,
            f"frames of shape {shape[1:]}",
            f"one plane of at least {layout.bin_pixels} x {layout.bin_pixels} pixels, without "
            "colours",
            "Name another series, or lower `imaging.bin_pixels`",
        )
    if layout.positions == "roi_centroids" or layout.good or layout.neuropil:
        raise file.fault(
            field,
            "a movie, which has no ROIs",
            "`imaging.positions: pixels`, without `good` and `neuropil`",
            "Mend `imaging` in the layout, or name a RoiResponseSeries",
        )


def _clock(
    file: NwbFile, series: Any, layout: ImagingLayout, frames: int
) -> tuple[int, np.ndarray]:
    """First frame used, and the times of those used, s."""
    field = f"{layout.series} timestamps"
    if series.timestamps is None:
        rate = rate_of(file, series, field)
        check_times(file, frames, field)
        times = float(series.starting_time or 0.0) + np.arange(frames) / rate
    else:
        times = file.read(series.timestamps, slice(None), field=field).astype(float)
    if len(times) != frames or not (np.diff(times) > 0).all():
        back = int((~(np.diff(times) > 0)).sum())
        raise file.fault(
            field,
            f"{len(times)} time stamps for {frames} frames, {back} of them not after the last",
            "ascending time stamps, one for each frame",
            "Mend the file",
        )
    low = 0 if layout.start is None else int(np.searchsorted(times, layout.start - 1e-9))
    high = frames if layout.stop is None else int(np.searchsorted(times, layout.stop - 1e-9))
    if high - low < 2:
        raise file.fault(
            layout.series,
            f"{max(0, high - low)} frames between start {layout.start} and stop {layout.stop}",
            "at least 2 frames",
            "Mend `imaging.start` and `imaging.stop` in the layout",
        )
    return low, times[low:high]
