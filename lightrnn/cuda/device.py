"""A GPU through NVIDIA's cuda.core."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lightrnn.cuda.arena import as_float
from lightrnn.cuda.grid import Gpu, Launch
from lightrnn.cuda.image import find_image
from lightrnn.cuda.interface import Stream, Work
from lightrnn.cuda.launch import SYMBOLS, launch, side_by_side
from lightrnn.engine.memory import address
from lightrnn.errors import DeviceError, DeviceMemoryError
from lightrnn.graph import Array
from lightrnn.native import abi

_PLAIN_SHARED = 48 * 1024
"""Bytes of dynamic shared memory that a kernel may have without asking."""


_LEGACY, _PER_THREAD = 1, 2
"""Handles of the default stream, and of a thread's own: another stream in each thread."""
_MOST_BORROWED = 64
"""Streams of others that are remembered."""


class CudaStream:
    """A stream, or a graph under construction. core: cuda.core's object.

    event: what others wait for, made when somebody does. Recorded again, it stands for more work of
    the same stream, which is as good for those who have not begun to wait.
    """

    __slots__ = ("core", "event", "handle")

    def __init__(self, core: Any, handle: int) -> None:
        self.core, self.handle = core, handle
        self.event: Any = None


class CudaMemory:
    """Memory from the driver's pool, freed in the order of its stream after all its users."""

    def __init__(self, device: CudaDevice, nbytes: int, stream: CudaStream) -> None:
        self._device, self._stream = device, stream
        self._buffer = device.guarded(device.core.allocate, nbytes, stream=stream.core)
        self.address, self.nbytes = int(self._buffer.handle), nbytes
        self._users: set[Stream | None] = set()

    def used_by(self, stream: Stream | None) -> None:
        self._users.add(stream)

    def __del__(self) -> None:
        if not hasattr(self, "_users"):
            return
        try:
            self._device.release(self._buffer, self._stream, self._users)
        except DeviceError:
            return  # the GPU failed, or this is a forked process: the memory went with it


class CudaDevice:
    """See `interface.Device`. Make one by `open_device`."""

    def __init__(self, index: int, core: Any, driver: Any) -> None:
        self.index, self.core, self._driver = index, core, driver
        self.name = str(core.name)
        self.dlpack = (2, index)
        core.set_current()
        self._context = self.checked(driver.cuCtxGetCurrent())
        capability = core.compute_capability
        properties = core.properties
        self.gpu = Gpu(
            multiprocessors=int(properties.multiprocessor_count),
            shared_per_block=int(properties.max_shared_memory_per_block_optin),
        )
        self.capability = int(capability[0]), int(capability[1])
        self.image = find_image(self.capability)
        self._kernels: dict[str, Any] = {}
        self._shared: dict[str, int] = {}
        self._lock = threading.RLock()
        self._borrowed: dict[int, CudaStream] = {}
        self._forked = False
        self._capturing = False
        self._late: list[tuple[Any, CudaStream, set[Any]]] = []
        _OPEN.add(self)

    def left_behind(self) -> None:
        """Note that this process is a fork of the one that uses the GPU."""
        self._forked = True

    # Errors

    def checked(self, result: tuple[Any, ...]) -> Any:
        """The value of a call of the driver; raises DeviceError where it failed."""
        if result[0] != 0:
            raise self.failure(result[0].name)
        return result[1] if len(result) > 1 else None

    def guarded(self, call: Any, *args: Any, **options: Any) -> Any:
        """The value of a call of cuda.core; raises DeviceError where it failed."""
        try:
            return call(*args, **options)
        except Exception as error:
            raise self.failure(f"{type(error).__name__}: {error}") from error

    def failure(self, reason: str) -> DeviceError:
        """The error to raise for one of CUDA's."""
        first = reason.splitlines()[0]
        # Some versions of cuda.core say only that they failed to allocate.
        if "OUT_OF_MEMORY" in reason or "Failed to allocate" in reason:
            return DeviceMemoryError(
                f"GPU {self.index} ({self.name}) is out of memory{self._left()}: run fewer or "
                "smaller batches at once, or free what other libraries hold"
            )
        return DeviceError(f"GPU {self.index} ({self.name}) failed: {first}")

    def _left(self) -> str:
        result = self._driver.cuMemGetInfo()
        return f", {result[1]:,} of {result[2]:,} bytes free" if result[0] == 0 else ""

    # Streams and memory

    def activate(self) -> None:
        if self._forked:
            raise DeviceError(
                "a forked process cannot use its parent's GPU: load models after the fork, "
                'or start processes by "spawn"'
            )
        if int(self.checked(self._driver.cuCtxGetCurrent())) != int(self._context):
            self.checked(self._driver.cuCtxSetCurrent(self._context))

    def stream(self) -> CudaStream:
        core = self.guarded(self.core.create_stream)
        return CudaStream(core, int(core.handle))

    def borrow(self, handle: int) -> CudaStream:
        handle = handle or _LEGACY
        found = self._borrowed.get(handle)
        if found is None:
            if len(self._borrowed) >= _MOST_BORROWED:
                self._borrowed.clear()
            found = self._borrowed[handle] = CudaStream(self._foreign(handle), handle)
        return found

    def _foreign(self, handle: int) -> Any:
        """cuda.core's object for a stream that is not ours."""
        from cuda import core

        names = {_LEGACY: "LEGACY_DEFAULT_STREAM", _PER_THREAD: "PER_THREAD_DEFAULT_STREAM"}
        named = names.get(handle, "")
        found = getattr(core, named, None)
        return found or self.guarded(core.Stream.from_handle, handle)

    def allocate(self, nbytes: int, stream: Any) -> CudaMemory:
        return CudaMemory(self, nbytes, stream)

    def release(self, buffer: Any, stream: CudaStream, users: set[Any]) -> None:
        """Free memory on `stream`, once its users (None: anybody) have done their work.

        Called whenever Python drops the memory: in the middle of a capture, which must not be
        waited in, it is put off.
        """
        with self._lock:
            if self._capturing:
                self._late.append((buffer, stream, users))
                return
            self.activate()
            try:
                if None in users:
                    self.checked(self._driver.cuCtxSynchronize())
                else:
                    for user in users:
                        self.order(user, stream)
            except DeviceError:  # a stream that is gone
                self.checked(self._driver.cuCtxSynchronize())
            self.guarded(buffer.close, stream.core)

    def pinned(self, nbytes: int) -> Array:
        flags = self._driver.CU_MEMHOSTALLOC_PORTABLE
        place = int(self.checked(self._driver.cuMemHostAlloc(nbytes, flags)))
        memory = (ctypes.c_uint8 * nbytes).from_address(place)
        weakref.finalize(memory, self._free_pinned, place).atexit = False
        found = np.ctypeslib.as_array(memory)
        found[:] = 0
        return found

    def _free_pinned(self, place: int) -> None:
        if not self._forked:
            self.activate()
            self._driver.cuMemFreeHost(place)

    # Work

    def upload(self, target: int, source: Array, stream: Stream) -> None:
        call = self._driver.cuMemcpyHtoDAsync
        self.checked(call(target, address(source), source.nbytes, stream.handle))

    def download(self, target: Array, source: int, stream: Stream) -> None:
        call = self._driver.cuMemcpyDtoHAsync
        self.checked(call(address(target), source, target.nbytes, stream.handle))

    def copy(self, target: int, source: int, nbytes: int, stream: Stream) -> None:
        self.checked(self._driver.cuMemcpyDtoDAsync(target, source, nbytes, stream.handle))

    def clear(self, target: int, nbytes: int, stream: Stream) -> None:
        self.checked(self._driver.cuMemsetD8Async(target, 0, nbytes, stream.handle))

    def order(self, before: Any, after: Stream) -> None:
        event = before.event
        if event is None:
            event = self.guarded(self.core.create_event)
            if before.handle != _PER_THREAD:
                before.event = event
        self.checked(self._driver.cuEventRecord(event.handle, before.handle))
        self.checked(self._driver.cuStreamWaitEvent(after.handle, event.handle, 0))

    def synchronize(self, stream: Any) -> None:
        self.guarded(stream.core.sync)

    def calls(self, kernel: str, words: Sequence[int], tail: int) -> Work:
        return self._starting(launch(kernel, words, self.gpu), words, tail)

    def side_by_side(
        self, kernel: str, layers: Sequence[Sequence[int]], sync: int, table: int
    ) -> Work | None:
        one = side_by_side(kernel, layers, sync, table, self.gpu)
        return None if one is None else self._starting([one], (), table)

    def _starting(self, launches: Iterable[Launch], words: Sequence[int], tail: int) -> Work:
        """What starts launches of an instruction of these words."""
        from cuda.core import LaunchConfig
        from cuda.core import launch as start

        bound = []
        for one in launches:
            config = LaunchConfig(
                grid=one.grid,
                block=one.block,
                shmem_size=one.shared,
                is_cooperative=one.cooperative,
            )
            args = _arguments(one, words, tail)
            bound.append((config, self._kernel(one.symbol, one.shared), args))

        def run(stream: Any) -> None:
            for config, function, values in bound:
                self.guarded(start, stream.core, config, function, *values)

        return run

    def _kernel(self, symbol: str, shared: int) -> Any:
        """A loaded kernel that may have so many bytes of dynamic shared memory."""
        with self._lock:
            found = self._kernels.get(symbol)
            if found is None:
                found = self._kernels[symbol] = self._loaded(symbol)
            if shared > max(self._shared.get(symbol, 0), _PLAIN_SHARED):
                name = self._driver.CUfunction_attribute
                attribute = name.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                number = self._driver.CUdevice(self.index)
                set_ = self._driver.cuKernelSetAttribute
                self.checked(set_(attribute, shared, found.handle, number))
                self._shared[symbol] = shared
            return found

    def _loaded(self, symbol: str) -> Any:
        from cuda.core import ObjectCode

        code, kind = self.image.code(symbol)
        make = ObjectCode.from_cubin if kind == "cubin" else ObjectCode.from_ptx
        return self.guarded(lambda: make(code).get_kernel(symbol))

    def capture(self, record: Work) -> Work:
        with self._lock:
            self._capturing = True
            try:
                graph = self._captured(record)
            finally:
                self._capturing, late, self._late = False, self._late, []
                for one in late:
                    self.release(*one)

        def replay(stream: Any) -> None:
            self.guarded(graph.launch, stream.core)

        return replay

    def _captured(self, record: Work) -> Any:
        """The graph of what `record` launches; on a stream that nothing else is put on."""
        builder = self.guarded(self.stream().core.create_graph_builder)
        self.guarded(builder.begin_building, "relaxed")
        try:
            record(CudaStream(builder, int(builder.stream.handle)))
        finally:
            self.guarded(builder.end_building)
        return self.guarded(builder.complete)


def _arguments(one: Launch, words: Sequence[int], tail: int) -> list[int | float]:
    """Arguments as cuda.core passes them: int64 and float64, addresses as integers."""
    args: list[int | float] = []
    given = words if one.words is None else one.words
    for k, kind in enumerate(abi.KERNELS[SYMBOLS[one.symbol].kernel].kinds):
        if kind == "tail":
            args.append(tail)
        else:
            args.append(as_float(given[k]) if kind == "float" else given[k])
    return [*args, *one.extra]


_OPEN: weakref.WeakSet[CudaDevice] = weakref.WeakSet()
_devices: dict[int, CudaDevice] = {}
_opening = threading.Lock()


def _leave() -> None:
    for device in _OPEN:
        device.left_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)


def open_device(index: int) -> CudaDevice:
    """GPU `index`, with its kernels found; one object a GPU and process.

    Raises DeviceError, in one line that says what is missing and what to do.
    """
    with _opening:
        if index not in _devices:
            _devices[index] = _opened(index)
        return _devices[index]


def _opened(index: int) -> CudaDevice:
    try:
        from cuda import core
        from cuda.bindings import driver
    except ImportError as error:
        raise DeviceError(f"no package for GPUs ({error}): pip install 'lightrnn[cuda]'") from None
    if int(core.__version__.partition(".")[0]) < 1:
        raise DeviceError(
            f"cuda-core is {core.__version__}, expected 1.0 or newer: pip install 'lightrnn[cuda]'"
        )
    count = _count(driver)
    if not 0 <= index < count:
        raise DeviceError(
            f"no GPU {index}: the driver shows {count or 'none'}"
            f"{', numbered from 0' if count else '; does CUDA_VISIBLE_DEVICES hide it?'}"
        )
    return CudaDevice(index, core.Device(index), driver)


def _count(driver: Any) -> int:
    """GPUs that the driver shows. Raises DeviceError where there is no driver."""
    try:
        error = driver.cuInit(0)[0]
    except RuntimeError:
        raise DeviceError(
            "no NVIDIA driver: install one; nvidia-smi says whether it runs"
        ) from None
    if error.name == "CUDA_ERROR_NO_DEVICE":
        return 0
    if error != 0:
        raise DeviceError(f"the NVIDIA driver does not start: {error.name}; see nvidia-smi")
    error, count = driver.cuDeviceGetCount()
    return int(count) if error == 0 else 0
