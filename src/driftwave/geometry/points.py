"""Activity as points to be embedded: trials, conditions, time points or condition averages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from driftwave.errors import InputError
from driftwave.geometry.activity import Session

Kind = Literal["trials", "conditions", "time_points", "trajectories"]


@dataclass(frozen=True)
class Grid:
    """Which points there are, and which of them are used.

    Points lie on a grid of (row, column): trials or conditions by times, with one column for
    averages over time.

    Attributes
    ----------
    kind : str
    shape : tuple of int
        Rows and columns.
    at : ndarray of int (point,)
        Positions in the flattened grid.
    available : int
        Points there were before any were left out.
    """

    kind: Kind
    shape: tuple[int, int]
    at: np.ndarray
    available: int

    @property
    def row(self) -> np.ndarray:
        return self.at // self.shape[1]

    @property
    def column(self) -> np.ndarray:
        return self.at % self.shape[1]


def chosen_kind(kind: str, session: Session) -> Kind:
    """``auto`` is trials where trials have conditions, else time points.

    Raises
    ------
    InputError
        Conditions wanted of a session without any, or trajectories of one without any of trials.
    """
    conditions = session.conditions
    by_trial = bool(conditions.labels) and conditions.by_trial
    if kind == "auto":
        return "trials" if by_trial else "time_points"
    if (kind == "trajectories" and not by_trial) or (
        kind == "conditions" and not conditions.labels
    ):
        raise InputError(
            file=session.name,
            field="points",
            found=f"{kind}, with conditions by {conditions.rule}",
            expected="conditions of the trials" if kind == "trajectories" else "conditions",
            fix="Embed time_points, or name conditions in the layout",
        )
    return kind  # type: ignore[return-value]


def grid_points(values: np.ndarray, kind: Kind, session: Session) -> np.ndarray:
    """All points (row, column, dim) of values (trial, time, dim); NaN for conditions not there."""
    if kind == "time_points":
        return values
    if kind == "trials":
        return values.mean(axis=1, keepdims=True)
    averages = session.conditions.averages(values)
    return averages if kind == "trajectories" else averages.mean(axis=1, keepdims=True)


def make_grid(
    values: np.ndarray, kind: Kind, session: Session, most: int, rng: np.random.Generator
) -> Grid:
    """Points that are there, or a random ``most`` of them in the order of the grid."""
    points = grid_points(values, kind, session)
    there = np.flatnonzero(np.isfinite(points).all(axis=2).ravel())
    at = there if len(there) <= most else np.sort(rng.choice(there, most, replace=False))
    return Grid(kind, points.shape[:2], at, len(there))


def take(grid: Grid, values: np.ndarray, session: Session) -> np.ndarray:
    """Points (point, dim) of the grid from values (trial, time, dim)."""
    points = grid_points(values, grid.kind, session)
    return points.reshape(-1, points.shape[-1])[grid.at]


def condition_grid(grid: Grid, session: Session) -> np.ndarray:
    """Condition (row, column) of each place of the grid, -1 for none."""
    conditions = session.conditions
    if grid.kind in ("conditions", "trajectories"):
        return np.broadcast_to(np.arange(grid.shape[0])[:, None], grid.shape)
    if not conditions.labels or (grid.kind == "trials" and not conditions.by_trial):
        return np.full(grid.shape, -1)
    of = conditions.of[:, None] if conditions.by_trial else conditions.of
    return np.broadcast_to(of, grid.shape)


def allowed_neighbours(grid: Grid, session: Session, gap: float) -> np.ndarray:
    """Which points may speak for which (point, point): of other trials, ``gap`` s apart.

    Points of one trial are never neighbours; of abutting windows, nor are points closer in time.
    """
    row = grid.row
    allowed = row[:, None] != row
    if session.contiguous and grid.kind in ("trials", "time_points"):
        clock = session.clock if grid.kind == "time_points" else session.clock[:, :1]
        when = clock.ravel()[grid.at]
        length = session.clock.shape[1] * session.bin_width if grid.kind == "trials" else 0.0
        allowed &= np.abs(when[:, None] - when) >= gap + length - 1e-9
    return allowed


def shuffled_places(
    grid: Grid, session: Session, gap: float, count: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Whose label each point is given (point,): positions in the flattened grid.

    Whole trials are permuted; abutting windows are shifted circularly in time by at least a tenth
    of the recording and the gap, so that the labels' autocorrelation stays. There may be fewer
    such shifts than ``count``.
    """
    rows, columns = grid.shape
    if not session.contiguous:
        for _ in range(count):
            order = rng.permutation(rows)
            yield order[grid.row] * columns + grid.column
        return
    size = rows * columns
    step = session.bin_width if columns > 1 else session.clock.shape[1] * session.bin_width
    margin = max(size // 10, int(np.ceil(gap / step)) + 1)
    shifts = rng.permutation(np.arange(margin, size - margin + 1))[:count]
    for shift in shifts:
        yield (grid.at + shift) % size


def subset(grid: Grid, chosen: np.ndarray) -> Grid:
    """The grid with some of its points (mask) only."""
    return replace(grid, at=grid.at[chosen])
