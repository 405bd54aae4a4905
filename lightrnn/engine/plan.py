"""A plan: what runs for one set of input shapes. Immutable, and shared by all threads."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from lightrnn.engine.grip import Grip
from lightrnn.engine.pace import Pace
from lightrnn.graph import Array, Node, TensorType
from lightrnn.native.abi import Signature
from lightrnn.ops import Operator
from lightrnn.record import Record

if TYPE_CHECKING:
    from array import array

    from lightrnn.engine.prepare import Prepared


Words: TypeAlias = tuple[tuple[int, int], ...]
"""Words of instructions: the number of each instruction, and the word's place in its `args`."""


class Instruction:
    """One kernel call.

    args: words as the kernel reads them; those at `places` are arena offsets until an arena is
    known, the others that `signature` says are filled in by the frame.
    branch: from 1 on for those that other calls run side by side, by their barrier words.
    """

    __slots__ = ("args", "branch", "kernel", "node", "places", "signature", "work")

    def __init__(
        self,
        kernel: str,
        args: array[int],
        places: tuple[int, ...],
        signature: Signature | None,
        work: int,
        node: Node,
        branch: int = 0,
    ) -> None:
        self.kernel, self.args, self.places, self.signature = kernel, args, places, signature
        self.work, self.node, self.branch = work, node, branch


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
    grip: Grip


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
    instructions: those of the steps, then those that they run side by side.
    nodes: the graph's nodes, by the numbers that kernels report.
    arena_bytes: memory of a run. packed_bytes: packed weights that the plan reads.
    carry: the bytes at the arena's front that hold the states, those after the run following in
    the same order; None where not all states lie there.
    input_words, output_words: for each of the inputs and outputs, where instructions point to it;
    None for one that must lie in the arena.
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
    input_words: tuple[Words | None, ...] = ()
    output_words: tuple[Words | None, ...] = ()
    alive: tuple[Array, ...] = ()

    aside: ClassVar[tuple[str, ...]] = ("key", "nodes", "alive")

    @property
    def branches(self) -> int:
        """The most calls that run side by side; 0 where none do."""
        return max((i.branch for i in self.instructions), default=0)

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

    def _beside(self, instruction: Instruction) -> Iterator[Instruction]:
        """The calls that an instruction runs side by side."""
        ends = instruction.args[3:] if instruction.kernel == "side_by_side" else ()
        for first, last in zip(ends[::2], ends[1::2], strict=True):
            yield from self.instructions[first:last]

    def __str__(self) -> str:
        count = sum(bool(i.kernel) for i in self.instructions)
        lines = [
            f"  instructions: {count}, native calls: {self.native_calls}, "
            f"host steps: {len(self.host_steps)}, arena: {self.arena_bytes:,} bytes, "
            f"packed weights: {self.packed_bytes:,} bytes"
        ]
        for step in self.steps:
            if isinstance(step, NativeStep):
                for i in self.instructions[step.first : step.last]:
                    lines.append(f"  {i.kernel:<16} {i.node}")
                    lines += [f"    {one.kernel:<14} {one.node}" for one in self._beside(i)]
            else:
                lines.append(f"  {'host':<16} {step.node}")
        if self.tail is not None:
            lines.append(f"  {'host':<16} {self.tail.node}: what follows is bound when it has run")
        return "\n".join(lines)
