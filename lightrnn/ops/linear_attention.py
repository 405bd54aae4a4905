"""Attention with a recurrent state, and the causal convolution that goes before it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lightrnn.errors import GraphError, UnsupportedError
from lightrnn.graph import Array, Attr, Dim, Shape, TensorType
from lightrnn.ops.arguments import given, inferred, maybe, merged, same_dtype
from lightrnn.ops.registry import Case, Operator, Types, operator
from lightrnn.ops.reshaping import floats

RULES = ("linear", "gated", "delta", "gated_delta")
ACTIVATIONS = ("none", "silu", "swish")


def _split(t: TensorType | None, heads: int, what: str) -> tuple[Dim, Dim, Dim]:
    """Batch, steps and head size of [N, T, heads * size]. Raises GraphError."""
    if t is None or t.shape is None:
        return None, None, None
    if len(t.shape) != 3:
        raise GraphError(f"{what} is {t}, expected rank 3")
    hidden = t.shape[2]
    if isinstance(hidden, int) and hidden % heads:
        raise GraphError(f"{what} is {t}, which does not split into {heads} heads")
    return t.shape[0], t.shape[1], hidden // heads if isinstance(hidden, int) else None


def _check_gate(t: TensorType | None, sizes: tuple[Dim, ...], what: str) -> None:
    """Raise GraphError unless the last of three axes has one of some sizes."""
    if t is None or t.shape is None:
        return
    last = t.shape[-1] if len(t.shape) == 3 else -1
    if isinstance(last, int) and last not in sizes and (last < 0 or None not in sizes):
        raise GraphError(f"{what} is {t}, expected rank 3 and a last size of {sizes}")


@operator(
    "LinearAttention",
    inputs="query key value past_state? decay? beta?",
    outputs="output present_state?",
)
class LinearAttention(Operator):
    """A matrix of state for each head, updated and read at each step (ONNX LinearAttention 27).

    S = exp(decay) * S + key ⊗ v, where v is `value`, or for the delta rules what S · key lacks of
    it, times `beta`; output = scale * query · S. Heads of the query share those of the key.
    """

    kv_num_heads: int
    q_num_heads: int
    chunk_size: int = 64
    scale: float = 0.0
    update_rule: str = "gated_delta"

    kinds = "f"
    rtol = 4e-6

    def __post_init__(self) -> None:
        if self.update_rule not in RULES:
            raise UnsupportedError(f"update_rule {self.update_rule!r} is not one of {RULES}")
        if self.kv_num_heads < 1 or self.q_num_heads < 1 or self.q_num_heads % self.kv_num_heads:
            raise GraphError(f"{self.q_num_heads} query heads, {self.kv_num_heads} of keys")

    def _check(self, inputs: Types) -> None:
        same_dtype((*inputs[:3], maybe(inputs, 4), maybe(inputs, 5)), "inputs")
        for k, name, needed in ((4, "decay", "gated"), (5, "beta", "delta")):
            if (maybe(inputs, k) is not None) != (needed in self.update_rule):
                raise GraphError(f"{name} and update_rule {self.update_rule!r} do not go together")
        _, _, size = _split(given(inputs, 1), self.kv_num_heads, "key")
        wide = size * self.kv_num_heads if isinstance(size, int) else None
        _check_gate(maybe(inputs, 4), (self.kv_num_heads, wide), "decay")
        _check_gate(maybe(inputs, 5), (self.kv_num_heads, 1), "beta")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        self._check(inputs)
        q, k, v, past = given(inputs), given(inputs, 1), given(inputs, 2), maybe(inputs, 3)
        n, steps, size = _split(q, self.q_num_heads, "query")
        for t, what in ((k, "key"), (v, "value")):
            other = _split(t, self.kv_num_heads, what)
            n, steps = merged(n, other[0], "batch sizes"), merged(steps, other[1], "steps")
        size = merged(size, _split(k, self.kv_num_heads, "key")[2], "head sizes")
        wide = _split(v, self.kv_num_heads, "value")[2]
        state: Shape = (n, self.kv_num_heads, size, wide)
        if past is not None and past.shape is not None:
            if len(past.shape) != 4:
                raise GraphError(f"past_state is {past}, expected rank 4")
            pairs = zip(state, past.shape, strict=True)
            state = tuple(merged(a, b, "sizes of past_state") for a, b in pairs)
        hidden = wide * self.q_num_heads if isinstance(wide, int) else None
        kind = q.dtype if past is None else past.dtype
        return TensorType(q.dtype, (n, steps, hidden)), TensorType(kind, state)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        result, kind = inferred(self, inputs)
        q, k, v = (
            self._steps(given(inputs, i), heads)
            for i, heads in enumerate((self.q_num_heads, self.kv_num_heads, self.kv_num_heads))
        )
        past, decay, beta = maybe(inputs, 3), maybe(inputs, 4), maybe(inputs, 5)
        state = np.zeros(kind.sizes, np.float32) if past is None else past.astype(np.float32)
        scale = np.float32(self.scale or q.shape[3] ** -0.5)
        decays = None if decay is None else np.exp(self._steps(decay, self.kv_num_heads))[..., None]
        betas = None if beta is None else np.moveaxis(beta.astype(np.float32), 1, 0)[..., None]
        out = np.empty((q.shape[0], *q.shape[1:3], v.shape[3]), np.float32)
        group = self.q_num_heads // self.kv_num_heads
        for t in range(len(q)):
            state = state if decays is None else state * decays[t]
            new = v[t]
            if betas is not None:
                new = betas[t] * (new - np.einsum("nhkv,nhk->nhv", state, k[t]))
            state = state + k[t][..., None] * new[..., None, :]
            read = np.repeat(state, group, 1)
            out[t] = scale * np.einsum("nhk,nhkv->nhv", q[t], read)
        y = np.moveaxis(out, 0, 1).reshape(result.sizes)
        return y.astype(result.dtype), state.astype(kind.dtype)

    def _steps(self, x: Array, heads: int) -> Array:
        """[N, T, heads * size] as float32 [T, N, heads, size]."""
        split = x.astype(np.float32).reshape(*x.shape[:2], heads, x.shape[2] // heads)
        return np.moveaxis(split, 1, 0)

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        n, steps = 2, 5
        for q_heads, heads in ((3, 3), (4, 2)):
            q, k = floats(rng, n, steps, q_heads * 4), floats(rng, n, steps, heads * 4)
            v, past = floats(rng, n, steps, heads * 3), floats(rng, n, heads, 4, 3)
            decay = -rng.random((n, steps, heads * 4)).astype(np.float32)
            beta = rng.random((n, steps, heads)).astype(np.float32)
            for rule in RULES:
                attrs: dict[str, Attr] = {
                    "q_num_heads": q_heads, "kv_num_heads": heads, "update_rule": rule,
                }  # fmt: skip
                gate = decay if "gated" in rule else None
                rate = beta if "delta" in rule else None
                yield Case(f"{rule}, {q_heads} on {heads}", (q, k, v, past, gate, rate), attrs)
        attrs = {"q_num_heads": 4, "kv_num_heads": 2, "scale": 0.3}
        yield Case("one decay a head", (q, k, v, None, decay[:, :, :2], beta[:, :, :1]), attrs)


@operator(
    "CausalConvWithState",
    inputs="input weight bias? past_state?",
    outputs="output present_state?",
)
class CausalConvWithState(Operator):
    """Each channel's correlation with its kernel over this step and those before (ONNX 27).

    input: [N, C, L]. weight: [C, 1, K]. past_state: the K - 1 steps before, zeros by default.
    """

    activation: str = "none"

    kinds = "f"
    rtol = 2e-6

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise UnsupportedError(f"activation {self.activation!r} is not one of {ACTIVATIONS}")

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        same_dtype(inputs, "inputs")
        x, w, bias, past = given(inputs), given(inputs, 1), maybe(inputs, 2), maybe(inputs, 3)
        shape: Shape = (None, None, None) if x.shape is None else x.shape
        kernel: Dim = None
        for t, what in ((x, "input"), (w, "weight"), (past, "past_state")):
            if t is not None and t.rank not in (None, 3):
                raise GraphError(f"{what} is {t}, expected rank 3")
        if w.shape is not None:
            merged(w.shape[0], shape[1], "channels of input and weight")
            merged(w.shape[1], 1, "the weight's second size and")
            kernel = w.shape[2]
        if bias is not None and bias.shape is not None:
            if len(bias.shape) != 1:
                raise GraphError(f"bias is {bias}, expected rank 1")
            merged(bias.shape[0], shape[1], "channels of input and bias")
        state: Shape = (*shape[:2], kernel - 1 if isinstance(kernel, int) else None)
        if past is not None and past.shape is not None:
            pairs = zip(state, past.shape, strict=True)
            state = tuple(merged(a, b, "sizes of past_state") for a, b in pairs)
        return TensorType(x.dtype, x.shape), TensorType(x.dtype, state)

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        _, kind = inferred(self, inputs)
        x, w, bias, past = given(inputs), given(inputs, 1), maybe(inputs, 2), maybe(inputs, 3)
        before = np.zeros(kind.sizes, x.dtype) if past is None else past
        wide = np.concatenate([before, x], 2)
        seen = np.lib.stride_tricks.sliding_window_view(wide, w.shape[2], 2)
        y = np.einsum("nclk,ck->ncl", seen.astype(np.float32), w[:, 0].astype(np.float32))
        y = (y if bias is None else y + bias[:, None]).astype(x.dtype)
        if self.activation != "none":
            single = y.astype(np.float32)
            y = (single / (1 + np.exp(-single))).astype(x.dtype)
        return y, wide[:, :, x.shape[2] :]

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        x, w, bias, past = (
            floats(rng, 2, 3, 7),
            floats(rng, 3, 1, 4),
            floats(rng, 3),
            floats(rng, 2, 3, 3),
        )
        yield Case("all", (x, w, bias, past))
        yield Case("no state", (x, w))
        yield Case("silu", (x, w, bias, past), {"activation": "silu"})
        yield Case("one step", (x[:, :, :1], w, bias, past))
        yield Case("kernel of one", (x, w[:, :, :1], bias))
        yield Case("float16", tuple(a.astype(np.float16) for a in (x, w, bias, past)))
