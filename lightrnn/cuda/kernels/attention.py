"""Attention, a block of queries at a time, over blocks of keys with a running softmax.

No matrix of all scores exists: a block keeps, for each of its queries, the largest score so far,
the sum of exponentials and the weighted sum of values, and rescales them when a larger score comes.
"""

from __future__ import annotations

from lightrnn.cuda.kernels.simt import (
    at,
    barrier,
    block,
    exp,
    inlined,
    maximum,
    moved,
    null,
    quotient,
    shared,
    single,
    tanh,
    thread,
    threads,
)

_INFINITY = float("inf")


@inlined
def _low(i, n, lengths, steps, offset, left):
    """The first key that query i of batch n may attend to."""
    place = i + offset
    if not null(lengths):
        place = i + lengths[n] - steps
    return max(0, place - left) if left >= 0 else 0


@inlined
def _high(i, n, lengths, steps, total, offset, causal, right):
    """The last key that query i of batch n may attend to, plus one."""
    high, place = total, i + offset
    if not null(lengths):
        high = min(total, lengths[n])
        place = i + lengths[n] - steps
    if causal != 0:
        high = min(high, place + 1)
    return min(high, place + right + 1) if right >= 0 else high


@inlined
def _stage(source, step, count, size, target):
    """Copy `count` rows of `size` floats to shared memory, rows size + 1 apart."""
    e = thread()
    while e < count * size:
        row = quotient(e, size)
        i = e - row * size
        target[row * (size + 1) + i] = source[row * step + i]
        e += threads()


@inlined
def _score(dot, mask, place, scale, softcap, replace):
    s = dot * scale
    if softcap > single(0.0):
        s = softcap * tanh(s / softcap)
    if not null(mask):
        bias = mask[place]
        if replace == 0:
            s += bias
        elif bias != single(0.0):
            s = bias
    return s


@inlined
def _scores(q, k, scores, mask, mask_row, lows, highs, first, rows, keys, width, size, scale,
            softcap, replace):  # fmt: skip
    """Scores of four queries and one key a thread, rows of scores `width` apart."""
    item = thread()
    while item < ((rows + 3) >> 2) * keys:
        group = quotient(item, keys)
        j = item - group * keys
        i0 = group * 4
        i1, i2, i3 = min(i0 + 1, rows - 1), min(i0 + 2, rows - 1), min(i0 + 3, rows - 1)
        p0, p1, p2, p3 = i0 * (size + 1), i1 * (size + 1), i2 * (size + 1), i3 * (size + 1)
        a, b, c, d = single(0.0), single(0.0), single(0.0), single(0.0)
        for e in range(size):
            x = k[j * (size + 1) + e]
            a += q[p0 + e] * x
            b += q[p1 + e] * x
            c += q[p2 + e] * x
            d += q[p3 + e] * x
        place = single(first + j)
        for part in range(4):
            i = i0 + part
            if i < rows:
                dot = a if part == 0 else b if part == 1 else c if part == 2 else d
                s = single(-_INFINITY)
                if lows[i] <= place < highs[i]:
                    s = _score(dot, mask, i * mask_row + first + j, scale, softcap, replace)
                scores[i * width + j] = s
        item += threads()


@inlined
def _steady(top):
    """What may be subtracted from scores: the largest, or 0 where there is none."""
    return single(0.0) if top == single(-_INFINITY) else top


@inlined
def _find_tops(scores, tops, keeps, rows, keys, width):
    """The largest score so far, one query a thread, and what becomes of older sums for it."""
    i = thread()
    while i < rows:
        p, old = at(scores, i * width), tops[i]
        top = old
        for j in range(keys):
            top = maximum(top, p[j])
        tops[i] = top
        keeps[i] = exp(old - _steady(top))
        i += threads()


@inlined
def _make_weights(scores, tops, rows, keys, width):
    """Scores to weights, in place."""
    item = thread()
    while item < rows * keys:
        i = quotient(item, keys)
        place = i * width + item - i * keys
        scores[place] = exp(scores[place] - _steady(tops[i]))
        item += threads()


@inlined
def _add_totals(weights, totals, keeps, rows, keys, width):
    """Bring the sums of weights up, one query a thread."""
    i = thread()
    while i < rows:
        total = totals[i] * keeps[i]
        for j in range(keys):
            total += weights[i * width + j]
        totals[i] = total
        i += threads()


@inlined
def _add_values(weights, width, v, out, keeps, rows, keys, v_size):
    """out = out * keep + weights · v, four queries and one column a thread."""
    item = thread()
    while item < ((rows + 3) >> 2) * v_size:
        group = quotient(item, v_size)
        e = item - group * v_size
        i0 = group * 4
        i1, i2, i3 = min(i0 + 1, rows - 1), min(i0 + 2, rows - 1), min(i0 + 3, rows - 1)
        p0, p1, p2, p3 = i0 * width, i1 * width, i2 * width, i3 * width
        a, b, c, d = single(0.0), single(0.0), single(0.0), single(0.0)
        for j in range(keys):
            x = v[j * (v_size + 1) + e]
            a += weights[p0 + j] * x
            b += weights[p1 + j] * x
            c += weights[p2 + j] * x
            d += weights[p3 + j] * x
        for part in range(4):
            i = i0 + part
            if i < rows:
                sum_ = a if part == 0 else b if part == 1 else c if part == 2 else d
                out[i * v_size + e] = out[i * v_size + e] * keeps[i] + sum_
        item += threads()


def attention(
    q, k, v, mask, lengths, y, scratch, parts, room, batch, heads, group, steps, size, v_size,
    keys_end, offset, causal, left, right, scale, softcap, replace, least, q_batch, q_head, q_row,
    k_batch, k_head, k_row, v_batch, v_head, v_row, y_batch, y_head, y_row, mask_batch, mask_head,
    mask_row, queries, keys,
):  # fmt: skip
    """y = softmax(q · k' * scale + mask) · v for every batch and head.

    The arguments are those of the CPU's kernel of this name; a block stages `queries` queries and
    `keys` keys.
    """
    strips = quotient(steps + queries - 1, queries)
    n = quotient(block(), heads * strips)
    head = quotient(block(), strips) - n * heads
    start = (block() - quotient(block(), strips) * strips) * queries
    rows = min(queries, steps - start)
    memory = shared()
    lows, highs, tops = memory, at(memory, queries), at(memory, 2 * queries)
    totals, keeps, scores = at(tops, queries), at(tops, 2 * queries), at(tops, 3 * queries)
    left_q = at(scores, queries * (keys + 1))
    right_k = at(left_q, queries * (size + 1))
    values = at(right_k, keys * (size + 1))
    out = at(values, keys * (v_size + 1))
    own_mask = moved(mask, n * mask_batch + head * mask_head + start * mask_row)
    _stage(at(q, n * q_batch + head * q_head + start * q_row), q_row, rows, size, left_q)
    first, end = keys_end, 0
    for i in range(rows):
        low = _low(start + i, n, lengths, steps, offset, left)
        high = _high(start + i, n, lengths, steps, keys_end, offset, causal, right)
        first, end = min(first, low), max(end, high)
        if thread() == 0:
            lows[i] = single(low)
            highs[i] = single(high)
    i = thread()
    while i < rows:
        tops[i] = single(-_INFINITY)
        totals[i] = single(0.0)
        i += threads()
    i = thread()
    while i < rows * v_size:
        out[i] = single(0.0)
        i += threads()
    k_start, v_start = quotient(head, group) * k_head, quotient(head, group) * v_head
    j = first
    while j < end:
        count = min(keys, end - j)
        barrier()
        _stage(at(k, n * k_batch + k_start + j * k_row), k_row, count, size, right_k)
        _stage(at(v, n * v_batch + v_start + j * v_row), v_row, count, v_size, values)
        barrier()
        _scores(
            left_q, right_k, scores, own_mask, mask_row, lows, highs, j, rows, count, keys + 1,
            size,            single(scale), single(softcap), replace,
        )  # fmt: skip
        barrier()
        _find_tops(scores, tops, keeps, rows, count, keys + 1)
        barrier()
        _make_weights(scores, tops, rows, count, keys + 1)
        barrier()
        _add_totals(scores, totals, keeps, rows, count, keys + 1)
        _add_values(scores, keys + 1, values, out, keeps, rows, count, v_size)
        j += keys
    barrier()
    target = at(y, n * y_batch + head * y_head + start * y_row)
    i = thread()
    while i < rows * v_size:
        row = quotient(i, v_size)
        total = totals[row]
        if total == single(0.0):
            total = single(least)
        mean = out[i] / total
        if least == _INFINITY and total != total:
            mean = single(0.0)
        target[row * y_row + i - row * v_size] = mean
        i += threads()
