"""The character tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import repeat

from lightrnn.errors import TextError
from lightrnn.text.fields import Fields, repeated
from lightrnn.text.normalize import Span
from lightrnn.text.tokenizers.base import Options, Tokenizer


class CharacterTokenizer(Tokenizer):
    """One id a character, in the order of `characters`."""

    kind = "characters"

    def __init__(self, characters: str, options: Options) -> None:
        if (twice := repeated(characters)) is not None:
            raise TextError(f"characters hold {twice!r} (U+{ord(twice):04X}) twice")
        self.options = options
        self._ids = options.numbered(characters)

    @classmethod
    def parse(cls, fields: Fields) -> CharacterTokenizer:
        return cls(fields.take("characters", str), Options.take(fields))

    def ids(self, text: str) -> list[int]:
        return self._look_up(self.options.normalizer(text))

    def spans(self, text: str) -> tuple[list[int], list[Span]]:
        normal, spans = self.options.normalizer.aligned(text)
        return self._look_up(normal), spans

    def text(self, ids: Iterable[int]) -> str:
        return "".join(self._characters.get(int(k), "") for k in ids)

    @cached_property
    def _characters(self) -> dict[int, str]:
        return {number: character for character, number in self._ids.items()}

    def _look_up(self, text: str) -> list[int]:
        return list(map(self._ids.get, text, repeat(self.options.unknown_id)))
