"""The oracles against torch in float64, and the kernels of plain operators against the oracles."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.defs
import pytest
import torch
from torch import nn

from lightrnn.graph import Array, Attr, Node
from lightrnn.ops import REGISTRY, Operator, build
from tests.kernels import run_lowered
from tests.naive import activations
from tests.naive.gemm import gemm, matmul
from tests.naive.gru import gru
from tests.naive.layer_normalization import layer_normalization
from tests.naive.lstm import lstm
from tests.naive.rnn import rnn
from tests.naive.softmax import log_softmax, softmax

ORDERS = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
"""Where ONNX's gates lie among torch's: GRU r z n, LSTM i f g o."""


def weights_of(module: nn.RNNBase, kind: str) -> dict[str, Array]:
    """A layer's weights as ONNX has them."""
    suffixes = ("", "_reverse") if module.bidirectional else ("",)

    def gates(name: str, suffix: str) -> Array:
        parts = getattr(module, f"{name}_l0{suffix}").detach().numpy()
        parts = np.split(parts, len(ORDERS[kind]))
        return np.concatenate([parts[k] for k in ORDERS[kind]])

    found = {
        "W": np.stack([gates("weight_ih", s) for s in suffixes]),
        "R": np.stack([gates("weight_hh", s) for s in suffixes]),
        "B": np.stack(
            [np.concatenate([gates("bias_ih", s), gates("bias_hh", s)]) for s in suffixes]
        ),
    }
    if module.proj_size:
        projections = [getattr(module, f"weight_hr_l0{s}").detach().numpy() for s in suffixes]
        found["projection"] = np.stack(projections)
    return found


MODULES: dict[str, tuple[str, Any, dict[str, Any], dict[str, Any]]] = {
    "RNN": ("RNN", nn.RNN, {}, {}),
    "RNN relu": ("RNN", nn.RNN, {"nonlinearity": "relu"}, {"activations": ["Relu"]}),
    "GRU": ("GRU", nn.GRU, {}, {"linear_before_reset": 1}),
    "LSTM": ("LSTM", nn.LSTM, {}, {}),
    "LSTM projected": ("LSTM", nn.LSTM, {"proj_size": 3}, {}),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_recurrent_oracles_agree_with_torch(name: str, bidirectional: bool, first: bool) -> None:
    kind, cls, options, attrs = MODULES[name]
    torch.manual_seed(0)
    made = {**options, "bidirectional": bidirectional, "batch_first": first, "dtype": torch.float64}
    module = cls(5, 7, **made)
    directions, size = 1 + bidirectional, options.get("proj_size", 7)
    x = torch.randn(4, 6, 5, dtype=torch.float64)
    states = [torch.randn(directions, 4 if first else 6, size, dtype=torch.float64)]
    if kind == "LSTM":
        states.append(torch.randn(directions, states[0].shape[1], 7, dtype=torch.float64))
    y, finals = module(x, tuple(states) if kind == "LSTM" else states[0])
    inputs: dict[str, Any] = dict(weights_of(module, kind))
    for key, state in zip(("initial_h", "initial_c"), states, strict=False):
        inputs[key] = state.numpy().swapaxes(0, 1) if first else state.numpy()
    if "activations" in attrs:
        attrs = {"activations": attrs["activations"] * directions}
    found = {"RNN": rnn, "GRU": gru, "LSTM": lstm}[kind](
        x.numpy(), **inputs, hidden_size=7, layout=int(first), **attrs,
        direction="bidirectional" if bidirectional else "forward",
    )  # fmt: skip
    own = found[0] if first else found[0].swapaxes(1, 2)
    wanted = y.detach().numpy().reshape(own.shape)
    np.testing.assert_allclose(own, wanted, rtol=0, atol=1e-13)
    for a, b in zip(found[1:], finals if kind == "LSTM" else [finals], strict=True):
        own = a.swapaxes(0, 1) if first else a
        np.testing.assert_allclose(own, b.detach().numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh", "Relu", "LeakyRelu", "HardSigmoid", "Elu"])
def test_activation_oracles_agree_with_torch(name: str) -> None:
    x = np.linspace(-4, 4, 101)
    functions: dict[str, Any] = {
        "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Relu": torch.relu,
        "LeakyRelu": nn.LeakyReLU(0.3), "Elu": nn.ELU(0.3),
        "HardSigmoid": lambda v: torch.clamp(0.3 * v + 0.6, 0, 1),
    }  # fmt: skip
    (found,) = activations.activations([name], [0.3], [0.6])
    expected = functions[name](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found(x), expected, rtol=0, atol=1e-15)


def test_defaults_are_those_of_onnx() -> None:
    for parameter, defaults in (("alpha", activations.ALPHA), ("beta", activations.BETA)):
        for name, value in defaults.items():
            schema = onnx.defs.get_schema(name)
            assert schema.attributes[parameter].default_value.f == np.float32(value)


def operator_of(name: str, count: int, **attrs: Attr) -> Operator:
    inputs = tuple(f"in{k}" for k in range(count))
    return build(Node(name, inputs, REGISTRY[name].outputs.names[:1], attrs))


def assert_native(op: Operator, inputs: list[Array], expected: Array, known: bool = True) -> None:
    """NumPy semantics and kernels give the first output; known: all inputs but the first."""
    constants = range(1, len(inputs)) if known else ()
    found = run_lowered(op, inputs, "native", constants=constants)
    assert found is not None
    for y in (found[0], op.evaluate(*inputs)[0]):
        assert y is not None
        assert y.shape == expected.shape
        atol = op.rtol * np.abs(expected).max(initial=0)
        np.testing.assert_allclose(y, expected, rtol=0, atol=atol)


def normal(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


@pytest.mark.native
@pytest.mark.parametrize("m", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 33])
def test_products_of_all_sizes(m: int) -> None:
    """Around the tiles of kernels/tiling.py and its runs of additions."""
    for k in (0, 1, 5, 127, 128, 129, 300):
        for n in (1, 15, 16, 17, 33, 64, 130):
            a, b = normal(m, k), normal(k, n)
            for known in (True, False):
                assert_native(operator_of("MatMul", 2), [a, b], matmul(a, b), known)


@pytest.mark.native
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("c", [None, (), (17,), (5, 1), (5, 17)])
def test_gemm_in_all_its_forms(trans_b: int, c: tuple[int, ...] | None) -> None:
    inputs = [normal(5, 130)]
    inputs.append(normal(*((17, 130) if trans_b else (130, 17))))
    if c is not None:
        inputs.append(normal(*c))
    attrs: dict[str, Any] = {"transB": trans_b, "alpha": 0.5, "beta": 2.0}
    op = operator_of("Gemm", len(inputs), **attrs)
    assert_native(op, inputs, gemm(*inputs, **attrs))


@pytest.mark.native
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (2, 5, 16), (4, 33, 3), (0, 3), (1, 1000)])
def test_softmax_along_every_axis(shape: tuple[int, ...]) -> None:
    x = normal(*shape) * 20
    for axis in range(-len(shape), len(shape)):
        if shape[axis]:
            op, logarithm = (
                operator_of("Softmax", 1, axis=axis),
                operator_of("LogSoftmax", 1, axis=axis),
            )
            assert_native(op, [x], softmax(x, axis=axis))
            assert_native(logarithm, [x], log_softmax(x, axis=axis))


@pytest.mark.native
@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 33, 257])
@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization_of_all_sizes(size: int, axis: int) -> None:
    x, shape = normal(3, 2, size), (size,) if axis == -1 else (2, size)
    inputs = [x, normal(*shape), normal(*shape)]
    op = operator_of("LayerNormalization", 3, axis=axis)
    found = run_lowered(op, inputs, "native", constants=(1, 2))
    assert found is not None
    for a, b in zip(found, layer_normalization(*inputs, axis=axis), strict=True):
        assert a is not None
        np.testing.assert_allclose(a, b, rtol=0, atol=op.rtol * np.abs(b).max())
