"""The byte tokenizer."""

from __future__ import annotations

from collections.abc import Iterable

from lightrnn.text.fields import Fields
from lightrnn.text.normalize import Span
from lightrnn.text.tokenizers.base import Options, Tokenizer


class ByteTokenizer(Tokenizer):
    """One id a byte of UTF-8: `first_id` plus the byte."""

    kind = "bytes"

    def __init__(self, first_id: int, options: Options) -> None:
        self.options = options
        self._first = first_id

    @classmethod
    def parse(cls, fields: Fields) -> ByteTokenizer:
        return cls(fields.number("first_id", 0), Options.take(fields))

    def ids(self, text: str) -> list[int]:
        return [self._first + byte for byte in _encoded(self.options.normalizer(text))]

    def spans(self, text: str) -> tuple[list[int], list[Span]]:
        normal, origins = self.options.normalizer.aligned(text)
        spans = [
            span
            for character, span in zip(normal, origins, strict=True)
            for _ in _encoded(character)
        ]
        return [self._first + byte for byte in _encoded(normal)], spans

    def text(self, ids: Iterable[int]) -> str:
        values = (int(k) - self._first for k in ids)
        return bytes(v for v in values if 0 <= v < 256).decode("utf-8", "replace")


def _encoded(text: str) -> bytes:
    """UTF-8, a lone surrogate as a question mark."""
    return text.encode("utf-8", "replace")
