"""Imaging streamed from an NWB file: traces of ROIs, or the pixels of a movie, in time chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pynwb
import xarray as xr

from driftwave.ingest.file import NwbFile
from driftwave.ingest.rois import check_places, pixel_places, roi_places
from driftwave.ingest.tables import column, flags, table_frame
from driftwave.layout import ImagingLayout

_READ_BYTES = 32_000_000
# Frames that a baseline is estimated from; a quantile of so many is known to a percentile.
_SURVEYED = 2000


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
    """

    file: NwbFile
    series: Any
    path: str
    first: int
    times: np.ndarray

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

    @property
    def rate(self) -> float:
        """Frame rate, Hz; the median one of an uneven clock."""
        if self.series.timestamps is None:
            return float(self.series.rate)
        return float(1 / np.median(np.diff(self.times)))

    @property
    def frames_at_once(self) -> int:
        """Frames that make 32 MB."""
        return max(1, _READ_BYTES // self.frame_bytes)

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
            out[begin - start : end - start] = self.stored(begin, end)
        return out[::step, columns]


@dataclass
class Traces(ImagingSource):
    """A RoiResponseSeries; ``turned`` if it is stored as ROI x time, the transpose of NWB's."""

    turned: bool
    neuropil: Any = None
    factor: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.times), int(self.series.data.shape[0 if self.turned else 1])

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


def imaging_source(file: NwbFile, layout: ImagingLayout) -> ImagingSource:
    """Find the layout's series and check that it can be streamed.

    Raises
    ------
    InputError
        Missing, of another kind, a shape that fits neither order, time stamps that do not ascend,
        frames in an external file, or fewer than two frames between start and stop.
    """
    series = file.series(layout.series, "imaging.series")
    field = f"imaging.series ({layout.series})"
    if isinstance(series, pynwb.ophys.RoiResponseSeries):
        turned = _turned(file, series, field)
        first, times = _clock(file, series, layout, int(series.data.shape[1 if turned else 0]))
        return Traces(
            file, series, layout.series, first, times, turned,
            _neuropil(file, layout, series), layout.neuropil_factor,
        )  # fmt: skip
    if isinstance(series, pynwb.image.ImageSeries):
        _check_movie(file, series, layout, field)
        first, times = _clock(file, series, layout, int(series.data.shape[0]))
        return Movie(
            file, series, layout.series, first, times, layout.order == "yx", layout.bin_pixels
        )
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
        times = float(series.starting_time or 0.0) + np.arange(frames) / float(series.rate)
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


def imaging_group(file: NwbFile, layout: ImagingLayout, source: ImagingSource) -> xr.Dataset:
    """The recording's ``imaging`` group, its signal dask-backed and not yet read.

    The frames are read once, in pieces, to find sites that are flat or not finite, and baselines.

    Raises
    ------
    InputError
        Positions without a pixel size, missing or shared; no good ROI.
    """
    frame = _roi_table(file, source)
    ids = frame["id"].to_numpy()
    good = _marked_good(file, layout, frame)
    places = _places(file, layout, source, frame)
    if places:
        check_places(file, ids, places, good)
    broken, flat, base = _survey(source, layout.baseline, layout.max_missing)
    dark = np.zeros_like(flat) if base is None else ~(base > 0) & ~flat & ~broken
    good &= ~broken & ~flat & ~dark
    if not good.any():
        raise file.fault(
            f"imaging.series ({layout.series})",
            f"{int(broken.sum())} sites with values that are not finite, {int(flat.sum())} flat, "
            f"{int(dark.sum())} without a positive baseline, of {len(ids)}",
            "at least one good ROI or pixel",
            "Use another part of the recording by `imaging.start` and `imaging.stop`, or mend "
            "`imaging.good` and `imaging.baseline`",
        )
    frames = max(1, min(round(layout.chunk * source.rate), source.frames_at_once))
    # The source cannot be hashed; without a name dask would try, reading it as an object.
    chunks = (min(frames, source.shape[0]), source.shape[1])
    values = da.from_array(source, chunks=chunks, name=False, lock=True)
    unit = layout.unit or str(source.series.unit or "not stated")
    if base is not None:
        safe = np.where(base > 0, base, np.nan).astype(np.float32)
        values, unit = (values - safe) / safe, layout.unit or "dF/F"
    coords: dict[str, Any] = {
        "roi": ids,
        "time": ("time", source.times, {"units": "s"}),
        "good": ("roi", good),
    }
    coords |= {axis: ("roi", mm, {"units": "mm"}) for axis, mm in places.items()}
    return xr.Dataset(
        {"dff": (("time", "roi"), values, {"units": unit})},
        coords=coords,
        attrs={
            "sampling_rate": source.rate,
            "series": layout.series,
            "positions": _stated(layout),
            "rois_not_finite": ids[broken].tolist(),
            "rois_flat": ids[flat].tolist(),
            "rois_without_baseline": ids[dark].tolist(),
            **_notes(source),
        },
    )


def _stated(layout: ImagingLayout) -> str:
    if layout.positions is None or isinstance(layout.positions, str):
        return layout.positions or "none"
    return "columns"


def _notes(source: ImagingSource) -> dict[str, Any]:
    steps = np.diff(source.times)
    found: dict[str, Any] = {}
    if steps.max() - steps.min() > 0.02 * np.median(steps):
        found["clock"] = f"uneven, {steps.min():.4g} to {steps.max():.4g} s apart"
    if isinstance(source, Traces) and source.turned:
        found["turned"] = "stored as ROI x time, the transpose of NWB's order; turned"
    if isinstance(source, Movie):
        rows, columns = source.size
        found |= {"rows": rows, "columns": columns, "bin_pixels": source.bin}
    return found


def _roi_table(file: NwbFile, source: ImagingSource) -> pd.DataFrame:
    """A row per site: the ROI table's plain columns, or pixels by number."""
    if isinstance(source, Movie):
        return pd.DataFrame({"id": np.arange(source.shape[1])})
    rows = np.asarray(source.series.rois.data[:]).astype(int)
    masks = ("pixel_mask", "voxel_mask", "image_mask")
    frame, _ = table_frame(file, source.series.rois.table, leave_out=masks)
    return frame.iloc[rows].reset_index(drop=True)


def _marked_good(file: NwbFile, layout: ImagingLayout, frame: pd.DataFrame) -> np.ndarray:
    good = np.ones(len(frame), dtype=bool)
    if layout.good is not None:
        values = column(file, frame, layout.good, "imaging.good", "the ROI table")
        good = flags(file, values, "imaging.good")
    unknown = sorted(set(layout.bad_rois) - set(frame["id"]))
    if unknown:
        raise file.fault(
            "imaging.bad_rois",
            f"ids {unknown[:8]}",
            f"ids of the series' {len(frame)} ROIs",
            "Mend `imaging.bad_rois` in the layout",
        )
    return good & ~frame["id"].isin(layout.bad_rois).to_numpy()


def _places(
    file: NwbFile, layout: ImagingLayout, source: ImagingSource, frame: pd.DataFrame
) -> dict[str, np.ndarray]:
    """x, y and, if known, z (roi,) in mm; empty if the layout wants none."""
    if layout.positions is None:
        return {}
    if isinstance(source, Movie):
        plane = getattr(source.series, "imaging_plane", None)
        return pixel_places(file, layout, plane, source.size, source.bin)
    return roi_places(file, layout, source.series.rois, frame)


def _survey(
    source: ImagingSource, baseline: float | None, most_missing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Sites that miss too many values, flat ones, both bool (roi,), and baselines (roi,).

    A baseline is a quantile of up to 2,000 evenly spaced frames, fewer if they exceed 32 MB.
    """
    frames, sites = source.shape
    low, high = np.full(sites, np.inf), np.full(sites, -np.inf)
    missing = np.zeros(sites, dtype=int)
    most = min(_SURVEYED, max(100, _READ_BYTES // (4 * sites)))
    every, kept = max(1, -(-frames // most)), []
    for begin in range(0, frames, source.frames_at_once):
        block = source.stored(begin, min(frames, begin + source.frames_at_once))
        missing += (~np.isfinite(block)).sum(axis=0)
        # NaN passes through fmin and fmax as missing; broken sites are told apart anyway.
        low = np.fmin(low, np.fmin.reduce(block, axis=0))
        high = np.fmax(high, np.fmax.reduce(block, axis=0))
        if baseline is not None:
            kept.append(block[-begin % every :: every])
    broken = missing > most_missing * frames
    base = None if baseline is None else np.nanquantile(np.concatenate(kept), baseline, axis=0)
    return broken, (low == high) & ~broken, base
