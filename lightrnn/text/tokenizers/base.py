"""What tokenizers share: ids of pieces of text, cut to a length, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar, Literal

from lightrnn.errors import TextError
from lightrnn.text.fields import Fields
from lightrnn.text.normalize import FORMS, Normalizer, Span

SIDES: tuple[Literal["end", "start"], ...] = ("end", "start")


@dataclass(frozen=True)
class Options:
    """What every tokenizer takes.

    padding_id: fills up shorter texts. unknown_id: of a piece that has no id.
    begin_id, end_id: put before and after the ids of a text; None for neither.
    max_length: ids that a text has at most, these two included. truncation: the side that is cut.
    """

    normalizer: Normalizer
    padding_id: int
    unknown_id: int
    begin_id: int | None
    end_id: int | None
    max_length: int | None
    truncation: Literal["end", "start"]

    @staticmethod
    def take(fields: Fields) -> Options:
        """Read the options out of a tokenizer's fields. Raises TextError."""
        form = fields.optional("normalization", str)
        if form is not None and form not in FORMS:
            listed = " or ".join(map(repr, FORMS))
            raise TextError(f"normalization is {form!r}, expected {listed}")
        options = Options(
            normalizer=Normalizer(form, fields.take("lowercase", bool, default=False)),
            padding_id=fields.number("padding_id", 0, default=0),
            unknown_id=fields.number("unknown_id", 0, default=1),
            begin_id=fields.number("begin_id", 0, default=None),
            end_id=fields.number("end_id", 0, default=None),
            max_length=fields.number("max_length", 1, default=None),
            truncation=fields.one_of("truncation", SIDES, default="end"),
        )
        if options.max_length is not None and options.max_length <= options.frame:
            raise TextError(
                f"max_length is {options.max_length}, with begin_id and end_id "
                f"expected more than {options.frame}"
            )
        return options

    @property
    def frame(self) -> int:
        """How many ids a text without any piece has."""
        return (self.begin_id is not None) + (self.end_id is not None)

    def numbered(self, pieces: Iterable[str]) -> dict[str, int]:
        """Ids of pieces in their order, counted from 0, those that are taken passed over."""
        taken = {self.padding_id, self.unknown_id, self.begin_id, self.end_id}
        free = (number for number in count() if number not in taken)
        return dict(zip(pieces, free, strict=False))


class Tokenizer(ABC):
    """Text to ids and back. Immutable; any number of threads may use it."""

    kind: ClassVar[str]
    options: Options

    @classmethod
    @abstractmethod
    def parse(cls, fields: Fields) -> Tokenizer:
        """Read a tokenizer from its fields. Raises TextError."""

    @abstractmethod
    def ids(self, text: str) -> list[int]:
        """Ids of all pieces of a text."""

    @abstractmethod
    def spans(self, text: str) -> tuple[list[int], list[Span]]:
        """The same, and where in the text each piece stands."""

    @abstractmethod
    def text(self, ids: Iterable[int]) -> str:
        """The text of ids; those of no piece are left out."""

    @property
    def unspoken(self) -> list[int]:
        """Ids that no generated text may hold: padding, the unknown token, the beginning."""
        taken = self.options
        special = {taken.padding_id, taken.unknown_id, taken.begin_id} - {None, taken.end_id}
        return [k for k in special if k is not None and not self.text([k])]

    def continued(self, text: str, ids: Sequence[int], added: Sequence[int]) -> str:
        """A text whose pieces are `ids`, and the text of `added` ones after it."""
        return text + self.text(added)

    def encode(self, text: str) -> list[int]:
        """The ids that a model gets: cut to max_length, begin_id and end_id around them.

        Empty for a text without any piece.
        """
        ids = self.ids(text)
        return self._framed(ids[self._kept(len(ids))]) if ids else []

    def encode_spans(self, text: str) -> tuple[list[int], list[Span]]:
        """The same, and spans of all of them; begin_id and end_id have empty ones."""
        ids, spans = self.spans(text)
        if not ids:
            return [], []
        kept = self._kept(len(ids))
        spans = spans[kept]
        before = [(spans[0][0],) * 2] * (self.options.begin_id is not None)
        after = [(spans[-1][1],) * 2] * (self.options.end_id is not None)
        return self._framed(ids[kept]), [*before, *spans, *after]

    def _kept(self, length: int) -> slice:
        options = self.options
        if options.max_length is None:
            return slice(None)
        most = options.max_length - options.frame
        return slice(most) if options.truncation == "end" else slice(max(length - most, 0), None)

    def _framed(self, ids: Sequence[int]) -> list[int]:
        begin, end = self.options.begin_id, self.options.end_id
        return [*([] if begin is None else [begin]), *ids, *([] if end is None else [end])]
