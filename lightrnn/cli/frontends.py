"""Find converters and whatever runs other formats: entry points, the runtime needs none of them.

lightrnn.converters  onnx, pt2: SRC and a binary file to write; options are keyword arguments
lightrnn.verifiers   onnx: model, REFERENCE, inputs by name or None; returns a report
lightrnn.references  onnx: REFERENCE, inputs by name, threads; returns a call that runs it
lightrnn.inputs      random: graph, shapes by name; returns inputs by name
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from lightrnn.errors import ConversionError

CONVERTERS = "lightrnn.converters"
VERIFIERS = "lightrnn.verifiers"
REFERENCES = "lightrnn.references"
INPUTS = "lightrnn.inputs"

_EXTRAS = {
    (CONVERTERS, "onnx"): "onnx",
    (CONVERTERS, "pt2"): "torch",
    (VERIFIERS, "onnx"): "verify",
    (REFERENCES, "onnx"): "verify",
}


def find(group: str, name: str) -> Callable[..., Any]:
    """The callable of an entry point. Raises ConversionError that says what to install."""
    for point in entry_points(group=group, name=name):
        try:
            function: Callable[..., Any] = point.load()
        except ImportError as error:
            raise ConversionError(f"{point.value}: {error}; {_remedy(group, name)}") from error
        return function
    raise ConversionError(f"no {name!r} of {group} is installed: {_remedy(group, name)}")


def _remedy(group: str, name: str) -> str:
    return f"pip install 'lightrnn[{_EXTRAS.get((group, name), 'onnx')}]'"
