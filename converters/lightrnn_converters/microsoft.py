"""Operators of onnxruntime's own domain, com.microsoft, in terms of ONNX's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from lightrnn.errors import UnsupportedError
from lightrnn.graph import Array, Attr, Node

DOMAIN = "com.microsoft"

APPROXIMATE = 3e-2
"""How far results may be from onnxruntime's, relative to their largest magnitude, where it rounds
activations to eight bits and lightrnn does not."""

Rewrite: TypeAlias = Callable[
    [Node, Mapping[str, Attr], Mapping[str, Array], Callable[[Array], str]], list[Node]
]
"""A node, its attributes, constants by name, and what names a new constant: the nodes instead."""


def dynamic_quantize_lstm(
    node: Node,
    attrs: Mapping[str, Attr],
    constants: Mapping[str, Array],
    named: Callable[[Array], str],
) -> list[Node]:
    """DynamicQuantizeLSTM as an LSTM whose weights are dequantised; they stay bytes in the file.

    onnxruntime also rounds x and h to eight bits at each step; lightrnn keeps them as they are.
    Raises UnsupportedError where weights or scales are not constant.
    """
    x, w, r, *rest = [*node.inputs, *[""] * (12 - len(node.inputs))]
    made: list[Node] = []
    for weights, scale, zero in ((w, *rest[5:7]), (r, *rest[7:9])):
        if any(n and n not in constants for n in (weights, scale, zero)):
            raise UnsupportedError("weights, scales or zero points that are not constant")
        size = constants[weights].shape[1]
        made += _weights(node, weights, size, [constants[n] for n in (scale, zero) if n], named)
    others = rest[:5]
    while others and not others[-1]:
        others.pop()
    inputs = (x, made[1].outputs[0], made[3].outputs[0], *others)
    return [*made, Node("LSTM", inputs, node.outputs, dict(attrs), node.origin)]


def _weights(
    node: Node, weights: str, size: int, scales: list[Array], named: Callable[[Array], str]
) -> list[Node]:
    """[D, size, 4H] bytes, with a scale for each direction or column, as [D, 4H, size] floats."""
    columns = scales[0].ndim == 2 and scales[0].shape[1] > 1
    names = [named(v[:, None] if columns else v.reshape(-1)) for v in scales]
    floats, turned = (f"{node.outputs[0]}:{weights}:{what}" for what in ("floats", "turned"))
    layout: dict[str, Attr] = {"axis": 1, "block_size": size} if columns else {"axis": 0}
    return [
        Node("DequantizeLinear", (weights, *names), (floats,), layout, node.origin),
        Node("Transpose", (floats,), (turned,), {"perm": (0, 2, 1)}, node.origin),
    ]


REWRITES: Mapping[str, Rewrite] = {"DynamicQuantizeLSTM": dynamic_quantize_lstm}
"""Operators of the domain by name."""


def is_approximate(model: Any) -> bool:
    """Whether a ModelProto has nodes that onnxruntime computes in fewer bits than lightrnn."""
    return any(n.domain == DOMAIN and n.op_type in REWRITES for n in model.graph.node)
