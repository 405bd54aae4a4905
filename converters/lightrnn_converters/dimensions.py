"""Names of dimensions: one for each, and one for those that must be equal.

Exporters often leave axes without a name, or give every axis of every input one of its own. A
recurrent layer takes its input, its initial states and its lengths for one batch, and Concat joins
tensors that agree on all other axes; so the model runs for inputs that agree alone, and its
signature can say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from lightrnn.graph import Dim, Node, TensorType

_BATCH = {0: {0: 1, 4: 0, 5: 1, 6: 1}, 1: {0: 0, 4: 0, 5: 0, 6: 0}}
"""The axis of the batch in the inputs of recurrent operators, by layout and slot."""

Types = Mapping[str, TensorType]


def names(types: Types) -> set[str]:
    """All names of sizes."""
    return {d for t in types.values() for d in t.shape or () if isinstance(d, str)}


def named(types: Types) -> dict[str, TensorType]:
    """The types with names for sizes that have none, after their tensor and axis."""
    taken = names(types)

    def name(base: str) -> str:
        return base if base not in taken else name(f"{base}_")

    def complete(tensor: str, kind: TensorType) -> TensorType:
        if kind.shape is None:
            return kind
        dims = (name(f"{tensor}_{k}") if d is None else d for k, d in enumerate(kind.shape))
        return TensorType(kind.dtype, tuple(dims))

    return {tensor: complete(tensor, kind) for tensor, kind in types.items()}


def same(nodes: Iterable[Node], types: Types) -> dict[str, Dim]:
    """What to call each named size that another one, or a number, stands for.

    Where several names are one size, the one that `types` has first stays.
    """
    listed = dict.fromkeys(d for t in types.values() for d in t.shape or ())
    order = {d: k for k, d in enumerate(listed)}
    found: dict[str, Dim] = {}
    for node in nodes:
        for group in _equal(node, types):
            dims = {_final(d, found) for d in group if d is not None}
            names = sorted((d for d in dims if isinstance(d, str)), key=lambda d: order[d])
            numbers = [d for d in dims if isinstance(d, int)]
            if len(numbers) < 2:
                kept = numbers[0] if numbers else names[0] if names else None
                found.update((n, kept) for n in names if n != kept)
    return {name: _final(name, found) for name in found}


def renamed(kind: TensorType, names: Mapping[str, Dim]) -> TensorType:
    """A type with its sizes under these names."""
    if kind.shape is None:
        return kind
    shape = tuple(names.get(d, d) if isinstance(d, str) else d for d in kind.shape)
    return TensorType(kind.dtype, shape)


def _final(dim: Dim, found: Mapping[str, Dim]) -> Dim:
    while isinstance(dim, str) and dim in found:
        dim = found[dim]
    return dim


def _equal(node: Node, types: Types) -> Iterator[Sequence[Dim]]:
    """Groups of sizes that a node takes for one."""
    shapes = [types[i].shape if i in types else None for i in node.inputs]
    if node.op in ("RNN", "GRU", "LSTM"):
        axes = _BATCH[1 if node.attrs.get("layout", 0) else 0]
        yield [shape[axes[k]] for k, shape in enumerate(shapes) if shape is not None and k in axes]
    elif node.op == "Concat":
        known = [shape for shape in shapes if shape is not None]
        axis = int(node.attrs["axis"])  # type: ignore[arg-type]
        for k, sizes in enumerate(zip(*known, strict=True)):
            if k != axis % len(known[0]):
                yield sizes
