"""What subcommands share that live beside the stage they run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import yaml

PATH = click.Path(path_type=Path)


def mapping(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    """A mapping from the text of an option, JSON or YAML."""
    del context
    content = {} if text is None else yaml.safe_load(text)
    if not isinstance(content, dict):
        raise click.BadParameter(f"{option.name} must be a mapping, got {text!r}")
    return content


def named_paths(pairs: tuple[str, ...]) -> dict[str, Path]:
    """``NAME=PATH`` options or arguments as a mapping."""
    split = [pair.partition("=") for pair in pairs]
    if any(not name or not path for name, _, path in split):
        raise click.BadParameter(f"expected NAME=PATH, got {pairs}")
    return {name: Path(path) for name, _, path in split}


def stage(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command with ``--out`` and ``--log``, as every rule gives them."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def logged(*, log: Path | None, **options: Any) -> None:
            from driftwave.joblog import job_log

            with job_log(log, name):
                function(**options)

        with_log = click.option("--log", type=PATH, default=None, help="Also log to this file.")
        with_out = click.option("--out", type=PATH, required=True, help="Output path.")
        return click.command(name=name)(with_out(with_log(logged)))

    return decorate
