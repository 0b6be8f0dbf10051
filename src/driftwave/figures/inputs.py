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


def need_variable(
    found: xr.Dataset, name: str, figure: str, *, expected: str, plugin: str
) -> xr.Dataset:
    """The same result, which must have a variable of the plug-in that the figure draws.

    Raises
    ------
    InputError
        If it has not.
    """
    if name not in found:
        raise InputError(
            file=f"figure {figure}",
            field=name,
            found=f"variables {sorted(map(str, found.data_vars))[:6]}",
            expected=expected,
            fix=f"Give the result of the plug-in {plugin}",
        )
    return found


def one_result(results: Mapping[str, xr.Dataset], figure: str, variable: str) -> xr.Dataset:
    """The only result, which has a variable of the plug-in it must come from.

    Raises
    ------
    InputError
        If there is not exactly one, or it is another plug-in's.
    """
    if len(results) != 1:
        raise InputError(
            file=f"figure {figure}",
            field="results",
            found=f"{len(results)} results",
            expected="one",
            fix="Give one store; each source has its own figure",
        )
    (result,) = results.values()
    expected = f"a result of the plug-in {figure}"
    return need_variable(result, variable, figure, expected=expected, plugin=figure)
