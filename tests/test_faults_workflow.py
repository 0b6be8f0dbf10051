"""The workflow through faults: after each, a run ends with the results of an undisturbed one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from driftwave.store import verify_store
from fault_cases import HELD, assert_same, flip, partial, wait_for
from workflow_project import CONFIG, Project, make_project

pytestmark = pytest.mark.slow

MODELS = {"smoothing": CONFIG["models"]["smoothing"]}
RECORDING = "results/lorenz/recording.zarr"
LATENTS = "results/lorenz/models/smoothing/latents.zarr"
SCORES = "results/lorenz/scores/smoothing.tsv"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Four jobs that ran undisturbed: simulate, ingest, fit, score."""
    project = make_project(tmp_path_factory.mktemp("undisturbed") / "project")
    project.configure(CONFIG | {"models": MODELS}, "lorenz\tlorenz.nwb\tlorenz\t\tfit")
    project.snakemake(SCORES)
    return project


@pytest.fixture
def project(undisturbed: Project, tmp_path: Path) -> Project:
    """A copy of the folder as it was left, results and Snakemake's records included."""
    return Project(Path(shutil.copytree(undisturbed.folder, tmp_path / "project", symlinks=True)))


def scores(project: Project) -> list[str]:
    """Lines of the table of scores, but for the cost of the fit."""
    lines = (project.folder / SCORES).read_text().splitlines()
    return [line for line in lines if "\tcpu_seconds\t" not in line]


def assert_undisturbed(project: Project, undisturbed: Project) -> None:
    for store in (RECORDING, LATENTS):
        assert_same(project.folder / store, undisturbed.folder / store)
        assert verify_store(project.folder / store) == []
    assert scores(project) == scores(undisturbed)
    assert partial(project.folder / "results") == []


def forget_fit(project: Project) -> None:
    """Take away the fit and what follows from it."""
    shutil.rmtree(project.folder / "results/lorenz/models")
    (project.folder / SCORES).unlink()


def start_held_in_fit(project: Project, mark: Path) -> subprocess.Popen[str]:
    """Start Snakemake; its fit stops with half of a chunk written."""
    tools = mark.parent / "bin"
    tools.mkdir()
    (tools / "held.py").write_text(HELD)
    (tools / "driftwave").write_text(
        f"#!/bin/sh\n"
        f'if [ "$1" = fit ]; then exec {sys.executable} {tools}/held.py chunk {mark} "$@"; fi\n'
        f'exec {sys.executable} -m driftwave.cli "$@"\n'
    )
    (tools / "driftwave").chmod(0o755)
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    head = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "2", SCORES],
        cwd=project.folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(project.folder / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for(mark, head)
    return head


def jobs_of(head: int) -> list[int]:
    """Processes below Snakemake that hold a chunk."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "-o", "args=", "-ww", "-g", str(head)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    lines = [line.strip().split(maxsplit=1) for line in found if "held.py" in line]
    return [int(pid) for pid, command in lines if command.startswith(sys.executable)]


def wait_until_gone(pids: list[int]) -> None:
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_head_is_killed_and_its_orphan_writes_on(
    project: Project, undisturbed: Project, tmp_path: Path
) -> None:
    forget_fit(project)
    mark = tmp_path / "mark"
    head = start_held_in_fit(project, mark)
    orphans = jobs_of(head.pid)
    assert len(orphans) == 1
    head.send_signal(signal.SIGKILL)  # the head alone; its job lives on
    head.wait()
    assert head.stdout is not None
    head.stdout.close()
    locked = project.snakemake(SCORES, check=False)
    assert locked.returncode != 0
    assert "--unlock" in locked.stdout
    project.snakemake("--unlock")
    project.snakemake("--rerun-incomplete", SCORES)
    assert_same(project.folder / LATENTS, undisturbed.folder / LATENTS)
    mark.unlink()
    wait_until_gone(orphans)
    assert_undisturbed(project, undisturbed)
    # The orphan's store is younger than the scores, which a further run makes again.
    project.snakemake(SCORES)
    assert_undisturbed(project, undisturbed)
    assert project.planned(SCORES) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_job_that_dies_is_run_again(
    project: Project, undisturbed: Project, tmp_path: Path, how: signal.Signals
) -> None:
    """SIGKILL as an out-of-memory killer sends it to the job; SIGINT as Ctrl-C to the group."""
    forget_fit(project)
    head = start_held_in_fit(project, tmp_path / "mark")
    if how is signal.SIGKILL:
        for pid in jobs_of(head.pid):
            os.kill(pid, how)
    else:
        os.killpg(head.pid, how)
    shown = head.communicate()[0]
    assert head.returncode != 0, shown
    assert not (project.folder / LATENTS).exists()
    assert not (project.folder / SCORES).exists()
    project.snakemake("--rerun-incomplete", SCORES)
    assert_undisturbed(project, undisturbed)


def test_a_damaged_store_is_found_deleted_and_made_again(
    project: Project, undisturbed: Project
) -> None:
    flip(project.folder / RECORDING / "spikes/counts/c/0/0/0", 4000)
    verify = [sys.executable, "-m", "driftwave.cli", "verify", str(project.folder / "results")]
    answer = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    damaged = [line for line in answer.stdout.splitlines() if line.startswith("damaged")]
    assert len(damaged) == 1
    assert f"store {project.folder / RECORDING}: spikes/counts/c/0/0/0" in damaged[0]
    shutil.rmtree(project.folder / RECORDING)
    # Snakemake makes nothing again that only others were made from, unless it is named.
    assert project.planned(SCORES) == []
    project.snakemake(RECORDING, SCORES)
    assert_undisturbed(project, undisturbed)


def test_an_input_that_vanishes_is_told_before_any_job(project: Project) -> None:
    config = project.folder / "config" / "config.yaml"
    config.write_text(config.read_text().replace("results/simulated", "given"))
    shutil.copytree(project.folder / "results" / "simulated", project.folder / "given")
    project.configure(
        CONFIG | {"models": MODELS, "data_root": "given", "simulations": {}},
        "lorenz\tlorenz.nwb\tlorenz\t\tfit",
    )
    assert project.planned(SCORES)
    (project.folder / "given" / "lorenz.nwb").unlink()
    answer = project.snakemake("--dry-run", SCORES, check=False)
    assert answer.returncode != 0
    assert "lorenz.nwb" in answer.stdout
    assert "Traceback" not in answer.stdout


def test_a_rerun_that_fails_leaves_no_stale_result(project: Project, undisturbed: Project) -> None:
    """Snakemake removes what it is about to make again; a result of other settings is not left."""
    config = project.folder / "config" / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("draws: 1", "draws: 2"))
    flip(project.folder / RECORDING / "spikes/counts/c/0/0/0", 4000)
    assert project.snakemake(SCORES, check=False).returncode != 0
    assert not (project.folder / LATENTS).exists()
    config.write_text(text)
    flip(project.folder / RECORDING / "spikes/counts/c/0/0/0", 4000)
    project.snakemake(SCORES)
    assert_undisturbed(project, undisturbed)


def test_results_on_another_disk_through_a_link(
    project: Project, undisturbed: Project, tmp_path: Path
) -> None:
    shutil.move(project.folder / "results", tmp_path / "elsewhere")
    (project.folder / "results").symlink_to(tmp_path / "elsewhere")
    assert project.planned(SCORES) == []
    forget_fit(project)
    project.snakemake(SCORES)
    assert_undisturbed(project, undisturbed)
    assert (project.folder / "results").is_symlink()
