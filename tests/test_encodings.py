"""Weights stored in fewer bits: kernels widen them, and give the bits of the decoded weights."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn import record
from lightrnn.engine.interpret import evaluate
from lightrnn.errors import FormatError
from lightrnn.format import ModelFile, container, dumps, encodings, read
from lightrnn.graph import FLOAT32, Array, Graph, Node, TensorType
from lightrnn.kernels import gemm
from lightrnn.kernels.tiling import LIMITS, make_tile
from lightrnn.native import library
from lightrnn.native.abi import CODE, WEIGHTS, room_words
from lightrnn.ops import recurrent_lowering
from lightrnn.ops.packing import LARGEST, MIXED, panel_bytes, weight_panels
from tests.kernels import BACKENDS, guarded, run_kernel, run_lowered, spans
from tests.recurrent_cases import Sizes, draw

KINDS = ("float16", "bfloat16")


def layer(op: str, hidden: int, projection: int = 0) -> Graph:
    """x [T, N, 10] through a layer and a product."""
    rng = np.random.default_rng(hidden)
    gates, size = {"RNN": 1, "GRU": 3, "LSTM": 4}[op], projection or hidden

    def make(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32) * np.float32(0.3)

    constants = {
        "w": make(2, gates * hidden, 10), "r": make(2, gates * hidden, size),
        "b": make(2, 2 * gates * hidden), "out": make(size, 7),
    }  # fmt: skip
    inputs = ["x", "w", "r", "b"]
    if projection:
        constants["p"] = make(2, projection, hidden)
        inputs += ["", "", "", "", "p"]
    attrs: dict[str, Any] = {"direction": "bidirectional"}
    if op == "GRU":
        attrs["linear_before_reset"] = 1
    nodes = (Node(op, tuple(inputs), ("h",), attrs), Node("MatMul", ("h", "out"), ("y",)))
    return Graph(
        {"x": TensorType(FLOAT32, ("T", "N", 10))},
        {"y": TensorType(FLOAT32, ("T", 2, "N", 7))},
        nodes,
        constants,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("op", "projection"), [("RNN", 0), ("GRU", 0), ("LSTM", 0), ("LSTM", 9)])
def test_narrow_weights_give_the_bits_of_their_values(
    op: str, projection: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for batches that meet bfloat16 on CPUs that multiply it (tests.test_matrix_unit)."""
    kernels = library.load()
    if kernels is not None and kernels.level in CODE:
        other = record.replace(kernels, level=CODE[kernels.level])
        monkeypatch.setattr(library, "load", lambda: other)
    graph = layer(op, 21, projection)
    matrices = [n for n, v in graph.constants.items() if v.ndim > 1 and n != "b"]
    data = dumps(ModelFile({"main": graph}, encodings=dict.fromkeys(matrices, kind)))
    decoded = read(io.BytesIO(data)).graphs["main"]
    plain = lightrnn.load(dumps(ModelFile({"main": decoded})))
    narrow = lightrnn.load(data)
    for steps, batch in ((1, 1), (5, 3), (9, 20)):
        x = np.random.default_rng(0).standard_normal((steps, batch, 10)).astype(np.float32)
        found = narrow.run({"x": x})["y"]
        np.testing.assert_array_equal(found, plain.run({"x": x})["y"])
        np.testing.assert_allclose(found, evaluate(decoded, {"x": x})["y"], atol=3e-6)
        assert np.abs(found - evaluate(graph, {"x": x})["y"]).max() > 1e-6


INTEGERS = {"int8": 127, "int16": 4095}


def integer_file(graph: Graph, kind: str, inputs: str = "") -> bytes:
    """A file with integer weights; inputs: how W is stored, if otherwise."""
    encodings = {n: kind for n in ("w", "r", "p") if n in graph.constants}
    encodings["w"] = inputs or kind
    return dumps(ModelFile({"main": graph}, encodings={**encodings, "out": f"{kind}_columns"}))


def test_kernels_count_as_far_as_files_do() -> None:
    assert {kind: encodings.LARGEST[encodings.CODES[kind]] for kind in LARGEST} == LARGEST
    mixed = {
        encoding: tuple(encodings.CODES[part] for part in encoding.split("_"))
        for encoding in MIXED.values()
    }
    assert mixed == encodings.PARTS


@pytest.mark.parametrize(
    ("kind", "inputs", "share"),
    [("int8", "int8", 0.5), ("int8", "int16", 0.1), ("int16", "int16", 1.5)],
)
@pytest.mark.parametrize(("op", "projection"), [("RNN", 0), ("GRU", 0), ("LSTM", 0), ("LSTM", 9)])
def test_integers_lose_what_their_bits_say(
    op: str, projection: int, kind: str, inputs: str, share: float
) -> None:
    """Weights are rounded to the nearest, activations to 15 bits or 12, hidden states to 7 where
    all weights are int8; each row has a scale of its own.

    share: of the error of rounding weights, that of rounding activations at most.
    """
    graph = layer(op, 21, projection)
    data = integer_file(graph, kind, inputs)
    decoded = read(io.BytesIO(data)).graphs["main"]
    for name, stored in (("w", inputs), ("r", kind)):
        error = np.abs(decoded.constants[name] - graph.constants[name])
        step = np.abs(graph.constants[name]).max(-1, keepdims=True) / INTEGERS[stored]
        assert np.all(error <= 0.501 * step)
    model = lightrnn.load(data)
    x = np.random.default_rng(0).standard_normal((9, 20, 10)).astype(np.float32)
    found = model.run({"x": x})["y"]
    wanted = evaluate(decoded, {"x": x})["y"]
    rounding = np.square(wanted - evaluate(graph, {"x": x})["y"]).mean() ** 0.5
    assert np.square(found - wanted).mean() ** 0.5 < share * rounding
    for n in (0, 7, 19):
        alone = model.run({"x": x[:, n : n + 1]})["y"]
        np.testing.assert_array_equal(alone[:, :, 0], found[:, :, n])


@pytest.mark.parametrize(("op", "projection"), [("GRU", 0), ("LSTM", 0), ("LSTM", 9)])
def test_gates_lose_less_than_candidates(op: str, projection: int) -> None:
    """Recurrent weights of gates in 8 bits, of candidates in 13."""
    graph = layer(op, 21, projection)
    stored = {n: "int16" for n in ("w", "p") if n in graph.constants}
    errors = {}
    for r in ("int8", MIXED[op.lower()], "int16"):
        kinds = {**stored, "r": r, **({"p": r} if r == "int8" and projection else {})}
        data = dumps(ModelFile({"main": graph}, encodings=kinds))
        decoded, model = read(io.BytesIO(data)).graphs["main"], lightrnn.load(data)
        x = np.random.default_rng(0).standard_normal((9, 20, 10)).astype(np.float32)
        found = model.run({"x": x})["y"]
        wanted = evaluate(decoded, {"x": x})["y"]
        assert np.square(found - wanted).mean() ** 0.5 < 3e-4
        errors[r] = np.square(found - evaluate(graph, {"x": x})["y"]).mean() ** 0.5
        rounding = np.abs(decoded.constants["r"] - graph.constants["r"])
        parts = [INTEGERS[part] for part in r.split("_")]
        largest = np.repeat(parts, rounding.shape[1] // len(parts))
        steps = np.abs(graph.constants["r"]).max(-1) / largest
        assert np.all(rounding <= 0.501 * steps[..., None])
        for n in (0, 7, 19):
            alone = model.run({"x": x[:, n : n + 1]})["y"]
            np.testing.assert_array_equal(alone[:, :, 0], found[:, :, n])
    whole, mixed, fine = errors.values()
    assert fine < mixed < 0.8 * whole


def test_scales_must_fit() -> None:
    graph = layer("GRU", 5)
    stored, metadata = container.read(integer_file(graph, "int8"))
    for name, change, message in (
        ("w:scales", None, "needs scales 'w:scales' of F32"),
        ("w:scales", np.ones((2, 1, 1), np.float32), "needs scales"),
        ("r:scales", stored["r:scales"].array.astype(np.float16), "needs scales"),
        ("r:scales", 0 * stored["r:scales"].array, "not a positive number"),
        ("out:scales", np.nan * stored["out:scales"].array, "not a positive number"),
    ):
        refuse(stored, metadata, name, change, message)


@pytest.mark.parametrize(("op", "few", "others"), [("GRU", 10, 5), ("LSTM", 15, 5)])
def test_parts_must_fit(op: str, few: int, others: int) -> None:
    graph, rows = layer(op, 5), few + others
    data = dumps(ModelFile({"main": graph}, encodings={"r": MIXED[op.lower()]}))
    stored, metadata = container.read(data)
    first, more = stored["r"].array, stored["r:int16"].array
    for name, change, message in (
        ("r:int16", None, rf"needs parts 'r:int16' of I16 \[2, {others}, 5\]"),
        ("r:int16", more[:, 1:], "needs parts 'r:int16'"),
        ("r:int16", more.astype(np.int8), "needs parts 'r:int16'"),
        ("r", first[:, 1:], "needs parts 'r:int16'"),
        ("r", np.concatenate([first, first[:, :1]], 1), "needs parts 'r:int16'"),
        ("r", more, "is I16 with the encoding"),
        ("r:scales", stored["r:scales"].array[:, 1:], rf"of F32 \[2, {rows}, 1\]"),
    ):
        refuse(stored, metadata, name, change, message)
    for kind, message in (
        (MIXED["lstm" if op == "GRU" else "gru"], f"has {rows} rows, not [34] equal parts"),
        ("int8_int16", "stored as 'int8_int16'"),
    ):
        with pytest.raises(FormatError, match=message):
            dumps(ModelFile({"main": graph}, encodings={"r": kind}))


def test_parts_that_no_kernel_multiplies_by_are_decoded() -> None:
    """Bit for bit: weights of inputs, of a product, and of gates that another cell has."""
    graph = layer("GRU", 24)
    kinds = {"w": MIXED["gru"], "r": MIXED["lstm"], "out": MIXED["lstm"]}
    data = dumps(ModelFile({"main": graph}, encodings=kinds))
    decoded = read(io.BytesIO(data)).graphs["main"]
    x = np.random.default_rng(0).standard_normal((9, 3, 10)).astype(np.float32)
    plain = lightrnn.load(dumps(ModelFile({"main": decoded}))).run({"x": x})["y"]
    np.testing.assert_array_equal(lightrnn.load(data).run({"x": x})["y"], plain)
    assert np.abs(plain - evaluate(graph, {"x": x})["y"]).max() > 1e-4


def refuse(
    stored: Mapping[str, container.Tensor],
    metadata: Mapping[str, str],
    name: str,
    change: Array | None,
    message: str,
) -> None:
    """A file with one tensor changed or left out is refused."""
    tensors = {n: t for n, t in stored.items() if n != name}
    if change is not None:
        codes = {"float16": "F16", "float32": "F32", "int8": "I8", "int16": "I16"}
        array = np.ascontiguousarray(change)
        tensors[name] = container.Tensor(codes[array.dtype.name], array)
    target = io.BytesIO()
    container.write(target, tensors, metadata)
    with pytest.raises(FormatError, match=message):
        lightrnn.load(target.getvalue())


SIZES = Sizes(hidden=(5, 17, 40), time=(1, 3, 16, 19), batch=(1, 3), inputs=(3, 17))


@pytest.mark.native
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [*INTEGERS, "mixed"])
def test_cells_with_integers_stay_inside_their_memory(
    backend: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And give what the oracle gives with these weights, but for the rounding of activations."""
    monkeypatch.setattr(recurrent_lowering, "_LEAST_READ", 0)
    for layer in (draw(seed, SIZES) for seed in range(80_000, 80_060)):
        if "activations" in layer.attrs:
            continue
        one = "int16" if kind == "mixed" else kind
        mixed = MIXED.get(layer.op.lower(), one) if kind == "mixed" else kind
        kinds = {"W": "int16", "R": mixed, "projection": one}
        inputs = {
            name: encodings.decoded("w", kinds[name], encodings.encoded("w", array, kinds[name]))
            if name in kinds
            else array
            for name, array in layer.inputs.items()
        }
        rounded = replace(layer, inputs=inputs)
        names = layer.operator.inputs.names[: len(layer.values)]
        found = run_lowered(
            layer.operator,
            rounded.values,
            backend,
            constants=[k for k, name in enumerate(names) if name not in layer.fed],
            stored={k: kinds[name] for k, name in enumerate(names) if name in kinds},
        )
        assert found is not None
        for array, wanted in zip(found, rounded.expected.values(), strict=True):
            if array is not None:
                np.testing.assert_allclose(array, wanted, rtol=0, atol=2e-3, err_msg=str(layer))


@pytest.mark.native
@pytest.mark.parametrize(
    ("op", "kind"),
    [*(("LSTM", kind) for kind in INTEGERS), *((k.upper(), MIXED[k]) for k in MIXED)],
)
def test_integers_give_the_same_bits_on_any_number_of_threads(op: str, kind: str) -> None:
    graph = layer(op, 160)
    data = dumps(ModelFile({"main": graph}, encodings={"w": "int16", "r": kind}))
    if kind in INTEGERS:
        data = integer_file(graph, kind)
    x = np.random.default_rng(0).standard_normal((80, 4, 10)).astype(np.float32)
    alone = lightrnn.load(data, threads=1).run({"x": x})["y"]
    shared = lightrnn.load(data, threads=2)
    for _ in range(4):
        np.testing.assert_array_equal(shared.run({"x": x})["y"], alone)


@pytest.mark.native
@pytest.mark.parametrize("kind", [*KINDS, *INTEGERS, MIXED["lstm"]])
def test_threads_that_share_rows_of_a_projected_layer_convert_them_apart(kind: str) -> None:
    """States and projections, of different lengths, are rounded in one room."""
    graph = layer("LSTM", 128, 32)
    encodings = {"w": "int16" if kind == MIXED["lstm"] else kind, "r": kind}
    encodings["p"] = encodings["w"]
    data = dumps(ModelFile({"main": graph}, encodings=encodings))
    x = np.random.default_rng(0).standard_normal((100, 32, 10)).astype(np.float32)
    alone = lightrnn.load(data, threads=1).run({"x": x})["y"]
    for threads in (2, 4):
        shared = lightrnn.load(data, threads=threads)
        for _ in range(4):
            np.testing.assert_array_equal(shared.run({"x": x})["y"], alone)


@pytest.mark.native
@pytest.mark.parametrize("kind", KINDS)
def test_narrow_weights_take_half_the_memory(kind: str) -> None:
    graph = layer("LSTM", 64)
    sizes = {}
    for stored in ("float32", kind):
        encodings = {} if stored == "float32" else dict.fromkeys(("w", "r", "out"), stored)
        model = lightrnn.load(dumps(ModelFile({"main": graph}, encodings=encodings)))
        sizes[stored] = model.plan({"x": (1, 1, 10)}).packed_bytes
    assert sizes[kind] < 0.6 * sizes["float32"]


@pytest.mark.native
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", range(len(WEIGHTS)))
def test_products_with_narrow_weights(backend: str, kind: int) -> None:
    rng = np.random.default_rng(kind)
    for m, k, n in ((1, 5, 17), (3, 8, 33), (9, 7, 150), (2, 300, 20), (1, 130, 100)):
        a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
        matrix = as_stored(b, WEIGHTS[kind])
        packed = weight_panels(matrix, WEIGHTS[kind])
        c = guarded(np.zeros((m, n), np.float32))
        sizes = (1, m, n, k, k, 0, n, 0, 0, 0, 0, kind)
        room = guarded(np.zeros(m * room_words(k), np.int32))
        run_kernel("gemm", guarded(a), guarded(packed), None, c, *sizes, room, backend=backend)
        # Every activation is off by half a step at most, each a share of its row's largest.
        half = np.abs(a).max(1, keepdims=True) * 0.5 / LIMITS.get(WEIGHTS[kind], np.inf)
        bound = half * np.abs(matrix).sum(0) + 2e-6 * np.abs(a) @ np.abs(matrix)
        assert np.all(np.abs(c - a.astype(np.float64) @ matrix) <= bound)


@pytest.mark.native
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("k", [127, 128, 129, 512, 1024, 1025])
def test_the_largest_integers_do_not_overflow(backend: str, kind: str, k: int) -> None:
    """Where every product has the largest factors, sums of any length are what they should be."""
    a, b = np.full((2, k), -3, np.float32), np.full((k, 16), 0.7, np.float32)
    a[1] = 3
    packed, room = guarded(weight_panels(b, kind)), guarded(np.zeros(2 * room_words(k), np.int32))
    c = guarded(np.zeros((2, 16), np.float32))
    sizes = (1, 2, 16, k, k, 0, 16, 0, 0, 0, 0, WEIGHTS.index(kind))
    run_kernel("gemm", guarded(a), packed, None, c, *sizes, room, backend=backend)
    np.testing.assert_allclose(c, [[-2.1 * k] * 16, [2.1 * k] * 16], rtol=1e-5)


def test_rows_in_bytes_are_what_they_are_in_pairs() -> None:
    """Bit for bit: the forms that CPUs with VNNI take, run by the interpreter."""
    quantize: Any = gemm.quantize
    rng = np.random.default_rng(5)
    forms = (LIMITS["int8"], 2, 1), (LIMITS["bytes"], 2, 1), (LIMITS["bytes"], 1, 1)
    for k, n in ((5, 16), (128, 48), (300, 33), (1030, 16)):
        b = guarded(weight_panels(rng.standard_normal((k, n)).astype(np.float32), "int8"))
        panels, quads, width = -(-n // 16), (k + 3) // 4, room_words(k)
        for limit, passes, rows in (*forms, (LIMITS["bytes"], 1, 3)):
            a = guarded(rng.standard_normal((rows, k)).astype(np.float32))
            found = []
            for each in (0, passes):
                words = guarded(np.zeros((rows, width), np.int32))
                c = guarded(np.zeros((rows, n), np.float32))
                x, whole, weights, out = spans(a, words, b, c)
                for r in range(rows):
                    quantize(
                        x.at(r * k), k, quads, float(limit), int(each > 0), whole.at(r * width)
                    )
                step, tail = panel_bytes(1, k, "int8"), n - 16 * (panels - 1)
                tile = make_tile(rows, panels, "int8", passes=each)
                tile(whole, width, weights, step, quads, None, 0, out, n, tail)
                found.append(c.copy())
            assert found[0].all()
            np.testing.assert_array_equal(*found)


def as_stored(matrix: Array, kind: str) -> Array:
    """A matrix after it was stored and read."""
    if kind == "float32":
        return matrix
    encoding = f"{kind}_columns" if kind in INTEGERS else kind
    return encodings.decoded("b", encoding, encodings.encoded("b", matrix, encoding))
