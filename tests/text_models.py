"""Small models of the text tasks, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lightrnn.format import ModelFile, dumps
from lightrnn.graph import FLOAT32, INT64, Array, Graph, Node, TensorType

CHARACTERS = "abcdefgh 中文\n\t"
SIZE = len(CHARACTERS) + 4
TOKENIZER: dict[str, Any] = {
    "kind": "characters", "characters": CHARACTERS, "begin_id": 2, "end_id": 3,
}  # fmt: skip


def _weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def _type(dtype: Any, *shape: int | str) -> TensorType:
    return TensorType(dtype, shape)


def classifier(text: dict[str, Any]) -> bytes:
    """ids [N, T] to three scores [N, 3] of the characters' mean."""
    nodes = (
        Node("Gather", ("table", "ids"), ("rows",), {"axis": 0}),
        Node("ReduceMean", ("rows", "one"), ("scores",), {"keepdims": 0}),
    )
    graph = Graph(
        {"ids": _type(INT64, "N", "T")}, {"scores": _type(FLOAT32, "N", 3)}, nodes,
        {"table": _weights(SIZE, 3) * 2, "one": np.array([1])},
    )  # fmt: skip
    own = {"task": "classification", "tokenizer": TOKENIZER, "labels": ["x", "y", "z"],
           "ids": "ids", "scores": "scores", "scores_are": "logits"}  # fmt: skip
    return dumps(ModelFile({"main": graph}, {**own, **text}))


def tagger() -> bytes:
    """A label of BMES for each character, by the character alone."""
    nodes = (Node("Gather", ("table", "ids"), ("scores",), {"axis": 0}),)
    graph = Graph(
        {"ids": _type(INT64, "N", "T")}, {"scores": _type(FLOAT32, "N", "T", 4)}, nodes,
        {"table": _weights(SIZE, 4)},
    )  # fmt: skip
    text = {"task": "tagging", "tokenizer": {"kind": "characters", "characters": CHARACTERS},
            "labels": ["B", "M", "E", "S"], "ids": "ids", "scores": "scores",
            "scheme": "BMES"}  # fmt: skip
    return dumps(ModelFile({"main": graph}, text))


def generator() -> bytes:
    """The next character by a GRU of 8 units."""
    nodes = (
        Node("Gather", ("table", "ids"), ("rows",), {"axis": 0}),
        Node("Transpose", ("rows",), ("x",), {"perm": (1, 0, 2)}),
        Node("GRU", ("x", "w", "r", "b", "", "h"), ("", "h_out"), {"hidden_size": 8}),
        Node("Squeeze", ("h_out", "zero"), ("last",)),
        Node("MatMul", ("last", "out"), ("logits",)),
    )
    state = _type(FLOAT32, 1, "N", 8)
    graph = Graph(
        {"ids": _type(INT64, "N", "T"), "h": state},
        {"logits": _type(FLOAT32, "N", SIZE), "h_out": state}, nodes,
        {"table": _weights(SIZE, 5), "w": _weights(1, 24, 5), "r": _weights(1, 24, 8),
         "b": _weights(1, 48), "zero": np.array([0]), "out": _weights(8, SIZE)},
        {"h": "h_out"},
    )  # fmt: skip
    text = {"task": "generation", "tokenizer": TOKENIZER, "ids": "ids", "logits": "logits"}
    return dumps(ModelFile({"main": graph}, text))


def translator(attention: bool = True) -> bytes:
    """Each step looks where the last token points to, and answers by what it sees there."""
    encoder = Graph(
        {"ids": _type(INT64, "N", "S")}, {"memory": _type(FLOAT32, "N", "S", 6)},
        (Node("Gather", ("table", "ids"), ("memory",), {"axis": 0}),),
        {"table": _weights(SIZE, 6)},
    )  # fmt: skip
    nodes = (
        Node("Gather", ("queries", "token"), ("q",), {"axis": 0}),
        Node("Unsqueeze", ("q", "two"), ("column",)),
        Node("MatMul", ("memory", "column"), ("products",)),
        Node("Squeeze", ("products", "two"), ("flat",)),
        Node("Softmax", ("flat",), ("weights",), {"axis": 1}),
        Node("Unsqueeze", ("weights", "one"), ("row",)),
        Node("MatMul", ("row", "memory"), ("seen",)),
        Node("Squeeze", ("seen", "one"), ("context",)),
        Node("MatMul", ("context", "out"), ("logits",)),
    )
    decoder = Graph(
        {"token": _type(INT64, "N"), "memory": _type(FLOAT32, "N", "S", 6)},
        {"logits": _type(FLOAT32, "N", SIZE), "weights": _type(FLOAT32, "N", "S")}, nodes,
        {"queries": _weights(SIZE, 6, seed=1), "out": _weights(6, SIZE), "one": np.array([1]),
         "two": np.array([2])},
    )  # fmt: skip
    names = {"token": "token", "logits": "logits", "sources": {"memory": "memory"}}
    if attention:
        names["attention"] = "weights"
    text = {
        "task": "translation", "tokenizer": {"kind": "characters", "characters": CHARACTERS},
        "target": TOKENIZER, "ids": "ids", "decoder": names, "max_length": 7,
    }  # fmt: skip
    return dumps(ModelFile({"encoder": encoder, "decoder": decoder}, text))


MODELS = {
    "classifier": classifier({}),
    "multiple": classifier({"multiple": True}),
    "tagger": tagger(),
    "generator": generator(),
    "translator": translator(),
    "no attention": translator(attention=False),
}


def saved(folder: Path, name: str) -> Path:
    """One of MODELS as a file."""
    path = folder / f"{name}.lrnn"
    path.write_bytes(MODELS[name])
    return path


def written(folder: Path, lines: list[str], name: str = "in.txt") -> Path:
    """A file of lines."""
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return path
