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
def _path(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


@cache
def _tree(module: str) -> ast.Module | None:
    path = _path(module)
    return ast.parse(path.read_text(encoding="utf-8")) if path else None


def _without_docstrings(tree: ast.Module) -> str:
    """Syntax tree as text without docstrings, so that writing docs does not re-run fits."""
    copy = ast.parse(ast.unparse(tree))
    for node in ast.walk(copy):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and len(body) > 1
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            del body[0]
    return ast.dump(copy)


@cache
def _digest(module: str) -> str:
    tree = _tree(module)
    return hashlib.sha256(_without_docstrings(tree).encode()).hexdigest() if tree else ""


@cache
def _imports(module: str, package: str) -> frozenset[str]:
    """Modules of ``package`` that ``module`` imports, at any depth of its code."""
    tree = _tree(module)
    found: set[str] = set()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found.update(n for n in names if n.split(".")[0] == package and _path(n) is not None)
    return frozenset(found)


@cache
def fingerprint(module: str) -> str:
    """Hash (16 hex digits) of a module and its import closure within its own top-level package."""
    package = module.split(".")[0]
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current in seen or current in _NOT_FOLLOWED:
            continue
        seen.add(current)
        waiting.extend(_imports(current, package))
    combined = "".join(f"{name}:{_digest(name)}" for name in sorted(seen))
    return hashlib.sha256(combined.encode()).hexdigest()[:16]
