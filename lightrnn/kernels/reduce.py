"""Reductions, softmax and layer normalisation of float32 [outer, n, inner] over n.

Threads split what is left of the shape; one result is always one thread's, in one order.
"""

from __future__ import annotations

from lightrnn.kernels.gemm import share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import (
    absolute,
    at,
    first_lanes,
    i32,
    i64,
    lanes_max,
    lanes_min,
    lanes_product,
    lanes_sum,
    maximum,
    minimum,
    null,
    select,
    splat,
    square_root,
)
from lightrnn.kernels.threads import address_of
from lightrnn.kernels.tiling import load_some, store_some
from lightrnn.kernels.vmath import exp, log
from lightrnn.native.abi import ELEMENTS, REDUCTIONS

(
    _SUM, _MEAN, _MAX, _MIN, _PRODUCT, _SQUARES, _L1, _L2, _LOG_SUM, _LOG_SUM_EXP,
) = range(len(REDUCTIONS))  # fmt: skip
_INFINITY = float("inf")
_I64 = ELEMENTS.index("int64")


@inlined
def _neutral(code):
    if code == _MAX:
        return -_INFINITY
    if code == _MIN:
        return _INFINITY
    if code == _PRODUCT:
        return 1.0
    return 0.0


@inlined
def _joined(code, total, x):
    if code == _MAX:
        return maximum(total, x)
    if code == _MIN:
        return minimum(total, x)
    if code == _PRODUCT:
        return total * x
    if code == _SQUARES or code == _L2:
        return total + x * x
    if code == _L1:
        return total + absolute(x)
    return total + x


@inlined
def _across_lanes(code, total):
    if code == _MAX:
        return splat(lanes_max(total))
    if code == _MIN:
        return splat(lanes_min(total))
    if code == _PRODUCT:
        return splat(lanes_product(total))
    return splat(lanes_sum(total))


@inlined
def _finished(code, total, n):
    if code == _MEAN:
        return total / splat(n)
    if code == _L2:
        return square_root(total)
    if code == _LOG_SUM:
        return log(total)
    return total


@inlined
def _row(x, n, code):
    """The reduction of n neighbours, in every lane."""
    total = splat(_neutral(code))
    for i in range(0, n, 16):
        count = min(16, n - i)
        v = load_some(x, i, count)
        if count < 16:
            v = select(first_lanes(count), v, splat(_neutral(code)))
        total = _joined(code, total, v)
    return _across_lanes(code, total)


@inlined
def _columns(x, n, inner, width, code):
    """The reduction of n rows of `width` lanes, `inner` elements apart."""
    total = splat(_neutral(code))
    for i in range(n):
        total = _joined(code, total, load_some(x, i * inner, width))
    return total


@inlined
def _finite(v):
    """v, or 0 where it is infinite: what may be subtracted before exp."""
    return select(absolute(v) == splat(_INFINITY), splat(0.0), v)


@inlined
def _row_exp_sum(x, n, top):
    total = splat(0.0)
    for i in range(0, n, 16):
        count = min(16, n - i)
        e = exp(load_some(x, i, count) - top)
        total = total + select(first_lanes(count), e, splat(0.0))
    return splat(lanes_sum(total))


@inlined
def _columns_exp_sum(x, n, inner, width, top):
    total = splat(0.0)
    for i in range(n):
        total = total + exp(load_some(x, i * inner, width) - top)
    return total


def reduce(x, y, outer, n, inner, code, ith, nth):
    """y [outer, inner] = reduction of x over n. code: place in abi.REDUCTIONS."""
    if inner == 1:
        first, last = share(outer, ith, nth)
        for row in range(first, last):
            p = at(x, row * n)
            if code == _LOG_SUM_EXP:
                top = _finite(_row(p, n, _MAX))
                v = log(_row_exp_sum(p, n, top)) + top
            else:
                v = _finished(code, _row(p, n, code), n)
            store_some(y, row, v, 1)
        return
    blocks = (inner + 15) // 16
    first, last = share(outer * blocks, ith, nth)
    for item in range(first, last):
        row = item // blocks
        i = (item - row * blocks) * 16
        width = min(16, inner - i)
        p = at(x, row * n * inner + i)
        if code == _LOG_SUM_EXP:
            top = _finite(_columns(p, n, inner, width, _MAX))
            v = log(_columns_exp_sum(p, n, inner, width, top)) + top
        else:
            v = _finished(code, _columns(p, n, inner, width, code), n)
        store_some(y, row * inner + i, v, width)


@inlined
def _whole(x, y, outer, n, inner, code, ith, nth):
    first, last = share(outer * inner, ith, nth)
    for item in range(first, last):
        row = item // inner
        start = row * n * inner + item - row * inner
        total = x[start]
        for i in range(1, n):
            v = x[start + i * inner]
            if code == _MAX:
                total = max(total, v)
            elif code == _MIN:
                total = min(total, v)
            elif code == _PRODUCT:
                total = total * v
            else:
                total = total + v
        y[item] = total


def reduce_whole(x, y, outer, n, inner, code, kind, ith, nth):
    """Sum, Max, Min or Prod of int64 or int32; n is at least 1. kind: place in abi.ELEMENTS."""
    if kind == _I64:
        _whole(i64(address_of(x)), i64(address_of(y)), outer, n, inner, code, ith, nth)
    else:
        _whole(i32(address_of(x)), i32(address_of(y)), outer, n, inner, code, ith, nth)


def arg_reduce(x, y, outer, n, inner, largest, last_index, ith, nth):
    """y [outer, inner] = place of the largest (or smallest) of n, NaN before all; n >= 1."""
    first, last = share(outer * inner, ith, nth)
    for item in range(first, last):
        row = item // inner
        start = row * n * inner + item - row * inner
        best = x[start]
        place = 0
        for i in range(1, n):
            v = x[start + i * inner]
            if best == best:
                better = v > best if largest != 0 else v < best
                if v != v or better or (last_index != 0 and v == best):
                    best = v
                    place = i
        y[item] = place


@inlined
def _softmax_row(p, q, n, logarithm):
    top = _row(p, n, _MAX)
    total = _row_exp_sum(p, n, top)
    shift = log(total)
    for i in range(0, n, 16):
        count = min(16, n - i)
        v = load_some(p, i, count) - top
        v = v - shift if logarithm != 0 else exp(v) / total
        store_some(q, i, v, count)


@inlined
def _softmax_columns(p, q, n, inner, width, logarithm):
    top = _columns(p, n, inner, width, _MAX)
    total = _columns_exp_sum(p, n, inner, width, top)
    shift = log(total)
    for i in range(n):
        v = load_some(p, i * inner, width) - top
        v = v - shift if logarithm != 0 else exp(v) / total
        store_some(q, i * inner, v, width)


def softmax(x, y, outer, n, inner, logarithm, ith, nth):
    """Softmax, or its logarithm, over n."""
    if inner == 1:
        first, last = share(outer, ith, nth)
        for row in range(first, last):
            _softmax_row(at(x, row * n), at(y, row * n), n, logarithm)
        return
    blocks = (inner + 15) // 16
    first, last = share(outer * blocks, ith, nth)
    for item in range(first, last):
        row = item // blocks
        i = (item - row * blocks) * 16
        start = row * n * inner + i
        _softmax_columns(at(x, start), at(y, start), n, inner, min(16, inner - i), logarithm)


@inlined
def _deviation(x, n, mean):
    """The mean of squared distances from the mean, in every lane."""
    total = splat(0.0)
    for i in range(0, n, 16):
        count = min(16, n - i)
        d = select(first_lanes(count), load_some(x, i, count) - mean, splat(0.0))
        total = total + d * d
    return splat(lanes_sum(total)) / splat(n)


def layer_norm(x, scale, bias, y, mean, inverse, outer, n, centred, epsilon, ith, nth):
    """y = (x - mean) / sqrt(variance + epsilon) * scale + bias over rows of n.

    centred: 0 to take the mean for 0. scale, bias [n], mean [outer] and inverse (of the deviation)
    [outer] may be null.
    """
    first, last = share(outer, ith, nth)
    for row in range(first, last):
        p, q = at(x, row * n), at(y, row * n)
        m = splat(0.0)
        if centred != 0:
            m = _row(p, n, _SUM) / splat(n)
        s = splat(1.0) / square_root(_deviation(p, n, m) + splat(epsilon))
        for i in range(0, n, 16):
            count = min(16, n - i)
            v = (load_some(p, i, count) - m) * s
            if not null(scale):
                v = v * load_some(scale, i, count)
            if not null(bias):
                v = v + load_some(bias, i, count)
            store_some(q, i, v, count)
        if not null(mean):
            store_some(mean, row, m, 1)
        if not null(inverse):
            store_some(inverse, row, s, 1)
