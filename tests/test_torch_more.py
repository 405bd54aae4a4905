"""torch modules as people write them convert, and agree at other shapes than the example's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lightrnn.errors import DataError, LightRNNError
from tests.models import Example
from tests.more_models import MORE, Packed
from tests.torch_conversion import assert_agrees, convert, converted, feeds, inputs, wanted


@pytest.mark.parametrize("example", [pytest.param(e, id=e.name) for e in MORE])
def test_outputs_agree_at_other_shapes(example: Example) -> None:
    model, module = converted(example), example.module()
    for number in range(1, len(example.sizes)):
        arguments = inputs(example, number)
        assert_agrees(model.run(feeds(model, arguments)), wanted(module, arguments))


@pytest.mark.native
@pytest.mark.parametrize("example", [pytest.param(e, id=e.name) for e in MORE if e.native])
def test_runs_in_one_native_call_at_two_shapes(example: Example) -> None:
    model = converted(example)
    for number in (1, 2):
        arrays = feeds(model, inputs(example, number))
        plan = model.plan({name: a.shape for name, a in arrays.items()})
        assert plan.host_steps == ()
        assert plan.native_calls == 1


# Packed sequences


def test_packed_layer_is_one_node_with_lengths() -> None:
    model = converted(next(e for e in MORE if e.name == "packed bilstm, 2 layers, states"))
    layers = [n for n in model.graph("main").nodes if n.op == "LSTM"]
    assert len(layers) == 2
    assert all(n.inputs[4] for n in layers)
    assert not {"TopK", "Gather", "ScatterElements"} & {n.op for n in model.graph("main").nodes}


def test_output_is_as_long_as_the_longest() -> None:
    model = converted(next(e for e in MORE if e.name == "packed lstm"))
    for given in ([3, 7, 5], [2, 2, 1], [9, 1, 1]):
        x = torch.randn(9, 3, 5).numpy()
        found = model.run({"x": x, "lengths": np.array(given)})
        assert found["output_0"].shape == (max(given), 3, 6)


def test_length_of_zero_gives_zeros_where_torch_refuses_it() -> None:
    model = converted(next(e for e in MORE if e.name == "packed gru, batch_first, total_length"))
    x = np.ones((2, 4, 5), np.float32)
    found = model.run({"x": x, "lengths": np.array([0, 3])})
    assert not found["output_0"][0].any()
    assert not found["output_1"][:, 0].any()
    assert found["output_0"][1, :3].any()


@pytest.mark.parametrize("name", ["packed lstm", "packed gru, longer total_length"])
@pytest.mark.parametrize("given", [[10, 3, 2], [-1, 3, 2]])
def test_lengths_out_of_range_are_refused(name: str, given: list[int]) -> None:
    model = converted(next(e for e in MORE if e.name == name))
    steps, first = 4, name != "packed lstm"
    x = np.zeros((3, steps, 5) if first else (steps, 3, 5), np.float32)
    with pytest.raises(DataError):
        model.run({"x": x, "lengths": np.array(given)})


def test_total_length_that_a_sequence_exceeds_is_refused_as_torch_does() -> None:
    """torch refuses it; a result that is cut off would be silently wrong."""
    module = Packed(nn.GRU(5, 6, batch_first=True), total=9).eval()
    x, lengths = torch.randn(2, 12, 5), torch.tensor([12, 3])
    with pytest.raises(ValueError, match="total_length"):
        module(x, lengths)
    model = converted(next(e for e in MORE if e.name == "packed gru, longer total_length"))
    with pytest.raises(DataError):
        model.run({"x": x.numpy(), "lengths": lengths.numpy()})


class OnData(nn.Module):
    """Computes on the data of a packed sequence, by a function of it and of the module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 6, batch_first=True)
        self.bias = nn.Parameter(torch.randn(6))
        self.function = function

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        p = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = self.rnn(p)
        data = self.function(self, y.data)
        y = nn.utils.rnn.PackedSequence(data, y.batch_sizes, y.sorted_indices, y.unsorted_indices)
        return pad_packed_sequence(y, batch_first=True)[0]


PACKED = (torch.randn(3, 4, 5), torch.tensor([2, 4, 1]))


@pytest.mark.parametrize("function", [
    lambda m, data: torch.tanh(data) * 2 + m.bias,
    lambda m, data: m.bias - data,
    lambda m, data: data + torch.relu(data) / 3,
    lambda m, data: nn.functional.layer_norm(input=data, normalized_shape=(6,)),
])  # fmt: skip
def test_functions_of_each_step_may_be_applied_to_packed_data(function: Any) -> None:
    module = OnData(function).eval()
    model = convert(module, PACKED)
    given = (torch.randn(2, 6, 5), torch.tensor([3, 5]))
    assert_agrees(model.run(feeds(model, given)), wanted(module, given))


@pytest.mark.parametrize("function", [
    lambda m, data: data - data.mean(),
    lambda m, data: data * torch.ones(data.shape[0], 1),
    lambda m, data: torch.cat([data, data]),
    lambda m, data: data.flip(0),
    lambda m, data: torch.softmax(input=data, dim=0),
    lambda m, data: torch.ones(7, 6) * data,
])  # fmt: skip
def test_functions_across_steps_of_packed_data_are_refused(function: Any) -> None:
    with pytest.raises(LightRNNError, match="on packed data; unpack it with pad_packed_sequence"):
        convert(OnData(function).eval(), PACKED)


# Types


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("make", [
    lambda: nn.GRU(5, 6, 2, bidirectional=True), lambda: nn.LSTM(5, 6), lambda: nn.RNN(5, 6),
    lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.LayerNorm(6, 2**-17), nn.Softmax(-1)),
])  # fmt: skip
def test_modules_of_other_precisions_run_in_it(make: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = make().eval().to(dtype)
    model = convert(module, torch.randn(4, 3, 5, dtype=dtype))
    given = (torch.randn(6, 2, 5, dtype=dtype),)
    atol = 1e-12 if dtype == torch.float64 else 4e-3
    assert_agrees(model.run(feeds(model, given)), wanted(module, given), atol)


def test_results_of_every_type_keep_it() -> None:
    model = converted(next(e for e in MORE if e.name == "integers and truth values"))
    assert [s.dtype.name for s in model.outputs] == ["bool", "int64", "int64", "int64", "bool"]
