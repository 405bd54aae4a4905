"""Matrix products with a packed right-hand side.

B is stored as panels of 16 columns, each panel [k, 16] row after row, columns past the last zero,
and `panel_rows` rows from one to the next: `ops.packing` packs constants, `kernels.packing` what is
only known at run time.
"""

from __future__ import annotations

from numba import types

from lightrnn.kernels.bfloats import as_bfloats
from lightrnn.kernels.blocking import make_product, make_split_row
from lightrnn.kernels.integers import (
    BEYOND,
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
from lightrnn.kernels.matrix_products import make_matrix_product, no_product
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
    MATRIX_BYTES,
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
_product_pairs = make_product("pairs", _W, _B) if BEYOND else inlined(no_product)
_matrix_pairs = make_matrix_product("pairs")
_matrix_int8 = make_matrix_product("int8")
_matrix_bytes = make_matrix_product("bytes")


@inlined
def multiply(kind, a, lda, b, k, init, ldi, c, ldc, m, first, last, n, room, turned=0):
    """c = init + a·b for `m` rows and the panels [first, last).

    kind: how b is stored, by its place in abi.WEIGHTS, or BYTES, PAIRS or of the matrix unit. a:
    [m, k], rows `lda` apart. b: all panels. init, c: [m, n], rows `ldi` and `ldc` apart, both
    beginning at column 0; init may be null for zeros, and may be c. room: memory of [m,
    `row_words`] words where a is converted, else null.
    turned: whether to begin with the last panels, as is best where the time before ended with them:
    they are still in a cache that does not hold all. The result is the same.
    """
    prepare(kind, a, lda, k, m, room)
    multiply_prepared(kind, a, lda, b, k, init, ldi, c, ldc, m, first, last, n, room, turned)


@inlined
def prepare(kind, a, lda, k, m, room):
    """What of `multiply` is done once for all panels: rows become integers or bfloat16 as b is."""
    if k > 0 and _is_paired(kind):
        words = i32(address_of(room))
        for row in range(m):
            _round_row(at(a, row * lda), k, at(words, row * row_words(kind, k)))
    elif k > 0 and kind >= INT8:
        quantize_rows(kind, a, lda, k, m, _split(kind, m), i32(address_of(room)))


@inlined
def _is_paired(kind):
    """Whether b is bfloat16, two rows in a line."""
    return kind == PAIRS or kind == MATRIX_PAIRS


@inlined
def _is_matrix(kind):
    """Whether b is int8 for the matrix unit."""
    return kind == MATRIX_INT8 or kind == MATRIX_BYTES


@inlined
def with_all_bits(kind):
    """The kind of the same weights whose rows keep all the bits that integers have."""
    if kind == BYTES:
        return INT8
    return MATRIX_INT8 if kind == MATRIX_BYTES else kind


@inlined
def _split(kind, m):
    """Whether so many rows are split in bytes: where they are multiplied by bytes."""
    split = VNNI and (kind == BYTES or (kind == INT8 and m == 1))
    return 1 if split or _is_matrix(kind) else 0


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
        quads, words = quads_of(kind, k), row_words(kind, k)
        left, right = i32(address_of(room)), u8(address_of(b))
        step = column_bytes(kind, k)
        if kind == PAIRS:
            _product_pairs(
                left, words, right, step, (k + 1) // 2, init, ldi, c, ldc, m, first, last, n, turned
            )  # fmt: skip
        elif kind == MATRIX_PAIRS:
            _matrix_pairs(
                left, words, right, step, lines_of(k), init, ldi, c, ldc, m, first, last, n, turned
            )  # fmt: skip
        elif kind == MATRIX_INT8:
            _matrix_int8(
                left, words, right, step, quads, init, ldi, c, ldc, m, first, last, n, turned
            )  # fmt: skip
        elif kind == MATRIX_BYTES:
            _matrix_bytes(
                left, words, right, step, quads, init, ldi, c, ldc, m, first, last, n, turned
            )  # fmt: skip
        elif kind == BYTES:
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
    elif kind == BYTES or kind == MATRIX_BYTES:
        limit = float(_BYTES_LIMIT)
    quads = quads_of(kind, k)
    for row in range(m):
        quantize(at(a, row * lda), k, quads, limit, split, at(words, row * row_words(kind, k)))


between, runs_of, lines_of = inlined(panel_rows), inlined(byte_runs), inlined(pair_lines)
_integer_words, _matrix_words, _pair_words = (
    inlined(f) for f in (room_words, tile_words, pair_words)
)
_whole_tiles = inlined(tile_rows)


@inlined
def row_words(kind, k):
    """Words of the room that a row takes."""
    if _is_paired(kind):
        return _pair_words(k)
    return _matrix_words(k) if _is_matrix(kind) else _integer_words(k)


@inlined
def quads_of(kind, k):
    """Quads of a row, those that fill it up included."""
    return (_whole_tiles(k) if _is_matrix(kind) else k + 3) // 4


def round_row(a, k, words):
    """k floats as bfloat16, and zeros to the end of their lines."""
    shorts, end = u16(address_of(words)), 2 * lines_of(k)
    for j in range(0, k, 16):
        store_shorts(shorts, j, as_bfloats(load_some(a, j, min(16, k - j))), end - j)
    for j in range((k + 15) // 16 * 16, end, 16):
        store_shorts(shorts, j, splat_int(0), end - j)


def _no_row(a, k, words):
    pass


_round_row = outlined(types.void, _F, _I, _W)(round_row) if BEYOND else inlined(_no_row)


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


@outlined(types.void, _F, _I, _I, types.float64, _I, POINTERS["i32"])
def quantize(a, k, quads, limit, split, words):
    """k floats as int16, the largest of them `limit`, in two words for each of so many quads.

    Its pairs; or, if split is 1, high bytes of all quads and then low bytes, both signed. Then
    their scale, as a float32's bits, and for each BYTES_RUN of them -128 times their sum. If split
    is 2, pairs with RAISED added, and their products, k0 * k1 + k2 * k3, taken off.
    """
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
    for j in range((k + 15) // 16 * 16, 4 * quads, 16):
        store_bytes(high, j, splat_int(0), 16)
        store_bytes(low, j, splat_int(0), 16)
    scale = at(f32(address_of(words)), 2 * quads)
    scale[0] = top / limit


@inlined
def room_of(kind, room, row, k):
    """The room from a row on."""
    return moved(room, row * row_words(kind, k)) if kind >= INT8 else room


@inlined
def column_bytes(kind, k):
    """Bytes of a column of packed weights, its scale included."""
    if kind == FLOAT32:
        return 4 * between(k)
    if _is_paired(kind):
        return 4 * between(lines_of(k))
    if kind == INT8 or kind == BYTES or _is_matrix(kind):
        return 4 * quads_of(kind, k) + 4 + 4 * runs_of(k)
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
