"""An embedding and the recurrent layer that alone reads it, as one operator; never in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from lightrnn.graph import FLOAT32, Array, Graph, Node
from lightrnn.ops import Operator
from lightrnn.record import replace

Step = tuple[Node, Operator]


def fuse_embedding(steps: Sequence[Step], graph: Graph) -> tuple[list[Step], dict[str, Array]]:
    """Gather, perhaps Transpose, and a layer as Gather and Transpose of numbers, and Embedded.

    The Gather then gives the numbers of the rows, checked and from 0 on: it reads a constant that
    holds them. The three stand where the layer stood. Also returns the constants added.
    """
    makers = {o: step for step in steps for o in step[0].outputs if o}
    readers = Counter(name for node, _ in steps for name in node.inputs)
    readers.update(list(graph.outputs))
    made: dict[str, list[Step]] = {}
    added: dict[str, Array] = {}
    for node, op in steps:
        found = _rows_read(node, op, makers, readers)
        if not found or not _is_table(graph.constants, found[0][0].inputs[0]):
            continue
        from lightrnn.ops.embedded import Embedded
        from lightrnn.ops.recurrent import Recurrent

        assert isinstance(op, Recurrent)
        (gather, look_up), *turn = found
        table, ids = gather.inputs
        numbers = f"numbers of {table}"
        while numbers in graph.constants or numbers in makers or numbers in graph.inputs:
            numbers += "'"
        added[numbers] = np.arange(len(graph.constants[table]), dtype=np.int32)
        layer = replace(node, inputs=(node.inputs[0], table, *node.inputs[1:]))
        own = (replace(gather, inputs=(numbers, ids)), look_up)
        turned = [(replace(n, attrs={"perm": (1, 0)}), replace(o, perm=(1, 0))) for n, o in turn]
        made[_name(node)] = [own, *turned, (layer, Embedded(op))]
    gone = {one.outputs[0] for new in made.values() for one, _ in new[:-1]}
    result = [
        new
        for step in steps
        if step[0].outputs[0] not in gone
        for new in made.get(_name(step[0]), [step])
    ]
    return result, added


def _name(node: Node) -> str:
    """A name that only this node has."""
    return next((name for name in node.outputs if name), "")


def _rows_read(
    node: Node, op: Operator, makers: Mapping[str, Step], readers: Mapping[str, int]
) -> list[Step]:
    """The Gather, and the Transpose if there is one, that make X of a layer for it alone."""
    if op.name not in ("RNN", "GRU", "LSTM") or node.attrs.get("layout", 0) != 0:
        return []
    found: list[Step] = []
    x = node.inputs[0]
    while x in makers and readers[x] == 1:
        found.insert(0, makers[x])
        maker = makers[x][0]
        if maker.op == "Gather":
            return found if maker.attrs.get("axis", 0) == 0 else []
        if maker.op != "Transpose" or maker.attrs.get("perm") != (1, 0, 2) or len(found) > 1:
            return []
        x = maker.inputs[0]
    return []


def _is_table(constants: Mapping[str, Array], name: str) -> bool:
    table = constants.get(name)
    return table is not None and table.ndim == 2 and table.dtype == FLOAT32 and len(table) < 2**31
