"""Register blocking of matrix products, by CPU level.

A tile is `rows` rows of A times `panels` panels of 16 columns of packed B, all accumulators in
registers: 16 of 256 bits on v3 (a vector of 16 lanes takes two), 32 of 512 bits on v4. The order
of additions of an element does not depend on its tile, so all levels give the same bits: products
are summed from zero, RUN of them at a time, and each sum is added to what was there: rounding
errors grow with a sum's length and with what it begins at.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lightrnn.kernels import integers, simd
from lightrnn.kernels.bfloats import dot_bfloats
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.threads import address_of
from lightrnn.native.abi import BYTES_RUN, RUN

TILES = {
    "v3": ((6, 1), (4, 1), (2, 3), (1, 4)),
    "v4": ((8, 2), (4, 4), (2, 4), (1, 8)),
}
"""Tiles as (rows, panels), largest first; for one row there are also those of fewer panels."""
TILES["v4vnni"] = TILES["v4"]

LIMITS = {"int8": 16255, "int16": 4095, "bytes": 127}
"""The largest activation, by how weights are stored (bytes: abi.BYTES): a run's sum then fits in 32
bits, and in 16 for int8 the sum of a weight and of an activation that is raised."""
RUNS = {"int8": BYTES_RUN, "int16": RUN}
"""Products of a sum of integers before it is scaled."""

PAIRS = {
    "int8": (64, "even_bytes(load_words(b, {0}))", "odd_bytes(load_words(b, {0}))"),
    "int16": (128, "load_words(b, {0})", "load_words(b, {0} + 64)"),
}
"""Bytes of 16 quads of weights, and how to get their pairs (k0, k2) and (k1, k3)."""

TARGET = os.environ.get("LIGHTRNN_TARGET", "v3")
"""The level being compiled; `native.build` sets it."""


def make_tile(
    rows: int,
    panels: int,
    stored: str = "float32",
    *,
    turned: bool = False,
    passes: int = 0,
    packed: bool = True,
) -> Callable[..., Any]:
    """A function that computes one tile: c = init + a·b.

    a: [rows, k], rows `lda` apart; if turned, [k, rows]. b: `panels` panels of [k, 16], 16 * `step`
    apart. init, c: rows `ldi` and `ldc` apart; init may be null for zeros. tail: columns of the
    last panel that exist, 1 to 16. stored: how b is stored, one of abi.WEIGHTS. For int8 and int16
    k counts quads and step bytes, a holds what `gemm.quantize` gives, and b what
    `ops.packing.integer_panels` does. passes: for int8 and rows that are split in bytes: 1 for low
    ones alone, 2 for one row's high and low ones. For "pairs" k counts pairs of bfloat16, rows of a
    and lines of 64 bytes of b. packed: otherwise b is [k, columns] as it lies, rows `step` apart.
    """
    cells = [(r, p) for r in range(rows) for p in range(panels)]
    count = ["tail" if p == panels - 1 else "16" for p in range(panels)]
    lines = [f"def tile_{rows}x{panels}(a, lda, b, step, k, init, ldi, c, ldc, tail):"]
    if stored in PAIRS:
        lines += _integer_lines(cells, rows, panels, count, stored, passes)
    elif stored == "pairs":
        lines += _bfloat_lines(cells, rows, panels, count)
    else:
        place = "i * lda + {row}" if turned else "{row} * lda + i"
        loads = [f"{LOADS[stored]}(b, ({p} * step + i) * 16)" for p in range(panels)]
        if not packed:
            loads = [f"load_some(b, i * step + {16 * p}, {count[p]})" for p in range(panels)]
        lines += _float_lines(cells, loads, count, place)
    scope: dict[str, Any] = {
        **vars(simd), **vars(integers), "load_some": load_some, "store_some": store_some,
        "address_of": address_of, "dot_bfloats": dot_bfloats,
    }  # fmt: skip
    exec(compile("\n".join(lines) + "\n", f"<tile {rows}x{panels}>", "exec"), scope)
    return inlined(scope[f"tile_{rows}x{panels}"])


LOADS = {"float32": "load", "float16": "load_half", "bfloat16": "load_bfloat"}
Cells = list[tuple[int, int]]


def _float_lines(cells: Cells, loads: list[str], count: list[str], place: str) -> list[str]:
    """Runs of products, each added to what is there: init, then the sum so far.

    loads: what reads row i of each panel. place: where a's element of a row and of i lies.
    """
    rows, panels = cells[-1][0] + 1, len(loads)
    lines = ["    source, ld, start = init, ldi, 0", "    while start == 0 or start < k:"]
    lines += [f"        c{r}_{p} = splat(0.0)" for r, p in cells]
    lines += [f"        for i in range(start, min(start + {RUN}, k)):"]
    lines += [f"            b{p} = {load}" for p, load in enumerate(loads)]
    for r in range(rows):
        lines += [f"            v = broadcast(a, {place.format(row=r)})"]
        lines += [f"            c{r}_{p} = fma(v, b{p}, c{r}_{p})" for p in range(panels)]
    lines += ["        if not null(source):"]
    lines += [
        f"            c{r}_{p} = load_some(source, {r} * ld + {16 * p}, {count[p]}) + c{r}_{p}"
        for r, p in cells
    ]
    lines += [
        f"        store_some(c, {r} * ldc + {16 * p}, c{r}_{p}, {count[p]})" for r, p in cells
    ]
    return [*lines, f"        source, ld, start = c, ldc, start + {RUN}"]


def _bfloat_lines(cells: Cells, rows: int, panels: int, count: list[str]) -> list[str]:
    """Sums of pairs of bfloat16, added to what is there."""
    lines = [f"    c{r}_{p} = splat(0.0)" for r, p in cells]
    lines += ["    for i in range(k):"]
    lines += [f"        b{p} = load_words(b, {16 * p} * step + 64 * i)" for p in range(panels)]
    for r in range(rows):
        lines += [f"        v = broadcast_int(a, {r} * lda + i)"]
        lines += [f"        c{r}_{p} = dot_bfloats(b{p}, v, c{r}_{p})" for p in range(panels)]
    for r, p in cells:
        lines += [
            "    v = splat(0.0)",
            "    if not null(init):",
            f"        v = load_some(init, {r} * ldi + {16 * p}, {count[p]})",
            f"    store_some(c, {r} * ldc + {16 * p}, v + c{r}_{p}, {count[p]})",
        ]
    return lines


def _integer_lines(
    cells: Cells, rows: int, panels: int, count: list[str], stored: str, passes: int
) -> list[str]:
    """Runs of sums of integers, each scaled by row and column and added to what is there."""
    nbytes, *halves = PAIRS[stored]
    lines = [f"    s{p} = load(f32(address_of(b) + {16 * p} * step + {nbytes} * k), 0)"
             for p in range(panels)]  # fmt: skip
    lines += ["    source, ld, start, run = init, ldi, 0, 2 * k + 1"]
    lines += ["    while start == 0 or start < k:"]
    for r, p in cells:
        begin = f"broadcast_int(a, {r} * lda + run)" if stored == "int8" else "splat_int(0)"
        lines += [f"        n{r}_{p} = {begin}"]
        lines += [f"        h{r}_{p} = splat_int(0)"] if passes == 2 else []
    lines += [f"        for i in range(start, min(start + {RUNS[stored] // 4}, k)):"]
    if passes:
        lines += _byte_lines(rows, panels, nbytes, passes)
    for half, pairs in enumerate(() if passes else halves):
        for p in range(panels):
            place = f"{16 * p} * step + {nbytes} * i"
            lines += [f"            w{p} = {pairs.format(place)}"]
        for r in range(rows):
            lines += [f"            v = broadcast_int(a, {r} * lda + 2 * i + {half})"]
            lines += [f"            n{r}_{p} = dot_pairs(w{p}, v, n{r}_{p})" for p in range(panels)]
    if passes == 2:
        lines += [f"        n0_{p} = n0_{p} + (h0_{p} << splat_int(8))" for p in range(panels)]
    for r in range(rows):
        lines += [f"        v = broadcast(f32(address_of(a) + 4 * ({r} * lda + 2 * k)), 0)"]
        for p in range(panels):
            lines += [
                f"        c{r}_{p} = splat(0.0)",
                "        if not null(source):",
                f"            c{r}_{p} = load_some(source, {r} * ld + {16 * p}, {count[p]})",
                f"        c{r}_{p} = fma(to_float(n{r}_{p}), v * s{p}, c{r}_{p})",
                f"        store_some(c, {r} * ldc + {16 * p}, c{r}_{p}, {count[p]})",
            ]
    following = f"c, ldc, start + {RUNS[stored] // 4}, run + 1"
    return [*lines, f"        source, ld, start, run = {following}"]


def _byte_lines(rows: int, panels: int, nbytes: int, passes: int) -> list[str]:
    """The products with low bytes of activations; if two passes, of one row with high ones too."""
    lines = ["            w = broadcast_int(a, i)"] if passes == 2 else []
    for r in range(rows):
        lines += [f"            v = broadcast_int(a, {r} * lda + k + i)"]
        for p in range(panels):
            place = f"{16 * p} * step + {nbytes} * i"
            lines += [f"            b{p} = load_words(b, {place})"] if r == 0 else []
            lines += [f"            h0_{p} = dot_bytes(b{p}, w, h0_{p})"] if passes == 2 else []
            lines += [f"            n{r}_{p} = dot_bytes(b{p}, v, n{r}_{p})"]
    return lines


@inlined
def moved(p, n):
    """The pointer `n` elements on; null stays null."""
    if simd.null(p):
        return p
    return simd.at(p, n)


@inlined
def load_some(p, i, n):
    """The first `n` lanes from p[i] on, the rest 0; 1 <= n <= 16."""
    if n == 16:
        return simd.load(p, i)
    return simd.load_first(p, i, n)


@inlined
def store_some(p, i, v, n):
    """Write the first `n` lanes from p[i] on; 1 <= n <= 16."""
    if n == 16:
        simd.store(p, i, v)
    else:
        simd.store_first(p, i, v, n)
