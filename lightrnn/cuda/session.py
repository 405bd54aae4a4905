"""Run one graph again and again, its states kept on the GPU from run to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lightrnn.cuda.arena import CudaArena, Frame, Part, Port
from lightrnn.cuda.array import DeviceArray
from lightrnn.cuda.interface import Stream
from lightrnn.engine.arena import MAX_FRAMES
from lightrnn.engine.dispatch import Calls, Results, session_call
from lightrnn.engine.prepare import Prepared
from lightrnn.graph import Array

if TYPE_CHECKING:
    from lightrnn.cuda.executor import CudaExecutor


class CudaSession:
    """What `engine.session.Session` is, on a GPU.

    Where a plan carries its states, they stay at the front of an arena of the session's own, and
    a step is one launch; else they are arrays on the GPU.
    """

    def __init__(
        self, executor: CudaExecutor, prepared: Prepared, inputs: int, outputs: int
    ) -> None:
        """inputs, outputs: how many are the caller's: the first ones; outputs may be states too."""
        self._executor, self._device = executor, executor.device
        self._prepared = prepared
        self._inputs, self._outputs = inputs, outputs
        self._states: list[Array | DeviceArray] = []
        self._frame: Frame | None = None
        self._arena: CudaArena | None = None
        self._calls = Calls()

    def begin(self, states: Sequence[Array | DeviceArray]) -> None:
        """Start from these states, which may be of other shapes than before."""
        self._calls.clear()
        self._frame = None
        self._states = [s if isinstance(s, DeviceArray) else np.array(s) for s in states]

    def states(self) -> list[Any]:
        """Copies of the states."""
        if self._frame is None:
            return [state.copy() for state in self._states]
        self._device.activate()
        return [self._state_copy(port) for port in self._frame.inputs[self._inputs :]]

    def _state_copy(self, port: Port) -> DeviceArray:
        """A state that lies in the arena, copied to memory of its own."""
        assert self._arena is not None
        stream = self._arena.stream
        memory = self._device.allocate(max(port.nbytes, 1), stream)
        if port.nbytes:
            self._device.copy(memory.address, port.at, port.nbytes, stream)
        return DeviceArray(self._device, memory, port.shape, port.type, stream)

    def dispatcher(
        self, otherwise: Callable[[Mapping[str, Any]], Results]
    ) -> Callable[[Mapping[str, Any]], Results]:
        """A function of the caller's inputs by name; what did not run before goes to `otherwise`.

        `otherwise` checks its inputs and calls `run`, or `begin`.
        """
        kinds = dict(list(self._prepared.graph.inputs.items())[: self._inputs])
        dtypes = [kind.dtype for kind in kinds.values()]
        return session_call(list(kinds), dtypes, self._calls, otherwise)

    def run(self, arrays: Sequence[Any], stream: Stream | None = None) -> Results:
        """The caller's outputs for inputs of the graph's types; the states go on."""
        self._device.activate()
        shapes = tuple(a.shape for a in arrays)
        call = self._calls.find(shapes)
        if call is not None:
            return call(*arrays, stream=stream)
        held = self.states()
        plan = self._prepared.plan((*shapes, *(state.shape for state in held)))
        if plan.carry is None or plan.whole is None:
            return self._keep(self._executor.run(plan, [*arrays, *held], stream))
        self._states, self._frame = held, None
        arena = self._arena = self._arena or self._executor.new_arena()
        memory = arena.base
        frame = self._executor.frame(arena, plan)
        if arena.base != memory or len(self._calls) >= MAX_FRAMES:
            self._calls.clear()
        self._place(arena, frame, held)
        part = Part(frame, self._inputs, self._outputs)
        call = self._executor.part_call(arena, part, plan.carry)
        self._calls.add(shapes, call)
        return call(*arrays, stream=stream)

    def _place(self, arena: CudaArena, frame: Frame, states: Sequence[Array | DeviceArray]) -> None:
        """Bring states to the arena's front."""
        values = self._executor.adopted(states, arena, arena.stream)
        for port, value in zip(frame.inputs[self._inputs :], values, strict=True):
            frame.take(port, value, arena.stream)
        self._device.synchronize(arena.stream)
        self._frame, self._states = frame, []

    def _keep(self, results: Sequence[Array | DeviceArray]) -> Results:
        named = dict(zip(self._prepared.graph.outputs, results, strict=True))
        self.begin([named[output] for output in self._prepared.carried.values()])
        return dict(list(named.items())[: self._outputs])
