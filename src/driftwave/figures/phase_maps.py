"""Maps of phase over a layout of electrodes, with arrows along the direction of travel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.quiver import Quiver
from matplotlib.transforms import Affine2D
from scipy.spatial import cKDTree

from driftwave.figures.style import COLOURS, CYCLIC
from driftwave.phase.electrodes import Electrodes, place

ARROWS = 7  # along the longer side of a map, at most
CELL = 2  # side of an arrow's cell, in pitches, at least
FULL = 0.25  # electrodes in an arrow's cell, of those in the fullest one, at least
MARGIN = 0.04
ARROW_COLOUR = COLOURS[7]
EMPTY = "#B8B8B8"  # where there is no electrode: white and black are phases
DISC = 0.6  # radius of an electrode that stands on no grid, in pitches
FINEST = 320  # pixels along the longer side of a map without a grid
NARROWEST = 0.16  # width of a map over its height, or the reverse, at least
FEWEST = 2  # positions that have a pitch


@dataclass(frozen=True)
class Tiles:
    """A picture of the layout: which electrode colours which pixel.

    On a grid a pixel is an electrode's cell, elsewhere each electrode has a disc, cut halfway to
    its neighbours; electrodes on a line have bars across it.

    Attributes
    ----------
    member : ndarray of int (row, column)
        Electrode, -1 where there is none.
    turn : Affine2D
        From pixels (column, row; an integer at the pixel's middle) to mm.
    low, high : ndarray (2,)
        Corners of the map, mm.
    """

    member: np.ndarray
    turn: Affine2D
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, position: np.ndarray) -> Tiles:
        """Tiles for electrodes at ``position`` (electrode, 2), mm."""
        if len(position) < FEWEST:
            return cls._grid(np.zeros((1, 2), int), position[0], np.eye(2))
        layout = place(position)
        if layout.linear:
            return cls._line(layout)
        if layout.lattice is None:
            return cls._discs(position, layout.pitch)
        node = layout.lattice - layout.lattice.min(axis=0)
        steps = layout.basis * layout.spacing[:, None]
        return cls._grid(node, (position - node @ steps).mean(axis=0), steps)

    @classmethod
    def _grid(cls, node: np.ndarray, origin: np.ndarray, steps: np.ndarray) -> Tiles:
        """Of ``node`` (electrode, 2), column and row, which are ``steps`` (2, 2; mm) apart."""
        columns, rows = node.max(axis=0) + 1
        member = np.full((rows, columns), -1)
        member[node[:, 1], node[:, 0]] = np.arange(len(node))
        sides = (np.array([-0.5, c - 0.5]) for c in (columns, rows))
        corner = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2) @ steps + origin
        (a, b), (c, d) = steps
        turn = Affine2D.from_values(a, b, c, d, *origin)
        return cls(member, turn, corner.min(axis=0), corner.max(axis=0))

    @classmethod
    def _line(cls, layout: Electrodes) -> Tiles:
        """Bars across the line, as wide as makes them visible, each up to halfway to the next."""
        along = layout.position @ layout.axis
        order = np.argsort(along)
        fine = layout.pitch / 4
        count = round(float(np.ptp(along)) / fine) + 5
        place_of = along.min() + fine * (np.arange(count) - 2)
        nearest = np.abs(place_of[:, None] - along[order]).argmin(axis=1)
        member = order[nearest]
        member[np.abs(place_of - along[member]) > layout.pitch] = -1
        across = max(NARROWEST * count * fine, layout.pitch)
        side = np.array([-layout.axis[1], layout.axis[0]])
        middle = float((layout.position @ side).mean())
        origin = layout.axis * place_of[0] + side * middle
        # One column of pixels across the line, whose rows run along it.
        tiles = cls._grid(
            np.stack([np.zeros(count, int), np.arange(count)], axis=1),
            origin,
            np.stack([-side * across, layout.axis * fine]),
        )
        return cls(member[:, None], tiles.turn, tiles.low, tiles.high)

    @classmethod
    def _discs(cls, position: np.ndarray, pitch: float) -> Tiles:
        low, high = position.min(axis=0) - pitch, position.max(axis=0) + pitch
        step = max(pitch / 12, float((high - low).max()) / FINEST)
        columns, rows = np.ceil((high - low) / step).astype(int) + 1
        x, y = low[0] + step * np.arange(columns), low[1] + step * np.arange(rows)
        pixels = np.stack(np.meshgrid(x, y), axis=-1)
        away, nearest = cKDTree(position).query(pixels)
        member = np.where(away <= DISC * pitch, nearest, -1)
        return cls(member, Affine2D.from_values(step, 0, 0, step, *low), low, high)

    def image(self, values: np.ndarray) -> np.ma.MaskedArray:
        """Values (electrode,) as a picture (row, column), masked where there is none."""
        picture = values[self.member]
        return np.ma.masked_where((self.member < 0) | ~np.isfinite(picture), picture)

    @property
    def size(self) -> np.ndarray:
        """Width and height, mm."""
        return self.high - self.low

    def draw(self, axes: Axes, phase: np.ndarray) -> AxesImage:
        """Colour each electrode by its phase (electrode,; rad)."""
        rows, columns = self.member.shape
        picture = axes.imshow(
            self.image(phase),
            cmap=colormaps[CYCLIC].with_extremes(bad=EMPTY),
            vmin=-np.pi,
            vmax=np.pi,
            interpolation="nearest",
            origin="lower",
            extent=(-0.5, columns - 0.5, -0.5, rows - 0.5),
        )
        picture.set_transform(self.turn + axes.transData)
        margin = MARGIN * float(self.size.max())
        low, high = self.low - margin, self.high + margin
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
        axes.set_aspect("equal")
        for side in axes.spines.values():
            side.set_visible(False)
        return picture


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
    def of(cls, position: np.ndarray, pitch: float, *, most: int = ARROWS) -> Arrows:
        """Cells for electrodes at ``position`` (electrode, 2), mm, about ``pitch`` (mm) apart.

        There are at most ``most`` of them along the longer side.
        """
        low, size = position.min(axis=0) - pitch / 2, np.ptp(position, axis=0) + pitch
        step = max(float(size.max()) / most, CELL * pitch)
        column = np.floor((position - low) / step + 1e-6).astype(int)
        cells, number = np.unique(column, axis=0, return_inverse=True)
        member = (number.ravel() == np.arange(len(cells))[:, None]).astype(float)
        count = member.sum(axis=1)
        member = member[count >= FULL * count.max()]
        place = member @ position / member.sum(axis=1, keepdims=True)
        return cls(place, member, 0.8 * step)

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

    def draw(self, axes: Axes, gradient: np.ndarray, *, width: float = 0.035) -> Quiver:
        """Add the arrows of a gradient (2, electrode) to a map, ``width`` inches wide."""
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
            units="inches",
            width=width,
            zorder=3,
        )


def positions(waves: xr.Dataset) -> np.ndarray:
    """Positions (electrode, 2), mm, of the electrodes of what the waves stage wrote."""
    return np.stack([waves["x"].values, waves["y"].values], axis=1)
