"""Jobs of the searches a configuration asks for: a fixed graph, whatever the trials will score.

A job of a rung is known by its place, not by its trial: places of the first rung are the trials
in order of drawing, those of a later rung the best of the rung before, the best first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from driftwave.search.halving import Rung, rungs
from driftwave.workflow_plan import Job, Plan


def searched(plan: Plan) -> list[tuple[str, str]]:
    """Session and model of every search."""
    return [
        (session, model)
        for model, search in plan.config.search.items()
        for session in plan.sessions
        if (search.sessions is None or session in search.sessions)
        and model in plan.models(session, "spikes")
    ]


def folder(plan: Plan, session: str, model: str, *parts: str) -> str:
    """A path below the search's folder."""
    return plan.path(session, "search", model, *parts)


def rungs_of(plan: Plan, model: str) -> list[Rung]:
    """Rungs of a model's search."""
    return rungs(plan.config.search[model])


def budget_of(plan: Plan, model: str, rung: int) -> dict[str, int]:
    """Budget parameter and its value in a rung; empty without a budget."""
    budget, value = plan.config.search[model].budget, rungs_of(plan, model)[rung].budget
    return {} if budget is None or value is None else {budget.parameter: value}


def ranking(plan: Plan, session: str, model: str, rung: int) -> list[str]:
    """File with the parameter sets of a rung's places; none for the first, which are drawn."""
    if rung == 0:
        return []
    return [folder(plan, session, model, f"rung{rung - 1}", "ranking.json")]


def results(plan: Plan, session: str, model: str, rung: int) -> list[str]:
    """Folders of a rung's results."""
    places = rungs_of(plan, model)[rung].places
    return [folder(plan, session, model, f"rung{rung}", f"{p:03d}") for p in range(places)]


def all_results(plan: Plan, session: str, model: str) -> list[str]:
    """Folders of the results of every rung."""
    count = len(rungs_of(plan, model))
    return [path for rung in range(count) for path in results(plan, session, model, rung)]


def targets(plan: Plan) -> list[str]:
    """What all searches come to."""
    return [
        folder(plan, session, model, name)
        for session, model in searched(plan)
        for name in ("trials.tsv", "best.yaml")
    ]


def begun_jobs(plan: Plan) -> Iterator[Job]:
    """Jobs of the searches that somebody has started, for the summary."""
    for session, model in searched(plan):
        jobs = list(search_jobs(plan, session, model))
        if any(Path(job.log).exists() for job in jobs):
            yield from jobs


def search_jobs(plan: Plan, session: str, model: str) -> Iterator[Job]:
    """The jobs of one search, in an order in which they can run."""
    recording = plan.path(session, "recording.zarr")

    def job(stage: str, name: str, outputs: list[str], inputs: list[str]) -> Job:
        log = folder(plan, session, model, "logs", f"{'.'.join(filter(None, (stage, name)))}.log")
        label = ".".join(filter(None, (model, name)))
        return Job(session, f"search-{stage}", label, tuple(outputs), tuple(inputs), log)

    last = len(rungs_of(plan, model)) - 1
    for rung in range(last + 1):
        made = results(plan, session, model, rung)
        inputs = [recording, *ranking(plan, session, model, rung)]
        for place, path in enumerate(made):
            yield job("trial", f"{rung}.{place:03d}", [path], inputs)
        if rung < last:
            yield job("rank", str(rung), ranking(plan, session, model, rung + 1), made)
    outputs = [folder(plan, session, model, name) for name in ("trials.tsv", "best.yaml")]
    yield job("best", "", outputs, all_results(plan, session, model))
