"""A GPU of host memory: what the executor of `lightrnn.cuda` asks for, checked as it is asked.

A stream does nothing until somebody waits for it, so that a result read too early is seen; memory
is filled with NaNs when it is made and freed, and every address must lie in memory that lives.
Kernels are those of the native library, whose arguments are the same, or the GPU's, interpreted.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from lightrnn.cuda import device as cuda_device
from lightrnn.cuda.grid import Launch
from lightrnn.cuda.interface import Stream, Work
from lightrnn.cuda.kernels import simt
from lightrnn.cuda.launch import launch, side_by_side
from lightrnn.engine.memory import address, aligned_bytes
from lightrnn.errors import DeviceError, DeviceMemoryError
from lightrnn.graph import Array
from lightrnn.kernels import interpreted
from lightrnn.native import abi, library
from tests.cuda_simulator import GPU, simulate

POISON = 0xFF
"""Bytes of NaNs, of -1 and of numbers out of range."""


class HostStream:
    """Work that waits. recorded: what a capture takes instead."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.waiting: list[Callable[[], None]] = []
        self.recorded: list[Callable[[], None]] | None = None
        self.lock = threading.RLock()

    def put(self, work: Callable[[], None]) -> None:
        # Without the lock: memory may be freed in the middle of anything.
        (self.waiting if self.recorded is None else self.recorded).append(work)

    def drain(self) -> None:
        with self.lock:
            while self.waiting:
                self.waiting.pop(0)()


class HostMemory:
    """Memory that is freed on its stream, after its users' work, when the object ends."""

    def __init__(self, device: HostDevice, nbytes: int, stream: Any) -> None:
        self.bytes = aligned_bytes(nbytes)
        self.bytes[:] = POISON
        self.address, self.nbytes = address(self.bytes), nbytes
        self._device, self._stream = device, stream
        self.users: list[Any] = []
        device.known(self.bytes)

    def used_by(self, stream: Stream | None) -> None:
        self.users.append(stream)

    def __del__(self) -> None:
        if hasattr(self, "users"):
            for user in self.users:
                if user is not None:
                    self._stream.put(user.drain)
            self._device.release(self.bytes, self._stream)


class HostDevice:
    """See `lightrnn.cuda.interface.Device`.

    room: bytes that may be allocated at once. counts: how often each thing was asked for.
    """

    dlpack = (1, 0)

    def __init__(self, room: int = 2**40) -> None:
        self.room, self.used = room, 0
        self.counts: Counter[str] = Counter()
        self.failing: str | None = None
        self._numbers = itertools.count(16)
        self._streams: dict[int, HostStream] = {}
        self._default = [self._made(number) for number in (1, 2)]
        self.places: list[tuple[int, int]] = []
        self._pinned: list[Array] = []
        self._active = threading.local()
        self._lock = threading.RLock()

    # Memory

    def known(self, memory: Array) -> None:
        with self._lock:
            self.places.append((address(memory), len(memory)))
            self.places.sort()

    def release(self, memory: Array, stream: Any) -> None:
        self.used -= len(memory)
        stream.put(partial(self._free, memory))

    def _free(self, memory: Array) -> None:
        with self._lock:
            self.places.remove((address(memory), len(memory)))
        memory[:] = POISON

    def settle(self) -> None:
        """Let all streams do what is left."""
        for stream in list(self._streams.values()):
            stream.drain()

    def view(self, place: int, nbytes: int) -> Array:
        """Memory that lives, at an address."""
        with self._lock:
            k = bisect_right(self.places, (place, 2**62)) - 1
            assert k >= 0, "no such address"
            start, size = self.places[k]
        assert start <= place <= place + nbytes <= start + size, "outside all memory"
        return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(place))

    def activate(self) -> None:
        if self.failing:
            raise DeviceError(self.failing)
        self._active.is_set = True

    def _asked(self, what: str) -> None:
        assert getattr(self._active, "is_set", False), "not current on this thread"
        self.counts[what] += 1

    def _made(self, handle: int) -> HostStream:
        made = self._streams[handle] = HostStream(handle)
        return made

    def stream(self) -> HostStream:
        self._asked("stream")
        return self._made(next(self._numbers))

    def borrow(self, handle: int) -> HostStream:
        return self._default[max(handle, 1) - 1] if handle < 3 else self._streams[handle]

    def allocate(self, nbytes: int, stream: Stream) -> HostMemory:
        self._asked("allocate")
        with self._lock:
            if self.used + nbytes > self.room:
                raise DeviceMemoryError(f"out of memory: {nbytes} bytes asked for")
            self.used += nbytes
        return HostMemory(self, nbytes, stream)

    def pinned(self, nbytes: int) -> Array:
        self._asked("pinned")
        found = aligned_bytes(nbytes)
        found[:] = 0
        self._pinned.append(found)
        self.known(found)
        return found

    def _is_pinned(self, array: Array) -> bool:
        place = address(array)
        return any(address(p) <= place < address(p) + len(p) for p in self._pinned)

    # Work

    def upload(self, target: int, source: Array, stream: Any) -> None:
        self._asked("upload")
        assert source.flags.c_contiguous
        whole = source.reshape(-1).view(np.uint8)
        data = whole if self._is_pinned(source) else whole.copy()
        place = self.view(target, source.nbytes)
        stream.put(lambda: np.copyto(place, data))

    def download(self, target: Array, source: int, stream: Any) -> None:
        self._asked("download")
        assert target.flags.c_contiguous
        assert target.flags.writeable
        place, whole = self.view(source, target.nbytes), target.reshape(-1).view(np.uint8)
        whole[:] = POISON
        stream.put(lambda: np.copyto(whole, place))

    def copy(self, target: int, source: int, nbytes: int, stream: Any) -> None:
        self._asked("copy")
        assert target + nbytes <= source or source + nbytes <= target
        to = self.view(target, nbytes)
        origin = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(source))
        stream.put(lambda: np.copyto(to, origin))

    def clear(self, target: int, nbytes: int, stream: Any) -> None:
        self._asked("clear")
        place = self.view(target, nbytes)
        stream.put(lambda: place.fill(0))

    def order(self, before: Any, after: Any) -> None:
        self._asked("order")
        marks = list(before.waiting)

        def wait() -> None:
            with before.lock:
                while any(mark in before.waiting for mark in marks):
                    before.waiting.pop(0)()

        after.put(wait)

    def synchronize(self, stream: Any) -> None:
        self._asked("synchronize")
        stream.drain()

    def calls(self, kernel: str, words: Sequence[int], tail: int) -> Work:
        kinds = abi.KERNELS[kernel].kinds
        for k, (word, kind) in enumerate(zip(words, kinds, strict=False)):
            outside = (kernel, k) == ("copy_strided", 0)  # perhaps an array of a caller's
            if word and kind in (*abi.POINTERS, "status", "sync") and not outside:
                self.view(word, 0)
        fixed = len(kinds) - (kinds[-1] == "tail")
        if fixed < len(kinds):
            self.view(tail, 8 * (len(words) - fixed))
        run = self.program(kernel, list(words), fixed, tail)

        def launch(stream: Any) -> None:
            self._asked(kernel)
            stream.put(run)

        return launch

    def side_by_side(
        self, kernel: str, layers: Sequence[Sequence[int]], sync: int, table: int
    ) -> Work | None:
        return None

    def program(self, kernel: str, words: list[int], fixed: int, tail: int) -> Callable[[], None]:
        """What runs a kernel. words: its arguments, those from `fixed` on also lying at `tail`."""
        kernels = library.load()
        assert kernels is not None
        entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
            kernels.addresses[kernel]
        )

        def run() -> None:
            args = np.array(words, np.int64)
            if tail:
                args[fixed:] = self.view(tail, 8 * (len(words) - fixed)).view(np.int64)
            entry(address(args), 0, 1)

        return run

    def capture(self, record: Work) -> Work:
        self._asked("capture")
        recorder, works = HostStream(-1), list[Callable[[], None]]()
        recorder.recorded = works
        record(recorder)

        def replay(stream: Any) -> None:
            self._asked("replay")
            for work in works:
                stream.put(work)

        return replay


def in_place(made: HostDevice, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostDevice]:
    """For a fixture: the GPU that models find; its streams are done at the end."""
    monkeypatch.setattr(cuda_device, "open_device", lambda index: made)
    yield made
    made.settle()


class SimulatedDevice(HostDevice):
    """A GPU of host memory that runs the GPU's own kernels, as Python."""

    def side_by_side(
        self, kernel: str, layers: Sequence[Sequence[int]], sync: int, table: int
    ) -> Work | None:
        one = side_by_side(kernel, layers, sync, table, GPU)
        if one is None:
            return None
        run = self._running([one], [])

        def start(stream: Any) -> None:
            self._asked("side_by_side")
            stream.put(run)

        return start

    def program(self, kernel: str, words: list[int], fixed: int, tail: int) -> Callable[[], None]:
        given = [*words[:fixed], tail] if tail else words
        return self._running(launch(kernel, words, GPU), given)

    def _running(self, launches: Sequence[Launch], given: Sequence[int]) -> Callable[[], None]:
        """What simulates launches of an instruction of these words."""

        def run() -> None:
            memory = interpreted.Memory()
            for start, size in self.places:
                memory.add(self.view(start, size))
            before = interpreted.MEMORY
            interpreted.MEMORY = simt.MEMORY = memory  # type: ignore[attr-defined]
            try:
                for one in launches:
                    simulate(one, given)
            finally:
                interpreted.MEMORY = simt.MEMORY = before  # type: ignore[attr-defined]

        return run
