"""Constants in the layouts that kernels read."""

from __future__ import annotations

import numpy as np

from lightrnn.graph import Array
from lightrnn.native.abi import LANES, WEIGHTS, panel_rows, room_words
from lightrnn.ops.lowering import Operand

_MANY_ROWS = 12
"""Rows from which widening weights costs more than reading them does."""


def padded(size: int) -> int:
    """`size` rounded up to whole vectors."""
    return -(-size // LANES) * LANES


LARGEST = {"int8": 127, "int16": 4095}
"""The largest whole number of a weight that is stored so."""


def weight_scales(matrix: Array, axis: int, stored: str) -> Array:
    """The scale of each row or column: its largest magnitude is LARGEST; 1 where all are 0."""
    top = np.abs(matrix).max(axis=axis, keepdims=True, initial=0.0)
    return np.where(top > 0, top / np.float32(LARGEST[stored]), 1).astype(np.float32)


def integer_panels(matrix: Array, stored: str) -> Array:
    """[..., K, N] as panels of four rows: [..., ceil(N / 16), K4 * 64 * size + 64] bytes.

    K4 = ceil(K / 4), size: bytes of a number. A panel holds, for each four rows k0 to k3, their
    numbers, then the float32 scales of its 16 columns. int8: for each column k0 to k3, 128 added;
    int16: for each column k0 and k2, then for each k1 and k3. Columns are scaled by
    `weight_scales`: exact where the matrix is made of such numbers with such scales.
    """
    scales = weight_scales(matrix, -2, stored)
    *batch, k, n = matrix.shape
    quads, wide = (k + 3) // 4, padded(n)
    whole = np.zeros((*batch, 4 * quads, wide), stored)
    whole[..., :k, :n] = np.rint(matrix / scales)
    blocks = whole.reshape(*batch, quads, 2, 2, wide // LANES, LANES)
    if stored == "int8":
        order = -2, -5, -1, -4, -3
        blocks = blocks.view(np.uint8) + np.uint8(128)
    else:
        order = -2, -5, -3, -1, -4
    blocks = np.moveaxis(blocks, order, (-5, -4, -3, -2, -1))
    columns = np.ones((*batch, wide), np.float32)
    columns[..., :n] = scales[..., 0, :]
    weights = np.ascontiguousarray(blocks).view(np.uint8)
    weights = weights.reshape(*batch, wide // LANES, quads * 4 * LANES * whole.itemsize)
    tails = columns.view(np.uint8).reshape(*batch, wide // LANES, LANES * 4)
    return np.concatenate([weights, tails], axis=-1)


def weight_panels(matrix: Array, stored: str) -> Array:
    """[..., K, N] as panels for a product with weights that are stored so (abi.WEIGHTS)."""
    if stored in LARGEST:
        return integer_panels(matrix, stored)
    return narrow(panels(matrix), stored)


def panel_bytes(columns: int, k: int, stored: str) -> int:
    """Bytes of `weight_panels` of a matrix [k, columns], columns a multiple of 16."""
    if stored in LARGEST:
        return columns * (4 * ((k + 3) // 4) * np.dtype(stored).itemsize + 4)
    return columns * panel_rows(k) * (4 if stored == "float32" else 2)


def room_bytes(rows: int, k: int, stored: str) -> int:
    """Bytes that a product of `rows` rows needs beside its operands; 0 for none."""
    return rows * room_words(k) * 4 if stored in LARGEST else 0


def narrow(packed: Array, stored: str) -> Array:
    """Packed float32 weights as they are stored; exact where they were stored so before."""
    if stored == "float16":
        return packed.astype(np.float16)
    if stored == "bfloat16":
        return (np.ascontiguousarray(packed).view(np.uint32) >> 16).astype(np.uint16)
    return packed


def weight_kind(
    target: str, rows: int, *weights: Operand | None, columns: bool = False
) -> tuple[str, int]:
    """How to pack weights that go together, and its place in abi.WEIGHTS.

    rows: how many rows each weight multiplies. Narrow weights are packed as they are stored where
    few rows share the time to read them, else as float32; so are those stored in different ways.
    The results are the same. Integers are always multiplied as such: their results are their own.
    columns: whether the weights' columns are what the product sums over rows for, so that these
    need a scale each, and not the rows.
    target: as `Emitter.target`. On a GPU float16 and bfloat16 stay so whatever the rows, and
    integers become the float32 that they stand for.
    """
    kinds = {w.stored for w in weights if w is not None}
    stored = kinds.pop() if len(kinds) == 1 else "float32"
    whole, _, by = stored.partition("_")
    if whole in LARGEST:
        exact = (by == "columns") == columns and target == "cpu"
        stored = whole if exact else "float32"
    elif rows >= _MANY_ROWS and target == "cpu":
        stored = "float32"
    return stored, WEIGHTS.index(stored)


def panels(matrix: Array) -> Array:
    """[..., K, N] as panels of 16 columns: [..., ceil(N / 16), panel_rows(K), 16], others zero."""
    *batch, k, n = matrix.shape
    rows = panel_rows(k)
    wide = np.zeros((*batch, rows, padded(n)), np.float32)
    wide[..., :k, :n] = matrix
    split = wide.reshape(*batch, rows, padded(n) // LANES, LANES)
    return np.ascontiguousarray(np.moveaxis(split, -2, -3))


def padded_gates(rows: Array, gates: int) -> Array:
    """[D, G * H, ...] with each gate's H rows padded by zeros: [D, G * Hp, ...]."""
    directions, count, *rest = rows.shape
    hidden = count // gates
    wide = np.zeros((directions, gates, padded(hidden), *rest), np.float32)
    wide[:, :, :hidden] = rows.reshape(directions, gates, hidden, *rest)
    return wide.reshape(directions, gates * padded(hidden), *rest)


def gate_panels(weights: Array, gates: int, stored: str = "float32") -> Array:
    """Weights [D, G * H, K] of gates as panels of [K, G * Hp] for x·Wᵀ."""
    return weight_panels(np.swapaxes(padded_gates(weights, gates), 1, 2), stored)
