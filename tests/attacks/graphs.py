"""Bad graphs: their form, names, references, states."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lightrnn.errors import FormatError
from tests.attacks.base import Attack, Parts, edited


def attack(name: str, edit: Callable[[Parts], object], message: str) -> Attack:
    return Attack(name, edited(edit), FormatError, message)


def raw(name: str, message: str, text: str) -> Attack:
    """Another text of the graphs."""
    return attack(name, lambda parts: parts.metadata.update(graphs=text), message)


def graph(name: str, message: str, /, **changes: Any) -> Attack:
    """Fields of the main graph changed; `...` removes one."""
    return attack(name, lambda parts: change(parts.main, changes), message)


def node(name: str, message: str, /, **changes: Any) -> Attack:
    """Fields of the Gather node (table and ids to rows) changed; `...` removes one."""
    return attack(name, lambda parts: change(parts.node("Gather"), changes), message)


def given(name: str, message: str, /, **changes: Any) -> Attack:
    """Fields of the input ids (int64 [N, T]) changed; `...` removes one."""
    return attack(name, lambda parts: change(parts.main["inputs"][0], changes), message)


def change(fields: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if value is ...:
            del fields[name]
        else:
            fields[name] = value


def cycle(parts: Parts) -> None:
    """The lookup reads what the product makes."""
    parts.node("Gather")["inputs"][1] = "product"


def swapped(parts: Parts) -> None:
    nodes = parts.main["nodes"]
    nodes[0], nodes[1] = nodes[1], nodes[0]


def orphaned(parts: Parts) -> None:
    """Nothing reads the constant `low` any more, and the graph does not list it."""
    parts.main["constants"].remove("low")
    parts.node("Where")["inputs"][2] = "product"


def tensor(name: str, dtype: str, shape: Any) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape}


IDS, H = tensor("ids", "int64", ["N", "T"]), tensor("h", "float32", [1, "N", 4])
LOGITS, NEXT = tensor("logits", "float32", ["N", 3]), tensor("h_next", "float32", [1, "N", 4])
EMPTY: dict[str, Any] = {"inputs": [], "outputs": [], "nodes": [], "constants": [], "states": {}}

FORMS = (
    raw("graphs not JSON", "graphs is not JSON", "main"),
    raw("graphs an object", r"graphs is not a list of \[name, graph\]", "{}"),
    raw("graphs without names", r"graphs is not a list of \[name, graph\]", json.dumps([EMPTY])),
    raw("a graph of three parts", "graphs is not a list", json.dumps([["main", EMPTY, 1]])),
    raw("no graphs", "0 graphs, expected 1 to 100", "[]"),
    raw("too many graphs", "101 graphs", json.dumps([[f"g{k}", EMPTY] for k in range(101)])),
    raw("a graph's name a number", "a graph has the name 1", json.dumps([[1, EMPTY]])),
    raw("a graph's name empty", "a graph has the name ''", json.dumps([["", EMPTY]])),
    raw("a graph's name too long", "a graph has the name", json.dumps([["g" * 1001, EMPTY]])),
    raw("a graph null", "graph 'main' is not an object", '[["main", null]]'),
    raw("deep graphs", "graphs is not JSON", "[" * 100_000),
    raw("Infinity in graphs", "graphs contains Infinity", '[["main", Infinity]]'),
    raw("half a surrogate pair in graphs", "graphs contains half", '[["\\ud800", {}]]'),
    raw("a key of a graph twice", "key 'nodes' twice", '[["main", {"nodes": [], "nodes": []}]]'),
    attack(
        "two graphs of one name",
        lambda p: p.metadata.update(graphs=json.dumps([["score", p.graphs["score"]]] * 2)),
        "two graphs have the name 'score'",
    ),
    graph("no inputs field", "graph 'main' lacks 'inputs'", inputs=...),
    graph("no outputs field", "graph 'main' lacks 'outputs'", outputs=...),
    graph("no nodes field", "graph 'main' lacks 'nodes'", nodes=...),
    graph("no constants field", "graph 'main' lacks 'constants'", constants=...),
    graph("no states field", "graph 'main' lacks 'states'", states=...),
    graph("an unknown field of a graph", "has the unknown field 'functions'", functions=[]),
    graph("inputs an object", "inputs of graph 'main' are not a list", inputs={}),
    graph("outputs null", "outputs of graph 'main' are not a list", outputs=None),
    graph("nodes a string", "nodes of graph 'main' are not a list", nodes="GRU"),
    graph("constants an object", "constants of graph 'main' are not a list", constants={}),
    graph("too many nodes", "nodes of graph 'main': 200001, at most", nodes=[0] * 200_001),
)

TYPES = (
    graph("an input a string", "one of the inputs of graph 'main' is not an object", inputs=["x"]),
    given("an input without a name", "one of the inputs of graph 'main' lacks 'name'", name=...),
    given("an input without a dtype", "one of the inputs of graph 'main' lacks", dtype=...),
    given("an input without a shape", "one of the inputs of graph 'main' lacks", shape=...),
    given("an unknown field of an input", "has the unknown field 'doc'", doc="tokens"),
    given("an input's name empty", "one of the inputs of graph 'main' has the name ''", name=""),
    given("an input's name too long", "has the name 'n+", name="n" * 1001),
    given("an input's name a number", "has the name 7", name=7),
    given("an input's dtype unknown", "'ids' has the unknown dtype 'int4'", dtype="int4"),
    given("an input's dtype bfloat16", "'ids' has the unknown dtype 'bfloat16'", dtype="bfloat16"),
    given("an input's dtype a list", "'ids' has the unknown dtype", dtype=["int64"]),
    given("an input's shape a string", "shape of 'ids' are not a list", shape="NT"),
    given("an input of rank 17", "shape of 'ids': 17, at most 16", shape=[1] * 17),
    given("an input of negative size", "'ids' has the shape", shape=[-1, "T"]),
    given("an input of fractional size", "'ids' has the shape", shape=[1.0, "T"]),
    given("an input of true size", "'ids' has the shape", shape=[True, "T"]),
    given("an input over the limit", "'ids' has the shape", shape=[2**48 + 1, "T"]),
    given("a size of no name", "'ids' has the shape", shape=["", "T"]),
    given("a size's name too long", "'ids' has the shape", shape=["N" * 1001, "T"]),
    given("a list for a size", "'ids' has the shape", shape=[["N"], "T"]),
    graph("1001 inputs", "inputs of graph 'main': 1001, at most 1000", inputs=[IDS] * 1001),
    graph("an input twice", "inputs of graph 'main' name 'ids' twice", inputs=[IDS, H, IDS]),
    graph("an output twice", "outputs of graph 'main' name 'logits' twice", outputs=[LOGITS] * 2),
)

NODES = (
    graph("a node a string", "node 0 of graph 'main' is not an object", nodes=["Gather"]),
    node("no op", "node 0 of graph 'main' lacks 'op'", op=...),
    node("no attrs", "node 0 of graph 'main' lacks 'attrs'", attrs=...),
    node("no origin", "node 0 of graph 'main' lacks 'origin'", origin=...),
    node("a node's domain", "has the unknown field 'domain'", domain="ai.onnx"),
    node("op a number", "op of node 0 of graph 'main' has the name 3", op=3),
    node("op empty", "op of node 0 of graph 'main' has the name ''", op=""),
    node("op too long", "op of node 0 of graph 'main' has the name 'G+", op="G" * 1001),
    node("origin a list", "origin of node 0 of graph 'main' has the name", origin=["a"]),
    node("origin too long", "origin of node 0 of graph 'main' has the name", origin="o" * 1001),
    node("a node's inputs a string", "inputs of node 0 of graph 'main' are not", inputs="table"),
    node("a node's input a number", "a tensor of node 0 of .* has the name 1", inputs=["table", 1]),
    node("a node's output null", "a tensor of node 0 of .* has the name None", outputs=[None]),
    node("a node's output too long", "a tensor of node 0 of", outputs=["o" * 1001]),
    node("attrs a list", "attrs of node 0 of graph 'main' are not an object", attrs=[0]),
    node("an attribute null", "'axis' of node 0 of graph 'main' is not", attrs={"axis": None}),
    node("an attribute true", "'axis' of node 0 of graph 'main' is not", attrs={"axis": True}),
    node("an attribute an object", "'axis' of node 0 of graph 'main' lacks", attrs={"axis": {}}),
    node("an attribute a deep list", "'axis' of node 0 of graph", attrs={"axis": [[0]]}),
    node("an attribute of two types", "'axis' of node 0 of graph", attrs={"axis": [0, 0.5]}),
    node("an attribute of true", "'axis' of node 0 of graph", attrs={"axis": [0, True]}),
    node("an attribute of 2**63", "is not an int64", attrs={"axis": 2**63}),
    node("an attribute below int64", "is not an int64", attrs={"axis": [0, -(2**63) - 1]}),
    node("a long attribute", "'axis' of node 0 of graph", attrs={"axis": [0] * 1_000_001}),
)

REFERENCES = (
    graph("a constant unknown", "uses the tensor 'v', which the file lacks", constants=["v"]),
    graph("a constant twice", "lists the constant 'w' twice", constants=["w", "w"]),
    graph("a constant a number", "a constant of graph 'main' has the name 1", constants=[1]),
    attack(
        "a tensor of no graph",
        orphaned,
        "tensor 'low' belongs to no graph",
    ),
    attack(
        "an input that is a constant",
        lambda p: p.main["inputs"].append(tensor("w", "float32", [1, 12, 3])),
        "input 'w' is also a constant",
    ),
    node(
        "a dangling reference",
        "reads 'nothing', which nothing before it makes",
        inputs=["table", "nothing"],
    ),
    attack("a cycle", cycle, "node 'lookup' reads 'product', which nothing before it makes"),
    attack("nodes out of order", swapped, "reads 'rows', which nothing before it makes"),
    node("a node that reads itself", "reads 'rows', which nothing", inputs=["table", "rows"]),
    node("a node makes an input", "makes 'ids', which exists already", outputs=["ids"]),
    node("a node makes a constant", "makes 'w', which exists already", outputs=["w"]),
    node("a node makes one tensor twice", "makes 'rows', which exists", outputs=["rows", "rows"]),
    attack(
        "two nodes make one tensor",
        lambda p: change(p.node("Transpose"), {"outputs": ["rows"]}),
        "makes 'rows', which exists already",
    ),
    graph("no outputs", "graph 'main' has no outputs", outputs=[], states={}),
    graph(
        "an output never made",
        "output 'scores' is never made",
        outputs=[NEXT, tensor("scores", "float32", None)],
    ),
    graph(
        "states a list",
        "states of graph 'main' are not an object of names",
        states=[["h", "h_next"]],
    ),
    graph("a state's source a number", "states of graph 'main' are not an object", states={"h": 1}),
    graph("a state that is no input", "state 'c' is not an input", states={"c": "h_next"}),
    graph(
        "a state from no output",
        "state 'h' comes from 'c_next', not an output",
        states={"h": "c_next"},
    ),
    graph(
        "a state of another dtype",
        r"state 'ids' is int64\[N, T\], its source",
        states={"ids": "logits"},
    ),
    graph(
        "a state of another rank",
        "state 'h' is float32.* its source 'logits'",
        states={"h": "logits"},
    ),
    graph(
        "a state of another size",
        r"state 'h' is float32\[2, N, 4\], its source 'h_next' is float32\[1, N, 4\]",
        inputs=[IDS, tensor("h", "float32", [2, "N", 4])],
    ),
)

GRAPHS = FORMS + TYPES + NODES + REFERENCES
