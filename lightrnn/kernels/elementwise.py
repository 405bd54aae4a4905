"""Operators of one element at a time: float32 in vectors, integers and truth values one by one."""

from __future__ import annotations

from lightrnn.kernels.broadcasting import BLOCK, lanes, pieces, row_start
from lightrnn.kernels.gemm import share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import (
    absolute,
    at,
    ceil,
    copy_sign,
    f32,
    f64,
    floor,
    fma,
    i32,
    i64,
    is_nan,
    load_first,
    maximum,
    minimum,
    negate,
    round_even,
    select,
    splat,
    square_root,
    u8,
)
from lightrnn.kernels.threads import address_of
from lightrnn.kernels.tiling import store_some
from lightrnn.kernels.vmath import (
    cos,
    erf,
    exp,
    expm1_negative,
    has_large_angle,
    log,
    reduced_angle,
    sigmoid,
    sin,
    softplus,
    tanh,
)
from lightrnn.native.abi import BINARY, COMPARISONS, ELEMENTS, LOGIC, UNARY

(
    _ABS, _NEG, _SQRT, _RECIPROCAL, _FLOOR, _CEIL, _ROUND, _SIGN, _SQUARE, _CUBE, _RELU,
    _EXP, _LOG, _SIN, _COS, _ERF, _TANH, _SIGMOID, _SOFTPLUS, _MISH,
    _LEAKY, _ELU, _SELU, _CELU, _HARD_SIGMOID, _HARD_SWISH, _SOFTSIGN, _THRESHOLDED, _GELU,
    _GELU_TANH, _SWISH, _CLIP,
) = range(len(UNARY))  # fmt: skip
_ADD, _SUB, _MUL, _DIV, _MIN, _MAX, _PRELU = range(len(BINARY))
_EQUAL, _LESS, _LESS_EQUAL, _GREATER, _GREATER_EQUAL = range(len(COMPARISONS))
_AND, _OR, _XOR = range(len(LOGIC))
_F32, _I64, _I32, _BOOL, _F64 = range(len(ELEMENTS))


@inlined
def _simple(code, x):
    if code == _ABS:
        return absolute(x)
    if code == _NEG:
        return negate(x)
    if code == _SQRT:
        return square_root(x)
    if code == _RECIPROCAL:
        return splat(1.0) / x
    if code == _FLOOR:
        return floor(x)
    if code == _CEIL:
        return ceil(x)
    if code == _ROUND:
        return round_even(x)
    if code == _SQUARE:
        return x * x
    if code == _CUBE:
        return x * x * x
    if code == _SIGN:
        one = copy_sign(splat(1.0), x)
        return select(is_nan(x), x, select(x == splat(0.0), splat(0.0), one))
    return maximum(x, splat(0.0))


@inlined
def _mathematical(code, x):
    if code == _EXP:
        return exp(x)
    if code == _LOG:
        return log(x)
    if code == _SIN:
        return sin(x)
    if code == _COS:
        return cos(x)
    if code == _ERF:
        return erf(x)
    if code == _TANH:
        return tanh(x)
    if code == _SIGMOID:
        return sigmoid(x)
    if code == _SOFTPLUS:
        return softplus(x)
    return x * tanh(softplus(x))


@inlined
def _activation(code, alpha, beta, x):
    zero, one = splat(0.0), splat(1.0)
    if code == _LEAKY:
        return select(x < zero, alpha * x, x)
    if code == _ELU:
        return select(x < zero, alpha * expm1_negative(x), x)
    if code == _SELU:
        return beta * select(x > zero, x, alpha * expm1_negative(x))
    if code == _CELU:
        return maximum(x, zero) + minimum(alpha * (exp(x / alpha) - one), zero)
    if code == _HARD_SIGMOID:
        return maximum(minimum(fma(alpha, x, beta), one), zero)
    if code == _HARD_SWISH:
        return x * maximum(minimum(fma(splat(1.0 / 6.0), x, splat(0.5)), one), zero)
    if code == _SOFTSIGN:
        return x / (one + absolute(x))
    if code == _THRESHOLDED:
        return select(x > alpha, x, zero)
    if code == _GELU:
        return splat(0.5) * x * (one + erf(x * splat(0.7071067811865476)))
    if code == _GELU_TANH:
        inner = splat(0.7978845608028654) * fma(splat(0.044715) * x, x * x, x)
        return splat(0.5) * x * (one + tanh(inner))
    if code == _SWISH:
        return x * sigmoid(alpha * x)
    return minimum(maximum(x, alpha), beta)


@inlined
def _reduced(v, x, y, n):
    """`n` angles v = x[:n] without whole turns, by way of y where one is large."""
    if not has_large_angle(v):
        return v
    for lane in range(n):
        y[lane] = reduced_angle(x[lane])
    return load_first(y, 0, n)


def unary(x, y, count, code, alpha, beta, ith, nth):
    """y = f(x) of float32. code: place in abi.UNARY. alpha, beta: parameters, bounds for Clip."""
    first, last = share((count + 15) // 16, ith, nth)
    a, b = splat(alpha), splat(beta)
    for block in range(first, last):
        i = block * 16
        n = min(16, count - i)
        v = load_first(x, i, n)
        if code in (_SIN, _COS):
            v = _reduced(v, at(x, i), at(y, i), n)
        if code <= _RELU:
            v = _simple(code, v)
        elif code <= _MISH:
            v = _mathematical(code, v)
        else:
            v = _activation(code, a, b, v)
        store_some(y, i, v, n)


@inlined
def _binary(code, x, y):
    if code == _ADD:
        return x + y
    if code == _SUB:
        return x - y
    if code == _MUL:
        return x * y
    if code == _DIV:
        return x / y
    if code == _MIN:
        return minimum(x, y)
    if code == _MAX:
        return maximum(x, y)
    return select(x < splat(0.0), x * y, x)


def binary(a, b, y, code, rank, shape, ith, nth):
    """y = f(a, b) of float32, broadcast. code: place in abi.BINARY. shape: sizes, strides."""
    size = shape[rank - 1]
    a_step, b_step = shape[2 * rank - 1], shape[3 * rank - 1]
    first, last, blocks = pieces(rank, shape, ith, nth)
    for piece in range(first, last):
        row = piece // blocks
        start = (piece - row * blocks) * BLOCK
        p, q = at(a, row_start(row, rank, shape, 0)), at(b, row_start(row, rank, shape, 1))
        out = at(y, row * size)
        for i in range(start, min(start + BLOCK, size), 16):
            n = min(16, size - i)
            store_some(out, i, _binary(code, lanes(p, i, a_step, n), lanes(q, i, b_step, n)), n)


@inlined
def _compare(code, x, y):
    if code == _EQUAL:
        return x == y
    if code == _LESS:
        return x < y
    if code == _LESS_EQUAL:
        return x <= y
    if code == _GREATER:
        return x > y
    return x >= y


def compare(a, b, y, code, kind, rank, shape, ith, nth):
    """y = a ? b as truth values. code: place in abi.COMPARISONS. kind: place in abi.ELEMENTS."""
    size = shape[rank - 1]
    a_step, b_step = shape[2 * rank - 1], shape[3 * rank - 1]
    first, last, blocks = pieces(rank, shape, ith, nth)
    for piece in range(first, last):
        row = piece // blocks
        start = (piece - row * blocks) * BLOCK
        end = min(start + BLOCK, size)
        p, q = row_start(row, rank, shape, 0), row_start(row, rank, shape, 1)
        out = at(y, row * size)
        if kind == _F32:
            fa, fb = at(f32(address_of(a)), p), at(f32(address_of(b)), q)
            for i in range(start, end):
                out[i] = 1 if _compare(code, fa[i * a_step], fb[i * b_step]) else 0
        elif kind == _I64:
            la, lb = at(i64(address_of(a)), p), at(i64(address_of(b)), q)
            for i in range(start, end):
                out[i] = 1 if _compare(code, la[i * a_step], lb[i * b_step]) else 0
        elif kind == _I32:
            ia, ib = at(i32(address_of(a)), p), at(i32(address_of(b)), q)
            for i in range(start, end):
                out[i] = 1 if _compare(code, ia[i * a_step], ib[i * b_step]) else 0
        else:
            ua, ub = at(a, p), at(b, q)
            for i in range(start, end):
                out[i] = 1 if _compare(code, ua[i * a_step], ub[i * b_step]) else 0


@inlined
def _whole(code, x, y):
    if code == _ADD:
        return x + y
    if code == _SUB:
        return x - y
    if code == _MUL:
        return x * y
    if code == _MIN:
        return min(x, y)
    return max(x, y)


def whole_numbers(a, b, y, code, kind, rank, shape, ith, nth):
    """y = f(a, b) of int64 or int32: Add, Sub, Mul, Min, Max of abi.BINARY."""
    size = shape[rank - 1]
    a_step, b_step = shape[2 * rank - 1], shape[3 * rank - 1]
    first, last, blocks = pieces(rank, shape, ith, nth)
    for piece in range(first, last):
        row = piece // blocks
        start = (piece - row * blocks) * BLOCK
        end = min(start + BLOCK, size)
        p, q = row_start(row, rank, shape, 0), row_start(row, rank, shape, 1)
        if kind == _I64:
            la, lb = at(i64(address_of(a)), p), at(i64(address_of(b)), q)
            out = at(i64(address_of(y)), row * size)
            for i in range(start, end):
                out[i] = _whole(code, la[i * a_step], lb[i * b_step])
        else:
            ia, ib = at(i32(address_of(a)), p), at(i32(address_of(b)), q)
            narrow = at(i32(address_of(y)), row * size)
            for i in range(start, end):
                narrow[i] = _whole(code, ia[i * a_step], ib[i * b_step])


def logic(a, b, y, code, rank, shape, ith, nth):
    """y = f(a, b) of truth values. code: place in abi.LOGIC."""
    size = shape[rank - 1]
    a_step, b_step = shape[2 * rank - 1], shape[3 * rank - 1]
    first, last, blocks = pieces(rank, shape, ith, nth)
    for piece in range(first, last):
        row = piece // blocks
        start = (piece - row * blocks) * BLOCK
        p, q = at(a, row_start(row, rank, shape, 0)), at(b, row_start(row, rank, shape, 1))
        out = at(y, row * size)
        for i in range(start, min(start + BLOCK, size)):
            u, v = p[i * a_step], q[i * b_step]
            if code == _AND:
                out[i] = u & v
            elif code == _OR:
                out[i] = u | v
            else:
                out[i] = u ^ v


def logical_not(x, y, count, ith, nth):
    """y = not x of truth values."""
    first, last = share(count, ith, nth)
    for i in range(first, last):
        y[i] = 1 - x[i]


def where(condition, a, b, y, item, rank, shape, ith, nth):
    """y = a where the condition holds, else b. item: bytes of an element, 1, 4 or 8."""
    size = shape[rank - 1]
    c_step, a_step, b_step = shape[2 * rank - 1], shape[3 * rank - 1], shape[4 * rank - 1]
    first, last, blocks = pieces(rank, shape, ith, nth)
    for piece in range(first, last):
        row = piece // blocks
        start = (piece - row * blocks) * BLOCK
        end = min(start + BLOCK, size)
        c = at(condition, row_start(row, rank, shape, 0))
        p, q = row_start(row, rank, shape, 1), row_start(row, rank, shape, 2)
        if item == 4:
            ia, ib = at(i32(address_of(a)), p), at(i32(address_of(b)), q)
            narrow = at(i32(address_of(y)), row * size)
            for i in range(start, end):
                narrow[i] = ia[i * a_step] if c[i * c_step] != 0 else ib[i * b_step]
        elif item == 8:
            la, lb = at(i64(address_of(a)), p), at(i64(address_of(b)), q)
            wide = at(i64(address_of(y)), row * size)
            for i in range(start, end):
                wide[i] = la[i * a_step] if c[i * c_step] != 0 else lb[i * b_step]
        else:
            ua, ub, out = at(a, p), at(b, q), at(y, row * size)
            for i in range(start, end):
                out[i] = ua[i * a_step] if c[i * c_step] != 0 else ub[i * b_step]


@inlined
def _convert(x, y, first, last, truth):
    for i in range(first, last):
        if truth:
            y[i] = 1 if x[i] != 0 else 0
        else:
            y[i] = x[i]


@inlined
def _convert_to(x, y, kind, first, last):
    if kind == _F32:
        _convert(x, f32(address_of(y)), first, last, False)
    elif kind == _I64:
        _convert(x, i64(address_of(y)), first, last, False)
    elif kind == _I32:
        _convert(x, i32(address_of(y)), first, last, False)
    elif kind == _F64:
        _convert(x, f64(address_of(y)), first, last, False)
    else:
        _convert(x, u8(address_of(y)), first, last, True)


def cast(x, y, count, source, target, ith, nth):
    """y = x in another element type. source, target: places in abi.ELEMENTS.

    A float outside the range of an integer has no meaning in ONNX; here it gives some integer.
    """
    first, last = share(count, ith, nth)
    if source == _F32:
        _convert_to(f32(address_of(x)), y, target, first, last)
    elif source == _I64:
        _convert_to(i64(address_of(x)), y, target, first, last)
    elif source == _I32:
        _convert_to(i32(address_of(x)), y, target, first, last)
    elif source == _F64:
        _convert_to(f64(address_of(x)), y, target, first, last)
    else:
        _convert_to(x, y, target, first, last)
