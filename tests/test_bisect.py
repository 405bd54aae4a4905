"""The first node at which a model differs from what it was converted from."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from lightrnn_converters import convert_onnx, convert_torch, onnx_frontend, torch_translate, verify
from lightrnn_converters.simplify import simplify
from torch import Tensor, nn

import lightrnn
from lightrnn.cli import main
from lightrnn.errors import ConversionError, VerificationError
from lightrnn.format import ModelFile, write
from lightrnn.graph import Array, Graph
from lightrnn.record import replace
from tests.onnx_models import FLOAT, branch, model, node

Break = Callable[[Graph], Graph]


def weights(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def source() -> Any:
    """x [T, N, 3]: a GRU, a product with a bias, a branch that is always taken, a softmax."""
    return model(
        [
            node("GRU", ["x", "w", "r", "b"], ["y", "h"], name="gru", hidden_size=4),
            node("Squeeze", ["y", "one"], ["flat"], name="squeeze"),
            node("MatMul", ["flat", "dense"], ["product"], name="matmul"),
            node("Add", ["product", "bias"], ["scores"], name="add"),
            node("Identity", ["scores"], ["same"], name="identity"),
            node(
                "If", ["yes"], ["chosen"], name="if",
                then_branch=branch([node("Tanh", ["same"], ["t"], name="tanh")], "t"),
                else_branch=branch([node("Neg", ["same"], ["e"])], "e"),
            ),
            node("Sub", ["chosen", "scores"], ["difference"], name="sub"),
            node("Softmax", ["difference"], ["out"], name="softmax", axis=2),
        ],
        {"x": (FLOAT, ("T", "N", 3))},
        ["out", "h"],
        {
            "w": weights(1, 12, 3), "r": weights(1, 12, 4), "b": weights(1, 24),
            "one": np.array([1]), "dense": weights(4, 5), "bias": weights(5), "yes": np.array(True),
        },
    )  # fmt: skip


def converted(proto: Any) -> Graph:
    target = io.BytesIO()
    convert_onnx(proto, target)
    return lightrnn.load(target.getvalue()).graph("main")


def file_of(graph: Graph) -> bytes:
    target = io.BytesIO()
    write(target, ModelFile({"main": graph}, None, {}, "tests", {}))
    return target.getvalue()


def constant(name: str) -> Break:
    """One element of a constant gets another value."""

    def change(graph: Graph) -> Graph:
        array = graph.constants[name].copy()
        array.flat[0] += 1
        return replace(graph, constants={**graph.constants, name: array})

    return change


def of(origin: str, **changes: Any) -> Break:
    """A node gets other fields."""

    def change(graph: Graph) -> Graph:
        assert any(n.origin == origin for n in graph.nodes)
        nodes = (replace(n, **changes) if n.origin == origin else n for n in graph.nodes)
        return replace(graph, nodes=tuple(nodes))

    return change


BROKEN: dict[str, tuple[Break, str, str, list[str]]] = {
    "recurrent weight": (constant("r"), "GRU node 'gru'", "y", ["r"]),
    "recurrent bias": (constant("b"), "GRU node 'gru'", "y", ["b"]),
    "matrix": (constant("dense"), "MatMul node 'matmul'", "product", ["dense"]),
    "bias": (constant("bias"), "Add node 'add'", "scores", ["bias"]),
    "axis": (of("softmax", attrs={"axis": 1}), "Softmax node 'softmax'", "out", []),
    "in a branch": (of("tanh", op="Sigmoid"), "Sub node 'sub'", "difference", []),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_first_node_that_differs_is_named(name: str) -> None:
    change, where, output, constants = BROKEN[name]
    proto = source()
    report = verify(file_of(change(converted(proto))), proto, bisect=True)
    assert not report.passed
    found = report.bisection
    assert found is not None
    assert found.output is not None
    assert (str(found.node), found.output.name) == (where, output)
    assert [c.name for c in found.constants] == constants
    assert found.output.max_abs > 1e-3
    unseen = ["Sigmoid node 'tanh'"] if name == "in a branch" else []
    assert [str(n) for n in found.unseen] == unseen
    text = str(report)
    one_of = f"one of {unseen[0]}, " if unseen else ""
    assert f"the first node that differs is {one_of}{where}\n  output {output}" in text
    assert all(f"\n  constant {c}" in text for c in constants)


def test_a_model_that_agrees_has_no_first_difference() -> None:
    proto = source()
    report = verify(file_of(converted(proto)), proto, bisect=True)
    assert report.passed
    assert report.bisection is None


def test_inputs_that_were_given_are_used() -> None:
    """A Clip whose bound is wrong differs only above it."""
    proto = model(
        [
            node("Neg", ["x"], ["n"], name="neg"),
            node("Clip", ["n", "", "limit"], ["y"], name="clip"),
        ],
        {"x": (FLOAT, ("N",))},
        ["y"],
        {"limit": np.float32(100)},
    )
    broken = file_of(constant("limit")(converted(proto)))
    small, large = ({"x": np.array(v, np.float32)} for v in ([1, 2], [1, -200, -300]))
    assert verify(broken, proto, small, bisect=True).passed
    report = verify(broken, proto, [small, large], bisect=True)
    assert [o.passed for o in report.outputs] == [True, False]
    (wrong,) = report.failures
    assert (wrong.max_abs, wrong.max_rel, wrong.where, wrong.shape, wrong.dtype) == (
        1.0, 0.01, (1,), (3,), "float32",
    )  # fmt: skip
    assert report.bisection is not None
    assert str(report.bisection.node) == "Clip node 'clip'"


def test_inputs_that_the_reference_refuses_are_an_error() -> None:
    proto = source()
    with pytest.raises(
        ConversionError, match=r"the reference does not run on these inputs: .*rank"
    ):
        verify(file_of(converted(proto)), proto, {"x": np.zeros((2, 3), np.float32)})


def test_nodes_that_the_reference_has_no_name_for_are_listed() -> None:
    """A function's inner tensors have names of their own once it is inlined."""
    function = onnx.helper.make_function(
        "own", "Twice", ["a"], ["b"],
        [node("Add", ["a", "a"], ["c"], name="inner"), node("Neg", ["c"], ["b"], name="last")],
        [onnx.helper.make_opsetid("", 18)],
    )  # fmt: skip
    proto = model(
        [node("Twice", ["x"], ["d"], domain="own"), node("Relu", ["d"], ["y"], name="relu")],
        {"x": (FLOAT, ("N",))}, {"y": (FLOAT, ("N",))}, domains={"own": 1},
    )  # fmt: skip
    proto.functions.append(function)
    graph = converted(proto)
    inner, last, _ = graph.nodes
    broken = file_of(of(inner.origin, op="Mul")(graph))
    found = verify(broken, proto, bisect=True).bisection
    assert found is not None
    assert found.node is not None
    assert (found.node.origin, [n.origin for n in found.unseen]) == (last.origin, [inner.origin])
    assert f"is one of Mul node '{inner.origin}', Neg node '{last.origin}'" in str(found)


def test_only_onnx_has_nodes_to_compare_with() -> None:
    proto = source()
    broken = file_of(constant("r")(converted(proto)))
    with pytest.raises(ConversionError, match="bisect"):
        verify(broken, lambda x: (torch.zeros(3), torch.zeros(3)), bisect=True)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = source()
    reference, file = tmp_path / "m.onnx", tmp_path / "m.lrnn"
    reference.write_bytes(proto.SerializeToString())
    file.write_bytes(file_of(constant("dense")(converted(proto))))
    for options, named in (([], False), (["--bisect"], True)):
        assert main(["verify", str(file), str(reference), *options]) == 1
        output = capsys.readouterr().out
        assert ("the first node that differs is MatMul node 'matmul'" in output) is named
        assert "DIFFERS at" in output
    file.write_bytes(file_of(converted(proto)))
    assert main(["verify", str(file), str(reference), "--bisect"]) == 0


def test_a_conversion_that_goes_wrong_names_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_frontend, "simplify", lambda graph: constant("r")(simplify(graph)))
    with pytest.raises(VerificationError, match="differs is GRU node 'gru'") as raised:
        convert_onnx(source(), io.BytesIO())
    assert "\n    constant r " in str(raised.value)


class Packed(nn.Module):
    """Embedding, packed LSTM with a projection, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.rnn = nn.LSTM(4, 6, proj_size=3)
        self.linear = nn.Linear(3, 2)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        x = nn.utils.rnn.pack_padded_sequence(self.embedding(ids), lengths, enforce_sorted=False)
        y, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(x)[0])
        scores: Tensor = self.linear(y)
        return scores


class Plain(nn.Module):
    """A layer and a function of its results."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.sigmoid(self.rnn(x)[0]) * 2
        return y


@pytest.mark.parametrize(
    ("module", "example", "kind"),
    [
        (Packed(), (torch.ones((5, 2), dtype=torch.int64), torch.tensor([5, 3])), "LSTM"),
        (Plain(nn.GRU(3, 4)), (torch.ones((5, 2, 3)),), "GRU"),
    ],
)
def test_a_torch_conversion_that_goes_wrong_names_the_node(
    module: nn.Module, example: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is the torch program: the ONNX that was made of it is wrong too."""
    order = tuple(range(len(torch_translate._ORDERS[kind])))
    monkeypatch.setitem(torch_translate._ORDERS, kind, order)
    with pytest.raises(VerificationError, match="the first node that differs is") as raised:
        convert_torch(module.eval(), example, io.BytesIO())
    line = next(x for x in str(raised.value).splitlines() if "the first node" in x)
    assert f"{kind} node 'node_{kind}".lower() in line.lower()
    assert "Gemm" not in line
    assert "Sigmoid" not in line


def test_an_operator_that_goes_wrong_is_named_in_a_torch_conversion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(graph: Graph) -> Graph:
        nodes = (replace(n, op="Tanh") if n.op == "Sigmoid" else n for n in simplify(graph).nodes)
        return replace(simplify(graph), nodes=tuple(nodes))

    monkeypatch.setattr(onnx_frontend, "simplify", wrong)
    with pytest.raises(VerificationError, match="differs is Tanh node 'node_sigmoid'\n"):
        convert_torch(Plain(nn.RNN(3, 4)).eval(), (torch.ones((5, 2, 3)),), io.BytesIO())


def test_names_made_up_in_reading_are_nobody_elses() -> None:
    proto = model(
        [
            node("Shape", ["x"], ["s"]),
            node("ConstantOfShape", ["s"], ["y"]),
            node("Add", ["x", "y"], ["z"]),
            node("Neg", ["x"], ["y:1"]),
        ],
        {"x": (FLOAT, ("A", "B"))},
        ["z", "y:1"],
    )
    x = np.ones((2, 3), np.float32)
    target = io.BytesIO()
    convert_onnx(proto, target, verify=False)
    np.testing.assert_array_equal(lightrnn.load(target.getvalue()).run({"x": x})["y:1"], -x)
