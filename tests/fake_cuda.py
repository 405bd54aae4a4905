"""Stand-ins for cuda.core and cuda.bindings.driver: as much as `lightrnn.cuda.device` calls.

GPU memory is host memory and everything is done at once, the kernels as Python. What the real ones
would refuse (types, handles, sizes, shared memory that nobody asked for) is refused here.
"""

# ruff: noqa: N802, N815  # CUDA's own names

from __future__ import annotations

import ctypes
import struct
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

from lightrnn.cuda.grid import Launch
from lightrnn.cuda.kernels import simt
from lightrnn.cuda.launch import SYMBOLS
from lightrnn.engine.memory import address, aligned_bytes
from lightrnn.graph import Array
from lightrnn.kernels import interpreted
from lightrnn.native import abi
from tests.cuda_simulator import simulate

PLAIN_SHARED = 48 * 1024


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_ILLEGAL_ADDRESS = 700


class CUDAError(Exception):
    """What cuda.core raises."""


class FakeCuda:
    """One process's CUDA. room: bytes that can be allocated. devices: how many GPUs there are.

    log: names of what was called. status: what every call of the driver gives from now on.
    """

    def __init__(self) -> None:
        self.room, self.devices, self.status = 2**40, 1, CUresult.CUDA_SUCCESS
        self.has_driver = True
        self.log: list[str] = []
        self.context = 0
        self.memory: dict[int, Array] = {}
        self.capturing: list[Any] | None = None
        self.driver = Driver(self)
        self.core = SimpleNamespace(
            __version__="1.2.2", Device=lambda index: Device(self, index), Stream=Stream,
            LaunchConfig=LaunchConfig, launch=self.launch, ObjectCode=ObjectCode,
            LEGACY_DEFAULT_STREAM=Stream(self, 1), PER_THREAD_DEFAULT_STREAM=Stream(self, 2),
        )  # fmt: skip

    def place(self, nbytes: int) -> int:
        if sum(map(len, self.memory.values())) + nbytes > self.room:
            raise CUDAError("CUDA_ERROR_OUT_OF_MEMORY: not enough memory\nand more lines")
        found = aligned_bytes(nbytes)
        found[:] = 0xFF
        self.memory[address(found)] = found
        return address(found)

    def do(self, work: Any) -> None:
        work() if self.capturing is None else self.capturing.append(work)

    def launch(self, stream: Any, config: Any, kernel: Any, *args: int | float) -> None:
        assert isinstance(stream, Stream | Builder)
        assert config.shmem_size <= max(PLAIN_SHARED, kernel.handle.shared)
        symbol = SYMBOLS[kernel.name]
        kinds = (*abi.KERNELS[symbol.kernel].kinds, *("int" for _ in symbol.extra))
        words: list[Any] = []
        for kind, value in zip(kinds, args, strict=True):
            assert type(value) is (float if kind == "float" else int), (kind, value)
            words.append(struct.unpack("<q", struct.pack("<d", value))[0] if kind == "float"
                         else value)  # fmt: skip
        count = len(words) - len(symbol.extra)
        one = Launch(kernel.name, config.grid, config.block, config.shmem_size,
                     config.is_cooperative, tuple(words[count:]))  # fmt: skip
        self.log.append(kernel.name)
        self.do(lambda: self._simulate(one, words[:count]))

    def _simulate(self, one: Launch, words: list[int]) -> None:
        memory = interpreted.Memory()
        for array in self.memory.values():
            memory.add(array)
        before = interpreted.MEMORY
        interpreted.MEMORY = simt.MEMORY = memory  # type: ignore[attr-defined]
        try:
            simulate(one, words)
        finally:
            interpreted.MEMORY = simt.MEMORY = before  # type: ignore[attr-defined]


class LaunchConfig:
    def __init__(self, *, grid: int, block: int, shmem_size: int, is_cooperative: bool) -> None:
        assert 1 <= grid < 2**31
        assert 1 <= block <= 1024
        self.grid, self.block = grid, block
        self.shmem_size, self.is_cooperative = shmem_size, is_cooperative


class Stream:
    """Handles are objects that int() takes, as cuda.core's are."""

    def __init__(self, cuda: FakeCuda, handle: int) -> None:
        self.cuda, self.handle = cuda, np.int64(handle)

    @staticmethod
    def from_handle(handle: int) -> Stream:
        raise CUDAError(f"no stream {handle}")

    def sync(self) -> None:
        assert self.cuda.capturing is None
        if self.cuda.status:
            raise CUDAError(f"{self.cuda.status.name}: an address")

    def create_graph_builder(self) -> Builder:
        return Builder(self)


class Builder:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def begin_building(self, mode: str) -> None:
        assert mode == "relaxed"
        self.stream.cuda.capturing = []

    def end_building(self) -> None:
        self.works, self.stream.cuda.capturing = self.stream.cuda.capturing or [], None

    def complete(self) -> Any:
        return SimpleNamespace(launch=self._launch)

    def _launch(self, stream: Stream) -> None:
        stream.cuda.log.append("graph")
        for work in self.works:
            work()


class ObjectCode:
    def __init__(self, code: bytes) -> None:
        self._code = code

    from_cubin = from_ptx = classmethod(lambda cls, code: cls(code))

    def get_kernel(self, name: str) -> Any:
        assert name.encode() in self._code
        return SimpleNamespace(name=name, handle=SimpleNamespace(shared=0))


class Buffer:
    def __init__(self, cuda: FakeCuda, nbytes: int) -> None:
        self._cuda, self.handle = cuda, cuda.place(nbytes)

    def close(self, stream: Stream) -> None:
        assert isinstance(stream, Stream)
        del self._cuda.memory[self.handle]


class Device:
    name = "Fake GPU"
    compute_capability = (9, 0)
    properties = SimpleNamespace(multiprocessor_count=2, max_shared_memory_per_block_optin=232448)

    def __init__(self, cuda: FakeCuda, index: int) -> None:
        self._cuda, self._index, self._streams = cuda, index, 16

    def set_current(self) -> None:
        self._cuda.context = 100 + self._index

    def create_stream(self) -> Stream:
        self._streams += 1
        return Stream(self._cuda, self._streams)

    def create_event(self) -> Any:
        return SimpleNamespace(handle=object())

    def allocate(self, size: int, *, stream: Stream) -> Buffer:
        assert isinstance(stream, Stream)
        assert self._cuda.context == 100 + self._index
        return Buffer(self._cuda, size)


class Driver:
    """Functions that give (status, values...)."""

    CU_MEMHOSTALLOC_PORTABLE = 1
    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8)
    CUdevice = staticmethod(int)

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    def cuInit(self, flags: int) -> tuple[Any, ...]:
        if not self._cuda.has_driver:
            raise RuntimeError('"cuda" is an NVIDIA driver library')
        none = not self._cuda.devices
        return (CUresult.CUDA_ERROR_NO_DEVICE if none else CUresult.CUDA_SUCCESS,)

    def cuDeviceGetCount(self) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, self._cuda.devices

    def cuCtxGetCurrent(self) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, np.int64(self._cuda.context)

    def cuCtxSetCurrent(self, context: Any) -> tuple[Any, ...]:
        self._cuda.context = int(context)
        return (CUresult.CUDA_SUCCESS,)

    def cuCtxSynchronize(self) -> tuple[Any, ...]:
        self._cuda.log.append("cuCtxSynchronize")
        return (self._cuda.status,)

    def cuMemGetInfo(self) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, 5, 80_000

    def cuMemHostAlloc(self, nbytes: int, flags: int) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, self._cuda.place(nbytes)

    def cuMemFreeHost(self, place: int) -> tuple[Any, ...]:
        del self._cuda.memory[place]
        return (CUresult.CUDA_SUCCESS,)

    def _copied(self, target: int, source: int, nbytes: int, stream: int) -> tuple[Any, ...]:
        assert type(stream) is int
        assert stream > 0
        self._cuda.do(lambda: ctypes.memmove(target, source, nbytes))
        return (self._cuda.status,)

    cuMemcpyHtoDAsync = cuMemcpyDtoHAsync = cuMemcpyDtoDAsync = _copied

    def cuMemsetD8Async(self, place: int, byte: int, count: int, stream: int) -> tuple[Any, ...]:
        self._cuda.do(lambda: ctypes.memset(place, byte, count))
        return (self._cuda.status,)

    def cuEventRecord(self, event: Any, stream: int) -> tuple[Any, ...]:
        self._cuda.log.append("cuEventRecord")
        return (CUresult.CUDA_SUCCESS if stream < 10_000 else CUresult.CUDA_ERROR_INVALID_VALUE,)

    def cuStreamWaitEvent(self, stream: int, event: Any, flags: int) -> tuple[Any, ...]:
        assert type(stream) is int
        return (CUresult.CUDA_SUCCESS,)

    def cuKernelSetAttribute(
        self, attribute: int, value: int, kernel: Any, device: int
    ) -> tuple[Any, ...]:
        kernel.shared = value
        return (CUresult.CUDA_SUCCESS,)
