"""Tensors whose element type NumPy lacks, read as tensors of the type that carries it.

bfloat16 is computed in float32. Elements of fewer bits can be moved and cast, integers dequantized.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lightrnn.errors import UnsupportedError
from lightrnn.graph import Node, TensorType
from lightrnn.ops.narrow import NARROW
from lightrnn.record import replace

BFLOAT16 = 16

MOVES = frozenset({
    "Compress", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements",
    "GatherND", "Identity", "Pad", "Reshape", "ReverseSequence", "Shape", "Size", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
})  # fmt: skip
"""Operators that look at no element, whatever the type."""

BY_TYPE = frozenset({
    "Bernoulli", "BitCast", "DynamicQuantizeLinear", "If", "Loop", "Scan",
})  # fmt: skip
"""Operators that depend on the element type itself, and those that hold others."""


@dataclass
class NarrowTensors:
    """ONNX's number of the element type of every tensor that another type carries."""

    types: dict[str, int] = field(default_factory=dict)

    def note(self, name: str, elem_type: int) -> None:
        """Record a tensor's element type."""
        if elem_type in NARROW:
            self.types[name] = elem_type

    def admit(self, node: Node) -> Node:
        """The node that computes on the carriers what `node` does. Raises UnsupportedError."""
        if node.op == "Cast":
            self.note(node.outputs[0], int(node.attrs["to"]))  # type: ignore[arg-type]
            return node
        if node.op == "CastLike" and node.inputs[1] in self.types:
            to = self.types[node.inputs[1]]
            return self.admit(
                replace(node, op="Cast", inputs=node.inputs[:1], attrs={**node.attrs, "to": to})
            )
        if node.op == "QuantizeLinear":
            return self._quantized(node)
        for name in node.inputs:
            kind = self.types.get(name)
            if kind is not None and not _computes(node.op, kind):
                raise UnsupportedError(f"element type {NARROW[kind].name} is not supported")
        return node

    def _quantized(self, node: Node) -> Node:
        """QuantizeLinear with its result's type, which its zero point may have given, spelt out."""
        zero = self.types.get(node.inputs[2]) if len(node.inputs) > 2 else None
        kind = zero or int(node.attrs.get("output_dtype", 0))  # type: ignore[arg-type]
        self.note(node.outputs[0], kind)
        for name in node.inputs[:2]:
            if name in self.types and self.types[name] != BFLOAT16:
                raise UnsupportedError(
                    f"element type {NARROW[self.types[name]].name} is not supported"
                )
        return replace(node, attrs={**node.attrs, "output_dtype": kind}) if kind else node

    def spread(self, node: Node, outputs: tuple[TensorType, ...]) -> None:
        """Record the element types of an admitted node's outputs, given the types it infers."""
        if node.op in ("Cast", "CastLike", "QuantizeLinear"):
            return
        sources = node.inputs[1:2] if node.op == "DequantizeLinear" else node.inputs
        kind = next((self.types[i] for i in sources if i in self.types), None)
        if kind is not None:
            for name, t in zip(node.outputs, outputs, strict=False):
                if t.dtype == NARROW[kind].carrier:
                    self.note(name, kind)


def _computes(op: str, kind: int) -> bool:
    if kind == BFLOAT16:
        return op not in BY_TYPE
    return op in MOVES or op in ("CastLike", "DequantizeLinear")
