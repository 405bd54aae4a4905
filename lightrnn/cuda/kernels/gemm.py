"""Matrix products with a packed right-hand side, c = init + a·b, in float32.

B is stored as panels of 16 columns, each panel [k, 16] row after row, columns past the last zero.
A tile kernel stages strips of a and b in shared memory and gives each thread a square of c; a rows
kernel gives each block one panel and a few rows, its threads sharing out k.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightrnn.cuda.kernels import simt
from lightrnn.cuda.kernels.simt import (
    address_of,
    all_threads,
    bfloat,
    first_item,
    half,
    inlined,
    load4,
    null,
    quotient,
    single,
    u16,
)
from lightrnn.native.abi import WEIGHTS, panel_rows

FLOAT32, FLOAT16, BFLOAT16 = (WEIGHTS.index(n) for n in ("float32", "float16", "bfloat16"))
DEPTH = 8
"""Rows of b, and columns of a, that a tile kernel stages at a time."""
PAD = 4
"""Floats between the staged columns of a, so that storing them turned meets few bank conflicts."""
TILE_THREADS = 256
STRIPS = {size: DEPTH * (2 * size + PAD) for size in (64, 128)}
"""Floats of a pair of strips, by the size of a tile."""


between = inlined(panel_rows)


@inlined
def weight(kind, b, i):
    """Element i of packed weights, widened."""
    if kind == FLOAT32:
        return b[i]
    if kind == FLOAT16:
        return half(u16(address_of(b)), i)
    return bfloat(u16(address_of(b)), i)


@inlined
def four_weights(kind, b, i):
    """Elements i to i + 3 of packed weights, i a multiple of 4."""
    if kind == FLOAT32:
        return load4(b, i)
    return (
        weight(kind, b, i),
        weight(kind, b, i + 1),
        weight(kind, b, i + 2),
        weight(kind, b, i + 3),
    )


@inlined
def finish(init, ldi, c, ldc, row, column, m, n, total):
    """c[row, column] = init + total, inside the matrix."""
    if row < m and column < n:
        if not null(init):
            total += init[row * ldi + column]
        c[row * ldc + column] = total


def made(
    name: str, lines: list[str], scope: dict[str, Any], module: str = __name__
) -> Callable[..., Any]:
    """The function that lines of Python define."""
    text = "\n".join(lines) + "\n"
    exec(compile(text, f"<{name}>", "exec"), scope)
    function: Callable[..., Any] = scope[name]
    function.__module__ = module
    return function


_PARAMETERS = (
    "a, b, init, c, batch, m, n, k, lda, ldi, ldc, a_step, b_step, init_step, c_step, kind, room"
)
_SCOPE = {
    **vars(simt), "between": between, "weight": weight, "four_weights": four_weights,
    "finish": finish,
}  # fmt: skip


def _load_strips(size: int, start: str) -> list[str]:
    """Read a thread's share of the strips of a and b from `start` on into registers."""
    lines = []
    for e in range(size * DEPTH // TILE_THREADS):  # neighbours: in k of a, in columns of b
        lines += [
            f"e = thread() + {e * TILE_THREADS}",
            f"depth, r = {start} + (e & {DEPTH - 1}), row + (e >> {DEPTH.bit_length() - 1})",
            f"v{e} = single(0.0)",
            "if r < m and depth < k:",
            f"    v{e} = left[r * lda + depth]",
            f"j, depth = column + (e & {size - 1}), {start} + (e >> {size.bit_length() - 1})",
            f"w{e} = single(0.0)",
            "if j < n and depth < k:",
            f"    w{e} = weight(kind, b, shift + ((j >> 4) * between(k) + depth) * 16 + (j & 15))",
        ]
    return lines


def _store_strips(size: int, buffer: str) -> list[str]:
    """Leave what was read in one of two buffers."""
    lines = [f"place = {buffer} * {STRIPS[size]}"]
    for e in range(size * DEPTH // TILE_THREADS):
        lines += [
            f"e = thread() + {e * TILE_THREADS}",
            f"depth, r = e & {DEPTH - 1}, e >> {DEPTH.bit_length() - 1}",
            f"memory[place + depth * {size + PAD} + r] = v{e}",
            f"memory[place + {DEPTH * (size + PAD)} + e] = w{e}",
        ]
    return [*lines, "barrier()"]


def _multiply_strips(size: int) -> list[str]:
    """Add the products of a buffer's strips: a thread's rows and columns lie 64 apart in fours."""
    each = size // 16
    lines = ["p = at(memory, place + y * 4)"]
    lines += [f"q = at(memory, place + {DEPTH * (size + PAD)} + x * 4)"]
    for depth in range(DEPTH):
        for g in range(0, each, 4):
            rows = ", ".join(f"a{g + k}" for k in range(4))
            columns = ", ".join(f"b{g + k}" for k in range(4))
            lines += [f"{rows} = load4(p, {depth * (size + PAD) + 16 * g})"]
            lines += [f"{columns} = load4(q, {depth * size + 16 * g})"]
        lines += [f"c{r}_{j} += a{r} * b{j}" for r in range(each) for j in range(each)]
    return lines


def _make_tiles(size: int) -> Callable[..., Any]:
    """The tile kernel of blocks of size x size elements of c, 256 threads each.

    Strips lie in two buffers, so that the next are read while these are multiplied.
    """
    cells = [(r, j) for r in range(size // 16) for j in range(size // 16)]
    name = f"gemm_tile_{size}"
    lines = [
        f"rows, columns = quotient(m + {size - 1}, {size}), quotient(n + {size - 1}, {size})",
        "x, y, memory = thread() & 15, thread() >> 4, shared()",
        "i = quotient(block(), rows * columns)",
        "tile = block() - i * rows * columns",
        "row = quotient(tile, columns)",
        f"column, row = (tile - row * columns) * {size}, row * {size}",
        "left, out = moved(a, i * a_step), at(c, i * c_step)",
        "begin, shift = moved(init, i * init_step), 0",
        "if b_step != 0:",
        "    shift = i * quotient(n + 15, 16) * 16 * between(k)",
        *(f"c{r}_{j} = single(0.0)" for r, j in cells),
        *_load_strips(size, "0"),
        *_store_strips(size, "0"),
        "start, turn = 0, 0",
        "while start < k:",
        *(f"    {line}" for line in _load_strips(size, f"start + {DEPTH}")),
        f"    place = turn * {STRIPS[size]}",
        *(f"    {line}" for line in _multiply_strips(size)),
        "    turn = 1 - turn",
        *(f"    {line}" for line in _store_strips(size, "turn")),
        f"    start += {DEPTH}",
    ]
    for r, j in cells:
        place = [f"{16 * (v - v % 4) + v % 4} + {axis} * 4" for v, axis in ((r, "y"), (j, "x"))]
        lines += [
            f"finish(begin, ldi, out, ldc, row + {place[0]}, column + {place[1]}, m, n, c{r}_{j})"
        ]
    body = [f"    {line}" for line in lines]
    return made(name, [f"def {name}({_PARAMETERS}):", *body], dict(_SCOPE))


def _make_rows(count: int) -> Callable[..., Any]:
    """The rows kernel: a block does `count` rows of one panel, a thread a quad and part of k.

    The next weights are read while these are multiplied.
    """
    cells = [(r, j) for r in range(count) for j in range(4)]
    name = f"gemm_rows_{count}"
    lines = [
        f"def {name}({_PARAMETERS}):",
        f"    strips, panels = quotient(m + {count - 1}, {count}), quotient(n + 15, 16)",
        "    memory = shared()",
        "    quad, part, parts = thread() & 3, thread() >> 2, threads() >> 2",
        "    i = quotient(block(), strips * panels)",
        "    strip = block() - i * strips * panels",
        "    panel = strip - quotient(strip, panels) * panels",
        f"    row = quotient(strip, panels) * {count}",
        "    left, start = moved(a, i * a_step), panel * 16 * between(k) + quad * 4",
        "    if b_step != 0:",
        "        start += i * panels * 16 * between(k)",
        *(f"    c{r}_{j} = single(0.0)" for r, j in cells),
        *(f"    p{r} = min(row + {r}, m - 1) * lda" for r in range(count)),
        "    d, n0, n1, n2, n3 = part, single(0.0), single(0.0), single(0.0), single(0.0)",
        "    if d < k:",
        "        n0, n1, n2, n3 = four_weights(kind, b, start + d * 16)",
        "    while d < k:",
        "        b0, b1, b2, b3 = n0, n1, n2, n3",
        "        n0, n1, n2, n3 = four_weights(kind, b, start + min(d + parts, k - 1) * 16)",
    ]
    for r in range(count):
        lines += [f"        v = left[p{r} + d]"]
        lines += [f"        c{r}_{j} += v * b{j}" for j in range(4)]
    lines += ["        d += parts"]
    for r in range(count):
        sums = ", ".join(f"c{r}_{j}" for j in range(4))
        lines += [f"    store4(memory, (part * {count} + {r}) * 16 + quad * 4, {sums})"]
    lines += [
        "    barrier()",
        "    out, begin = at(c, i * c_step), moved(init, i * init_step)",
        "    cell = thread()",
        f"    while cell < {16 * count}:",
        "        total = single(0.0)",
        "        for other in range(parts):",
        f"            total += memory[other * {16 * count} + cell]",
        "        r, j = cell >> 4, cell & 15",
        "        finish(begin, ldi, out, ldc, row + r, panel * 16 + j, m, n, total)",
        "        cell += threads()",
    ]
    return made(name, lines, dict(_SCOPE))


gemm_tile_64, gemm_tile_128 = _make_tiles(64), _make_tiles(128)
gemm_rows_1, gemm_rows_4, gemm_rows_16 = _make_rows(1), _make_rows(4), _make_rows(16)


def pack_panels(b, panels, batch, k, n, row_stride, column_stride, b_step):
    """Pack `batch` matrices b [k, n], strides in elements, into panels, one after the other."""
    count = quotient(n + 15, 16)
    place = first_item()
    while place < batch * count * k * 16:
        item = quotient(place, 16 * k)
        row = (place - item * 16 * k) >> 4
        i = quotient(item, count)
        column = (item - i * count) * 16 + (place & 15)
        v = single(0.0)
        if column < n:
            v = b[i * b_step + row * row_stride + column * column_stride]
        panels[item * 16 * between(k) + place - item * 16 * k] = v
        place += all_threads()
