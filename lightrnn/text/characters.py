"""The character tokenizer."""

from __future__ import annotations

import unicodedata
from itertools import count

from lightrnn.text.schema import CharacterSpec


class CharacterTokenizer:
    """Text to ids, one a character; immutable."""

    def __init__(self, spec: CharacterSpec) -> None:
        taken = (spec.padding_id, spec.unknown_id)
        free = (number for number in count() if number not in taken)
        self._ids = dict(zip(spec.characters, free, strict=False))
        self._spec = spec

    def normalize(self, text: str) -> str:
        """The text as it is looked up: normalized, then in lower case, then cut off."""
        spec = self._spec
        if spec.normalization is not None:
            text = unicodedata.normalize(spec.normalization, text)
        if spec.lowercase:
            text = text.lower()
        return text[: spec.max_length]

    def encode(self, text: str) -> list[int]:
        """Ids of a text's characters, unknown_id for one that is not known."""
        get, unknown = self._ids.get, self._spec.unknown_id
        return [get(character, unknown) for character in self.normalize(text)]
