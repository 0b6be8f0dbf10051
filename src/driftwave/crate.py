"""Describe a run as an RO-Crate: workflow, configuration, inputs, each job and what it made.

The crate follows the Workflow Run RO-Crate profiles (Process, Workflow and Provenance Run Crate
0.6, on RO-Crate 1.3; Leo et al. 2024, doi:10.1371/journal.pone.0309210). The Snakefile is the main
workflow; a CreateAction is one run of the whole workflow, further ones its jobs, each with a
``driftwave`` subcommand as its instrument. Stores and NWB files are described by their place and
identity; tables, figures, configuration, layouts and logs are copied.
"""

from __future__ import annotations

import json
import mimetypes
import tempfile
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driftwave import __version__
from driftwave.errors import DriftwaveError, InputError
from driftwave.joblog import events_path, read_attempts, text_path
from driftwave.provenance import git_state, is_address, packages, sha256
from driftwave.provenance_read import read_record
from driftwave.reading import read_yaml
from driftwave.workflow_plan import Job, Plan

PROFILES = {"process": "Process", "workflow": "Workflow", "provenance": "Provenance"}
PROFILE_VERSION = "0.6"
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
COPIED = (".tsv", ".csv", ".html", ".png", ".svg", ".gif", ".mp4", ".yaml", ".json")
_ENDED = {
    "done": "http://schema.org/CompletedActionStatus",
    "failed": "http://schema.org/FailedActionStatus",
}


@dataclass(frozen=True)
class Written:
    """What a crate describes: numbers of jobs and of results."""

    jobs: int
    results: int


def write_crate(
    results: str | Path,
    out: str | Path,
    *,
    config: str | Path = "config/config.yaml",
    snakefile: str | Path = "Snakefile",
    copy: bool = False,
) -> Written:
    """Write the crate of a run.

    Parameters
    ----------
    results : path
        Folder of the results; that of the configuration.
    out : path
        Folder, or file that ends in ``.zip``.
    config, snakefile : path
        What the results were made with.
    copy : bool
        Copy stores and fitted models as well.

    Raises
    ------
    DriftwaveError
        Without the rocrate package, or if no job of the configuration has run.
    InputError
        If a file is missing, or ``out`` is in the way.
    """
    try:
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise DriftwaveError(
            "driftwave crate needs the package rocrate; install driftwave[crate]."
        ) from error
    results, out = Path(results), Path(out)
    _check_places(out, Path(config), Path(snakefile))
    plan = _plan_of(results, Path(config))
    done = [_Run.of(job, read_attempts(job.log)) for job in plan.all_jobs() if _has_run(job)]
    if not done:
        raise DriftwaveError(
            f"{results}: no job of {config} has run there; run the workflow first."
        )
    crate = ROCrate()
    crate.metadata.extra_contexts.append(TERMS)
    described = _Crate(crate, plan, Path(plan.config.results), copy=copy)
    described.describe(Path(snakefile), Path(config), done)
    _write(described.crate, out)
    return Written(len(done), len(described.results))


def _has_run(job: Job) -> bool:
    return events_path(job.log).is_file()


@dataclass(frozen=True)
class _Run:
    """The last attempt at a job."""

    job: Job
    state: str
    why: str
    began: str
    ended: str
    command: str

    @classmethod
    def of(cls, job: Job, attempts: Sequence[Sequence[Mapping[str, Any]]]) -> _Run:
        first, last = attempts[-1][0], attempts[-1][-1]
        state = "done" if last["state"] == "done" else "failed"
        why = str(last.get("why", "It stopped without a message."))
        command = " ".join(first.get("command", []))
        return cls(job, state, why, first["time"], last["time"], command)


def _check_places(out: Path, config: Path, snakefile: Path) -> None:
    for path, what in ((config, "configuration"), (snakefile, "workflow")):
        if not path.is_file():
            raise InputError(
                file=path,
                field=what,
                found="no such file",
                expected=f"the {what} of the run",
                fix="Run it in the project's folder, or give --config and --snakefile",
            )
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise InputError(
            file=out,
            field="--out",
            found="something there",
            expected="a new folder or zip file",
            fix="Delete it or give another name",
        )


def _plan_of(results: Path, config: Path) -> Plan:
    """The plan of a configuration; its results may have been moved to ``results``."""
    content = dict(read_yaml(config))
    return Plan.read(content | {"results": str(results)}, config)


def _write(crate: Any, out: Path) -> None:
    """Write beside ``out`` and rename, so that nothing partial is taken for a crate."""
    from driftwave.store import atomic_path

    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        if out.suffix == ".zip":
            with tempfile.TemporaryDirectory(dir=out.parent) as folder:
                made = Path(folder) / "crate.zip"
                crate.write_zip(made)
                made.rename(temporary)
        else:
            crate.write(temporary)


@dataclass
class _Crate:
    """A crate while it is made; ``files`` are its entities by the path they have in the project."""

    crate: Any
    plan: Plan
    root: Path
    copy: bool = False
    files: dict[str, Any] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)

    def describe(self, snakefile: Path, config: Path, done: Sequence[_Run]) -> None:
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

    def _action(self, run: _Run, tool: Any) -> Any:
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
        if is_address(path):
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
            facts |= {"sha256": sha256(place), "contentSize": str(place.stat().st_size)}
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
            "sha256": sha256(path),
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
