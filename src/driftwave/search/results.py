"""What a search found: its ranking, its table of trials and the best parameters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from driftwave.contents import check_contents
from driftwave.errors import DriftwaveError, InputError
from driftwave.search.halving import ranked
from driftwave.search.trial import RESULT
from driftwave.store import write_text

COLUMNS = ("rung", "budget", "trial", "metric", "score", "ci_low", "ci_high", "unit")
COSTS = ("cpu_seconds", "wall_seconds", "why")


def read_result(folder: str | Path) -> dict[str, Any]:
    """Result of one trial.

    Raises
    ------
    InputError
        If it is missing or cannot be read.
    """
    path = Path(folder) / RESULT
    if path.exists():
        check_contents(folder, "a trial")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(
            file=path,
            field="result",
            found=type(error).__name__,
            expected="a result written by a trial of a search",
            fix="Delete its folder and run the search again",
        ) from error


def rank_results(folders: Sequence[str | Path]) -> list[Mapping[str, Any]]:
    """Results of a rung, the best first.

    Raises
    ------
    DriftwaveError
        If none of its trials has a score.
    """
    results = ranked(read_result(folder) for folder in folders)
    if results[0]["score"] is None:
        raise DriftwaveError(
            f"None of the {len(results)} trials of the search has a score; "
            f"the first failed with: {results[0]['why']}"
        )
    return results


def rung_results(folders: Iterable[str | Path]) -> list[tuple[int, dict[str, Any]]]:
    """Rung and result of each folder ``rung<i>/<place>``."""
    return [
        (int(Path(folder).parent.name.removeprefix("rung")), read_result(folder))
        for folder in folders
    ]


def write_ranking(results: Iterable[Mapping[str, Any]], out: str | Path) -> None:
    """Write the ranked results of a rung as a JSON list."""
    write_text(out, json.dumps(list(results), indent=1) + "\n")


def read_entry(path: str | Path, place: int) -> dict[str, Any]:
    """The result at one place of a ranking."""
    entries = json.loads(Path(path).read_text(encoding="utf-8"))
    if place >= len(entries):
        raise InputError(
            file=path,
            field=f"place {place}",
            found=f"{len(entries)} results",
            expected=f"at least {place + 1}",
            fix="Delete the file and run the search again",
        )
    return entries[place]


def table_text(results: Iterable[tuple[int, Mapping[str, Any]]]) -> str:
    """Tab-separated table of (rung, result) pairs, one row per fit.

    Columns: rung, budget, trial (number in the order of drawing), metric, score with its interval
    and unit, each searched parameter as ``params.<name>``, cpu_seconds and wall_seconds of the
    fit, and why it failed.
    """
    rows = sorted(results, key=lambda pair: (pair[0], pair[1]["trial"]))
    names = sorted({name for _, result in rows for name in result["params"]})
    lines = ["\t".join([*COLUMNS, *(f"params.{name}" for name in names), *COSTS])]
    for rung, result in rows:
        budget = next(iter(result["budget"].values()), "")
        values = [rung, budget, *(result[name] for name in COLUMNS[2:])]
        values += [result["params"].get(name) for name in names]
        values += [result[name] for name in COSTS]
        lines.append("\t".join(map(_cell, values)))
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.split())


def best_text(
    results: Sequence[tuple[int, Mapping[str, Any]]],
    *,
    session: str,
    model: str,
    plugin: str,
    params: Mapping[str, Any],
) -> str:
    """An entry for ``models:`` with the parameters of the best trial of the last rung."""
    last = max(rung for rung, _ in results)
    best = ranked(result for rung, result in results if rung == last)[0]
    spent = sum(result["cpu_seconds"] or 0.0 for _, result in results)
    low, high = best["ci_low"], best["ci_high"]
    interval = "" if low is None else f" ({low:.4g} to {high:.4g} over validation trials)"
    head = (
        f"# Best of {len({result['trial'] for _, result in results})} trials on session {session}\n"
        f"# by validation trials alone: {best['metric']} {best['score']:.5g} {best['unit']}"
        f"{interval},\n"
        f"# trial {best['trial']}; {len(results)} fits, {spent:.0f} CPU s in all.\n"
    )
    chosen = {**params, **best["params"], **best["budget"]}
    entry = {f"{model}_best": {"plugin": plugin, "params": chosen}}
    return head + yaml.safe_dump({"models": entry}, sort_keys=False)
