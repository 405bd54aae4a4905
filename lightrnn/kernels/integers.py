"""Whole numbers in vectors: products of pairs, and floats as 16-bit integers.

A word holds a pair: two int16, the first in its low half. One instruction multiplies 16 pairs by 16
others and sums each two products; where the CPU has VNNI, the same one adds the sum to a total.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from lightrnn.kernels.interpreted import Span
from lightrnn.kernels.simd import (
    I16,
    LANES,
    POINTERS,
    WIDE_REGISTERS,
    absolute,
    call_llvm,
    compiled,
    float_bits,
    in_all_lanes,
    index_of,
    inlined,
    lanes_before,
    place_of,
    select,
    signature,
    splat,
)

_SHORT, _WORD = ir.IntType(16), ir.IntType(32)
_SHORTS, _PAIRS = ir.VectorType(_SHORT, LANES), ir.VectorType(_SHORT, 2 * LANES)
_WORDS = ir.VectorType(_WORD, LANES)
_ROUNDER = 12582912.0
"""1.5 * 2**23: adding it leaves the nearest whole number in the low bits."""


def _dot(element: ir.IntType) -> Callable[..., Any]:
    """pmaddwd, in two halves where registers have 256 bits."""

    def code(context: Any, b: Any, sig: Any, args: Any) -> Any:
        weights = b.load(place_of(context, b, sig, args, ir.VectorType(element, 2 * LANES)))
        weights.align = 1
        wide = b.sext(weights, _PAIRS) if element != _SHORT else weights
        pairs = b.bitcast(args[2], _PAIRS)
        if WIDE_REGISTERS:
            sums = call_llvm(b, "llvm.x86.avx512.pmaddw.d.512", _WORDS, [wide, pairs])
            return b.add(args[3], sums)
        halves = []
        for start in (0, LANES):
            order = ir.Constant(_WORDS, list(range(start, start + LANES)))
            parts = [b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), order)
                     for v in (wide, pairs)]  # fmt: skip
            kind = ir.VectorType(_WORD, LANES // 2)
            halves.append(call_llvm(b, "llvm.x86.avx2.pmadd.wd", kind, parts))
        whole = ir.Constant(_WORDS, list(range(LANES)))
        return b.add(args[3], b.shuffle_vector(*halves, whole))

    return code


def _sums(weights: Any, pairs: Any) -> Any:
    a = np.ascontiguousarray(pairs).view(np.int16).astype(np.int32)
    return (weights.astype(np.int32) * a).reshape(LANES, 2).sum(axis=1, dtype=np.int32)


@compiled(signature(I16, POINTERS["u8"], int, I16, I16), _dot(ir.IntType(8)))
def dot_bytes(p: Span, i: int, pairs: Any, total: Any) -> Any:
    """total + w0 * a0 + w1 * a1 in each lane, w0 and w1 being the lane's int8 from p[i] on.

    a0 and a1: the pair in the lane of `pairs`.
    """
    return total + _sums(p.lanes(i, 2 * LANES).view(np.int8), pairs)


@compiled(signature(I16, POINTERS["u8"], int, I16, I16), _dot(_SHORT))
def dot_shorts(p: Span, i: int, pairs: Any, total: Any) -> Any:
    """`dot_bytes` with the weights as int16, in the 64 bytes from p[i] on."""
    return total + _sums(p.lanes(i, 4 * LANES).view(np.int16), pairs)


@compiled(
    signature(I16, POINTERS["i32"], int),
    lambda c, b, sig, a: in_all_lanes(b, _WORDS, b.load(b.gep(a[0], [index_of(c, b, sig, a, 1)]))),
)
def broadcast_int(p: Span, i: int) -> Any:
    """p[i] in every lane."""
    return np.full(LANES, p[i], np.int32)


def _store_shorts(context: Any, b: Any, sig: Any, args: Any) -> Any:
    place = place_of(context, b, sig, args, _SHORTS)
    values = b.trunc(args[2], _SHORTS)
    mask = lanes_before(b, index_of(context, b, sig, args, 3))
    kind = ir.FunctionType(
        ir.VoidType(), [_SHORTS, place.type, _WORD, ir.VectorType(ir.IntType(1), LANES)]
    )
    store = cgutils.get_or_insert_function(b.module, kind, "llvm.masked.store.v16i16.p0")
    b.call(store, [values, place, ir.Constant(_WORD, 2), mask])
    return context.get_dummy_value()


@compiled(signature(types.void, POINTERS["u16"], int, I16, int), _store_shorts)
def store_shorts(p: Any, i: int, v: Any, n: int) -> None:
    """Write the low halves of the first `n` lanes from p[i] on. 0 <= n <= 16."""
    p.lanes(i, n)[:] = v[:n].astype(np.uint32) & np.uint32(0xFFFF)


@inlined
def nearest(x):
    """The nearest whole number, ties to even, of lanes within 2**22; 0 for NaN and those beyond."""
    near = select(absolute(x) < splat(4194304.0), x, splat(0.0))
    magic = splat(_ROUNDER)
    return float_bits(near + magic) - float_bits(magic)
