"""Every place where a test of an operator's case may not pass, with the reason.

Keys are `Operator-case`; a test that passes all the same fails, so that no line outlives its cause.
"""

from __future__ import annotations

REFUSED: dict[str, str] = {
    "MatMulInteger-rows, as a vector": "onnxruntime takes one zero point for A, onnx's reference "
    "evaluator does not broadcast a vector of them by rows as the operator's text asks",
    "Reshape-empty": "both oracles refuse -1 beside a copied size 0: its value is not defined",
    "OneHot-bool": "onnxruntime has no kernel, onnx's reference evaluator fails on bool values",
    "Pad-scalar": "onnxruntime refuses rank 0, onnx's reference evaluator fails on empty pads",
}
"""Cases that neither onnxruntime nor onnx's reference evaluator computes."""

WRONG: dict[str, str] = {}
"""Cases for which lightrnn's result differs from the oracle's."""

WITHOUT_CASES: dict[str, str] = {}
"""Operators that have no cases."""
