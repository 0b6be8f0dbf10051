"""Scores of all models side by side, each with its interval, null and ceiling."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.errors import InputError
from driftwave.figures.style import NULL, STYLE, TRUTH, colour_of, new_figure

STAGE = "scores"
RESULTS = "scores"

_TITLES = {
    "co_bps": "co-smoothing",
    "fp_bps": "forward prediction",
    "expected_bps": "fresh repeat, expected",
    "rate_r2": "true rates",
    "rate_r2_held_out": "true rates, held out",
    "rate_r2_forward": "true rates, forward",
    "latent_r2": "true latent state",
    "vel_r2": "velocity",
    "psth_r2": "PSTHs",
    "tp_corr": "produced interval",
    "held_out_electrode_r2": "hidden electrodes",
    "held_out_electrode_r2_band": "hidden electrodes, in band",
    "cpu_seconds": "cost of the fit",
}
_FEW_SHOT = "few_shot_co_bps"  # the number of trials follows
_FORECAST = "forecast_r2"  # the time ahead follows
_COLUMNS = 4


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """A panel per score, a row per model.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : mapping of str to Dataset
        Score tables (``metric``, ``model``, ``value``, ``ci_low`` ... along ``index``) as
        :func:`driftwave.scores.table.open_scores` reads them, one or more models in each.

    Raises
    ------
    InputError
        If there is no score.
    """
    del recording
    table = _joined(results)
    metrics = [name for name in _TITLES if (table["metric"] == name).any()]
    open_ended = [
        n for n in table["metric"].drop_duplicates() if n.startswith((_FEW_SHOT, _FORECAST))
    ]
    place = metrics.index("cpu_seconds") if "cpu_seconds" in metrics else len(metrics)
    metrics[place:place] = open_ended
    if not metrics:
        raise InputError(
            file=", ".join(results) or "results",
            field="metric",
            found="no score",
            expected=f"some of {list(_TITLES)}",
            fix="Score a model first",
        )
    with plt.rc_context(STYLE):
        return _panels(table, metrics)


def _panels(table: pd.DataFrame, metrics: list[str]) -> Figure:
    models = list(table["model"].drop_duplicates())
    colours = colour_of(models)
    columns = min(_COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    figure, axes = new_figure(
        rows,
        columns,
        width=0.9 + 1.75 * columns,
        height=0.5 + rows * (0.75 + 0.2 * len(models)),
        sharey=True,
    )
    for axis, metric in zip(axes, metrics, strict=False):
        _panel(axis, table[table["metric"] == metric], models, colours)
        title = metric.replace(_FEW_SHOT, "few-shot,").replace(_FORECAST, "forecast,")
        axis.set_title(_TITLES.get(metric, title))
    for axis in axes[len(metrics) :]:
        axis.set_axis_off()
    axes[0].set_yticks(range(len(models)), models)
    axes[0].set_ylim(len(models) - 0.5, -0.5)
    _legend(figure)
    return figure


def _joined(results: dict[str, xr.Dataset]) -> pd.DataFrame:
    frames = [dataset.to_dataframe() for dataset in results.values()]
    if not frames:
        return pd.DataFrame(columns=["model", "metric"])
    return pd.concat(frames, ignore_index=True)


def _panel(axis: Axes, rows: pd.DataFrame, models: list[str], colours: dict[str, str]) -> None:
    """Dots with intervals; grey ticks (arrows, where out of range): null; black line: ceiling."""
    low, high = _range(rows)
    for row in rows.to_dict("records"):
        y, colour = models.index(row["model"]), colours[row["model"]]
        if np.isfinite(row["ci_low"]):
            axis.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, lw=1.5)
        axis.plot(row["value"], y, "o", color=colour, ms=4)
        if np.isfinite(row["null_shuffled"]):
            outside = row["null_shuffled"] < low
            at = low + 0.03 * (high - low) if outside else row["null_shuffled"]
            axis.plot(at, y, "<" if outside else "|", color=NULL, ms=4 if outside else 8, mew=1.5)
    if rows["null"].notna().any():
        axis.axvline(0, color=NULL, lw=0.8, ls="--", zorder=0)
    ceilings = rows["ceiling"].dropna()
    if len(ceilings):
        axis.axvline(ceilings.max(), color=TRUTH, lw=0.8, zorder=0)
    unit = rows["unit"].iloc[0]
    axis.set_xlabel({"s": "CPU time (s)"}.get(unit, unit))
    axis.set_xlim(low, high)
    axis.tick_params(axis="y", length=0)


def _range(rows: pd.DataFrame) -> tuple[float, float]:
    """Limits that show all models and the ceiling, and the shuffled null if it is not far off.

    Rates dealt to other trials can score far below zero; to show that would squeeze the models.
    """
    shown = rows[["value", "ci_low", "ci_high", "ceiling"]].to_numpy(dtype=float)
    low, high = min(0.0, np.nanmin(shown)), max(0.0, np.nanmax(shown))
    nulls = rows["null_shuffled"].dropna()
    span = high - low or 1.0
    if len(nulls):
        low = min(low, max(nulls.min(), low - 0.2 * span) - 0.02 * span)
    return low, high + 0.06 * span


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=TRUTH, lw=0.8, label="truth (ceiling)"),
        Line2D([], [], color=NULL, lw=0.8, ls="--", label="mean"),
        Line2D(
            [],
            [],
            color=NULL,
            ls="",
            marker="|",
            ms=8,
            mew=1.5,
            label="predictions of other times (arrow: further left)",
        ),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3)
