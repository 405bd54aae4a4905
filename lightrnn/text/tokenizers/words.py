"""Tokenizers of one id a word: found by a regular expression, or by jieba in Chinese."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from lightrnn.errors import TextError
from lightrnn.text.fields import Fields
from lightrnn.text.normalize import Span
from lightrnn.text.tokenizers.base import Options, Tokenizer

PATTERN = r"\w+|[^\w\s]"
"""Runs of letters and digits, and every other character that is not a space."""


class WordTokenizer(Tokenizer):
    """One id a word of a vocabulary. separator: between words when ids become text."""

    def __init__(self, words: tuple[str, ...], separator: str, options: Options) -> None:
        self.options = options
        self._separator = separator
        self._ids = options.numbered(words)

    @abstractmethod
    def find(self, text: str) -> Iterator[Span]:
        """Where the words of a normalized text stand."""

    def ids(self, text: str) -> list[int]:
        return self._look_up(self.options.normalizer(text))[0]

    def spans(self, text: str) -> tuple[list[int], list[Span]]:
        normal, origins = self.options.normalizer.aligned(text)
        ids, places = self._look_up(normal)
        return ids, [(origins[a][0], origins[b - 1][1]) for a, b in places]

    def text(self, ids: Iterable[int]) -> str:
        known = (self._words.get(int(k)) for k in ids)
        return self._separator.join(word for word in known if word is not None)

    def continued(self, text: str, ids: Sequence[int], added: Sequence[int]) -> str:
        more = self.text(added)
        between = text and more and not text.endswith(self._separator)
        return text + (self._separator if between else "") + more

    @cached_property
    def _words(self) -> dict[int, str]:
        return {number: word for word, number in self._ids.items()}

    def _look_up(self, text: str) -> tuple[list[int], list[Span]]:
        places = [place for place in self.find(text) if place[0] < place[1]]
        get, unknown = self._ids.get, self.options.unknown_id
        return [get(text[a:b], unknown) for a, b in places], places


class PatternTokenizer(WordTokenizer):
    """Words are what a regular expression matches, from left to right."""

    kind = "words"

    def __init__(
        self, words: tuple[str, ...], separator: str, options: Options, pattern: str = PATTERN
    ) -> None:
        super().__init__(words, separator, options)
        try:
            self._pattern = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise TextError(f"pattern {pattern!r} is not a regular expression: {error}") from None

    @classmethod
    def parse(cls, fields: Fields) -> PatternTokenizer:
        return cls(
            words=fields.strings("words"),
            separator=fields.take("separator", str, default=" "),
            pattern=fields.take("pattern", str, default=PATTERN),
            options=Options.take(fields),
        )

    def find(self, text: str) -> Iterator[Span]:
        return (match.span() for match in self._pattern.finditer(text))


class JiebaTokenizer(WordTokenizer):
    """Words as the `jieba` package cuts Chinese; spaces are left out."""

    kind = "jieba"

    @classmethod
    def parse(cls, fields: Fields) -> JiebaTokenizer:
        return cls(
            words=fields.strings("words"),
            separator=fields.take("separator", str, default=""),
            options=Options.take(fields),
        )

    def find(self, text: str) -> Iterator[Span]:
        for word, start, end in self._jieba.tokenize(text):
            if not word.isspace():
                yield start, end

    @cached_property
    def _jieba(self):  # type: ignore[no-untyped-def]
        try:
            import jieba
        except ImportError as error:
            raise TextError("jieba is not installed: pip install 'lightrnn[jieba]'") from error
        jieba.setLogLevel("WARNING")
        return jieba
