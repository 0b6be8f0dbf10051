"""The summary as a page that needs no network: session x stage, failures, then every job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from driftwave.summary import STATES, Cell, Row, counted, matrix
from driftwave.workflow_fits import EXPERIMENTS, GROUPS, SIMULATED

_TITLES = {
    SIMULATED: "simulated files",
    EXPERIMENTS: "experiments",
    GROUPS: "groups of sessions",
}
# Up to this number of jobs the list of a session that went well is open.
_OPEN = 40
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; }
h1 { font-size: 1.4em; } h2 { font-size: 1.1em; margin: 1.6em 0 0.4em; }
table { border-collapse: collapse; }
th, td { padding: 0.25em 0.8em; text-align: left; border-bottom: 1px solid #ddd;
  vertical-align: top; }
th { position: sticky; top: 0; background: #fff; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.why { max-width: 46em; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
summary { cursor: pointer; font-weight: 600; margin: 0.8em 0 0.3em; }
.failed { background: #fbe3d6; } .running { background: #e3eefb; }
.skipped, .not-run { background: #f4f4f4; color: #555; }
.matrix td { white-space: nowrap; } .matrix .failed { font-weight: 600; }
"""


def as_html(rows: Sequence[Row]) -> str:
    """The rows as a page: session x stage, what failed and why, then every job by session."""
    failed = [row for row in rows if row.state == "failed"]
    parts = [f"<h1>Jobs: {escape(counted(rows))}</h1>", _matrix(rows)]
    if failed:
        parts += ["<h2>What failed, and why</h2>", _table(failed)]
    parts.append("<h2>Every job</h2>")
    by_session: dict[str, list[Row]] = {}
    for row in rows:
        by_session.setdefault(row.session, []).append(row)
    for session in sorted(by_session, key=lambda name: _urgency(by_session[name])):
        parts.append(_of_session(session, by_session[session], few=len(rows) <= _OPEN))
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>driftwave: jobs'
        f"</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _urgency(rows: Iterable[Row]) -> int:
    return min(STATES.index(row.state) for row in rows)


def _title(session: str) -> str:
    return _TITLES.get(session, f"session {session}")


def _of_session(session: str, rows: list[Row], *, few: bool) -> str:
    title = f"{escape(_title(session))}: {escape(counted(rows))}"
    shown = " open" if few or any(row.state == "failed" for row in rows) else ""
    ordered = sorted(rows, key=lambda row: STATES.index(row.state))
    return f"<details{shown}><summary>{title}</summary>{_table(ordered)}</details>"


def _matrix(rows: Sequence[Row]) -> str:
    stages, cells = matrix(rows)
    heads = ["session", *(stage.replace("_", " ") for stage in stages), "seconds", "peak (MB)"]
    lines = ["<tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>"]
    for session in sorted(cells, key=lambda name: _worst(cells[name].values())):
        own = cells[session]
        shown = [_cell(own.get(stage)) for stage in stages]
        seconds = sum(cell.seconds for cell in own.values())
        peak = max(cell.peak_megabytes for cell in own.values())
        shown += [f'<td class="number">{number:.0f}</td>' for number in (seconds, peak)]
        name = escape(_TITLES.get(session, session))
        lines.append(f"<tr><td>{name}</td>{''.join(shown)}</tr>")
    return f'<div class="wide"><table class="matrix">{"".join(lines)}</table></div>'


def _worst(cells: Iterable[Cell]) -> int:
    return min(STATES.index(cell.worst) for cell in cells)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td></td>"
    title = f"{cell.seconds:.1f} s, peak {cell.peak_megabytes:.0f} MB"
    return f'<td class="{_class(cell.worst)}" title="{title}">{escape(str(cell))}</td>'


def _class(state: str) -> str:
    return state.replace(" ", "-")


def _table(rows: Iterable[Row]) -> str:
    heads = ("session", "stage", "of", "state", "why", "attempts", "seconds", "peak memory (MB)")
    lines = ["<table><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for row in rows:
        cells = [f"<td>{escape(w)}</td>" for w in (row.session, row.stage, row.name, row.state)]
        log = f"<br><code>{escape(row.log)}</code>" if row.state == "failed" and row.log else ""
        cells.append(f'<td class="why">{escape(row.why)}{log}</td>')
        cells.append(f'<td class="number">{row.attempts or ""}</td>')
        numbers = ("" if n is None else f"{n:.1f}" for n in (row.seconds, row.peak_megabytes))
        cells += [f'<td class="number">{number}</td>' for number in numbers]
        lines.append(f'<tr class="{_class(row.state)}">{"".join(cells)}</tr>')
    return "\n".join([*lines, "</table>"])
