"""Bring text into one form before it is looked up, and find the way back to the original."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Form: TypeAlias = Literal["NFC", "NFD", "NFKC", "NFKD"]
FORMS: tuple[Form, ...] = get_args(Form)
Span: TypeAlias = tuple[int, int]
"""Where something stands in the original text: first character, and the one after the last."""


@dataclass(frozen=True)
class Normalizer:
    """Unicode normalization, then lower case."""

    form: Form | None = None
    lowercase: bool = False

    def __call__(self, text: str) -> str:
        """The text as it is looked up."""
        if self.form is not None:
            text = unicodedata.normalize(self.form, text)
        return text.lower() if self.lowercase else text

    def aligned(self, text: str) -> tuple[str, list[Span]]:
        """The same text, and for each of its characters the span of the original that made it."""
        pieces: list[str] = []
        spans: list[Span] = []
        for start, end in self._clusters(text):
            piece = self(text[start:end])
            pieces.append(piece)
            spans += [(start, end)] * len(piece)
        joined, whole = "".join(pieces), self(text)
        if joined != whole and len(joined) != len(whole):  # equal lengths: a final sigma
            spans = [(0, len(text))] * len(whole)
        return whole, spans

    def _clusters(self, text: str) -> Iterator[Span]:
        """Spans that are normalized apart: characters with the marks and jamo that join them."""
        start = 0
        for k in range(1, len(text) + 1):
            if k == len(text) or not self._joins(text[start:k], text[k]):
                yield start, k
                start = k

    def _joins(self, cluster: str, character: str) -> bool:
        """Whether normalization may join a character to what is before it."""
        if self.form is None or character < "\u0300":
            return False
        whole = unicodedata.normalize("NFKD" if "K" in self.form else "NFD", character)
        if unicodedata.combining(whole[0]):
            return True
        apart = [unicodedata.normalize(self.form, part) for part in (cluster, character)]
        return unicodedata.normalize(self.form, cluster + character) != "".join(apart)
