"""Lookups by index, with every index checked before its load.

An index from -n to n - 1 is good for an axis of size n. A bad one is reported and read as 0.
"""

from __future__ import annotations

from lightrnn.cuda.kernels.copy import copy_unit, unit_of
from lightrnn.cuda.kernels.simt import (
    address_of,
    all_threads,
    first_item,
    i32,
    i64,
    inlined,
    quotient,
)
from lightrnn.native.abi import BAD_INDEX


@inlined
def read_index(indices, place, wide):
    """indices[place]; `wide` for int64, else int32."""
    if wide != 0:
        return i64(address_of(indices))[place]
    return int(i32(address_of(indices))[place])


@inlined
def report(status, node):
    """Say that a value is bad."""
    status[0] = BAD_INDEX
    status[1] = node


@inlined
def good_index(index, size, status, node):
    """The index as a place from 0 to size - 1; a bad one is reported and becomes 0."""
    if index < 0:
        index += size
    if index < 0 or index >= size:
        report(status, node)
        return 0
    return index


def gather_rows(data, indices, target, status, node, outer, axis, count, row_bytes, wide):
    """target[o, k] = data[o, indices[k]], blocks of `row_bytes` bytes.

    data: [outer, axis] blocks. indices: [count], int64 if `wide`, else int32.
    target: [outer, count] blocks; left as it is where `axis` is 0.
    """
    unit = unit_of(row_bytes | address_of(data) | address_of(target))
    units = quotient(row_bytes, unit)
    place = first_item()
    while place < outer * count * units:
        item = quotient(place, units)
        offset = (place - item * units) * unit
        o = quotient(item, count)
        index = good_index(read_index(indices, item - o * count, wide), axis, status, node)
        if axis > 0:
            source = (o * axis + index) * row_bytes + offset
            copy_unit(data, source, target, item * row_bytes + offset, unit)
        place += all_threads()


def gather_elements(data, indices, target, status, node, outer, axis, count, inner, item, wide):
    """target[o, k, i] = data[o, indices[o, k, i], i], elements of `item` bytes.

    data: [outer, axis, inner]. indices, target: [outer, count, inner]; int64 if `wide`, else int32.
    """
    place = first_item()
    while place < outer * count * inner:
        o = quotient(place, count * inner)
        i = place - quotient(place, inner) * inner
        index = good_index(read_index(indices, place, wide), axis, status, node)
        if axis > 0:
            copy_unit(data, ((o * axis + index) * inner + i) * item, target, place * item, item)
        place += all_threads()


def gather_tuples(
    data, indices, target, status, node, batch, count, depth, row_bytes, batch_bytes, wide, sizes
):  # fmt: skip
    """target[b, k] = data[b][indices[b, k, 0], ..., indices[b, k, depth - 1]], blocks of bytes.

    data: [batch, *sizes] blocks of `row_bytes` bytes, `batch_bytes` a batch element.
    indices: [batch, count, depth], int64 if `wide`, else int32. sizes: [depth].
    """
    unit = unit_of(row_bytes | address_of(data) | address_of(target))
    units = quotient(row_bytes, unit)
    part = first_item()
    while part < batch * count * units:
        item = quotient(part, units)
        offset = (part - item * units) * unit
        place = 0
        for k in range(depth):
            index = read_index(indices, item * depth + k, wide)
            place = place * sizes[k] + good_index(index, sizes[k], status, node)
        if batch_bytes != 0:
            start = quotient(item, count) * batch_bytes + place * row_bytes + offset
            copy_unit(data, start, target, item * row_bytes + offset, unit)
        part += all_threads()


def one_hot(indices, values, target, outer, depth, inner, item, wide):
    """target[o, d, i] = values[1] where indices[o, i] is d or d - depth, else values[0].

    indices: [outer, inner], int64 if `wide`, else int32; others leave their row without a 1.
    values: [2] elements of `item` bytes. target: [outer, depth, inner].
    """
    place = first_item()
    while place < outer * depth * inner:
        row = quotient(place, inner)
        i = place - row * inner
        o = quotient(row, depth)
        d = row - o * depth
        index = read_index(indices, o * inner + i, wide)
        on = 1 if index == d or index == d - depth else 0
        copy_unit(values, on * item, target, place * item, item)
        place += all_threads()


def reverse_sequences(
    data, lengths, target, status, node, steps, batch, time_step, batch_step, row_bytes
):  # fmt: skip
    """target[t, b] = data[lengths[b] - 1 - t, b] for t < lengths[b], else data[t, b].

    data, target: rows of `row_bytes` bytes, `time_step` and `batch_step` bytes apart.
    A length below 0 or above `steps` is reported and taken as 0.
    """
    unit = unit_of(
        row_bytes | time_step | batch_step | address_of(data) | address_of(target)
    )  # fmt: skip
    units = quotient(row_bytes, unit)
    part = first_item()
    while part < steps * batch * units:
        item = quotient(part, units)
        offset = (part - item * units) * unit
        t = quotient(item, batch)
        b = item - t * batch
        count = lengths[b]
        if count < 0 or count > steps:
            report(status, node)
            count = 0
        source = count - 1 - t if t < count else t
        start = b * batch_step + offset
        copy_unit(data, start + source * time_step, target, start + t * time_step, unit)
        part += all_threads()
