"""The place-name example as it is committed."""

from __future__ import annotations

import numpy as np
import pytest

import lightrnn
from examples.names.evaluate import MODEL, bits_a_character, bits_by_lightrnn, sample
from examples.names.ngrams import NGrams
from examples.names.places import COUNTRIES, LONGEST


def test_held_out_names_take_few_bits() -> None:
    assert bits_a_character(bits_by_lightrnn(MODEL), sample()) <= 2.85


def test_names_are_likeliest_in_their_own_country() -> None:
    bits, names = bits_by_lightrnn(MODEL), sample()
    best = [min(COUNTRIES, key=lambda other: bits(other, names[k])) for k in COUNTRIES]
    assert best == list(COUNTRIES)


def test_names_are_made_for_each_country() -> None:
    pipe = lightrnn.pipeline(MODEL, length=LONGEST + 1)
    found = [one["text"] for one in pipe([k for k in COUNTRIES for _ in range(8)])]
    assert len(set(found)) > 190
    assert np.mean([name[:1].isupper() for name in found]) > 0.97
    assert np.mean([2 <= len(name) <= LONGEST for name in found]) > 0.97


def test_a_beginning_goes_on() -> None:
    texts = [f"{country}\tSan" for country in ("Spain", "Italy", "Mexico")] * 5
    found = [one["text"] for one in lightrnn.pipeline(MODEL)(texts)]
    assert all(name.startswith("San") for name in found)
    assert len(set(found)) > 10


def test_the_file_is_small() -> None:
    assert MODEL.stat().st_size <= 2_000_000


def test_ngrams_are_those_of_witten_and_bell() -> None:
    model = NGrams(3, ["aab", "ab"], "ab")
    for context in ("\x02\x02", "\x02a", "aa", "ab", "zz"):
        assert sum(model.probability(context, c) for c in "ab\x03") == pytest.approx(1)
    one = (3 + 3 / 3) / (7 + 3)  # a occurs 3 times of 7, of 3 different characters
    two = (1 + 2 * one) / (3 + 2)  # once after a, of 3 times and 2 different characters
    three = (1 + 2 * two) / (2 + 2)  # once after a at the beginning, of 2 times, both different
    assert model.probability("\x02a", "a") == pytest.approx(three)
