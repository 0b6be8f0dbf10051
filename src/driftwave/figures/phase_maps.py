"""Maps of phase over a layout of electrodes, with arrows along the direction of travel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

from driftwave.figures.style import COLOURS, CYCLIC

ARROWS = 7  # along the longer side of a map, at most
CELL = 2  # side of an arrow's cell, in pitches, at least
MARGIN = 0.08
OVERLAP = 1.08
ARROW_COLOUR = COLOURS[7]


def marker_area(figure: Figure, position: np.ndarray, pitch: float, columns: float) -> float:
    """Area (points squared) of a square as large as the pitch, with ``columns`` maps in a row."""
    extent = float(np.ptp(position, axis=0).max()) + pitch
    inches = 0.78 * figure.get_figwidth() / columns * pitch / extent
    # A little too large, since gaps between rounded squares show as lines.
    return (72 * OVERLAP * inches) ** 2


def draw_map(axes: Axes, position: np.ndarray, phase: np.ndarray, area: float) -> PathCollection:
    """Colour each electrode (electrode, 2; mm) by its phase (electrode,; rad)."""
    x, y = position.T
    points = axes.scatter(
        x, y, c=phase, s=area, marker="s", cmap=CYCLIC, vmin=-np.pi, vmax=np.pi, lw=0
    )
    axes.set_aspect("equal")
    margin = MARGIN * float(np.ptp(position, axis=0).max())
    low, high = position.min(axis=0) - margin, position.max(axis=0) + margin
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    return points


def colour_bar(figure: Figure, axes: np.ndarray | list[Axes]) -> Colorbar:
    """A bar of phase, -pi to pi, beside all maps."""
    mappable = ScalarMappable(Normalize(-np.pi, np.pi), CYCLIC)
    bar = figure.colorbar(mappable, ax=axes, shrink=0.6, aspect=14, pad=0.02)
    bar.set_ticks([-np.pi, 0, np.pi], labels=["-π", "0", "π"])
    bar.set_label("phase (rad)")
    return bar


@dataclass(frozen=True)
class Arrows:
    """Direction of travel on a coarse grid: the mean of -grad phi over the electrodes of a cell.

    Attributes
    ----------
    place : ndarray (cell, 2)
        Mean position of a cell's electrodes, mm.
    member : ndarray (cell, electrode)
        1 where an electrode belongs to a cell.
    length : float
        Of the longest arrow, mm.
    """

    place: np.ndarray
    member: np.ndarray
    length: float

    @classmethod
    def of(cls, position: np.ndarray, pitch: float) -> Arrows:
        """Cells for electrodes at ``position`` (electrode, 2), mm, about ``pitch`` (mm) apart."""
        low, size = position.min(axis=0) - pitch / 2, np.ptp(position, axis=0) + pitch
        step = max(float(size.max()) / ARROWS, CELL * pitch)
        column = np.floor((position - low) / step + 1e-6).astype(int)
        cells, number = np.unique(column, axis=0, return_inverse=True)
        member = (number.ravel() == np.arange(len(cells))[:, None]).astype(float)
        place = member @ position / member.sum(axis=1, keepdims=True)
        return cls(place, member, 0.9 * step)

    def vectors(self, gradient: np.ndarray) -> np.ndarray:
        """Arrows (cell, 2), mm, from a gradient (2, electrode) in rad/mm.

        Electrodes without a gradient (NaN) are left out. The length is the share by which the
        electrodes of a cell agree on the direction.
        """
        size = np.hypot(*gradient)
        known = np.isfinite(size) & (size > 0)
        unit = np.where(known, -gradient / np.where(known, size, 1), 0)
        count = np.maximum(self.member @ known.astype(float), 1)
        return self.length * (self.member @ unit.T) / count[:, None]

    def draw(self, axes: Axes, gradient: np.ndarray) -> Quiver:
        """Add the arrows of a gradient (2, electrode) to a map."""
        return axes.quiver(
            *self.place.T,
            *self.vectors(gradient).T,
            color=ARROW_COLOUR,
            edgecolor="black",
            linewidth=0.3,
            pivot="mid",
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.012,
            zorder=3,
        )


def positions(waves: xr.Dataset) -> np.ndarray:
    """Positions (electrode, 2), mm, of the electrodes of what the waves stage wrote."""
    return np.stack([waves["x"].values, waves["y"].values], axis=1)
