"""Convert trained models to .lrnn files: from ONNX, from torch through ONNX, always verified."""

from lightrnn_converters.bisect import Bisection
from lightrnn_converters.onnx_frontend import convert_onnx
from lightrnn_converters.pt2 import convert_pt2
from lightrnn_converters.report import OutputReport, Report
from lightrnn_converters.torch_frontend import TorchGraph, convert_torch, convert_torch_graphs
from lightrnn_converters.verify import verify

__all__ = [
    "Bisection",
    "OutputReport",
    "Report",
    "TorchGraph",
    "convert_onnx",
    "convert_pt2",
    "convert_torch",
    "convert_torch_graphs",
    "verify",
]
