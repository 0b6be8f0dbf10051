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
from driftwave.address import REMOTE_MEGABYTES
from driftwave.config import AnalysisConfig
from driftwave.fingerprint import fingerprint
from driftwave.seeds import ensemble_of
from driftwave.workflow_analyses import BOTH_SIDES, CONNECTOME, NAMED, PARAMS_OF, AnalysisPlan
from driftwave.workflow_figures import FIGURES, GROUP_FIGURES, FigureKind
from driftwave.workflow_fits import EXPERIMENTS, GROUPS, SIMULATED, Job
from driftwave.workflow_waves import WAVE_RESULTS

# stage -> (plug-in kind, key of the configuration)
ANALYSES = {
    "decode": ("decoding", "decoding"),
    "manifold": ("manifolds", "manifold"),
    "encode": ("encoding", "encoding"),
    "waves": ("waves", "waves"),
}
# Code that a stage runs beside its plug-in.
STAGE_CODE = {
    "ingest": "driftwave.ingest.nwb",
    "fit": "driftwave.models.run",
    "score": "driftwave.scores.table",
    "compare": "driftwave.scores.over_seeds",
    "agree": "driftwave.wave_events.agreement",
    "spike_waves": PARAMS_OF["spike_waves"],
    "wave_table": "driftwave.wave_events.export",
    "wave_film": "driftwave.figures.film",
    "ensemble": "driftwave.ensemble",
    "activations": "driftwave.activations.write",
    "decoding_table": "driftwave.readouts.table",
    "align": PARAMS_OF["groups"],
    "connectome": PARAMS_OF["connectome"],
    "search_trial": "driftwave.search.trial",
    "search_rank": "driftwave.search.results",
}


@dataclass
class Plan(AnalysisPlan):
    """The jobs of a configuration, by session.

    Parameters
    ----------
    config : Config
    sessions : dict of str to Session
    left_out : dict of str to str
        Sessions left out because their NWB file is not there (``absent: skip``), and that file.
    """

    _jobs: dict[str, list[Job]] = field(default_factory=dict)

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

    def comparisons(self) -> list[Job]:
        """Jobs of each group of sessions: the comparison, and its figures."""
        jobs = []
        for name in self.groups():
            inputs = [p for paths in self.group_inputs(name).values() for p in paths.values()]
            store = self.group_store(name)
            jobs.append(self._job(GROUPS, "align", name, [store], inputs))
            for of in (f"{name}{ending}" for ending in GROUP_FIGURES.values()):
                drawn = [self.path(GROUPS, f"{of}.{suffix}") for suffix in ("png", "svg")]
                jobs.append(self._job(GROUPS, "group_figure", of, drawn, [store]))
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
        yield from self.comparisons()

    def _session_jobs(self, session: str) -> Iterator[Job]:
        recording = self.recording(session)
        yield self._job(session, "ingest", "", [recording], self.nwb_files(session))
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
        yield from self._activation_jobs(session)
        for stage in ANALYSES:
            for source in self.sources(session, stage):
                inputs = [recording, *self.latents_of(session, source)]
                output = self.store(session, stage, source)
                yield self._job(session, stage, source, [output], inputs)
        yield from self._further_jobs(session)
        yield from self._wave_jobs(session)
        compared = self.compared(session)
        if any(compared.values()):
            outputs = [self.path(session, f"comparison.{suffix}") for suffix in ("tsv", "html")]
            inputs = [path for stores in compared.values() for path in stores.values()]
            yield self._job(session, "compare", "", outputs, inputs)

    def _figure_jobs(self, session: str) -> Iterator[Job]:
        recording = self.recording(session)
        for figure in FIGURES:
            for name, results in self.figures(session, figure).items():
                outputs = [self.path(session, "figures", f"{name}.{s}") for s in ("png", "svg")]
                yield self._job(session, "figure", name, outputs, [recording, *results.values()])

    def scored(self, session: str) -> list[str]:
        """What is scored: every fit of the session and its ensembles."""
        return [*self.fits(session), *self.averages(session)]

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
        if (kind.forward and not self.layout(session).forward) or kind.results == "group":
            return {}
        if not kind.results:
            return {figure: {}}
        if kind.results in (*WAVE_RESULTS, CONNECTOME, BOTH_SIDES):
            stores = self._of_session(session, kind.results)
            return {figure: stores} if stores else {}
        if kind.results == "detectors":
            return {
                f"{figure}.{name}": {"detectors": self.detector_store(session, name)}
                for name in self.detectors(session)
                if self.detector_plugin(name) in kind.plugins
            }
        if kind.results in NAMED:
            return {
                f"{figure}.{name}.{source}": {
                    kind.results: self.named_store(session, kind.results, name, source)
                }
                for name in self.named(kind.results)
                if self.named_plugin(kind.results, name) in kind.plugins
                for source in self.named_sources(session, kind.results, name)
            }
        names = self._drawn(session, kind)
        if kind.waves:
            names = [name for name in names if self.waves_of(name) in kind.waves]
        stores = {name: self.store(session, kind.stage_drawn, name) for name in names}
        if kind.each:
            return {f"{figure}.{name}": {kind.results: path} for name, path in stores.items()}
        return {figure: stores} if stores else {}

    def _of_session(self, session: str, result: str) -> dict[str, str]:
        """Results, by name, of a figure of which a session has one."""
        if result == BOTH_SIDES:
            return self.both_sides(session)
        if result == CONNECTOME:
            return {result: self.connectome_store(session)} if self.connects(session) else {}
        store = self.wave_result(session, result)
        return {result: store} if store else {}

    def _drawn(self, session: str, kind: FigureKind) -> list[str]:
        """Sources or models whose results a figure draws."""
        if kind.stage_drawn in ANALYSES:
            hidden = {*self.fits(session)} - {*self.shown(session)}
            return [n for n in self.sources(session, kind.stage_drawn) if n not in hidden]
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
        compared = self.comparisons()
        read = {path for job in compared for path in job.inputs}
        wanted += [p for job in compared for p in job.outputs if not read.intersection(job.outputs)]
        return wanted

    def made(self) -> list[str]:
        """Outputs for the report: those that exist and whose inputs were all made as well.

        Snakemake removes the outputs of a job that fails, so what lies downstream of a failure
        is left out even when an earlier run has left it on disk.
        """
        made: set[str] = set()
        own = {path for job in self.all_jobs() for path in job.outputs}
        for job in self.all_jobs():
            if job.stage in ("ingest", "simulate"):
                whole = True  # an NWB file is either given or made by a simulation
            else:
                whole = all(path in made for path in job.inputs if path in own)
            if whole and all(Path(path).exists() for path in job.outputs):
                made.update(job.outputs)
        return [path for path in self.targets() if path in made]

    def analysis(self, stage: str) -> AnalysisConfig | None:
        """Plug-in and parameters of an analysis stage; None if the configuration asks for none."""
        return getattr(self.config, ANALYSES[stage][1])

    def analysis_params(self, session: str, stage: str) -> dict[str, Any]:
        """Parameters of an analysis stage for a session."""
        analysis = self.analysis(stage)
        if analysis is None:
            return {}
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
            "group_figure": "figures",
            **NAMED,
        }.get(stage)
        kind = kind or ANALYSES.get(stage, ("",))[0]
        if stage == "activations" and plugin:
            kind = "models"
        modules = [registry.plugin(kind, plugin).module] if kind else []
        modules += [STAGE_CODE[stage]] if stage in STAGE_CODE else []
        return "-".join(fingerprint(module) for module in modules)

    def uses_gpu(self, model: str) -> bool:
        """Whether the configuration asks for a GPU and the model or fit can use one."""
        plugin = registry.plugins("models")[self.plugin_of(model)]
        cuda = self.config.device.startswith("cuda")
        return cuda and bool(plugin.constants.get("USES_DEVICE"))

    def dask_settings(self) -> str:
        """Where tasks run, as the text that the environment of the jobs holds."""
        asked = self.config.dask
        if asked.scheduler == "slurm" and asked.logs is None:
            asked = asked.model_copy(update={"logs": self.path("logs", "dask")})
        return asked.model_dump_json(exclude_defaults=True)

    def megabytes(self, session: str) -> float:
        """Size of the session's NWB file, MB; zero while a simulation has yet to make it.

        That of a remote file is the session table's or a default: no server is asked.
        """
        if not self.nwb_files(session):
            return self.sessions[session].megabytes or REMOTE_MEGABYTES
        path = Path(self.nwb(session))
        return path.stat().st_size / 1e6 if path.exists() else 0.0


def as_json(params: Mapping[str, Any]) -> str:
    """Parameters as the text that the command line takes."""
    return json.dumps(dict(params), sort_keys=True)
