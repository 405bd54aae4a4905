"""Run a prepared graph: find the plan, fill an arena, call the library, copy the results out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from lightrnn.engine.arena import (
    SHORT,
    Arena,
    Frame,
    HostCall,
    NativeCall,
)
from lightrnn.engine.dispatch import Carry, Results, frame_call, signature_call
from lightrnn.engine.interpret import evaluate, evaluate_operator
from lightrnn.engine.native_calls import binder, keeping_gil, releasing_gil
from lightrnn.engine.plan import Plan, Tail
from lightrnn.engine.prepare import Prepared
from lightrnn.engine.switching import restore, shorten
from lightrnn.engine.team import Team, available_cores
from lightrnn.errors import DataError
from lightrnn.graph import Array, Node
from lightrnn.native.library import Library
from lightrnn.ops import Operator

if TYPE_CHECKING:
    from lightrnn.engine.session import Session

TEAM = 5_000_000
"""Work of a program that is worth waking the team for: some 300 µs."""

HOLD = 10_000_000
"""Work of a program that may keep the GIL beside a busy Python thread: some 0.3 ms."""

BRISK = 200_000_000
"""Work of a program to which it matters how soon it gets the GIL back: some 6 ms."""


@cache
def team_of(library: Library) -> Team:
    """The process's workers."""
    return Team(library)


class Executor:
    """Runs prepared graphs in the kernel library, any number of them at once.

    threads: the most that one run uses.
    """

    def __init__(self, library: Library, threads: int) -> None:
        self._library = library
        self._threads = threads
        self._beside = 1 if threads == 1 or threads >= available_cores() else threads
        """Threads of a run beside a Python thread that computes: it takes a core."""
        self._short = keeping_gil(library)
        self._long = releasing_gil(library)
        self._bound = binder(library)
        self._arenas: list[Arena] = []

    def run(self, plan: Plan, arrays: Sequence[Array]) -> list[Array]:
        """The outputs for inputs of exactly the plan's dtypes and shapes."""
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = Arena()
        try:
            frame = self.frame(arena, plan)
            for fill, array in zip(frame.fills, arrays):  # noqa: B905
                fill(array)
            self._execute(frame)
            if plan.tail is not None:
                return self._run_tail(plan.tail, frame)
            return [copy() for copy in frame.copies]
        finally:
            self._arenas.append(arena)

    def frame(self, arena: Arena, plan: Plan) -> Frame:
        """The frame of a plan in an arena, made where there is none."""
        found = arena.frames.get(plan)
        if found is None:
            found = arena.make_frame(plan, self._library.addresses)
            if found.whole:
                arena.calls.add(plan.key, frame_call(found, self._bound(found.whole), _raise))
        return found

    def dispatcher(
        self,
        prepared: Prepared,
        names: Sequence[str],
        otherwise: Callable[[Mapping[str, Any]], Results],
    ) -> Callable[[Mapping[str, Any]], Results]:
        """A function of inputs by name; what is not ready to run goes to `otherwise`."""
        dtypes = [prepared.graph.inputs[name].dtype for name in names]
        return signature_call(names, dtypes, prepared, self._arenas, otherwise)

    def session(self, prepared: Prepared, inputs: int, outputs: int) -> Session:
        """A session of a graph, as `Session` describes it."""
        from lightrnn.engine.session import Session

        return Session(self, prepared, inputs, outputs)

    def carrying(
        self, frame: Frame, inputs: int, outputs: int, carry: Carry
    ) -> Callable[..., Results]:
        """A function of the first inputs that gives the first outputs, then moves `carry`."""
        if frame.whole:
            native = self._bound(frame.whole)
            return frame_call(frame, native, _raise, inputs, outputs, carry)
        named = list(zip(frame.plan.names[:outputs], frame.copies, strict=False))

        def call(*arrays: Array) -> Results:
            for fill, array in zip(frame.fills, arrays):  # noqa: B905
                fill(array)
            self._execute(frame)
            carry[0][...] = carry[1]
            return {name: copy() for name, copy in named}

        return call

    def _execute(self, frame: Frame) -> None:
        """Compute the outputs of a frame whose inputs are in their places, up to its tail."""
        if frame.whole:
            if self._short(frame.whole):
                _raise(frame)
        else:
            for make in frame.makes:
                make()
            self._run_steps(frame)

    def _run_steps(self, frame: Frame) -> None:
        for step in frame.steps:
            if isinstance(step, HostCall):
                self._evaluate(step)
            elif step.work < SHORT:
                self._short(step.args)
            else:
                self._run_long(step)
            if frame.status[0]:
                _raise(frame)

    def _evaluate(self, call: HostCall) -> None:
        values = evaluate_step(self._run_body, call.step.node, call.step.operator, call.inputs)
        for place, value in zip(call.outputs, values, strict=False):
            if place is not None:
                place[...] = value

    def _run_body(self, body: Prepared, arrays: Sequence[Array]) -> list[Array]:
        return self.run(body.plan(tuple(a.shape for a in arrays)), arrays)

    def _run_long(self, call: NativeCall) -> None:
        start = perf_counter()
        if not call.grip.waits:
            self._release(call, start, self._threads)
            if call.work < BRISK:
                call.grip.released(perf_counter() - start)
            return
        if call.work < HOLD:
            self._short(call.args)
        else:
            shorten()
            try:
                self._release(call, start, self._beside)
            finally:
                restore()
        call.grip.spared(perf_counter() - start)

    def _release(self, call: NativeCall, start: float, threads: int) -> None:
        """Run a call that gives up the GIL, on a team of threads if its pace says so."""
        if threads == 1 or call.work < TEAM:
            self._long(call.args)
            return
        team = call.pace.team and team_of(self._library).try_run(call.args, threads, call.work)
        if not team:
            self._long(call.args)
        call.pace.record(team, perf_counter() - start)

    def _run_tail(self, tail: Tail, frame: Frame) -> list[Array]:
        values = evaluate_step(self._run_body, tail.node, tail.operator, frame.tail_inputs)
        made = dict(zip(tail.node.outputs, values, strict=False))
        made.update((name, a) for (name, _), a in zip(tail.live, frame.live, strict=True))
        arrays = [made[name] for name in tail.rest.graph.inputs]
        return self.run(tail.rest.plan(tuple(a.shape for a in arrays)), arrays)

    @property
    def arena_bytes(self) -> int:
        """Memory of the arenas that are not in use."""
        return sum(a.nbytes for a in self._arenas)


def evaluate_step(
    run_body: Callable[[Prepared, Sequence[Array]], list[Array]],
    node: Node,
    operator: Operator,
    inputs: Sequence[Array | None],
) -> tuple[Array, ...]:
    """All outputs of a host step. run_body: runs a graph that a control operator holds."""
    if not operator.holds_graphs:
        return evaluate_operator(node, operator, inputs)
    from lightrnn.engine.control import PreparedControl

    assert isinstance(operator, PreparedControl)
    try:
        return operator.run(run_body, inputs)
    except DataError as error:
        raise DataError(f"{node}: {error}") from None


def run_on_numpy(prepared: Prepared, arrays: Sequence[Array]) -> list[Array]:
    """The outputs by NumPy semantics alone, where there is no library for this machine."""
    feeds = dict(zip(prepared.graph.inputs, arrays, strict=True))
    outputs = evaluate(prepared.graph, feeds)
    return [np.array(outputs[name]) for name in prepared.graph.outputs]


def raise_bad_value(status: Any, plan: Plan) -> NoReturn:
    """Raise for the bad value that a kernel met, and clear the status words."""
    number = status[1]
    status[0] = status[1] = 0
    raise DataError(f"{plan.nodes[number]}: an index or a length is out of range")


def _raise(frame: Frame) -> None:
    raise_bad_value(frame.status, frame.plan)
