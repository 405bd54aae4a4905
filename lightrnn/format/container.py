"""The container: a safetensors file. An 8-byte little-endian length, a JSON header, data.

Written here with sorted keys, the data starting at a multiple of 64 and the largest elements first,
so that every tensor is aligned and equal contents give equal bytes. Read with nothing trusted.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from lightrnn.errors import FormatError
from lightrnn.format import limits
from lightrnn.graph import MAX_RANK, MAX_SIZE, Array
from lightrnn.record import Record

ALIGNMENT = 64
METADATA = "__metadata__"
CODES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}  # fmt: skip
"""safetensors' names of element types; bfloat16 is kept as its bits."""


class Tensor(Record):
    """A stored tensor: its safetensors type and its elements."""

    code: str
    array: Array


def shown(value: Any) -> str:
    """A value as error messages show it: not all of a long one."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def parse_json(text: str, what: str) -> Any:
    """JSON as RFC 8259 has it, its keys unique, its numbers finite, its strings valid Unicode.

    Raises FormatError naming `what`.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise FormatError(f"{what} has the key {shown(key)} twice")
            result[key] = value
        return result

    def finite(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            raise FormatError(f"{what} contains {literal[:40]}, which is not a finite number")
        return value

    try:
        value = json.loads(
            text, object_pairs_hook=unique, parse_constant=finite, parse_float=finite
        )
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not JSON: {error}") from None
    if "\\ud" in text.lower():
        dump_json(value, what)
    return value


def dump_json(value: Any, what: str) -> str:
    """Compact JSON with sorted keys. Raises FormatError for what JSON or Unicode cannot hold."""
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        text.encode()
    except UnicodeEncodeError:
        raise FormatError(f"{what} contains half of a surrogate pair") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{what} cannot be written as JSON: {error}") from None
    return text


# Writing


def write(target: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a container to an open binary file. Raises FormatError for what cannot be read."""
    if METADATA in tensors:
        raise FormatError(f"no tensor can have the name {METADATA!r}")
    order = sorted(tensors, key=lambda name: (-tensors[name].array.itemsize, name))
    header: dict[str, Any] = {METADATA: dict(metadata)}
    place = 0
    for name in order:
        tensor = tensors[name]
        end = place + tensor.array.nbytes
        header[name] = {
            "dtype": tensor.code,
            "shape": list(tensor.array.shape),
            "data_offsets": [place, end],
        }
        _span(name, header[name])
        place = end
    text = dump_json(header, "the header").encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    _check_limits(len(text), len(tensors))
    target.write(struct.pack("<Q", len(text)) + text)
    for name in order:
        tensor = tensors[name]
        little = tensor.array.astype(CODES[tensor.code], copy=False)
        target.write(np.ascontiguousarray(little).tobytes())


# Reading


def open_data(source: str | os.PathLike[str] | bytes | BinaryIO) -> bytes | mmap.mmap:
    """A file's contents; a path is mapped into memory."""
    if not isinstance(source, str | os.PathLike):
        return contents(source)
    with open(source, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def contents(source: bytes | bytearray | memoryview | BinaryIO) -> bytes:
    """The bytes themselves, a copy of bytes that may change, or all that a file object has left.

    Raises FormatError.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if not hasattr(source, "read"):
        raise FormatError(f"a file cannot be read from a {type(source).__name__}")
    data = source.read()
    if not isinstance(data, bytes):
        raise FormatError(f"the file object gives {type(data).__name__}, expected bytes")
    return data


def read(data: bytes | mmap.mmap) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (read-only views of `data`) and metadata. Raises FormatError."""
    if len(data) < 8:
        raise FormatError(f"the file has {len(data)} bytes, too few for a header")
    (length,) = struct.unpack("<Q", data[:8])
    _check_limits(length, 0)
    if 8 + length > len(data):
        raise FormatError(f"the header has {length} bytes, the file ends after {len(data)}")
    if data[8:9] != b"{":
        raise FormatError("the header does not begin with '{'")
    try:
        text = bytes(data[8 : 8 + length]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"the header is not UTF-8: {error.reason}") from None
    header = parse_json(text, "the header")
    metadata = _metadata(header.pop(METADATA, None))
    _check_limits(length, len(header))
    return _tensors(header, memoryview(data)[8 + length :]), metadata


def _check_limits(header_bytes: int, tensors: int) -> None:
    if header_bytes > limits.HEADER_BYTES:
        raise FormatError(
            f"the header has {header_bytes} bytes, at most {limits.HEADER_BYTES} allowed"
        )
    if tensors > limits.TENSORS:
        raise FormatError(f"{tensors} tensors, at most {limits.TENSORS} allowed")


def _metadata(found: Any) -> dict[str, str]:
    if found is None:
        raise FormatError(f"{METADATA} is missing: this is not a .lrnn file")
    if not isinstance(found, dict):
        raise FormatError(f"{METADATA} is not an object")
    for key, value in found.items():
        if not isinstance(value, str):
            raise FormatError(f"{METADATA}: {shown(key)} is not a string")
    return found


def _tensors(header: dict[str, Any], data: memoryview) -> dict[str, Tensor]:
    spans = {name: _span(name, entry) for name, entry in header.items()}
    place = 0
    for name in sorted(spans, key=lambda n: (spans[n][2], spans[n][3])):
        _, _, start, end = spans[name]
        if start < place:
            raise FormatError(f"tensor {name!r} overlaps another")
        if start > place:
            raise FormatError(f"{start - place} bytes before tensor {name!r} belong to no tensor")
        place = end
        if end > len(data):
            raise FormatError(f"tensor {name!r} ends at byte {end}, the data has {len(data)}")
    if place != len(data):
        raise FormatError(f"{len(data) - place} bytes after the last tensor belong to no tensor")
    tensors = {}
    for name, (code, shape, start, end) in spans.items():
        raw = np.frombuffer(data[start:end], np.uint8)
        if code == "BOOL" and raw.size and raw.max() > 1:
            raise FormatError(f"tensor {name!r} has a truth value that is neither 0 nor 1")
        tensors[name] = Tensor(code, _typed(raw, CODES[code]).reshape(shape))
    return tensors


def _typed(raw: Array, dtype: np.dtype[Any]) -> Array:
    array = raw.view(dtype)
    if not array.flags.aligned:
        array = array.copy()
    array.flags.writeable = False
    return array


def _span(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape and place of a tensor, each checked."""
    what = f"tensor {name!r}"
    if len(name) > limits.NAME_LENGTH:
        raise FormatError(f"a tensor's name has {len(name)} characters")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{what} needs exactly dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in CODES:
        raise FormatError(f"{what} has the unknown dtype {shown(code)}")
    if not isinstance(shape, list) or not all(_is_size(d) for d in shape):
        raise FormatError(f"{what} has the shape {shown(shape)}")
    if len(shape) > MAX_RANK:
        raise FormatError(f"{what} has rank {len(shape)}, at most {MAX_RANK} allowed")
    pair = isinstance(offsets, list) and len(offsets) == 2 and all(_is_size(d) for d in offsets)
    if not pair:
        raise FormatError(f"{what} has the data_offsets {shown(offsets)}")
    size = math.prod(shape, start=CODES[code].itemsize)
    if math.prod(max(d, 1) for d in shape) > MAX_SIZE:
        raise FormatError(f"{what} has the shape {shape}, at most {MAX_SIZE} elements allowed")
    if offsets[1] - offsets[0] != size:
        raise FormatError(
            f"{what} of {code} {shape} needs {size} bytes, "
            f"its data_offsets {offsets} are {offsets[1] - offsets[0]}"
        )
    return code, tuple(shape), offsets[0], offsets[1]


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_SIZE
