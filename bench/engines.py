"""The engines, each as a function of a subject, a number of threads and a storage type.

All get the same weights and inputs. What an engine does not have it refuses with UnavailableError.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.subject import Subject, flat
from lightrnn.graph import Array


class UnavailableError(Exception):
    """An engine cannot run this at all, which is no failure of it."""


@dataclass(frozen=True)
class Running:
    """A model that is ready. run: what is timed. arrays: outputs, in order, of what it returned.

    constants: the weights as they are stored, decoded, where the engine tells.
    """

    run: Callable[[], Any]
    arrays: Callable[[Any], list[Array]]
    constants: Mapping[str, Array] | None = None


Make = Callable[[Subject, int, str], Running]


def lightrnn(subject: Subject, threads: int, dtype: str) -> Running:
    """This engine, through `Model.run` or `Stream.step`."""
    from lightrnn_converters import convert_onnx

    import lightrnn

    target = io.BytesIO()
    states = dict(subject.carried)
    convert_onnx(subject.source, target, verify=False, dtype=dtype, states=states)
    model = lightrnn.load(target.getvalue(), threads=threads)
    feeds, names = dict(subject.feeds), list(subject.outputs)
    if subject.streamed:
        stream = model.stream()
        own = {name: value for name, value in feeds.items() if name not in states}
        shown = [name for name in names if name not in states.values()]
        return Running(lambda: stream.step(own), lambda found: [found[n] for n in shown])

    def run_on() -> dict[str, Array]:
        found = model.run(feeds)
        for name, output in states.items():
            feeds[name] = found[output]
        return found

    return Running(
        run_on if states else lambda: model.run(feeds),
        lambda found: [found[name] for name in names],
        model.graph(model.graphs[0]).constants,
    )


def _one_thread(subject: Subject, threads: int, dtype: str) -> Running:
    return lightrnn(subject, 1, dtype)


def _float32(subject: Subject, threads: int, dtype: str) -> Running:
    return lightrnn(subject, threads, "float32")


def session(source: bytes | str, threads: int) -> Any:
    """An onnxruntime session."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def onnxruntime(subject: Subject, threads: int, dtype: str) -> Running:
    """onnxruntime in float32."""
    return _in_session(session(subject.source, threads), subject)


def _in_session(loaded: Any, subject: Subject) -> Running:
    feeds, names = dict(subject.feeds), list(subject.outputs)
    places = [(name, names.index(output)) for name, output in subject.carried.items()]

    def run_on() -> Any:
        found = loaded.run(names, feeds)
        for name, place in places:
            feeds[name] = found[place]
        return found

    return Running(run_on if places else lambda: loaded.run(names, feeds), list)


def onnxruntime_int8(subject: Subject, threads: int, dtype: str) -> Running:
    """onnxruntime after its dynamic quantization, per channel; of recurrent layers, LSTM alone."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kinds = {node.op_type for node in onnx.load_model_from_string(subject.source).graph.node}
    if kinds <= {"GRU", "RNN"}:
        raise UnavailableError("its quantization leaves GRU and RNN in float32")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        source.write_bytes(subject.source)
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
        return _in_session(session(target.read_bytes(), threads), subject)


def _torch(kind: str, subject: Subject, threads: int, dtype: str) -> Running:
    import torch

    if subject.module is None or subject.carried:
        raise UnavailableError("measured without torch")
    torch.set_num_threads(threads)
    wanted = getattr(torch, kind)
    module = subject.module().to(wanted).eval()
    given = [torch.from_numpy(a) for a in subject.feeds.values()]
    given = [t.to(wanted) if t.is_floating_point() else t for t in given]

    def run() -> Any:
        with torch.inference_mode():
            return module(*given)

    def arrays(found: Any) -> list[Array]:
        return subject.layout([t.to(torch.float32).numpy() for t in flat(found)])

    return Running(run, arrays)


def _openvino(precision: str, subject: Subject, threads: int, dtype: str) -> Running:
    import openvino

    if subject.carried:
        raise UnavailableError("measured without OpenVINO")
    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }  # fmt: skip
    read = core.read_model(io.BytesIO(subject.source))
    request = core.compile_model(read, "CPU", options).create_infer_request()
    feeds, names = dict(subject.feeds), list(subject.outputs)

    def arrays(found: Any) -> list[Array]:
        return [np.array(found[name]) for name in names]

    return Running(lambda: request.infer(feeds, share_inputs=True, share_outputs=True), arrays)


def ncnn(subject: Subject, threads: int, dtype: str) -> Running:
    """ncnn in float32, which has single layers in batch 1."""
    import onnx
    from onnx import numpy_helper

    from bench.ncnn_layers import net

    graph = onnx.load_model_from_string(subject.source).graph
    x = subject.feeds["x"]
    if len(graph.node) != 1 or x.shape[1] != 1:
        raise UnavailableError("measured with layers in batch 1 alone")
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    made = net(graph.node[0].op_type, weights, threads)
    given = importlib.import_module("ncnn").Mat(np.ascontiguousarray(x[:, 0]))
    directions, _, hidden = weights["R"].shape

    def run() -> Any:
        extractor = made.create_extractor()
        extractor.input("x", given)
        return extractor.extract("y")[1]

    return Running(run, lambda y: [np.array(y).reshape(len(x), directions, 1, hidden)])


ENGINES: dict[str, Make] = {
    "onnxruntime": onnxruntime,
    "torch": partial(_torch, "float32"),
    "openvino": partial(_openvino, "f32"),
    "ncnn": ncnn,
    "onnxruntime int8": onnxruntime_int8,
    "torch bfloat16": partial(_torch, "bfloat16"),
    "openvino bfloat16": partial(_openvino, "bf16"),
    "lightrnn 1 thread": _one_thread,
    "lightrnn float32": _float32,
}
LIMIT = "limit"
"""Not an engine: `limits.bound`, measured as if it were one."""
FLOAT32 = ("onnxruntime", "torch", "openvino", "ncnn")
GENERAL = ("onnxruntime", "torch", "openvino")
"""Those that take any model and batch."""
FEWER_BITS = ("onnxruntime int8", "torch bfloat16", "openvino bfloat16")


def installed(names: Sequence[str]) -> tuple[str, ...]:
    """Those of the engines that can be measured here."""
    return tuple(n for n in names if importlib.util.find_spec(n.partition(" ")[0]) is not None)
