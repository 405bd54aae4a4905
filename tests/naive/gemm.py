"""Gemm and MatMul, from ONNX's texts (opset 13)."""

from __future__ import annotations

import numpy as np

from tests.naive import Array


def gemm(
    A: Array,
    B: Array,
    C: Array | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """alpha * A' * B' + beta * C, C broadcast."""
    a, b = np.asarray(A, np.float64), np.asarray(B, np.float64)
    a, b = a.T if transA else a, b.T if transB else b
    y = np.zeros((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            y[i, j] = alpha * np.sum(a[i] * b[:, j])
    return y if C is None else y + beta * np.asarray(C, np.float64)


def matmul(A: Array, B: Array) -> Array:
    """Stacks of matrices, broadcast (numpy.matmul, of rank 2 and more)."""
    batch = np.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    a = np.broadcast_to(A, (*batch, *A.shape[-2:]))
    b = np.broadcast_to(B, (*batch, *B.shape[-2:]))
    y = np.zeros((*batch, A.shape[-2], B.shape[-1]))
    for index in np.ndindex(*batch):
        y[index] = gemm(a[index], b[index])
    return y
