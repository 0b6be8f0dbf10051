"""Posterior over position in test trials, the true course, and the error beside chance."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.figures.inputs import need_result, need_variable
from driftwave.figures.style import COLOURS, NULL, STYLE

STAGE = "decoding"
RESULTS = "decoders"
DECODER = "bayesian_position"
EACH = True

WIDTH, HEIGHT = 7.4, 2.5
SHOWN_SECONDS = 30.0
POSTERIOR = "Greys"
_MARK: dict[str, Any] = {"color": COLOURS[1], "marker": ".", "ms": 2.5, "linestyle": "none"}


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw posterior and true course of some test trials, and the error beside its null.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : dict
        ``decoders``: what the decoder ``bayesian_position`` found.

    Raises
    ------
    InputError
        If ``decoders`` is not given, or holds no posterior.
    """
    del recording
    found = need_result(results, "decoders", "bayesian_position")
    need_variable(
        found,
        "posterior",
        "bayesian_position",
        expected="a posterior over position",
        plugin="bayesian_position",
    )
    one = found.isel(features_from=0)
    names = [str(name) for name in one["target"].values]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(WIDTH, HEIGHT * len(names)))
        grid = figure.subplots(len(names), 2, width_ratios=[3.4, 1], squeeze=False)
        for row, name in zip(grid, names, strict=True):
            _course(row[0], one.sel(target=name), name)
            _errors(row[1], one, name)
        source = str(one["features_from"].values).replace("_", " ")
        title = f"{found.attrs.get('session', 'recording')}, {source}: test split"
        figure.suptitle(title, fontsize=8.5, x=0.02, ha="left")
    return figure


def _unit(found: xr.Dataset) -> tuple[float, str]:
    """Factor and name of the unit that is drawn: angles in degrees."""
    if str(found["kind"].values) == "circular":
        return 180 / np.pi, "degree"
    return 1.0, str(found["unit_of_measure"].values) or "unit not stated"


def _course(axes: Axes, found: xr.Dataset, name: str) -> None:
    """Posterior as shades, the true course as dots, trial after trial."""
    factor, unit = _unit(found)
    true = found["target_value"].transpose("test_trial", "time").values
    if unit == "degree":
        true = np.angle(np.exp(1j * true))
    true = true * factor
    shade = found["posterior"].transpose("test_trial", "time", "position_bin").values
    width = float(found.attrs["bin_width"])
    there = np.flatnonzero(np.isfinite(true).any(axis=1) & np.isfinite(shade).any(axis=(1, 2)))
    shown = there[: max(1, int(SHOWN_SECONDS / (width * true.shape[1])))]
    if not len(shown):
        axes.text(0.5, 0.5, "no test trial", ha="center", transform=axes.transAxes)
        return
    position = found["position"].values * factor
    half = (position[1] - position[0]) / 2
    length = true.shape[1] * width
    gap = 2 * width
    top = float(np.nanquantile(shade[shown].max(axis=-1), 0.9))
    for k, trial in enumerate(shown):
        start = k * (length + gap)
        axes.imshow(
            shade[trial].T,
            extent=(start, start + length, position[0] - half, position[-1] + half),
            origin="lower",
            aspect="auto",
            cmap=POSTERIOR,
            vmin=0,
            vmax=top,
            interpolation="nearest",
        )
        time = start + (np.arange(true.shape[1]) + 0.5) * width
        axes.plot(time, true[trial], label="true" if k == 0 else None, **_MARK)
        if k:
            axes.axvline(start - gap / 2, color=COLOURS[0], lw=0.5)
    axes.set_xlim(0, len(shown) * (length + gap) - gap)
    axes.set_ylim(position[0] - half, position[-1] + half)
    axes.set(
        xlabel="test trials, one after the other (s)", ylabel=f"{name.replace('_', ' ')} ({unit})"
    )
    axes.set_title("posterior (grey) and true value (dots)")


def _errors(axes: Axes, found: xr.Dataset, name: str) -> None:
    """The null of the median error, and what was found."""
    circular = str(found["kind"].sel(target=name).values) == "circular"
    score, dim = ("angular_error", "angle") if circular else ("median_error", "target")
    unit = "degree" if circular else _unit(found.sel(target=name))[1]
    null = found[f"null_{score}_test"].sel({dim: name}).values
    null = null[np.isfinite(null)]
    test = float(found[f"{score}_test"].sel({dim: name}))
    folds = found[f"{score}_fold"].sel({dim: name}).values
    if len(null):
        axes.hist(null, bins=30, color=NULL, alpha=0.6, label="shifted")
    bottom, top = axes.get_ylim()
    axes.plot(folds, np.full(len(folds), 0.06 * top), "|", color=COLOURS[0], ms=7, label="folds")
    axes.axvline(test, color=COLOURS[1], lw=1.4, label="test")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom, 1.6 * top)
    p = float(found[f"p_value_{score}_test"].sel({dim: name}))
    axes.set_title(f"median error {test:.3g}\n(p = {p:.2g})")
    axes.set(xlabel=f"median error ({unit})", ylabel="shuffles")
    axes.legend(loc="upper right", handlelength=1)
