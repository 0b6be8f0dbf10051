"""A SLURM of one node for the tests, or the reason why there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "slurm"
NEEDED = {
    "plain": ("slurmctld", "slurmd", "munged", "sbatch", "squeue"),
    "accounting": ("slurmctld", "slurmd", "munged", "sbatch", "slurmdbd", "mariadbd", "sacct"),
}


def start(mode: str) -> None:
    """Start SLURM with (``accounting``) or without (``plain``) a database, or skip the test."""
    places = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    missing = [name for name in NEEDED[mode] if shutil.which(name, path=places) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; .ci/run names the packages")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons are started by root only")
    answer = subprocess.run(
        [FOLDER / "start.sh", mode], capture_output=True, text=True, check=False, timeout=180
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def stop() -> None:
    """End the daemons."""
    subprocess.run([FOLDER / "stop.sh"], check=True, timeout=120)


def accounted(*columns: str) -> list[dict[str, str]]:
    """Every job and step that the accounting database knows, one mapping per line of sacct."""
    answer = subprocess.run(
        ["sacct", "--parsable2", "--format", ",".join(columns)],
        capture_output=True,
        text=True,
        check=True,
    )
    heads, *lines = answer.stdout.splitlines()
    return [dict(zip(heads.split("|"), line.split("|"), strict=True)) for line in lines]
