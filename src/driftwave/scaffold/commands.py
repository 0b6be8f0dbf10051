"""Commands of plugging in: what there is, and first versions of more."""

from __future__ import annotations

from pathlib import Path

import click

from driftwave.command import PATH


@click.command(name="list")
@click.argument("kind", default="models")
def list_plugins(kind: str) -> None:
    """List plug-ins of a kind (or `layouts` of other packages): name, one line, paper."""
    from driftwave import registry

    if kind == "layouts":
        for name, path in registry.layout_paths().items():
            click.echo(f"{name:24s} {path}")
        return
    for plugin in registry.plugins(kind).values():
        paper = f" [{plugin.paper}]" if plugin.paper else ""
        package = plugin.module.partition(".")[0]
        whose = "" if package == "driftwave" else f" ({package})"
        click.echo(f"{plugin.name:24s} {plugin.summary}{paper}{whose}")


@click.command()
@click.argument("what", type=click.Choice(["model", "analysis", "layout", "figure"]))
@click.argument("name")
@click.option("--kind", default=None, help="Of an analysis: manifolds (default), decoding, ...")
@click.option("--into", type=PATH, default=None, help="Folder of another package: src/mylab.")
def new(what: str, name: str, kind: str | None, into: Path | None) -> None:
    """Write a plug-in that works, to be changed, and the test of its contract."""
    from driftwave.scaffold.write import write_plugin

    written, told = write_plugin(what, name, kind, into, Path.cwd())
    for path in written:
        click.echo(f"Written: {path}")
    click.echo(told)


COMMANDS: tuple[click.Command, ...] = (list_plugins, new)
