"""ONNX models with If, Loop and Scan, each with inputs to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from lightrnn.graph import Array
from tests.onnx_models import BOOL, FLOAT, INT64, Types, model, node

H = 5


@dataclass(frozen=True)
class Example:
    """A model and sets of inputs."""

    name: str
    make: Callable[[], Any]
    feeds: tuple[Mapping[str, Array], ...]

    def __str__(self) -> str:
        return self.name


def graph(
    nodes: Sequence[Any],
    inputs: Types,
    outputs: Types,
    constants: Mapping[str, Array] | None = None,
) -> Any:
    """A graph for a node to hold."""
    return helper.make_graph(
        list(nodes),
        "inside",
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conditional() -> Any:
    """y = x · w + 1 if x sums to more than 0, else 2 x, where w is outside and 1 and 2 inside."""
    yes = graph(
        [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "one"], ["yes"])],
        {}, {"yes": (FLOAT, None)}, {"one": np.float32(1)},
    )  # fmt: skip
    no = graph(
        [node("Mul", ["x", "two"], ["no"])], {}, {"no": (FLOAT, None)}, {"two": np.float32(2)}
    )
    return model(
        [
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Greater", ["sum", "zero"], ["positive"]),
            node("If", ["positive"], ["y"], "choice", then_branch=yes, else_branch=no),
            node("Neg", ["y"], ["z"]),
        ],
        {"x": (FLOAT, ["N", H])},
        {"z": (FLOAT, ["N", H])},
        {"w": floats(H, H), "zero": np.float32(0)},
    )


def conditional_shapes() -> Any:
    """Rows of x that depend on a flag, then a product."""
    yes = graph([node("Slice", ["x", "a", "b"], ["yes"])], {}, {"yes": (FLOAT, None)})
    no = graph([node("Identity", ["x"], ["no"])], {}, {"no": (FLOAT, None)})
    return model(
        [
            node("If", ["flag"], ["rows"], then_branch=yes, else_branch=no),
            node("MatMul", ["rows", "w"], ["y"]),
        ],
        {"x": (FLOAT, ["N", H]), "flag": (BOOL, [])},
        {"y": (FLOAT, ["M", 3])},
        {"w": floats(H, 3), "a": np.array([1]), "b": np.array([2])},
    )


_LOOP: Types = {"i": (INT64, []), "go": (BOOL, [])}


def counted() -> Any:
    """h = tanh(h · w + x[i]) for `count` steps; every h, and its sum."""
    body = graph(
        [
            node("Gather", ["x", "i"], ["row"]),
            node("MatMul", ["h", "w"], ["p"]),
            node("Add", ["p", "row"], ["s"]),
            node("Tanh", ["s"], ["next"]),
            node("ReduceSum", ["next"], ["total"], keepdims=0),
            node("Identity", ["next"], ["each"]),
            node("Identity", ["go"], ["again"]),
        ],
        {**_LOOP, "h": (FLOAT, None)},
        {"again": (BOOL, []), "next": (FLOAT, None), "each": (FLOAT, None), "total": (FLOAT, [])},
    )
    return model(
        [node("Loop", ["count", "", "h0"], ["h", "all", "totals"], "steps", body=body)],
        {"count": (INT64, []), "h0": (FLOAT, ["N", H]), "x": (FLOAT, ["T", "N", H])},
        {"h": (FLOAT, ["N", H]), "all": (FLOAT, ["T", "N", H]), "totals": (FLOAT, ["T"])},
        {"w": floats(H, H)},
    )


def until() -> Any:
    """x is doubled until it reaches a limit, ten times at most."""
    body = graph(
        [
            node("Add", ["v", "v"], ["double"]),
            node("ReduceMax", ["double"], ["top"], keepdims=0),
            node("Less", ["top", "limit"], ["again"]),
        ],
        {**_LOOP, "v": (FLOAT, None)},
        {"again": (BOOL, []), "double": (FLOAT, None)},
    )
    return model(
        [node("Loop", ["most", "start", "x"], ["y"], body=body)],
        {"x": (FLOAT, ["N"]), "limit": (FLOAT, []), "start": (BOOL, [])},
        {"y": (FLOAT, ["N"])},
        {"most": np.array(10)},
    )


def growing() -> Any:
    """Rows put under each other: a carried tensor that grows."""
    body = graph(
        [
            node("Cast", ["i"], ["f"], to=FLOAT),
            node("Add", ["x", "f"], ["row"]),
            node("Concat", ["rows", "row"], ["more"], axis=0),
            node("Identity", ["go"], ["again"]),
        ],
        {**_LOOP, "rows": (FLOAT, None)},
        {"again": (BOOL, []), "more": (FLOAT, None)},
    )
    return model(
        [
            node("Loop", ["count", "", "x"], ["rows"], body=body),
            node("MatMul", ["rows", "w"], ["y"]),
        ],
        {"x": (FLOAT, ["N", H]), "count": (INT64, [])},
        {"y": (FLOAT, ["M", 2])},
        {"w": floats(H, 2)},
    )


def nested() -> Any:
    """A Loop that holds an If that holds a Loop, each reading from around it."""
    inner = graph(
        [
            node("Mul", ["u", "scale"], ["m"]),
            node("Add", ["m", "x"], ["u2"]),
            node("Identity", ["go2"], ["again2"]),
        ],
        {"i2": (INT64, []), "go2": (BOOL, []), "u": (FLOAT, None)},
        {"again2": (BOOL, []), "u2": (FLOAT, None)},
    )
    yes = graph(
        [node("Loop", ["two", "", "v"], ["yes"], body=inner)], {}, {"yes": (FLOAT, None)},
        {"two": np.array(2)},
    )  # fmt: skip
    no = graph([node("Sub", ["v", "scale"], ["no"])], {}, {"no": (FLOAT, None)})
    body = graph(
        [
            node("Mod", ["i", "two"], ["odd"]),
            node("Cast", ["odd"], ["is_odd"], to=BOOL),
            node("If", ["is_odd"], ["v2"], then_branch=yes, else_branch=no),
            node("Identity", ["go"], ["again"]),
        ],
        {**_LOOP, "v": (FLOAT, None)},
        {"again": (BOOL, []), "v2": (FLOAT, None)},
        {"two": np.array(2)},
    )
    return model(
        [
            node("Tanh", ["x"], ["start"]),
            node("Loop", ["count", "", "start"], ["y"], body=body),
        ],
        {"x": (FLOAT, ["N"]), "scale": (FLOAT, []), "count": (INT64, [])},
        {"y": (FLOAT, ["N"])},
    )


def recurrent_cell() -> Any:
    """A GRU of one step in a Loop, its weights outside and made by arithmetic."""
    body = graph(
        [
            node("Gather", ["x", "i"], ["step"]),
            node("Unsqueeze", ["step", "first"], ["steps"]),
            node("GRU", ["steps", "w", "r", "", "", "h"], ["", "next"], hidden_size=H),
            node("Squeeze", ["next", "first"], ["each"]),
            node("Identity", ["go"], ["again"]),
        ],
        {**_LOOP, "h": (FLOAT, None)},
        {"again": (BOOL, []), "next": (FLOAT, None), "each": (FLOAT, None)},
    )
    return model(
        [
            node("Concat", ["w0", "w1"], ["w"], axis=1),
            node("DequantizeLinear", ["r8", "scale"], ["r"]),
            node("Shape", ["x"], ["sizes"]),
            node("Gather", ["sizes", "zero"], ["count"]),
            node("Loop", ["count", "yes", "h0"], ["h", "all"], body=body),
        ],
        {"x": (FLOAT, ["T", "N", 3]), "h0": (FLOAT, [1, "N", H])},
        {"h": (FLOAT, [1, "N", H]), "all": (FLOAT, ["T", "N", H])},
        {
            "w0": floats(1, H, 3), "w1": floats(1, 2 * H, 3, seed=1), "first": np.array([0]),
            "r8": np.random.default_rng(2).integers(-90, 90, (1, 3 * H, H)).astype(np.int8),
            "scale": np.float32(0.01), "zero": np.array(0), "yes": np.array(True),
        },
    )  # fmt: skip


def collected(new_axis: int, axis: int) -> Any:
    """A sequence that an iteration appends to, then joined, as TorchScript is exported."""
    body = graph(
        [
            node("SequenceAt", ["steps", "i"], ["step"]),
            node("Add", ["step", "h"], ["h2"]),
            node("SequenceInsert", ["s", "h2"], ["s2"]),
            node("Identity", ["go"], ["again"]),
        ],
        {**_LOOP, "h": (FLOAT, None)},
        {"again": (BOOL, []), "h2": (FLOAT, None)},
    )
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    body.input.append(helper.make_value_info("s", sequence))
    body.output.append(helper.make_value_info("s2", sequence))
    return model(
        [
            node("SequenceEmpty", [], ["empty"]),
            node("SplitToSequence", ["x"], ["steps"], axis=0, keepdims=0),
            node("Shape", ["x"], ["sizes"]),
            node("Gather", ["sizes", "zero"], ["count"]),
            node("Loop", ["count", "yes", "h0", "empty"], ["h", "s"], body=body),
            node("ConcatFromSequence", ["s"], ["y"], axis=axis, new_axis=new_axis),
        ],
        {"x": (FLOAT, ["T", "N", H]), "h0": (FLOAT, ["N", H])},
        {"h": (FLOAT, None), "y": (FLOAT, None)},
        {"zero": np.array(0), "yes": np.array(True)},
    )


def scanned(directions: Sequence[int], axes: Sequence[int], out: Sequence[int]) -> Any:
    """Sums of two inputs along `axes`; all partial sums along axis out[1], last first if out[0]."""
    body = graph(
        [
            node("Add", ["a", "b"], ["ab"]),
            node("Add", ["total", "ab"], ["next"]),
            node("Mul", ["next", "w"], ["each"]),
        ],
        {"total": (FLOAT, None), "a": (FLOAT, None), "b": (FLOAT, None)},
        {"next": (FLOAT, None), "each": (FLOAT, None)},
    )
    return model(
        [
            node(
                "Scan", ["t0", "x", "z"], ["t", "all"], body=body, num_scan_inputs=2,
                scan_input_directions=list(directions), scan_input_axes=list(axes),
                scan_output_directions=[out[0]], scan_output_axes=[out[1]],
            )
        ],
        {"t0": (FLOAT, ["N", H]), "x": (FLOAT, [None] * 3), "z": (FLOAT, [None] * 3)},
        {"t": (FLOAT, [None] * 2), "all": (FLOAT, [None] * 3)},
        {"w": floats(H)},
    )  # fmt: skip


def _scan_example(directions: Sequence[int], axes: Sequence[int], out: Sequence[int]) -> Example:
    def sized(axis: int, seed: int) -> Array:
        return np.moveaxis(floats(4, 2, H, seed=seed), 0, axis)

    feeds = {"t0": floats(2, H), "x": sized(axes[0], 1), "z": sized(axes[1], 2)}
    name = f"scan, directions {directions}, axes {axes}, output {out}"
    return Example(name, partial(scanned, directions, axes, out), (feeds,))


def _steps(*counts: int) -> tuple[Mapping[str, Array], ...]:
    return tuple(
        {"h0": floats(2, H), "x": floats(max(n, 1), 2, H), "count": np.array(n)} for n in counts
    )


EXAMPLES = (
    Example("if", conditional, ({"x": np.abs(floats(3, H))}, {"x": -np.abs(floats(1, H))})),
    Example(
        "if, two shapes", conditional_shapes,
        tuple({"x": floats(3, H), "flag": np.array(f)} for f in (True, False)),
    ),
    Example("loop, counted", counted, _steps(4, 1, 0, -3)),
    Example(
        "loop, until", until,
        tuple(
            {
                "x": np.array([1, 2.5], np.float32), "limit": np.array(limit, np.float32),
                "start": np.array(start),
            }
            for limit, start in ((100, True), (1, True), (1e30, True), (100, False))
        ),
    ),
    Example(
        "loop, growing", growing,
        tuple({"x": floats(2, H), "count": np.array(n)} for n in (3, 0)),
    ),
    Example(
        "nested", nested,
        ({"x": floats(4), "scale": np.array(0.5, np.float32), "count": np.array(5)},),
    ),
    Example(
        "loop, recurrent cell", recurrent_cell,
        tuple({"x": floats(t, n, 3), "h0": floats(1, n, H)} for t, n in ((5, 2), (1, 1), (2, 4))),
    ),
    *(
        Example(
            f"loop, collected, axis {axis}, new_axis {new}", partial(collected, new, axis),
            tuple({"x": floats(t, 2, H), "h0": floats(2, H)} for t in (3, 1)),
        )
        for new, axis in ((1, 0), (1, 1), (1, -1), (0, 0), (0, 1))
    ),
    *(
        _scan_example(directions, axes, out)
        for directions in ((0, 0), (1, 0), (1, 1))
        for axes, out in (((0, 0), (0, 0)), ((1, 0), (1, 1)), ((-1, 1), (0, -1)))
    ),
)  # fmt: skip
