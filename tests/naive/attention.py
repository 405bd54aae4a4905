"""Attention in float64, one score at a time, from the text of ONNX Attention 25."""

from __future__ import annotations

import math

import numpy as np

from lightrnn.graph import Array


def attend(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    *,
    scale: float | None = None,
    softcap: float = 0.0,
    causal: bool = False,
    left: int = -1,
    right: int = -1,
    past: int = 0,
    lengths: Array | None = None,
) -> Array:
    """Y [N, heads, L, E] of 4-d Q, K and V; `past` is how many of the keys came before query 0.

    mask: [N, heads, L, keys], truth values or numbers to add.
    """
    n, heads, steps, size = q.shape
    group = heads // k.shape[1]
    y = np.zeros((n, heads, steps, v.shape[3]))
    for b, h, i in np.ndindex(n, heads, steps):
        offset = past if lengths is None else int(lengths[b]) - steps
        scores: dict[int, float] = {}
        for j in range(k.shape[2]):
            place = i + offset
            if lengths is not None and j >= lengths[b]:
                continue
            if causal and j > place:
                continue
            if (left >= 0 and j < place - left) or (right >= 0 and j > place + right):
                continue
            dot = float(q[b, h, i].astype(np.float64) @ k[b, h // group, j].astype(np.float64))
            score = dot * (scale if scale is not None else 1 / math.sqrt(size))
            if softcap:
                score = softcap * math.tanh(score / softcap)
            if mask is not None and mask.dtype == np.bool_:
                if not mask[b, h, i, j]:
                    continue
            elif mask is not None:
                score += float(mask[b, h, i, j])
            if score > -math.inf:
                scores[j] = score
        top = max(scores.values(), default=0.0)
        weights = {j: math.exp(s - top) for j, s in scores.items()}
        total = sum(weights.values())
        for j, w in weights.items():
            y[b, h, i] += w / total * v[b, h // group, j].astype(np.float64)
    return y
