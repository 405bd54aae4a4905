"""GPU kernels run in the simulator, against NumPy semantics and float64 oracles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import pytest

from lightrnn.cuda import launch_persistent
from lightrnn.cuda.grid import COUNTERS, LEFT, Gpu, Launch
from lightrnn.graph import Array
from lightrnn.native import abi
from lightrnn.ops.packing import narrow, panels
from tests.cuda_simulator import GPU, GpuEmitter, aligned, new_sync, run_kernel
from tests.kernels import DirectEmitter, run_lowered
from tests.recurrent_cases import TINY, Layer, Sizes, draw
from tests.test_conformance import _constants, assert_agrees, every_case, operator_of
from tests.test_projection import CASES, Projection
from tests.test_recurrent import _check_all, assert_close

Emitters = Callable[[str, int], DirectEmitter]
LONGER = Sizes((1, 3, 5, 9, 17), (3, 4), (1, 2, 3, 9), (2,))
"""Layers that run a whole sequence at once."""


@every_case
def test_operators_agree_with_semantics(key: str) -> None:
    op, case = operator_of(key)
    expected = op.evaluate(*case.inputs)
    for constants in _constants(op, case)[:1]:
        with np.errstate(all="ignore"):
            found = run_lowered(
                op, case.inputs, "cuda", constants=constants, asked=case.outputs,
                emitter=GpuEmitter,
            )  # fmt: skip
        if found is not None:
            for a, b in zip(found, expected, strict=False):
                if a is not None:
                    assert_agrees(a, b, op.rtol)


def run_layer(layer: Layer, emitter: Emitters = GpuEmitter) -> None:
    """Run a layer and compare its outputs with the oracle's."""
    names = layer.operator.inputs.names[: len(layer.values)]
    constants = [k for k, name in enumerate(names) if name not in layer.fed]
    with np.errstate(all="ignore"):
        found = run_lowered(
            layer.operator, layer.values, "cuda", constants=constants, emitter=emitter
        )
    assert (found is None) == ("W" in layer.fed)
    if found is not None:
        results = [a for a in found if a is not None]
        assert_close(layer, dict(zip(layer.expected, results, strict=True)))


def test_recurrent_layers_step_by_step_agree_with_the_oracle() -> None:
    _check_all([draw(seed, TINY) for seed in range(60)], run_layer)


def fits(layer: Layer) -> bool:
    """Whether a layer's kind is done a whole sequence at once."""
    after = layer.op != "GRU" or layer.attrs.get("linear_before_reset") == 1
    return after and "projection" not in layer.inputs and "W" not in layer.fed


def only(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whole sequences be done in tiles of so many rows alone."""
    splits = launch_persistent._splits
    monkeypatch.setattr(
        launch_persistent, "_splits",
        lambda cell, form, *rest: splits(cell, form, *rest) if form == rows else iter(()),
    )  # fmt: skip


def run_whole(layers: Iterable[Layer], gpu: Gpu) -> list[Launch]:
    """Run layers and return their launches; the words at `sync` serve one after another."""
    sync, launched = new_sync(), list[GpuEmitter]()

    def emitter(backend: str, nth: int) -> GpuEmitter:
        launched.append(GpuEmitter(backend, nth, gpu, sync))
        return launched[-1]

    _check_all(list(filter(fits, layers)), partial(run_layer, emitter=emitter))
    assert not sync[LEFT]
    assert not sync[COUNTERS : COUNTERS + 16 * 64 : 16].any()
    return [one for e in launched for one in e.launched if one.cooperative]


@pytest.mark.parametrize("rows", launch_persistent.FORMS)
def test_whole_sequences_agree_with_the_oracle(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    only(rows, monkeypatch)
    whole = run_whole((draw(seed, LONGER) for seed in range(40)), Gpu(5, 96 * 1024, threads=4))
    assert {one.symbol for one in whole} == {f"{cell}_{rows}" for cell in ("lstm", "gru", "rnn")}
    assert sum(one.grid > 1 for one in whole) > len(whole) / 2


def test_directions_one_after_the_other() -> None:
    """On a GPU with a single multiprocessor."""
    layers = (draw(seed, LONGER) for seed in range(100, 130))
    both = [layer for layer in layers if layer.attrs.get("direction") == "bidirectional"]
    whole = run_whole(both, Gpu(1, 96 * 1024, threads=20))
    assert {one.extra[-1] for one in whole} == {0, 1}


@pytest.mark.parametrize("rows", launch_persistent.FORMS)
def test_many_partial_sums(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    only(rows, monkeypatch)
    monkeypatch.setattr(launch_persistent, "_WARP", 1)
    sizes = Sizes((1,), (3,), (2,), (2,))
    layers = (draw(seed, sizes) for seed in range(200, 212))
    chosen = {layer.op: layer for layer in layers if fits(layer)}
    whole = run_whole(chosen.values(), Gpu(2, 96 * 1024, threads=40))
    assert len(chosen) == len(whole) == 3
    assert all(one.block == 40 for one in whole)


TANH = (abi.ACTIVATIONS.index("Tanh"), 0, 0)


def run_rnn(xw: Array, r: Array, h0: Array, kind: int, ends: tuple[int, ...]) -> Array:
    """y of an RNN of one row, its steps up to each of `ends` in a call of its own."""
    total, hidden = len(xw), len(h0)
    y, h = np.full((total, hidden), np.nan, np.float32), np.full(2 * 16, np.nan, np.float32)
    y_h, sync, status = np.full(hidden, np.nan, np.float32), new_sync(), np.zeros(2, np.int64)
    for start, end in zip((0, *ends[:-1]), ends, strict=True):
        run_kernel(
            "rnn", kind, xw[start:end].copy(), aligned(r), None, h0, y, y_h, h, *[None] * 5, sync,
            status, 0, end - start, start, total, 16, 0, 1, hidden, 1, 0, 0.0, hidden, hidden,
            hidden, hidden, hidden, *TANH, gpu=Gpu(5, 96 * 1024, threads=4),
        )  # fmt: skip
    np.testing.assert_array_equal(y[-1], y_h)
    return y


@pytest.mark.parametrize("ends", [(7,), (3, 7), (1, 2, 7), (1, 2, 3, 4, 5, 6, 7)])
@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_states_are_handed_on_between_calls(stored: str, ends: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    xw, r = rng.standard_normal((7, 16)), rng.standard_normal((5, 16)) * 0.4
    h0 = rng.standard_normal(5).astype(np.float32)
    packed = narrow(panels(r.astype(np.float32)), stored)
    wide = packed if stored == "float32" else _widened(packed, stored)
    found = run_rnn(xw.astype(np.float32), packed, h0, abi.WEIGHTS.index(stored), ends)
    h = h0.astype(np.float64)
    for y, x in zip(found, xw.astype(np.float32), strict=True):
        h = np.tanh(x[:5] + h @ wide[0, :, :5].astype(np.float64))
        np.testing.assert_allclose(y, h, rtol=0, atol=1e-6)


def test_a_bad_length_is_reported() -> None:
    status = np.zeros(2, np.int64)
    y = np.zeros((3, 2, 4), np.float32)
    run_kernel(
        "rnn", 0, np.zeros((3, 2, 16), np.float32), aligned(np.zeros((4, 16), np.float32)),
        np.array([3, 4], np.int32), None, y, None, np.zeros((2, 2, 16), np.float32),
        *[None] * 5, new_sync(), status, 17, 3, 0, 3, 32, 0, 2, 4, 1, 0, 0.0, 8, 4, 4, 4, 4, *TANH,
    )  # fmt: skip
    assert status.tolist() == [abi.BAD_INDEX, 17]


PRODUCTS = {
    "one row": (1, 20, 33, GPU, "gemm_rows_1"),
    "few rows": (3, 37, 19, GPU, "gemm_rows_4"),
    "some rows": (21, 37, 19, GPU, "gemm_rows_16"),
    "no depth": (3, 17, 0, GPU, "gemm_rows_4"),
    "tiles of 128": (100, 250, 10, Gpu(1, 96 * 1024), "gemm_tile_128"),
    "tiles of 64": (70, 67, 17, Gpu(6, 96 * 1024), "gemm_tile_64"),
}


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("key", PRODUCTS)
def test_products(key: str, stored: str) -> None:
    m, n, k, gpu, symbol = PRODUCTS[key]
    if m >= 64 and stored == "float16":
        pytest.skip("as bfloat16")
    rng = np.random.default_rng(5)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((2, m, k), (k, n)))
    packed = narrow(panels(b), stored)
    wide = packed if stored == "float32" else _widened(packed, stored)
    b = np.moveaxis(wide[:, :k], 0, 1).reshape(k, wide.shape[0] * 16)[:, :n]
    init, c = rng.standard_normal(n).astype(np.float32), np.full((2, m, n), np.nan, np.float32)
    kind = abi.WEIGHTS.index(stored)
    (one,) = run_kernel(
        "gemm", a, aligned(packed), init, c, 2, m, n, k, k, 0, n, m * k, 0, 0, m * n, kind, None,
        gpu=gpu,
    )  # fmt: skip
    expected = a.astype(np.float64) @ b + init
    np.testing.assert_allclose(c, expected, rtol=0, atol=1e-6 * (1 + np.abs(expected).max()))
    assert one.symbol == symbol


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("case", ["one row", "rows in tiles", "both directions", "no rows"])
def test_projections_of_inputs(case: str, layout: int) -> None:
    one = Projection(case, layout=layout)
    args, xw = one.args()
    made = run_kernel("project", *args)
    np.testing.assert_allclose(xw, one.expected, rtol=0, atol=1e-5)
    assert len(made) == CASES[case][-1] * (xw.size > 0)


def _widened(packed: Array, stored: str) -> Array:
    if stored == "float16":
        return packed.astype(np.float32)
    return (packed.astype(np.uint32) << np.uint32(16)).view(np.float32)
