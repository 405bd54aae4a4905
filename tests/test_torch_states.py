"""State of torch modules: kept in attributes, or taken and returned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lightrnn
from lightrnn.errors import ConversionError, LightRNNError, VerificationError
from tests.models import ALL, Stateful
from tests.more_models import MORE
from tests.torch_conversion import ATOL, convert, converted


class KeepsTuple(nn.Module):
    """The state of a layer in an attribute that is None at first."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 6, batch_first=True)
        self.linear = nn.Linear(6, 2)
        self.hidden: Any = None

    def forward(self, x: Tensor) -> Tensor:
        y, self.hidden = self.rnn(x, self.hidden)
        scores: Tensor = self.linear(y)
        return scores


class KeepsBuffer(nn.Module):
    """The state of a cell in a buffer that is set anew, or written to."""

    h: Tensor

    def __init__(self, *, in_place: bool, size: int = 5) -> None:
        super().__init__()
        self.cell = nn.GRUCell(size, 6)
        self.register_buffer("h", torch.zeros(3, 6))
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        h = self.cell(x, self.h)
        if self.in_place:
            self.h.copy_(h)
        else:
            self.h = h
        return self.h * 2


class KeepsPast(nn.Module):
    """The last frames, for a causal convolution."""

    past: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(5, 6, 3)
        self.register_buffer("past", torch.zeros(1, 5, 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((self.past, x), 2)
        self.past = x[:, :, -2:]
        return torch.relu(self.conv(x))


CASES: dict[str, tuple[Any, Any, dict[str, str]]] = {
    "tuple": (KeepsTuple, lambda: torch.randn(3, 4, 5),
              {"hidden_0": "hidden_0_out", "hidden_1": "hidden_1_out"}),
    "buffer": (lambda: KeepsBuffer(in_place=False), lambda: torch.randn(3, 5), {"h": "h_out"}),
    "buffer in place": (lambda: KeepsBuffer(in_place=True), lambda: torch.randn(3, 5),
                        {"h": "h_out"}),
    "past frames": (KeepsPast, lambda: torch.randn(1, 5, 4), {"past": "past_out"}),
}  # fmt: skip


def _run(model: lightrnn.Model, given: Any, states: dict[str, Any]) -> dict[str, Any]:
    """One call of the graph; `states` is brought up to date."""
    feeds = {n: t.numpy() for n, t in given.items()} if isinstance(given, dict) else {
        model.inputs[0].name: given.numpy()
    }  # fmt: skip
    pairs = model.graph("main").states
    found = model.run({**feeds, **states})
    states.update({name: found[output] for name, output in pairs.items()})
    return {n: a for n, a in found.items() if n not in pairs.values()}


@pytest.mark.parametrize("name", CASES)
def test_state_in_attributes_becomes_inputs_and_outputs(name: str) -> None:
    make, inputs, pairs = CASES[name]
    torch.manual_seed(0)
    module = make().eval()
    model = convert(module, inputs())
    stored = model.graph("main")
    assert stored.states == pairs
    given = inputs()
    sizes = {"x_0": 3 if name != "past frames" else 1}
    states = {
        n: np.zeros([sizes.get(d, d) for d in stored.inputs[n].shape or ()], stored.inputs[n].dtype)  # type: ignore[misc,arg-type]
        for n in pairs
    }
    for _ in range(4):
        found = _run(model, given, states)
        with torch.no_grad():
            wanted = module(**given) if isinstance(given, dict) else module(given)
        wanted = wanted if isinstance(wanted, dict) else {"output": wanted}
        assert list(found) == list(wanted)
        for key, array in found.items():
            np.testing.assert_allclose(array, wanted[key], rtol=0, atol=ATOL)


def test_batch_of_a_buffer_may_vary() -> None:
    model = convert(KeepsBuffer(in_place=False).eval(), torch.randn(3, 5))
    assert [s.shape for s in model.inputs] == [("x_0", 5), ("x_0", 6)]
    assert convert(KeepsPast().eval(), torch.randn(1, 5, 4)).inputs[1].shape == ("x_0", 5, 2)


@pytest.mark.parametrize("name", CASES)
def test_attributes_are_left_as_they_were(name: str) -> None:
    make, inputs, _ = CASES[name]
    module = make()
    before = {k: dict(vars(m)) for k, m in module.named_modules()}
    buffers = {k: (b, b.clone()) for k, b in module.named_buffers()}
    convert(module, inputs())
    assert {k: dict(vars(m)) for k, m in module.named_modules()} == before
    for key, buffer in module.named_buffers():
        assert buffer is buffers[key][0]
        assert torch.equal(buffer, buffers[key][1])


class KeepsResult(nn.Module):
    """Sets an attribute that it never reads, and a counter that does not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 6)
        self.weights: Any = None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        self.weights = y.softmax(2)
        self.calls += 1
        result: Tensor = y * 2
        return result


def test_attribute_that_is_not_read_is_no_state() -> None:
    module = KeepsResult().eval()
    module(torch.randn(4, 3, 5))
    model = convert(module, torch.randn(4, 3, 5))
    assert [s.name for s in (*model.inputs, *model.outputs)] == ["x", "output"]
    assert model.graph("main").states == {}


class KeepsNumber(nn.Module):
    """Counts in a Python number, which torch.export freezes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


class StartsElsewhere(KeepsTuple):
    """Starts from ones, where its attribute says None."""

    def forward(self, x: Tensor) -> Tensor:
        if self.hidden is None:
            self.hidden = (torch.ones(1, x.shape[0], 6), torch.ones(1, x.shape[0], 6))
        return super().forward(x)


@pytest.mark.parametrize(("make", "inputs"), [
    (KeepsNumber, torch.randn(3, 4)), (StartsElsewhere, torch.randn(3, 4, 5)),
])  # fmt: skip
def test_state_that_cannot_be_carried_is_found_by_calling_in_a_row(make: Any, inputs: Any) -> None:
    with pytest.raises(VerificationError, match="keeps more from call to call than tensors"):
        convert(make().eval(), inputs)


def test_state_that_does_not_start_as_zeros_is_refused() -> None:
    module = KeepsBuffer(in_place=False).eval()
    module(torch.randn(3, 5))
    with pytest.raises(ConversionError, match=r"attribute 'h' .* states start as zeros: set it to"):
        convert(module, torch.randn(3, 5))


class Grows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return torch.stack(self.seen).sum(0)


def test_state_that_grows_is_refused_and_put_back() -> None:
    module = Grows()
    with pytest.raises(LightRNNError, match="attribute 'seen' of the module holds more at every"):
        convert(module, torch.randn(3, 4))
    assert module.seen == []


# States that are taken and returned


def _states(name: str) -> dict[str, str]:
    example = next(e for e in (*ALL, *MORE) if e.name == name)
    return dict(converted(example).graph("main").states)


@pytest.mark.parametrize(("name", "pairs"), [
    ("rnn h0", {"h0": "output_1"}),
    ("gru h0", {"h0": "output_1"}),
    ("lstm h0 c0", {"h0": "output_1_0", "c0": "output_1_1"}),
    ("packed tagger, kept length", {"h0": "output_1", "c0": "output_2"}),
    ("one lstm cell", {"inputs_1": "output_0", "inputs_2": "output_1"}),
    ("gru cells", {"inputs_1": "output_1"}),
])  # fmt: skip
def test_states_that_are_sure_are_found(name: str, pairs: dict[str, str]) -> None:
    assert _states(name) == pairs


@pytest.mark.parametrize("name", [
    "gru", "gru bidirectional h0", "lstm proj_size bidirectional h0 c0", "encoder", "decoder step",
    "packed bigru, 2 layers, state",
])  # fmt: skip
def test_states_that_are_not_sure_are_not_guessed(name: str) -> None:
    """Those of layers that run backwards, and those that are read elsewhere too."""
    assert _states(name) == {}


class Crossed(nn.Module):
    """Returns the final states of two layers in an order of its own."""

    def __init__(self, order: Any) -> None:
        super().__init__()
        self.rnn, self.order = nn.GRU(5, 6, 2), order

    def forward(self, x: Tensor, h: Tensor) -> Any:
        y, h = self.rnn(x, h)
        return y, self.order(h)


@pytest.mark.parametrize(("order", "pairs"), [
    (lambda h: h.transpose(0, 1).transpose(0, 1), {"h": "output_1"}),
    (lambda h: torch.stack((h[0], h[1])), {"h": "output_1"}),
    (lambda h: h.flip(0), {}),
    (lambda h: torch.cat((h[1:], h[:1])), {}),
    (lambda h: h[:1], {}),
    (lambda h: h * 1.5, {}),
    (lambda h: (h, h[0]), {"h": "output_1_0"}),
    (lambda h: h.transpose(0, 1), {}),
])  # fmt: skip
def test_output_must_be_put_together_as_the_input_is(order: Any, pairs: dict[str, str]) -> None:
    model = convert(Crossed(order).eval(), (torch.randn(4, 3, 5), torch.randn(2, 3, 6)))
    assert model.graph("main").states == pairs


class ShownToo(nn.Module):
    """Uses the initial state besides."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 6)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        y, after = self.rnn(x, h)
        return y + h, after


def test_state_that_is_read_elsewhere_is_not_guessed() -> None:
    model = convert(ShownToo().eval(), (torch.randn(4, 3, 5), torch.randn(1, 3, 6)))
    assert model.graph("main").states == {}


def test_states_given_are_the_only_ones() -> None:
    inputs = (torch.randn(4, 3, 5), torch.randn(1, 3, 6), torch.randn(1, 3, 6))
    module = Stateful(nn.LSTM(5, 6)).eval()
    assert convert(module, inputs, states={}).graph("main").states == {}
    assert convert(module, inputs, states={"h0": "output_1_0"}).graph("main").states == {
        "h0": "output_1_0"
    }
