"""Attach the decoding of a conditional random field to a converted tagger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lightrnn.errors import ConversionError, TextError
from lightrnn.graph import FLOAT32, INT32, INT64, Array, Graph, Node, TensorType
from lightrnn.record import replace
from lightrnn.text.fields import short, tensor

TAGS = "tags"
_ONNX_INT32 = 6


def attach_crf(graph: Graph, text: Mapping[str, Any]) -> tuple[Graph, dict[str, Any]]:
    """The graph with `ViterbiDecode` behind the output that `scores` names, and a text for it.

    text: of a tagging task, with "crf": {"transitions": [L, L], "start": [L], "end": [L]}, numbers
    in lists or arrays: the score of each label after another (row, then column), of the first and
    of the last label; start and end may be left out. The new text has no `crf` and no `scores`,
    but `tags`. Raises ConversionError where they do not fit.
    """
    rest = {k: v for k, v in text.items() if k not in ("crf", "scores")}
    if text.get("task") != "tagging":
        raise ConversionError(f"crf goes with the task 'tagging', not {text.get('task')!r}")
    scores = text.get("scores")
    if scores not in graph.outputs:
        raise TextError(f"no output {scores!r}, the graph has {', '.join(graph.outputs)}")
    lengths = text.get("lengths")
    if lengths is not None:
        tensor(graph.inputs, lengths, (1,), "input")
    values = _values(text["crf"], len(text.get("labels", ())))
    return _with_decoder(graph, str(scores), lengths, values), {**rest, "tags": TAGS}


def _values(crf: Any, count: int) -> dict[str, Array]:
    """The arrays of a field of `count` labels, by name."""
    if not isinstance(crf, Mapping):
        raise ConversionError(f"crf is {short(crf)}, expected an object")
    if "transitions" not in crf:
        raise ConversionError("crf lacks 'transitions'")
    ranks = {"transitions": 2, "start": 1, "end": 1}
    if unknown := [name for name in crf if name not in ranks]:
        raise ConversionError(f"crf has the unknown field {unknown[0]!r}")
    return {n: _numbers(crf[n], n, (count,) * rank) for n, rank in ranks.items() if n in crf}


def _numbers(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    try:
        array = np.array(value, np.float32)
    except (TypeError, ValueError) as error:
        raise ConversionError(f"{name} of crf: {error}") from None
    if array.shape != shape:
        raise ConversionError(f"{name} of crf has shape {array.shape}, expected {shape}")
    if np.isnan(array).any():
        raise ConversionError(f"{name} of crf holds values that are not numbers")
    return array


def _with_decoder(
    graph: Graph, scores: str, lengths: str | None, values: Mapping[str, Array]
) -> Graph:
    kind = graph.outputs[scores]
    if kind.dtype != FLOAT32 or kind.rank not in (None, 3):
        raise ConversionError(f"output {scores!r} is {kind}, expected float32 of rank 3")
    taken = {*graph.inputs, *graph.constants, *(o for n in graph.nodes for o in n.outputs)}
    names = {name: _free(f"crf.{name}", taken) for name in (*values, "lengths")}
    nodes = list(graph.nodes)
    if lengths is not None and graph.inputs[lengths].dtype != INT32:
        cast = Node("Cast", (lengths,), (names["lengths"],), {"to": _ONNX_INT32}, "crf lengths")
        nodes.append(cast)
    elif lengths is not None:
        names["lengths"] = lengths
    optional = [names.get(name, "") for name in ("start", "end")]
    inputs = [scores, names["transitions"], *optional, "" if lengths is None else names["lengths"]]
    while not inputs[-1]:
        inputs.pop()
    tags = _free(TAGS, taken)
    nodes.append(Node("ViterbiDecode", tuple(inputs), (tags,), {}, "crf"))
    shape = None if kind.shape is None else kind.shape[:2]
    outputs = {n: t for n, t in graph.outputs.items() if n != scores}
    return replace(
        graph,
        nodes=tuple(nodes),
        outputs={tags: TensorType(INT64, shape), **outputs},
        constants={**graph.constants, **{names[n]: v for n, v in values.items()}},
    )


def _free(name: str, taken: set[str]) -> str:
    if name in taken:
        raise ConversionError(f"crf needs the name {name!r}, which the graph has already")
    return name
