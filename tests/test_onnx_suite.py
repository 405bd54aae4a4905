"""ONNX's node tests: every case passes, or is refused for a reason that the docs give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import known_failures, operators_page
from tests.onnx_suite import (
    PASSED,
    REFUSED,
    WRONG,
    Outcome,
    Row,
    by_lightrnn,
    by_onnxruntime,
    cases,
    is_ours,
    operators,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "operators.md"
COMPUTED = [case.name for case in cases() if is_ours(operators()[case.name])]


@pytest.mark.parametrize("case", cases(), ids=lambda case: str(case.name))
def test_case_passes_or_is_refused_by_name(case: Any) -> None:
    outcome = by_lightrnn(case)
    assert outcome.verdict in (PASSED, REFUSED), outcome.reason
    if outcome.limit.startswith("opset"):
        pytest.skip(outcome.reason)
    if outcome.verdict == REFUSED:
        assert outcome.limit, f"not a documented reason: {outcome.reason}"
    if is_ours(operators()[case.name]):
        assert outcome.limit == known_failures.NODE_TESTS.get(case.name, "")


def test_few_cases_of_computed_operators_are_refused() -> None:
    assert len(known_failures.NODE_TESTS) <= 0.05 * len(COMPUTED)


def test_recurrent_cases_are_all_there_and_none_is_refused() -> None:
    recurrent = [name for name in COMPUTED if operators()[name] in ("RNN", "LSTM", "GRU")]
    assert len(recurrent) >= 18
    assert not set(recurrent) & set(known_failures.NODE_TESTS)


@pytest.mark.parametrize(("name", "verdict"), [
    ("test_add", PASSED),
    ("test_cast_INT4_to_FLOAT", PASSED),
    ("test_castlike_FLOAT_to_FLOAT8E5M2", PASSED),
    ("test_gru_batchwise", REFUSED),
])  # fmt: skip
def test_onnxruntime_gets_the_same_inputs(name: str, verdict: str) -> None:
    (case,) = (case for case in cases() if case.name == name)
    outcome = by_onnxruntime(case)
    assert outcome.verdict == verdict, outcome.reason


def test_wrong_results_and_undocumented_refusals_are_counted() -> None:
    outcomes = Outcome(WRONG, "output 0 differs"), Outcome(REFUSED, "no reason"), Outcome(PASSED)
    row = Row("Add", outcomes, (Outcome(PASSED),) * 3)
    text = operators_page.tables([row])
    assert "| Add | 3 | 1 | 1 | 1 | 3 |" in text
    assert "**wrong: 1**" in text
    assert "| not documented | 1 | Add (1) |" in text


def test_page_lists_the_operators_and_their_kernels() -> None:
    assert operators_page.kernels() in PAGE.read_text(), "run python -m tests.onnx_suite --markdown"


def test_page_has_every_operator_that_is_tested() -> None:
    text = PAGE.read_text()
    missing = [n for n in set(map(operators().get, COMPUTED)) if f"| {n} |" not in text]
    assert not missing


def test_page_gives_every_reason_for_which_cases_are_refused() -> None:
    text = PAGE.read_text()
    assert not [r for r in set(known_failures.NODE_TESTS.values()) if f"| {r} |" not in text]
