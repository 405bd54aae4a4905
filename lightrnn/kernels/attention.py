"""Attention, one block of queries at a time, over blocks of keys with a running softmax.

No matrix of all scores exists: a block of queries keeps, for each of them, the largest score so
far, the sum of exponentials and the weighted sum of values, and rescales them when a larger score
comes. Few queries go one by one, 16 elements of a key in the lanes; many go together, each in a
lane of its own. One query is always one thread's, over the same blocks of keys.
"""

from __future__ import annotations

from lightrnn.kernels.copy import transpose_plane
from lightrnn.kernels.gemm import FLOAT32, between, multiply, share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.matvec import four_rows, one_row
from lightrnn.kernels.simd import (
    at,
    broadcast,
    f32,
    first_lanes,
    fma,
    is_nan,
    lanes_max,
    lanes_sum,
    load,
    maximum,
    null,
    select,
    splat,
    store,
)
from lightrnn.kernels.tiling import TARGET, TILES, load_some, make_tile, store_some
from lightrnn.kernels.vmath import exp, tanh
from lightrnn.native.abi import FEW_QUERIES, KEYS, MOST_QUERIES

ROWS, PANELS = TILES[TARGET][0]
ROWS_B = TILES[TARGET][1][0]
_tile, _narrow = make_tile(ROWS, PANELS, turned=True), make_tile(ROWS, 1, turned=True)
_few, _few_narrow = make_tile(ROWS_B, PANELS, turned=True), make_tile(ROWS_B, 1, turned=True)
_one, _one_narrow = make_tile(1, PANELS, turned=True), make_tile(1, 1, turned=True)
QUERIES = 16 * PANELS
"""Queries of a block, each in a lane of its own."""
assert QUERIES <= MOST_QUERIES
_INFINITY = float("inf")


@inlined
def _bounds(i, n, lengths, steps, total, offset, causal, left, right):
    """The keys [low, high) that query i of batch n may attend to."""
    low, high, place = 0, total, i + offset
    if not null(lengths):
        high = min(total, lengths[n])
        place = i + lengths[n] - steps
    if causal != 0:
        high = min(high, place + 1)
    if right >= 0:
        high = min(high, place + right + 1)
    if left >= 0:
        low = max(low, place - left)
    return low, high


@inlined
def _capped(s, scale, softcap):
    s = s * splat(scale)
    if softcap > 0.0:
        s = splat(softcap) * tanh(s / splat(softcap))
    return s


@inlined
def _masked(s, bias, replace):
    """Scores with a mask added, or in its place where it is not 0."""
    if replace != 0:
        return select(bias == splat(0.0), s, bias)
    return s + bias


@inlined
def _steady(top):
    """What may be subtracted from scores: the largest, or 0 where there is none."""
    return select(top == splat(-_INFINITY), splat(0.0), top)


@inlined
def _dots(q, k, k_row, size, scores, n):
    """scores[j] = q · k[j] for n keys, four at a time."""
    j = 0
    while j + 4 <= n:
        s0, s1, s2, s3 = four_rows(at(k, j * k_row), k_row, q, size)
        scores[j] = s0
        scores[j + 1] = s1
        scores[j + 2] = s2
        scores[j + 3] = s3
        j += 4
    while j < n:
        scores[j] = one_row(at(k, j * k_row), q, size)
        j += 1


@inlined
def _row_scores(scores, mask, n, scale, softcap, replace):
    """Scale, cap and mask n scores; the largest of them, in every lane."""
    top = splat(-_INFINITY)
    for j in range(0, n, 16):
        count = min(16, n - j)
        s = _capped(load_some(scores, j, count), scale, softcap)
        if not null(mask):
            s = _masked(s, load_some(mask, j, count), replace)
        store_some(scores, j, s, count)
        top = maximum(top, select(first_lanes(count), s, splat(-_INFINITY)))
    return splat(lanes_max(top))


@inlined
def _row_weights(scores, n, top):
    """exp(score - top) in place; their sum, in every lane."""
    total = splat(0.0)
    for j in range(0, n, 16):
        count = min(16, n - j)
        e = exp(load_some(scores, j, count) - top)
        store_some(scores, j, e, count)
        total = total + select(first_lanes(count), e, splat(0.0))
    return splat(lanes_sum(total))


@inlined
def _add_values(weights, v, v_row, y, v_size, n, keep):
    """y = y * keep + the sum of n rows of v by their weights."""
    c = 0
    while c + 64 <= v_size:
        y0, y1 = keep * load(y, c), keep * load(y, c + 16)
        y2, y3 = keep * load(y, c + 32), keep * load(y, c + 48)
        for j in range(n):
            w, p = broadcast(weights, j), at(v, j * v_row + c)
            y0 = fma(w, load(p, 0), y0)
            y1 = fma(w, load(p, 16), y1)
            y2 = fma(w, load(p, 32), y2)
            y3 = fma(w, load(p, 48), y3)
        store(y, c, y0)
        store(y, c + 16, y1)
        store(y, c + 32, y2)
        store(y, c + 48, y3)
        c += 64
    while c < v_size:
        count = min(16, v_size - c)
        y0 = keep * load_some(y, c, count)
        for j in range(n):
            y0 = fma(broadcast(weights, j), load_some(v, j * v_row + c, count), y0)
        store_some(y, c, y0, count)
        c += 16


@inlined
def _mean(v, total, least):
    """v by the sum of its weights, `least` where that is 0."""
    mean = v / select(total == splat(0.0), splat(least), total)
    if least == _INFINITY:
        mean = select(is_nan(total), splat(0.0), mean)
    return mean


@inlined
def _attend_one(q, k, k_row, v, v_row, mask, y, scores, low, high, size, v_size, scale, softcap,
                replace, least):  # fmt: skip
    """One query over the keys [low, high); y is its row of the output."""
    for c in range(0, v_size, 16):
        store_some(y, c, splat(0.0), min(16, v_size - c))
    top, total = splat(-_INFINITY), splat(0.0)
    for j in range(low, high, KEYS):
        n = min(KEYS, high - j)
        _dots(q, at(k, j * k_row), k_row, size, scores, n)
        row = mask
        if not null(mask):
            row = at(mask, j)
        new = maximum(top, _row_scores(scores, row, n, scale, softcap, replace))
        keep = exp(top - _steady(new))
        top = new
        total = total * keep + _row_weights(scores, n, _steady(top))
        _add_values(scores, at(v, j * v_row), v_row, y, v_size, n, keep)
    for c in range(0, v_size, 16):
        count = min(16, v_size - c)
        store_some(y, c, _mean(load_some(y, c, count), total, least), count)


@inlined
def _lane_weights(scores, step, bias, lows, highs, tops, totals, keeps, weights, first, n, scale,
                  softcap, replace):  # fmt: skip
    """The weights of keys [first, first + n) for 16 queries, and the running values brought up.

    scores: [n, 16], rows `step` apart. bias: [n, 16] or null. lows, highs: the first key of each
    query, and its last plus one. weights: [n, 16].
    """
    old, low, high = load(tops, 0), load(lows, 0), load(highs, 0)
    top = old
    for j in range(n):
        s = _capped(load(scores, j * step), scale, softcap)
        if not null(bias):
            s = _masked(s, load(bias, j * 16), replace)
        place = splat(first + j)
        s = select((low <= place) & (place < high), s, splat(-_INFINITY))
        store(scores, j * step, s)
        top = maximum(top, s)
    steady = _steady(top)
    keep = exp(old - steady)
    total = load(totals, 0) * keep
    for j in range(n):
        e = exp(load(scores, j * step) - steady)
        store(weights, j * 16, e)
        total = total + e
    store(tops, 0, top)
    store(totals, 0, total)
    store(keeps, 0, keep)


@inlined
def _add_value_tiles(v, v_row, weights, out, v_size, n, panels):
    """out [v_size, QUERIES] += v' · weights, whose panels are [n, 16]."""
    d = 0
    while d < v_size:
        p, o = at(v, d), at(out, d * QUERIES)
        if v_size - d >= ROWS:
            if panels == PANELS:
                _tile(p, v_row, weights, n, n, o, QUERIES, o, QUERIES, 16)
            else:
                _narrow(p, v_row, weights, n, n, o, QUERIES, o, QUERIES, 16)
            d += ROWS
        elif v_size - d >= ROWS_B:
            if panels == PANELS:
                _few(p, v_row, weights, n, n, o, QUERIES, o, QUERIES, 16)
            else:
                _few_narrow(p, v_row, weights, n, n, o, QUERIES, o, QUERIES, 16)
            d += ROWS_B
        else:
            if panels == PANELS:
                _one(p, v_row, weights, n, n, o, QUERIES, o, QUERIES, 16)
            else:
                _one_narrow(p, v_row, weights, n, n, o, QUERIES, o, QUERIES, 16)
            d += 1


@inlined
def _attend_many(q, q_row, k, k_row, v, v_row, mask, mask_row, y, y_row, memory, rows, first, end,
                 size, v_size, scale, softcap, replace, least):  # fmt: skip
    """`rows` queries over the keys [first, end), at most one panel's lanes each.

    memory: lows, highs, tops, totals and keeps [QUERIES]; q' in panels as `gemm` has them; scores
    [KEYS, QUERIES]; weights and bias in panels [KEYS, 16]; the output turned, [v_size, QUERIES].
    Lows and highs are set.
    """
    panels, apart = (rows + 15) // 16, between(size)
    lows, highs, tops = memory, at(memory, QUERIES), at(memory, 2 * QUERIES)
    totals, keeps, turned = at(tops, QUERIES), at(tops, 2 * QUERIES), at(tops, 3 * QUERIES)
    scores = at(turned, apart * QUERIES)
    weights, bias = at(scores, KEYS * QUERIES), at(scores, 2 * KEYS * QUERIES)
    out = at(bias, KEYS * QUERIES)
    for i in range(0, (apart + v_size) * QUERIES, 16):
        place = i if i < apart * QUERIES else i + 3 * KEYS * QUERIES
        store(turned, place, splat(0.0))
    for p in range(panels):
        store(tops, 16 * p, splat(-_INFINITY))
        store(totals, 16 * p, splat(0.0))
        lanes = min(16, rows - 16 * p)
        transpose_plane(q, 16 * p * q_row, turned, p * apart * 16, size, lanes, q_row, 16)
    for j in range(first, end, KEYS):
        n = min(KEYS, end - j)
        multiply(
            FLOAT32, at(k, j * k_row), k_row, turned, size, f32(0), 0, scores, QUERIES, n, 0,
            panels, 16 * panels, f32(0),
        )  # fmt: skip
        for p in range(panels):
            extra = mask
            if not null(mask):
                extra, lanes = at(bias, p * n * 16), min(16, rows - 16 * p)
                transpose_plane(mask, 16 * p * mask_row + j, extra, 0, n, lanes, mask_row, 16)
            _lane_weights(
                at(scores, 16 * p), QUERIES, extra, at(lows, 16 * p), at(highs, 16 * p),
                at(tops, 16 * p), at(totals, 16 * p), at(keeps, 16 * p), at(weights, p * n * 16),
                j, n, scale, softcap, replace,
            )  # fmt: skip
            keep = load(keeps, 16 * p)
            for d in range(v_size):
                store(out, d * QUERIES + 16 * p, keep * load(out, d * QUERIES + 16 * p))
        _add_value_tiles(at(v, j * v_row), v_row, weights, out, v_size, n, panels)
    for p in range(panels):
        total = load(totals, 16 * p)
        for d in range(v_size):
            v = load(out, d * QUERIES + 16 * p)
            store(out, d * QUERIES + 16 * p, _mean(v, total, least))
    transpose_plane(out, 0, y, 0, rows, v_size, QUERIES, y_row)


def attention(
    q, k, v, mask, lengths, y, scratch, parts, room, batch, heads, group, steps, size, v_size,
    keys_end, offset, causal, left, right, scale, softcap, replace, least, q_batch, q_head, q_row,
    k_batch, k_head, k_row, v_batch, v_head, v_row, y_batch, y_head, y_row, mask_batch, mask_head,
    mask_row, ith, nth,
):  # fmt: skip
    """y = softmax(q · k' * scale + mask) · v for every batch and head.

    q, k, v, y: rows contiguous; `*_batch`, `*_head`, `*_row` are steps in elements. group: heads of
    q for each of k. mask: added to the scores, or if `replace` put in their place where it is not
    0; null for none. keys_end: keys from there on are masked. lengths: int64 [batch] or null.
    offset: the place of query 0 where there are no lengths. left, right: window sizes, -1 for none.
    least: what the sum of a query without keys counts as: 1 gives zeros, 0 NaN, infinity zeros also
    where that sum is NaN. scratch: `parts` pieces of `room` floats.
    """
    block = 1 if steps < FEW_QUERIES else QUERIES
    blocks = (steps + block - 1) // block
    begin, finish = share(parts, ith, nth)
    for part in range(begin, finish):
        memory = at(scratch, part * room)
        item, last = share(batch * heads * blocks, part, parts)
        while item < last:
            n = item // (heads * blocks)
            h = item // blocks - n * heads
            i = item % blocks * block
            rows = min(block, steps - i)
            queries = at(q, n * q_batch + h * q_head + i * q_row)
            keys = at(k, n * k_batch + h // group * k_head)
            values = at(v, n * v_batch + h // group * v_head)
            out = at(y, n * y_batch + h * y_head + i * y_row)
            row = mask
            if not null(mask):
                row = at(mask, n * mask_batch + h * mask_head + i * mask_row)
            first, end = keys_end, 0
            for lane in range(rows):
                low, high = _bounds(
                    i + lane, n, lengths, steps, keys_end, offset, causal, left, right
                )
                first, end = min(first, low), max(end, high)
                if block > 1:
                    memory[lane] = low
                    memory[QUERIES + lane] = high
            if block == 1:
                _attend_one(
                    queries, keys, k_row, values, v_row, row, out, memory, first, end, size,
                    v_size, scale, softcap, replace, least,
                )  # fmt: skip
            else:
                for lane in range(rows, QUERIES):
                    memory[lane] = 0
                    memory[QUERIES + lane] = 0
                _attend_many(
                    queries, q_row, keys, k_row, values, v_row, row, mask_row, out, y_row, memory,
                    rows, first, end, size, v_size, scale, softcap, replace, least,
                )  # fmt: skip
            item += 1
