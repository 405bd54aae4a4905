"""Tensors and attributes of ONNX as arrays and Python values."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightrnn.errors import UnsupportedError
from lightrnn.graph import DTYPES, Array, Attr
from lightrnn.ops.narrow import NARROW

_CONSTANT_VALUES = {
    "value_float": np.float32, "value_floats": np.float32,
    "value_int": np.int64, "value_ints": np.int64,
}  # fmt: skip


def element_type(elem_type: int, *, carried: bool = False) -> np.dtype[Any]:
    """The dtype of an ONNX element type. Raises UnsupportedError for one that graphs lack.

    carried: for a type that NumPy lacks, give the one that carries its values.
    """
    from onnx import TensorProto, helper

    if carried and elem_type in NARROW:
        return NARROW[elem_type].carrier
    if elem_type not in TensorProto.DataType.values():
        raise UnsupportedError(f"element type {elem_type} is not supported")
    name = TensorProto.DataType.Name(elem_type).lower()
    if name not in ("bfloat16", "string") and not name.startswith(("float8", "complex")):
        try:
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
        except (KeyError, TypeError):
            dtype = None
        if dtype is not None and dtype.name in DTYPES:
            return dtype
    raise UnsupportedError(f"element type {name} is not supported")


def tensor(proto: Any) -> Array:
    """The value of a TensorProto, in the type that carries it where NumPy lacks its own."""
    from onnx import numpy_helper

    dtype = element_type(proto.data_type, carried=True)
    array: Array = numpy_helper.to_array(proto)
    return array.astype(dtype, copy=False)


def attribute(proto: Any) -> Attr:
    """The value of an attribute. Raises UnsupportedError for tensors, graphs and types."""
    from onnx import AttributeProto

    kind = AttributeProto.AttributeType.Name(proto.type)
    if kind == "INT":
        return int(proto.i)
    if kind == "FLOAT":
        return float(proto.f)
    if kind == "STRING":
        return str(proto.s.decode())
    if kind == "INTS":
        return tuple(int(v) for v in proto.ints)
    if kind == "FLOATS":
        return tuple(float(v) for v in proto.floats)
    if kind == "STRINGS":
        return tuple(v.decode() for v in proto.strings)
    raise UnsupportedError(f"attribute {proto.name!r} of type {kind} is not supported")


def constant(node: Any) -> Array:
    """The value of a Constant node."""
    (proto,) = node.attribute
    if proto.name == "value":
        return tensor(proto.t)
    if proto.name in _CONSTANT_VALUES:
        return np.asarray(attribute(proto), _CONSTANT_VALUES[proto.name])
    raise UnsupportedError(f"attribute {proto.name!r} is not supported")


def tensor_type(node: Any) -> int:
    """The number of the element type of a node's attribute `value`; 0 if it has none."""
    return next((int(a.t.data_type) for a in node.attribute if a.name == "value"), 0)


def fill_value(node: Any) -> Array:
    """The scalar that a ConstantOfShape node repeats."""
    for proto in node.attribute:
        if proto.name == "value":
            return tensor(proto.t).reshape(())
    return np.float32(0).reshape(())
