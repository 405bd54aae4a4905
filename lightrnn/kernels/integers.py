"""Whole numbers in vectors: products of quads, and floats as 16-bit integers.

A quad is four factors in a row, k0 to k3, and takes two words of activations: the int16 pairs
(k0, k2) and (k1, k3). One instruction multiplies 16 pairs by 16 others and sums each two products;
where the CPU has VNNI, the same one adds the sum to a total.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from lightrnn.kernels.interpreted import Span
from lightrnn.kernels.intrinsic import (
    I16,
    LANES,
    POINTERS,
    WIDE_REGISTERS,
    call_llvm,
    compiled,
    in_all_lanes,
    index_of,
    inlined,
    lanes_before,
    place_of,
    signature,
)
from lightrnn.kernels.simd import absolute, float_bits, select, splat

_SHORT, _WORD = ir.IntType(16), ir.IntType(32)
_SHORTS, _PAIRS = ir.VectorType(_SHORT, LANES), ir.VectorType(_SHORT, 2 * LANES)
_WORDS = ir.VectorType(_WORD, LANES)
_IN_PAIRS = [4 * (i // 4) + (0, 2, 1, 3)[i % 4] for i in range(LANES)]
VNNI = os.environ.get("LIGHTRNN_TARGET") == "v4vnni"
BEYOND = os.environ.get("LIGHTRNN_TARGET", "v4vnni") == "v4vnni"
"""Whether code for CPUs with AVX512-BF16 and AMX is made: with that for VNNI, and interpreted."""
_ROUNDER = 12582912.0
"""1.5 * 2**23: adding it leaves the nearest whole number in the low bits."""


def _dot(context: Any, b: Any, sig: Any, args: Any) -> Any:
    """vpdpwssd, else pmaddwd, in two halves where registers have 256 bits."""
    if VNNI:  # its intrinsic becomes pmaddwd and two additions in another order
        kind = ir.FunctionType(_WORDS, [_WORDS] * 3)
        return b.asm(kind, "vpdpwssd $2, $1, $0", "=v,v,v,0", args, side_effect=False)
    factors = [b.bitcast(v, _PAIRS) for v in args[:2]]
    if WIDE_REGISTERS:
        sums = call_llvm(b, "llvm.x86.avx512.pmaddw.d.512", _WORDS, factors)
        return b.add(args[2], sums)
    halves = []
    for start in (0, LANES):
        order = ir.Constant(_WORDS, list(range(start, start + LANES)))
        parts = [b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), order) for v in factors]
        kind = ir.VectorType(_WORD, LANES // 2)
        halves.append(call_llvm(b, "llvm.x86.avx2.pmadd.wd", kind, parts))
    whole = ir.Constant(_WORDS, list(range(LANES)))
    return b.add(args[2], b.shuffle_vector(*halves, whole))


@compiled(signature(I16, I16, I16, I16), _dot)
def dot_pairs(x: Any, y: Any, total: Any) -> Any:
    """total + x0 * y0 + x1 * y1 in each lane, of the pairs in its words."""
    factors = [np.ascontiguousarray(v).view(np.int16).astype(np.int32) for v in (x, y)]
    return total + (factors[0] * factors[1]).reshape(LANES, 2).sum(axis=1, dtype=np.int32)


def _dot_bytes(context: Any, b: Any, sig: Any, args: Any) -> Any:
    kind = ir.FunctionType(_WORDS, [_WORDS] * 3)
    return b.asm(kind, "vpdpbusd $2, $1, $0", "=v,v,v,0", args, side_effect=False)


@compiled(signature(I16, I16, I16, I16), _dot_bytes)
def dot_bytes(x: Any, y: Any, total: Any) -> Any:
    """total + the four products of a word's bytes, x's from 0 on, y's signed. Needs VNNI."""
    first = np.ascontiguousarray(x).view(np.uint8).astype(np.int32)
    second = np.ascontiguousarray(y).view(np.int8).astype(np.int32)
    return total + (first * second).reshape(LANES, 4).sum(axis=1, dtype=np.int32)


def _with_memory(mnemonic: str, times: int, offset: int, *, one: bool) -> Callable[..., Any]:
    """Code of an instruction of a vector, what lies `times` steps and `offset` bytes on, a total.

    The compiler does not know that memory is read: it must have been written by another function.
    """
    place = f"{offset}($2, $3, {times})" if times else f"{offset}($2)"
    code = f"{mnemonic} {place}{'{1to16}' if one else ''}, $1, $0"

    def call(context: Any, b: Any, sig: Any, args: Any) -> Any:
        factor, pointer, _, *total = args
        step = index_of(context, b, sig, args, 2)
        values = [factor, b.ptrtoint(pointer, ir.IntType(64)), step, *total]
        kind = ir.FunctionType(_WORDS, [v.type for v in values])
        return b.asm(kind, code, "=v,v,r,r" + ",0" * len(total), values, side_effect=False)

    return call


def pairs_at(times: int, offset: int, *, one: bool) -> Callable[..., Any]:
    """`dot_pairs` of a vector and one in memory, `times` steps and `offset` bytes on. Needs VNNI.

    The function takes the vector, a pointer, the bytes of a step and the total. one: a single word
    for all lanes. Only what another function has written may be read.
    """

    def twin(x: Any, p: Span, step: int, total: Any) -> Any:
        start = times * step + offset
        words = p.lanes(start, 4 if one else 4 * LANES).view(np.int32)
        return dot_pairs(x, np.broadcast_to(words, LANES), total)

    code = _with_memory("vpdpwssd", times, offset, one=one)
    return compiled(signature(I16, I16, POINTERS["u8"], int, I16), code)(twin)


def sum_at(times: int, offset: int) -> Callable[..., Any]:
    """A vector and a word in memory, added in each lane; otherwise as `pairs_at`."""

    def twin(x: Any, p: Span, step: int) -> Any:
        return x + p.lanes(times * step + offset, 4).view(np.int32)

    code = _with_memory("vpaddd", times, offset, one=True)
    return compiled(signature(I16, I16, POINTERS["u8"], int), code)(twin)


def _odd_lanes(context: Any, b: Any, sig: Any, args: Any) -> Any:
    order = [k + 1 if k % 2 == 0 else LANES for k in range(LANES)]
    zeros = ir.Constant(_WORDS, [0] * LANES)
    return b.shuffle_vector(args[0], zeros, ir.Constant(_WORDS, order))


@compiled(signature(I16, I16), _odd_lanes)
def odd_lanes(v: Any) -> Any:
    """Lanes 1, 3, 5 as lanes 0, 2, 4; the others 0."""
    return np.stack([v[1::2], np.zeros(LANES // 2, v.dtype)], axis=1).ravel()


def _words_sum(context: Any, b: Any, sig: Any, args: Any) -> Any:
    total = call_llvm(b, f"llvm.vector.reduce.add.v{LANES}i32", _WORD, args)
    return b.sext(total, ir.IntType(64))


@compiled(signature(types.int64, I16), _words_sum)
def words_sum(v: Any) -> Any:
    """The sum of all lanes, modulo 2**32."""
    return int(v.sum(dtype=np.int32))


def _load_words(context: Any, b: Any, sig: Any, args: Any) -> Any:
    words = b.load(place_of(context, b, sig, args, _WORDS))
    words.align = 1
    return words


@compiled(signature(I16, POINTERS["u8"], int), _load_words)
def load_words(p: Span, i: int) -> Any:
    """The 64 bytes from p[i] on."""
    return p.lanes(i, 4 * LANES).view(np.int32)


@compiled(
    signature(I16, I16), lambda c, b, sig, a: b.and_(a[0], ir.Constant(_WORDS, [0xFF00FF] * LANES))
)
def even_bytes(v: Any) -> Any:
    """Bytes 0 and 2 of each word, as pairs."""
    return v & np.int32(0xFF00FF)


def _odd_bytes(context: Any, b: Any, sig: Any, args: Any) -> Any:
    shorts = b.bitcast(args[0], _PAIRS)
    return b.bitcast(b.lshr(shorts, ir.Constant(_PAIRS, [8] * (2 * LANES))), _WORDS)


@compiled(signature(I16, I16), _odd_bytes)
def odd_bytes(v: Any) -> Any:
    """Bytes 1 and 3 of each word, as pairs."""
    return (v >> 8) & np.int32(0xFF00FF)


@compiled(
    signature(I16, POINTERS["i32"], int),
    lambda c, b, sig, a: in_all_lanes(b, _WORDS, b.load(b.gep(a[0], [index_of(c, b, sig, a, 1)]))),
)
def broadcast_int(p: Span, i: int) -> Any:
    """p[i] in every lane."""
    return np.full(LANES, p[i], np.int32)


def _store_narrow(bits: int) -> Callable[..., Any]:
    lanes = ir.VectorType(ir.IntType(bits), LANES)

    def code(context: Any, b: Any, sig: Any, args: Any) -> Any:
        place = place_of(context, b, sig, args, lanes)
        mask = lanes_before(b, index_of(context, b, sig, args, 3))
        kind = ir.FunctionType(
            ir.VoidType(), [lanes, place.type, _WORD, ir.VectorType(ir.IntType(1), LANES)]
        )
        name = f"llvm.masked.store.v{LANES}i{bits}.p0"
        store = cgutils.get_or_insert_function(b.module, kind, name)
        b.call(store, [b.trunc(args[2], lanes), place, ir.Constant(_WORD, 1), mask])
        return context.get_dummy_value()

    return code


@compiled(signature(types.void, POINTERS["u16"], int, I16, int), _store_narrow(16))
def store_shorts(p: Any, i: int, v: Any, n: int) -> None:
    """Write the low halves of the first `n` lanes, of all where n is larger, from p[i] on."""
    p.lanes(i, min(n, LANES))[:] = v[:n].astype(np.uint32) & np.uint32(0xFFFF)


@compiled(signature(types.void, POINTERS["u8"], int, I16, int), _store_narrow(8))
def store_bytes(p: Any, i: int, v: Any, n: int) -> None:
    """`store_shorts` with the lowest bytes."""
    p.lanes(i, min(n, LANES))[:] = v[:n].astype(np.uint32) & np.uint32(0xFF)


@compiled(
    signature(I16, I16),
    lambda c, b, sig, a: b.shuffle_vector(
        a[0], ir.Constant(_WORDS, ir.Undefined), ir.Constant(_WORDS, _IN_PAIRS)
    ),
)
def in_pairs(v: Any) -> Any:
    """The lanes of each quad in the order of its pairs: k0, k2, k1, k3."""
    return v[_IN_PAIRS]


@inlined
def nearest(x):
    """The nearest whole number, ties to even, of lanes within 2**22; 0 for NaN and those beyond."""
    near = select(absolute(x) < splat(4194304.0), x, splat(0.0))
    magic = splat(_ROUNDER)
    return float_bits(near + magic) - float_bits(magic)
