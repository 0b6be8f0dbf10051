"""A job's log tells how it ended, whatever the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from driftwave.errors import InputError
from driftwave.joblog import KEPT_ATTEMPTS, job_log, log_line, note, read_attempts


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


def test_attempts_stay_in_the_log_until_one_ends_well(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), job_log(log, "fit"):
            raise ZeroDivisionError("by zero")
    with job_log(log, "fit"):
        pass
    attempts = read_attempts(log)
    assert [attempt[-1]["state"] for attempt in attempts] == ["failed", "failed", "done"]
    assert [attempt[0]["attempt"] for attempt in attempts] == [1, 2, 3]
    text = log.read_text()
    assert text.count("ZeroDivisionError: by zero") == 2
    assert ", attempt 3: fit" in text
    with job_log(log, "fit"):
        pass
    assert [attempt[-1]["state"] for attempt in read_attempts(log)] == ["done"]
    assert "ZeroDivisionError" not in log.read_text()


def test_no_more_than_some_attempts_are_kept(tmp_path: Path) -> None:
    for _ in range(KEPT_ATTEMPTS + 3):
        with pytest.raises(ZeroDivisionError), job_log(tmp_path / "a.log", "fit"):
            raise ZeroDivisionError
    attempts = read_attempts(tmp_path / "a.log")
    assert len(attempts) == KEPT_ATTEMPTS + 1
    assert attempts[-1][0]["attempt"] == KEPT_ATTEMPTS + 3


def test_the_text_tells_what_the_job_said_and_how_it_ended(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "fit.m.log"

    def job() -> None:
        note("m: few trials.")
        print("lorenz: 1/2 loss 3", file=sys.stderr)
        print("bar\r", end="", file=sys.stderr)
        log_line("lorenz: 2/2 loss 2")
        raise InputError(file="a.nwb", field="units", found="none", expected="some", fix="Add")

    with pytest.raises(InputError), job_log(log, "fit"):
        job()
    lines = [line[10:] for line in log.read_text().splitlines()]
    assert lines[0].endswith("(UTC): fit")
    assert lines[1].startswith("driftwave ")
    assert "numpy" in lines[2]
    assert lines[3:5] == ["Note: m: few trials.", "lorenz: 1/2 loss 3"]
    assert lines[5] == "lorenz: 2/2 loss 2"
    assert lines[6].startswith("a.nwb: units: found none")
    assert lines[7].startswith("Failed after ")
    assert "peak memory" in lines[7]


def test_stderr_is_given_back(tmp_path: Path) -> None:
    before = sys.stderr
    with job_log(tmp_path / "a.log", "fit"):
        assert sys.stderr is not before
        assert sys.stderr.isatty() == before.isatty()
    assert sys.stderr is before


KILLED = """
import os, sys, time
from driftwave import joblog
joblog._LOOK_SECONDS = 0.05
with joblog.job_log("a.log", "fit"):
    taken = bytearray(400_000_000)
    print("ready", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_job_leaves_what_is_known(tmp_path: Path, how: signal.Signals) -> None:
    job = subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "ready\n"
    until = time.monotonic() + 20
    while events(tmp_path / "a.jsonl")[-1]["state"] != "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    job.send_signal(how)
    job.wait(20)
    job.stdout.close()
    last = events(tmp_path / "a.jsonl")[-1]
    assert last["peak_megabytes"] > 400
    if how == signal.SIGTERM:
        assert job.returncode == 143
        assert last["state"] == "failed"
        assert "told to stop" in last["why"]
    else:
        assert last["state"] == "running"


def test_the_memory_of_a_child_counts(tmp_path: Path) -> None:
    big = "import sys; x = bytearray(700_000_000)"
    with job_log(tmp_path / "a.log", "film"):
        subprocess.run([sys.executable, "-c", big], check=True)
    assert events(tmp_path / "a.jsonl")[-1]["peak_megabytes"] > 600


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
