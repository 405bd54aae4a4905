"""What must be true on a GPU: a check raises AssertionError, or another error, where it is not.

Inputs are drawn anew from a seed; every run is made three times (call by call, captured, replayed)
over poisoned memory, and must give the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import lightrnn
from lightrnn.cuda.executor import CudaExecutor
from lightrnn.errors import DataError, DeviceMemoryError, GraphError
from lightrnn.format import ModelFile, dumps, read
from lightrnn.graph import FLOAT32, INT64, Array, Graph, Node, TensorType
from lightrnn.ops import REGISTRY, Case
from tests.recurrent_cases import Layer, Sizes, draw, largest

ROOT = Path(__file__).parents[2]
Check = tuple[str, Callable[[], None]]
WIDE = Sizes((64, 97, 128, 200, 256, 500, 512, 1024), (3, 5, 17), (1, 2, 7, 8, 9, 32, 33), (16, 65))
"""Sizes at which recurrent layers are split over many blocks."""


def checks(seed: int) -> list[Check]:
    """All of them by name; what matters most comes first."""
    return [
        *_behaviour(),
        *_narrow(seed),
        *_stacks(seed),
        *_layers(seed),
        *_examples(),
        *_operators(seed),
    ]


def on_gpu(content: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The results of a model on the GPU: those of three runs over poisoned memory, which agree."""
    model = lightrnn.load(content, device="cuda")
    executor = model._executor
    assert isinstance(executor, CudaExecutor)
    results = []
    for _ in range(3):
        results.append(model.run(feeds))
        for arena in executor._arenas:
            if arena.nbytes:
                poison = np.full(arena.nbytes, 0xFF, np.uint8)
                executor.device.upload(arena.base, poison, arena.stream)
                executor.device.synchronize(arena.stream)
    for again in results[1:]:
        for name, array in results[0].items():
            np.testing.assert_array_equal(again[name], array, f"{name} of a run that was repeated")
    return results[0]


# Operators


def _operators(seed: int) -> Iterator[Check]:
    for name in sorted(REGISTRY):
        try:
            cases = list(REGISTRY[name].cases(np.random.default_rng(seed)))
        except NotImplementedError:
            continue
        for case in cases:
            yield f"operator {name}: {case.name}", partial(_check_case, name, case)


def _check_case(name: str, case: Case) -> None:
    given = {f"in{k}": a for k, a in enumerate(case.inputs) if a is not None}
    inputs = tuple(f"in{k}" if a is not None else "" for k, a in enumerate(case.inputs))
    asked = case.outputs or REGISTRY[name].outputs.names
    operator = lightrnn.ops.build(Node(name, inputs, tuple(asked), case.attrs, case.name))
    with np.errstate(all="ignore"):
        made = operator.evaluate(*case.inputs)
    wanted = {
        f"out{k}": a
        for k, a in enumerate(made)
        if a is not None and (not case.outputs or (k < len(asked) and asked[k]))
    }
    results = tuple(f"out{k}" if f"out{k}" in wanted else "" for k in range(len(made)))
    node = Node(name, inputs, results, case.attrs, case.name)
    for fed in {tuple(given)[:1], tuple(given)}:
        kinds = {n: TensorType(given[n].dtype, (None,) * given[n].ndim) for n in fed}
        outputs = {n: TensorType(a.dtype, None) for n, a in wanted.items()}
        constants = {n: np.array(a) for n, a in given.items() if n not in fed}
        content = dumps(ModelFile({"main": Graph(kinds, outputs, (node,), constants)}))
        try:
            lightrnn.load(content)
        except GraphError:
            continue  # what this operator needs to know beforehand
        found = on_gpu(content, {n: given[n] for n in fed})
        for output, expected in wanted.items():
            _assert_close(found[output], expected, operator.rtol, output)


def _assert_close(found: Array, expected: Array, rtol: float, name: str) -> None:
    """Equal but for `rtol` of the largest finite element; integers and truth values equal."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected, name)
        return
    coarse = 2 * float(np.finfo(expected.dtype).eps) * (expected.dtype.itemsize < 4)
    finite = np.abs(expected[np.isfinite(expected)]).astype(np.float64)
    allowed = max(rtol, coarse) * float(finite.max(initial=0.0))
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found, expected, rtol=0, atol=allowed, err_msg=name)


# Recurrent layers against float64


def _layers(seed: int) -> Iterator[Check]:
    for k in range(100):
        yield f"layer {seed + k}", partial(_check_layer, partial(draw, seed + k))
    for k in range(40):
        yield f"wide layer {seed + k}", partial(_check_layer, partial(draw, seed + k, WIDE))


def _check_layer(make: Callable[[], Layer]) -> None:
    layer = make()
    feeds = {n: a for n, a in layer.inputs.items() if n in layer.fed}
    found = on_gpu(dumps(ModelFile({"main": layer.graph})), feeds)
    scale = largest(layer.expected.values())
    for name in layer.wanted:
        expected = layer.expected[name]
        allowed = layer.operator.rtol * scale + 2 * layer.noise[name]
        error = np.abs(found[name] - expected).max(initial=0)
        assert error <= allowed, f"{layer}: {name} off by {error:.3g}, allowed {allowed:.3g}"


def _narrow(seed: int) -> Iterator[Check]:
    """Weights in fewer bits give what the weights that they stand for give."""
    for op in ("LSTM", "GRU", "RNN"):
        for dtype in ("float16", "bfloat16", "int8"):
            for batch, hidden in ((1, 256), (33, 100)):
                name = f"{op} of {dtype}, H {hidden}, batch {batch}"
                yield name, partial(_check_narrow, op, dtype, batch, hidden, seed)


def _check_narrow(op: str, dtype: str, batch: int, hidden: int, seed: int) -> None:
    from bench.cuda.models import layer_file

    content = layer_file(op, hidden, dtype, seed)
    x = np.random.default_rng(seed).standard_normal((9, batch, hidden)).astype(np.float32)
    found = on_gpu(content, {"x": x})["y"]
    exact = lightrnn.load(dumps(ModelFile(read(content).graphs)))  # the CPU may round x and h, too
    _assert_close(found, exact.run({"x": x})["y"], 1e-5, "y")


def _stacks(seed: int) -> Iterator[Check]:
    """Layers side by side, a chunk of steps behind each other."""
    for k in range(12):
        rng = np.random.default_rng(seed + k)
        op, hidden = str(rng.choice(["LSTM", "GRU", "RNN"])), int(rng.choice(WIDE.hidden))
        layers, batch, time = (int(rng.choice(n)) for n in ((2, 3, 5), (1, 2, 8), (20, 33, 64)))
        name = f"stack of {layers} {op}, H {hidden}, {time} steps, batch {batch}"
        yield name, partial(_check_stack, op, hidden, layers, batch, time, seed + k)


def _check_stack(op: str, hidden: int, layers: int, batch: int, time: int, seed: int) -> None:
    from bench.cuda.models import layer_file

    content = layer_file(op, hidden, seed=seed, layers=layers)
    x = np.random.default_rng(seed).standard_normal((time, batch, hidden)).astype(np.float32)
    wanted = lightrnn.load(content).run({"x": x})["y"]
    _assert_close(on_gpu(content, {"x": x})["y"], wanted, 1e-5, "y")


# What is promised beside numbers


def _behaviour() -> Iterator[Check]:
    yield "a bad index names its node", _check_bad_index
    yield "out of memory leaves the model usable", _check_memory
    yield "threads and models share the GPU", _check_threads
    yield "a stream gives the whole", _check_stream
    yield "arrays of torch, without a copy and on its stream", _check_torch


def _lookup() -> bytes:
    table = np.arange(24, dtype=np.float32).reshape(8, 3)
    node = Node("Gather", ("table", "ids"), ("y",), {}, "embedding")
    kinds = {"ids": TensorType(INT64, ("N",))}
    graph = Graph(kinds, {"y": TensorType(FLOAT32, None)}, (node,), {"table": table})
    return dumps(ModelFile({"main": graph}))


def _check_bad_index() -> None:
    model = lightrnn.load(_lookup(), device="cuda")
    for _ in range(3):
        said = ""
        try:
            model(np.array([1, 8]))
        except DataError as error:
            said = str(error)
        assert "embedding" in said, f"a bad index: {said or 'no error'}"
        assert np.asarray(model(np.array([7]))).tolist() == [[21, 22, 23]]


def _check_memory() -> None:
    from bench.cuda.models import layer_file

    model = lightrnn.load(layer_file("LSTM", 16, "float32", 0), device="cuda")
    x = np.ones((4, 2, 16), np.float32)
    before = model(x)
    huge = np.broadcast_to(np.float32(0), (1 << 20, 1 << 14, 16))
    try:
        model(huge)
    except DeviceMemoryError:
        pass
    else:
        raise AssertionError("a terabyte was found")
    np.testing.assert_array_equal(model(x), before)


def _check_threads() -> None:
    from bench.cuda.models import layer_file

    models = [
        lightrnn.load(layer_file(op, 64, "float32", 0), device="cuda") for op in ("LSTM", "GRU")
    ]
    xs = [np.random.default_rng(k).standard_normal((20 + k, 3, 64)).astype("f4") for k in range(4)]
    wanted = [[np.array(m(x)) for x in xs] for m in models]
    wrong: list[str] = []

    def work(seed: int) -> None:
        for k in range(40):
            m, x = (seed + k) % 2, (seed * 7 + k) % 4
            if not np.array_equal(models[m](xs[x]), wanted[m][x]):
                wrong.append(f"model {m}, input {x}")

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong, wrong[0]


def _check_stream() -> None:
    from bench.cuda.models import layer_file

    for op in ("LSTM", "GRU", "RNN"):
        model = lightrnn.load(layer_file(op, 96, "float32", 1), device="cuda")
        x = np.random.default_rng(2).standard_normal((12, 2, 96)).astype(np.float32)
        whole = np.asarray(model.run({"x": x})["y"])
        for cut in ((1,) * 12, (5, 1, 6), (3,) * 4):
            stream, start = model.stream(), 0
            for size in cut:
                found = stream.step({"x": x[start : start + size]})["y"]
                _assert_close(found, whole[start : start + size], 2e-6, f"{op} in pieces of {cut}")
                start += size


def _check_torch() -> None:
    try:
        import torch
    except ImportError:
        return
    if not torch.cuda.is_available():
        return
    from bench.cuda.models import layer_file

    model = lightrnn.load(layer_file("LSTM", 64, "float32", 0), device="cuda")
    x = torch.randn(30, 4, 64, device="cuda")
    wanted = np.asarray(model(x.cpu().numpy()))
    assert isinstance(model(x), lightrnn.cuda.DeviceArray)
    strided = torch.randn(4, 30, 64, device="cuda").transpose(0, 1).copy_(x)
    for given in (x, strided):
        np.testing.assert_array_equal(torch.from_dlpack(model(given)).cpu().numpy(), wanted)
    mine = torch.cuda.Stream()
    with torch.cuda.stream(mine):
        for k in range(20):
            y = torch.from_dlpack(model(x * (k + 1), stream=mine.cuda_stream)) * 2
    mine.synchronize()
    last = np.asarray(model((x * 20).cpu().numpy())) * 2
    np.testing.assert_array_equal(y.cpu().numpy(), last)


# The examples, from text to answers


def _examples() -> Iterator[Check]:
    for name, texts in {
        "langid": "sentences.txt", "sentiment-zh": "sentences.txt", "names": "held_out.tsv",
        "segment-zh": "sample.txt", "g2p-en": "sample.tsv",
    }.items():  # fmt: skip
        folder = ROOT / "examples" / name
        if (folder / f"{name}.lrnn").exists():
            yield f"example {name}", partial(_check_example, folder, texts)


def _check_example(folder: Path, texts: str) -> None:
    lines = (folder / texts).read_text(encoding="utf-8").splitlines()[:64]
    given = [line.split("\t")[0] for line in lines]
    path = folder / f"{folder.name}.lrnn"
    found = lightrnn.pipeline(path, device="cuda")(given)
    wanted = lightrnn.pipeline(path)(given)
    for text, one, other in zip(given, found, wanted, strict=True):
        _assert_same(one, other, text)


def _assert_same(found: Any, wanted: Any, where: str) -> None:
    """Results of a pipeline agree: text and labels are equal, scores nearly so."""
    if isinstance(wanted, float):
        assert abs(found - wanted) <= 1e-4 * max(1.0, abs(wanted)), (
            f"{where}: {found}, not {wanted}"
        )
    elif isinstance(wanted, Mapping):
        for key, value in wanted.items():
            _assert_same(found[key], value, f"{where}: {key}")
    elif isinstance(wanted, Sequence) and not isinstance(wanted, str):
        assert len(found) == len(wanted), where
        for one, other in zip(found, wanted, strict=True):
            _assert_same(one, other, where)
    elif isinstance(wanted, np.ndarray):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=where)
    else:
        assert found == wanted, f"{where}: {found!r}, not {wanted!r}"
