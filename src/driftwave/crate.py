"""Describe a run as an RO-Crate: workflow, configuration, inputs, each job and what it made.

The crate follows the Workflow Run RO-Crate profiles (Process, Workflow and Provenance Run Crate
0.6, on RO-Crate 1.3; Leo et al. 2024, doi:10.1371/journal.pone.0309210). The Snakefile is the main
workflow; a CreateAction is one run of the whole workflow, further ones its jobs, each with a
``driftwave`` subcommand as its instrument. Stores and NWB files are described by their place and
identity; tables, figures, configuration, layouts and logs are copied.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftwave.crate_entities import CrateEntities, JobRun
from driftwave.errors import DriftwaveError, InputError
from driftwave.joblog import events_path, read_attempts
from driftwave.reading import read_yaml
from driftwave.workflow_plan import Job, Plan

TERMS = "https://w3id.org/ro/terms/workflow-run/context"


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
    done = [JobRun.of(job, read_attempts(job.log)) for job in plan.all_jobs() if _has_run(job)]
    if not done:
        raise DriftwaveError(
            f"{results}: no job of {config} has run there; run the workflow first."
        )
    crate = ROCrate()
    crate.metadata.extra_contexts.append(TERMS)
    described = CrateEntities(crate, plan, Path(plan.config.results), copy=copy)
    described.describe(Path(snakefile), Path(config), done)
    _write(described.crate, out)
    return Written(len(done), len(described.results))


def _has_run(job: Job) -> bool:
    return events_path(job.log).is_file()


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
