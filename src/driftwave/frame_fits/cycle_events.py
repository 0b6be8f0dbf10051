"""Runs of cycles with one centre and sign: events of sources and of rotations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import xarray as xr

from driftwave.frame_fits.cycles import centre_fits
from driftwave.frame_fits.event_null import event_p
from driftwave.frame_fits.layouts import require_plane
from driftwave.frame_fits.params import CycleParams
from driftwave.frame_fits.stream import NULL, Measures, observe, plan, surrogates
from driftwave.phase.frames import FieldReader, open_field

SKIP = 1
CLASS = {
    "radial": {1: "radial_out", -1: "radial_in"},
    "rotating": {1: "rotating_ccw", -1: "rotating_cw"},
}


@dataclass(frozen=True)
class Run:
    """Windows that belong to one event.

    Attributes
    ----------
    windows : ndarray of int
    sign : int
    mass : float
        Sum of |score| over the windows.
    """

    windows: np.ndarray
    sign: int
    mass: float


def find_runs(measures: Measures, *, threshold: float, link: float, shortest: int) -> list[Run]:
    """Consecutive windows whose |score| reaches a threshold, of one sign and with one centre.

    One window may be missed, unless it lies in a gap of the recording.

    Parameters
    ----------
    measures : dict
        score, x, y, valid (window,).
    threshold : float
    link : float
        Largest distance between the centres of neighbouring windows, mm.
    shortest : int
        Fewest windows.
    """
    score, valid = measures["score"], measures["valid"]
    counted = np.flatnonzero(valid & (np.abs(score) >= threshold) & (score != 0))
    runs: list[list[int]] = []
    for window in counted.tolist():
        last = runs[-1][-1] if runs else None
        if last is not None and _joined(measures, last, window, link):
            runs[-1].append(window)
        else:
            runs.append([window])
    return [
        Run(np.array(run), int(np.sign(score[run[0]])), float(np.abs(score[run]).sum()))
        for run in runs
        if len(run) >= shortest
    ]


def _joined(measures: Measures, last: int, window: int, link: float) -> bool:
    score = measures["score"]
    away = np.hypot(
        measures["x"][window] - measures["x"][last], measures["y"][window] - measures["y"][last]
    )
    between = measures["valid"][last : window + 1].all()
    near = window - last <= 1 + SKIP
    return bool(near and between and away <= link and score[window] * score[last] > 0)


def analyse_cycles(
    recording: xr.DataTree,
    dataset: xr.Dataset,
    *,
    kind: Literal["radial", "rotating"],
    detector: str,
    params: CycleParams,
    seed: int,
) -> xr.Dataset:
    """Fit one pattern per cycle to a recording and its surrogates, and gather cycles to events.

    Returns
    -------
    Dataset
        The event table; along ``cycle`` (windows of one cycle of the band's geometric mean
        frequency) their centre, signed correlation, resultants of the pattern and of a plane;
        ``threshold`` and the surrogates' event sizes.
    """
    reader = open_field(recording, dataset, band=params.band, frame_rate=None)
    if kind == "rotating":
        require_plane(reader.electrodes, reader.session, "rotations")
    window = max(4, round(reader.rate / params.middle))
    generalized = params.phase == "generalized"
    pieces = plan(reader, chunk=params.chunk, window=window, generalized=generalized)
    measure = centre_fits(reader.electrodes, kind, window=window, smoothing=params.smoothing)
    observed = observe(pieces, measure, seed=seed)
    null = surrogates(pieces, observed, measure, count=params.surrogates, seed=seed)
    scores = np.concatenate([np.abs(one["score"][one["valid"]]) for one in null])
    threshold = float(np.quantile(scores, params.threshold))
    find = partial(
        find_runs,
        threshold=threshold,
        link=params.link * reader.electrodes.pitch,
        shortest=params.shortest,
    )
    runs = find(observed.measures)
    chance = [np.array([run.mass for run in find(one)]) for one in null]
    table = _table(reader, observed.measures, runs, kind, window)
    worth = event_p(np.array([run.mass for run in runs]), chance)
    result = xr.merge([table, worth, _cycle_table(reader, observed.measures, window)])
    result["threshold"] = ((), threshold, {"units": "1"})
    result["null_mass"] = ("null_event", np.concatenate([*chance, []]), {"units": "1"})
    return result.assign_attrs(
        detector=detector,
        session=reader.session,
        speed_kind="phase",
        null=NULL,
        surrogates=params.surrogates,
        band=list(params.band),
        phase=params.phase,
        pitch=reader.electrodes.pitch,
    )


def _table(
    reader: FieldReader,
    measures: Measures,
    runs: list[Run],
    kind: Literal["radial", "rotating"],
    window: int,
) -> xr.Dataset:
    def middle(name: str) -> np.ndarray:
        return np.array([np.median(measures[name][run.windows]) for run in runs], float)

    clock, length = reader.lfp["time"].values, window * reader.every
    first = measures["first"] * reader.every
    start = [clock[first[run.windows[0]]] for run in runs]
    last = [min(first[run.windows[-1]] + length, len(clock) - 1) for run in runs]
    columns = {
        "start": (np.array(start, float), "s"),
        "stop": (np.array([clock[i] for i in last], float), "s"),
        "centre_x": (middle("x"), "mm"),
        "centre_y": (middle("y"), "mm"),
        "frequency": (middle("frequency"), "Hz"),
        "rho": (middle("rho"), "1"),
        "resultant": (middle("resultant"), "1"),
        "mass": (np.array([run.mass for run in runs], float), "1"),
    }
    if kind == "radial":
        size = np.maximum(np.abs(middle("kappa")), 1e-9)
        columns |= {
            "wavenumber": (size, "rad/mm"),
            "wavelength": (2 * np.pi / size, "mm"),
            "speed": (2 * np.pi * columns["frequency"][0] / size, "mm/s"),
        }
    else:
        columns["charge"] = (np.array([run.sign for run in runs], float), "1")
    table = xr.Dataset(
        {name: ("event", value, {"units": unit}) for name, (value, unit) in columns.items()}
    )
    names = np.array([CLASS[kind][run.sign] for run in runs], dtype="<U16")
    return table.assign({"class": ("event", names)})


def _cycle_table(reader: FieldReader, measures: Measures, window: int) -> xr.Dataset:
    """One row per window, NaN within gaps."""
    valid = measures["valid"]
    clock = reader.lfp["time"].values
    middle = np.minimum((measures["first"] + window // 2) * reader.every, len(clock) - 1)
    names = {"x": ("cycle_x", "mm"), "y": ("cycle_y", "mm"), "rho": ("cycle_rho", "1")}
    names |= {"score": ("cycle_score", "1"), "resultant": ("cycle_resultant", "1")}
    names |= {"plane": ("cycle_plane_resultant", "1"), "frequency": ("cycle_frequency", "Hz")}
    return xr.Dataset(
        {
            new: ("cycle", np.where(valid, measures[old], np.nan), {"units": unit})
            for old, (new, unit) in names.items()
        },
        coords={"cycle_time": ("cycle", clock[middle], {"units": "s"})},
    )
