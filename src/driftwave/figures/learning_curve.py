"""How decoding grows with units and with training trials, beside shuffled labels."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from driftwave.errors import InputError
from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, NULL, STYLE, colour_of

STAGE = "decoding"
RESULTS = "decoders"
DECODER = "learning_curve"
EACH = True

_LABELS = {"units": "units", "trials": "training trials of a fold"}


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw the learning curves over units and over trials, with the size of 95 % of the score.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : dict
        ``decoders``: what the decoder ``learning_curve`` found.

    Raises
    ------
    InputError
        If ``decoders`` is not given, or holds no learning curve.
    """
    del recording
    found = need_result(results, "decoders", "learning_curve")
    if "half_size" not in found:
        raise InputError(
            file="figure learning_curve",
            field="half_size",
            found=f"variables {sorted(map(str, found.data_vars))[:6]}",
            expected="learning curves",
            fix="Give the result of the decoder learning_curve",
        )
    kinds = [str(kind) for kind in found["kind"].values]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(kinds), figsize=(3.5 * len(kinds), 2.9), squeeze=False, sharey=True
        )
        for one, kind in zip(axes.flat, kinds, strict=True):
            draw_curve(one, found.sel(kind=kind))
            one.set_xlabel(_LABELS.get(kind, kind))
        axes.flat[0].set_ylabel(score_name(found))
        axes.flat[0].legend(loc="upper left", bbox_to_anchor=(0, -0.22), ncols=2)
        target = str(found.attrs.get("target", "")).replace("_", " ")
        title = f"{found.attrs.get('session', 'recording')}: {target}"
        figure.suptitle(title, fontsize=8.5, x=0.02, ha="left")
    return figure


def score_name(found: xr.Dataset) -> str:
    return "R$^2$" if str(found.attrs.get("score", "")).startswith("R2") else "balanced accuracy"


def draw_curve(axes: Axes, found: xr.Dataset) -> None:
    """One kind of curve: median and each of the draws, shuffles, asymptote and half size."""
    sources = [str(name) for name in found["features_from"].values]
    colours = colour_of(sources)
    lowest = np.inf
    for source in sources:
        one = found.sel(features_from=source)
        one = one.isel(size=np.flatnonzero(np.isfinite(one["p_value"].values)))
        size, score = one["size"].values, one["score"].transpose("size", "draw").values
        colour = colours[source]
        null = one["null_score"].transpose("size", "shuffle").values
        low, high = np.quantile(null, [0.025, 0.975], axis=1)
        lowest = min(lowest, float(low.min()))
        first = source == sources[0]
        label = "shuffled labels, 95 %" if first else None
        axes.fill_between(size, low, high, color=NULL, alpha=0.45, lw=0, label=label)
        axes.plot(size, score, color=colour, alpha=0.25, lw=0.6)
        axes.plot(
            size, np.median(score, axis=1), "o-", color=colour, ms=3, label=source.replace("_", " ")
        )
        tends = float(one["asymptote"])
        if np.isfinite(tends) and tends <= 1.5 * abs(float(one["full_score"])):
            axes.axhline(tends, color=colour, lw=0.8, ls=":", label="asymptote" if first else None)
        _mark_half(axes, one, COLOURS[1] if len(sources) == 1 else colour)
    axes.set_xscale("log")
    ticks = np.unique(found["size"].values[np.isfinite(found["p_value"].values).any(axis=0)])
    axes.set_xticks(_thinned(ticks))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=max(min(lowest, 0) * 1.1, -0.3))


def _thinned(ticks: np.ndarray, least: float = 1.35) -> np.ndarray:
    """Of some sizes those far enough apart to be read, the last one always."""
    kept = [ticks[-1]]
    for tick in ticks[-2::-1]:
        if kept[-1] / tick >= least:
            kept.append(tick)
    return np.array(kept[::-1])


def _mark_half(axes: Axes, one: xr.Dataset, colour: str) -> None:
    """Where the median curve reaches the share of the full score."""
    half = float(one["half_size"])
    if not np.isfinite(half):
        return
    share = float(one.attrs.get("share", 0.95))
    part = 100 * float(one["half_share"])
    axes.axvline(half, color=colour, lw=0.9, ls="--")
    axes.annotate(
        f"{100 * share:.0f} % of the score:\n{half:.3g} ({part:.0f} % of all)",
        (half, 0.04),
        (-4, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right",
        fontsize=7,
        color=colour,
    )
