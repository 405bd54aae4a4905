"""Connectionist temporal classification: frames to a text, each frame a label or a blank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightrnn.errors import DataError, TextError
from lightrnn.graph import INT32, INT64, Array, Graph
from lightrnn.model import Model
from lightrnn.record import Record
from lightrnn.text.decoding.beam import Search
from lightrnn.text.decoding.ctc import greedy, prefix_beam
from lightrnn.text.fields import Fields, tensor
from lightrnn.text.tasks.base import (
    IdsInput,
    Result,
    RowsInput,
    Task,
    choose,
    expect_shape,
    given_options,
)
from lightrnn.text.tasks.features import FeaturesInput
from lightrnn.text.tasks.probabilities import check_numbers, log_softmax
from lightrnn.text.tokenizers import Tokenizer, parse_tokenizer


@dataclass(frozen=True)
class CTCOptions:
    """What a caller may choose.

    beam: prefixes kept; 1 takes the best path. n_best: results of a text, at most `beam`.
    """

    beam: int = 1
    n_best: int = 1

    def __post_init__(self) -> None:
        Search(beam=self.beam, n_best=self.n_best)  # its limits are the same


class Alphabet(Record):
    """labels: by number. blank: the number of the one that stands for none. joiner: between."""

    labels: tuple[str, ...]
    blank: int
    joiner: str


class FramesOutput(Record):
    """What the model gives.

    scores: output [N, frames, labels]. lengths: output or input [N], how many frames of each row
    count; None for all.
    """

    scores: str
    lengths: str | None


class CTC(Task):
    """Ids [N, T] or features [N, T, F] to logits or log-probabilities [N, frames, labels].

        {"task": "ctc", "tokenizer": {...}, "labels": ["_", "a", "b"], "blank": "_",
         "ids": "ids", "lengths": "lengths", "scores": "logits", "frame_lengths": "frames",
         "joiner": ""}

    Instead of `tokenizer` and `ids`, `features` names a float32 input; a text is then an array
    float32 [T, F]. `frame_lengths`, an output or the input `lengths` itself, says how many frames
    of a text count; it is `lengths` by default where the graph gives input and scores one size.
    Elsewhere all frames count, and only texts of equal length share a batch, without padding. A
    result is {"text", "labels", "score"}, the score being a log-probability: with a beam of 1 of
    the best path, else of the text, summed over the paths that were kept; with n_best
    {"n_best": [{"text", "labels", "score"}, ...]} besides.
    """

    name = "ctc"
    Options = CTCOptions

    def __init__(
        self,
        model: Model,
        source: RowsInput,
        tokenizer: Tokenizer | None,
        output: FramesOutput,
        alphabet: Alphabet,
        options: CTCOptions,
    ) -> None:
        """tokenizer: None where source is a FeaturesInput."""
        self._model, self._source, self._tokenizer = model, source, tokenizer
        self._output, self._alphabet, self._options = output, alphabet, options
        self.labels, self.batch_size = alphabet.labels, source.batch_size
        self.reads = np.ndarray if tokenizer is None else str
        self.mixed = source.mixed and output.lengths is not None
        if source.fixed and not self.mixed:
            raise TextError(
                f"input {source.name!r} is padded to a fixed length, so the model needs "
                "`frame_lengths` to say how many frames count"
            )

    @classmethod
    def parse(cls, fields: Fields, model: Model, options: Mapping[str, Any]) -> CTC:
        graph = model.graph(model.graphs[0])
        source, tokenizer = _source(fields, graph)
        source.check_no_others(graph)
        alphabet = _alphabet(fields)
        output = _output(fields, graph, source, len(alphabet.labels))
        chosen = choose(CTCOptions, given_options(options))
        return cls(model, source, tokenizer, output, alphabet, chosen)

    def encode(self, text: Any, index: int = 0) -> Any:
        if isinstance(self._source, FeaturesInput):
            return self._source.row(text, index)
        assert self._tokenizer is not None
        return self._tokenizer.encode(text)

    def run(self, batch: Sequence[Any]) -> list[Result]:
        output = self._output
        feeds = self._source.feeds(batch, exact=not self.mixed)
        names = [n for n in (output.scores, output.lengths) if n and n not in feeds]
        found = {**feeds, **self._model.run(feeds, names)}
        rows = len(feeds[self._source.name])
        expect_shape(output.scores, found[output.scores], (rows, None, len(self.labels)))
        scores = found[output.scores][: len(batch)]
        if output.lengths is None:
            return self.decode(scores)
        expect_shape(output.lengths, found[output.lengths], (rows,))
        return self.decode(scores, found[output.lengths][: len(batch)].tolist())

    def decode(self, scores: Array, lengths: Sequence[int] | None = None) -> list[Result]:
        """Results of the model's scores [N, frames, labels].

        lengths: how many frames of each row count; by default all. Raises TextError for another
        shape, DataError for lengths out of range and scores that are not numbers.
        """
        name = self._output.scores
        expect_shape(name, scores, (None, None, len(self.labels)))
        count, frames = scores.shape[:2]
        lengths = [frames] * count if lengths is None else lengths
        if len(lengths) != count or not all(0 <= n <= frames for n in lengths):
            raise DataError(
                f"{frames} frames in each of {count} rows of output {name!r}, "
                f"of which {', '.join(map(str, lengths)) or 'none'} should count"
            )
        return [self._result(row[:n]) for row, n in zip(scores, lengths, strict=True)]

    def empty(self) -> Result:
        return {"text": "", "labels": [], "score": 0.0}

    def show(self, result: Result) -> str:
        return str(result["text"])

    def row(self, result: Result) -> list[str]:
        found = result.get("n_best", [] if result == self.empty() else [result])
        return [cell for one in found for cell in (one["text"], f"{one['score']:.6f}")] or [""]

    def _result(self, frames: Array) -> Result:
        """The result of frames [T, labels]."""
        check_numbers(frames, self._output.scores)
        rows, (beam, best) = log_softmax(frames), (self._options.beam, self._options.n_best)
        blank = self._alphabet.blank
        found = [greedy(rows, blank)] if beam == 1 else prefix_beam(rows, beam, blank)[:best]
        results = [self._one(numbers, score) for numbers, score in found]
        return results[0] if best == 1 else {**results[0], "n_best": results}

    def _one(self, numbers: Sequence[int], score: float) -> Result:
        labels = [self.labels[k] for k in numbers]
        return {"text": self._alphabet.joiner.join(labels), "labels": labels, "score": score}


def _source(fields: Fields, graph: Graph) -> tuple[RowsInput, Tokenizer | None]:
    """The input that texts or features go to, and the tokenizer of texts."""
    ids, features = fields.optional("ids", str), fields.optional("features", str)
    lengths = fields.optional("lengths", str)
    if (ids is None) == (features is None):
        raise TextError("ctc needs `ids` or `features`, one of them")
    if features is not None:
        return FeaturesInput(graph, features, lengths), None
    tokenizer = parse_tokenizer(fields.take("tokenizer", Mapping))
    return IdsInput(graph, ids, lengths, tokenizer), tokenizer


def _alphabet(fields: Fields) -> Alphabet:
    labels, blank = fields.strings("labels"), fields.take("blank", int, str, default=0)
    if blank not in (labels if isinstance(blank, str) else range(len(labels))):
        raise TextError(f"blank is {blank!r}, expected one of {len(labels)} labels or its number")
    number = labels.index(blank) if isinstance(blank, str) else blank
    return Alphabet(labels, number, fields.take("joiner", str, default=""))


def _output(fields: Fields, graph: Graph, source: RowsInput, labels: int) -> FramesOutput:
    """The outputs, checked."""
    scores, lengths = fields.take("scores", str), fields.optional("frame_lengths", str)
    kind = tensor(graph.outputs, scores, (3,), "output")
    _, frames, count = kind.shape or (None, None, None)
    if isinstance(count, int) and count != labels:
        raise TextError(f"{labels} labels, but output {scores!r} is {kind}")
    if lengths is None and frames is not None and frames == source.steps:
        return FramesOutput(scores, source.lengths)
    if lengths is not None and lengths != source.lengths:
        tensor(graph.outputs, lengths, (1,), "output", (INT64, INT32))
    return FramesOutput(scores, lengths)
