"""Recurrent layers of which each alone reads the one before; made by preparing only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TypeVar

from lightrnn.graph import Array, TensorType
from lightrnn.ops.arguments import given
from lightrnn.ops.embedded import Embedded
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.recurrent import Recurrent
from lightrnn.ops.recurrent_lowering import lower_layer, lower_side_by_side
from lightrnn.ops.registry import Operator, Slots, Types

T = TypeVar("T")
Layers = tuple[Recurrent | Embedded, ...]


def results(layer: Recurrent | Embedded) -> int:
    """How many outputs a layer has."""
    return 1 + (layer.layer if isinstance(layer, Embedded) else layer).states


class Stack(Operator):
    """Layers going forward; Y [T, 1, N, S] of one is X [T, N, S] of the next.

    counts: inputs of each layer. Inputs are those of the first layer, then those of each other
    without its X; outputs are those of all, each with as many as its operator has. Only the last
    Y may be read.
    """

    name = "Stack"
    inputs = Slots.parse("X rest*")
    outputs = Slots.parse("Y? rest*")

    layers: Layers
    counts: tuple[int, ...]

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        found: list[TensorType] = []
        x: TensorType | None = None
        for layer, own in self._shares(inputs):
            made = layer.infer(own if x is None else (x, *own))
            y = made[0].shape
            x = TensorType(made[0].dtype, None if y is None else (y[0], *y[2:]))
            found += made
        return tuple(found)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        found: list[Array] = []
        x: Array | None = None
        for layer, own in self._shares(inputs):
            made = layer.evaluate(*(own if x is None else (x, *own)))
            x = made[0][:, 0]
            found += made
        return tuple(found)

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        shares = list(self._shares(inputs))
        if not all(
            layer.has_kernel(own[1:] if k == 0 else own) for k, (layer, own) in enumerate(shares)
        ):
            return False
        types = iter(self.infer([None if o is None else o.type for o in inputs]))
        wanted = iter(outputs)
        made, x = [], given(inputs)
        for k, (layer, own) in enumerate(shares):
            kinds = [next(types) for _ in range(results(layer))]
            asked = [next(wanted, None) for _ in kinds]
            if k < len(shares) - 1:
                asked[0] = Operand("", kinds[0], emit.scratch(4 * prod(kinds[0].sizes)))
            made.append(layer.lowered(emit, own if k == 0 else (x, *own), asked))
            time, _, batch, size = kinds[0].sizes
            if asked[0] is not None:
                x = asked[0]._replace(type=TensorType(kinds[0].dtype, (time, batch, size)))
        if not lower_side_by_side(emit, made):
            for one in made:
                lower_layer(emit, one)
        return True

    def _shares(self, inputs: Sequence[T]) -> Iterator[tuple[Recurrent | Embedded, Sequence[T]]]:
        """Each layer with its inputs, the first one's X among them."""
        start = 0
        for layer, count in zip(self.layers, self.counts, strict=True):
            yield layer, inputs[start : start + count]
            start += count
