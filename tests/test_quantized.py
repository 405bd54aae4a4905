"""Models that onnxruntime quantised: bytes stay bytes, results are no worse than its own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lightrnn_converters import convert_onnx
from lightrnn_converters.microsoft import APPROXIMATE
from onnxruntime.quantization import QuantType, quantize_dynamic

import lightrnn
from lightrnn.errors import UnsupportedError
from lightrnn.graph import Array
from tests import onnx_models
from tests.onnx_models import FLOAT, node

INPUT, H, C = 12, 16, 5


def float_model(direction: str) -> Any:
    """An LSTM and a linear layer on its output: x [T, N, INPUT] to scores [T, N, C] and Y_c."""
    rng = np.random.default_rng(0)
    d = 2 if direction == "bidirectional" else 1

    def weights(*shape: int) -> Array:
        return rng.uniform(-0.25, 0.25, shape).astype(np.float32)

    return onnx_models.model(
        [
            node("LSTM", ["x", "w", "r", "b"], ["y", "", "c"], hidden_size=H, direction=direction),
            node("Transpose", ["y"], ["t"], perm=[0, 2, 1, 3]),
            node("Reshape", ["t", "shape"], ["rows"]),
            node("MatMul", ["rows", "m"], ["scores"], name="linear"),
        ],
        {"x": (FLOAT, ["T", "N", INPUT])},
        {"scores": (FLOAT, ["T", "N", C]), "c": (FLOAT, [d, "N", H])},
        {
            "w": weights(d, 4 * H, INPUT), "r": weights(d, 4 * H, H), "b": weights(d, 8 * H),
            "m": weights(d * H, C), "shape": np.array([0, 0, -1]),
        },
        opset=17,
    )  # fmt: skip


def quantized(model: Any, folder: Path, *, per_channel: bool, kind: Any) -> Any:
    source, target = folder / "float.onnx", folder / "bytes.onnx"
    onnx.save(model, source)
    quantize_dynamic(source, target, per_channel=per_channel, weight_type=kind)
    return onnx.load(target)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("per_channel", "kind"), [(False, QuantType.QUInt8), (True, QuantType.QInt8)]
)
def test_a_quantized_model_is_no_further_from_the_floats_than_onnxruntime(
    tmp_path: Path, direction: str, per_channel: bool, kind: Any
) -> None:
    source = float_model(direction)
    bytes_model = quantized(source, tmp_path, per_channel=per_channel, kind=kind)
    operators = {n.op_type for n in bytes_model.graph.node}
    assert {"DynamicQuantizeLSTM", "MatMulInteger"} <= operators
    target = io.BytesIO()
    convert_onnx(bytes_model, target)
    model = lightrnn.load(target.getvalue())
    x = np.random.default_rng(1).standard_normal((9, 3, INPUT)).astype(np.float32)
    wanted, theirs = onnx_models.run(source, {"x": x}), onnx_models.run(bytes_model, {"x": x})
    ours = model.run({"x": x})
    for name, exact, rounded in zip(("scores", "c"), wanted, theirs, strict=True):
        scale = float(np.abs(exact).max())
        assert np.abs(ours[name] - rounded).max() < APPROXIMATE * scale
        assert np.abs(ours[name] - exact).max() < 1.2 * np.abs(rounded - exact).max()


def test_quantized_weights_stay_bytes_in_the_file(tmp_path: Path) -> None:
    bytes_model = quantized(
        float_model("bidirectional"), tmp_path, per_channel=False, kind=QuantType.QInt8
    )
    target = io.BytesIO()
    convert_onnx(bytes_model, target)
    constants = lightrnn.load(target.getvalue()).graph("main").constants
    weights = sum(a.size for a in constants.values() if a.dtype == np.int8)
    assert weights >= 2 * 4 * H * (INPUT + H)
    assert sum(a.size for a in constants.values() if a.dtype == np.float32) < weights / 4


def test_weights_that_are_not_constant_are_refused() -> None:
    names = ["x", "w", "r", "b", "", "", "", "", "w_scale", "w_zero", "r_scale", "r_zero"]
    one, none = np.ones(1, np.float32), np.zeros(1, np.int8)
    model = onnx_models.model(
        [node("DynamicQuantizeLSTM", names, ["y"], "lstm", domain="com.microsoft", hidden_size=H)],
        {"x": (FLOAT, ["T", "N", INPUT]), "w": (onnx.TensorProto.INT8, [1, INPUT, 4 * H])},
        {"y": (FLOAT, ["T", 1, "N", H])},
        {
            "r": np.zeros((1, H, 4 * H), np.int8), "b": np.zeros((1, 8 * H), np.float32),
            "w_scale": one, "w_zero": none, "r_scale": one, "r_zero": none,
        },
        domains={"com.microsoft": 1},
    )  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"lstm.*not constant"):
        convert_onnx(model, io.BytesIO())


def test_dequantized_weights_of_a_matrix_product_are_folded_at_load() -> None:
    rng = np.random.default_rng(2)
    w, scale = rng.integers(-128, 128, (64, 32)).astype(np.int8), np.full(32, 0.02, np.float32)
    model = onnx_models.model(
        [
            node("DequantizeLinear", ["w", "scale"], ["floats"], axis=1),
            node("MatMul", ["x", "floats"], ["y"]),
        ],
        {"x": (FLOAT, ["N", 64])},
        {"y": (FLOAT, ["N", 32])},
        {"w": w, "scale": scale},
    )
    target = io.BytesIO()
    convert_onnx(model, target)
    loaded = lightrnn.load(target.getvalue())
    x = rng.standard_normal((3, 64)).astype(np.float32)
    y = loaded.run({"x": x})["y"]
    assert loaded.plan({"x": (3, 64)}).host_steps == ()
    np.testing.assert_allclose(y, x @ (w.astype(np.float64) * scale), rtol=1e-5, atol=1e-4)
    assert loaded.graph("main").constants["w"].dtype == np.int8
