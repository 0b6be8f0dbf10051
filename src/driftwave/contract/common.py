"""What the contracts of all kinds of plug-ins share."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import xarray as xr

from driftwave.registry import KINDS
from driftwave.store import open_dataset, verify_store, write_tree

# What makes a plug-in quick, where its module holds no QUICK: least values of such parameters.
CHEAP = {
    "steps": 12,
    "iterations": 3,
    "samples": 2,
    "shuffles": 1,
    "classifier_shuffles": 1,
    "surrogates": 1,
    "bootstrap": 1,
}
_ANALYSIS = ("recording", "latents", "params", "seed")
_SIGNATURES: dict[str, tuple[str | None, ...]] = {
    "models": ("recording", "params", "seed", "device", "progress", "checkpoint"),
    "figures": ("recording", "results"),
    "simulators": (None, "params", "seed"),
    "experiments": ("params", "seed"),
}
_KEYWORDS = {"seed", "device", "progress", "checkpoint"}


def expect(condition: Any, message: str) -> None:
    """Raise an AssertionError with a message; unlike ``assert`` also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def quick_params(module: ModuleType) -> Any:
    """The plug-in's cheapest parameters: its ``QUICK``, else the least steps and shuffles."""
    if hasattr(module, "QUICK"):
        return module.Params(**module.QUICK)
    chosen = {}
    for name in CHEAP.keys() & module.Params.model_fields.keys():
        bounds = [
            bound
            for m in module.Params.model_fields[name].metadata
            if (bound := getattr(m, "ge", None)) is not None
        ]
        chosen[name] = max([CHEAP[name], *bounds])
    return module.Params(**chosen)


def check_summary(module: ModuleType, kind: str) -> None:
    """The docstring's first line is a sentence, and the plug-in's function has a docstring."""
    summary = (inspect.getdoc(module) or "").partition("\n")[0]
    name = module.__name__
    expect(
        summary.endswith(".") and 10 < len(summary) <= 100,
        f"{name}: the docstring's first line must be a sentence of 11 to 100 characters, "
        f"found {summary!r}",
    )
    function = getattr(module, KINDS[kind][1], None)
    expect(function is not None, f"{name}: defines no function {KINDS[kind][1]}")
    expect(inspect.getdoc(function), f"{name}: {KINDS[kind][1]} has no docstring")


def check_parameters(module: ModuleType) -> None:
    """``Params`` is strict and frozen; each field has a default and a description."""
    import pydantic

    params, name = module.Params, module.__name__
    for field, info in params.model_fields.items():
        expect(info.description, f"{name}: Params.{field} has no description")
        expect(not info.is_required(), f"{name}: Params.{field} has no default")
    expect(params.model_config.get("extra") == "forbid", f"{name}: Params takes unknown keys")
    expect(params.model_config.get("frozen"), f"{name}: Params is not frozen")
    try:
        params(no_such_parameter=1)
    except pydantic.ValidationError:
        pass
    else:
        raise AssertionError(f"{name}: Params takes unknown keys")
    again = params.model_validate_json(params().model_dump_json())
    expect(again == params(), f"{name}: Params changes on the way through JSON")


def check_signature(module: ModuleType, kind: str) -> None:
    """The plug-in's function takes what the workflow hands it."""
    function = getattr(module, KINDS[kind][1])
    found = inspect.signature(function).parameters
    expected = _SIGNATURES.get(kind, _ANALYSIS)
    fits = len(found) == len(expected) and all(
        wanted in (None, have) for wanted, have in zip(expected, found, strict=True)
    )
    expect(fits, f"{module.__name__}: {function.__name__} takes {list(found)}, not {expected}")
    keywords = {n for n, p in found.items() if p.kind is p.KEYWORD_ONLY}
    expect(
        keywords == _KEYWORDS & set(found),
        f"{module.__name__}: {function.__name__} takes {sorted(keywords)} as keywords only, not "
        f"{sorted(_KEYWORDS & set(found))}",
    )


def without_units(dataset: xr.Dataset) -> list[str]:
    """Numeric variables that do not say their unit."""
    return [
        str(name)
        for name, variable in dataset.variables.items()
        if variable.dtype.kind in "iufc"
        and name in dataset.data_vars
        and not variable.attrs.get("units")
    ]


def check_units(dataset: xr.Dataset, of: str) -> None:
    """Every numeric variable says its unit."""
    missing = without_units(dataset)
    expect(not missing, f'{of}: {missing} have no attrs["units"]')


def check_stored(dataset: xr.Dataset, path: Path, names: Iterable[Any]) -> None:
    """A result is the same after it was written and read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's, of what its specification has yet to take in
        write_tree(dataset, path)
        expect(verify_store(path) == [], f"{path}: {verify_store(path)}")
        back = open_dataset(path)
    for name in names:
        np.testing.assert_array_equal(back[name].values, dataset[name].values)
