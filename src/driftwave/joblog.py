"""A job's log file: what ran, how it ended, what it cost."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from driftwave.compute import Clock
from driftwave.errors import DriftwaveError

_NOTES: ContextVar[list[str] | None] = ContextVar("notes", default=None)


def note(sentence: str) -> None:
    """Say, on stderr and in the log, what a user should know of a job that ends well."""
    print(f"Note: {sentence}", file=sys.stderr, flush=True)
    notes = _NOTES.get()
    if notes is not None:
        notes.append(sentence)


@contextlib.contextmanager
def job_log(path: str | Path | None, stage: str) -> Iterator[None]:
    """Write one JSON line per event (start, end or error) to ``path``; errors pass through.

    The last line tells the state of the job: ``done`` or ``failed``, with the sentence the user
    was shown, what was noted by :func:`note`, CPU and wall seconds and peak memory (MB).
    """
    if path is None:
        yield
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    clock = Clock.start()

    def write(**event: object) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": now, "stage": stage, **event}) + "\n")

    def cost() -> dict[str, float]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "cpu_seconds": round(clock.cpu_seconds, 2),
            "wall_seconds": round(clock.wall_seconds, 2),
            "peak_megabytes": round(peak, 1),
        }

    path.write_text("", encoding="utf-8")
    write(state="started", command=sys.argv[1:])
    notes: list[str] = []
    token = _NOTES.set(notes)
    try:
        yield
    except DriftwaveError as error:
        write(state="failed", why=str(error), **cost())
        raise
    except BaseException as error:
        write(
            state="failed",
            why=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
            **cost(),
        )
        raise
    finally:
        _NOTES.reset(token)
    write(state="done", **({"notes": notes} if notes else {}), **cost())
