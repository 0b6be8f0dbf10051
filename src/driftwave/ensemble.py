"""Ensembles: rates averaged over fits of one model with different seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from driftwave.errors import InputError

_SAME = ("session", "plugin", "params")


def average_rates(members: Sequence[xr.Dataset], name: str) -> xr.Dataset:
    """Arithmetic mean over members of the rates in Hz: the mean of their predictions.

    ``rate = sum_k rate_k / K``. The log of a mean is at least the mean of the logs, so bits per
    spike of the ensemble are never below the mean of those of its members.

    The result has no latents: those of the members are in different bases, which cannot be
    averaged. Analyses of an ensemble use its rates.

    Parameters
    ----------
    members : sequence of Dataset
        Latents of at least two fits, with ``rate`` (trial, time, unit) in Hz.
    name : str
        What the ensemble is called.

    Returns
    -------
    Dataset
        ``rate`` (trial, time, unit), Hz. attrs: those the members share, ``members`` (names),
        ``seeds``, ``cpu_seconds`` and ``wall_seconds`` (sums over members).

    Raises
    ------
    InputError
        If there are fewer than two members, one has no rates, or they are of different
        recordings, models or parameters.
    """
    if len(members) < 2:
        raise InputError(
            file=name,
            field="members",
            found=len(members),
            expected="at least 2",
            fix="Give the latents of several seeds",
        )
    for member in members:
        _check(member, members[0], name)
    first = members[0]["rate"]
    total = np.zeros(first.shape)
    for member in members:
        total += member["rate"].transpose(*first.dims).values
    rate = (total / len(members)).astype(first.dtype)
    coords = {key: first.coords[key] for key in first.dims}
    dataset = xr.Dataset({"rate": (first.dims, rate, {"units": "Hz"})}, coords=coords)
    dataset.attrs.update(_attributes(members), model=name)
    return dataset


def _check(member: xr.Dataset, first: xr.Dataset, name: str) -> None:
    label = str(member.attrs.get("model", "member"))
    if "rate" not in member:
        raise InputError(
            file=name,
            field=f"rate of {label}",
            found="nothing",
            expected="rates (trial, time, unit) in Hz",
            fix="Set `ensemble: false` for this model",
        )
    for key in _SAME:
        if member.attrs.get(key) != first.attrs.get(key):
            raise InputError(
                file=name,
                field=f"{key} of {label}",
                found=member.attrs.get(key),
                expected=f"{first.attrs.get(key)}, as of the first member",
                fix="Average fits that differ in their seed only",
            )
    for dim in first["rate"].dims:
        if dim not in member.coords or not np.array_equal(member[dim], first[dim]):
            raise InputError(
                file=name,
                field=f"{dim} of {label}",
                found=f"{member['rate'].sizes.get(dim, 0)} labels",
                expected=f"the {first.sizes[dim]} labels of the first member",
                fix="Fit all members to the same recording again",
            )


def _attributes(members: Sequence[xr.Dataset]) -> dict[str, Any]:
    first = members[0].attrs
    kept = {key: first[key] for key in ("bin_width", *_SAME) if key in first}
    cost = {
        key: round(sum(float(member.attrs[key]) for member in members), 3)
        for key in ("cpu_seconds", "wall_seconds")
        if all(key in member.attrs for member in members)
    }
    names = [str(member.attrs.get("model", "")) for member in members]
    seeds = [int(member.attrs["seed"]) for member in members if "seed" in member.attrs]
    return kept | cost | {"members": json.dumps(names), "seeds": json.dumps(seeds)}
