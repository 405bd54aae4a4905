"""Viterbi decoding of a linear-chain conditional random field, a block for each row of the batch.

With W = L tags padded to 16: transitions [L, W]; back [N, T, W], the best tag before each, as
float32; alphas [N, 2, W].
"""

from __future__ import annotations

from lightrnn.cuda.kernels.cells import padded
from lightrnn.cuda.kernels.gather import report
from lightrnn.cuda.kernels.simt import (
    at,
    barrier,
    block,
    blocks,
    inlined,
    moved,
    null,
    single,
    thread,
    threads,
    whole,
)


@inlined
def _step(x, transitions, old, new, back, labels, width):
    """new[j] = max over i of old[i] + transitions[i, j], plus x[j]; back[j] is that i."""
    j = thread()
    while j < labels:
        best, place = old[0] + transitions[j], 0
        for i in range(1, labels):
            v = old[i] + transitions[i * width + j]
            if best < v:
                best, place = v, i
        back[j] = single(place)
        new[j] = best + x[j]
        j += threads()


@inlined
def _finish(alpha, end, tags, score, back, length, labels, width):
    """The best tags, by one thread."""
    tag, best = 0, alpha[0]
    for j in range(labels):
        v = alpha[j]
        if not null(end):
            v += end[j]
        if j == 0 or v > best:
            tag, best = j, v
    if not null(score):
        score[0] = best
    if not null(tags):
        t = length - 1
        while t >= 0:
            tags[t] = tag
            if t > 0:
                tag = whole(back[t * width + tag])
            t -= 1


@inlined
def _row(x, transitions, start, end, tags, score, back, alphas, length, labels, width):
    j = thread()
    while j < labels:
        v = x[j]
        if not null(start):
            v += start[j]
        alphas[j] = v
        j += threads()
    barrier()
    for t in range(1, length):
        old, new = at(alphas, ((t - 1) & 1) * width), at(alphas, (t & 1) * width)
        _step(at(x, t * labels), transitions, old, new, at(back, t * width), labels, width)
        barrier()
    if thread() == 0:
        alpha = at(alphas, ((length - 1) & 1) * width)
        _finish(alpha, end, tags, score, back, length, labels, width)


def viterbi(
    x, transitions, start, end, lengths, tags, score, back, alphas, status, node, batch,
    steps, labels,
):  # fmt: skip
    """The best tags of x [N, T, L]; a length outside 0 to T is reported and taken as 0."""
    width = padded(labels)
    n = block()
    while n < batch:
        length = steps
        if not null(lengths):
            length = int(lengths[n])
            if length < 0 or length > steps:
                report(status, node)
                length = 0
        if not null(tags):
            t = length + thread()
            while t < steps:
                tags[n * steps + t] = 0
                t += threads()
        if length == 0:
            if not null(score) and thread() == 0:
                score[n] = single(0.0)
        else:
            _row(
                at(x, n * steps * labels), transitions, start, end, moved(tags, n * steps),
                moved(score, n), at(back, n * steps * width), at(alphas, n * 2 * width), length,
                labels, width,
            )  # fmt: skip
        n += blocks()
