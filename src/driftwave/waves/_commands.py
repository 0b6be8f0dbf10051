"""Subcommands that follow from waves in a recording, one per rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from driftwave.command import PATH, mapping, stage

_params = click.option("--params", default="{}", callback=mapping, help="Parameters, as JSON.")
_seed = click.option("--seed", type=int, default=0, show_default=True)
_threads = click.option("--threads", type=click.IntRange(1), default=1, show_default=True)


@stage("detect")
@click.argument("recording", type=PATH)
@click.option("--plugin", required=True, help="Waves plug-in.")
@_params
@_seed
@_threads
def detect(
    recording: Path, plugin: str, params: dict[str, Any], seed: int, threads: int, out: Path
) -> None:
    """Find waves in the recording with another detector."""
    from driftwave import registry
    from driftwave.compute import dask_threads
    from driftwave.config import parse_params
    from driftwave.recording import open_recording
    from driftwave.store import write_tree

    module = registry.load("waves", plugin)
    chosen = parse_params(module, params, plugin)
    facts = {"stage": "detect", "plugin": plugin, "params": chosen.model_dump(), "seed": seed}
    with dask_threads(threads):
        found = module.analyse(open_recording(recording), None, chosen, seed=seed)
        write_tree(found, out, facts={**facts, "recording": str(recording)})


@stage("agree")
@click.option("--detector", "detectors", multiple=True, help="NAME=PATH of what one found.")
@_seed
def agree(detectors: tuple[str, ...], seed: int, out: Path) -> None:
    """Compare what detectors found in one recording."""
    from driftwave.store import open_dataset, write_tree
    from driftwave.wave_events.agreement import agree as agreement_of

    paths = dict(pair.split("=", 1) for pair in detectors)
    tables = {name: open_dataset(path) for name, path in paths.items()}
    write_tree(agreement_of(tables, seed=seed), out, facts={"stage": "agree", "detectors": paths})


@stage("spike-waves")
@click.argument("recording", type=PATH)
@click.argument("waves", type=PATH)
@_params
@_seed
@_threads
def spike_waves(
    recording: Path, waves: Path, params: dict[str, Any], seed: int, threads: int, out: Path
) -> None:
    """Hold the spikes of a recording against the phase of its waves."""
    from driftwave.compute import dask_threads
    from driftwave.config import parse_params
    from driftwave.recording import open_recording
    from driftwave.spike_waves import coupling
    from driftwave.store import open_dataset, write_tree

    chosen = parse_params(coupling, params, "spike_waves")
    facts = {"stage": "spike_waves", "params": chosen.model_dump(), "seed": seed}
    with dask_threads(threads):
        found = coupling.couple(open_recording(recording), open_dataset(waves), chosen, seed=seed)
        write_tree(found, out, facts={**facts, "recording": str(recording), "waves": str(waves)})


@stage("wave-table")
@click.argument("waves", type=PATH)
def wave_table(waves: Path, out: Path) -> None:
    """Write the events of a detector as comma-separated text."""
    from driftwave.store import open_dataset, write_text
    from driftwave.wave_events.export import events_frame

    write_text(out, events_frame(open_dataset(waves)).to_csv(index=False))


@stage("wave-film")
@click.argument("waves", type=PATH)
def wave_film(waves: Path, out: Path) -> None:
    """Film the phase of the recording's best events, as OUT.gif and OUT.mp4."""
    from driftwave.figures.film import save_film
    from driftwave.store import open_dataset

    save_film(open_dataset(waves), out)


COMMANDS = (detect, agree, spike_waves, wave_table, wave_film)
