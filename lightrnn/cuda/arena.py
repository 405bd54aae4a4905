"""Memory of runs on a GPU, and frames that fit a plan into it."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence

import numpy as np

from lightrnn.cuda.array import Foreign
from lightrnn.cuda.constants import Addresses, Constants
from lightrnn.cuda.grid import SYNC_BYTES
from lightrnn.cuda.interface import Device, Memory, Stream, Work
from lightrnn.engine.arena import MAX_FRAMES
from lightrnn.engine.dispatch import Calls
from lightrnn.engine.memory import address, rounded
from lightrnn.engine.plan import Instruction, NativeStep, Place, Plan
from lightrnn.graph import Array
from lightrnn.native import abi
from lightrnn.ops.copying import row_major
from lightrnn.record import Record

_STATUS_BYTES = 64
MOST_PINNED = 1 << 26
"""Bytes of a run's inputs and outputs that go through pinned memory; more are copied directly."""


class Recorded:
    """Work that is launched call by call at first, and as one graph from the second time on.

    The first run loads the kernels, which no capture may do; what runs once is never captured.
    """

    def __init__(self, device: Device, record: Work) -> None:
        self._device, self._record = device, record
        self._ran = False
        self._replay: Work | None = None

    def __call__(self, stream: Stream) -> None:
        if not self._ran:
            self._record(stream)
            self._ran = True
            return
        if self._replay is None:
            self._replay = self._device.capture(self._record)
        self._replay(stream)


class Port:
    """An input or output of a plan.

    at: where it lies on the GPU. known: its value, where that does not depend on the run (then it
    lies nowhere). staged: its place in pinned memory, if it goes through that.
    """

    __slots__ = ("at", "known", "nbytes", "shape", "staged", "type")

    def __init__(self, place: Place, base: int) -> None:
        self.at, self.known, self.nbytes = base + place.offset, place.array, place_bytes(place)
        self.shape, self.type = place.type.sizes, place.type.dtype
        self.staged: Array | None = None

    def stage(self, memory: Array) -> None:
        """Give it a place at the front of pinned memory."""
        self.staged = memory[: self.nbytes].view(self.type).reshape(self.shape)


class Part:
    """A frame's plan with the first ones of its inputs and outputs: those that a caller sees.

    whole: where one native step is all of the plan, that step with these inputs brought from pinned
    memory, and these outputs there; None where they are too large for that, too.
    """

    __slots__ = ("frame", "inputs", "names", "outputs", "whole")

    def __init__(self, frame: Frame, inputs: int | None, outputs: int | None) -> None:
        self.frame = frame
        self.inputs, self.outputs = frame.inputs[:inputs], frame.outputs[:outputs]
        self.names = frame.plan.names[:outputs]
        fits = frame.plan.whole is not None and frame.is_staged
        self.whole = Recorded(frame.device, self._run) if fits else None

    def _run(self, stream: Stream) -> None:
        device = self.frame.device
        for port in self.inputs:
            if port.nbytes and port.staged is not None:
                device.upload(port.at, port.staged, stream)
        self.frame.compute(stream)
        for port in self.outputs:
            if port.nbytes and port.staged is not None and port.known is None:
                device.download(port.staged, port.at, stream)

    def results(self) -> list[Array]:
        """The outputs that are in pinned memory, as arrays of the caller's own."""
        return [np.array(p.staged if p.known is None else p.known) for p in self.outputs]


class Frame:
    """A plan in an arena: every address resolved, ready to run.

    status: int64 [2], zero unless a kernel met a bad value in node status[1].
    compute: the work of all native steps. segments: that of each. full: with all inputs and
    outputs. fails: whether a kernel may meet a bad value.
    """

    def __init__(self, plan: Plan, arena: CudaArena, constants: Constants) -> None:
        self.plan, self.device = plan, arena.device
        self.status, self.base = arena.status, arena.base
        self._addresses = Addresses(plan.alive, constants)
        words = _Words()
        unbound = [self._unbound(i, arena, words) for i in plan.instructions]
        groups = {
            k: _Group(instruction, unbound, arena.sync, words)
            for k, instruction in enumerate(plan.instructions)
            if instruction.kernel == "side_by_side"
        }
        memory = words.upload(arena)
        works = [
            groups[k].bound(self.device, memory) if k in groups
            else None if call is None or instruction.branch
            else call.bound(self.device, memory)
            for k, (instruction, call) in enumerate(zip(plan.instructions, unbound, strict=True))
        ]  # fmt: skip
        self._memories = [*self._addresses.memories.values(), memory]
        for used in self._memories:
            used.used_by(arena.stream)
        self.fails = any(map(may_fail, plan.instructions))
        self._place_ports(plan, arena)
        self.compute = _all(works)
        self.segments = [
            Recorded(self.device, _all(works[step.first : step.last]))
            for step in plan.steps
            if isinstance(step, NativeStep)
        ]
        self.full = Part(self, None, None)

    def _place_ports(self, plan: Plan, arena: CudaArena) -> None:
        self.inputs = [Port(place, self.base) for place in plan.inputs]
        self.outputs = [Port(place, self.base) for place in plan.outputs]
        ports = (*self.inputs, *self.outputs)
        total = sum(rounded(port.nbytes) for port in ports)
        self.is_staged = total <= MOST_PINNED
        if self.is_staged:
            memory, start = arena.pinned(total), 0
            for port in ports:
                port.stage(memory[start:])
                start += rounded(port.nbytes)

    def _unbound(
        self, instruction: Instruction, arena: CudaArena, words: _Words
    ) -> _Unbound | None:
        """An instruction with its addresses resolved; None for what is no call of a kernel."""
        if instruction.kernel in ("", "side_by_side"):
            return None
        args, kinds = list(instruction.args), abi.KERNELS[instruction.kernel].kinds
        places = set(instruction.places)
        for k, kind in enumerate(kinds):
            if k in places:
                args[k] += self.base
            elif kind in abi.POINTERS and args[k]:
                args[k] = self._addresses[args[k]]
            elif kind == "status":
                args[k] = address(self.status)
            elif kind == "sync":
                args[k] = arena.sync
        tail = words.add(args[len(kinds) - 1 :]) if kinds[-1] == "tail" else None
        return _Unbound(instruction.kernel, args, tail)

    def take(self, port: Port, value: Array | Foreign, stream: Stream) -> None:
        """Bring a value that a caller passed to an input's place."""
        if not port.nbytes:
            return
        if isinstance(value, Foreign):
            if value.strides is None:
                self.device.copy(port.at, value.address, port.nbytes, stream)
            else:
                self._gather(port, value, stream)
        elif port.staged is not None:
            port.staged[...] = value
            self.device.upload(port.at, port.staged, stream)
        else:
            self.device.upload(port.at, np.ascontiguousarray(value), stream)

    def fetched(self, port: Port, stream: Stream) -> Array:
        """An output on the host, there once the stream is done."""
        if port.known is not None:
            return np.array(port.known)
        found = np.empty(port.shape, port.type)
        if port.nbytes:
            self.device.download(found, port.at, stream)
        return found

    def _gather(self, port: Port, value: Foreign, stream: Stream) -> None:
        """Copy an array with strides, by the kernel `copy_strided`."""
        item, rank = value.dtype.itemsize, max(len(value.shape), 2)
        lead = (1,) * (rank - len(value.shape))
        sizes, steps = (*lead, *value.shape), (*lead, *(value.strides or ()))
        shape = [*sizes, *steps, *(item * step for step in row_major(sizes))]
        plain = item in (1, 2, 4, 8) and not any(
            n % item for n in (value.address, *steps[len(lead) :])
        )
        words = [value.address, port.at, 0, 0, item, item if plain else 0, rank, *shape]
        tail = self.device.allocate(8 * len(shape), stream)
        self.device.upload(tail.address, np.array(shape, np.int64), stream)
        self.device.calls("copy_strided", words, tail.address)(stream)


class _Unbound(Record):
    """A call whose tail is known by its place among a frame's words, None without one."""

    kernel: str
    args: list[int]
    tail: int | None

    def bound(self, device: Device, words: Memory) -> Work:
        """What launches it. words: the memory that holds the frame's words."""
        tail = 0 if self.tail is None else words.address + 8 * self.tail
        return device.calls(self.kernel, self.args, tail)


class _Group:
    """Branches that an instruction runs side by side: all calls but the last of each, then those.

    The last ones are one launch where the GPU has one for them.
    """

    def __init__(
        self, instruction: Instruction, calls: Sequence[_Unbound | None], sync: int, words: _Words
    ) -> None:
        ends = instruction.args[3:]
        branches = [calls[a:b] for a, b in zip(ends[::2], ends[1::2], strict=True)]
        self._before = [call for branch in branches for call in branch[:-1] if call is not None]
        self._last = [call for branch in branches for call in branch[-1:] if call is not None]
        self._sync = sync
        self._table = words.add([])
        for call in self._last:
            words.add_call(call)

    def bound(self, device: Device, words: Memory) -> Work:
        """What launches them, as for a call."""
        works = [call.bound(device, words) for call in self._before]
        kernels = {call.kernel for call in self._last}
        one = None
        if len(kernels) == 1:
            layers = [call.args for call in self._last]
            table = words.address + 8 * self._table
            one = device.side_by_side(kernels.pop(), layers, self._sync, table)
        return _all([*works, *([one] if one else [c.bound(device, words) for c in self._last])])


class _Words:
    """Tails and calls of a frame's instructions: int64 in one piece of GPU memory.

    tails: places of words that are to be addresses of such places.
    """

    def __init__(self) -> None:
        self._words = array("q")
        self._tails: list[int] = []

    def add(self, words: Sequence[int]) -> int:
        """Their place among all words."""
        self._words.extend(words)
        return len(self._words) - len(words)

    def add_call(self, call: _Unbound) -> None:
        """Add a call's arguments, a tail's address as the last."""
        fixed = len(abi.KERNELS[call.kernel].kinds) - (call.tail is not None)
        self._words.extend(call.args[:fixed])
        if call.tail is not None:
            self._tails.append(self.add([call.tail]))

    def upload(self, arena: CudaArena) -> Memory:
        """All words, on the GPU."""
        memory = arena.device.allocate(8 * max(len(self._words), 1), arena.stream)
        for k in self._tails:
            self._words[k] = memory.address + 8 * self._words[k]
        if self._words:
            words = np.array(self._words, np.int64)
            arena.device.upload(memory.address, words, arena.stream)
        return memory


class CudaArena:
    """One run's memory; it grows to the largest plan that it has met.

    stream: its own, which also waits for what other streams do with the memory.
    status: two words of pinned memory.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.stream = device.stream()
        self.frames: dict[Plan, Frame] = {}
        self.calls = Calls()
        self._memory: Memory | None = None
        self._sync: Memory | None = None
        self.status = device.pinned(_STATUS_BYTES)[:16].view(np.int64)
        self._pinned = device.pinned(_STATUS_BYTES)

    def close(self) -> None:
        """Give its memory back; it is not used again."""
        self.frames.clear()
        self.calls.clear()
        self._memory = self._sync = None

    def pinned(self, nbytes: int) -> Array:
        """Pinned memory of at least so many bytes, the same for all frames as long as it does."""
        if len(self._pinned) < nbytes:
            self._pinned = self.device.pinned(1 << (nbytes - 1).bit_length())
        return self._pinned

    @property
    def base(self) -> int:
        """The address of arena offset 0."""
        return 0 if self._memory is None else self._memory.address

    @property
    def sync(self) -> int:
        """The address of what kernels whose blocks wait for each other count in."""
        if self._sync is None:
            self._sync = self.device.allocate(SYNC_BYTES, self.stream)
            self.device.clear(self._sync.address, SYNC_BYTES, self.stream)
        return self._sync.address

    @property
    def nbytes(self) -> int:
        return 0 if self._memory is None else self._memory.nbytes

    def frame(self, plan: Plan, constants: Constants) -> Frame:
        """The frame of a plan in this arena, made where there is none."""
        found = self.frames.get(plan)
        if found is None:
            self._make_room(plan)
            found = self.frames[plan] = Frame(plan, self, constants)
        return found

    def _make_room(self, plan: Plan) -> None:
        grows = self._memory is None or self.nbytes < plan.arena_bytes
        if grows or len(self.frames) >= MAX_FRAMES:
            self.frames.clear()
            self.calls.clear()
            self.device.synchronize(self.stream)
        if grows:
            self._memory = None
            self._memory = self.device.allocate(max(plan.arena_bytes, 1), self.stream)


def place_bytes(place: Place) -> int:
    """Bytes of a tensor in a plan."""
    nbytes = place.type.dtype.itemsize
    for size in place.type.sizes:
        nbytes *= size
    return nbytes


def may_fail(instruction: Instruction) -> bool:
    """Whether a kernel may meet a bad value: those that check lengths only do so given lengths."""
    if instruction.signature is None or not instruction.signature.status:
        return False
    names = [p.name for p in abi.KERNELS[instruction.kernel].parameters]
    if "lengths" not in names:
        return True
    k = names.index("lengths")
    return k in instruction.places or instruction.args[k] != 0


def as_float(word: int) -> float:
    """The float64 that an argument of the kind float holds."""
    return float(struct.unpack("<d", struct.pack("<q", word))[0])


def _all(works: Sequence[Work | None]) -> Work:
    given = [work for work in works if work is not None]

    def run(stream: Stream) -> None:
        for work in given:
            work(stream)

    return run
