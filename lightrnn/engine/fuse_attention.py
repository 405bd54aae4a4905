"""Attention that a model writes out, as one operator; it never appears in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightrnn.engine.makers import Makers, Step, types_of
from lightrnn.graph import BOOL, FLOAT32, Graph, Node, TensorType
from lightrnn.ops import build
from lightrnn.record import Record, replace


class Pattern(Record):
    """What softmax(MatMul(q, k') * scale, masked) is made of.

    keys: k' itself. mask: "" for none; with `fill` truth values, else numbers to add.
    inside: outputs of the nodes that become one with the softmax.
    """

    q: str
    keys: str
    scale: float = 1.0
    mask: str = ""
    fill: float | None = None
    inside: tuple[str, ...] = ()


class Finder:
    """Finds patterns among the steps of a graph."""

    def __init__(self, steps: Sequence[Step], graph: Graph) -> None:
        self._makers = Makers(steps, graph)

    def number(self, name: str) -> float | None:
        """The value of a constant of one element."""
        value = self._makers.graph.constants.get(name)
        return float(value.reshape(())) if value is not None and value.size == 1 else None

    def weights(self, name: str) -> Pattern | None:
        """The pattern whose softmax makes a tensor."""
        softmax = self._makers.only(name, "Softmax")
        if softmax is None or softmax.attrs.get("axis", -1) != -1:
            return None
        for masked in (self._replaced, self._added, self._plain):
            found = masked(softmax.inputs[0])
            if found is not None:
                return replace(found, inside=(*found.inside, name))
        return None

    def _replaced(self, name: str) -> Pattern | None:
        """Where(mask, a number, scores)."""
        node = self._makers.only(name, "Where")
        fill = None if node is None else self.number(node.inputs[1])
        found = None if node is None or not fill else self._plain(node.inputs[2])
        if node is None or found is None:
            return None
        return replace(found, mask=node.inputs[0], fill=fill, inside=(*found.inside, name))

    def _added(self, name: str) -> Pattern | None:
        """Add of scores and a mask, in either order."""
        node = self._makers.only(name, "Add")
        if node is None:
            return None
        for scores, mask in (node.inputs, node.inputs[::-1]):
            found = self._plain(scores)
            if found is not None:
                return replace(found, mask=mask, inside=(*found.inside, name))
        return None

    def _plain(self, name: str) -> Pattern | None:
        """MatMul, multiplied or divided by a number."""
        for op in ("Mul", "Div"):
            node = self._makers.only(name, op)
            if node is None:
                continue
            for scores, other in (node.inputs, node.inputs[::-1])[: 1 if op == "Div" else 2]:
                number = self.number(other)
                product = self._makers.only(scores, "MatMul")
                if number and product is not None:
                    scale = number if op == "Mul" else 1 / number
                    q, keys = product.inputs
                    return Pattern(q, keys, scale, inside=(scores, name))
        product = self._makers.only(name, "MatMul")
        if product is None:
            return None
        q, keys = product.inputs
        return Pattern(q, keys, inside=(name,))

    def untransposed(self, keys: str) -> tuple[str, tuple[int, ...]] | None:
        """k' as a tensor and the order of its axes that gives k; None if k' is not transposed."""
        node, operator = self._makers.step(keys) or (None, None)
        if node is None or operator is None or operator.name != "Transpose":
            return None
        order = node.attrs.get("perm")
        if not isinstance(order, tuple) or len(order) < 2:
            return None
        turned = (*order[:-2], order[-1], order[-2])
        return node.inputs[0], tuple(int(k) for k in turned)


def fuse_attention(steps: Sequence[Step], graph: Graph) -> list[Step]:
    """MatMul, scale, mask, Softmax and MatMul as one ScaledProduct, where ranks allow it."""
    if not any(op.name == "Softmax" for _, op in steps):
        return list(steps)
    finder, types = Finder(steps, graph), types_of(graph)
    inside: set[str] = set()
    made: dict[str, list[Step]] = {}
    for node, op in steps:
        found = finder.weights(node.inputs[0]) if op.name == "MatMul" else None
        keys = None if found is None else finder.untransposed(found.keys)
        if found is None or keys is None or not _fits(found, keys[0], node.inputs[1], types):
            continue
        inside.update(found.inside)
        made[node.outputs[0]] = _fused(node, found, keys)
    return [
        new
        for step in steps
        if inside.isdisjoint(step[0].outputs)
        for new in made.get(step[0].outputs[0], [step])
    ]


def _fused(node: Node, found: Pattern, keys: tuple[str, tuple[int, ...]]) -> list[Step]:
    """The steps instead of the last MatMul."""
    from lightrnn.ops.scaled_product import ScaledProduct

    name, order = keys
    steps: list[Step] = []
    if order != tuple(range(len(order))):
        turn = Node(
            "Transpose", (name,), (f"{node.outputs[0]}:keys",), {"perm": order}, node.origin
        )
        steps.append((turn, build(turn)))
        name = turn.outputs[0]
    inputs = (found.q, name, node.inputs[1], *([found.mask] if found.mask else []))
    fused = Node("ScaledProduct", inputs, node.outputs, {}, node.origin)
    return [*steps, (fused, ScaledProduct(found.scale, found.fill))]


def _fits(found: Pattern, keys: str, values: str, types: Mapping[str, TensorType]) -> bool:
    """Whether the kernel is likely to take these tensors: float32, one rank, 3 or 4."""
    tensors = [types.get(n) for n in (found.q, keys, values)]
    if any(t is None or t.dtype != FLOAT32 for t in tensors):
        return False
    ranks = {t.rank for t in tensors if t is not None}
    if len(ranks) != 1 or not ranks <= {3, 4}:
        return False
    (rank,) = ranks
    mask = types.get(found.mask)
    if mask is None or rank is None:
        return not found.mask and rank is not None
    kind = FLOAT32 if found.fill is None else BOOL
    return mask.dtype == kind and mask.rank is not None and 1 <= mask.rank <= rank
