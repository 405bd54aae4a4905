"""Products that only some CPUs do: pairs of bfloat16, and the matrix unit of AMX.

Interpreted everywhere, by what `kernels.bfloats` and `kernels.matrix_unit` say that instructions
do; compiled where the CPU has them.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lightrnn.graph import Array
from lightrnn.kernels import gemm
from lightrnn.kernels.bfloats import as_bfloats, dot_bfloats
from lightrnn.native import abi, library
from lightrnn.ops.packing import panel_bytes, room_bytes, weight_kind, weight_panels
from tests.kernels import BACKENDS, DirectEmitter, guarded, run_kernel, run_lowered
from tests.recurrent_cases import SPECIFIED, Sizes, draw

SHAPES = [(1, 3, 5), (16, 64, 16), (17, 100, 33), (33, 65, 32), (70, 129, 50), (31, 1100, 17)]
"""Rows, sums of how many, columns."""
NEEDED = {
    abi.PAIRS: "v4bf16", abi.MATRIX_PAIRS: "v4amx", abi.MATRIX_INT8: "v4amx",
    abi.MATRIX_BYTES: "v4amx",
}  # fmt: skip
PLAIN = {abi.MATRIX_INT8: gemm.INT8, abi.MATRIX_BYTES: abi.BYTES}


def needs(kind: int, backend: str) -> None:
    """Skip where the CPU cannot run a kind of product, unless it is interpreted."""
    if backend == "interpreted":
        return
    kernels = library.load()
    usable = () if kernels is None else abi.LEVELS[: abi.LEVELS.index(kernels.level) + 1]
    if NEEDED.get(kind, "v4vnni") not in usable:
        pytest.skip(f"this CPU is not {NEEDED[kind]}")


def multiply(kind: int, a: Array, b: Array, init: Array | None, backend: str) -> Array:
    """init + a·b, in memory that ends at unreadable pages."""
    (m, k), n = a.shape, b.shape[1]
    stored = {abi.PAIRS: "pairs", abi.MATRIX_PAIRS: "pairs"}.get(kind, "tiles")
    if kind in PLAIN.values():
        stored = "int8"
    packed = guarded(weight_panels(b, stored), 64)
    assert packed.nbytes == panel_bytes(-(-n // 16) * 16, k, stored)
    room = guarded(np.full(room_bytes(m, k, stored), 0xFF, np.uint8), 64)
    c = guarded(np.full((m, n), np.nan, np.float32))
    before = None if init is None else guarded(init)
    sizes = (1, m, n, k, k, n, n, 0, 0, 0, 0, kind)
    run_kernel("gemm", guarded(a), packed, before, c, *sizes, room, backend=backend)
    return c


def factors(m: int, k: int, n: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(m + k)
    shapes = (m, k), (k, n), (m, n)
    a, b, init = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return a, b, init


def rounded(x: Array) -> Array:
    found: Array = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    return found


@pytest.mark.native
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [abi.PAIRS, abi.MATRIX_PAIRS])
@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_are_multiplied_as_bfloat16(
    kind: int, shape: tuple[int, int, int], backend: str
) -> None:
    needs(kind, backend)
    a, b, init = factors(*shape)
    b = rounded(b)
    for before in (None, init):
        found = multiply(kind, a, b, before, backend)
        exact = rounded(a).astype(np.float64) @ b + (0 if before is None else before)
        np.testing.assert_allclose(found, exact, rtol=0, atol=4e-7 * shape[1] + 1e-6)


@pytest.mark.native
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("shape", [*SHAPES, (40, 1024, 16), (2, 1025, 16)])
def test_the_matrix_unit_gives_the_same_bits(
    kind: int, shape: tuple[int, int, int], backend: str
) -> None:
    needs(kind, backend)
    a, b, init = factors(*shape)
    for before in (None, init):
        found = multiply(kind, a, b, before, backend)
        assert found.tobytes() == multiply(PLAIN[kind], a, b, before, backend).tobytes()


@pytest.mark.native
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [abi.PAIRS, abi.MATRIX_PAIRS])
def test_what_is_no_number_stays_in_its_row(kind: int, backend: str) -> None:
    needs(kind, backend)
    a, b, _ = factors(20, 40, 16)
    a[3, 7], a[5, 0], b = np.nan, np.inf, np.abs(rounded(b))
    found = multiply(kind, a, b, None, backend)
    assert np.isnan(found[3]).all()
    assert np.isposinf(found[5]).all()
    assert np.isfinite(np.delete(found, (3, 5), 0)).all()


def test_bfloat16_is_the_nearest() -> None:
    special = [0, 1, -1, 1e38, 3.4e38, np.inf, -np.inf, 1 + 2**-8, 1 + 3 * 2**-8, 2.0**-126]
    for x in (np.random.default_rng(0).standard_normal(160), np.array([*special] * 8)):
        for part in x.astype(np.float32).reshape(-1, 16):
            wanted = part.astype(ml_dtypes.bfloat16).view(np.uint16)
            np.testing.assert_array_equal(as_bfloats(part), wanted)
    tiny = np.array([2.0**-140, -(2.0**-127)] * 8, np.float32)
    np.testing.assert_array_equal(as_bfloats(tiny), [0, 0x8000] * 8)
    assert (as_bfloats(np.full(16, np.nan, np.float32)) & 0x7FFF > 0x7F80).all()


def test_a_dot_takes_the_pairs_of_each_lane() -> None:
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal((16, 2)).astype(ml_dtypes.bfloat16) for _ in range(2))
    total = rng.standard_normal(16).astype(np.float32)
    found = dot_bfloats(x.view(np.int32)[:, 0], y.view(np.int32)[:, 0], total)
    exact = total + (x.astype(np.float64) * y.astype(np.float64)).sum(1)
    np.testing.assert_allclose(found, exact, rtol=1e-6)


BATCHES = Sizes(hidden=(5, 17, 40), time=(1, 3, 7), batch=(13, 20), inputs=(3, 16, 65))


@pytest.mark.native
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stored", ["bfloat16", "int8"])
@pytest.mark.parametrize("level", ["v4bf16", "v4amx"])
def test_layers_of_batches_are_those_of_other_levels(level: str, stored: str, backend: str) -> None:
    """int8 bit for bit; bfloat16 but for the rounding of inputs and hidden states."""
    needs({"v4bf16": abi.PAIRS, "v4amx": abi.MATRIX_INT8}[level], backend)
    count, seed = 0, 90_000
    while count < (6 if backend == "interpreted" else 40):
        seed += 1
        layer = draw(seed, BATCHES)
        if layer.fed != SPECIFIED or layer.attrs.get("activations"):
            continue
        count += 1
        names = layer.operator.inputs.names[: len(layer.values)]
        constants = [k for k, name in enumerate(names) if name not in layer.fed]
        weights = {k: stored for k in constants if names[k] in ("W", "R", "projection")}
        values = list(layer.values)
        if stored == "bfloat16":
            for k in weights:
                value = values[k]
                values[k] = None if value is None else rounded(value)
        plain, found = (
            run_lowered(
                layer.operator, values, backend, constants=constants, stored=weights,
                emitter=partial(DirectEmitter, level=each),
            )
            for each in ("", level)
        )  # fmt: skip
        assert plain is not None
        assert found is not None
        for a, b in zip(plain, found, strict=True):
            if a is None or b is None:
                assert a is b
            elif stored == "int8":
                assert a.tobytes() == b.tobytes(), str(layer)
            else:
                error = np.sqrt(np.square(a - b).mean())
                assert error < 2**-8 * max(1.0, np.abs(a).max()), str(layer)


@pytest.mark.parametrize(
    ("level", "stored", "rows", "batch", "wanted"),
    [
        ("v4vnni", "bfloat16", 100, 100, "float32"),
        ("v4bf16", "bfloat16", 11, 11, "bfloat16"),
        ("v4bf16", "bfloat16", 100, 1, "float32"),
        ("v4bf16", "bfloat16", 100, 12, "pairs"),
        ("v4amx", "bfloat16", 12, 0, "pairs"),
        ("v4bf16", "int8", 12, 0, "int8"),
        ("v4amx", "int8", 12, 0, "tiles"),
        ("v4amx", "int8", 100, 1, "int8"),
        ("v4amx", "float16", 100, 100, "float32"),
    ],
)
def test_what_a_level_packs(level: str, stored: str, rows: int, batch: int, wanted: str) -> None:
    emit, weight = DirectEmitter("native", level=level), SimpleNamespace(stored=stored)
    found: Any = weight_kind(emit, rows, weight, batch=batch)  # type: ignore[arg-type]
    assert found[0] == wanted


@pytest.mark.parametrize(("answer", "level"), [(0, "v4amx"), (-22, "v4bf16")])
def test_tiles_are_used_where_linux_lets_us(answer: int, level: str) -> None:
    handle: Any = SimpleNamespace(lr_level=lambda: len(abi.LEVELS), lr_use_tiles=lambda: answer)
    assert library.usable_level(handle) == level
    handle = SimpleNamespace(lr_level=lambda: 4, lr_use_tiles=pytest.fail)
    assert library.usable_level(handle) == "v4bf16"
