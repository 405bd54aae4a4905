"""Read the nodes of a lifted ONNX graph into a lightrnn graph, folding constants on the way.

What depends on constants alone is evaluated as soon as it is read, with the operators' own
semantics, so that an `If` whose condition folds can be replaced by the branch it takes. Nodes that
cannot be read are kept, with the reason, until it is known whether anything needs them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lightrnn.errors import UnsupportedError
from lightrnn.format.limits import NAME_LENGTH
from lightrnn.graph import Array, Attr, Dim, Node, TensorType
from lightrnn.ops import build
from lightrnn.record import replace
from lightrnn_converters import constants, control, microsoft, sequences
from lightrnn_converters.narrow import NarrowTensors
from lightrnn_converters.sizes import Sizes

EXTENSIONS = {("lightrnn", "LSTM")}
"""Operators of other domains that lightrnn has: LSTM with a ninth input, `projection`."""

KEPT = frozenset({"DequantizeLinear", "If", "Loop", "Scan"})
"""Operators that are not evaluated here: what they make takes more room than what they take, or
they may take for ever.
"""

MOST_FOLDED = 2**28
"""How many elements a tensor may have that is computed from constants."""

BAD = (ValueError, TypeError, KeyError, IndexError, OverflowError, ZeroDivisionError, MemoryError)
"""What reading and computing raise for nodes that are not right; lightrnn's own errors are such."""


@dataclass
class Reader:
    """What has been read so far. Names are those of the ONNX model.

    constants: values by name. types: what is known of each tensor.
    problems: why a node cannot be computed, by the node's place among `nodes`.
    narrow: tensors whose element type graphs lack. known_sequences: those that tensors
    stand for. places: where in their source nodes come from, by name.
    """

    places: Mapping[str, str] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    narrow: NarrowTensors = field(default_factory=NarrowTensors)
    known_sequences: dict[str, sequences.Value] = field(default_factory=dict)
    _sizes: Sizes = field(default_factory=Sizes)
    _taken: set[str] = field(default_factory=set)
    _reserved: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def inner(self) -> Reader:
        """A reader for a graph inside a node: no name is in both."""
        return Reader(_taken=self._taken, _reserved=self._reserved, _numbers=self._numbers)

    def needed_problems(self, outputs: Iterable[str]) -> list[str]:
        """Why outputs cannot be computed, for each node that they need."""
        needed, found = set(outputs), []
        for k in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[k]
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                if k in self.problems:
                    found.append(self.problems[k])
        return found[::-1]

    def read(self, graph: Any, scope: Mapping[str, str]) -> dict[str, str]:
        """Read initializers and nodes. scope: names here to names in the result; returned grown."""
        names = dict(scope)
        self._reserved.update(name for node in graph.node for name in node.output)
        for proto in graph.initializer:
            self._initializer(proto, self.fresh_name(proto.name, names))
        for proto in graph.sparse_initializer:
            self._fail(Node("Constant", (), (proto.values.name,)), "sparse tensors")
        for node in graph.node:
            self._node(node, names)
        return names

    def know(self, name: str, value: Array) -> None:
        """Record a tensor's value."""
        self.constants[name] = value
        self.types[name] = TensorType.of(value)
        self._taken.add(name)

    def declare(self, name: str, kind: TensorType, elem_type: int = 0) -> None:
        """Record an input of the graph. elem_type: ONNX's number of its element type."""
        self.narrow.note(name, elem_type)
        self.types[name] = kind
        self._taken.add(name)

    def emit(self, node: Node) -> None:
        """Add a node of lightrnn's, or its outputs' values where its inputs are constants."""
        try:
            node = self.narrow.admit(node)
            operator = build(node)
            types = self._infer(node, operator)
            known = all(not i or i in self.constants for i in node.inputs)
            if known and node.op not in KEPT:
                return self._fold(node, operator, types)
        except BAD as error:
            return self._fail(node, str(error).removeprefix(f"{node}: "))
        if types is not None and all(t.value is not None for t in types):
            values = [t.value for t in types if t.value is not None]
            return self._learn(node, values)
        if types is not None:
            self.narrow.spread(node, types)
            self.types.update((n, t) for n, t in zip(node.outputs, types, strict=False) if n)
        self.nodes.append(node)
        return None

    def _fold(self, node: Node, operator: Any, types: tuple[TensorType, ...] | None) -> None:
        for kind in types or ():
            if kind.is_concrete and math.prod(kind.sizes) > MOST_FOLDED:
                raise UnsupportedError(f"its result of type {kind} is too large for a constant")
        with np.errstate(all="ignore"):
            inputs = (self.constants[i] if i else None for i in node.inputs)
            self._learn(node, operator.evaluate(*inputs))

    def _learn(self, node: Node, values: Sequence[Array]) -> None:
        self.narrow.spread(node, tuple(TensorType.of(v) for v in values))
        for name, value in zip(node.outputs, values, strict=False):
            if name:
                self.know(name, value)

    def _infer(self, node: Node, operator: Any) -> tuple[TensorType, ...] | None:
        given = [self.types.get(i) if i else None for i in node.inputs]
        if any(i and t is None for i, t in zip(node.inputs, given, strict=True)):
            return None
        types: tuple[TensorType, ...] = tuple(operator.infer(given))
        value = self._sizes.follow(node, operator, given)
        if value is not None:
            return (TensorType.of(value.astype(types[0].dtype)),)
        return self._sizes.refined(node, given, types)

    def _fail(self, node: Node, reason: str) -> None:
        place = self.places.get(node.origin)
        where = f" ({place})" if place else ""
        self.problems[len(self.nodes)] = f"{node}{where}: {reason}"
        self.nodes.append(node)

    def _initializer(self, proto: Any, name: str) -> None:
        try:
            self.narrow.note(name, proto.data_type)
            self.know(name, constants.tensor(proto))
        except BAD as error:
            self._fail(Node("Constant", (), (name,), origin=name), str(error))

    def fresh_name(self, name: str, names: dict[str, str]) -> str:
        """A name in the result for a tensor made in the graph whose names are given."""
        names[name] = self._fresh(name) if name in self._taken else name
        self._taken.add(names[name])
        return names[name]

    def _fresh(self, hint: str) -> str:
        while True:
            name = f"{hint}:{next(self._numbers)}"
            if name not in self._taken and name not in self._reserved:
                return name

    def _node(self, proto: Any, names: dict[str, str]) -> None:
        inputs = tuple(names.get(i, i) for i in proto.input)
        outputs = tuple(self.fresh_name(o, names) if o else "" for o in proto.output)
        origin = (proto.name or next((o for o in proto.output if o), ""))[:NAME_LENGTH]
        node = Node(proto.op_type, _trimmed(inputs), _trimmed(outputs), {}, origin)
        special = getattr(self, f"_read_{proto.op_type.lower()}", None)
        try:
            if proto.domain not in ("", "ai.onnx"):
                if proto.domain == microsoft.DOMAIN and proto.op_type in microsoft.REWRITES:
                    return self._rewrite(node, proto)
                if (proto.domain, proto.op_type) not in EXTENSIONS:
                    raise UnsupportedError(
                        f"operators of domain {proto.domain!r} are not supported"
                    )
            elif special is not None:
                return special(node, proto, names)
            self.emit(Node(node.op, node.inputs, node.outputs, _attributes(proto), origin))
        except BAD as error:
            self._fail(node, str(error))
        return None

    def _rewrite(self, node: Node, proto: Any) -> None:
        rewrite = microsoft.REWRITES[proto.op_type]
        attributes = _attributes(proto)
        for made in rewrite(
            node, attributes, self.constants, lambda value: self._constant(value, node)
        ):
            self.emit(made)

    def _read_constant(self, node: Node, proto: Any, names: Mapping[str, str]) -> None:
        self.narrow.note(node.outputs[0], constants.tensor_type(proto))
        self.know(node.outputs[0], constants.constant(proto))

    def _read_constantofshape(self, node: Node, proto: Any, names: Mapping[str, str]) -> None:
        value = self._constant(constants.fill_value(proto), node)
        self.narrow.note(value, constants.tensor_type(proto))
        self.emit(Node("Expand", (value, *node.inputs), node.outputs, {}, node.origin))

    def _read_dropout(self, node: Node, proto: Any, names: Mapping[str, str]) -> None:
        training = self.constants.get(node.inputs[2]) if len(node.inputs) > 2 else np.array(False)
        if len(node.outputs) > 1 or training is None or training.any():
            self.emit(replace(node, attrs=_attributes(proto)))
        else:
            self.emit(Node("Identity", node.inputs[:1], node.outputs, {}, node.origin))

    def _read_if(self, node: Node, proto: Any, names: dict[str, str]) -> None:
        condition = self.constants.get(node.inputs[0])
        if condition is None:
            return control.read_if(self, node, proto, names)
        wanted = "then_branch" if bool(condition) else "else_branch"
        branch = next(a.g for a in proto.attribute if a.name == wanted)
        inner = self.read(branch, names)
        for result, output in zip(branch.output, node.outputs, strict=False):
            if output:
                source = inner.get(result.name, result.name)
                self.emit(Node("Identity", (source,), (output,), {}, node.origin))
        return None

    def _read_loop(self, node: Node, proto: Any, names: dict[str, str]) -> None:
        control.read_loop(self, node, proto, names)

    def _read_scan(self, node: Node, proto: Any, names: dict[str, str]) -> None:
        control.read_scan(self, node, proto, names)

    def _read_sequenceconstruct(self, node: Node, proto: Any, names: Mapping[str, str]) -> None:
        self.known_sequences[node.outputs[0]] = sequences.Items(node.inputs)

    def _read_splittosequence(self, node: Node, proto: Any, names: Mapping[str, str]) -> None:
        attrs = _attributes(proto)
        sizes = self.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        axis = int(attrs.get("axis", 0))  # type: ignore[arg-type]
        known = _size(self.types.get(node.inputs[0]), axis)
        self.known_sequences[node.outputs[0]] = sequences.split(node.inputs, attrs, sizes, known)

    def _read_sequenceempty(self, node: Node, proto: Any, names: Mapping[str, str]) -> None:
        self.known_sequences[node.outputs[0]] = sequences.Items(())

    def _read_sequenceinsert(self, node: Node, proto: Any, names: Mapping[str, str]) -> None:
        position = self.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        if position is None and len(node.inputs) > 2:
            raise UnsupportedError("a position in a sequence that is not constant")
        place = None if position is None else int(position)
        self.known_sequences[node.outputs[0]] = self._sequence(node).inserted(node.inputs[1], place)

    def _read_sequenceat(self, node: Node, proto: Any, names: Mapping[str, str]) -> None:
        sequence, position = self._sequence(node), self.constants.get(node.inputs[1])
        emit, constant = self._emitter(node), lambda v: self._constant(v, node)
        if isinstance(sequence, sequences.Growing):
            raise UnsupportedError("an item of a sequence that a loop carries")
        if position is not None:
            sequence.read(int(position), node.outputs[0], emit, constant)
        elif isinstance(sequence, sequences.Pieces):
            sequence.read_at(node.inputs[1], node.outputs[0], emit, constant)
        else:
            raise UnsupportedError("a position in a sequence that is not constant")

    def _read_concatfromsequence(self, node: Node, proto: Any, names: Mapping[str, str]) -> None:
        sequence = self._sequence(node)
        kind = self.types.get(sequence.tensors[0]) if sequence.tensors else None
        sequences.joined(
            sequence, _attributes(proto), node.outputs[0], self._emitter(node),
            lambda: self._fresh(node.outputs[0]), lambda v: self._constant(v, node), kind,
        )  # fmt: skip

    def _sequence(self, node: Node) -> sequences.Value:
        found = self.known_sequences.get(node.inputs[0])
        if found is None:
            raise UnsupportedError("a sequence that is not made by splitting or listing tensors")
        return found

    def _emitter(self, node: Node) -> sequences.Emit:
        def emit(op: str, inputs: tuple[str, ...], output: str, attrs: dict[str, Attr]) -> None:
            self.emit(Node(op, inputs, (output,), attrs, node.origin))

        return emit

    def _constant(self, value: Array, node: Node) -> str:
        name = self._fresh(node.outputs[0])
        self.know(name, value)
        return name


def _attributes(proto: Any) -> dict[str, Attr]:
    for attribute in proto.attribute:
        if attribute.ref_attr_name:
            raise UnsupportedError(f"attribute {attribute.name!r} refers to one of a function")
    return {a.name: constants.attribute(a) for a in proto.attribute}


def _trimmed(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names without the empty ones at the end."""
    count = len(names)
    while count and not names[count - 1]:
        count -= 1
    return names[:count]


def _size(kind: TensorType | None, axis: int) -> int | None:
    if kind is None or kind.shape is None or not -len(kind.shape) <= axis < len(kind.shape):
        return None
    size: Dim = kind.shape[axis]
    return size if isinstance(size, int) else None
