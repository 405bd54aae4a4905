"""Sliding windows over spatial axes, as convolutions and pools share them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightrnn.errors import GraphError, UnsupportedError
from lightrnn.graph import Array, Dim
from lightrnn.record import Record

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


class Axis(Record):
    """Windows along one axis.

    kernel, stride, dilation: in elements. before, after: padding. count: number of windows.
    """

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    count: int

    @property
    def extent(self) -> int:
        """Elements from a window's first to its last."""
        return extent(self.kernel, self.dilation)


def extent(kernel: int, dilation: int) -> int:
    """Elements from the first to the last of a window."""
    return (kernel - 1) * dilation + 1


class Windows(Record):
    """The attributes that say how windows slide; empty tuples are ONNX's defaults."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"
    ceil_mode: bool = False

    def check(self) -> None:
        """Raise GraphError unless the attributes fit each other."""
        rank = len(self.kernel)
        if self.auto_pad not in AUTO_PADS:
            raise UnsupportedError(f"auto_pad {self.auto_pad!r} is not one of {AUTO_PADS}")
        for name, least in (("kernel", 1), ("strides", 1), ("dilations", 1)):
            values = getattr(self, name)
            if values and (len(values) != rank or min(values) < least):
                raise GraphError(f"{name} {list(values)} do not fit {rank} spatial axes")
        if self.pads and (len(self.pads) != 2 * rank or min(self.pads) < 0):
            raise GraphError(f"pads {list(self.pads)} do not fit {rank} spatial axes")
        if self.auto_pad != "NOTSET" and any(self.pads):
            raise GraphError(f"both pads and auto_pad {self.auto_pad} are given")

    def axes(self, sizes: Sequence[Dim]) -> list[Axis | None]:
        """Windows along each spatial axis of these sizes; None where one is not known."""
        if len(sizes) != len(self.kernel):
            raise GraphError(f"{len(sizes)} spatial axes, the kernel has {len(self.kernel)}")
        return [self._axis(k, d) if isinstance(d, int) else None for k, d in enumerate(sizes)]

    def counts(self, sizes: Sequence[Dim]) -> tuple[Dim, ...]:
        """The number of windows along each axis; its own name where windows keep its size."""
        return tuple(
            axis.count if axis is not None else size if self._keeps_size(k) else None
            for k, (axis, size) in enumerate(zip(self.axes(sizes), sizes, strict=True))
        )

    def _keeps_size(self, k: int) -> bool:
        """Whether axis k has as many windows as elements, whatever their number."""
        if self.strides and self.strides[k] != 1:
            return False
        if self.auto_pad.startswith("SAME"):
            return True
        padding = self.pads[k] + self.pads[k + len(self.kernel)] if self.pads else 0
        return padding == extent(self.kernel[k], self.dilations[k] if self.dilations else 1) - 1

    def _axis(self, k: int, size: int) -> Axis:
        rank = len(self.kernel)
        kernel = self.kernel[k]
        stride = self.strides[k] if self.strides else 1
        dilation = self.dilations[k] if self.dilations else 1
        width = extent(kernel, dilation)
        before, after = (self.pads[k], self.pads[k + rank]) if self.pads else (0, 0)
        if self.auto_pad.startswith("SAME"):
            count = -(-size // stride)
            total = max((count - 1) * stride + width - size, 0)
            before = total // 2 if self.auto_pad == "SAME_UPPER" else total - total // 2
            after = total - before
        else:
            room = size + before + after - width
            if room < 0:
                raise GraphError(f"a window of {width} does not fit into {size + before + after}")
            count = room // stride + 1
            if self.ceil_mode and self.auto_pad == "NOTSET" and room % stride:
                count += count * stride < size + before
        return Axis(kernel, stride, dilation, before, after, count)


def known(axes: Sequence[Axis | None]) -> list[Axis]:
    """Axes whose sizes are all known."""
    found = [axis for axis in axes if axis is not None]
    assert len(found) == len(axes)
    return found


def padded(x: Array, axes: Sequence[Axis], fill: object, beyond: object) -> Array:
    """x [N, C, ...] with its padding, and with what the last windows reach beyond that."""
    explicit = [(0, 0), (0, 0), *((a.before, a.after) for a in axes)]
    wide = np.pad(x, explicit, constant_values=fill)  # type: ignore[call-overload]
    more = [
        (0, max((a.count - 1) * a.stride + a.extent - size, 0))
        for a, size in zip(axes, wide.shape[2:], strict=True)
    ]
    return np.pad(wide, [(0, 0), (0, 0), *more], constant_values=beyond)  # type: ignore[call-overload]


def windows(wide: Array, axes: Sequence[Axis]) -> Array:
    """The windows of a padded [N, C, ...] as a view: [N, C, *counts, *kernel]."""
    steps = list(wide.strides[2:])
    shape = (*wide.shape[:2], *(a.count for a in axes), *(a.kernel for a in axes))
    strides = (
        *wide.strides[:2],
        *(s * a.stride for s, a in zip(steps, axes, strict=True)),
        *(s * a.dilation for s, a in zip(steps, axes, strict=True)),
    )
    return np.lib.stride_tricks.as_strided(wide, shape, strides, writeable=False)
