"""Launches of matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightrnn.cuda.grid import Gpu, Launch, Symbol, ceil
from lightrnn.errors import NativeError
from lightrnn.native import abi
from lightrnn.ops.packing import padded, panel_bytes

_RESIDENT = {"tile_64": 2, "tile_128": 1, "rows_1": 4, "rows_4": 2, "rows_16": 2}
SYMBOLS = tuple(
    Symbol(f"gemm_{form}", "gemm", "gemm", hot=True, resident=blocks)
    for form, blocks in _RESIDENT.items()
)
_SHARED = {size: 2 * 4 * 8 * (2 * size + 4) for size in (64, 128)}
"""Bytes that a tile kernel stages: twice 8 columns of a, each 4 floats longer, and 8 rows of b."""
_TILE_THREADS = 256
_PAIR = 0.7
"""What two tiles of 64 on a multiprocessor take, of the time of one of 128."""
_FEW_ROWS = 64
"""Rows up to which a product is bound by reading its weights."""


def gemm(
    a: Mapping[str, int], gpu: Gpu, words: tuple[int, ...] | None = None
) -> tuple[Launch, ...]:
    """The launch for arguments by name; words: the same, where the instruction's are others."""
    batch, m, n = a["batch"], a["m"], a["n"]
    if abi.WEIGHTS[a["kind"]] == "int8":
        raise NativeError("a GPU has no product with int8 weights; expected them as float32")
    if batch * m * n == 0:
        return ()
    tiles = {size: batch * ceil(m, size) * ceil(n, size) for size in (64, 128)}
    if m <= _FEW_ROWS or tiles[64] < gpu.multiprocessors or gpu.threads < _TILE_THREADS:
        rows = next(rows for rows in (1, 4, 16) if rows >= min(m, 16))
        grid, block = batch * ceil(m, rows) * ceil(n, 16), max(gpu.threads // 4 * 4, 4)
        return (Launch(f"gemm_rows_{rows}", grid, block, block * rows * 16, words=words),)
    pairs = ceil(tiles[64], 2 * gpu.multiprocessors)
    size = 128 if ceil(tiles[128], gpu.multiprocessors) <= _PAIR * pairs else 64
    grid = tiles[size]
    return (Launch(f"gemm_tile_{size}", grid, _TILE_THREADS, _SHARED[size], words=words),)


def product(
    gpu: Gpu,
    a: int,
    b: int,
    init: int,
    c: int,
    shape: Sequence[int],
    rows: Sequence[int],
    kind: int,
) -> tuple[Launch, ...]:
    """One product of addresses; shape: m, n, k; rows: elements between those of a, init and c."""
    m, n, k = shape
    words = (a, b, init, c, 1, m, n, k, *rows, 0, 0, 0, 0, kind, 0)
    return gemm({"batch": 1, "m": m, "n": n, "kind": kind}, gpu, words)


def projections(a: Mapping[str, int], gpu: Gpu) -> tuple[Launch, ...]:
    """The launches of `project`: a product for each direction, or of each row of a batch."""
    batch, steps, k, width = a["batch"], a["steps"], a["inputs"], a["gates"] * padded(a["hidden"])
    shape, ld, apart = (batch, steps), (a["x_step"], a["xw_step"]), (a["x_row"], width)
    if a["x_step"] == batch * a["x_row"]:
        shape, ld, apart = (1, steps * batch), (a["x_row"], width), (0, 0)
    sizes = {"batch": shape[0], "m": shape[1], "n": width, "kind": a["kind"]}
    launches: list[Launch] = []
    for d in range(a["directions"]):
        w = a["w"] + d * panel_bytes(width, k, abi.WEIGHTS[a["kind"]])
        bias = a["bias"] and a["bias"] + d * width * 4
        places = a["x"] + d * a["x_direction"] * 4, w, bias, a["xw"] + d * a["xw_direction"] * 4
        steps_apart = apart[0], 0, 0, apart[1]
        words = (*places, *shape, width, k, ld[0], 0, ld[1], *steps_apart, a["kind"], 0)
        launches += gemm(sizes, gpu, words)
    return tuple(launches)
