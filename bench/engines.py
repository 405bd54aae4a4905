"""The engines, each as a function of one layer's inputs.

Every engine gets the same weights and inputs and as many threads; those that are not installed
are left out.
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.cells import Cell
from bench.models import layer_onnx, weights_of
from lightrnn.graph import Array

Run = Callable[[], Array]
Make = Callable[[Cell, Array], Run]


def lightrnn(cell: Cell, x: Array) -> Run:
    """This engine, through `Model.run`."""
    from lightrnn_converters import convert_onnx

    import lightrnn

    target = io.BytesIO()
    source = layer_onnx(cell.op, cell.hidden, directions=cell.directions)
    convert_onnx(source, target, verify=False, dtype=cell.dtype)
    model = lightrnn.load(target.getvalue(), threads=cell.threads)
    feeds = {"x": x}
    return lambda: model.run(feeds)["y"]


def _session(source: bytes | str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def onnxruntime(cell: Cell, x: Array) -> Run:
    """onnxruntime in float32."""
    session = _session(layer_onnx(cell.op, cell.hidden, directions=cell.directions), cell.threads)
    return lambda: np.asarray(session.run(None, {"x": x})[0])


def onnxruntime_int8(cell: Cell, x: Array) -> Run:
    """onnxruntime after its dynamic quantization, per channel; it has that for LSTM alone."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if cell.op != "LSTM":
        raise NotImplementedError("only LSTM is quantized")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        source.write_bytes(layer_onnx(cell.op, cell.hidden, directions=cell.directions))
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
        session = _session(target.read_bytes(), cell.threads)
    return lambda: np.asarray(session.run(None, {"x": x})[0])


_TORCH_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""For each of torch's gates, its place among ONNX's."""


def _torch(cell: Cell, x: Array, dtype: str) -> Run:
    import torch

    torch.set_num_threads(cell.threads)
    layer = getattr(torch.nn, cell.op)(cell.hidden, cell.hidden, bidirectional=cell.directions == 2)
    weights = weights_of(cell.op, cell.hidden, cell.directions)
    order = list(_TORCH_ORDER[cell.op])

    def gates(rows: Array) -> Any:
        shaped = rows.reshape(len(order), cell.hidden, *rows.shape[1:])[order]
        return torch.from_numpy(shaped.reshape(rows.shape).copy())

    with torch.no_grad():
        for d in range(cell.directions):
            end = "_reverse" * d
            biases = weights["B"][d].reshape(2, -1)
            for name, value in (
                ("weight_ih", weights["W"][d]), ("weight_hh", weights["R"][d]),
                ("bias_ih", biases[0]), ("bias_hh", biases[1]),
            ):  # fmt: skip
                getattr(layer, f"{name}_l0{end}").copy_(gates(value))
    kind = getattr(torch, dtype)
    layer = layer.to(kind).eval()
    given = torch.from_numpy(x).to(kind)

    def run() -> Array:
        with torch.inference_mode():
            y = layer(given)[0].to(torch.float32).numpy()
        steps, batch = y.shape[:2]
        return y.reshape(steps, batch, cell.directions, cell.hidden).transpose(0, 2, 1, 3)

    return run


def torch(cell: Cell, x: Array) -> Run:
    """torch in float32."""
    return _torch(cell, x, "float32")


def torch_bfloat16(cell: Cell, x: Array) -> Run:
    """torch in bfloat16."""
    return _torch(cell, x, "bfloat16")


def _openvino(cell: Cell, x: Array, precision: str) -> Run:
    import openvino

    core = openvino.Core()
    source = io.BytesIO(layer_onnx(cell.op, cell.hidden, directions=cell.directions))
    options = {
        "INFERENCE_NUM_THREADS": cell.threads, "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": 1,
    }  # fmt: skip
    request = core.compile_model(core.read_model(source), "CPU", options).create_infer_request()
    return lambda: np.asarray(request.infer({"x": x})["y"])


def openvino(cell: Cell, x: Array) -> Run:
    """OpenVINO in float32."""
    return _openvino(cell, x, "f32")


def openvino_bfloat16(cell: Cell, x: Array) -> Run:
    """OpenVINO in bfloat16."""
    return _openvino(cell, x, "bf16")


FLOAT32: dict[str, Make] = {"onnxruntime": onnxruntime, "torch": torch, "openvino": openvino}
FEWER_BITS: dict[str, Make] = {
    "onnxruntime int8": onnxruntime_int8,
    "torch bfloat16": torch_bfloat16,
    "openvino bfloat16": openvino_bfloat16,
}
ENGINES: dict[str, Make] = {**FLOAT32, **FEWER_BITS}


def installed(name: str) -> bool:
    """Whether an engine can be measured here."""
    return importlib.util.find_spec(name.partition(" ")[0]) is not None
