"""torch modules convert, and what runs agrees with them at other shapes than the example's."""

from __future__ import annotations

import io
import logging
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lightrnn_converters import Report, TorchGraph, convert_torch, convert_torch_graphs
from torch import Tensor, nn

import lightrnn
from lightrnn.errors import ConversionError, LightRNNError, VerificationError
from lightrnn.format import read
from tests.models import ALL, DECODER, ENCODER, VOCABULARY, Classifier, Example, Stateful, Tagger
from tests.torch_conversion import assert_agrees, convert, converted, feeds, inputs, wanted

EXAMPLES = [pytest.param(e, id=e.name) for e in ALL]
NATIVE = [pytest.param(e, id=e.name) for e in ALL if e.native]


@pytest.mark.parametrize("example", EXAMPLES)
def test_outputs_agree_at_other_shapes(example: Example) -> None:
    model, module = converted(example), example.module()
    for number in range(1, len(example.sizes)):
        arguments = inputs(example, number)
        assert_agrees(model.run(feeds(model, arguments)), wanted(module, arguments))


@pytest.mark.native
@pytest.mark.parametrize("example", NATIVE)
def test_runs_in_one_native_call_at_two_shapes(example: Example) -> None:
    model = converted(example)
    for number in (1, 2):
        arrays = feeds(model, inputs(example, number))
        plan = model.plan({name: a.shape for name, a in arrays.items()})
        assert plan.host_steps == ()
        assert plan.native_calls == 1


def test_batch_and_length_have_names() -> None:
    model = converted(next(e for e in ALL if e.name == "lstm h0 c0"))
    assert [s.shape for s in model.inputs] == [
        ("x_0", "x_1", 5), (2, "x_1", 6), (2, "x_1", 6),
    ]  # fmt: skip
    assert [s.shape for s in model.outputs] == [
        ("x_0", "x_1", 6), (2, "x_1", 6), (2, "x_1", 6),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(1, 4), (3, 1), (1, 1)])
def test_size_of_one_in_the_example_may_vary(size: tuple[int, int]) -> None:
    module = Tagger().eval()
    model = convert(module, torch.zeros(size, dtype=torch.int64))
    arguments = (torch.randint(0, VOCABULARY, (4, 6)),)
    assert_agrees(model.run(feeds(model, arguments)), wanted(module, arguments))


@pytest.mark.parametrize(
    ("module", "shapes"),
    [
        (Stateful(nn.LSTM(5, 6)), [(4, 2, 5), (1, 2, 6), (1, 2, 6)]),
        (nn.MultiheadAttention(6, 2), [(4, 2, 6)] * 3),
    ],
    ids=["states", "attention"],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_a_tensor_given_twice_is_two_inputs(
    module: nn.Module, shapes: list[tuple[int, ...]], by_name: bool
) -> None:
    made = {shape: torch.zeros(shape) for shape in shapes}
    names = ("x", "h0", "c0") if isinstance(module, Stateful) else ("query", "key", "value")
    example: Any = tuple(made[shape] for shape in shapes)
    model = convert(module.eval(), dict(zip(names, example, strict=True)) if by_name else example)
    arguments = tuple(torch.randn(shape) for shape in shapes)
    assert_agrees(model.run(feeds(model, arguments)), wanted(module, arguments))


class Broadcast(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def test_size_of_one_that_the_module_needs_stays_fixed() -> None:
    model = convert(Broadcast(), (torch.randn(1, 4), torch.randn(3, 4)))
    assert [s.shape for s in model.inputs] == [(1, "x_1"), ("y_0", "x_1")]


class Pyramid(nn.Module):
    """Joins steps four by four: only lengths that are multiples of four work."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(20, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, size = x.shape
        result: Tensor = self.rnn(x.reshape(batch, steps // 4, 4 * size))[0]
        return result


def test_lengths_that_the_module_refuses_are_not_needed() -> None:
    module = Pyramid().eval()
    model = convert(module, torch.randn(3, 8, 5))
    arguments = (torch.randn(2, 20, 5),)
    assert_agrees(model.run(feeds(model, arguments)), wanted(module, arguments))
    with pytest.raises(LightRNNError, match="Reshape node"):
        model(torch.randn(2, 9, 5).numpy())


class Frozen(nn.Module):
    """Adds a table of one row a step: no other length works."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 6, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.table.expand(x.shape[0], -1, -1)), 2)


def test_size_that_the_module_cannot_vary_is_fixed(caplog: pytest.LogCaptureFixture) -> None:
    model = convert(Frozen(), torch.randn(2, 6, 5))
    assert model.inputs[0].shape == ("x_0", 6, "x_2")


@pytest.mark.parametrize("shapes", [
    ({0: torch.export.Dim("batch"), 1: torch.export.Dim("time", max=50)},),
    {"ids": {0: "batch", 1: "time"}},
])  # fmt: skip
def test_dynamic_shapes_name_sizes(shapes: Any) -> None:
    model = convert(Tagger(), torch.zeros(3, 4, dtype=torch.int64), dynamic_shapes=shapes)
    assert model.inputs[0].shape == ("batch", "time")


def test_sizes_left_out_of_dynamic_shapes_are_fixed() -> None:
    model = convert(Tagger(), torch.zeros(3, 4, dtype=torch.int64), dynamic_shapes=({1: "time"},))
    assert model.inputs[0].shape == (3, "time")


# Names and structure


class Both(NamedTuple):
    scores: Tensor
    state: Tensor


class Structured(nn.Module):
    """Returns the same tensors in one of several structures."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 6)
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(*self.rnn(x))


@pytest.mark.parametrize(("make", "names"), [
    (lambda y, h: (y, h), ["output_0", "output_1"]),
    (lambda y, h: y, ["output"]),
    (lambda y, h: [y, (h, h * 2)], ["output_0", "output_1_0", "output_1_1"]),
    (lambda y, h: {"scores": y, "state": h}, ["scores", "state"]),
    (lambda y, h: OrderedDict(scores=y, more={"state": h}), ["scores", "more_state"]),
    (Both, ["scores", "state"]),
    (lambda y, h: (y, None, h), ["output_0", "output_2"]),
])  # fmt: skip
def test_outputs_are_named_after_their_place(make: Any, names: list[str]) -> None:
    module = Structured(make).eval()
    model = convert(module, torch.randn(4, 3, 5))
    assert [s.name for s in model.outputs] == names
    arguments = (torch.randn(5, 2, 5),)
    assert_agrees(model.run(feeds(model, arguments)), wanted(module, arguments))


def test_names_can_be_chosen() -> None:
    model = convert(
        Stateful(nn.GRU(5, 6)), (torch.randn(4, 3, 5), torch.randn(1, 3, 6)),
        input_names=["frames", "before"], output_names=["features", "after"],
        states={"before": "after"},
    )  # fmt: skip
    assert [s.name for s in model.inputs] == ["frames", "before"]
    assert [s.name for s in model.outputs] == ["features", "after"]
    assert model.graph("main").states == {"before": "after"}


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 6)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None, *, scale: Tensor
    ) -> Any:
        y, _ = self.rnn(x, state)
        return y * scale


def test_keyword_arguments() -> None:
    module = Keywords().eval()

    def arguments(steps: int, batch: int) -> dict[str, Any]:
        state = (torch.randn(1, batch, 6), torch.randn(1, batch, 6))
        return {"x": torch.randn(steps, batch, 5), "state": state, "scale": torch.randn(batch, 1)}

    model = convert(module, arguments(4, 3))
    assert [s.name for s in model.inputs] == ["x", "state_0", "state_1", "scale"]
    given = arguments(6, 2)
    assert_agrees(model.run(feeds(model, given)), wanted(module, given))


# What is written, and where


def test_text_and_metadata_are_kept(tmp_path: Path) -> None:
    text = {
        "task": "classification",
        "tokenizer": {"kind": "characters", "characters": "abc"},
        "labels": ["a", "b", "c", "d"],
        "ids": "ids", "scores": "output", "scores_are": "logits",
    }  # fmt: skip
    path = tmp_path / "model.lrnn"
    convert_torch(
        Classifier(), torch.zeros(3, 4, dtype=torch.int64), path,
        text=text, metadata={"licence": "MIT"}, graph_name="classify",
    )  # fmt: skip
    file = read(path)
    assert file.text == text
    assert file.metadata == {"licence": "MIT"}
    assert list(file.graphs) == ["classify"]


@pytest.mark.parametrize(("dtype", "epsilon"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_weights_are_stored_in_fewer_bits(dtype: str, epsilon: float) -> None:
    module = Tagger().eval()
    example = torch.zeros(3, 4, dtype=torch.int64)
    whole, half = io.BytesIO(), io.BytesIO()
    convert_torch(module, example, whole)
    convert_torch(module, example, half, dtype=dtype)
    assert len(half.getvalue()) < len(whole.getvalue()) - 500
    constants = [read(f.getvalue()).graphs["main"].constants for f in (whole, half)]
    matrices = [n for n, a in constants[0].items() if a.dtype == np.float32 and a.ndim > 1]
    assert len(matrices) >= 4
    for name in matrices:
        full, stored = constants[0][name], constants[1][name]
        assert stored.dtype == np.float32
        assert np.all(np.abs(stored - full) <= epsilon * np.abs(full) + 1e-8)
    assert any(np.any(constants[0][n] != constants[1][n]) for n in matrices)


def test_unknown_storage_is_refused_before_any_work() -> None:
    with pytest.raises(ConversionError, match="dtype is 'int3', expected one of float32"):
        convert_torch(nn.Linear(2, 2), torch.randn(1, 2), io.BytesIO(), dtype="int3")


class Refuses(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


def test_failing_conversion_leaves_no_file_and_keeps_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model.lrnn"
    with pytest.raises(LightRNNError):
        convert_torch(Refuses(), torch.randn(3, 4), path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"old")
    with pytest.raises(LightRNNError):
        convert_torch(Refuses(), torch.randn(3, 4), path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_conversion_is_reproducible() -> None:
    files = []
    for _ in range(2):
        file = io.BytesIO()
        torch.manual_seed(7)
        convert_torch(Tagger(), torch.zeros(3, 4, dtype=torch.int64), file)
        files.append(file.getvalue())
    assert files[0] == files[1]


# Several graphs


def test_encoder_and_decoder_step_are_two_graphs_of_one_file() -> None:
    encoder, decoder = ENCODER.module(), DECODER.module()
    decoder.embedding = encoder.embedding
    file = io.BytesIO()
    convert_torch_graphs(
        {"encoder": TorchGraph(encoder, inputs(ENCODER, 0)),
         "decoder": TorchGraph(decoder, inputs(DECODER, 0), states={"hidden": "output_1"})},
        file,
    )  # fmt: skip
    model = lightrnn.load(file.getvalue())
    assert model.graphs == ("encoder", "decoder")
    assert model.graph("decoder").states == {"hidden": "output_1"}
    tables = [
        name
        for graph in model.graphs
        for name, value in model.graph(graph).constants.items()
        if value.shape == (VOCABULARY, 8)
    ]
    assert len(tables) == 2
    assert len(set(tables)) == 1
    table = encoder.embedding.weight.detach().numpy().tobytes()
    assert file.getvalue().count(table) == 1

    ids, token = torch.randint(0, VOCABULARY, (2, 7)), torch.randint(0, VOCABULARY, (2,))
    memory, hidden = encoder(ids)
    found = model.run({"ids": ids.numpy()}, graph="encoder")
    assert_agrees(found, wanted(encoder, (ids,)))
    for _ in range(3):
        step = {"token": token.numpy(), "hidden": hidden.detach().numpy(),
                "memory": memory.detach().numpy()}  # fmt: skip
        found = model.run(step, graph="decoder")
        expected = wanted(decoder, (token, hidden, memory))
        assert_agrees(found, expected)
        token, hidden = torch.from_numpy(expected[0].argmax(1)), torch.from_numpy(expected[1])


# The module afterwards


def test_module_and_seeds_are_left_as_they_were() -> None:
    module = Classifier().train()
    module.rnn.eval()
    module.linear.weight.requires_grad_(False)
    module(torch.zeros(2, 3, dtype=torch.int64)).sum().backward()
    before = {n: (p.detach().clone(), p.requires_grad, p.grad if p.grad is None else p.grad.clone())
              for n, p in module.named_parameters()}  # fmt: skip
    modes = [m.training for m in module.modules()]
    attributes = {n: list(m.__dict__) for n, m in module.named_modules()}
    torch.manual_seed(3)
    states = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
    convert(module, torch.zeros(3, 4, dtype=torch.int64))
    assert [m.training for m in module.modules()] == modes
    assert {n: list(m.__dict__) for n, m in module.named_modules()} == attributes
    for name, parameter in module.named_parameters():
        value, requires_grad, grad = before[name]
        assert torch.equal(parameter, value)
        assert parameter.requires_grad == requires_grad
        assert (parameter.grad is None) == (grad is None)
        assert grad is None or torch.equal(parameter.grad, grad)
    after = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
    assert torch.equal(after[0], states[0])
    assert after[1:] == states[1:]


def test_nothing_is_printed_or_logged(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        convert(Tagger(), torch.zeros(3, 4, dtype=torch.int64))
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_dropout_is_off_though_the_module_is_in_training() -> None:
    module = Classifier().train()
    model = convert(module, torch.zeros(3, 4, dtype=torch.int64))
    ids = torch.randint(0, VOCABULARY, (2, 6))
    assert_agrees(model.run({"ids": ids.numpy()}), wanted(module.eval(), (ids,)))


# Verification


def test_mismatch_is_an_error_with_its_report(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightrnn_converters import torch_translate

    monkeypatch.setitem(torch_translate._ORDERS, "LSTM", (0, 1, 2, 3))
    with pytest.raises(VerificationError, match=r"differs from torch") as caught:
        convert(Stateful(nn.LSTM(5, 6)).eval(), (torch.randn(4, 3, 5), *torch.randn(2, 1, 3, 6)))
    report = caught.value.report
    assert isinstance(report, Report)
    assert {o.name for o in report.failures} >= {"output_0"}
    assert not report.passed
