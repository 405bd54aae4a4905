"""Matrix products with a packed right-hand side.

B is stored as panels of 16 columns, each panel [k, 16] row after row, columns past the last zero,
and `panel_rows` rows from one to the next: `ops.packing` packs constants, `kernels.packing` what is
only known at run time.
"""

from __future__ import annotations

from numba import types

from lightrnn.kernels.blocking import make_product, make_split_row
from lightrnn.kernels.integers import (
    VNNI,
    dot_pairs,
    in_pairs,
    nearest,
    odd_lanes,
    store_bytes,
    store_shorts,
    words_sum,
)
from lightrnn.kernels.intrinsic import POINTERS, inlined, outlined
from lightrnn.kernels.simd import (
    absolute,
    at,
    f32,
    float_bits,
    i32,
    lanes_max,
    lanes_sum,
    load,
    maximum,
    null,
    splat,
    splat_int,
    to_float,
    u8,
    u16,
)
from lightrnn.kernels.threads import address_of
from lightrnn.kernels.tiling import LIMITS, load_some, moved
from lightrnn.native.abi import (
    BYTES,
    BYTES_RUN,
    RAISED,
    WEIGHTS,
    byte_runs,
    panel_rows,
    room_words,
)

_F, _H, _I = POINTERS["f32"], POINTERS["u16"], types.int64
FLOAT32, FLOAT16, BFLOAT16, INT8, INT16 = range(len(WEIGHTS))
_WORDS_LIMIT, _SHORTS_LIMIT, _BYTES_LIMIT = LIMITS["int8"], LIMITS["int16"], LIMITS["bytes"]


@inlined
def share(total, ith, nth):
    """The part [first, last) of `total` items that thread `ith` of `nth` does."""
    return total * ith // nth, total * (ith + 1) // nth


def _no_split_row(a, b, step, k, init, c, first, last, n, turned):
    pass


_product_float32 = make_product("float32", _F, _F)
_product_float16 = make_product("float16", _F, _H)
_product_bfloat16 = make_product("bfloat16", _F, _H)
_W, _B = POINTERS["i32"], POINTERS["u8"]
_product_int8 = make_product("int8", _W, _B)
_product_int16 = make_product("int16", _W, _B)
_row_int8 = make_split_row(_W, _B) if VNNI else inlined(_no_split_row)
_product_bytes = make_product("int8", _W, _B, passes=1) if VNNI else _product_int8


@inlined
def multiply(kind, a, lda, b, k, init, ldi, c, ldc, m, first, last, n, room, turned=0):
    """c = init + a·b for `m` rows and the panels [first, last).

    kind: how b is stored, by its place in abi.WEIGHTS, or BYTES. a: [m, k], rows `lda` apart. b:
    all panels. init, c: [m, n], rows `ldi` and `ldc` apart, both beginning at column 0; init may be
    null for zeros, and may be c. room: memory of [m, room_words(k)] words for int8 and int16, else
    null.
    turned: whether to begin with the last panels, as is best where the time before ended with them:
    they are still in a cache that does not hold all. The result is the same.
    """
    prepare(kind, a, lda, k, m, room)
    multiply_prepared(kind, a, lda, b, k, init, ldi, c, ldc, m, first, last, n, room, turned)


@inlined
def prepare(kind, a, lda, k, m, room):
    """What of `multiply` is done once for all panels: rows become integers where b is."""
    if kind >= INT8 and k > 0:
        quantize_rows(kind, a, lda, k, m, _split(kind, m), i32(address_of(room)))


@inlined
def _split(kind, m):
    """Whether so many rows are split in bytes: where they are multiplied by bytes."""
    return 1 if VNNI and (kind == BYTES or (kind == INT8 and m == 1)) else 0


@inlined
def multiply_prepared(kind, a, lda, b, k, init, ldi, c, ldc, m, first, last, n, room, turned):
    """`multiply` after `prepare`."""
    if kind == FLOAT32 or k == 0:
        _product_float32(a, lda, b, between(k), k, init, ldi, c, ldc, m, first, last, n, turned)
    elif kind == FLOAT16:
        _product_float16(
            a, lda, u16(address_of(b)), between(k), k, init, ldi, c, ldc, m, first, last, n, turned
        )  # fmt: skip
    elif kind == BFLOAT16:
        _product_bfloat16(
            a, lda, u16(address_of(b)), between(k), k, init, ldi, c, ldc, m, first, last, n, turned
        )  # fmt: skip
    else:
        quads, words = (k + 3) // 4, row_words(k)
        left, right = i32(address_of(room)), u8(address_of(b))
        step = column_bytes(kind, k)
        if kind == BYTES:
            _product_bytes(
                left, words, right, step, quads, init, ldi, c, ldc, m, first, last, n, turned
            )  # fmt: skip
        elif _split(kind, m):
            _row_int8(left, right, step, quads, init, c, first, last, n, turned)
        elif kind == INT8:
            _product_int8(
                left, words, right, step, quads, init, ldi, c, ldc, m, first, last, n, turned
            )  # fmt: skip
        else:
            _product_int16(
                left, words, right, step, quads, init, ldi, c, ldc, m, first, last, n, turned
            )  # fmt: skip


@inlined
def quantize_rows(kind, a, lda, k, m, split, words):
    """`quantize` for m rows, `lda` apart, to be multiplied by weights that are stored so."""
    limit = float(_WORDS_LIMIT)
    if kind == INT16:
        limit = float(_SHORTS_LIMIT)
    elif kind == BYTES:
        limit = float(_BYTES_LIMIT)
    for row in range(m):
        quantize(at(a, row * lda), k, limit, split, at(words, row * row_words(k)))


row_words, between, runs_of = inlined(room_words), inlined(panel_rows), inlined(byte_runs)


@inlined
def _largest(a, k):
    """The largest magnitude of k floats, four vectors at a time."""
    first = second = third = fourth = splat(0.0)
    whole = k // 64 * 64
    for j in range(0, whole, 64):
        first = maximum(first, absolute(load(a, j)))
        second = maximum(second, absolute(load(a, j + 16)))
        third = maximum(third, absolute(load(a, j + 32)))
        fourth = maximum(fourth, absolute(load(a, j + 48)))
    for j in range(whole, k, 16):
        first = maximum(first, absolute(load_some(a, j, min(16, k - j))))
    return lanes_max(maximum(maximum(first, second), maximum(third, fourth)))


@outlined(types.void, _F, _I, types.float64, _I, POINTERS["i32"])
def quantize(a, k, limit, split, words):
    """k floats as int16, the largest of them `limit`, in two words for each quad.

    Its pairs; or, if split is 1, high bytes of all quads and then low bytes, both signed. Then
    their scale, as a float32's bits, and for each BYTES_RUN of them -128 times their sum. If split
    is 2, pairs with RAISED added, and their products, k0 * k1 + k2 * k3, taken off.
    """
    quads = (k + 3) // 4
    top = _largest(a, k)
    factor = splat(limit / top if top > 0.0 else 0.0)
    shorts, high = u16(address_of(words)), u8(address_of(words))
    low, sums = at(high, 4 * quads), at(words, 2 * quads + 1)
    for start in range(0, k, BYTES_RUN):
        total = splat(0.0)
        for j in range(start, min(start + BYTES_RUN, k), 16):
            whole = nearest(load_some(a, j, min(16, k - j)) * factor)
            if split == 1:
                if limit > _BYTES_LIMIT:
                    store_bytes(high, j, (whole + splat_int(128)) >> splat_int(8), 4 * quads - j)
                store_bytes(low, j, whole, 4 * quads - j)
            elif split == 2:
                store_shorts(shorts, j, in_pairs(whole + splat_int(RAISED)), 4 * quads - j)
            else:
                store_shorts(shorts, j, in_pairs(whole), 4 * quads - j)
            total = total + to_float(whole)
        run = int(lanes_sum(total)) * -128
        if split == 2:
            end, products = min(start + BYTES_RUN, 4 * quads) // 2, splat_int(0)
            for j in range(start // 2, end, 16):
                pairs = float_bits(load_some(f32(address_of(words)), j, min(16, end - j)))
                products = dot_pairs(pairs, odd_lanes(pairs), products)
            run -= words_sum(products)
        sums[start // BYTES_RUN] = run
    scale = at(f32(address_of(words)), 2 * quads)
    scale[0] = top / limit


@inlined
def room_of(kind, room, row, k):
    """The room from a row on."""
    return moved(room, row * row_words(k)) if kind >= INT8 else room


@inlined
def column_bytes(kind, k):
    """Bytes of a column of packed weights, its scale included."""
    if kind == FLOAT32:
        return 4 * between(k)
    if kind == INT8 or kind == BYTES:
        return 4 * ((k + 3) // 4) + 4 + 4 * runs_of(k)
    if kind == INT16:
        return 8 * ((k + 3) // 4) + 4
    return 2 * between(k)


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
