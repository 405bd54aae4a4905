"""Operators of one element at a time."""

from __future__ import annotations

from lightrnn.cuda.kernels.broadcasting import places, size_of, third_place
from lightrnn.cuda.kernels.simt import (
    absolute,
    address_of,
    all_threads,
    ceil,
    cos,
    double,
    erf,
    exp,
    expm1,
    f32,
    f64,
    first_item,
    floor,
    i32,
    i64,
    inlined,
    log,
    maximum,
    minimum,
    round_even,
    sigmoid,
    sin,
    single,
    softplus,
    square_root,
    tanh,
    whole,
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
    zero, one = single(0.0), single(1.0)
    if code == _ABS:
        return absolute(x)
    if code == _NEG:
        return -x
    if code == _SQRT:
        return square_root(x)
    if code == _RECIPROCAL:
        return one / x
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
        if x > zero:
            return one
        if x < zero:
            return -one
        return x if x != x else zero
    return maximum(x, zero)


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
    zero, one = single(0.0), single(1.0)
    if code == _LEAKY:
        return alpha * x if x < zero else x
    if code == _ELU:
        return alpha * expm1(x) if x < zero else x
    if code == _SELU:
        return beta * (x if x > zero else alpha * expm1(x))
    if code == _CELU:
        return maximum(x, zero) + minimum(alpha * (exp(x / alpha) - one), zero)
    if code == _HARD_SIGMOID:
        return maximum(minimum(alpha * x + beta, one), zero)
    if code == _HARD_SWISH:
        return x * maximum(minimum(single(1.0 / 6.0) * x + single(0.5), one), zero)
    if code == _SOFTSIGN:
        return x / (one + absolute(x))
    if code == _THRESHOLDED:
        return x if x > alpha else zero
    if code == _GELU:
        return single(0.5) * x * (one + erf(x * single(0.7071067811865476)))
    if code == _GELU_TANH:
        inner = single(0.7978845608028654) * (single(0.044715) * x * x * x + x)
        return single(0.5) * x * (one + tanh(inner))
    if code == _SWISH:
        return x * sigmoid(alpha * x)
    return minimum(maximum(x, alpha), beta)


def unary(x, y, count, code, alpha, beta):
    """y = f(x) of float32. code: place in abi.UNARY. alpha, beta: parameters, bounds for Clip."""
    a, b = single(alpha), single(beta)
    i = first_item()
    while i < count:
        v = x[i]
        if code <= _RELU:
            y[i] = _simple(code, v)
        elif code <= _MISH:
            y[i] = _mathematical(code, v)
        else:
            y[i] = _activation(code, a, b, v)
        i += all_threads()


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
    return x * y if x < single(0.0) else x


def binary(a, b, y, code, rank, shape):
    """y = f(a, b) of float32, broadcast. code: place in abi.BINARY. shape: sizes, strides."""
    total = size_of(rank, shape)
    i = first_item()
    while i < total:
        p, q = places(i, rank, shape)
        y[i] = _binary(code, a[p], b[q])
        i += all_threads()


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


def compare(a, b, y, code, kind, rank, shape):
    """y = a ? b as truth values. code: place in abi.COMPARISONS. kind: place in abi.ELEMENTS."""
    total = size_of(rank, shape)
    i = first_item()
    while i < total:
        p, q = places(i, rank, shape)
        if kind == _F32:
            holds = _compare(code, f32(address_of(a))[p], f32(address_of(b))[q])
        elif kind == _I64:
            holds = _compare(code, i64(address_of(a))[p], i64(address_of(b))[q])
        elif kind == _I32:
            holds = _compare(code, i32(address_of(a))[p], i32(address_of(b))[q])
        else:
            holds = _compare(code, a[p], b[q])
        y[i] = 1 if holds else 0
        i += all_threads()


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


def whole_numbers(a, b, y, code, kind, rank, shape):
    """y = f(a, b) of int64 or int32: Add, Sub, Mul, Min, Max of abi.BINARY."""
    total = size_of(rank, shape)
    i = first_item()
    while i < total:
        p, q = places(i, rank, shape)
        if kind == _I64:
            i64(address_of(y))[i] = _whole(code, i64(address_of(a))[p], i64(address_of(b))[q])
        else:
            i32(address_of(y))[i] = _whole(code, i32(address_of(a))[p], i32(address_of(b))[q])
        i += all_threads()


def logic(a, b, y, code, rank, shape):
    """y = f(a, b) of truth values. code: place in abi.LOGIC."""
    total = size_of(rank, shape)
    i = first_item()
    while i < total:
        p, q = places(i, rank, shape)
        u, v = a[p], b[q]
        if code == _AND:
            y[i] = u & v
        elif code == _OR:
            y[i] = u | v
        else:
            y[i] = u ^ v
        i += all_threads()


def logical_not(x, y, count):
    """y = not x of truth values."""
    i = first_item()
    while i < count:
        y[i] = 1 - x[i]
        i += all_threads()


def where(condition, a, b, y, item, rank, shape):
    """y = a where the condition holds, else b. item: bytes of an element, 1, 4 or 8."""
    total = size_of(rank, shape)
    i = first_item()
    while i < total:
        p, q = places(i, rank, shape)
        r = third_place(i, rank, shape)
        chosen, place = a, q
        if condition[p] == 0:
            chosen, place = b, r
        if item == 4:
            i32(address_of(y))[i] = i32(address_of(chosen))[place]
        elif item == 8:
            i64(address_of(y))[i] = i64(address_of(chosen))[place]
        else:
            y[i] = chosen[place]
        i += all_threads()


@inlined
def _store_float(v, y, target, i):
    if target == _F32:
        f32(address_of(y))[i] = single(v)
    elif target == _I64:
        i64(address_of(y))[i] = whole(v)
    elif target == _I32:
        i32(address_of(y))[i] = whole(v)
    elif target == _F64:
        f64(address_of(y))[i] = double(v)
    else:
        y[i] = 1 if v != 0 else 0


@inlined
def _store_whole(v, y, target, i):
    if target == _F32:
        f32(address_of(y))[i] = single(v)
    elif target == _I64:
        i64(address_of(y))[i] = v
    elif target == _I32:
        i32(address_of(y))[i] = v
    elif target == _F64:
        f64(address_of(y))[i] = double(v)
    else:
        y[i] = 1 if v != 0 else 0


def cast(x, y, count, source, target):
    """y = x in another element type. source, target: places in abi.ELEMENTS.

    A float outside the range of an integer has no meaning in ONNX; here it gives some integer.
    """
    i = first_item()
    while i < count:
        if source == _F32:
            _store_float(f32(address_of(x))[i], y, target, i)
        elif source == _I64:
            _store_whole(i64(address_of(x))[i], y, target, i)
        elif source == _I32:
            _store_whole(i32(address_of(x))[i], y, target, i)
        elif source == _F64:
            _store_float(f64(address_of(x))[i], y, target, i)
        else:
            _store_whole(x[i], y, target, i)
        i += all_threads()
