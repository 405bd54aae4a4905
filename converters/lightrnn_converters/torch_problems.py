"""What to say of a module that torch cannot export."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from typing import Any

from lightrnn.errors import ConversionError, UnsupportedError
from lightrnn_converters.optional import first_line
from lightrnn_converters.places import innermost

_PARTS = "or convert the parts of the model on either side of it as graphs of one file"
_ADVICE = (
    (
        r"data-dependent|DataDependent|specialized integer",
        "the values of tensors decide there what is computed, which cannot be exported: compute "
        f"all and choose with torch.where or a mask, {_PARTS}",
    ),
    (
        r"numpy\(\)|tolist|NumPy|numpy",
        f"values leave torch there, which cannot be exported: compute in torch, {_PARTS}",
    ),
    (
        r"[Cc]onstraint|dynamic_shapes",
        "the sizes in dynamic_shapes cannot all vary: leave it out, and those vary that can",
    ),
)
_ELSE = (
    "control flow that depends on values, or on Python objects other than tensors, cannot be "
    f"exported: rewrite it in torch, {_PARTS}"
)


def not_exported(error: Exception) -> ConversionError:
    """What to raise where torch.export failed: the place in the model, and what to do."""
    text = f"{type(error).__name__} {error}"
    advice = next((a for pattern, a in _ADVICE if re.search(pattern, text)), _ELSE)
    frames = [(f.filename, str(f.lineno)) for f in traceback.extract_tb(error.__traceback__)]
    place = innermost(frames)
    where = f" at {place}" if place else ""
    return ConversionError(
        f"torch.export cannot export the module{where}: {first_line(error)}; {advice}"
    )


def not_translated(
    torch: Any, program: Any, error: Exception
) -> ConversionError | UnsupportedError:
    """What to raise where torch.onnx failed: all calls that it has no ONNX form of."""
    try:
        calls = list(_untranslated(torch, program))
    except Exception:  # private parts of torch, which may change
        calls = []
    if not calls:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return ConversionError(f"torch.onnx cannot translate the module: {first_line(cause)}")
    count = f"{len(calls)} calls" if len(calls) > 1 else "one call"
    listed = "\n  ".join(calls)
    return UnsupportedError(f"{count} of the module cannot be converted:\n  {listed}")


def _untranslated(torch: Any, program: Any) -> Iterator[str]:
    from torch.onnx._internal.exporter import _fx_passes, _registration

    registry = _registration.ONNXRegistry.from_torchlib()
    graph = _fx_passes.decompose_with_registry(program, registry).graph
    for node in graph.nodes:
        if _is_operator(torch, node) and not registry.is_registered(node.target):
            frames = re.findall(r'File "([^"\n]+)", line (\d+)', node.stack_trace or "")
            place = innermost(frames)
            where = f" ({place})" if place else ""
            yield f"{node.target} node {node.name!r}{where}: torch has no ONNX form of it"


def _is_operator(torch: Any, node: Any) -> bool:
    """Whether a node calls an operator of torch's own."""
    is_call = node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)
    return is_call and node.target.namespace != "lightrnn"
