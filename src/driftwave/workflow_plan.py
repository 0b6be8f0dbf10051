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
    Session,
    find_layout,
    load_layout,
    load_sessions,
    parse_config,
)
from driftwave.fingerprint import fingerprint
from driftwave.layout import Layout
from driftwave.seeds import Member, ensemble_of, members_of

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
    "compare": "driftwave.scores.over_seeds",
    "ensemble": "driftwave.ensemble",
    "search_trial": "driftwave.search.trial",
    "search_rank": "driftwave.search.results",
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
        ``CURVES``: only for models that give training curves; then of every seed.
    ensembles : bool
        ``ENSEMBLES``: takes an ensemble, which has rates but no latents, in its seeds' place.
    lattice : bool
        ``LATTICE``: only for models whose latents lie on a lattice (``GIVES_LATTICE``); waves of
        such latents go to no other figure.
    forward : bool
        ``FORWARD``: only for sessions with forward bins.
    """

    stage: str
    results: str = ""
    each: bool = False
    observes: str = ""
    curves: bool = False
    ensembles: bool = False
    lattice: bool = False
    forward: bool = False

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
            ensembles=bool(plugin.constants.get("ENSEMBLES", False)),
            lattice=bool(plugin.constants.get("LATTICE", False)),
            forward=bool(plugin.constants.get("FORWARD", False)),
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
    left_out : dict of str to str
        Sessions left out because their NWB file is not there (``absent: skip``), and that file.
    """

    config: Config
    sessions: dict[str, Session]
    left_out: dict[str, str] = field(default_factory=dict)
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
        plan = cls(config, {row.session: row for row in load_sessions(config.sessions)})
        if config.absent == "skip":
            plan._leave_out_absent()
        return plan

    def _leave_out_absent(self) -> None:
        made = {Path(self.path(SIMULATED, f"{name}.nwb")) for name in self.config.simulations}
        for session in list(self.sessions):
            path = Path(self.nwb(session))
            if path not in made and not path.is_file():
                self.left_out[session] = str(path)
                del self.sessions[session]

    def layout(self, session: str) -> Layout:
        """The session's layout."""
        name = self.sessions[session].layout
        if name not in self._layouts:
            self._layouts[name] = load_layout(name, self.config.layouts)
        width = self.sessions[session].bin_width
        return self._layouts[name].model_copy(update={"bin_width": width} if width else {})

    def layout_path(self, session: str) -> str:
        """Path of the session's layout file."""
        return str(find_layout(self.sessions[session].layout, self.config.layouts))

    def nwb(self, session: str) -> str:
        """Path of the session's NWB file."""
        return str(Path(self.config.data_root) / self.sessions[session].nwb)

    @cached_property
    def members(self) -> dict[str, Member]:
        """The fits of all configured models by name: one of each, or one for each of its seeds."""
        every = (m for model in self.config.models for m in members_of(self.config, model))
        return {member.name: member for member in every}

    @cached_property
    def ensembles(self) -> dict[str, list[str]]:
        """Ensembles by name, each with the names of the fits it averages."""
        found: dict[str, list[str]] = {}
        for model in self.config.models:
            name = ensemble_of(self.config, model)
            if name and self.observes_of.get(model) == "spikes":
                found[name] = self.fits_of(model)
        return found

    def fits_of(self, model: str) -> list[str]:
        """Names of the fits of a configured model."""
        return [member.name for member in members_of(self.config, model)]

    def model_of(self, name: str) -> str:
        """Configured model of a fit, or the model itself."""
        return self.members[name].model if name in self.members else name

    def plugin_of(self, name: str) -> str:
        """Plug-in of a configured model or of one of its fits."""
        model = self.model_of(name)
        return self.config.models[model].plugin or model

    def params_of(self, name: str) -> dict[str, Any]:
        """Parameters of a fit."""
        return self.config.models[self.model_of(name)].params

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

    def fits(self, session: str, observes: str = "") -> list[str]:
        """Fits of a session: its models, or each of their seeds."""
        return [name for model in self.models(session, observes) for name in self.fits_of(model)]

    def averages(self, session: str) -> list[str]:
        """Ensembles of a session."""
        names = (ensemble_of(self.config, model) for model in self.models(session, "spikes"))
        return [name for name in names if name in self.ensembles]

    def shown(self, session: str, observes: str = "") -> list[str]:
        """What stands for each model where not all seeds are wanted: first seed and ensemble."""
        first = [self.fits_of(model)[0] for model in self.models(session, observes)]
        return first + (self.averages(session) if observes == "spikes" else [])

    def seeds(self, session: str) -> dict[str, list[str]]:
        """The session's models of spikes that have several seeds, and their fits."""
        fits = {model: self.fits_of(model) for model in self.models(session, "spikes")}
        return {model: names for model, names in fits.items() if len(names) > 1}

    def can(self, session: str, stage: str) -> bool:
        """Whether a session's layout yields what an analysis needs."""
        layout = self.layout(session)
        groups = layout.groups()
        if stage == "decode":
            return "spikes" in groups and bool(groups & {"behavior", "stimulus"})
        if stage == "manifold":
            return "spikes" in groups
        return self._has_positions(session) or bool(self._on_lattice(session))

    def _has_positions(self, session: str) -> bool:
        field = self.layout(session).field
        return field is not None and field.positions is not None

    def _on_lattice(self, session: str) -> list[str]:
        """The first fit of each model of spikes whose latents lie on a lattice."""
        known = registry.plugins("models")
        return [
            self.fits_of(model)[0]
            for model in self.models(session, "spikes")
            if known[self.plugin_of(model)].constants.get("GIVES_LATTICE")
        ]

    def sources(self, session: str, stage: str) -> list[str]:
        """What an analysis runs on: the recording and each model of the right signal.

        Of a model with several seeds, decoding takes each and the ensemble, other analyses the
        first seed and the ensemble.
        """
        wanted = self.sessions[session].stages
        if not self.can(session, stage) or (wanted is not None and stage not in wanted):
            return []
        if stage == "decode":
            return [RECORDING, *self.fits(session, "spikes"), *self.averages(session)]
        if stage == "waves":
            field = [RECORDING, *self.shown(session, "field")]
            return (field if self._has_positions(session) else []) + self._on_lattice(session)
        return [RECORDING, *self.shown(session, "spikes")]

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
        for model in self.fits(session):
            latents = self.store(session, "latents", model)
            fitted = self.path(session, "models", model, "fit")
            yield self._job(session, "fit", model, [fitted, latents], [recording])
        for name in self.averages(session):
            output, inputs = self.store(session, "latents", name), self.averaged(session, name)
            yield self._job(session, "ensemble", name, [output], inputs)
        for model in [*self.fits(session, "spikes"), *self.averages(session)]:
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

    def averaged(self, session: str, ensemble: str) -> list[str]:
        """Latents that an ensemble averages."""
        return [self.store(session, "latents", name) for name in self.ensembles[ensemble]]

    def compared(self, session: str) -> dict[str, dict[str, str]]:
        """What a session's comparison table is made of: score tables and decoding stores."""
        models = [*self.fits(session, "spikes"), *self.averages(session)]
        sources = self.sources(session, "decode")
        return {
            "scores": {model: self.store(session, "scores", model) for model in models},
            "decoding": {source: self.store(session, "decode", source) for source in sources},
        }

    def figures(self, session: str, figure: str) -> dict[str, dict[str, str]]:
        """A session's figures of one kind: file name to the results (name to path) drawn.

        A figure of one source knows its result by the stage's name, others by the sources' names.
        """
        kind = FIGURES[figure]
        if kind.forward and not self.layout(session).forward:
            return {}
        if not kind.results:
            return {figure: {}}
        names = self._drawn(session, kind)
        if kind.lattice or kind.results == "waves":
            lattice = self._on_lattice(session)
            names = [name for name in names if (name in lattice) == kind.lattice]
        if kind.each:
            return {
                f"{figure}.{name}": {kind.results: self.store(session, kind.results, name)}
                for name in names
            }
        stores = {name: self.store(session, kind.results, name) for name in names}
        return {figure: stores} if stores else {}

    def _drawn(self, session: str, kind: FigureKind) -> list[str]:
        """Sources or models whose results a figure draws."""
        if kind.results in ANALYSES:
            hidden = {*self.fits(session)} - {*self.shown(session)}
            return [n for n in self.sources(session, kind.results) if n not in hidden]
        if kind.curves:
            models, names = registry.plugins("models"), self.fits(session, kind.observes)
            return [n for n in names if models[self.plugin_of(n)].constants.get("GIVES_CURVES")]
        if kind.results == "scores":
            return [*self.fits(session, "spikes"), *self.averages(session)]
        average = {self.fits_of(n)[0]: ensemble_of(self.config, n) for n in self.config.models}
        names = [self.fits_of(model)[0] for model in self.models(session, kind.observes)]
        if not kind.ensembles:
            return names
        return [average[n] if average[n] in self.ensembles else n for n in names]

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
        kind = {
            "fit": "models",
            "search_trial": "models",
            "simulate": "simulators",
            "figure": "figures",
        }.get(stage)
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
