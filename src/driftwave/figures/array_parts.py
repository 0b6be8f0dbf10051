"""What the waves stage wrote of several arrays, taken apart again for drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from driftwave.wave_events.arrays import EVENT, EVENT_NUMBERS

DIM = "array"


def array_parts(waves: xr.Dataset) -> dict[str, xr.Dataset]:
    """Each array's result by the array's name, as if it had been analysed alone.

    Parameters
    ----------
    waves : Dataset
        With a dim ``array``, as :func:`driftwave.wave_events.arrays.per_array` puts results side
        by side, or of one array, which is returned under the empty name.

    Returns
    -------
    dict of str to Dataset
        Without the electrodes, cells, frames and true waves that only fill an array up.
    """
    if DIM not in waves.dims:
        return {"": waves}
    names = [str(name) for name in waves.attrs["arrays"]]
    return {name: _part(waves, name, names) for name in names}


def _part(waves: xr.Dataset, name: str, names: list[str]) -> xr.Dataset:
    own = np.flatnonzero(waves[DIM].values.astype(str) == name)
    part = waves.drop_vars(DIM).isel({DIM: names.index(name), EVENT: own})
    labels = {label: part[label].variable for label in _labels(part)}
    own_names = {name.removesuffix("_label"): variable for name, variable in labels.items()}
    part = part.drop_vars(list(labels)).assign_coords(own_names)
    for number in set(EVENT_NUMBERS) & set(part.variables):
        place = np.full(waves.sizes[EVENT] + 1, -1)  # the last stands for no event
        place[own] = np.arange(len(own))
        part[number] = part[number].copy(data=place[part[number].values])
    for dim, known in (
        ("electrode", "x"),
        ("cell", "cell_x"),
        ("frame", "frame_time"),
        ("time", "time"),
        ("true_wave", "true_start"),
    ):
        if known in part and part[known].dims == (dim,):
            part = part.isel({dim: np.flatnonzero(np.isfinite(part[known].values))})
    return part.assign_attrs(
        {key: _own(value, names, name) for key, value in part.attrs.items() if key != "arrays"}
    )


def _labels(part: xr.Dataset) -> list[str]:
    """Labels of a dim that were renamed because arrays differ in them."""
    found = [str(name) for name in part.variables if str(name).endswith("_label")]
    return [name for name in found if part[name].dims == (name.removesuffix("_label"),)]


def _own(value: Any, names: list[str], name: str) -> Any:
    """One array's share of an attribute: a list of as many parts as arrays may hold one each."""
    each = isinstance(value, list | tuple | np.ndarray) and len(value) == len(names)
    return value[names.index(name)] if each else value
