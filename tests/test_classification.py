"""Classification: which labels a result holds, beside what NumPy says of the scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lightrnn
from lightrnn.errors import InputError
from tests.text_models import CHARACTERS, classifier

LABELS = ["x", "y", "z"]
TEXTS = [f"{a}{b}" for a in CHARACTERS for b in CHARACTERS]


def probabilities(*, multiple: bool) -> Any:
    """Of all TEXTS, float64 [N, 3], by softmax or sigmoid."""
    model = lightrnn.load(classifier({}))
    ids = np.array([[2, *(CHARACTERS.index(c) + 4 for c in text), 3] for text in TEXTS])
    logits = model.run({"ids": ids})["scores"].astype(np.float64)
    if multiple:
        return 1 / (1 + np.exp(-logits))
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def expected(row: Any, most: int, least: float) -> list[tuple[str, float]]:
    ranked = sorted(zip(row, LABELS, strict=True), key=lambda pair: -pair[0])
    return [(label, p) for p, label in ranked if p >= least][: most or None]


def found(result: dict[str, Any]) -> list[tuple[str, float]]:
    return [(one["label"], one["score"]) for one in result["labels"]]


CASES: dict[str, tuple[bool, dict[str, Any], dict[str, Any], int, float]] = {
    "two of three": (False, {}, {"top_k": 2}, 2, 0),
    "all": (False, {}, {"top_k": 0}, 0, 0),
    "more than there are": (False, {}, {"top_k": 9}, 0, 0),
    "sure ones": (False, {}, {"threshold": 0.6}, 1, 0.6),
    "all that are likely": (False, {}, {"threshold": 0.2, "top_k": 0}, 0, 0.2),
    "several": (True, {}, {}, 0, 0.5),
    "several of the model's threshold": (True, {"threshold": 0.7}, {}, 0, 0.7),
    "several of a chosen threshold": (True, {"threshold": 0.7}, {"threshold": 0.1}, 0, 0.1),
    "several, whatever their probability": (True, {}, {"threshold": 0.0}, 0, 0),
    "the best of several": (True, {}, {"top_k": 1}, 1, 0.5),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_of_a_result(case: str) -> None:
    multiple, text, options, most, least = CASES[case]
    pipe = lightrnn.pipeline(classifier({"multiple": multiple, **text}), **options)
    sizes = set()
    for result, row in zip(pipe(TEXTS), probabilities(multiple=multiple), strict=True):
        wanted = expected(row, most, least)
        sizes.add(len(wanted))
        assert [label for label, _ in found(result)] == [label for label, _ in wanted]
        np.testing.assert_allclose([p for _, p in found(result)], [p for _, p in wanted], atol=1e-6)
        best = wanted[0] if wanted else ("", 0.0)
        assert (result["label"], result["score"]) == (best[0], pytest.approx(best[1], abs=1e-6))
    assert len(sizes) > 1 or not (multiple or least) or options.get("threshold") == 0


def test_one_label_is_a_result_by_itself() -> None:
    results = lightrnn.pipeline(classifier({}))(TEXTS)
    for result, row in zip(results, probabilities(multiple=False), strict=True):
        assert list(result) == ["label", "score"]
        assert result["label"] == LABELS[int(row.argmax())]
        assert result["score"] == pytest.approx(row.max(), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": -1}, "top_k is -1, expected 0 or more"),
        ({"threshold": 1.5}, "threshold is 1.5, expected 0 to 1"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"beam": 3}, "no option 'beam', the task has top_k, threshold"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        lightrnn.pipeline(classifier({}), **options)
