"""Generation: a text goes on, token by token, the model's state carried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightrnn.errors import InputError, TextError, UnsupportedError
from lightrnn.graph import Array
from lightrnn.model import Model
from lightrnn.text.decoding.sampling import Sampling
from lightrnn.text.fields import Fields, tensor
from lightrnn.text.tasks.base import IdsInput, Result, Task, choose, given_options
from lightrnn.text.tasks.probabilities import check_numbers, log_softmax
from lightrnn.text.tokenizers import Tokenizer, parse_tokenizer


@dataclass(frozen=True)
class GenerationOptions:
    """What a caller may choose.

    length: tokens added at most. temperature, top_k, top_p: as `Sampling` takes them. seed: the
    same seed gives the same texts, whatever the batch size. stop: end with the token that completes
    this text.
    """

    length: int = 100
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: str | None = None

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InputError(f"length is {self.length}, expected 1 or more")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}, expected 0 or more")
        _ = self.sampling

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(self.temperature, self.top_k, self.top_p)


class Prompt:
    """What generation begins with; as long as its ids.

    ids: of the text, after begin_id where there is one. condition: the number of a label.
    """

    def __init__(self, text: str, ids: list[int], condition: int | None, index: int) -> None:
        self.text, self.ids, self.condition, self.index = text, ids, condition, index

    def __len__(self) -> int:
        return len(self.ids)


class Generation(Task):
    """Ids [N, T] to logits [N, T, V] or [N, V] of the next token.

        {"task": "generation", "tokenizer": {..., "begin_id": 2, "end_id": 3},
         "ids": "ids", "logits": "logits",
         "condition": {"input": "category", "labels": ["French", "Greek"]}}

    A line is a prompt, or with `condition` a label, which may be followed by a tab and a prompt;
    its number goes to an input [N]. begin_id comes before the prompt; end_id, or the option
    `stop`, ends a text. A result is {"text", "score"}: the prompt with what was added to it, and
    the log-probability of what was added. Padding, the unknown token and begin_id are never added.
    """

    name = "generation"
    Options = GenerationOptions
    mixed = False

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        ids: IdsInput,
        names: tuple[str, str],
        condition: tuple[str, tuple[str, ...]] | None,
        options: GenerationOptions,
    ) -> None:
        """names: of the input of ids and the output of logits."""
        self.batch_size = ids.batch_size
        self._model, self._tokenizer, self._ids = model, tokenizer, ids
        self._ids_name, self._logits = names
        self._condition, self._options = condition, options
        self.numbered = options.temperature > 0
        self._input = model.graph(model.graphs[0]).inputs
        self._unspoken = tokenizer.unspoken

    @classmethod
    def parse(cls, fields: Fields, model: Model, options: Mapping[str, Any]) -> Generation:
        graph = model.graph(model.graphs[0])
        tokenizer = parse_tokenizer(fields.take("tokenizer", Mapping))
        ids_name = fields.take("ids", str)
        ids = IdsInput(graph, ids_name, None, tokenizer)
        condition = _condition(fields.optional("condition", Mapping), graph)
        known = [*graph.states, *([] if condition is None else [condition[0]])]
        ids.check_no_others(graph, known)
        logits = fields.take("logits", str)
        tensor(graph.outputs, logits, (2, 3), "output")
        try:
            model.stream()
        except UnsupportedError as error:
            raise TextError(
                f"the model carries no state from one token to the next: {error}"
            ) from None
        chosen = choose(GenerationOptions, given_options(options))
        return cls(model, tokenizer, ids, (ids_name, logits), condition, chosen)

    def encode(self, text: str, index: int = 0) -> Prompt:
        if not text:
            return Prompt("", [], None, index)
        number = None
        if self._condition is not None:
            label, _, text = text.partition("\t")
            labels = self._condition[1]
            if label not in labels:
                raise TextError(f"text {index}: {label!r} is not one of {', '.join(labels)}")
            number = labels.index(label)
        begin = self._tokenizer.options.begin_id
        ids = [*([] if begin is None else [begin]), *self._tokenizer.ids(text)]
        if not ids:
            raise TextError(f"text {index} has no tokens, and the model no begin_id")
        return Prompt(text, ids, number, index)

    def run(self, batch: Sequence[Prompt]) -> list[Result]:
        stream = self._model.stream()
        drawn = [_Drawn(self._options.seed, prompt.index) for prompt in batch]
        rows: list[list[int]] = [prompt.ids for prompt in batch]
        for _ in range(self._options.length):
            logits = self._last(stream.step(self._feeds(rows, batch))[self._logits])
            for row, one in zip(logits, drawn, strict=False):
                if not one.ended:
                    self._draw(one, row)
            if all(one.ended for one in drawn):
                break
            rows = [[one.tokens[-1]] for one in drawn]
        return [self._result(p, one) for p, one in zip(batch, drawn, strict=True)]

    def empty(self) -> Result:
        return {"text": "", "score": 0.0}

    def show(self, result: Result) -> str:
        return str(result["text"])

    def _feeds(self, rows: Sequence[list[int]], batch: Sequence[Prompt]) -> dict[str, Array]:
        feeds = self._ids.feeds(rows)
        if self._condition is not None:
            name = self._condition[0]
            numbers = [p.condition for p in batch]
            numbers += numbers[-1:] * (len(feeds[self._ids_name]) - len(numbers))
            feeds[name] = np.array(numbers, self._input[name].dtype)
        return feeds

    def _last(self, logits: Array) -> Array:
        """Logits [N, V] of the last step, float64, of tokens that texts may hold."""
        last = (logits[:, -1] if logits.ndim == 3 else logits).astype(np.float64)
        last[:, [k for k in self._unspoken if k < last.shape[1]]] = -np.inf
        check_numbers(last, self._logits)
        return np.asarray(last)

    def _draw(self, one: _Drawn, logits: Array) -> None:
        token = self._options.sampling.draw(logits, one.rng)
        one.score += float(log_softmax(logits)[token])
        one.tokens.append(token)
        one.ended = token == self._tokenizer.options.end_id
        stop = self._options.stop
        if stop and stop in self._tokenizer.text(one.tokens):
            one.ended = True

    def _result(self, prompt: Prompt, one: _Drawn) -> Result:
        end = self._tokenizer.options.end_id
        added = [t for t in one.tokens if t != end]
        text = self._tokenizer.continued(prompt.text, prompt.ids, added)
        return {"text": text, "score": one.score}


class _Drawn:
    """The tokens drawn for one text. A text's random numbers depend on its place alone."""

    def __init__(self, seed: int, index: int) -> None:
        self.rng = np.random.default_rng([seed, index])
        self.tokens: list[int] = []
        self.score = 0.0
        self.ended = False


def _condition(value: Any, graph: Any) -> tuple[str, tuple[str, ...]] | None:
    if value is None:
        return None
    fields = Fields(value, "condition")
    name, labels = fields.take("input", str), fields.strings("labels")
    fields.finish()
    tensor(graph.inputs, name, (1,), "input")
    return name, labels
