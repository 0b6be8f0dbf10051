"""Checks of every configured name and file before the first job starts.

Snakemake says "Nothing to be done" when an output exists although its input cannot be made, so a
mistyped name or a deleted file would otherwise leave stale results unnoticed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from driftwave import registry
from driftwave.errors import DriftwaveError, InputError
from driftwave.search.check import search_problems
from driftwave.search.settings import SearchConfig
from driftwave.seeds import members_of
from driftwave.workflow_figures import FIGURES
from driftwave.workflow_fits import RECORDING, RESERVED
from driftwave.workflow_plan import ANALYSES, Plan

_SHOWN = 10


def checked_plan(content: Mapping[str, Any], file: str | Path = "config") -> Plan:
    """Read a configuration and check every name and file in it.

    Parameters
    ----------
    content : mapping
        The configuration as Snakemake hands it over.
    file : str or Path
        Where it was read from, for messages.

    Raises
    ------
    DriftwaveError
        One sentence per problem, each naming the file and key.
    """
    plan = Plan.read(content, file)
    found = list(problems(plan, file))
    if found:
        more = [f"... and {len(found) - _SHOWN} more."] if len(found) > _SHOWN else []
        raise DriftwaveError("\n".join([*map(str, found[:_SHOWN]), *more]))
    return plan


def problems(plan: Plan, file: str | Path = "config") -> Iterator[DriftwaveError]:
    """All problems of a plan, as errors ready to be raised."""
    config = plan.config
    for name, simulation in config.simulations.items():
        key = f"simulations.{name}"
        yield from _plugin(
            file, f"{key}.simulator", "simulators", simulation.simulator, simulation.params, key
        )
    for name, experiment in config.experiments.items():
        key = f"experiments.{name}"
        plugin = plan.experiment_plugin(name)
        yield from _plugin(file, key, "experiments", plugin, experiment.params, key)
    for name, model in config.models.items():
        key = f"models.{name}"
        field = f"{key}.plugin" if model.plugin else key
        yield from _plugin(file, field, "models", plan.plugin_of(name), model.params, key)
        if name == RECORDING:
            yield InputError(
                file=file,
                field=key,
                found=f"a model named {RECORDING!r}",
                expected="any other name, since results use it for the recording itself",
                fix="Rename the model",
            )
    yield from _names(plan, file)
    for name, search in config.search.items():
        if name in config.models:
            searched = dict.fromkeys([*search.space, *_budget(search)])
            module, key = plan.plugin_of(name), f"search.{name}.space"
            yield from _parameters(file, key, module, searched)
    yield from search_problems(plan, file)
    for stage, (kind, key) in ANALYSES.items():
        analysis = plan.analysis(stage)
        yield from _plugin(file, f"{key}.plugin", kind, analysis.plugin, analysis.params, key)
    for name, detector in config.detectors.items():
        key = f"detectors.{name}"
        field = f"{key}.plugin" if detector.plugin else key
        yield from _plugin(file, field, "waves", plan.detector_plugin(name), detector.params, key)
    for figure in FIGURES:
        yield from _plugin(file, "figures", "figures", figure, {}, "figures")
    if plan.left_out and not plan.sessions:
        yield InputError(
            file=plan.config.sessions,
            field="nwb",
            found=f"none of {len(plan.left_out)} NWB files, such as {min(plan.left_out.values())}",
            expected=f"at least one below {plan.config.data_root!r}",
            fix="Download them, or set `data_root` to their folder",
        )
    made = {path for job in plan.simulations() for path in job.outputs}
    for session in plan.sessions:
        yield from _session(plan, session, made)


def _plugin(
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
            fix=_suggestion(name, known),
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
    yield from _parameters(file, f"{key}.params", name, params, kind)


def _budget(search: SearchConfig) -> list[str]:
    return [] if search.budget is None else [search.budget.parameter]


def _parameters(
    file: str | Path, key: str, name: str, params: Iterable[str], kind: str = "models"
) -> Iterator[InputError]:
    """Parameters that a plug-in does not have."""
    known = registry.plugins(kind)
    fields = registry.parameter_names(known[name].module) if name in known else None
    for parameter in params:
        if fields is not None and parameter not in fields:
            yield InputError(
                file=file,
                field=f"{key}.{parameter}",
                found=f"a parameter that {name!r} does not have",
                expected=f"one of {sorted(fields)}",
                fix=_suggestion(parameter, fields),
            )


def _names(plan: Plan, file: str | Path) -> Iterator[InputError]:
    """Models whose name is that of another model's seed or ensemble."""
    made = set(plan.ensembles)
    for model in plan.config.models:
        made.update(m.name for m in members_of(plan.config, model) if m.name != model)
    for name in plan.config.models:
        if name in made:
            yield InputError(
                file=file,
                field=f"models.{name}",
                found=f"a model named {name!r}",
                expected="any other name, since a seed or ensemble of another model has this one",
                fix="Rename the model",
            )


def _session(plan: Plan, session: str, made: Iterable[str]) -> Iterator[DriftwaveError]:
    """A missing layout or NWB file, or models and stages that the layout cannot serve."""
    row, table = plan.sessions[session], plan.config.sessions
    if session in RESERVED:
        yield InputError(
            file=table,
            field=f"session {session}",
            found=f"a session named {session!r}",
            expected=f"any other name, since {RESERVED[session]} under it",
            fix="Rename the session",
        )
    nwb = plan.nwb(session)
    if str(Path(nwb)) not in {str(Path(path)) for path in made} and not Path(nwb).is_file():
        yield InputError(
            file=table,
            field=f"nwb of session {session}",
            found=f"no file {nwb}",
            expected="an NWB file, or one that `simulations` makes",
            fix="Mend the path, `data_root` or the name of the simulation",
        )
    try:
        layout = plan.layout(session)
    except DriftwaveError as error:
        yield error
        return
    groups = layout.groups()
    for model in row.models or ():
        observes = plan.observes_of.get(model, frozenset())
        if model not in plan.config.models:
            yield InputError(
                file=table,
                field=f"models of session {session}",
                found=repr(model),
                expected=f"some of {sorted(plan.config.models)}, the models of the configuration",
                fix=_suggestion(model, plan.config.models),
            )
        elif not observes <= groups:
            yield InputError(
                file=table,
                field=f"models of session {session}",
                found=f"{model!r}, which observes {' and '.join(sorted(observes))}",
                expected=f"models of {sorted(groups & {'spikes', 'field'})}, "
                f"which layout {row.layout!r} yields",
                fix="Remove the model, or add the group to the layout",
            )
    plugins = {plan.config.waves.plugin, *map(plan.detector_plugin, plan.config.detectors)}
    known = registry.plugins("waves")
    fields = [registry.parameter_names(known[p].module) for p in plugins if p in known]
    for parameter in layout.waves or {}:
        if parameter not in known and all(
            names is not None and parameter not in names for names in fields
        ):
            yield InputError(
                file=plan.layout_path(session),
                field=f"waves.{parameter}",
                found=f"a parameter that none of {sorted(plugins)} has",
                expected=f"some of {sorted(set().union(*(names or () for names in fields)))}",
                fix=_suggestion(parameter, set().union(*(names or () for names in fields))),
            )
    for stage in row.stages or ():
        if stage in ANALYSES and not plan.can(session, stage):
            yield InputError(
                file=table,
                field=f"stages of session {session}",
                found=repr(stage),
                expected=f"stages that the groups {sorted(groups)} of layout {row.layout!r} allow",
                fix="Remove the stage, or add the group to the layout",
            )


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]!r}" if close else "Mend or remove the name"
