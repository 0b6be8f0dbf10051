"""Subcommands that read NWB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from driftwave.address import is_remote
from driftwave.command import PATH, result_name, stage


class NwbSource(click.ParamType):
    """A path, or the text of a remote address."""

    name = "path or address"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path | str:
        """Leave an address as it is; a Path would halve its slashes."""
        del param, ctx
        return value if isinstance(value, Path) or is_remote(value) else Path(value)


@click.command()
@click.argument("file", type=NwbSource())
@click.option("--write-layout", type=PATH, default=None, help="Write a first layout to edit.")
@click.option("--force", is_flag=True, help="Overwrite the layout that is there.")
def inspect(file: Path | str, write_layout: Path | None, force: bool) -> None:
    """Print what an NWB file holds, and write a first layout for it.

    FILE is a path, an address https://... or dandi:DANDISET[@VERSION]/PATH.
    """
    from driftwave.ingest.inspect import contents, first_layout, layout_name
    from driftwave.store import write_text

    name = layout_name(write_layout, force=force) if write_layout else None
    click.echo(contents(file).to_string(index=False))
    if write_layout:
        write_text(write_layout, first_layout(file, name=name))
        click.echo(f"\nLayout written to {write_layout}; edit it, then run `driftwave ingest`.")


@stage("ingest")
@click.argument("nwb", type=NwbSource())
@click.option("--layout", required=True, help="Layout name or YAML path.")
@click.option("--layouts", default="config/layouts", show_default=True, help="Folder of layouts.")
@click.option("--session", required=True, callback=result_name, help="Session name.")
@click.option("--sha256", default=None, help="Checksum the file must have.")
@click.option(
    "--remote",
    "access",
    type=click.Choice(["auto", "ranges", "whole"]),
    default="auto",
    show_default=True,
    help="How a remote file is read: whole if a checksum is stated, else in ranges (auto).",
)
@click.option("--cache", type=PATH, default=None, help="Folder of whole copies of remote files.")
@click.option(
    "--bin-width",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="Bin width, s; default that of the layout.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def ingest(
    nwb: Path | str,
    layout: str,
    layouts: str,
    session: str,
    sha256: str | None,
    access: Any,
    cache: Path | None,
    bin_width: float | None,
    out: Path,
    threads: int,
) -> None:
    """Turn an NWB file into a recording store.

    NWB is a path, an address https://... or dandi:DANDISET[@VERSION]/PATH.
    """
    from driftwave.compute import dask_threads
    from driftwave.config import load_layout
    from driftwave.ingest.nwb import open_nwb, read_recording
    from driftwave.store import write_tree

    chosen = load_layout(layout, layouts)
    if bin_width is not None:
        chosen = chosen.model_copy(update={"bin_width": bin_width})
    with dask_threads(threads), open_nwb(nwb, sha256, access=access, cache=cache) as file:
        tree = read_recording(file, chosen, session=session)
        facts: dict[str, Any] = {"stage": "ingest", "source_file": str(file.path)}
        facts["params"] = chosen.model_dump(mode="json", exclude_unset=True)
        write_tree(tree, out, facts=facts)


COMMANDS: tuple[click.Command, ...] = (inspect, ingest)
