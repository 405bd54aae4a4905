"""Normalisation of layers, batches and instances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from lightrnn.errors import GraphError, UnsupportedError
from lightrnn.graph import FLOAT32, Array, Shape, TensorType
from lightrnn.native.abi import BINARY
from lightrnn.ops.arguments import axis_of, given, maybe, same_dtype
from lightrnn.ops.broadcast import walk
from lightrnn.ops.elementwise import floats
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator


@operator("LayerNormalization", inputs="X Scale B?", outputs="Y Mean? InvStdDev?")
class LayerNormalization(Operator):
    """(X - mean) / sqrt(variance + epsilon) * Scale + B over the axes from `axis` on."""

    axis: int = -1
    epsilon: float = 1e-5
    stash_type: int = 1
    kinds = "f"

    def __post_init__(self) -> None:
        if self.stash_type != 1:
            raise UnsupportedError(f"stash_type {self.stash_type} is not supported, expected 1")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        same_dtype(inputs, "inputs")
        x = given(inputs)
        stash: Shape | None = None
        if x.shape is not None:
            axis = axis_of(self.axis, len(x.shape))
            stash = tuple(d if k < axis else 1 for k, d in enumerate(x.shape))
            for k, what in ((1, "Scale"), (2, "B")):
                check_broadcasts(maybe(inputs, k), x.shape[axis:], what)
        return TensorType(x.dtype, x.shape), *[TensorType(FLOAT32, stash)] * 2

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x, scale, bias = given(inputs), given(inputs, 1), maybe(inputs, 2)
        axes = tuple(range(axis_of(self.axis, x.ndim), x.ndim))
        wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
        mean = wide.mean(axes, keepdims=True)
        centred = wide - mean
        inverse = 1 / np.sqrt((centred * centred).mean(axes, keepdims=True) + self.epsilon)
        y = (centred * inverse).astype(x.dtype) * scale
        y = y if bias is None else y + bias
        return y.astype(x.dtype), mean.astype(FLOAT32), inverse.astype(FLOAT32)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, scale, bias = given(inputs), given(inputs, 1), maybe(inputs, 2)
        y = outputs[0]
        axis = axis_of(self.axis, len(x.shape))
        outer, n = prod(x.shape[:axis]), prod(x.shape[axis:])
        plain = scale.size == n and (bias is None or bias.size == n)
        if x.type.dtype != FLOAT32 or n == 0 or y is None or not plain:
            return False
        stash = maybe(outputs, 1), maybe(outputs, 2)
        emit.call(
            "layer_norm", x, scale, bias, y, *stash, outer, n, 1, self.epsilon, work=4 * x.size
        )
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 4, 5)
        yield Case("last", (x, floats(rng, 5), floats(rng, 5)))
        yield Case("two axes", (x, floats(rng, 4, 5), floats(rng, 4, 5)), {"axis": 1})
        yield Case("no bias", (x, floats(rng, 5)), {"epsilon": 1e-2})
        yield Case("wide", (floats(rng, 2, 37), floats(rng, 37), floats(rng, 37)))
        yield Case("one scale", (x, floats(rng, 1)), {"axis": -1})
        yield Case("output alone", (x, floats(rng, 5)), {}, ("Y",))
        yield Case("no rows", (floats(rng, 0, 5), floats(rng, 5)))


def check_broadcasts(t: TensorType | None, shape: Shape, what: str) -> None:
    """Raise GraphError unless a tensor broadcasts to a shape."""
    if t is None or t.shape is None:
        return
    wide = (1,) * (len(shape) - len(t.shape)) + t.shape
    fits = len(wide) == len(shape) and all(
        not isinstance(a, int) or not isinstance(b, int) or a in (1, b)
        for a, b in zip(wide, shape, strict=True)
    )
    if not fits:
        raise GraphError(f"{what} is {t}, expected the sizes {list(shape)}")


def _check_channels(inputs: Types, names: Sequence[str]) -> None:
    """Inputs from the second on are [C], where the first is [N, C, ...]."""
    x = given(inputs)
    if x.shape is None:
        return
    if len(x.shape) < 2:
        raise GraphError(f"the input is {x}, expected [N, C, ...]")
    for k, name in enumerate(names, 1):
        t = given(inputs, k)
        known = t.shape is not None and all(isinstance(d, int) for d in (*t.shape, x.shape[1]))
        if (t.rank not in (None, 1)) or (known and t.shape != (x.shape[1],)):
            raise GraphError(f"{name} is {t}, expected [{x.shape[1]}]")


def _emit_groups(
    emit: Emitter,
    inputs: Sequence[Operand | None],
    outputs: Sequence[Operand | None],
    groups: int,
    epsilon: float,
) -> bool:
    """Normalise groups of channels of X, then scale and shift each channel."""
    x, scale, bias, y = given(inputs), given(inputs, 1), given(inputs, 2), outputs[0]
    if x.type.dtype != FLOAT32 or y is None:
        return False
    outer = x.shape[0] * groups
    if x.size == 0:
        return True
    n = x.size // outer
    emit.call("layer_norm", x, None, None, y, None, None, outer, n, 1, epsilon, work=4 * x.size)
    words = walk(x.shape, (x.shape, (x.shape[1], *[1] * (len(x.shape) - 2))))
    emit.call("binary", y, scale, y, BINARY.index("Mul"), *words, work=x.size)
    emit.call("binary", y, bias, y, BINARY.index("Add"), *words, work=x.size)
    return True


def _per_channel(values: Array, rank: int) -> Array:
    return values.reshape(-1, *[1] * (rank - 2))


@operator("BatchNormalization", inputs="X scale B input_mean input_var", outputs="Y")
class BatchNormalization(Operator):
    """(X - mean) / sqrt(var + epsilon) * scale + B for each channel; inference only."""

    epsilon: float = 1e-5
    momentum: float = 0.9
    training_mode: int = 0
    kinds = "f"

    def __post_init__(self) -> None:
        if self.training_mode:
            raise UnsupportedError("training_mode 1 is not supported")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        _check_channels(inputs, ("scale", "B", "input_mean", "input_var"))
        same_dtype(inputs[1:3], "scale and B")
        same_dtype(inputs[3:5], "input_mean and input_var")
        x = given(inputs)
        return (TensorType(x.dtype, x.shape),)

    def _affine(self, *parameters: Array) -> Array:
        """Factor and offset, [2, C]."""
        scale, bias, mean, variance = (p.astype(np.float64) for p in parameters)
        factor = scale / np.sqrt(variance + self.epsilon)
        return np.stack([factor, bias - mean * factor])

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x = given(inputs)
        factor, offset = self._affine(*(given(inputs, k) for k in range(1, 5)))
        y = x * _per_channel(factor, x.ndim) + _per_channel(offset, x.ndim)
        return (y.astype(x.dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, y = given(inputs), given(outputs)
        parameters = tuple(given(inputs, k) for k in range(1, 5))
        if x.type.dtype != FLOAT32 or any(p.value is None for p in parameters):
            return False
        if x.size == 0:
            return True
        layout = ("batch norm", self.epsilon)
        pair = emit.packed(parameters, layout, lambda *p: self._affine(*p).astype(np.float32))
        channels = (x.shape[1], *[1] * (len(x.shape) - 2))
        words = walk(x.shape, (x.shape, channels))
        offset = pair + 4 * x.shape[1]
        emit.call("binary", x, pair, y, BINARY.index("Mul"), *words, work=x.size)
        emit.call("binary", y, offset, y, BINARY.index("Add"), *words, work=x.size)
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((3, 4), (2, 4, 5), (2, 3, 4, 5), (0, 3, 2), (2, 3, 33)):
            vectors = [floats(rng, shape[1]) for _ in range(3)]
            variance = rng.uniform(0.5, 2, shape[1]).astype(np.float32)
            yield Case(str(shape), (floats(rng, *shape), *vectors, variance))
        one = [np.ones(3, np.float32)] * 4
        yield Case("epsilon", (floats(rng, 2, 3), *one), {"epsilon": 0.1})
        x = floats(rng, 2, 3, 5).astype(np.float16)
        yield Case("float16, parameters of float32", (x, *one))
        half = [v.astype(np.float16) for v in one[:2]]
        yield Case("parameters of two types", (floats(rng, 2, 3), *half, *one[2:]))


@operator("InstanceNormalization", inputs="input scale B", outputs="output")
class InstanceNormalization(Operator):
    """Each channel of each instance by its own mean and variance."""

    epsilon: float = 1e-5
    rtol = 3e-6
    kinds = "f"

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        _check_channels(inputs, ("scale", "B"))
        same_dtype(inputs, "inputs")
        x = given(inputs)
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x, scale, bias = (given(inputs, k) for k in range(3))
        axes = tuple(range(2, x.ndim))
        centred = x - x.mean(axes, keepdims=True)
        y = centred / np.sqrt((centred * centred).mean(axes, keepdims=True) + self.epsilon)
        y = y * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)
        return (y.astype(x.dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        return _emit_groups(emit, inputs, outputs, given(inputs).shape[1], self.epsilon)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((2, 3, 7), (2, 3, 4, 5)):
            yield Case(str(shape), (floats(rng, *shape), floats(rng, 3), floats(rng, 3)))


@operator("GroupNormalization", inputs="X scale bias", outputs="Y")
class GroupNormalization(Operator):
    """Each group of channels of each instance by its own mean and variance (ONNX 21)."""

    num_groups: int
    epsilon: float = 1e-5
    stash_type: int = 1
    kinds = "f"
    rtol = 3e-6

    def __post_init__(self) -> None:
        if self.num_groups < 1:
            raise GraphError(f"num_groups is {self.num_groups}")
        if self.stash_type != 1:
            raise UnsupportedError(f"stash_type {self.stash_type} is not supported, expected 1")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        _check_channels(inputs, ("scale", "bias"))
        x = given(inputs)
        channels = None if x.shape is None else x.shape[1]
        if isinstance(channels, int) and channels % self.num_groups:
            raise GraphError(f"{channels} channels do not split into {self.num_groups} groups")
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        x, scale, bias = (given(inputs, k) for k in range(3))
        wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
        rows = wide.reshape(x.shape[0], self.num_groups, -1) if x.size else wide
        centred = rows - rows.mean(-1, keepdims=True)
        y = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + self.epsilon)
        y = y.reshape(x.shape).astype(x.dtype)
        y = y * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)
        return (y.astype(x.dtype),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        return _emit_groups(emit, inputs, outputs, self.num_groups, self.epsilon)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape, groups in (((2, 6, 7), 3), ((2, 4, 3, 5), 1), ((1, 4, 5), 4), ((3, 4), 2)):
            parts = floats(rng, *shape), floats(rng, shape[1]), floats(rng, shape[1])
            yield Case(f"{shape}, {groups} groups", parts, {"num_groups": groups})
        yield Case("no batch", tuple(p[:0] if k == 0 else p for k, p in enumerate(parts)),
                   {"num_groups": 2})  # fmt: skip
        halves = tuple(p.astype(np.float16) for p in parts)
        yield Case("float16", halves, {"num_groups": 2, "epsilon": 1e-2})
