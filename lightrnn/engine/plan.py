"""A plan: what runs for one set of input shapes. Immutable, and shared by all threads."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, ClassVar

from lightrnn.engine.pace import Pace
from lightrnn.graph import Array, Node, TensorType
from lightrnn.ops import Operator
from lightrnn.record import Record

if TYPE_CHECKING:
    from array import array

    from lightrnn.engine.prepare import Prepared


class Instruction:
    """One kernel call.

    args: words as the kernel reads them; those at `places` are arena offsets until an arena is
    known, those at `status` and `sync` are filled in by the frame.
    """

    __slots__ = ("args", "kernel", "node", "places", "status", "sync", "work")

    def __init__(
        self,
        kernel: str,
        args: array[int],
        places: tuple[int, ...],
        status: tuple[int, ...],
        sync: tuple[int, ...],
        work: int,
        node: Node,
    ) -> None:
        self.kernel, self.args, self.places = kernel, args, places
        self.status, self.sync, self.work, self.node = status, sync, work, node


class Place:
    """Where a tensor is found: at an arena offset, or in an array known before the run."""

    __slots__ = ("array", "offset", "type")

    def __init__(self, kind: TensorType, offset: int = -1, array: Array | None = None) -> None:
        self.type, self.offset, self.array = kind, offset, array


class NativeStep(Record):
    """The instructions [first, last) in one native call."""

    first: int
    last: int
    work: int
    pace: Pace


class HostStep(Record):
    """A node that NumPy evaluates between native calls; None for slots left out or not read."""

    node: Node
    operator: Operator
    inputs: tuple[Place | None, ...]
    outputs: tuple[Place | None, ...]


class Tail(Record):
    """What follows a node whose output shapes are known only once it has run.

    live: inputs of `rest` that the plan has; the others, `produced`, are the node's outputs.
    """

    node: Node
    operator: Operator
    inputs: tuple[Place | None, ...]
    live: tuple[tuple[str, Place], ...]
    rest: Prepared


class Plan(Record, eq=False):
    """Instructions over one arena, and the host steps between them.

    key: the prepared graph and the input shapes. names: the outputs, in order.
    nodes: the graph's nodes, by the numbers that kernels report.
    arena_bytes: memory of a run. packed_bytes: packed weights that the plan reads.
    carry: the bytes at the arena's front that hold the states, those after the run following in
    the same order; None where not all states lie there.
    """

    key: Hashable
    names: tuple[str, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    instructions: tuple[Instruction, ...]
    steps: tuple[NativeStep | HostStep, ...]
    arena_bytes: int
    packed_bytes: int
    tail: Tail | None = None
    carry: int | None = None
    alive: tuple[Array, ...] = ()

    aside: ClassVar[tuple[str, ...]] = ("key", "nodes", "alive")

    @property
    def host_steps(self) -> tuple[Node, ...]:
        """Nodes that NumPy evaluates; empty where everything runs in the kernel library."""
        nodes = tuple(s.node for s in self.steps if isinstance(s, HostStep))
        return nodes if self.tail is None else (*nodes, self.tail.node)

    @property
    def whole(self) -> NativeStep | None:
        """The step that is all of the plan, if there is just one and it is native."""
        step = self.steps[0] if len(self.steps) == 1 and self.tail is None else None
        return step if isinstance(step, NativeStep) else None

    @property
    def native_calls(self) -> int:
        return sum(isinstance(s, NativeStep) for s in self.steps)

    def __str__(self) -> str:
        count = sum(bool(i.kernel) for i in self.instructions)
        lines = [
            f"  instructions: {count}, native calls: {self.native_calls}, "
            f"host steps: {len(self.host_steps)}, arena: {self.arena_bytes:,} bytes, "
            f"packed weights: {self.packed_bytes:,} bytes"
        ]
        for step in self.steps:
            if isinstance(step, NativeStep):
                lines += [
                    f"  {i.kernel:<16} {i.node}" for i in self.instructions[step.first : step.last]
                ]
            else:
                lines.append(f"  {'host':<16} {step.node}")
        if self.tail is not None:
            lines.append(f"  {'host':<16} {self.tail.node}: what follows is bound when it has run")
        return "\n".join(lines)
