"""If, Loop and Scan: graphs inside nodes, read as graphs that capture nothing.

What such a graph reads from around it becomes inputs of the node, or constants of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lightrnn.errors import UnsupportedError
from lightrnn.graph import BOOL, INT64, Attr, Graph, Node, TensorType
from lightrnn.record import replace
from lightrnn_converters import constants
from lightrnn_converters.sequences import Growing, Items, Pieces
from lightrnn_converters.simplify import simplify

if TYPE_CHECKING:
    from lightrnn_converters.reader import Reader

_UNKNOWN = TensorType(np.dtype(np.float32), None)
"""Stands for tensors whose makers cannot be read; the model is refused for those."""


@dataclass
class Inside:
    """The graphs of one node while they are read.

    names: ONNX names around the node to names in the result. captured: those read inside.
    problems: why nodes inside cannot be computed.
    """

    reader: Reader
    node: Node
    names: dict[str, str]
    captured: tuple[str, ...]
    problems: list[str] = field(default_factory=list)

    @staticmethod
    def of(reader: Reader, node: Node, names: dict[str, str], protos: Sequence[Any]) -> Inside:
        free = dict.fromkeys(names.get(n, n) for p in protos for n in free_names(p))
        read: dict[str, None] = {}
        for name in free:
            sequence = reader.known_sequences.get(name)
            read.update(dict.fromkeys((name,) if sequence is None else sequence.tensors))
        return Inside(reader, node, names, tuple(read))

    @property
    def inputs(self) -> tuple[str, ...]:
        """What is captured and not constant."""
        return tuple(n for n in self.captured if n not in self.reader.constants)

    def read(
        self,
        proto: Any,
        formals: Sequence[TensorType | None],
        *,
        loop: bool = False,
        collected: Sequence[int] = (),
    ) -> Graph:
        """A graph with inputs of these types, then those captured.

        formals: None for a sequence, which is no input. loop: the second input is true whenever the
        graph runs. collected: outputs that are sequences; what is appended to them is given out
        instead, last. Raises UnsupportedError.
        """
        child, scope = self.reader.inner(), dict(self.names)
        inputs: dict[str, TensorType] = {}
        for k, (value, kind) in enumerate(zip(proto.input, formals, strict=True)):
            name = child.fresh_name(value.name, scope)
            if kind is None:
                child.known_sequences[name] = Growing()
                continue
            inputs[name] = kind
            if loop and k == 1:
                scope[value.name] = child.fresh_name(f"{value.name}:true", {})
                child.know(scope[value.name], np.array(True))
            else:
                child.declare(name, kind)
        self._hand_over(child, inputs)
        inner = child.read(proto, scope)
        plain = [
            inner.get(o.name, o.name) for k, o in enumerate(proto.output) if k not in collected
        ]
        stacked = [_appended(child, inner, proto.output[k]) for k in collected]
        for k, value in enumerate(proto.output):
            if k not in collected:
                _require_tensor(value)
        return self._finished(child, [*plain, *stacked], inputs)

    def _hand_over(self, child: Reader, inputs: dict[str, TensorType]) -> None:
        """Let the reader of a graph know what is captured."""
        for name in self.captured:
            if name in self.reader.constants:
                child.know(name, self.reader.constants[name])
            else:
                inputs[name] = self.reader.types.get(name, _UNKNOWN)
                child.declare(name, inputs[name], self.reader.narrow.types.get(name, 0))
        for name, sequence in self.reader.known_sequences.items():
            if set(sequence.tensors) <= set(self.captured):
                child.known_sequences[name] = sequence

    def _finished(
        self, child: Reader, results: Sequence[str], inputs: dict[str, TensorType]
    ) -> Graph:
        outputs: dict[str, TensorType] = {}
        for source in results:
            made = child.fresh_name(source, {})
            child.emit(Node("Identity", (source,), (made,), {}, self.node.origin))
            outputs[made] = TensorType(child.types.get(made, _UNKNOWN).dtype, None)
        self.problems += child.needed_problems(outputs)
        kept = (n for k, n in enumerate(child.nodes) if k not in child.problems)
        bare = {name: TensorType(kind.dtype, None) for name, kind in inputs.items()}
        return simplify(Graph(bare, outputs, tuple(kept), child.constants))

    def emit(
        self, inputs: Sequence[str], attrs: dict[str, Attr], outputs: Sequence[str] | None = None
    ) -> None:
        """Add the node, with what its graphs capture and use as its last inputs.

        Raises UnsupportedError for all nodes inside that cannot be computed.
        """
        if self.problems:
            raise UnsupportedError("; ".join(self.problems))
        graphs = {k: g for k, g in attrs.items() if isinstance(g, Graph)}
        used = {name for graph in graphs.values() for name in _reads(graph)}
        captured = tuple(n for n in self.inputs if n in used)
        unused = set(self.inputs) - set(captured)
        for key, graph in graphs.items():
            left = {n: t for n, t in graph.inputs.items() if n not in unused}
            attrs[key] = replace(graph, inputs=left)
        if self.node.op != "If":
            attrs["captures"] = len(captured)
        made = self.node.outputs if outputs is None else tuple(outputs)
        node = replace(self.node, inputs=(*inputs, *captured), outputs=made, attrs=attrs)
        self.reader.emit(node)


def read_if(reader: Reader, node: Node, proto: Any, names: dict[str, str]) -> None:
    """An If whose condition is not known."""
    branches = {a.name: a.g for a in proto.attribute}
    inside = Inside.of(reader, node, names, list(branches.values()))
    attrs: dict[str, Attr] = {name: inside.read(g, ()) for name, g in branches.items()}
    inside.emit(node.inputs, attrs)


def read_loop(reader: Reader, node: Node, proto: Any, names: dict[str, str]) -> None:
    """A Loop. Shapes of carried tensors may change, so nothing is known of them inside.

    A sequence that starts empty and to which every iteration appends one tensor becomes a stacked
    output, of which the sequence holds the pieces.
    """
    (body,) = (a.g for a in proto.attribute if a.name == "body")
    inputs = [*node.inputs, *[""] * (len(body.input) - len(node.inputs))]
    outputs = [*node.outputs, *[""] * (len(body.output) - 1 - len(node.outputs))]
    carried = range(2, len(body.input))
    growing = [k for k in carried if body.input[k].type.HasField("sequence_type")]
    for k in growing:
        if reader.known_sequences.get(inputs[k]) != Items(()):
            raise UnsupportedError(
                f"{body.input[k].name!r} inside it: sequence values are not supported, "
                "but for one that is empty before the loop"
            )
    plain = [k for k in carried if k not in growing]
    formals: list[TensorType | None] = [TensorType(INT64, ()), TensorType(BOOL, ())]
    formals += [
        None if k in growing else _carried(reader, inputs[k], body.input[k]) for k in carried
    ]
    inside = Inside.of(reader, node, names, [body])
    graph = inside.read(body, formals, loop=True, collected=[k - 1 for k in growing])
    stacked = [reader.fresh_name(f"{outputs[k - 2] or 'sequence'}:stacked", {}) for k in growing]
    made = [outputs[k - 2] for k in plain] + outputs[len(carried) :] + stacked
    inside.emit([*inputs[:2], *(inputs[k] for k in plain)], {"body": graph}, made)
    for k, name in zip(growing, stacked, strict=True):
        reader.known_sequences[outputs[k - 2]] = Pieces(name, 0, None, keepdims=False)


def read_scan(reader: Reader, node: Node, proto: Any, names: dict[str, str]) -> None:
    """A Scan of opset 9 or later."""
    (body,) = (a.g for a in proto.attribute if a.name == "body")
    attrs = {a.name: constants.attribute(a) for a in proto.attribute if a.name != "body"}
    inside = Inside.of(reader, node, names, [body])
    formals = [_carried(reader, n, v) for n, v in zip(node.inputs, body.input, strict=True)]
    inside.emit(node.inputs, {**attrs, "body": inside.read(body, formals)})


def _appended(child: Reader, names: dict[str, str], value: Any) -> str:
    """The one tensor that an iteration appends to a sequence. Raises UnsupportedError."""
    sequence = child.known_sequences.get(names.get(value.name, value.name))
    if not isinstance(sequence, Growing) or len(sequence.added) != 1:
        raise UnsupportedError(
            f"{value.name!r} inside it: sequence values are not supported, but for one to which "
            "each iteration appends one tensor"
        )
    return sequence.added[0]


def _carried(reader: Reader, name: str, value: Any) -> TensorType:
    _require_tensor(value)
    return TensorType(reader.types.get(name, _UNKNOWN).dtype, None)


def _require_tensor(value: Any) -> None:
    kind = value.type.WhichOneof("value") or "tensor_type"
    if kind != "tensor_type":
        name = kind.removesuffix("_type")
        raise UnsupportedError(f"{value.name!r} inside it: {name} values are not supported")


def _reads(graph: Graph) -> Iterator[str]:
    """Names that a graph's nodes read or that it gives out."""
    yield from graph.outputs
    for node in graph.nodes:
        yield from node.inputs


def free_names(graph: Any) -> Iterator[str]:
    """Names that an ONNX graph, or one inside it, reads from around it."""
    made = {v.name for v in (*graph.input, *graph.initializer)}
    for node in graph.node:
        yield from (n for n in node.input if n and n not in made)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from (n for n in free_names(attribute.g) if n not in made)
        made.update(node.output)
    yield from (v.name for v in graph.output if v.name not in made)
