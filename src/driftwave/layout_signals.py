"""The schema of layouts: fields and images, and where their electrodes or ROIs lie."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from driftwave.strict import Strict


class PositionsLayout(Strict):
    """Electrode positions."""

    x: str = "rel_x"
    y: str = "rel_y"
    z: str | None = None
    unit: Literal["m", "mm", "um"] = "um"


class FieldLayout(Strict):
    """An ElectricalSeries: LFP or ECoG."""

    series: str = Field(description="Path of the ElectricalSeries in the file.")
    where: str | None = Field(
        None,
        description="Condition on the electrodes' columns, e.g. \"group_name == 'probeA'\".",
    )
    uneven: Literal["refuse", "interpolate"] = Field(
        "refuse",
        description="What to do about uneven time stamps: refuse them, or interpolate to an even "
        "clock, with NaN in gaps (see max_missing).",
    )
    positions: PositionsLayout | None = PositionsLayout()
    good: str | None = Field(
        None, description="Boolean electrodes column; false marks bad channels."
    )
    bad_electrodes: list[int] = Field(
        default_factory=list, description="Electrode ids to mark bad."
    )
    max_missing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="An electrode that misses (NaN) a larger share of its samples is bad. Models "
        "of oscillators bear missing stretches, wave analysis of the recording does not.",
    )
    region: str | None = Field(None, description="Electrodes column that names the region.")
    start: float | None = Field(None, description="First time used, s.")
    stop: float | None = Field(None, description="Last time used, s.")
    rate: float | None = Field(
        None, gt=0, description="Resample to about this rate (Hz), after a low-pass; default as is."
    )
    chunk: float = Field(60.0, gt=0, description="Length of a chunk read at once, s.")


class ImagingLayout(Strict):
    """Traces of ROIs, or a movie whose pixels are taken as sites."""

    series: str = Field(description="Path of the RoiResponseSeries, or of the movie, in the file.")
    positions: Literal["roi_centroids", "pixels"] | PositionsLayout | None = Field(
        "roi_centroids",
        description="roi_centroids of the ROIs' masks, pixels of a movie, columns of the ROI "
        "table, or null for none.",
    )
    pixel_size: float | Literal["file"] | None = Field(
        None,
        description="Side of a pixel, mm, or 'file' to trust the imaging plane's grid spacing; "
        "masks and pixels have no position in mm without it.",
    )
    slice_distance: float | None = Field(
        None, gt=0, description="Distance between imaging planes, mm, for voxel masks."
    )
    order: Literal["xy", "yx"] = Field(
        "xy",
        description="Order of a movie's or mask image's dims behind the first: xy as NWB asks, yx "
        "as in files that keep rows of pixels.",
    )
    bin_pixels: int = Field(1, ge=1, description="Pixels averaged along x and along y.")
    good: str | None = Field(
        None, description="Boolean column of the ROI table, e.g. iscell_0; false marks bad ROIs."
    )
    bad_rois: list[int] = Field(default_factory=list, description="ROI ids to mark bad.")
    neuropil: str | None = Field(
        None, description="Path of the series of neuropil around each ROI, to be subtracted."
    )
    neuropil_factor: float = Field(0.7, ge=0, description="Share of the neuropil subtracted.")
    baseline: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Quantile of each trace that is its baseline F0, for (F - F0) / F0; default "
        "as stored.",
    )
    max_missing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="A ROI that misses (NaN) a larger share of its frames is bad.",
    )
    unit: str | None = Field(None, description="Unit, where the file's is empty or wrong.")
    start: float | None = Field(None, description="First time used, s.")
    stop: float | None = Field(None, description="Last time used, s.")
    chunk: float = Field(60.0, gt=0, description="Longest chunk read at once, s.")

    @field_validator("pixel_size")
    @classmethod
    def _positive(cls, size: float | str | None) -> float | str | None:
        if isinstance(size, float) and not size > 0:
            raise ValueError("pixel_size must be above 0 mm")
        return size
