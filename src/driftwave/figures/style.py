"""How every figure looks, and how it is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.provenance import figure_record
from driftwave.provenance_read import FIGURE_KEY
from driftwave.store import atomic_path

# Okabe and Ito's colours: told apart by readers with any form of colour blindness.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
TRUTH = "#000000"
NULL = "#999999"
SEQUENTIAL = "viridis"
DIVERGING = "PuOr"
CYCLIC = "twilight"

STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "lines.linewidth": 1.2,
    "svg.fonttype": "none",
    "svg.hashsalt": "driftwave",
    "figure.constrained_layout.use": True,
}


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 7.0, height: float = 2.6, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure in house style with its axes in one flat list; sizes in inches."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(width, height), squeeze=False, **options
        )
    return figure, list(axes.flat)


def colour_of(names: list[str]) -> dict[str, str]:
    """A colour for each name, the same whenever the list is the same."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def save_figure(figure: Figure, out: str | Path) -> None:
    """Write ``<out>.png`` and ``<out>.svg``, each whole or not at all, and close the figure."""
    out = Path(out)
    with plt.rc_context(STYLE):
        for suffix in ("png", "svg"):
            target = out.with_name(f"{out.name}.{suffix}")
            with atomic_path(target) as temporary:
                record = figure_record(target)
                metadata = (
                    {"Date": None, "Description": record}
                    if suffix == "svg"
                    else {"Software": "driftwave", FIGURE_KEY: record}
                )
                figure.savefig(temporary, format=suffix, metadata=metadata)
    plt.close(figure)
