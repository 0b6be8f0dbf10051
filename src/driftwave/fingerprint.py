"""A hash of the code a rule runs, so that editing a model re-runs that model and nothing else.

Snakemake does not watch package code. The fingerprint covers a module and everything that it
imports of its own package and of driftwave, by syntax tree: comments and formatting do not count.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

from driftwave.registry import source_of
from driftwave.remembered import remembered

# The plumbing that dispatches to stages; a change there does not change a result.
_NOT_FOLLOWED = {
    "driftwave.cli",
    "driftwave.registry",
    "driftwave.fingerprint",
    "driftwave.remembered",
}


def _imported(node: ast.AST, package: str) -> list[str]:
    """Names that an import statement may bring in: modules, and what is taken from them.

    ``package`` is what a relative import of level one starts from.
    """
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    parts = package.split(".")
    start = parts[: len(parts) - node.level + 1] if node.level else []
    base = ".".join([*start, *filter(None, [node.module])])
    return [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else []


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
    """Digest of a module's code, and what it imports of its own package and of driftwave."""
    path = source_of(module)
    if path is None:
        return "", frozenset()
    digest, names = remembered(f"code of {module}", path, lambda: _parsed(module, path))
    return digest, frozenset(name for name in names if source_of(name) is not None)


def _parsed(module: str, path: Path) -> tuple[str, list[str]]:
    """Digest of a module's code, and the names it may import, modules or not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    followed = {module.split(".")[0], "driftwave"}
    names: set[str] = set()
    for node in ast.walk(tree):
        names.update(n for n in _imported(node, package) if n.split(".")[0] in followed)
        _drop_docstring(node)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), sorted(names)


@cache
def fingerprint(module: str) -> str:
    """Hash (16 hex digits) of a module and its import closure within its package and driftwave."""
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
