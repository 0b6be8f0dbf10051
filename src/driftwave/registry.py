"""Plug-ins by name: modules of driftwave's own folders and entry points of other packages.

A module is a plug-in of a kind when it defines that kind's function at top level. Names, one-line
summaries and the ``OBSERVES`` and ``PAPER`` constants are read from the source without importing
it, so that listing (and parsing the workflow) never loads torch.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from driftwave.errors import DriftwaveError

# kind -> (package whose modules are searched, function that makes a module a plug-in)
KINDS: dict[str, tuple[str, str]] = {
    "models": ("driftwave.models", "fit"),
    "decoding": ("driftwave.decoding", "analyse"),
    "manifolds": ("driftwave.manifolds", "analyse"),
    "encoding": ("driftwave.encoding", "analyse"),
    "waves": ("driftwave.waves", "analyse"),
    "figures": ("driftwave.figures", "draw"),
    "simulators": ("driftwave.ingest.simulate", "simulate"),
    "experiments": ("driftwave.experiments", "run"),
}


@dataclass(frozen=True)
class Plugin:
    """What is known of a plug-in without importing it."""

    kind: str
    name: str
    module: str
    summary: str
    constants: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def paper(self) -> str:
        """Source of the method (``PAPER``)."""
        return str(self.constants.get("PAPER", ""))

    @property
    def observes(self) -> str:
        """Kind of signal a model is of (``OBSERVES``): spikes or field."""
        return str(self.constants.get("OBSERVES", ""))


def _source_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # its package is not there
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _describe(kind: str, name: str, module: str, source: Path | None) -> Plugin | None:
    """Read a plug-in's summary and constants from its source; None if it is not one."""
    if source is None:
        return Plugin(kind, name, module, "")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if KINDS[kind][1] not in functions:
        return None
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Plugin(kind, name, module, summary, constants)


@cache
def plugins(kind: str) -> dict[str, Plugin]:
    """All plug-ins of a kind by name, driftwave's own first."""
    if kind not in KINDS:
        raise DriftwaveError(f"There is no plug-in kind {kind!r}; kinds are {sorted(KINDS)}.")
    package = KINDS[kind][0]
    found: dict[str, Plugin] = {}
    folder = _source_of(package)
    if folder is not None:
        for source in sorted(folder.parent.glob("*.py")):
            if not source.stem.startswith("_"):
                plugin = _describe(kind, source.stem, f"{package}.{source.stem}", source)
                if plugin:
                    found[plugin.name] = plugin
    for point in entry_points(group=f"driftwave.{kind}"):
        plugin = _describe(kind, point.name, point.module, _source_of(point.module))
        if plugin:
            found.setdefault(plugin.name, plugin)
    return found


def plugin(kind: str, name: str) -> Plugin:
    """One plug-in's description.

    Raises
    ------
    DriftwaveError
        If no plug-in of that kind has that name; the message lists those there are.
    """
    known = plugins(kind)
    if name not in known:
        raise DriftwaveError(
            f"There is no {kind} plug-in named {name!r}; there are {', '.join(sorted(known))}. "
            f"Add a module {name}.py to {KINDS[kind][0]} or an entry point driftwave.{kind}."
        )
    return known[name]


def load(kind: str, name: str) -> ModuleType:
    """Import a plug-in's module."""
    return importlib.import_module(plugin(kind, name).module)


def layout_paths() -> dict[str, Path]:
    """Layouts that other packages offer: entry points naming a package that holds ``*.yaml``."""
    found: dict[str, Path] = {}
    for point in entry_points(group="driftwave.layouts"):
        spec = importlib.util.find_spec(point.module)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(folder).glob("*.yaml")):
                found.setdefault(path.stem, path)
    return found


@cache
def parameter_names(module: str, name: str = "Params") -> frozenset[str] | None:
    """Names of a plug-in's parameters, read from its source; None if they cannot be told.

    They can where its ``Params``, and all that this derives from, lead to pydantic's BaseModel by
    classes of the same module or imported by name; ``Params`` itself may be imported as well.
    """
    source = _source_of(module)
    if source is None:
        return None
    tree = ast.parse(source.read_text(encoding="utf-8"))
    places = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    places |= {
        node.name: (module, node.name) for node in tree.body if isinstance(node, ast.ClassDef)
    }
    for node in tree.body:
        if not (isinstance(node, ast.ClassDef) and node.name == name):
            continue
        names = {n.target.id for n in node.body if _is_field(n)}  # type: ignore[attr-defined]
        for base in map(ast.unparse, node.bases):
            if base.split(".")[-1] == "BaseModel":
                continue
            known = parameter_names(*places[base]) if base in places else None
            if known is None:
                return None
            names |= known
        return frozenset(names)
    return parameter_names(*places[name]) if name in places else None


def _is_field(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and not ast.unparse(node.annotation).startswith(("ClassVar", "typing.ClassVar"))
        and node.target.id != "model_config"
    )
