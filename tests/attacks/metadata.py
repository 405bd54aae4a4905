"""Bad metadata: identity, encodings, text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightrnn.errors import FormatError
from tests.attacks.base import Attack, Parts, edited


def attack(name: str, edit: Callable[[Parts], object], message: str) -> Attack:
    return Attack(name, edited(edit), FormatError, message)


def key(name: str, message: str, **changes: Any) -> Attack:
    """Keys of the metadata changed; `...` removes one."""

    def edit(parts: Parts) -> None:
        metadata = {**parts.metadata, **changes}
        parts.metadata = {k: v for k, v in metadata.items() if v is not ...}

    return attack(name, edit, message)


def replaced(value: Any) -> Callable[[bytes], bytes]:
    """The whole metadata replaced."""
    return edited(lambda parts: setattr(parts, "metadata", value))


IDENTITY = (
    Attack("metadata empty", replaced({}), FormatError, "__metadata__ lacks 'format'"),
    key("format missing", "__metadata__ lacks 'format'", format=...),
    key("another format", "format is 'pt', expected 'lrnn'", format="pt"),
    key("format in capitals", "format is 'LRNN', expected 'lrnn'", format="LRNN"),
    key("format a list", "__metadata__: 'format' is not a string", format=["lrnn"]),
    key("format null", "__metadata__: 'format' is not a string", format=None),
    key("version missing", "__metadata__ lacks 'version'", version=...),
    key("version a number", "__metadata__: 'version' is not a string", version=1),
    key("version older", "is '0', this lightrnn reads 1$", version="0"),
    key("version newer", "is '2', this lightrnn reads 1; install a newer one", version="2"),
    key("version far ahead", "install a newer one", version="9" * 5000),
    key("version empty", "version of the format is ''", version=""),
    key("version not plain", "version of the format is '01'", version="01"),
    key("version in other digits", "version of the format is '１'", version="１"),
    key("opset missing", "__metadata__ lacks 'opset'", opset=...),
    key("opset older", "opset is '17', this lightrnn reads", opset="17"),
    key("opset newer", "opset is '99', this lightrnn reads", opset="99"),
    key("opset not a number", "opset is 'ai.onnx'", opset="ai.onnx"),
    key("graphs missing", "__metadata__ lacks 'graphs'", graphs=...),
    key(
        "a user's key that is no string", "__metadata__: 'source' is not a string", source={"a": 1}
    ),
)

ENCODINGS = (
    key("encodings not JSON", "encodings is not JSON", encodings="float16"),
    key("encodings a list", "encodings is not an object", encodings="[]"),
    key("encodings missing", "tensor 'out' is BF16 without an encoding", encodings=...),
    key("an encoding twice", "encodings has the key 'w' twice", encodings='{"w":1,"w":1}'),
    key("encoding of no tensor", "the tensor 'v', which the file", encodings='{"v":"float16"}'),
    key("unknown encoding", "'w' is F32 with the encoding 'int4'", encodings='{"w":"int4"}'),
    key("encoding null", "'w' is F32 with the encoding None", encodings='{"w":null}'),
    key("encoding a list", "'w' is F32 with the encoding", encodings='{"w":["float16"]}'),
    key("encoding of another type", "'w' is F32 with the", encodings='{"w":"float16"}'),
    key("int8 of floats", "'w' is F32 with the encoding 'int8'", encodings='{"w":"int8"}'),
    key("encodings exchanged", "'out' is BF16 with the encoding", encodings='{"out":"float16"}'),
)

TEXT = (
    key("text not JSON", "text is not JSON", text="classification"),
    key("text a list", "text is not an object", text="[]"),
    key("text null", "text is not an object", text="null"),
    key("a key of text twice", "text has the key 'task' twice", text='{"task":1,"task":2}'),
    key("NaN in text", "text contains NaN", text='{"threshold":NaN}'),
    key("deep text", "text is not JSON", text="[" * 100_000),
    key("half a surrogate pair in text", "text contains half", text='{"labels":["\\udfff"]}'),
)

METADATA = IDENTITY + ENCODINGS + TEXT
