"""Matrix products with a packed right-hand side.

B is stored as panels of 16 columns, each panel [k, 16] row after row, columns past the last zero:
`ops.packing` packs constants, `pack_panels` packs what is only known at run time.
"""

from __future__ import annotations

from numba import types

from lightrnn.kernels.integers import in_pairs, nearest, store_shorts
from lightrnn.kernels.simd import (
    POINTERS,
    absolute,
    at,
    f32,
    i32,
    inlined,
    lanes_max,
    lanes_sum,
    load,
    maximum,
    null,
    outlined,
    splat,
    store,
    to_float,
    u8,
    u16,
)
from lightrnn.kernels.threads import address_of
from lightrnn.kernels.tiling import LIMITS, TARGET, TILES, load_some, make_tile
from lightrnn.native.abi import RUN, WEIGHTS, room_words

_F, _H, _I = POINTERS["f32"], POINTERS["u16"], types.int64
(ROWS_A, PANELS_A), (ROWS_B, PANELS_B), (ROWS_C, PANELS_C), (_, PANELS_D), (_, PANELS_E) = TILES[
    TARGET
]
PAGE = 4096
"""Panels that begin a multiple of these bytes apart meet in the same few places of a cache."""
_COLUMN_STEPS = {"float32": 64, "float16": 32, "bfloat16": 32, "int8": 16, "int16": 16}
"""Bytes between panels for each unit of their step."""
FLOAT32, _FLOAT16, _BFLOAT16, _INT8, _INT16 = range(len(WEIGHTS))
_BYTES_LIMIT, _SHORTS_LIMIT = LIMITS["int8"], LIMITS["int16"]


@inlined
def share(total, ith, nth):
    """The part [first, last) of `total` items that thread `ith` of `nth` does."""
    return total * ith // nth, total * (ith + 1) // nth


@inlined
def moved(p, n):
    """The pointer `n` elements on; null stays null."""
    if null(p):
        return p
    return at(p, n)


def _make_multiply(stored, left, right):
    """The product for one way to store b; left, right: types of the pointers to a and b."""
    tile_a, narrow_a = make_tile(ROWS_A, PANELS_A, stored), make_tile(ROWS_A, 1, stored)
    tile_b, narrow_b = make_tile(ROWS_B, PANELS_B, stored), make_tile(ROWS_B, 1, stored)
    tile_c, narrow_c = make_tile(ROWS_C, PANELS_C, stored), make_tile(ROWS_C, 1, stored)
    tile_d, narrow_d = make_tile(1, PANELS_D, stored), make_tile(1, 1, stored)
    tile_e = make_tile(1, PANELS_E, stored)
    column_step = _COLUMN_STEPS[stored]

    @inlined
    def small_tile(rows, panels, a, lda, b, step, k, init, ldi, c, ldc, tail):
        if rows == ROWS_B:
            if panels == PANELS_B:
                tile_b(a, lda, b, step, k, init, ldi, c, ldc, tail)
            else:
                narrow_b(a, lda, b, step, k, init, ldi, c, ldc, tail)
        elif rows == ROWS_C:
            if panels == PANELS_C:
                tile_c(a, lda, b, step, k, init, ldi, c, ldc, tail)
            else:
                narrow_c(a, lda, b, step, k, init, ldi, c, ldc, tail)
        elif panels == PANELS_D:
            tile_d(a, lda, b, step, k, init, ldi, c, ldc, tail)
        elif panels == PANELS_E:
            tile_e(a, lda, b, step, k, init, ldi, c, ldc, tail)
        else:
            narrow_d(a, lda, b, step, k, init, ldi, c, ldc, tail)

    @inlined
    def whole_blocks(a, lda, b, step, k, init, ldi, c, ldc, blocks, panels, tail):
        """Blocks of ROWS_A rows, while their panels stay in the nearest cache."""
        for block in range(blocks):
            row = block * ROWS_A
            left, start, out = at(a, row * lda), moved(init, row * ldi), at(c, row * ldc)
            if panels == PANELS_A:
                tile_a(left, lda, b, step, k, start, ldi, out, ldc, tail)
            else:
                narrow_a(left, lda, b, step, k, start, ldi, out, ldc, tail)

    @inlined
    def last_rows(a, lda, b, step, k, init, ldi, c, ldc, m, first, last, n, turned):
        """Fewer than ROWS_A rows, by the largest tiles that fit; if turned, last panels first."""
        crowded = step * column_step % PAGE == 0
        row = 0
        while row < m:
            rows, wide, half = 1, PANELS_D, PANELS_E
            if m - row >= ROWS_B:
                rows, wide, half = ROWS_B, PANELS_B, PANELS_B
            elif m - row >= ROWS_C:
                rows, wide, half = ROWS_C, PANELS_C, PANELS_C
            elif crowded:
                wide = PANELS_E
            whole = (last - first) // wide
            rest = last - first - whole * wide
            halves = rest // half
            groups = whole + halves + rest - halves * half
            for g in range(groups):
                i = groups - 1 - g if turned else g
                panels, p = wide, first + i * wide
                if i >= whole + halves:
                    panels, p = 1, last - groups + i
                elif i >= whole:
                    panels, p = half, first + whole * wide + (i - whole) * half
                j = p * 16
                tail = min(16, n - j - 16 * (panels - 1))
                left, right, out = at(a, row * lda), at(b, j * step), at(c, row * ldc + j)
                start = moved(init, row * ldi + j)
                small_tile(rows, panels, left, lda, right, step, k, start, ldi, out, ldc, tail)
            row += rows

    def multiply(a, lda, b, step, k, init, ldi, c, ldc, m, first, last, n, turned):
        p = first
        while p < last:
            panels = min(PANELS_A, last - p)
            if panels < PANELS_A:
                panels = 1
            j = p * 16
            tail = min(16, n - j - 16 * (panels - 1))
            whole_blocks(
                a, lda, at(b, j * step), step, k, moved(init, j), ldi, at(c, j), ldc, m // ROWS_A,
                panels, tail,
            )  # fmt: skip
            p += panels
        row = m // ROWS_A * ROWS_A
        if row < m:
            last_rows(
                at(a, row * lda), lda, b, step, k, moved(init, row * ldi), ldi, at(c, row * ldc),
                ldc, m - row, first, last, n, turned,
            )  # fmt: skip

    multiply.__name__ = multiply.__qualname__ = f"multiply_{stored}"
    sizes = (_F, _I, _F, _I, _I, _I, _I, _I, _I)
    return outlined(types.void, left, _I, right, _I, _I, *sizes)(multiply)


_multiply_float32 = _make_multiply("float32", _F, _F)
_multiply_float16 = _make_multiply("float16", _F, _H)
_multiply_bfloat16 = _make_multiply("bfloat16", _F, _H)
_multiply_int8 = _make_multiply("int8", POINTERS["i32"], POINTERS["u8"])
_multiply_int16 = _make_multiply("int16", POINTERS["i32"], POINTERS["u8"])


@inlined
def multiply(kind, a, lda, b, k, init, ldi, c, ldc, m, first, last, n, room, turned=0):
    """c = init + a·b for `m` rows and the panels [first, last).

    kind: how b is stored, by its place in abi.WEIGHTS. a: [m, k], rows `lda` apart. b: all panels.
    init, c: [m, n], rows `ldi` and `ldc` apart, both beginning at column 0; init may be null for
    zeros, and may be c. room: for int8 and int16, memory of [m, room_words(k)] words; else null.
    turned: whether to begin with the last panels, as is best where the time before ended with them:
    they are still in a cache that does not hold all. The result is the same.
    """
    if kind == FLOAT32 or k == 0:
        _multiply_float32(a, lda, b, k, k, init, ldi, c, ldc, m, first, last, n, turned)
    elif kind == _FLOAT16:
        _multiply_float16(
            a, lda, u16(address_of(b)), k, k, init, ldi, c, ldc, m, first, last, n, turned
        )  # fmt: skip
    elif kind == _BFLOAT16:
        _multiply_bfloat16(
            a, lda, u16(address_of(b)), k, k, init, ldi, c, ldc, m, first, last, n, turned
        )  # fmt: skip
    else:
        quads, words = (k + 3) // 4, row_words(k)
        left, right = i32(address_of(room)), u8(address_of(b))
        limit = float(_BYTES_LIMIT if kind == _INT8 else _SHORTS_LIMIT)
        for row in range(m):
            quantize(at(a, row * lda), k, limit, at(left, row * words))
        step = column_bytes(kind, k)
        if kind == _INT8:
            _multiply_int8(
                left, words, right, step, quads, init, ldi, c, ldc, m, first, last, n, turned
            )  # fmt: skip
        else:
            _multiply_int16(
                left, words, right, step, quads, init, ldi, c, ldc, m, first, last, n, turned
            )  # fmt: skip


row_words = inlined(room_words)


@outlined(types.void, _F, _I, types.float64, POINTERS["i32"])
def quantize(a, k, limit, words):
    """k floats as int16 in quads, the largest of them `limit`; their scale, as a float32's bits.

    Then, for each RUN of them, -128 times their sum: bytes are stored with 128 added.
    """
    quads = (k + 3) // 4
    largest = splat(0.0)
    for j in range(0, k, 16):
        largest = maximum(largest, absolute(load_some(a, j, min(16, k - j))))
    top = lanes_max(largest)
    factor = splat(limit / top if top > 0.0 else 0.0)
    shorts, sums = u16(address_of(words)), at(words, 2 * quads + 1)
    for start in range(0, k, RUN):
        total = splat(0.0)
        for j in range(start, min(start + RUN, k), 16):
            whole = nearest(load_some(a, j, min(16, k - j)) * factor)
            store_shorts(shorts, j, in_pairs(whole), min(16, 4 * quads - j))
            total = total + to_float(whole)
        sums[start // RUN] = int(lanes_sum(total)) * -128
    scale = at(f32(address_of(words)), 2 * quads)
    scale[0] = top / limit


@inlined
def room_of(kind, room, row, k):
    """The room from a row on."""
    return moved(room, row * row_words(k)) if kind >= _INT8 else room


@inlined
def column_bytes(kind, k):
    """Bytes of a column of packed weights, its scale included."""
    if kind == FLOAT32:
        return 4 * k
    if kind == _INT8:
        return 4 * ((k + 3) // 4) + 4
    if kind == _INT16:
        return 8 * ((k + 3) // 4) + 4
    return 2 * k


@inlined
def weights_at(kind, b, columns, k):
    """Packed weights of [k, columns] further on; null stays null."""
    if null(b):
        return b
    return f32(address_of(b) + columns * column_bytes(kind, k))


def gemm(
    a, b, init, c, batch, m, n, k, lda, ldi, ldc, a_step, b_step, init_step, c_step, kind, room,
    ith, nth,
):  # fmt: skip
    """c[i] = init[i] + a[i]·b[i] for `batch` matrices, `*_step` elements apart (0 to share one).

    Threads split batch and panels, or rows where there are more of those. kind, room: as
    `multiply` takes them, the room for all rows of the batch.
    """
    panels = (n + 15) // 16
    if batch * panels >= nth or m < nth:
        first, last = share(batch * panels, ith, nth)
        row, rows = 0, m
    else:
        first, last = 0, batch * panels
        row, end = share(m, ith, nth)
        rows = end - row
    while first < last:
        i = first // panels
        p = first - i * panels
        stop = min(panels, p + last - first)
        right = b if b_step == 0 else weights_at(kind, b, i * panels * 16, k)
        multiply(
            kind, at(a, i * a_step + row * lda), lda, right, k,
            moved(init, i * init_step + row * ldi), ldi, at(c, i * c_step + row * ldc), ldc,
            rows, p, stop, n, room_of(kind, room, i * m + row, k),
        )  # fmt: skip
        first += stop - p


def pack_panels(b, panels, batch, k, n, row_stride, column_stride, b_step, ith, nth):
    """Pack `batch` matrices b [k, n] (strides in elements) into panels, `k * ceil16(n)` apart."""
    count = (n + 15) // 16
    first, last = share(batch * count, ith, nth)
    for item in range(first, last):
        i = item // count
        j = (item - i * count) * 16
        source, panel = at(b, i * b_step + j * column_stride), at(panels, item * k * 16)
        width = min(16, n - j)
        for row in range(k):
            if width == 16 and column_stride == 1:
                store(panel, row * 16, load(source, row * row_stride))
                continue
            for lane in range(16):
                if lane < width:
                    panel[row * 16 + lane] = source[row * row_stride + lane * column_stride]
                else:
                    panel[row * 16 + lane] = 0.0
