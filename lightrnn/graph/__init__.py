"""What a model is: tensor types, nodes and graphs."""

from lightrnn.graph.graph import OPSET, OPSETS, Attr, Graph, Node
from lightrnn.graph.types import (
    BOOL,
    DTYPES,
    FLOAT32,
    INT32,
    INT64,
    MAX_RANK,
    MAX_SIZE,
    Array,
    Dim,
    Shape,
    TensorType,
)

__all__ = [
    "BOOL", "DTYPES", "FLOAT32", "INT32", "INT64", "MAX_RANK", "MAX_SIZE", "OPSET", "OPSETS",
    "Array", "Attr", "Dim", "Graph", "Node", "Shape", "TensorType",
]  # fmt: skip
