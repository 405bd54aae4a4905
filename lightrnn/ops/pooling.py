"""Pools: the largest or the mean element of sliding windows, or of all spatial axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import ClassVar

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import FLOAT32, INT64, Array, Attr, Shape, TensorType
from lightrnn.native.abi import REDUCTIONS
from lightrnn.ops.arguments import given, inferred
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats
from lightrnn.ops.windows import Axis, Windows, known, padded, windows

Attrs = dict[str, Attr]


class Pool(Operator):
    """The base of pools with windows."""

    kernel_shape: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._windows().check()

    def _windows(self) -> Windows:
        return Windows(
            self.kernel_shape, self.strides, self.dilations, self.pads, self.auto_pad,
            bool(self.ceil_mode),
        )  # fmt: skip

    def _axes(self, x: Array) -> list[Axis]:
        return known(self._windows().axes(x.shape[2:]))

    def _shape(self, x: TensorType) -> Shape:
        if x.shape is None:
            return (None,) * (len(self.kernel_shape) + 2)
        if len(x.shape) < 3:
            raise GraphError(f"X has rank {len(x.shape)}, expected at least 3")
        return (*x.shape[:2], *self._windows().counts(x.shape[2:]))


def _lowest(dtype: np.dtype[np.generic]) -> float:
    """The element that no other is less than."""
    return -np.inf if dtype.kind == "f" else int(np.iinfo(dtype.name).min)


def _flat(seen: Array, rank: int) -> Array:
    """Windows [N, C, *counts, *kernel] with each window's elements on one axis."""
    return seen.reshape(*seen.shape[:-rank], prod(seen.shape[-rank:]))


@operator("MaxPool", inputs="X", outputs="Y Indices?")
class MaxPool(Pool):
    """The largest element of each window, and its place in X (ONNX MaxPool 22).

    storage_order: 1 counts places with the first spatial axis fastest.
    """

    storage_order: int = 0
    kinds = "iuf"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        shape = self._shape(x)
        return (TensorType(x.dtype, shape), TensorType(INT64, shape))

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        x = given(inputs)
        axes, rank = self._axes(x), x.ndim - 2
        lowest = _lowest(x.dtype)
        seen = _flat(windows(padded(x, axes, lowest, lowest), axes), rank)
        places = padded(self._places(x.shape[2:]), axes, -1, -1)
        place = _flat(windows(places, axes), rank)
        best = np.argmax(seen, -1)
        chosen = np.take_along_axis(np.broadcast_to(place, seen.shape), best[..., None], -1)
        first = np.take_along_axis(place, np.argmax(place >= 0, -1)[..., None], -1)
        chosen = np.where(chosen < 0, first, chosen)[..., 0]  # all elements are the lowest
        image = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * rank)
        values = np.take_along_axis(seen, best[..., None], -1)[..., 0]
        return (values, (chosen + image * prod(x.shape[2:])).astype(np.int64))

    def _places(self, sizes: tuple[int, ...]) -> Array:
        """The number of each place of one image: [1, 1, *sizes]."""
        order = "F" if self.storage_order else "C"
        return np.arange(prod(sizes)).reshape(sizes, order=order)[None, None]  # type: ignore[call-overload]

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from _pool_cases(rng)
        attrs: Attrs = {"kernel_shape": (2, 3), "storage_order": 1}
        yield Case("column-major indices", (floats(rng, 2, 2, 5, 6),), attrs)
        y = rng.integers(-9, 9, (1, 2, 9)).astype(np.int8)
        yield Case("int8", (y,), {"kernel_shape": (3,), "pads": (1, 1)}, ("Y",))


@operator("AveragePool", inputs="X", outputs="Y")
class AveragePool(Pool):
    """The mean of each window, with or without the padding in it (ONNX AveragePool 22)."""

    count_include_pad: int = 0
    kinds = "f"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        return (TensorType(x.dtype, self._shape(x)),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        x = given(inputs)
        axes, rank = self._axes(x), x.ndim - 2
        kind = np.float32 if x.dtype == np.float16 else x.dtype
        total = _flat(windows(padded(x.astype(kind), axes, 0, 0), axes), rank).sum(-1)
        counted = padded(np.ones((1, 1, *x.shape[2:])), axes, int(self.count_include_pad != 0), 0)
        count = _flat(windows(counted, axes), rank).sum(-1)
        with np.errstate(all="ignore"):
            return ((total / count.astype(kind)).astype(x.dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from _pool_cases(rng)
        attrs: Attrs = {"kernel_shape": (3,), "pads": (1, 2), "count_include_pad": 1}
        yield Case("padding counts", (floats(rng, 2, 3, 8),), attrs)
        attrs = {**attrs, "strides": (3,), "ceil_mode": 1, "pads": (1, 1)}
        yield Case("padding counts, rounded up", (floats(rng, 1, 2, 9),), attrs)


def _pool_cases(rng: np.random.Generator) -> Iterator[Case]:
    x, image = floats(rng, 2, 3, 17), floats(rng, 2, 2, 7, 6)
    yield Case("1-d", (x,), {"kernel_shape": (3,)})
    yield Case("strides and pads", (x,), {"kernel_shape": (4,), "strides": (3,), "pads": (1, 2)})
    yield Case("dilated", (x,), {"kernel_shape": (3,), "dilations": (4,)})
    yield Case("rounded up", (x,), {"kernel_shape": (2,), "strides": (3,), "ceil_mode": 1})
    attrs: Attrs = {"kernel_shape": (2,), "strides": (2,), "ceil_mode": 1, "pads": (0, 1)}
    yield Case("no window in the padding", (floats(rng, 1, 1, 4),), attrs)
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        attrs = {"kernel_shape": (4,), "strides": (3,), "auto_pad": mode}
        yield Case(mode, (floats(rng, 2, 3, 16),), attrs)
    yield Case("2-d", (image,), {"kernel_shape": (2, 3), "strides": (2, 1), "pads": (1, 0, 0, 2)})
    yield Case("3-d", (floats(rng, 1, 2, 4, 3, 5),), {"kernel_shape": (2, 2, 2)})
    yield Case("no batch", (floats(rng, 0, 2, 5),), {"kernel_shape": (2,)})


class GlobalPool(Operator):
    """The base of pools over all spatial axes: [N, C, ...] to [N, C, 1, ...]."""

    kinds = "f"
    reduction: ClassVar[str] = ""
    """The reduction of `native.abi.REDUCTIONS` that the pool is; "" where it is none of them."""

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        if x.shape is None:
            return (TensorType(x.dtype, None),)
        if len(x.shape) < 3:
            raise GraphError(f"X has rank {len(x.shape)}, expected at least 3")
        return (TensorType(x.dtype, (*x.shape[:2], *[1] * (len(x.shape) - 2))),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, y = given(inputs), outputs[0]
        places = prod(x.shape[2:])
        if y is None or x.type.dtype != FLOAT32 or not places or not self.reduction:
            return y is None
        code = REDUCTIONS.index(self.reduction)
        emit.call("reduce", x, y, prod(x.shape[:2]), places, 1, code, work=x.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("1-d", (floats(rng, 2, 3, 17),))
        yield Case("2-d", (floats(rng, 2, 3, 4, 5),))
        yield Case("no batch", (floats(rng, 0, 3, 4),))


@operator("GlobalAveragePool", inputs="X", outputs="Y")
class GlobalAveragePool(GlobalPool):
    """The mean over all spatial axes (ONNX GlobalAveragePool 22)."""

    reduction = "ReduceMean"

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        x = given(inputs)
        kind = np.float32 if x.dtype == np.float16 else x.dtype
        with np.errstate(all="ignore"):
            total = x.sum(tuple(range(2, x.ndim)), dtype=kind, keepdims=True)
            return ((total / np.asarray(prod(x.shape[2:]), kind)).astype(x.dtype),)


@operator("GlobalMaxPool", inputs="X", outputs="Y")
class GlobalMaxPool(GlobalPool):
    """The largest element over all spatial axes (ONNX GlobalMaxPool 22)."""

    reduction = "ReduceMax"

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        x = given(inputs)
        return (np.max(x, tuple(range(2, x.ndim)), keepdims=True, initial=_lowest(x.dtype)),)


def _norm(x: Array, axis: int | tuple[int, ...], p: int, keepdims: bool = False) -> Array:
    """(sum of |x| ** p) ** (1 / p), in float32 or wider."""
    wide = np.abs(x.astype(np.float32) if x.dtype.itemsize < 4 else x)
    return np.asarray(np.sum(wide**p, axis, keepdims=keepdims) ** (1 / p))


@operator("LpPool", inputs="X", outputs="Y")
class LpPool(Pool):
    """The p-norm of each window (ONNX LpPool 22)."""

    p: int = 2
    kinds = "f"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        return (TensorType(x.dtype, self._shape(x)),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        x = given(inputs)
        axes = self._axes(x)
        seen = _flat(windows(padded(x, axes, 0, 0), axes), x.ndim - 2)
        return (_norm(seen, -1, self.p).astype(x.dtype),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from _pool_cases(rng)
        for p in (1, 3):
            yield Case(f"p {p}", (floats(rng, 2, 3, 9),), {"kernel_shape": (3,), "p": p})


@operator("GlobalLpPool", inputs="X", outputs="Y")
class GlobalLpPool(GlobalPool):
    """The p-norm over all spatial axes (ONNX GlobalLpPool 22)."""

    p: int = 2

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        x = given(inputs)
        return (_norm(x, tuple(range(2, x.ndim)), self.p, keepdims=True).astype(x.dtype),)
