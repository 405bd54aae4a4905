"""Passes over a graph that leave what it computes alone and what it holds smaller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from lightrnn.graph import Array, Graph, Node
from lightrnn.record import replace

_STATE_SLOTS = {"RNN": (5,), "GRU": (5,), "LSTM": (5, 6)}
_KEEPS_ZEROS = frozenset({
    "Identity", "Slice", "Expand", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Gather",
    "Split", "Cast", "Flatten", "Tile",
})  # fmt: skip
"""Operators whose result is zero wherever their first input is."""


def simplify(graph: Graph) -> Graph:
    """The graph without identities, zero initial states, dead nodes and repeated constants."""
    for rewrite in PASSES:
        graph = rewrite(graph)
    return graph


def drop_zero_states(graph: Graph) -> Graph:
    """Leave out initial states that are zero whatever the batch, as recurrent operators assume."""
    makers = {o: node for node in graph.nodes for o in node.outputs if o}
    nodes = []
    for node in graph.nodes:
        inputs = list(node.inputs)
        for k in _STATE_SLOTS.get(node.op, ()):
            if k < len(inputs) and _is_zero(inputs[k], makers, graph.constants):
                inputs[k] = ""
        while inputs and not inputs[-1]:
            inputs.pop()
        nodes.append(replace(node, inputs=tuple(inputs)))
    return replace(graph, nodes=tuple(nodes))


def _is_zero(name: str, makers: Mapping[str, Node], constants: Mapping[str, Array]) -> bool:
    if name in constants:
        return not constants[name].any()
    node = makers.get(name)
    if node is None:
        return False
    if node.op == "Concat":
        return all(_is_zero(i, makers, constants) for i in node.inputs)
    return node.op in _KEEPS_ZEROS and _is_zero(node.inputs[0], makers, constants)


def drop_identities(graph: Graph) -> Graph:
    """Read what identities copy, where it has a name of its own that nobody outside knows."""
    renamed: dict[str, str] = {}
    fixed = {*graph.inputs, *graph.constants, *graph.outputs}
    nodes = []
    for node in graph.nodes:
        if node.op != "Identity":
            nodes.append(node)
            continue
        (source,), (output,) = node.inputs, node.outputs
        source = _final(source, renamed)
        if output not in graph.outputs:
            renamed[output] = source
        elif source not in fixed:
            renamed[source] = output
            fixed.add(source)
        else:
            nodes.append(node)
    return rename(replace(graph, nodes=tuple(nodes)), renamed)


def rename(graph: Graph, renamed: Mapping[str, str]) -> Graph:
    """The graph with other names for constants and for tensors between nodes."""
    nodes = tuple(_rename(n, renamed) for n in graph.nodes)
    constants = {_final(n, renamed): v for n, v in graph.constants.items()}
    return replace(graph, nodes=nodes, constants=constants)


def _final(name: str, renamed: Mapping[str, str]) -> str:
    while name in renamed:
        name = renamed[name]
    return name


def _rename(node: Node, renamed: Mapping[str, str]) -> Node:
    inputs = tuple(_final(n, renamed) for n in node.inputs)
    return replace(node, inputs=inputs, outputs=tuple(_final(n, renamed) for n in node.outputs))


def drop_dead(graph: Graph) -> Graph:
    """Drop nodes and constants that no output needs. Inputs stay: they are the signature."""
    needed, nodes = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            outputs = [o if o in needed else "" for o in node.outputs]
            while not outputs[-1]:
                outputs.pop()
            nodes.append(replace(node, outputs=tuple(outputs)))
            needed.update(node.inputs)
    constants = {n: v for n, v in graph.constants.items() if n in needed}
    return replace(graph, nodes=tuple(nodes[::-1]), constants=constants)


def share_constants(graph: Graph) -> Graph:
    """Keep one of several equal constants."""
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    renamed: dict[str, str] = {}
    for name, value in graph.constants.items():
        key = (value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
        kept = first.setdefault(key, name)
        if kept != name and name not in graph.outputs:
            renamed[name] = kept
    constants = {n: v for n, v in graph.constants.items() if n not in renamed}
    return rename(replace(graph, constants=constants), renamed)


PASSES: Iterable[Callable[[Graph], Graph]] = (
    drop_zero_states, drop_identities, drop_dead, share_constants,
)  # fmt: skip
