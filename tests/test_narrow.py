"""Element types that NumPy lacks: rounding against ml_dtypes, and models that use them."""

from __future__ import annotations

import io
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from lightrnn_converters import convert_onnx
from lightrnn_converters.narrow import NarrowTensors
from onnx import TensorProto, helper, numpy_helper

from lightrnn.errors import UnsupportedError
from lightrnn.graph import FLOAT32, Array, Node, TensorType
from lightrnn.model import Model
from lightrnn.ops.logic import Cast
from lightrnn.ops.narrow import NARROW
from tests.onnx_models import FLOAT, model, node

POWER = TensorProto.FLOAT8E8M0
KNOWN = {n: NARROW[n] for n in NARROW if n in TensorProto.DataType.values()}  # to this onnx
FLOATS = [n for n, t in KNOWN.items() if t.carrier == np.float32 and n != POWER]
INTEGERS = [n for n, t in KNOWN.items() if t.carrier != np.float32]


def _values(dtype: type[np.generic]) -> Array:
    """Numbers of every magnitude, halfway points, and those that types treat apart."""
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        return np.concatenate([
            rng.standard_normal(4000) * 10.0 ** rng.integers(-9, 9, 4000),
            np.arange(-600, 600) / 16, np.arange(-70000, 70000, 256),
            [0.0, -0.0, np.inf, -np.inf, 3.4e38, 1e-40, 464.0, 465.0, 248.0, 61440.0],
        ]).astype(dtype)  # fmt: skip


def _same(found: Array, expected: Array) -> bool:
    equal = (found == expected) & (np.signbit(found) == np.signbit(expected))
    return bool(np.all(equal | (np.isnan(found) & np.isnan(expected))))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("number", FLOATS)
def test_floats_round_as_ml_dtypes_has_them(number: int, saturate: int, dtype: Any) -> None:
    x = np.append(_values(dtype), np.array(np.nan, dtype))
    target = helper.tensor_dtype_to_np_dtype(number)
    with np.errstate(all="ignore"):
        if saturate and NARROW[number].name.startswith("float8"):
            expected = numpy_helper.saturate_cast(x, target)
        else:
            expected = x.astype(target)
    if "4e2" in NARROW[number].name or "float6" in NARROW[number].name:
        x, expected = x[:-1], expected[:-1]  # these have no NaN
    (found,) = Cast(number, saturate).evaluate(x)
    assert found.dtype == np.float32
    assert _same(found, expected.astype(np.float32))


@pytest.mark.parametrize("number", INTEGERS)
def test_small_integers_drop_higher_bits(number: int) -> None:
    x = np.arange(-300, 300)
    target = helper.tensor_dtype_to_np_dtype(number)
    (found,) = Cast(number).evaluate(x)
    np.testing.assert_array_equal(found, x.astype(target).astype(np.int64))
    assert found.dtype == NARROW[number].carrier


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_powers_of_two_round_by_their_mode(mode: str) -> None:
    x = np.abs(_values(np.float32))
    x = x[(x > 2.0**-126) & np.isfinite(x)]
    expected = numpy_helper.to_float8e8m0(x, True, mode).astype(np.float32)
    (found,) = Cast(POWER, 1, mode).evaluate(x)
    np.testing.assert_array_equal(found, expected)


def test_powers_of_two_at_the_ends() -> None:
    """As the table in ONNX's Cast has them."""
    x = np.array([0.0, np.nan, np.inf, 3e38], np.float32)
    (up,) = Cast(POWER, 1, "up").evaluate(x)
    np.testing.assert_array_equal(up, np.array([2.0**-127, np.nan, 2.0**127, 2.0**127], np.float32))
    (nearest,) = Cast(POWER, 0, "nearest").evaluate(x)
    np.testing.assert_array_equal(nearest, np.full(4, np.nan, np.float32))


def _converted(proto: onnx.ModelProto) -> Model:
    file = io.BytesIO()
    convert_onnx(proto, file, verify=False)
    return Model(file.getvalue())


def _narrow_constant(name: str, values: Any, dtype: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype), name)


def test_bfloat16_model_is_computed_in_float32() -> None:
    """Weights in bfloat16, and a cast that rounds to it."""
    kind = TensorProto.BFLOAT16
    proto = model(
        [
            node("Cast", ["x"], ["x16"], to=kind),
            node("MatMul", ["x16", "w"], ["y16"]),
            node("CastLike", ["one", "y16"], ["one16"]),
            node("Add", ["y16", "one16"], ["z16"]),
            node("Cast", ["z16"], ["y"], to=FLOAT),
        ],
        {"x": (FLOAT, ("N", 3))}, {"y": (FLOAT, ("N", 2))},
        {"one": np.array([1.001, 1], np.float32)}, opset=24,
    )  # fmt: skip
    w = np.random.default_rng(0).standard_normal((3, 2)).astype(ml_dtypes.bfloat16)
    proto.graph.initializer.append(numpy_helper.from_array(w, "w"))
    x = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    rounded = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    wanted = rounded @ w.astype(np.float32) + np.float32(1)
    np.testing.assert_allclose(_converted(proto)(x), wanted, rtol=1e-6)


def test_small_integers_are_moved_and_cast() -> None:
    proto = model(
        [
            node("Transpose", ["w"], ["t"]),
            node("Concat", ["t", "t"], ["c"], axis=0),
            node("Cast", ["c"], ["f"], to=FLOAT),
            node("Mul", ["x", "f"], ["y"]),
        ],
        {"x": (FLOAT, (4, 2))}, {"y": (FLOAT, (4, 2))}, opset=25,
    )  # fmt: skip
    proto.graph.initializer.append(_narrow_constant("w", [[-8, 7], [3, -1]], ml_dtypes.int4))
    (wanted,) = (np.tile(np.array([[-8, 3], [7, -1]], np.float32), (2, 1)),)
    np.testing.assert_array_equal(_converted(proto)(np.ones((4, 2), np.float32)), wanted)


@pytest.mark.parametrize("kind", [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn])
def test_values_are_quantized_to_the_type_of_the_zero_point(kind: Any) -> None:
    proto = model(
        [
            node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            node("Cast", ["q"], ["y"], to=FLOAT),
        ],
        {"x": (FLOAT, (9,))}, {"y": (FLOAT, (9,))}, {"scale": np.array(0.5, np.float32)}, opset=24,
    )  # fmt: skip
    proto.graph.initializer.append(_narrow_constant("zero", 0, kind))
    x = np.array([-1e4, -7.3, -4.2, -0.26, 0.0, 0.25, 1.3, 3.6, 1e4], np.float32)
    info = (ml_dtypes.iinfo if "int" in kind.__name__ else ml_dtypes.finfo)(kind)
    steps = x / 0.5 if "float" in kind.__name__ else np.rint(x / 0.5)
    wanted = np.clip(steps, float(info.min), float(info.max)).astype(kind).astype(np.float32)
    np.testing.assert_array_equal(_converted(proto)(x), wanted)


@pytest.mark.parametrize(("zero", "name"), [
    (ml_dtypes.int4, "int4"), (ml_dtypes.float8_e4m3fn, "float8e4m3fn"),
])  # fmt: skip
def test_operator_that_computes_on_a_small_type_is_refused(zero: Any, name: str) -> None:
    proto = model(
        [node("Add", ["zero", "zero"], ["q"]), node("Cast", ["q"], ["y"], to=FLOAT)],
        {"x": (FLOAT, (3,))}, {"y": (FLOAT, (3,))}, opset=24,
    )  # fmt: skip
    proto.graph.initializer.append(_narrow_constant("zero", 0, zero))
    with pytest.raises(UnsupportedError, match=f"Add node 'q': element type {name} is"):
        _converted(proto)


def test_dequantized_elements_have_the_type_of_their_scale() -> None:
    tensors = NarrowTensors()
    tensors.note("q", TensorProto.INT4)
    tensors.note("scale", TensorProto.BFLOAT16)
    node = Node("DequantizeLinear", ("q", "scale"), ("x",))
    tensors.spread(tensors.admit(node), (TensorType(FLOAT32, (2,)),))
    assert tensors.types["x"] == TensorProto.BFLOAT16
    tensors.note("f", TensorProto.FLOAT8E5M2)
    node = Node("DequantizeLinear", ("f", "single"), ("y",))
    tensors.spread(tensors.admit(node), (TensorType(FLOAT32, (2,)),))
    assert "y" not in tensors.types


def test_inputs_of_a_carried_type_say_so(caplog: pytest.LogCaptureFixture) -> None:
    kind = TensorProto.BFLOAT16
    proto = model([node("Neg", ["x"], ["y"])], {"x": (kind, (2,))}, {"y": (kind, (2,))}, opset=24)
    with caplog.at_level("INFO", "lightrnn"):
        converted = _converted(proto)
    assert "'x' is bfloat16 in the source and float32 here" in caplog.text
    assert converted.inputs[0].dtype == np.float32
