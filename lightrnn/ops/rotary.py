"""RotaryEmbedding: positions as angles by which pairs of elements are turned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lightrnn.errors import DataError, GraphError
from lightrnn.graph import FLOAT32, INT64, Array, Dim, TensorType
from lightrnn.ops.arguments import given, inferred, maybe, merged, same_dtype
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats


@operator("RotaryEmbedding", inputs="X cos_cache sin_cache position_ids?", outputs="Y")
class RotaryEmbedding(Operator):
    """Pairs (a, b) become (cos a - sin b, sin a + cos b) (ONNX RotaryEmbedding 23).

    X: [N, heads, L, E], or [N, L, num_heads * E]. Caches: [positions, E / 2] with position_ids
    [N, L], or [N, L, E / 2]. rotary_embedding_dim: how many elements are turned, 0 for all.
    interleaved: pairs are neighbours, not an element of each half.
    """

    interleaved: int = 0
    num_heads: int = 0
    rotary_embedding_dim: int = 0

    kinds = "f"

    def __post_init__(self) -> None:
        if self.rotary_embedding_dim < 0 or self.rotary_embedding_dim % 2:
            raise GraphError(f"rotary_embedding_dim is {self.rotary_embedding_dim}, expected even")

    def _sizes(self, x: TensorType) -> tuple[Dim, Dim, Dim, Dim]:
        """Batch, heads, steps, head size. Raises GraphError."""
        if x.shape is None:
            return None, None, None, None
        if len(x.shape) == 4:
            n, heads, steps, size = x.shape
            return n, heads, steps, size
        if len(x.shape) != 3 or self.num_heads < 1:
            raise GraphError(f"X is {x} with num_heads {self.num_heads}")
        n, steps, hidden = x.shape
        if isinstance(hidden, int) and hidden % self.num_heads:
            raise GraphError(f"X is {x}, which does not split into {self.num_heads} heads")
        return (
            n,
            self.num_heads,
            steps,
            hidden // self.num_heads if isinstance(hidden, int) else None,
        )

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        x, positions = given(inputs), maybe(inputs, 3)
        same_dtype(inputs[:3], "X and the caches")
        n, _, steps, size = self._sizes(x)
        turned: Dim = self.rotary_embedding_dim or size
        if isinstance(turned, int) and (turned % 2 or (isinstance(size, int) and turned > size)):
            raise GraphError(f"{turned} elements are turned of heads of {size}")
        half = turned // 2 if isinstance(turned, int) else None
        if positions is not None and positions.dtype != INT64:
            raise GraphError(f"position_ids is {positions.dtype.name}, expected int64")
        for t, wanted, what in (
            (positions, (n, steps), "position_ids"),
            (
                given(inputs, 1),
                (n, steps, half) if positions is None else (None, half),
                "cos_cache",
            ),
            (
                given(inputs, 2),
                (n, steps, half) if positions is None else (None, half),
                "sin_cache",
            ),
        ):
            if t is not None and t.shape is not None:
                if len(t.shape) != len(wanted):
                    raise GraphError(f"{what} is {t}, expected rank {len(wanted)}")
                for a, b in zip(t.shape, wanted, strict=True):
                    merged(a, b, f"sizes of {what}")
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        inferred(self, inputs)
        x, cos, sin, positions = given(inputs), given(inputs, 1), given(inputs, 2), maybe(inputs, 3)
        if positions is not None:
            if positions.size and not 0 <= positions.min() <= positions.max() < min(
                len(cos), len(sin)
            ):
                raise DataError(f"position_ids reach beyond the {len(cos)} positions of the cache")
            cos, sin = cos[positions], sin[positions]
        n, heads, steps, size = TensorType(x.dtype, self._sizes(TensorType.of(x))).sizes
        rows = x if x.ndim == 4 else np.swapaxes(x.reshape(n, steps, heads, size), 1, 2)
        cos, sin = cos[:, None], sin[:, None]
        turned = 2 * cos.shape[-1]
        y = np.array(rows)
        if self.interleaved:
            first, second = slice(0, turned, 2), slice(1, turned, 2)
        else:
            first, second = slice(0, turned // 2), slice(turned // 2, turned)
        a, b = rows[..., first], rows[..., second]
        y[..., first], y[..., second] = cos * a - sin * b, sin * a + cos * b
        return (y if x.ndim == 4 else np.swapaxes(y, 1, 2).reshape(x.shape),)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        x, cos, sin, positions = given(inputs), given(inputs, 1), given(inputs, 2), maybe(inputs, 3)
        y = outputs[0]
        if x.type.dtype != FLOAT32 or y is None or cos.shape != sin.shape or not cos.size:
            return False
        n, heads, steps, size = TensorType(FLOAT32, self._sizes(x.type)).sizes
        if x.size == 0:
            return True
        strides = (heads * steps * size, size, steps * size)
        if len(x.shape) == 3:
            strides = (steps * heads * size, heads * size, size)
        emit.call(
            "rotate", x, cos, sin, positions, y, n * steps, steps, heads, size, cos.shape[-1],
            cos.shape[0], self.interleaved, *strides, work=2 * x.size,
        )  # fmt: skip
        return True

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x, three = floats(rng, 2, 3, 5, 8), floats(rng, 2, 5, 24)
        ids, caches = rng.integers(0, 9, (2, 5)), (floats(rng, 9, 4), floats(rng, 9, 4))
        for side in (0, 1):
            yield Case(f"4-d, interleaved {side}", (x, *caches, ids), {"interleaved": side})
        yield Case("3-d", (three, *caches, ids), {"num_heads": 3})
        part = {"rotary_embedding_dim": 4}
        yield Case("a part", (x, *(c[:, :2] for c in caches), ids), part)
        yield Case("without ids", (x, floats(rng, 2, 5, 4), floats(rng, 2, 5, 4)))
        wide = floats(rng, 1, 2, 3, 70), floats(rng, 4, 35), floats(rng, 4, 35)
        yield Case("wide", (*wide, rng.integers(0, 4, (1, 3))))
        halves = tuple(a.astype(np.float16) for a in (x, *caches))
        yield Case("float16", (*halves, ids))
        yield Case("no batch", (x[:0], *caches, ids[:0]))
