"""The workflow on a real SLURM of one node, with and without its accounting database."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xarray as xr

from driftwave.encoding import neural_factors
from driftwave.store import open_dataset
from slurm_node import accounted, start, stop
from workflow_project import CONFIG, Project, make_project

pytestmark = pytest.mark.slow

PROFILE = ("--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "3")
WITH_ACCOUNT = ("--default-resources", "slurm_account=lab", "slurm_partition=main")
GREEDY = '''"""A model that takes too much memory, or at its first attempt too much time."""

import time
from pathlib import Path

from driftwave.models import smoothing

OBSERVES = "spikes"
USES_DEVICE = True
Fit = smoothing.Fit


class Params(smoothing.Params):
    """What it takes."""

    megabytes: int = 1
    once: str = ""


def fit(recording, params, *, seed, device="cpu", progress=None, checkpoint=None):
    """Hold memory for longer than SLURM takes to look at it, or sleep once."""
    if params.once and not Path(params.once).exists():
        Path(params.once).write_text("")
        time.sleep(600)
    held = b"1" * (params.megabytes * 10**6)
    if len(held) > 10**6:
        time.sleep(8)
    own = smoothing.Params(**params.model_dump(exclude={"megabytes", "once"}))
    return smoothing.fit(recording, own, seed=seed, device="cpu", progress=None, checkpoint=None)
'''


@pytest.fixture(autouse=True, scope="module")
def _ended() -> Iterator[None]:
    yield
    stop()


def run(project: Project, *arguments: str, check: bool = True) -> str:
    """Run the workflow through the profile and the options that the cluster allows."""
    options = subprocess.run(
        [project.folder / "profiles" / "slurm" / "accounting.sh"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    began = time.monotonic()
    told = project.snakemake(*PROFILE, *options, *arguments, check=check).stdout
    print(f"{time.monotonic() - began:.0f} s, {told.count('SLURM jobid')} SLURM jobs")
    return told


def summary(project: Project) -> pd.DataFrame:
    """The table at the end of a run."""
    project.snakemake("summary", "--forcerun", "summary")
    return pd.read_csv(project.folder / "results" / "summary.tsv", sep="\t")


def nothing_partial(project: Project) -> bool:
    """Whether no file or folder is left that was still being written."""
    return not list((project.folder / "results").rglob("*partial*"))


def test_the_whole_demo_with_accounting(tmp_path: Path) -> None:
    start("accounting")
    project = make_project(tmp_path / "demo")
    told = run(project, *WITH_ACCOUNT)
    table = summary(project)
    assert set(table["state"]) == {"done"}, table[table["state"] != "done"].to_string()
    assert len(table) == len(list(project.plan().all_jobs()))
    assert nothing_partial(project)
    submitted = len(re.findall(r"with SLURM jobid \d+", told))
    assert submitted < len(table) / 2, f"{submitted} SLURM jobs for {len(table)} of the workflow"
    jobs = [job for job in accounted("JobID", "Account", "State") if job["JobID"].isdigit()]
    assert {job["Account"] for job in jobs[-submitted:]} == {"lab"}
    assert {job["State"] for job in jobs[-submitted:]} == {"COMPLETED"}
    reports = list((project.folder / ".snakemake" / "slurm_efficiency").glob("*.csv"))
    assert len(pd.read_csv(reports[0])) >= submitted


LORENZ_ONLY = {"lorenz": CONFIG["simulations"]["lorenz"]}


def test_memory_and_time_are_raised_after_a_kill(tmp_path: Path) -> None:
    """Too much memory or time at the first attempt, enough at the second; fits hold a GPU."""
    start("accounting")
    project = make_project(tmp_path / "greedy")
    (project.folder / "src" / "driftwave" / "models" / "greedy.py").write_text(GREEDY)
    greedy = {"plugin": "greedy", "params": {"draws": 1}}
    models = {
        "hungry": greedy | {"params": {"draws": 1, "megabytes": 1100}},
        "slow": greedy | {"params": {"draws": 1, "once": str(tmp_path / "marker")}},
    }
    asked = CONFIG | {"simulations": LORENZ_ONLY, "models": models, "device": "cuda"}
    project.configure(asked, "lorenz\tlorenz.nwb\tlorenz\t\tfit")
    limits = ("--set-resources", "fit:mem_mb=1000*attempt", "fit:runtime=attempt")
    scored = [f"results/lorenz/scores/{model}.tsv" for model in models]
    before = len(accounted("JobID", "State"))
    told = run(project, *scored, *limits)
    states = accounted("JobID", "State", "ReqMem", "Timelimit", "AllocTRES", "MaxRSS")[before:]
    print(told[-6000:], *states, sep="\n")
    jobs = [job for job in states if job["JobID"].isdigit()]
    ended = {job["State"].split()[0]: job for job in jobs}
    # Where memory is polled, a job killed for it counts as failed; with cgroups, as out of memory.
    assert ended["FAILED"]["ReqMem"] == "1000M"
    assert ended["TIMEOUT"]["Timelimit"] == "00:01:00"
    logs = (project.folder / ".snakemake" / "slurm_logs").rglob("*.log")
    assert "exceeded memory limit" in "".join(log.read_text() for log in logs)
    fits = [job for job in jobs if "gres/gpu=1" in job["AllocTRES"]]
    done = [job for job in fits if job["State"] == "COMPLETED"]
    assert len(fits) == 4
    assert [(job["ReqMem"], job["Timelimit"]) for job in done] == [("2000M", "00:02:00")] * 2
    table = summary(project)
    rows = table[table["stage"] == "fit"].set_index("name")
    print(rows.to_string())
    assert set(rows["state"]) == {"done"}
    assert set(rows["attempts"]) == {2}
    assert rows["why"].str.contains("SLURM job|SIGTERM").all()
    assert nothing_partial(project)
    for model in models:
        assert not (project.folder / "results/lorenz/models" / model / "fit.checkpoint").exists()


def test_one_job_on_workers_that_it_asks_slurm_for(tmp_path: Path) -> None:
    """dask-jobqueue from inside a job of the workflow, beside the same job on its own threads."""
    pytest.importorskip("dask_jobqueue")
    start("plain")
    project = make_project(tmp_path / "large")
    simulations = {"array": CONFIG["simulations"]["array"]}
    here = CONFIG | {"simulations": simulations}
    here |= {"waves": {"plugin": "plane_fit", "params": {"surrogates": 9}}}
    rows = ("array\tarray.nwb\tarray\toscillators\twaves",)
    found = project.folder / "results/array/waves/recording.zarr"
    project.configure(here, *rows)
    project.snakemake(str(found.relative_to(project.folder)))
    alone = open_dataset(found).load()
    workers = {"scheduler": "slurm", "workers": 1, "memory": "2GB", "timeout": 120}
    project.configure(here | {"dask": workers}, *rows)
    run(project, str(found.relative_to(project.folder)), "--forcerun", "waves")
    logs = list((project.folder / "results" / "logs" / "dask").glob("*.out"))
    assert logs, "no worker has run"
    xr.testing.assert_identical(alone.drop_attrs(), open_dataset(found).load().drop_attrs())


QUICK: dict[str, Any] = CONFIG | {
    "models": {name: CONFIG["models"][name] for name in ("smoothing", "oscillators")},
    "decoding": {"plugin": "ridge", "params": {"shuffles": 19}},
    "decoders": {"lda": {"params": {"shuffles": 19}}},
    "geometry": {"shape": {}},
    "encoding": {"plugin": "neural_factors", "params": neural_factors.QUICK},
    "detectors": {"plane_fit": {"params": {"surrogates": 9}}},
}
ROWS = ("lorenz\tlorenz.nwb\tlorenz\t\t", "array\tarray.nwb\tarray\toscillators\twaves,fit")


def test_every_kind_of_job_without_accounting(tmp_path: Path) -> None:
    start("plain")
    project = make_project(tmp_path / "quick")
    demo = {job.stage for job in project.plan().all_jobs()}
    project.configure(QUICK, *ROWS)
    assert demo <= {job.stage for job in project.plan().all_jobs()}
    run(project)
    table = summary(project)
    assert set(table["state"]) == {"done"}, table[table["state"] != "done"].to_string()
    assert nothing_partial(project)
