"""Which jobs a configuration asks for: sessions x stages x models, without running anything.

The Snakefile, the pre-flight checks and the summary all read this one plan. It reads the session
table, the layouts and the plug-ins' source text; it opens no recording and imports no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driftwave import registry
from driftwave.config import AnalysisConfig
from driftwave.fingerprint import fingerprint
from driftwave.seeds import ensemble_of
from driftwave.workflow_figures import FIGURES, FigureKind
from driftwave.workflow_fits import EXPERIMENTS, RECORDING, SIMULATED
from driftwave.workflow_waves import WAVE_RESULTS, WavePlan

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
    "agree": "driftwave.wave_events.agreement",
    "spike_waves": "driftwave.spike_waves.coupling",
    "wave_table": "driftwave.wave_events.export",
    "wave_film": "driftwave.figures.film",
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
        Session, ``simulated`` for the making of an NWB file, or ``experiments``.
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


@dataclass
class Plan(WavePlan):
    """The jobs of a configuration, by session.

    Parameters
    ----------
    config : Config
    sessions : dict of str to Session
    left_out : dict of str to str
        Sessions left out because their NWB file is not there (``absent: skip``), and that file.
    """

    _jobs: dict[str, list[Job]] = field(default_factory=dict)

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

    def experiments(self) -> list[Job]:
        """Two jobs per experiment: its results, and their figure."""
        jobs = []
        for name in self.config.experiments:
            store = self.path(EXPERIMENTS, f"{name}.zarr")
            drawn = [self.path(EXPERIMENTS, f"{name}.{suffix}") for suffix in ("png", "svg")]
            jobs.append(self._job(EXPERIMENTS, "experiment", name, [store], []))
            jobs.append(self._job(EXPERIMENTS, "experiment_figure", name, drawn, [store]))
        return jobs

    def experiment_plugin(self, name: str) -> str:
        """Plug-in of a configured experiment."""
        return self.config.experiments[name].plugin or name

    def jobs(self, session: str) -> list[Job]:
        """The jobs of one session, in an order in which they can run."""
        if session not in self._jobs:
            self._jobs[session] = [*self._session_jobs(session), *self._figure_jobs(session)]
        return self._jobs[session]

    def all_jobs(self) -> Iterator[Job]:
        """The jobs of all sessions."""
        yield from self.simulations()
        yield from self.experiments()
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
        for model in self.scored(session):
            table = self.store(session, "scores", model)
            latents = self.store(session, "latents", model)
            yield self._job(session, "score", model, [table], [recording, latents])
        for stage in ANALYSES:
            for source in self.sources(session, stage):
                inputs = [recording, *self.latents_of(session, source)]
                output = self.store(session, stage, source)
                yield self._job(session, stage, source, [output], inputs)
        yield from self._wave_jobs(session)
        compared = self.compared(session)
        if any(compared.values()):
            outputs = [self.path(session, f"comparison.{suffix}") for suffix in ("tsv", "html")]
            inputs = [path for stores in compared.values() for path in stores.values()]
            yield self._job(session, "compare", "", outputs, inputs)

    def _wave_jobs(self, session: str) -> Iterator[Job]:
        """What follows from waves in the recording."""
        recording = self.path(session, "recording.zarr")
        for name in self.detectors(session):
            store = self.detector_store(session, name)
            yield self._job(session, "detect", name, [store], [recording])
        if not self.waves_recorded(session):
            return
        waves = self.recorded_waves(session)
        table = self.path(session, "waves", f"{RECORDING}.events.csv")
        yield self._job(session, "wave_table", "", [table], [waves])
        yield self._job(session, "wave_film", "", self.film(session), [waves])
        inputs = {"agreement": list(self.agreeing(session).values())}
        inputs["spike_waves"] = [recording, waves]
        for stage, result in zip(("agree", "spike_waves"), WAVE_RESULTS, strict=True):
            store = self.wave_result(session, result)
            if store:
                yield self._job(session, stage, "", [store], inputs[result])

    def _figure_jobs(self, session: str) -> Iterator[Job]:
        recording = self.path(session, "recording.zarr")
        for figure in FIGURES:
            for name, results in self.figures(session, figure).items():
                outputs = [self.path(session, "figures", f"{name}.{s}") for s in ("png", "svg")]
                yield self._job(session, "figure", name, outputs, [recording, *results.values()])

    def scored(self, session: str) -> list[str]:
        """What is scored: every fit of the session and its ensembles."""
        return [*self.fits(session), *self.averages(session)]

    def latents_of(self, session: str, source: str) -> list[str]:
        """The latents an analysis of ``source`` reads; none when that is the recording."""
        return [] if source == RECORDING else [self.store(session, "latents", source)]

    def averaged(self, session: str, ensemble: str) -> list[str]:
        """Latents that an ensemble averages."""
        return [self.store(session, "latents", name) for name in self.ensembles[ensemble]]

    def compared(self, session: str) -> dict[str, dict[str, str]]:
        """What a session's comparison table is made of: score tables and decoding stores."""
        models = self.scored(session)
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
        if kind.results in WAVE_RESULTS:
            store = self.wave_result(session, kind.results)
            return {figure: {kind.results: store}} if store else {}
        if kind.results == "detectors":
            return {
                f"{figure}.{name}": {"detectors": self.detector_store(session, name)}
                for name in self.detectors(session)
                if self.detector_plugin(name) == kind.detector
            }
        names = self._drawn(session, kind)
        if kind.waves:
            names = [name for name in names if self.waves_of(name) in kind.waves]
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
            return self.scored(session)
        average = {self.fits_of(n)[0]: ensemble_of(self.config, n) for n in self.config.models}
        names = [self.fits_of(model)[0] for model in self.models(session, kind.observes)]
        if not kind.ensembles:
            return names
        return [average[n] if average[n] in self.ensembles else n for n in names]

    def targets(self) -> list[str]:
        """Outputs of the jobs that no other job reads from: asking for these makes everything."""
        drawn = (job for job in self.experiments() if job.inputs)
        wanted = [path for job in drawn for path in job.outputs]
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

    def analysis_params(self, session: str, stage: str) -> dict[str, Any]:
        """Parameters of an analysis stage for a session."""
        analysis = self.analysis(stage)
        if stage != "waves":
            return analysis.params
        return self.wave_params(session, analysis.plugin, analysis.params)

    def code(self, stage: str, plugin: str = "") -> str:
        """Fingerprint of the code a job runs; a job is run again when it changes."""
        kind = {
            "fit": "models",
            "search_trial": "models",
            "simulate": "simulators",
            "figure": "figures",
            "experiment": "experiments",
            "detect": "waves",
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
