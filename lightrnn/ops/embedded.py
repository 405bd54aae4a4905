"""A recurrent layer over rows of a constant table; made by preparing only."""

from __future__ import annotations

from collections.abc import Sequence

from lightrnn.graph import FLOAT32, Array, TensorType
from lightrnn.ops.arguments import given
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.recurrent import Recurrent
from lightrnn.ops.registry import Operator, Slots, Types

LARGEST_TABLE = 2**23
"""Bytes of a table of projected rows: nothing is gained from what would not stay in a cache."""
MOST_PRODUCTS = 2**26
"""Multiplications that a table may take, some 10 ms of a first run."""


class Embedded(Operator):
    """`layer` with X = table[numbers]: table float32 [V, I], numbers int32 [T, N], 0 to V - 1.

    Where the table is small, the layer's W and B meet each of its rows once, and X is never made.
    What a run looks up does not count, so that results do not depend on what shares a batch.
    """

    name = "Embedded"
    outputs = Slots.parse("Y? Y_h? Y_c?")
    inputs = Slots.parse("numbers table W R B? sequence_lens? initial_h? initial_c? P? projection?")

    layer: Recurrent

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        numbers, table = given(inputs), given(inputs, 1)
        shape = None if numbers.shape is None or table.shape is None else (
            *numbers.shape, table.shape[1]
        )  # fmt: skip
        return self.layer.infer((TensorType(table.dtype, shape), *inputs[2:]))

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        numbers, table = given(inputs), given(inputs, 1)
        return self.layer.evaluate(table[numbers], *inputs[2:])

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        numbers, table, *rest = inputs
        assert numbers is not None
        assert table is not None
        if not self.layer.has_kernel(rest):
            return False
        if self._is_small(table, given(rest)):
            emit.layer(self.layer.layer([numbers, *rest], outputs, table))
            return True
        rows, width = table.shape
        x = emit.scratch(numbers.size * width * 4)
        emit.call(
            "gather_rows", table, numbers, x, 1, rows, numbers.size, width * 4, 0,
            work=numbers.size * width,
        )  # fmt: skip
        kind = TensorType(FLOAT32, (*numbers.shape, width))
        emit.layer(self.layer.layer([Operand("", kind, x), *rest], outputs))
        return True

    def _is_small(self, table: Operand, w: Operand) -> bool:
        elements = table.shape[0] * w.shape[0] * w.shape[1]
        return 0 < elements * 4 <= LARGEST_TABLE and elements * table.shape[1] <= MOST_PRODUCTS
