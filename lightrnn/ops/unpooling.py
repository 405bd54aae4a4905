"""MaxUnpool: pooled elements put back where they came from."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from lightrnn.errors import DataError, GraphError
from lightrnn.graph import INT64, Array, Shape, TensorType
from lightrnn.ops.arguments import given, inferred, integers, maybe, merged
from lightrnn.ops.pooling import MaxPool
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats, longs


@operator("MaxUnpool", inputs="X I output_shape?", outputs="output")
class MaxUnpool(Operator):
    """Zeros, and the elements of X at the places I (ONNX MaxUnpool 22).

    I: places in the tensor that the attributes give; where output_shape is another, that tensor
    lies at its start.
    """

    kernel_shape: tuple[int, ...]
    pads: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    kinds = "f"

    def __post_init__(self) -> None:
        rank = len(self.kernel_shape)
        for name, count in (("pads", 2 * rank), ("strides", rank)):
            values = getattr(self, name)
            if values and (len(values) != count or min(values) < 0):
                raise GraphError(f"{name} {list(values)} do not fit {rank} spatial axes")

    def _sizes(self, shape: Shape) -> Shape:
        """The shape that the attributes give."""
        rank = len(self.kernel_shape)
        if len(shape) != rank + 2:
            raise GraphError(f"X has rank {len(shape)}, the kernel {rank} spatial axes")
        pads, strides = self.pads or (0,) * 2 * rank, self.strides or (1,) * rank
        sizes = (
            (d - 1) * strides[k] + self.kernel_shape[k] - pads[k] - pads[k + rank]
            if isinstance(d, int)
            else None
            for k, d in enumerate(shape[2:])
        )
        return (*shape[:2], *sizes)

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, places, wanted = given(inputs), given(inputs, 1), maybe(inputs, 2)
        if places.dtype != INT64:
            raise GraphError(f"I is {places.dtype.name}, expected int64")
        rank = len(self.kernel_shape) + 2
        if x.shape is None:
            return (TensorType(x.dtype, (None,) * rank),)
        inner = self._sizes(x.shape)
        if places.shape is not None and len(places.shape) == rank:
            for a, b in zip(x.shape, places.shape, strict=True):
                merged(a, b, "sizes of X and I")
        if wanted is None:
            return (TensorType(x.dtype, inner),)
        values = integers(wanted, "output_shape")
        if values is None:
            return (TensorType(x.dtype, (None,) * rank),)
        fits = len(values) == rank and all(
            not isinstance(d, int) or d <= v for d, v in zip(inner, values, strict=True)
        )
        if not fits:
            raise GraphError(f"output_shape is {values}, expected at least {list(inner)}")
        return (TensorType(x.dtype, tuple(values)),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        (kind,) = inferred(self, inputs)
        x, places = given(inputs), given(inputs, 1)
        inner = TensorType(x.dtype, self._sizes(x.shape)).sizes
        flat = np.zeros(prod(inner), x.dtype)
        if places.size and (places.min() < 0 or places.max() >= flat.size):
            raise DataError(f"places from {places.min()} to {places.max()} of {flat.size} elements")
        flat[places.reshape(-1)] = x.reshape(-1)
        out = np.zeros(kind.sizes, x.dtype)
        out[tuple(slice(size) for size in inner)] = flat.reshape(inner)
        return (out,)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape, attrs in (
            ((2, 3, 8), {"kernel_shape": (2,), "strides": (2,)}),
            ((1, 2, 6, 4), {"kernel_shape": (2, 2), "strides": (2, 2)}),
            ((1, 2, 7), {"kernel_shape": (3,), "strides": (2,)}),
        ):
            pooled = MaxPool(**attrs).evaluate(floats(rng, *shape))
            yield Case(str(shape), pooled, attrs)
        y, places = MaxPool((2,), strides=(2,)).evaluate(floats(rng, 1, 1, 8))
        yield Case(
            "larger output", (y, places, longs(1, 1, 9)), {"kernel_shape": (2,), "strides": (2,)}
        )
