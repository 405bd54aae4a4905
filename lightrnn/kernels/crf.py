"""Viterbi decoding of a linear-chain conditional random field.

With W = L tags padded to whole vectors: transitions [L, W]; back [N, T, W], the best tag before
each, as float32; alphas [N, 2, W].
"""

from __future__ import annotations

from lightrnn.kernels.gemm import share
from lightrnn.kernels.intrinsic import inlined
from lightrnn.kernels.simd import at, broadcast, load, null, select, splat, store
from lightrnn.kernels.tiling import load_some, moved
from lightrnn.native.abi import BAD_INDEX


@inlined
def _begin(x, start, alpha, labels):
    for j in range(0, labels, 16):
        count = min(16, labels - j)
        v = load_some(x, j, count)
        if not null(start):
            v = load_some(start, j, count) + v
        store(alpha, j, v)


@inlined
def _step(x, transitions, old, new, back, labels, width):
    """new[j] = max over i of old[i] + transitions[i, j], plus x[j]; back[j] is that i."""
    for j in range(0, labels, 16):
        best = broadcast(old, 0) + load(transitions, j)
        place = splat(0)
        for i in range(1, labels):
            v = broadcast(old, i) + load(transitions, i * width + j)
            better = best < v
            best = select(better, v, best)
            place = select(better, splat(i), place)
        store(back, j, place)
        store(new, j, best + load_some(x, j, min(16, labels - j)))


@inlined
def _finish(alpha, end, labels):
    """The best last tag; its score is left in alpha."""
    tag = 0
    for j in range(labels):
        if not null(end):
            alpha[j] = alpha[j] + end[j]
        if alpha[j] > alpha[tag]:
            tag = j
    return tag


@inlined
def _row(x, transitions, start, end, tags, score, back, alphas, length, labels, width):
    _begin(x, start, alphas, labels)
    for t in range(1, length):
        old, new = at(alphas, ((t - 1) & 1) * width), at(alphas, (t & 1) * width)
        _step(at(x, t * labels), transitions, old, new, at(back, t * width), labels, width)
    last = at(alphas, ((length - 1) & 1) * width)
    tag = _finish(last, end, labels)
    if not null(score):
        score[0] = last[tag]
    if not null(tags):
        for t in range(length - 1, -1, -1):
            tags[t] = tag
            if t > 0:
                tag = int(back[t * width + tag])


def viterbi(
    x, transitions, start, end, lengths, tags, score, back, alphas, status, node, batch,
    steps, labels, ith, nth,
):  # fmt: skip
    """The best tags of x [N, T, L]; a length outside 0 to T is reported and taken as 0."""
    width = (labels + 15) // 16 * 16
    first, end_row = share(batch, ith, nth)
    for n in range(first, end_row):
        length = steps
        if not null(lengths):
            length = lengths[n]
            if length < 0 or length > steps:
                status[0] = BAD_INDEX
                status[1] = node
                length = 0
        if not null(tags):
            for t in range(length, steps):
                tags[n * steps + t] = 0
        if length == 0:
            if not null(score):
                score[n] = 0.0
            continue
        _row(
            at(x, n * steps * labels), transitions, start, end, moved(tags, n * steps),
            moved(score, n), at(back, n * steps * width), at(alphas, n * 2 * width), length, labels,
            width,
        )  # fmt: skip
