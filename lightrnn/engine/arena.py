"""Memory of runs: arenas kept from run to run, and frames that fit a plan into one."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightrnn.engine.copies import copier, filler
from lightrnn.engine.dispatch import Calls
from lightrnn.engine.grip import Grip
from lightrnn.engine.loans import Borrowed, Lent
from lightrnn.engine.memory import address, aligned_bytes
from lightrnn.engine.pace import Pace
from lightrnn.engine.plan import HostStep, NativeStep, Place, Plan, Words
from lightrnn.graph import Array
from lightrnn.native.abi import ALIGNMENT, SYNC_WORDS
from lightrnn.record import Record

MAX_FRAMES = 32
"""Plans that an arena remembers its addresses for."""

SHORT = 800_000
"""Work of a program, in multiply-adds, that keeps the GIL and the calling thread: some 50 µs."""

_STATUS, _SYNC = 0, 8
"""Words at the front of a frame: status, then barriers, then the program."""


class NativeCall(Record):
    """One call of the executor. args: address of its arguments and the status's address."""

    args: int
    work: int
    pace: Pace
    grip: Grip


class HostCall(Record):
    """A host step with its tensors in place."""

    step: HostStep
    inputs: tuple[Array | None, ...]
    outputs: tuple[Array | None, ...]


class Frame:
    """A plan in an arena: every address resolved, ready to run.

    status: two int64, zero unless a kernel met a bad value in node status[1].
    fills: what gives each input an array. makes: what is done before a run that is not `whole`.
    copies: what gives the array of each output.
    whole: address of the executor's arguments if one native call runs the plan on this thread.
    """

    def __init__(self, plan: Plan, arena: Array, addresses: dict[str, int]) -> None:
        self.plan = plan
        base = address(arena)
        self._table = _SYNC + SYNC_WORDS * (1 + plan.branches)
        words = self._table + sum(2 + len(i.args) for i in plan.instructions) + 5 * len(plan.steps)
        memory = aligned_bytes(words * 8).view(np.int64)
        memory[:] = 0
        self._memory = memory
        self.status: Any = memoryview(memory[_STATUS : _STATUS + 2].data)
        start = address(memory)
        self._fill(plan, base, start, addresses)
        self.inputs = tuple(_tensor(arena, place) for place in plan.inputs)
        self.outputs = tuple(_tensor(arena, place) for place in plan.outputs)
        self.steps = tuple(self._step(k, step, arena, start) for k, step in enumerate(plan.steps))
        self.whole = 0
        if plan.whole is not None and plan.whole.work < SHORT:
            self.whole = next(s.args for s in self.steps if isinstance(s, NativeCall))
        self._lend(plan)
        tail = plan.tail
        self.tail_inputs = () if tail is None else tuple(_maybe(arena, p) for p in tail.inputs)
        self.live = () if tail is None else tuple(_tensor(arena, p) for _, p in tail.live)

    def _fill(self, plan: Plan, base: int, start: int, addresses: dict[str, int]) -> None:
        table = self._table
        args = table + 2 * len(plan.instructions)
        words: list[int] = []
        self._starts = []
        for k, instruction in enumerate(plan.instructions):
            self._starts.append(args + len(words))
            self._memory[table + 2 * k] = addresses.get(instruction.kernel, 0)
            self._memory[table + 2 * k + 1] = start + 8 * (args + len(words))
            mine = list(instruction.args)
            for place in instruction.places:
                mine[place] += base
            if signature := instruction.signature:
                for place in signature.status:
                    mine[place] = start + 8 * _STATUS
                for place in signature.sync:
                    mine[place] = start + 8 * (_SYNC + SYNC_WORDS * instruction.branch)
                for place in signature.table:
                    mine[place] = start + 8 * table
            words += mine
        self._memory[args : args + len(words)] = words
        self._calls = args + len(words)

    def _lend(self, plan: Plan) -> None:
        """Decide how inputs and outputs come and go; short programs copy all outputs."""
        memory = memoryview(self._memory.data)

        def words(pairs: Words) -> list[int]:
            return [self._starts[k] + place for k, place in pairs]

        self.fills = tuple(
            filler(place) if pairs is None else Borrowed(memory, words(pairs), place).fill
            for place, pairs in zip(self.inputs, plan.input_words, strict=True)
        )
        lent = {
            k: Lent(memory, words(pairs), self.outputs[k])
            for k, pairs in enumerate(plan.output_words)
            if pairs is not None and not self.whole
        }
        self.makes = tuple(one.make for one in lent.values())
        self.copies = tuple(
            lent[k].take if k in lent else copier(place) for k, place in enumerate(self.outputs)
        )

    def _step(
        self, k: int, step: NativeStep | HostStep, arena: Array, start: int
    ) -> NativeCall | HostCall:
        if isinstance(step, HostStep):
            inputs = tuple(_maybe(arena, p) for p in step.inputs)
            return HostCall(step, inputs, tuple(_maybe(arena, p) for p in step.outputs))
        at = self._calls + 5 * k
        words = (
            start + 8 * self._table,
            start + 8 * _SYNC,
            step.first,
            step.last,
            start + 8 * _STATUS,
        )
        self._memory[at : at + 5] = words
        return NativeCall(start + 8 * at, step.work, step.pace, step.grip)


def _tensor(arena: Array, place: Place) -> Array:
    if place.array is not None:
        return place.array
    sizes = place.type.sizes
    nbytes = place.type.dtype.itemsize
    for size in sizes:
        nbytes *= size
    return arena[place.offset : place.offset + nbytes].view(place.type.dtype).reshape(sizes)


def _maybe(arena: Array, place: Place | None) -> Array | None:
    return None if place is None else _tensor(arena, place)


class Arena:
    """One run's memory; it grows to the largest plan that it has met.

    calls: by the key of a plan, what runs it in this arena, for plans of one short call.
    """

    def __init__(self) -> None:
        self._memory = aligned_bytes(0)
        self.frames: dict[Plan, Frame] = {}
        self.calls = Calls()

    def make_frame(self, plan: Plan, addresses: dict[str, int]) -> Frame:
        """Make the plan's frame in this arena and remember it."""
        grows = len(self._memory) < plan.arena_bytes
        if grows or len(self.frames) >= MAX_FRAMES:
            self.frames.clear()
            self.calls.clear()
        if grows:
            self._memory = aligned_bytes(plan.arena_bytes)
        frame = self.frames[plan] = Frame(plan, self._memory, addresses)
        return frame

    @property
    def memory(self) -> Array:
        """All bytes; another array once it has grown."""
        return self._memory

    @property
    def nbytes(self) -> int:
        return len(self._memory)


assert _SYNC * 8 % ALIGNMENT == SYNC_WORDS * 8 % ALIGNMENT == 0
