"""Attention that a model writes out, as one operator; it never appears in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightrnn.engine.makers import Makers, Step, types_of
from lightrnn.graph import BOOL, FLOAT32, Graph, Node, Shape, TensorType
from lightrnn.ops import build
from lightrnn.record import Record, replace


class Pattern(Record):
    """What softmax(MatMul(q, k') * scale, masked) is made of.

    keys: k' itself. mask: "" for none; with `fill` truth values, else numbers to add.
    zeroed: whether weights that are NaN become 0.
    inside: outputs of the nodes that become one with the softmax.
    """

    q: str
    keys: str
    scale: float = 1.0
    mask: str = ""
    fill: float | None = None
    zeroed: bool = False
    inside: tuple[str, ...] = ()


class Keys(Record):
    """k as a tensor and the order of its axes. inside: outputs that nobody needs if k is used."""

    name: str
    order: tuple[int, ...]
    inside: tuple[str, ...]


class Finder:
    """Finds patterns among the steps of a graph."""

    def __init__(self, steps: Sequence[Step], graph: Graph) -> None:
        self.makers = Makers(steps, graph)
        self.types = types_of(graph)

    def number(self, name: str) -> float | None:
        """The value of a constant of one element that adds no axis to what it meets."""
        value = self.makers.graph.constants.get(name)
        fits = value is not None and value.size == 1 and value.ndim < 2
        return float(value.reshape(())) if value is not None and fits else None

    def weights(self, name: str) -> Pattern | None:
        """The pattern whose softmax makes a tensor."""
        guard = self._guarded(name)
        inner, readers = (name, 1) if guard is None else (guard.inputs[2], 2)
        softmax = self.makers.only(inner, "Softmax", readers=readers)
        if softmax is None or not self._is_last(softmax):
            return None
        found = self._scores(softmax.inputs[0])
        inside = (inner,) if guard is None else (inner, guard.inputs[0], name)
        return found and replace(found, zeroed=guard is not None, inside=(*found.inside, *inside))

    def _guarded(self, name: str) -> Node | None:
        """Where(IsNaN(weights), 0, weights)."""
        node = self.makers.only(name, "Where")
        test = None if node is None else self.makers.only(node.inputs[0], "IsNaN")
        if node is None or test is None or test.inputs[0] != node.inputs[2]:
            return None
        return node if self.number(node.inputs[1]) == 0 else None

    def _is_last(self, softmax: Node) -> bool:
        axis, kind = softmax.attrs.get("axis", -1), self.types.get(softmax.outputs[0])
        return axis == -1 or (kind is not None and kind.rank is not None and axis == kind.rank - 1)

    def _scores(self, name: str) -> Pattern | None:
        for masked in (self._replaced, self._added, self._plain):
            found = masked(name)
            if found is not None:
                return found
        return None

    def _replaced(self, name: str) -> Pattern | None:
        """Where(mask, a number, scores)."""
        node = self.makers.only(name, "Where")
        fill = None if node is None else self.number(node.inputs[1])
        found = None if node is None or not fill else self._plain(node.inputs[2])
        if node is None or found is None:
            return None
        return replace(found, mask=node.inputs[0], fill=fill, inside=(*found.inside, name))

    def _added(self, name: str) -> Pattern | None:
        """Add of scores and a mask, in either order."""
        node = self.makers.only(name, "Add")
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
            node = self.makers.only(name, op)
            if node is None:
                continue
            for scores, other in (node.inputs, node.inputs[::-1])[: 1 if op == "Div" else 2]:
                number = self.number(other)
                product = self.makers.only(scores, "MatMul")
                if number and product is not None:
                    scale = number if op == "Mul" else 1 / number
                    return self._product(product, scale, (scores, name))
        product = self.makers.only(name, "MatMul")
        return None if product is None else self._product(product, 1.0, (name,))

    def _product(self, product: Node, scale: float, inside: tuple[str, ...]) -> Pattern:
        """Q · K', of which either may be multiplied by a number first."""
        names = []
        for name in product.inputs:
            node = self.makers.only(name, "Mul")
            for other, factor in (node.inputs, node.inputs[::-1]) if node else ():
                number = self.number(factor)
                if number is not None:
                    scale, inside, name = scale * number, (*inside, name), other
                    break
            names.append(name)
        return Pattern(names[0], names[1], scale, inside=inside)

    def untransposed(self, keys: str) -> Keys | None:
        """What k' is the transpose of; None if it is not transposed."""
        if self.makers.only(keys, "Reshape"):
            return self._untransposed_flat(keys)
        node, operator = self.makers.step(keys) or (None, None)
        if node is None or operator is None or operator.name != "Transpose":
            return None
        order = node.attrs.get("perm")
        if not isinstance(order, tuple) or len(order) < 2:
            return None
        turned = tuple(int(k) for k in (*order[:-2], order[-1], order[-2]))
        return Keys(node.inputs[0], turned, (keys,) if self.makers.only(keys, "Transpose") else ())

    def _untransposed_flat(self, keys: str) -> Keys | None:
        """k of any rank whose leading axes are joined, the others exchanged, and those parted."""
        chain = [keys]
        for op in ("Reshape", "Transpose", "Reshape"):
            node = self.makers.only(chain[-1], op)
            if node is None or (op == "Transpose" and node.attrs.get("perm") != (0, 2, 1)):
                return None
            chain.append(node.inputs[0])
        parted, _, joined, source = chain
        kind = self.types.get(source)
        if kind is None or kind.shape is None or len(kind.shape) < 3:
            return None
        rank = len(kind.shape)
        if not self._exchanges(source, kind.shape, joined, parted):
            return None
        return Keys(source, tuple(range(rank)), (keys, *chain[1:3]))

    def _exchanges(self, source: str, shape: Shape, joined: str, parted: str) -> bool:
        """Whether Reshapes join all but the last two axes of a tensor, and part them again."""
        sizes = [self.types.get(name) for name in (joined, parted)]
        if all(isinstance(d, int) for d in shape) and all(t and t.is_concrete for t in sizes):
            return [t.sizes[-2:] for t in sizes if t] == [shape[-2:], shape[:-3:-1]] and (
                sizes[1] is not None and sizes[1].sizes[:-2] == shape[:-2]
            )
        wanted = [self._sizes_of(name) for name in (joined, parted)]
        rank = len(shape)
        rows, columns = (source, rank - 2, rank - 1), (source, rank - 1, rank)
        leading = (source, 0, rank - 2)
        return wanted == [[-1, rows, columns], [leading, columns, rows]]

    def _sizes_of(self, reshaped: str) -> list[int | tuple[str, int, int] | None]:
        """What a Reshape's shape is joined of: numbers, and sizes of tensors from axis to axis."""
        reshape = self.makers.only(reshaped, "Reshape")
        join, _ = (reshape and self.makers.step(reshape.inputs[1])) or (None, None)
        if join is None or join.op != "Concat":
            return []
        return [self._sizes(name) for name in join.inputs]

    def _sizes(self, name: str) -> int | tuple[str, int, int] | None:
        value = self.makers.graph.constants.get(name)
        if value is not None and value.size == 1:
            return int(value.reshape(()))
        cut, _ = self.makers.step(name) or (None, None)
        if cut is None or cut.op != "Slice" or len(cut.inputs) != 3:
            return None
        ends = [self.number(end) for end in cut.inputs[1:]]
        shape, _ = self.makers.step(cut.inputs[0]) or (None, None)
        if shape is None or shape.op != "Shape" or None in ends:
            return None
        kind = self.types.get(shape.inputs[0])
        if kind is None or kind.rank is None or shape.attrs.get("start", 0) or "end" in shape.attrs:
            return None
        first, last = (int(end) for end in ends if end is not None)
        start, stop, _ = slice(first, last).indices(kind.rank)
        return shape.inputs[0], start, stop


def fuse_attention(steps: Sequence[Step], graph: Graph) -> list[Step]:
    """MatMul, scale, mask, Softmax and MatMul as one ScaledProduct, where ranks allow it."""
    if not any(op.name == "Softmax" for _, op in steps):
        return list(steps)
    finder = Finder(steps, graph)
    inside: set[str] = set()
    made: dict[str, list[Step]] = {}
    for node, op in steps:
        found = finder.weights(node.inputs[0]) if op.name == "MatMul" else None
        keys = None if found is None else finder.untransposed(found.keys)
        if found is None or keys is None:
            continue
        if not _fits(found, keys.name, node.inputs[1], finder.types):
            continue
        inside.update((*found.inside, *keys.inside))
        made[node.outputs[0]] = _fused(node, found, keys)
    return [
        new
        for step in steps
        if inside.isdisjoint(step[0].outputs)
        for new in made.get(step[0].outputs[0], [step])
    ]


def _fused(node: Node, found: Pattern, keys: Keys) -> list[Step]:
    """The steps instead of the last MatMul."""
    from lightrnn.ops.scaled_product import ScaledProduct

    name, order = keys.name, keys.order
    steps: list[Step] = []
    if order != tuple(range(len(order))):
        turn = Node(
            "Transpose", (name,), (f"{node.outputs[0]}:keys",), {"perm": order}, node.origin
        )
        steps.append((turn, build(turn)))
        name = turn.outputs[0]
    inputs = (found.q, name, node.inputs[1], *([found.mask] if found.mask else []))
    fused = Node("ScaledProduct", inputs, node.outputs, {}, node.origin)
    return [*steps, (fused, ScaledProduct(found.scale, found.fill, found.zeroed))]


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
