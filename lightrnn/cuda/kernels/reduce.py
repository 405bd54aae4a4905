"""Reductions, softmax and layer normalisation of float32 [outer, n, inner] over n.

Rows of neighbours are a block's each; with several columns every result is a thread's.
"""

from __future__ import annotations

from lightrnn.cuda.kernels.simt import (
    absolute,
    address_of,
    all_threads,
    at,
    barrier,
    block,
    blocks,
    exp,
    first_item,
    i32,
    i64,
    inlined,
    log,
    maximum,
    minimum,
    null,
    quotient,
    shared,
    shared_ints,
    single,
    square_root,
    thread,
    threads,
)
from lightrnn.native.abi import ELEMENTS, REDUCTIONS

(
    _SUM, _MEAN, _MAX, _MIN, _PRODUCT, _SQUARES, _L1, _L2, _LOG_SUM, _LOG_SUM_EXP,
) = range(len(REDUCTIONS))  # fmt: skip
_INFINITY = float("inf")
_I64 = ELEMENTS.index("int64")


@inlined
def _neutral(code):
    if code == _MAX:
        return single(-_INFINITY)
    if code == _MIN:
        return single(_INFINITY)
    if code == _PRODUCT:
        return single(1.0)
    return single(0.0)


@inlined
def _term(code, x):
    """What an element adds to its reduction."""
    if code == _SQUARES or code == _L2:
        return x * x
    return absolute(x) if code == _L1 else x


@inlined
def _joined(code, x, y):
    if code == _MAX:
        return maximum(x, y)
    if code == _MIN:
        return minimum(x, y)
    return x * y if code == _PRODUCT else x + y


@inlined
def _finished(code, total, n):
    if code == _MEAN:
        return total / single(n)
    if code == _L2:
        return square_root(total)
    return log(total) if code == _LOG_SUM else total


@inlined
def across(code, v):
    """The reduction of every thread's v, the same in all threads of the block."""
    memory, k, left = shared(), thread(), threads()
    memory[k] = v
    barrier()
    while left > 1:
        half = (left + 1) >> 1
        if k < left - half:
            memory[k] = _joined(code, memory[k], memory[k + half])
        barrier()
        left = half
    v = memory[0]
    barrier()
    return v


@inlined
def _row(x, n, code):
    """The reduction of n neighbours by the block."""
    v = _neutral(code)
    i = thread()
    while i < n:
        v = _joined(code, v, _term(code, x[i]))
        i += threads()
    return across(code, v)


@inlined
def _column(x, n, inner, code):
    """The reduction of n elements, `inner` apart, by this thread."""
    v = _neutral(code)
    for i in range(n):
        v = _joined(code, v, _term(code, x[i * inner]))
    return v


@inlined
def _finite(v):
    """v, or 0 where it is infinite: what may be subtracted before exp."""
    return single(0.0) if absolute(v) == single(_INFINITY) else v


@inlined
def _row_exp_sum(x, n, top):
    v = single(0.0)
    i = thread()
    while i < n:
        v += exp(x[i] - top)
        i += threads()
    return across(_SUM, v)


@inlined
def _column_exp_sum(x, n, inner, top):
    v = single(0.0)
    for i in range(n):
        v += exp(x[i * inner] - top)
    return v


def reduce_rows(x, y, outer, n, inner, code):
    """y [outer] = reduction of x [outer, n]. code: place in abi.REDUCTIONS."""
    row = block()
    while row < outer:
        p = at(x, row * n)
        if code == _LOG_SUM_EXP:
            top = _finite(_row(p, n, _MAX))
            v = log(_row_exp_sum(p, n, top)) + top
        else:
            v = _finished(code, _row(p, n, code), n)
        if thread() == 0:
            y[row] = v
        row += blocks()


def reduce_columns(x, y, outer, n, inner, code):
    """y [outer, inner] = reduction of x over n. code: place in abi.REDUCTIONS."""
    item = first_item()
    while item < outer * inner:
        row = quotient(item, inner)
        p = at(x, row * n * inner + item - row * inner)
        if code == _LOG_SUM_EXP:
            top = _finite(_column(p, n, inner, _MAX))
            y[item] = log(_column_exp_sum(p, n, inner, top)) + top
        else:
            y[item] = _finished(code, _column(p, n, inner, code), n)
        item += all_threads()


@inlined
def _whole(x, y, outer, n, inner, code):
    item = first_item()
    while item < outer * inner:
        row = quotient(item, inner)
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
        item += all_threads()


def reduce_whole(x, y, outer, n, inner, code, kind):
    """Sum, Max, Min or Prod of int64 or int32; n is at least 1. kind: place in abi.ELEMENTS."""
    if kind == _I64:
        _whole(i64(address_of(x)), i64(address_of(y)), outer, n, inner, code)
    else:
        _whole(i32(address_of(x)), i32(address_of(y)), outer, n, inner, code)


@inlined
def _better(v, i, best, place, largest, last_index):
    """Whether element i, of value v, comes before the best so far; NaN comes before all."""
    if best != best:
        return v != v and i < place
    if v != v:
        return True
    if v == best:
        return i > place if last_index != 0 else i < place
    return v > best if largest != 0 else v < best


def arg_reduce(x, y, outer, n, inner, largest, last_index):
    """y [outer, inner] = place of the largest (or smallest) of n, NaN before all; n >= 1."""
    indices, k = shared_ints(), thread()
    item = block()
    while item < outer * inner:
        row = quotient(item, inner)
        p = at(x, row * n * inner + item - row * inner)
        place = min(k, n - 1)
        i = k + threads()
        while i < n:
            if _better(p[i * inner], i, p[place * inner], place, largest, last_index):
                place = i
            i += threads()
        indices[k] = place
        barrier()
        left = threads()
        while left > 1:
            half = (left + 1) >> 1
            if k < left - half:
                i, place = int(indices[k + half]), int(indices[k])
                if _better(p[i * inner], i, p[place * inner], place, largest, last_index):
                    indices[k] = i
            barrier()
            left = half
        if k == 0:
            y[item] = indices[0]
        barrier()
        item += blocks()


@inlined
def _softened(v, total, shift, logarithm):
    return v - shift if logarithm != 0 else exp(v) / total


def softmax_rows(x, y, outer, n, inner, logarithm):
    """Softmax, or its logarithm, of x [outer, n] over n."""
    row = block()
    while row < outer:
        p, q = at(x, row * n), at(y, row * n)
        top = _row(p, n, _MAX)
        total = _row_exp_sum(p, n, top)
        shift = log(total)
        i = thread()
        while i < n:
            q[i] = _softened(p[i] - top, total, shift, logarithm)
            i += threads()
        row += blocks()


def softmax_columns(x, y, outer, n, inner, logarithm):
    """Softmax, or its logarithm, of x [outer, n, inner] over n."""
    item = first_item()
    while item < outer * inner:
        row = quotient(item, inner)
        start = row * n * inner + item - row * inner
        p, q = at(x, start), at(y, start)
        top = _column(p, n, inner, _MAX)
        total = _column_exp_sum(p, n, inner, top)
        shift = log(total)
        for i in range(n):
            q[i * inner] = _softened(p[i * inner] - top, total, shift, logarithm)
        item += all_threads()


@inlined
def _deviation(x, n, mean):
    """The mean of squared distances from the mean."""
    v = single(0.0)
    i = thread()
    while i < n:
        d = x[i] - mean
        v += d * d
        i += threads()
    return across(_SUM, v) / single(n)


def layer_norm(x, scale, bias, y, mean, inverse, outer, n, centred, epsilon):
    """y = (x - mean) / sqrt(variance + epsilon) * scale + bias over rows of n.

    centred: 0 to take the mean for 0. scale, bias [n], mean [outer] and inverse (of the deviation)
    [outer] may be null.
    """
    row = block()
    while row < outer:
        p, q = at(x, row * n), at(y, row * n)
        m = single(0.0)
        if centred != 0:
            m = _row(p, n, _SUM) / single(n)
        s = single(1.0) / square_root(_deviation(p, n, m) + single(epsilon))
        i = thread()
        while i < n:
            v = (p[i] - m) * s
            if not null(scale):
                v = v * scale[i]
            if not null(bias):
                v = v + bias[i]
            q[i] = v
            i += threads()
        if thread() == 0:
            if not null(mean):
                mean[row] = m
            if not null(inverse):
                inverse[row] = s
        row += blocks()
