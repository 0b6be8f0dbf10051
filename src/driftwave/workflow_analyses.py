"""What a configuration asks of populations beside the main analyses.

Further decoders and analyses of geometry, encoding manifolds, activations as further sources,
comparisons of sessions and functional connectomes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driftwave import registry
from driftwave.analysis_settings import NamedAnalysisConfig, OfSessions
from driftwave.workflow_fits import GROUPS, RECORDING, Job
from driftwave.workflow_waves import WavePlan

# Further analyses by name -> plug-in kind. They are keys of the configuration and folders.
NAMED = {"decoders": "decoding", "geometry": "manifolds"}
CONNECTOME, BOTH_SIDES = "connectome", "both_sides"
# Modules that are no plug-ins and have parameters, by key of the configuration.
PARAMS_OF = {
    "groups": "driftwave.alignment.compare",
    "connectome": "driftwave.connectome.analysis",
    "spike_waves": "driftwave.spike_waves.coupling",
}


@dataclass
class AnalysisPlan(WavePlan):
    """Which further analyses run on a session, and on groups of sessions."""

    _sources: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def named(self, key: str) -> dict[str, NamedAnalysisConfig]:
        """Further analyses of a kind: ``decoders`` or ``geometry``."""
        return getattr(self.config, key)

    def named_plugin(self, key: str, name: str) -> str:
        """Plug-in of a further analysis."""
        return self.named(key)[name].plugin or name

    def named_params(self, key: str, name: str) -> dict[str, Any]:
        """Parameters of a further analysis."""
        return self.named(key)[name].params

    def named_store(self, session: str, key: str, name: str, source: str) -> str:
        """Path of what a further analysis finds in a source."""
        return self.path(session, key, name, f"{source}.zarr")

    def named_sources(self, session: str, key: str, name: str) -> list[str]:
        """What a further analysis runs on in a session; nothing where the layout allows none."""
        entry = self.named(key)[name]
        if not self._is_of(session, entry):
            return []
        if key == "geometry":
            found = self.sources(session, "manifold")
        elif not self.wants(session, "decode") or not self.decodes(session, name):
            return []
        else:
            asked = self.config.decoders[name].activations
            more = self.activations(session) if asked else []
            found = [RECORDING, *self.shown(session, "spikes"), *more]
        return found if entry.sources == "all" else [s for s in found if s == RECORDING]

    def decodes(self, session: str, name: str) -> bool:
        """Whether the layout has what a configured decoder decodes, as ``DECODES`` says."""
        layout = self.layout(session)
        groups = layout.groups()
        plugin = registry.plugins("decoding").get(self.named_plugin("decoders", name))
        kind = "both" if plugin is None else str(plugin.constants.get("DECODES", "both"))
        continuous = bool(groups & {"behavior", "stimulus"})
        conditions = layout.trials is not None and bool(layout.trials.condition)
        discrete = "stimulus" in groups or conditions
        found = {"continuous": continuous, "discrete": discrete, "behaviour": "behavior" in groups}
        return "spikes" in groups and found.get(kind, continuous or discrete)

    def _is_of(self, session: str, entry: OfSessions) -> bool:
        return entry.sessions is None or session in entry.sessions

    def activations(self, session: str) -> list[str]:
        """Names of the activations that a session has."""
        if "spikes" not in self.layout(session).groups():
            return []
        models = self.models(session, "spikes")
        return [
            name
            for name, entry in self.config.activations.items()
            if self._is_of(session, entry) and (entry.model is None or entry.model in models)
        ]

    def activations_store(self, session: str, name: str) -> str:
        """Path of a session's activations."""
        return self.path(session, "activations", f"{name}.zarr")

    def activations_fit(self, session: str, name: str) -> str:
        """Folder of the fitted model whose activations they are; empty where a file holds them."""
        model = self.config.activations[name].model
        return "" if model is None else self.path(session, "models", self.fits_of(model)[0], "fit")

    def activations_plugin(self, name: str) -> str:
        """Plug-in of the model whose activations they are; empty where a file holds them."""
        model = self.config.activations[name].model
        return "" if model is None else self.plugin_of(model)

    def activations_file(self, session: str, name: str) -> str:
        """File that holds the activations; empty where a fitted model gives them."""
        path = self.config.activations[name].path
        if path is None:
            return ""
        return str(Path(self.config.data_root) / path.replace("{session}", session))

    def sources(self, session: str, stage: str) -> list[str]:
        """What an analysis runs on; manifolds are those of the session's activations as well."""
        if stage == "encode" and self.config.encoding is None:
            return []
        if (session, stage) not in self._sources:
            found = super().sources(session, stage)
            more = self.activations(session) if found and stage in ("manifold", "encode") else []
            self._sources[session, stage] = [*found, *more]
        return list(self._sources[session, stage])

    def latents_of(self, session: str, source: str) -> list[str]:
        """The latents or activations an analysis of ``source`` reads; none of the recording."""
        if source == RECORDING:
            return []
        if source in self.config.activations:
            return [self.activations_store(session, source)]
        return [self.store(session, "latents", source)]

    def connects(self, session: str) -> bool:
        """Whether the connectome of a session is analysed."""
        entry = self.config.connectome
        if entry is None or not self._is_of(session, entry):
            return False
        return self.can(session, CONNECTOME) and self.wants(session, CONNECTOME)

    def connectome_store(self, session: str) -> str:
        """Path of a session's connectome."""
        return self.path(session, f"{CONNECTOME}.zarr")

    def decoding_table(self, session: str) -> dict[str, str]:
        """Stores that the table of all decoders holds, by DECODER/SOURCE; none without decoders."""
        found = {
            f"{name}/{source}": self.named_store(session, "decoders", name, source)
            for name in self.config.decoders
            for source in self.named_sources(session, "decoders", name)
        }
        main = {
            f"{self.config.decoding.plugin}/{source}": self.store(session, "decode", source)
            for source in self.sources(session, "decode")
        }
        return main | found if found else {}

    def both_sides(self, session: str) -> dict[str, str]:
        """Results of the recording for the figure of both manifolds; none unless both are there."""
        stages = {"manifold": "manifold", "encoding": "encode", "decoding": "decode"}
        found = {
            result: self.store(session, stage, RECORDING)
            for result, stage in stages.items()
            if RECORDING in self.sources(session, stage)
        }
        for name in self.config.decoders:
            is_curve = self.named_plugin("decoders", name) == "learning_curve"
            if is_curve and RECORDING in self.named_sources(session, "decoders", name):
                store = self.named_store(session, "decoders", name, RECORDING)
                found.setdefault("learning_curve", store)
        return found if {"manifold", "encoding"} <= set(found) else {}

    def groups(self) -> dict[str, list[str]]:
        """Groups with the sessions that are there; those with fewer than two are left out."""
        found = {
            name: [session for session in group.sessions if session in self.sessions]
            for name, group in self.config.groups.items()
        }
        return {name: sessions for name, sessions in found.items() if len(sessions) > 1}

    def group_source(self, name: str) -> str:
        """Source that a group compares: of a model with several seeds the first."""
        source = self.config.groups[name].source
        return self.fits_of(source)[0] if source in self.config.models else source

    def group_inputs(self, name: str) -> dict[str, dict[str, str]]:
        """Recordings, latents and encoding manifolds that a group compares, by session."""
        source, sessions = self.group_source(name), self.groups()[name]
        latents = {s: path for s in sessions for path in self.latents_of(s, source)}
        return {
            "recording": {s: self.recording(s) for s in sessions},
            "latents": latents,
            "encoding": {
                s: self.store(s, "encode", source)
                for s in sessions
                if source in self.sources(s, "encode")
            },
        }

    def group_store(self, name: str) -> str:
        """Path of the comparison of a group."""
        return self.path(GROUPS, f"{name}.zarr")

    def _activation_jobs(self, session: str) -> Iterator[Job]:
        """The activations of a session that some analysis reads."""
        recording = self.recording(session)
        for name in self._read_activations(session):
            origin = self.activations_fit(session, name) or self.activations_file(session, name)
            store = self.activations_store(session, name)
            yield self._job(session, "activations", name, [store], [recording, origin])

    def _read_activations(self, session: str) -> list[str]:
        """Activations that some analysis of the session, or a group with it, reads."""
        groups = self.groups().items()
        grouped = {self.group_source(name) for name, of in groups if session in of}
        stages = ("manifold", "encode")
        read = grouped.union(*(self.sources(session, stage) for stage in stages))
        for key in NAMED:
            for name in self.named(key):
                read.update(self.named_sources(session, key, name))
        return [name for name in self.activations(session) if name in read]

    def _further_jobs(self, session: str) -> Iterator[Job]:
        """Further analyses of a session, which read recordings, latents and main analyses."""
        recording = self.recording(session)
        for key in NAMED:
            for name in self.named(key):
                for source in self.named_sources(session, key, name):
                    inputs = [recording, *self.latents_of(session, source)]
                    store = self.named_store(session, key, name, source)
                    yield self._job(session, key, f"{name}.{source}", [store], inputs)
        decoded = self.decoding_table(session)
        if decoded:
            outputs = [self.path(session, f"decoding.{suffix}") for suffix in ("tsv", "html")]
            yield self._job(session, "decoding_table", "", outputs, list(decoded.values()))
        if self.connects(session):
            store = self.connectome_store(session)
            yield self._job(session, CONNECTOME, "", [store], [recording])
