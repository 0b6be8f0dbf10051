"""What is read off a wave's triggers, and the table of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.spatial.distance import pdist

from driftwave.fronts.null import NullWaves
from driftwave.fronts.refit import Refit, distinct
from driftwave.fronts.shapes import Shape, permutation_p, shape_of
from driftwave.fronts.slowness import Slowness, slowness
from driftwave.fronts.triggers import Triggers
from driftwave.nulls.multiplicity import benjamini_hochberg
from driftwave.phase.electrodes import Electrodes
from driftwave.wave_events.units import CENTRE, MOTION, SPAN

AROUND = 1.5
UNITS = {
    **SPAN,
    **MOTION,
    **CENTRE,
    "slowness_x": "s/mm",
    "slowness_y": "s/mm",
    "source_x": "mm",
    "source_y": "mm",
    "extent": "mm",
    "electrodes": "count",
    "r_squared": "1",
    "heldout_time_error": "s",
    "heldout_none": "s",
    "heldout_planar": "s",
    "heldout_radial_out": "s",
    "heldout_radial_in": "s",
}


@dataclass(frozen=True)
class Waves:
    """Measured waves: their rows, classes, triggers, and the groups these were found by."""

    rows: list[dict[str, float]]
    names: list[str]
    triggers: list[Triggers]
    groups: list[Triggers]


def earliest(position: np.ndarray, time: np.ndarray, reach: float) -> np.ndarray:
    """Position (2,) of the electrode whose neighbourhood of radius ``reach`` (mm) is first.

    The median over the neighbourhood, so that a single early trigger is no source.
    """
    away = np.hypot(*(position[:, None] - position[None]).transpose(2, 0, 1))
    local = np.sort(np.where(away <= reach, time, np.inf), axis=1)
    count = np.isfinite(local).sum(axis=1, keepdims=True)
    middle = np.concatenate([(count - 1) // 2, count // 2], axis=1)
    return position[int(np.argmin(np.take_along_axis(local, middle, axis=1).sum(axis=1)))]


def measure_fronts(
    groups: list[Triggers],
    near: Triggers,
    refit: Refit,
    electrodes: Electrodes,
    *,
    draws: int,
    permutations: int,
    rng: np.random.Generator,
) -> Waves:
    """Direction, speed, shape and source of the wave that passes each group.

    ``near`` are all triggers about the groups. With ``permutations`` also the p value of
    times permuted within the wave.
    """
    rows, names, waves = [], [], []
    cones = refit.cones
    for group in groups:
        wave = refit(group, near.between(group.time.min(), group.time.max(), refit.margin(group)))
        waves.append(wave)
        place, time = electrodes.position[wave.electrode], wave.time
        fit = slowness(place, time, draws=draws, rng=rng)
        shape = shape_of(place, time, wave.electrode, cones)
        source = earliest(place, time, AROUND * electrodes.pitch)
        row = _motion(fit, shape) | {
            "start": time.min(),
            "stop": time.max(),
            "slowness_x": fit.vector[0],
            "slowness_y": fit.vector[1],
            "source_x": source[0],
            "source_y": source[1],
            "extent": pdist(place).max(),
            "electrodes": len(wave),
            "r_squared": fit.r_squared,
            "heldout_time_error": shape.heldout[shape.name],
        }
        if permutations:
            row["p_permutation"] = permutation_p(
                place, time, wave.electrode, cones, permutations=permutations, rng=rng
            )
        row |= {f"heldout_{name}": error for name, error in shape.heldout.items()}
        rows.append({name: float(value) for name, value in row.items()})
        names.append(shape.name)
    return Waves(rows, names, waves, groups)


def _motion(fit: Slowness, shape: Shape) -> dict[str, float]:
    """Direction and speed as far as the shape has them, and a cone's centre."""
    if shape.name == "planar":
        return fit.row() | {"centre_x": np.nan, "centre_y": np.nan}
    row = dict.fromkeys(fit.row(), np.nan) | dict(
        zip(("centre_x", "centre_y"), shape.centre, strict=True)
    )
    if shape.name == "none":
        return dict.fromkeys(row, np.nan)
    return row | {"speed": 1 / max(abs(shape.slope), 1e-15)}


def front_table(
    parts: list[Waves],
    labels: np.ndarray,
    null: NullWaves,
    evidence: Callable[[list[Triggers]], np.ndarray],
) -> xr.Dataset:
    """Waves in order of time along ``event`` and their triggers along ``trigger``.

    ``labels`` (electrode,) name the electrodes in use; ``evidence`` is what the null holds of its
    waves.
    """
    rows = [row for part in parts for row in part.rows]
    names = [name for part in parts for name in part.names]
    waves = [wave for part in parts for wave in part.triggers]
    groups = [group for part in parts for group in part.groups]
    # Evidence is that of the groups, which surrogates are reduced to as well.
    found = evidence(groups)
    order = np.argsort([row["start"] for row in rows], kind="stable").astype(int)
    order = order[distinct(waves, np.array([len(group) for group in groups]))[order]]
    found = found[order]
    table = xr.Dataset(
        {
            name: ("event", np.array([rows[at][name] for at in order], float), {"units": unit})
            for name, unit in UNITS.items()
        }
    )
    if rows and "p_permutation" in rows[0]:
        own = np.array([rows[at]["p_permutation"] for at in order])
        table["p_permutation"] = ("event", own, {"units": "1"})
    table["evidence"] = ("event", found, {"units": "1"})
    table["p"] = ("event", null.p(found), {"units": "1"})
    table["q"] = ("event", benjamini_hochberg(table["p"].values), {"units": "1"})
    table["class"] = ("event", np.array([names[at] for at in order], dtype="<U16"))
    sizes = [len(waves[at]) for at in order]
    time = [waves[at].time for at in order]
    electrode = [waves[at].electrode for at in order]
    event = np.repeat(np.arange(len(order)), np.array(sizes, int))
    table["trigger_time"] = ("trigger", np.concatenate([*time, np.zeros(0)]), {"units": "s"})
    number = np.concatenate([*electrode, np.zeros(0, int)]).astype(int)
    table["trigger_electrode"] = ("trigger", labels[number], {"units": "label of the electrode"})
    table["trigger_event"] = ("trigger", event, {"units": "index of the event"})
    return table
