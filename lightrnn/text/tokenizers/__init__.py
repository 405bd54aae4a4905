"""Text to ids: the tokenizers that a model file can carry, by kind."""

from __future__ import annotations

from typing import Any

from lightrnn.text.fields import Fields
from lightrnn.text.normalize import Span
from lightrnn.text.tokenizers.base import Options, Tokenizer
from lightrnn.text.tokenizers.characters import CharacterTokenizer
from lightrnn.text.tokenizers.huggingface import HuggingFaceTokenizer
from lightrnn.text.tokenizers.utf8 import ByteTokenizer
from lightrnn.text.tokenizers.words import JiebaTokenizer, PatternTokenizer

__all__ = ["KINDS", "Options", "Span", "Tokenizer", "parse_tokenizer"]

KINDS: dict[str, type[Tokenizer]] = {
    cls.kind: cls
    for cls in (
        CharacterTokenizer, PatternTokenizer, JiebaTokenizer, ByteTokenizer, HuggingFaceTokenizer,
    )
}  # fmt: skip


def parse_tokenizer(value: Any, what: str = "tokenizer") -> Tokenizer:
    """The tokenizer that a JSON object describes. Raises TextError for anything not understood."""
    fields = Fields(value, what)
    tokenizer = KINDS[fields.one_of("kind", tuple(KINDS))].parse(fields)
    fields.finish()
    return tokenizer
