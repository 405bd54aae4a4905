"""Scaled dot-product attention with heads, masks, windows and a cache of keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lightrnn.errors import GraphError, UnsupportedError
from lightrnn.graph import BOOL, INT64, Array, Attr, Dim, TensorType
from lightrnn.ops.arguments import (
    data_type,
    given,
    inferred,
    maybe,
    merged,
    same_dtype,
    types_of,
)
from lightrnn.ops.attention_lowering import Scores, emit_attention
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats, longs

Heads = tuple[Dim, Dim, Dim, Dim]
"""Batch, heads, steps, head size."""
_UNKNOWN: Heads = (None, None, None, None)


def _plus(a: Dim, b: Dim) -> Dim:
    return a + b if isinstance(a, int) and isinstance(b, int) else a if b == 0 else None


@operator(
    "Attention",
    inputs="Q K V attn_mask? past_key? past_value? nonpad_kv_seqlen?",
    outputs="Y present_key? present_value? qk_matmul_output?",
)
class Attention(Operator):
    """softmax(Q · K' * scale + mask) · V for each head (ONNX Attention 25).

    Q: [N, q_heads, L, E], or [N, L, q_heads * E] with the numbers of heads as attributes; K and V
    alike, with as many heads or fewer by a whole factor. attn_mask: truth values, or floats that
    are added; missing keys at its end are masked. nonpad_kv_seqlen: int64 [N], keys of a cache
    that count. A query that no key is allowed to gives zeros.
    """

    is_causal: int = 0
    kv_num_heads: int | None = None
    left_window_size: int = -1
    q_num_heads: int | None = None
    qk_matmul_output_mode: int = 0
    right_window_size: int = -1
    scale: float | None = None
    softcap: float = 0.0
    softmax_precision: int | None = None

    kinds = "f"
    rtol = 4e-6

    def __post_init__(self) -> None:
        if min(self.left_window_size, self.right_window_size) < -1:
            raise GraphError("a window size is below -1")
        if not 0 <= self.qk_matmul_output_mode <= 3:
            raise UnsupportedError(f"qk_matmul_output_mode {self.qk_matmul_output_mode}")
        for name in ("scale", "softcap"):
            if (getattr(self, name) or 0.0) < 0:
                raise GraphError(f"{name} is negative")
        if self.softmax_precision is not None:
            data_type(self.softmax_precision)

    def _heads(self, t: TensorType, heads: int | None, what: str) -> Heads:
        """A tensor's batch, heads, steps and head size. Raises GraphError."""
        if t.shape is None:
            return _UNKNOWN
        if len(t.shape) == 4:
            n, h, steps, size = t.shape
            return n, merged(h, heads, f"heads of {what},"), steps, size
        if len(t.shape) != 3 or not heads or heads < 1:
            raise GraphError(f"{what} is {t} with {heads} heads, expected rank 4, or 3 with heads")
        n, steps, hidden = t.shape
        if isinstance(hidden, int) and hidden % heads:
            raise GraphError(f"{what} is {t}, which does not split into {heads} heads")
        return n, heads, steps, hidden // heads if isinstance(hidden, int) else None

    def _sizes(self, inputs: Types) -> tuple[Heads, Heads, Dim]:
        """(batch, heads, steps, head size) of Q, (batch, heads, steps of the past, head size) of V,
        and the number of keys with those of the past. Raises GraphError.
        """
        q, k, v = given(inputs), given(inputs, 1), given(inputs, 2)
        if len({t.rank for t in (q, k, v)} - {None}) > 1:
            raise GraphError(f"Q is {q}, K is {k}, V is {v}: expected one rank")
        queries = self._heads(q, self.q_num_heads, "Q")
        keys = self._heads(k, self.kv_num_heads, "K")
        values = self._heads(v, self.kv_num_heads, "V")
        past = [maybe(inputs, 4), maybe(inputs, 5)]
        if (past[0] is None) != (past[1] is None):
            raise GraphError("past_key and past_value must be given together")
        old = [
            (keys[0], keys[1], 0, size[3]) if t is None else self._heads(t, None, "the past")
            for t, size in zip(past, (keys, values), strict=True)
        ]
        batch, heads = queries[0], keys[1]
        for other in (keys, values, *old):
            batch = merged(batch, other[0], "batch sizes")
            heads = merged(heads, other[1], "heads of K and V,")
        size = merged(merged(queries[3], keys[3], "head sizes"), old[0][3], "head sizes")
        steps = merged(keys[2], values[2], "steps of K and V,")
        before = merged(old[0][2], old[1][2], "steps of the past,")
        v_size = merged(values[3], old[1][3], "head sizes of V,")
        if isinstance(queries[1], int) and isinstance(heads, int) and queries[1] % max(heads, 1):
            raise GraphError(f"{queries[1]} heads of Q are no multiple of {heads} of K")
        total = _plus(steps, before)
        return (batch, queries[1], queries[2], size), (batch, heads, before, v_size), total

    def _check(self, inputs: Types) -> None:
        q, mask, lengths = given(inputs), maybe(inputs, 3), maybe(inputs, 6)
        same_dtype((q, given(inputs, 1), maybe(inputs, 4)), "Q, K and past_key")
        same_dtype((given(inputs, 2), maybe(inputs, 5)), "V and past_value")
        if given(inputs, 2).dtype.kind != "f":
            raise GraphError(f"V is {given(inputs, 2).dtype.name}, expected a float type")
        if mask is not None and mask.dtype not in (BOOL, q.dtype):
            raise UnsupportedError(f"attn_mask is {mask.dtype.name}, expected bool or {q.dtype}")
        if lengths is not None and lengths.dtype != INT64:
            raise GraphError(f"nonpad_kv_seqlen is {lengths.dtype.name}, expected int64")
        if lengths is not None and maybe(inputs, 4) is not None:
            raise GraphError("nonpad_kv_seqlen does not go with past_key")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        self._check(inputs)
        q, v, mask, lengths = given(inputs), given(inputs, 2), maybe(inputs, 3), maybe(inputs, 6)
        (n, heads, steps, size), (_, kv_heads, _, v_size), total = self._sizes(inputs)
        if mask is not None and mask.shape is not None:
            if len(mask.shape) > 4:
                raise GraphError(f"attn_mask is {mask}, expected rank 4 at most")
            for have, want in zip(mask.shape[-2::-1], (steps, heads, n), strict=False):
                if have != 1:
                    merged(have, want, "sizes of attn_mask and the scores,")
            last = mask.shape[-1] if mask.shape else 1
            if isinstance(last, int) and isinstance(total, int) and last > total:
                raise GraphError(f"attn_mask is {mask}, there are {total} keys")
        if lengths is not None and lengths.shape is not None:
            if len(lengths.shape) != 1:
                raise GraphError(f"nonpad_kv_seqlen is {lengths}, expected [{n}]")
            merged(lengths.shape[0], n, "lengths and batch")
        y: tuple[Dim, ...] | None = (n, heads, steps, v_size)
        if q.rank == 3:
            known = isinstance(heads, int) and isinstance(v_size, int)
            y = (n, steps, heads * v_size if known else None)  # type: ignore[operator]
        elif q.shape is None:
            y = None
        return (
            TensorType(q.dtype, y),
            TensorType(q.dtype, (n, kv_heads, total, size)),
            TensorType(v.dtype, (n, kv_heads, total, v_size)),
            TensorType(q.dtype, (n, heads, steps, total)),
        )

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        wanted = inferred(self, inputs)
        q = _split(given(inputs), self.q_num_heads)
        k, v = (_split(given(inputs, i), self.kv_num_heads) for i in (1, 2))
        if (past := maybe(inputs, 4)) is not None:
            k, v = np.concatenate([past, k], 2), np.concatenate([given(inputs, 5), v], 2)
        allowed, bias = self._mask(inputs, q.shape[2], k.shape[2])
        scale = max(q.shape[3], 1) ** -0.5 if self.scale is None else self.scale
        root = q.dtype.type(np.sqrt(scale))
        groups = q.shape[1] // max(k.shape[1], 1)
        with np.errstate(all="ignore"):
            keys, values = (np.repeat(t, groups, 1) for t in (k, v))
            scores = np.matmul(q * root, np.swapaxes(keys, 2, 3) * root).astype(q.dtype)
            capped = scores
            if self.softcap > 0:
                cap = q.dtype.type(self.softcap)
                capped = cap * np.tanh(scores / cap)
            masked = np.where(allowed, capped if bias is None else capped + bias, -np.inf)
            masked = masked.astype(q.dtype)
            weights = self._softmax(masked).astype(q.dtype)
            y = np.matmul(weights, values).astype(q.dtype)
        if given(inputs).ndim == 3:
            y = np.swapaxes(y, 1, 2).reshape(wanted[0].sizes)
        return y, k, v, (scores, capped, masked, weights)[self.qk_matmul_output_mode]

    def _mask(
        self, inputs: Sequence[Array | None], steps: int, total: int
    ) -> tuple[Array, Array | None]:
        """Truth values, and floats to add or None; both broadcast to [N, heads, steps, total]."""
        mask, past, lengths = maybe(inputs, 3), maybe(inputs, 4), maybe(inputs, 6)
        offset: Any = 0 if past is None else past.shape[2]
        key = np.arange(total)
        allowed = np.ones((1, 1, steps, total), np.bool_)
        if lengths is not None:
            count = lengths.reshape(-1, 1, 1, 1)
            offset, allowed = count - steps, allowed & (key < count)
        place = np.arange(steps)[:, None] + offset
        if self.is_causal:
            allowed = allowed & (key <= place)
        if self.left_window_size >= 0:
            allowed = allowed & (key >= place - self.left_window_size)
        if self.right_window_size >= 0:
            allowed = allowed & (key <= place + self.right_window_size)
        if mask is None:
            return allowed, None
        missing = total - mask.shape[-1] if mask.ndim else 0
        mask = np.pad(
            mask, [*[(0, 0)] * (mask.ndim - 1), (0, missing)][: mask.ndim],
            constant_values=False if mask.dtype == BOOL else -np.inf,
        )  # fmt: skip
        if mask.dtype == BOOL:
            return allowed & mask, None
        return allowed & (mask != -np.inf), mask

    def _softmax(self, scores: Array) -> Array:
        """Along the last axis, in softmax_precision; zeros where every score is -inf."""
        if self.softmax_precision is not None:
            scores = scores.astype(data_type(self.softmax_precision))
        top = np.max(scores, -1, keepdims=True, initial=-np.inf)
        weights = np.exp(scores - np.where(top == -np.inf, scores.dtype.type(0), top))
        total = np.sum(weights, -1, keepdims=True)
        return np.asarray(weights / np.where(total == 0, scores.dtype.type(1), total))

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        (_, heads, _, size), (_, kv_heads, *_), _ = self._sizes(types_of(inputs))
        if maybe(outputs, 3) is not None or self.softmax_precision not in (None, 1):
            return False
        assert isinstance(heads, int)
        assert isinstance(kv_heads, int)
        assert isinstance(size, int)
        scores = Scores(
            max(size, 1) ** -0.5 if self.scale is None else self.scale, self.softcap,
            bool(self.is_causal), self.left_window_size, self.right_window_size,
        )  # fmt: skip
        return emit_attention(emit, inputs, outputs, heads, kv_heads, scores)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from _plain_cases(rng)
        yield from _masked_cases(rng)
        yield from _cached_cases(rng)


def _split(x: Array, heads: int | None) -> Array:
    """[N, L, heads * E] as [N, heads, L, E]; rank 4 as it is."""
    if x.ndim == 4:
        return x
    assert heads is not None
    return np.swapaxes(x.reshape(*x.shape[:2], heads, x.shape[2] // heads), 1, 2)


def _four(rng: np.random.Generator, q: int, k: int, size: int = 8, v: int = 8) -> list[Array]:
    """Q, K, V of batch 2 and 3 heads."""
    return [floats(rng, 2, 3, q, size), floats(rng, 2, 3, k, size), floats(rng, 2, 3, k, v)]


_Y = ("Y",)


def _plain_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("4-d", tuple(_four(rng, 4, 6)), {}, _Y)
    yield Case("one query", tuple(_four(rng, 1, 37, 20, 5)), {}, _Y)
    yield Case("wide", tuple(_four(rng, 19, 70, 17, 33)), {"scale": 0.3}, _Y)
    three = floats(rng, 2, 4, 24), floats(rng, 2, 6, 24), floats(rng, 2, 6, 30)
    heads: dict[str, Attr] = {"q_num_heads": 3, "kv_num_heads": 3}
    yield Case("3-d", three, heads, _Y)
    yield Case("3-d, causal, softcap", three, {**heads, "is_causal": 1, "softcap": 0.7}, _Y)
    grouped = floats(rng, 2, 6, 18, 8), floats(rng, 2, 3, 5, 8), floats(rng, 2, 3, 5, 4)
    yield Case("grouped", grouped, {}, _Y)
    one = floats(rng, 2, 4, 24), floats(rng, 2, 6, 8), floats(rng, 2, 6, 5)
    yield Case("one key head, 3-d", one, {"q_num_heads": 3, "kv_num_heads": 1}, _Y)
    large = tuple(np.rint(9 * a) for a in _four(rng, 4, 6))
    yield Case("large scores", large, {"scale": 1.0}, _Y)
    yield Case("no batch", tuple(a[:0] for a in _four(rng, 4, 6)), {}, _Y)
    for mode in range(4):
        attrs: dict[str, Attr] = {"qk_matmul_output_mode": mode, "is_causal": 1}
        mask = floats(rng, 4, 6)
        outputs = ("Y", "", "", "qk_matmul_output")
        yield Case(f"scores, mode {mode}", (*_four(rng, 4, 6), mask), attrs, outputs)
    halves = tuple(a.astype(np.float16) for a in _four(rng, 4, 6))
    yield Case("float16", halves, {"softmax_precision": 1}, _Y)
    yield Case("float64", tuple(a.astype(np.float64) for a in _four(rng, 4, 6)), {}, _Y)


def _masked_cases(rng: np.random.Generator) -> Iterator[Case]:
    for q, k in ((4, 6), (20, 40)):
        qkv = _four(rng, q, k)
        for shape in ((q, k), (3, q, k), (2, 1, q, k), (2, 3, 1, k), (k,)):
            truth = rng.random(shape) < 0.7
            yield Case(f"bool {shape} of {q}x{k}", (*qkv, truth), {}, _Y)
        yield Case(f"float of {q}x{k}", (*qkv, floats(rng, 2, 3, q, k)), {}, _Y)
        yield Case(f"causal {q}x{k}", tuple(qkv), {"is_causal": 1}, _Y)
        both = {"is_causal": 1, "softcap": 2.0}
        yield Case(f"causal and bool {q}x{k}", (*qkv, rng.random((q, k)) < 0.6), both, _Y)
        window = {"left_window_size": 3, "right_window_size": 1}
        yield Case(f"window {q}x{k}", tuple(qkv), window, _Y)
    qkv = _four(rng, 4, 6)
    nothing = np.array([[1, 0, 1, 0, 1, 1], [0] * 6, [1] * 6, [0] * 6], np.bool_)
    yield Case("rows without keys", (*qkv, nothing), {}, _Y)
    minus = np.where(nothing, np.float32(0.5), np.float32(-np.inf))
    yield Case("float rows without keys", (*qkv, minus), {}, _Y)
    yield Case("short mask", (*qkv, rng.random((4, 4)) < 0.8), {}, _Y)
    yield Case("mask of one key", (*qkv, np.ones((4, 1), np.bool_)), {}, _Y)


def _cached_cases(rng: np.random.Generator) -> Iterator[Case]:
    past = [floats(rng, 2, 3, 5, 8), floats(rng, 2, 3, 5, 8)]
    present = ("Y", "present_key", "present_value")
    for name, attrs in (("", {}), (", causal", {"is_causal": 1})):
        yield Case(f"past{name}", (*_four(rng, 2, 2), None, *past), attrs, present)
    three = [floats(rng, 2, 2, 24) for _ in range(3)]
    heads: dict[str, Attr] = {"q_num_heads": 3, "kv_num_heads": 3}
    yield Case("past, 3-d", (*three, None, *past), heads, present)
    lengths = longs(6, 2)
    for name, attrs in (
        ("", {}),
        (", causal", {"is_causal": 1}),
        (", window", {"left_window_size": 2}),
    ):
        qkv = _four(rng, 3, 6)
        yield Case(f"lengths{name}", (*qkv, None, None, None, lengths), attrs, _Y)
    yield Case("one query of a cache", (*_four(rng, 1, 20), None, None, None, longs(20, 7)), {}, _Y)
