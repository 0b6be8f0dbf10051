"""What a figure asks for and was not given, said in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from driftwave.errors import InputError


def need_result(results: Mapping[str, xr.Dataset], name: str, figure: str) -> xr.Dataset:
    """The result a figure knows by ``name``.

    Raises
    ------
    InputError
        If it was not given.
    """
    if name not in results:
        raise InputError(
            file=f"figure {figure}",
            field=f"result {name!r}",
            found=f"results {sorted(results)}" if results else "no result",
            expected=f"a store under the name {name!r}",
            fix=f"Give --result {name}=PATH",
        )
    return results[name]


def need_recording(recording: xr.DataTree | None, figure: str) -> xr.DataTree:
    """The recording a figure draws.

    Raises
    ------
    InputError
        If it was not given.
    """
    if recording is None:
        raise InputError(
            file=f"figure {figure}",
            field="recording",
            found="nothing",
            expected="a recording store",
            fix="Give --recording PATH",
        )
    return recording
