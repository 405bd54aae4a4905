"""Graphs as JSON: what the `graphs` metadata of a file may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightrnn.errors import FormatError
from lightrnn.format import limits
from lightrnn.format.container import shown
from lightrnn.graph import DTYPES, MAX_RANK, MAX_SIZE, Array, Attr, Graph, Node, TensorType


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """A graph without its constants' values."""
    return {
        "inputs": [_type_to_json(n, t) for n, t in graph.inputs.items()],
        "outputs": [_type_to_json(n, t) for n, t in graph.outputs.items()],
        "nodes": [_node_to_json(node) for node in graph.nodes],
        "constants": sorted(graph.constants),
        "states": dict(graph.states),
    }


def _type_to_json(name: str, kind: TensorType) -> dict[str, Any]:
    shape = None if kind.shape is None else list(kind.shape)
    return {"name": name, "dtype": kind.dtype.name, "shape": shape}


def _node_to_json(node: Node) -> dict[str, Any]:
    return {
        "op": node.op,
        "inputs": list(node.inputs),
        "outputs": list(node.outputs),
        "attrs": {name: _attr_to_json(value) for name, value in node.attrs.items()},
        "origin": node.origin,
    }


def _attr_to_json(value: Attr) -> Any:
    if isinstance(value, Graph):
        return graph_to_json(value)
    return list(value) if isinstance(value, tuple) else value


def graph_from_json(value: Any, name: str, tensors: Mapping[str, Array]) -> Graph:
    """The graph `name` of a file with these tensors. Raises FormatError."""
    return _graph(value, f"graph {name!r}", tensors, 0)


def _graph(value: Any, what: str, tensors: Mapping[str, Array], depth: int) -> Graph:
    """depth: how many graphs this one lies in."""
    if depth > limits.NESTING:
        raise FormatError(f"{what} lies in more than {limits.NESTING} others")
    keys = {"inputs", "outputs", "nodes", "constants", "states"}
    fields = _object(value, keys, what)
    constants = {}
    for tensor in _list(fields["constants"], f"constants of {what}", limits.TENSORS):
        if checked_name(tensor, f"a constant of {what}") not in tensors:
            raise FormatError(f"{what} uses the tensor {tensor!r}, which the file lacks")
        if tensor in constants:
            raise FormatError(f"{what} lists the constant {tensor!r} twice")
        constants[tensor] = tensors[tensor]
    inputs = _types(fields["inputs"], f"inputs of {what}")
    outputs = _types(fields["outputs"], f"outputs of {what}")
    nodes = tuple(
        _node(node, f"node {k} of {what}", tensors, depth)
        for k, node in enumerate(_list(fields["nodes"], f"nodes of {what}", limits.NODES))
    )
    graph = Graph(inputs, outputs, nodes, constants, _states(fields["states"], what))
    _check_order(graph, what)
    if depth and graph.states:
        raise FormatError(f"{what} has states, which only a graph of its own can have")
    return graph


def _check_order(graph: Graph, what: str) -> None:
    """Every tensor is made once, before it is used; outputs and states exist."""
    known = set(graph.constants)
    for name in graph.inputs:
        if name in known:
            raise FormatError(f"{what}: input {name!r} is also a constant")
        known.add(name)
    for node in graph.nodes:
        for name in node.inputs:
            if name and name not in known:
                raise FormatError(f"{what}: {node} reads {name!r}, which nothing before it makes")
        for name in node.outputs:
            if name in known:
                raise FormatError(f"{what}: {node} makes {name!r}, which exists already")
            if name:
                known.add(name)
    for name in graph.outputs:
        if name not in known:
            raise FormatError(f"{what}: output {name!r} is never made")
    if not graph.outputs:
        raise FormatError(f"{what} has no outputs")
    for name, source in graph.states.items():
        if name not in graph.inputs:
            raise FormatError(f"{what}: state {shown(name)} is not an input")
        if source not in graph.outputs:
            raise FormatError(f"{what}: state {name!r} comes from {shown(source)}, not an output")
        a, b = graph.inputs[name], graph.outputs[source]
        if not a.admits(b):
            raise FormatError(f"{what}: state {name!r} is {a}, its source {source!r} is {b}")


def _types(value: Any, what: str) -> dict[str, TensorType]:
    types: dict[str, TensorType] = {}
    for entry in _list(value, what, limits.SIGNATURE):
        fields = _object(entry, {"name", "dtype", "shape"}, f"one of the {what}")
        name = checked_name(fields["name"], f"one of the {what}")
        if name in types:
            raise FormatError(f"{what} name {name!r} twice")
        dtype, shape = fields["dtype"], fields["shape"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise FormatError(f"{what}: {name!r} has the unknown dtype {shown(dtype)}")
        if shape is not None:
            shape = tuple(_list(shape, f"shape of {name!r}", MAX_RANK))
            if not all(_is_dim(d) for d in shape):
                raise FormatError(f"{what}: {name!r} has the shape {shown(list(shape))}")
        types[name] = TensorType(DTYPES[dtype], shape)
    return types


def _is_dim(value: Any) -> bool:
    if value is None or (type(value) is int and 0 <= value <= MAX_SIZE):
        return True
    return isinstance(value, str) and 0 < len(value) <= limits.NAME_LENGTH


def _node(value: Any, what: str, tensors: Mapping[str, Array], depth: int) -> Node:
    fields = _object(value, {"op", "inputs", "outputs", "attrs", "origin"}, what)
    names = [
        tuple(
            checked_name(n, f"a tensor of {what}", empty=True)
            for n in _list(fields[key], f"{key} of {what}", limits.TENSORS)
        )
        for key in ("inputs", "outputs")
    ]
    if not isinstance(fields["attrs"], dict):
        raise FormatError(f"attrs of {what} are not an object")
    attrs: dict[str, Attr] = {}
    for key, attr in fields["attrs"].items():
        where = f"attribute {shown(key)} of {what}"
        nested = isinstance(attr, dict)
        attrs[key] = _graph(attr, where, tensors, depth + 1) if nested else _attr(attr, where)
    origin = checked_name(fields["origin"], f"origin of {what}", empty=True)
    return Node(checked_name(fields["op"], f"op of {what}"), names[0], names[1], attrs, origin)


def _attr(value: Any, what: str) -> Attr:
    if isinstance(value, list) and len(value) <= limits.VALUES:
        for kind in (int, float, str):
            if all(type(v) is kind for v in value):
                return tuple(_ranged(v, what) for v in value)
    elif type(value) in (int, float, str):
        return _ranged(value, what)
    raise FormatError(f"{what} is not a number, a string, a list of one of them or a graph")


def _ranged(value: Any, what: str) -> Any:
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise FormatError(f"{what} has the value {shown(value)}, which is not an int64")
    return value


def _states(value: Any, what: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise FormatError(f"states of {what} are not an object of names")
    return value


def _object(value: Any, keys: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not an object")
    if missing := sorted(keys - set(value)):
        raise FormatError(f"{what} lacks {missing[0]!r}")
    if unknown := sorted(set(value) - keys):
        raise FormatError(f"{what} has the unknown field {shown(unknown[0])}")
    return value


def _list(value: Any, what: str, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise FormatError(f"{what} are not a list")
    if len(value) > most:
        raise FormatError(f"{what}: {len(value)}, at most {most} allowed")
    return value


def checked_name(value: Any, what: str, *, empty: bool = False) -> str:
    """A string that can be a name. Raises FormatError naming `what`."""
    if not isinstance(value, str) or len(value) > limits.NAME_LENGTH or not (value or empty):
        raise FormatError(f"{what} has the name {shown(value)}")
    return value
