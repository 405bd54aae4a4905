"""Where in its source a node comes from, as torch's exporter notes it on ONNX nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_SCOPES = "pkg.torch.onnx.name_scopes"
_TRACE = "pkg.torch.onnx.stack_trace"
_QUOTED = re.compile(r"'([^']*)'")
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+)')
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
    own = [f for f in frames if "/torch/" not in f[0] and not f[0].startswith("torch/")] or frames
    lines = [f"{path}:{line}" for path, line in own[-1:]]
    return ", ".join((*scopes[-1:], *lines))[-_LONGEST:]
