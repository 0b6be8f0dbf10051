"""What subcommands share that live beside the stage they run."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from driftwave.errors import InputError
from driftwave.reading import parse_yaml, plain
from driftwave.strict import LONGEST_NAME, NAME_PATTERN

PATH = click.Path(path_type=Path)


def mapping(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    """A mapping from the text of an option, JSON or YAML."""
    del context
    try:
        content = {} if text is None else parse_yaml(text)
    except yaml.YAMLError as error:
        raise click.BadParameter(f"{option.name} is not a mapping: {plain(error)}") from error
    if not isinstance(content, dict):
        raise click.BadParameter(f"{option.name} must be a mapping, got {plain(text, 100)!r}")
    return content


def result_name(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """A session's or model's name as the configuration allows it: one that can name a file."""
    del context
    if name is not None and (not re.fullmatch(NAME_PATTERN, name) or len(name) > LONGEST_NAME):
        raise InputError(
            file="command line",
            field=option.opts[0],
            found=repr(plain(name, 100)),
            expected="letters, digits, _ and -, the first one a letter or digit, at most "
            f"{LONGEST_NAME}",
            fix="Choose such a name",
        )
    return name


def named_paths(pairs: tuple[str, ...]) -> dict[str, Path]:
    """``NAME=PATH`` options or arguments as a mapping."""
    split = [pair.partition("=") for pair in pairs]
    if any(not name or not path for name, _, path in split):
        raise click.BadParameter(f"expected NAME=PATH, got {pairs}")
    return {name: Path(path) for name, _, path in split}


def run_logged(
    name: str, log: Path | None, options: Mapping[str, Any], job: Callable[[], object]
) -> None:
    """Run a job of the command line: logged, with a ledger of its inputs, its tables recorded."""
    from driftwave.joblog import job_log
    from driftwave.provenance import ledger, stamp_table

    with job_log(log, name), ledger(name.replace("-", "_"), options):
        job()
        out = options.get("out")
        if isinstance(out, Path) and name != "summary":
            for path in _recorded_beside(out):
                stamp_table(path)


def _recorded_beside(out: Path) -> list[Path]:
    """Files that hold no record of their own: tables, rates for the benchmark, NWB, films."""
    made = [out, out.with_name(f"{out.name}.gif"), out.with_name(f"{out.name}.mp4")]
    made += [out.with_suffix(".html")] if out.suffix == ".tsv" else []
    own = (".png", ".svg", ".zarr")
    return [path for path in made if path.is_file() and path.suffix not in own]


def stage(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command with ``--out`` and ``--log``, as every rule gives them."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def logged(*, log: Path | None, **options: Any) -> None:
            run_logged(name, log, options, lambda: function(**options))

        with_log = click.option("--log", type=PATH, default=None, help="Also log to this file.")
        with_out = click.option("--out", type=PATH, required=True, help="Output path.")
        return click.command(name=name)(with_out(with_log(logged)))

    return decorate
