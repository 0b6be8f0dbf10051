"""A vector of trials as a value in numba functions: one row of an array, in SIMD registers.

Numba compiles a loop over a short row of an array to scalar code, since it cannot rule out that
rows overlap. Here a row of ``LANES`` float32 is one LLVM vector value: ``row`` reads it, ``put``
writes it, ``+ - * /`` act on it elementwise and with float32 scalars.
"""

# ruff: noqa: ARG001  numba prescribes the arguments of an intrinsic and of its code generator.
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core.datamodel import models

LANES = 16
# Without `nnan` and `ninf`: a diverging trial must show up as such.
FAST = ("contract", "reassoc", "nsz", "arcp")

# Untyped: a call of an intrinsic does not take the arguments of its definition.
intrinsic: Any = extending.intrinsic

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INT = ir.IntType(32)
_INTP = ir.IntType(64)


class Lanes(types.Type):
    """Numba's type of a vector of ``LANES`` float32."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes{LANES}")


_lanes = Lanes()


@extending.register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)


def _at(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Pointer to the vector that starts at element ``index`` of a contiguous array."""
    base = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(base, [index]), _VECTOR.as_pointer())


def _load(builder: Any, pointer: Any) -> Any:
    loaded = builder.load(pointer)
    loaded.align = 4
    return loaded


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, pointer).align = 4


def _broadcast(builder: Any, scalar: Any) -> Any:
    empty = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(empty, scalar, ir.Constant(_INT, 0))
    return builder.shuffle_vector(
        first, empty, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
    )


def _shuffled(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, len(order)), order))


@intrinsic
def row(typingctx: Any, array: Any, index: Any) -> Any:
    """Row ``index`` of a contiguous float32 array (rows, LANES)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.mul(args[1], ir.Constant(_INTP, LANES))
        return _load(builder, _at(context, builder, array, args[0], place))

    return _lanes(array, types.intp), codegen


@intrinsic
def put(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write ``value`` to row ``index`` of a contiguous float32 array (rows, LANES)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.mul(args[1], ir.Constant(_INTP, LANES))
        _store(builder, args[2], _at(context, builder, array, args[0], place))
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), codegen


@intrinsic
def fill(typingctx: Any, scalar: Any) -> Any:
    """A vector of one float32 throughout."""
    return _lanes(types.float32), lambda _c, builder, _s, args: _broadcast(builder, args[0])


@intrinsic
def clip(typingctx: Any, value: Any, low: Any, high: Any) -> Any:
    """Limit to [low, high]; NaN stays NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, low, high = args[0], _broadcast(builder, args[1]), _broadcast(builder, args[2])
        value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
        return builder.select(builder.fcmp_ordered(">", value, high), high, value)

    return _lanes(_lanes, types.float32, types.float32), codegen


@intrinsic
def total(typingctx: Any, value: Any) -> Any:
    """Sum over the lanes, in a fixed order."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, width = args[0], LANES
        while width > 1:
            low = _shuffled(builder, value, value, list(range(width // 2)))
            high = _shuffled(builder, value, value, list(range(width // 2, width)))
            value, width = builder.fadd(low, high, flags=FAST), width // 2
        return builder.extract_element(value, ir.Constant(_INT, 0))

    return types.float32(_lanes), codegen


def _arithmetic(instruction: str) -> Callable[..., Any]:
    @intrinsic
    def operation(typingctx: Any, x: Any, y: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, b = (
                value if kind is _lanes else _broadcast(builder, value)
                for value, kind in zip(args, signature.args, strict=True)
            )
            return getattr(builder, instruction)(a, b, flags=FAST)

        kinds = (kind if kind is _lanes else types.float32 for kind in (x, y))
        return _lanes(*kinds), codegen

    return operation


def _overload(symbol: Callable[..., Any], instruction: str) -> None:
    operation = _arithmetic(instruction)

    @extending.overload(symbol)
    def implementation(x, y):  # numba wants the very signature of the function returned
        kinds = {type(x), type(y)}
        if Lanes in kinds and kinds <= {Lanes, types.Float}:
            return lambda x, y: operation(x, y)
        return None


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _overload(_symbol, _instruction)


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose a square of vectors in log2(LANES) rounds of two-vector shuffles."""
    span = LANES // 2
    while span:
        low = [lane if lane & span == 0 else lane - span + LANES for lane in range(LANES)]
        high = [lane + span if lane & span == 0 else lane + LANES for lane in range(LANES)]
        following = list(rows)
        for i in (i for i in range(LANES) if i & span == 0):
            following[i] = _shuffled(builder, rows[i], rows[i + span], low)
            following[i + span] = _shuffled(builder, rows[i], rows[i + span], high)
        rows, span = following, span // 2
    return rows


@intrinsic
def load_square(
    typingctx: Any, target: Any, index: Any, source: Any, start: Any, stride: Any, count: Any
) -> Any:
    """Rows index..index+LANES-1 of ``target`` from LANES stretches of ``source``, transposed.

    Stretch ``lane`` starts at element ``start + lane * stride``; those from ``count`` on are zero.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, index, read, start, stride, count = args
        last = builder.sub(count, ir.Constant(_INTP, 1))
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        stretches = []
        for lane in range(LANES):
            here = ir.Constant(_INTP, lane)
            used = builder.icmp_signed("<", here, count)
            safe = builder.mul(builder.select(used, here, last), stride)
            pointer = _at(context, builder, source, read, builder.add(start, safe))
            stretches.append(builder.select(used, _load(builder, pointer), zero))
        first = builder.mul(index, ir.Constant(_INTP, LANES))
        for i, value in enumerate(_transposed(builder, stretches)):
            place = builder.add(first, ir.Constant(_INTP, i * LANES))
            _store(builder, value, _at(context, builder, target, out, place))
        return context.get_dummy_value()

    ints = (types.intp,) * 3
    return types.void(target, types.intp, source, *ints), codegen


@intrinsic
def save_square(
    typingctx: Any, target: Any, start: Any, stride: Any, count: Any, source: Any, index: Any
) -> Any:
    """The reverse of :func:`load_square`: stretches from ``count`` on are not written."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, start, stride, count, read, index = args
        first = builder.mul(index, ir.Constant(_INTP, LANES))
        rows = []
        for i in range(LANES):
            place = builder.add(first, ir.Constant(_INTP, i * LANES))
            rows.append(_load(builder, _at(context, builder, source, read, place)))
        for lane, value in enumerate(_transposed(builder, rows)):
            here = ir.Constant(_INTP, lane)
            with builder.if_then(builder.icmp_signed("<", here, count), likely=True):
                place = builder.add(start, builder.mul(here, stride))
                _store(builder, value, _at(context, builder, target, out, place))
        return context.get_dummy_value()

    ints = (types.intp,) * 3
    return types.void(target, *ints, source, types.intp), codegen
