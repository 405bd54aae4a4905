"""Bad containers: the length, the header's text, its entries, the data."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from lightrnn.errors import FormatError
from tests.attacks.base import Attack, Parts, edited, header_of, rewritten, with_header


def attack(name: str, make: Callable[[bytes], bytes], message: str) -> Attack:
    return Attack(name, make, FormatError, message)


def entry(name: str, message: str, **changes: Any) -> Attack:
    """Fields of the entry of tensor `w` (F32, [1, 12, 3]) changed; `...` removes one."""

    def edit(parts: Parts) -> None:
        fields = {**parts.tensors["w"], **changes}
        parts.tensors["w"] = {k: v for k, v in fields.items() if v is not ...}

    return attack(name, edited(edit), message)


def moved(name: str, message: str, tensor: str, start: int, end: int) -> Attack:
    """Both data offsets of a tensor moved by so many bytes."""

    def edit(parts: Parts) -> None:
        offsets = parts.tensors[tensor]["data_offsets"]
        parts.tensors[tensor]["data_offsets"] = [offsets[0] + start, offsets[1] + end]

    return attack(name, edited(edit), message)


def with_length(file: bytes, length: int) -> bytes:
    return struct.pack("<Q", length) + file[8:]


def length_of(file: bytes) -> int:
    return int(struct.unpack("<Q", file[:8])[0])


def with_text(text: str | bytes) -> Callable[[bytes], bytes]:
    """Another header before the same data."""
    return lambda file: with_header(text, Parts.of(file).data)


def empty_of_many(parts: Parts) -> None:
    """More tensors than allowed, all of them empty."""
    end = len(parts.data)
    parts.tensors.update(
        {f"t{k}": {"dtype": "U8", "shape": [0], "data_offsets": [end, end]} for k in range(100_001)}
    )


def bad_truth(parts: Parts) -> None:
    start = parts.tensors["flags"]["data_offsets"][0]
    parts.data = parts.data[:start] + b"\2" + parts.data[start + 1 :]


def same_place(parts: Parts) -> None:
    """`r` lies where `b` lies, and `b` too."""
    parts.tensors["r"] = {**parts.tensors["b"]}


def hidden_bytes(parts: Parts) -> None:
    """Four bytes before the first tensor."""
    parts.data = b"\0" * 4 + parts.data
    for fields in parts.tensors.values():
        fields["data_offsets"] = [offset + 4 for offset in fields["data_offsets"]]


VECTOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}

SIZES = (
    attack("empty", lambda f: b"", "has 0 bytes, too few"),
    attack("one byte", lambda f: f[:1], "has 1 bytes, too few"),
    attack("cut in the length", lambda f: f[:7], "has 7 bytes, too few"),
    attack("cut after the length", lambda f: f[:8], r"header has \d+ bytes, the file ends after 8"),
    attack("cut in the header", lambda f: f[:200], "the file ends after 200"),
    attack("cut after the header", lambda f: f[: 8 + length_of(f)], "ends at byte .* data has 0"),
    attack("cut in the data", lambda f: f[:-200], "tensor '.*' ends at byte"),
    attack("last byte missing", lambda f: f[:-1], "tensor 'flags' ends at byte"),
    attack("one byte more", lambda f: f + b"\0", "1 bytes after the last tensor belong to no"),
    attack("two files in one", lambda f: f + f, "bytes after the last tensor belong to no tensor"),
    attack("header longer than the file", lambda f: with_length(f, len(f)), "the file ends after"),
    attack("header over the limit", lambda f: with_length(f, 100_000_001), "at most 100000000"),
    attack("header of 2**63 bytes", lambda f: with_length(f, 2**63), "at most 100000000"),
    attack("header of 2**64 - 1 bytes", lambda f: with_length(f, 2**64 - 1), "at most 100000000"),
    attack("header of no bytes", lambda f: with_length(f, 0), "header is not JSON"),
    attack("header cut short", lambda f: with_length(f, 100), "header is not JSON"),
    attack("a zip file", lambda f: b"PK\3\4" + f[4:], "header has|at most"),
    attack("only zeros", lambda f: bytes(1000), "does not begin with '{'"),
)

TEXTS = (
    attack("not UTF-8", lambda f: f.replace(b'"flags"', b'"fl\xffgs"', 1), "not UTF-8"),
    attack("byte order mark", lambda f: with_text("\ufeff" + header_of(f))(f), "does not begin"),
    attack("header a list", with_text("[]"), "does not begin with '{'"),
    attack("header a number", with_text("7"), "does not begin with '{'"),
    attack("header null", with_text("null"), "does not begin with '{'"),
    attack("header of spaces", with_text(" " * 64), "does not begin with '{'"),
    attack("header an empty object", with_text("{}"), "__metadata__ is missing"),
    attack("single quotes", rewritten('"F32"', "'F32'"), "header is not JSON"),
    attack("trailing comma", lambda f: with_text(header_of(f)[:-1] + ",}")(f), "not JSON"),
    attack("text after the object", lambda f: with_text(header_of(f) + "{}")(f), "not JSON"),
    attack("zero after the object", lambda f: with_text(header_of(f) + "\0")(f), "not JSON"),
    attack("a comment", rewritten('"F32"', '"F32"/**/'), "header is not JSON"),
    attack("a control character", rewritten('"F32"', '"F\n32"'), "header is not JSON"),
    attack("NaN", rewritten("[1,12,3]", "[1,12,NaN]"), "contains NaN, which is not a finite"),
    attack("Infinity", rewritten("[1,12,3]", "[1,Infinity,3]"), "contains Infinity"),
    attack("-Infinity", rewritten("[1,12,3]", "[-Infinity,12,3]"), "contains -Infinity"),
    attack("a float out of range", rewritten("[1,12,3]", "[1,12,1e999]"), "contains 1e999"),
    attack("a number of 5000 digits", rewritten("[1,12,3]", f"[1,{'9' * 5000}]"), "shape|not JSON"),
    attack("half a surrogate pair", rewritten('"flags"', '"fl\\ud800gs"'), "surrogate"),
    attack("deep lists", rewritten("[1,12,3]", "[" * 100_000), "header is not JSON"),
    attack("deep objects", rewritten("[1,12,3]", '{"a":' * 100_000), "header is not JSON"),
    attack("deep, closed", rewritten("[1,12,3]", "[" * 9999 + "]" * 9999), "not JSON|the shape"),
    attack(
        "two tensors of one name",
        lambda f: with_text(header_of(f)[:-1] + ',"w":' + json.dumps(VECTOR) + "}")(f),
        "has the key 'w' twice",
    ),
    attack("two __metadata__", rewritten('{"__', '{"__metadata__":{},"__'), "'__metadata__' twice"),
    attack(
        "a key of metadata twice", rewritten('"format":', '"format":"x","format":'), "'format' t"
    ),
    attack("dtype twice", rewritten('"dtype":', '"dtype":"F32","dtype":'), "key 'dtype' twice"),
    attack("shape twice", rewritten('"shape":', '"shape":[],"shape":'), "key 'shape' twice"),
    attack(
        "offsets twice", rewritten('"data_', '"data_offsets":[],"data_'), "'data_offsets' twice"
    ),
)

ENTRIES = (
    attack("entry null", edited(lambda p: p.tensors.update(w=None)), "'w' needs exactly dtype"),
    attack("entry a list", edited(lambda p: p.tensors.update(w=[])), "'w' needs exactly dtype"),
    entry("no dtype", "'w' needs exactly dtype, shape and data_offsets", dtype=...),
    entry("no shape", "'w' needs exactly dtype, shape and data_offsets", shape=...),
    entry("no offsets", "'w' needs exactly dtype, shape and data_offsets", data_offsets=...),
    entry("an unknown field", "'w' needs exactly dtype, shape and data_offsets", strides=[1]),
    entry("unknown dtype", "'w' has the unknown dtype 'F8_E4M3'", dtype="F8_E4M3"),
    entry("dtype in lower case", "'w' has the unknown dtype 'f32'", dtype="f32"),
    entry("dtype a number", "'w' has the unknown dtype 32", dtype=32),
    entry("dtype a list", r"'w' has the unknown dtype \['F32'\]", dtype=["F32"]),
    entry("dtype too wide", r"'w' of F64 \[1, 12, 3\] needs 288 bytes", dtype="F64"),
    entry("dtype too narrow", r"'w' of F16 \[1, 12, 3\] needs 72 bytes", dtype="F16"),
    entry("shape null", "'w' has the shape None", shape=None),
    entry("shape a number", "'w' has the shape 36", shape=36),
    entry("shape a string", "'w' has the shape '36'", shape="36"),
    entry("shape too large", "'w' of F32 .* needs 192 bytes", shape=[1, 12, 4]),
    entry("shape too small", "'w' of F32 .* needs 96 bytes", shape=[1, 12, 2]),
    entry("a negative size", "'w' has the shape", shape=[1, -12, -3]),
    entry("a fractional size", "'w' has the shape", shape=[1, 12, 3.0]),
    entry("a true size", "'w' has the shape", shape=[True, 12, 3]),
    entry("a size in quotes", "'w' has the shape", shape=["1", 12, 3]),
    entry("a size over the limit", "'w' has the shape", shape=[2**48 + 1, 1, 1]),
    entry("2**40 elements", "needs 4398046511104 bytes", shape=[2**40]),
    entry("a product of 2**64", "at most 281474976710656 elements", shape=[2**32, 2**32]),
    entry("a product of 2**64 + 36", "at most 281474976710656", shape=[36, 2**48, 2**48]),
    entry("a product that wraps to 0", "at most", shape=[2**32, 2**32], data_offsets=[0, 0]),
    entry("nothing, but huge", "at most", shape=[0, 2**48, 2**48], data_offsets=[0, 0]),
    entry("rank 17", "'w' has rank 17, at most 16", shape=[1] * 15 + [12, 3]),
    entry("a million axes", "'w' has rank 1000000", shape=[1] * 1_000_000),
    entry("offsets null", "'w' has the data_offsets None", data_offsets=None),
    entry("one offset", "'w' has the data_offsets", data_offsets=[144]),
    entry("three offsets", "'w' has the data_offsets", data_offsets=[0, 72, 144]),
    entry("offsets reversed", "'w' .* data_offsets .* are -144", data_offsets=[144, 0]),
    entry("a negative offset", "'w' has the data_offsets", data_offsets=[-144, 0]),
    entry("fractional offsets", "'w' has the data_offsets", data_offsets=[0.0, 144.0]),
    entry("true offsets", "'w' has the data_offsets", data_offsets=[False, True]),
    entry("offsets over the limit", "'w' has the data_offsets", data_offsets=[2**48, 2**48 + 144]),
    entry("offsets far away", "bytes before|ends at", data_offsets=[2**47, 2**47 + 144]),
    moved("overlapping the one before", "overlaps another", "w", -4, -4),
    moved("a hole between tensors", "bytes before tensor 'flags' belong to no", "flags", 1, 1),
    attack("bytes before the first tensor", edited(hidden_bytes), "4 bytes before tensor"),
    attack("two tensors in one place", edited(same_place), "overlaps another"),
    attack("a bool of 2", edited(bad_truth), "'flags' has a truth value that is neither 0 nor 1"),
    attack(
        "a name too long",
        edited(lambda p: p.add_tensor("n" * 1001, "U8", [0], b"")),
        "name has 1001 characters",
    ),
    attack("too many tensors", edited(empty_of_many), r"\d+ tensors, at most 100000"),
)

CONTAINER = SIZES + TEXTS + ENTRIES
