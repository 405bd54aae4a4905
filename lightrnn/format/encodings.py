"""How float32 constants are stored in fewer bits: as shorter floats, or as integers with scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lightrnn.errors import FormatError
from lightrnn.format.container import Tensor, shown
from lightrnn.graph import FLOAT32, Array

PARTS = {
    "int8_int8_int16": ("I8", "I8", "I16"),
    "int8_int8_int8_int16": ("I8", "I8", "I8", "I16"),
}
"""Encodings of rows in parts of equal size, and the codes of these, int8 ones first: recurrent
weights of a layer's gates, whose rounding errors a sigmoid makes small, and of its candidates."""

CODES = {
    "float16": "F16", "bfloat16": "BF16",
    "int8": "I8", "int8_columns": "I8", "int16": "I16", "int16_columns": "I16",
    **dict.fromkeys(PARTS, "I8"),
}  # fmt: skip
"""Encodings, and the codes of their tensors in the file."""

AXES = {
    "int8": -1, "int8_columns": -2, "int16": -1, "int16_columns": -2, **dict.fromkeys(PARTS, -1),
}  # fmt: skip
"""The axis along which integers share a scale: a row, or a column of a matrix."""

LARGEST = {"I8": 127, "I16": 4095}
"""The largest integer of each row or column: int16 keeps 13 bits, what kernels can sum in 32."""

SCALES, OTHERS = ":scales", ":int16"
"""End the names of tensors that hold the scales of an integer constant, and those PARTS of one that
are int16."""


def check(encodings: Mapping[str, Any], stored: Mapping[str, Tensor]) -> None:
    """Raise FormatError unless every encoded tensor is there, of the right kind."""
    for name, encoding in encodings.items():
        if name not in stored:
            raise FormatError(f"encodings name the tensor {shown(name)}, which the file lacks")
        code = CODES.get(encoding if isinstance(encoding, str) else "")
        if code != stored[name].code:
            raise FormatError(
                f"tensor {name!r} is {stored[name].code} with the encoding {shown(encoding)}"
            )
        if encoding in AXES:
            _check_scales(name, AXES[encoding], PARTS.get(encoding, ()), stored)


def _check_scales(name: str, axis: int, parts: Sequence[str], stored: Mapping[str, Tensor]) -> None:
    scales, shape = stored.get(name + SCALES), list(stored[name].array.shape)
    if len(shape) < 2:
        raise FormatError(f"tensor {name!r} of shape {shape} cannot have scales")
    if parts:
        rows, rest = divmod(shape[-2], parts.count("I8"))
        shape[-2] = rows * parts.count("I16")
        others = stored.get(name + OTHERS)
        if rest or others is None or others.code != "I16" or list(others.array.shape) != shape:
            raise FormatError(f"tensor {name!r} needs parts {name + OTHERS!r} of I16 {shape}")
        shape[-2] = rows * len(parts)
    shape[axis] = 1
    if scales is None or scales.code != "F32" or list(scales.array.shape) != shape:
        raise FormatError(f"tensor {name!r} needs scales {name + SCALES!r} of F32 {shape}")
    if not np.all(np.isfinite(scales.array) & (scales.array > 0)):
        raise FormatError(f"tensor {name + SCALES!r} holds a scale that is not a positive number")


def beside(encodings: Mapping[str, str]) -> Iterator[str]:
    """Names of the tensors that hold scales or parts of others."""
    for name, encoding in encodings.items():
        if encoding in AXES:
            yield name + SCALES
        if encoding in PARTS:
            yield name + OTHERS


def decoded(name: str, encoding: str | None, stored: Mapping[str, Tensor]) -> Array:
    """The constant that a tensor stands for, read-only."""
    tensor = stored[name]
    if encoding is None:
        if tensor.code == "BF16":
            raise FormatError(f"tensor {name!r} is BF16 without an encoding")
        return tensor.array
    if encoding in AXES:
        array = tensor.array
        if encoding in PARTS:
            array = np.concatenate([array, stored[name + OTHERS].array], axis=-2)
        array = array * stored[name + SCALES].array
        array.flags.writeable = False
        return array
    return _widened(tensor)


def _widened(tensor: Tensor) -> Array:
    if tensor.code == "F16":
        array = tensor.array.astype(np.float32)
    else:
        bits = tensor.array.astype(np.uint32)
        array = np.left_shift(bits, 16, out=bits).view(np.float32)
    array.flags.writeable = False
    return array


def encoded(name: str, array: Array, encoding: str) -> dict[str, Tensor]:
    """The tensors that store a constant. Raises FormatError where it cannot be stored so."""
    if array.dtype != FLOAT32 or encoding not in CODES:
        raise FormatError(f"constant {name!r} of {array.dtype} cannot be stored as {encoding!r}")
    if encoding in AXES:
        return _quantized(name, array, encoding)
    tensor = _rounded(array, encoding)
    if np.isinf(_widened(tensor)[np.isfinite(array)]).any():
        raise FormatError(f"constant {name!r} has values too large for {encoding}")
    return {name: tensor}


def _rounded(array: Array, encoding: str) -> Tensor:
    if encoding == "float16":
        with np.errstate(over="ignore"):
            return Tensor("F16", array.astype(np.float16))
    bits = array.view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    quiet = np.where(np.isnan(array), (bits >> 16) | 0x40, nearest)
    return Tensor("BF16", quiet.astype(np.uint16))


def _quantized(name: str, array: Array, encoding: str) -> dict[str, Tensor]:
    """Whole numbers: the largest magnitude of each row or column is LARGEST of its scales."""
    if array.ndim < 2 or not np.isfinite(array).all():
        raise FormatError(
            f"constant {name!r} is not a matrix of finite numbers: {encoding} needs one"
        )
    axis, code = AXES[encoding], CODES[encoding]
    if encoding not in PARTS:
        whole, scales = _whole_numbers(array, axis, code)
        return {name: Tensor(code, whole), name + SCALES: Tensor("F32", scales)}
    parts, rows = PARTS[encoding], array.shape[-2]
    if rows % len(parts):
        raise FormatError(
            f"constant {name!r} has {rows} rows, not {len(parts)} equal parts of them"
        )
    tensors: dict[str, list[Array]] = {"I8": [], "I16": [], "F32": []}
    for part, code in zip(np.split(array, len(parts), axis=-2), parts, strict=True):
        whole, scales = _whole_numbers(part, axis, code)
        tensors[code].append(whole)
        tensors["F32"].append(scales)
    return {
        name + end: Tensor(code, np.concatenate(tensors[code], axis=-2))
        for end, code in (("", "I8"), (OTHERS, "I16"), (SCALES, "F32"))
    }


def _whole_numbers(array: Array, axis: int, code: str) -> tuple[Array, Array]:
    """An array as integers, and their scales."""
    largest = np.float32(LARGEST[code])
    top = np.abs(array).max(axis=axis, keepdims=True, initial=0.0)
    scales = np.maximum(top / largest, np.finfo(np.float32).tiny).astype(np.float32)
    scales = np.where(top > 0, scales, np.float32(1)).astype(np.float32)
    whole = np.clip(np.rint(array / scales), -largest, largest)
    return whole.astype(np.int8 if code == "I8" else np.int16), scales
