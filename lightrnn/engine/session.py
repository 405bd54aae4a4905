"""Run one graph again and again, its states kept from run to run in memory of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from lightrnn.engine.arena import MAX_FRAMES, Arena, Frame
from lightrnn.engine.executor import Executor, run_on_numpy
from lightrnn.engine.prepare import Prepared
from lightrnn.graph import Array

Shapes: TypeAlias = tuple[tuple[int, ...], ...]
Results: TypeAlias = dict[str, Array]


class Session:
    """One sequence at a time; not to be shared by threads.

    The graph's inputs are those that a caller gives, then the states, in the order of
    `Prepared.carried`. A native run finds the states at the front of its arena and leaves them just
    behind, from where one copy brings them to the front. A run that fails leaves them as they were.
    """

    def __init__(self, executor: Executor | None, prepared: Prepared, outputs: int) -> None:
        """outputs: how many outputs a caller gets: the first ones, of which some may be states."""
        self._executor = executor
        self._prepared = prepared
        self._names = tuple(prepared.graph.outputs)[:outputs]
        self._states: list[Array] = []
        self._arena = Arena()
        self._ready: dict[Shapes, Callable[[Sequence[Array]], Results]] = {}

    def begin(self, states: Sequence[Array]) -> None:
        """Start from these states, which may be of other shapes than before."""
        self._ready.clear()
        self._states = [np.array(state) for state in states]

    def states(self) -> list[Array]:
        """Copies of the states."""
        return [state.copy() for state in self._states]

    @property
    def ready(self) -> Mapping[Shapes, Callable[[Sequence[Array]], Results]]:
        """By the shapes of the caller's inputs, what runs arrays of exactly these and the graph's
        types, without a check. One mapping for the life of the session.
        """
        return self._ready

    def run(self, arrays: Sequence[Array]) -> Results:
        """The caller's outputs; the states go on."""
        given, executor = [*arrays, *self._states], self._executor
        if executor is None:
            return self._keep(run_on_numpy(self._prepared, given))
        plan = self._prepared.plan(tuple(a.shape for a in given))
        if plan.carry is None:
            return self._keep(executor.run(plan, given))
        held, memory = self.states(), self._arena.memory
        frame = executor.frame(self._arena, plan)
        if self._arena.memory is not memory or len(self._ready) >= MAX_FRAMES:
            self._ready.clear()
        self._states = list(frame.inputs[len(arrays) :])
        for place, state in zip(self._states, held, strict=True):
            place[...] = state
        call = self._call(executor, frame, plan.carry)
        self._ready[tuple(a.shape for a in arrays)] = call
        return call(arrays)

    def _keep(self, results: Sequence[Array]) -> Results:
        named = dict(zip(self._prepared.graph.outputs, results, strict=True))
        self.begin([named[output] for output in self._prepared.carried.values()])
        return {name: named[name] for name in self._names}

    def _call(
        self, executor: Executor, frame: Frame, carry: int
    ) -> Callable[[Sequence[Array]], Results]:
        """A run in place: nothing is looked up, nothing allocated but the outputs."""
        memory, execute = self._arena.memory, executor.execute
        before, after = memory[:carry], memory[carry : 2 * carry]
        places = frame.inputs
        copies = [(n, p.copy) for n, p in zip(self._names, frame.outputs, strict=False)]

        def call(arrays: Sequence[Array]) -> Results:
            for place, array in zip(places, arrays):  # noqa: B905
                place[...] = array
            execute(frame)
            before[...] = after
            return {name: copy() for name, copy in copies}

        return call
