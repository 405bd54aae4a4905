"""Run a prepared graph on a GPU: find the plan, fill an arena, replay its graph, fetch results."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lightrnn.cuda.arena import CudaArena, Frame, Part, Port
from lightrnn.cuda.array import DeviceArray, Foreign, on_device
from lightrnn.cuda.constants import Constants
from lightrnn.cuda.interface import Device, Stream, handle_of
from lightrnn.engine.dispatch import Results, signature_call
from lightrnn.engine.executor import evaluate_step, raise_bad_value
from lightrnn.engine.plan import HostStep, Place, Plan, Tail
from lightrnn.engine.prepare import Prepared
from lightrnn.errors import DeviceMemoryError, InputError
from lightrnn.graph import Array

if TYPE_CHECKING:
    from lightrnn.cuda.session import CudaSession

Value: TypeAlias = "Array | Foreign"
"""What runs take: arrays on the host, and on the GPU."""


class CudaExecutor:
    """Runs prepared graphs on one GPU, any number of them at once."""

    def __init__(self, device: Device) -> None:
        device.activate()
        self.device = device
        self.constants = Constants(device)
        self._arenas: list[CudaArena] = []
        self._intake = device.stream()
        """Where a caller's arrays are ready until the run has a stream."""

    def run(
        self, plan: Plan, arrays: Sequence[Any], stream: Stream | None = None
    ) -> list[Array | DeviceArray]:
        """The outputs for inputs of exactly the plan's dtypes and shapes.

        Where an input lies on the GPU, so do the outputs. Waits for the results unless they, and
        all inputs, lie on the GPU, `stream` is given, and no kernel can meet a bad value.
        """
        self.device.activate()
        arena = self._lend()
        try:
            return self.run_part(arena, self.frame(arena, plan).full, arrays, stream)
        finally:
            self._arenas.append(arena)

    def run_part(
        self, arena: CudaArena, part: Part, arrays: Sequence[Any], stream: Stream | None
    ) -> list[Array | DeviceArray]:
        """As `run`, for a frame of the arena."""
        mine = arena.stream
        if stream is not None:
            mine = stream
            self.device.order(arena.stream, mine)
        try:
            return self._run(arena, part, self.adopted(arrays, arena, mine), mine)
        finally:
            if mine is not arena.stream:
                self.device.order(mine, arena.stream)

    def borrow(self, stream: Any) -> Stream:
        """A caller's stream. Raises InputError for what is none."""
        try:
            handle = handle_of(stream)
        except TypeError as error:
            raise InputError(str(error)) from None
        self.device.activate()
        return self.device.borrow(handle)

    def adopt(self, name: str, value: Any, stream: Stream | None) -> Foreign | None:
        """A caller's value for input `name` as an array on the GPU; None if it lies elsewhere."""
        self.device.activate()
        try:
            return on_device(value, self.device, self._intake if stream is None else stream)
        except InputError as error:
            raise InputError(f"input {name!r}: {error}") from None

    def adopted(self, arrays: Sequence[Any], arena: CudaArena, stream: Stream) -> list[Value]:
        """What a caller passed, ready on the stream; arrays of ours outlive the arena's work."""
        found: list[Value] = []
        for value in arrays:
            taken = value if isinstance(value, Foreign) else on_device(value, self.device, stream)
            if taken is not None:
                if taken.ready is not stream and taken.ready is not None:
                    self.device.order(taken.ready, stream)
                if isinstance(taken.owner, DeviceArray):
                    taken.owner.memory.used_by(arena.stream)
            found.append(value if taken is None else taken)
        return found

    def _lend(self) -> CudaArena:
        try:
            return self._arenas.pop()
        except IndexError:
            return self.new_arena()

    def new_arena(self) -> CudaArena:
        """An arena that only its caller uses."""
        found: CudaArena = self._with_room(lambda: CudaArena(self.device))
        return found

    def frame(self, arena: CudaArena, plan: Plan) -> Frame:
        """The frame of a plan in an arena, made where there is none."""
        found = arena.frames.get(plan)
        if found is None:
            found = self._with_room(lambda: arena.frame(plan, self.constants))
            if found.full.whole is not None:
                arena.calls.add(plan.key, self.part_call(arena, found.full))
        return found

    def _with_room(self, make: Callable[[], Any]) -> Any:
        """What `make` gives; where memory is short, tried again without what nobody uses."""
        try:
            return make()
        except DeviceMemoryError:
            pass
        while self._arenas:
            self._arenas.pop().close()
        gc.collect()  # models that are gone may be held by cycles
        return make()

    # One run

    def _run(
        self, arena: CudaArena, part: Part, values: Sequence[Value], stream: Stream
    ) -> list[Array | DeviceArray]:
        stays = any(isinstance(value, Foreign) for value in values)
        if part.whole is not None and not stays:
            return self._run_whole(part, values, stream)
        frame = part.frame
        for port, value in zip(part.inputs, values, strict=True):
            frame.take(port, value, stream)
        self._run_steps(frame, stream)
        if frame.plan.tail is not None:
            return self._run_tail(frame.plan.tail, frame, stream, stays)
        if stays:
            return self._kept(arena, part, values, stream)
        results = [frame.fetched(port, stream) for port in part.outputs]
        self._finish(frame, stream)
        return list(results)

    def _run_whole(
        self, part: Part, values: Sequence[Any], stream: Stream
    ) -> list[Array | DeviceArray]:
        """All on the host: one launch, which also brings the inputs and fetches the outputs."""
        assert part.whole is not None
        for port, value in zip(part.inputs, values):  # noqa: B905
            port.staged[...] = value  # type: ignore[index]
        part.whole(stream)
        self._finish(part.frame, stream)
        return list(part.results())

    def _finish(self, frame: Frame, stream: Stream) -> None:
        """Wait for what was launched, and raise for a bad value that it met."""
        self.device.synchronize(stream)
        if frame.status[0]:
            raise_bad_value(frame.status, frame.plan)

    def _kept(
        self, arena: CudaArena, part: Part, values: Sequence[Value], stream: Stream
    ) -> list[Array | DeviceArray]:
        """The outputs as arrays on the GPU."""
        frame = part.frame
        results: list[Array | DeviceArray] = [
            self._kept_one(arena, port, stream) for port in part.outputs
        ]
        waits = stream is arena.stream or frame.fails or frame.plan.whole is None
        if waits or not all(isinstance(value, Foreign) for value in values):
            self._finish(frame, stream)
        return results

    def _kept_one(self, arena: CudaArena, port: Port, stream: Stream) -> DeviceArray:
        memory = self._with_room(lambda: self.device.allocate(max(port.nbytes, 1), arena.stream))
        if stream is not arena.stream:
            self.device.order(arena.stream, stream)
        if port.nbytes and port.known is not None:
            self.device.upload(memory.address, np.ascontiguousarray(port.known), stream)
        elif port.nbytes:
            self.device.copy(memory.address, port.at, port.nbytes, stream)
        return DeviceArray(self.device, memory, port.shape, port.type, stream)

    # Steps on the host

    def _run_steps(self, frame: Frame, stream: Stream) -> None:
        segments = iter(frame.segments)
        for step in frame.plan.steps:
            if isinstance(step, HostStep):
                self._evaluate(frame, step, stream)
            else:
                next(segments)(stream)

    def _evaluate(self, frame: Frame, step: HostStep, stream: Stream) -> None:
        inputs = [self._fetched(frame, place, stream) for place in step.inputs]
        self._finish(frame, stream)
        values = evaluate_step(self._run_body, step.node, step.operator, inputs)
        for place, value in zip(step.outputs, values, strict=False):
            if place is not None and place.array is None and value.size:
                whole = np.ascontiguousarray(value, place.type.dtype)
                self.device.upload(frame.base + place.offset, whole, stream)
        self.device.synchronize(stream)

    def _fetched(self, frame: Frame, place: Place | None, stream: Stream) -> Array | None:
        """A tensor of a plan on the host, there once the stream is done."""
        if place is None or place.array is not None:
            return None if place is None else place.array
        found = np.empty(place.type.sizes, place.type.dtype)
        if found.size:
            self.device.download(found, frame.base + place.offset, stream)
        return found

    def _run_body(self, body: Prepared, arrays: Sequence[Array]) -> list[Array]:
        return list(self.run(body.plan(tuple(a.shape for a in arrays)), arrays))  # type: ignore[arg-type]

    def _run_tail(
        self, tail: Tail, frame: Frame, stream: Stream, stays: bool
    ) -> list[Array | DeviceArray]:
        """What follows a step whose output shapes depend on values, in an arena of its own."""
        inputs = [self._fetched(frame, place, stream) for place in tail.inputs]
        self._finish(frame, stream)
        values = evaluate_step(self._run_body, tail.node, tail.operator, inputs)
        made: dict[str, Any] = dict(zip(tail.node.outputs, values, strict=False))
        for name, place in tail.live:
            made[name] = place.array if place.array is not None else self._live(frame, place)
        given = [made[name] for name in tail.rest.graph.inputs]
        results = self.run(tail.rest.plan(tuple(a.shape for a in given)), given)
        if stays == any(isinstance(a, Foreign) for a in given):
            return results
        return [self._moved(result, stays) for result in results]

    def _live(self, frame: Frame, place: Place) -> Foreign:
        kind = place.type
        return Foreign(frame.base + place.offset, kind.sizes, kind.dtype, None, None, frame)

    def _moved(self, result: Array | DeviceArray, stays: bool) -> Array | DeviceArray:
        """A result on the GPU if `stays`, else on the host."""
        if isinstance(result, DeviceArray):
            return result if stays else result.numpy()
        return self.uploaded(result) if stays else result

    def uploaded(self, array: Array) -> DeviceArray:
        """A copy of an array on the GPU."""
        stream = self.device.stream()
        memory = self.device.allocate(max(array.nbytes, 1), stream)
        if array.size:
            self.device.upload(memory.address, np.ascontiguousarray(array), stream)
        self.device.synchronize(stream)
        return DeviceArray(self.device, memory, array.shape, array.dtype, stream)

    # The short way

    def part_call(self, arena: CudaArena, part: Part, carry: int = 0) -> Callable[..., Results]:
        """A function of a part's inputs in order, of exactly its types, that gives its outputs.

        carry: bytes that replace those before them in the arena after a run that succeeds.
        """
        device, base, own = self.device, part.frame.base, arena.stream

        def call(*arrays: Any, stream: Stream | None = None) -> Results:
            device.activate()
            plain = all(isinstance(array, np.ndarray | np.generic) for array in arrays)
            if stream is None and plain and part.whole is not None:
                results = self._run_whole(part, arrays, own)
            else:
                results = self.run_part(arena, part, arrays, stream)
            if carry:
                device.copy(base, base + carry, carry, own)
            return dict(zip(part.names, results))  # noqa: B905

        return call

    def dispatcher(
        self,
        prepared: Prepared,
        names: Sequence[str],
        otherwise: Callable[[Mapping[str, Any]], Results],
    ) -> Callable[[Mapping[str, Any]], Results]:
        """A function of inputs by name; what is not ready to run goes to `otherwise`."""
        dtypes = [prepared.graph.inputs[name].dtype for name in names]
        return signature_call(names, dtypes, prepared, self._arenas, otherwise)  # type: ignore[arg-type]

    def session(self, prepared: Prepared, inputs: int, outputs: int) -> CudaSession:
        """A session of a graph, as `engine.session.Session` describes it."""
        from lightrnn.cuda.session import CudaSession

        return CudaSession(self, prepared, inputs, outputs)

    @property
    def arena_bytes(self) -> int:
        """GPU memory of the arenas that are not in use."""
        return sum(a.nbytes for a in self._arenas)
