"""Checks of the searches in a configuration, before the first job starts."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from driftwave import registry
from driftwave.errors import DriftwaveError, InputError
from driftwave.search.settings import SearchConfig
from driftwave.workflow_plan import Plan

# Parameters that change what the validation loss is of; its values could not be compared.
HIDING = ("hiding", "hidden_share")


def search_problems(plan: Plan, file: str | Path) -> Iterator[DriftwaveError]:
    """Unknown models and sessions, and sessions that give nothing to choose by."""
    for model, search in plan.config.search.items():
        key = f"search.{model}"
        observes = plan.observes_of.get(model, frozenset())
        if model not in plan.config.models:
            yield InputError(
                file=file,
                field=key,
                found=repr(model),
                expected=f"one of {sorted(plan.config.models)}, the models of the configuration",
                fix=_suggestion(model, list(plan.config.models)),
            )
        elif observes and "spikes" not in observes:
            yield InputError(
                file=file,
                field=key,
                found="a model of the field",
                expected="a model of spikes, which can be scored on held-out units",
                fix="Remove this search",
            )
        elif observes:
            yield from _sessions(plan, model, search, file)


def _sessions(
    plan: Plan, model: str, search: SearchConfig, file: str | Path
) -> Iterator[DriftwaveError]:
    for session in search.sessions or ():
        if session not in plan.sessions or model not in _fitted(plan, session):
            known = [name for name in plan.sessions if model in _fitted(plan, name)]
            yield InputError(
                file=file,
                field=f"search.{model}.sessions",
                found=repr(session),
                expected=f"some of {known}, the sessions that {model!r} is fitted to",
                fix=_suggestion(session, known),
            )
    for session in search.sessions or plan.sessions:
        if session in plan.sessions and model in _fitted(plan, session):
            yield from _nothing_to_choose_by(plan, model, session, search, file)


def _fitted(plan: Plan, session: str) -> list[str]:
    try:
        return plan.models(session, "spikes")
    except DriftwaveError:  # the layout's own fault, which is told with its session
        return []


def _nothing_to_choose_by(
    plan: Plan, model: str, session: str, search: SearchConfig, file: str | Path
) -> Iterator[DriftwaveError]:
    layout = plan.layout(session)
    if layout.spikes is None or layout.spikes.held_out:
        return
    curves = registry.plugin("models", plan.plugin_of(model)).constants.get("GIVES_CURVES")
    for name in HIDING if curves else ():
        if name in search.space:
            yield InputError(
                file=file,
                field=f"search.{model}.space.{name}",
                found=f"a search by validation loss, since session {session!r} has no held-out "
                "units",
                expected="parameters that do not change what that loss is of",
                fix="Set `spikes.held_out` in the layout, or remove the parameter",
            )
    if not curves:
        yield InputError(
            file=file,
            field=f"search.{model}",
            found=f"session {session!r} without held-out units, and a model without a validation "
            "loss",
            expected="held-out units, whose bits per spike a search chooses by",
            fix="Set `spikes.held_out` in the layout",
        )


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}" if close else "Mend or remove the name"
