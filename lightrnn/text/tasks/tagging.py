"""Tagging: one label a character or word, and what the labels mark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lightrnn.errors import TextError
from lightrnn.graph import INT64, Array, Graph
from lightrnn.model import Model
from lightrnn.text.fields import Fields, tensor
from lightrnn.text.tasks.base import IdsInput, Result, Task, choose, expect_shape, no_options
from lightrnn.text.tasks.probabilities import check_numbers
from lightrnn.text.tokenizers import Span, Tokenizer, parse_tokenizer

SCHEMES = ("none", "BIO", "BMES")


class TaggingItem:
    """A text to tag, with its ids and where each stands; as long as its ids."""

    def __init__(self, text: str, ids: list[int], spans: list[Span]) -> None:
        self.text, self.ids, self.spans = text, ids, spans

    def __len__(self) -> int:
        return len(self.ids)


class Tagging(Task):
    """Ids [N, T] to scores [N, T, labels], or to tags int64 [N, T].

        {"task": "tagging", "tokenizer": {...}, "labels": ["O", "B-LOC", "I-LOC"],
         "ids": "ids", "lengths": "lengths", "scores": "logits", "scheme": "BIO"}

    Instead of `scores`, `tags` names an output of label numbers, as a conditional random field
    gives them. scheme: how labels mark spans: "BIO" (B-X begins an X, I-X continues it, O is
    outside), "BMES" (begin, middle, end, single, with or without -X), or "none", where each piece
    is a span. A result is {"tags": [...], "spans": [{"start", "end", "label", "text"}, ...]},
    with places in the original text. Pieces that max_length cuts off have no tag.
    """

    name = "tagging"
    Options = no_options()

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        ids: IdsInput,
        labels: tuple[str, ...],
        output: str,
        scheme: str,
    ) -> None:
        self.labels = labels
        self.mixed, self.batch_size = ids.mixed, ids.batch_size
        self._model, self._tokenizer, self._ids = model, tokenizer, ids
        self._output, self._scheme = output, scheme

    @classmethod
    def parse(cls, fields: Fields, model: Model, options: Mapping[str, Any]) -> Tagging:
        choose(cls.Options, options)
        graph = model.graph(model.graphs[0])
        tokenizer = parse_tokenizer(fields.take("tokenizer", Mapping))
        ids = IdsInput(graph, fields.take("ids", str), fields.optional("lengths", str), tokenizer)
        ids.check_no_others(graph)
        labels = fields.strings("labels")
        scheme = fields.one_of("scheme", SCHEMES, default="none")
        _check_scheme(labels, scheme)
        output = _output(fields, graph, len(labels))
        return cls(model, tokenizer, ids, labels, output, scheme)

    def encode(self, text: str, index: int = 0) -> TaggingItem:
        return TaggingItem(text, *self._tokenizer.encode_spans(text))

    def run(self, batch: Sequence[TaggingItem]) -> list[Result]:
        feeds = self._ids.feeds([item.ids for item in batch])
        tags = self._tags(self._model.run(feeds, [self._output])[self._output])
        return [self._result(item, row) for item, row in zip(batch, tags, strict=False)]

    def empty(self) -> Result:
        return {"tags": [], "spans": []}

    def show(self, result: Result) -> str:
        """Words separated by spaces where the labels only segment, else the tags."""
        if self._scheme == "BMES" and all(len(label) == 1 for label in self.labels):
            return " ".join(span["text"] for span in result["spans"])
        return " ".join(result["tags"])

    def _tags(self, found: Array) -> Array:
        if found.dtype == INT64:
            expect_shape(self._output, found, (None, None))
            if found.size and not 0 <= found.min() <= found.max() < len(self.labels):
                raise TextError(f"output {self._output!r} holds numbers of no label")
            return found
        expect_shape(self._output, found, (None, None, len(self.labels)))
        check_numbers(found, self._output)
        return np.asarray(found.argmax(axis=2))

    def _result(self, item: TaggingItem, row: Array) -> Result:
        options = self._tokenizer.options
        first = int(options.begin_id is not None)
        last = len(item.ids) - int(options.end_id is not None)
        tags = [self.labels[k] for k in row[first:last]]
        pieces = item.spans[first:last]
        spans = [
            {"start": a, "end": b, "label": label, "text": item.text[a:b]}
            for label, a, b in marked(tags, pieces, self._scheme)
        ]
        return {"tags": tags, "spans": spans}


def marked(
    tags: Sequence[str], pieces: Sequence[Span], scheme: str
) -> Iterator[tuple[str, int, int]]:
    """Label, start and end of what tags mark, in order.

    A tag that continues or ends a span which is not open begins one. Spans do not overlap: where
    normalization made several pieces of a character, it belongs to the first span that it is in.
    """
    if scheme == "none":
        yield from ((tag, *piece) for tag, piece in zip(tags, pieces, strict=True))
        return
    done = 0
    for label, start, end in _opened(tags, pieces):
        start = max(start, done)
        if start < end:
            yield label, start, end
            done = end


def _opened(tags: Sequence[str], pieces: Sequence[Span]) -> Iterator[tuple[str, int, int]]:
    """Label, start and end of each span that tags open."""
    label: str | None = None
    start = end = 0
    for tag, (a, b) in zip(tags, pieces, strict=True):
        mark, name = tag[0], tag[2:]
        joins = label == name and mark in ("I", "M", "E")
        if label is not None and not joins:
            yield label, start, end
            label = None
        if mark == "O":
            continue
        if label is None:
            label, start = name, a
        end = b
        if mark in ("E", "S"):
            yield label, start, end
            label = None
    if label is not None:
        yield label, start, end


def _check_scheme(labels: Sequence[str], scheme: str) -> None:
    """Raise TextError for a label that the scheme does not know."""
    marks = {"none": "", "BIO": "BIO", "BMES": "BMESO"}[scheme]
    for label in labels if marks else ():
        bare = len(label) == 1 and (scheme == "BMES" or label == "O")
        named = len(label) > 2 and label[1] == "-" and label[0] != "O"
        if label[0] not in marks or not (bare or named):
            raise TextError(f"label {label!r} is not one of scheme {scheme}")


def _output(fields: Fields, graph: Graph, labels: int) -> str:
    """The output that holds scores or tags, checked."""
    scores, tags = fields.optional("scores", str), fields.optional("tags", str)
    if (scores is None) == (tags is None):
        raise TextError("tagging needs `scores` or `tags`, one of them")
    if scores is not None:
        kind = tensor(graph.outputs, scores, (3,), "output")
        count = None if kind.shape is None else kind.shape[2]
        if isinstance(count, int) and count != labels:
            raise TextError(f"{labels} labels, but output {scores!r} is {kind}")
        return str(scores)
    if tags not in graph.outputs:
        raise TextError(f"no output {tags!r}, the graph has {', '.join(graph.outputs)}")
    kind = graph.outputs[tags]
    if kind.dtype != INT64 or kind.rank not in (None, 2):
        raise TextError(f"output {tags!r} is {kind}, expected int64 of rank 2")
    return str(tags)
