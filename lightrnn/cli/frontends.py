"""Find converters and verifiers: entry points, so that the runtime needs neither."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from lightrnn.errors import ConversionError

CONVERTERS = "lightrnn.converters"
VERIFIERS = "lightrnn.verifiers"

_EXTRAS = {
    (CONVERTERS, "onnx"): "onnx",
    (CONVERTERS, "pt2"): "torch",
    (VERIFIERS, "onnx"): "verify",
}


def find(group: str, name: str) -> Callable[..., Any]:
    """The callable of an entry point. Raises ConversionError that says what to install."""
    for point in entry_points(group=group, name=name):
        try:
            function: Callable[..., Any] = point.load()
        except ImportError as error:
            raise ConversionError(f"{point.value}: {error}; {_remedy(group, name)}") from error
        return function
    what = "converter" if group == CONVERTERS else "verifier"
    raise ConversionError(f"no {what} for .{name} files is installed: {_remedy(group, name)}")


def _remedy(group: str, name: str) -> str:
    return f"pip install 'lightrnn[{_EXTRAS.get((group, name), 'onnx')}]'"
