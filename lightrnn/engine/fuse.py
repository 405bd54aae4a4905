"""Fusions of a prepared graph; they never appear in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from lightrnn.engine.makers import Makers, Step
from lightrnn.graph import FLOAT32, Array, Graph, Node


def fuse_bias(steps: Sequence[Step], graph: Graph) -> list[Step]:
    """MatMul by a constant matrix, followed by Add of a constant row, as one Linear."""
    readers = Counter(name for node, _ in steps for name in node.inputs)
    readers.update(list(graph.outputs))
    products = {
        node.outputs[0]: node
        for node, op in steps
        if op.name == "MatMul" and _is_matrix(graph.constants, node.inputs[1])
    }
    if not products:
        return list(steps)
    from lightrnn.ops.linear import Linear

    fused: dict[str, Step] = {}
    for node, op in steps:
        if op.name != "Add":
            continue
        for product, bias in (node.inputs, node.inputs[::-1]):
            source = products.get(product)
            if source is None or readers[product] != 1 or product in fused:
                continue
            if _is_row(graph.constants, bias, graph.constants[source.inputs[1]].shape[1]):
                merged = Node("Linear", (*source.inputs, bias), node.outputs, {}, source.origin)
                fused[product] = (merged, Linear())
                fused[node.outputs[0]] = (merged, Linear())
                break
    # The Linear takes the Add's place: the product's place is gone.
    result = []
    for node, op in steps:
        out = node.outputs[0]
        if out not in fused:
            result.append((node, op))
        elif fused[out][0].outputs[0] == out:
            result.append(fused[out])
    return result


def fuse_transpose(steps: Sequence[Step], graph: Graph) -> list[Step]:
    """MatMul by a tensor whose last two axes a Transpose has exchanged, for it alone, as one."""
    makers = Makers(steps, graph)
    made: dict[str, Step] = {}
    gone: set[str] = set()
    for node, op in steps:
        turn = makers.only(node.inputs[1], "Transpose") if op.name == "MatMul" else None
        perm = None if turn is None else turn.attrs.get("perm")
        if turn is None or not isinstance(perm, tuple) or len(perm) < 2:
            continue
        rank = len(perm)
        if perm == (*range(rank - 2), rank - 1, rank - 2):
            from lightrnn.ops.linear import MatMulTransposed

            gone.update(turn.outputs)
            inputs = (node.inputs[0], turn.inputs[0])
            fused = Node("MatMul", inputs, node.outputs, {}, node.origin)
            made[node.outputs[0]] = fused, MatMulTransposed()
    left = (step for step in steps if gone.isdisjoint(step[0].outputs))
    return [made.get(step[0].outputs[0], step) for step in left]


def _is_matrix(constants: Mapping[str, Array], name: str) -> bool:
    value = constants.get(name)
    return value is not None and value.ndim == 2 and value.dtype == FLOAT32


def _is_row(constants: Mapping[str, Array], name: str, size: int) -> bool:
    """Whether a constant adds one number to each column of a product with `size` columns."""
    value = constants.get(name)
    return value is not None and value.shape == (size,) and np.issubdtype(value.dtype, np.floating)
