"""The entities of a run's RO-Crate: its workflow, configuration, files, jobs and their results."""

from __future__ import annotations

import json
import mimetypes
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driftwave import __version__
from driftwave.address import is_remote
from driftwave.contents import sha256_of
from driftwave.joblog import text_path
from driftwave.provenance import git_state, packages
from driftwave.provenance_read import read_record
from driftwave.reading import read_yaml
from driftwave.workflow_plan import Job, Plan

PROFILES = {"process": "Process", "workflow": "Workflow", "provenance": "Provenance"}
PROFILE_VERSION = "0.6"
COPIED = (".tsv", ".csv", ".html", ".png", ".svg", ".gif", ".mp4", ".yaml", ".json")
_ENDED = {
    "done": "http://schema.org/CompletedActionStatus",
    "failed": "http://schema.org/FailedActionStatus",
}


@dataclass(frozen=True)
class JobRun:
    """The last attempt at a job."""

    job: Job
    state: str
    why: str
    began: str
    ended: str
    command: str

    @classmethod
    def of(cls, job: Job, attempts: Sequence[Sequence[Mapping[str, Any]]]) -> JobRun:
        first, last = attempts[-1][0], attempts[-1][-1]
        state = "done" if last["state"] == "done" else "failed"
        why = str(last.get("why", "It stopped without a message."))
        command = " ".join(first.get("command", []))
        return cls(job, state, why, first["time"], last["time"], command)


@dataclass
class CrateEntities:
    """A crate while it is made; ``files`` are its entities by the path they have in the project."""

    crate: Any
    plan: Plan
    root: Path
    copy: bool = False
    files: dict[str, Any] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)

    def describe(self, snakefile: Path, config: Path, done: Sequence[JobRun]) -> None:
        cited = _citation(snakefile.parent / "CITATION.cff")
        self._root(config, cited)
        given = self._given(config)
        workflow = self._workflow(snakefile, cited)
        stages = list(dict.fromkeys(run.job.stage for run in done))
        tools = {stage: self._tool(stage) for stage in stages}
        steps = [self._step(i, stage, tools[stage]) for i, stage in enumerate(stages)]
        workflow["hasPart"], workflow["step"] = list(tools.values()), steps
        actions = [self._action(run, tools[run.job.stage]) for run in done]
        made = {path for run in done for path in run.job.outputs}
        read = [path for run in done for path in run.job.inputs if path not in made]
        failed = any(run.state == "failed" for run in done)
        whole = self._add(
            "#run",
            "CreateAction",
            name="Run of the workflow",
            startTime=min(run.began for run in done),
            endTime=max(run.ended for run in done),
            actionStatus=_ENDED["failed" if failed else "done"],
            instrument=workflow,
            object=[*given, *(self._file(path) for path in dict.fromkeys(read))],
            result=[self.files[path] for path in self.files if path in self.results],
        )
        controls = [
            self._add(
                f"#control-{i}",
                "ControlAction",
                name=f"Orchestrate {action['name']}",
                instrument=steps[stages.index(run.job.stage)],
                object=action,
            )
            for i, (run, action) in enumerate(zip(done, actions, strict=True))
        ]
        self._engine(whole, controls)
        self.crate.root_dataset["mentions"] = [whole, *actions]

    def _add(self, identity: str, kind: str | list[str], **properties: Any) -> Any:
        from rocrate.model import ContextEntity

        found = self.crate.dereference(identity)
        if found is not None:
            return found
        content = {"@type": kind, **properties}
        return self.crate.add(ContextEntity(self.crate, identity, properties=content))

    def _root(self, config: Path, cited: Mapping[str, Any]) -> None:
        root = self.crate.root_dataset
        root["name"] = f"driftwave run of {config}"
        root["description"] = (
            "Latent dynamics, decoding, manifolds and travelling waves of the recordings listed in "
            f"{self.plan.config.sessions}, with the jobs that made them."
        )
        root["license"] = self._licence(cited)
        root["author"] = self._authors(cited)
        conforms = [
            self._add(
                f"https://w3id.org/ro/wfrun/{name}/{PROFILE_VERSION}",
                "CreativeWork",
                name=f"{title} Run Crate",
                version=PROFILE_VERSION,
            )
            for name, title in PROFILES.items()
        ]
        root["conformsTo"] = conforms

    def _licence(self, cited: Mapping[str, Any]) -> Any:
        name = str(cited.get("license", "BSD-3-Clause"))
        return self._add(f"https://spdx.org/licenses/{name}", "CreativeWork", name=name)

    def _authors(self, cited: Mapping[str, Any]) -> list[Any]:
        found = []
        for author in cited.get("authors", [{"name": "the driftwave developers"}]):
            person = "family-names" in author
            parts = (author.get("given-names"), author.get("family-names"), author.get("name"))
            name = " ".join(filter(None, parts))
            identity = str(author.get("orcid") or f"#{_quoted(name)}")
            found.append(self._add(identity, "Person" if person else "Organization", name=name))
        return found

    def _given(self, config: Path) -> list[Any]:
        """Configuration, session table and the layouts in use."""
        settings = self.plan.config
        names = sorted({session.layout for session in self.plan.sessions.values()})
        layouts = [Path(settings.layouts) / f"{name}.yaml" for name in names]
        paths = [config, Path(settings.sessions), *layouts]
        return [self._copied(path, _inside(path)) for path in paths if path.is_file()]

    def _workflow(self, snakefile: Path, cited: Mapping[str, Any]) -> Any:
        kinds = ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
        workflow = self.crate.add_workflow(
            str(snakefile),
            dest_path="Snakefile",
            main=True,
            lang="snakemake",
            properties={
                "@type": kinds,
                "name": "driftwave",
                "version": __version__,
                "license": self._licence(cited),
                "author": self._authors(cited),
            },
        )
        if "url" in cited or "repository-code" in cited:
            workflow["url"] = cited.get("url") or cited["repository-code"]
        for path in sorted((snakefile.parent / "workflow").rglob("*.smk")):
            self._copied(path, path.relative_to(snakefile.parent).as_posix())
        return workflow

    def _tool(self, stage: str) -> Any:
        return self._add(
            f"#driftwave-{stage}",
            "SoftwareApplication",
            name=f"driftwave {stage.replace('_', '-')}",
            softwareVersion=f"{__version__} ({git_state()})",
            softwareRequirements=[f"{k} {v}" for k, v in packages().items()],
        )

    def _step(self, place: int, stage: str, tool: Any) -> Any:
        return self._add(
            f"Snakefile#{stage}", "HowToStep", name=stage, position=str(place), workExample=tool
        )

    def _action(self, run: JobRun, tool: Any) -> Any:
        job = run.job
        title = " ".join(filter(None, (job.session, job.stage, job.name)))
        made = [path for path in job.outputs if Path(path).exists()]
        self.results.update(made)
        inputs = [self._file(path) for path in job.inputs]
        action = self._add(
            f"#job-{_quoted(title)}",
            "CreateAction",
            name=title,
            startTime=run.began,
            endTime=run.ended,
            actionStatus=_ENDED[run.state],
            instrument=tool,
            object=[*inputs, *self._parameters(title, made)],
            result=[self._file(path) for path in made],
        )
        if run.command:
            action["description"] = f"driftwave {run.command}"
        if run.state == "failed":
            action["error"] = run.why
        if text_path(job.log).is_file():
            action["subjectOf"] = self._copied(text_path(job.log), self._place(job.log))
        return action

    def _parameters(self, title: str, made: Sequence[str]) -> list[Any]:
        """Parameters, seed, threads and device of a job, as its first result tells them."""
        record = next((record for path in made if (record := read_record(Path(path)))), {})
        told = {k: record[k] for k in ("params", "seed", "threads", "device") if k in record}
        return [
            self._add(
                f"#{_quoted(f'{title} {name}')}",
                "PropertyValue",
                name=name,
                value=json.dumps(value) if isinstance(value, dict | list) else str(value),
            )
            for name, value in told.items()
        ]

    def _engine(self, whole: Any, controls: list[Any]) -> None:
        version = packages().get("snakemake", "")
        engine = self._add(
            "#snakemake", "SoftwareApplication", name="Snakemake", softwareVersion=version
        )
        self._add(
            "#organise",
            "OrganizeAction",
            name=f"Run of Snakemake {version}",
            startTime=whole["startTime"],
            endTime=whole["endTime"],
            instrument=engine,
            object=controls,
            result=whole,
        )

    def _file(self, path: str) -> Any:
        """Entity of an input or output, described once."""
        if path not in self.files:
            self.files[path] = self._described(path)
        return self.files[path]

    def _described(self, path: str) -> Any:
        place = Path(path)
        if is_remote(path):
            return self._add(path, "File", name=place.name)
        record = read_record(place) if place.exists() else {}
        inside = place.is_relative_to(self.root)
        if place.is_file() and inside and place.suffix in COPIED:
            return self._copied(place, self._place(path))
        if place.is_dir() and inside and self.copy:
            properties = {"name": place.name, "identifier": record.get("id", "")}
            dest = f"{self._place(path)}/"
            return self.crate.add_dataset(str(place), dest_path=dest, properties=properties)
        facts: dict[str, Any] = {"name": place.name}
        facts["description"] = f"Not in the crate; it was at {path}."
        if place.is_file():
            facts |= {"sha256": sha256_of(place), "contentSize": str(place.stat().st_size)}
        elif "id" in record:
            facts["identifier"] = f"sha256:{record['id']}"
        kind = "File" if place.suffix in (*COPIED, ".nwb", ".h5") else "Dataset"
        return self._add(f"#{_quoted(path)}", kind, **facts)

    def _place(self, path: str | Path) -> str:
        """Where a result lies in the crate."""
        path = text_path(path) if Path(path).suffix == ".jsonl" else Path(path)
        return f"results/{path.relative_to(self.root).as_posix()}"

    def _copied(self, path: Path, place: str) -> Any:
        found = self.crate.dereference(place)
        if found is not None:
            return found
        kind = mimetypes.guess_type(path.name)[0] or "text/plain"
        properties = {
            "name": path.name,
            "encodingFormat": kind,
            "sha256": sha256_of(path),
            "contentSize": str(path.stat().st_size),
        }
        return self.crate.add_file(str(path), dest_path=place, properties=properties)


def _citation(path: Path) -> Mapping[str, Any]:
    return read_yaml(path) if path.is_file() else {}


def _inside(path: Path) -> str:
    """Place in the crate of a file of the project; one from elsewhere goes by its name."""
    here = path.absolute()
    inside = here.is_relative_to(Path.cwd())
    return here.relative_to(Path.cwd()).as_posix() if inside else f"config/{path.name}"


def _quoted(text: str) -> str:
    return urllib.parse.quote(text.replace(" ", "-"), safe="/.-_")
