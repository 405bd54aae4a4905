"""Arrays on a GPU, as results and as what callers pass."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from lightrnn.cuda import dlpack
from lightrnn.cuda.interface import Device, Memory, Stream
from lightrnn.errors import InputError, LightRNNError
from lightrnn.graph import Array


class DeviceArray:
    """A contiguous array on a GPU.

    Other libraries take it without a copy: `torch.from_dlpack(a)`, `cupy.from_dlpack(a)`, or
    anything that reads `__cuda_array_interface__`. `a.numpy()` is a copy on the host. Its memory is
    freed when nobody holds it any more.

    memory: what holds it. stream: the one that its contents are ready on.
    """

    def __init__(
        self,
        device: Device,
        memory: Memory,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        stream: Stream,
    ) -> None:
        self._device, self.memory, self._stream = device, memory, stream
        self.shape, self.dtype = shape, dtype

    def is_on(self, device: Device) -> bool:
        """Whether it lies on this GPU."""
        return self._device is device

    @property
    def nbytes(self) -> int:
        return prod(self.shape, start=self.dtype.itemsize)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def address(self) -> int:
        """Where it lies on the GPU."""
        return self.memory.address

    @property
    def stream(self) -> Stream:
        return self._stream

    def numpy(self) -> Array:
        """A copy on the host."""
        self._device.activate()
        found = np.empty(self.shape, self.dtype)
        if found.size:
            self._device.download(found, self.address, self._stream)
            self._device.synchronize(self._stream)
        return found

    def copy(self) -> DeviceArray:
        """A copy on the GPU."""
        self._device.activate()
        memory = self._device.allocate(self.nbytes, self._stream)
        self._device.copy(memory.address, self.address, self.nbytes, self._stream)
        return DeviceArray(self._device, memory, self.shape, self.dtype, self._stream)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("an array on a GPU cannot become a NumPy array without a copy")
        return self.numpy() if dtype is None else self.numpy().astype(dtype, copy=False)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3. What reads it must keep the array as long as it uses the memory."""
        self.memory.used_by(None)
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address if prod(self.shape) else 0, False),
            "strides": None,
            "version": 3,
            "stream": self._stream.handle or 1,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device.dlpack

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule; its consumer's `stream` waits for the contents (-1: it need not)."""
        if dl_device not in (None, self._device.dlpack):
            raise BufferError(f"the array is on DLPack device {self._device.dlpack}: copy it first")
        self._device.activate()
        held = self.copy() if copy else self
        if stream != -1:
            consumer = self._device.borrow(1 if stream is None else stream)
            self._device.order(held._stream, consumer)
            held.memory.used_by(consumer)
        else:
            held.memory.used_by(None)
        return dlpack.export(held.address, self.shape, self.dtype, self._device.dlpack, held)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array of no dimensions has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<lightrnn.cuda.DeviceArray {self.shape} {self.dtype}>"


class Foreign:
    """Somebody else's array on the GPU while a run reads it.

    strides: bytes, or None where it is contiguous. ready: the stream that its contents are ready
    on, None for any. owner: what keeps it.
    """

    def __init__(
        self,
        address: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        strides: tuple[int, ...] | None,
        ready: Stream | None,
        owner: Any,
    ) -> None:
        self.address, self.shape, self.dtype, self.ready = address, shape, dtype, ready
        self.strides = None if strides == _contiguous(shape, dtype) else strides
        self.owner = owner


def on_device(value: Any, device: Device, stream: Stream) -> Foreign | None:
    """What a caller passes as an array on `device`, ready on `stream`; None if it lies elsewhere.

    DLPack is asked before __cuda_array_interface__: some producers of both say only there which
    stream their array is ready on. Raises InputError for an array on another GPU, or of an element
    type that NumPy does not have.
    """
    if isinstance(value, np.ndarray | np.generic | int | float | list | tuple):
        return None
    if isinstance(value, DeviceArray) and value.is_on(device):
        return Foreign(value.address, value.shape, value.dtype, None, value.stream, value)
    try:
        if hasattr(value, "__dlpack_device__"):
            return _by_dlpack(value, device, stream)
        if hasattr(value, "__cuda_array_interface__"):
            return _by_interface(value.__cuda_array_interface__, value, device)
    except LightRNNError:
        raise
    except (BufferError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(f"an array on the GPU cannot be read: {error}") from error
    return None


def _by_dlpack(value: Any, device: Device, stream: Stream) -> Foreign | None:
    kind, number = map(int, value.__dlpack_device__())
    if (kind, number) != device.dlpack:
        if kind == dlpack.CUDA:
            raise InputError(
                f"an array is on GPU {number}, the model on {device.dlpack[1]}: load it with "
                f'device="cuda:{number}"'
            )
        return None
    where = {"stream": stream.handle or 1} if kind == dlpack.CUDA else {}
    taken = dlpack.Imported(value.__dlpack__(**where))
    return Foreign(taken.address, taken.shape, taken.dtype, taken.strides, stream, taken)


def _by_interface(interface: dict[str, Any], owner: Any, device: Device) -> Foreign:
    if interface.get("mask") is not None:
        raise InputError("an array on the GPU has a mask, which no model takes")
    producer, strides = interface.get("stream"), interface.get("strides")
    return Foreign(
        int(interface["data"][0] or 0),
        tuple(map(int, interface["shape"])),
        np.dtype(interface["typestr"]),
        None if strides is None else tuple(map(int, strides)),
        None if producer is None else device.borrow(int(producer)),
        owner,
    )


def _contiguous(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    return tuple(prod(shape[k + 1 :], start=dtype.itemsize) for k in range(len(shape)))
