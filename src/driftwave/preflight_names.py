"""Checks of one name or one mapping of parameters, shared by all checks before the first job."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from driftwave import registry
from driftwave.errors import InputError


def plugin_problems(
    file: str | Path, field: str, kind: str, name: str, params: Mapping[str, Any], key: str
) -> Iterator[InputError]:
    """An unknown plug-in, or parameters that it does not have."""
    known = registry.plugins(kind)
    if name not in known:
        yield InputError(
            file=file,
            field=field,
            found=f"{name!r}, which is no {kind} plug-in",
            expected=f"one of {sorted(known)}",
            fix=suggestion(name, known),
        )
        return
    if kind == "models" and known[name].observes not in ("spikes", "field"):
        yield InputError(
            file=known[name].module,
            field="OBSERVES",
            found=repr(known[name].observes),
            expected="'spikes' or 'field'",
            fix="Set the constant at the top of the module",
        )
    yield from plugin_parameters(file, f"{key}.params", name, params, kind)


def module_parameters(
    file: str | Path, key: str, module: str, name: str, params: Iterable[str]
) -> Iterator[InputError]:
    """Parameters that the ``Params`` of a module does not have."""
    fields = registry.parameter_names(module)
    for parameter in params:
        if fields is not None and parameter not in fields:
            yield InputError(
                file=file,
                field=f"{key}.{parameter}",
                found=f"a parameter that {name!r} does not have",
                expected=f"one of {sorted(fields)}",
                fix=suggestion(parameter, fields),
            )


def plugin_parameters(
    file: str | Path, key: str, name: str, params: Iterable[str], kind: str = "models"
) -> Iterator[InputError]:
    """Parameters that a plug-in does not have."""
    known = registry.plugins(kind)
    if name in known:
        yield from module_parameters(file, key, known[name].module, name, params)


def suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]!r}" if close else "Mend or remove the name"
