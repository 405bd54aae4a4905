"""The word segmenter: what its README says of the sample, and how words are marked and scored."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import lightrnn

HERE = Path(__file__).parent.parent / "examples" / "segment-zh"
MODEL = HERE / "segment-zh.lrnn"
newspaper: Any = import_module("examples.segment-zh.newspaper")


def segmented(lines: list[str]) -> list[list[str]]:
    return [[span["text"] for span in r["spans"]] for r in lightrnn.pipeline(MODEL)(lines)]


def stated() -> list[float]:
    """Precision, recall and F1 in README.md's table of the sample."""
    text = (HERE / "README.md").read_text(encoding="utf-8").partition("`sample.txt`:")[2]
    found = re.search(r"^\| segment-zh.lrnn \| [\d,]+ ((?:\| [\d.]+ % ){3})\|$", text, re.M)
    assert found is not None
    return [float(share) / 100 for share in re.findall(r"[\d.]+", found[1])]


def test_the_sample_is_cut_as_well_as_stated() -> None:
    wanted = newspaper.sample()
    score = newspaper.Score.of(segmented(["".join(words) for words in wanted]), wanted)
    assert [score.precision, score.recall, score.f1] == pytest.approx(stated(), abs=0.006)
    assert MODEL.stat().st_size <= 2_000_000


@pytest.mark.parametrize("line", ["", "中国", "Ｗｉｎｄｏｗｓ９８是新的…", "㎞", "é中e\u0301国"])
def test_words_make_up_the_line(line: str) -> None:
    (words,) = segmented([line])
    assert "".join(words) == line


@pytest.mark.parametrize(
    ("words", "text", "marks"),
    [
        (("新", "世纪", "图书馆", "人民代表"), "新世纪图书馆人民代表", "SBEBMEBMME"),
        (("１２", "…"), "12...", "BEBME"),
    ],
)
def test_marks_of_words(words: tuple[str, ...], text: str, marks: str) -> None:
    assert newspaper.marks(words) == (text, marks)


def test_words_of_marked_characters() -> None:
    marked = ["中/b", "共/m", "中/m", "央/e", "的/s", "总/b", "书/m", "记/e", "//s", "１/b", "２/e"]
    assert newspaper.words_of(marked) == ("中共中央", "的", "总书记", "/", "１２")


def test_the_score_counts_words_at_their_place() -> None:
    score = newspaper.Score.of([["ab", "c", "d"]], [("a", "b", "c", "d")])
    assert (score.found, score.wanted, score.right) == (3, 4, 2)
    assert score.f1 == pytest.approx(4 / 7)
    assert newspaper.places(["a b", " ", "c"]) == {(0, 2), (2, 3)}
