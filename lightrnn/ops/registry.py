"""The operator registry: one record an operator, its fields the ONNX attributes."""

from __future__ import annotations

import functools
import importlib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from lightrnn.errors import GraphError, UnsupportedError
from lightrnn.graph import Array, Attr, Graph, Node, TensorType
from lightrnn.ops.catalogue import MODULE_OF
from lightrnn.ops.lowering import Emitter, Operand
from lightrnn.record import EMPTY, Record

Types = Sequence[TensorType | None]
"""Types of a node's inputs; None for an optional input left out."""


class Case(Record):
    """Inputs and attributes to try an operator on; no expected values.

    outputs: which outputs to ask for, by name; empty for all of them.
    """

    name: str
    inputs: tuple[Array | None, ...]
    attrs: Mapping[str, Attr] = EMPTY
    outputs: tuple[str, ...] = ()


class Slots(Record):
    """Input or output names: `X B? rest*` is one required, one optional, then any number."""

    names: tuple[str, ...]
    required: int
    variadic: bool

    @staticmethod
    def parse(spec: str) -> Slots:
        names = spec.split()
        required = sum(not n.endswith(("?", "*")) for n in names)
        return Slots(
            tuple(n.rstrip("?*") for n in names), required, bool(names) and names[-1].endswith("*")
        )

    def check(self, given: Sequence[str], node: Node, what: str) -> None:
        """Raise GraphError unless `given` fills these slots."""
        most = None if self.variadic else len(self.names)
        if len(given) < self.required or (most is not None and len(given) > most):
            wanted = f"{self.required} to {most}" if most != self.required else str(most)
            if most is None:
                wanted = f"at least {self.required}"
            raise GraphError(f"{node}: {len(given)} {what}s, expected {wanted}")
        if what != "input":
            return
        for k, value in enumerate(given):
            name = self.names[min(k, len(self.names) - 1)]
            if not value and (k < self.required or (self.variadic and k >= len(self.names) - 1)):
                raise GraphError(f"{node}: required input {name!r} is left out")


class Operator(Record):
    """The base of every operator.

    The fields of a subclass are the ONNX attributes with their defaults;
    `__post_init__` refuses attribute values that the operator does not know.
    """

    name: ClassVar[str]
    inputs: ClassVar[Slots]
    outputs: ClassVar[Slots]
    kinds: ClassVar[str] = "biuf"
    """Elements that the first input may have: bool, signed, unsigned, float, by NumPy's letters."""
    holds_graphs: ClassVar[bool] = False
    """Whether it is control flow: an attribute holds a graph (`ops.control`)."""
    rtol: ClassVar[float] = 1e-6
    """How far native results may be from the oracle, relative to the result's largest element."""

    def infer(self, inputs: Types) -> tuple[TensorType, ...]:
        """Types of all outputs. Sizes may be names or None; give None for what depends on values.

        Raises GraphError, without naming the node (the caller adds it), if the inputs do not fit.
        """
        raise NotImplementedError

    def evaluate(self, *inputs: Array | None) -> tuple[Array, ...]:
        """All outputs, in NumPy. Trailing optional inputs may be missing or None.

        Raises DataError if a value (an index, a length) is out of range.
        """
        raise NotImplementedError

    def lower(
        self, emit: Emitter, inputs: Sequence[Operand | None], outputs: Sequence[Operand | None]
    ) -> bool:
        """Emit kernel calls that write `outputs` (None where nobody reads one).

        Returns False, having emitted nothing, where no kernel fits; then `evaluate` runs instead.
        """
        return False

    @classmethod
    def cases(cls, rng: np.random.Generator) -> Iterator[Case]:
        """Inputs and attributes that exercise the operator."""
        raise NotImplementedError


class Registry(Mapping[str, type[Operator]]):
    """Every operator by name, its module imported when the operator is first asked for."""

    def __init__(self) -> None:
        self._known: dict[str, type[Operator]] = {}

    def __getitem__(self, name: str) -> type[Operator]:
        if name not in self._known:
            importlib.import_module(f"lightrnn.ops.{MODULE_OF[name]}")
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(MODULE_OF)

    def __len__(self) -> int:
        return len(MODULE_OF)

    def add(self, name: str, cls: type[Operator]) -> None:
        """Register a class. Raises RuntimeError for a second one, or one not in the catalogue."""
        module = cls.__module__.rpartition(".")[2]
        if name in self._known:
            raise RuntimeError(f"operator {name!r} is registered twice")
        if MODULE_OF.get(name) != module:
            raise RuntimeError(f"operator {name!r} of {module} is not in ops/catalogue.py")
        self._known[name] = cls


REGISTRY = Registry()
T = TypeVar("T", bound=type[Operator])


def operator(name: str, *, inputs: str, outputs: str) -> typing.Callable[[T], T]:
    """Register a class as the operator `name`; slots are written as in `Slots.parse`."""

    def register(cls: T) -> T:
        cls.name, cls.inputs, cls.outputs = name, Slots.parse(inputs), Slots.parse(outputs)
        REGISTRY.add(name, cls)
        return cls

    return register


def build(node: Node) -> Operator:
    """The operator of a node, its attributes and slots checked.

    Raises UnsupportedError for an unknown operator, GraphError for a bad attribute; both name
    the node.
    """
    cls = REGISTRY.get(node.op)
    if cls is None:
        raise UnsupportedError(f"{node}: operator {node.op!r} is not supported")
    if unknown := sorted(set(node.attrs) - set(cls.fields)):
        raise GraphError(f"{node}: unknown attribute {unknown[0]!r}")
    values: dict[str, Any] = {}
    for name in cls.fields:
        if name in node.attrs:
            values[name] = _coerce(node, name, node.attrs[name], _kinds(node.op)[name])
        elif name not in cls.defaults:
            raise GraphError(f"{node}: attribute {name!r} is missing")
    try:
        made = cls(**values)
    except GraphError as error:
        raise type(error)(f"{node}: {error}") from None
    cls.inputs.check(node.inputs, node, "input")
    cls.outputs.check(node.outputs, node, "output")
    return made


@functools.cache
def _kinds(op: str) -> dict[str, tuple[str, ...]]:
    """What each attribute of a registered operator may be, as its annotation says."""
    return {name: tuple(kind.split(" | ")) for name, kind in REGISTRY[op].fields.items()}


def _coerce(node: Node, name: str, value: Attr, kinds: tuple[str, ...]) -> Any:
    item = type(value)
    if item is int and "int" not in kinds and "float" in kinds:
        return float(value)  # type: ignore[arg-type]
    if item.__name__ in kinds:
        return value
    if isinstance(value, tuple | list):
        items = {type(v) for v in value}
        for kind in _ITEMS:
            if f"tuple[{kind.__name__}, ...]" in kinds and items <= {kind}:
                return tuple(value)
        if "tuple[float, ...]" in kinds and items <= {int, float}:
            return tuple(float(v) for v in value)
    shown = "a graph" if isinstance(value, Graph) else repr(value)
    raise GraphError(f"{node}: attribute {name!r} has the value {shown} of the wrong type")


_ITEMS = (int, float, str)
