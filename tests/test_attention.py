"""The attention kernel against a float64 oracle, at sizes that span its blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightrnn.graph import Array, Node
from lightrnn.ops import build
from tests.kernels import run_lowered
from tests.naive.attention import attend

pytestmark = pytest.mark.native

SIZES = (
    # batch, heads, kv heads, queries, keys, head size, head size of V
    (1, 2, 2, 1, 1, 1, 1),
    (2, 4, 2, 1, 130, 24, 70),
    (1, 2, 1, 7, 65, 64, 64),
    (2, 2, 2, 8, 64, 16, 3),
    (1, 3, 1, 33, 129, 20, 17),
    (1, 2, 2, 70, 66, 5, 65),
    (1, 2, 1, 40, 70, 64, 64),
    (1, 1, 1, 17, 9, 128, 33),
)
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"is_causal": 1, "scale": 0.9},
    {"left_window_size": 40, "softcap": 1.5},
    {"is_causal": 1, "left_window_size": 3},
    {"left_window_size": 0, "right_window_size": 70},
)
MASKS = ("none", "bool", "float", "shared rows")


def make_mask(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array | None:
    if kind == "bool":
        return np.asarray(rng.random(shape) < 0.6)
    if kind == "float":
        return np.where(rng.random(shape) < 0.3, -np.inf, rng.standard_normal(shape)).astype("f4")
    return rng.standard_normal((1, shape[1], 1, shape[3])).astype("f4") if kind != "none" else None


@pytest.mark.parametrize("mask_kind", MASKS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_attention_agrees_with_float64(
    sizes: tuple[int, ...], options: dict[str, Any], mask_kind: str
) -> None:
    rng = np.random.default_rng(len(str(options)) + sum(sizes))
    n, heads, kv_heads, steps, keys, size, v_size = sizes
    spread = np.float32(2 * min(1.0, 24 / size) ** 0.5)  # large scores are coarse
    q = spread * rng.standard_normal((n, heads, steps, size)).astype(np.float32)
    k = spread * rng.standard_normal((n, kv_heads, keys, size)).astype(np.float32)
    v = rng.standard_normal((n, kv_heads, keys, v_size)).astype(np.float32)
    mask = make_mask(mask_kind, (n, heads, steps, keys), rng)
    names = ("q", "k", "v") if mask is None else ("q", "k", "v", "mask")
    op = build(Node("Attention", names, ("y",), options))
    inputs = [q, k, v] if mask is None else [q, k, v, mask]
    found = run_lowered(op, inputs, "native", nth=2, asked=("Y",))
    assert found is not None
    assert found[0] is not None
    wide = None if mask is None else np.broadcast_to(mask, (n, heads, steps, keys))
    wanted = attend(
        q, k, v, wide, scale=options.get("scale"), softcap=options.get("softcap", 0.0),
        causal=bool(options.get("is_causal")), left=options.get("left_window_size", -1),
        right=options.get("right_window_size", -1),
    )  # fmt: skip
    np.testing.assert_allclose(found[0], wanted, rtol=0, atol=3e-6 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("steps", [1, 9, 40])
@pytest.mark.parametrize("options", [{}, {"is_causal": 1}, {"left_window_size": 5}], ids=str)
def test_lengths_hide_what_lies_beyond_them(steps: int, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(steps)
    q = rng.standard_normal((3, 2, steps, 12)).astype(np.float32)
    k, v = (rng.standard_normal((3, 2, 90, 12)).astype(np.float32) for _ in range(2))
    lengths = np.array([90, 41, 3], np.int64)
    op = build(Node("Attention", ("q", "k", "v", "", "", "", "lengths"), ("y",), options))
    wanted = attend(
        q, k, v, causal=bool(options.get("is_causal")), left=options.get("left_window_size", -1),
        lengths=lengths,
    )  # fmt: skip
    found = run_lowered(op, [q, k, v, None, None, None, lengths], "native", asked=("Y",))
    assert found is not None
    assert found[0] is not None
    np.testing.assert_allclose(found[0], wanted, atol=3e-6)
