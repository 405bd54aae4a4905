"""Recurrences as exporters wrote them out: converted, compared, and rid of their shape arithmetic.

Each model runs at two sets of sizes against onnxruntime. Where its sizes are all that its integers
come from, nothing of those integers is left in a plan: `computed` lists the operators that are.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from lightrnn_converters import convert_onnx
from lightrnn_converters.source import load
from onnx import helper
from torch import Tensor, nn

import lightrnn
from lightrnn.graph import Array
from tests.exporter_forms import FORMS, Form, H, I, N, T, laid_out, masked_loop, ops
from tests.onnx_models import FLOAT, INT64, run
from tests.onnx_writer import Writer

OPSETS = (7, 9, 11, 13, 14, 17, 22)
SIZES = ({T: 7, N: 3}, {T: 2, N: 1})


def _cases() -> Iterator[Any]:
    for name, form in FORMS.items():
        for opset in OPSETS:
            if opset >= form.since:
                yield pytest.param(form, opset, id=f"{name}-{opset}")


def feeds(proto: Any, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """Random inputs; integers are lengths, of which the first is all the steps."""
    rng = np.random.default_rng(seed)
    given = {}
    for value in proto.graph.input:
        kind = value.type.tensor_type
        shape = [sizes.get(d.dim_param, d.dim_value) for d in kind.shape.dim]
        if kind.elem_type == INT64:
            given[value.name] = rng.integers(1, sizes[T] + 1, shape)
            given[value.name][0] = sizes[T]
        else:
            given[value.name] = rng.standard_normal(shape).astype(np.float32)
    return given


def converted(proto: Any, **options: Any) -> lightrnn.Model:
    target = io.BytesIO()
    convert_onnx(proto, target, **options)
    return lightrnn.load(target.getvalue())


def assert_agrees(model: lightrnn.Model, proto: Any, given: Mapping[str, Array]) -> None:
    wanted = run(proto, given)
    found = model.run({spec.name: given[spec.name] for spec in model.inputs})
    for (name, value), expected in zip(found.items(), wanted, strict=True):
        assert value.dtype == expected.dtype, name
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=2e-6, err_msg=name)


def computed(model: lightrnn.Model, given: Mapping[str, Array]) -> set[str]:
    """Operators that a plan runs in the kernel library. No node may be left to NumPy."""
    plan = model.plan({name: value.shape for name, value in given.items()})
    assert plan.host_steps == ()
    return {i.node.op for i in plan.instructions if i.kernel}


@pytest.mark.native
@pytest.mark.parametrize(("form", "opset"), [*_cases()])
def test_forms_of_exporters(form: Form, opset: int) -> None:
    proto = form.write(Writer(opset, inline=opset in (9, 13, 17)))
    model = converted(proto)
    for sizes in SIZES:
        given = feeds(proto, sizes)
        assert_agrees(model, proto, given)
        assert computed(model, given) <= form.computed


@pytest.mark.native
@pytest.mark.parametrize("opset", [14, 17, 22])
def test_layout_1_is_layout_0_between_transposes(opset: int) -> None:
    model = converted(laid_out(Writer(opset), 1))
    other = laid_out(Writer(opset), 0)
    for sizes in SIZES:
        given = feeds(other, sizes)
        assert_agrees(model, other, given)
        assert computed(model, given) <= ops("GRU Tile")


@pytest.mark.parametrize("opset", [11, 13, 17, 22])
def test_a_loop_with_a_mask(opset: int) -> None:
    proto = masked_loop(Writer(opset, inline=opset == 13))
    model = converted(proto)
    for sizes in SIZES:
        given = feeds(proto, sizes)
        given["x"][:, -1, 0] = 0
        given["x"][0, 0, 0] = 0
        assert_agrees(model, proto, given)


def test_wrong_declared_shapes_are_noted_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    proto = FORMS["keras_lstm"].write(Writer(13))
    for output, dims in zip(proto.graph.output, ((99,), (1, 2), ("time", 3)), strict=True):
        for dim in dims:
            kind = {"dim_value": dim} if isinstance(dim, int) else {"dim_param": dim}
            output.type.tensor_type.shape.dim.add(**kind)
    between = proto.graph.node[-6].output[0]
    proto.graph.value_info.append(helper.make_tensor_value_info(between, FLOAT, [1, 2, 3, 4, 5]))
    with caplog.at_level("INFO", "lightrnn"):
        model = converted(proto)
    assert [s.shape for s in model.outputs] == [(N, T, H), (N, H), (N, H)]
    assert "output 'y' is declared as (99,) and is float32[batch, time, 6]" in caplog.text
    assert "output 'h' is declared as (1, 2)" in caplog.text
    assert_agrees(model, proto, feeds(proto, SIZES[0]))


def test_weights_listed_as_inputs_are_constants() -> None:
    proto = FORMS["keras_gru"].write(Writer(9))
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        kind = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        proto.graph.input.append(kind)
    model = converted(proto)
    assert [s.name for s in model.inputs] == ["x"]
    assert_agrees(model, proto, {"x": feeds(FORMS["keras_gru"].write(Writer(9)), SIZES[0])["x"]})


class Cells(nn.Module):
    """A cell in a Python loop, from a zero state."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cell = kind(I, H)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        state, outputs = (h, h) if isinstance(self.cell, nn.LSTMCell) else h, []
        for step in range(x.shape[0]):
            state = self.cell(x[step], state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs)


class Stack(nn.Module):
    """Batch-major bidirectional layers; the last states of both directions, joined."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.rnn = kind(I, H, 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x)
        h = h[0] if isinstance(h, tuple) else h
        return y, torch.cat((h[-2], h[-1]), 1)


class Packed(nn.Module):
    """Sequences of given lengths, packed, run and padded."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=True)
        y, (h, _) = self.rnn(packed)
        return nn.utils.rnn.pad_packed_sequence(y)[0], h


def legacy(module: nn.Module, args: tuple[Tensor, ...], axes: Any, opset: int) -> Any:
    """What torch's TorchScript exporter writes."""
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), args, target, dynamo=False, opset_version=opset,
            input_names=["x", "lengths"][: len(args)], dynamic_axes=axes,
        )  # fmt: skip
    return load(target.getvalue())


TORCH: dict[str, tuple[Callable[[], nn.Module], bool, str]] = {
    "LSTMCell": (lambda: Cells(nn.LSTMCell), True, "Split Sigmoid Mul Add Tanh Gemm Concat"),
    "GRUCell": (lambda: Cells(nn.GRUCell), True, "Split Sigmoid Mul Add Sub Tanh Gemm Concat"),
    "RNNCell": (lambda: Cells(nn.RNNCell), True, "Add Tanh Gemm Concat"),
    "LSTM": (lambda: Stack(nn.LSTM), False, "LSTM Transpose Concat"),
    "GRU": (lambda: Stack(nn.GRU), False, "GRU Transpose Concat"),
    "RNN": (lambda: Stack(nn.RNN), False, "RNN Transpose Concat"),
}
"""Modules, whether their number of steps is written out, and what may be left in a plan."""


@pytest.mark.native
@pytest.mark.parametrize("opset", [9, 11, 13, 14, 17])
@pytest.mark.parametrize("name", TORCH)
def test_torch_s_older_exporter(name: str, opset: int) -> None:
    make, unrolled, left = TORCH[name]
    torch.manual_seed(0)
    axes = {"x": {1: N} if unrolled else {0: N, 1: T}}
    proto = legacy(make(), (torch.randn(4, 3, I),), axes, opset)
    model = converted(proto)
    for sizes in SIZES:
        given = feeds(proto, sizes)
        assert_agrees(model, proto, given)
        assert computed(model, given) <= ops(left)


@pytest.mark.native
@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell"])
def test_torch_s_newer_exporter(name: str) -> None:
    make, _, left = TORCH[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = torch.onnx.export(
            make().eval(), (torch.randn(4, 3, I),), dynamo=True, opset_version=22, verbose=False,
            dynamic_shapes=({1: torch.export.Dim.DYNAMIC},),
        ).model_proto  # fmt: skip
    model = converted(proto)
    (batch,) = {d.dim_param for i in proto.graph.input for d in i.type.tensor_type.shape.dim} - {""}
    for sizes in SIZES:
        given = feeds(proto, {batch: sizes[N]})
        assert_agrees(model, proto, given)
        assert computed(model, given) <= ops(left)


@pytest.mark.parametrize("opset", [11, 14, 17])
def test_packed_sequences_of_torch_s_older_exporter(opset: int) -> None:
    torch.manual_seed(0)
    args = (torch.randn(6, 3, I), torch.tensor([6, 4, 1]))
    axes = {"x": {0: T, 1: N}, "lengths": {0: N}}
    proto = legacy(Packed(), args, axes, opset)
    model = converted(proto)
    for lengths in ([7, 7, 2], [5], [4, 3, 2, 1]):
        given = feeds(proto, {T: max(lengths), N: len(lengths)})
        assert_agrees(model, proto, {**given, "lengths": np.array(lengths)})
