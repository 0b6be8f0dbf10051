"""Subcommands of a search: the one a user types, and one per rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from driftwave.command import PATH, mapping, result_name, stage

_PLUGIN = click.option("--plugin", required=True, help="Model plug-in.")
_PARAMS = click.option(
    "--params", default="{}", callback=mapping, help="Parameters that are not searched, as JSON."
)
_FOLDERS = click.argument("folders", nargs=-1, required=True, type=PATH)


@stage("search-trial")
@click.argument("recording", type=PATH)
@click.option("--space", required=True, callback=mapping, help="`space` and `seed` as JSON.")
@click.option("--ranking", type=PATH, default=None, help="Rung before; default is to draw.")
@click.option("--place", type=int, required=True, help="Number of the draw, or place in RANKING.")
@_PLUGIN
@_PARAMS
@click.option("--budget", default="{}", callback=mapping, help="Budget parameter as JSON.")
@click.option("--checkpoint", type=PATH, default=None, help="Scratch folder to resume from.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def trial(
    recording: Path,
    space: dict[str, Any],
    ranking: Path | None,
    place: int,
    out: Path,
    plugin: str,
    params: dict[str, Any],
    **options: Any,
) -> None:
    """Fit one parameter set and score it on the validation trials."""
    from driftwave.search.results import read_entry
    from driftwave.search.trial import drawn_trial, run_trial

    if ranking is None:
        entry = drawn_trial(space["space"], place, space["seed"], plugin=plugin, base=params)
    else:
        entry = read_entry(ranking, place)
    result = run_trial(recording, entry, out, plugin=plugin, params=params, **options)
    click.echo(f"{result['metric']} {result['score']}" if not result["why"] else result["why"])


@stage("search-rank")
@_FOLDERS
def rank(folders: tuple[Path, ...], out: Path) -> None:
    """Rank the trials of a rung, the best first."""
    from driftwave.search.results import rank_results, write_ranking

    write_ranking(rank_results(folders), out)


@stage("search-best")
@_FOLDERS
@click.option("--session", required=True, callback=result_name)
@click.option(
    "--model", required=True, callback=result_name, help="Name of the model in the configuration."
)
@_PLUGIN
@_PARAMS
@click.option("--best", type=PATH, required=True, help="Output: best parameters (YAML).")
def best(
    folders: tuple[Path, ...],
    session: str,
    model: str,
    plugin: str,
    params: dict[str, Any],
    best: Path,
    out: Path,
) -> None:
    """Write the table of all trials and the best parameters."""
    from driftwave.search.results import best_text, rung_results, table_text
    from driftwave.store import write_text

    results = rung_results(folders)
    write_text(best, best_text(results, session=session, model=model, plugin=plugin, params=params))
    write_text(out, table_text(results))


@click.command(
    name="search", context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
@click.argument("config", type=PATH)
@click.option(
    "--session", required=True, callback=result_name, help="Session of the configuration."
)
@click.option("--model", required=True, callback=result_name, help="Model of the configuration.")
@click.option("--strategy", type=click.Choice(["random", "halving"]), default=None)
@click.option("--trials", type=click.IntRange(1), default=None, help="Parameter sets drawn.")
@click.option("--eta", type=click.IntRange(2), default=None, help="Factor between rungs.")
@click.option("--seed", type=click.IntRange(0), default=None, help="Seed of the draws.")
@click.option(
    "--space",
    default=None,
    callback=mapping,
    help="Space in YAML, e.g. '{learning_rate: {log_uniform: [0.001, 0.03]}}'.",
)
@click.option(
    "--budget",
    default=None,
    callback=mapping,
    help="For halving, in YAML, e.g. '{parameter: steps, least: 100, most: 900}'.",
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="At a time.")
@click.option("--profile", default=None, help="Snakemake profile, e.g. profiles/slurm.")
@click.option("--snakefile", type=PATH, default=Path("Snakefile"), show_default=True)
@click.pass_context
def search(
    context: click.Context,
    config: Path,
    session: str,
    model: str,
    jobs: int,
    profile: str | None,
    snakefile: Path,
    **changes: Any,
) -> None:
    """Search a model's parameters by its validation trials, as Snakemake jobs.

    Options fill or replace the configuration's `search` of that model. Further options
    (--dry-run, --set-resources ...) are handed to Snakemake. Run again, it goes on where it was.
    """
    from driftwave.search.run import run_search

    given = {key: value for key, value in changes.items() if value not in (None, {})}
    found = run_search(
        config,
        session=session,
        model=model,
        changes=given,
        snakefile=snakefile,
        jobs=jobs,
        profile=profile,
        options=context.args,
    )
    click.echo(found)


COMMANDS = (search, trial, rank, best)
