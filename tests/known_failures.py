"""Every place where a test of an operator's case may not pass, with the reason.

Keys are `Operator-case`; a test that passes all the same fails, so that no line outlives its cause.
"""

from __future__ import annotations

REFUSED: dict[str, str] = {
    "Reshape-empty": "both oracles refuse -1 beside a copied size 0: its value is not defined",
    "OneHot-bool": "onnxruntime has no kernel, onnx's reference evaluator fails on bool values",
    "Pad-scalar": "onnxruntime refuses rank 0, onnx's reference evaluator fails on empty pads",
    **{
        f"ViterbiDecode-{case}": "lightrnn's own operator: tests/test_crf.py has its oracle"
        for case in (
            "N2 T5 L4 ",
            "N3 T9 L17 start end",
            "N4 T6 L3 end lengths",
            "N1 T1 L1 ",
            "N2 T0 L3 ",
            "N0 T4 L3 start",
            "N5 T12 L33 start end lengths",
        )
    },
}
"""Cases that neither onnxruntime nor onnx's reference evaluator computes."""

WRONG: dict[str, str] = {}
"""Cases for which lightrnn's result differs from the oracle's."""

WITHOUT_CASES: dict[str, str] = {}
"""Operators that have no cases."""
