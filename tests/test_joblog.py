"""A job's log tells how it ended, whatever the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from driftwave.errors import InputError
from driftwave.joblog import job_log, note


def events(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_finished_job_is_done_and_has_its_cost(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.jsonl"
    with job_log(path, "fit"):
        sum(range(2_000_000))
    first, last = events(path)
    assert (first["state"], last["state"]) == ("started", "done")
    assert first["stage"] == last["stage"] == "fit"
    assert 0 < last["cpu_seconds"] < 5
    assert last["wall_seconds"] > 0
    assert 10 < last["peak_megabytes"] < 100_000


def test_what_is_noted_is_said_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with job_log(tmp_path / "a.jsonl", "fit"):
        note("m: training diverged.")
    assert events(tmp_path / "a.jsonl")[-1]["notes"] == ["m: training diverged."]
    with job_log(tmp_path / "b.jsonl", "fit"):
        pass
    assert "notes" not in events(tmp_path / "b.jsonl")[-1]
    note("outside a job")
    assert capsys.readouterr().err == "Note: m: training diverged.\nNote: outside a job\n"


def test_a_fault_of_the_input_is_told_in_its_sentence(tmp_path: Path) -> None:
    error = InputError(file="a.nwb", field="units", found="none", expected="some", fix="Add some")
    with pytest.raises(InputError), job_log(tmp_path / "a.jsonl", "ingest"):
        raise error
    last = events(tmp_path / "a.jsonl")[-1]
    assert (last["state"], last["why"]) == ("failed", str(error))
    assert "traceback" not in last


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("by zero"), KeyboardInterrupt(), SystemExit(3)]
)
def test_any_other_fault_is_told_with_its_traceback(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), job_log(tmp_path / "a.jsonl", "fit"):
        raise error
    last = events(tmp_path / "a.jsonl")[-1]
    assert last["state"] == "failed"
    assert last["why"].startswith(type(error).__name__)
    assert "Traceback" in last["traceback"]


def test_a_second_run_starts_a_new_log(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), job_log(tmp_path / "a.jsonl", "fit"):
        raise ZeroDivisionError
    with job_log(tmp_path / "a.jsonl", "fit"):
        pass
    assert [event["state"] for event in events(tmp_path / "a.jsonl")] == ["started", "done"]


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with job_log(None, "fit"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_logs_its_failure_and_ends_with_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "driftwave.cli", "score", "no.zarr", "none.zarr"]
    command += ["--out", "a.tsv", "--log", "logs/a.jsonl"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.startswith("Error: no.zarr: store: found no such folder")
    assert "Traceback" not in answer.stderr
    last = events(tmp_path / "logs" / "a.jsonl")[-1]
    assert last["stage"] == "score"
    assert last["state"] == "failed"
    assert f"Error: {last['why']}" in answer.stderr
    assert not (tmp_path / "a.tsv").exists()
