"""Drawing parameter sets from a space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.search.settings import ParameterSpace

_ATTEMPTS = 1000
_DIGITS = 4  # drawn numbers are rounded to as many significant digits, so that they can be read


def draw(space: Mapping[str, ParameterSpace], rng: np.random.Generator) -> dict[str, Any]:
    """One parameter set; parameters are independent and drawn in alphabetical order."""
    return {name: _value(space[name], rng) for name in sorted(space)}


def _value(part: ParameterSpace, rng: np.random.Generator) -> Any:
    if part.choices is not None:
        return part.choices[int(rng.integers(len(part.choices)))]
    if part.integer is not None:
        return int(rng.integers(*part.integer, endpoint=True))
    if part.log_uniform is not None:
        low, high = part.log_uniform
        return _rounded(math.exp(rng.uniform(math.log(low), math.log(high))), low, high)
    low, high = part.uniform  # type: ignore[misc]
    return _rounded(rng.uniform(low, high), low, high)


def _rounded(value: float, low: float, high: float) -> float:
    return min(max(float(f"{value:.{_DIGITS}g}"), low), high)


def draw_trials(
    space: Mapping[str, ParameterSpace], trials: int, seed: int, *, model: type, base: Mapping
) -> list[dict[str, Any]]:
    """Draw different parameter sets that the model accepts.

    Trial i does not depend on how many trials there are, so a search can be extended. Sets that
    the model refuses as a combination, and sets drawn before, are drawn again.

    Parameters
    ----------
    space : mapping of str to ParameterSpace
    trials, seed : int
    model : type
        The plug-in's ``Params``.
    base : mapping
        Parameters that are not searched.

    Returns
    -------
    list of dict
        ``trial`` (number) and ``params`` (drawn parameters) of each.

    Raises
    ------
    InputError
        If a value of the space is none the parameter can take, or there are fewer different
        combinations than trials.
    """
    check_values(space, model, base)
    drawn: list[dict[str, Any]] = []
    for trial, rng in enumerate(generator(seed, "search").spawn(trials)):
        for _ in range(_ATTEMPTS):
            params = draw(space, rng)
            if params not in drawn and not _refusals(model, base, params):
                break
        else:
            raise InputError(
                file="config",
                field="search.space",
                found=f"{trial} different combinations that the model accepts",
                expected=f"{trials}, one for each trial",
                fix="Lower `trials` or widen the space",
            )
        drawn.append(params)
    return [{"trial": trial, "params": params} for trial, params in enumerate(drawn)]


def check_values(space: Mapping[str, ParameterSpace], model: type, base: Mapping) -> None:
    """Check that each parameter can take its choices, or both ends of its range.

    Raises
    ------
    InputError
        Naming the parameter and value.
    """
    for name, part in space.items():
        values = part.choices or part.integer or part.log_uniform or part.uniform or ()
        for value in values:
            for place, message in _refusals(model, base, {name: value}):
                if place == name:
                    raise InputError(
                        file="config",
                        field=f"search.space.{name}",
                        found=repr(value),
                        expected=message[0].lower() + message[1:],
                        fix="Mend the space",
                    )


def _refusals(model: Any, base: Mapping, params: Mapping) -> list[tuple[str, str]]:
    """Parameter (empty for a combination) and message of each complaint of the model's."""
    try:
        model.model_validate({**base, **params})
    except ValidationError as error:
        return [(str((*e["loc"], "")[0]), e["msg"]) for e in error.errors()]
    return []
