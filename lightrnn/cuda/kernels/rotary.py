"""Rotary position embedding: pairs of elements turned by angles that depend on their step."""

from __future__ import annotations

from lightrnn.cuda.kernels.gather import report
from lightrnn.cuda.kernels.simt import all_threads, at, first_item, inlined, null, quotient


@inlined
def _turn(x, y, first, second, c, s):
    a, b = x[first], x[second]
    y[first] = c * a - s * b
    y[second] = s * a + c * b


def rotate(
    x, cos, sin, positions, y, status, node, rows, steps, heads, size, half, limit, interleaved,
    batch_step, row_step, head_step,
):  # fmt: skip
    """y = x with the first 2 * half elements of each head of each step turned.

    x, y: `rows` steps of all samples, `steps` of each; `*_step` elements apart. cos, sin: [limit,
    half] where positions (int64 [rows]) choose their rows, else [rows, half].
    """
    each = size - half
    item = first_item()
    while item < rows * heads * each:
        head = quotient(item, each)
        i = item - head * each
        row = quotient(head, heads)
        place = row
        if not null(positions):
            place = positions[row]
            if place < 0 or place >= limit:
                report(status, node)
                place = 0
        n = quotient(row, steps)
        start = n * batch_step + (row - n * steps) * row_step + (head - row * heads) * head_step
        p, q = at(x, start), at(y, start)
        if i >= half:
            q[half + i] = p[half + i]
        else:
            c, s = cos[place * half + i], sin[place * half + i]
            if interleaved != 0:
                _turn(p, q, 2 * i, 2 * i + 1, c, s)
            else:
                _turn(p, q, i, half + i, c, s)
        item += all_threads()
