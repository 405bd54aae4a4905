"""Recurrent layers one upon the other as one operator, for threads to run side by side."""

from __future__ import annotations

from collections.abc import Sequence

from lightrnn.engine.makers import Makers, Step
from lightrnn.graph import FLOAT32, Graph, Node
from lightrnn.ops.embedded import Embedded
from lightrnn.ops.recurrent import Recurrent
from lightrnn.ops.stack import Stack, results


def fuse_stack(steps: Sequence[Step], graph: Graph, most: int) -> list[Step]:
    """Layers going forward, of which each alone reads the one before, as Stacks of `most` layers.

    One stands where the last of its layers stood; what reads other outputs of theirs comes after.
    """
    result = list(steps)
    while chain := _chain(result, graph)[:most]:
        result = _merged(result, chain)
    return result


def _chain(steps: Sequence[Step], graph: Graph) -> list[int]:
    """The places of the first layers that fit; empty if there are none."""
    makers = Makers(steps, graph)
    for k in range(len(steps)):
        if _is_layer(steps[k], graph):
            chain = _chain_from(k, steps, makers)
            if len(chain) > 1:
                return chain
    return []


def _chain_from(first: int, steps: Sequence[Step], makers: Makers) -> list[int]:
    chain = [first]
    late = set(filter(None, steps[first][0].outputs))
    for k in range(first + 1, len(steps)):
        node, op = steps[k]
        fits = isinstance(op, Recurrent) and _is_layer(steps[k], makers.graph)
        if fits and _reads(node, steps[chain[-1]][0], makers) and late.isdisjoint(node.inputs[1:]):
            chain.append(k)
        elif late.isdisjoint(node.inputs):
            continue
        late.update(filter(None, node.outputs))
    return chain


def _is_layer(step: Step, graph: Graph) -> bool:
    """Whether a step is a layer that goes forward, with weights that a kernel takes."""
    node, op = step
    layer, weights = (op.layer, 2) if isinstance(op, Embedded) else (op, 1)
    if not isinstance(layer, Recurrent) or layer.direction != "forward" or layer.layout:
        return False
    values = [graph.constants.get(name) for name in node.inputs[weights : weights + 2]]
    return all(value is not None and value.dtype == FLOAT32 for value in values)


def _reads(node: Node, below: Node, makers: Makers) -> bool:
    """Whether X of a layer is Y of the one below without its axis of directions, for it alone."""
    squeeze = makers.only(node.inputs[0], "Squeeze")
    if squeeze is None or len(squeeze.inputs) < 2 or squeeze.inputs[0] != below.outputs[0]:
        return False
    axes = makers.graph.constants.get(squeeze.inputs[1])
    alone = makers.only(below.outputs[0], "RNN", "GRU", "LSTM", "Embedded") is not None
    return alone and axes is not None and axes.size == 1 and int(axes.reshape(())) in (1, -3)


def _merged(steps: Sequence[Step], chain: Sequence[int]) -> list[Step]:
    first, last = chain[0], chain[-1]
    gone = {steps[k][0].inputs[0] for k in chain[1:]}
    late = {name for k in chain for name in steps[k][0].outputs if name}
    before, after = [], []
    for k in range(first, last):
        node, _ = steps[k]
        if k in chain or not gone.isdisjoint(node.outputs):
            continue
        if late.isdisjoint(node.inputs):
            before.append(steps[k])
        else:
            after.append(steps[k])
            late.update(filter(None, node.outputs))
    layers = [steps[k] for k in chain]
    return [*steps[:first], *before, _stack(layers), *after, *steps[last + 1 :]]


def _stack(layers: Sequence[Step]) -> Step:
    inputs: list[str] = []
    outputs: list[str] = []
    counts, operators = [], []
    for k, (node, op) in enumerate(layers):
        assert isinstance(op, Recurrent | Embedded)
        own = node.inputs[k > 0 :]
        made = [*node.outputs, "", ""][: results(op)]
        if k < len(layers) - 1:
            made[0] = ""
        inputs += own
        outputs += made
        counts.append(len(own))
        operators.append(op)
    node = layers[0][0]
    op = Stack(tuple(operators), tuple(counts))
    return Node(node.op, tuple(inputs), tuple(outputs), {}, node.origin), op
