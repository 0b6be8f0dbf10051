"""Group velocity from planes through the delays of coherent electrodes."""

from __future__ import annotations

from typing import Literal

import dask
import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, field_validator

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.nulls.multiplicity import benjamini_hochberg, p_value
from driftwave.phase.frames import FieldReader, open_field
from driftwave.phase.signal import wave_signal
from driftwave.wave_events.arrays import per_array
from driftwave.wave_events.delays import (
    DelayPlane,
    Reference,
    Spectra,
    Tapers,
    fit_delay_plane,
    spectra_of,
    velocity,
    zero_lag_spectra,
)

PAPER = "Martinet et al. 2017, Nat Commun 8:14896"
QUICK = {"bootstrap": 20, "surrogates": 2}
SHORTEST = 2.0
NUMBERS = {
    "direction": "degree",
    "direction_low": "degree",
    "direction_high": "degree",
    "speed": "mm/s",
    "speed_low": "mm/s",
    "speed_high": "mm/s",
    "slowness_x": "s/mm",
    "slowness_y": "s/mm",
    "r_squared": "1",
    "coherent": "1",
}


class Params(BaseModel):
    """Parameters of delay planes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signal: Literal["auto", "field", "imaging", "spikes"] = Field(
        "auto", description="What delays are measured in."
    )
    band: tuple[float, float] = Field(
        (1.0, 13.0), description="Frequencies whose phase slope gives the delays, Hz."
    )
    window: float | None = Field(
        None,
        ge=SHORTEST,
        description="Length of the windows that get a plane each, s; null for the whole recording.",
    )
    step: float | None = Field(
        None, gt=0, description="From one window to the next, s; default their length."
    )
    reference: Reference = Field(
        "all",
        description="all: delays that agree best with all coherent pairs; central: behind the "
        "electrode in the middle of the array.",
    )
    tapers: Tapers = Field(
        "multitaper",
        description="multitaper: 1 Hz half-bandwidth, segments of 10 s; hann: windows of 2 s.",
    )
    bootstrap: int = Field(
        100, ge=20, description="Resamples of windows, tapers and electrodes for intervals."
    )
    surrogates: int = Field(
        99,
        ge=0,
        description="Zero-lag surrogates for the p of the slowness, with multitaper only; 0 for "
        "no p.",
    )
    level: float = Field(
        0.05, gt=0, lt=1, description="False discovery rate at which a plane is significant."
    )

    @field_validator("band")
    @classmethod
    def _wide(cls, band: tuple[float, float]) -> tuple[float, float]:
        if not 0 < band[0] <= band[1] - 4:
            raise ValueError("a phase slope needs a band of at least 4 Hz above 0 Hz")
        return band


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Fit a plane to the delays between electrodes, of the recording or of each window.

    Parameters
    ----------
    recording : DataTree
        With a field, imaging or spikes with positions.
    latents : Dataset or None
        Not used.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        Dim ``event``: one per window, of class planar where the bootstrap's ellipse of slowness
        excludes 0, synchronous where it does not, none where fewer than four electrodes are
        coherent or phases do not follow lines over frequency; with ``r_squared`` and
        ``coherent`` (share of electrodes). ``delay`` (event, electrode) in s.

    Raises
    ------
    InputError
        No signal with positions, unusable electrodes, a rate or length that does not suit the band.
    """
    del latents
    dataset = wave_signal(recording, params.signal)
    session = str(recording.attrs.get("session", "recording"))
    result = per_array(dataset, session, lambda one: _of_array(recording, one, params, seed))
    return result.assign_attrs(
        detector="delay_planes",
        session=session,
        speed_kind="group",
        signal=dataset.attrs["signal"],
        band=list(params.band),
        level=params.level,
    )


def _of_array(recording: xr.DataTree, dataset: xr.Dataset, params: Params, seed: int) -> xr.Dataset:
    reader = open_field(recording, dataset, band=params.band, frame_rate=None)
    spans = _windows(reader, params)
    tasks = [
        dask.delayed(_measured)(reader, span, params, seed, number)
        for number, span in enumerate(spans)
    ]
    planes, p = zip(*dask.compute(*tasks), strict=True)
    return _table(reader, spans, planes, np.array(p, dtype=float), params)


def _windows(reader: FieldReader, params: Params) -> list[tuple[int, int]]:
    """First and last sample of each window."""
    total, rate = reader.lfp.sizes["time"], reader.sampling_rate
    if params.window is None:
        return [(0, total)]
    length = round(params.window * rate)
    if length > total:
        raise InputError(
            file=reader.session,
            field="window",
            found=f"{params.window:g} s in a recording of {total / rate:g} s",
            expected="windows that fit into the recording",
            fix="Shorten `window`, or leave it out to use the whole recording",
        )
    step = max(1, round((params.step or params.window) * rate))
    return [(start, start + length) for start in range(0, total - length + 1, step)]


def _measured(
    reader: FieldReader, span: tuple[int, int], params: Params, seed: int, number: int
) -> tuple[DelayPlane | None, float]:
    spectra = spectra_of(reader, params.band, tapers=params.tapers, start=span[0], stop=span[1])
    plane = _fit(reader, spectra, params, params.bootstrap, seed, number)
    if params.surrogates == 0 or params.tapers != "multitaper":
        return plane, np.nan
    if plane is None:
        return plane, 1.0
    rng = generator(seed, "delay null", str(number))
    null = []
    for _ in range(params.surrogates):
        drawn = _fit(reader, zero_lag_spectra(spectra, rng), params, 0, seed, number)
        null.append(_size(drawn))
    size = _size(plane)
    return plane, float(p_value(np.array(null)[:, None], np.array([size]))[0])


def _size(plane: DelayPlane | None) -> float:
    """Slowness (s/mm), 0 where there is none."""
    return 0.0 if plane is None or not plane.linear else float(np.hypot(*plane.slowness))


def _fit(
    reader: FieldReader, spectra: Spectra, params: Params, draws: int, seed: int, number: int
) -> DelayPlane | None:
    rng = generator(seed, "delay plane", str(number))
    return fit_delay_plane(
        reader.electrodes, spectra, reference=params.reference, draws=draws, rng=rng
    )


def _row(plane: DelayPlane | None) -> dict[str, float]:
    if plane is None:
        return dict.fromkeys(NUMBERS, np.nan) | {"coherent": 0.0}
    return velocity(plane) | {
        "slowness_x": float(plane.slowness[0]),
        "slowness_y": float(plane.slowness[1]),
        "r_squared": plane.r_squared,
        "coherent": float(np.isfinite(plane.delay).mean()),
    }


def _class(plane: DelayPlane | None) -> str:
    if plane is None or not plane.linear:
        return "none"
    return "planar" if plane.travels else "synchronous"


def _table(
    reader: FieldReader,
    spans: list[tuple[int, int]],
    planes: tuple[DelayPlane | None, ...],
    p: np.ndarray,
    params: Params,
) -> xr.Dataset:
    time = reader.lfp["time"].values.astype(float)
    rows = [_row(plane) for plane in planes]
    names = [_class(plane) for plane in planes]
    unseen = np.full(len(reader.electrodes), np.nan)
    table = xr.Dataset(
        {
            name: ("event", np.array([row[name] for row in rows]), {"units": unit})
            for name, unit in NUMBERS.items()
        }
    )
    table["start"] = ("event", time[[span[0] for span in spans]], {"units": "s"})
    table["stop"] = ("event", time[[span[1] - 1 for span in spans]], {"units": "s"})
    table["class"] = ("event", np.array(names, dtype="<U16"))
    delay = np.array([unseen if plane is None else plane.delay for plane in planes])
    table["delay"] = (("event", "electrode"), delay, {"units": "s"})
    table = table.assign_coords(
        electrode=reader.lfp["electrode"].values[reader.electrodes.index],
        x=("electrode", reader.electrodes.position[:, 0], {"units": "mm"}),
        y=("electrode", reader.electrodes.position[:, 1], {"units": "mm"}),
    )
    if not np.isfinite(p).all():
        return table
    table["p"] = ("event", p, {"units": "1"})
    table["q"] = ("event", benjamini_hochberg(p), {"units": "1"})
    return table.assign_attrs(null="zero-lag surrogates", surrogates=params.surrogates)
