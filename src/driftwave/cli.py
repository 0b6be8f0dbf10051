"""The ``driftwave`` command: one subcommand per stage, each a thin call into the library."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from driftwave import __version__
from driftwave.analysis_commands import COMMANDS as ANALYSIS_COMMANDS
from driftwave.command import PATH, named_paths
from driftwave.errors import DriftwaveError
from driftwave.experiments._commands import COMMANDS as EXPERIMENT_COMMANDS
from driftwave.search.commands import COMMANDS as SEARCH_COMMANDS
from driftwave.waves._commands import COMMANDS as WAVES_COMMANDS

_LOG_OPTION = click.option(
    "--log", type=PATH, default=None, help="Also write messages and errors to this file."
)
_SEED = click.option("--seed", type=int, default=0, show_default=True)
_THREADS = click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
_PARAMS = click.option(
    "--params", default="{}", show_default=True, help="Parameters as a JSON (or YAML) mapping."
)
_OUT = click.option("--out", type=PATH, required=True, help="Output path.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """From NWB recordings to latent dynamics, decoding, manifolds and travelling waves."""


for _command in (*SEARCH_COMMANDS, *EXPERIMENT_COMMANDS, *ANALYSIS_COMMANDS, *WAVES_COMMANDS):
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a fault the user can mend ends in one sentence and exit status 1."""
    try:
        cli.main(args=arguments, standalone_mode=False)
    except DriftwaveError as error:
        _say(f"Error: {error}")
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)


def _say(message: str) -> None:
    click.echo(message, err=True)


def _logged(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--log``: start, end, resources and any error of the command also go to that file."""
    import functools

    @_LOG_OPTION
    @functools.wraps(command)
    def wrapper(*args: Any, log: Path | None, **kwargs: Any) -> None:
        from driftwave.joblog import job_log

        with job_log(log, click.get_current_context().info_name or ""):
            command(*args, **kwargs)

    return wrapper


def _mapping(text: str) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise click.BadParameter(f"--params is not a mapping: {error}") from error
    if not isinstance(content, dict):
        raise click.BadParameter(f"--params must be a mapping, got {text!r}")
    return content


@cli.command()
@click.argument("simulator")
@_OUT
@_SEED
@_PARAMS
@_logged
def simulate(simulator: str, out: Path, seed: int, params: str) -> None:
    """Write a simulated recording, with its truth, as an NWB file."""
    from driftwave import registry
    from driftwave.config import parse_params
    from driftwave.store import atomic_path

    module = registry.load("simulators", simulator)
    with atomic_path(out) as temporary:
        module.simulate(temporary, parse_params(module, _mapping(params), simulator), seed=seed)


@cli.command()
@click.argument("file", type=PATH)
@click.option("--write-layout", type=PATH, default=None, help="Write a first layout to edit.")
def inspect(file: Path, write_layout: Path | None) -> None:
    """Print what an NWB file holds, and write a first layout for it."""
    from driftwave.ingest.inspect import contents, first_layout
    from driftwave.store import write_text

    click.echo(contents(file).to_string(index=False))
    if write_layout:
        write_text(write_layout, first_layout(file))
        click.echo(f"\nLayout written to {write_layout}; edit it, then run `driftwave ingest`.")


@cli.command()
@click.argument("nwb", type=PATH)
@click.option("--layout", required=True, help="Layout name or YAML path.")
@click.option("--layouts", default="config/layouts", show_default=True, help="Folder of layouts.")
@click.option("--session", required=True, help="Session name.")
@click.option("--sha256", default=None, help="Checksum the file must have.")
@click.option(
    "--bin-width",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="Bin width, s; default that of the layout.",
)
@_OUT
@_THREADS
@_logged
def ingest(
    nwb: Path,
    layout: str,
    layouts: str,
    session: str,
    sha256: str | None,
    bin_width: float | None,
    out: Path,
    threads: int,
) -> None:
    """Turn an NWB file into a recording store."""
    from driftwave.compute import dask_threads
    from driftwave.config import load_layout
    from driftwave.ingest.nwb import open_nwb, read_recording
    from driftwave.store import write_tree

    chosen = load_layout(layout, layouts)
    if bin_width is not None:
        chosen = chosen.model_copy(update={"bin_width": bin_width})
    with dask_threads(threads), open_nwb(nwb, sha256=sha256) as file:
        tree = read_recording(file, chosen, session=session)
        write_tree(tree, out, facts={"stage": "ingest", "source_file": str(nwb)})


@cli.command()
@click.argument("recording", type=PATH)
@click.option("--model", required=True, help="Name of this model in the results.")
@click.option("--plugin", default=None, help="Model plug-in; default the model's name.")
@click.option("--out-fit", type=PATH, required=True, help="Folder for the fitted model.")
@click.option("--checkpoint", type=PATH, default=None, help="Scratch folder to resume from.")
@click.option("--device", default="auto", show_default=True)
@_OUT
@_SEED
@_PARAMS
@_THREADS
@_logged
def fit(
    recording: Path,
    model: str,
    plugin: str | None,
    out_fit: Path,
    checkpoint: Path | None,
    device: str,
    out: Path,
    seed: int,
    params: str,
    threads: int,
) -> None:
    """Fit a latent model and write the fitted model and its latents."""
    from driftwave.models.run import fit_and_write

    fit_and_write(
        recording,
        model=model,
        plugin=plugin or model,
        params=_mapping(params),
        fit_folder=out_fit,
        latents_path=out,
        checkpoint=checkpoint,
        seed=seed,
        device=device,
        threads=threads,
    )


@cli.command()
@click.argument("members", type=PATH, nargs=-1, required=True)
@click.option("--model", required=True, help="Name of the ensemble in the results.")
@_OUT
@_logged
def ensemble(members: tuple[Path, ...], model: str, out: Path) -> None:
    """Average the rates of fits that differ in their seed."""
    from driftwave.ensemble import average_rates
    from driftwave.store import open_dataset, write_tree

    facts = {"stage": "ensemble", "model": model, "members": [str(path) for path in members]}
    write_tree(average_rates([open_dataset(path) for path in members], model), out, facts=facts)


@cli.command()
@click.argument("recording", type=PATH)
@click.argument("latents", type=PATH)
@_OUT
@_SEED
@_logged
def score(recording: Path, latents: Path, out: Path, seed: int) -> None:
    """Score what a model predicts of held-out trials, units, electrodes and times."""
    from driftwave.compute import blas_threads
    from driftwave.recording import open_recording
    from driftwave.scores.table import score_model, write_table
    from driftwave.store import open_dataset

    with blas_threads(1):
        table = score_model(open_recording(recording), open_dataset(latents), seed=seed)
    write_table(table, out)


@cli.command()
@click.option("--scores", "scores", multiple=True, type=PATH, help="Score table of one model.")
@click.option("--decoding", "decoding", multiple=True, help="NAME=PATH of a decoding store.")
@click.option(
    "--seeds", "seeds", multiple=True, help="MODEL=NAME,NAME: fits that differ in their seed."
)
@_OUT
@_logged
def compare(
    scores: tuple[Path, ...], decoding: tuple[str, ...], seeds: tuple[str, ...], out: Path
) -> None:
    """Put all models of a session into one table (tsv, with an html page beside it)."""
    from driftwave.scores.over_seeds import compare_seeds
    from driftwave.scores.table import write_table
    from driftwave.store import open_dataset

    decoded = {name: open_dataset(path) for name, path in named_paths(decoding).items()}
    fits = {model: str(names).split(",") for model, names in named_paths(seeds).items()}
    write_table(compare_seeds(scores, decoded, fits), out, html=True)


@cli.command()
@click.argument("recording", type=PATH)
@click.argument("latents", type=PATH, required=False)
@_OUT
@_logged
def export(recording: Path, latents: Path | None, out: Path) -> None:
    """Write rates, or without LATENTS the targets, as the Neural Latents Benchmark's h5."""
    from driftwave.recording import open_recording
    from driftwave.scores.prediction_file import prediction, target, write_h5
    from driftwave.store import open_dataset

    tree = open_recording(recording)
    write_h5(out, prediction(tree, open_dataset(latents)) if latents else target(tree))


@cli.command()
@click.argument("targets", type=PATH)
@click.argument("predictions", type=PATH)
@click.option("--out", type=PATH, default=None, help="Also write the scores to this table (tsv).")
@_logged
def evaluate(targets: Path, predictions: Path, out: Path | None) -> None:
    """Score an h5 of predicted rates against one of targets, as the benchmark does."""
    from driftwave.scores.benchmark import evaluate as scores_of
    from driftwave.store import write_text

    table = scores_of(targets, predictions)
    click.echo(table.to_string(index=False))
    if out is not None:
        write_text(out, table.to_csv(sep="\t", index=False))


@cli.command()
@click.argument("name")
@click.option("--recording", type=PATH, default=None)
@click.option(
    "--result", "results", multiple=True, help="NAME=PATH of a store or score table it needs."
)
@click.option("--out", type=PATH, required=True, help="Path without suffix; png and svg are made.")
@_logged
def figure(name: str, recording: Path | None, results: tuple[str, ...], out: Path) -> None:
    """Draw a figure as png and svg."""
    from driftwave import registry
    from driftwave.figures.style import save_figure
    from driftwave.recording import open_recording

    module = registry.load("figures", name)
    tree = open_recording(recording) if recording else None
    save_figure(
        module.draw(tree, {k: _open_result(p) for k, p in named_paths(results).items()}), out
    )


def _open_result(path: Path) -> Any:
    """A store, or a table of scores, as a Dataset."""
    from driftwave.scores.table import open_scores
    from driftwave.store import open_dataset

    return open_scores(path) if path.suffix == ".tsv" else open_dataset(path)


@cli.command(name="list")
@click.argument("kind", default="models")
def list_plugins(kind: str) -> None:
    """List plug-ins of a kind: name, one line, paper."""
    from driftwave import registry

    for plugin in registry.plugins(kind).values():
        paper = f" [{plugin.paper}]" if plugin.paper else ""
        click.echo(f"{plugin.name:24s} {plugin.summary}{paper}")


@cli.command()
@click.option("--config", required=True, help="Configuration file, or its content as JSON.")
@click.option("--out", type=PATH, required=True, help="Table (tsv); an html page goes beside it.")
@_logged
def summary(config: str, out: Path) -> None:
    """Tell what became of each job of the workflow, from the jobs' logs."""
    from driftwave.store import write_text
    from driftwave.summary import as_html, as_tsv, counted, summarise
    from driftwave.workflow_plan import Plan

    text = config if config.startswith("{") else Path(config).read_text(encoding="utf-8")
    rows = summarise(Plan.read(_mapping(text)))
    write_text(out, as_tsv(rows))
    write_text(out.with_suffix(".html"), as_html(rows))
    click.echo(f"Jobs: {counted(rows)}.")
    for row in rows:
        if row.state == "failed":
            click.echo(f"  {row.session}: {row.stage} {row.name}: {row.why}")


@cli.command()
@click.argument("folder", type=PATH)
def verify(folder: Path) -> None:
    """Check every store below a folder: chunks, checksums, provenance."""
    from driftwave.store import verify_store

    stores = sorted(p for p in folder.rglob("*.zarr") if not p.name.startswith("."))
    if not stores:
        raise DriftwaveError(f"{folder}: found no zarr store; give the folder of the results.")
    problems = {store: verify_store(store) for store in stores}
    for store, found in problems.items():
        click.echo(f"{'damaged' if found else 'whole':8s} {store}")
        for problem in found:
            click.echo(f"         {problem}")
    bad = sum(map(bool, problems.values()))
    click.echo(json.dumps({"stores": len(stores), "damaged": bad}))
    if bad:
        raise DriftwaveError(f"{bad} of {len(stores)} stores are damaged; delete them and re-run.")


if __name__ == "__main__":
    main()
