"""Scores of additive attention that a model writes out, as one operator; never in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightrnn.engine.makers import Makers, Step, types_of
from lightrnn.graph import FLOAT32, Graph, Node, TensorType
from lightrnn.ops.additive import AdditiveScores
from lightrnn.ops.reduction import ReduceSum


def fuse_additive(steps: Sequence[Step], graph: Graph) -> list[Step]:
    """Add, Tanh and what sums over the last axis, perhaps weighted, as one AdditiveScores."""
    makers = Makers(steps, graph)
    types: Mapping[str, TensorType] | None = None
    made: dict[str, Step] = {}
    inside: set[str] = set()
    for node, op in steps:
        if isinstance(op, ReduceSum):
            if makers.only(node.inputs[0], "Mul", "Tanh") is None:
                continue
            types = types_of(graph) if types is None else types
            found = _reduced(node, makers, types)
            keepdims = op.keepdims
        else:
            found = _multiplied(node, op.name, makers)
            keepdims = 1 if found is None else makers.graph.constants[node.inputs[1]].ndim - 1
        total = None if found is None else makers.only(found[0], "Add")
        if found is not None and total is not None:
            _, gone, rest = found
            inside.update((*gone, total.outputs[0]))
            inputs = (*total.inputs, *rest)
            fused = Node("AdditiveScores", inputs, node.outputs, {}, node.origin)
            made[node.outputs[0]] = fused, AdditiveScores(keepdims)
    return [
        made.get(step[0].outputs[0], step) for step in steps if inside.isdisjoint(step[0].outputs)
    ]


Found = tuple[str, tuple[str, ...], tuple[str, ...]]
"""What tanh is of, outputs that become one with the scores, and their inputs v and bias."""


def _multiplied(node: Node, op: str, makers: Makers) -> Found | None:
    """A product of tanh with one constant column, or with a constant vector."""
    if op not in ("MatMul", "Linear"):
        return None
    column = makers.graph.constants.get(node.inputs[1])
    if column is None or column.dtype != FLOAT32 or not column.ndim:
        return None
    if column.shape[1:] not in ((), (1,)):
        return None
    tanh = makers.only(node.inputs[0], "Tanh")
    return None if tanh is None else (tanh.inputs[0], tanh.outputs, node.inputs[1:])


def _reduced(node: Node, makers: Makers, types: Mapping[str, TensorType]) -> Found | None:
    """The sum over the last axis of tanh, or of tanh and a constant row multiplied."""
    if tanh := makers.only(node.inputs[0], "Tanh"):
        if _is_last(node, types.get(tanh.outputs[0]), makers.graph):
            return tanh.inputs[0], tanh.outputs, ()
        return None
    product = makers.only(node.inputs[0], "Mul")
    for name, v in (product.inputs, product.inputs[::-1]) if product else ():
        tanh, row, kind = makers.only(name, "Tanh"), makers.graph.constants.get(v), types.get(name)
        if tanh is None or row is None or not _is_last(node, kind, makers.graph):
            continue
        assert product is not None
        shape = () if kind is None else kind.shape or ()
        if row.ndim <= len(shape) and row.shape[-1:] == shape[-1:] and row.size == row.shape[-1]:
            return tanh.inputs[0], (*tanh.outputs, *product.outputs), (v,)
    return None


def _is_last(node: Node, kind: TensorType | None, graph: Graph) -> bool:
    """Whether a reduction of a float32 tensor is over its last axis alone."""
    axes = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if kind is None or not kind.shape or kind.dtype != FLOAT32 or axes is None or axes.size != 1:
        return False
    return int(axes.reshape(())) % len(kind.shape) == len(kind.shape) - 1
