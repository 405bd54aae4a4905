"""Recurrences as exporters write them: functions that write a model for any opset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightrnn.graph import Array
from tests.onnx_models import BOOL, FLOAT, INT64
from tests.onnx_writer import Writer, weights

T, N, I, H = "time", "batch", 5, 6  # noqa: E741
BATCH_MAJOR: Mapping[str, Any] = {"x": (N, T, I)}
TIME_MAJOR: Mapping[str, Any] = {"x": (T, N, I)}


@dataclass(frozen=True)
class Form:
    """A way to write a recurrence.

    write: the model for an opset. since: the first opset that has its operators.
    computed: operators that may be left in a plan.
    """

    write: Callable[[Writer], Any]
    computed: frozenset[str]
    since: int = 7


def _keras_gates(w: Writer, matrix: Array) -> Any:
    """Keras's gates i, f, c, o of a constant [K, 4H] as ONNX's i, o, f, c [1, 4H, K]."""
    gates = w.split(w.constant(matrix), 4, 1)
    turned = w.add("Concat", *(gates[k] for k in (0, 3, 1, 2)), axis=1)
    return w.unsqueeze(w.add("Transpose", turned, perm=[1, 0]), 0)


def keras_lstm(w: Writer) -> Any:
    """Batch-major; gates reordered in the graph; zero states from the shape of the input."""
    w_, r_ = (_keras_gates(w, weights(k, 4 * H)) for k in (I, H))
    halves = w.split(w.constant(weights(4 * H)), 4, 0)
    bias = w.add("Concat", *(halves[k] for k in (0, 3, 1, 2)), w.constant(np.zeros(4 * H)), axis=0)
    zeros = [w.filled((1, w.size("x", 0), H), 0) for _ in range(2)]
    x = w.add("Transpose", "x", perm=[1, 0, 2])
    y, y_h, y_c = w.add(
        "LSTM", x, w_, r_, w.unsqueeze(bias, 0), "", *zeros, outputs=3, hidden_size=H
    )
    y = w.add("Transpose", w.squeeze(y, 1), perm=[1, 0, 2])
    return w.model(BATCH_MAJOR, {"y": y, "h": w.squeeze(y_h, 0), "c": w.squeeze(y_c, 0)})


def keras_gru(w: Writer) -> Any:
    """reset_after; weights through Transpose and Reshape; states by Expand; a dense softmax."""
    w_ = w.unsqueeze(w.add("Transpose", w.constant(weights(I, 3 * H)), perm=[1, 0]), 0)
    r_ = w.add("Transpose", w.constant(weights(H, 3 * H)), perm=[1, 0])
    r_ = w.add("Reshape", r_, w.ints(1, 3 * H, H))
    bias = w.add("Reshape", w.constant(weights(2, 3 * H)), w.ints(1, 6 * H))
    shape = w.add("Concat", w.ints(1), w.size("x", 0), w.ints(H if w.opset >= 8 else 1), axis=0)
    grow = "Expand" if w.opset >= 8 else "Tile"
    state = w.add(grow, w.constant(np.zeros((1, 1, 1 if grow == "Expand" else H))), shape)
    x = w.add("Transpose", "x", perm=[1, 0, 2])
    y, last = w.add(
        "GRU", x, w_, r_, bias, "", state, outputs=2, hidden_size=H, linear_before_reset=1
    )
    last = w.squeeze(last, 0)
    scores = w.add("Gemm", last, w.constant(weights(H, 4)), w.constant(weights(4)))
    y = w.add("Transpose", w.squeeze(y, 1), perm=[1, 0, 2])
    return w.model(BATCH_MAJOR, {"y": y, "scores": w.add("Softmax", scores, axis=1)})


def flat_weights(w: Writer) -> Any:
    """All weights sliced from one flat tensor and reshaped, as some exporters keep them."""
    sizes = {"w": 4 * H * I, "r": 4 * H * H, "b": 8 * H}
    flat, start, parts = w.constant(weights(sum(sizes.values()))), 0, {}
    for name, count in sizes.items():
        parts[name] = w.slice(flat, 0, start, start + count)
        start += count
    w_ = w.add("Reshape", parts["w"], w.ints(1, -1, I))
    r_ = w.add("Reshape", parts["r"], w.ints(1, 4 * H, -1))
    b_ = w.add("Reshape", parts["b"], w.ints(1, -1))
    y = w.add("LSTM", "x", w_, r_, b_, hidden_size=H)
    shape = w.add("Concat", w.size("x", 0), w.size("x", 1), w.ints(H), axis=0)
    return w.model(TIME_MAJOR, {"y": w.add("Reshape", y, shape)})


def lengths_from_shapes(w: Writer) -> Any:
    """sequence_lens: every row as long as the input, by Shape, Gather, Mul and Cast."""
    shape = w.add("Shape", "x")
    time = w.add("Gather", shape, w.constant(0, np.int64), axis=0)
    batch = w.add("Gather", shape, w.ints(1), axis=0)
    lengths = w.add("Mul", w.filled((batch,), 1, np.int64), w.unsqueeze(time, 0))
    lengths = w.add("Cast", lengths, to=6)
    y = w.add(
        "GRU", "x", w.constant(weights(2, 3 * H, I)), w.constant(weights(2, 3 * H, H)), "", lengths,
        hidden_size=H, direction="bidirectional",
    )  # fmt: skip
    y = w.add("Transpose", y, perm=[0, 2, 1, 3])
    return w.model(TIME_MAJOR, {"y": w.add("Reshape", y, w.ints(0, 0, -1))})


def backward_by_reversing(w: Writer) -> Any:
    """A backward layer as ReverseSequence, a forward one and ReverseSequence."""
    lengths = w.filled((w.size("x", 1),), 1, np.int64)
    lengths = w.add("Mul", lengths, w.size("x", 0))
    parts = []
    for backward in (False, True):
        matrices = (weights(1, 4 * H, k, seed=backward) for k in (I, H))
        x = w.add("ReverseSequence", "x", lengths, batch_axis=1, time_axis=0) if backward else "x"
        y = w.squeeze(w.add("LSTM", x, *map(w.constant, matrices), hidden_size=H), 1)
        if backward:
            y = w.add("ReverseSequence", y, lengths, batch_axis=1, time_axis=0)
        parts.append(y)
    return w.model(TIME_MAJOR, {"y": w.add("Concat", *parts, axis=2)})


def backward_by_slicing(w: Writer) -> Any:
    """A backward layer by slices in steps of -1."""
    end = -(2**63) + 1
    x = w.slice("x", 0, -1, end, -1)
    y = w.add("RNN", x, *(w.constant(weights(1, H, k)) for k in (I, H)), hidden_size=H)
    return w.model(TIME_MAJOR, {"y": w.slice(w.squeeze(y, 1), 0, -1, end, -1)})


def states_of_the_last(w: Writer) -> Any:
    """The last output by Shape, Sub and Gather, as exporters write y[-1]."""
    y = w.add("GRU", "x", *(w.constant(weights(1, 3 * H, k)) for k in (I, H)), hidden_size=H)
    last = w.add("Sub", w.size("x", 0), w.ints(1))
    y = w.squeeze(w.add("Gather", w.squeeze(y, 1), last, axis=0), 0)
    scores = w.add("Gemm", y, w.constant(weights(3, H)), w.constant(weights(3)), transB=1)
    return w.model(TIME_MAJOR, {"y": scores})


def lstm_steps(w: Writer) -> Any:
    """Four steps written out: Gemm, Add, Split, Sigmoid, Tanh, Mul; outputs by Concat."""
    h = c = w.filled((w.size("x", 1), H), 0)
    x_weights, h_weights = (w.constant(weights(4 * H, k)) for k in (I, H))
    bias, outputs = w.constant(weights(4 * H)), []
    for step in range(4):
        x = w.squeeze(w.slice("x", 0, step, step + 1), 0)
        gates = w.add(
            "Add",
            w.add("Gemm", x, x_weights, bias, transB=1),
            w.add("Gemm", h, h_weights, bias, transB=1, beta=0.0),
        )
        i, f, g, o = w.split(gates, 4, 1)
        i, f, o = (w.add("Sigmoid", gate) for gate in (i, f, o))
        c = w.add("Add", w.add("Mul", f, c), w.add("Mul", i, w.add("Tanh", g)))
        h = w.add("Mul", o, w.add("Tanh", c))
        outputs.append(w.unsqueeze(h, 0))
    return w.model({"x": (4, N, I)}, {"y": w.add("Concat", *outputs, axis=0), "c": c})


def gru_steps(w: Writer) -> Any:
    """Three steps written out with MatMul, slices of the gates, and 1 - z by Sub."""
    h = w.filled((w.size("x", 0), H), 0.25)
    x_weights, h_weights = (w.constant(weights(k, 3 * H)) for k in (I, H))
    one = w.constant(1)
    for step in range(3):
        x = w.add("Gather", "x", w.constant(step, np.int64), axis=1)
        ours = w.add("Add", w.add("MatMul", x, x_weights), w.constant(weights(3 * H)))
        theirs = w.add("MatMul", h, h_weights)
        (z_x, r_x, n_x), (z_h, r_h, n_h) = (
            [w.slice(gates, 1, k * H, (k + 1) * H) for k in range(3)] for gates in (ours, theirs)
        )
        z, r = (w.add("Sigmoid", w.add("Add", *pair)) for pair in ((z_x, z_h), (r_x, r_h)))
        n = w.add("Tanh", w.add("Add", n_x, w.add("Mul", r, n_h)))
        h = w.add("Add", w.add("Mul", z, h), w.add("Mul", w.add("Sub", one, z), n))
    return w.model({"x": (N, 3, I)}, {"y": h})


def stored_small(w: Writer) -> Any:
    """Weights as float16 and as int8 with a zero point and a scale, widened in the graph."""
    w_ = w.add("Cast", w.constant(weights(1, 4 * H, I), np.float16), to=1)
    quantized = w.constant(np.round(weights(1, 4 * H, H) * 100), np.int8)
    if w.opset >= 10:
        r_ = w.add("DequantizeLinear", quantized, w.constant(0.01), w.constant(3, np.int8))
    else:
        wide = w.add("Cast", quantized, to=1)
        r_ = w.add("Mul", w.add("Sub", wide, w.constant(3)), w.constant(0.01))
    y = w.add("LSTM", "x", w_, r_, hidden_size=H)
    return w.model(TIME_MAJOR, {"y": w.squeeze(y, 1)})


def two_layers(w: Writer) -> Any:
    """Bidirectional layers whose states are slices of one tensor of zeros, as torch writes them."""
    zeros, y, finals = w.filled((4, w.size("x", 1), H), 0), "x", []
    for layer, size in enumerate((I, 2 * H)):
        matrices = (weights(2, 3 * H, k, seed=layer) for k in (size, H))
        state = w.slice(zeros, 0, 2 * layer, 2 * layer + 2)
        y, h = w.add(
            "GRU", y, *map(w.constant, matrices), w.constant(weights(2, 6 * H)), "", state,
            outputs=2, hidden_size=H, direction="bidirectional", linear_before_reset=1,
        )  # fmt: skip
        y = w.add("Reshape", w.add("Transpose", y, perm=[0, 2, 1, 3]), w.ints(0, 0, -1))
        finals.append(h)
    return w.model(TIME_MAJOR, {"y": y, "h": w.add("Concat", *finals, axis=0)})


def masked_steps(w: Writer) -> Any:
    """Steps whose states stay where the input says so: by Where, or by a mask cast to floats."""
    h = w.filled((w.size("x", 0), H), 0)
    x_weights, h_weights = (w.constant(weights(k, H)) for k in (I, H))
    for step in range(4):
        x = w.squeeze(w.slice("x", 1, step, step + 1), 1)
        mask = w.add("Greater", w.slice(x, 1, 0, 1), w.constant(-0.5))
        new = w.add("Add", w.add("MatMul", x, x_weights), w.add("MatMul", h, h_weights))
        new = w.add("Tanh", new)
        if w.opset >= 9:
            h = w.add("Where", mask, new, h)
        else:
            keep = w.add("Cast", mask, to=1)
            rest = w.add("Mul", w.add("Sub", w.constant(1), keep), h)
            h = w.add("Add", w.add("Mul", keep, new), rest)
    return w.model({"x": (N, 4, I)}, {"y": h})


def steps_of_a_sequence(w: Writer) -> Any:
    """Steps read from a sequence that the input was split into, results joined from another."""
    steps = w.add("SplitToSequence", "x", axis=0, keepdims=0)
    h, outputs = w.filled((w.size("x", 1), H), 0), []
    cell = [w.constant(weights(H, k)) for k in (I, H)]
    bias = w.constant(weights(H))
    for step in range(3):
        x = w.add("SequenceAt", steps, w.constant(step, np.int64))
        parts = (w.add("Gemm", a, b, bias, transB=1) for a, b in ((x, cell[0]), (h, cell[1])))
        h = w.add("Relu", w.add("Add", *parts))
        outputs.append(h)
    joined = w.add("ConcatFromSequence", w.add("SequenceConstruct", *outputs), axis=0, new_axis=1)
    return w.model({"x": (3, N, I)}, {"y": joined})


def sizes_in_int32(w: Writer) -> Any:
    """tf2onnx's way to a state: Shape, Cast to int32, Slice, Concat, Cast to int64, Expand."""
    shape = w.add("Cast", w.add("Shape", "x"), to=6)
    sizes = w.add("Concat", w.slice(shape, 0, 0, 1), w.constant([H], np.int32), axis=0)
    state = w.add("Expand", w.constant([[0.5]]), w.add("Cast", sizes, to=7))
    x = w.add("Transpose", "x", perm=[1, 0, 2])
    y, last = w.add(
        "RNN", x, *(w.constant(weights(1, H, k)) for k in (I, H)), "", "", w.unsqueeze(state, 0),
        outputs=2, hidden_size=H,
    )  # fmt: skip
    y = w.add("Transpose", w.squeeze(y, 1), perm=[1, 0, 2])
    flat = w.add("Reshape", y, w.ints(-1, H))
    dense = w.add("Add", w.add("MatMul", flat, w.constant(weights(H, 3))), w.constant(weights(3)))
    sizes = w.add("Concat", w.slice(shape, 0, 0, 2), w.constant([3], np.int32), axis=0)
    dense = w.add("Reshape", dense, w.add("Cast", sizes, to=7))
    return w.model(BATCH_MAJOR, {"y": dense, "last": w.squeeze(last, 0)})


def squeezed_by_if(w: Writer) -> Any:
    """torch's squeeze(0) in a script: an If on a size that is known where others are not."""
    y, last = w.add(
        "LSTM", "x", *(w.constant(weights(1, 4 * H, k)) for k in (I, H)), outputs=2, hidden_size=H
    )
    size = w.add("Gather", w.add("Shape", last), w.constant(0, np.int64), axis=0)
    one = w.add("Equal", size, w.constant(1, np.int64))
    inner, other = (Writer(w.opset, w.inline, prefix) for prefix in ("then/", "else/"))
    squeezed = w.add(
        "If", one,
        then_branch=inner.branch(inner.squeeze(last, 0), "then"),
        else_branch=other.branch(other.add("Identity", last), "else"),
    )  # fmt: skip
    scores = w.add("Gemm", squeezed, w.constant(weights(H, 3)), w.constant(weights(3)))
    return w.model(TIME_MAJOR, {"y": w.squeeze(y, 1), "scores": scores})


def learned_state(w: Writer) -> Any:
    """A learned state expanded to the batch as torch writes it: -1 in a list keeps a size."""
    sizes = w.add("Concat", w.ints(-1), w.size("x", 1), w.ints(-1), axis=0)
    ones = w.filled((w.add("Shape", sizes),), 1, np.int64)
    kept = w.add("Equal", sizes, w.add("Mul", ones, w.constant(-1, np.int64)))
    state = w.add("Expand", w.constant(weights(2, 1, H)), w.add("Where", kept, ones, sizes))
    matrices = [w.constant(weights(2, 3 * H, k)) for k in (I, H)]
    y, last = w.add(
        "GRU", "x", *matrices, "", "", state, outputs=2, hidden_size=H, direction="bidirectional"
    )
    return w.model(TIME_MAJOR, {"y": y, "last": last})


def masked_by_lengths(w: Writer) -> Any:
    """Outputs and a mean under a mask of lengths: Range, Less, Cast, Mul, ReduceSum, Div."""
    y = w.add("LSTM", "x", *(w.constant(weights(1, 4 * H, k)) for k in (I, H)), hidden_size=H)
    y = w.squeeze(y, 1)
    steps = w.add("Range", w.constant(0, np.int64), w.squeeze(w.size("x", 0), 0),
                  w.constant(1, np.int64))  # fmt: skip
    mask = w.add("Less", w.unsqueeze(steps, 1), w.unsqueeze("lengths", 0))
    masked = w.add("Mul", y, w.unsqueeze(w.add("Cast", mask, to=1), 2))
    count = w.unsqueeze(w.add("Cast", "lengths", to=1), 1)
    mean = w.add("Div", w.reduce("ReduceSum", masked, 0, keepdims=0), count)
    return _with_lengths(w, {"y": masked, "mean": mean})


def last_by_length(w: Writer) -> Any:
    """Each row's last output within its length, which the layer is not told: GatherND."""
    y = w.add("RNN", "x", *(w.constant(weights(1, H, k)) for k in (I, H)), hidden_size=H)
    rows = w.add("Range", w.constant(0, np.int64), w.squeeze(w.size("x", 1), 0),
                 w.constant(1, np.int64))  # fmt: skip
    last = w.add("Sub", "lengths", w.constant(1, np.int64))
    places = w.add("Concat", w.unsqueeze(last, 1), w.unsqueeze(rows, 1), axis=1)
    return _with_lengths(w, {"y": w.add("GatherND", w.squeeze(y, 1), places)})


def _with_lengths(w: Writer, outputs: Mapping[str, str]) -> Any:
    inputs = {**TIME_MAJOR, "lengths": (N,)}
    return w.model(inputs, outputs, dtypes={"lengths": INT64})


def masked_loop(w: Writer) -> Any:
    """Keras's masking as tf2onnx writes it: a Loop over the steps that keeps states by Where."""
    trips = w.squeeze(w.size("x", 1), 0)
    mask = w.add("Not", w.add("Equal", w.slice("x", 2, 0, 1), w.constant(0)))
    steps = w.add("Transpose", "x", perm=[1, 0, 2])
    kept = w.add("Transpose", mask, perm=[1, 0, 2])
    zeros = w.filled((w.size("x", 0), H), 0)
    matrices = [w.constant(weights(k, 4 * H)) for k in (I, H)]
    bias, body = w.constant(weights(4 * H)), Writer(w.opset, w.inline, "body/")
    x, keep = (body.add("Gather", t, "i", axis=0) for t in (steps, kept))
    gates = body.add(
        "Add", body.add("MatMul", x, matrices[0]), body.add("MatMul", "h", matrices[1])
    )
    i, f, g, o = body.split(body.add("Add", gates, bias), 4, 1)
    i, f, o = (body.add("Sigmoid", gate) for gate in (i, f, o))
    c = body.add("Add", body.add("Mul", f, "c"), body.add("Mul", i, body.add("Tanh", g)))
    h = body.add("Mul", o, body.add("Tanh", c))
    h, c = (body.add("Where", keep, new, old) for new, old in ((h, "h"), (c, "c")))
    names = {"i": (INT64, ()), "go": (BOOL, ()), "h": (FLOAT, None), "c": (FLOAT, None)}
    results = {"on": ("go", BOOL), "h2": (h, FLOAT), "c2": (c, FLOAT), "each": (h, FLOAT)}
    last_h, _, outputs = w.add(
        "Loop", trips, w.constant(True, np.bool_), zeros, zeros, outputs=3,
        body=body.body(names, results),
    )  # fmt: skip
    y = w.add("Transpose", outputs, perm=[1, 0, 2])
    return w.model(BATCH_MAJOR, {"y": y, "last": last_h})


def laid_out(w: Writer, layout: int) -> Any:
    """A batch-major layer: by layout 1, or by layout 0 between transposes."""
    state, x = w.constant(weights(1, 1, 2 * H)), "x"
    state = w.add("Tile", state, w.add("Concat", w.size("x", 0), w.ints(1, 1), axis=0))
    state = w.add("Reshape", state, w.ints(0, 2, H))
    matrices = [w.constant(weights(2, 3 * H, k)) for k in (I, H)]
    if not layout:
        x, state = (w.add("Transpose", t, perm=[1, 0, 2]) for t in ("x", state))
    y, last = w.add(
        "GRU", x, *matrices, "", "", state, outputs=2, hidden_size=H, direction="bidirectional",
        **({"layout": 1} if layout else {}),
    )  # fmt: skip
    if not layout:
        y = w.add("Transpose", y, perm=[2, 0, 1, 3])
        last = w.add("Transpose", last, perm=[1, 0, 2])
    return w.model(BATCH_MAJOR, {"y": y, "last": last})


def ops(names: str) -> frozenset[str]:
    return frozenset(names.split())


FORMS = {
    form.write.__name__: form
    for form in (
        Form(keras_lstm, ops("LSTM Transpose")),
        Form(keras_gru, ops("GRU Transpose Gemm Softmax")),
        Form(flat_weights, ops("LSTM")),
        Form(lengths_from_shapes, ops("GRU Transpose"), since=9),
        Form(backward_by_reversing, ops("LSTM ReverseSequence Concat"), since=10),
        Form(backward_by_slicing, ops("RNN Slice"), since=10),
        Form(states_of_the_last, ops("GRU Gather Gemm")),
        Form(lstm_steps, ops("Gemm Add Split Sigmoid Tanh Mul Concat")),
        Form(gru_steps, ops("MatMul Linear Add Gather Slice Sigmoid Tanh Mul Sub")),
        Form(stored_small, ops("LSTM")),
        Form(two_layers, ops("GRU Transpose Concat")),
        Form(masked_steps, ops("MatMul Add Gather Slice Greater Cast Where Tanh Mul Sub")),
        Form(steps_of_a_sequence, ops("Gemm Add Relu Concat"), since=11),
        Form(sizes_in_int32, ops("RNN Transpose Linear Expand"), since=8),
        Form(learned_state, ops("GRU Expand"), since=9),
        Form(masked_by_lengths, ops("LSTM Less Cast Mul ReduceSum Div"), since=11),
        Form(last_by_length, ops("RNN Sub Concat GatherND"), since=11),
        Form(squeezed_by_if, ops("LSTM Gemm"), since=11),
    )
}
