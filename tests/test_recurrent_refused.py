"""Recurrent layers that make no sense are refused by name, before they run and when they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightrnn.errors import DataError, GraphError, UnsupportedError
from lightrnn.graph import Array, Attr, Graph, TensorType
from lightrnn.graph.check import check
from lightrnn.ops import build
from tests.recurrent_cases import GATES, Layer
from tests.test_engine import executor, prepared

T, N, I, H = 3, 2, 4, 5  # noqa: E741


def layer(op: str = "LSTM", directions: int = 1, **attrs: Attr) -> Layer:
    """A sound layer with every optional input."""
    rows = GATES[op] * H
    shapes = {
        "X": (T, N, I), "W": (directions, rows, I), "R": (directions, rows, H),
        "B": (directions, 2 * rows), "sequence_lens": (N,), "initial_h": (directions, N, H),
    }  # fmt: skip
    if op == "LSTM":
        shapes |= {"initial_c": (directions, N, H), "P": (directions, 3 * H)}
    inputs: dict[str, Array] = {n: np.ones(s, np.float32) for n, s in shapes.items()}
    inputs["sequence_lens"] = np.array([T, 1], np.int32)
    if directions == 2:
        attrs["direction"] = "bidirectional"
    return Layer(0, op, inputs, {"hidden_size": H, **attrs}, ("Y", "Y_h"))


def checked(found: Layer) -> None:
    check(found.graph, build)


def evaluated(found: Layer) -> None:
    found.operator.evaluate(*found.values)


def bound(found: Layer) -> None:
    """Nothing is known before the run but the element types."""
    known = found.graph
    inputs = {n: TensorType(t.dtype, None) for n, t in known.inputs.items()}
    graph = Graph(inputs, known.outputs, known.nodes, known.constants)
    check(graph, build)
    executor(1).run(prepared(graph).plan(tuple(a.shape for a in found.feeds)), found.feeds)


def shaped(*shape: int) -> Callable[[Array], Array]:
    return lambda a: np.ones(shape, a.dtype)


def as_type(dtype: Any) -> Callable[[Array], Array]:
    return lambda a: a.astype(dtype)


SIZES: dict[str, tuple[str, Callable[[Array], Array], str]] = {
    "X rank": ("X", shaped(T, I), "X has rank 2, expected 3"),
    "X size": ("X", shaped(T, N, I + 1), "input sizes of X and W 5 and 4 differ"),
    "lengths rank": ("sequence_lens", shaped(1, N), "sequence_lens has rank 2, expected 1"),
    "lengths size": ("sequence_lens", shaped(N + 1), "sequence_lens and X 3 and 2 differ"),
    "initial_h rank": ("initial_h", shaped(N, H), "initial_h has rank 2, expected 3"),
    "initial_h directions": ("initial_h", shaped(2, N, H), "initial_h and direction 2 and 1"),
    "initial_h batch": ("initial_h", shaped(1, 1, H), "batch of initial_h and X 1 and 2 differ"),
    "initial_h size": ("initial_h", shaped(1, N, 1), "initial_h and state 1 and 5 differ"),
    "initial_c batch": ("initial_c", shaped(1, 1, H), "batch of initial_c and X 1 and 2 differ"),
    "initial_c size": ("initial_c", shaped(1, N, 1), "initial_c and state 1 and 5 differ"),
}  # fmt: skip
WEIGHTS: dict[str, tuple[str, Callable[[Array], Array], str]] = {
    "W rank": ("W", shaped(4 * H, I), "W has rank 2, expected 3"),
    "W rows": ("W", shaped(1, 4 * H + 1, I), "W has 21 rows, not a multiple of 4 gates"),
    "W gates": ("W", shaped(1, 3 * 4, I), "hidden sizes of W and hidden_size 3 and 5 differ"),
    "W directions": ("W", shaped(2, 4 * H, I), "directions of W and direction 2 and 1 differ"),
    "R rank": ("R", shaped(4 * H, H), "R has rank 2, expected 3"),
    "R rows": ("R", shaped(1, 3 * H, H), "rows of R and gates 15 and 20 differ"),
    "R columns": ("R", shaped(1, 4 * H, H - 1), "columns of R and hidden size 4 and 5 differ"),
    "R directions": ("R", shaped(2, 4 * H, H), "directions of R and direction 2 and 1 differ"),
    "B rank": ("B", shaped(8 * H), "B has rank 1, expected 2"),
    "B half": ("B", shaped(1, 4 * H), "size of B and gates 20 and 40 differ"),
    "P rank": ("P", shaped(3 * H), "P has rank 1, expected 2"),
    "P size": ("P", shaped(1, 4 * H), "size of P and peepholes 20 and 15 differ"),
    "projection rank": ("projection", shaped(2, H), "projection has rank 2, expected 3"),
    "projection rows": ("projection", shaped(1, 2, H), "sizes of projection and R 2 and 5 differ"),
    "projection columns": ("projection", shaped(1, H, 2), "projection and hidden state 2 and 5"),
}  # fmt: skip
DTYPES: dict[str, tuple[str, Callable[[Array], Array], str]] = {
    "X": ("X", as_type(np.float64), "W is float32, X is float64"),
    "X integer": ("X", as_type(np.int64), "is int64, expected float"),
    "W": ("W", as_type(np.float16), "W is float16, X is float32"),
    "B": ("B", as_type(np.float64), "B is float64, X is float32"),
    "initial_h": ("initial_h", as_type(np.float64), "initial_h is float64, X is float32"),
    "lengths": ("sequence_lens", as_type(np.int64), "sequence_lens is int64, expected int32"),
}


def changed(name: str, change: Callable[[Array], Array]) -> Layer:
    sound = layer()
    old = sound.inputs.get(name, np.empty(0, np.float32))
    return replace(sound, inputs={**sound.inputs, name: change(old)})


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("directions", [1, 2])
def test_the_layer_itself_is_sound(op: str, directions: int) -> None:
    for run in (checked, evaluated):
        run(layer(op, directions))


@pytest.mark.parametrize("case", [*SIZES, *WEIGHTS, *DTYPES])
def test_inputs_that_do_not_fit_are_refused_by_the_check(case: str) -> None:
    name, change, message = {**SIZES, **WEIGHTS, **DTYPES}[case]
    with pytest.raises(GraphError, match=rf"LSTM node 'layer': .*({message})"):
        checked(changed(name, change))


@pytest.mark.parametrize("case", [*SIZES, *WEIGHTS, *DTYPES])
def test_inputs_that_do_not_fit_are_refused_by_numpy_semantics(case: str) -> None:
    name, change, message = {**SIZES, **WEIGHTS, **DTYPES}[case]
    with pytest.raises(DataError, match=message):
        evaluated(changed(name, change))


@pytest.mark.native
@pytest.mark.parametrize("case", SIZES)
def test_inputs_that_do_not_fit_are_refused_when_they_come(case: str) -> None:
    name, change, message = SIZES[case]
    with pytest.raises(GraphError, match=rf"LSTM node 'layer': .*({message})"):
        bound(changed(name, change))


LENGTHS = [[T + 1, 1], [1, -1], [2**31 - 1, 0], [-(2**31), 0]]


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_lengths_out_of_range_are_refused(op: str, lengths: list[int]) -> None:
    sound = layer(op)
    bad = replace(sound, inputs={**sound.inputs, "sequence_lens": np.array(lengths, np.int32)})
    told = r"sequence_lens\[[01]\] is -?\d+, outside 0 to 3"
    with pytest.raises(GraphError, match=f"{op} node 'layer': {told}"):
        checked(replace(bad, fed=("X",)))
    with pytest.raises(DataError, match=told):
        evaluated(bad)


@pytest.mark.native
@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_lengths_out_of_range_are_refused_by_the_kernels(op: str, lengths: list[int]) -> None:
    sound = layer(op, directions=2)
    bad = replace(sound, inputs={**sound.inputs, "sequence_lens": np.array(lengths, np.int32)})
    with pytest.raises(DataError, match=f"{op} node 'layer'.*length"):
        bound(bad)
    with pytest.raises(GraphError, match=r"sequence_lens\[[01]\]"):
        bound(replace(bad, fed=("X",)))


NAN = float("nan")
ATTRIBUTES: list[tuple[str, dict[str, Any], str]] = [
    ("LSTM", {"clip": 0.0}, "clip is 0.0, expected a positive number"),
    ("GRU", {"clip": -1.0}, "clip is -1.0, expected a positive number"),
    ("RNN", {"clip": NAN}, "clip is nan, expected a positive number"),
    ("GRU", {"clip": "1"}, "attribute 'clip' has the value '1' of the wrong type"),
    ("LSTM", {"direction": "backward"}, "direction is 'backward', expected"),
    ("LSTM", {"layout": 2}, "layout is 2, expected 0 or 1"),
    ("LSTM", {"hidden_size": 6}, "hidden sizes of W and hidden_size 5 and 6 differ"),
    ("LSTM", {"input_forget": 2}, "input_forget is 2, expected 0 or 1"),
    ("LSTM", {"linear_before_reset": 1}, "unknown attribute 'linear_before_reset'"),
    ("GRU", {"input_forget": 1}, "unknown attribute 'input_forget'"),
    ("RNN", {"output_sequence": 1}, "unknown attribute 'output_sequence'"),
    ("RNN", {"activations": ("Swish",)}, "activation 'Swish' is not supported, expected one of"),
    ("RNN", {"activations": ("Tanh", "Tanh")}, "2 activations, expected 1"),
    ("GRU", {"activations": ("Sigmoid",)}, "1 activations, expected 2"),
    ("GRU", {"activations": ()}, "0 activations, expected 2"),
    ("LSTM", {"activations": ("Sigmoid", "Tanh") * 2}, "4 activations, expected 3"),
    (
        "LSTM",
        {"activations": ("Sigmoid", "Tanh", "Tanh"), "direction": "bidirectional"},
        "3 activations, expected 6",
    ),
    ("RNN", {"activation_alpha": (0.5,)}, "1 values of activation_alpha, the activations take 0"),
    (
        "RNN",
        {"activations": ("Elu",), "activation_beta": (0.5,)},
        "1 values of activation_beta, the activations take 0",
    ),
    (
        "GRU",
        {"activations": ("Elu", "LeakyRelu"), "activation_alpha": (0.5, 0.1, 0.2)},
        "3 values of activation_alpha, the activations take 2",
    ),
    ("RNN", {"activations": ("Affine",)}, "activation_alpha of Affine is missing"),
    (
        "RNN",
        {"activations": ("ScaledTanh",), "activation_alpha": (1.0,)},
        "activation_beta of ScaledTanh is missing",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attrs", "message"), ATTRIBUTES)
def test_attributes_without_a_meaning_are_refused(
    op: str, attrs: dict[str, Any], message: str
) -> None:
    bad = layer(op, 2 if attrs.get("direction") == "bidirectional" else 1, **attrs)
    with pytest.raises(GraphError, match=rf"{op} node 'layer': {message}") as caught:
        checked(bad)
    assert isinstance(caught.value, UnsupportedError) == ("Swish" in message)
