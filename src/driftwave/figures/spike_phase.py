"""Spikes against the phase of waves: locked units, preferred phases, classes, rates about waves."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, NULL, STYLE

STAGE = "waves"
RESULTS = "spike_waves"

BEST = 4
LEVEL = 0.05
NAMES = {"recording": "all the time", "event": "any wave"}


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw phase histograms of the best units, preferred phases, consistency and rates.

    Parameters
    ----------
    recording : DataTree or None
        Not needed.
    results : dict
        ``spike_waves``: what :func:`driftwave.spike_waves.coupling.couple` found.

    Raises
    ------
    InputError
        If ``spike_waves`` is not given.
    """
    del recording
    found = need_result(results, "spike_waves", "spike_phase")
    shown = "event" if np.isfinite(_of(found, "event")["ppc"].values).any() else "recording"
    one = _of(found, shown)
    ppc = np.nan_to_num(one["ppc"].values, nan=-np.inf)
    best = [unit for unit in np.argsort(-ppc)[:BEST] if np.isfinite(ppc[unit])]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(9.0, 5.0))
        grid = figure.add_gridspec(2, 12)
        for place, unit in enumerate(best):
            _histogram(figure.add_subplot(grid[0, 3 * place : 3 * place + 3]), one, unit, place)
        if not best:
            figure.text(0.5, 0.8, "no unit has enough spikes", ha="center")
        _preferred(figure, grid[1, 0:3], one, shown)
        _classes(figure.add_subplot(grid[1, 3:6]), found)
        _about(figure.add_subplot(grid[1, 6:9]), one, "cycle", "cycle_lag", best)
        _about(figure.add_subplot(grid[1, 9:12]), _of(found, "event"), "event", "lag", best)
    return figure


def _of(found: xr.Dataset, name: str) -> xr.Dataset:
    return found.sel({"class": name})


def _histogram(axes: Axes, one: xr.Dataset, unit: int, place: int) -> None:
    """Rate against phase over two cycles."""
    own = one.isel(unit=unit)
    phase = own["phase_bin"].values
    twice = np.concatenate([phase, phase + 360])

    def double(name: str) -> np.ndarray:
        return np.tile(own[name].values, 2)

    low, high = double("phase_rate_low"), double("phase_rate_high")
    axes.fill_between(twice, low, high, color=NULL, alpha=0.4, lw=0, step="mid")
    axes.step(twice, double("phase_rate"), where="mid", color=COLOURS[place])
    wave = np.cos(np.deg2rad(twice))
    top = float(np.nanmax(own["phase_rate"].values))
    axes.plot(twice, top * (1.1 + 0.06 * wave), color="k", lw=0.7)
    preferred = float(own["preferred_phase"])
    axes.axvline(preferred, color=COLOURS[place], ls=":", lw=1)
    axes.set(ylim=(0, 1.22 * top), xlabel="phase at the unit's electrode")
    axes.set_xticks([-180, 0, 180, 360, 540], ["−180°", "0°", "180°", "0°", "180°"])
    p = float(own["p"])
    axes.set_title(
        f"unit {own['unit'].item()}: {preferred:.0f}°\nPPC {float(own['ppc']):.3f}, "
        + (f"p = {p:.2g}" if np.isfinite(p) else "not tested")
    )
    if place == 0:
        axes.set_ylabel("rate (Hz); grey: trials shuffled")


def _preferred(figure: Figure, cell: SubplotSpec, one: xr.Dataset, shown: str) -> None:
    """Preferred phases of locked units, as a polar histogram, radius their number."""
    axes = figure.add_subplot(cell, projection="polar")
    locked = one["q"].values <= LEVEL
    phases = np.deg2rad(one["preferred_phase"].values[locked])
    edges = np.linspace(-np.pi, np.pi, 19)
    counts, _ = np.histogram((phases + np.pi) % (2 * np.pi) - np.pi, edges)
    axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=COLOURS[0], alpha=0.8)
    axes.set_yticks([max(1, int(counts.max()))])
    axes.set_xticks(np.deg2rad([0, 90, 180, 270]), ["0°", "90°", "180°", "−90°"])
    axes.tick_params(pad=-2)
    tested = int(np.isfinite(one["p"].values).sum())
    where = "during waves" if shown == "event" else "all the time"
    axes.set_title(f"preferred phases of {int(locked.sum())}\nof {tested} units locked {where}")


def _classes(axes: Axes, found: xr.Dataset) -> None:
    """Pairwise phase consistency of every unit in each class, and its median."""
    rng = np.random.default_rng(0)
    names = [str(name) for name in found["class"].values]
    for place, name in enumerate(names):
        one = _of(found, name)
        values, locked = one["ppc"].values, one["q"].values <= LEVEL
        across = place + rng.uniform(-0.22, 0.22, len(values))
        axes.plot(across[~locked], values[~locked], ".", ms=3, color=NULL)
        axes.plot(across[locked], values[locked], ".", ms=3, color=COLOURS[0])
        if np.isfinite(values).any():
            middle = np.nanmedian(values)
            axes.plot([place - 0.35, place + 0.35], [middle, middle], color="k", lw=1.4)
    axes.axhline(0, color="k", lw=0.5)
    labels = [NAMES.get(name, name.replace("_", " ")) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=60, fontsize=6)
    axes.set(ylabel="PPC", title="locking by class\n(blue: q ≤ .05)")


def _about(axes: Axes, one: xr.Dataset, kind: str, dim: str, best: list[int]) -> None:
    """Rates of the best units about cycles or starts of waves, over their means, with the null."""
    scale = 1e3 if kind == "cycle" else 1.0
    lag = scale * one[dim].values
    drawn = False
    for place, unit in enumerate(best):
        own = one.isel(unit=unit)
        mean = float(own[f"{kind}_rate"].mean())
        if not mean > 0:
            continue
        drawn = True
        axes.plot(lag, own[f"{kind}_rate"] / mean, color=COLOURS[place], lw=0.9)
        if place == 0:
            low, high = (own[f"{kind}_rate_{end}"] / mean for end in ("low", "high"))
            axes.fill_between(lag, low, high, color=NULL, alpha=0.4, lw=0)
    axes.axvline(0, color="k", lw=0.5)
    tested = one[f"{kind}_q"].values
    share = f"{int((tested <= LEVEL).sum())} of {int(np.isfinite(tested).sum())} units"
    what = "the wave's peak" if kind == "cycle" else "the start of waves"
    axes.set_title(f"about {what}\n({share} beyond the null)")
    axes.set(xlabel="lag (ms)" if kind == "cycle" else "lag (s)")
    axes.set_ylabel("rate / mean")
    if not drawn:
        axes.text(0.5, 0.5, "none", ha="center", transform=axes.transAxes)
