"""Checks of every configured name and file before the first job starts.

Snakemake says "Nothing to be done" when an output exists although its input cannot be made, so a
mistyped name or a deleted file would otherwise leave stale results unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from driftwave import registry
from driftwave.errors import DriftwaveError, InputError
from driftwave.preflight_analyses import analysis_problems
from driftwave.preflight_names import (
    module_parameters,
    plugin_parameters,
    plugin_problems,
    suggestion,
)
from driftwave.search.check import search_problems
from driftwave.search.settings import SearchConfig
from driftwave.seeds import members_of
from driftwave.workflow_analyses import PARAMS_OF
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
        yield from plugin_problems(
            file, f"{key}.simulator", "simulators", simulation.simulator, simulation.params, key
        )
    for name, experiment in config.experiments.items():
        key = f"experiments.{name}"
        plugin = plan.experiment_plugin(name)
        yield from plugin_problems(file, key, "experiments", plugin, experiment.params, key)
    for name, model in config.models.items():
        key = f"models.{name}"
        field = f"{key}.plugin" if model.plugin else key
        yield from plugin_problems(file, field, "models", plan.plugin_of(name), model.params, key)
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
            yield from plugin_parameters(file, key, module, searched)
    yield from search_problems(plan, file)
    for stage, (kind, key) in ANALYSES.items():
        analysis = plan.analysis(stage)
        if analysis is None:
            continue
        yield from plugin_problems(
            file, f"{key}.plugin", kind, analysis.plugin, analysis.params, key
        )
    for name, detector in config.detectors.items():
        key = f"detectors.{name}"
        field = f"{key}.plugin" if detector.plugin else key
        yield from plugin_problems(
            file, field, "waves", plan.detector_plugin(name), detector.params, key
        )
    spike_waves = config.spike_waves.params
    module = PARAMS_OF["spike_waves"]
    yield from module_parameters(file, "spike_waves.params", module, "spike_waves", spike_waves)
    yield from analysis_problems(plan, file)
    for figure in FIGURES:
        yield from plugin_problems(file, "figures", "figures", figure, {}, "figures")
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


def _budget(search: SearchConfig) -> list[str]:
    return [] if search.budget is None else [search.budget.parameter]


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
    known = {str(Path(path)) for path in made}
    for nwb in plan.nwb_files(session):
        if str(Path(nwb)) in known or Path(nwb).is_file():
            continue
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
                fix=suggestion(model, plan.config.models),
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
    waves = layout.waves or {}
    detectors = map(plan.detector_plugin, plan.config.detectors if waves else ())
    plugins = {plan.config.waves.plugin, *detectors}
    finders = registry.plugins("waves")
    fields = [registry.parameter_names(finders[p].module) for p in plugins if p in finders]
    for parameter in waves:
        if parameter not in finders and all(
            names is not None and parameter not in names for names in fields
        ):
            yield InputError(
                file=plan.layout_path(session),
                field=f"waves.{parameter}",
                found=f"a parameter that none of {sorted(plugins)} has",
                expected=f"some of {sorted(set().union(*(names or () for names in fields)))}",
                fix=suggestion(parameter, set().union(*(names or () for names in fields))),
            )
    for stage in row.stages or ():
        if stage == "encode" and plan.config.encoding is None:
            yield _unconfigured(table, session, stage, "encoding")
        elif stage == "connectome" and plan.config.connectome is None:
            yield _unconfigured(table, session, stage, "connectome")
        elif stage != "fit" and not plan.can(session, stage) and not _told(plan, session, stage):
            yield InputError(
                file=table,
                field=f"stages of session {session}",
                found=repr(stage),
                expected=f"stages that the groups {sorted(groups)} of layout {row.layout!r} allow",
                fix="Remove the stage, or add the group to the layout",
            )


def _told(plan: Plan, session: str, stage: str) -> bool:
    """Whether a decoder has something to tell in a session that the main one has nothing of."""
    return stage == "decode" and any(
        plan.named_sources(session, "decoders", name) for name in plan.config.decoders
    )


def _unconfigured(table: str, session: str, stage: str, key: str) -> InputError:
    return InputError(
        file=table,
        field=f"stages of session {session}",
        found=repr(stage),
        expected=f"stages that the configuration asks for, and its {key} is null",
        fix=f"Remove the stage, or set `{key}` in the configuration",
    )
