"""Every place where a test of an operator's case may not pass, with the reason.

Keys are `Operator-case`; a test that passes all the same fails, so that no line outlives its cause.
"""

from __future__ import annotations

REFUSED: dict[str, str] = {
    **{
        f"GlobalLpPool-{name}": "onnxruntime has none for opset 22, onnx's reference none at all"
        for name in ("1-d", "2-d", "no batch")
    },
    "GroupNormalization-no batch": "onnx's reference evaluator fails to reshape what is empty",
    "MatMulInteger-rows, as a vector": "onnxruntime takes one zero point for A, onnx's reference "
    "evaluator does not broadcast a vector of them by rows as the operator's text asks",
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

WRONG: dict[str, str] = {
    "NonZero-scalar": "onnxruntime gives [1, N], where ONNX's text, its reference and torch give "
    "[0, N]",
}
"""Cases for which lightrnn's result differs from the oracle's."""

WITHOUT_CASES: dict[str, str] = dict.fromkeys(
    ("If", "Loop", "Scan"), "they hold graphs: tests/test_control.py has models"
)
"""Operators that have no cases."""

NODE_TESTS: dict[str, str] = {
    "test_batchnorm_example_training_mode": "training",
    "test_batchnorm_epsilon_training_mode": "training",
    "test_training_dropout_default": "training",
    "test_training_dropout_default_mask": "training",
    "test_training_dropout": "training",
    "test_training_dropout_mask": "training",
    "test_equal_string": "element type string",
    "test_equal_string_broadcast": "element type string",
    "test_identity_sequence": "sequence values",
    "test_identity_opt": "optional values",
    "test_if_seq": "sequence values",
    "test_if_opt": "optional values",
    "test_loop13_seq": "sequence values",
    "test_loop16_seq_none": "optional values",
    "test_scan_sum": "control flow",
    "test_sequence_insert_at_back": "sequence values",
    "test_sequence_insert_at_front": "sequence values",
    "test_split_to_sequence_1": "sequence values",
    "test_split_to_sequence_2": "sequence values",
    "test_split_to_sequence_nokeepdims": "sequence values",
}
"""Cases of ONNX's node tests that are refused, with the limit that the message names."""
