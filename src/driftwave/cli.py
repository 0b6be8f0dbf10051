"""The ``driftwave`` command: one subcommand per stage, each a thin call into the library."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from driftwave import __version__, isolation
from driftwave.analysis_commands import COMMANDS as ANALYSIS_COMMANDS
from driftwave.atomic import refusal, tell_hdf5_echoes_once
from driftwave.command import PATH, mapping, named_paths, result_name, run_logged
from driftwave.errors import DriftwaveError
from driftwave.experiments._commands import COMMANDS as EXPERIMENT_COMMANDS
from driftwave.ingest_commands import COMMANDS as INGEST_COMMANDS
from driftwave.run_commands import COMMANDS as RUN_COMMANDS
from driftwave.scaffold.commands import COMMANDS as SCAFFOLD_COMMANDS
from driftwave.scores.commands import COMMANDS as BENCHMARK_COMMANDS
from driftwave.search.commands import COMMANDS as SEARCH_COMMANDS
from driftwave.verification import COMMANDS as VERIFY_COMMANDS
from driftwave.waves._commands import COMMANDS as WAVES_COMMANDS

_LOG_OPTION = click.option(
    "--log", type=PATH, default=None, help="Also write messages and errors to this file."
)
_SEED = click.option("--seed", type=int, default=0, show_default=True)
_THREADS = click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
_PARAMS = click.option(
    "--params",
    default="{}",
    show_default=True,
    callback=mapping,
    help="Parameters as a JSON (or YAML) mapping.",
)
_OUT = click.option("--out", type=PATH, required=True, help="Output path.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """From NWB recordings to latent dynamics, decoding, manifolds and travelling waves."""


for _command in (
    *INGEST_COMMANDS,
    *SCAFFOLD_COMMANDS,
    *RUN_COMMANDS,
    *SEARCH_COMMANDS,
    *BENCHMARK_COMMANDS,
    *EXPERIMENT_COMMANDS,
    *ANALYSIS_COMMANDS,
    *WAVES_COMMANDS,
    *VERIFY_COMMANDS,
):
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a fault the user can mend ends in one sentence and exit status 1."""
    if arguments is None and sys.argv[1:2] and sys.argv[1] in isolation.COMMANDS:
        isolation.run(lambda: main(sys.argv[1:]), sys.argv[1:])
    tell_hdf5_echoes_once()
    try:
        cli.main(args=arguments, standalone_mode=False)
    except DriftwaveError as error:
        _say(f"Error: {error}")
        sys.exit(1)
    except OSError as error:
        sentence = refusal(error)
        if sentence is None:
            raise
        _say(f"Error: {sentence}")
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
        name = click.get_current_context().info_name or ""
        run_logged(name, log, kwargs, lambda: command(*args, **kwargs))

    return wrapper


@cli.command()
@click.argument("simulator")
@_OUT
@_SEED
@_PARAMS
@_logged
def simulate(simulator: str, out: Path, seed: int, params: dict[str, Any]) -> None:
    """Write a simulated recording, with its truth, as an NWB file."""
    from driftwave import registry
    from driftwave.config import parse_params
    from driftwave.store import atomic_path

    module = registry.load("simulators", simulator)
    with atomic_path(out) as temporary:
        module.simulate(temporary, parse_params(module, params, simulator), seed=seed)


@cli.command()
@click.argument("recording", type=PATH)
@click.option(
    "--model", required=True, callback=result_name, help="Name of this model in the results."
)
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
    params: dict[str, Any],
    threads: int,
) -> None:
    """Fit a latent model and write the fitted model and its latents."""
    from driftwave.models.run import fit_and_write

    fit_and_write(
        recording,
        model=model,
        plugin=plugin or model,
        params=params,
        fit_folder=out_fit,
        latents_path=out,
        checkpoint=checkpoint,
        seed=seed,
        device=device,
        threads=threads,
    )


@cli.command()
@click.argument("members", type=PATH, nargs=-1, required=True)
@click.option(
    "--model", required=True, callback=result_name, help="Name of the ensemble in the results."
)
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


if __name__ == "__main__":
    main()
