"""Numbers that exporters compute from shapes: which of them change with the number of steps."""

from __future__ import annotations

import numpy as np

from lightrnn.graph import Array
from lightrnn.streaming.computing import ELEMENTWISE, REDUCTIONS
from lightrnn.streaming.marks import Call

_MOVES = {
    "Concat": None, "Gather": (0,), "Slice": (0,), "Squeeze": (0,), "Unsqueeze": (0,),
    "Reshape": (0,), "Flatten": (0,), "Transpose": (0,), "Split": (0,), "Expand": (0,),
    "Tile": (0,),
}  # fmt: skip
"""Operators whose results hold elements of these inputs; None for all of them."""

MAKERS = ("Expand", "Tile", "ConstantOfShape")
"""Operators whose results grow with the numbers that they are given."""


def shape_counts(c: Call) -> Array | None:
    """Which results of Shape or Size change with the number of steps."""
    span, value = c.span(0), c.outputs[0].value
    if span is None or value is None:
        return None
    if c.node.op == "Size":
        return np.array(True)
    rank = len(c.shape(0))
    axes = range(rank)[slice(c.operator.start, c.operator.end)]
    mask = np.array([axis == span.axis for axis in axes])
    return mask if mask.any() else None


def known_counts(c: Call) -> list[Array | None] | None:
    """The same for each result of a node all of whose inputs are known numbers.

    None where the node does with the number of steps what no stream can.
    """
    counted = [k for k, t in enumerate(c.inputs) if t is not None and t.counts is not None]
    nothing: list[Array | None] = [None] * len(c.outputs)
    if not counted:
        return nothing
    slots = _MOVES.get(c.node.op, ())
    if slots is None or (slots and set(counted) <= set(slots)):
        masks = c.operator.evaluate(*(_mask(c, k, slots) for k in range(len(c.inputs))))
        return [m.astype(np.bool_) if m.any() else None for m in masks]
    if c.node.op in ELEMENTWISE:
        masks = [m for k in counted if (m := _mask(c, k, None)) is not None]
        both = np.logical_or.reduce(np.broadcast_arrays(*masks))
        return [np.broadcast_to(both, t.sizes) for t in c.outputs]
    if c.node.op not in REDUCTIONS:
        c.refuse("computes with the number of steps", whole=True)
        return None
    return [np.ones(t.sizes, np.bool_) for t in c.outputs]


def _mask(c: Call, k: int, slots: tuple[int, ...] | None) -> Array | None:
    """What changes of input `k`, or its value where its elements are not what moves."""
    tensor = c.inputs[k]
    if tensor is None:
        return None
    value = tensor.type.value
    assert value is not None
    if slots is not None and k not in slots:
        return value
    return np.zeros(value.shape, np.bool_) if tensor.counts is None else tensor.counts
