"""Which stimulus and direction each trial showed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.recording import trial_mask

MOST_VALUES = 36
SECTORS = 8


@dataclass(frozen=True)
class Design:
    """Stimuli and directions of a session.

    Attributes
    ----------
    stimulus : list of str
        Combinations of the columns that are not the circular one; "all" without any.
    direction : ndarray (direction,)
        Values of the circular column, ascending; one 0 without such a column.
    direction_name, direction_unit : str
    period : float
        Of the circular column; 0 without one.
    of_stimulus, of_direction : ndarray of int (trial,)
        Positions, -1 for trials that take no part.
    blank : ndarray of bool (trial,)
        Trials without a direction (not finite) although there is a circular column.
    notes : dict
        Columns and stimuli left out, and the rules applied, in words.
    """

    stimulus: list[str]
    direction: np.ndarray
    direction_name: str
    direction_unit: str
    period: float
    of_stimulus: np.ndarray
    of_direction: np.ndarray
    blank: np.ndarray
    notes: dict[str, str]

    @property
    def even(self) -> bool:
        """Whether the directions are evenly spaced around the circle: rolling then turns them."""
        count = len(self.direction)
        if count < 2 or not self.period:
            return False
        gaps = np.diff(np.append(self.direction, self.direction[0] + self.period))
        return bool(np.allclose(gaps, self.period / count, rtol=1e-3))

    @property
    def used(self) -> np.ndarray:
        """Trials (trial,) that show one of the stimuli in one of the directions."""
        return (self.of_stimulus >= 0) & (self.of_direction >= 0)

    @property
    def cell(self) -> np.ndarray:
        """Stimulus times directions plus direction (trial,), -1 for trials not used."""
        return np.where(self.used, self.of_stimulus * len(self.direction) + self.of_direction, -1)

    def counts(self, trials: np.ndarray | None = None) -> np.ndarray:
        """Trials of each cell (stimulus, direction), of a boolean mask of trials."""
        chosen = self.used if trials is None else self.used & trials
        shape = len(self.stimulus), len(self.direction)
        return np.bincount(self.cell[chosen], minlength=shape[0] * shape[1]).reshape(shape)


def design_of(recording: xr.DataTree) -> Design:
    """Read the design from the stimulus columns, or from the trials' conditions.

    The first circular column (attribute ``period``) is the direction; more than 36 values of it
    are gathered in 8 sectors. The combinations of the other columns of text or of at most 36
    values are the stimuli; without any column of stimuli, the trials' conditions are. A stimulus
    that was not shown in all directions is left out, as a missing direction cannot be rolled;
    ``notes`` name it.

    Raises
    ------
    InputError
        No trials used, or no stimulus shown in all directions.
    """
    used = trial_mask(recording, "train", "valid", "test")
    columns = _columns(recording)
    circular = next((name for name, v in columns.items() if "period" in v.attrs), None)
    notes: dict[str, str] = {}
    if circular is None:
        direction, period = np.zeros(1), 0.0
        of_direction, blank = np.zeros(len(used), int), np.zeros(len(used), bool)
    else:
        period = float(columns[circular].attrs["period"])
        direction, of_direction = _directions(columns[circular], period, notes)
        blank = used & (of_direction < 0)
    others = {name: v for name, v in columns.items() if name != circular}
    labels = _labels(recording, others, circular is not None, used, notes)
    kept = used & (of_direction >= 0)
    if not kept.any():
        raise InputError(
            file=recording.attrs["session"], field=f"stimulus/{circular}" if circular else "split",
            found="no trial with a direction" if circular else "no trials used",
            expected="trials of known stimuli", fix="Mend the stimulus columns in the layout",
        )  # fmt: skip
    names, of_stimulus = np.unique(labels[kept], return_inverse=True)
    of = np.full(len(used), -1)
    of[kept] = of_stimulus
    design = Design(
        [str(n) for n in names],
        direction,
        circular or "none",
        str(columns[circular].attrs.get("units", "")) if circular else "none",
        period,
        of,
        np.where(kept, of_direction, -1),
        blank,
        notes,
    )
    return _complete(design, recording.attrs["session"])


def _columns(recording: xr.DataTree) -> dict[str, xr.DataArray]:
    if "stimulus" not in recording.children:
        return {}
    stimulus = recording["stimulus"].dataset
    return {str(k): v.load() for k, v in stimulus.data_vars.items() if v.dims == ("trial",)}


def _directions(
    column: xr.DataArray, period: float, notes: dict[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Values of the circular column, and the position of each trial's (-1 for none)."""
    angle = np.mod(column.values.astype(float), period)
    known = np.isfinite(angle)
    # A direction of one period is one of 0, whatever the rounding.
    angle = np.where(period - angle < 1e-9 * period, 0.0, angle)
    of = np.full(len(angle), -1)
    values, of_known = np.unique(np.round(angle[known], 9), return_inverse=True)
    if len(values) > MOST_VALUES:
        notes["directions"] = f"{len(values)} values gathered in {SECTORS} sectors"
        width = period / SECTORS
        of_known = np.floor(angle[known] / width + 0.5).astype(int) % SECTORS
        values = np.arange(SECTORS) * width
    of[known] = of_known
    return values, of


def _labels(
    recording: xr.DataTree,
    columns: dict[str, xr.DataArray],
    has_direction: bool,
    used: np.ndarray,
    notes: dict[str, str],
) -> np.ndarray:
    """Name of each trial's stimulus (trial,)."""
    discrete = {
        name: v.values
        for name, v in columns.items()
        if len(np.unique(v.values[used])) <= MOST_VALUES
    }
    left_out = sorted(set(columns) - set(discrete))
    if left_out:
        notes["columns_left_out"] = ", ".join(left_out)
    varying = {name: v for name, v in discrete.items() if len(np.unique(v[used])) > 1}
    if varying:
        texts = [
            [f"{name}={value:g}" if v.dtype.kind in "iuf" else f"{name}={value}" for value in v]
            for name, v in varying.items()
        ]
        return np.array([", ".join(parts) for parts in zip(*texts, strict=True)])
    condition = recording["trials"].dataset["condition"].values
    if not has_direction and len(np.unique(condition[used])) > 1:
        return np.array([f"condition={value}" for value in condition])
    return np.full(len(used), "all")


def _complete(design: Design, session: str) -> Design:
    """The stimuli that were shown in all directions."""
    whole = np.asarray((design.counts() > 0).all(axis=1))
    if whole.all():
        return design
    if not whole.any():
        raise InputError(
            file=session,
            field=f"stimulus/{design.direction_name}",
            found=f"none of {len(whole)} stimuli in all {len(design.direction)} directions",
            expected="a stimulus shown in all directions",
            fix="Leave out the directions that were hardly shown by `trials.where` in the layout",
        )
    position = np.where(whole, np.cumsum(whole) - 1, -1)
    of = np.where(design.of_stimulus >= 0, position[design.of_stimulus], -1)
    left_out = [name for name, kept in zip(design.stimulus, whole, strict=True) if not kept]
    return Design(
        [name for name, kept in zip(design.stimulus, whole, strict=True) if kept],
        design.direction,
        design.direction_name,
        design.direction_unit,
        design.period,
        of,
        np.where(of >= 0, design.of_direction, -1),
        design.blank,
        design.notes | {"stimuli_left_out": "; ".join(left_out)},
    )
