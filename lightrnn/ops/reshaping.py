"""Operators that change a shape and move nothing: they lower to views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lightrnn.errors import DataError, GraphError, UnsupportedError
from lightrnn.graph import BOOL, Array, Dim, Shape, TensorType
from lightrnn.ops.arguments import (
    axes_of,
    given,
    inferred,
    integers,
    length,
    maybe,
    product,
    scalar,
)
from lightrnn.ops.copying import emit_fill, emit_view
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator


def floats(rng: np.random.Generator, *shape: int) -> Array:
    """Normal float32 values."""
    return rng.standard_normal(shape).astype(np.float32)


def longs(*values: int) -> Array:
    """A list of int64."""
    return np.array(values, np.int64)


class Reshaping(Operator):
    """The base of operators whose first output holds the elements of the first input, in order."""

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (given(inputs).reshape(inferred(self, inputs)[0].sizes),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        if outputs[0] is not None:
            emit_view(emit, given(inputs), outputs[0])
        return True


@operator("Identity", inputs="input", outputs="output")
class Identity(Reshaping):
    """The input (ONNX Identity 25)."""

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        return (given(inputs),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("matrix", (floats(rng, 3, 17),))
        yield Case("scalar of int64", (np.array(7, np.int64),))
        yield Case("empty", (floats(rng, 0, 3),))
        yield Case("bool", (np.array([True, False]),))


@operator("Dropout", inputs="data ratio? training_mode?", outputs="output mask?")
class Dropout(Operator):
    """The input, and a mask of ones: inference only (ONNX Dropout 22)."""

    seed: int = 0
    kinds = "f"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, ratio, training = given(inputs), maybe(inputs, 1), maybe(inputs, 2)
        rate = 0.5 if ratio is None else scalar(ratio, "ratio")
        if training is not None and scalar(training, "training_mode") and rate:
            raise UnsupportedError("training_mode is set; only inference is computed")
        return (data, TensorType(BOOL, data.shape))

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        data, ratio, training = given(inputs), maybe(inputs, 1), maybe(inputs, 2)
        if training is not None and training.any() and (ratio is None or ratio.any()):
            raise DataError("training_mode is set; only inference is computed")
        return (data, np.ones(data.shape, np.bool_))

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        training = maybe(inputs, 2)
        if training is not None and training.value is None:
            return False
        if outputs[0] is not None:
            emit_view(emit, given(inputs), outputs[0])
        mask = maybe(outputs, 1)
        if mask is not None:
            emit_fill(emit, mask, np.array(True))
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 7)
        yield Case("plain", (x,), outputs=("output",))
        yield Case("mask", (x, np.array(0.3, np.float32)), {"seed": 3})
        yield Case("told not to train", (x, None, np.array(False)))
        yield Case("drops nothing", (x, np.array(0, np.float32), np.array(True)))
        yield Case("empty", (floats(rng, 0, 5),))


@operator("Reshape", inputs="data shape", outputs="reshaped")
class Reshape(Reshaping):
    """The elements in another shape; 0 copies a size and -1 is what is left (ONNX Reshape 25)."""

    allowzero: int = 0

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, wanted = given(inputs), given(inputs, 1)
        values = integers(wanted, "shape")
        if values is None:
            rank = length(wanted)
            return (TensorType(data.dtype, None if rank is None else (None,) * rank),)
        return (TensorType(data.dtype, self._shape(data.shape, values)),)

    def _shape(self, source: Shape | None, values: list[int]) -> Shape:
        if min(values, default=0) < -1 or values.count(-1) > 1:
            raise GraphError(f"the shape {values} is not one to reshape to")
        if self.allowzero and 0 in values and -1 in values:
            raise GraphError(f"the shape {values} holds both 0 and -1, and allowzero is set")
        sizes: list[Dim] = list(values)
        left = None if source is None else list(source)
        for k, value in enumerate(values):
            if value == 0 and not self.allowzero:
                if source is not None and k >= len(source):
                    raise GraphError(f"the shape {values} copies size {k} of rank {len(source)}")
                sizes[k] = None if source is None else source[k]
                if left is not None:
                    left[k] = 1
        if left is None:
            return tuple(None if v == -1 else v for v in sizes)
        explicit = product(v for v in values if v > 0)
        if self.allowzero and 0 in values:
            explicit = 0
        assert isinstance(explicit, int)
        total = product(left)
        if -1 in values:
            sizes[values.index(-1)] = self._rest(source, values, left, explicit)
        elif isinstance(total, int) and total != explicit and 0 not in sizes:
            raise GraphError(f"a tensor of shape {_text(source)} has no shape {values}")
        elif all(isinstance(d, int) for d in (*sizes, *left)) and total != explicit:
            self._check_empty(source, values, sizes)
        return tuple(sizes)

    def _rest(self, source: Shape | None, values: list[int], left: list[Dim], explicit: int) -> Dim:
        number = product(d for d in left if isinstance(d, int))
        others = [d for d in left if not isinstance(d, int)]
        assert isinstance(number, int)
        if others:
            return others[0] if len(others) == 1 and number == explicit else None
        if number % explicit:
            raise GraphError(f"a tensor of shape {_text(source)} has no shape {values}")
        return number // explicit

    def _check_empty(self, source: Shape | None, values: list[int], sizes: list[Dim]) -> None:
        assert source is not None
        if product(source) != product(sizes):
            raise GraphError(f"a tensor of shape {_text(source)} has no shape {values}")

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 2, 3, 4)
        yield Case("plain", (x, longs(4, 6)))
        yield Case("copied and left over", (x, longs(0, -1)))
        yield Case("left over first", (x, longs(-1, 4)))
        yield Case("copied in the middle", (x, longs(2, 0, 2, 2)))
        yield Case("to a scalar", (floats(rng, 1, 1), longs()))
        yield Case("from a scalar", (np.array(3, np.int64), longs(1, -1)))
        yield Case("empty", (floats(rng, 0, 3), longs(0, -1)))
        yield Case("zero is allowed", (floats(rng, 0, 3), longs(5, 0)), {"allowzero": 1})
        yield Case("float16", (x.astype(np.float16), longs(24)))
        yield Case("bool", (x > 0, longs(3, 8)))


def _text(shape: Shape | None) -> str:
    return str(list(shape or ()))


@operator("Flatten", inputs="input", outputs="output")
class Flatten(Reshaping):
    """A matrix of the axes before `axis` and those from it on (ONNX Flatten 25)."""

    axis: int = 1

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data = given(inputs)
        if data.shape is None:
            return (TensorType(data.dtype, (None, None)),)
        rank = len(data.shape)
        if not -rank <= self.axis <= rank:
            raise GraphError(f"axis {self.axis} is out of range for rank {rank}")
        at = self.axis + rank if self.axis < 0 else self.axis
        return (TensorType(data.dtype, (product(data.shape[:at]), product(data.shape[at:]))),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 2, 3, 4)
        for axis in (-3, -1, 0, 1, 2, 3):
            yield Case(f"axis {axis}", (x,), {"axis": axis})
        yield Case("scalar", (np.array(1.5, np.float32),), {"axis": 0})
        yield Case("empty", (floats(rng, 3, 0, 2),))


@operator("Squeeze", inputs="data axes?", outputs="squeezed")
class Squeeze(Reshaping):
    """Without axes of size 1: those named, or all of them (ONNX Squeeze 25)."""

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, axes = given(inputs), maybe(inputs, 1)
        if data.shape is None:
            return (TensorType(data.dtype, None),)
        if axes is None:
            shape = tuple(d for d in data.shape if d != 1) if data.is_concrete else None
            return (TensorType(data.dtype, shape),)
        values = integers(axes, "axes")
        if values is None:
            return (TensorType(data.dtype, self._unknown(data.shape, length(axes))),)
        dropped = axes_of(values, len(data.shape))
        for axis in dropped:
            size = data.shape[axis]
            if isinstance(size, int) and size != 1:
                raise GraphError(f"axis {axis} has the size {size}, expected 1")
        return (
            TensorType(data.dtype, tuple(d for k, d in enumerate(data.shape) if k not in dropped)),
        )

    def _unknown(self, shape: Shape, count: int | None) -> Shape | None:
        """The shape without `count` of its axes, which ones is not known yet."""
        if count is None:
            return None
        rest = len(shape) - count
        if rest < 0 or sum(isinstance(d, int) and d != 1 for d in shape) > rest:
            raise GraphError(f"{list(shape)} has no {count} axes of size 1")
        return (None,) * rest

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 1, 3, 1, 4)
        yield Case("all", (x,))
        yield Case("one", (x, longs(2)))
        yield Case("negative", (x, longs(-2, 0)))
        yield Case("to a scalar", (floats(rng, 1),))
        yield Case("empty", (floats(rng, 1, 0), longs(0)))


@operator("Unsqueeze", inputs="data axes", outputs="expanded")
class Unsqueeze(Reshaping):
    """With axes of size 1 put in, numbered as in the output (ONNX Unsqueeze 25).

    axes: a list or, as ONNX's own definitions have it, a scalar.
    """

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, axes = given(inputs), given(inputs, 1)
        values = integers(axes, "axes", or_scalar=True)
        if data.shape is None:
            return (TensorType(data.dtype, None),)
        count = length(axes) if values is None else len(values)
        if count is None:
            return (TensorType(data.dtype, None),)
        rank = len(data.shape) + count
        if values is None:
            return (TensorType(data.dtype, (None,) * rank),)
        new, old = axes_of(values, rank), iter(data.shape)
        return (TensorType(data.dtype, tuple(1 if k in new else next(old) for k in range(rank))),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 5)
        yield Case("first", (x, longs(0)))
        yield Case("last", (x, longs(-1)))
        yield Case("several, unordered", (x, longs(4, 0, -3)))
        yield Case("scalar", (np.array(2, np.int64), longs(0)))
        yield Case("none", (x, longs()))
        yield Case("scalar axis", (x, np.array(-2)))
        yield Case("empty", (floats(rng, 0, 5), longs(1)))
