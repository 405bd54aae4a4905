"""Run trained RNN, LSTM, GRU and attention models from one small file, with NumPy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightrnn.errors import (
    ConversionError,
    DataError,
    DeviceError,
    FormatError,
    GraphError,
    InputError,
    LightRNNError,
    NativeError,
    TextError,
    UnsupportedError,
    VerificationError,
)
from lightrnn.model import Model, Stream, TensorSpec, load

if TYPE_CHECKING:
    from lightrnn.text.pipeline import pipeline

__version__ = "0.1.0"

__all__ = [
    "ConversionError", "DataError", "DeviceError", "FormatError", "GraphError", "InputError",
    "LightRNNError", "Model", "NativeError", "Stream", "TensorSpec", "TextError",
    "UnsupportedError", "VerificationError", "__version__", "load", "pipeline",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """`pipeline` is imported on first use: models without text do not pay for it."""
    if name == "pipeline":
        from lightrnn.text.pipeline import pipeline

        return pipeline
    raise AttributeError(f"module 'lightrnn' has no attribute {name!r}")
