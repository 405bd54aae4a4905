"""Vectors of 16 lanes and the places they lie at: what kernels are written in.

Each function here has the two forms of `intrinsic`.

The operators + - * / < <= > >= == work between two F16; + - & | ^ << >> < == between two I16;
& | ^ and `~` between two M16. Nothing is contracted: a fused multiply-add is written `fma`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

from lightrnn.kernels.interpreted import MEMORY, Span
from lightrnn.kernels.intrinsic import (
    F16,
    I16,
    LANES,
    M16,
    POINTERS,
    VF,
    VI,
    VM,
    WIDE_REGISTERS,
    Twin,
    call_llvm,
    compiled,
    in_all_lanes,
    index_of,
    lanes_before,
    place_of,
    signature,
)

_F32, _F64 = ir.FloatType(), ir.DoubleType()
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


# Pointers


def _to_pointer(kind: str) -> Callable[[Twin], Twin]:
    element = {"f32": _F32, "f64": _F64, "i64": _I64, "i32": _I32, "u16": _I16, "u8": _I8}[kind]

    def code(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.inttoptr(index_of(context, b, sig, args, 0), element.as_pointer())

    return compiled(signature(POINTERS[kind], int), code)


@_to_pointer("f32")
def f32(address: int) -> Span | None:
    """The float32 elements at an address."""
    return MEMORY.span(address, np.float32)


@_to_pointer("f64")
def f64(address: int) -> Span | None:
    """The float64 elements at an address."""
    return MEMORY.span(address, np.float64)


@_to_pointer("i64")
def i64(address: int) -> Span | None:
    """The int64 elements at an address."""
    return MEMORY.span(address, np.int64)


@_to_pointer("i32")
def i32(address: int) -> Span | None:
    """The int32 elements at an address."""
    return MEMORY.span(address, np.int32)


@_to_pointer("u16")
def u16(address: int) -> Span | None:
    """The uint16 elements at an address."""
    return MEMORY.span(address, np.uint16)


@_to_pointer("u8")
def u8(address: int) -> Span | None:
    """The bytes at an address."""
    return MEMORY.span(address, np.uint8)


@compiled(
    signature(lambda p, n: p, "pointer", int),
    lambda c, b, sig, a: b.gep(a[0], [index_of(c, b, sig, a, 1)]),
)
def at(p: Any, n: int) -> Any:
    """The pointer `n` elements on."""
    return p.at(n)


@compiled(
    signature(types.boolean, "pointer"),
    lambda c, b, sig, a: b.icmp_unsigned("==", b.ptrtoint(a[0], _I64), ir.Constant(_I64, 0)),
)
def null(p: Span | None) -> bool:
    """Whether the pointer is null."""
    return p is None


@compiled(
    signature(types.float64, int),
    lambda c, b, sig, a: b.bitcast(index_of(c, b, sig, a, 0), _F64),
)
def as_float(bits: int) -> float:
    """The float64 whose bits an integer holds."""
    return float(np.array(bits, np.int64).view(np.float64))


# Loads and stores of 16 float32


def _load(context: Any, b: Any, sig: Any, args: Any) -> Any:
    value = b.load(place_of(context, b, sig, args, VF))
    value.align = 4
    return value


def _store(context: Any, b: Any, sig: Any, args: Any) -> Any:
    b.store(args[2], place_of(context, b, sig, args, VF)).align = 4
    return context.get_dummy_value()


def _load_first(context: Any, b: Any, sig: Any, args: Any) -> Any:
    place = place_of(context, b, sig, args, VF)
    mask = lanes_before(b, index_of(context, b, sig, args, 2))
    zero = ir.Constant(VF, [0.0] * LANES)
    kind = ir.FunctionType(VF, [place.type, _I32, VM, VF])
    load = cgutils.get_or_insert_function(b.module, kind, "llvm.masked.load.v16f32.p0")
    return b.call(load, [place, ir.Constant(_I32, 4), mask, zero])


def _store_first(context: Any, b: Any, sig: Any, args: Any) -> Any:
    place = place_of(context, b, sig, args, VF)
    mask = lanes_before(b, index_of(context, b, sig, args, 3))
    kind = ir.FunctionType(ir.VoidType(), [VF, place.type, _I32, VM])
    store = cgutils.get_or_insert_function(b.module, kind, "llvm.masked.store.v16f32.p0")
    b.call(store, [args[2], place, ir.Constant(_I32, 4), mask])
    return context.get_dummy_value()


@compiled(signature(F16, POINTERS["f32"], int), _load)
def load(p: Span, i: int) -> Any:
    """Lanes p[i] to p[i + 15]."""
    return p.lanes(i, LANES).copy()


_VH, _VS = ir.VectorType(ir.HalfType(), LANES), ir.VectorType(_I16, LANES)


def _load_half(context: Any, b: Any, sig: Any, args: Any) -> Any:
    value = b.load(place_of(context, b, sig, args, _VH))
    value.align = 2
    return b.fpext(value, VF)


def _load_bfloat(context: Any, b: Any, sig: Any, args: Any) -> Any:
    value = b.load(place_of(context, b, sig, args, _VS))
    value.align = 2
    bits = b.shl(b.zext(value, VI), ir.Constant(VI, [16] * LANES))
    return b.bitcast(bits, VF)


@compiled(signature(F16, POINTERS["u16"], int), _load_half)
def load_half(p: Span, i: int) -> Any:
    """float16 lanes p[i] to p[i + 15], widened."""
    return p.lanes(i, LANES).view(np.float16).astype(np.float32)


@compiled(signature(F16, POINTERS["u16"], int), _load_bfloat)
def load_bfloat(p: Span, i: int) -> Any:
    """bfloat16 lanes p[i] to p[i + 15], widened."""
    return (p.lanes(i, LANES).astype(np.uint32) << np.uint32(16)).view(np.float32)


@compiled(signature(types.void, POINTERS["f32"], int, F16), _store)
def store(p: Span, i: int, v: Any) -> None:
    """Write 16 lanes from p[i] on."""
    p.lanes(i, LANES)[:] = v


@compiled(signature(F16, POINTERS["f32"], int, int), _load_first)
def load_first(p: Span, i: int, n: int) -> Any:
    """The first `n` lanes from p[i] on, the rest 0; nothing past them is read. 0 <= n <= 16."""
    out = np.zeros(LANES, np.float32)
    out[:n] = p.lanes(i, n)
    return out


@compiled(signature(types.void, POINTERS["f32"], int, F16, int), _store_first)
def store_first(p: Span, i: int, v: Any, n: int) -> None:
    """Write the first `n` lanes from p[i] on; nothing past them is touched. 0 <= n <= 16."""
    p.lanes(i, n)[:] = v[:n]


@compiled(
    signature(F16, POINTERS["f32"], int),
    lambda c, b, sig, a: in_all_lanes(b, VF, b.load(b.gep(a[0], [index_of(c, b, sig, a, 1)]))),
)
def broadcast(p: Span, i: int) -> Any:
    """p[i] in every lane."""
    return np.full(LANES, p[i], np.float32)


# Making, choosing and reducing


@compiled(
    signature(F16, float),
    lambda c, b, sig, a: in_all_lanes(b, VF, c.cast(b, a[0], sig.args[0], types.float32)),
)
def splat(value: float) -> Any:
    """One float in every lane."""
    return np.full(LANES, value, np.float32)


@compiled(
    signature(I16, int),
    lambda c, b, sig, a: in_all_lanes(b, VI, c.cast(b, a[0], sig.args[0], types.int32)),
)
def splat_int(value: int) -> Any:
    """One int32 in every lane."""
    return np.full(LANES, value, np.int32)


@compiled(
    signature(lambda m, x, y: x if x == y and x in (F16, I16) else None, M16, F16, F16),
    lambda c, b, sig, a: b.select(a[0], a[1], a[2]),
)
def select(mask: Any, x: Any, y: Any) -> Any:
    """x where the mask is set, else y."""
    return np.where(mask, x, y)


@compiled(signature(M16, int), lambda c, b, sig, a: lanes_before(b, index_of(c, b, sig, a, 0)))
def first_lanes(n: int) -> Any:
    """A mask of the first `n` lanes."""
    return np.arange(LANES) < n


def _fold(op: str) -> Callable[..., Any]:
    def code(context: Any, b: Any, sig: Any, args: Any) -> Any:
        """Halve the vector four times, so that the order of the additions is fixed."""
        v, undefined = args[0], ir.Constant(VF, ir.Undefined)
        for width in (8, 4, 2, 1):
            order = [(i + width) % LANES for i in range(LANES)]
            other = b.shuffle_vector(v, undefined, ir.Constant(ir.VectorType(_I32, LANES), order))
            v = _PAIR[op](b, v, other)
        return b.extract_element(v, ir.Constant(_I32, 0))

    return code


def _nan_min(b: Any, x: Any, y: Any) -> Any:
    less = b.select(b.fcmp_ordered("<", y, x), y, x)
    return b.select(b.fcmp_unordered("uno", y, y), y, less)


def _nan_max(b: Any, x: Any, y: Any) -> Any:
    more = b.select(b.fcmp_ordered(">", y, x), y, x)
    return b.select(b.fcmp_unordered("uno", y, y), y, more)


_PAIR: dict[str, Callable[..., Any]] = {
    "sum": lambda b, x, y: b.fadd(x, y),
    "product": lambda b, x, y: b.fmul(x, y),
    "min": _nan_min,
    "max": _nan_max,
}


def _halve(v: Any, combine: Callable[[Any, Any], Any]) -> Any:
    with np.errstate(all="ignore"):
        for width in (8, 4, 2, 1):
            v = combine(v, np.roll(v, -width))
    return v[0]


@compiled(signature(types.float32, F16), _fold("sum"))
def lanes_sum(v: Any) -> Any:
    """The sum of all lanes, by halves."""
    return _halve(v, np.add)


@compiled(signature(types.float32, F16), _fold("product"))
def lanes_product(v: Any) -> Any:
    """The product of all lanes, by halves."""
    return _halve(v, np.multiply)


@compiled(signature(types.float32, F16), _fold("min"))
def lanes_min(v: Any) -> Any:
    """The smallest lane; NaN if there is one."""
    return _halve(v, np.minimum)


@compiled(signature(types.float32, F16), _fold("max"))
def lanes_max(v: Any) -> Any:
    """The largest lane; NaN if there is one."""
    return _halve(v, np.maximum)


# Arithmetic by name


@compiled(signature(F16, F16, F16, F16), lambda c, b, s, a: call_llvm(b, "llvm.fma.v16f32", VF, a))
def fma(x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""
    with np.errstate(all="ignore"):
        return (x.astype(np.float64) * y + z).astype(np.float32)


def _unary(name: str) -> Callable[..., Any]:
    return compiled(
        signature(F16, F16), lambda c, b, sig, a: call_llvm(b, f"llvm.{name}.v16f32", VF, list(a))
    )


def _scale_by_power(context: Any, b: Any, sig: Any, args: Any) -> Any:
    """vscalefps, or two exact factors, of which the second rounds as it does."""
    if WIDE_REGISTERS:
        kind = ir.FunctionType(VF, [VF, VF, VF, ir.IntType(16), _I32])
        name = "llvm.x86.avx512.mask.scalef.ps.512"
        scale = cgutils.get_or_insert_function(b.module, kind, name)
        every, current = ir.Constant(ir.IntType(16), -1), ir.Constant(_I32, 4)
        return b.call(scale, [*args, ir.Constant(VF, ir.Undefined), every, current])
    whole = b.fptosi(args[1], VI)
    half = b.ashr(whole, ir.Constant(VI, [1] * LANES))
    value = args[0]
    for power in (half, b.sub(whole, half)):
        biased = b.add(power, ir.Constant(VI, [127] * LANES))
        factor = b.bitcast(b.shl(biased, ir.Constant(VI, [23] * LANES)), VF)
        value = b.fmul(value, factor)
    return value


@compiled(signature(F16, F16, F16), _scale_by_power)
def scale_by_power(x: Any, n: Any) -> Any:
    """x * 2**n, rounded once; n a whole number within [-252, 254], |x| within [0.5, 2]."""
    with np.errstate(all="ignore"):
        return np.ldexp(x, np.nan_to_num(n).astype(np.int32))


@_unary("fabs")
def absolute(x: Any) -> Any:
    """|x|."""
    return np.abs(x)


@_unary("sqrt")
def square_root(x: Any) -> Any:
    """The square root, correctly rounded."""
    with np.errstate(all="ignore"):
        return np.sqrt(x)


@_unary("floor")
def floor(x: Any) -> Any:
    """The largest whole number not above x."""
    return np.floor(x)


@_unary("ceil")
def ceil(x: Any) -> Any:
    """The smallest whole number not below x."""
    return np.ceil(x)


@_unary("trunc")
def truncate(x: Any) -> Any:
    """x without its fraction."""
    return np.trunc(x)


@_unary("roundeven")
def round_even(x: Any) -> Any:
    """The nearest whole number, ties to even."""
    return np.rint(x)


@compiled(signature(F16, F16), lambda c, b, sig, a: b.fneg(a[0]))
def negate(x: Any) -> Any:
    """-x, zeros and NaN included."""
    return -x


@compiled(signature(F16, F16, F16), lambda c, b, s, a: call_llvm(b, "llvm.copysign.v16f32", VF, a))
def copy_sign(x: Any, y: Any) -> Any:
    """|x| with the sign of y."""
    return np.copysign(x, y)


@compiled(signature(F16, F16, F16), lambda c, b, sig, a: _nan_min(b, a[0], a[1]))
def minimum(x: Any, y: Any) -> Any:
    """The smaller of each pair; NaN if either is."""
    return np.minimum(x, y)


@compiled(signature(F16, F16, F16), lambda c, b, sig, a: _nan_max(b, a[0], a[1]))
def maximum(x: Any, y: Any) -> Any:
    """The larger of each pair; NaN if either is."""
    return np.maximum(x, y)


@compiled(signature(M16, F16), lambda c, b, sig, a: b.fcmp_unordered("uno", a[0], a[0]))
def is_nan(x: Any) -> Any:
    """Where x is NaN."""
    return np.isnan(x)


@compiled(signature(I16, F16), lambda c, b, sig, a: b.bitcast(a[0], VI))
def float_bits(x: Any) -> Any:
    """The lanes' bits as int32."""
    return x.view(np.int32)


@compiled(signature(F16, I16), lambda c, b, sig, a: b.bitcast(a[0], VF))
def bits_float(x: Any) -> Any:
    """The float32 whose bits the lanes hold."""
    return x.view(np.float32)


@compiled(signature(F16, I16), lambda c, b, sig, a: b.sitofp(a[0], VF))
def to_float(x: Any) -> Any:
    """int32 lanes as float32."""
    return x.astype(np.float32)


# Operators between vectors (NumPy arrays have them already)


def _operators() -> None:
    def shift(name: str) -> Callable[..., Any]:
        return lambda c, b, sig, a: getattr(b, name)(a[0], a[1])

    def plain(name: str) -> Callable[..., Any]:
        return lambda c, b, sig, a: getattr(b, name)(a[0], a[1])

    def compare(method: str, symbol: str) -> Callable[..., Any]:
        return lambda c, b, sig, a: getattr(b, method)(symbol, a[0], a[1])

    table: list[tuple[Any, Any, Any, Callable[..., Any]]] = [
        (operator.add, F16, F16, plain("fadd")),
        (operator.sub, F16, F16, plain("fsub")),
        (operator.mul, F16, F16, plain("fmul")),
        (operator.truediv, F16, F16, plain("fdiv")),
        (operator.add, I16, I16, plain("add")),
        (operator.sub, I16, I16, plain("sub")),
        (operator.and_, I16, I16, plain("and_")),
        (operator.or_, I16, I16, plain("or_")),
        (operator.xor, I16, I16, plain("xor")),
        (operator.lshift, I16, I16, shift("shl")),
        (operator.rshift, I16, I16, shift("ashr")),
        (operator.and_, M16, M16, plain("and_")),
        (operator.or_, M16, M16, plain("or_")),
        (operator.xor, M16, M16, plain("xor")),
    ]
    for op, symbol in (
        (operator.lt, "<"),
        (operator.le, "<="),
        (operator.gt, ">"),
        (operator.ge, ">="),
        (operator.eq, "=="),
    ):
        table.append((op, F16, M16, compare("fcmp_ordered", symbol)))
        table.append((op, I16, M16, compare("icmp_signed", symbol)))
    for op, operand, result, code in table:
        type_callable(op)(lambda context, o=operand, r=result: signature(r, o, o))
        lower_builtin(op, operand, operand)(code)
    type_callable(operator.invert)(lambda context: signature(M16, M16))
    lower_builtin(operator.invert, M16)(lambda c, b, sig, a: b.not_(a[0]))


_operators()
