"""Conditions on the columns of a table, as layouts write them, evaluated without running code.

pandas' own ``query`` reaches attributes, methods and modules, so that a layout from elsewhere
could run what it likes. Here an expression is parsed and every node of it must be one of those
below: nothing else is looked up, called or imported.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

GRAMMAR = (
    "comparisons (== != < <= > >=, in, not in) of column names, numbers, text and lists, joined "
    "by and, or, not (or &, |, ~), with + - * / // % on numbers, and isna(column), "
    "startswith(column, 'text'), endswith(column, 'text'), contains(column, 'text')"
)
LONGEST = 2000
_DEEPEST = 40

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_TEXT_TESTS = {"startswith": str.startswith, "endswith": str.endswith, "contains": str.__contains__}
_MISSING_TESTS = ("isna", "isnull", "notna", "notnull")
_QUOTED = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|`([^`]*)`|([&|])""")


class ExpressionError(ValueError):
    """Why an expression is refused; the message completes "which ..."."""


def evaluate(text: str, table: pd.DataFrame) -> np.ndarray:
    """Rows of a table for which a condition holds.

    Parameters
    ----------
    text : str
        In the grammar of :data:`GRAMMAR`; names that are no identifiers stand in backticks, and
        ``index`` is the row's number where no column has that name.
    table : DataFrame (row)

    Returns
    -------
    ndarray of bool (row,)
        As pandas' ``query`` has it: a comparison with a missing value is false (``!=``: true).

    Raises
    ------
    ExpressionError
        If the text is no such condition, names another column, or compares text with numbers.
    """
    body, quoted = _parsed(text)
    evaluator = _Evaluator(table, quoted)
    with np.errstate(all="ignore"):
        found = evaluator.value(body, 0)
    if not isinstance(found, bool | np.bool_) and not _is_condition(found):
        raise ExpressionError("which is not true or false for each row")
    return np.array(np.broadcast_to(np.asarray(found, dtype=bool), len(table)))


def _parsed(text: str) -> tuple[ast.expr, dict[str, str]]:
    """Syntax tree, and the columns that stand in backticks by the names put in their place."""
    if len(text) > LONGEST:
        raise ExpressionError(f"which has {len(text)} characters, more than {LONGEST}")
    quoted: dict[str, str] = {}

    def replaced(match: re.Match[str]) -> str:
        if match[3]:
            # As words they bind less tightly than comparisons, which is what pandas makes of them.
            return {"&": " and ", "|": " or "}[match[3]]
        if match[2] is None:
            return match[1]
        quoted[f"_column_{len(quoted)}_"] = match[2]
        return f"_column_{len(quoted) - 1}_"

    plain = " ".join(_QUOTED.sub(replaced, text).split("\n")).strip()
    try:
        return ast.parse(plain, mode="eval").body, quoted
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or str(error) or type(error).__name__
        raise ExpressionError(f"which fails ({' '.join(str(reason).split())})") from error


_ALLOWED = (
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Invert, ast.USub, ast.UAdd, ast.BinOp,
    *_ARITHMETIC, ast.Compare, *_COMPARISONS, ast.In, ast.NotIn, ast.Name, ast.Load, ast.Constant,
    ast.List, ast.Tuple, ast.Set, ast.Call,
)  # fmt: skip


def _spelt(node: ast.AST) -> str:
    try:
        text = ast.unparse(node)
    except (RecursionError, ValueError, AttributeError):
        text = type(node).__name__
    return repr(text[:60])


def _is_condition(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == bool


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    return isinstance(value, int | float | np.number)


class _Evaluator:
    """Values of the nodes of a condition: bool or number (row,), text (row,), or one of them."""

    def __init__(self, table: pd.DataFrame, quoted: Mapping[str, str]) -> None:
        self.table = table
        self.quoted = quoted

    def value(self, node: ast.expr, depth: int) -> Any:
        """Value of a node; its parts are ``depth`` levels down."""
        if depth > _DEEPEST:
            raise ExpressionError(f"which is nested more than {_DEEPEST} levels deep")
        kind = type(node).__name__
        method = getattr(self, f"_{kind.lower()}", None) if isinstance(node, _ALLOWED) else None
        if method is None:
            raise ExpressionError(f"which uses {_spelt(node)}, not allowed here")
        return method(node, depth + 1)

    def _constant(self, node: ast.Constant, depth: int) -> Any:
        del depth
        if isinstance(node.value, bool | str | float):
            return node.value
        if isinstance(node.value, int):
            return node.value if abs(node.value) < 2**63 else float(min(node.value, 10**300))
        raise ExpressionError(f"which uses {_spelt(node)}, not allowed here")

    def _name(self, node: ast.Name, depth: int) -> np.ndarray:
        del depth
        name = self.quoted.get(node.id, node.id)
        if name in self.table.columns:
            values = self.table[name]
            plain = values.to_numpy()
            return plain if plain.dtype.kind in "biuf" else values.to_numpy(dtype=object)
        if name == "index":
            return np.arange(len(self.table))
        raise ExpressionError(f"which names {name!r}, no column")

    def _list(self, node: ast.List | ast.Tuple | ast.Set, depth: int) -> list[Any]:
        found = [self.value(part, depth) for part in node.elts]
        if any(isinstance(part, np.ndarray | list) for part in found):
            raise ExpressionError(f"which lists more than numbers and text in {_spelt(node)}")
        return found

    _tuple = _set = _list

    def _boolop(self, node: ast.BoolOp, depth: int) -> Any:
        parts = [self._truth(part, depth) for part in node.values]
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        found = parts[0]
        for part in parts[1:]:
            found = join(found, part)
        return found

    def _truth(self, node: ast.expr, depth: int) -> Any:
        found = self.value(node, depth)
        if isinstance(found, bool | np.bool_) or _is_condition(found):
            return found
        advice = (
            f"compare it, as in `{node.id} == 1`" if isinstance(node, ast.Name) else "compare it"
        )
        raise ExpressionError(f"in which {_spelt(node)} is not true or false; {advice}")

    def _unaryop(self, node: ast.UnaryOp, depth: int) -> Any:
        if isinstance(node.op, ast.Not | ast.Invert):
            return np.logical_not(self._truth(node.operand, depth))
        number = self._number(node.operand, depth)
        return -number if isinstance(node.op, ast.USub) else number

    def _number(self, node: ast.expr, depth: int) -> Any:
        """A number (row,) or one, as a float: Python's whole numbers grow without bound."""
        found = self.value(node, depth)
        if not _is_number(found):
            raise ExpressionError(f"in which {_spelt(node)} is no number")
        return np.asarray(found, dtype=float)

    def _binop(self, node: ast.BinOp, depth: int) -> Any:
        if type(node.op) not in _ARITHMETIC:
            raise ExpressionError(f"which uses {_spelt(node)}, not allowed here")
        left, right = self._number(node.left, depth), self._number(node.right, depth)
        return _ARITHMETIC[type(node.op)](left, right)

    def _compare(self, node: ast.Compare, depth: int) -> Any:
        values = [self.value(part, depth) for part in (node.left, *node.comparators)]
        found: Any = True
        for sign, left, right in zip(node.ops, values[:-1], values[1:], strict=True):
            found = np.logical_and(found, _compared(sign, left, right, node))
        return found

    def _call(self, node: ast.Call, depth: int) -> Any:
        """A test of text or of missing values: ``f(column, ...)``, nothing else."""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if node.keywords or name not in (*_TEXT_TESTS, *_MISSING_TESTS):
            raise ExpressionError(f"which calls {_spelt(node.func)}, not allowed here")
        values = [self.value(part, depth) for part in node.args]
        if name in _MISSING_TESTS and len(values) == 1 and isinstance(values[0], np.ndarray):
            missing = pd.isna(values[0])
            return missing if name in ("isna", "isnull") else ~missing
        if len(values) == 2 and isinstance(values[0], np.ndarray) and isinstance(values[1], str):
            test = _TEXT_TESTS.get(name)
            if test is not None:
                rows = [isinstance(v, str) and test(v, values[1]) for v in values[0]]
                return np.array(rows, dtype=bool)
        raise ExpressionError(f"which gives {name} what it cannot test")


def _compared(sign: ast.cmpop, left: Any, right: Any, node: ast.Compare) -> Any:
    """One comparison, row by row."""
    if isinstance(sign, ast.In | ast.NotIn) or isinstance(right, list):
        if not isinstance(right, list) or not isinstance(
            sign, ast.In | ast.NotIn | ast.Eq | ast.NotEq
        ):
            raise ExpressionError(f"which needs a list at the right of {_spelt(node)}")
        rows = left if isinstance(left, np.ndarray) else np.array([left], dtype=object)
        within = pd.Series(rows).isin(right).to_numpy()
        within = within if isinstance(left, np.ndarray) else within[0]
        return ~within if isinstance(sign, ast.NotIn | ast.NotEq) else within
    if isinstance(left, list):
        raise ExpressionError(f"which has a list at the left of {_spelt(node)}")
    try:
        found = _COMPARISONS[type(sign)](_rows(left), _rows(right))
    except (TypeError, ValueError) as error:
        raise ExpressionError(f"in which {_spelt(node)} compares text with numbers") from error
    return found.to_numpy(dtype=bool) if isinstance(found, pd.Series) else found


def _rows(value: Any) -> Any:
    """A column as pandas compares it; one value as it is."""
    if isinstance(value, np.ndarray):
        return pd.Series(value) if value.ndim else value[()]
    return value
