"""What the check of a stream knows of a tensor, and the node that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, TypeAlias, TypeVar

from lightrnn.graph import Array, Node, TensorType


class Kind(IntEnum):
    """A tensor without a time axis. Where several meet, the largest is that of the result."""

    STATIC = 0
    """The same at every step."""
    STATE = 1
    """A state as it was before the piece."""
    LAST = 2
    """As of the last step of the piece."""
    REFUSED = 3
    """Not known; why was said at the node that made it."""


@dataclass(frozen=True)
class Span:
    """A tensor along time: its value at a step depends on inputs up to that step alone.

    The index of `axis` counts [outer, time, inner], the last fastest.
    """

    axis: int
    outer: int = 1
    inner: int = 1

    @property
    def plain(self) -> bool:
        """Whether the axis is time and nothing else."""
        return self.outer == self.inner == 1

    def at(self, axis: int) -> Span:
        """The same on another axis."""
        return replace(self, axis=axis)


Mark: TypeAlias = Span | Kind


@dataclass(frozen=True)
class Tensor:
    """A tensor at the sizes that are tried.

    counts: bool, of the shape of the tensor's value: the elements that change with the number of
    steps; None where there are none.
    """

    type: TensorType
    mark: Mark = Kind.STATIC
    counts: Array | None = None

    @property
    def span(self) -> Span | None:
        return self.mark if isinstance(self.mark, Span) else None


@dataclass(frozen=True)
class Problem:
    """Why pieces would not give what the whole gives.

    whole: whether a node needs all steps at once, which no state of a model's own can make good.
    """

    text: str
    whole: bool

    def __str__(self) -> str:
        return self.text


@dataclass
class Call:
    """A node with its tensors, for a rule to find the marks of its results.

    steps: the number of steps that is tried. outputs: the results' types.
    """

    node: Node
    operator: Any
    inputs: Sequence[Tensor | None]
    outputs: Sequence[TensorType]
    steps: int
    problems: list[Problem] = field(default_factory=list)

    def given(self, k: int) -> Tensor | None:
        """Input `k`; None where it is left out."""
        return self.inputs[k] if k < len(self.inputs) else None

    def span(self, k: int = 0) -> Span | None:
        tensor = self.given(k)
        return None if tensor is None else tensor.span

    def shape(self, k: int = 0) -> tuple[int, ...]:
        tensor = self.given(k)
        assert tensor is not None
        return tensor.type.sizes

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of the first result."""
        return self.outputs[0].sizes

    def values(self, k: int) -> list[int] | None:
        """The numbers of input `k` in a row; None where they are not known."""
        tensor = self.given(k)
        if tensor is None or tensor.type.value is None:
            return None
        numbers: list[int] = tensor.type.value.reshape(-1).tolist()
        return numbers

    def counted(self, k: int) -> list[bool]:
        """Which of the numbers of input `k` change with the number of steps."""
        tensor = self.given(k)
        if tensor is None or tensor.type.value is None:
            return []
        if tensor.counts is None:
            return [False] * tensor.type.value.size
        changes: list[bool] = tensor.counts.reshape(-1).tolist()
        return changes

    @property
    def time(self) -> Span:
        """The time axis of the first input, where it alone has one."""
        span = self.span()
        assert span is not None
        return span

    def refuse(self, reason: str, *, whole: bool = False) -> None:
        """Note a problem of this node. With a single step there is nothing to mix."""
        if self.steps != 1:
            self.problems.append(Problem(f"{self.node} {reason}", whole))


Marking: TypeAlias = Callable[[Call], "Mark | Sequence[Mark]"]
M = TypeVar("M", bound=Marking)


@dataclass(frozen=True)
class Rule:
    """How an operator treats time.

    marks: the mark of all results, or one for each; it notes problems and goes on with its best
    guess. along: inputs that may be along time; None for all. counted: inputs whose values may
    change with the number of steps. moments: inputs that may be of one moment where others are
    along time.
    """

    marks: Marking
    along: frozenset[int] | None
    counted: frozenset[int]
    moments: frozenset[int]

    def takes(self, k: int) -> bool:
        """Whether input `k` may be along time."""
        return self.along is None or k in self.along


_RULES: dict[str, Rule] = {}
RULES: Mapping[str, Rule] = _RULES
"""Rules by operator; one without a rule takes no input along time."""


def rule(
    *operators: str,
    along: Sequence[int] | None = (0,),
    counted: Sequence[int] = (),
    moments: Sequence[int] = (),
) -> Callable[[M], M]:
    """Register a function as the rule of operators."""
    slots = None if along is None else frozenset(along)

    def register(marks: M) -> M:
        for name in operators:
            assert name not in _RULES, name
            _RULES[name] = Rule(marks, slots, frozenset(counted), frozenset(moments))
        return marks

    return register


def aligned(c: Call, slots: Sequence[int], rank: int, found: Span | None = None) -> Mark:
    """The time axis of tensors that are broadcast together to `rank` axes.

    found: that of a tensor of that rank which joins them.
    """
    for k in slots:
        span = c.span(k)
        if span is None:
            continue
        here = span.at(span.axis + rank - len(c.shape(k)))
        if found is not None and here != found:
            c.refuse("joins tensors whose time is on different axes", whole=True)
        found = found or here
    if found is None:
        return Kind.STATIC
    for k in slots:
        if c.given(k) is not None and c.span(k) is None:
            axis = found.axis - rank + len(c.shape(k))
            if axis >= 0 and c.shape(k)[axis] != 1:
                c.refuse("joins each step with a value for its position")
    return found
