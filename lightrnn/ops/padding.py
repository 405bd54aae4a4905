"""Pad: elements put around a tensor, or taken off it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lightrnn.errors import DataError, GraphError, UnsupportedError
from lightrnn.graph import Array, TensorType
from lightrnn.ops.arguments import (
    arrays_types,
    axes_of,
    given,
    inferred,
    integers,
    maybe,
    same_dtype,
    scalar,
    types_of,
)
from lightrnn.ops.copying import emit_copy, emit_fill, row_major
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats, longs

MODES = ("constant", "reflect", "edge", "wrap")


@operator("Pad", inputs="data pads constant_value? axes?", outputs="output")
class Pad(Operator):
    """Elements before and after each axis; negative numbers take some off (ONNX Pad 25)."""

    mode: str = "constant"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnsupportedError(f"mode {self.mode!r} is not one of {', '.join(MODES)}")

    def _pads(self, inputs: Types, rank: int) -> list[tuple[int, int]] | None:
        """(before, after) of each axis; None where they are not known."""
        pads, axes = integers(given(inputs, 1), "pads"), maybe(inputs, 3)
        chosen = None if axes is None else integers(axes, "axes")
        if pads is None or (chosen is None and axes is not None):
            return None
        found = list(range(rank)) if chosen is None else axes_of(chosen, rank)
        if len(pads) != 2 * len(found):
            raise GraphError(f"{len(pads)} pads for {len(found)} axes")
        widths = [(0, 0)] * rank
        for k, axis in enumerate(found):
            widths[axis] = (pads[k], pads[k + len(found)])
        return widths

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        data, constant = given(inputs), maybe(inputs, 2)
        if constant is not None:
            same_dtype((data, constant), "data and constant_value")
            scalar(constant, "constant_value")
        if data.shape is None:
            return (TensorType(data.dtype, None),)
        widths = self._pads(inputs, len(data.shape))
        if widths is None:
            return (TensorType(data.dtype, (None,) * len(data.shape)),)
        shape = tuple(
            d + a + b if isinstance(d, int) else d if a == b == 0 else None
            for d, (a, b) in zip(data.shape, widths, strict=True)
        )
        if any(isinstance(d, int) and d < 0 for d in shape):
            raise GraphError(f"pads {widths} take more than there is in {list(data.shape)}")
        return (TensorType(data.dtype, shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        data, value = given(inputs), maybe(inputs, 2)
        types = arrays_types(inputs)
        widths = self._pads(types, data.ndim) or []
        kept = data[
            tuple(
                slice(max(-a, 0), d - max(-b, 0))
                for d, (a, b) in zip(data.shape, widths, strict=True)
            )
        ]
        wide = [(max(a, 0), max(b, 0)) for a, b in widths]
        if not wide:
            return (kept,)
        if self.mode == "constant":
            fill = np.zeros((), data.dtype) if value is None else value.reshape(())
            return (np.pad(kept, wide, constant_values=fill),)
        if any(d == 0 and w != (0, 0) for d, w in zip(kept.shape, wide, strict=True)):
            raise DataError(f"an axis of size 0 cannot be padded in the mode {self.mode!r}")
        return (np.pad(kept, wide, mode=self.mode),)  # type: ignore[call-overload]

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        data, value, out = given(inputs), maybe(inputs, 2), outputs[0]
        widths = self._pads(types_of(inputs), len(data.shape))
        if widths is None or (value is not None and value.value is None):
            return False
        sizes = [d + min(a, 0) + min(b, 0) for d, (a, b) in zip(data.shape, widths, strict=True)]
        if any(s < 0 for s in sizes) or not all(map(self._reachable, sizes, widths)):
            return False
        if out is None:
            return True
        if self.mode == "constant" and data.shape != out.shape:
            zero = np.zeros((), out.type.dtype)
            emit_fill(emit, out, zero if value is None or value.value is None else value.value)
        source, target = row_major(data.shape), row_major(out.shape)
        pairs = list(zip(widths, source, target, strict=True))
        emit_copy(
            emit, data, out, sizes, source, target,
            sum(max(-a, 0) * s for (a, _), s, _ in pairs),
            sum(max(a, 0) * t for (a, _), _, t in pairs),
        )  # fmt: skip
        if self.mode != "constant":
            self._emit_borders(emit, out, sizes, widths)
        return True

    def _reachable(self, size: int, width: tuple[int, int]) -> bool:
        """Whether one copy each fills the borders of an axis."""
        most = max(width)
        if self.mode == "constant" or most <= 0:
            return True
        return size > 0 if self.mode == "edge" else most <= size - (self.mode == "reflect")

    def _emit_borders(
        self, emit: Emitter, out: Operand, sizes: list[int], widths: list[tuple[int, int]]
    ) -> None:
        """Fill borders axis by axis, each over the whole of the axes done before."""
        strides = row_major(out.shape)
        begin, extent = [max(a, 0) for a, _ in widths], list(sizes)
        for axis, (before, after) in enumerate(widths):
            step, size, at = strides[axis], sizes[axis], begin[axis]
            base = sum(b * s for b, s in zip(begin, strides, strict=True)) - at * step
            plans = {
                "reflect": ((at + before, -1), (at + size - 2, -1)),
                "edge": ((at, 0), (at + size - 1, 0)),
                "wrap": ((at + size - before, 1), (at, 1)),
            }[self.mode]
            for width, place, (source, direction) in zip(
                (before, after), (0, at + size), plans, strict=True
            ):
                if width > 0:
                    block = [*extent[:axis], width, *extent[axis + 1 :]]
                    steps = [*strides[:axis], direction * step, *strides[axis + 1 :]]
                    emit_copy(
                        emit, out, out, block, steps, strides,
                        base + source * step, base + place * step,
                    )  # fmt: skip
            begin[axis], extent[axis] = 0, out.shape[axis]

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = floats(rng, 3, 4, 5)
        yield Case("zeros", (x, longs(1, 0, 2, 0, 3, 1)))
        yield Case("value", (x, longs(0, 1, 0, 0, 0, 17), np.array(2.5, np.float32)))
        yield Case("one axis", (x, longs(3, 14), None, longs(-1)))
        yield Case("taken off", (x, longs(-1, 0, 2, 1, -2, -1)))
        yield Case("nothing to do", (x, longs(0, 0, 0, 0, 0, 0)))
        yield Case("no axes", (x, longs(), None, longs()))
        yield Case("scalar", (np.array(1.5, np.float32), longs()))
        yield Case("from nothing", (floats(rng, 0, 2), longs(1, 0, 2, 1)))
        yield Case("to nothing", (x, longs(-1, 0, 0, -2, 0, 0)))
        for mode in MODES[1:]:
            yield Case(mode, (x, longs(1, 0, 3, 2, 2, 4)), {"mode": mode})
            yield Case(f"{mode}, taken off", (x, longs(0, -1, 2, 2, 2, -2)), {"mode": mode})
            y = (x * 9).astype(np.int64)
            yield Case(f"{mode} int64", (y, longs(2, 1, 1, 2), None, longs(1, 0)), {"mode": mode})
        yield Case("far reflection", (floats(rng, 3), longs(5, 7)), {"mode": "reflect"})
        for dtype in (np.float16, np.float64, np.int64, np.int8, np.bool_):
            z, seven = (x * 9).astype(dtype), np.array(7, dtype)
            yield Case(np.dtype(dtype).name, (z, longs(0, 2, 1, 1, 0, 3), seven))
