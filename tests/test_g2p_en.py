"""The spelling-to-phonemes example: what its README says of the sample, and how it is scored."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import lightrnn

HERE = Path(__file__).parent.parent / "examples" / "g2p-en"
MODEL = HERE / "g2p-en.lrnn"
pronunciations: Any = import_module("examples.g2p-en.pronunciations")


@cache
def guesses(beam: int) -> dict[str, list[str]]:
    pipe = lightrnn.pipeline(MODEL, beam=beam)
    words = list(pronunciations.sample())
    return {w: r["text"].split() for w, r in zip(words, pipe(words), strict=True)}


def stated(name: str) -> tuple[float, float]:
    """The shares of wrong phonemes and words in README.md's table of the sample."""
    text = (HERE / "README.md").read_text(encoding="utf-8").partition("`sample.tsv`:")[2]
    found = re.search(rf"^\| {name} \| 200 \| ([\d.]+) % \| ([\d.]+) % \|$", text, re.M)
    assert found is not None
    return float(found[1]) / 100, float(found[2]) / 100


@pytest.mark.parametrize(("name", "beam"), [("greedy", 1), ("beam of 5", 5)])
def test_the_sample_is_read_as_well_as_stated(name: str, beam: int) -> None:
    rates = pronunciations.Rates.of(guesses(beam), pronunciations.sample())
    phonemes, words = stated(name)
    assert rates.words == 200
    assert rates.word_error_rate == pytest.approx(words, abs=0.0051)  # one word
    assert rates.phoneme_error_rate == pytest.approx(phonemes, abs=0.003)


def test_the_sample_is_held_out() -> None:
    assert all(map(pronunciations.is_held_out, pronunciations.sample()))
    assert MODEL.stat().st_size <= 2_000_000


def test_attention_follows_the_letters() -> None:
    (found,) = lightrnn.pipeline(MODEL, attention=True)(["banana"])
    assert found["source"] == list("banana")
    places = [max(range(6), key=row.__getitem__) for row in found["attention"]]
    assert len(places) == len(found["target"]) == 6
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("guess", "listed", "wanted"),
    [
        ("K AE1 T", ["K AE1 T"], (0, 3)),
        ("K AE1 T", ["K AA1 T S", "AE1 T"], (1, 2)),
        ("", ["K AE1 T"], (3, 3)),
        ("T AE1 K", ["K AE1 T"], (2, 3)),
        ("K K AE1 T", ["K AE1 T"], (1, 3)),
    ],
)
def test_edits_to_the_nearest_pronunciation(
    guess: str, listed: list[str], wanted: tuple[int, int]
) -> None:
    found = pronunciations.nearest(guess.split(), [tuple(p.split()) for p in listed])
    assert found == wanted
