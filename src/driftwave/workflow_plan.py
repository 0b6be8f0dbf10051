"""Which jobs a configuration asks for: sessions x stages x models, without running anything.

The Snakefile, the pre-flight checks and the summary all read this one plan. It reads the session
table, the layouts and the plug-ins' source text; it opens no recording and imports no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from driftwave import registry
from driftwave.config import (
    AnalysisConfig,
    Config,
    Layout,
    Session,
    find_layout,
    load_layout,
    load_sessions,
    parse_config,
)
from driftwave.fingerprint import fingerprint

RECORDING = "recording"  # the source that is the recording itself, not a model
SIMULATED = "simulated"  # folder of simulated files, beside those of the sessions

# stage -> (plug-in kind, key of the configuration)
ANALYSES = {
    "decode": ("decoding", "decoding"),
    "manifold": ("manifolds", "manifold"),
    "waves": ("waves", "waves"),
}
# Code that a stage runs beside its plug-in.
STAGE_CODE = {
    "ingest": "driftwave.ingest.nwb",
    "fit": "driftwave.models.run",
    "score": "driftwave.scores.table",
    "compare": "driftwave.scores.table",
}


@dataclass(frozen=True)
class Job:
    """One command of the workflow.

    Attributes
    ----------
    session : str
        Session, or ``simulated`` for the making of an NWB file.
    stage : str
        Subcommand.
    name : str
        Model, source, figure or simulation; empty where a session has one such job.
    outputs, inputs : tuple of str
        Paths.
    log : str
    """

    session: str
    stage: str
    name: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    log: str


# Order of the report's subcategories.
REPORT_STAGES = ("recording", "models", "scores", "decoding", "manifold", "waves")


@dataclass(frozen=True)
class FigureKind:
    """What a figure is drawn from and where the report shows it, as its module's constants say.

    Attributes
    ----------
    stage : str
        ``STAGE``: subcategory in the report.
    results : str
        ``RESULTS``: what the figure takes, once per source or model: ``decode``, ``manifold``,
        ``waves``, ``latents``, ``scores``, or nothing.
    each : bool
        ``EACH``: one figure per source or model, instead of one that holds them all.
    observes : str
        ``OBSERVES``: only for models of this kind of signal.
    curves : bool
        ``CURVES``: only for models that give training curves.
    """

    stage: str
    results: str = ""
    each: bool = False
    observes: str = ""
    curves: bool = False

    @property
    def of(self) -> str:
        """What one figure that is not drawn once for each shows, for the report's table."""
        if not self.results:
            return RECORDING
        return "all sources" if self.results in ANALYSES else "all models"


def figure_kinds() -> dict[str, FigureKind]:
    """Figures of the report by name: the figure plug-ins that name a ``STAGE``."""
    kinds = {
        name: FigureKind(
            stage=str(plugin.constants["STAGE"]),
            results=str(plugin.constants.get("RESULTS", "")),
            each=bool(plugin.constants.get("EACH", False)),
            observes=plugin.observes,
            curves=bool(plugin.constants.get("CURVES", False)),
        )
        for name, plugin in registry.plugins("figures").items()
        if "STAGE" in plugin.constants
    }
    rank = {stage: place for place, stage in enumerate(REPORT_STAGES)}
    return dict(sorted(kinds.items(), key=lambda item: rank.get(item[1].stage, len(rank))))


FIGURES = figure_kinds()


@dataclass
class Plan:
    """The jobs of a configuration, by session.

    Parameters
    ----------
    config : Config
    sessions : dict of str to Session
    """

    config: Config
    sessions: dict[str, Session]
    _layouts: dict[str, Layout] = field(default_factory=dict)
    _jobs: dict[str, list[Job]] = field(default_factory=dict)

    @classmethod
    def read(cls, content: Mapping[str, Any], file: str | Path = "config") -> Plan:
        """Read the session table that a configuration mapping names.

        Raises
        ------
        InputError
            If the configuration or the table breaks its schema.
        """
        config = parse_config(content, file)
        return cls(config, {row.session: row for row in load_sessions(config.sessions)})

    def layout(self, session: str) -> Layout:
        """The session's layout."""
        name = self.sessions[session].layout
        if name not in self._layouts:
            self._layouts[name] = load_layout(name, self.config.layouts)
        return self._layouts[name]

    def layout_path(self, session: str) -> str:
        """Path of the session's layout file."""
        return str(find_layout(self.sessions[session].layout, self.config.layouts))

    def nwb(self, session: str) -> str:
        """Path of the session's NWB file."""
        return str(Path(self.config.data_root) / self.sessions[session].nwb)

    def plugin_of(self, model: str) -> str:
        """Plug-in of a configured model."""
        return self.config.models[model].plugin or model

    @cached_property
    def observes_of(self) -> dict[str, str]:
        """Signal each configured model observes: spikes or field."""
        known = registry.plugins("models")
        return {
            model: known[self.plugin_of(model)].observes
            for model in self.config.models
            if self.plugin_of(model) in known
        }

    def models(self, session: str, observes: str = "") -> list[str]:
        """Models fitted to a session, of one kind of signal or of all."""
        row, groups = self.sessions[session], self.layout(session).groups()
        if row.stages is not None and "fit" not in row.stages:
            return []
        wanted = self.config.models if row.models is None else row.models
        return [
            model
            for model in wanted
            if self.observes_of.get(model) in groups and observes in ("", self.observes_of[model])
        ]

    def can(self, session: str, stage: str) -> bool:
        """Whether a session's layout yields what an analysis needs."""
        layout = self.layout(session)
        groups = layout.groups()
        if stage == "decode":
            return "spikes" in groups and bool(groups & {"behavior", "stimulus"})
        if stage == "manifold":
            return "spikes" in groups
        return layout.field is not None and layout.field.positions is not None

    def sources(self, session: str, stage: str) -> list[str]:
        """What an analysis runs on: the recording and each model of the right signal."""
        wanted = self.sessions[session].stages
        if not self.can(session, stage) or (wanted is not None and stage not in wanted):
            return []
        return [RECORDING, *self.models(session, "field" if stage == "waves" else "spikes")]

    def path(self, session: str, *parts: str) -> str:
        """A path below the session's folder of results."""
        return "/".join([self.config.results, session, *parts])

    def store(self, session: str, result: str, name: str) -> str:
        """Path of a result of a source or model: latents, scores, or that of an analysis stage."""
        if result == "latents":
            return self.path(session, "models", name, "latents.zarr")
        if result == "scores":
            return self.path(session, "scores", f"{name}.tsv")
        folder = "decoding" if result == "decode" else result
        return self.path(session, folder, f"{name}.zarr")

    def _job(
        self,
        session: str,
        stage: str,
        name: str,
        outputs: list[str],
        inputs: list[str],
    ) -> Job:
        log = self.path(session, "logs", f"{stage}.{name}.jsonl" if name else f"{stage}.jsonl")
        return Job(session, stage, name, tuple(outputs), tuple(inputs), log)

    def simulations(self) -> list[Job]:
        """One job per simulated NWB file that a session uses."""
        used = {str(Path(self.nwb(session))) for session in self.sessions}
        return [
            self._job(SIMULATED, "simulate", name, [self.path(SIMULATED, f"{name}.nwb")], [])
            for name in self.config.simulations
            if str(Path(self.path(SIMULATED, f"{name}.nwb"))) in used
        ]

    def jobs(self, session: str) -> list[Job]:
        """The jobs of one session, in an order in which they can run."""
        if session not in self._jobs:
            self._jobs[session] = [*self._session_jobs(session), *self._figure_jobs(session)]
        return self._jobs[session]

    def all_jobs(self) -> Iterator[Job]:
        """The jobs of all sessions."""
        yield from self.simulations()
        for session in self.sessions:
            yield from self.jobs(session)

    def _session_jobs(self, session: str) -> Iterator[Job]:
        recording = self.path(session, "recording.zarr")
        yield self._job(session, "ingest", "", [recording], [self.nwb(session)])
        for model in self.models(session):
            latents = self.store(session, "latents", model)
            fitted = self.path(session, "models", model, "fit")
            yield self._job(session, "fit", model, [fitted, latents], [recording])
        for model in self.models(session, "spikes"):
            table = self.store(session, "scores", model)
            latents = self.store(session, "latents", model)
            yield self._job(session, "score", model, [table], [recording, latents])
        for stage in ANALYSES:
            for source in self.sources(session, stage):
                inputs = [recording, *self.latents_of(session, source)]
                output = self.store(session, stage, source)
                yield self._job(session, stage, source, [output], inputs)
        compared = self.compared(session)
        if any(compared.values()):
            outputs = [self.path(session, f"comparison.{suffix}") for suffix in ("tsv", "html")]
            inputs = [path for stores in compared.values() for path in stores.values()]
            yield self._job(session, "compare", "", outputs, inputs)

    def _figure_jobs(self, session: str) -> Iterator[Job]:
        recording = self.path(session, "recording.zarr")
        for figure in FIGURES:
            for name, results in self.figures(session, figure).items():
                outputs = [self.path(session, "figures", f"{name}.{s}") for s in ("png", "svg")]
                yield self._job(session, "figure", name, outputs, [recording, *results.values()])

    def latents_of(self, session: str, source: str) -> list[str]:
        """The latents an analysis of ``source`` reads; none when that is the recording."""
        return [] if source == RECORDING else [self.store(session, "latents", source)]

    def compared(self, session: str) -> dict[str, dict[str, str]]:
        """What a session's comparison table is made of: score tables and decoding stores."""
        models, sources = self.models(session, "spikes"), self.sources(session, "decode")
        return {
            "scores": {model: self.store(session, "scores", model) for model in models},
            "decoding": {source: self.store(session, "decode", source) for source in sources},
        }

    def figures(self, session: str, figure: str) -> dict[str, dict[str, str]]:
        """A session's figures of one kind: file name to the results (name to path) drawn.

        A figure of one source knows its result by the stage's name, others by the sources' names.
        """
        kind = FIGURES[figure]
        if not kind.results:
            return {figure: {}}
        names = (
            self.sources(session, kind.results)
            if kind.results in ANALYSES
            else self.models(session, kind.observes)
        )
        if kind.curves:
            models = registry.plugins("models")
            names = [n for n in names if models[self.plugin_of(n)].constants.get("GIVES_CURVES")]
        if kind.each:
            return {
                f"{figure}.{name}": {kind.results: self.store(session, kind.results, name)}
                for name in names
            }
        stores = {name: self.store(session, kind.results, name) for name in names}
        return {figure: stores} if stores else {}

    def targets(self) -> list[str]:
        """Outputs of the jobs that no other job reads from: asking for these makes everything."""
        wanted: list[str] = []
        for session in self.sessions:
            read = {path for job in self.jobs(session) for path in job.inputs}
            last = (job for job in self.jobs(session) if not read.intersection(job.outputs))
            wanted += [path for job in last for path in job.outputs]
        return wanted

    def made(self) -> list[str]:
        """Outputs for the report: those that exist and whose inputs were all made as well.

        Snakemake removes the outputs of a job that fails, so what lies downstream of a failure
        is left out even when an earlier run has left it on disk.
        """
        made: set[str] = set()
        for job in self.all_jobs():
            if job.stage in ("ingest", "simulate"):
                whole = True  # an NWB file is either given or made by a simulation
            else:
                whole = all(path in made for path in job.inputs)
            if whole and all(Path(path).exists() for path in job.outputs):
                made.update(job.outputs)
        return [path for path in self.targets() if path in made]

    def analysis(self, stage: str) -> AnalysisConfig:
        """Plug-in and parameters of an analysis stage."""
        return getattr(self.config, ANALYSES[stage][1])

    def code(self, stage: str, plugin: str = "") -> str:
        """Fingerprint of the code a job runs; a job is run again when it changes."""
        kind = {"fit": "models", "simulate": "simulators", "figure": "figures"}.get(stage)
        kind = kind or ANALYSES.get(stage, ("",))[0]
        modules = [registry.plugin(kind, plugin).module] if kind else []
        modules += [STAGE_CODE[stage]] if stage in STAGE_CODE else []
        return "-".join(fingerprint(module) for module in modules)

    def megabytes(self, session: str) -> float:
        """Size of the session's NWB file, MB; zero while a simulation has yet to make it."""
        path = Path(self.nwb(session))
        return path.stat().st_size / 1e6 if path.exists() else 0.0


def as_json(params: Mapping[str, Any]) -> str:
    """Parameters as the text that the command line takes."""
    return json.dumps(dict(params), sort_keys=True)
