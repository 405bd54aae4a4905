"""Packages that conversion needs and running does not."""

from __future__ import annotations

import importlib
from typing import Any

from lightrnn.errors import ConversionError

_EXTRAS = {"onnx": "onnx", "onnxruntime": "verify", "torch": "torch", "onnxscript": "torch",
           "sympy": "torch"}  # fmt: skip


def require(module: str) -> Any:
    """The module, or a ConversionError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConversionError(
            f"{package} is not installed: pip install 'lightrnn[{_EXTRAS[package]}]'"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
