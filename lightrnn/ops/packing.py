"""Constants in the layouts that kernels read."""

from __future__ import annotations

import numpy as np

from lightrnn.graph import Array
from lightrnn.native.abi import (
    BYTES_RUN,
    LANES,
    MATRIX_INT8,
    MATRIX_PAIRS,
    PAIRS,
    RAISED,
    WEIGHTS,
    byte_runs,
    pair_lines,
    pair_words,
    panel_rows,
    room_words,
    tile_rows,
    tile_words,
)
from lightrnn.ops.lowering import Emitter, Operand

_MANY_ROWS = 12
"""Rows from which widening weights costs more than reading them does, and tiles are full enough."""


def padded(size: int) -> int:
    """`size` rounded up to whole vectors."""
    return -(-size // LANES) * LANES


MIXED = {"gru": "int8_int8_int16", "lstm": "int8_int8_int8_int16"}
"""How recurrent weights are stored that a kernel takes as abi.GATES: those of each gate in turn."""
LARGEST = {"int8": 127, "int16": 4095}
"""The largest whole number of a weight that is stored so."""


def weight_scales(matrix: Array, axis: int, stored: str) -> Array:
    """The scale of each row or column: its largest magnitude is LARGEST; 1 where all are 0."""
    top = np.abs(matrix).max(axis=axis, keepdims=True, initial=0.0)
    return np.where(top > 0, top / np.float32(LARGEST[stored]), 1).astype(np.float32)


def integer_panels(matrix: Array, stored: str) -> Array:
    """[..., K, N] as panels of four rows: [..., ceil(N / 16), panel_bytes(16, K, stored)].

    A panel holds, for each four rows k0 to k3, their numbers, then the float32 scales of its 16
    columns. int8: for each column k0 to k3, 128 added, and behind the scales for each BYTES_RUN
    rows the int32 sums of k0 * k1 + k2 * k3 + RAISED * (k0 + k1 + k2 + k3), which
    `kernels.pairing` takes off. int16: for each column k0 and k2, then for each k1 and k3. Columns
    are scaled by `weight_scales`: exact where the matrix is made of such numbers with such scales.
    """
    scales = weight_scales(matrix, -2, stored)
    *batch, k, n = matrix.shape
    quads, wide = (k + 3) // 4, padded(n)
    whole = np.zeros((*batch, 4 * quads, wide), stored)
    whole[..., :k, :n] = np.rint(matrix / scales)
    blocks = whole.reshape(*batch, quads, 2, 2, wide // LANES, LANES)
    columns = np.ones((*batch, wide), np.float32)
    columns[..., :n] = scales[..., 0, :]
    tails = [columns.view(np.uint8).reshape(*batch, wide // LANES, LANES * 4)]
    if stored == "int8":
        order = -2, -5, -1, -4, -3
        blocks = blocks.view(np.uint8) + np.uint8(128)
        tails += [sums.view(np.uint8) for sums in _sums_of_pairs(blocks)]
    else:
        order = -2, -5, -3, -1, -4
    blocks = np.moveaxis(blocks, order, (-5, -4, -3, -2, -1))
    weights = np.ascontiguousarray(blocks).view(np.uint8)
    weights = weights.reshape(*batch, wide // LANES, quads * 4 * LANES * whole.itemsize)
    return np.concatenate([weights, *tails], axis=-1)


def _sums_of_pairs(blocks: Array) -> list[Array]:
    """The sums of `integer_panels` of [..., quads, 2, 2, N / 16, 16], modulo 2**32, run by run."""
    first, second = (blocks[..., k, :, :].astype(np.uint32) for k in (0, 1))
    terms = (first * second + RAISED * (first + second)).sum(-3, dtype=np.uint32)
    starts = range(0, terms.shape[-3], BYTES_RUN // 4)
    runs = [terms[..., k : k + BYTES_RUN // 4, :, :].sum(-3, dtype=np.uint32) for k in starts]
    return [run.view(np.int32) for run in runs]


def pair_panels(matrix: Array) -> Array:
    """[..., K, N] as panels of pairs of bfloat16: [..., ceil(N / 16), lines, 16, 2], others zero.

    They are `panel_rows` of `pair_lines` apart.
    """
    *batch, k, n = matrix.shape
    lines, blocks = pair_lines(k), padded(n) // LANES
    wide = np.zeros((*batch, 2 * panel_rows(lines), blocks * LANES), np.uint16)
    wide[..., :k, :n] = narrow(matrix, "bfloat16")
    split = wide.reshape(*batch, panel_rows(lines), 2, blocks, LANES)
    return np.ascontiguousarray(np.moveaxis(split, (-2, -4, -1, -3), (-4, -3, -2, -1)))


def weight_panels(matrix: Array, stored: str) -> Array:
    """[..., K, N] as panels for a product with weights that `weight_kind` packs so."""
    if stored == "pairs":
        return pair_panels(matrix)
    if stored == "tiles":
        *batch, k, n = matrix.shape
        whole = np.zeros((*batch, tile_rows(k), n), np.float32)
        whole[..., :k, :] = matrix
        return integer_panels(whole, "int8")
    if stored in LARGEST:
        return integer_panels(matrix, stored)
    return narrow(panels(matrix), stored)


def panel_bytes(columns: int, k: int, stored: str) -> int:
    """Bytes of `weight_panels` of a matrix [k, columns], columns a multiple of 16."""
    if stored == "pairs":
        return columns * panel_rows(pair_lines(k)) * 4
    if stored == "tiles":
        return panel_bytes(columns, tile_rows(k), "int8")
    if stored in LARGEST:
        size = np.dtype(stored).itemsize
        sums = 4 * byte_runs(k) if size == 1 else 0
        return columns * (4 * ((k + 3) // 4) * size + 4 + sums)
    return columns * panel_rows(k) * (4 if stored == "float32" else 2)


def room_bytes(rows: int, k: int, stored: str) -> int:
    """Bytes that a product of `rows` rows needs beside its operands; 0 for none."""
    words = {"pairs": pair_words, "tiles": tile_words, "int8": room_words, "int16": room_words}
    return rows * words[stored](k) * 4 if stored in words else 0


def narrow(packed: Array, stored: str) -> Array:
    """Packed float32 weights as they are stored; exact where they were stored so before."""
    if stored == "float16":
        return packed.astype(np.float16)
    if stored == "bfloat16":
        return (np.ascontiguousarray(packed).view(np.uint32) >> 16).astype(np.uint16)
    return packed


def weight_kind(
    emit: Emitter, rows: int, *weights: Operand | None, columns: bool = False, batch: int = 0
) -> tuple[str, int]:
    """How to pack weights that go together: one of abi.WEIGHTS, "pairs" or "tiles"; and the kind
    that kernels take for it.

    rows: how many rows each weight multiplies. Narrow weights are packed as they are stored where
    few rows share the time to read them, else as float32; so are those stored in different ways.
    The results are the same. Integers are always multiplied as such: their results are their own.
    columns: whether the weights' columns are what the product sums over rows for, so that these
    need a scale each, and not the rows.
    batch: rows of the product itself, of which `rows` may hold several; all rows if 0. Where these
    are many, and the CPU multiplies bfloat16, it multiplies bfloat16 weights by rows rounded so
    ("pairs"); a matrix unit takes int8 weights in whole tiles ("tiles") to the same results.
    On a GPU float16 and bfloat16 stay so whatever the rows, and integers become the float32 that
    they stand for.
    """
    kinds = {w.stored for w in weights if w is not None}
    stored = kinds.pop() if len(kinds) == 1 else "float32"
    whole, _, by = stored.partition("_")
    cpu, many = emit.target == "cpu", (batch or rows) >= _MANY_ROWS
    if many and cpu and stored == "bfloat16" and emit.level in ("v4bf16", "v4amx"):
        return "pairs", MATRIX_PAIRS if emit.level == "v4amx" else PAIRS
    if whole in LARGEST and by in ("", "columns"):
        exact = (by == "columns") == columns and cpu
        if exact and many and whole == "int8" and emit.level == "v4amx":
            return "tiles", MATRIX_INT8
        stored = whole if exact else "float32"
    elif stored not in WEIGHTS or (rows >= _MANY_ROWS and cpu):
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


def mixed_panels(weights: Array, stored: str) -> Array:
    """`gate_panels` of one of MIXED: [D, bytes], those of one gate behind those of another."""
    kinds = stored.split("_")
    parts = zip(np.split(weights, len(kinds), axis=1), kinds, strict=True)
    panels = [gate_panels(part, 1, kind).reshape(len(part), -1) for part, kind in parts]
    return np.concatenate(panels, axis=1)
