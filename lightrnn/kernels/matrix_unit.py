"""The matrix unit of CPUs with AMX: eight tiles of up to 16 rows of 64 bytes.

A thread says first how many rows and bytes each tile has (`configure`), and gives them back at the
end (`release`). Called from Python, the same functions work on tiles of NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from lightrnn.kernels.bfloats import widened
from lightrnn.kernels.interpreted import Span
from lightrnn.kernels.intrinsic import POINTERS, compiled, index_of, signature

CONFIGURATION = 64
"""Bytes of what `configure` reads: 1, 15 zeros, each tile's bytes of a row as int16 from 16 on, and
each tile's rows as bytes from 48 on."""
_U8, _LONG = POINTERS["u8"], ir.IntType(64)


class _Tiles:
    """What the interpreted run has for a matrix unit."""

    rows: Any = np.zeros(8, np.int64)
    width: Any = np.zeros(8, np.int64)
    data: Any = np.zeros((8, 16, 64), np.uint8)

    @classmethod
    def of(cls, t: int, dtype: Any) -> Any:
        """Tile t's elements."""
        return cls.data[t, : cls.rows[t], : cls.width[t]].view(dtype)


def _statement(code: str) -> Callable[..., Any]:
    """LLVM code of an instruction; its operands have 64 bits, the first of them is an address."""

    def call(context: Any, b: Any, sig: Any, args: Any) -> Any:
        values = [b.ptrtoint(args[0], _LONG)] if args else []
        values += [index_of(context, b, sig, args, k) for k in range(1, len(args))]
        kind = ir.FunctionType(ir.VoidType(), [_LONG] * len(values))
        constraint = ",".join([*["r"] * len(values), "~{memory}"])
        b.asm(kind, code, constraint, values, side_effect=True)
        return context.get_dummy_value()

    return call


@compiled(signature(types.void, _U8), _statement("ldtilecfg ($0)"))
def configure(p: Span) -> None:
    """Give all tiles their sizes, and zeros."""
    whole = p.lanes(0, CONFIGURATION)
    assert whole[0] == 1
    assert not whole[1:16].any()
    _Tiles.width, _Tiles.rows = whole[16:32].view(np.int16).astype(np.int64), whole[48:56].copy()
    assert max(_Tiles.width) <= 64
    assert max(_Tiles.rows) <= 16
    _Tiles.data = np.zeros((8, 16, 64), np.uint8)


@compiled(signature(types.void), _statement("tilerelease"))
def release() -> None:
    """Be done with tiles: until then, they are saved whenever the thread is interrupted."""
    _Tiles.rows = np.zeros(8, np.int64)


def tile_zero(t: int) -> Callable[..., Any]:
    """A function that makes tile t all zeros."""

    def twin() -> None:
        _Tiles.data[t] = 0

    return compiled(signature(types.void), _statement(f"tilezero %tmm{t}"))(twin)


def tile_load(t: int) -> Callable[..., Any]:
    """A function that reads tile t: rows from a pointer on, so many bytes apart."""

    def twin(p: Span, stride: int) -> None:
        width = int(_Tiles.width[t])
        for r in range(_Tiles.rows[t]):
            _Tiles.data[t, r, :width] = p.lanes(r * stride, width)

    code = _statement(f"tileloadd ($0,$1,1), %tmm{t}")
    return compiled(signature(types.void, _U8, int), code)(twin)


def tile_store(t: int) -> Callable[..., Any]:
    """A function that writes tile t as `tile_load` reads it."""

    def twin(p: Span, stride: int) -> None:
        width = int(_Tiles.width[t])
        for r in range(_Tiles.rows[t]):
            p.lanes(r * stride, width)[:] = _Tiles.data[t, r, :width]

    code = _statement(f"tilestored %tmm{t}, ($0,$1,1)")
    return compiled(signature(types.void, _U8, int), code)(twin)


def tile_dot(c: int, a: int, b: int, *, integers: bool) -> Callable[..., Any]:
    """A function that adds a·b to tile c: each word of a row of a times a row of b's words.

    A word is four bytes, signed in a and not in b, and sums are int32; or two bfloat16.
    """
    mnemonic = "tdpbsud" if integers else "tdpbf16ps"

    def twin() -> None:
        if integers:
            left, right = _Tiles.of(a, np.int8).astype(np.int32), _Tiles.of(b, np.uint8)
            right, sums = right.astype(np.int32), _Tiles.of(c, np.int32)
        else:
            left, right = widened(_Tiles.of(a, np.uint16)), widened(_Tiles.of(b, np.uint16))
            sums = _Tiles.of(c, np.float32)
        parts = 4 if integers else 2
        columns = right.reshape(len(right), -1, parts).swapaxes(1, 2).reshape(left.shape[1], -1)
        sums += left @ columns

    return compiled(signature(types.void), _statement(f"{mnemonic} %tmm{b}, %tmm{a}, %tmm{c}"))(
        twin
    )


def stack_bytes(count: int) -> Callable[..., Any]:
    """A function that gives so many bytes of its caller's, for as long as that runs."""

    def code(context: Any, b: Any, sig: Any, args: Any) -> Any:
        place = cgutils.alloca_once(b, ir.ArrayType(ir.IntType(8), count))
        place.align = 64
        return b.bitcast(place, ir.IntType(8).as_pointer())

    def twin() -> Span:
        return Span(np.zeros(count, np.uint8))

    return compiled(signature(_U8), code)(twin)
