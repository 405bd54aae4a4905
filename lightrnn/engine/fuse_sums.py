"""Products summed over an axis, as attention scores and pools, as one operator; never in files."""

from __future__ import annotations

from collections.abc import Sequence

from lightrnn.engine.makers import Makers, Step, types_of
from lightrnn.graph import FLOAT32, Graph, Node, TensorType
from lightrnn.ops import Operator
from lightrnn.ops.product_sums import RowDots, WeightedSum
from lightrnn.ops.reduction import ReduceSum


def fuse_sums(steps: Sequence[Step], graph: Graph) -> list[Step]:
    """Mul, and ReduceSum over the last axis, as RowDots; or as WeightedSum over the one before."""
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
        kind = types.get(product.outputs[0])
        if axes is None or axes.size != 1 or kind is None or not kind.shape:
            continue
        axis = int(axes.reshape(())) % len(kind.shape) - len(kind.shape)
        for names in (product.inputs, product.inputs[::-1]):
            made_of = [types.get(name) for name in names]
            operator = _operator(made_of, kind, axis, op.keepdims)
            if operator is not None:
                inside.update(product.outputs)
                fused = Node(operator.name, tuple(names), node.outputs, {}, node.origin)
                made[node.outputs[0]] = fused, operator
                break
    left = (step for step in steps if inside.isdisjoint(step[0].outputs))
    return [made.get(step[0].outputs[0], step) for step in left]


def _operator(
    factors: Sequence[TensorType | None], product: TensorType, axis: int, keepdims: int
) -> Operator | None:
    """What sums a product of float32 tensors over an axis, counted from the end."""
    if product.dtype != FLOAT32:
        return None
    if axis == -1:
        return RowDots(keepdims)
    w, x = factors
    if axis != -2 or w is None or x is None or not w.shape or not x.shape:
        return None
    return WeightedSum(keepdims) if len(w.shape) == len(x.shape) and w.shape[-1] == 1 else None
