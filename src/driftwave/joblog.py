"""A job's log: a text that people read, and beside it the events that the summary reads.

``fit.gpfa.log`` holds what the job said, line by line, how it ended and what it cost;
``fit.gpfa.jsonl`` holds one JSON event per line: started, running, done or failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from driftwave import __version__
from driftwave.address import shown_command
from driftwave.compute import Clock
from driftwave.errors import DriftwaveError

KEPT_ATTEMPTS = 20
_LOOK_SECONDS = 2.0  # how often a job's memory is looked at while it runs
_GROWTH = 1.25  # by how much memory or time grows before it is written down again
_NOTES: ContextVar[list[str] | None] = ContextVar("notes", default=None)


class Terminated(BaseException):
    """The job was told to stop (SIGTERM): by a scheduler's time limit, Snakemake or a person."""


def note(sentence: str) -> None:
    """Say, on stderr and in the log, what a user should know of a job that ends well."""
    print(f"Note: {sentence}", file=sys.stderr, flush=True)
    notes = _NOTES.get()
    if notes is not None:
        notes.append(sentence)


def log_line(text: str) -> None:
    """Write a line into the log of the job that runs, if one is kept, and nowhere else."""
    log = _LOG.get()
    if log is not None:
        log.say(text)


def events_path(log: str | Path) -> Path:
    """Where the events of a log lie."""
    return Path(log).with_suffix(".jsonl")


def text_path(log: str | Path) -> Path:
    """Where the text of a log lies."""
    log = Path(log)
    return log.with_suffix(".log") if log.suffix == ".jsonl" else log


def read_attempts(log: str | Path) -> list[list[dict[str, Any]]]:
    """Events of a log by attempt, oldest first; empty without a log."""
    try:
        lines = events_path(log).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    attempts: list[list[dict[str, Any]]] = []
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:  # a job killed while it wrote its line
            continue
        if not isinstance(event, dict):
            continue
        if event.get("state") == "started" or not attempts:
            attempts.append([])
        attempts[-1].append(event)
    return attempts


@contextlib.contextmanager
def job_log(path: str | Path | None, stage: str) -> Iterator[None]:
    """Log a job to ``path`` (text) and its events beside it; errors pass through.

    The last event tells the state of the job: ``done`` or ``failed``, with the sentence the user
    was shown, what was noted by :func:`note`, CPU and wall seconds and peak memory (MB). Attempts
    that failed or were killed stay in the log until one has ended well.
    """
    if path is None:
        yield
        return
    log = _Log(Path(path), stage)
    notes: list[str] = []
    token = _NOTES.set(notes)
    try:
        with log.begun(), _told_to_stop():
            yield
    except DriftwaveError as error:
        # What a sentence was made of helps those who know the code.
        cause = {"cause": traceback.format_exc()} if error.__cause__ is not None else {}
        log.end("failed", why=str(error), **cause)
        raise
    except Terminated:
        log.end("failed", why="It was told to stop (SIGTERM): time limit, or by hand.")
        # The status that a shell gives to a process ended by SIGTERM.
        raise SystemExit(128 + signal.SIGTERM) from None
    except BaseException as error:
        trace = traceback.format_exc()
        log.end("failed", why=f"{type(error).__name__}: {error}", traceback=trace)
        raise
    finally:
        _NOTES.reset(token)
    log.end("done", **({"notes": notes} if notes else {}))


@contextlib.contextmanager
def _told_to_stop() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that the log tells of it and nothing partial is left."""

    def stop(*_: object) -> None:
        raise Terminated

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def born(process: int) -> str:
    """When a process of this machine started (Linux: ticks since boot); empty if there is none.

    Numbers of processes are used again; with its start a process is known for certain.
    """
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def peak_megabytes() -> float:
    """Peak memory of this process or of its largest child, MB.

    Not their sum: a child that this process starts is charged with this process's memory until it
    runs a program of its own.
    """
    usage = (resource.getrusage(who).ru_maxrss for who in _BOTH)
    return max(usage) / (1024**2 if sys.platform == "darwin" else 1024)  # bytes there, else kB


_BOTH = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


class _Log:
    """The two files of a job's log."""

    def __init__(self, path: Path, stage: str) -> None:
        self.events, self.text, self.stage = events_path(path), text_path(path), stage
        self.events.parent.mkdir(parents=True, exist_ok=True)
        self.clock = Clock.start()
        earlier = read_attempts(path)
        if earlier and earlier[-1][-1].get("state") == "done":
            earlier = []
        self.attempt = 1 + int(earlier[-1][0].get("attempt", len(earlier))) if earlier else 1
        self._keep(earlier[-KEPT_ATTEMPTS:])
        self._lock = threading.Lock()

    def _keep(self, attempts: list[list[dict[str, Any]]]) -> None:
        lines = [json.dumps(event) + "\n" for attempt in attempts for event in attempt]
        self.events.write_text("".join(lines), encoding="utf-8")
        if not attempts:
            self.text.write_text("", encoding="utf-8")

    def event(self, state: str, **facts: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "stage": self.stage, "state": state, **facts})
        with self._lock, self.events.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def say(self, text: str) -> None:
        """Lines of text, each with the time of day (UTC)."""
        now = datetime.now(UTC).strftime("%H:%M:%S")
        with self.text.open("a", encoding="utf-8") as file:
            file.writelines(f"{now}  {line}\n" for line in text.splitlines())

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """The job's stderr also goes to the text; its memory is looked at while it runs."""
        own = os.getpid()
        place = {"host": socket.gethostname(), "process": own, "born": born(own)}
        slurm = {"slurm_job": os.environ["SLURM_JOB_ID"]} if "SLURM_JOB_ID" in os.environ else {}
        self.event(
            "started", attempt=self.attempt, command=shown_command(sys.argv[1:]), **place, **slurm
        )
        self._say_head(place | slurm)
        stderr = sys.stderr
        ended = threading.Event()
        # The memory it starts from is taken here: the thread may begin when the job has its own.
        begin = peak_megabytes()
        looking = threading.Thread(target=self._look, args=(ended, begin), daemon=True)
        looking.start()
        sys.stderr = _Tee(stderr, self)
        token = _LOG.set(self)
        try:
            yield
        finally:
            _LOG.reset(token)
            sys.stderr = stderr
            ended.set()
            looking.join()

    def _say_head(self, place: dict[str, Any]) -> None:
        from driftwave.provenance import git_state, packages

        versions = packages()
        known = ", ".join(f"{k} {versions[k]}" for k in ("python", "numpy", "torch", "xarray"))
        own = f"driftwave {__version__} ({git_state()})"
        nth = f", attempt {self.attempt}" if self.attempt > 1 else ""
        where = f"job {place['slurm_job']} on " if "slurm_job" in place else ""
        self.say(
            f"{datetime.now(UTC):%Y-%m-%d} (UTC){nth}: {self.stage}\n"
            f"driftwave {' '.join(shown_command(sys.argv[1:]))}\n"
            f"{own}, {known}; {where}{place['host']}, process {place['process']}"
        )

    def _look(self, ended: threading.Event, memory: float) -> None:
        """Write memory and time down as they grow, for a job that is killed without a word."""
        seconds = 10.0
        while not ended.wait(_LOOK_SECONDS):
            if peak_megabytes() >= _GROWTH * memory or self.clock.wall_seconds >= seconds:
                memory, seconds = peak_megabytes(), 2 * self.clock.wall_seconds
                self.event("running", **self.cost())

    def cost(self) -> dict[str, float]:
        return {
            "cpu_seconds": round(self.clock.cpu_seconds, 2),
            "wall_seconds": round(self.clock.wall_seconds, 2),
            "peak_megabytes": round(peak_megabytes(), 1),
        }

    def end(self, state: str, **facts: Any) -> None:
        cost = self.cost()
        self.event(state, **facts, **cost)
        self.say(facts.get("traceback", "").rstrip() or facts.get("why", ""))
        wall, cpu = cost["wall_seconds"], cost["cpu_seconds"]
        self.say(
            f"{state.capitalize()} after {wall:.1f} s (CPU {cpu:.1f} s), "
            f"peak memory {cost['peak_megabytes']:.0f} MB."
        )


_LOG: ContextVar[_Log | None] = ContextVar("log", default=None)


class _Tee:
    """A stream whose lines also go to the log; redrawn lines (a progress bar) do not."""

    def __init__(self, stream: TextIO, log: _Log) -> None:
        self._stream, self._log, self._rest = stream, log, ""

    def write(self, text: str) -> int:
        if "\r" not in text:
            *lines, self._rest = (self._rest + text).split("\n")
            self._log.say("\n".join(lines))
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
