"""The place-name example as it is committed."""

from __future__ import annotations

import numpy as np

import lightrnn
from examples.names.evaluate import MODEL, bits_a_character, bits_by_lightrnn, sample
from examples.names.ngrams import NGrams
from examples.names.places import COUNTRIES, LONGEST


def test_held_out_names_take_few_bits() -> None:
    assert bits_a_character(bits_by_lightrnn(MODEL), sample()) <= STATED


def test_names_are_likeliest_in_their_own_country() -> None:
    bits, names = bits_by_lightrnn(MODEL), sample()
    best = [min(COUNTRIES, key=lambda other: bits(other, names[k])) for k in COUNTRIES]
    assert sum(a == b for a, b in zip(COUNTRIES, best, strict=True)) >= OWN


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


def test_ngrams_are_probabilities() -> None:
    """By hand, for "aab" and "ab": trigrams, Witten and Bell."""
    model = NGrams(3, ["aab", "ab"], "ab")
    letters = "ab\x03"
    for context in ("\x02\x02", "\x02a", "aa", "ab", "zz"):
        assert sum(model.probability(context, c) for c in letters) == 1.0 or np.isclose(
            sum(model.probability(context, c) for c in letters), 1.0
        )
    # unigrams: a 3, b 2, end 2 of 7, 3 kinds; after "a": a 1, b 2; after begin and "a": a 1, b 1
    one = (3 + 3 / 3) / 10
    two = (1 + 2 * one) / 5
    three = (1 + 2 * two) / 4
    assert np.isclose(model.probability("\x02a", "a"), three)
