"""A product of joined tensors, some of them repeated, as a sum of products; never in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lightrnn.engine.makers import Makers, Step, types_of
from lightrnn.graph import FLOAT32, Array, Graph, Node, Shape, TensorType
from lightrnn.ops import build
from lightrnn.ops.linear import Linear, MatMul
from lightrnn.record import Record

_KEPT = ("float32", "float16", "bfloat16")
"""Storage whose rows can be used apart: others have a scale that the whole column shares."""


class Split(Record):
    """What the new steps need beside the graph: constants, and how they are stored."""

    steps: list[Step]
    constants: dict[str, Array]
    encodings: dict[str, str]


def split_concat(steps: Sequence[Step], graph: Graph, encodings: Mapping[str, str]) -> Split:
    """[expand(x), y] · W + bias as (x · W1 + bias) + y · W2: a repeated row is multiplied once.

    Concatenated attention is written so (Luong et al., 2015).
    """
    split = Split([], {}, {})
    if not any(op.name in ("Expand", "Tile") for _, op in steps):
        return Split(list(steps), {}, {})
    finder = _Finder(steps, graph)
    gone: set[str] = set()
    made: dict[str, list[Step]] = {}
    for node, op in steps:
        if op.name not in ("MatMul", "Linear"):
            continue
        stored = encodings.get(node.inputs[1], "float32")
        parts = finder.parts(node) if stored in _KEPT else None
        if parts is None:
            continue
        gone.update(parts.gone)
        made[node.outputs[0]] = list(_sum(node, parts, split, graph.constants, stored))
    for step in steps:
        if gone.isdisjoint(step[0].outputs):
            split.steps.extend(made.get(step[0].outputs[0], [step]))
    return split


class Parts(Record):
    """The tensors that a Concat joins, before they are repeated. gone: what is not made then."""

    names: list[str]
    sizes: list[int]
    repeated: list[bool]
    gone: list[str]


class _Finder:
    def __init__(self, steps: Sequence[Step], graph: Graph) -> None:
        self._makers = Makers(steps, graph)
        self._types: Mapping[str, TensorType] | None = None

    def parts(self, node: Node) -> Parts | None:
        """The parts of what a product by a constant matrix multiplies, one of them repeated."""
        matrix = self._makers.graph.constants.get(node.inputs[1])
        join = self._makers.only(node.inputs[0], "Concat")
        if join is None or matrix is None or matrix.ndim != 2 or matrix.dtype != FLOAT32:
            return None
        repeats = [self._makers.only(name, "Expand", "Tile") for name in join.inputs]
        if not any(repeats):
            return None
        if self._types is None:
            self._types = types_of(self._makers.graph)
        whole = self._shape(join.outputs[0])
        if not whole or not _is_last(join, len(whole)):
            return None
        names = [r.inputs[0] if r else n for n, r in zip(join.inputs, repeats, strict=True)]
        shapes = [self._shape(name) for name in names]
        # The matrix has rows for their own widths: a single one is not repeated if unknown.
        unknown = [n for n in join.inputs if not isinstance((self._shape(n) or (None,))[-1], int)]
        full = [False] * (len(whole) - 1)
        sizes = []
        for shape, repeat in zip(shapes, repeats, strict=True):
            if not shape or len(shape) > len(whole) or not isinstance(shape[-1], int):
                return None
            sizes.append(shape[-1])
            wide = (1,) * (len(whole) - len(shape)) + shape
            for axis, (own, to) in enumerate(zip(wide[:-1], whole, strict=False)):
                same = own is not None and own == to
                full[axis] |= repeat is None or same
                if repeat is not None and own != 1 and not same:
                    return None
        if sum(sizes) != len(matrix) or not all(full) or len(unknown) > 1:
            return None
        gone = [n for n, r in zip(join.inputs, repeats, strict=True) if r]
        return Parts(names, sizes, [r is not None for r in repeats], [*join.outputs, *gone])

    def _shape(self, name: str) -> Shape | None:
        kind = (self._types or {}).get(name)
        return None if kind is None else kind.shape


def _is_last(join: Node, rank: int) -> bool:
    axis = join.attrs["axis"]
    return isinstance(axis, int) and axis % rank == rank - 1


def _sum(
    node: Node, parts: Parts, split: Split, constants: Mapping[str, Array], stored: str
) -> Iterator[Step]:
    """The steps instead of one product. A bias joins the first that is repeated."""
    matrix, bias = node.inputs[1], node.inputs[2:]
    total, row = "", 0
    for k, (name, size) in enumerate(zip(parts.names, parts.sizes, strict=True)):
        rows = f"{matrix}:{row}:{row + size}"
        split.constants[rows] = constants[matrix][row : row + size]
        split.encodings[rows] = stored
        row += size
        product = f"{node.outputs[0]}:part {k}"
        own = bias if k == parts.repeated.index(True) else ()
        op = Linear() if own else MatMul()
        yield Node(op.name, (name, rows, *own), (product,), {}, node.origin), op
        if total:
            last = k == len(parts.names) - 1
            out = node.outputs[0] if last else f"{node.outputs[0]}:sum {k}"
            add = Node("Add", (total, product), (out,), {}, node.origin)
            yield add, build(add)
            product = out
        total = product
