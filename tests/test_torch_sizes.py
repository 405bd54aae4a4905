"""Sizes and numbers that a module's example does not show: conditions on them, and their limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightrnn_converters.optional import require
from lightrnn_converters.torch_sizes import Sizes, Trials
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightrnn.errors import VerificationError
from lightrnn.graph import FLOAT32, Graph, Node, TensorType
from tests.torch_conversion import ATOL, convert


class Conditional(nn.Module):
    """Does something else where a condition on sizes holds."""

    def __init__(self, condition: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.gru, self.condition = nn.GRU(4, 6, batch_first=True), condition

    def forward(self, x: Tensor) -> Tensor:
        if self.condition(x):
            x = -x
        return self.gru(x)[1][-1]


CONDITIONS: dict[str, tuple[Callable[[Tensor], bool], str]] = {
    "long": (lambda x: x.size(1) > 20, r"where not x_1 <= 20\b"),
    "very long": (lambda x: x.size(1) > 900, r"where not x_1 <= 900\b"),
    "short": (lambda x: x.size(1) < 5, r"where not x_1 >= 5\b|DIFFERS"),
    "many": (lambda x: x.size(0) > 8, r"where not x_0 <= 8\b"),
    "two sizes": (lambda x: x.size(0) > 3 * x.size(1), "x_0"),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_that_other_sizes_decide_otherwise_is_refused(name: str) -> None:
    condition, message = CONDITIONS[name]
    with pytest.raises(VerificationError, match=message):
        convert(Conditional(condition), torch.randn(2, 7, 4))


class Positions(nn.Module):
    """Has a table of as many positions as there may be steps."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.gru = nn.Parameter(torch.randn(30, 4)), nn.GRU(4, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        assert x.size(1) <= 30
        return self.gru(x + self.table[: x.size(1)])[0]


def test_a_condition_that_the_module_itself_demands_is_none_to_refuse() -> None:
    module, x = Positions().eval(), torch.randn(3, 30, 4)
    found = convert(module, torch.randn(2, 7, 4))(x.numpy())
    np.testing.assert_allclose(found, module(x).detach().numpy(), atol=ATOL)


class Sorted(nn.Module):
    """Sorts sequences by length by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 9, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        lengths, order = lengths.sort(descending=True)
        packed = pack_padded_sequence(x[order], lengths, batch_first=True)
        return self.gru(packed)[1][-1][order.argsort()]


class Strided(nn.Module):
    """Halves sequences, and their lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 6, 3, stride=2, padding=1)
        self.gru = nn.GRU(6, 9, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x, lengths = self.conv(x.mT).mT, (lengths - 1) // 2 + 1
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.gru(packed)[1][-1]


@pytest.mark.parametrize("make", [Sorted, Strided])
def test_lengths_that_are_computed_with_are_tried_as_the_example_has_them(
    make: type[nn.Module],
) -> None:
    module = make().eval()
    model = convert(module, (torch.randn(3, 7, 6), torch.tensor([7, 3, 5])))
    x, lengths = torch.randn(4, 11, 6), torch.tensor([2, 11, 9, 1])
    found = model(x.numpy(), lengths.numpy())
    np.testing.assert_allclose(found, module(x, lengths).detach().numpy(), atol=ATOL)


class Share(nn.Module):
    """Fails where a number is 0."""

    def forward(self, total: Tensor, count: Tensor) -> Tensor:
        return total // count


def test_numbers_that_must_not_be_zero_are_tried_as_the_example_has_them() -> None:
    example = (torch.arange(1, 7), torch.arange(1, 7))
    found = convert(Share(), example)(np.array([9, 8]), np.array([2, 4]))
    np.testing.assert_array_equal(found, [4, 2])


def test_a_size_that_the_graph_alone_refuses_is_told_where_it_takes_others() -> None:
    """Even sizes here; the module takes all."""
    size = require("sympy").Symbol("n")
    node = Node("Reshape", ("x", "shape"), ("y",))
    kinds = {"x": TensorType(FLOAT32, ("n",))}, {"y": TensorType(FLOAT32, (2, None))}
    graph = Graph(*kinds, (node,), {"shape": np.array([2, -1])})
    trials = Trials(
        graph, lambda feeds: {"y": feeds["x"]}, Sizes({"x": (size,)}, {size: 6}),
        {"x": np.zeros(6, np.float32)},
    )  # fmt: skip
    assert {len(feeds["x"]) % 2 for feeds, _ in trials.done} == {0, 1}


class Best(nn.Module):
    """Uses one of the two results of an operator."""

    def __init__(self, choose: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.choose = choose

    def forward(self, x: Tensor) -> Any:
        return self.choose(x)


@pytest.mark.parametrize(
    "choose",
    [
        lambda x: x.topk(2, -1).values, lambda x: x.topk(2, -1).indices,
        lambda x: x.sort(-1).values, lambda x: x.sort(-1, descending=True).indices,
    ],
)  # fmt: skip
def test_one_result_of_two_is_enough(choose: Callable[[Tensor], Any]) -> None:
    module, x = Best(choose), torch.randn(3, 5)
    found = convert(module, torch.randn(2, 4))(x.numpy())
    np.testing.assert_array_equal(found, module(x).numpy())
