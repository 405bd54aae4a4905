"""Comparisons, truth values, choices and element types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lightrnn.errors import GraphError
from lightrnn.graph import BOOL, FLOAT32, INT64, Array, TensorType
from lightrnn.native.abi import COMPARISONS, ELEMENTS, LOGIC
from lightrnn.ops.arguments import DATA_TYPES, data_type, given, same_dtype
from lightrnn.ops.broadcast import broadcast_shape, walk
from lightrnn.ops.elementwise import SPECIAL, floats
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator

if TYPE_CHECKING:
    from lightrnn.ops.narrow import NarrowType

SHAPES = (((3, 7), (3, 7)), ((3, 1, 5), (4, 1)), ((), (4,)), ((0, 3), (3,)), ((5, 40), (5, 1)))


def truths(rng: np.random.Generator, *shape: int) -> Array:
    """Random truth values."""
    return np.asarray(rng.random(shape) < 0.5)


class Comparison(Operator):
    """Two inputs of one element type, broadcast, to truth values."""

    def compute(self, a: Array, b: Array) -> Array:
        """The comparison, in NumPy."""
        raise NotImplementedError

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        same_dtype(inputs, "inputs")
        return (TensorType(BOOL, broadcast_shape([given(inputs).shape, given(inputs, 1).shape])),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.asarray(self.compute(given(inputs), given(inputs, 1))),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        a, b, y = given(inputs), given(inputs, 1), given(outputs)
        kind = a.type.dtype.name
        if kind not in ELEMENTS or kind == "float64" or self.name not in COMPARISONS:
            return False
        if y.size:
            words = walk(y.shape, (a.shape, b.shape))
            code = COMPARISONS.index(self.name)
            emit.call("compare", a, b, y, code, ELEMENTS.index(kind), *words, work=4 * y.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for a, b in SHAPES:
            pair = (rng.integers(-2, 3, s) for s in (a, b))
            yield Case(f"{a} {b}", tuple(p.astype(np.float32) for p in pair))
        for dtype in (np.int64, np.int32):
            pair = (rng.integers(-2, 3, s) for s in ((3, 1, 5), (4, 1)))
            yield Case(np.dtype(dtype).name, tuple(p.astype(dtype) for p in pair))
        grid = np.meshgrid(SPECIAL, SPECIAL)
        yield Case("special", tuple(np.ascontiguousarray(p) for p in grid))


@operator("Equal", inputs="A B", outputs="C")
class Equal(Comparison):
    def compute(self, a: Array, b: Array) -> Array:
        return np.equal(a, b)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from super().cases(rng)
        yield Case("bool", (truths(rng, 3, 4), truths(rng, 4)))


@operator("Less", inputs="A B", outputs="C")
class Less(Comparison):
    kinds = "iuf"

    def compute(self, a: Array, b: Array) -> Array:
        return np.less(a, b)


@operator("LessOrEqual", inputs="A B", outputs="C")
class LessOrEqual(Comparison):
    kinds = "iuf"

    def compute(self, a: Array, b: Array) -> Array:
        return np.less_equal(a, b)


@operator("Greater", inputs="A B", outputs="C")
class Greater(Comparison):
    kinds = "iuf"

    def compute(self, a: Array, b: Array) -> Array:
        return np.greater(a, b)


@operator("GreaterOrEqual", inputs="A B", outputs="C")
class GreaterOrEqual(Comparison):
    kinds = "iuf"

    def compute(self, a: Array, b: Array) -> Array:
        return np.greater_equal(a, b)


class Logical(Operator):
    """Two truth values, broadcast."""

    def compute(self, a: Array, b: Array) -> Array:
        """The function, in NumPy."""
        raise NotImplementedError

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        _require_bool(inputs)
        return (TensorType(BOOL, broadcast_shape([given(inputs).shape, given(inputs, 1).shape])),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.asarray(self.compute(given(inputs), given(inputs, 1))),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        a, b, y = given(inputs), given(inputs, 1), given(outputs)
        if y.size:
            words = walk(y.shape, (a.shape, b.shape))
            emit.call("logic", a, b, y, LOGIC.index(self.name), *words, work=4 * y.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for a, b in SHAPES:
            yield Case(f"{a} {b}", (truths(rng, *a), truths(rng, *b)))


def _require_bool(inputs: Types) -> None:
    for t in inputs:
        if t is not None and t.dtype != BOOL:
            raise GraphError(f"an input is {t.dtype.name}, expected bool")


@operator("And", inputs="A B", outputs="C")
class And(Logical):
    def compute(self, a: Array, b: Array) -> Array:
        return np.logical_and(a, b)


@operator("Or", inputs="A B", outputs="C")
class Or(Logical):
    def compute(self, a: Array, b: Array) -> Array:
        return np.logical_or(a, b)


@operator("Xor", inputs="A B", outputs="C")
class Xor(Logical):
    def compute(self, a: Array, b: Array) -> Array:
        return np.logical_xor(a, b)


@operator("Not", inputs="X", outputs="Y")
class Not(Operator):
    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        _require_bool(inputs)
        return (TensorType(BOOL, given(inputs).shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.asarray(np.logical_not(given(inputs))),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, y = given(inputs), given(outputs)
        emit.call("logical_not", x, y, x.size, work=x.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((3, 7), (), (0, 3)):
            yield Case(str(shape), (truths(rng, *shape),))


class FloatTest(Operator):
    """A question about each number, answered by a truth value."""

    def compute(self, x: Array) -> Array:
        """The answers, in NumPy."""
        raise NotImplementedError

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        if not np.issubdtype(x.dtype, np.floating):
            raise GraphError(f"the input is {x.dtype.name}, expected a float type")
        return (TensorType(BOOL, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.asarray(self.compute(given(inputs))),)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("special", (SPECIAL,))
        yield Case("scalar", (np.array(np.nan, np.float32),))


@operator("IsNaN", inputs="X", outputs="Y")
class IsNaN(FloatTest):
    def compute(self, x: Array) -> Array:
        return np.isnan(x)


@operator("IsInf", inputs="X", outputs="Y")
class IsInf(FloatTest):
    detect_negative: int = 1
    detect_positive: int = 1

    def compute(self, x: Array) -> Array:
        below, above = np.isneginf(x), np.isposinf(x)
        return (below & bool(self.detect_negative)) | (above & bool(self.detect_positive))

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from super().cases(rng)
        yield Case("negative", (SPECIAL,), {"detect_positive": 0})
        yield Case("positive", (SPECIAL,), {"detect_negative": 0})


@operator("Where", inputs="condition X Y", outputs="output")
class Where(Operator):
    """X where the condition holds, else Y; all broadcast."""

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        _require_bool(inputs[:1])
        same_dtype(inputs[1:], "X and Y")
        shape = broadcast_shape([given(inputs, k).shape for k in range(3)])
        return (TensorType(given(inputs, 1).dtype, shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (np.where(given(inputs), given(inputs, 1), given(inputs, 2)),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        operands, y = [given(inputs, k) for k in range(3)], given(outputs)
        item = y.type.dtype.itemsize
        if item not in (1, 4, 8):
            return False
        if y.size:
            words = walk(y.shape, [o.shape for o in operands])
            emit.call("where", *operands, y, item, *words, work=4 * y.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for c, a, b in (
            ((3, 7), (3, 7), (3, 7)), ((3, 1, 5), (4, 1), ()), ((4,), (2, 1), (2, 4)),
            ((), (3,), ()), ((0, 3), (3,), (1, 1)), ((5, 40), (5, 1), (40,)),
        ):  # fmt: skip
            yield Case(f"{c} {a} {b}", (truths(rng, *c), floats(rng, *a), floats(rng, *b)))
        for dtype in (np.int64, np.bool_, np.float64, np.float16):
            pair = (rng.integers(0, 2, s).astype(dtype) for s in ((3, 1, 5), (4, 1)))
            yield Case(np.dtype(dtype).name, (truths(rng, 4, 5), *pair))


def _converted(x: Array, target: np.dtype[np.generic]) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(x.astype(target))


def _emit_cast(emit: Emitter, x: Operand, y: Operand) -> bool:
    source, target = x.type.dtype.name, y.type.dtype.name
    if source == target and emit.view(y, x):
        return True
    if source not in ELEMENTS or target not in ELEMENTS:
        return False
    kinds = ELEMENTS.index(source), ELEMENTS.index(target)
    emit.call("cast", x, y, x.size, *kinds, work=2 * x.size)
    return True


@operator("Cast", inputs="input", outputs="output")
class Cast(Operator):
    """Another element type, `to` by its ONNX number (ONNX Cast 28).

    Of a type that NumPy lacks, the result holds the values in the type that carries it.
    saturate, round_mode: what becomes of values beyond float8, and between two of float8e8m0.
    """

    to: int
    saturate: int = 1
    round_mode: str = "up"

    def __post_init__(self) -> None:
        if self.narrow is None:
            data_type(self.to)
        if self.round_mode not in ("up", "down", "nearest"):
            raise GraphError(f"round_mode is {self.round_mode!r}")

    @property
    def narrow(self) -> NarrowType | None:
        """The type to cast to, where it is one that NumPy lacks."""
        if self.to in DATA_TYPES:
            return None
        from lightrnn.ops.narrow import NARROW

        return NARROW.get(self.to)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type of the result."""
        return data_type(self.to) if self.narrow is None else self.narrow.carrier

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x = given(inputs)
        value = None if x.value is None else self._convert(x.value)
        return (TensorType(self.dtype, x.shape, value),)

    def _convert(self, x: Array) -> Array:
        if self.narrow is None:
            return _converted(x, self.dtype)
        with np.errstate(all="ignore"):
            return self.narrow.convert(x, bool(self.saturate), self.round_mode)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (self._convert(given(inputs)),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        return self.narrow is None and _emit_cast(emit, given(inputs), given(outputs))

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        numbers = {"float32": 1, "int64": 7, "int32": 6, "bool": 9, "float64": 11}
        x = np.concatenate([rng.uniform(-100, 100, 30), [0.0, 0.5, -0.5, 1.0]])
        for source in numbers:
            for target, to in numbers.items():
                yield Case(f"{source} to {target}", (x.astype(source),), {"to": to})
        yield Case("scalar", (np.array(2.5, np.float32),), {"to": 7})
        yield Case("empty", (np.zeros((0, 3), np.float32),), {"to": 7})
        yield Case("float16", (x.astype(np.float32),), {"to": 10})
        yield Case("NaN to bool", (np.array([np.nan, 1e-40, -0.0], np.float32),), {"to": 9})


@operator("CastLike", inputs="input target_type", outputs="output")
class CastLike(Operator):
    """The element type of another tensor."""

    saturate: int = 1
    round_mode: str = "up"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        return (TensorType(given(inputs, 1).dtype, given(inputs).shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        return (_converted(given(inputs), given(inputs, 1).dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        return _emit_cast(emit, given(inputs), given(outputs))

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case("to int64", (floats(rng, 3, 5) * 9, np.zeros(1, INT64)))
        yield Case("to float32", (rng.integers(-9, 9, (2, 3)), np.zeros((2, 2), FLOAT32)))
