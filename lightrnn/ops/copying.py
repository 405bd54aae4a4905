"""How movement operators lower: to views, and to strided copies of few dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from lightrnn.graph import Array
from lightrnn.ops.lowering import Emitter, Operand, Ref


def row_major(shape: Sequence[int]) -> list[int]:
    """Strides of a contiguous array, in elements."""
    strides, step = [0] * len(shape), 1
    for k in range(len(shape) - 1, -1, -1):
        strides[k] = step
        step *= shape[k]
    return strides


def collapse(dims: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """(size, source stride, target stride) of as few dimensions as do the same copy.

    Outermost first; no size may be 0.
    """
    found: list[tuple[int, int, int]] = []
    for size, source, target in dims:
        if size == 1:
            continue
        if found:
            outer, s, t = found[-1]
            if s == source * size and t == target * size:
                found[-1] = (outer * size, source, target)
                continue
        found.append((size, source, target))
    return found


def emit_copy(
    emit: Emitter,
    source: Operand | Ref,
    target: Operand | Ref,
    sizes: Sequence[int],
    source_strides: Sequence[int],
    target_strides: Sequence[int],
    source_start: int = 0,
    target_start: int = 0,
    item: int | None = None,
) -> None:
    """Copy a block of `sizes`; starts and strides in elements, source strides may be 0 or less.

    item: bytes of an element, by default of one of `target`.
    """
    if 0 in sizes:
        return
    if item is None:
        assert isinstance(target, Operand)
        item = target.type.dtype.itemsize
    dims = collapse(list(zip(sizes, source_strides, target_strides, strict=True)))
    run = 1
    if dims and dims[-1][1:] == (1, 1):
        run = dims.pop()[0]
    elif dims and dims[-1][2] == 1:
        dims.sort(key=lambda d: (d[2] == 1, abs(d[1]) == 1))
    dims = [(1, 0, 0)] * (2 - len(dims)) + dims
    emit.call(
        "copy_strided", source, target, source_start * item, target_start * item,
        run * item, item if run == 1 else 0, len(dims),
        *(d[0] for d in dims), *(d[1] * item for d in dims), *(d[2] * item for d in dims),
        work=prod(sizes),
    )  # fmt: skip


def emit_whole(emit: Emitter, source: Operand, target: Operand) -> None:
    """Copy all of a tensor to another of the same size."""
    emit_copy(emit, source, target, (source.size,), (1,), (1,))


def emit_view(emit: Emitter, source: Operand, target: Operand, start: int = 0) -> None:
    """Let `target` be the elements of `source` from `start` on; a copy where it cannot be."""
    if not emit.view(target, source, start * source.type.dtype.itemsize):
        emit_copy(emit, source, target, (target.size,), (1,), (1,), source_start=start)


def emit_fill(emit: Emitter, target: Operand, value: Array) -> None:
    """Fill a tensor with one element."""
    pattern = np.full(8 // value.dtype.itemsize, value.reshape(()), value.dtype).view(np.int64)
    if target.size:
        nbytes = target.size * target.type.dtype.itemsize
        emit.call("fill", target, nbytes, int(pattern[0]), work=target.size)
