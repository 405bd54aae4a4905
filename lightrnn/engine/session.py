"""Run one graph again and again, its states kept from run to run in memory of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lightrnn.engine.arena import MAX_FRAMES, Arena
from lightrnn.engine.dispatch import Calls, Results, session_call
from lightrnn.engine.executor import Executor, run_on_numpy
from lightrnn.engine.prepare import Prepared
from lightrnn.graph import Array


class Session:
    """One sequence at a time; not to be shared by threads.

    The graph's inputs are those that a caller gives, then the states, in the order of
    `Prepared.carried`. A native run finds the states at the front of its arena and leaves them just
    behind, from where one copy brings them to the front. A run that fails leaves them as they were.
    """

    def __init__(
        self, executor: Executor | None, prepared: Prepared, inputs: int, outputs: int
    ) -> None:
        """inputs, outputs: how many are the caller's: the first ones; outputs may be states too."""
        self._executor = executor
        self._prepared = prepared
        self._inputs, self._outputs = inputs, outputs
        self._states: list[Array] = []
        self._arena = Arena()
        self._calls = Calls()

    @staticmethod
    def on_numpy(prepared: Prepared, inputs: int, outputs: int) -> Session:
        """A session where there are no kernels for this machine."""
        return Session(None, prepared, inputs, outputs)

    def begin(self, states: Sequence[Array]) -> None:
        """Start from these states, which may be of other shapes than before."""
        self._calls.clear()
        self._states = [np.array(state) for state in states]

    def states(self) -> list[Array]:
        """Copies of the states."""
        return [state.copy() for state in self._states]

    def dispatcher(
        self, otherwise: Callable[[Mapping[str, Any]], Results]
    ) -> Callable[[Mapping[str, Any]], Results]:
        """A function of the caller's inputs by name; what did not run before goes to `otherwise`.

        `otherwise` checks its inputs and calls `run`, or `begin`.
        """
        kinds = dict(list(self._prepared.graph.inputs.items())[: self._inputs])
        dtypes = [kind.dtype for kind in kinds.values()]
        return session_call(list(kinds), dtypes, self._calls, otherwise)

    def run(self, arrays: Sequence[Array]) -> Results:
        """The caller's outputs for inputs of the graph's types; the states go on."""
        given, executor = [*arrays, *self._states], self._executor
        if executor is None:
            return self._keep(run_on_numpy(self._prepared, given))
        plan = self._prepared.plan(tuple(a.shape for a in given))
        if plan.carry is None:
            return self._keep(executor.run(plan, given))
        held, memory = self.states(), self._arena.memory
        frame = executor.frame(self._arena, plan)
        if self._arena.memory is not memory or len(self._calls) >= MAX_FRAMES:
            self._calls.clear()
            memory = self._arena.memory
        self._states = list(frame.inputs[self._inputs :])
        for place, state in zip(self._states, held, strict=True):
            place[...] = state
        carry = memory[: plan.carry], memory[plan.carry : 2 * plan.carry]
        call = executor.carrying(frame, self._inputs, self._outputs, carry)
        self._calls.add(tuple(a.shape for a in arrays), call)
        return call(*arrays)

    def _keep(self, results: Sequence[Array]) -> Results:
        named = dict(zip(self._prepared.graph.outputs, results, strict=True))
        self.begin([named[output] for output in self._prepared.carried.values()])
        return dict(list(named.items())[: self._outputs])
