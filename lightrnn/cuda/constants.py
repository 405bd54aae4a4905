"""Copies of a model's constants on the GPU, each made once."""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_right
from collections.abc import Iterable

from lightrnn.cuda.interface import Device, Memory, Stream
from lightrnn.engine.memory import address
from lightrnn.graph import Array


class Constants:
    """What is on the GPU of the arrays that plans read, as long as the arrays themselves live."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._stream: Stream | None = None
        self._copies: dict[int, tuple[weakref.ref[Array], Memory]] = {}
        self._lock = threading.RLock()

    def copy_of(self, array: Array) -> Memory:
        """The array's bytes on the GPU, uploaded when it is first asked for."""
        with self._lock:
            found = self._copies.get(id(array))
            if found is None:
                found = self._copies[id(array)] = self._watched(array), self._uploaded(array)
            return found[1]

    def _watched(self, array: Array) -> weakref.ref[Array]:
        key, copies = id(array), self._copies
        return weakref.ref(array, lambda _: copies.pop(key, None))

    def _uploaded(self, array: Array) -> Memory:
        device = self._device
        if self._stream is None:
            self._stream = device.stream()
        memory = device.allocate(array.nbytes, self._stream)
        device.upload(memory.address, array, self._stream)
        device.synchronize(self._stream)
        return memory

    @property
    def nbytes(self) -> int:
        """GPU memory that they take."""
        return sum(memory.nbytes for _, memory in list(self._copies.values()))


class Addresses:
    """From addresses inside a plan's constants to the addresses of their copies.

    memories: those that were asked for; they must outlive what uses the addresses.
    """

    def __init__(self, arrays: Iterable[Array], constants: Constants) -> None:
        self._constants = constants
        self.memories: dict[int, Memory] = {}
        self._starts: list[int] = []
        self._arrays: list[Array] = []
        for array in sorted(arrays, key=lambda a: (address(a), -a.nbytes)):
            start = address(array)
            if self._starts and start + array.nbytes <= self._end(-1):
                continue  # a part of another
            self._starts.append(start)
            self._arrays.append(array)

    def _end(self, k: int) -> int:
        return self._starts[k] + self._arrays[k].nbytes

    def __getitem__(self, place: int) -> int:
        """The address on the GPU of what lies at an address on the host."""
        k = bisect_right(self._starts, place) - 1
        assert k >= 0, "an address outside all constants of the plan"
        assert place <= self._end(k), "an address outside all constants of the plan"
        memory = self.memories[k] = self._constants.copy_of(self._arrays[k])
        return memory.address + place - self._starts[k]
