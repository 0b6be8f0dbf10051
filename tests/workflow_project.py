"""A copy of the workflow with tiny sessions, run for real, shared by the tests that need one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from driftwave.workflow_plan import Plan

ROOT = Path(__file__).resolve().parents[1]

CONFIG: dict[str, Any] = {
    "results": "results",
    "data_root": "results/simulated",
    "sessions": "config/tiny.tsv",
    "layouts": "config/layouts",
    "simulations": {
        "lorenz": {
            "simulator": "lorenz",
            "params": {"conditions": 6, "trials_per_condition": 10, "units": 15, "held_out": 4},
        },
        "array": {
            "simulator": "array",
            "params": {"duration": 20.0, "rows": 6, "columns": 6, "unit_electrodes": 10},
        },
    },
    "models": {
        "smoothing": {"params": {"draws": 1}},
        "factor_analysis": {"params": {"factors": [3], "iterations": 30, "folds": 2}},
        "oscillators": {"params": {"iterations": 5}},
    },
}


@dataclass
class Project:
    """A folder with a copy of the repository's workflow and package."""

    folder: Path

    def configure(self, config: dict[str, Any], *rows: str) -> None:
        """Write the configuration and the session table."""
        lines = ["session\tnwb\tlayout\tmodels\tstages", *rows]
        (self.folder / "config" / "tiny.tsv").write_text("\n".join(lines) + "\n")
        (self.folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))

    def plan(self) -> Plan:
        """The plan of the copy's configuration; its results have relative paths."""
        content = yaml.safe_load((self.folder / "config" / "config.yaml").read_text())
        for key in ("sessions", "layouts"):
            content[key] = str(self.folder / content[key])
        return Plan.read(content)

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Snakemake on the copy; its package is used, not the installed one."""
        scripts = Path(sys.executable).parent
        environment = os.environ | {
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
        }
        answer = subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if check and answer.returncode:
            raise AssertionError(f"snakemake {arguments} failed:\n{answer.stdout[-6000:]}")
        return answer

    def planned(self, *arguments: str) -> list[str]:
        """What a dry run says it would do: the message of each job."""
        answer = self.snakemake("--dry-run", *arguments)
        return re.findall(r"^Job \d+: (.*)$", answer.stdout, flags=re.MULTILINE)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace one passage of a file."""
        file = self.folder / path
        text = file.read_text()
        assert text.count(old) == 1, f"{path} holds {old!r} {text.count(old)} times"
        file.write_text(text.replace(old, new))


def make_project(folder: Path) -> Project:
    """Copy what the workflow consists of."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("workflow", "profiles", "config", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "Snakefile", folder)
    return Project(folder)


_FINISHED: dict[Path, Project | BaseException] = {}


def finished_project(folder: Path) -> Project:
    """A project whose workflow has run, with summary and report; made once for all tests."""
    if folder not in _FINISHED:
        try:
            _FINISHED[folder] = _run_project(make_project(folder))
        except BaseException as error:
            _FINISHED[folder] = error
    made = _FINISHED[folder]
    if isinstance(made, BaseException):
        raise made
    return made


def _run_project(project: Project) -> Project:
    project.configure(
        CONFIG, "lorenz\tlorenz.nwb\tlorenz\t\t", "array\tarray.nwb\tarray\toscillators\t"
    )
    project.snakemake()
    project.snakemake("summary", "--forcerun", "summary")
    project.snakemake("made", "--report", "results/report.html")
    return project
