"""Where ROIs and pixels are, in mm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from driftwave.ingest.electrodes import positions_mm
from driftwave.ingest.file import NwbFile
from driftwave.layout import ImagingLayout, PositionsLayout

_MILLIMETRES = {
    "m": 1e3, "meter": 1e3, "meters": 1e3, "metre": 1e3, "metres": 1e3,
    "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "millimetres": 1.0,
    "um": 1e-3, "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3, "micrometers": 1e-3,
    "micrometres": 1e-3,
}  # fmt: skip


def pixel_size(file: NwbFile, layout: ImagingLayout, plane: Any) -> np.ndarray:
    """Sides of a pixel along x and y, mm (2,).

    Raises
    ------
    InputError
        If the layout states none, or leaves it to a file that states none.
    """
    stated = grid_spacing(plane)
    if isinstance(layout.pixel_size, float):
        return np.full(2, layout.pixel_size)
    if layout.pixel_size == "file" and stated is not None:
        return stated
    # In pixels, distances and speeds would look like millimetres without being any.
    said = "" if stated is None else (
        f"; the file says {stated[0]:.6g} x {stated[1]:.6g} mm: if that was measured, set it to "
        "`file`"
    )  # fmt: skip
    raise file.fault(
        "imaging.pixel_size",
        "nothing" if layout.pixel_size is None else "no grid spacing of the imaging plane",
        "the side of a pixel, mm, which positions and speeds depend on",
        f"State `imaging.pixel_size` in the layout{said}; or set `imaging.positions: null`",
    )


def grid_spacing(plane: Any) -> np.ndarray | None:
    """Grid spacing of an imaging plane along x and y, mm; None if it is not stated."""
    spacing = getattr(plane, "grid_spacing", None)
    unit = str(getattr(plane, "grid_spacing_unit", None) or "meters").strip().lower()
    if spacing is None or len(spacing) < 2 or unit not in _MILLIMETRES:
        return None
    sides = np.asarray(spacing[:2], dtype=float) * _MILLIMETRES[unit]
    return sides if (sides > 0).all() and np.isfinite(sides).all() else None


def pixel_places(
    file: NwbFile, layout: ImagingLayout, plane: Any, size: tuple[int, int], side: int
) -> dict[str, np.ndarray]:
    """x and y (pixel,) in mm of the centres of ``side`` x ``side`` pixels, row after row."""
    width, height = pixel_size(file, layout, plane)
    row, column = np.divmod(np.arange(size[0] * size[1]), size[1])
    middle = (side - 1) / 2
    return {"x": (column * side + middle) * width, "y": (row * side + middle) * height}


def roi_places(
    file: NwbFile, layout: ImagingLayout, region: Any, frame: pd.DataFrame
) -> dict[str, np.ndarray]:
    """x, y and, if known, z (roi,) in mm, from columns of the ROI table or centroids of masks.

    Parameters
    ----------
    region : DynamicTableRegion
        ROIs of the series.
    frame : DataFrame
        Their rows of the ROI table.

    Raises
    ------
    InputError
        No such columns, no masks, no pixel size.
    """
    if isinstance(layout.positions, PositionsLayout):
        return positions_mm(file, frame, layout.positions, "imaging.positions")
    if layout.positions == "pixels":
        raise file.fault(
            "imaging.positions",
            "pixels for a series of ROIs",
            "roi_centroids, columns of the ROI table, or null",
            "Mend `imaging.positions` in the layout",
        )
    centre = centroids(file, region.table, layout.order)[np.asarray(region.data[:]).astype(int)]
    sides = pixel_size(file, layout, region.table.imaging_plane)
    found = {"x": centre[:, 0] * sides[0], "y": centre[:, 1] * sides[1]}
    if layout.slice_distance is not None and np.isfinite(centre[:, 2]).any():
        found["z"] = centre[:, 2] * layout.slice_distance
    return found


def centroids(file: NwbFile, table: Any, order: str) -> np.ndarray:
    """Weighted centroid of each ROI's mask (roi, 3) in pixels; z is NaN where masks are flat.

    Parameters
    ----------
    table : pynwb.ophys.PlaneSegmentation
    order : str
        ``xy`` or ``yx``: dims of an image mask behind the first.

    Raises
    ------
    InputError
        If there are no masks.
    """
    if "pixel_mask" in table.colnames:
        return _of_lists(file, table, "pixel_mask", ("x", "y"))
    if "voxel_mask" in table.colnames:
        return _of_lists(file, table, "voxel_mask", ("x", "y", "z"))
    if "image_mask" in table.colnames:
        return _of_images(file, table, order)
    raise file.fault(
        "imaging.positions",
        f"a ROI table with columns {list(table.colnames)}",
        "pixel, voxel or image masks",
        "Name position columns under `imaging.positions`, or set it to null",
    )


def _of_lists(file: NwbFile, table: Any, name: str, axes: tuple[str, ...]) -> np.ndarray:
    index = table[name]
    ends = file.read(index.data, slice(None), field=name).astype(np.int64)
    entries = file.read(index.target.data, slice(None), field=name)
    per_roi = np.diff(ends, prepend=0)
    owner = np.repeat(np.arange(len(ends)), per_roi)
    weight = np.asarray(entries["weight"], dtype=float)
    total = np.bincount(owner, weights=weight, minlength=len(ends))
    # A mask whose weights add up to nothing says which pixels it holds all the same.
    weight = np.where(total[owner] > 0, weight, 1.0)
    total = np.bincount(owner, weights=weight, minlength=len(ends))
    centre = np.full((len(ends), 3), np.nan)
    held = per_roi > 0
    for column, axis in enumerate(axes):
        moment = np.bincount(owner, weights=weight * entries[axis], minlength=len(ends))
        centre[held, column] = moment[held] / total[held]
    return centre


def _of_images(file: NwbFile, table: Any, order: str) -> np.ndarray:
    data = table["image_mask"].data
    centre = np.full((len(table), 3), np.nan)
    for roi in range(len(table)):
        mask = file.read(data, roi, field="image_mask").astype(float)
        mask = mask if order == "xy" else np.swapaxes(mask, 0, 1)
        if not mask.sum() > 0:
            continue
        for axis in range(mask.ndim):
            others = tuple(other for other in range(mask.ndim) if other != axis)
            profile = mask.sum(axis=others)
            centre[roi, axis] = (profile * np.arange(len(profile))).sum() / profile.sum()
    return centre


def check_places(
    file: NwbFile, ids: np.ndarray, places: dict[str, np.ndarray], good: np.ndarray
) -> None:
    """Good ROIs must each have a position of their own.

    Raises
    ------
    InputError
        Naming the ROIs without a position, or some that share one.
    """
    place = np.stack(list(places.values()), axis=1)
    advice = "List them in `imaging.bad_rois`, or set `imaging.positions: null`"
    missing = good & ~np.isfinite(place).all(axis=1)
    if missing.any():
        raise file.fault(
            "ROI positions",
            f"none for {int(missing.sum())} ROIs, {ids[missing][:8].tolist()} among them",
            "a position for each good ROI",
            advice,
        )
    # A nanometre: centroids differ by rounding errors, never that little on purpose.
    _, group, size = np.unique(
        np.round(place[good], 6), axis=0, return_inverse=True, return_counts=True
    )
    shared = size[group.ravel()] > 1
    if shared.any():
        raise file.fault(
            "ROI positions",
            f"{int(shared.sum())} ROIs that share a position with another, "
            f"{ids[good][shared][:8].tolist()} among them",
            "a position of its own for each good ROI",
            advice,
        )
