"""What may surround recurrent layers in a stream, and what is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from lightrnn.errors import UnsupportedError
from lightrnn.graph import FLOAT32, INT32, INT64, Graph, Node, TensorType
from tests.streams import (
    BATCH,
    CUTS,
    HIDDEN,
    SIZE,
    assert_whole,
    engine,
    load,
    surrounded,
    table,
    weights,
)  # fmt: skip

__all__ = ["engine"]

X = TensorType(FLOAT32, ("T", "N", SIZE))
LOCAL: dict[str, tuple[Graph, Mapping[str, int], Mapping[str, int | None]]] = {
    "embedding": (
        surrounded(
            [Node("Gather", ("table", "ids"), ("x",))],
            [Node("Identity", ("z",), ("out",))],
            inputs={"ids": TensorType(INT64, ("T", "N"))},
            table=table(10),
        ),
        {"ids": 0},
        {"out": 0},
    ),
    "features, then batch, then time": (
        surrounded(
            [Node("Transpose", ("raw",), ("x",), {"perm": (2, 1, 0)})],
            [
                Node("Transpose", ("z",), ("turned",), {"perm": (1, 2, 0)}),
                Node("Softmax", ("turned",), ("out",), {"axis": 1}),
            ],
            inputs={"raw": TensorType(FLOAT32, (SIZE, "N", "T"))},
        ),
        {"raw": 2},
        {"out": 2},
    ),
    "dense on rows of all steps": (
        surrounded(
            (),
            [
                Node("Reshape", ("z", "rows"), ("flat",)),
                Node("Gemm", ("flat", "w", "b"), ("dense",)),
                Node("Shape", ("z",), ("shape",)),
                Node("Slice", ("shape", "zero", "two_"), ("front",)),
                Node("Concat", ("front", "four"), ("wanted",), {"axis": 0}),
                Node("Reshape", ("dense", "wanted"), ("out",)),
            ],
            rows=np.array([-1, HIDDEN]), w=table(HIDDEN)[:, [0, 1, 2, 0]], b=np.ones(4, np.float32),
            zero=np.array([0]), two_=np.array([2]), four=np.array([4]),
        ),
        {"x": 0},
        {"out": 0},
    ),
    "layer normalisation, residual, split features": (
        surrounded(
            [Node("LayerNormalization", ("raw", "scale"), ("x",))],
            [
                Node("Split", ("z", "parts"), ("left", "right"), {"axis": 2}),
                Node("Add", ("left", "raw"), ("sum",)),
                Node("ReduceMean", ("right", "axis"), ("mean",)),
                Node("Mul", ("sum", "mean"), ("out",)),
            ],
            scale=np.ones(SIZE, np.float32), parts=np.array([3, 2]), axis=np.array([-1]),
        ),
        {"raw": 0},
        {"out": 0},
    ),
    "convolution of one step, norm and pooling over features": (
        surrounded(
            [
                Node("Transpose", ("raw",), ("channels",), {"perm": (1, 2, 0)}),
                Node("Conv", ("channels", "kernel"), ("mixed",)),
                Node("BatchNormalization", ("mixed", "s", "b", "m", "v"), ("normal",)),
                Node("Transpose", ("normal",), ("x",), {"perm": (2, 0, 1)}),
            ],
            [
                Node("Unsqueeze", ("z", "one"), ("image",)),
                Node("MaxPool", ("image",), ("out",), {"kernel_shape": (1, 2)}),
            ],
            kernel=table(SIZE)[:, :, None], s=np.ones(SIZE, np.float32),
            b=np.full(SIZE, 0.1, np.float32), m=np.full(SIZE, 0.2, np.float32),
            v=np.ones(SIZE, np.float32), one=np.array([1]),
        ),
        {"raw": 0},
        {"out": 0},
    ),
    "zeros for each step": (
        surrounded(
            (),
            [
                Node("Shape", ("x",), ("sizes",), {"end": 2}),
                Node("Concat", ("sizes", "four"), ("wanted",), {"axis": 0}),
                Node("Expand", ("half", "wanted"), ("halves",)),
                Node("Concat", ("z", "halves"), ("out",), {"axis": 2}),
            ],
            four=np.array([4]), half=np.float32(0.5),
        ),
        {"x": 0},
        {"out": 0},
    ),
    "one vector for all steps": (
        surrounded(
            [
                Node("Shape", ("raw",), ("steps",), {"end": 1}),
                Node("Concat", ("steps", "ones"), ("wanted",), {"axis": 0}),
                Node("Unsqueeze", ("speaker", "zero"), ("row",)),
                Node("Expand", ("row", "wanted"), ("rows",)),
                Node("Add", ("raw", "rows"), ("x",)),
            ],
            [Node("Identity", ("z",), ("out",))],
            inputs={"raw": X, "speaker": TensorType(FLOAT32, ("N", SIZE))},
            ones=np.array([1, 1]), zero=np.array([0]),
        ),
        {"raw": 0},
        {"out": 0},
    ),
    "the last state, classified": (
        surrounded(
            (),
            [
                Node("MatMul", ("h", "w"), ("scores",)),
                Node("Softmax", ("scores",), ("out",)),
                Node("ReduceMax", ("h",), ("largest",)),
            ],
            ("out", "largest"),
            w=table(HIDDEN),
        ),
        {"x": 0},
        {"out": None, "largest": None},
    ),
    "the last step, in three ways": (
        surrounded(
            (),
            [
                Node("Gather", ("z", "last"), ("out",), {"axis": 0}),
                Node("Slice", ("z", "lasts", "end", "zero"), ("slice",)),
                Node("Shape", ("z",), ("steps",), {"end": 1}),
                Node("Sub", ("steps", "one"), ("index",)),
                Node("Gather", ("z", "index"), ("computed",), {"axis": 0}),
            ],
            ("out", "slice", "computed"),
            last=np.array(-1), lasts=np.array([-1]), end=np.array([2**63 - 1]),
            zero=np.array([0]), one=np.array([1]),
        ),
        {"x": 0},
        {"out": None, "slice": None, "computed": None},
    ),
    "lengths that say all of the piece": (
        surrounded(
            [
                Node("Shape", ("raw",), ("shape",)),
                Node("Gather", ("shape", "zero"), ("steps",), {"axis": 0}),
                Node("Slice", ("shape", "one", "two_"), ("batch",)),
                Node("Expand", ("steps", "batch"), ("repeated",)),
                Node("Cast", ("repeated",), ("lengths",), {"to": 6}),
                Node("Identity", ("raw",), ("x",)),
            ],
            [
                Node("GRU", ("z", "w1", "r1", "", "lengths"), ("more", "out"), {"hidden_size": 2}),
            ],
            ("out", "more"),
            zero=np.array(0), one=np.array([1]), two_=np.array([2]),
            w1=weights(np.random.default_rng(4), 1, 6, HIDDEN),
            r1=weights(np.random.default_rng(5), 1, 6, 2),
        ),
        {"raw": 0},
        {"out": None, "more": 0},
    ),
    "a layer that runs within each step": (
        surrounded(
            [
                Node("Reshape", ("raw", "letters"), ("long",)),
                Node("Transpose", ("long",), ("seen",), {"perm": (1, 0, 2)}),
                Node("LSTM", ("seen", "w1", "r1"), ("", "word"), {"direction": "bidirectional"}),
                Node("Transpose", ("word",), ("turned",), {"perm": (1, 0, 2)}),
                Node("Shape", ("raw",), ("sizes",), {"end": 2}),
                Node("Concat", ("sizes", "six"), ("wanted",), {"axis": 0}),
                Node("Reshape", ("turned", "wanted"), ("words",)),
                Node("MatMul", ("words", "w"), ("x",)),
            ],
            [Node("Identity", ("z",), ("out",))],
            inputs={"raw": TensorType(FLOAT32, ("T", "N", 8))},
            letters=np.array([-1, 4, 2]), six=np.array([6]), w=table(6),
            w1=weights(np.random.default_rng(4), 2, 12, 2),
            r1=weights(np.random.default_rng(5), 2, 12, 3),
        ),
        {"raw": 0},
        {"out": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOCAL)
def test_what_is_local_along_time_runs_in_pieces(name: str, engine: str) -> None:
    graph, axes, outputs = LOCAL[name]
    rng = np.random.default_rng(5)
    sizes: dict[Any, int] = {"T": 13, "N": BATCH}
    feeds = {
        n: weights(rng, *(sizes.get(d, d) for d in t.shape or ()))
        if t.dtype == FLOAT32
        else rng.integers(0, 10, [sizes[d] for d in t.shape or ()])
        for n, t in graph.inputs.items()
    }
    takes_none = not name.startswith(("the last step", "convolution"))
    cuts = [cut for cut in CUTS if takes_none or 0 not in cut]
    assert_whole(load(graph), feeds, axes, outputs, cuts)


# What is refused


def once(op: str, *inputs: str, **attrs: Any) -> list[Node]:
    """A node called "it" from z, or what is named, to out."""
    return [Node(op, inputs or ("z",), ("out",), attrs, "it")]


def mixing(*nodes: Node, **constants: Any) -> Graph:
    return surrounded((), nodes, **constants)


BACKWARD = {"direction": "reverse"}
ONE = np.array([1])
MASK = TensorType(FLOAT32, ("T", 1, 1))
REFUSED: dict[str, tuple[Graph, str]] = {
    "softmax": (mixing(*once("Softmax", axis=0)), "Softmax node 'it' normalises over time"),
    "reduction": (
        mixing(*once("ReduceMax", "z", "a"), a=np.array([0])),
        "ReduceMax node 'it' reduces over time",
    ),
    "reduction of everything": (mixing(*once("ReduceSum")), "reduces over time"),
    "arg max": (mixing(*once("ArgMax", axis=0)), "ArgMax node 'it' reduces over time"),
    "layer norm": (
        mixing(*once("LayerNormalization", "z", "s", axis=0), s=np.float32(1)),
        "normalises over time",
    ),
    "running sum": (
        mixing(*once("CumSum", "z", "a"), a=np.array(0)),
        "CumSum node 'it' sums up from the first step on",
    ),
    "top": (
        surrounded((), [Node("TopK", ("z", "a"), ("out", ""), {"axis": 0}, "it")], a=ONE),
        "selects over time",
    ),
    "reversal": (
        surrounded(
            [Node("Identity", ("raw",), ("x",))],
            once("ReverseSequence", "z", "l"),
            inputs={"raw": X, "l": TensorType(INT64, ("N",))},
        ),
        "reverses time",
    ),
    "convolution": (
        surrounded(
            [
                Node("Transpose", ("raw",), ("c",), {"perm": (1, 2, 0)}),
                Node("Conv", ("c", "k"), ("d",), {"pads": (1, 1)}, "it"),
                Node("Transpose", ("d",), ("x",), {"perm": (2, 0, 1)}),
            ],
            once("Identity"),
            k=weights(np.random.default_rng(0), SIZE, SIZE, 3),
        ),
        "Conv node 'it' has windows of 3 over time, 1 apart",
    ),
    "pooling": (
        surrounded(
            (),
            [
                Node("Transpose", ("z",), ("c",), {"perm": (1, 2, 0)}),
                *once("GlobalMaxPool", "c"),
            ],
        ),
        "GlobalMaxPool node 'it' pools over time",
    ),
    "attention": (
        surrounded(
            (),
            [
                Node("Transpose", ("z",), ("q",), {"perm": (1, 0, 2)}),
                Node("Transpose", ("z",), ("k",), {"perm": (1, 2, 0)}),
                *once("MatMul", "q", "k"),
            ],
        ),
        "MatMul node 'it' multiplies each step with every other",
    ),
    "sum by a product": (
        mixing(
            Node("Transpose", ("z",), ("q",), {"perm": (1, 2, 0)}),
            Node("Transpose", ("z",), ("k",), {"perm": (1, 0, 2)}),
            *once("MatMul", "q", "k"),
        ),
        "MatMul node 'it' sums over time",
    ),
    "joined along time": (mixing(*once("Concat", "z", "z", axis=0)), "joins tensors along time"),
    "padded": (
        mixing(*once("Pad", "z", "p"), p=np.array([1, 0, 0, 0, 0, 0])),
        "Pad node 'it' pads time",
    ),
    "split": (mixing(*once("Split", num_outputs=1)), "splits time"),
    "the first step": (
        mixing(*once("Gather", "z", "a", axis=0), a=np.array(0)),
        "Gather node 'it' selects steps by their number, other than the last one alone",
    ),
    "the last but one": (
        mixing(*once("Gather", "z", "a", axis=0), a=np.array(-2)),
        "selects steps by their number",
    ),
    "all but the last": (
        mixing(*once("Slice", "z", "s", "e"), s=np.array([0]), e=np.array([-1])),
        "Slice node 'it' selects steps by their number",
    ),
    "a limit far away": (
        mixing(*once("Slice", "z", "s", "e"), s=np.array([0]), e=np.array([100000])),
        "selects steps by their number",
    ),
    "every other step": (
        mixing(
            *once("Slice", "z", "s", "e", "a", "two_"),
            s=np.array([0]), e=np.array([2**62]), a=np.array([0]), two_=np.array([2]),
        ),
        "selects steps by their number",
    ),
    "backwards": (
        mixing(
            *once("Slice", "z", "s", "e", "a", "m"),
            s=np.array([-1]), e=np.array([-(2**62)]), a=np.array([0]), m=np.array([-1]),
        ),
        "selects steps by their number",
    ),
    "positions": (
        mixing(
            Node("Shape", ("z",), ("n",), {"end": 1}),
            Node("Squeeze", ("n",), ("count",)),
            Node("Range", ("zero", "count", "one"), ("at",), {}, "numbers"),
            Node("Gather", ("table", "at"), ("rows",)),
            Node("Unsqueeze", ("rows", "a"), ("wide",)),
            *once("Add", "z", "wide"),
            zero=np.array(0), one=np.array(1), a=ONE, table=weights(np.random.default_rng(0), 9, 5),
        ),
        "Range node 'numbers' computes with the number of steps",
    ),
    "positions, sliced": (
        mixing(
            Node("Shape", ("z",), ("n",), {"end": 1}),
            Node("Slice", ("table", "zero", "n"), ("rows",), {}, "some"),
            *once("Add", "z", "rows"),
            zero=np.array([0]), table=weights(np.random.default_rng(0), 9000, 1, 5),
        ),
        "Slice node 'some' computes with the number of steps",
    ),
    "the mean, written out": (
        mixing(
            Node("Shape", ("z",), ("n",), {"end": 1}),
            Node("Cast", ("n",), ("count",), {"to": 1}),
            *once("Div", "z", "count"),
        ),
        "Div node 'it' computes with the number of steps",
    ),
    "steps counted": (
        mixing(*once("Size"), Node("Identity", ("z",), ("other",))),
        "output 'out' counts the steps",
    ),
    "the last state at every step": (
        mixing(*once("Add", "z", "h")),
        "Add node 'it' joins what is known after a piece with every step of it",
    ),
    "begun from the last state": (
        mixing(
            Node("GRU", ("z", "w0_", "r0", "", "", "h"), ("", "out"), {}, "it"),
            w0_=weights(np.random.default_rng(0), 1, 15, 5),
        ),
        "GRU node 'it' takes its initial_h from the steps",
    ),
    "reverse": (
        surrounded((), once("Identity"), attrs=BACKWARD),
        "GRU node 'layer 0' is reverse: it begins at the end of the sequence",
    ),
    "lengths": (
        surrounded(
            [Node("Identity", ("raw",), ("x",))],
            [Node("RNN", ("z", "w1", "r1", "", "lengths"), ("", "out"), {}, "it")],
            inputs={"raw": X, "lengths": TensorType(INT32, ("N",))},
            w1=weights(np.random.default_rng(4), 1, 2, 5),
            r1=weights(np.random.default_rng(5), 1, 2, 2),
        ),
        "RNN node 'it' takes sequence_lens, the lengths of whole sequences",
    ),
    "all axes of size one dropped": (
        mixing(*once("Squeeze")),
        "Squeeze node 'it' drops every axis of size 1, time too in a piece of one step",
    ),
    "scrambled": (
        mixing(
            Node("Shape", ("z",), ("shape",)),
            Node("Gather", ("shape", "order"), ("wanted",)),
            *once("Reshape", "z", "wanted"),
            order=np.array([1, 0, 2]),
        ),
        "Reshape node 'it' puts elements of different steps on one place of an axis",
    ),
    "a factor for each position": (
        mixing(*once("Mul", "z", "mask"), mask=weights(np.random.default_rng(0), 5, 1, 1)),
        "Mul node 'it' joins each step with a value for its position",
    ),
    "chosen by value": (
        mixing(
            Node("Reshape", ("z", "flat"), ("row",)),
            Node("Greater", ("row", "zero"), ("positive",)),
            Node("Compress", ("row", "positive"), ("out",), {"axis": 0}, "it"),
            flat=np.array([-1]), zero=np.float32(0),
        ),
        "Compress node 'it' is not known to treat every step alike",
    ),
    "two axes of time": (
        surrounded(
            [Node("Gemm", ("pairs", "pairs"), ("square",), {"transB": 1}),
             Node("Identity", ("raw",), ("x",))],
            once("Identity"),
            ("out", "square"),
            inputs={"raw": X, "pairs": TensorType(FLOAT32, ("T", "T"))},
        ),
        "input 'pairs' has two axes that would be time",
    ),
    "no time in sight": (
        surrounded(
            [
                Node("ConstantOfShape", ("three",), ("zeros",)),
                Node("Add", ("zeros", "raw"), ("x",)),
            ],
            once("Identity"),
            inputs={"raw": TensorType(FLOAT32, (1,))},
            three=np.array([4, 1, 3]),
        ),
        "GRU node 'layer 0' runs over an axis that is not found to be an input's",
    ),
    "no states": (
        Graph({"x": X}, {"out": X}, (Node("Relu", ("x",), ("out",)),), {}),
        "it has no states to carry",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_local_is_refused_by_name(name: str) -> None:
    graph, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match="graph 'main' runs as a whole only") as raised:
        load(graph).stream()
    assert message in str(raised.value)


def test_every_node_at_fault_is_named() -> None:
    graph = mixing(
        Node("Softmax", ("z",), ("a",), {"axis": 0}, "one"),
        Node("Concat", ("a", "a"), ("b",), {"axis": 0}, "two"),
        Node("ReduceSum", ("b",), ("out",), {}, "three"),
    )
    with pytest.raises(UnsupportedError) as raised:
        load(graph).stream()
    assert [line.split("'")[1] for line in str(raised.value).splitlines()[1:]] == [
        "one", "two", "three",
    ]  # fmt: skip
