"""Lookups by index: rows, elements and tuples, with every index checked before its load.

An index from -n to n - 1 is good for an axis of size n. A bad one is reported and read as 0.
"""

from __future__ import annotations

from lightrnn.kernels.copy import address_of, copy_bytes, i64_at
from lightrnn.kernels.gemm import share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import i32
from lightrnn.native.abi import BAD_INDEX


@inlined
def i32_at(p):
    """The int32 elements at a byte pointer."""
    return i32(address_of(p))


@inlined
def read_index(indices, place, wide):
    """indices[place]; `wide` for int64, else int32."""
    if wide != 0:
        return i64_at(indices, 0)[place]
    return int(i32_at(indices)[place])


@inlined
def good_index(index, size, status, node):
    """The index as a place from 0 to size - 1; a bad one is reported and becomes 0."""
    if index < 0:
        index += size
    if index < 0 or index >= size:
        status[0] = BAD_INDEX
        status[1] = node
        return 0
    return index


def gather_rows(
    data, indices, target, status, node, outer, axis, count, row_bytes, wide, ith, nth
):  # fmt: skip
    """target[o, k] = data[o, indices[k]], blocks of `row_bytes` bytes.

    data: [outer, axis] blocks. indices: [count], int64 if `wide`, else int32.
    target: [outer, count] blocks; left as it is where `axis` is 0.
    """
    first, last = share(outer * count, ith, nth)
    for item in range(first, last):
        o = item // count
        index = good_index(read_index(indices, item - o * count, wide), axis, status, node)
        if axis > 0:
            copy_bytes(data, (o * axis + index) * row_bytes, target, item * row_bytes, row_bytes)


def gather_elements(
    data, indices, target, status, node, outer, axis, count, inner, item, wide, ith, nth
):  # fmt: skip
    """target[o, k, i] = data[o, indices[o, k, i], i], elements of `item` bytes.

    data: [outer, axis, inner]. indices, target: [outer, count, inner]; int64 if `wide`, else int32.
    """
    first, last = share(outer * count * inner, ith, nth)
    for place in range(first, last):
        o = place // (count * inner)
        i = place % inner
        index = good_index(read_index(indices, place, wide), axis, status, node)
        if axis > 0:
            copy_bytes(data, ((o * axis + index) * inner + i) * item, target, place * item, item)


def gather_tuples(
    data, indices, target, status, node, batch, count, depth, row_bytes, batch_bytes, wide, sizes,
    ith, nth,
):  # fmt: skip
    """target[b, k] = data[b][indices[b, k, 0], ..., indices[b, k, depth - 1]], blocks of bytes.

    data: [batch, *sizes] blocks of `row_bytes` bytes, `batch_bytes` a batch element.
    indices: [batch, count, depth], int64 if `wide`, else int32. sizes: [depth].
    """
    first, last = share(batch * count, ith, nth)
    empty = batch_bytes == 0
    for item in range(first, last):
        place = 0
        for k in range(depth):
            index = read_index(indices, item * depth + k, wide)
            place = place * sizes[k] + good_index(index, sizes[k], status, node)
        if not empty:
            start = item // count * batch_bytes + place * row_bytes
            copy_bytes(data, start, target, item * row_bytes, row_bytes)


def one_hot(indices, values, target, outer, depth, inner, item, wide, ith, nth):
    """target[o, d, i] = values[1] where indices[o, i] is d or d - depth, else values[0].

    indices: [outer, inner], int64 if `wide`, else int32; others leave their row without a 1.
    values: [2] elements of `item` bytes. target: [outer, depth, inner].
    """
    first, last = share(outer * depth, ith, nth)
    for row in range(first, last):
        o = row // depth
        d = row - o * depth
        for i in range(inner):
            index = read_index(indices, o * inner + i, wide)
            on = int(index == d or index == d - depth)
            copy_bytes(values, on * item, target, (row * inner + i) * item, item)


def reverse_sequences(
    data, lengths, target, status, node, steps, batch, time_step, batch_step, row_bytes, ith, nth
):  # fmt: skip
    """target[t, b] = data[lengths[b] - 1 - t, b] for t < lengths[b], else data[t, b].

    data, target: rows of `row_bytes` bytes, `time_step` and `batch_step` bytes apart.
    A length below 0 or above `steps` is reported and taken as 0.
    """
    first, last = share(batch, ith, nth)
    for b in range(first, last):
        count = lengths[b]
        if count < 0 or count > steps:
            status[0] = BAD_INDEX
            status[1] = node
            count = 0
        for t in range(steps):
            source = count - 1 - t if t < count else t
            place = b * batch_step
            copy_bytes(data, place + source * time_step, target, place + t * time_step, row_bytes)
