"""What operators ask of their arguments: given or not, axes, known integers, sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from lightrnn.errors import DataError, GraphError, UnsupportedError
from lightrnn.graph import DTYPES, INT32, INT64, Array, Dim, TensorType
from lightrnn.ops.lowering import Operand
from lightrnn.ops.registry import Operator

T = TypeVar("T")

DATA_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
"""Element types by the numbers that ONNX attributes give them (TensorProto.DataType)."""

OTHERS = {0: "undefined", 8: "string", 14: "complex64", 15: "complex128"}
"""Names of further numbers, for messages."""


def same_size(a: Dim, b: Dim, what: str) -> None:
    """Raise GraphError where two sizes are known to differ."""
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise GraphError(f"{what} {a} and {b} differ")


def data_type(number: int) -> np.dtype[Any]:
    """The element type that an attribute means. Raises UnsupportedError."""
    if number not in DATA_TYPES:
        from lightrnn.ops.narrow import NARROW

        name = NARROW[number].name if number in NARROW else OTHERS.get(number, number)
        raise UnsupportedError(f"element type {name} is not supported")
    return DTYPES[DATA_TYPES[number]]


def given(items: Sequence[T | None], k: int = 0) -> T:
    """Item `k`, which the operator's slots require."""
    item = items[k]
    assert item is not None
    return item


def maybe(items: Sequence[T | None], k: int) -> T | None:
    """Item `k`, or None where it is left out."""
    return items[k] if k < len(items) else None


def types_of(operands: Sequence[Operand | None]) -> list[TensorType | None]:
    """The types of operands."""
    return [None if operand is None else operand.type for operand in operands]


def arrays_types(arrays: Sequence[Array | None]) -> list[TensorType | None]:
    """The types of arrays, values included."""
    return [None if array is None else TensorType.of(array) for array in arrays]


def axis_of(axis: int, rank: int) -> int:
    """An axis from -rank to rank - 1 as one from 0 on. Raises GraphError."""
    if not -rank <= axis < rank:
        raise GraphError(f"axis {axis} is out of range for rank {rank}")
    return axis + rank if axis < 0 else axis


def axes_of(axes: Iterable[int], rank: int) -> list[int]:
    """Several axes, each of them once. Raises GraphError."""
    found = [axis_of(axis, rank) for axis in axes]
    if len(set(found)) != len(found):
        raise GraphError(f"axes {list(axes)} name an axis twice")
    return found


def integers(t: TensorType, what: str, *, or_scalar: bool = False) -> list[int] | None:
    """The values of a list of int64 or int32; None where they are not known. Raises GraphError.

    or_scalar: whether a scalar counts as a list of one.
    """
    if t.dtype not in (INT64, INT32):
        raise GraphError(f"{what} is {t.dtype.name}, expected int64")
    if t.shape is not None and len(t.shape) != 1 and not (or_scalar and t.shape == ()):
        raise GraphError(f"{what} has rank {len(t.shape)}, expected 1")
    if t.value is None:
        return None
    values: list[int] = t.value.reshape(-1).tolist()
    return values


def length(t: TensorType) -> int | None:
    """The number of elements of a list or a scalar, where it is known."""
    if t.shape == ():
        return 1
    size = t.shape[0] if t.shape is not None and len(t.shape) == 1 else None
    return size if isinstance(size, int) else None


def scalar(t: TensorType, what: str) -> int | float | None:
    """The one value of a tensor; None where it is not known. Raises GraphError."""
    if t.is_concrete and any(d != 1 for d in t.sizes):
        raise GraphError(f"{what} has the shape {list(t.sizes)}, expected one element")
    if t.value is None:
        return None
    value: int | float = t.value.item()
    return value


def product(dims: Iterable[Dim]) -> Dim:
    """The product of sizes: a number, a name where it is the only factor but 1, or None."""
    total, other = 1, None
    unknown = False
    for d in dims:
        if isinstance(d, int):
            total *= d
        else:
            unknown = unknown or other is not None or d is None
            other = d
    if total == 0:
        return 0
    if other is None and not unknown:
        return total
    return other if total == 1 and not unknown else None


def merged(a: Dim, b: Dim, what: str) -> Dim:
    """What is known of a size that two places give. Raises GraphError where they differ."""
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise GraphError(f"{what} {a} and {b} differ")
    if isinstance(a, int):
        return a
    return b if isinstance(b, int) or a is None else a


def same_dtype(inputs: Iterable[TensorType | None], what: str) -> None:
    """Raise GraphError unless all given inputs have one element type."""
    found = {t.dtype for t in inputs if t is not None}
    if len(found) > 1:
        names = ", ".join(sorted(d.name for d in found))
        raise GraphError(f"{what} have different element types: {names}")


def inferred(op: Operator, inputs: Sequence[Array | None]) -> tuple[TensorType, ...]:
    """Types of the outputs of an operator on arrays. Raises DataError where they do not fit."""
    try:
        return op.infer(arrays_types(inputs))
    except GraphError as error:
        raise DataError(str(error)) from None
