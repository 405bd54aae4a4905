"""Moving data: N-d strided copies and fills, bits unchanged."""

from __future__ import annotations

from lightrnn.cuda.kernels.simt import (
    address_of,
    all_threads,
    f32,
    first_item,
    i64,
    inlined,
    quotient,
    u16,
)


@inlined
def copy_unit(source, s, target, t, unit):
    """Copy `unit` bytes, 1, 2, 4 or 8; s and t: bytes to them, multiples of unit as addresses."""
    if unit == 4:
        f32(address_of(target) + t)[0] = f32(address_of(source) + s)[0]
    elif unit == 8:
        i64(address_of(target) + t)[0] = i64(address_of(source) + s)[0]
    elif unit == 2:
        u16(address_of(target) + t)[0] = u16(address_of(source) + s)[0]
    else:
        target[t] = source[s]


@inlined
def unit_of(bits):
    """The largest of 8, 4, 2, 1 that divides all the places and sizes whose bits are joined."""
    if bits & 7 == 0:
        return 8
    if bits & 3 == 0:
        return 4
    if bits & 1 == 0:
        return 2
    return 1


def copy_strided(source, target, source_start, target_start, run, item, rank, shape):
    """Copy an N-d array of blocks of `run` bytes.

    source_start, target_start: bytes to the first block. shape: [3 * rank] sizes, source strides
    and target strides, in bytes; a source stride may be 0, any may be negative.
    """
    bits = run | (address_of(source) + source_start) | (address_of(target) + target_start)
    total = 1
    for k in range(rank):
        total *= shape[k]
        bits |= shape[rank + k] | shape[2 * rank + k]
    unit = unit_of(bits)
    units = quotient(run, unit)
    place = first_item()
    while place < total * units:
        index = quotient(place, units)
        offset = (place - index * units) * unit
        s, t = source_start + offset, target_start + offset
        for k in range(rank):
            axis = rank - 1 - k
            outer = quotient(index, shape[axis])
            i = index - outer * shape[axis]
            s += i * shape[rank + axis]
            t += i * shape[2 * rank + axis]
            index = outer
        copy_unit(source, s, target, t, unit)
        place += all_threads()


def fill(target, count, pattern):
    """Fill `count` bytes with the eight bytes of `pattern`, again and again."""
    words = count >> 3
    p = i64(address_of(target))
    i = first_item()
    while i < words:
        p[i] = pattern
        i += all_threads()
    i = words * 8 + first_item()
    while i < count:
        target[i] = (pattern >> (8 * (i & 7))) & 255
        i += all_threads()
