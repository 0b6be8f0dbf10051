"""Remote execution without a scheduler: jobs of any cluster whose submit command is a script."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from workflow_project import CONFIG, Project, make_project

SUBMIT = """#!/bin/bash
# Runs the job script given last, away from the shell that submitted it, and prints a number for it.
folder=$1
script=${@: -1}
cp "$script" "$folder/$$.sh"
(
    cd /
    env -i HOME="$HOME" PATH=/usr/bin:/bin \\
        setsid bash -c 'echo $$ > "$1.leader"; bash "$1.sh"' job "$folder/$$" \\
        > "$folder/$$.out" 2>&1
    echo $? > "$folder/$$.status"
) > /dev/null 2>&1 &
echo $$
"""
STATUS = """#!/bin/bash
status=$1/$2.status
if [ ! -s "$status" ]; then echo running; exit; fi
if [ "$(cat "$status")" = 0 ]; then echo success; else echo failed; fi
"""
CANCEL = """#!/bin/bash
folder=$1
shift
for job in "$@"; do kill -- -"$(cat "$folder/$job.leader")"; done
"""
ONE = CONFIG | {"models": {"smoothing": CONFIG["models"]["smoothing"]}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project in a folder whose name has a space, with a cluster of three scripts."""
    made = make_project(tmp_path / "my project")
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    for name, text in (("submit", SUBMIT), ("status", STATUS), ("cancel", CANCEL)):
        script = tmp_path / name
        script.write_text(text)
        script.chmod(0o755)
    return made


def generic(project: Project, *arguments: str, check: bool = True) -> str:
    """Run Snakemake with the three scripts as its cluster."""
    home = project.folder.parent
    options = {
        "submit": f"{home / 'submit'} {home / 'jobs'}",
        "status": f"{home / 'status'} {home / 'jobs'}",
        "cancel": f"{home / 'cancel'} {home / 'jobs'}",
    }
    cluster = [f"--cluster-generic-{name}-cmd={command}" for name, command in options.items()]
    return project.snakemake(
        *arguments, "--executor", "cluster-generic", "--jobs", "2", *cluster, check=check
    ).stdout


@pytest.mark.slow
def test_a_session_through_a_submit_script(project: Project) -> None:
    """Neither the environment nor the working folder of the submitting shell reaches the jobs."""
    project.configure(ONE, "wrong\tlorenz.nwb\tlorenz\t\tfit")
    (project.folder / "config" / "other.yaml").write_text(
        yaml.safe_dump(ONE | {"sessions": "config/other.tsv", "results": "unused"})
    )
    (project.folder / "config" / "other.tsv").write_text(
        "session\tnwb\tlayout\tmodels\tstages\nmine\tlorenz.nwb\tlorenz\t\tfit\n"
    )
    told = generic(
        project,
        "results/mine/comparison.tsv",
        "--configfile",
        "config/other.yaml",
        "--config",
        "results=results",
        "data_root=results/simulated",
    )
    table = pd.read_csv(project.folder / "results" / "mine" / "comparison.tsv", sep="\t")
    assert {"smoothing"} <= set(table["model"])
    scripts = list((project.folder.parent / "jobs").glob("*.sh"))
    assert len(scripts) == told.count("external jobid") == 5
    assert not (project.folder / "results" / "wrong").exists()
    assert not (project.folder / "unused").exists()
