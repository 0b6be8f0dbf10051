"""Subcommands of analyses: of one source, of a session's recording, and of groups of sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from driftwave.command import PATH, mapping, named_paths, stage

_params = click.option(
    "--params",
    default="{}",
    show_default=True,
    callback=mapping,
    help="Parameters as a JSON (or YAML) mapping.",
)
_seed = click.option("--seed", type=int, default=0, show_default=True)
_threads = click.option("--threads", type=click.IntRange(1), default=1, show_default=True)


def _analysis_command(kind: str, name: str, summary: str) -> click.Command:
    """The command of one kind of analysis plug-in; they differ in their folder only."""

    @stage(name)
    @click.argument("recording", type=PATH)
    @click.option("--plugin", required=True, help="Analysis plug-in.")
    @click.option(
        "--latents", type=PATH, default=None, help="Latents or activations; default the recording."
    )
    @_params
    @_seed
    @_threads
    def command(
        recording: Path,
        plugin: str,
        latents: Path | None,
        params: dict[str, Any],
        seed: int,
        threads: int,
        out: Path,
    ) -> None:
        from driftwave import registry
        from driftwave.compute import dask_threads
        from driftwave.config import parse_params
        from driftwave.recording import open_recording
        from driftwave.store import open_dataset, write_tree

        module = registry.load(kind, plugin)
        chosen = parse_params(module, params, plugin)
        source = open_dataset(latents) if latents else None
        facts = {"stage": name, "plugin": plugin, "params": chosen.model_dump(), "seed": seed}
        with dask_threads(threads):
            result = module.analyse(open_recording(recording), source, chosen, seed=seed)
            write_tree(result, out, facts={**facts, "recording": str(recording)})

    command.help = summary
    return command


@stage("activations")
@click.argument("recording", type=PATH)
@click.option("--fit", type=PATH, default=None, help="Folder of a fitted model.")
@click.option("--plugin", default=None, help="Plug-in of that model.")
@click.option("--file", type=PATH, default=None, help="NWB file or zarr store of activations.")
@_threads
def activations(
    recording: Path,
    fit: Path | None,
    plugin: str | None,
    file: Path | None,
    threads: int,
    out: Path,
) -> None:
    """Write a model's hidden units, or activations from a file, beside the recording's trials."""
    from driftwave.activations.write import read_activations
    from driftwave.compute import blas_threads
    from driftwave.provenance import used
    from driftwave.recording import open_recording
    from driftwave.store import write_tree

    facts = {"stage": "activations", "plugin": plugin, "recording": str(recording)}
    used(fit or file or recording)
    with blas_threads(threads):
        found = read_activations(open_recording(recording), fit=fit, plugin=plugin, path=file)
        write_tree(found, out, facts={**facts, "source": str(fit or file)})


@stage("align")
@click.argument("recordings", nargs=-1, required=True)
@click.option("--latents", multiple=True, help="NAME=PATH of a session's latents.")
@click.option("--encoding", multiple=True, help="NAME=PATH of a session's encoding manifold.")
@_params
@_seed
@_threads
def align(
    recordings: tuple[str, ...],
    latents: tuple[str, ...],
    encoding: tuple[str, ...],
    params: dict[str, Any],
    seed: int,
    threads: int,
    out: Path,
) -> None:
    """Align and compare the populations of sessions, given as NAME=recording.zarr."""
    from driftwave.alignment import compare
    from driftwave.compute import dask_threads
    from driftwave.config import parse_params
    from driftwave.recording import open_recording
    from driftwave.store import open_dataset, write_tree

    chosen = parse_params(compare, params, "groups")
    trees = {name: open_recording(path) for name, path in named_paths(recordings).items()}
    sources = {name: open_dataset(path) for name, path in named_paths(latents).items()}
    manifolds = {name: open_dataset(path) for name, path in named_paths(encoding).items()}
    facts = {"stage": "align", "params": chosen.model_dump(), "seed": seed}
    facts |= {"recordings": list(recordings), "latents": list(latents), "encoding": list(encoding)}
    with dask_threads(threads):
        write_tree(compare.compare(trees, sources, manifolds, chosen, seed=seed), out, facts=facts)


@stage("connectome")
@click.argument("recording", type=PATH)
@_params
@_seed
@_threads
def connectome(recording: Path, params: dict[str, Any], seed: int, threads: int, out: Path) -> None:
    """Communities of a recording's units, from their affinity as it changes over time."""
    from driftwave.compute import dask_threads
    from driftwave.config import parse_params
    from driftwave.connectome import analysis
    from driftwave.recording import open_recording
    from driftwave.store import write_tree

    chosen = parse_params(analysis, params, "connectome")
    facts = {"stage": "connectome", "params": chosen.model_dump(), "seed": seed}
    with dask_threads(threads):
        found = analysis.analyse(open_recording(recording), chosen, seed=seed)
        write_tree(found, out, facts={**facts, "recording": str(recording)})


@stage("decoding-table")
@click.option("--decoded", multiple=True, required=True, help="DECODER/SOURCE=PATH of a store.")
def decoding_table(decoded: tuple[str, ...], out: Path) -> None:
    """Put all decoders and sources of a session into one table (tsv, with an html page)."""
    from driftwave.readouts.table import decoding_table as table_of
    from driftwave.readouts.table import write_decoding_table
    from driftwave.store import open_dataset

    stores = {}
    for name, path in named_paths(decoded).items():
        decoder, _, source = name.partition("/")
        stores[decoder, source] = open_dataset(path)
    write_decoding_table(table_of(stores), out)


COMMANDS = (
    _analysis_command(
        "decoding", "decode", "Decode behaviour and stimuli from counts, latents or activations."
    ),
    _analysis_command("manifolds", "manifold", "Geometry of trial trajectories, with its null."),
    _analysis_command("encoding", "encode", "Manifold of units by what they respond to."),
    _analysis_command("waves", "waves", "Travelling waves in the recording or a model's latents."),
    activations,
    align,
    connectome,
    decoding_table,
)
