"""What became of each job of the workflow: done, failed and why, or skipped after a failure."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from driftwave.atomic import is_alive
from driftwave.joblog import born, read_attempts
from driftwave.search.plan import begun_jobs
from driftwave.workflow_fits import GROUPS
from driftwave.workflow_plan import Job, Plan

STATES = ("failed", "running", "skipped", "not run", "done")


@dataclass(frozen=True)
class Row:
    """One job in the summary.

    Attributes
    ----------
    session, stage, name : str
        As in the plan; ``name`` is the model, source or figure.
    state : str
        done, failed, running, skipped (something it needs failed) or not run.
    why : str
        The sentence the user was shown, what it waits for, or what was noted of a job done; and
        why earlier attempts ended.
    seconds : float or None
        Wall seconds.
    peak_megabytes : float or None
        Peak memory of the job's process or of its largest child.
    attempts : int
        How often it was started until it ended well; 0 if it has not been started.
    log : str
        Its log, to read.
    """

    session: str
    stage: str
    name: str
    state: str
    why: str
    seconds: float | None
    peak_megabytes: float | None
    attempts: int = 0
    log: str = ""


def last_event(log: str | Path) -> dict[str, Any]:
    """The last event of a job's log; empty if there is no log or it holds none."""
    attempts = read_attempts(log)
    return attempts[-1][-1] if attempts else {}


def _stopped(attempt: Sequence[Mapping[str, Any]], *, may_run: bool = False) -> str:
    """Sentence for an attempt that ended without a word, from what it last wrote down."""
    begun, last = attempt[0], attempt[-1]
    where = f" on {begun['host']}" if "host" in begun else ""
    if "slurm_job" in begun:
        where = f" (SLURM job {begun['slurm_job']}{where}; `sacct -j {begun['slurm_job']}` tells)"
    seen = ""
    if last.get("state") == "running":
        memory, seconds = last["peak_megabytes"], last["wall_seconds"]
        seen = f" after at least {seconds:.0f} s with {memory:.0f} MB"
    return (
        f"It stopped without a message{seen}{where}: killed (memory or time limit, or by hand)"
        f"{', or still running' if may_run else ''}."
    )


def _alive(begun: Mapping[str, Any]) -> bool:
    """Whether the process of an attempt runs on this machine."""
    if begun.get("host") != socket.gethostname():
        return False
    process = int(begun["process"])
    return is_alive(process) and born(process) == begun.get("born")


def _own_state(job: Job, attempts: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[str, str]:
    """State and reason of a job from its own log and outputs."""
    last = attempts[-1][-1] if attempts else {}
    state = last.get("state")
    if state == "failed":
        return "failed", str(last.get("why", ""))
    if state in ("started", "running"):
        if _alive(attempts[-1][0]):
            return "running", f"Process {attempts[-1][0]['process']} on this machine."
        elsewhere = attempts[-1][0].get("host") != socket.gethostname()
        return "failed", _stopped(attempts[-1], may_run=elsewhere)
    missing = [path for path in job.outputs if not Path(path).exists()]
    if missing:
        return "not run", f"{missing[0]} is missing." if state == "done" else ""
    return "done", "; ".join(map(str, last.get("notes", [])))


def _earlier(attempts: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Why the attempts before the last ended."""
    told = []
    for attempt in attempts[:-1]:
        last = attempt[-1]
        why = str(last.get("why", "")) if last.get("state") == "failed" else _stopped(attempt)
        told.append(f"Attempt {attempt[0].get('attempt', '')}: {why}")
    return " ".join(told)


def summarise(plan: Plan) -> list[Row]:
    """State of every job of a plan, in the plan's order.

    A job whose input could not be made counts as skipped whatever an earlier run left of it.
    """
    culprits: dict[str, Job] = {}  # path that is missing for a reason -> the job that failed
    rows: list[Row] = []
    for job in [*plan.all_jobs(), *begun_jobs(plan)]:
        attempts = read_attempts(job.log)
        event = attempts[-1][-1] if attempts else {}
        culprit = next((culprits[path] for path in job.inputs if path in culprits), None)
        if culprit is not None:
            needs = " ".join(filter(None, (culprit.stage, culprit.name)))
            state, why, event = "skipped", f"It needs {needs}, which failed.", {}
            attempts = []
        else:
            state, why = _own_state(job, attempts)
            culprit = job if state == "failed" else None
        if culprit is not None:
            culprits.update(dict.fromkeys(job.outputs, culprit))
        rows.append(
            Row(
                job.session,
                job.stage,
                job.name,
                state,
                " ".join(filter(None, (why, _earlier(attempts)))),
                event.get("wall_seconds"),
                event.get("peak_megabytes"),
                int(attempts[-1][0].get("attempt", len(attempts))) if attempts else 0,
                job.log if attempts else "",
            )
        )
    for session, path in plan.left_out.items():
        rows.append(Row(session, "ingest", "", "skipped", f"There is no file {path}.", None, None))
    for group in [name for name in plan.config.groups if name not in plan.groups()]:
        why = "Fewer than two of its sessions are there."
        rows.append(Row(GROUPS, "align", group, "skipped", why, None, None))
    return rows


def as_tsv(rows: Iterable[Row]) -> str:
    """The rows as a tab-separated table."""
    names = [f.name for f in fields(Row)]
    lines = ["\t".join(names)]
    for row in rows:
        cells = ["" if v is None else " ".join(str(v).split()) for v in asdict(row).values()]
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"


def counted(rows: Iterable[Row]) -> str:
    """The number of jobs in each state, in words."""
    counts = Counter(row.state for row in rows)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


@dataclass(frozen=True)
class Cell:
    """A session's jobs of one stage.

    Attributes
    ----------
    counts : dict of str to int
        Number of jobs in each state.
    seconds : float
        Wall seconds of all.
    peak_megabytes : float
        Of the largest.
    """

    counts: dict[str, int]
    seconds: float
    peak_megabytes: float

    @property
    def worst(self) -> str:
        """The state that asks for attention first."""
        return next(state for state in STATES if self.counts.get(state))

    def __str__(self) -> str:
        if len(self.counts) == 1:
            number = next(iter(self.counts.values()))
            return self.worst if number == 1 else f"{number} {self.worst}"
        return ", ".join(f"{self.counts[s]} {s}" for s in STATES if self.counts.get(s))


def matrix(rows: Iterable[Row]) -> tuple[list[str], dict[str, dict[str, Cell]]]:
    """Session x stage: the stages in the plan's order, and each session's cells by stage."""
    grouped: dict[str, dict[str, list[Row]]] = {}
    stages: dict[str, None] = {}
    for row in rows:
        stages.setdefault(row.stage)
        grouped.setdefault(row.session, {}).setdefault(row.stage, []).append(row)
    cells = {
        session: {stage: _cell(jobs) for stage, jobs in by_stage.items()}
        for session, by_stage in grouped.items()
    }
    return list(stages), cells


def _cell(jobs: Sequence[Row]) -> Cell:
    return Cell(
        dict(Counter(row.state for row in jobs)),
        sum(row.seconds or 0.0 for row in jobs),
        max(row.peak_megabytes or 0.0 for row in jobs),
    )


def matrix_tsv(rows: Iterable[Row]) -> str:
    """Session x stage as a tab-separated table; the last columns are the session's cost."""
    stages, cells = matrix(rows)
    lines = ["\t".join(["session", *stages, "seconds", "peak_megabytes"])]
    for session, by_stage in cells.items():
        seconds = sum(cell.seconds for cell in by_stage.values())
        peak = max(cell.peak_megabytes for cell in by_stage.values())
        words = [str(by_stage.get(stage, "")) for stage in stages]
        lines.append("\t".join([session, *words, f"{seconds:.1f}", f"{peak:.1f}"]))
    return "\n".join(lines) + "\n"


def write_summary(plan: Plan, out: str | Path) -> list[Row]:
    """Write ``OUT.tsv`` (jobs), ``OUT.html`` and ``OUT.sessions.tsv`` (session x stage)."""
    from driftwave.store import write_text
    from driftwave.summary_page import as_html

    out = Path(out)
    rows = summarise(plan)
    write_text(out.with_suffix(".tsv"), as_tsv(rows))
    write_text(out.with_suffix(".sessions.tsv"), matrix_tsv(rows))
    write_text(out.with_suffix(".html"), as_html(rows))
    return rows


def told(rows: Sequence[Row], most: int = 10) -> str:
    """What a terminal shows at the end of a run: counts, and what failed with its log."""
    lines = [f"Jobs: {counted(rows)}."]
    failed = [row for row in rows if row.state == "failed"]
    for row in failed[:most]:
        of = " ".join(filter(None, (row.session, row.stage, row.name)))
        lines.append(f"  failed  {of}: {row.why}" + (f" Log: {row.log}" if row.log else ""))
    if len(failed) > most:
        lines.append(f"  ... and {len(failed) - most} more.")
    return "\n".join(lines)
