"""Convolutions: Conv and ConvTranspose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product as every
from math import prod

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import Array, Dim, TensorType
from lightrnn.ops.arguments import given, inferred, maybe, merged, same_dtype
from lightrnn.ops.conv_lowering import Convolution, lower_convolution
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats
from lightrnn.ops.windows import Windows, extent, known, padded, windows


def _spatial(x: TensorType, w: TensorType, kernel_shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The sizes of the kernel; None where they are not known. Raises GraphError."""
    for name, t in (("X", x), ("W", w)):
        if t.shape is not None and len(t.shape) < 3:
            raise GraphError(f"{name} has rank {len(t.shape)}, expected at least 3")
    if w.shape is None:
        return kernel_shape or None
    sizes = tuple(d for d in w.shape[2:] if isinstance(d, int))
    if len(sizes) != len(w.shape) - 2:
        return kernel_shape or None
    if kernel_shape and kernel_shape != sizes:
        raise GraphError(f"kernel_shape is {list(kernel_shape)}, W has {list(sizes)}")
    return sizes


def _widened(x: Array) -> Array:
    """float16 as float32: products are added up in no less."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _check_bias(b: TensorType | None, channels: Dim) -> None:
    if b is not None and b.shape is not None:
        if len(b.shape) != 1:
            raise GraphError(f"B has rank {len(b.shape)}, expected 1")
        merged(b.shape[0], channels, "sizes of B and the output's channels,")


def _with_bias(y: Array, b: Array | None, dtype: np.dtype[np.generic]) -> Array:
    if b is not None:
        y = y + b.reshape(-1, *[1] * (y.ndim - 2))
    return np.asarray(y, dtype)


@operator("Conv", inputs="X W B?", outputs="Y")
class Conv(Operator):
    """Y[n, m] = B[m] + the correlation of X[n] with W[m] (ONNX Conv 22).

    X: [N, C, ...]. W: [M, C / group, ...]. Y: [N, M, ...].
    """

    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    rtol = 4e-6
    kinds = "f"

    def __post_init__(self) -> None:
        if self.group < 1:
            raise GraphError(f"group is {self.group}")
        if self.kernel_shape:
            self._windows(self.kernel_shape)

    def _windows(self, kernel: tuple[int, ...]) -> Windows:
        slides = Windows(kernel, self.strides, self.dilations, self.pads, self.auto_pad)
        slides.check()
        return slides

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, w, b = given(inputs), given(inputs, 1), maybe(inputs, 2)
        same_dtype((x, w, b), "X, W and B")
        kernel = _spatial(x, w, self.kernel_shape)
        channels = w.shape[0] if w.shape is not None else None
        _check_bias(b, channels)
        if x.shape is None:
            rank = None if w.shape is None else len(w.shape)
            return (TensorType(x.dtype, None if rank is None else (None,) * rank),)
        if w.shape is not None:
            self._check_channels(x.shape[1], w.shape[0], w.shape[1])
        if kernel is None:
            return (TensorType(x.dtype, (x.shape[0], channels, *[None] * (len(x.shape) - 2))),)
        sizes = self._windows(kernel).counts(x.shape[2:])
        return (TensorType(x.dtype, (x.shape[0], channels, *sizes)),)

    def _check_channels(self, c: Dim, m: Dim, each: Dim) -> None:
        if isinstance(c, int) and isinstance(each, int) and c != each * self.group:
            raise GraphError(f"X has {c} channels, W takes {each} in each of {self.group} groups")
        if isinstance(m, int) and m % self.group:
            raise GraphError(f"W makes {m} channels in {self.group} groups")

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        shape = inferred(self, inputs)[0].sizes
        x, w = given(inputs), given(inputs, 1)
        axes = known(self._windows(w.shape[2:]).axes(x.shape[2:]))
        seen = windows(padded(_widened(x), axes, 0, 0), axes)
        rank, groups, depth = len(axes), self.group, prod(w.shape[1:])
        seen = seen.reshape(x.shape[0], groups, w.shape[1], *seen.shape[2:])
        places = range(3, 3 + rank)
        columns = seen.transpose(0, 1, *places, 2, *range(3 + rank, 3 + 2 * rank))
        columns = columns.reshape(x.shape[0], groups, prod(shape[2:]), depth)
        weights = _widened(w).reshape(groups, w.shape[0] // groups, depth)
        with np.errstate(all="ignore"):
            y = np.matmul(weights, np.swapaxes(columns, 2, 3)).reshape(shape)
            return (_with_bias(y, maybe(inputs, 2), x.dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, w, y = given(inputs), given(inputs, 1), outputs[0]
        if y is None:
            return True
        axes = known(self._windows(w.shape[2:]).axes(x.shape[2:]))
        return lower_convolution(emit, Convolution(x, w, maybe(inputs, 2), y, self.group, axes))

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x, w = floats(rng, 2, 4, 17), floats(rng, 6, 4, 3)
        yield Case("1-d", (x, w, floats(rng, 6)))
        yield Case("no bias", (x, w), {"kernel_shape": (3,)})
        attrs = {"strides": (2,), "pads": (1, 2), "dilations": (2,)}
        yield Case("strides, pads, dilations", (x, w, floats(rng, 6)), attrs)
        yield Case("groups", (x, floats(rng, 6, 2, 3), floats(rng, 6)), {"group": 2})
        yield Case("depthwise", (x, floats(rng, 8, 1, 5)), {"group": 4, "pads": (2, 2)})
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
            yield Case(mode, (x, floats(rng, 2, 4, 4)), {"auto_pad": mode, "strides": (3,)})
        image, square = floats(rng, 1, 3, 7, 9), floats(rng, 5, 3, 3, 2)
        yield Case("2-d", (image, square, floats(rng, 5)))
        attrs = {"strides": (2, 1), "pads": (1, 0, 2, 1), "dilations": (1, 3)}
        yield Case("2-d, all at once", (image, square, floats(rng, 5)), attrs)
        yield Case("3-d", (floats(rng, 1, 2, 4, 5, 6), floats(rng, 3, 2, 2, 3, 2)))
        yield Case("pointwise", (x, floats(rng, 19, 4, 1)))
        yield Case("one place", (floats(rng, 2, 4, 3), w, floats(rng, 6)))
        yield Case("one channel", (floats(rng, 3, 1, 70), floats(rng, 21, 1, 16), floats(rng, 21)),
                   {"strides": (8,), "pads": (3, 2)})  # fmt: skip
        yield Case("one channel, gaps", (floats(rng, 2, 1, 30), floats(rng, 5, 1, 4)),
                   {"dilations": (3,)})  # fmt: skip
        yield Case("groups of a batch", (x, floats(rng, 10, 2, 3), floats(rng, 10)),
                   {"group": 2, "strides": (2,), "pads": (1, 0)})  # fmt: skip
        yield Case("no batch", (floats(rng, 0, 4, 17), w))


@operator("ConvTranspose", inputs="X W B?", outputs="Y")
class ConvTranspose(Operator):
    """The gradient of a convolution by its input (ONNX ConvTranspose 22).

    X: [N, C, ...]. W: [C, M / group, ...]. Y: [N, M, ...].
    """

    auto_pad: str = "NOTSET"
    dilations: tuple[int, ...] = ()
    group: int = 1
    kernel_shape: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    rtol = 4e-6
    kinds = "f"

    def __post_init__(self) -> None:
        if self.group < 1:
            raise GraphError(f"group is {self.group}")

    def _axis(self, k: int, rank: int, size: int, kernel: int) -> tuple[int, int]:
        """(elements cut off at the start, output size) of spatial axis `k`."""
        stride = self.strides[k] if self.strides else 1
        width = extent(kernel, self.dilations[k] if self.dilations else 1)
        more = self.output_padding[k] if self.output_padding else 0
        full = stride * (size - 1) + more + width
        if self.output_shape or self.auto_pad.startswith("SAME"):
            out = self.output_shape[k] if self.output_shape else size * stride
            total = max(full - out, 0)
            return (total // 2 if self.auto_pad == "SAME_UPPER" else total - total // 2), out
        before, after = (self.pads[k], self.pads[k + rank]) if self.pads else (0, 0)
        return before, full - before - after

    def _axes(self, sizes: tuple[Dim, ...], kernel: tuple[int, ...]) -> list[tuple[int, Dim]]:
        rank = len(kernel)
        Windows(kernel, self.strides, self.dilations, self.pads, self.auto_pad).check()
        for name in ("output_padding", "output_shape"):
            values = getattr(self, name)
            if values and (len(values) != rank or min(values) < 0):
                raise GraphError(f"{name} {list(values)} do not fit {rank} spatial axes")
        if len(sizes) != rank:
            raise GraphError(f"{len(sizes)} spatial axes, the kernel has {rank}")
        found: list[tuple[int, Dim]] = []
        for k, size in enumerate(sizes):
            axis = self._axis(k, rank, size, kernel[k]) if isinstance(size, int) else (0, None)
            if axis[1] is not None and axis[1] < 0:
                raise GraphError(f"the output's spatial axis {k} has the size {axis[1]}")
            found.append(axis)
        return found

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, w, b = given(inputs), given(inputs, 1), maybe(inputs, 2)
        same_dtype((x, w, b), "X, W and B")
        kernel = _spatial(x, w, self.kernel_shape)
        each = w.shape[1] if w.shape is not None else None
        channels = each * self.group if isinstance(each, int) else None
        _check_bias(b, channels)
        if x.shape is None:
            rank = None if w.shape is None else len(w.shape)
            return (TensorType(x.dtype, None if rank is None else (None,) * rank),)
        if w.shape is not None:
            merged(x.shape[1], w.shape[0], "channels of X and W,")
            if isinstance(w.shape[0], int) and w.shape[0] % self.group:
                raise GraphError(f"W takes {w.shape[0]} channels in {self.group} groups")
        if kernel is None:
            return (TensorType(x.dtype, (x.shape[0], channels, *[None] * (len(x.shape) - 2))),)
        sizes = (size for _, size in self._axes(x.shape[2:], kernel))
        return (TensorType(x.dtype, (x.shape[0], channels, *sizes)),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        shape = inferred(self, inputs)[0].sizes
        x, w = _widened(given(inputs)), _widened(given(inputs, 1))
        sizes, kernel, groups = x.shape[2:], w.shape[2:], self.group
        strides = self.strides or (1,) * len(kernel)
        dilations = self.dilations or (1,) * len(kernel)
        cuts = [cut for cut, _ in self._axes(sizes, kernel)]
        room = [
            max(s * (n - 1) + extent(k, d), cut + out)
            for s, n, k, d, cut, out in zip(
                strides, sizes, kernel, dilations, cuts, shape[2:], strict=True
            )
        ]
        wide = np.zeros((x.shape[0], groups, w.shape[1], *room), x.dtype)
        grouped = x.reshape(x.shape[0], groups, x.shape[1] // groups, prod(sizes))
        weights = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        spatial_first = (*range(3, 3 + len(kernel)), 0, 1, 2)
        whole = (slice(None),) * 3
        with np.errstate(all="ignore"):
            for place in every(*map(range, kernel)):
                tap = np.swapaxes(weights.transpose(spatial_first)[place], 1, 2)
                part = np.matmul(tap, grouped).reshape(*wide.shape[:3], *sizes)
                starts = [p * d for p, d in zip(place, dilations, strict=True)]
                index = tuple(
                    slice(a, a + s * (n - 1) + 1, s) if n else slice(0)
                    for a, s, n in zip(starts, strides, sizes, strict=True)
                )
                wide[whole + index] += part
            index = tuple(slice(cut, cut + n) for cut, n in zip(cuts, shape[2:], strict=True))
            y = wide.reshape(*shape[:2], *room)[whole[:2] + index]
            return (_with_bias(y, maybe(inputs, 2), given(inputs).dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x, w = floats(rng, 2, 4, 7), floats(rng, 4, 3, 3)
        yield Case("1-d", (x, w, floats(rng, 3)))
        attrs = {"strides": (3,), "pads": (1, 2), "dilations": (2,), "output_padding": (1,)}
        yield Case("all at once", (x, w), attrs)
        yield Case("groups", (x, floats(rng, 4, 2, 3), floats(rng, 4)), {"group": 2})
        yield Case("output shape", (x, w), {"strides": (2,), "output_shape": (12,)})
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
            yield Case(mode, (x, floats(rng, 4, 3, 5)), {"auto_pad": mode, "strides": (2,)})
        yield Case("gaps", (x, floats(rng, 4, 2, 2)), {"strides": (3,)})
        image = (floats(rng, 1, 2, 3, 4), floats(rng, 2, 3, 3, 2), floats(rng, 3))
        yield Case("2-d", image, {"strides": (2, 1), "pads": (1, 0, 0, 1)})
        yield Case("no batch", (floats(rng, 0, 4, 7), w))
