"""Graphs that are well formed and mean nothing: operators, attributes, slots, types, values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightrnn.errors import DataError, GraphError, LightRNNError, UnsupportedError
from tests.attacks.base import Attack, Parts, edited
from tests.attacks.graphs import LOGITS, NEXT, change, tensor


def attack(
    name: str,
    edit: Callable[[Parts], object],
    message: str,
    error: type[LightRNNError] = GraphError,
) -> Attack:
    return Attack(name, edited(edit), error, message)


def attrs(name: str, message: str, op: str, **values: Any) -> Attack:
    """Attributes of a node replaced."""
    return attack(name, lambda parts: change(parts.node(op), {"attrs": values}), message)


def slots(name: str, message: str, op: str, **values: Any) -> Attack:
    """Inputs or outputs of a node replaced."""
    return attack(name, lambda parts: change(parts.node(op), values), message)


def operator(name: str, op: str) -> Attack:
    message = f"{op} node 'lookup': operator '{op}' is not supported"
    return attack(name, lambda p: change(p.node("Gather"), {"op": op}), message, UnsupportedError)


def shaped(
    name: str, message: str, tensor: str, shape: list[int], error: type[LightRNNError] = GraphError
) -> Attack:
    """A constant of another shape, its elements the same."""
    return attack(name, lambda p: p.tensors[tensor].update(shape=shape), message, error)


def outputs(name: str, message: str, *found: dict[str, Any]) -> Attack:
    """Outputs of the main graph declared otherwise."""
    return attack(name, lambda p: change(p.main, {"outputs": list(found), "states": {}}), message)


def ids_of(dtype: str, shape: list[Any]) -> Callable[[Parts], None]:
    return lambda parts: change(parts.main["inputs"][0], {"dtype": dtype, "shape": shape})


def more(op: str, inputs: list[str], outputs: list[str], **values: Any) -> Callable[[Parts], None]:
    """A node more in the main graph."""
    fields = {"op": op, "inputs": inputs, "outputs": outputs, "attrs": values, "origin": "extra"}
    return lambda parts: parts.main["nodes"].append(fields)


def extra(op: str, numbers: list[int], **values: Any) -> Callable[[Parts], None]:
    """A node more, on the constant `low` (float32 [1]) and a list of int64."""

    def edit(parts: Parts) -> None:
        data = b"".join(n.to_bytes(8, "little", signed=True) for n in numbers)
        parts.add_tensor("numbers", "I64", [len(numbers)], data)
        more(op, ["low", "numbers"], ["more"], **values)(parts)

    return edit


def looked_up(index: int) -> Callable[[Parts], None]:
    """The row of a constant index, which is known before the model runs."""

    def edit(parts: Parts) -> None:
        extra("Gather", [index])(parts)
        parts.main["outputs"].append(tensor("more", "float32", [1]))

    return edit


OPERATORS = (
    operator("an operator that ONNX lacks", "Attend"),
    operator("an operator of another case", "gather"),
    operator("a sequence operator", "SequenceAt"),
    operator("an operator made by fusion", "Linear"),
    operator("a name of Python's", "__init__"),
)

ATTRIBUTES = (
    attrs("an unknown attribute", "'layer': unknown attribute 'dropout'", "GRU", dropout=0.5),
    attrs("an attribute of a base class", "'layer': unknown attribute 'rtol'", "GRU", rtol=1.0),
    attrs("an attribute of LSTM", "unknown attribute 'input_forget'", "GRU", input_forget=1),
    attrs("a string for an int", "'hidden_size' has the value '4' of the", "GRU", hidden_size="4"),
    attrs("a float for an int", "'hidden_size' has the value 4.0 of", "GRU", hidden_size=4.0),
    attrs("a list for an int", "'axis' has the value", "Gather", axis=[0]),
    attrs("an int for a string", "'direction' has the value 1 of", "GRU", direction=1),
    attrs("an int for a list", "'perm' has the value 1 of the wrong", "Transpose", perm=1),
    attrs("floats for ints", "'perm' has the value", "Transpose", perm=[1.0, 0.0, 2.0]),
    attrs("a string for a float", "'clip' has the value '1'", "GRU", clip="1"),
    attrs("an unknown direction", "direction is 'sideways'", "GRU", direction="sideways"),
    attrs("an unknown layout", "layout is 2, expected 0 or 1", "GRU", layout=2),
    attrs("a clip of 0", "clip is 0.0, expected a positive", "GRU", clip=0.0),
    attrs("another hidden size", "hidden sizes of W and hidden_size", "GRU", hidden_size=5),
    attrs("another direction", "directions of W and direction", "GRU", direction="bidirectional"),
    attack(
        "an unknown activation",
        lambda p: change(p.node("GRU"), {"attrs": {"activations": ["Swash", "Tanh"]}}),
        "'layer': activation 'Swash' is not supported",
        UnsupportedError,
    ),
    attrs("too few activations", "1 activations, expected 2", "GRU", activations=["Tanh"]),
    attrs("an axis out of range", "axis 2 is out of range for rank 2", "Gather", axis=2),
    attrs("an axis far out of range", "is out of range", "Gather", axis=-(2**63)),
    attrs("no permutation", "perm", "Transpose", perm=[0, 0, 2]),
    attrs("a permutation too long", "perm", "Transpose", perm=[1, 0, 2, 3]),
    attack(
        "a required attribute missing",
        lambda p: change(p.node("Squeeze"), {"op": "Cast", "inputs": ["h_next"]}),
        "attribute 'to' is missing",
    ),
    attack(
        "an element type that ONNX lacks",
        lambda p: change(
            p.node("Squeeze"), {"op": "Cast", "inputs": ["h_next"], "attrs": {"to": 99}}
        ),
        "element type 99 is not supported",
        UnsupportedError,
    ),
)

SLOTS = (
    slots("too few inputs", "1 inputs, expected 2", "Gather", inputs=["table"]),
    slots("no inputs at all", "0 inputs, expected 3 to 6", "GRU", inputs=[]),
    slots("too many inputs", "3 inputs, expected 2", "Gather", inputs=["table", "ids", "ids"]),
    slots("a required input left out", "input 'W' is left out", "GRU", inputs=["x", "", "r"]),
    attack("one of many left out", more("Max", ["low", ""], ["m"]), "input 'rest' is left out"),
    attack("the first of many left out", more("Sum", ["", "low"], ["m"]), "'data_0' is left out"),
    slots("too many outputs", "2 outputs, expected 1", "Gather", outputs=["rows", "more"]),
    attack("no outputs of a node", more("Exp", ["low"], []), "'extra': 0 outputs, expected 1"),
)

FIT = (
    attack("ids of float32", ids_of("float32", ["N", "T"]), "node 'lookup'.*float32"),
    attack("ids of bool", ids_of("bool", ["N", "T"]), "node 'lookup'.*bool"),
    attack("ids of rank 3", ids_of("int64", ["N", "T", 2]), "node 'x'"),
    shaped("weights of another size", "'layer': .*input sizes of X and W", "table", [3, 5]),
    shaped("weights of another rank", "W has rank 2, expected 3", "w", [12, 3]),
    shaped("a bias of another rank", "B has rank 1, expected 2", "b", [24]),
    shaped("rows that are no gates", "W has 4 rows, not a multiple of 3", "w", [1, 4, 9]),
    shaped("a product that does not fit", "MatMul node 'product'", "out", [3, 4]),
    slots("sizes that do not broadcast", "Where node", "Where", inputs=["flags", "flat", "low"]),
    attack("exponents of int64", more("Exp", ["ids"], ["e"]), "first input is int64, expected fl"),
    attack("the sign of a bool", more("Sign", ["flags"], ["e"]), "first input is bool, expected"),
    attack("a tensor of 2**60 elements", extra("Expand", [2**30, 2**30]), "is too large, at most"),
    attack("a tensor of rank 17", extra("Expand", [1] * 17), "is too large, at most rank 16"),
    attack(
        "a size that expands to less than nothing", extra("Expand", [-5]), "Expand node 'extra'"
    ),
    outputs(
        "an output of another dtype",
        "output 'logits' is float32",
        NEXT,
        {**LOGITS, "dtype": "float64"},
    ),
    outputs(
        "an output of another rank",
        "output 'logits' is .* declared as",
        NEXT,
        {**LOGITS, "shape": [3]},
    ),
    outputs(
        "an output of another size",
        "output 'logits' is .* declared as",
        NEXT,
        {**LOGITS, "shape": ["N", 4]},
    ),
)

VALUES = (
    attack("a constant index too large", looked_up(9), "Gather node 'extra'.* 9", DataError),
    attack("a constant index of 2**62", looked_up(2**62), "Gather node 'extra'", DataError),
)

MEANINGS = OPERATORS + ATTRIBUTES + SLOTS + FIT + VALUES
