"""The Chinese sentiment example as it is committed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lightrnn

FOLDER = Path(__file__).parents[1] / "examples" / "sentiment-zh"
MODEL = FOLDER / "sentiment-zh.lrnn"
SENTENCES = (FOLDER / "sentences.txt").read_text(encoding="utf-8").splitlines()
LABELS = (FOLDER / "sentences.labels").read_text().split()


def test_the_sentences_get_their_labels() -> None:
    found = [one["label"] for one in lightrnn.pipeline(MODEL)(SENTENCES)]
    assert sum(a == b for a, b in zip(found, LABELS, strict=True)) == 20


def test_padding_changes_nothing() -> None:
    together = lightrnn.pipeline(MODEL)(SENTENCES)
    alone = lightrnn.pipeline(MODEL, batch_size=1)(SENTENCES)
    assert [a["label"] for a in together] == [b["label"] for b in alone]
    np.testing.assert_allclose(
        [a["score"] for a in together], [b["score"] for b in alone], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(("plain", "other"), [("！，ＡＢＣ１２３", "!,abc123")])
def test_full_width_signs_are_read_as_ascii(plain: str, other: str) -> None:
    a, b = lightrnn.pipeline(MODEL)([f"质量很好{plain}", f"质量很好{other}"])
    assert a == b


def test_the_file_is_small() -> None:
    assert MODEL.stat().st_size <= 2_000_000
