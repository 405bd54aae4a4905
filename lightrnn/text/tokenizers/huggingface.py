"""A tokenizer of HuggingFace's `tokenizers` package, by the contents of its tokenizer.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from lightrnn.errors import TextError
from lightrnn.text.fields import Fields
from lightrnn.text.normalize import Span
from lightrnn.text.tokenizers.base import Options, Tokenizer


class HuggingFaceTokenizer(Tokenizer):
    """json: a tokenizer.json. Its own special tokens, truncation and padding are not applied.

    begin_id, end_id and max_length do that; `normalization` and `lowercase` come before it.
    """

    kind = "huggingface"

    def __init__(self, json: str, options: Options) -> None:
        self.options = options
        self._json = json

    @classmethod
    def parse(cls, fields: Fields) -> HuggingFaceTokenizer:
        return cls(fields.take("json", str), Options.take(fields))

    def ids(self, text: str) -> list[int]:
        return list(self._encoding(self.options.normalizer(text)).ids)

    def spans(self, text: str) -> tuple[list[int], list[Span]]:
        normal, origins = self.options.normalizer.aligned(text)
        found = self._encoding(normal)
        return list(found.ids), [_origin(origins, a, b) for a, b in found.offsets]

    def text(self, ids: Iterable[int]) -> str:
        return str(self._tokenizer.decode([int(k) for k in ids]))

    def continued(self, text: str, ids: Sequence[int], added: Sequence[int]) -> str:
        """As it is decoded after what is before it, which decides upon a space."""
        before, whole = self.text(ids), self.text([*ids, *added])
        return text + whole[len(before) :] if whole.startswith(before) else whole

    def _encoding(self, text: str) -> Any:
        """What the package says of a text, a lone surrogate as a question mark."""
        valid = text.encode("utf-8", "replace").decode("utf-8")
        return self._tokenizer.encode(valid, add_special_tokens=False)

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from tokenizers import Tokenizer as Loaded
        except ImportError as error:
            raise TextError(
                "tokenizers is not installed: pip install 'lightrnn[huggingface]'"
            ) from error
        try:
            loaded = Loaded.from_str(self._json)
        except Exception as error:  # the package raises nothing narrower
            raise TextError(f"json is not a tokenizer.json: {error}") from None
        loaded.no_truncation()
        loaded.no_padding()
        return loaded


def _origin(origins: list[Span], start: int, end: int) -> Span:
    """The span of the original text of normalized characters [start, end)."""
    if start < end:
        return origins[start][0], origins[end - 1][1]
    place = origins[start][0] if start < len(origins) else (origins[-1][1] if origins else 0)
    return place, place
