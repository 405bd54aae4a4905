"""What operators mean. Importing this package registers all of them."""

from lightrnn.ops import (
    attention,
    conv,
    creation,
    einsum,
    elementwise,
    indexing,
    linear,
    logic,
    movement,
    neural,
    normalization,
    padding,
    pooling,
    quantization,
    quantized,
    recurrent,
    reduction,
    reshaping,
    scatter,
    selection,
    slicing,
    softmax,
)
from lightrnn.ops.registry import REGISTRY, Case, Operator, build, operator

__all__ = [
    "REGISTRY", "Case", "Operator", "attention", "build", "conv", "creation", "einsum",
    "elementwise", "indexing", "linear", "logic", "movement", "neural", "normalization",
    "operator", "padding", "pooling", "quantization", "quantized", "recurrent", "reduction",
    "reshaping", "scatter", "selection", "slicing", "softmax",
]  # fmt: skip
