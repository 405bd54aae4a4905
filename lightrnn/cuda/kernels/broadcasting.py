"""Walking broadcast operands: where an element of the result lies in each.

A shape's words are its sizes, outermost first, then each operand's strides, 0 where it is repeated.
"""

from __future__ import annotations

from lightrnn.cuda.kernels.simt import inlined, quotient


@inlined
def size_of(rank, shape):
    """The elements of the result."""
    total = 1
    for k in range(rank):
        total *= shape[k]
    return total


@inlined
def places(i, rank, shape):
    """Where element i of the result lies in two operands."""
    p, q = 0, 0
    for k in range(rank):
        axis = rank - 1 - k
        outer = quotient(i, shape[axis])
        index = i - outer * shape[axis]
        p += index * shape[rank + axis]
        q += index * shape[2 * rank + axis]
        i = outer
    return p, q


@inlined
def third_place(i, rank, shape):
    """Where element i of the result lies in a third operand."""
    p = 0
    for k in range(rank):
        axis = rank - 1 - k
        outer = quotient(i, shape[axis])
        p += (i - outer * shape[axis]) * shape[3 * rank + axis]
        i = outer
    return p
