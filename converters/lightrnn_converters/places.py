"""Where in its source a node comes from, as torch's exporter notes it on ONNX nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

_SCOPES = "pkg.torch.onnx.name_scopes"
_TRACE = "pkg.torch.onnx.stack_trace"
_QUOTED = re.compile(r"'([^']*)'")
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+)')
_OTHERS = re.compile(
    r"(^|/)(torch|lightrnn_converters|onnxscript|sympy)/|^<|/lib/python3\.\d+/\w+\.py$"
)
"""Paths of torch, of this package and of Python itself."""
_LONGEST = 200


def places(graph: Any) -> dict[str, str]:
    """The places of a GraphProto's nodes by name, those in subgraphs included."""
    return {node.name: found for node in _nodes(graph) if (found := place(node))}


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def place(proto: Any) -> str:
    """The scope and the source line of a NodeProto: "decoder.attention, model.py:12"; "" if none.

    The line is the innermost one outside torch, or else the innermost.
    """
    notes = {p.key: p.value for p in proto.metadata_props}
    scopes = [s for s in _QUOTED.findall(notes.get(_SCOPES, ""))[:-1] if s]
    frames = _FRAME.findall(notes.get(_TRACE, ""))
    lines = [found] if (found := innermost(frames)) else []
    return ", ".join((*scopes[-1:], *lines))[-_LONGEST:]


def innermost(frames: Sequence[tuple[str, str]]) -> str:
    """The innermost of some frames, path and line, outside torch and this package if there is one.

    It looks like "model.py:12"; "" where there are no frames.
    """
    own = [f for f in frames if not _OTHERS.search(f[0].replace("\\", "/"))] or frames
    return ":".join(own[-1]) if own else ""
