"""Register blocking of matrix products, by CPU level.

A tile is `rows` rows of A times `panels` panels of 16 columns of packed B, all accumulators in
registers: 16 of 256 bits on v3 (a vector of 16 lanes takes two), 32 of 512 bits on v4. The order
of additions of an element does not depend on its tile, so all levels give the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lightrnn.kernels import simd

TILES = {
    "v3": ((6, 1), (4, 1), (2, 3), (1, 4)),
    "v4": ((8, 2), (4, 4), (2, 6), (1, 8)),
}
"""Tiles as (rows, panels), most rows first; the last has one row."""

TARGET = os.environ.get("LIGHTRNN_TARGET", "v3")
"""The level being compiled; `native.build` sets it."""


def make_tile(rows: int, panels: int, load: str = "load") -> Callable[..., Any]:
    """A function that computes one tile: c = init + a·b, b read by the function `load`.

    a: [rows, k], rows `lda` apart. b: `panels` panels of [k, 16]. init, c: rows `ldi` and `ldc`
    apart; init may be null for zeros. tail: columns of the last panel that exist, 1 to 16.
    """
    cells = [(r, p) for r in range(rows) for p in range(panels)]
    count = ["tail" if p == panels - 1 else "16" for p in range(panels)]
    name = f"tile_{rows}x{panels}"
    lines = [f"def {name}(a, lda, b, k, init, ldi, c, ldc, tail):", "    if null(init):"]
    lines += [f"        c{r}_{p} = splat(0.0)" for r, p in cells]
    lines += ["    else:"]
    lines += [
        f"        c{r}_{p} = load_some(init, {r} * ldi + {16 * p}, {count[p]})" for r, p in cells
    ]
    lines += ["    for i in range(k):"]
    lines += [f"        b{p} = {load}(b, ({p} * k + i) * 16)" for p in range(panels)]
    for r in range(rows):
        lines += [f"        v = broadcast(a, {r} * lda + i)"]
        lines += [f"        c{r}_{p} = fma(v, b{p}, c{r}_{p})" for p in range(panels)]
    lines += [f"    store_some(c, {r} * ldc + {16 * p}, c{r}_{p}, {count[p]})" for r, p in cells]
    scope: dict[str, Any] = {**vars(simd), "load_some": load_some, "store_some": store_some}
    exec(compile("\n".join(lines) + "\n", f"<{name}>", "exec"), scope)
    return simd.inlined(scope[name])


@simd.inlined
def load_some(p, i, n):
    """The first `n` lanes from p[i] on, the rest 0; 1 <= n <= 16."""
    if n == 16:
        return simd.load(p, i)
    return simd.load_first(p, i, n)


@simd.inlined
def store_some(p, i, v, n):
    """Write the first `n` lanes from p[i] on; 1 <= n <= 16."""
    if n == 16:
        simd.store(p, i, v)
    else:
        simd.store_first(p, i, v, n)
