"""Subcommands of experiments, one per rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from driftwave.command import PATH, mapping, stage


@stage("experiment")
@click.argument("plugin")
@click.option("--params", default="{}", callback=mapping, help="Parameters as a JSON mapping.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def experiment(plugin: str, params: dict[str, Any], seed: int, threads: int, out: Path) -> None:
    """Ask PLUGIN's question of many simulated data sets."""
    from driftwave import registry
    from driftwave.compute import dask_threads
    from driftwave.config import parse_params
    from driftwave.store import write_tree

    module = registry.load("experiments", plugin)
    chosen = parse_params(module, params, plugin)
    with dask_threads(threads):
        result = module.run(chosen, seed=seed)
    facts = {"stage": "experiment", "plugin": plugin, "params": chosen.model_dump(), "seed": seed}
    write_tree(result, out, facts=facts)


@stage("experiment-figure")
@click.argument("plugin")
@click.argument("result", type=PATH)
def experiment_figure(plugin: str, result: Path, out: Path) -> None:
    """Draw what PLUGIN found, as png and svg."""
    from driftwave import registry
    from driftwave.figures.style import save_figure
    from driftwave.store import open_dataset

    save_figure(registry.load("experiments", plugin).draw(open_dataset(result)), out)


COMMANDS = (experiment, experiment_figure)
