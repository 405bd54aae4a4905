"""Tensors from and to other libraries by DLPack (https://dmlc.github.io/dlpack/latest/c_api.html)."""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any, ClassVar

import numpy as np

CUDA = 2
"""DLPack's number for CUDA memory."""

_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}
"""DLPack's type codes by NumPy's."""


class _Tensor(ctypes.Structure):
    """DLTensor. The type is one of 8-bit code, 8-bit bits and 16-bit lanes."""

    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    """DLManagedTensor."""

    _fields_: ClassVar = [
        ("tensor", _Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


_Delete = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destroy = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_api = ctypes.pythonapi
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destroy)(
    ("PyCapsule_New", _api)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_SetName", _api)
)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _api)
)
_raw_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)

_NAME, _USED = b"dltensor", b"used_dltensor"
_exported: dict[int, tuple[Any, ...]] = {}
"""What keeps the memory of exported tensors, by the address of each DLManagedTensor."""


def _forget(managed: int) -> None:
    _exported.pop(managed, None)


def _drop(capsule: int) -> None:
    """Delete the tensor of a capsule that nobody took."""
    if _is_valid(capsule, _NAME):
        _forget(_raw_pointer(capsule, _NAME))


_delete, _destroy = _Delete(_forget), _Destroy(_drop)


def export(
    address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: tuple[int, int], owner: Any
) -> Any:
    """A capsule of a contiguous tensor; `owner` is kept until its consumer is done with it.

    Raises BufferError for an element type that DLPack does not have.
    """
    if dtype.kind not in _KINDS:
        raise BufferError(f"DLPack has no {dtype}")
    sizes = (ctypes.c_int64 * max(len(shape), 1))(*shape)
    steps = (ctypes.c_int64 * max(len(shape), 1))(
        *(prod(shape[k + 1 :]) for k in range(len(shape)))
    )
    tensor = _Tensor(
        address, *device, len(shape), _KINDS[dtype.kind], 8 * dtype.itemsize, 1, sizes, steps, 0
    )
    managed = _Managed(tensor, None, ctypes.cast(_delete, ctypes.c_void_p))
    place = ctypes.addressof(managed)
    _exported[place] = managed, sizes, steps, owner
    return _new(place, _NAME, _destroy)


class Imported:
    """A tensor taken from a capsule; the producer keeps its memory as long as this lives.

    strides: bytes, or None for a contiguous tensor. device: kind and number.

    Raises BufferError for a capsule that was used, or an element type that NumPy does not have.
    """

    def __init__(self, capsule: Any) -> None:
        try:
            place = _pointer(capsule, _NAME)
        except ValueError:
            raise BufferError("not a DLPack capsule, or one that was used before") from None
        self._managed = _Managed.from_address(place)
        self._place = place
        tensor = self._managed.tensor
        kinds = {code: kind for kind, code in _KINDS.items()}
        if tensor.code not in kinds or tensor.lanes != 1 or tensor.bits % 8:
            raise BufferError(f"DLPack type {tensor.code} of {tensor.bits} bits has no dtype")
        _rename(capsule, _USED)
        self.dtype = np.dtype(f"{kinds[tensor.code]}{tensor.bits // 8}")
        self.shape = tuple(tensor.shape[k] for k in range(tensor.rank))
        self.device = int(tensor.device_type), int(tensor.device_id)
        self.address = int(tensor.data or 0) + int(tensor.byte_offset)
        self.strides: tuple[int, ...] | None = None
        if tensor.strides:
            steps = (tensor.strides[k] for k in range(tensor.rank))
            self.strides = tuple(step * self.dtype.itemsize for step in steps)

    def __del__(self) -> None:
        managed = getattr(self, "_managed", None)
        if managed is not None and hasattr(self, "shape") and managed.deleter:
            _Delete(managed.deleter)(self._place)
