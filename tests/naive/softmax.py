"""Softmax and LogSoftmax, from ONNX's texts (opset 13)."""

from __future__ import annotations

import numpy as np

from tests.naive import Array


def softmax(x: Array, *, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along an axis."""
    return np.exp(log_softmax(x, axis=axis))


def log_softmax(x: Array, *, axis: int = -1) -> Array:
    """log(softmax(x)) along an axis."""
    shifted = np.asarray(x, np.float64) - np.max(x, axis=axis, keepdims=True)
    result: Array = shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return result
