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

from driftwave.errors import DriftwaveError, InputError
from driftwave.remembered import remembered

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


@cache
def _root(package: str) -> Path | None:
    """Folder that holds a top-level package or module; finding it imports nothing."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    if places:
        return Path(places[0]).parent
    return Path(spec.origin).parent if spec and spec.origin else None


def _place(module: str) -> Path | None:
    # ``find_spec`` of a dotted name would import its parents, and with them torch.
    package, *rest = module.split(".")
    root = _root(package)
    return None if root is None else root.joinpath(package, *rest)


@cache
def source_of(module: str) -> Path | None:
    """Source file of a module, found without importing it or its packages; None if it has none."""
    place = _place(module)
    if place is None:
        return None
    for candidate in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _parsed(source: Path) -> ast.Module:
    try:
        return ast.parse(source.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise InputError(
            file=source,
            field=f"line {line}",
            found=str(getattr(error, "msg", error)),
            expected="Python source",
            fix="Mend the plug-in, or uninstall the package that offers it",
        ) from error


def _describe(
    kind: str, name: str, module: str, source: Path | None, *, own: bool = True
) -> Plugin | None:
    """Read a plug-in's summary and constants from its source; None if it is not one."""
    if source is None:
        return Plugin(kind, name, module, "")
    told = _outline(source)
    functions = set(told["functions"])
    if not own:  # a registered module may take its function from elsewhere
        functions |= set(told["taken"])
    if KINDS[kind][1] not in functions:
        return None
    return Plugin(kind, name, module, told["summary"], told["constants"])


def _outline(source: Path) -> dict[str, Any]:
    """What the top level of a source file holds, as far as plug-ins are concerned.

    Its ``functions``; what is ``taken`` from other modules, name to module and name there;
    ``constants``; ``classes`` with their annotated fields and their bases; and the ``summary``.
    """
    return remembered("outline", source, lambda: _read_outline(_parsed(source)))


def _read_outline(tree: ast.Module) -> dict[str, Any]:
    plain = (str, int, float, type(None))
    return {
        "functions": [node.name for node in tree.body if isinstance(node, ast.FunctionDef)],
        "taken": {
            alias.asname or alias.name: [node.module, alias.name]
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        },
        "constants": {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name) and isinstance(node.value.value, plain)
        },
        "classes": {
            node.name: {
                "fields": [n.target.id for n in node.body if _is_field(n)],  # type: ignore[attr-defined]
                "bases": list(map(ast.unparse, node.bases)),
            }
            for node in tree.body
            if isinstance(node, ast.ClassDef)
        },
        "summary": (ast.get_docstring(tree) or "").partition("\n")[0],
    }


@cache
def plugins(kind: str) -> dict[str, Plugin]:
    """All plug-ins of a kind by name, driftwave's own first."""
    if kind not in KINDS:
        raise DriftwaveError(f"There is no plug-in kind {kind!r}; kinds are {sorted(KINDS)}.")
    package = KINDS[kind][0]
    found: dict[str, Plugin] = {}
    folder = source_of(package)
    if folder is not None:
        for source in sorted(folder.parent.glob("*.py")):
            if not source.stem.startswith("_"):
                plugin = _describe(kind, source.stem, f"{package}.{source.stem}", source)
                if plugin:
                    found[plugin.name] = plugin
    for point in entry_points(group=f"driftwave.{kind}"):
        plugin = _describe(kind, point.name, point.module, source_of(point.module), own=False)
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
    """Import a plug-in's module.

    Raises
    ------
    DriftwaveError
        If there is no such plug-in, or its module cannot be imported.
    """
    module = plugin(kind, name).module
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            file=source_of(module) or module,
            field=f"{kind} plug-in {name!r}",
            found=f"that importing it fails ({error})",
            expected="a module whose imports are all installed",
            fix="Install what is missing, or mend the entry point of its package",
        ) from error


def layout_paths() -> dict[str, Path]:
    """Layouts that other packages offer: entry points naming a package that holds ``*.yaml``."""
    found: dict[str, Path] = {}
    for point in entry_points(group="driftwave.layouts"):
        folder = _place(point.module)
        for path in sorted(folder.glob("*.yaml")) if folder else []:
            found.setdefault(path.stem, path)
    return found


@cache
def parameter_names(module: str, name: str = "Params") -> frozenset[str] | None:
    """Names of a plug-in's parameters, read from its source; None if they cannot be told.

    They can where its ``Params``, and all that this derives from, lead to pydantic's BaseModel by
    classes of the same module or imported by name; ``Params`` itself may be imported as well.
    """
    source = source_of(module)
    if source is None:
        return None
    told = _outline(source)
    places = {taken: tuple(place) for taken, place in told["taken"].items() if place[0]}
    if name not in told["classes"]:
        return parameter_names(*places[name]) if name in places else None
    places |= {own: (module, own) for own in told["classes"]}
    names = set(told["classes"][name]["fields"])
    for base in told["classes"][name]["bases"]:
        if base.split(".")[-1] == "BaseModel":
            continue
        known = parameter_names(*places[base]) if base in places else None
        if known is None:
            return None
        names |= known
    return frozenset(names)


def _is_field(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and not ast.unparse(node.annotation).startswith(("ClassVar", "typing.ClassVar"))
        and node.target.id != "model_config"
    )
