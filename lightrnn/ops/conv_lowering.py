"""From a convolution to kernel calls: padding, windows side by side, a product, channels first."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from lightrnn.graph import FLOAT32, Array
from lightrnn.ops.copying import emit_copy, row_major
from lightrnn.ops.lowering import Emitter, Operand, Ref
from lightrnn.ops.packing import padded as whole_panels
from lightrnn.ops.packing import panels
from lightrnn.ops.windows import Axis
from lightrnn.record import Record

_ITEM = FLOAT32.itemsize


class Convolution(Record):
    """A convolution with its sizes: x [N, G * C, *S], w [G * M, C, *K], y [N, G * M, *O]."""

    x: Operand
    w: Operand
    bias: Operand | None
    y: Operand
    groups: int
    axes: Sequence[Axis]

    @property
    def batch(self) -> int:
        return self.x.shape[0]

    @property
    def channels(self) -> int:
        """Channels of x in one group."""
        return self.w.shape[1]

    @property
    def maps(self) -> int:
        """Channels of y in one group."""
        return self.w.shape[0] // self.groups

    @property
    def places(self) -> int:
        """Windows in one row of the batch."""
        return prod(axis.count for axis in self.axes)

    @property
    def depth(self) -> int:
        """Elements of a window in one group."""
        return prod(self.w.shape[1:])

    @property
    def wide(self) -> tuple[int, ...]:
        """The shape of x with its padding."""
        sizes = zip(self.x.shape[2:], self.axes, strict=True)
        return (*self.x.shape[:2], *(size + a.before + a.after for size, a in sizes))

    @property
    def in_place(self) -> bool:
        """Whether windows are rows of x as they lie: one channel, one axis, no gaps."""
        return self.x.shape[1] == 1 and len(self.axes) == 1 and self.axes[0].dilation == 1


def lower_convolution(emit: Emitter, conv: Convolution) -> bool:
    """Emit a convolution of float32 by known weights; False, having emitted nothing, for others."""
    if conv.x.type.dtype != FLOAT32 or conv.w.value is None or not conv.depth:
        return False
    if conv.y.size:
        source = _padded(emit, conv)
        if conv.in_place:
            length = conv.wide[2]
            _product(emit, conv, source, conv.batch, conv.places, conv.axes[0].stride, length)
        else:
            columns = _columns(emit, conv, source)
            rows = conv.batch * conv.places
            _product(emit, conv, columns, 1, rows, conv.depth, rows * conv.depth)
    return True


def _padded(emit: Emitter, conv: Convolution) -> Operand | Ref:
    """x with zeros around it."""
    shape, wide = conv.x.shape, conv.wide
    if wide == shape:
        return conv.x
    target, strides = emit.scratch(prod(wide) * _ITEM), row_major(wide)
    emit.call("fill", target, prod(wide) * _ITEM, 0, work=prod(wide))
    start = sum(a.before * s for a, s in zip(conv.axes, strides[2:], strict=True))
    emit_copy(
        emit, conv.x, target, shape, row_major(shape), strides, target_start=start, item=_ITEM
    )
    return target


def _columns(emit: Emitter, conv: Convolution, source: Operand | Ref) -> Operand | Ref:
    """Windows one after the other: [G, N, *O, C, *K]."""
    batch_step, channel_step, *steps = row_major(conv.wide)
    counts = [a.count for a in conv.axes]
    sizes = (conv.groups, conv.batch, *counts, conv.channels, *conv.w.shape[2:])
    strides = (
        conv.channels * channel_step, batch_step,
        *(s * a.stride for s, a in zip(steps, conv.axes, strict=True)),
        channel_step, *(s * a.dilation for s, a in zip(steps, conv.axes, strict=True)),
    )  # fmt: skip
    target = emit.scratch(prod(sizes) * _ITEM)
    emit_copy(emit, source, target, sizes, strides, row_major(sizes), item=_ITEM)
    return target


def _product(
    emit: Emitter, conv: Convolution, windows: Operand | Ref, batch: int, rows: int, step: int,
    next_step: int,
) -> None:  # fmt: skip
    """Windows by weights, [G or batch, rows, M], then turned to y.

    step, next_step: elements from one row, and from one matrix of windows, to the next.
    """
    groups, maps, depth = conv.groups, conv.maps, conv.depth
    matrices = max(groups, batch)
    turned = conv.places != 1 or groups != 1
    out: Operand | Ref = emit.scratch(conv.y.size * _ITEM) if turned else conv.y

    def pack(w: Array) -> Array:
        return panels(np.swapaxes(w.reshape(groups, maps, depth), 1, 2))

    emit.call(
        "gemm", windows, emit.packed((conv.w,), ("convolution", groups), pack), conv.bias, out,
        matrices, rows, maps, depth, step, 0, maps, next_step,
        depth * whole_panels(maps) if groups > 1 else 0, maps if groups > 1 else 0, rows * maps,
        0, None, work=matrices * rows * maps * depth,
    )  # fmt: skip
    if turned:
        sizes = (groups, conv.batch, conv.places, maps)
        target = (maps * conv.places, groups * maps * conv.places, 1, conv.places)
        emit_copy(emit, out, conv.y, sizes, row_major(sizes), target, item=_ITEM)
