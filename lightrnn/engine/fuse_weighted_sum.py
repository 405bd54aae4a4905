"""Rows weighted and summed, as attention pools them, as one operator; never in files."""

from __future__ import annotations

from collections.abc import Sequence

from lightrnn.engine.makers import Makers, Step, types_of
from lightrnn.graph import FLOAT32, Graph, Node, TensorType
from lightrnn.ops.reduction import ReduceSum
from lightrnn.ops.weighted_sum import WeightedSum


def fuse_weighted_sum(steps: Sequence[Step], graph: Graph) -> list[Step]:
    """Mul of [..., T, 1] and [..., T, D], and ReduceSum over T, as one WeightedSum."""
    makers = Makers(steps, graph)
    candidates = [
        (node, op, product)
        for node, op in steps
        if isinstance(op, ReduceSum) and (product := makers.only(node.inputs[0], "Mul"))
    ]
    types = types_of(graph) if candidates else {}
    made: dict[str, Step] = {}
    inside: set[str] = set()
    for node, op, product in candidates:
        axes = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        for names in (product.inputs, product.inputs[::-1]):
            w, x = (types.get(name) for name in names)
            if axes is None or axes.size != 1 or not _fits(w, x, int(axes.reshape(()))):
                continue
            inside.update(product.outputs)
            fused = Node("WeightedSum", tuple(names), node.outputs, {}, node.origin)
            made[node.outputs[0]] = fused, WeightedSum(op.keepdims)
            break
    left = (step for step in steps if inside.isdisjoint(step[0].outputs))
    return [made.get(step[0].outputs[0], step) for step in left]


def _fits(w: TensorType | None, x: TensorType | None, axis: int) -> bool:
    """Whether axis is T of float32 [..., T, 1] and [..., T, D]."""
    if w is None or x is None or not w.shape or not x.shape or x.dtype != FLOAT32:
        return False
    rank = len(x.shape)
    return len(w.shape) == rank > 1 and w.shape[-1] == 1 and axis % rank == rank - 2
