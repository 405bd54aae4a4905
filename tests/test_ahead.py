"""Inputs projected while R is being read: the same bits as projected before, by every kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from lightrnn.engine.plan import Plan
from lightrnn.engine.prepare import PackedStore, prepare
from lightrnn.graph import Array
from lightrnn.kernels import gemm
from lightrnn.kernels.pairing import make_pair_tile
from lightrnn.kernels.tiling import LIMITS, make_tile
from lightrnn.native import abi
from lightrnn.ops import recurrent_lowering
from lightrnn.ops.packing import LARGEST, MIXED, panel_bytes, weight_panels
from tests.kernels import BACKENDS, DirectEmitter, guarded, run_lowered, spans
from tests.recurrent_cases import SPECIFIED, Layer, Sizes, draw
from tests.teams import run_on
from tests.test_native import executors
from tests.test_recurrent import assert_close

SIZES = Sizes(
    hidden=(16, 17, 33, 48, 97, 160), time=(15, 16, 17, 23, 24, 31, 40), batch=(1,),
    inputs=(1, 16, 19, 64, 129),
)  # fmt: skip
SMALL = Sizes(hidden=(5, 17, 40), time=(15, 16, 17, 25), batch=(1,), inputs=(3, 16, 17))


@pytest.fixture(autouse=True)
def small_layers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent_lowering, "_LEAST_READ", 0)


def layers(count: int, sizes: Sizes) -> Iterator[Layer]:
    """Layers whose weights are constants."""
    drawn = (draw(seed, sizes) for seed in range(70_000, 70_000 + count))
    return (layer for layer in drawn if layer.fed == SPECIFIED)


def projects(layer: Layer) -> bool:
    """Whether the cell of a layer should project inputs."""
    x = layer.inputs["X"]
    time = x.shape[1] if layer.attrs.get("layout") else x.shape[0]
    return time >= 2 * abi.AHEAD and x.shape[2] <= 2 * layer.inputs["R"].shape[2]


class Watching(DirectEmitter):
    """Notes whether cells are given inputs to project."""

    projects = False

    def run(self, kernel: str, words: Sequence[Any]) -> None:
        names = [p.name for p in abi.KERNELS[kernel].parameters]
        if "x_room" in names:
            self.projects = words[names.index("x")] is not None
        super().run(kernel, words)


@pytest.mark.native
@pytest.mark.parametrize(("backend", "count"), [*zip(BACKENDS, (30, 150), strict=True)])
def test_kernels_agree_with_the_oracle_and_stay_inside_their_memory(
    backend: str, count: int
) -> None:
    many = 0
    for layer in layers(count, SMALL if backend == "interpreted" else SIZES):
        made: list[Watching] = []

        def watching(backend: str, nth: int, made: list[Watching] = made) -> Watching:
            made.append(Watching(backend, nth))
            return made[0]

        names = layer.operator.inputs.names[: len(layer.values)]
        constants = [k for k, name in enumerate(names) if name not in layer.fed]
        found = run_lowered(
            layer.operator, layer.values, backend, constants=constants, emitter=watching
        )
        assert found is not None
        assert made[0].projects == projects(layer), str(layer)
        many += projects(layer)
        results = [a for a in found if a is not None]
        assert_close(layer, dict(zip(layer.expected, results, strict=True)))
    assert many > count / 3


@pytest.mark.parametrize("stored", [*abi.WEIGHTS, "bytes"])
@pytest.mark.parametrize(
    ("k", "depth"), [(5, 5), (40, 300), (300, 40), (256, 129), (9, 1030), (1100, 9)]
)
def test_a_pair_of_tiles_is_what_each_is_alone(stored: str, k: int, depth: int) -> None:
    """Bit for bit, run by the interpreter."""
    quantize: Any = gemm.quantize
    rng = np.random.default_rng(k)

    def draw(*shape: int) -> Array:
        return guarded(rng.standard_normal(shape).astype(np.float32))

    def pack(rows: int, columns: int, stored: str) -> Array:
        packed = weight_panels(draw(rows, columns), stored)
        return guarded(packed.view(np.uint16) if packed.dtype == np.float16 else packed)

    kept, passes = {"bytes": ("int8", 1), "int8": ("int8", 2)}.get(stored, (stored, 0))
    whole = kept in LARGEST
    other = ("int8" if stored == "bytes" else "int16") if whole else "float32"
    b, w, row, rows = pack(k, 128, kept), pack(depth, 16, other), draw(k), draw(8, depth)
    ldx = abi.room_words(depth) if whole else depth
    sizes = abi.room_words(k), (8, ldx), (8, ldx)
    words = [guarded(np.zeros(shape, np.int32)) for shape in sizes]
    init, bias = draw(128), draw(16)
    found = [guarded(np.zeros(shape, np.float32)) for shape in ((128,), (8, 16)) * 2]
    a, x, p, q, pairs, init, bias, right, left, *out = spans(
        row, rows, *words, init, bias, b, w, *found
    )
    step, w_step, k4, d4 = abi.panel_rows(k), abi.panel_rows(depth), k, depth
    if whole:
        k4, d4 = (k + 3) // 4, (depth + 3) // 4
        quantize(a, k, k4, float(LIMITS[stored]), int(passes > 0), p)
        raised = 2 if other == "int8" else 0
        for r in range(8):
            quantize(x.at(r * depth), depth, d4, float(LIMITS[other]), raised, q.at(r * ldx))
            quantize(x.at(r * depth), depth, d4, float(LIMITS[other]), 0, pairs.at(r * ldx))
        a, x = p, q
        step, w_step = (panel_bytes(16, *n) // 16 for n in ((k, kept), (depth, other)))
    else:
        pairs = x
    make_pair_tile(8, 8, stored)(
        a, right, step, k4, init, out[0], x, ldx, left, d4, bias, out[1], 16
    )
    make_tile(1, 8, kept, passes=passes)(a, 0, right, step, k4, init, 0, out[2], 0, 16)
    make_tile(8, 1, other)(pairs, ldx, left, w_step, d4, bias, 0, out[3], 16, 16)
    assert found[2].all()
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], found[3])


def plan_of(layer: Layer, stored: str) -> Plan:
    graph = layer.graph
    matrices = [name for name in ("W", "R", "projection") if name in graph.constants]
    usual, _, recurrent = stored.partition("+")
    encodings = {} if usual == "float32" else dict.fromkeys(matrices, usual)
    if recurrent == "int8":
        encodings |= {name: recurrent for name in matrices if name != "W"}
    elif recurrent:
        encodings["R"] = MIXED.get(graph.nodes[0].op.lower(), usual)
    ready = prepare(graph, tuple(graph.outputs), PackedStore(), encodings)
    return ready.plan(tuple(a.shape for a in layer.feeds))


def cell_work(plan: Plan) -> int:
    """The work of a plan's cells, what they project included."""
    return sum(one.work for one in plan.instructions if one.kernel in ("rnn", "gru", "lstm"))


@pytest.mark.native
@pytest.mark.parametrize("stored", [*abi.WEIGHTS, "int16+int8", "int16+gates"])
def test_results_are_those_of_inputs_projected_before(
    stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On every level and any number of threads."""
    levels = executors(monkeypatch)
    for layer in layers(60, SIZES):
        ahead = plan_of(layer, stored)
        with monkeypatch.context() as patch:
            patch.setattr(recurrent_lowering, "_MOST_READ", -1)
            before = plan_of(layer, stored)
        assert (cell_work(ahead) > cell_work(before)) == projects(layer), str(layer)
        runs = [one.run(ahead, layer.feeds) for one in levels]
        runs += [run_on(threads, ahead, layer.feeds) for threads in (2, 3)]
        wanted = [a.tobytes() for a in levels[0].run(before, layer.feeds)]
        for found in runs:
            assert [a.tobytes() for a in found] == wanted, str(layer)
