"""Imaging streamed from an NWB file: traces of ROIs, or the pixels of a movie, in time chunks."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from driftwave.ingest import imaging_source as sources
from driftwave.ingest.clock import GAP
from driftwave.ingest.file import NwbFile
from driftwave.ingest.imaging_source import ImagingSource, Movie, Traces
from driftwave.ingest.intervals import within
from driftwave.ingest.rois import check_places, pixel_places, roi_places
from driftwave.ingest.tables import column, flags, table_frame
from driftwave.joblog import note
from driftwave.layout import ImagingLayout

# Frames that a baseline is estimated from; a quantile of so many is known to a percentile.
_SURVEYED = 2000


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
        if gaps := int((steps > GAP * np.median(steps)).sum()):
            found["gaps"] = gaps
            note(f"{gaps} gaps in {source.path}, the longest {steps.max():.4g} s")
    if missing := int(within(source.invalid, source.times).sum()) if len(source.invalid) else 0:
        found["frames_in_invalid_times"] = missing
        note(f"{missing} frames of {source.path} lie in invalid_times: missing (NaN)")
    if isinstance(source, Traces) and source.turned:
        found["turned"] = "stored as ROI x time, the transpose of NWB's order; turned"
        note(f"{source.path} is {found['turned']}")
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
    most = min(_SURVEYED, max(100, sources.READ_BYTES // (4 * sites)))
    every, kept = max(1, -(-frames // most)), []
    for begin in range(0, frames, source.frames_at_once):
        block = source.valid(begin, min(frames, begin + source.frames_at_once))
        missing += (~np.isfinite(block)).sum(axis=0)
        # NaN passes through fmin and fmax as missing; broken sites are told apart anyway.
        low = np.fmin(low, np.fmin.reduce(block, axis=0))
        high = np.fmax(high, np.fmax.reduce(block, axis=0))
        if baseline is not None:
            kept.append(block[-begin % every :: every])
    broken = missing > most_missing * frames
    base = None if baseline is None else np.nanquantile(np.concatenate(kept), baseline, axis=0)
    return broken, (low == high) & ~broken, base
