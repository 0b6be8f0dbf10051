"""What became of each job of the workflow: done, failed and why, or skipped after a failure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from driftwave.search.plan import begun_jobs
from driftwave.workflow_fits import EXPERIMENTS, GROUPS, SIMULATED
from driftwave.workflow_plan import Job, Plan

_STATES = ("failed", "skipped", "not run", "done")
_NO_MESSAGE = (
    "It stopped without a message: killed (memory or time limit, or by hand), or still running."
)
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; }
table { border-collapse: collapse; }
th, td { padding: 0.25em 0.8em; text-align: left; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.failed { background: #fbe3d6; } .skipped, .not-run { background: #f4f4f4; color: #555; }
"""


@dataclass(frozen=True)
class Row:
    """One job in the summary.

    Attributes
    ----------
    session, stage, name : str
        As in the plan; ``name`` is the model, source or figure.
    state : str
        done, failed, skipped (something it needs failed) or not run.
    why : str
        The sentence the user was shown, what it waits for, or what was noted of a job done.
    seconds : float or None
        Wall seconds.
    peak_megabytes : float or None
        Peak memory of the job's process.
    """

    session: str
    stage: str
    name: str
    state: str
    why: str
    seconds: float | None
    peak_megabytes: float | None


def last_event(log: str | Path) -> dict[str, Any]:
    """The last event of a job's log; empty if there is no log or it holds none."""
    path = Path(log)
    if not path.exists():
        return {}
    for line in reversed(path.read_text(encoding="utf-8").splitlines()):
        try:
            event = json.loads(line)
        except json.JSONDecodeError:  # a job killed while it wrote its line
            continue
        if isinstance(event, dict):
            return event
    return {}


def _own_state(job: Job, event: Mapping[str, Any]) -> tuple[str, str]:
    """State and reason of a job from its own log and outputs."""
    state = event.get("state")
    if state == "failed":
        return "failed", str(event.get("why", ""))
    if state == "started":
        return "failed", _NO_MESSAGE
    missing = [path for path in job.outputs if not Path(path).exists()]
    if missing:
        return "not run", f"{missing[0]} is missing." if state == "done" else ""
    return "done", "; ".join(map(str, event.get("notes", [])))


def summarise(plan: Plan) -> list[Row]:
    """State of every job of a plan, in the plan's order.

    A job whose input could not be made counts as skipped whatever an earlier run left of it.
    """
    culprits: dict[str, Job] = {}  # path that is missing for a reason -> the job that failed
    rows: list[Row] = []
    for job in [*plan.all_jobs(), *begun_jobs(plan)]:
        event = last_event(job.log)
        culprit = next((culprits[path] for path in job.inputs if path in culprits), None)
        if culprit is not None:
            needs = " ".join(filter(None, (culprit.stage, culprit.name)))
            state, why, event = "skipped", f"It needs {needs}, which failed.", {}
        else:
            state, why = _own_state(job, event)
            culprit = job if state == "failed" else None
        if culprit is not None:
            culprits.update(dict.fromkeys(job.outputs, culprit))
        rows.append(
            Row(
                job.session,
                job.stage,
                job.name,
                state,
                why,
                event.get("wall_seconds"),
                event.get("peak_megabytes"),
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
    return ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])


def as_html(rows: list[Row]) -> str:
    """The rows as a page that needs no network: failures first, then every job by session."""
    failed = [row for row in rows if row.state == "failed"]
    parts = [f"<h1>Jobs: {escape(counted(rows))}</h1>"]
    if failed:
        parts += ["<h2>What failed, and why</h2>", _table(failed)]
    by_session: dict[str, list[Row]] = {}
    for row in rows:
        by_session.setdefault(row.session, []).append(row)
    for session, own in by_session.items():
        titles = {SIMULATED: "simulated files", EXPERIMENTS: "experiments"}
        titles[GROUPS] = "groups of sessions"
        title = titles.get(session, f"session {session}")
        parts += [f"<h2>{escape(title)}: {escape(counted(own))}</h2>", _table(own)]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>driftwave: jobs'
        f"</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _table(rows: Iterable[Row]) -> str:
    heads = ("session", "stage", "of", "state", "why", "seconds", "peak memory (MB)")
    lines = ["<table><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for row in rows:
        words = (row.session, row.stage, row.name, row.state, row.why)
        numbers = ("" if n is None else f"{n:.1f}" for n in (row.seconds, row.peak_megabytes))
        cells = [f"<td>{escape(word)}</td>" for word in words]
        cells += [f'<td class="number">{number}</td>' for number in numbers]
        lines.append(f'<tr class="{row.state.replace(" ", "-")}">{"".join(cells)}</tr>')
    return "\n".join([*lines, "</table>"])
