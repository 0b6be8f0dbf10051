"""Pulses on the rings of a wave network: one trial, directionality and its nulls."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, SEQUENTIAL, STYLE

STAGE = "waves"
RESULTS = "waves"
EACH = True
WAVES = "ring"

NULL_GREYS = {"shifted": "#bbbbbb", "zero_lag": "#888888", "order": "#555555"}
TITLES = {"spikes": "spikes, brought onto the ring", "activity": "the network's own activity"}


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw one trial on the most directed ring, and directionality beside its nulls.

    Parameters
    ----------
    recording : DataTree or None
        Not needed.
    results : dict
        ``waves``: what the waves stage wrote for a wave network.

    Raises
    ------
    InputError
        If ``waves`` is not given.
    """
    del recording
    waves = need_result(results, "waves", "ring_pulses")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(7.0, 4.2), width_ratios=(1.3, 1))
        for row, source in enumerate(("spikes", "activity")):
            one = waves.sel(source=source)
            _trial(figure, axes[row, 0], one, source)
            _null(axes[row, 1], one)
        axes[1, 0].set_xlabel("time (ms)")
        axes[1, 1].set_xlabel("directionality |D| over all rings")
        axes[0, 1].legend(loc="upper center", title="null", title_fontsize=7)
    return figure


def _trial(figure: Figure, axes: Axes, one: xr.Dataset, source: str) -> None:
    time, values = 1e3 * one["example_time"].values, one["example"].values.T
    step = float(np.diff(time[:2])[0])
    image = axes.imshow(
        values,
        aspect="auto",
        origin="lower",
        cmap=SEQUENTIAL,
        extent=(time[0], time[-1] + step, -0.5, len(values) - 0.5),
    )
    axes.set(ylabel="site of the ring", title=TITLES[source])
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("arbitrary units")


def _null(axes: Axes, one: xr.Dataset) -> None:
    names = [str(name) for name in one["null"].values]
    nulls = one["null_directionality"].values
    observed = float(one["directionality"])
    edges = np.linspace(0, 1.05 * max(float(nulls.max()), observed, 0.05), 41)
    for name, values in zip(names, nulls, strict=True):
        colour = NULL_GREYS.get(name, "#999999")
        axes.hist(values, edges.tolist(), histtype="step", lw=1.4, color=colour, label=name)
    axes.axvline(observed, color=COLOURS[1], lw=1.8)
    axes.set(ylabel="surrogates", title=f"observed (orange), p = {float(one['p']):.2g}")
