"""Classes, directions, speeds and centres of planted wave events against what was planted.

Each recording holds events of every class on a 96-electrode array in 1/f noise that electrodes
share; an event's time is given, its frequency, class and parameters are not. In slots of the class
``none`` there is noise alone.
"""

from __future__ import annotations

import dask
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.experiments._wave_fields import BAND, Planted, planted
from driftwave.figures.style import COLOURS, STYLE, TRUTH
from driftwave.figures.waves import class_label
from driftwave.nulls.cross_spectrum import CrossSpectrum
from driftwave.phase.directionality import directionality_of
from driftwave.phase.frames import open_field
from driftwave.wave_events.events import Estimate, estimate_group
from driftwave.wave_events.noise import ZeroLagNoise
from driftwave.wave_events.patterns import CLASSES, patterns_of

QUICK = {"recordings": 1, "each": 2, "snr": (1.0, 4.0)}
MEASURES = {
    "direction_error": "degree",
    "speed_ratio": "1",
    "centre_error": "mm",
    "charge_right": "1",
    "direction_covered": "1",
    "speed_covered": "1",
    "frequency_error": "Hz",
    "heldout_phase_error": "degree",
    "evidence": "nat",
}
QUARTILES = (0.25, 0.5, 0.75)
SHORT = {
    "synchronous": "sync",
    "standing": "stand",
    "planar": "plane",
    "radial_out": "rad out",
    "radial_in": "rad in",
    "rotating_ccw": "rot ccw",
    "rotating_cw": "rot cw",
    "spiral_out": "spi out",
    "spiral_in": "spi in",
    "none": "none",
}


class Params(BaseModel):
    """Settings of the accuracy of wave events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    snr: tuple[float, ...] = Field(
        (0.5, 1.0, 2.0, 4.0), min_length=1, description="RMS of a wave by that of the noise."
    )
    recordings: int = Field(4, ge=1, description="Recordings of each SNR.")
    each: int = Field(10, ge=1, description="Events of each class in a recording.")


def judged(snr: float, each: int, seed: int, number: int) -> list[dict[str, float | str]]:
    """What is found of every event of recording ``number``."""
    rng = generator(seed, "wave accuracy", f"{snr:g}", str(number))
    recording, events = planted(snr, each, rng)
    dataset = recording["field"].to_dataset()
    reader = open_field(recording, dataset, band=BAND, frame_rate=None)
    measure = directionality_of(reader.electrodes)
    patterns = patterns_of(reader.electrodes)
    spectrum = CrossSpectrum.of(
        reader.signal(0, reader.frames).astype(np.complex64), round(reader.rate)
    )
    noise = ZeroLagNoise(spectrum.mean, spectrum.segments, reader.rate, BAND)
    found = []
    for index, event in enumerate(events):
        ends = event.start // reader.every, event.stop // reader.every
        found += estimate_group(
            reader,
            measure,
            patterns,
            [ends],
            generalized=True,
            draws=200,
            streams=[generator(seed, "event", f"{snr:g}", str(number), str(index))],
            noise=noise,
        )
    return [_compared(*pair) for pair in zip(events, found, strict=True)]


def _compared(event: Planted, found: Estimate) -> dict[str, float | str]:
    """Errors of one event; NaN where it is of another class than planted, or has no such number."""
    row = {"class_true": event.name, "class_found": found.verdict.name}
    errors = dict.fromkeys(MEASURES, np.nan)
    got = {name: value for name, value in found.row.items() if name != "class"}
    for name in ("heldout_phase_error", "evidence"):
        errors[name] = float(got[name])
    errors["frequency_error"] = float(got["frequency"]) - event.frequency
    if event.name == found.verdict.name:
        turn = float(got["direction"]) - event.direction
        errors["direction_error"] = abs((turn + 180) % 360 - 180)
        errors["speed_ratio"] = float(got["speed"]) / event.speed
        centre = np.array([got["centre_x"], got["centre_y"]], dtype=float)
        errors["centre_error"] = float(np.hypot(*(centre - event.centre)))
        if "rotating" in event.name or "spiral" in event.name:
            errors["charge_right"] = float(got["charge"] == event.charge)
        if np.isfinite(event.direction):
            middle = (event.direction - float(got["direction_low"])) % 360
            width = float(got["direction_high"]) - float(got["direction_low"])
            errors["direction_covered"] = float(middle <= width)
        if np.isfinite(event.speed) and np.isfinite(float(got["speed_low"])):
            inside = float(got["speed_low"]) <= event.speed <= float(got["speed_high"])
            errors["speed_covered"] = float(inside)
    return row | errors


def run(params: Params, *, seed: int) -> xr.Dataset:
    """Estimate every planted event.

    Parameters
    ----------
    params : Params
    seed : int

    Returns
    -------
    Dataset
        Per ``event``: ``class_true``, ``class_found``, ``snr``, and the numbers named by
        ``MEASURES``, NaN where the class is wrong. ``confusion`` (snr_level, class, found), the
        share of each class's events; ``events`` (snr_level, class), their number.
    """
    tasks = [
        dask.delayed(judged)(snr, params.each, seed, number)
        for snr in params.snr
        for number in range(params.recordings)
    ]
    parts = dask.compute(*tasks)
    levels = np.repeat(np.asarray(params.snr, dtype=float), params.recordings)
    snr = np.concatenate([[level] * len(part) for level, part in zip(levels, parts, strict=True)])
    rows = [row for part in parts for row in part]
    result = xr.Dataset(
        {name: ("event", np.array([r[name] for r in rows]), {"units": MEASURES[name]})
         for name in MEASURES}
    )  # fmt: skip
    for name in ("class_true", "class_found"):
        result[name] = ("event", np.array([row[name] for row in rows], dtype="<U16"))
    result["snr"] = ("event", snr, {"units": "1"})
    counts = np.zeros((len(params.snr), len(CLASSES), len(CLASSES)))
    for row, level in zip(rows, snr, strict=True):
        place = CLASSES.index(str(row["class_true"])), CLASSES.index(str(row["class_found"]))
        counts[params.snr.index(level), *place] += 1
    number = counts.sum(axis=-1)
    dims = ("snr_level", "class", "found")
    result["confusion"] = (dims, counts / number[..., None], {"units": "1"})
    result["events"] = (dims[:2], number.astype(int), {"units": "1"})
    return result.assign_coords(
        {"snr_level": list(params.snr), "class": list(CLASSES), "found": list(CLASSES)}
    )


def draw(result: xr.Dataset) -> Figure:
    """Confusion matrices per SNR above, errors against SNR below.

    Parameters
    ----------
    result : Dataset
        Of :func:`run`.
    """
    levels = result["snr_level"].values
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(7.4, 6.4))
        above, below = figure.subfigures(2, 1, height_ratios=[1.5, 1], squeeze=False)[:, 0]
        count = -(-len(levels) // 2) if len(levels) > 2 else len(levels)
        rows = -(-len(levels) // count)
        maps = above.subplots(rows, count, squeeze=False, sharex=True, sharey=True)
        for axes, level in zip(maps.flat, levels, strict=False):
            _confusion(axes, result.sel(snr_level=level))
        for axes in maps[:, 0]:
            axes.set_ylabel("planted")
        for axes in maps[-1]:
            axes.set_xlabel("found")
        curves = below.subplots(1, 4)
        _curve(curves[0], result, "direction_error", ["planar"], "direction error (degree)")
        _curve(
            curves[1], result, "speed_ratio", ["planar", "radial", "spiral"], "speed, found / true"
        )
        curves[1].axhline(1, color=TRUTH, lw=0.8, ls=":")
        _curve(
            curves[2], result, "centre_error", ["radial", "rotating", "spiral"], "centre error (mm)"
        )
        _curve(
            curves[3], result, "heldout_phase_error",
            ["synchronous", "standing", "planar"], "held-out phase error (degree)",
        )  # fmt: skip
        for axes in (curves[0], curves[2], curves[3]):
            axes.set_ylim(0, None)
    return figure


def _confusion(axes: Axes, one: xr.Dataset) -> None:
    share = one["confusion"].values
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(share > 0.005):
        axes.text(
            j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", fontsize=5.5,
            color="white" if share[i, j] > 0.55 else "black",
        )  # fmt: skip
    labels = [SHORT[name] for name in one["class"].values]
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6)
    axes.set_yticks(range(len(labels)), labels, fontsize=6)
    axes.set_title(f"SNR {float(one['snr_level']):g} (%, n = {int(one['events'].min())} per class)")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _curve(axes: Axes, result: xr.Dataset, name: str, kinds: list[str], label: str) -> None:
    """Median and quartiles of a measure over the events found in their class."""
    levels = result["snr_level"].values
    right = result["class_true"].values == result["class_found"].values
    true = result["class_true"].values.astype(str)
    for number, kind in enumerate(kinds):
        of_kind = right & np.char.startswith(true, kind)
        cells = [result[name].values[of_kind & (result["snr"].values == s)] for s in levels]
        cells = [cell[np.isfinite(cell)] for cell in cells]
        low, middle, high = np.array(
            [np.quantile(c, QUARTILES) if len(c) > 3 else [np.nan] * 3 for c in cells]
        ).T
        place = levels * 2 ** (0.08 * (number - (len(kinds) - 1) / 2))
        axes.errorbar(
            place, middle, yerr=[middle - low, high - middle], fmt=f"{'os^'[number]}-", ms=3,
            lw=1, color=COLOURS[number], label=class_label(kind),
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    axes.minorticks_off()
    axes.set(xlabel="SNR", ylabel=label)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), borderpad=0, handlelength=1.2)
