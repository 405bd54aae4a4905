"""Encoder and decoder: a text to another one, by beam search, with attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lightrnn.errors import InputError, TextError
from lightrnn.graph import Array, Graph
from lightrnn.model import Model
from lightrnn.text.decoding.beam import Hypothesis, Search, beam_search
from lightrnn.text.fields import Fields, tensor
from lightrnn.text.tasks.base import IdsInput, Result, Task, choose, given_options
from lightrnn.text.tasks.probabilities import check_numbers, log_softmax
from lightrnn.text.tokenizers import Tokenizer, parse_tokenizer


@dataclass(frozen=True)
class TranslationOptions:
    """What a caller may choose.

    beam, length_penalty, n_best, max_length: as `Search` takes them, max_length by default the
    model's. attention: return the weights of every step over the source's tokens.
    """

    beam: int = 1
    length_penalty: float = 1.0
    n_best: int = 1
    max_length: int = 100
    attention: bool = False

    @property
    def search(self) -> Search:
        """How the search goes."""
        values = {k: v for k, v in asdict(self).items() if k != "attention"}
        return Search(**values)


@dataclass(frozen=True)
class DecoderNames:
    """Tensors of the decoder's graph.

    token: input [N]. logits: output [N, V]. attention: output [N, S], or None.
    sources: the decoder's other inputs, and what of the encoder begins or feeds them: an output,
    or one of its inputs. States among them are fed by the decoder itself from the second step on.
    """

    token: str
    logits: str
    attention: str | None
    sources: Mapping[str, str]


class Translation(Task):
    """Ids [N, T] to a memory by the graph "encoder"; tokens by the graph "decoder", step by step.

        {"task": "translation", "tokenizer": {...}, "target": {..., "begin_id": 2, "end_id": 3},
         "ids": "ids", "lengths": "lengths",
         "decoder": {"token": "token", "logits": "logits", "attention": "weights",
                     "sources": {"hidden": "last", "memory": "memory", "lengths": "lengths"}},
         "max_length": 50}

    The decoder's states are those of its graph. Texts of different length share a batch where the
    encoder takes lengths and the decoder gets them too, to leave the padding out. A result is
    {"text", "score"}, the score being the log-probability over the number of tokens to the power
    of the length penalty; with n_best {"n_best": [{"text", "score"}, ...]} besides, with attention
    {"source", "target", "attention"}: the pieces of both texts and the weights [target][source].
    The target's padding, unknown token and begin_id are never part of a result.
    """

    name = "translation"
    Options = TranslationOptions

    def __init__(
        self,
        model: Model,
        tokenizers: tuple[Tokenizer, Tokenizer],
        ids: IdsInput,
        names: DecoderNames,
        options: TranslationOptions,
    ) -> None:
        """tokenizers: of the source and the target."""
        self._model, self._ids, self._names = model, ids, names
        self._source, self._target = tokenizers
        self.batch_size, self._options = ids.batch_size, options
        encoder = model.graph("encoder")
        lengths = [n for n in ids.names if n in names.sources.values() and n in encoder.inputs]
        self.mixed = ids.mixed and bool(lengths)
        if ids.fixed and not self.mixed:
            raise TextError(
                "the encoder takes texts of one length alone, so the decoder needs their lengths"
            )

    @classmethod
    def parse(cls, fields: Fields, model: Model, options: Mapping[str, Any]) -> Translation:
        for name in ("encoder", "decoder"):
            if name not in model.graphs:
                raise TextError(f"no graph {name!r}, the file has {', '.join(model.graphs)}")
        source = parse_tokenizer(fields.take("tokenizer", Mapping))
        target = parse_tokenizer(fields.take("target", Mapping), "target")
        for end in ("begin_id", "end_id"):
            if getattr(target.options, end) is None:
                raise TextError(f"target lacks {end!r}")
        encoder = model.graph("encoder")
        ids = IdsInput(encoder, fields.take("ids", str), fields.optional("lengths", str), source)
        ids.check_no_others(encoder)
        names = _decoder(fields.take("decoder", Mapping), model)
        longest = fields.number("max_length", 1, default=100)
        chosen = choose(TranslationOptions, {"max_length": longest, **given_options(options)})
        if chosen.attention and names.attention is None:
            raise InputError("the model's decoder has no attention to return")
        _ = chosen.search
        return cls(model, (source, target), ids, names, chosen)

    def encode(self, text: str, index: int = 0) -> EncodedText:
        if not self._options.attention:
            return EncodedText(self._source.encode(text), None)
        ids, spans = self._source.encode_spans(text)
        return EncodedText(ids, [text[a:b] for a, b in spans])

    def run(self, batch: Sequence[EncodedText]) -> list[Result]:
        encoded, unspoken = self._encoded(batch), self._target.unspoken
        decoder = _GraphDecoder(self._model, self._names, encoded, len(batch), unspoken)
        options = self._target.options
        assert options.begin_id is not None
        assert options.end_id is not None
        found = beam_search(
            decoder, len(batch), options.begin_id, options.end_id, self._options.search
        )
        return [
            self._result(item, hypotheses) for item, hypotheses in zip(batch, found, strict=True)
        ]

    def empty(self) -> Result:
        result: Result = {"text": "", "score": 0.0}
        if self._options.n_best > 1:
            result["n_best"] = []
        if self._options.attention:
            result.update(source=[], target=[], attention=[])
        return result

    def show(self, result: Result) -> str:
        return str(result["text"])

    def row(self, result: Result) -> list[str]:
        found = result.get("n_best", [] if result == self.empty() else [result])
        return [cell for one in found for cell in (one["text"], f"{one['score']:.6f}")] or [""]

    def _encoded(self, batch: Sequence[EncodedText]) -> dict[str, Array]:
        """The encoder's inputs and outputs by name."""
        feeds = self._ids.feeds([item.ids for item in batch], exact=not self.mixed)
        return {**feeds, **self._model.run(feeds, graph="encoder")}

    def _result(self, item: EncodedText, found: Sequence[Hypothesis]) -> Result:
        texts = [self._one(hypothesis) for hypothesis in found]
        result: Result = dict(texts[0]) if texts else self.empty()
        if self._options.n_best > 1:
            result["n_best"] = texts
        if self._options.attention and found:
            result["source"] = item.pieces
            result["target"] = [self._target.text([token]) for token in found[0].tokens]
            count = len(item.ids)
            rows = found[0].attention[: len(found[0].tokens)]
            result["attention"] = [[float(w) for w in row[:count]] for row in rows]
        return result

    def _one(self, hypothesis: Hypothesis) -> Result:
        score = hypothesis.rank(self._options.length_penalty)
        return {"text": self._target.text(hypothesis.tokens), "score": score}


class EncodedText:
    """A text to translate; as long as its ids. pieces: of the text, where they are asked for."""

    def __init__(self, ids: list[int], pieces: list[str] | None) -> None:
        self.ids, self.pieces = ids, pieces

    def __len__(self) -> int:
        return len(self.ids)


class _GraphDecoder:
    """The graph "decoder" with its states, for beam search."""

    def __init__(
        self,
        model: Model,
        names: DecoderNames,
        encoded: Mapping[str, Array],
        rows: int,
        unspoken: Sequence[int],
    ) -> None:
        """unspoken: tokens that no text may hold."""
        graph = model.graph("decoder")
        self._unspoken = unspoken
        self._model, self._names, self._states = model, names, graph.states
        self._token = graph.inputs[names.token].dtype
        self._axes = {name: batch_axis(graph, name, names.token) for name in names.sources}
        self._values = {
            name: np.take(encoded[source], range(rows), self._axes[name])
            for name, source in names.sources.items()
        }

    def step(self, tokens: Array) -> tuple[Array, Array | None]:
        feeds = {self._names.token: tokens.astype(self._token), **self._values}
        found = self._model.run(feeds, graph="decoder")
        for name, output in self._states.items():
            self._values[name] = found[output]
        logits = found[self._names.logits].astype(np.float64)
        logits[:, [k for k in self._unspoken if k < logits.shape[1]]] = -np.inf
        check_numbers(logits, self._names.logits)
        attention = self._names.attention
        return log_softmax(logits), None if attention is None else found[attention]

    def select(self, rows: Array) -> None:
        for name, axis in self._axes.items():
            self._values[name] = np.take(self._values[name], rows, axis)


def batch_axis(graph: Graph, name: str, token: str) -> int:
    """The axis of an input whose size is that of the token's. Raises TextError."""
    batch = (graph.inputs[token].shape or (None,))[0]
    shape = graph.inputs[name].shape or ()
    axes = [k for k, d in enumerate(shape) if isinstance(d, str) and d == batch]
    if len(axes) != 1:
        raise TextError(
            f"decoder input {name!r} is {graph.inputs[name]}: not one axis has the size "
            f"{batch!r} of {token!r}, so its rows are not known"
        )
    return axes[0]


def _decoder(value: Any, model: Model) -> DecoderNames:
    graph, encoder = model.graph("decoder"), model.graph("encoder")
    fields = Fields(value, "decoder")
    token, logits = fields.take("token", str), fields.take("logits", str)
    attention = fields.optional("attention", str)
    sources = dict(fields.take("sources", Mapping))
    fields.finish()
    tensor(graph.inputs, token, (1,), "input")
    tensor(graph.outputs, logits, (2,), "output")
    if attention is not None:
        tensor(graph.outputs, attention, (2,), "output")
    known = {**encoder.inputs, **encoder.outputs}
    for name, source in sources.items():
        if name not in graph.inputs or name == token:
            raise TextError(f"the decoder has no other input {name!r}")
        if source not in known:
            raise TextError(f"decoder input {name!r}: the encoder has no tensor {source!r}")
        if known[source].dtype != graph.inputs[name].dtype:
            raise TextError(
                f"decoder input {name!r} is {graph.inputs[name]}, {source!r} is {known[source]}"
            )
        batch_axis(graph, name, token)
    if missing := [n for n in graph.inputs if n != token and n not in sources]:
        raise TextError(f"nothing feeds the decoder's input {missing[0]!r}")
    return DecoderNames(token, logits, attention, sources)
