"""The summary of a run: session x stage, attempts, jobs that died without a word, many jobs."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from driftwave import summary
from driftwave.joblog import born, events_path
from driftwave.summary import Row, matrix, matrix_tsv, summarise, told
from driftwave.summary_page import as_html
from driftwave.workflow_plan import Job


def row(session: str, stage: str, state: str, name: str = "m", **facts: Any) -> Row:
    filled = {"why": "", "seconds": 2.0, "peak_megabytes": 100.0} | facts
    return Row(session, stage, name, state, **filled)


ROWS = [
    row("a", "ingest", "done"),
    row("a", "fit", "done", "m1"),
    row("a", "fit", "failed", "m2", why="units: found <none>.", log="a/logs/fit.m2.log"),
    row("a", "score", "skipped", "m2", seconds=None, peak_megabytes=None),
    row("b", "ingest", "done", peak_megabytes=300.0),
    row("b", "fit", "done", "m1"),
    row("b", "fit", "done", "m2"),
]


def test_sessions_against_stages() -> None:
    stages, cells = matrix(ROWS)
    assert stages == ["ingest", "fit", "score"]
    assert str(cells["a"]["fit"]) == "1 failed, 1 done"
    assert cells["a"]["fit"].worst == "failed"
    assert str(cells["b"]["fit"]) == "2 done"
    assert "score" not in cells["b"]
    assert [line.split("\t") for line in matrix_tsv(ROWS).splitlines()] == [
        ["session", "ingest", "fit", "score", "seconds", "peak_megabytes"],
        ["a", "done", "1 failed, 1 done", "skipped", "6.0", "100.0"],
        ["b", "done", "2 done", "", "6.0", "300.0"],
    ]


def test_the_page_puts_what_failed_first_and_escapes_it() -> None:
    page = as_html(list(reversed(ROWS)))
    assert page.index("session a:") < page.index("session b:")
    assert "found &lt;none&gt;" in page
    assert "a/logs/fit.m2.log" in page
    assert page.index("What failed") < page.index("Every job")
    assert "<details open><summary>session a" in page


def test_a_terminal_is_told_what_failed_and_where_its_log_is() -> None:
    assert told(ROWS).splitlines() == [
        "Jobs: 1 failed, 1 skipped, 5 done.",
        "  failed  a fit m2: units: found <none>. Log: a/logs/fit.m2.log",
    ]
    many = [row("a", "fit", "failed", str(i)) for i in range(14)]
    assert told(many).splitlines()[-1] == "  ... and 4 more."


def job_with(folder: Path, *events: dict[str, Any], output: bool = False) -> Job:
    made = folder / "out.zarr"
    if output:
        made.mkdir(exist_ok=True)
    job = Job("s", "fit", "m", (str(made),), (), str(folder / "fit.m.log"))
    lines = "".join(json.dumps(event) + "\n" for event in events)
    events_path(job.log).write_text(lines, encoding="utf-8")
    return job


def only(job: Job, monkeypatch: pytest.MonkeyPatch) -> Row:
    monkeypatch.setattr(summary, "begun_jobs", lambda _: [])
    plan: Any = SimpleNamespace(
        all_jobs=lambda: [job], left_out={}, config=SimpleNamespace(groups=[]), groups=list
    )
    (found,) = summarise(plan)
    return found


def test_attempts_are_counted_and_the_earlier_ones_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_with(
        tmp_path,
        {"state": "started", "attempt": 1, "host": "node3", "process": 1, "slurm_job": "77"},
        {"state": "running", "peak_megabytes": 3900.0, "wall_seconds": 61.0},
        {"state": "started", "attempt": 2, "host": "node3", "process": 2},
        {"state": "failed", "why": "It was told to stop."},
        {"state": "started", "attempt": 3},
        {"state": "done", "wall_seconds": 5.0, "peak_megabytes": 4100.0},
        output=True,
    )
    found = only(job, monkeypatch)
    assert (found.state, found.attempts, found.peak_megabytes) == ("done", 3, 4100.0)
    assert found.why == (
        "Attempt 1: It stopped without a message after at least 61 s with 3900 MB (SLURM job 77 "
        "on node3; `sacct -j 77` tells): killed (memory or time limit, or by hand). "
        "Attempt 2: It was told to stop."
    )


def test_a_killed_job_failed_and_one_that_runs_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"state": "started", "attempt": 1, "host": socket.gethostname()}
    gone = only(job_with(tmp_path, here | {"process": 2**22 + 1}), monkeypatch)
    assert gone.state == "failed"
    assert "without a message" in gone.why
    assert "still running" not in gone.why
    elsewhere = only(job_with(tmp_path, here | {"host": "x", "process": 1}), monkeypatch)
    assert "still running" in elsewhere.why
    ours = here | {"process": os.getpid(), "born": born(os.getpid())}
    assert only(job_with(tmp_path, ours), monkeypatch).state == "running"
    again = only(job_with(tmp_path, ours | {"born": "1"}), monkeypatch)
    assert again.state == "failed"


@pytest.mark.slow
def test_ten_thousand_jobs_are_summed_up_in_two_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = {"state": "done", "wall_seconds": 5.0, "peak_megabytes": 300.0, "cpu_seconds": 4.0}
    text = json.dumps({"state": "started", "attempt": 1}) + "\n" + json.dumps(done) + "\n"
    jobs = []
    for i in range(10_000):
        folder = tmp_path / f"s{i // 100}"
        folder.mkdir(exist_ok=True)
        log = folder / f"fit.{i}.log"
        events_path(log).write_text(text)
        jobs.append(Job(folder.name, "fit", str(i), (str(folder),), (), str(log)))
    monkeypatch.setattr(summary, "begun_jobs", lambda _: [])
    plan: Any = SimpleNamespace(
        all_jobs=lambda: jobs, left_out={}, config=SimpleNamespace(groups=[]), groups=list
    )
    began = time.process_time()
    rows = summary.write_summary(plan, tmp_path / "summary.tsv")
    spent = time.process_time() - began
    assert len(rows) == 10_000
    assert {r.state for r in rows} == {"done"}
    assert (tmp_path / "summary.html").stat().st_size < 4_000_000
    assert spent < 2
