"""Reading of files from elsewhere in a process of its own, whose death is told in a sentence.

libhdf5 is C: a damaged file can crash it or send it round a loop for ever, which no exception
tells. The command line therefore reads NWB files in a child process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from driftwave.address import is_remote, shown_command

# Elsewhere than on Linux a fork that runs no program of its own may crash in system libraries.
COMMANDS = ("ingest", "inspect") if sys.platform == "linux" else ()
# CPU seconds that libhdf5 may spend on opening a file, or on one read beside a second per MB.
OPENING, READING = 300.0, 60.0
_watching = False


@contextlib.contextmanager
def watched(seconds: float) -> Iterator[None]:
    """End the child process if what is done takes more CPU time; elsewhere no limit is set."""
    if not _watching:
        yield
        return
    # The signal's default action ends a process whose C code never returns to Python.
    before, _ = signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, before)


def run(job: Callable[[], None], arguments: Sequence[str]) -> None:
    """Run a command in a child process and end as it ends.

    Parameters
    ----------
    job : callable
        Runs the command; ends by ``SystemExit`` or returns.
    arguments : sequence of str
        Of the command line, for the message and for the log that ``--log`` names.

    Raises
    ------
    SystemExit
        With the child's status, or 1 and one sentence if a signal ended it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _die_with(parent)
        global _watching
        _watching = True
        job()
        sys.exit(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: os.kill(child, received))
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        sys.exit(os.WEXITSTATUS(status))
    ended_by = signal.Signals(os.WTERMSIG(status))
    if ended_by in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ended_by, signal.SIG_DFL)
        os.kill(parent, ended_by)
    sentence = death_sentence(arguments, ended_by)
    print(f"Error: {sentence}", file=sys.stderr)
    _log(arguments, sentence)
    sys.exit(1)


def death_sentence(arguments: Sequence[str], ended_by: signal.Signals) -> str:
    """What to tell of a child that a signal ended."""
    words = [word for word in shown_command(arguments[1:]) if not word.startswith("-")]
    file = next((word for word in words if is_remote(word) or word.endswith(".nwb")), None)
    file = file or (words[0] if words else "the file")
    if ended_by == signal.SIGKILL:
        return (
            f"{file}: the process that read it was killed, as a rule because it took more memory "
            "than the machine or the job has; give the job more, or ask less of the layout."
        )
    how = (
        "did not come to an end of reading it"
        if ended_by == signal.SIGVTALRM
        else f"crashed on it ({ended_by.name})"
    )
    return (
        f"{file}: found damaged content: libhdf5 {how}; fetch the file again and compare its "
        "checksum."
    )


def _die_with(parent: int) -> None:
    """Have Linux end this child when its parent is killed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _log(arguments: Sequence[str], sentence: str) -> None:
    """The last line of the job's log, which the child could not write."""
    from driftwave.joblog import events_path, text_path

    words = [part for word in arguments for part in word.split("=", 1)]
    if "--log" not in words[:-1]:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    event = {"time": now, "stage": arguments[0], "state": "failed", "why": sentence}
    log = words[words.index("--log") + 1]
    # A line break first: the child may have been ended within a line.
    for path, line in ((events_path(log), json.dumps(event)), (text_path(log), sentence)):
        if path.is_file():
            with path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}\n")
