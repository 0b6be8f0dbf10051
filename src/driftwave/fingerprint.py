"""A hash of the code a rule runs, so that editing a model re-runs that model and nothing else.

Snakemake does not watch package code. The fingerprint covers a module and everything of driftwave
it imports, by syntax tree: comments and formatting do not count.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

# The plumbing that dispatches to stages; a change there does not change a result.
_NOT_FOLLOWED = {"driftwave.cli", "driftwave.registry", "driftwave.fingerprint"}


@cache
def _root(package: str) -> Path | None:
    """Folder that holds a top-level package or module; finding it imports nothing."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    if places:
        return Path(places[0]).parent
    return Path(spec.origin).parent if spec and spec.origin else None


@cache
def _path(module: str) -> Path | None:
    # ``find_spec`` of a dotted name imports its parents, and with them torch.
    package, *rest = module.split(".")
    root = _root(package)
    if root is None:
        return None
    path = root.joinpath(package, *rest)
    for candidate in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imported(node: ast.AST) -> list[str]:
    """Names that an import statement may bring in: modules, and what is taken from them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def _drop_docstring(node: ast.AST) -> None:
    """Remove a docstring, so that writing docs does not re-run fits."""
    body = getattr(node, "body", None)
    if (
        isinstance(body, list)
        and len(body) > 1
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    ):
        del body[0]


@cache
def _read(module: str) -> tuple[str, frozenset[str]]:
    """Digest of a module's code, and the modules of its own package that it imports."""
    path = _path(module)
    if path is None:
        return "", frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module.split(".")[0]
    names: set[str] = set()
    for node in ast.walk(tree):
        names.update(n for n in _imported(node) if n.split(".")[0] == package)
        _drop_docstring(node)
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return digest, frozenset(name for name in names if _path(name) is not None)


@cache
def fingerprint(module: str) -> str:
    """Hash (16 hex digits) of a module and its import closure within its own top-level package."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current in seen or current in _NOT_FOLLOWED:
            continue
        seen.add(current)
        waiting.extend(_read(current)[1])
    combined = "".join(f"{name}:{_read(name)[0]}" for name in sorted(seen))
    return hashlib.sha256(combined.encode()).hexdigest()[:16]
