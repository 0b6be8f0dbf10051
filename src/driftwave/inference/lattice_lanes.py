"""Rows of trials for kernels that serve both float32 and float64.

A state is an array (row, lane), one row per real number, one lane per trial: ``LANES`` trials in
float32, whose rows are SIMD values (:mod:`driftwave.inference.lanes`), and one trial in float64,
whose rows are scalars. A kernel written with :func:`get`, :func:`set_row` and arithmetic compiles
to either.
"""

# ruff: noqa: ARG001  numba prescribes the arguments of overloads and of code generators.
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils

from driftwave.inference import lanes
from driftwave.inference.lanes import FAST, LANES, load_square, put, row, save_square, total
from driftwave.inference.langevin_kernels import _bend


def compiled(*, cached: bool = False) -> Callable[..., Any]:
    """``numba.njit`` as the kernels of oscillators are compiled."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(FAST)}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=cached, **options)(function)
        except RuntimeError:  # no folder where numba could keep the compiled code
            return njit(**options)(function)

    return decorate


def lanes_of(dtype: np.dtype) -> int:
    """Trials side by side."""
    return LANES if dtype == np.float32 else 1


def get(rows: Any, i: int) -> Any:
    """Row i."""
    raise NotImplementedError("compiled code only")


def set_row(rows: Any, i: int, value: Any) -> None:
    """Write row i."""
    raise NotImplementedError("compiled code only")


def inverse_root(x: Any) -> Any:
    """1 / sqrt(x)."""
    raise NotImplementedError("compiled code only")


def bend(x: Any) -> Any:
    """Hyperbolic tangent."""
    raise NotImplementedError("compiled code only")


def load(rows: Any, source: Any, t: int, first: int, count: int) -> None:
    """Bin t of trials ``first ..`` of ``source`` (trial, bin, width), as rows (width, lane)."""
    raise NotImplementedError("compiled code only")


def save(target: Any, t: int, first: int, count: int, rows: Any) -> None:
    """The reverse of :func:`load`."""
    raise NotImplementedError("compiled code only")


def flush(target: Any, rows: Any) -> None:
    """Add each row's sum over lanes to ``target`` (row,) in float64, and clear the rows."""
    raise NotImplementedError("compiled code only")


def _single(kind: Any) -> bool:
    return kind.dtype == types.float32


@extending.overload(get)
def _get(rows, i):
    if _single(rows):
        return lambda rows, i: row(rows, i)
    return lambda rows, i: rows[i, 0]


@extending.overload(set_row)
def _set_row(rows, i, value):
    if _single(rows):
        return lambda rows, i, value: put(rows, i, value)

    def scalar(rows, i, value):
        rows[i, 0] = value

    return scalar


@lanes.intrinsic
def _vector_inverse_root(typingctx: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        signature = ir.FunctionType(kind, [kind])
        name = f"llvm.sqrt.v{LANES}f32"
        root = cgutils.get_or_insert_function(builder.module, signature, name)
        one = ir.Constant(kind, [1.0] * LANES)
        return builder.fdiv(one, builder.call(root, [args[0]]))

    return x(x), codegen


@extending.overload(inverse_root)
def _inverse_root(x):
    if isinstance(x, lanes.Lanes):
        return lambda x: _vector_inverse_root(x)
    return lambda x: 1.0 / math.sqrt(x)


@extending.overload(bend)
def _tanh(x):
    if isinstance(x, lanes.Lanes):
        return lambda x: _bend(x)
    return lambda x: math.tanh(x)


@extending.overload(load)
def _load(rows, source, t, first, count):
    def each(rows, source, t, first, count):
        for i in range(source.shape[2]):
            for lane in range(count):
                rows[i, lane] = source[first + lane, t, i]

    def squares(rows, source, t, first, count):
        bins, width = source.shape[1:]
        start, stride = (first * bins + t) * width, bins * width
        if width < LANES:
            for i in range(width):
                for lane in range(count):
                    rows[i, lane] = source[first + lane, t, i]
            return
        for i in range(0, width - LANES + 1, LANES):
            load_square(rows, i, source, start + i, stride, count)
        if width % LANES:
            i = width - LANES
            load_square(rows, i, source, start + i, stride, count)

    return squares if _single(rows) else each


@extending.overload(save)
def _save(target, t, first, count, rows):
    def each(target, t, first, count, rows):
        for i in range(target.shape[2]):
            for lane in range(count):
                target[first + lane, t, i] = rows[i, lane]

    def squares(target, t, first, count, rows):
        bins, width = target.shape[1:]
        start, stride = (first * bins + t) * width, bins * width
        if width < LANES:
            for i in range(width):
                for lane in range(count):
                    target[first + lane, t, i] = rows[i, lane]
            return
        for i in range(0, width - LANES + 1, LANES):
            save_square(target, start + i, stride, count, rows, i)
        if width % LANES:
            i = width - LANES
            save_square(target, start + i, stride, count, rows, i)

    return squares if _single(rows) else each


@extending.overload(flush)
def _flush(target, rows):
    def sums(target, rows):
        for i in range(rows.shape[0]):
            target[i] += total(row(rows, i))
            for lane in range(rows.shape[1]):
                rows[i, lane] = 0

    def scalars(target, rows):
        for i in range(rows.shape[0]):
            target[i] += rows[i, 0]
            rows[i, 0] = 0

    return sums if _single(rows) else scalars
