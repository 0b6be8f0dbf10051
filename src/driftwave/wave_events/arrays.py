"""Recordings with several arrays: each is analysed by itself, and the results put side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from driftwave.phase.electrodes import arrays_of

EVENT = "event"
# Variables that number events: shifted where tables are put one below the other.
EVENT_NUMBERS = ("match_event",)
FILL = {"f": np.nan, "c": np.nan, "U": "", "b": False}


def per_array(
    dataset: xr.Dataset, session: str, analyse_one: Callable[[xr.Dataset], xr.Dataset]
) -> xr.Dataset:
    """Analyse each array of a recording by itself.

    Parameters
    ----------
    dataset : Dataset
        The field, as :func:`driftwave.phase.signal.wave_signal` gives it.
    session : str
        Named in errors.
    analyse_one : callable
        From the field of one array to a result with a table of events along ``event``.

    Returns
    -------
    Dataset
        With one array, what ``analyse_one`` returns. Else what lies along ``event`` is put one
        below the other, with the array's name in ``array`` (event); all else along a dim
        ``array``, filled up (NaN, -1, False) where arrays differ in size; their names in this order
        are in attrs ``arrays``. Labels that differ become ``<dim>_label`` (array, dim), attributes
        that differ lists.

    Raises
    ------
    InputError
        Unusable electrodes; see :func:`driftwave.phase.electrodes.arrays_of`.
    """
    arrays = arrays_of(dataset, session)
    results = {name: analyse_one(one) for name, one in arrays.items()}
    if len(results) == 1:
        return next(iter(results.values()))
    return _side_by_side(results)


def _side_by_side(results: dict[str, xr.Dataset]) -> xr.Dataset:
    found = list(results.values())
    counts = [one.sizes.get(EVENT, 0) for one in found]
    starts = np.cumsum([0, *counts[:-1]])
    sizes: dict[str, int] = {}
    for one in found:
        for dim, size in one.sizes.items():
            sizes[str(dim)] = max(size, sizes.get(str(dim), 0))
    variables: dict[str, xr.Variable] = {}
    coords = {name for one in found for name in one.coords}
    for name in dict.fromkeys(name for one in found for name in one.variables):
        each = [one.variables.get(name) for one in found]
        if name in EVENT_NUMBERS:
            each = [_shifted(one, int(by)) for one, by in zip(each, starts, strict=True)]
        first = next(one for one in each if one is not None)
        if EVENT in first.dims:
            variables[str(name)] = _joined(each, first, sizes, counts)
        elif name in first.dims and all(first.identical(one) for one in each):
            variables[str(name)] = first
        else:
            # A label that differs between arrays cannot index their common dim.
            label = f"{name}_label" if name in first.dims else str(name)
            coords |= {label} if name in coords else set()
            variables[label] = _stacked(each, first, sizes)
    variables["array"] = xr.Variable(EVENT, np.repeat(np.array(list(results)), counts))
    result = xr.Dataset(variables, attrs=_attrs(results))
    return result.set_coords([name for name in variables if name in coords])


def _shifted(numbers: xr.Variable | None, by: int) -> xr.Variable | None:
    if numbers is None:
        return None
    return numbers.copy(data=np.where(numbers.values < 0, numbers.values, numbers.values + by))


def _stacked(
    each: list[xr.Variable | None], first: xr.Variable, sizes: dict[str, int]
) -> xr.Variable:
    shape = tuple(sizes[str(dim)] for dim in first.dims)
    parts = [_filled(one, first, shape) for one in each]
    lazy = any(isinstance(part, da.Array) for part in parts)
    data = da.stack(parts) if lazy else np.stack(parts)
    return xr.Variable(("array", *first.dims), data, first.attrs)


def _joined(
    each: list[xr.Variable | None], first: xr.Variable, sizes: dict[str, int], counts: list[int]
) -> xr.Variable:
    axis = first.dims.index(EVENT)
    parts = []
    for one, count in zip(each, counts, strict=True):
        shape = [count if dim == EVENT else sizes[str(dim)] for dim in first.dims]
        parts.append(np.asarray(_filled(one, first, tuple(shape))))
    return xr.Variable(first.dims, np.concatenate(parts, axis=axis), first.attrs)


def _filled(one: xr.Variable | None, first: xr.Variable, shape: tuple[int, ...]) -> Any:
    """The values of a variable filled up to a shape."""
    fill = FILL.get(first.dtype.kind, -1)
    if one is None:
        return np.full(shape, fill, first.dtype)
    if one.shape == shape:
        return one.data
    if isinstance(one.data, da.Array):
        missing = [(0, whole - size) for whole, size in zip(shape, one.shape, strict=True)]
        return da.pad(one.data, missing, constant_values=fill).rechunk(_chunks(one.data, shape))
    whole = np.full(shape, fill, one.dtype)
    whole[tuple(slice(size) for size in one.shape)] = one.values
    return whole


def _chunks(data: da.Array, shape: tuple[int, ...]) -> tuple:
    """Chunks along the first axis as they are, whole along the others."""
    return (data.chunks[0], *shape[1:])


def _attrs(results: dict[str, xr.Dataset]) -> dict[str, Any]:
    merged: dict[str, Any] = {"arrays": list(results)}
    each = [one.attrs for one in results.values()]
    for name in dict.fromkeys(name for one in each for name in one):
        values = [one.get(name) for one in each]
        same = all(value == values[0] for value in values)
        merged[name] = values[0] if same else values
    return merged
