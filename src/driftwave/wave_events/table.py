"""Results of the waves stage as labelled arrays with units."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import dask
import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.nulls.surrogates import Null, benjamini_hochberg
from driftwave.phase.directionality import Directionality
from driftwave.phase.frames import FieldReader, Frames
from driftwave.wave_events.delays import DelayPlane
from driftwave.wave_events.events import NUMBERS, Estimate, estimate_group
from driftwave.wave_events.patterns import CLASSES, patterns_of
from driftwave.wave_events.spans import Span

UNITS = {
    "direction": "degree",
    "direction_low": "degree",
    "direction_high": "degree",
    "speed": "mm/s",
    "speed_low": "mm/s",
    "speed_high": "mm/s",
    "wavelength": "mm",
    "wavenumber": "rad/mm",
    "centre_x": "mm",
    "centre_y": "mm",
    "frequency": "Hz",
    "start": "s",
    "stop": "s",
    "peak_score": "null SD",
}
DENSE_UNITS = {"direction": "degree", "speed": "mm/s", "frequency": "Hz"}


def event_table(
    reader: FieldReader,
    measure: Directionality,
    spans: list[Span],
    null: Null,
    params: Any,
    seed: int,
) -> xr.Dataset:
    """Estimate each event and lay them out along ``event`` in order of time.

    ``params`` are those of the plug-in.
    """
    patterns = patterns_of(reader.electrodes)
    frames = [
        (span.start * reader.stride, min(span.stop * reader.stride, reader.frames))
        for span in spans
    ]
    step = max(1, round(params.chunk * reader.rate))
    tasks = []
    for _, group in groupby(range(len(spans)), key=lambda number: frames[number][0] // step):
        members = list(group)
        tasks.append(
            dask.delayed(estimate_group)(
                reader,
                measure,
                patterns,
                [frames[number] for number in members],
                generalized=params.phase == "generalized",
                draws=params.bootstrap,
                streams=[generator(seed, "event", str(number)) for number in members],
            )
        )
    estimates = [one for group in dask.compute(*tasks) for one in group]
    return _events(reader, spans, estimates, null)


def _events(
    reader: FieldReader, spans: list[Span], estimates: list[Estimate], null: Null
) -> xr.Dataset:
    time = reader.lfp["time"].values
    step = reader.every * reader.stride
    last = len(time) - 1
    peak = np.array([span.peak for span in spans])
    p = null.p_event(peak)
    columns: dict[str, np.ndarray] = {
        "start": np.array([time[span.start * step] for span in spans], dtype=float),
        "stop": np.array([time[min(span.stop * step, last)] for span in spans], dtype=float),
        "peak_score": peak.astype(float),
        "p": p,
        "p_familywise": null.p_familywise(peak),
        "q": benjamini_hochberg(p),
    }
    numbers = (*NUMBERS, "frequency", "interpolated", "resultant", "evidence", "aliased")
    for name in (*numbers, "prediction_synchronous"):
        columns[name] = np.array([float(one.row[name]) for one in estimates])
    table = xr.Dataset(
        {name: ("event", value, {"units": UNITS.get(name, "1")}) for name, value in columns.items()}
    )
    table["aliased"] = table["aliased"].astype(bool)
    table["class"] = ("event", np.array([str(e.row["class"]) for e in estimates], dtype="<U16"))
    electrodes = reader.electrodes
    maps = np.array([one.phase for one in estimates]).reshape(-1, len(electrodes))
    scores = np.array([one.verdict.prediction for one in estimates]).reshape(-1, len(CLASSES))
    table["event_phase"] = (("event", "electrode"), maps, {"units": "rad"})
    table["prediction"] = (("event", "pattern"), scores, {"units": "1"})
    return table.assign_coords(
        pattern=list(CLASSES),
        electrode=reader.lfp["electrode"].values[electrodes.index],
        x=("electrode", electrodes.position[:, 0], {"units": "mm"}),
        y=("electrode", electrodes.position[:, 1], {"units": "mm"}),
    )


def dense_table(reader: FieldReader, frames: Frames) -> xr.Dataset:
    """Measures of every frame along ``time``; names are prefixed where the table uses them."""
    renamed = {"direction": "frame_direction", "speed": "frame_speed"}
    renamed |= {"frequency": "frame_frequency", "interpolated": "frame_interpolated"}
    renamed |= {"aliased": "frame_aliased"}
    table = xr.Dataset(
        {
            renamed.get(name, name): ("time", value, {"units": DENSE_UNITS.get(name, "1")})
            for name, value in frames.dense.items()
        },
        coords={"time": ("time", reader.lfp["time"].values[:: reader.every], {"units": "s"})},
    )
    if frames.phase is not None:
        table["phase"] = (("time", "electrode"), frames.phase, {"units": "rad"})
    return table


def delay_table(plane: DelayPlane | None) -> xr.Dataset:
    """The delay plane's direction, group speed and R squared, NaN where there is none."""
    values = dict.fromkeys(("direction", "direction_low", "direction_high"), np.nan)
    values |= dict.fromkeys(("speed", "speed_low", "speed_high", "r_squared"), np.nan)
    if plane is not None:
        here = complex(*plane.slowness)
        drawn = plane.drawn[:, 0] + 1j * plane.drawn[:, 1]
        turn = np.degrees(np.nanquantile(np.angle(drawn / here), (0.025, 0.975)))
        direction = float(np.degrees(np.angle(here)))
        slow = np.nanquantile(np.abs(drawn), (0.025, 0.975))
        values |= {
            "direction": direction,
            "direction_low": direction + turn[0],
            "direction_high": direction + turn[1],
            "speed": 1 / abs(here),
            "speed_low": 1 / slow[1],
            "speed_high": 1 / slow[0],
            "r_squared": plane.r_squared,
        }
    return xr.Dataset(
        {
            f"delay_plane_{name}": ((), float(value), {"units": UNITS.get(name, "1")})
            for name, value in values.items()
        }
    )
