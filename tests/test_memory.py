"""How much memory a job has, and what is told of one that has too little."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from driftwave import isolation, memory
from driftwave.errors import InputError
from driftwave.ingest.file import NwbFile, explained


@pytest.mark.parametrize(
    ("own", "folder", "name"),
    [
        ("0::/system.slice/job_7/step_0/task_1\n", "system.slice/job_7", "memory.max"),
        (
            "9:cpu,cpuacct:/slurm/job_7\n4:memory:/slurm/uid_0/job_7/step_0\n",
            "memory/slurm/uid_0/job_7",
            "memory.limit_in_bytes",
        ),
        ("0::/\n", ".", "memory.max"),
    ],
    ids=["version 2", "version 1", "container"],
)
def test_the_limit_is_that_of_the_jobs_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, folder: str, name: str
) -> None:
    place = tmp_path / "cgroup" / folder
    (place / "step_0").mkdir(parents=True)
    (place / name).write_text("123000000\n")
    (place / "step_0" / name).write_text("max\n")
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.delenv(memory.VARIABLE, raising=False)
    assert memory.memory_limit() == 123_000_000
    (place / name).write_text("max\n")
    assert memory.memory_limit() > 123_000_000


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("Unable to allocate 9 TiB"), "take more than the memory of this job"),
        (AttributeError("no attribute 'data'"), "may be a fault of driftwave, so report it"),
    ],
)
def test_what_is_raised_anywhere_in_reading_is_explained(error: Exception, words: str) -> None:
    def fault(field: str, found: object, expected: object, fix: str) -> InputError:
        return InputError(file="a.nwb", field=field, found=found, expected=expected, fix=fix)

    file: NwbFile = SimpleNamespace(fault=fault)  # type: ignore[assignment]
    with pytest.raises(InputError, match=words), explained(file):
        raise error


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--layout", "l.yaml", "--session", "s", "a.nwb"], "a.nwb: "),
        (["--force", "https://host/a?token=abc"], "https://host/a?token=...: "),
        (["recording"], "recording: "),
        ([], "the file: "),
    ],
)
def test_a_death_names_the_file_and_no_secret(arguments: list[str], named: str) -> None:
    said = isolation.death_sentence(["ingest", *arguments], signal.SIGSEGV)
    assert said.startswith(named)
    assert "abc" not in said
