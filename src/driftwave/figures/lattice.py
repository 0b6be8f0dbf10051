"""Latents over their lattice as a wave picture, with the measures of the wave stage."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.errors import InputError
from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, CYCLIC, DIVERGING, NULL, STYLE, new_figure

STAGE = "waves"
RESULTS = "waves"
EACH = True
WAVES = "lattice"

NEEDED = ("position", "phase", "statistic", "directionality")
MOST = 4  # channels drawn
ROWS = 4


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """A column per channel: positions, phase and directionality of one trial, and the null.

    Parameters
    ----------
    recording : DataTree or None
        Not needed.
    results : dict
        ``waves``: what the wave stage found in a model's latents on a lattice.

    Raises
    ------
    InputError
        If it is not given, or holds no lattice.
    """
    del recording
    waves = need_result(results, "waves", "lattice")
    missing = [name for name in NEEDED if name not in waves]
    if missing:
        raise InputError(
            file=str(waves.attrs.get("source", "waves")),
            field=", ".join(missing),
            found="nothing",
            expected="waves of latents on a lattice",
            fix="Run the wave stage on the latents of langevinflow",
        )
    waves = waves.load()
    count = min(MOST, waves.sizes["channel"])
    with plt.rc_context(STYLE):
        figure, axes = new_figure(
            ROWS, count, width=7.5, height=6.4, height_ratios=(1.2, 1.2, 0.8, 1.0)
        )
        grid = np.array(axes).reshape(ROWS, count)
        for channel in range(count):
            _column(grid[:, channel], waves.isel(channel=channel), channel)
        _maps(figure, grid, waves, count)
        _label(grid, waves)
    return figure


def _edges(waves: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Edges of bins (s) and sites."""
    time, width = waves["time"].values, float(waves.attrs["bin_width"])
    return np.append(time, time[-1] + width), np.arange(waves.sizes["site"] + 1) + 0.5


def _maps(figure: Figure, grid: np.ndarray, waves: xr.Dataset, count: int) -> None:
    """Positions and phases over site and time, one colour scale for all channels."""
    edges = _edges(waves)
    top = float(np.abs(waves["position"].values[:count]).max())
    kinds = (("position", DIVERGING, top), ("phase", CYCLIC, np.pi))
    for row, (name, palette, limit) in enumerate(kinds):
        for channel in range(count):
            image = grid[row, channel].pcolormesh(
                *edges,
                waves[name].values[channel],
                cmap=palette,
                vmin=-limit,
                vmax=limit,
                rasterized=True,
            )
        bar = figure.colorbar(image, ax=list(grid[row]), pad=0.01, aspect=12)
        if name == "position":
            bar.set_label("position z (sd)")
        else:
            bar.set_label("phase (rad)")
            bar.set_ticks([-np.pi, 0, np.pi], labels=["-π", "0", "π"])


def _column(axes: np.ndarray, one: xr.Dataset, channel: int) -> None:
    time = one["time"].values + float(one.attrs["bin_width"]) / 2
    axes[0].set_title(f"channel {channel + 1}\n{_numbers(one)}", fontsize=7.5)
    statistic = one["statistic"].values
    axes[2].axhline(0, color=NULL, lw=0.6)
    axes[2].fill_between(
        time, 0, statistic, where=statistic > 0, color=COLOURS[0], lw=0, step="mid"
    )
    axes[2].fill_between(
        time, 0, statistic, where=statistic < 0, color=COLOURS[1], lw=0, step="mid"
    )
    axes[2].set(ylim=(-1.05, 1.05), xlim=axes[0].get_xlim(), yticks=[-1, 0, 1])
    _null(axes[3], one)


def _numbers(one: xr.Dataset) -> str:
    """Frequency, speed and the share of bins whose phase advances."""
    frequency, speed = float(one["frequency"]), float(one["speed"])
    advance = f"phase advances {100 * float(one['advance']):.0f} %"
    return f"{frequency:.2g} Hz, {speed:.2g} sites/s\n{advance}"


def _null(axis: Axes, one: xr.Dataset) -> None:
    """Mean directionality beside that of surrogates; the same with its sign in words."""
    null, observed = one["null_directionality"].values, float(one["directionality"])
    low, high = min(null.min(), observed), max(null.max(), observed)
    span = max(high - low, 1e-2)
    limits = (low - 0.15 * span, high + 0.15 * span)
    axis.hist(null, bins=25, range=limits, color=NULL)
    axis.axvline(observed, color=COLOURS[2], lw=1.6)
    axis.set_xlim(limits)
    axis.locator_params(axis="x", nbins=3)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.set_title(f"q = {float(one['q']):.2g}\n{_direction(one)}", fontsize=7.5)
    axis.set_xlabel("mean |P|")


def _direction(one: xr.Dataset) -> str:
    index, p = float(one["direction_index"]), float(one["p_direction"])
    shown = f"{index:+.2f}" if abs(index) >= 0.005 else "0"
    return f"index {shown} (p = {p:.2g})"


def _label(grid: np.ndarray, waves: xr.Dataset) -> None:
    sites = waves.sizes["site"]
    ticks = np.arange(1, sites + 1) if sites <= 8 else np.linspace(1, sites, 4).astype(int)
    start, stop = _edges(waves)[0][[0, -1]]
    for row in range(3):
        for column, axis in enumerate(grid[row]):
            axis.set_xlim(start, stop)
            axis.tick_params(labelleft=column == 0, labelbottom=row == 2)
            if row < 2:
                axis.set_yticks(ticks)
    grid[0, 0].set_ylabel(f"site\n(trial {waves.attrs['shown_trial']})")
    grid[1, 0].set_ylabel("site")
    grid[2, 0].set_ylabel("direction P\n(+ to higher sites)")
    for axis in grid[2]:
        axis.set_xlabel("time (s)")
    grid[3, 0].set_ylabel("surrogates\n(sites shifted in time)")
