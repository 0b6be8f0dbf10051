"""Checks of decoders, geometry, activations, groups and connectome before the first job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from driftwave import registry
from driftwave.errors import DriftwaveError, InputError
from driftwave.preflight_names import module_parameters, plugin_problems, suggestion
from driftwave.workflow_analyses import NAMED, PARAMS_OF
from driftwave.workflow_fits import RECORDING
from driftwave.workflow_plan import Plan

_NEEDS = {
    "decoders": "spikes and what the decoder decodes (behaviour, a stimulus or conditions)",
    "geometry": "spikes",
    "activations": "spikes, and a fit of the model",
    "connectome": "spikes or imaging",
}


def analysis_problems(plan: Plan, file: str | Path) -> Iterator[InputError]:
    """All problems of what is asked of populations beside the main analyses."""
    config = plan.config
    for key, kind in NAMED.items():
        for name, entry in plan.named(key).items():
            place = f"{key}.{name}"
            field = f"{place}.plugin" if entry.plugin else place
            plugin = plan.named_plugin(key, name)
            yield from plugin_problems(file, field, kind, plugin, entry.params, place)
            suited = [s for s in entry.sessions or () if _has(plan, s, key, name)]
            yield from _sessions(plan, file, place, entry.sessions or (), suited, _NEEDS[key])
    if config.decoding.plugin in config.decoders:
        yield InputError(
            file=file,
            field=f"decoders.{config.decoding.plugin}",
            found="a decoder named as the plug-in of `decoding`",
            expected="any other name, since the table of decoders has the main one under it",
            fix="Rename or remove it",
        )
    yield from _activations(plan, file)
    yield from _groups(plan, file)
    connectome = config.connectome
    if connectome is not None:
        module = PARAMS_OF["connectome"]
        key = "connectome.params"
        yield from module_parameters(file, key, module, "connectome", connectome.params)
        named = connectome.sessions or ()
        suited = [s for s in _readable(plan) if s in named and plan.connects(s)]
        yield from _sessions(plan, file, "connectome", named, suited, _NEEDS["connectome"])


def _has(plan: Plan, session: str, key: str, name: str) -> bool:
    return session in _readable(plan) and bool(plan.named_sources(session, key, name))


def _readable(plan: Plan) -> list[str]:
    """Sessions whose layout can be read; the others are told of as sessions."""
    found = []
    for session in plan.sessions:
        try:
            plan.layout(session)
        except DriftwaveError:
            continue
        found.append(session)
    return found


def _sessions(
    plan: Plan,
    file: str | Path,
    key: str,
    named: Iterable[str],
    suited: Iterable[str],
    needs: str,
) -> Iterator[InputError]:
    """Sessions that are not in the table, or that do not have what is asked of them."""
    known = {*plan.sessions, *plan.left_out}
    for session in named:
        if session not in known:
            yield InputError(
                file=file,
                field=f"{key}.sessions",
                found=f"{session!r}, which is no session",
                expected=f"some of {sorted(known)}, the rows of {plan.config.sessions}",
                fix=suggestion(session, known),
            )
        elif session in _readable(plan) and session not in suited:
            yield InputError(
                file=file,
                field=f"{key}.sessions",
                found=f"{session!r}, which has nothing for it",
                expected=f"sessions whose layout yields {needs}, and whose stages it is one of",
                fix="Remove the session, or mend its row or layout",
            )


def _activations(plan: Plan, file: str | Path) -> Iterator[InputError]:
    """Names that are taken, unknown models, and files that are not there."""
    taken = {RECORDING, *plan.config.models, *plan.members, *plan.ensembles}
    for name, entry in plan.config.activations.items():
        key = f"activations.{name}"
        if name in taken:
            yield InputError(
                file=file,
                field=key,
                found=f"activations named {name!r}",
                expected="any other name, since the recording or a model is a source of this one",
                fix="Rename the activations",
            )
            continue
        if entry.model is not None and entry.model not in plan.config.models:
            yield InputError(
                file=file,
                field=f"{key}.model",
                found=f"{entry.model!r}, which is no model of the configuration",
                expected=f"one of {sorted(plan.config.models)}",
                fix=suggestion(entry.model, plan.config.models),
            )
            continue
        plugin = plan.activations_plugin(name)
        givers = _giving_activations()
        if plugin and plugin not in givers:
            yield InputError(
                file=file,
                field=f"{key}.model",
                found=f"{entry.model!r}, whose plug-in {plugin!r} gives no activations",
                expected=f"a model of one of {givers}",
                fix="Name such a model, or give activations as a file",
            )
            continue
        suited = [s for s in _readable(plan) if name in plan.activations(s)]
        yield from _sessions(plan, file, key, entry.sessions or (), suited, _NEEDS["activations"])
        for session in suited:
            path = plan.activations_file(session, name)
            if path and not Path(path).exists():
                yield InputError(
                    file=file,
                    field=f"{key}.path",
                    found=f"no file {path}",
                    expected=f"activations of session {session}",
                    fix="Mend the path, or name the sessions that have some under `sessions`",
                )


def _giving_activations() -> list[str]:
    models = registry.plugins("models").items()
    return [name for name, plugin in models if plugin.constants.get("GIVES_ACTIVATIONS")]


def _groups(plan: Plan, file: str | Path) -> Iterator[InputError]:
    """Sessions that are not there, sources that they do not have, and unknown parameters."""
    module = PARAMS_OF["groups"]
    for name, group in plan.config.groups.items():
        key = f"groups.{name}"
        yield from module_parameters(file, f"{key}.params", module, "groups", group.params)
        spiking = [s for s in _readable(plan) if "spikes" in plan.layout(s).groups()]
        yield from _sessions(plan, file, key, group.sessions, spiking, "spikes")
        source = plan.group_source(name)
        for session in group.sessions:
            if session not in spiking:
                continue
            sources = [RECORDING, *plan.shown(session, "spikes"), *plan.activations(session)]
            if source not in sources:
                yield InputError(
                    file=file,
                    field=f"{key}.source",
                    found=f"{group.source!r}, which session {session} does not have",
                    expected=f"one of {sources}",
                    fix=suggestion(group.source, sources),
                )
