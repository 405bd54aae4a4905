"""LayerNormalization, from ONNX's text (opset 17)."""

from __future__ import annotations

import numpy as np

from tests.naive import Array


def layer_normalization(
    X: Array, Scale: Array, B: Array | None = None, *, axis: int = -1, epsilon: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Y, Mean, InvStdDev, over the axes from `axis` on."""
    x = np.asarray(X, np.float64)
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = x.mean(axis=axes, keepdims=True)
    deviation = x - mean
    inverse = 1 / np.sqrt((deviation**2).mean(axis=axes, keepdims=True) + epsilon)
    y = deviation * inverse * np.asarray(Scale, np.float64)
    return (y if B is None else y + np.asarray(B, np.float64)), mean, inverse
