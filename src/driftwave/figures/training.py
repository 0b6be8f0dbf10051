"""Loss curves of every model trained by gradient descent, with the epoch that was kept."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import BaseModel, ConfigDict

from driftwave.errors import InputError
from driftwave.figures.style import COLOURS, NULL, STYLE, new_figure

STAGE = "models"
RESULTS = "latents"
CURVES = True

COLUMNS = 3


class Params(BaseModel):
    """This figure has no parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def draw(
    recording: xr.DataTree | None,  # noqa: ARG001
    results: dict[str, xr.Dataset],
) -> Figure:
    """One panel per model: training and validation loss over epochs, best epoch marked.

    Parameters
    ----------
    recording : DataTree, optional
        Not used.
    results : dict of str to Dataset
        Latents of models by name; those without ``train_loss`` and ``valid_loss`` are left out.

    Raises
    ------
    InputError
        If no model has training curves.
    """
    trained = {n: d for n, d in results.items() if {"train_loss", "valid_loss"} <= set(d)}
    if not trained:
        raise InputError(
            file="results",
            field="train_loss",
            found=f"models {sorted(results)} without training curves",
            expected="at least one model trained by gradient descent",
            fix="Give the latents of such a model, or leave this figure out",
        )
    with plt.rc_context(STYLE):
        return _draw(trained)


def _draw(trained: dict[str, xr.Dataset]) -> Figure:
    columns = min(COLUMNS, len(trained))
    rows = -(-len(trained) // columns)
    figure, axes = new_figure(rows, columns, width=max(3.6, 2.7 * columns), height=2.4 * rows + 0.2)
    for axis, (name, dataset) in zip(axes, trained.items(), strict=False):
        _panel(axis, name, dataset)
    for axis in axes[len(trained) :]:
        axis.set_axis_off()
    return figure


def _panel(axis: Axes, name: str, dataset: xr.Dataset) -> None:
    valid = dataset["valid_loss"].values
    epoch = dataset["epoch"].values if "epoch" in dataset.coords else np.arange(1, len(valid) + 1)
    axis.plot(epoch, dataset["train_loss"].values, color=COLOURS[0], label="training")
    axis.plot(epoch, valid, color=COLOURS[1], label="validation")
    if np.isfinite(valid).any():
        best = int(np.nanargmin(valid))
        axis.axvline(epoch[best], color=NULL, lw=0.8, ls="--", zorder=0)
        axis.plot(epoch[best], valid[best], "o", color=COLOURS[1], ms=4)
        axis.text(
            0.97,
            0.62,
            f"best epoch {epoch[best]}\nvalidation {valid[best]:.4g}",
            ha="right",
            va="top",
            transform=axis.transAxes,
            fontsize=7,
        )
    for start in epoch[~np.isfinite(valid)]:
        axis.axvline(start, color=COLOURS[3], lw=0.8, label="diverged, stepped back")
    unit = dataset["valid_loss"].attrs.get("units", "")
    axis.set(title=name, xlabel="epoch", ylabel=f"loss ({unit})" if unit else "loss")
    axis.set_ylim(*_limits(dataset))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axis.legend(list(once.values()), list(once), loc="upper right")


def _limits(dataset: xr.Dataset) -> tuple[float, float]:
    """Axis limits that leave a steep first epoch outside rather than flatten all others."""
    both = np.concatenate([dataset["train_loss"].values, dataset["valid_loss"].values])
    both = both[np.isfinite(both)]
    if not both.size:
        return 0.0, 1.0
    low, high = both.min(), np.quantile(both, 0.97)
    span = max(high - low, 1e-6 * max(abs(low), 1e-12))
    return float(low - 0.08 * span), float(high + 0.15 * span)
