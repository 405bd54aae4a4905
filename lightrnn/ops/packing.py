"""Constants in the layouts that kernels read."""

from __future__ import annotations

import numpy as np

from lightrnn.graph import Array
from lightrnn.native.abi import LANES


def padded(size: int) -> int:
    """`size` rounded up to whole vectors."""
    return -(-size // LANES) * LANES


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
