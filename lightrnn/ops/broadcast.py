"""Broadcasting: the shape that operands share, and the words that kernels walk it by."""

from __future__ import annotations

from collections.abc import Sequence

from lightrnn.errors import GraphError
from lightrnn.graph import Dim, Shape


def broadcast_dim(a: Dim, b: Dim) -> Dim:
    """The size that two sizes broadcast to; None where that is not known. Raises GraphError."""
    if b in (a, 1):
        return a
    if a == 1:
        return b
    if isinstance(a, int) and isinstance(b, int):
        raise GraphError(f"sizes {a} and {b} do not broadcast")
    return a if isinstance(a, int) else b if isinstance(b, int) else None


def broadcast_shape(shapes: Sequence[Shape | None]) -> Shape | None:
    """The shape that shapes broadcast to; None where a rank is not known. Raises GraphError."""
    result: Shape = ()
    for shape in shapes:
        if shape is None:
            return None
        rank = max(len(result), len(shape))
        a, b = (1,) * (rank - len(result)) + result, (1,) * (rank - len(shape)) + shape
        result = tuple(broadcast_dim(x, y) for x, y in zip(a, b, strict=True))
    return result


def walk(shape: Sequence[int], operands: Sequence[Sequence[int]]) -> list[int]:
    """Rank, sizes, then each operand's strides (see kernels.broadcasting), axes merged.

    Axes next to each other merge where every operand has both or repeats both.
    """
    merged: list[tuple[int, tuple[bool, ...]]] = []
    wide = [(1,) * (len(shape) - len(o)) + tuple(o) for o in operands]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        present = tuple(w[axis] != 1 for w in wide)
        if merged and merged[-1][1] == present:
            merged[-1] = (merged[-1][0] * size, present)
        else:
            merged.append((size, present))
    if not merged:
        merged = [(1, (True,) * len(operands))]
    words = [len(merged), *(size for size, _ in merged)]
    for k in range(len(operands)):
        strides, step = [], 1
        for size, present in reversed(merged):
            strides.append(step if present[k] else 0)
            step *= size if present[k] else 1
        words += reversed(strides)
    return words
