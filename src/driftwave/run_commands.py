"""Subcommands that tell of a run: what became of each job, and where results came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from driftwave.command import PATH, mapping, stage


def _configuration(context: click.Context, option: click.Parameter, text: str) -> Any:
    from driftwave.reading import read_yaml

    return mapping(context, option, text) if text.startswith("{") else read_yaml(text)


@click.command()
@click.argument("result", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print nested JSON instead of a tree.")
@click.option(
    "--search", multiple=True, type=PATH, help="Folder in which inputs that moved are looked for."
)
@click.option(
    "--check",
    type=click.Choice(["quick", "files", "all"]),
    default="files",
    show_default=True,
    help="Compare sizes of NWB files, also their checksums, or also read every store again.",
)
def provenance(result: Path, as_json: bool, search: tuple[Path, ...], check: str) -> None:
    """Print what RESULT (store, table or figure) was made from, back to the NWB file."""
    from driftwave.provenance_chain import as_text, chain

    found = chain(result, search=search, check=check)
    click.echo(json.dumps(found.as_dict(), indent=1) if as_json else as_text(found))


@click.command()
@click.argument("results", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder, or file that ends in .zip.")
@click.option(
    "--config", type=PATH, default=Path("config/config.yaml"), show_default=True,
    help="Configuration that the results were made with.",
)  # fmt: skip
@click.option(
    "--snakefile", type=PATH, default=Path("Snakefile"), show_default=True, help="Workflow."
)
@click.option("--copy", is_flag=True, help="Copy stores into the crate, not only tables, figures.")
def crate(results: Path, out: Path, config: Path, snakefile: Path, copy: bool) -> None:
    """Describe a run as an RO-Crate: workflow, configuration, inputs, each job and its outputs."""
    from driftwave.crate import write_crate

    written = write_crate(results, out, config=config, snakefile=snakefile, copy=copy)
    click.echo(f"{written.jobs} jobs and {written.results} results described in {out}")


@stage("summary")
@click.option(
    "--config", required=True, callback=_configuration, help="Configuration file, or its content."
)
def summary(config: dict[str, Any], out: Path) -> None:
    """Tell what became of each job of the workflow, from the jobs' logs.

    OUT.tsv lists the jobs, OUT.sessions.tsv sessions against stages, OUT.html shows both.
    """
    from driftwave.summary import told, write_summary
    from driftwave.workflow_plan import Plan

    click.echo(told(write_summary(Plan.read(config), out)))


COMMANDS = (summary, provenance, crate)
