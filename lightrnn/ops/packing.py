"""Constants in the layouts that kernels read."""

from __future__ import annotations

import numpy as np

from lightrnn.graph import Array
from lightrnn.native.abi import LANES, WEIGHTS
from lightrnn.ops.lowering import Operand

_MANY_ROWS = 12
"""Rows from which widening weights costs more than reading them does."""


def padded(size: int) -> int:
    """`size` rounded up to whole vectors."""
    return -(-size // LANES) * LANES


def narrow(packed: Array, stored: str) -> Array:
    """Packed float32 weights as they are stored; exact where they were stored so before."""
    if stored == "float16":
        return packed.astype(np.float16)
    if stored == "bfloat16":
        return (np.ascontiguousarray(packed).view(np.uint32) >> 16).astype(np.uint16)
    return packed


def weight_kind(rows: int, *weights: Operand | None) -> tuple[str, int]:
    """How to pack weights that go together, and its place in abi.WEIGHTS.

    rows: how many rows each weight multiplies. Narrow weights are packed as they are stored where
    few rows share the time to read them, else as float32; so are those stored in different ways.
    The results are the same.
    """
    kinds = {w.stored for w in weights if w is not None}
    stored = kinds.pop() if len(kinds) == 1 and rows < _MANY_ROWS else "float32"
    return stored, WEIGHTS.index(stored)


def item_bytes(stored: str) -> int:
    """Bytes of one packed weight."""
    return 4 if stored == "float32" else 2


def panels(matrix: Array) -> Array:
    """[..., K, N] as panels of 16 columns: [..., ceil(N / 16), K, 16], columns past N zero."""
    *batch, k, n = matrix.shape
    wide = np.zeros((*batch, k, padded(n)), np.float32)
    wide[..., :n] = matrix
    split = wide.reshape(*batch, k, padded(n) // LANES, LANES)
    return np.ascontiguousarray(np.moveaxis(split, -2, -3))


def padded_gates(rows: Array, gates: int) -> Array:
    """[D, G * H, ...] with each gate's H rows padded by zeros: [D, G * Hp, ...]."""
    directions, count, *rest = rows.shape
    hidden = count // gates
    wide = np.zeros((directions, gates, padded(hidden), *rest), np.float32)
    wide[:, :, :hidden] = rows.reshape(directions, gates, hidden, *rest)
    return wide.reshape(directions, gates * padded(hidden), *rest)


def gate_panels(weights: Array, gates: int) -> Array:
    """Weights [D, G * H, K] of gates as panels of [K, G * Hp] for x·Wᵀ."""
    return panels(np.swapaxes(padded_gates(weights, gates), 1, 2))
