"""What the rules ask a cluster for, and how its profile groups them, by dry runs and the plan."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from driftwave.workflow_figures import FIGURES
from driftwave.workflow_fits import Job
from workflow_project import CONFIG, ROOT, Project, make_project

PROFILE = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
GROUPS = dict(entry.split("=") for entry in PROFILE["groups"])
ALL: dict[str, Any] = CONFIG | {
    "simulations": {
        name: CONFIG["simulations"][kind]
        for name, kind in (("one", "lorenz"), ("two", "lorenz"), ("array", "array"))
    },
    "models": {
        "smoothing": {},
        "factor_analysis": {"seeds": 2},
        "oscillators": {},
        "ndt": {"params": {"steps": 10}},
    },
    "decoders": {"lda": {}},
    "geometry": {"shape": {}},
    "encoding": {"plugin": "neural_factors"},
    "detectors": {"plane_fit": {}},
    "activations": {"hidden": {"model": "ndt"}},
    "groups": {"pair": {"sessions": ["one", "two"]}},
    "connectome": {},
    "experiments": {"coverage": {"plugin": "oscillator_coverage"}},
}
ROWS = (
    "one\tone.nwb\tlorenz\t\t",
    "two\ttwo.nwb\tlorenz\t\t",
    "array\tarray.nwb\tarray\toscillators\t",
)
# What makes its own data, so that there is no file to go by.
UNSIZED = {"simulate", "experiment", "experiment_figure"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A configuration that asks for every kind of job."""
    made = make_project(tmp_path_factory.mktemp("cluster") / "project")
    made.configure(ALL, *ROWS)
    return made


# Resources of each job by attempt, in a process of its own, as Snakemake's dry run sees them.
ASK = """
import json, sys
from pathlib import Path
from snakemake.api import OutputSettings, ResourceSettings, SnakemakeApi
from snakemake.settings.types import DAGSettings, Quietness

with SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, dryrun=True)) as api:
    cores = ResourceSettings(cores=8)
    workflow = api.workflow(resource_settings=cores, snakefile=Path("Snakefile"))
    workflow.dag(DAGSettings(forceall=True)).execute_workflow(executor="dryrun")
    told = {}
    for job in workflow._workflow.dag.jobs:
        for attempt in (1, 2) if job.log else ():
            job.attempt = attempt
            told.setdefault(str(job.log[0]), []).append(dict(job.resources.items()))
print("told", json.dumps(told, default=str))
"""


def asked(project: Project) -> dict[str, list[dict[str, Any]]]:
    """Resources of each job, by its log, at the first and the second attempt."""
    answer = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=project.folder,
        env=os.environ | {"PYTHONPATH": str(project.folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"^told (.*)$", answer.stdout, re.MULTILINE)
    assert found, answer.stdout[-3000:] + answer.stderr[-3000:]
    return json.loads(found[1])


@pytest.mark.slow
def test_memory_and_time_grow_with_the_attempt_and_the_file(project: Project) -> None:
    stage_of = {job.log: job.stage for job in project.plan().all_jobs()}
    empty = asked(project)
    assert set(empty) == set(stage_of)
    for name in ("one", "two", "array"):
        nwb = project.folder / "results" / "simulated" / f"{name}.nwb"
        nwb.parent.mkdir(parents=True, exist_ok=True)
        with nwb.open("wb") as file:
            file.truncate(2_000_000_000)  # sparse: takes no place on the disk
    large = asked(project)
    for log, stage in stage_of.items():
        for resource, least in (("mem_mb", 500), ("runtime", 5)):
            first, second = (attempt[resource] for attempt in empty[log])
            assert first >= least, (stage, resource)
            assert second == pytest.approx(2 * first, abs=1), (stage, resource)
            if stage not in UNSIZED:
                assert large[log][0][resource] > first, (stage, resource)
        assert large[log][0]["mem_mb"] <= 32_000, stage
        assert large[log][0]["runtime"] <= 24 * 60, stage
        assert empty[log][0].get("gpu") == (0 if stage == "fit" else None)


@pytest.mark.slow
def test_a_fit_asks_for_a_gpu_that_is_configured_and_used(
    project: Project,
) -> None:
    project.configure(ALL | {"device": "cuda"}, *ROWS)
    gpus = {log: one[0]["gpu"] for log, one in asked(project).items() if "gpu" in one[0]}
    fits = {job.log: job.name for job in project.plan().all_jobs() if job.stage == "fit"}
    assert gpus == {log: int(name == "ndt") for log, name in fits.items()}
    project.configure(ALL, *ROWS)


def rule_of(job: Job) -> str:
    """Name of the rule that runs a planned job."""
    if job.stage == "figure":
        return f"figure_{job.name.split('.')[0]}"
    if job.stage == "group_figure":
        return next(f"figure_{n}" for n, kind in FIGURES.items() if kind.results == "group")
    return job.stage


def test_no_group_is_left_and_entered_again(project: Project) -> None:
    """Merged components of a group run when all that any of them needs is there."""
    jobs = list(project.plan().all_jobs())
    maker = {path: number for number, job in enumerate(jobs) for path in job.outputs}
    # Groups that a job comes after, by a path that has left them.
    left: list[set[str]] = []
    for job in jobs:
        mine = GROUPS.get(rule_of(job), "")
        behind: set[str] = set()
        for number in {maker[path] for path in job.inputs if path in maker}:
            theirs = GROUPS.get(rule_of(jobs[number]), "")
            behind |= left[number] | ({theirs} - {"", mine})
        assert mine not in behind, f"{job.stage} {job.name} comes after its own group {mine}"
        left.append(behind)


def test_the_profile_names_rules_that_are_there() -> None:
    texts = [path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk")]
    rules = {name for text in texts for name in re.findall(r"^rule (\w+):", text, re.MULTILINE)}
    rules |= {f"figure_{name}" for name in FIGURES}
    assert set(GROUPS) <= rules
    assert {f"figure_{name}" for name in FIGURES} <= set(GROUPS)
    components = {entry.split("=")[0] for entry in PROFILE["group-components"]}
    assert components <= set(GROUPS.values())
    taking = {
        name
        for text in texts
        for name, body in re.findall(
            r"^rule (\w+):\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL
        )
        if "turn=1," in body
    }
    assert taking == {name for name in GROUPS if not name.startswith("figure_")}
    figures = [text for text in texts if 'f"figure_{figure}"' in text]
    assert all("turn=1," in text.split('f"figure_{figure}"')[1] for text in figures)


def test_a_group_asks_for_the_memory_of_its_largest_job() -> None:
    """Snakemake's own arithmetic, on a group of three jobs side by side."""
    from snakemake.resources import GroupResources, Resources

    needs = {"mem_mb": 1500, "runtime": 10, "_cores": 1, "turn": 1}
    job = SimpleNamespace(pipe_group=None, resources=needs)
    total = GroupResources.basic_layered(
        [[job, job, job]], Resources.from_mapping({"turn": 1}), run_local=False
    )
    assert (total["mem_mb"], total["runtime"], total["_cores"]) == (1500, 30, 1)
